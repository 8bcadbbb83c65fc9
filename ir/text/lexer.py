"""Tokens of the text form, one ahead, and mistakes shown with their place. Commas count as blanks."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple, TypeVar

from ...errors import UserError
from .words import NAME, WORD, unquoted, unquoted_bytes

_DEEPEST = 64
_MOST_DIGITS = 24
_WIDTH = 100
_STRING = r'"[^"\\\n]*(?:\\.[^"\\\n]*)*"'
_HEXADECIMAL = r"0x[0-9a-f]+(?:\.[0-9a-f]*)?(?:p[+-]?\d+)?"
_DECIMAL = r"\d+(?:\.\d*)?(?:e[+-]?\d+)?"
_TOKEN = re.compile(
    rf"""(?:[\s,]+|\#[^\n]*)*
       (?:(?P<value>%(?:{NAME}|{_STRING}))
       | (?P<label>@(?:{NAME}|{_STRING}))
       | (?P<ref>\$(?:{NAME}|{_STRING}))
       | (?P<bytes>b{_STRING})
       | (?P<string>{_STRING})
       | (?P<digest>sha256:[0-9a-f]{{64}}(?![0-9A-Za-z]))
       | (?P<number>-?(?:{_HEXADECIMAL}|{_DECIMAL}|(?:inf|nan)(?![A-Za-z0-9_.-])))
       | (?P<word>{WORD})
       | (?P<mark>\.\.\.|::|[{{}}()\[\]=:?]))?""",
    re.VERBOSE | re.ASCII,
)
_VERBATIM = re.compile(r"""[^{}"']+|"[^"\\\n]*(?:\\.[^"\\\n]*)*"|'[^'\\\n]*(?:\\.[^'\\\n]*)*'|[{}]""")
_T = TypeVar("_T")


class TextError(UserError):
    """A text is no model: says what is wrong, then the line with a caret under the place."""


class Token(NamedTuple):
    """A piece of the text. `kind` is a group of the grammar above, or `end`; `start` and `end` are offsets."""

    kind: str
    text: str
    start: int
    end: int


