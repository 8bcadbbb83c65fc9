"""Tensors: `f32[2,3] [0x1p+0 ...]`, inline where small, by digest where large, by reference where external.

A word before the elements names the field that stores them, where it is not the usual one: `i8[2] int32_data [1 2]`.
"""

from __future__ import annotations

from dataclasses import dataclass

from onnx import SparseTensorProto, TensorProto

from ..dtypes import bits_of
from ..proto.emit import as_is, shell
from ..tensor import DerivedTensor, ExternalTensor, ProtoTensor, Tensor
from .digests import FIELDS, Find, Keep, copy_data, digest_of, message_of, stored_fields, usual_field
from .elements import element_words, read_elements
from .extras import are_plain, entry_text, extras, inline, read_entry, read_inline
from .lexer import Lexer
from .types import read_dtype, short_name
from .words import name_text

_INLINE = 64
_INLINE_FOR_PEOPLE = 8
_EXTERNAL = ("data_location", "external_data")


@dataclass(frozen=True)
class Style:
    """How to print: in full or for people; `keep` is told of each tensor that the text holds by digest alone."""

    full: bool
    keep: Keep | None = None

    def shows(self, tensor: Tensor) -> bool:
        """Whether the elements of a tensor stand in the text."""
        if self.full:
            return tensor.size <= _INLINE
        return tensor.size <= _INLINE_FOR_PEOPLE and not isinstance(tensor, DerivedTensor)

    def emit(self, tensor: Tensor, name: str) -> TensorProto:
        """The message of a tensor, without data that the text does not show: nothing large is copied or computed."""
        if isinstance(tensor, ExternalTensor) or self.shows(tensor):
            return as_is(tensor, name)
        outline = TensorProto(name=name, data_type=tensor.dtype, dims=tensor.shape)
        if isinstance(tensor, ProtoTensor):
            outline.MergeFrom(shell(tensor.proto, (*FIELDS, "name", "data_type", "dims")))
        return outline


def tensor_text(message: TensorProto, tensor: Tensor, style: Style, name: str = "") -> str:
    """A tensor; `message` is what the style emits for it, `name` the name that goes without saying."""
    payload, written = _payload(message, tensor, style)
    words = [f"{short_name(message.data_type)}[{','.join(map(str, message.dims))}]", payload]
    if message.name != name:
        words.append(f"@{name_text(message.name)}")
    clauses = extras(message, ("data_type", "dims", "name", *written)) if style.full else []
    return " ".join(words) + inline(clauses)


def _payload(message: TensorProto, tensor: Tensor, style: Style) -> tuple[str, tuple[str, ...]]:
    """The text of the data, and the fields that it stands for."""
    if message.data_location == TensorProto.EXTERNAL and are_plain(message.external_data):
        return f"external {{{' '.join(map(entry_text, message.external_data))}}}", _EXTERNAL
    if not style.shows(tensor):
        return (_by_digest(message_of(tensor), style) if style.full else "..."), FIELDS
    fields = stored_fields(message)
    if not fields:
        return ("none" if tensor.size or not bits_of(message.data_type) else "[]"), FIELDS
    words = element_words(message, fields[0], style.full) if len(fields) == 1 else None
    if words is None:
        return ("none" if style.full else "..."), ()
    text = words[0] if len(words) == 1 and not message.dims else f"[{' '.join(words)}]"
    return (_mark(message, fields) if style.full else "") + text, FIELDS


def _by_digest(source: TensorProto, style: Style) -> str:
    fields = stored_fields(source)
    if not fields:
        return "none"
    digest = digest_of(source)
    if style.keep is not None:
        style.keep(digest, source)
    return f"{_mark(source, fields)}sha256:{digest}"


def _mark(message: TensorProto, fields: list[str]) -> str:
    """The field that stores the data, where it is a single one and not the usual one."""
    return "" if len(fields) != 1 or fields[0] == usual_field(message.data_type) else f"{fields[0]} "


def read_tensor(lexer: Lexer, target: TensorProto, find: Find) -> None:
    """Take a tensor into `target`; `find` gives the data of those that stand there by digest."""
    target.data_type = read_dtype(lexer)
    _read_dims(lexer, target)
    if lexer.accept("external"):
        _read_external(lexer, target)
    elif not lexer.accept("none"):
        _read_data(lexer, target, find)
    if lexer.token.kind == "label":
        target.name = lexer.name("label", "a name")
    read_inline(lexer, target)


def _read_dims(lexer: Lexer, target: TensorProto | SparseTensorProto) -> None:
    if not lexer.at("["):
        raise lexer.error("'[' and a shape are expected")
    target.dims.extend([lexer.integer("a dimension") for _ in lexer.items()])


def _read_external(lexer: Lexer, target: TensorProto) -> None:
    target.data_location = TensorProto.EXTERNAL
    lexer.expect("{")
    while not lexer.accept("}"):
        read_entry(lexer, target.external_data.add())


def _read_data(lexer: Lexer, target: TensorProto, find: Find) -> None:
    field = lexer.take().text if lexer.at(*FIELDS) else usual_field(target.data_type)
    if lexer.token.kind != "digest":
        read_elements(lexer, target, field)
        return
    token = lexer.take()
    found = find(token.text.removeprefix("sha256:"))
    if found is None:
        raise lexer.error(f"the weights given hold no tensor {token.text}", token)
    fields = stored_fields(found)
    if (found.data_type, found.dims) != (target.data_type, target.dims) or (len(fields) == 1 and fields != [field]):
        has = f"{short_name(found.data_type)}{list(found.dims)} {_mark(found, fields)}"
        raise lexer.error(f"the tensor of this digest is {has.rstrip()}", token)
    copy_data(found, target)


def sparse_text(message: SparseTensorProto, style: Style, name: str = "") -> str:
    """A sparse tensor: its shape, its values (whose name `name` goes without saying), and where they stand."""
    clauses = extras(message, ("dims", "values", "indices")) if style.full else []
    words = [f"[{','.join(map(str, message.dims))}]{inline(clauses)}"]
    if message.HasField("values"):
        words.append(f"values {tensor_text(message.values, ProtoTensor(message.values), style, name)}")
    if message.HasField("indices"):
        words.append(f"indices {tensor_text(message.indices, ProtoTensor(message.indices), style)}")
    return " ".join(words)


def read_sparse(lexer: Lexer, target: SparseTensorProto, find: Find) -> None:
    """Take a sparse tensor into `target`."""
    _read_dims(lexer, target)
    read_inline(lexer, target)
    if lexer.accept("values"):
        read_tensor(lexer, target.values, find)
    if lexer.accept("indices"):
        read_tensor(lexer, target.indices, find)
