"""The full text form loses nothing: what is emitted after a round trip equals what was emitted before."""

import math
import struct
import warnings
from itertools import pairwise
from pathlib import Path

import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import AttributeProto, FunctionProto, ModelProto, NodeProto, TensorProto, ValueInfoProto

from onnxpress.ir import emit, lower
from onnxpress.ir.dtypes import name_of, packed_nbytes
from onnxpress.ir.text import parse, print_model

BACKEND_MODELS = sorted((Path(onnx.__file__).parent / "backend/test/data").rglob("*.onnx"))
UNKNOWN_FIELD = b"\xfa\x3f\x01a"  # field 1023, as a newer format may have it
large = settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


def normalized(message):
    """A copy without the presence of fields that hold their default."""
    copy = type(message)()
    copy.CopyFrom(message)
    _forget_presence(copy)
    return copy.SerializeToString(deterministic=True)


def _forget_presence(message):
    for field, value in message.ListFields():
        if field.message_type is not None:
            for part in value if field.is_repeated else [value]:
                _forget_presence(part)
        elif not field.is_repeated and not field.containing_oneof and value == field.default_value:
            message.ClearField(field.name)


def round_trips(proto: ModelProto, path: Path | None = None) -> bool:
    model = lower(proto, path)
    text = print_model(model, full=True)
    back = parse(text, weights=model)
    return normalized(emit(back)) == normalized(emit(model)) and print_model(back, full=True) == text


@pytest.mark.parametrize("path", BACKEND_MODELS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_backend_models(path: Path) -> None:
    assert round_trips(onnx.load(path, load_external_data=False), path)


def test_backend_models_are_all_there() -> None:
    assert len(BACKEND_MODELS) >= 149


def test_node_cases() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the cases overflow on purpose
        from onnx.backend.test.case.node import collect_testcases

        cases = [case for case in collect_testcases(None) if case.model is not None]
    assert len(cases) > 1700
    assert [case.name for case in cases if not round_trips(case.model)] == []


# --- any message ---

SCALARS = {
    "string": st.text(max_size=4),
    "bytes": st.binary(max_size=6),
    "int": st.integers(-3, 40),
    "float": st.integers(0, 2**32 - 1).map(lambda bits: struct.unpack("<f", struct.pack("<I", bits))[0]),
}


def _scalar(field):
    if field.enum_type is not None:
        return st.sampled_from([value.number for value in field.enum_type.values])
    kinds = {
        field.TYPE_STRING: "string",
        field.TYPE_BYTES: "bytes",
        field.TYPE_FLOAT: "float",
        field.TYPE_DOUBLE: "float",
    }
    natural = field.type == field.TYPE_UINT64
    return st.integers(0, 2**64 - 1) if natural else SCALARS[kinds.get(field.type, "int")]


@st.composite
def messages(draw, kind, depth=2, without=()):
    """Any message of a kind: fields in any combination, sensible or not, and now and then one nobody knows."""
    message = kind()
    for field in draw(
        st.lists(st.sampled_from(list(kind.DESCRIPTOR.fields)), max_size=6, unique_by=lambda field: field.name)
    ):
        if field.name in without or (field.message_type is not None and depth == 0):
            continue
        for _ in range(draw(st.integers(1, 2)) if field.is_repeated else 1):
            if field.message_type is not None:
                inner = draw(messages(field.message_type._concrete_class, depth - 1, without))
                (getattr(message, field.name).add() if field.is_repeated else getattr(message, field.name)).CopyFrom(
                    inner
                )
            elif field.is_repeated:
                getattr(message, field.name).append(draw(_scalar(field)))
            else:
                setattr(message, field.name, draw(_scalar(field)))
    if draw(st.integers(0, 9)) == 0:
        message.MergeFromString(UNKNOWN_FIELD)
    return message


GRAPHS = ("g", "graphs", "graph")
DANGLING = ("node", "input", "output", "functions", "initializer", "sparse_initializer")


def model_around(
    attributes=(), tensors=(), infos=(), node: NodeProto | None = None, whole: ModelProto | None = None, function=None
) -> ModelProto:
    """A model that holds all these, with just what lowering insists on: unique names, and data that are there."""
    model = ModelProto()
    model.CopyFrom(whole or ModelProto())
    graph = model.graph
    made = graph.node.add()
    made.CopyFrom(node or NodeProto(op_type="Any"))
    for number, attribute in enumerate(attributes):
        _inline(attribute.t)
        attribute.name += str(number)
        made.attribute.add().CopyFrom(attribute)
    for number, tensor in enumerate(tensors):
        _inline(tensor)
        tensor.name += str(number)
        graph.initializer.add().CopyFrom(tensor)
    for number, info in enumerate(infos):
        for place in (graph.input, graph.value_info):
            place.add().CopyFrom(info)
        graph.input[-1].name = f"in{number}"
    if function is not None:
        model.functions.add().CopyFrom(function)
    return model


def _inline(tensor: TensorProto) -> None:
    if tensor.data_location == TensorProto.EXTERNAL:
        tensor.ClearField("data_location")


@large
@given(st.lists(messages(AttributeProto, without=GRAPHS), min_size=1, max_size=3))
def test_any_attribute(attributes) -> None:
    assert round_trips(model_around(attributes=attributes))


@large
@given(st.lists(messages(TensorProto), min_size=1, max_size=2))
def test_any_tensor(tensors) -> None:
    assert round_trips(model_around(tensors=tensors))


@large
@given(st.lists(messages(ValueInfoProto, depth=5), min_size=1, max_size=2))
def test_any_value_info(infos) -> None:
    assert round_trips(model_around(infos=infos))


@large
@given(
    messages(NodeProto, depth=3, without=(*DANGLING, "attribute")),
    messages(ModelProto, depth=4, without=(*DANGLING, *GRAPHS)),
    messages(FunctionProto, depth=2, without=(*DANGLING, *GRAPHS)),
)
def test_any_node_function_and_model(node, whole, function) -> None:
    assert round_trips(model_around(node=node, whole=whole, function=function))


DTYPES = [dtype for dtype in TensorProto.DataType.values() if dtype not in (TensorProto.UNDEFINED, TensorProto.STRING)]


@st.composite
def well_formed(draw, dtype):
    """A tensor whose `raw_data` has the right length, and otherwise any bytes: NaN payloads, -0.0, dirty padding."""
    shape = draw(st.lists(st.integers(0, 5), max_size=4))
    size = packed_nbytes(dtype, math.prod(shape))
    return TensorProto(dims=shape, data_type=dtype, raw_data=draw(st.binary(min_size=size, max_size=size)))


@pytest.mark.parametrize("dtype", DTYPES, ids=name_of)
@large
@given(data=st.data())
def test_every_bit_of_a_tensor(dtype: int, data) -> None:
    tensor = data.draw(well_formed(dtype))
    assert round_trips(model_around([AttributeProto(name="t", type=AttributeProto.TENSOR, t=tensor)], [tensor]))


NAMES = st.text(min_size=1, max_size=6)


@given(st.lists(NAMES, min_size=2, max_size=5, unique=True), NAMES)
def test_any_name(names: list[str], other: str) -> None:
    proto = ModelProto(ir_version=10, producer_name=other, doc_string=other)
    proto.opset_import.add(domain=other, version=1)
    graph = proto.graph
    graph.name = other
    graph.input.add(name=names[0]).type.tensor_type.shape.dim.add(dim_param=other)
    for source, result in pairwise(names):
        graph.node.add(op_type=other, domain=other, overload=other, input=[source], output=[result], name=other)
    graph.output.add(name=names[-1])
    assert round_trips(proto)
