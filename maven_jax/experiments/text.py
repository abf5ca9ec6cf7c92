"""Numbers and names as text."""

from collections.abc import Sequence
from typing import Any


def and_more(names: Sequence[Any]) -> str:
    """The first of several names, and how many more there are."""
    return f"{names[0]}" + (f" and {len(names) - 1} more" if len(names) > 1 else "")


def format_value(value: Any) -> str:
    """A coordinate as text, a float in as few digits as it was written with."""
    return f"{value:g}" if isinstance(value, float) else str(value)


def pluralize(number: int, noun: str) -> str:
    """A number and its noun: 1 seed, 2 seeds."""
    return f"{number} {noun}" + ("s" if number != 1 else "")
