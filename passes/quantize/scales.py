"""Along which axes a weight gets scales of its own.

Readers name the axes of their output channels. Where they differ, or none has any to name (tables, unknown layouts),
the choice with the least expected squared error is taken.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod

from ...ir import Value
from .balance import balanced, input_axis
from .decode import Axes, DecodeForm
from .levels import Array, Steps, steps
from .sites import Site

LITTLE_ROOM = 8
"""Where no axis is given, scales take at most one byte for so many of levels."""


@dataclass(frozen=True)
class Scaling:
    """Chooses scales for one form; `rank` knows the rank of a value, or None."""

    form: DecodeForm
    rank: Callable[[Value], int | None]
    balance: bool = True
    """Whether input channels may get scales too, where the form can give two sets."""

    def best(self, weight: Array, dtype: int, sites: Sequence[Site]) -> Steps:
        """The steps of `weight`, of element type `dtype`, for its readers."""
        arithmetic = self.form.arithmetic(dtype)
        made = [steps(weight, axes, arithmetic) for axes in self.candidates(weight.shape, dtype, sites)]
        plain = min(made, key=lambda choice: choice.squared_error(weight.shape))
        axis = input_axis(weight.shape, sites) if self.balance and self.form.takes_factors else None
        return plain if axis is None else balanced(weight, plain, axis)

    def candidates(self, shape: Sequence[int], dtype: int, sites: Sequence[Site]) -> list[Axes]:
        """The choices, without doubles, in the order of the readers: what they name, or anything if none does."""
        named = [axes for site in sites if (axes := self._named(shape, site)) is not None]
        return list(dict.fromkeys(named or [axes for site in sites for axes in self._free(shape, dtype, site)]))

    def _named(self, shape: Sequence[int], site: Site) -> Axes | None:
        """The axes that a reader wants, those of length 1 left out; None if it has no wish."""
        axes, channels = site.layout.axes, site.role.channels
        if channels is None or axes is None:
            return None
        mapped = {axes[channel] for channel in channels} - {None}
        if channels and not mapped:
            return None
        return self.form.axes(tuple(sorted(a for a in mapped if a is not None and shape[a] > 1)))

    def _free(self, shape: Sequence[int], dtype: int, site: Site) -> list[Axes]:
        """Any single axis whose scales take little room (and that lets rows of a table be decoded alone), else none."""
        room = LITTLE_ROOM * self.form.arithmetic(dtype).itemsize
        little = [(axis,) for axis, n in enumerate(shape) if n > 1 and n * room <= prod(shape)]
        return [axes for axes in little if not site.is_table or self.reads_rows(axes, site)] or [()]

    def reads_rows(self, axes: Axes, table: Site) -> bool:
        """Whether the rows that a reader of a table takes can be decoded alone."""
        indices = table.node.input(1)
        index_rank = None if indices is None else self.rank(indices)
        return self.form.reads_rows(axes, table.gathered_axis, table.layout.rank or 0, index_rank)
