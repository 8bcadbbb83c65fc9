"""Sessions of onnxruntime: the half of the executor that onnxruntime must be loaded for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import GraphProto, TensorProto, helper

from ..errors import ExecutionError
from ..ir import ExternalTensor, Model, Port
from ..ir.analysis.shapes import shape_of
from .excerpt import excerpt
from .lift import lift
from .messages import reference_of
from .ort import Limits
from .ort_values import as_array, as_fed, dtype_of, is_foreign, weight_value
from .ort_words import in_its_words
from .skeleton import SMALL, Skeleton

PLAN_BELOW = 4000
"""Nodes up to which a deployment session reuses the memory of activations, as is onnxruntime's default: planning that
grows with the square of the number of nodes (10 s at 10,000). It changes no result."""
_SILENT = 4
"""onnxruntime's highest log level: nothing but fatal errors goes to stderr."""


def prepare(
    model: Model, outputs: Sequence[str] | None, *, optimize: bool, threads: int, inline_below: int
) -> OrtSession:
    """A session that runs `model`: see `OrtBackend.prepare`."""
    if threads != 1 and not optimize:
        raise ValueError("the reference configuration runs on one thread")
    folder = None if model.path is None else model.path.parent.resolve()
    skeleton = Skeleton(model, refers=lambda tensor: _is_mapped(tensor, folder))
    skeleton.proto.ClearField("training_info")
    if outputs is not None:
        excerpt(skeleton.proto, tuple(dict.fromkeys(outputs)))
    weights = {name: weight_value(tensor) for name, tensor in lift(skeleton, inline_below).items()}
    message = b"".join(skeleton.pieces().blocks())
    options = _options(optimize, threads, folder)
    options.enable_mem_reuse = optimize and sum(map(len, model.walk_graphs())) < PLAN_BELOW
    with in_its_words("onnxruntime refuses the model"):
        options.add_external_initializers([*weights], [*weights.values()])
        session = _session(message, options)
    unused = {value.name for value in model.graph.inputs} - {info.name for info in skeleton.proto.graph.input}
    return OrtSession(session, skeleton.proto.graph, frozenset(unused))


class OrtSession:
    """A session of onnxruntime."""

    def __init__(self, session: onnxruntime.InferenceSession, graph: GraphProto, unused: frozenset[str]) -> None:
        self._session = session
        self._unused = unused
        self._inputs = _input_ports(session, graph)
        self._outputs = _output_ports(session, graph)
        self._ports = {port.name: port for port in self._inputs}
        self._foreign = any(is_foreign(port.dtype) for port in self._outputs)

    @property
    def inputs(self) -> tuple[Port, ...]:
        """The inputs, in the model's order. Weights that a model of IR version 3 lists as inputs are none."""
        return self._inputs

    @property
    def outputs(self) -> tuple[Port, ...]:
        """The outputs, in order; shapes as onnxruntime infers them."""
        return self._outputs

    def run(self, feeds: Mapping[str, Any]) -> dict[str, Any]:
        """Run once; outputs by name: arrays, lists for sequences, None for an absent optional.

        What a feed holds for inputs of the model that the asked outputs do not need is left out. Raises ExecutionError
        if onnxruntime refuses the feed.
        """
        fed = {name: as_fed(value, self._port(name)) for name, value in feeds.items() if name not in self._unused}
        with in_its_words("onnxruntime refuses the feed"):
            values = self._run_foreign(fed) if self._foreign else self._session.run(None, fed)
        return {port.name: value for port, value in zip(self._outputs, values, strict=True)}

    def _port(self, name: str) -> Port:
        if name not in self._ports:
            raise ExecutionError(f"the model has no input {name!r}")
        return self._ports[name]

    def _run_foreign(self, fed: Mapping[str, Any]) -> list[Any]:
        """Run a model with outputs that the binding cannot turn into arrays."""
        texts = [name for name in fed if self._ports[name].dtype in (None, TensorProto.STRING)]
        texts += [port.name for port in self._outputs if port.dtype is None]
        if texts:
            raise ExecutionError(
                "onnxruntime's Python binding cannot return bfloat16 or int4 from a model with strings, sequences or "
                f"optionals ({', '.join(texts)})"
            )
        values = {
            name: onnxruntime.OrtValue.ortvalue_from_numpy(value) if isinstance(value, np.ndarray) else value
            for name, value in fed.items()
        }
        return [as_array(value) for value in self._session.run_with_ort_values(None, values)]


def _is_mapped(tensor: ExternalTensor, folder: Path | None) -> bool:
    """Whether onnxruntime reads the tensor from its file in `folder`; small ones it needs inline, to infer shapes."""
    if folder is None or tensor.nbytes <= SMALL:
        return False
    return tensor.path.is_file() and (folder / reference_of(tensor.proto)[0]).resolve() == tensor.path


def _options(optimize: bool, threads: int, folder: Path | None) -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _SILENT
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    if not optimize:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.add_session_config_entry("session.disable_prepacking", "1")
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if folder is not None:
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(folder))
    return options


def _session(message: bytes, options: onnxruntime.SessionOptions) -> onnxruntime.InferenceSession:
    # Without enable_fallback=0 the binding prints some errors to stdout and tries again.
    return onnxruntime.InferenceSession(message, options, providers=["CPUExecutionProvider"], enable_fallback=0)


def _input_ports(session: onnxruntime.InferenceSession, graph: GraphProto) -> tuple[Port, ...]:
    required = {arg.name: dtype_of(arg.type) for arg in session.get_inputs()}
    defaults = {arg.name: dtype_of(arg.type) for arg in session.get_overridable_initializers()}
    dtypes = required | defaults
    return tuple(
        Port(info.name, dtypes[info.name], shape_of(info.type), info.name in defaults)
        for info in graph.input
        if info.name in dtypes
    )


def _output_ports(session: onnxruntime.InferenceSession, graph: GraphProto) -> tuple[Port, ...]:
    """onnxruntime shows a scalar and an unknown rank alike; then the declared shape tells."""
    return tuple(
        Port(arg.name, dtype_of(arg.type), tuple(arg.shape) or shape_of(info.type))
        for arg, info in zip(session.get_outputs(), graph.output, strict=True)
    )


@cache
def limits() -> Limits:
    """The newest versions that it loads, found out by trying."""
    newest = onnx.defs.onnx_opset_version()
    opset = next((version for version in range(newest, 0, -1) if _loads(version, 8)), 0)
    ir_version = next((version for version in range(onnx.IR_VERSION, 0, -1) if _loads(opset, version)), 0)
    return Limits(opset, ir_version)


def _loads(opset: int, ir_version: int) -> bool:
    """Whether it loads a model of one node in these versions."""
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "probe", ports[:1], ports[1:])
    imports = [helper.make_opsetid("", opset)]
    probe = helper.make_model(graph, opset_imports=imports, ir_version=ir_version)
    try:
        with in_its_words("probe"):
            _session(probe.SerializeToString(), _options(False, 1, None))
    except ExecutionError:
        return False
    return True
