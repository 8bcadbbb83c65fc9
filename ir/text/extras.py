"""What a message may carry beside its main facts: `doc "..."`, `meta "key" = "value"`, and `extra {...}` for the rest.

`extra` holds, as protobuf text, every field that the caller has not written itself. So nothing can get lost, and the
grammar has words for the usual only.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from google.protobuf.unknown_fields import UnknownFieldSet

from .lexer import Lexer
from .verbatim import read_verbatim, verbatim_text
from .words import quoted

_WORDS = ("doc", "meta", "extra")


def extras(message: Any, written: Collection[str]) -> list[str]:
    """The clauses for all fields of `message` but those in `written`; fields that hold their default are left out."""
    clauses: list[str] = []
    rest: list[str] = []
    for field, value in message.ListFields():
        if field.name in written:
            continue
        if field.name == "doc_string" and isinstance(value, str):
            clauses += [f"doc {quoted(value)}"] if value else []
        elif field.name == "metadata_props" and are_plain(value):
            clauses += [f"meta {entry_text(entry)}" for entry in value]
        elif field.is_repeated or field.message_type is not None or value != field.default_value:
            rest.append(field.name)
    if rest or len(UnknownFieldSet(message)):
        clauses.append(f"extra {verbatim_text(_only(message, rest))}")
    return clauses


def inline(clauses: list[str]) -> str:
    """The clauses in parentheses, after a space; empty if there are none."""
    return f" ({' '.join(clauses)})" if clauses else ""


def read_extras(lexer: Lexer, target: Any) -> None:
    """Take all clauses that come next into `target`."""
    while lexer.at(*_WORDS):
        token = lexer.take()
        fields = target.DESCRIPTOR.fields_by_name
        if token.text == "extra":
            read_verbatim(lexer, target)
        elif token.text == "doc" and "doc_string" in fields:
            target.doc_string = lexer.string("a doc string")
        elif token.text == "meta" and "metadata_props" in fields:
            read_entry(lexer, target.metadata_props.add())
        else:
            raise lexer.error(f"a {target.DESCRIPTOR.name} has no {token.text!r}", token)


def read_inline(lexer: Lexer, target: Any) -> None:
    """Take clauses in parentheses into `target`, if they come next."""
    if lexer.accept("("):
        read_extras(lexer, target)
        lexer.expect(")")


def are_plain(entries: Any) -> bool:
    """Whether entries of key and value are no more than that, in UTF-8."""
    return all(
        isinstance(entry.key, str) and isinstance(entry.value, str) and not len(UnknownFieldSet(entry))
        for entry in entries
    )


def entry_text(entry: Any) -> str:
    """`"key" = "value"`."""
    return f"{quoted(entry.key)} = {quoted(entry.value)}"


def read_entry(lexer: Lexer, target: Any) -> None:
    """Take `"key" = "value"`."""
    target.key = lexer.string("a key")
    lexer.expect("=")
    target.value = lexer.string("a value")


def _only(message: Any, kept: list[str]) -> Any:
    """A copy of a message with some of its fields, and those that this version of onnx does not know."""
    copy = type(message)()
    copy.CopyFrom(message)
    for field, _ in message.ListFields():
        if field.name not in kept:
            copy.ClearField(field.name)
    return copy
