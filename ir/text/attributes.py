"""Attributes: `axis=1`, `scales=[0x1p+0 0x1p+1]`, `mode="linear"`, `value=f32[] 0x1p-1`, and `alpha=float $outer`
where one reads an attribute of the enclosing function.

Numbers, strings and lists of them show their kind themselves; all others begin with a word.
"""

from __future__ import annotations

from collections.abc import Callable

from onnx import AttributeProto, GraphProto, TensorProto

from ..tensor import ProtoTensor, Tensor
from .digests import Find
from .elements import float_of, read_float
from .extras import extras, inline, read_inline
from .lexer import Lexer, Token, is_integer
from .numbers import field_patterns, float_words, set_field
from .tensors import Style, read_sparse, read_tensor, sparse_text, tensor_text
from .types import read_type, type_text
from .words import name_text, string_text, word_text

ReadGraph = Callable[[GraphProto], None]

_FIELDS = {
    AttributeProto.FLOAT: "f",
    AttributeProto.INT: "i",
    AttributeProto.STRING: "s",
    AttributeProto.TENSOR: "t",
    AttributeProto.GRAPH: "g",
    AttributeProto.SPARSE_TENSOR: "sparse_tensor",
    AttributeProto.TYPE_PROTO: "tp",
    AttributeProto.FLOATS: "floats",
    AttributeProto.INTS: "ints",
    AttributeProto.STRINGS: "strings",
    AttributeProto.TENSORS: "tensors",
    AttributeProto.GRAPHS: "graphs",
    AttributeProto.SPARSE_TENSORS: "sparse_tensors",
    AttributeProto.TYPE_PROTOS: "type_protos",
}
_KINDS: dict[str, AttributeProto.AttributeType] = {
    AttributeProto.AttributeType.Name(kind).lower(): kind for kind in AttributeProto.AttributeType.values()
}
_SELF_EVIDENT = (AttributeProto.INTS, AttributeProto.FLOATS, AttributeProto.STRINGS)
_LONGEST_FOR_PEOPLE = 16


def attribute_text(message: AttributeProto, tensor: Tensor | None, style: Style) -> str:
    """`name=value`; `tensor` is what the message is an outline of."""
    value, field = _value_text(message, tensor, style)
    return attribute_head(message, field, style) + value


def attribute_head(message: AttributeProto, field: str, style: Style) -> str:
    """`name=`, and between the two whatever `field`, which the value stands for, leaves unsaid."""
    name = word_text(message.name)
    clauses = inline(extras(message, ("name", "type", field))) if style.full else ""
    return f"{name}{clauses} = " if clauses else f"{name}="


def _value_text(message: AttributeProto, tensor: Tensor | None, style: Style) -> tuple[str, str]:
    """The value and the field that it stands for; only the kind, in parentheses, where there are no words for more."""
    kind = AttributeProto.AttributeType.Name(message.type).lower()
    field = _FIELDS.get(message.type, "")
    if message.ref_attr_name:
        return f"{kind} ${name_text(message.ref_attr_name)}", "ref_attr_name"
    match message.type:
        case AttributeProto.INT:
            return str(message.i), field
        case AttributeProto.FLOAT:
            return _float_words(message, field, style)[0], field
        case AttributeProto.STRING:
            return string_text(message.s, style.full), field
        case AttributeProto.TENSOR if message.HasField(field):
            return tensor_text(message.t, tensor or ProtoTensor(message.t), style), field
        case AttributeProto.SPARSE_TENSOR if message.HasField(field):
            return f"{kind} {sparse_text(message.sparse_tensor, style)}", field
        case AttributeProto.TYPE_PROTO if message.HasField(field):
            return f"{kind} {type_text(message.tp)}", field
    words = _item_words(message, field, style)
    if words is None:
        return f"({kind})", ""
    if not style.full and len(words) > _LONGEST_FOR_PEOPLE:
        words = [*words[:_LONGEST_FOR_PEOPLE], "..."]
    prefix = "" if words and message.type in _SELF_EVIDENT else f"{kind} "
    return f"{prefix}[{' '.join(words)}]", field


def _item_words(message: AttributeProto, field: str, style: Style) -> list[str] | None:
    match message.type:
        case AttributeProto.INTS:
            return [str(value) for value in message.ints]
        case AttributeProto.FLOATS:
            return _float_words(message, field, style)
        case AttributeProto.STRINGS:
            return [string_text(value, style.full) for value in message.strings]
        case AttributeProto.TENSORS:
            return [tensor_text(value, ProtoTensor(value), style) for value in message.tensors]
        case AttributeProto.SPARSE_TENSORS:
            return [sparse_text(value, style) for value in message.sparse_tensors]
        case AttributeProto.TYPE_PROTOS:
            return [type_text(value) for value in message.type_protos]
        case _:
            return None


