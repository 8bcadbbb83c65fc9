"""Shapes as symbolic facts know them, and sizes that are seen only when the inputs' sizes are numbers.

The latter are those that inference finds to be the same for several sizes of the inputs:
`Reshape(x, [batch, length, -1, 32])` has as many heads whatever the batch is, but inference with symbols cannot divide.
An axis that goes together with a weight has the size of the weight on every run that does not fail, so what is seen at
some sizes holds at all.
"""

from __future__ import annotations

from collections.abc import Sequence

from ...model import Model
from ...value import Value
from ..facts import Facts, find_facts
from ..shapes import Shape, Shapes, infer_shapes

BATCHES = (2, 3)
"""Sizes of a first axis that are tried."""
PLACES = (((320, 384), (320, 384)), ((48, 48), (320, 384)), ((32, 32), (320, 384)))
"""Sizes of other unknown axes: of the last but one in four, and of the rest; the first that inference accepts."""


class KnownShapes(Shapes):
    """Shapes of symbols, with the sizes that are the same in all of several runs of inference with numbers."""

    def __init__(self, symbolic: Shapes, facts: Facts, numeric: Sequence[Shapes]) -> None:
        super().__init__({}, symbolic.problem)
        self._symbolic, self._facts, self._numeric = symbolic, facts, numeric

    def shape(self, value: Value) -> Shape | None:
        """As `Shapes.shape`."""
        plain = self._plain(value)
        seen = [shapes.shape(value) for shapes in self._numeric]
        if value.const is not None or plain is None or any(_rank(shape) != len(plain) for shape in seen):
            return plain
        runs = zip(plain, *(shape or () for shape in seen), strict=True)
        return tuple(
            sizes[0] if not isinstance(dim, int) and len(set(sizes)) == 1 and isinstance(sizes[0], int) else dim
            for dim, *sizes in runs
        )

    def _plain(self, value: Value) -> Shape | None:
        """Of equal sizes that are no numbers the names are equal."""
        found, inferred = self._facts.shape(value), self._symbolic.shape(value)
        if found is None or (inferred is not None and len(inferred) != len(found)):
            return inferred
        return tuple(dim if dim is None or isinstance(dim, int) else str(dim) for dim in found)


def _rank(shape: Shape | None) -> int:
    return -1 if shape is None else len(shape)


def known_shapes(model: Model, symbolic: Shapes) -> Shapes:
    """The shapes `symbolic` of a model, refined."""
    facts = find_facts(model, symbolic)
    for heights, others in PLACES:
        numeric = [
            infer_shapes(model, _pins(model, batch, height, other))
            for batch, height, other in zip(BATCHES, heights, others, strict=True)
        ]
        if not any(shapes.problem for shapes in numeric):
            return KnownShapes(symbolic, facts, numeric)
    return KnownShapes(symbolic, facts, ())


def _pins(model: Model, batch: int, height: int, other: int) -> dict[str, tuple[int, ...]]:
    pins = {}
    for value in model.graph.inputs:
        kind = value.type
        if kind is None or not kind.HasField("tensor_type") or not kind.tensor_type.HasField("shape"):
            continue
        dims = kind.tensor_type.shape.dim
        unknown = [
            batch if axis == 0 else height if (axis, len(dims)) == (2, 4) else other for axis in range(len(dims))
        ]
        pins[value.name] = tuple(
            dim.dim_value if dim.dim_value > 0 else size for dim, size in zip(dims, unknown, strict=True)
        )
    return pins
