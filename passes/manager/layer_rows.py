"""Rows of layers: what a pass found and decided for each layer, as a table of the report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Cell = str | int | float | None


@dataclass(frozen=True)
class LayerRow:
    """One layer: which pass speaks, the label of the weight or node, and what is known, by column."""

    by: str
    layer: str
    cells: Mapping[str, Cell]

    def as_dict(self) -> dict[str, Any]:
        """For the JSON report."""
        return {"by": self.by, "layer": self.layer, **self.cells}
