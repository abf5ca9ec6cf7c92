"""The command line, `maven-jax`."""
