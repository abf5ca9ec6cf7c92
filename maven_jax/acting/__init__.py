"""Episodes from environments: whole, packed, random."""
