"""The local bounds of a quantized weight, from the difference that the executor will see: dW = W - decode(levels)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from ...ir import Value
from ..manager.bounds import LocalBound
from .levels import absolute_errors
from .plan import Plan
from .roles import Form
from .sites import Readers, Site

BY = "quantize-insert"
Errors = Callable[[tuple[int, ...], tuple[int, ...]], NDArray[np.float64]]
"""abs(dW) summed over the first axes, then the largest over all axes but the second, which are left in order."""


@dataclass(frozen=True)
class Change:
    """A constant of `rank` axes that others stand for now: by which pass, who reads it, and `errors`, its dW. `axis` is
    the one along which the error of the constant itself is told."""

    by: str
    name: str
    readers: Readers
    rank: int
    axis: int
    errors: Errors


def local_bounds(plan: Plan, decoded: Value | None, rows: dict[Site, Value]) -> Iterator[LocalBound]:
    """The bounds of a quantized weight. `decoded` is the whole weight, `rows` what was read from it row by row."""
    errors, shape = partial(absolute_errors, plan.tensor.numpy(), plan.grid), plan.tensor.shape
    axis = next((axis for axis in reversed(plan.grid.axes) if shape[axis] > 1), 0)
    change = Change(BY, plan.value.name, plan.readers, len(shape), axis, errors)
    return bounds_of(change, decoded, rows)


def bounds_of(change: Change, decoded: Value | None, rows: dict[Site, Value]) -> Iterator[LocalBound]:
    """A bound for every reader of a constant that has one in closed form, and one for the decoded constant if others
    read it. `decoded` is the whole constant, `rows` what was read from it row by row."""
    name = change.name if decoded is None else decoded.name
    is_covered = not change.readers.others
    for site in change.readers.sites:
        if site in rows:
            yield _table(change, site, rows[site], name)
        elif (errors := _linear(site, change)) is not None:
            label = "" if site.node.graph is None else site.node.graph.label
            y, axis = site.node.outputs[0].name, site.role.y_axis
            yield LocalBound(change.by, label, y, str(Form.LINEAR), axis, errors * site.role.factor, name)
        else:
            is_covered = False
    if decoded is not None and not is_covered:
        errors = change.errors((), (change.axis,) if change.rank else ())
        label = "" if decoded.graph is None else decoded.graph.label
        yield LocalBound(change.by, label, name, str(Form.WEIGHT), change.axis, np.atleast_1d(errors), name)


def _table(change: Change, site: Site, rows: Value, name: str) -> LocalBound:
    axis, label = site.gathered_axis, "" if rows.graph is None else rows.graph.label
    return LocalBound(change.by, label, rows.name, str(Form.TABLE), axis, change.errors((), (axis,)), name)


def _linear(site: Site, change: Change) -> NDArray[np.float64] | None:
    """sum |dW| for every channel of y; None if the reader does not see exactly this weight or is not linear."""
    role = site.role
    if role.form is not Form.LINEAR or not site.layout.whole:
        return None
    if role.out is not None and site.node.is_op("ConvTranspose"):
        return _grouped(site, change.errors)
    out = () if role.out is None else _constant_axes(site, (role.out,))
    summed = None if out is None else _summed(site, out, change.rank)
    return None if summed is None or out is None else np.atleast_1d(change.errors(summed, out))


def _summed(site: Site, out: tuple[int, ...], rank: int) -> tuple[int, ...] | None:
    """The axes of the constant that y sums over. If those are all but one, they need not correspond one by one."""
    role = site.role
    if len(role.summed) + (role.out is not None) == site.layout.rank:
        return tuple(axis for axis in range(rank) if axis not in out)
    return _constant_axes(site, role.summed)


def _grouped(site: Site, errors_of: Errors) -> NDArray[np.float64] | None:
    """ConvTranspose: output channel g J + j sums over the kernel and over the input channels of group g."""
    kernel, kept = _constant_axes(site, site.role.summed), _constant_axes(site, (0, 1))
    if kernel is None or kept is None or site.layout.dims is None or site.layout.dims[0] is None:
        return None
    errors = errors_of(kernel, tuple(sorted(kept)))
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
