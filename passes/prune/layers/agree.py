"""Whether values have the same shape in every run.

They have if the sizes are the same numbers or symbols; or if inference says so wherever inputs have sizes that are
equal only where the model declares them by one name. What it declares of its inputs is taken at its word: a mask of
`[batch, length]` beside tokens of `[batch, length]` is not broadcast.
"""

from __future__ import annotations

from itertools import count

from ....ir import Model, Value
from ....ir.analysis.coupling.known import known_shapes
from ....ir.analysis.shapes import Shape, Shapes, infer_shapes

BATCHES = (2, 5)
"""The first sizes of leading axes; further ones follow."""
SIZES = ((320, 32), (48, 1))
"""The first size of other axes, and the step to the next: images first."""


class Agreement:
    """Compares shapes of the values of one model."""

    def __init__(self, model: Model, symbolic: Shapes) -> None:
        self._symbolic = known_shapes(model, symbolic)
        self._numeric: list[Shapes] = []
        for sizes in SIZES:
            runs = [infer_shapes(model, _pins(model, batch, *sizes)) for batch in BATCHES]
            if not any(shapes.problem for shapes in runs):
                self._numeric = runs
                break

    def holds(self, *values: Value) -> bool:
        """Whether all have one known shape."""
        return _is_one([self._symbolic.shape(value) for value in values]) or (
            bool(self._numeric)
            and all(_is_one([shapes.shape(value) for value in values], numbers=True) for shapes in self._numeric)
        )


def _is_one(shapes: list[Shape | None], *, numbers: bool = False) -> bool:
    first, *others = shapes
    if first is None or None in first or (numbers and not all(isinstance(dim, int) for dim in first)):
        return False
    return all(other == first for other in others)


def _pins(model: Model, batch: int, size: int, step: int) -> dict[str, tuple[int, ...]]:
    """Shapes of inputs in which sizes are equal only where they have one name."""
    leading, others = count(batch), count(size, step)
    named: dict[str, int] = {}
    pins = {}
    for value in model.graph.inputs:
        kind = value.type
        if kind is None or not kind.HasField("tensor_type") or not kind.tensor_type.HasField("shape"):
            continue
        shape = []
        for axis, dim in enumerate(kind.tensor_type.shape.dim):
            found = dim.dim_value if dim.dim_value > 0 else named.get(dim.dim_param)
            if found is None:
                found = next(others if axis else leading)
            if dim.dim_param:
                named[dim.dim_param] = found
            shape.append(found)
        pins[value.name] = tuple(shape)
    return pins
