"""Pad of zeros into the convolution or the pooling that reads it.

Convolutions pad zeros themselves, and AveragePool does where it counts what it pads. MaxPool pads -Inf, which is not
the same, and neither are pads of ConvTranspose, which cut the output.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from ....ir import Node
from ....ir.proto import node_size
from ...rewriting.driver import QUIET
from ...rewriting.pattern import op, var
from ...rewriting.rule import Builder, Match, Results, Rule
from .constants import exact, is_usable
from .plan import Plan, Planned, rule_parts
from .room import Room, released_bytes


def pad_rules(room: Room) -> Iterator[Rule]:
    """The rules; a Pad that others read stays for them."""
    build, guard = rule_parts(_plan, room)
    pad = op.Pad(var("x"), ...).named("pad")
    for op_type, rest in (("Conv", (var(), ...)), ("AveragePool", ())):
        yield Rule(f"pad-into-{op_type.lower()}", op[(op_type,)](pad, *rest), build, guard, since=7, exclusive=False)


def _plan(match: Match) -> Planned:
    node, pad = match.root, match.node("pad")
    window = node.input(1)
    kernel = node.attr("kernel_shape") or (window.const.shape[2:] if window is not None and window.const else None)
    if not kernel or any(attribute.ref for one in (node, pad) for attribute in one.attributes.values()):
        return QUIET
    added = zeros_added(pad, len(kernel) + 2, match)
    if isinstance(added, str):
        return added
    if node.attr("auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        return f"{QUIET} {node.label} pads as much as the sizes ask for"
    own = list(node.attr("pads") or [0] * 2 * len(kernel)) if node.attr("auto_pad", "NOTSET") == "NOTSET" else None
    pads = [a + b for a, b in zip(own or [0] * 2 * len(kernel), added, strict=True)]
    attributes: dict[str, Any] = {"pads": pads, "auto_pad": None}
    if node.is_op("AveragePool"):
        if reason := _why_not_pool(node, pads, own, added):
            return f"{QUIET} {reason}"
        if any(added):
            attributes["count_include_pad"] = 1
    return _Padded(node, pad, attributes)


def _why_not_pool(node: Node, pads: Sequence[int], own: Sequence[int] | None, added: Sequence[int]) -> str:
    """Why an AveragePool would not count zeros that it pads itself as it counts those that a Pad wrote."""
    if node.attr("auto_pad") == "VALID" and set(node.attr("dilations") or ()) - {1}:
        return "onnx's reference evaluator forgets to widen these windows"
    if not any(added):
        return ""
    if node.attr("ceil_mode", 0):
        return "where windows reach beyond the padding they are counted otherwise"
    kernel = node.attr("kernel_shape")
    if any(pad >= size for pad, size in zip(pads, [*kernel, *kernel], strict=True)):
        return "a pooling pads less than its window"
    if any(own or ()) and not node.attr("count_include_pad", 0):
        return f"{node.label} does not count what it pads itself"
    return ""


def zeros_added(pad: Node, rank: int, match: Match) -> list[int] | str:
    """How many zeros a Pad of a tensor of `rank` adds before and after each spatial axis: [before..., after...]."""
    if pad.attr("mode", "constant") != "constant":
        return f"{QUIET} it does not pad a constant"
    if match.opset < 11:
        pads, value = list(pad.attr("pads") or ()), float(pad.attr("value", 0.0))
    else:
        content, fill, axes = (pad.input(slot) for slot in (1, 2, 3))
        if content is None or content.const is None:
            return f"{QUIET} how much it pads is computed"
        pads, value = [int(n) for n in content.const.numpy().reshape(-1)], 0.0
        if fill is not None:
            if fill.const is None or not is_usable(fill.const):
                return f"{QUIET} what it pads is computed"
            value = float(exact(fill.const).reshape(-1)[0])
        if axes is not None:
            if axes.const is None:
                return f"{QUIET} which axes it pads is computed"
            pads = _on_all_axes(pads, [int(n) % rank for n in axes.const.numpy().reshape(-1)], rank)
    if value != 0:
        return f"{QUIET} it pads {value:g}"
    if len(pads) != 2 * rank or any(pads[:2]) or any(pads[rank : rank + 2]) or min(pads) < 0:
        return f"{QUIET} it pads the batch or the channels, or cuts"
    return pads[2:rank] + pads[rank + 2 :]


def _on_all_axes(pads: list[int], axes: list[int], rank: int) -> list[int]:
    found = [0] * 2 * rank
    for at, axis in enumerate(axes):
        found[axis], found[rank + axis] = pads[at], pads[len(axes) + at]
    return found


class _Padded(Plan):
    """The node with the padding in its attributes."""

    def __init__(self, node: Node, pad: Node, attributes: dict[str, Any]) -> None:
        self.node = node
        self.pad = pad
        self.attributes = attributes

    def cost(self, nodes: Sequence[Node]) -> int:
        if self.pad not in nodes:
            return 0  # nothing goes, and attributes are small
        longer = 28 if "count_include_pad" in self.attributes else 0
        longer += 12 + 2 * len(self.attributes["pads"]) if "pads" not in self.node.attributes else 0
        return longer - node_size(self.pad) - released_bytes(self.pad.inputs[1:], nodes)

    def build(self, match: Match, b: Builder) -> Results:
        return b.copy(self.node, match["x"], *self.node.inputs[1:], attributes=self.attributes)
