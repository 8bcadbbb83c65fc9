"""Hand the model to onnx-simplifier, and take back what it makes of it if that is right and no larger.

What it does is its own affair, so no bound can be stated: the pass is LEARNED, measured only. It runs in a process of
its own, since it is native code that crashes on some models, and a crash there must not end this one. The result comes
in through the rewriter like any other change: the nodes of the main graph are replaced by copies of those of the
result, constants that are as before stay the ones that they were, the interface, the model's own metadata and what
belongs to the file stay. All of it is taken back unless the result passes onnx's full check, is no larger, and gives
the same outputs.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import onnx

from ...errors import UserError, VerifyError
from ...ir import Graph, Model, emit, lower, verify
from ...ir.analysis.purity import Purity
from ...ir.clone import Mapping as Copies
from ...ir.proto import file_size
from ..manager.base import Effect, Pass
from ..manager.context import Context
from ..manager.options import option
from ..manager.weights import Outcome

_CHILD = """
import sys, onnx, onnxsim
onnx.save(onnxsim.simplify(onnx.load(sys.argv[1]))[0], sys.argv[2])
"""
_LARGEST = 1_900_000_000
"""Bytes of a model that still fits into one message."""


@dataclass(frozen=True)
class Onnxsim(Pass):
    """Let onnx-simplifier simplify the model; what comes back is checked and measured, or taken back."""

    name: ClassVar[str] = "onnxsim"
    effect: ClassVar[Effect] = Effect.LEARNED
    idempotent: ClassVar[bool] = False
    needs_judge: ClassVar[bool] = True

    rel_l2: float = option(1e-4, "largest norm of the error over that of the outputs", low=0)
    max_abs: float = option(1e-5, "largest absolute error; one of the two limits must hold", low=0)

    def run(self, graph: Graph, ctx: Context) -> None:
        """Try, and take back what is not good."""
        if importlib.util.find_spec("onnxsim") is None:
            raise UserError("the pass onnxsim needs onnx-simplifier: pip install onnx-simplifier")
        measurements = ctx.measurements
        reason = _why_not(ctx)
        if reason or measurements is None:
            ctx.remarks.missed("model", reason or "its result could not be measured")
            return
        nodes = _count(ctx.model)
        before, size, checkpoint = measurements.outputs(), file_size(ctx.model), ctx.checkpoint()
        impure = _impure(ctx.model)
        reason = _replace(ctx) or _fault(ctx.model, size)
        if not reason and _impure(ctx.model) != impure:
            reason = "random nodes or nodes of unknown operators are others"
        if not reason:
            judge, error = measurements.judge, measurements.since(before)
            broken = [judge.broken(error, {k: v}) for k, v in (("rel-l2", self.rel_l2), ("max-abs", self.max_abs))]
            reason = "; ".join(words for each in broken for words in each) if all(broken) else ""
        if reason:
            ctx.rollback(checkpoint)
            measurements.remember(before)
            ctx.remarks.failed("model", f"taken back: {reason}", rule="onnxsim")
            return
        ctx.remarks.applied(
            "model", f"{_count(ctx.model)} nodes of onnx-simplifier take the place of {nodes}", rule="onnxsim"
        )


def _count(model: Model) -> int:
    """Nodes, Constants left out."""
    return sum(not node.is_op("Constant") for graph in model.walk_graphs() for node in graph.nodes)


def _impure(model: Model) -> Counter[tuple[str, str]]:
    """How often each operator stands in the model whose nodes no pass may add, remove or merge."""
    purity = Purity(model)
    nodes = (node for graph in model.walk_graphs() for node in graph.nodes)
    return Counter((node.domain, node.op_type) for node in nodes if not purity.is_pure(node))


def _why_not(ctx: Context) -> str:
    """Why the model is not handed over."""
    model, measurements = ctx.model, ctx.measurements
    if ctx.is_narrowed:
        return "it acts on the whole model only"
    if measurements is None or measurements.judge.unmeasured:
        why = "nothing is measured" if measurements is None else measurements.judge.unmeasured
        return f"its result could not be checked: {why}"
    if model.source.training_info:
        return "training information names values that might not survive"
    if file_size(model) > _LARGEST:
        return "the model does not fit into one message"
    return ""


def _replace(ctx: Context) -> str:
    """Put the result in the place of the main graph; why that cannot be done, else empty."""
    result = _simplified(emit(ctx.model))
    if isinstance(result, str):
        return result
    model, new = ctx.model, lower(result)
    if _ports(new.graph) != _ports(model.graph):
        return "it changed the inputs or outputs"
    kept = [function.source for function in model.functions.values() if function.key in new.functions]
    if [function.source for function in new.functions.values()] != kept:
        return "it changed the model's functions"
    rewriter, graph, old = ctx.rewriter, model.graph, list(model.graph.nodes)
    read = [value for value in graph.initializers if not value.is_dead]
    with rewriter.apply("onnxsim", *old):
        copies = _constants(ctx, new)
        for node in new.graph.nodes:
            rewriter.insert_copy(node, copies, graph=graph, keep_names=True)
        for slot, (before, after) in enumerate(zip(graph.outputs, new.graph.outputs, strict=True)):
            if before.producer is not None:
                rewriter.take_over(before, copies[after])
            elif copies[after] is not before:
                rewriter.set_output(graph, slot, rewriter.insert("Identity", [copies[after]], graph=graph).outputs[0])
        for node in reversed(old):
            rewriter.erase(node)
        for value in read:
            if value.is_dead and not value.is_input:
                rewriter.remove_initializer(value)
        _name_as_in_result(ctx, copies)
        for domain, version in new.opset.items():
            if model.opset.get(domain) != version:
                rewriter.set_opset(model, domain, version)
        if new.ir_version > model.ir_version:
            rewriter.set_ir_version(new.ir_version)
    return ""


def _name_as_in_result(ctx: Context, copies: Copies) -> None:
    """Give copies the names of what they are copies of, now that these are free."""
    taken = {value.name for inner in ctx.model.graph.walk_graphs() for value in inner.values()}
    for value, made in copies.items():
        if value.name and made.name != value.name and value.name not in taken:
            taken.add(value.name)
            ctx.rewriter.rename(made, value.name)


def _simplified(proto: onnx.ModelProto) -> onnx.ModelProto | str:
    """What onnx-simplifier makes of a model, or what went wrong."""
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "in.onnx"), Path(folder, "out.onnx")
        onnx.save(proto, source)
        command = [sys.executable, "-c", _CHILD, str(source), str(target)]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, errors="replace", check=False)
        if done.returncode:
            said = [line for line in (done.stderr or done.stdout).splitlines() if line.strip()]
            last = said[-1].strip() if said else "it said nothing"
            return f"onnx-simplifier failed (exit code {done.returncode}): {last}"
        return onnx.load(target)


def _ports(graph: Graph) -> list[tuple[str, int]]:
    """Names and element types of the interface: shapes that were not known before may be."""
    inputs = [(value.name, 0 if value.type is None else value.type.tensor_type.elem_type) for value in graph.inputs]
    outputs = zip(graph.outputs, graph.output_infos, strict=True)
    return inputs + [(value.name, info.type.tensor_type.elem_type) for value, info in outputs]


def _constants(ctx: Context, new: Model) -> Copies:
    """What stands for the inputs and initializers of the result: those of the model where they are the same."""
    graph = ctx.model.graph
    inputs = {value.name: value for value in graph.inputs}
    stored = {value.name: value for value in graph.initializers}
    copies: Copies = {value: inputs[value.name] for value in new.graph.inputs}
    for value in new.graph.initializers:
        known, tensor = stored.get(value.name), value.tensor
        if value.is_input or tensor is None:
            continue
        if known is not None and known.tensor is not None and known.tensor.digest() == tensor.digest():
            copies[value] = known
            continue
        copies[value] = ctx.rewriter.constant(graph, tensor, value.name)
        if known is not None and known.tensor is not None:
            ctx.weights.became(known.tensor, [tensor], Outcome.FOLDED)
    return copies


def _fault(model: Model, size: int) -> str:
    """What is wrong with a model that took at most `size` bytes before; empty if nothing is."""
    proto = emit(model)
    if proto.ByteSize() > size:
        return f"the result takes {proto.ByteSize() - size} bytes more"
    try:
        verify(model)
        onnx.checker.check_model(proto, full_check=True)
    except (VerifyError, onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        return f"the result is not valid: {' '.join(str(error).split())}"
    return ""
