"""Whole runs as pure functions: rounds, evaluation, train."""
