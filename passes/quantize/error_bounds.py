"""The local bounds of a quantized weight, from the difference that the executor will see: dW = W - decode(levels)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from ...ir import Value
from ..manager.bounds import LocalBound
from .levels import Array, Grid, absolute_errors
from .plan import Plan
from .roles import Form
from .sites import Site

BY = "quantize-insert"


def local_bounds(plan: Plan, decoded: Value | None, rows: dict[Site, Value]) -> Iterator[LocalBound]:
    """A bound for every reader of a quantized weight that has one in closed form, and one for the decoded weight if
    others read it. `decoded` is the whole weight, `rows` what was read from it row by row."""
    weight, grid = plan.tensor.numpy(), plan.grid
    name = plan.value.name if decoded is None else decoded.name
    is_covered = not plan.readers.others
    for site in plan.readers.sites:
        if site in rows:
            yield _table(site, rows[site], weight, grid, name)
        elif (errors := _linear(site, weight, grid)) is not None:
            label = "" if site.node.graph is None else site.node.graph.label
            y, axis = site.node.outputs[0].name, site.role.y_axis
            yield LocalBound(BY, label, y, str(Form.LINEAR), axis, errors * site.role.factor, name)
        else:
            is_covered = False
    if decoded is not None and not is_covered:
        axis = next((axis for axis in reversed(plan.grid.axes) if weight.shape[axis] > 1), 0)
        errors = absolute_errors(weight, grid, (), (axis,) if weight.ndim else ())
        label = "" if decoded.graph is None else decoded.graph.label
        yield LocalBound(BY, label, name, str(Form.WEIGHT), axis, np.atleast_1d(errors), name)


def _table(site: Site, rows: Value, weight: Array, grid: Grid, name: str) -> LocalBound:
    axis = site.gathered_axis
    errors = absolute_errors(weight, grid, (), (axis,))
    return LocalBound(
        BY, "" if rows.graph is None else rows.graph.label, rows.name, str(Form.TABLE), axis, errors, name
    )


def _linear(site: Site, weight: Array, grid: Grid) -> NDArray[np.float64] | None:
    """sum |dW| for every channel of y; None if the reader does not see exactly this weight or is not linear."""
    role = site.role
    if role.form is not Form.LINEAR or not site.layout.whole:
        return None
    if role.out is not None and site.node.is_op("ConvTranspose"):
        return _grouped(site, weight, grid)
    out = () if role.out is None else _constant_axes(site, (role.out,))
    summed = None if out is None else _summed(site, out, weight.ndim)
    return None if summed is None or out is None else np.atleast_1d(absolute_errors(weight, grid, summed, out))


def _summed(site: Site, out: tuple[int, ...], rank: int) -> tuple[int, ...] | None:
    """The axes of the constant that y sums over. If those are all but one, they need not correspond one by one."""
    role = site.role
    if len(role.summed) + (role.out is not None) == site.layout.rank:
        return tuple(axis for axis in range(rank) if axis not in out)
    return _constant_axes(site, role.summed)


def _grouped(site: Site, weight: Array, grid: Grid) -> NDArray[np.float64] | None:
    """ConvTranspose: output channel g J + j sums over the kernel and over the input channels of group g."""
    kernel, kept = _constant_axes(site, site.role.summed), _constant_axes(site, (0, 1))
    if kernel is None or kept is None or site.layout.dims is None or site.layout.dims[0] is None:
        return None
    errors = absolute_errors(weight, grid, kernel, tuple(sorted(kept)))
    if kept != tuple(sorted(kept)):
        errors = errors.T
    groups = site.role.groups
    return np.asarray(errors.reshape(groups, site.layout.dims[0] // groups, -1).sum(1).reshape(-1))


def _constant_axes(site: Site, axes: tuple[int, ...]) -> tuple[int, ...] | None:
    """Axes of the constant for axes of the weight; those of length 1 are left out; None if one has no counterpart."""
    layout = site.layout
    if layout.axes is None or layout.dims is None:
        return None
    found = []
    for axis in axes:
        mapped, length = layout.axes[axis], layout.dims[axis]
        if mapped is None and length != 1:
            return None
        if mapped is not None:
            found.append(mapped)
    return tuple(found)
