"""What a model costs, counted before a run and after each pass that changed it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from ...ir import Edit, Model
from ...ir.analysis.cost import Cost, CostMeter
from ...ir.analysis.shapes import Shapes
from ...ir.proto import FileMeter


class Price(NamedTuple):
    """A model's cost and its bytes on disk."""

    cost: Cost
    file_bytes: int


class PriceMeter:
    """The price of a model through its changes: counted again is only what they touched.

    MACs are counted with inputs of the shapes in `pins`; without any, `shapes` gives those of the model as it is now.
    """

    def __init__(self, model: Model, pins: Mapping[str, tuple[int, ...]] | None, shapes: Callable[[], Shapes]) -> None:
        self._cost = CostMeter(model, pins, shapes)
        self._file = FileMeter(model)

    def update(self, edits: Sequence[Edit], *, same_values: bool) -> None:
        """Take note of changes; `same_values`: every value that is still there is the same as before."""
        self._cost.update(edits, same_values=same_values)
        self._file.update(edits)

    def price(self) -> Price:
        """The price of now."""
        return Price(self._cost.cost(), self._file.size())
