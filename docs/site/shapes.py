"""Keeps the shapes of jaxtyping, `Float[Array, "T *L"]`, which griffe reads as Python: `T * L`."""

from typing import Any

import griffe

DTYPES = {"Bool", "Float", "Float32", "Int", "Key", "Num"}


class Shapes(griffe.Extension):
    """Makes the shape in every annotation a string again."""

    def on_function(self, *, func: griffe.Function, **_: Any) -> None:
        """Of arguments, and of what is returned."""
        for parameter in func.parameters:
            quote(parameter.annotation)
        quote(func.returns)

    def on_attribute(self, *, attr: griffe.Attribute, **_: Any) -> None:
        """Of fields."""
        quote(attr.annotation)


def quote(annotation: Any) -> None:
    """Replaces shapes by strings, in place."""
    if not isinstance(annotation, griffe.Expr) or isinstance(annotation, griffe.ExprName):
        return
    for part in annotation.iterate(flat=False):
        quote(part)
    if isinstance(annotation, griffe.ExprSubscript) and str(annotation.left) in DTYPES:
        elements = annotation.slice.elements
        if isinstance(elements[-1], griffe.Expr):
            elements[-1] = f'"{str(elements[-1]).replace(" * ", " *")}"'
