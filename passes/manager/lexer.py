"""Pipeline text to tokens. Nothing here guesses a type: `1e-3` and `true` are words like any other."""

from __future__ import annotations

import re
from typing import NamedTuple

from .mistakes import mistake, quoted

PUNCTUATION = ",=(){}[]"
_STRING = re.compile(r'"(?:[^"\\\n]|\\[^\n])*"')
_COMMENT = re.compile(r"#[^\r\n]*")


class Token(NamedTuple):
    """A piece of the text. `kind` is "word", "string", "end", or the punctuation mark itself."""

    kind: str
    text: str
    """A word as written, the characters that a string stands for, or the mark."""
    start: int
    end: int
    spaced: bool
    """Whether white space, a comment or the beginning of the text comes before it."""


def is_word(text: str) -> bool:
    """Whether `text` can stand bare; if not it must be written as a JSON string."""
    return bool(text) and all(map(_in_word, text))


def show_text(text: str) -> str:
    """`text` as a bare word if it can be one, else as a JSON string with only printable characters."""
    if is_word(text):
        return str.__str__(text)
    import json  # only strings need it

    return '"' + "".join(json.dumps(c, ensure_ascii=not c.isprintable())[1:-1] for c in text) + '"'


def tokenize(text: str) -> list[Token]:
    """The tokens of `text`, the last of kind "end"; PipelineError at the first character that begins none."""
    tokens: list[Token] = []
    end = 0
    while not tokens or tokens[-1].kind != "end":
        start = _skip_blank(text, end)
        kind, content, end_of_token = _scan(text, start)
        tokens.append(Token(kind, content, start, end_of_token, spaced=start > end or start == 0))
        end = end_of_token
    return tokens


def _in_word(c: str) -> bool:
    return c.isprintable() and not c.isspace() and c not in '"#' and c not in PUNCTUATION


def _skip_blank(text: str, at: int) -> int:
    while at < len(text):
        if comment := _COMMENT.match(text, at):
            at = comment.end()
        elif text[at].isspace():
            at += 1
        else:
            break
    return at


def _scan(text: str, start: int) -> tuple[str, str, int]:
    """Kind, content and end of the token at `start`."""
    if start == len(text):
        return "end", "", start
    first = text[start]
    if first in PUNCTUATION:
        return first, first, start + 1
    if first == '"':
        return _scan_string(text, start)
    if _in_word(first):
        return _scan_word(text, start)
    raise mistake(f"unexpected character U+{ord(first):04X}", text, start, start + 1)


def _scan_word(text: str, start: int) -> tuple[str, str, int]:
    end = start
    while end < len(text) and _in_word(text[end]):
        end += 1
    if text[end : end + 1] == "#":
        note = "a comment begins after white space; a word with '#' must be quoted"
        raise mistake("unexpected '#' in a word", text, end, end + 1, note)
    return "word", text[start:end], end


def _scan_string(text: str, start: int) -> tuple[str, str, int]:
    match = _STRING.match(text, start)
    if not match:
        note = r"a string ends on its line; a line break in it is written \n, a quote \""
        raise mistake("the string is never closed", text, start, start + 1, note)
    import json  # only strings need it

    try:
        content: str = json.loads(match[0])
    except json.JSONDecodeError as error:
        place = min(start + error.pos, match.end() - 1)
        note = r"strings are JSON strings: a backslash is written \\, a tab \t"
        raise mistake(f"{quoted(text[place])} is not allowed here in a string", text, place, place + 1, note) from None
    return "string", content, match.end()
