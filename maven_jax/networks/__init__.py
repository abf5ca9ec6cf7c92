"""Flax modules: agents, mixers, discriminators and their layers."""
