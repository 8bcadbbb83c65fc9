"""What must hold of a message before it is lowered: versions, tensors that hold what they state, functions."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from functools import cache
from graphlib import CycleError, TopologicalSorter
from types import MappingProxyType

import numpy as np
import onnx
from onnx import AttributeProto, ModelProto, OperatorSetIdProto, SparseTensorProto, TensorProto, helper, numpy_helper

from ..errors import UserError
from ..ir import Model
from ..ir.dtypes import bits_of, name_of, packed_nbytes
from .messages import Role, by_location, walk_inside, walk_sparse, walk_tensors
from .wire import Place

_Key = tuple[str, str, str]
_FIELDS: dict[int, str] = {
    TensorProto.FLOAT: "float_data",
    TensorProto.COMPLEX64: "float_data",
    TensorProto.DOUBLE: "double_data",
    TensorProto.COMPLEX128: "double_data",
    TensorProto.INT64: "int64_data",
    TensorProto.UINT32: "uint64_data",
    TensorProto.UINT64: "uint64_data",
    TensorProto.STRING: "string_data",
}
_MOST = 1 << 62
"""Elements that no tensor has: above, sizes do not fit the file format's integers."""
_NONE: Mapping[Place, int] = MappingProxyType({})


def check_message(proto: ModelProto, raw_sizes: Mapping[Place, int] = _NONE) -> dict[str, list[TensorProto]]:
    """Raise UserError unless the message can be lowered without surprise. External data are not looked at; returned are
    the tensors that have some, by location.

    `raw_sizes` are the bytes of `raw_data` in the main graph, where they are known: to ask protobuf for them copies the
    data.
    """
    if not proto.HasField("graph") or not proto.ir_version:
        raise UserError("it holds no graph or no IR version: a truncated file, or no ONNX model")
    if proto.ir_version > onnx.IR_VERSION:
        raise UserError(
            f"its IR version {proto.ir_version} is newer than onnx {onnx.__version__} knows ({onnx.IR_VERSION}); "
            "upgrade onnx, or export the model with an older version"
        )
    _check_opsets(proto.opset_import)
    _check_functions(proto)
    has_sparse = False
    tensors: list[TensorProto] = []
    for held in walk_tensors(proto):
        known = None if held.place is None else raw_sizes.get(held.place)
        fault = _tensor_fault(held.tensor, held.role, known)
        if fault:
            raise UserError(f"{held.label} {fault}: a damaged file")
        has_sparse |= held.role is Role.SPARSE
        tensors.append(held.tensor)
    for sparse, label in walk_sparse(proto) if has_sparse else ():
        fault = _sparse_fault(sparse)
        if fault:
            raise UserError(f"{label} {fault}: a damaged file")
    return by_location(tensors)


def check_graphs(model: Model) -> None:
    """Raise UserError if a name is no text, an attribute lacks its value, or a node is of a domain that is not
    imported."""
    for graph in model.walk_graphs():
        for value in graph.values():
            if not isinstance(value.name, str):
                raise UserError(f"{graph.label}: the name of a value {_no_text(value.name)}")
        for node in graph.nodes:
            for text in (node.name, node.op_type, node.domain, node.overload):
                if not isinstance(text, str):
                    raise UserError(f"{graph.label}: a node {_no_text(text)}")
            if node.domain not in graph.opset:
                known = ", ".join(f"{_domain(domain)} {version}" for domain, version in graph.opset.items())
                raise UserError(
                    f"{graph.label}: node {node.label!r} ({node.op_type}) is of domain {_domain(node.domain)}, "
                    f"which opset_import lacks (it has {known or 'nothing'})"
                )
            for attribute in node.attributes.values():
                if not attribute.ref and not _has_value(attribute.proto):
                    raise UserError(
                        f"{graph.label}: attribute {attribute.name!r} of node {node.label!r} does not hold what its "
                        "type says: a damaged file"
                    )


def _has_value(proto: AttributeProto) -> bool:
    """Whether an attribute has a type, and if that is a tensor or graph, it and no other of these."""
    kind = proto.type
    field = _HELD.get(kind)
    if field is None:
        return kind != AttributeProto.UNDEFINED
    held = {name for name in ("t", "g") if proto.HasField(name)} | ({"graphs"} if proto.graphs else set())
    return held == {field} or (field == "graphs" and not held)


_HELD: dict[int, str] = {AttributeProto.TENSOR: "t", AttributeProto.GRAPH: "g", AttributeProto.GRAPHS: "graphs"}


def _no_text(text: object) -> str:
    return f"is not UTF-8 text ({text!r}): a damaged file"


