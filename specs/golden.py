"""Golden cases: a graph, a pipeline, and the graph that must come out, in onnx's text form."""

from __future__ import annotations

from onnx import ModelProto, parser, printer

from ..backends.ort import OrtBackend
from ..ir import Backend, emit, lower
from ..passes.manager.manager import PassManager
from ..passes.manager.report import Report


def model_of(text: str, *, opset: int = 17, ir_version: int = 8) -> ModelProto:
    """A model from the text of its graph, and of its functions if it has any (in the domain `local`)."""
    return parser.parse_model(f'<ir_version: {ir_version}, opset_import: ["" : {opset}, "local" : 1]>\n{text}')


def check_golden(
    pipeline: str,
    before: ModelProto,
    after: ModelProto,
    *,
    backend: Backend | None = None,
) -> Report:
    """Run the pipeline over `before`, raise AssertionError unless `after` comes out, and return the report.

    The two are compared as onnx prints them: how a tensor's data are encoded does not count.
    """
    model = lower(before)
    report = PassManager(pipeline, backend=backend or OrtBackend()).run(model)
    found, expected = printer.to_text(emit(model)), printer.to_text(after)
    if found != expected:
        raise AssertionError(f"{pipeline} gave\n{found}\ninstead of\n{expected}")
    return report
