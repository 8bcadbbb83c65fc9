"""Repair: the layers that read what was cut are refitted, in order, each to what it gave before the cut.

The input of each is that of the model as it is after all repairs before it, so what earlier ones could not mend is
mended as far as it goes. The pull of the ridge is towards the weights that are left. How strong it is, the samples say:
the best on every other of them for what was fitted to the rest; a layer that nothing is better for keeps its weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ....ir import Model, Value, tensor
from ....ir.analysis.coupling import Axis
from ....ir.analysis.linear import Linear, linear_of
from ....ir.tensor import Array
from ...calibrate import stages
from ...calibrate.halves import Halves, observed_halves
from ...manager.context import Context
from ...manager.weights import Outcome
from ...rewriting.layers import add_to_bias, output_axis, put
from .absorb import can_shift
from .bounds import Before
from .cut import Kept


@dataclass(frozen=True)
class Reader:
    """A layer before the cut (in the copy), and after."""

    old: Linear
    new: Linear
    outputs: Array | None
    """Which of its outputs stay; None if all do."""


def readers(layers: Sequence[tuple[Linear, Linear]], kept: Kept) -> list[Reader]:
    """Of pairs (as it is in the copy, as it was) those whose input was cut, as they are now."""
    found = []
    for old, was in layers:
        new = linear_of(was.node)
        if new is None or new.groups != was.groups or new.k == was.k or new.op_type in ("LSTM", "GRU", "RNN"):
            continue
        found.append(Reader(old, new, _outputs(was, kept)))
    return found


def _outputs(layer: Linear, kept: Kept) -> Array | None:
    """Columns of the matrices that stay."""
    where = kept.get(Axis(layer.weight, output_axis(layer)))
    if where is None:
        return None
    if layer.op_type == "ConvTranspose":
        taps = layer.n // layer.shape[1]
        return np.asarray((where[:, None] * taps + np.arange(taps)).reshape(-1))
    return where[where < layer.n] if layer.groups > 1 else where


def refit(ctx: Context, before: Model, layers: Sequence[Reader], constants: Before, *, ridge: float | None) -> int:
    """Refit in stages; returns how many layers were."""
    done, meant = 0, []
    for reader in layers:
        if _need(reader) > stages.MEMORY:
            ctx.remarks.missed(reader.new.weight.name, "not refitted: its moments take too much memory", rule="refit")
        else:
            meant.append(reader)
    for stage in stages.in_stages(meant, _need):
        seen = observed_halves(ctx, before, map(_as_it_is, stage), purpose="repair")
        for reader, halves in zip(stage, seen, strict=True):
            done += _apply(ctx, reader, halves, constants, ridge)
    return done


def _as_it_is(reader: Reader) -> tuple[Linear, Linear]:
    """The layer before, and after other layers were rewritten."""
    now = linear_of(reader.new.node)
    assert now is not None
    return reader.old, now


def _need(reader: Reader) -> int:
    return Halves.nbytes_for(reader.old, reader.new)


def _apply(ctx: Context, reader: Reader, halves: Halves, constants: Before, ridge: float | None) -> bool:
    if not halves.count:
        return False
    layer = halves.parts[0].new
    held = reader.old.weight.const
    assert held is not None
    assert layer.weight.const is not None
    matrices = reader.old.matrices(held.numpy()).astype(np.float64)
    if reader.outputs is not None:
        matrices = matrices[:, :, reader.outputs]
    has_bias = can_shift(layer)
    left = layer.matrices(layer.weight.const.numpy()).astype(np.float64)
    fit, better = halves.refitted(matrices, left, ridge=ridge, bias=has_bias)
    found = left if better is None else better
    if not np.isfinite(found).all() or len(layer.weight.uses) > 1:
        return False
    dtype = layer.weight.const.numpy().dtype
    if better is not None:
        _set(ctx, layer.weight, layer.weight_of(found).astype(dtype))
    if has_bias:
        amounts = fit.shift(matrices, found).reshape(-1)
        is_new = layer.bias is None or layer.node.input(layer.bias) is None
        now = add_to_bias(ctx, layer.node, layer.bias, amounts, form="refit")
        constants.follow(layer.node, now)
        if is_new:
            constants.added[now] = amounts.astype(dtype).astype(np.float64)
    return better is not None or has_bias


def _set(ctx: Context, value: Value, array: Array) -> None:
    held = value.const
    assert held is not None
    made = tensor(array)
    ctx.weights.became(held, [made], Outcome.PRUNED, form="refit")
    put(ctx.rewriter, value, made)