def _check_opsets(entries: Collection[OperatorSetIdProto]) -> None:
    if not entries:
        raise UserError("it imports no operator set: a truncated file, or no ONNX model")
    versions: dict[str, int] = {}
    for entry in entries:
        domain, version = _domain(entry.domain), entry.version
        newest = _newest().get(domain)
        if version < 1:
            raise UserError(f"it imports {domain} in version {version}: a damaged file")
        if newest is not None and version > newest:
            raise UserError(
                f"it imports {domain} in version {version}, but onnx {onnx.__version__} knows {newest}; upgrade onnx, "
                "or export the model with an older version"
            )
        if versions.setdefault(domain, version) != version:
            raise UserError(f"it imports {domain} in two versions, {versions[domain]} and {version}")


@cache
def _newest() -> dict[str, int]:
    """The newest operator set of each domain of the standard."""
    newest: dict[str, int] = {}
    for domain, version in helper.OP_SET_ID_VERSION_MAP:
        newest[domain] = max(version, newest.get(domain, 0))
    return newest


def _domain(domain: str) -> str:
    return domain or "ai.onnx"


def _check_functions(proto: ModelProto) -> None:
    """No two functions of one name, and none that calls itself."""
    calls: dict[_Key, set[_Key]] = {}
    for function in proto.functions:
        key = (_domain(function.domain), function.name, function.overload)
        if key in calls:
            raise UserError(f"it defines the function {function.domain}.{function.name} twice")
        _check_opsets(function.opset_import)
        nodes = (node for graph in walk_inside(function) for node in graph.node)
        calls[key] = {(_domain(node.domain), node.op_type, node.overload) for node in nodes}
    try:
        TopologicalSorter(calls).prepare()
    except CycleError as error:
        names = " -> ".join(f"{domain}.{name}" for domain, name, _ in error.args[1])
        raise UserError(f"its functions call each other in a circle, which ONNX does not allow: {names}") from error


def _tensor_fault(tensor: TensorProto, role: Role, raw_size: int | None) -> str:
    """What is wrong with a tensor, as the end of a sentence; empty if nothing is."""
    dtype, count = tensor.data_type, math.prod(tensor.dims)
    if min(tensor.dims, default=0) < 0 or count > _MOST:
        return f"has the impossible shape {list(tensor.dims)}"
    if dtype != TensorProto.STRING and not bits_of(dtype):
        return f"has the unknown element type {dtype}"
    if tensor.HasField("segment"):
        return "is stored in segments, which ONNX does not define"
    if tensor.data_location == TensorProto.EXTERNAL:
        return _external_fault(tensor, role)
    return _inline_fault(tensor, dtype, count, raw_size)


def _external_fault(tensor: TensorProto, role: Role) -> str:
    if tensor.data_type == TensorProto.STRING:
        return "holds strings in external data, which ONNX does not allow"
    if any(not isinstance(text, str) for entry in tensor.external_data for text in (entry.key, entry.value)):
        return "refers to external data by a name that is not UTF-8 text"
    return "is sparse and has external data, which is not supported" if role is Role.SPARSE else ""


def _inline_fault(tensor: TensorProto, dtype: int, count: int, raw_size: int | None) -> str:
    field = _FIELDS.get(dtype, "int32_data")
    typed = len(getattr(tensor, field))
    if tensor.HasField("raw_data"):
        have, want, unit = raw_size or len(tensor.raw_data), packed_nbytes(dtype, count), "bytes"
        if dtype == TensorProto.STRING:
            return "holds strings as raw data, which ONNX does not allow"
        if typed:
            return f"holds both raw data and {field}"
    else:
        have, want, unit = typed, _entries(dtype, count), f"entries of {field}"
    if have == want:
        return ""
    return f"is {name_of(dtype)} {list(tensor.dims)}, which takes {want} {unit}; it has {have}"


def _entries(dtype: int, count: int) -> int:
    """How many entries of its typed field a tensor takes."""
    if dtype in (TensorProto.COMPLEX64, TensorProto.COMPLEX128):
        return 2 * count
    return packed_nbytes(dtype, count) if 0 < bits_of(dtype) < 8 else count


def _sparse_fault(sparse: SparseTensorProto) -> str:
    """What is wrong with a sparse tensor whose two parts are sound."""
    dims, values, indices = list(sparse.dims), list(sparse.values.dims), list(sparse.indices.dims)
    if min(dims, default=0) < 0 or math.prod(dims) > _MOST:
        return f"has the impossible shape {dims}"
    if len(values) != 1 or sparse.indices.data_type != TensorProto.INT64:
        return "needs values on one axis and int64 indices"
    if indices not in (values, [*values, len(dims)]):
        return f"has indices of shape {indices} for {values[0]} values"
    places = numpy_helper.to_array(sparse.indices)
    sizes = np.array(dims if places.ndim == 2 else [math.prod(dims)], dtype=np.int64)
    if places.size and (places.min() < 0 or (places.reshape(len(places), -1) >= sizes).any()):
        return f"has indices outside its shape {dims}"
    return ""