class Lexer:
    """Reads a text token by token; `token` is the one not yet taken."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._depth = 0
        self.token = Token("unknown", "", 0, 0)
        self._check_characters()
        self.token = self._scan(0)

    def take(self) -> Token:
        """Take the next token, whatever it is."""
        token = self.token
        self.token = self._scan(token.end)
        return token

    def at(self, *texts: str) -> bool:
        """Whether the next token is one of these marks or words."""
        return self.token.text in texts and self.token.kind in ("mark", "word")

    def accept(self, text: str) -> bool:
        """Take the mark or word `text` if it comes next."""
        if self.at(text):
            self.take()
            return True
        return False

    def expect(self, text: str, where: str = "") -> Token:
        """Take the mark or word `text`, which must come next."""
        if not self.at(text):
            raise self.error(f"{text!r} is expected{where and ' '}{where}")
        return self.take()

    def expect_kind(self, kind: str, what: str) -> Token:
        """Take a token of a kind, which must come next; `what` says what it is for."""
        if self.token.kind != kind:
            raise self.error(f"{what} is expected")
        return self.take()

    def string(self, what: str) -> str:
        """Take a quoted string."""
        return self._plain(self.expect_kind("string", f"{what} in quotes"))

    def word(self, what: str) -> str:
        """Take a bare word or a quoted string."""
        if self.token.kind == "word" and self.token.text != "_":
            return self.take().text
        return self._plain(self.expect_kind("string", what))

    def name(self, sigil: str, what: str) -> str:
        """Take a name behind `%` (kind value), `@` (label) or `$` (ref)."""
        return self._plain(self.expect_kind(sigil, what), 1)

    def string_bytes(self) -> bytes:
        """Take a string or byte string, as bytes."""
        if self.token.kind == "bytes":
            token = self.take()
            return self.checked(lambda: unquoted_bytes(token.text[2:-1]), token)
        return self.string("a string").encode()

    def integer(self, what: str, low: int = -(2**63), high: int = 2**63 - 1) -> int:
        """Take a decimal integer in `[low, high]`."""
        return self.integer_of(self.expect_kind("number", what), what, low, high)

    def integer_of(self, token: Token, what: str, low: int = -(2**63), high: int = 2**63 - 1) -> int:
        """The decimal integer in `[low, high]` that a token already taken stands for."""
        if not is_integer(token) or len(token.text) > _MOST_DIGITS or not low <= int(token.text) <= high:
            raise self.error(f"{what} is a whole number from {low} to {high}", token)
        return int(token.text)

    def items(self) -> Iterator[None]:
        """Once for each item of `[...]`, which the caller takes; once for an item without brackets."""
        if not self.accept("["):
            yield
            return
        while not self.accept("]"):
            yield

    def verbatim(self) -> tuple[str, Token]:
        """Take a block in braces as it stands: what is inside, and its first token."""
        first, depth = self.token, 0
        if not self.at("{"):
            raise self.error("'{' is expected")
        for match in _VERBATIM.finditer(self.text, first.start):
            depth += (match.group() == "{") - (match.group() == "}")
            if depth > _DEEPEST:
                raise self.error("braces are nested too deep", first)
            if depth == 0:
                self.token = self._scan(match.end())
                return self.text[first.end : match.start()], first
        raise self.error("this '{' is never closed", first)

    @contextmanager
    def nested(self) -> Iterator[None]:
        """One level deeper in the grammar: bounded, so that no text exhausts the stack."""
        self._depth += 1
        if self._depth > _DEEPEST:
            raise self.error(f"nested more than {_DEEPEST} deep")
        yield
        self._depth -= 1

    def checked(self, compute: Callable[[], _T], token: Token) -> _T:
        """The result of `compute`; its ValueError becomes a mistake at `token`."""
        try:
            return compute()
        except ValueError as error:
            raise self.error(str(error), token) from error

    def error(self, problem: str, token: Token | None = None) -> TextError:
        """The mistake `problem` at `token` (the next one by default), ready to be raised."""
        if token is None and self.token.text == "...":
            problem = "something was left out here; a model printed in full has it"
        start = (token or self.token).start
        row = self.text.count("\n", 0, start) + 1
        left = self.text.rfind("\n", 0, start) + 1
        right = self.text.find("\n", start)
        line = self.text[left : right if right >= 0 else len(self.text)]
        shown = _under_caret(line, start - left)
        return TextError(f"line {row}, column {start - left + 1}: {problem}\n{shown}")

    def _check_characters(self) -> None:
        try:
            self.text.encode()
        except UnicodeEncodeError as error:
            where = Token("unknown", "", error.start, error.end)
            raise self.error("half of a surrogate pair is no character", where) from error

    def _scan(self, position: int) -> Token:
        match = _TOKEN.match(self.text, position)
        assert match is not None  # blanks and a token may both be missing
        kind = match.lastgroup
        if kind is not None:
            return Token(kind, match[kind], match.start(kind), match.end())
        start = match.end()
        return Token("unknown" if start < len(self.text) else "end", self.text[start : start + 1], start, start)

    def _plain(self, token: Token, sigil: int = 0) -> str:
        """The string or name that a token stands for."""
        body = token.text[sigil:]
        return self.checked(lambda: unquoted(body[1:-1]), token) if body.startswith('"') else body


def is_integer(token: Token) -> bool:
    """Whether a number is written as a decimal integer."""
    return token.kind == "number" and token.text.lstrip("-").isdigit()


def _under_caret(line: str, column: int) -> str:
    """The part of `line` around `column`, and a caret under it."""
    left = max(0, column - _WIDTH // 2)
    shown = "".join(char if char.isprintable() else " " for char in line[left : left + _WIDTH])
    return f"  {shown}\n  {' ' * (column - left)}^"
