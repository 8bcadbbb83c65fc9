"""Along which axes a weight gets scales of its own, and in which blocks.

Readers name the axes of their output channels. Where they differ, or none has any to name (tables, unknown layouts),
the choice with the least expected squared error is taken. Blocks run along the axis that readers sum over (of tables:
along the last), and every index of all other axes has its own; an axis that is no longer than a block has none, and the
weight gets scales per channel.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from typing import NamedTuple

from ...ir import Value
from .balance import balanced, input_axis
from .decode import Axes, DecodeForm
from .levels import Array, Block, Grid
from .recipe import Recipe
from .roles import Form
from .sites import Site
from .storage import Storage

LITTLE_ROOM = 8
"""Where no axis is given, scales take at most one byte for so many of levels."""


class Choice(NamedTuple):
    """Where steps differ."""

    axes: Axes
    block: Block | None = None


@dataclass(frozen=True)
class Scaling:
    """Chooses scales for one form; `rank` knows the rank of a value, or None."""

    form: DecodeForm
    rank: Callable[[Value], int | None]
    recipe: Recipe = Recipe()
    balance: bool = True
    """Whether input channels may get scales too, where the form can give two sets."""

    def best(self, weight: Array, dtype: int, sites: Sequence[Site], storage: Storage) -> Grid:
        """The grid of `weight`, of element type `dtype` and to be stored in `storage`, for its readers."""
        arithmetic = self.form.arithmetic(dtype)
        choices = self.choices(weight.shape, dtype, sites, storage)
        may_be_negative = self.form.takes_negative_scales
        made = [
            self.recipe.grid(weight, choice.axes, arithmetic, choice.block, may_be_negative=may_be_negative)
            for choice in choices
        ]
        plain = min(made, key=Grid.squared_error)
        may_balance = self.balance and self.form.takes_factors and self.recipe.takes_factors
        axis = input_axis(weight.shape, sites) if may_balance else None
        return plain if axis is None else balanced(weight, plain, axis)

    def choices(self, shape: tuple[int, ...], dtype: int, sites: Sequence[Site], storage: Storage) -> list[Choice]:
        """Without doubles, in the order of the readers: what they name, or anything if none does."""
        if self.recipe.shares == "tensor":
            return [Choice(())]
        if self.recipe.shares == "block":
            blocks = [block for site in sites if (block := self._block(shape, site)) is not None]
            if blocks:
                return [Choice(tuple(range(len(shape))), block) for block in dict.fromkeys(blocks)]
        named = [axes for site in sites if (axes := self._named(shape, site)) is not None]
        free = [axes for site in sites for axes in self._free(shape, dtype, site, storage)] if not named else []
        return [Choice(axes) for axes in dict.fromkeys(named or free)]

    def _block(self, shape: Sequence[int], site: Site) -> Block | None:
        """Along the axis that a reader sums over; None if that is no longer than a block."""
        axes = site.layout.axes
        if site.role.form is Form.TABLE:
            axis = len(shape) - 1 if site.is_table and site.gathered_axis < len(shape) - 1 else None
        elif axes is None or site.role.channels is None:
            axis = None
        else:
            inner = [axes[at] for at in range(len(axes)) if at not in site.role.channels]
            axis = max((a for a in inner if a is not None), key=lambda a: shape[a], default=None)
        return None if axis is None or shape[axis] <= self.recipe.block else Block(axis, self.recipe.block)

    def _named(self, shape: Sequence[int], site: Site) -> Axes | None:
        """The axes that a reader wants, those of length 1 left out; None if it has no wish."""
        axes, channels = site.layout.axes, site.role.channels
        if channels is None or axes is None:
            return None
        mapped = {axes[channel] for channel in channels} - {None}
        if channels and not mapped:
            return None
        return self.form.axes(tuple(sorted(a for a in mapped if a is not None and shape[a] > 1)))

    def _free(self, shape: tuple[int, ...], dtype: int, site: Site, storage: Storage) -> list[Axes]:
        """Any single axis whose scales take little room (and that lets rows of a table be decoded alone), else none."""
        room = LITTLE_ROOM * self.form.arithmetic(dtype).itemsize
        little = [(axis,) for axis, n in enumerate(shape) if n > 1 and n * room <= prod(shape)]
        by_rows = site.is_table and storage.is_plain
        return [axes for axes in little if not by_rows or self.reads_rows(Choice(axes), site, storage)] or [()]

    def reads_rows(self, choice: Choice, table: Site, storage: Storage) -> bool:
        """Whether the rows that a reader of a table takes can be decoded alone."""
        indices, axis = table.node.input(1), table.gathered_axis
        if not storage.is_plain or (choice.block is not None and choice.block.axis <= axis):
            return False
        index_rank = None if indices is None else self.rank(indices)
        return self.form.reads_rows(choice.axes, choice.block, axis, table.layout.rank or 0, index_rank)
