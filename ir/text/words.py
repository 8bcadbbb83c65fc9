"""Names and strings as they stand in the text: bare where they are plain, else quoted and escaped, on one line."""

from __future__ import annotations

import re

from ...errors import UserError

WORD = r"[A-Za-z_][A-Za-z0-9_.-]*"
NAME = r"[A-Za-z0-9_./$-](?:[A-Za-z0-9_./:$-]*[A-Za-z0-9_./$-])?"
_WORD = re.compile(WORD)
_NAME = re.compile(NAME)
_LONGEST = 40
_PLAIN = re.compile(r"[ !#-\[\]-~]*")
_RESERVED = ("_", "inf", "nan")
_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|x([0-9a-fA-F]{2})|(.))")
_CONTROL = {"\\": "\\", '"': '"', "\n": "n", "\r": "r", "\t": "t"}
_CONTROL_OF = {letter: char for char, letter in _CONTROL.items()}


def name_text(name: str) -> str:
    """A name behind a sigil (`%`, `@`, `$`)."""
    return name if _NAME.fullmatch(utf8(name)) else quoted(name)


def word_text(word: str) -> str:
    """The name of an operator, domain, graph, attribute or dimension."""
    return word if _WORD.fullmatch(utf8(word)) and word not in _RESERVED else quoted(word)


def string_text(value: bytes, full: bool = True) -> str:
    """A byte string: as text where it is UTF-8, else as `b"..."`; cut short if not `full`."""
    if not full:
        return cut(string_text(value))
    try:
        return quoted(value.decode())
    except UnicodeDecodeError:
        return 'b"' + "".join(_escaped_byte(byte) for byte in value) + '"'


def quoted(text: str) -> str:
    """A string in double quotes."""
    if _PLAIN.fullmatch(text):
        return f'"{text}"'
    return '"' + "".join(map(_escaped, text)) + '"'


def cut(text: str) -> str:
    """A text cut short where it is too long for people."""
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def utf8(name: str) -> str:
    """The name itself. Protobuf hands out one that is not UTF-8 as bytes: that has no text form, so UserError."""
    if isinstance(name, bytes):
        raise UserError(f"the name {name!r} is not UTF-8: a model with it cannot be written as text")
    return name


def unquoted(body: str) -> str:
    """The string between the quotes of `quoted`. Raises ValueError on an escape that is none."""
    return _ESCAPE.sub(_character, body) if "\\" in body else body


def unquoted_bytes(body: str) -> bytes:
    """The bytes between the quotes of `b"..."`. Raises ValueError on a character or escape that is no byte."""
    if not body.isascii():
        raise ValueError("a byte string is written in ASCII and \\xNN")
    return _ESCAPE.sub(_byte, body).encode("latin-1")


def _escaped(char: str) -> str:
    if char in _CONTROL:
        return "\\" + _CONTROL[char]
    if char.isprintable():
        return char
    return f"\\u{ord(char):04x}" if ord(char) < 0x10000 else f"\\U{ord(char):08x}"


def _escaped_byte(byte: int) -> str:
    char = chr(byte)
    return _escaped(char) if char in _CONTROL or 0x20 <= byte < 0x7F else f"\\x{byte:02x}"


def _character(match: re.Match[str]) -> str:
    short, long, byte, letter = match.groups()
    if letter in _CONTROL_OF:
        return _CONTROL_OF[letter]
    code = int(short or long or "-1", 16)
    if byte or letter or not 0 <= code < 0x110000 or 0xD800 <= code < 0xE000:
        raise ValueError(f"{match.group()!r} is no escape of a string")
    return chr(code)


def _byte(match: re.Match[str]) -> str:
    _, _, byte, letter = match.groups()
    if letter in _CONTROL_OF:
        return _CONTROL_OF[letter]
    if not byte:
        raise ValueError(f"{match.group()!r} is no escape of a byte string")
    return chr(int(byte, 16))
