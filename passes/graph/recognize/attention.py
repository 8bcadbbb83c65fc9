"""Attention: softmax(s q k^T + m) v, and the splitting into heads around it.

The operator wants a mask of as many rows and columns as the scores (onnxruntime does not broadcast them); a mask that
is not known to have them is expanded, once for all attentions of the same sizes. Factors on q, k and the scores become
one attribute. Where q, k and v come out of a Reshape to (batch, rows, heads, size) and a Transpose, and go back the
same way, the operator does that itself.

Operation counts, of n columns and heads of size d: scores d, scale 1 for each factor (before) or 3 (after: the product
of the factors is rounded, and its square root is on q and on k), mask 1, softmax n + 3 and its exponential, the sum n:
k = 2 n + d + 7 on either side.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from onnx import TensorProto

from ....ir import Value
from ...rewriting.pattern import Call, Pattern, op, var
from ...rewriting.rule import Builder, Match, Rule, Types
from .attention_view import HEADS_LAST, PATTERN, Attention, view_of
from .dims import Dim, Dims
from .numbers import float32

SINCE = 23


class _Round:
    """What is known in one round of rewriting: sizes, and the masks that were expanded."""

    def __init__(self, dims: Dims) -> None:
        self.dims = dims
        self.masks: dict[tuple[Value, Dim, Dim], Value] = {}


class _Rounds:
    """The present round: the driver infers types anew for each."""

    def __init__(self) -> None:
        self._now: _Round | None = None

    def of(self, types: Types) -> _Round:
        if self._now is None or self._now.dims.types is not types:
            self._now = _Round(Dims(types))
        return self._now


def rules() -> tuple[Rule, ...]:
    """The rules of one run."""
    rounds = _Rounds()
    return (
        Rule("attention", PATTERN, lambda match, b: _build(rounds.of(match.types), match, b), _guarded(rounds, _guard)),
        *(
            Rule(f"attention-heads-{n}", form, _with_heads, _guarded(rounds, _heads_guard))
            for n, form in enumerate((_whole(), _whole(var("mask"))), 1)
        ),
    )


def _guarded(rounds: _Rounds, guard: Callable[[Dims, Match], str]) -> Callable[[Match], str]:
    return lambda match: guard(rounds.of(match.types).dims, match)


def _k_shape(view: Attention, dims: Dims) -> tuple[Dim, ...]:
    """The dimensions of k as (batch, heads, rows, size)."""
    batch, heads, rows = (0, 1, 2) if view.k_perm == (0, 1, 3, 2) else (0, 2, 1)
    return dims.dim(view.k, batch), dims.dim(view.k, heads), dims.dim(view.k, rows), dims.dim(view.k, 3)


def _guard(dims: Dims, match: Match) -> str:
    view = view_of(match.bound, dims)
    if view is None:
        return "- no attention"
    if match.types.dtype(view.q) == TensorProto.DOUBLE:
        return "the operator has its scale, and onnxruntime the root of it, as float32"
    if not math.isfinite(view.scale) or float32(view.scale) <= 0:
        return "its scale is no positive float32"
    q, k, v = dims.shape(view.q) or (), _k_shape(view, dims), dims.shape(view.v) or ()
    for axis, what in ((0, "batch"), (1, "heads")):
        if q[axis] is None or not q[axis] == k[axis] == v[axis]:
            return f"q, k and v are not known to have the same {what}"
    if k[2] is None or k[2] != v[2]:
        return "k and v are not known to have the same rows"
    return "" if view.mask is None else _mask_guard(dims, view.mask, q)


def _mask_guard(dims: Dims, mask: Value, q: tuple[Dim, ...]) -> str:
    """A mask has no batch, heads or sizes of its own: all are 1, or those of the scores."""
    shape = dims.shape(mask)
    if shape is None or not 2 <= len(shape) <= 4:
        return "the rank of the mask is not known"
    lead = (1,) * (4 - len(shape)) + shape[:-2]
    if lead[0] not in (1, q[0]) or lead[1] not in (1, q[1]) or None in lead:
        return "the mask is not known to have the batch and the heads of q"
    return ""


def _build(now: _Round, match: Match, b: Builder) -> Value:
    view = view_of(match.bound, now.dims)
    assert view is not None
    k = view.k if view.k_perm == (0, 1, 3, 2) else b("Transpose", view.k, attributes={"perm": HEADS_LAST})
    mask = [] if view.mask is None else [_mask(now, view.mask, view, k, match, b)]
    return b("Attention", view.q, k, view.v, *mask, attributes={"scale": float32(view.scale)})


def _mask(now: _Round, mask: Value, view: Attention, k: Value, match: Match, b: Builder) -> Value:
    """The mask with the rows and columns of the scores."""
    rows, columns = now.dims.dim(view.q, 2), _k_shape(view, now.dims)[2]
    shape = now.dims.shape(mask)
    if shape is not None and shape[-2:] == (rows, columns) and rows is not None:
        return mask
    known = now.masks.get((mask, rows, columns))
    if known is not None and known.graph is match.graph and rows is not None:
        return known
    one = {"start": 2, "end": 3}
    sizes = [b("Shape", value, attributes=one) for value in (view.q, k)]
    lead = b.constant([1, 1], "mask_lead")
    whole = b("Expand", mask, b("Concat", lead, *sizes, attributes={"axis": 0}))
    now.masks[mask, rows, columns] = whole
    return whole


# ---- heads


def _split(name: str) -> Call:
    return op.Transpose(op.Reshape(var(name), var()).named(f"{name} split")).named(f"{name} heads")


def _whole(*mask: Pattern) -> Call:
    core = Call(("Attention",), (_split("q"), _split("k"), _split("v"), *mask), label="core")
    return op.Reshape(op.Transpose(core).named("back"), var()).named("whole")


def _heads_guard(dims: Dims, match: Match) -> str:
    core = match.node("core")
    transposes = [match.node(label) for label in ("q heads", "k heads", "v heads", "back")]
    if any(tuple(node.attr("perm") or ()) != HEADS_LAST for node in transposes):
        return "- heads are split in another way"
    if any(name in core.attributes for name in ("q_num_heads", "kv_num_heads")) or any(core.outputs[1:]):
        return "- another form"
    for name in "qkv":
        x, split = match[name], match.node(f"{name} split").outputs[0]
        before, after = dims.shape(x), dims.shape(split)
        if before is None or after is None or len(before) != 3 or len(after) != 4:
            return f"the shape of {name} is not known"
        if None in before[:2] or before[:2] != after[:2] or not all(isinstance(dim, int) for dim in after[2:]):
            return f"{name} is not known to be split into heads along its last dimension"
    back, whole = match.node("back").outputs[0], match.root.outputs[0]
    before, after = dims.shape(back), dims.shape(whole)
    if before is None or after is None or len(after) != 3 or None in before[:2] or before[:2] != after[:2]:
        return "the heads are not known to be joined along the last dimension"
    return ""


def _with_heads(match: Match, b: Builder) -> Value:
    core = match.node("core")
    mask = [] if core.input(3) is None else [core.input(3)]
    return b.copy(core, match["q"], match["k"], match["v"], *mask, attributes=_heads(match))


def _heads(match: Match) -> dict[str, int]:
    dims = Dims(match.types)
    found = {name: dims.dim(match.node(f"{name} split").outputs[0], 2) for name in "qk"}
    q, k = found["q"], found["k"]
    assert isinstance(q, int)
    assert isinstance(k, int)
    return {"q_num_heads": q, "kv_num_heads": k}
