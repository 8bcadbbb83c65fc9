"""Protobuf text for what the text form has no words for: `{...}` on one line, or base64 where that would lose a bit."""

from __future__ import annotations

from base64 import b64decode, b64encode

from google.protobuf import text_format
from google.protobuf.message import DecodeError, Message

from .lexer import Lexer


def verbatim_text(message: Message) -> str:
    """A message as text that `read_verbatim` makes into the same message."""
    text = text_format.MessageToString(message, as_one_line=True)
    try:
        back = text_format.Parse(text, type(message)())
    except text_format.ParseError:
        return _base64(message)
    same = back.SerializeToString(deterministic=True) == message.SerializeToString(deterministic=True)
    return f"{{ {text} }}" if same else _base64(message)


def read_verbatim(lexer: Lexer, target: Message) -> None:
    """Take a message and merge it into `target`."""
    token, made = lexer.token, type(target)()
    if token.kind == "string":
        try:
            made.ParseFromString(b64decode(lexer.string("base64"), validate=True))
        except (DecodeError, ValueError) as error:
            raise lexer.error(f"this is no {made.DESCRIPTOR.name} in base64", token) from error
    else:
        text, token = lexer.verbatim()
        try:
            text_format.Parse(text, made)
        except (text_format.ParseError, ValueError) as error:
            reason = str(error).partition(" : ")[2] or str(error)
            raise lexer.error(f"this is no {made.DESCRIPTOR.name}: {reason}", token) from error
    target.MergeFrom(made)


def _base64(message: Message) -> str:
    return f'"{b64encode(message.SerializeToString(deterministic=True)).decode()}"'
