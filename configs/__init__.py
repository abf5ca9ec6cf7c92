"""Experiments as YAML: overrides of `maven_jax.config.Config`, nothing else."""
