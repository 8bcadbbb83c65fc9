"""Types: `f32[batch,3,?]`, `f32[...]` of unknown rank, `seq(T)`, `optional(T)`, `map(i64,T)`, `sparse(f32[3])`.

What this cannot say (denotations, opaque types) stands as protobuf text: `proto {...}`.
"""

from __future__ import annotations

from functools import cache, lru_cache
from typing import Any

from onnx import TensorProto, TypeProto

from ..dtypes import name_of
from .lexer import Lexer, Token
from .verbatim import read_verbatim, verbatim_text
from .words import cut, word_text

_RENAMED = {"float": "f32", "double": "f64", "bfloat16": "bf16", "string": "str", "undefined": "untyped"}
_PREFIXES = (("uint", "u"), ("int", "i"), ("float", "f"), ("complex", "c"))


@cache
def short_name(dtype: int) -> str:
    """The short name of an element type: `f32`, `bf16`, `u8`, `i4`, `f8e4m3fn`, `bool`, `str`."""
    name = name_of(dtype)
    if name in _RENAMED:
        return _RENAMED[name]
    return next((short + name[len(long) :] for long, short in _PREFIXES if name.startswith(long)), name)


@cache
def _short_names() -> dict[str, int]:
    return {short_name(dtype): dtype for dtype in TensorProto.DataType.values()}


def read_dtype(lexer: Lexer) -> int:
    """Take an element type."""
    token = lexer.expect_kind("word", "an element type such as f32")
    dtype = _short_names().get(token.text)
    if dtype is not None:
        return dtype
    number = token.text.removeprefix("dtype")
    if number != token.text and number.lstrip("-").isdigit() and len(number) <= 11 and abs(int(number)) < 2**31:
        return int(number)
    raise lexer.error(f"{token.text!r} is no element type (f32, f16, i64, u8, bool, str, ...)", token)


def type_text(type_: TypeProto, full: bool = True) -> str:
    """A type in short form; if `full`, as protobuf text where the short form would lose something."""
    return (not full and _short(type_, False)) or _type_text(type_.SerializeToString(deterministic=True))


@lru_cache(maxsize=4096)
def _type_text(wire: bytes) -> str:
    source, made = TypeProto.FromString(wire), TypeProto()
    text = _short(source, True)
    if text:
        read_type(Lexer(text), made)
    return text if text and made.SerializeToString(deterministic=True) == wire else f"proto {verbatim_text(source)}"


def _short(type_: TypeProto, full: bool) -> str:
    """The short form; empty if there is none. Names of dimensions are cut short unless `full`."""
    match type_.WhichOneof("value"):
        case "tensor_type":
            return _tensor_type_text(type_.tensor_type, full)
        case "sparse_tensor_type":
            return f"sparse({_tensor_type_text(type_.sparse_tensor_type, full)})"
        case "sequence_type":
            return _around("seq", _short(type_.sequence_type.elem_type, full))
        case "optional_type":
            return _around("optional", _short(type_.optional_type.elem_type, full))
        case "map_type":
            key = short_name(type_.map_type.key_type)
            return _around("map", _short(type_.map_type.value_type, full), f"{key},")
        case _:
            return ""


def _around(kind: str, inner: str, before: str = "") -> str:
    return f"{kind}({before}{inner})" if inner else ""


def _tensor_type_text(type_: Any, full: bool) -> str:
    if not type_.HasField("shape"):
        return f"{short_name(type_.elem_type)}[...]"
    return f"{short_name(type_.elem_type)}[{','.join(_dim_text(dim, full) for dim in type_.shape.dim)}]"


def _dim_text(dim: Any, full: bool) -> str:
    match dim.WhichOneof("value"):
        case "dim_value":
            return str(dim.dim_value)
        case "dim_param":
            return word_text(dim.dim_param) if full else cut(word_text(dim.dim_param))
        case _:
            return "?"


def read_type(lexer: Lexer, target: TypeProto) -> None:
    """Take a type into `target`."""
    with lexer.nested():
        if lexer.accept("proto"):
            read_verbatim(lexer, target)
        elif not _read_container(lexer, lexer.token, target):
            _read_tensor_type(lexer, target.tensor_type)


def _read_container(lexer: Lexer, token: Token, target: TypeProto) -> bool:
    if not lexer.at("seq", "optional", "map", "sparse"):
        return False
    lexer.take()
    lexer.expect("(")
    match token.text:
        case "seq":
            read_type(lexer, target.sequence_type.elem_type)
        case "optional":
            read_type(lexer, target.optional_type.elem_type)
        case "map":
            target.map_type.key_type = read_dtype(lexer)
            read_type(lexer, target.map_type.value_type)
        case _:
            _read_tensor_type(lexer, target.sparse_tensor_type)
    lexer.expect(")")
    return True


def _read_tensor_type(lexer: Lexer, target: Any) -> None:
    target.elem_type = read_dtype(lexer)
    lexer.expect("[", "after an element type")
    if lexer.accept("..."):
        lexer.expect("]")
        return
    target.shape.SetInParent()
    while not lexer.accept("]"):
        dim = target.shape.dim.add()
        if lexer.token.kind == "number":
            dim.dim_value = lexer.integer("a dimension")
        elif not lexer.accept("?"):
            dim.dim_param = lexer.word("a dimension, a name or '?'")
