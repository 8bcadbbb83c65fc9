"""What is asked of masks, and which layers get one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal

import numpy as np

from ....errors import UserError
from ....ir import Tensor, Value
from ....ir.analysis.linear import Linear
from ....ir.dtypes import is_float
from ...calibrate.stream import samples_of
from ...manager.context import Context
from .layers import Table, maskable_layers
from .patterns import Array, Pattern

CRITERIA = ("l1", "l2", "random", "wanda", "obs")
DATA_CRITERIA = ("wanda", "obs")
Allocation = Literal["layer", "global", "sensitivity", "output-first"]


@dataclass(frozen=True)
class Plan:
    """What is asked for: `share` of the weights that goes, or all up to `threshold` in absolute value."""

    pattern: Pattern
    criterion: str
    """One of `CRITERIA`."""
    allocation: Allocation
    share: float
    threshold: float | None
    repair: bool
    ridge: float | None
    """None: by the data, for each layer."""
    steps: int
    exclude: tuple[str, ...]
    tables: bool
    """Whether tables that Gather reads get a mask too."""

    @property
    def needs_data(self) -> bool:
        """Whether layers are looked at on sample data."""
        return self.repair or self.criterion in DATA_CRITERIA or self.allocation == "sensitivity"


@dataclass(frozen=True)
class Target:
    """A constant that gets a mask, and the layers that read it, all of one kind; nobody else does."""

    value: Value
    layers: tuple[Linear, ...]

    @property
    def layer(self) -> Linear:
        """The first of them: the matrices are the same for all."""
        return self.layers[0]

    @property
    def is_table(self) -> bool:
        """Whether its rows are looked up: magnitudes decide there, since rows that no sample reads would go first."""
        return isinstance(self.layer, Table)

    @property
    def tensor(self) -> Tensor:
        """What the constant holds now."""
        held = self.value.const
        assert held is not None
        return held

    def matrices(self) -> Array:
        """The weights `[groups, k, n]`, in double precision."""
        return self.layer.matrices(self.tensor.numpy()).astype(np.float64)


def targets(ctx: Context, plan: Plan) -> list[Target]:
    """The constants that get a mask, in order; says why others do not, and UserError for one that cannot have it."""
    by_weight: dict[Value, list[Linear]] = {}
    for layer in maskable_layers(ctx.model, tables=plan.tables):
        by_weight.setdefault(layer.weight, []).append(layer)
    found = []
    for value, layers in by_weight.items():
        problem = _problem(ctx, plan, value, layers)
        if problem:
            ctx.remarks.missed(value.name, problem, rule="mask")
        elif problem is not None:
            found.append(Target(value, tuple(layers)))
    _check_fit(plan, found)
    return found


def _problem(ctx: Context, plan: Plan, value: Value, layers: Sequence[Linear]) -> str | None:
    """Why a constant gets no mask: empty if it does, None if it is not meant."""
    names = [value.name, *(layer.node.label for layer in layers)]
    if any(fnmatchcase(name, pattern) for name in names for pattern in plan.exclude):
        return None
    if not all(ctx.selects(layer.node) for layer in layers):
        return None
    held = value.const
    if held is None or not is_float(held.dtype) or not held.size:
        return None
    if value.pinned:
        return "training information names it"
    if len(value.uses) > len(layers):
        return "it is read as something else too"
    first = layers[0]
    if any("activations" in one.node.attributes for one in layers):
        return "the activations of a recurrent layer may have no bounds"
    if any((one.op_type, one.slot, one.groups, one.k, one.n) != _kind(first) for one in layers):
        return "layers of different kinds read it"
    return "" if np.isfinite(held.numpy()).all() else "it holds NaN or Inf"


def _kind(layer: Linear) -> tuple[object, ...]:
    return layer.op_type, layer.slot, layer.groups, layer.k, layer.n


def _check_fit(plan: Plan, found: Sequence[Target]) -> None:
    misfits = [why for target in found if (why := plan.pattern.misfit(target.layer))]
    if misfits:
        more = f" (and {len(misfits) - 3} more)" if len(misfits) > 3 else ""
        raise UserError(f"prune: {'; '.join(misfits[:3])}{more}: leave them out with exclude=[NAME ...]")
    for target in found if plan.threshold is not None else ():
        if not (np.abs(target.matrices()) > plan.threshold).any():
            largest = float(np.abs(target.matrices()).max())
            raise UserError(
                f"prune: threshold={plan.threshold:g} would empty {target.value.name!r}, whose largest weight is "
                f"{largest:.4g}: lower it, or leave it out with exclude=[NAME ...]"
            )


def check(ctx: Context, plan: Plan) -> None:
    """UserError unless there are the data that the plan needs."""
    if plan.criterion in DATA_CRITERIA:
        samples_of(ctx, f"criterion={plan.criterion}")
    elif plan.allocation == "sensitivity":
        samples_of(ctx, "allocation=sensitivity")
    elif plan.repair:
        samples_of(ctx, "repair=refit")
