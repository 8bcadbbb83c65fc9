"""Why a region gives other values than the node it stands for: what can be told from its operators and numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ml_dtypes import iinfo
from numpy.typing import NDArray

from ...errors import ExecutionError
from ...ir import Backend, Model, Node, Value
from ...ir.dtypes import is_float, name_of, numpy_dtype
from ...ir.straighten import Straight

Array = NDArray[Any]


@dataclass(frozen=True)
class Place:
    """A region: the value in the first model, the value in the second and the nodes that compute it there, what they
    were fed, what came out of the first model, and what came out of the region."""

    before: Value
    after: Value
    nodes: Sequence[Node]
    fed: Mapping[str, Any]
    wanted: Any
    found: Any


def explain(place: Place, first: Straight, second: Straight, backend: Backend) -> str:
    """The mechanism in words; `unknown` where nothing can be told."""
    found = [*_overflow(place), *_activations(place), *_weights(place, first, second, backend), *_operators(place)]
    return "; ".join(found) or "unknown"


def _overflow(place: Place) -> Iterator[str]:
    wanted, found = np.asarray(place.wanted), np.asarray(place.found)
    if wanted.dtype.kind == "f" and (np.isfinite(wanted) & ~np.isfinite(found)).any():
        yield f"overflow: {_share((np.isfinite(wanted) & ~np.isfinite(found)).mean())} are not finite any more"


def _activations(place: Place) -> Iterator[str]:
    """Saturation and rounding where the region quantizes what it is fed; clipping that the first model does not do."""
    original = place.before.producer
    for node in place.nodes:
        read = node.input(0)
        fed = place.fed.get(read.name) if read is not None else None
        if node.is_op("QuantizeLinear") and isinstance(fed, np.ndarray):
            yield _saturation(node, fed)
        elif node.is_op("Clip") and isinstance(fed, np.ndarray) and (original is None or not original.is_op("Clip")):
            low, high = (_limit(node, slot, name) for slot, name in ((1, "min"), (2, "max")))
            outside = (fed < low) | (fed > high)
            yield f"clipping: {_share(outside.mean())} lie outside of the range"
        elif node.is_op("Cast") and isinstance(fed, np.ndarray) and _is_narrower(node.attr("to", 0), fed):
            yield f"rounding: values are cast to {name_of(node.attr('to', 0))}"


def _limit(node: Node, slot: int, name: str) -> float:
    """A limit of a Clip: an attribute before opset 11, then an input; infinite where there is none."""
    found = _constant(node.input(slot))
    missing = -np.inf if name == "min" else np.inf
    return float(node.attr(name, missing)) if found is None else float(found.reshape(()))


def _is_narrower(to: int, fed: Array) -> bool:
    return is_float(to) and fed.dtype.kind == "f" and numpy_dtype(to).itemsize < fed.dtype.itemsize


def _saturation(node: Node, fed: Array) -> str:
    scale, zero = _constant(node.input(1)), _constant(node.input(2))
    if scale is None or scale.size != 1 or (zero is not None and "int" not in zero.dtype.name):
        return "rounding: values are quantized"
    levels: Any = iinfo(np.dtype(np.uint8) if zero is None else zero.dtype)  # type: ignore[no-untyped-call]
    exact = fed / float(scale.reshape(())) + (0.0 if zero is None else float(zero.reshape(())))
    low, high = int(levels.min), int(levels.max)
    outside = (exact < low - 0.5) | (exact > high + 0.5)
    if outside.any():
        excess = max(float(low - exact.min()), float(exact.max() - high))
        return f"saturation: {_share(outside.mean())} lie outside of the range, by up to {excess:.3g} steps"
    return f"rounding: steps of {float(scale.reshape(())):.3g}"


def _weights(place: Place, first: Straight, second: Straight, backend: Backend) -> Iterator[str]:
    """What became of the weights of the node, constants or computed from constants."""
    original = place.before.producer
    node = next((n for n in place.nodes if original is not None and n.op_type == original.op_type), None)
    if original is None or node is None:
        return
    for slot, old in enumerate(original.inputs):
        new = node.input(slot)
        if old is None or new is None:
            continue
        before = _evaluated(old, first.model, backend)
        if before is None or before.dtype.kind != "f":
            continue
        after = _evaluated(new, second.model, backend)
        if after is None or after.shape != before.shape or np.array_equal(before, after):
            continue
        yield _of_weight(first.name(old).label, before, after, is_stored=new.const is not None)


def _of_weight(name: str, before: Array, after: Array, *, is_stored: bool) -> str:
    total = float(np.square(before.astype(np.float64)).sum())
    lost = float(np.square((before - after).astype(np.float64)).sum())
    gone = (after == 0) & (before != 0)
    energy = float(np.square(before[gone].astype(np.float64)).sum())
    if total and energy > lost / 2:
        return f"pruned energy: {_share(gone.mean())} of {name} is zero now, {_share(energy / total)} of its energy"
    size = np.sqrt(lost / total) if total else np.inf
    if not is_stored:
        return f"weight quantization: {name} is off by rel-l2 {size:.3g}"
    return f"changed constant: {name} is off by rel-l2 {size:.3g}"


def _operators(place: Place) -> Iterator[str]:
    original = place.before.producer
    kinds = [node.op_type for node in place.nodes if node.constant is None]
    if original is not None and original.op_type not in kinds:
        yield f"other operators: {', '.join(dict.fromkeys(kinds))} instead of {original.op_type}"


def _constant(value: Value | None) -> Array | None:
    return None if value is None or value.const is None else value.const.numpy()


def _evaluated(value: Value, model: Model, backend: Backend) -> Array | None:
    """A constant, or what is decoded from constants; None if it depends on inputs."""
    if value.const is not None:
        tensor = value.const
        return tensor.numpy() if is_float(tensor.dtype) else None
    try:
        session = backend.prepare(model, outputs=[value.name])
        if any(not port.optional for port in session.inputs):
            return None
        found = session.run({})[value.name]
    except ExecutionError:
        return None
    return found if isinstance(found, np.ndarray) else None


def _share(part: float) -> str:
    return f"{100 * part:.3g}%"