def _float_words(message: AttributeProto, field: str, style: Style) -> list[str]:
    return float_words(field_patterns(message, field), TensorProto.FLOAT, style.full)


def read_attribute(lexer: Lexer, target: AttributeProto, find: Find, read_graph: ReadGraph) -> None:
    """Take `name=value` into `target`; graphs by `read_graph`."""
    target.name = lexer.word("the name of an attribute")
    read_value(lexer, target, find, read_graph)


def read_value(lexer: Lexer, target: AttributeProto, find: Find, read_graph: ReadGraph) -> None:
    """Take what follows the name of an attribute, from the equals sign on."""
    read_inline(lexer, target)
    lexer.expect("=", "after the name of an attribute")
    token = lexer.token
    if lexer.accept("("):
        target.type = _read_kind(lexer)
        lexer.expect(")")
    elif token.kind == "number":
        _set_number(lexer, target, lexer.take())
    elif token.kind in ("string", "bytes"):
        target.type, target.s = AttributeProto.STRING, lexer.string_bytes()
    elif lexer.at("["):
        _read_self_evident(lexer, target)
    elif token.text in _KINDS:
        target.type = _read_kind(lexer)
        _read_of_kind(lexer, target, find, read_graph)
    else:
        target.type = AttributeProto.TENSOR
        read_tensor(lexer, target.t, find)


def _read_kind(lexer: Lexer) -> AttributeProto.AttributeType:
    if not lexer.at(*_KINDS):
        raise lexer.error(f"a kind of attribute is expected: {', '.join(_KINDS)}")
    return _KINDS[lexer.take().text]


def _set_number(lexer: Lexer, target: AttributeProto, token: Token) -> None:
    if is_integer(token):
        target.type, target.i = AttributeProto.INT, lexer.integer_of(token, "an attribute")
    else:
        target.type = AttributeProto.FLOAT
        set_field(target, "f", [float_of(lexer, token, TensorProto.FLOAT)])


def _read_self_evident(lexer: Lexer, target: AttributeProto) -> None:
    """A list without a word before it: strings, whole numbers, or floats (if one has a point or an exponent)."""
    opening = lexer.take()
    strings: list[bytes] = []
    numbers: list[Token] = []
    while lexer.token.kind in ("string", "bytes"):
        strings.append(lexer.string_bytes())
    while lexer.token.kind == "number" and not strings:
        numbers.append(lexer.take())
    if lexer.at("]") and not numbers and not strings:
        raise lexer.error("an empty list says of what: ints [], floats [] or strings []", opening)
    lexer.expect("]", "after strings or numbers")
    if strings:
        target.type = AttributeProto.STRINGS
        target.strings.extend(strings)
    elif all(map(is_integer, numbers)):
        target.type = AttributeProto.INTS
        target.ints.extend([lexer.integer_of(token, "an attribute") for token in numbers])
    else:
        target.type = AttributeProto.FLOATS
        set_field(target, "floats", [float_of(lexer, token, TensorProto.FLOAT) for token in numbers])


def _read_of_kind(lexer: Lexer, target: AttributeProto, find: Find, read_graph: ReadGraph) -> None:
    """What follows the word for a kind: a value, or the attribute of a function that is read."""
    if lexer.token.kind == "ref":
        target.ref_attr_name = lexer.name("ref", "the name of an attribute")
        return
    match target.type:
        case AttributeProto.GRAPH:
            read_graph(target.g)
        case AttributeProto.SPARSE_TENSOR:
            read_sparse(lexer, target.sparse_tensor, find)
        case AttributeProto.TYPE_PROTO:
            read_type(lexer, target.tp)
        case _:
            _read_list(lexer, target, find, read_graph)


def _read_list(lexer: Lexer, target: AttributeProto, find: Find, read_graph: ReadGraph) -> None:
    read: dict[int, Callable[[], None]] = {
        AttributeProto.INTS: lambda: target.ints.append(lexer.integer("an attribute")),
        AttributeProto.FLOATS: lambda: set_field(target, "floats", [read_float(lexer, TensorProto.FLOAT)]),
        AttributeProto.STRINGS: lambda: target.strings.append(lexer.string_bytes()),
        AttributeProto.TENSORS: lambda: read_tensor(lexer, target.tensors.add(), find),
        AttributeProto.SPARSE_TENSORS: lambda: read_sparse(lexer, target.sparse_tensors.add(), find),
        AttributeProto.TYPE_PROTOS: lambda: read_type(lexer, target.type_protos.add()),
        AttributeProto.GRAPHS: lambda: read_graph(target.graphs.add()),
    }
    if target.type not in read:
        raise lexer.error("'$' and the name of an attribute of the function are expected")
    if not lexer.at("["):
        raise lexer.error("'[' is expected")
    for _ in lexer.items():
        read[target.type]()
