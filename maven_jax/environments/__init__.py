"""Environments by name, and the checker of custom ones."""
