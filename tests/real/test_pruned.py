"""Channels of real models disappear: the result runs at all sizes that the original runs at, with fewer weights.

What can go is computed here from the interface alone (`interface.py`): of the weights with an axis that goes together
with no input or output, a quarter of the elements disappears, and where nothing of such an axis does, the page of the
pass lists the reason.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import onnx

import onnxpress
from onnxpress.ir import Model, Value
from onnxpress.ir.analysis.cost import node_macs
from onnxpress.ir.analysis.coupling import couple
from onnxpress.ir.analysis.coupling.known import known_shapes
from onnxpress.ir.analysis.shapes import infer_shapes

from .interface import free_axes, weights_of

FOLD = "fold"
CUT = "prune{unit=channel sparsity=0.3}"
SIZES = ((320, 576), (48, 64))
"""Of images and of other inputs, where the model does not say: the first that the model accepts."""
PAGE = Path(__file__).parents[2] / "specs" / "passes" / "prune.md"


def listed_reasons() -> list[str]:
    """The reasons that the page lists, as remarks give them."""
    table = PAGE.read_text().split("| remark | why |")[1].split("\n\n")[0]
    return [reason for row in table.splitlines()[2:] for reason in re.findall("`([^`]+)`", row.split("|")[1])]


def frozen(model: Model) -> Iterator[tuple[str, set[tuple[Value, int]]]]:
    """The reasons for which whole groups stay, with the axes of weights in them."""
    for group in couple(model, infer_shapes(model)):
        if group.count and not len(group.free):
            yield next(filter(None, group.frozen)), {(axis.value, axis.axis) for axis in group.constants}


def elements(model: Model, names: set[str]) -> int:
    held = {value: value.const for g in model.graph.walk_graphs() for n in g.nodes for value, _ in weights_of(n)}
    return sum(const.size for value, const in held.items() if const is not None and value.name in names)


def macs(model: Model, image: int, other: int) -> int:
    """MACs at sizes for images (the last two axes of four) and for other inputs."""
    pins = {}
    for value in model.graph.inputs:
        dims = value.type.tensor_type.shape.dim if value.type is not None else ()
        unknown = [1 if axis == 0 else image if len(dims) == 4 else other for axis in range(len(dims))]
        known = [dim.dim_value if dim.dim_value > 0 else size for dim, size in zip(dims, unknown, strict=True)]
        pins[value.name] = tuple(known)
    shapes = known_shapes(model, infer_shapes(model, pins))
    return sum(node_macs(node, shapes) or 0 for graph in model.graph.walk_graphs() for node in graph.nodes)


def test_weights_disappear_and_every_size_still_runs(real_model: Any, compressed_by: Callable[[str], Any]) -> None:
    folded, cut = compressed_by(FOLD), compressed_by(CUT)
    onnx.checker.check_model(cut.after, full_check=True)
    before, after = onnxpress.load(folded.after), onnxpress.load(cut.after)
    names = set(free_axes(before))
    assert names
    assert elements(after, names) <= 0.75 * elements(before, names)
    assert cut.report.after.cost.parameters < cut.report.before.cost.parameters
    sizes = next(sizes for sizes in SIZES if macs(before, *sizes) > 0)
    assert 0 < macs(after, *sizes) < macs(before, *sizes)
    found = onnxpress.compare(folded.after, cut.after)
    assert not found.mismatches
    assert found.checked


def test_what_stays_stays_for_a_listed_reason(real_model: Any, compressed_by: Callable[[str], Any]) -> None:
    model = onnxpress.load(compressed_by(FOLD).after)
    free = {(value, axis) for value, axes in free_axes(model).values() for axis in axes}
    reasons = {reason for reason, axes in frozen(model) if axes & free}
    unlisted = [reason for reason in reasons if not any(listed in reason for listed in listed_reasons())]
    assert not unlisted
    assert not [reason for reason in reasons if "of the model" in reason]


def test_dead_channels_go_for_free(real_model: Any, compressed_by: Callable[[str], Any]) -> None:
    """Of ppocr4_rec, 14; of the pruned lenet300 a twentieth of the parameters."""
    found = onnxpress.compare(compressed_by(FOLD).after, compressed_by("prune{criterion=zero}").after)
    assert not found.mismatches
    assert found.worst["rel-l2"].value < 1e-4


def test_the_page_lists_reasons() -> None:
    assert "Softmax needs the whole axis" in listed_reasons()
