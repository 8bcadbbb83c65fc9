"""Tokens to a tree of items, options and raw values; knows the grammar of `specs/pipeline.md` and no pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeAlias, TypeVar

from .lexer import Token, tokenize
from .mistakes import PipelineError, mistake, quoted

_ORDER_NOTE = "an item is written name{options}(pipeline), in this order"
_QUOTE_NOTE = 'a value with white space or any of , = ( ) { } [ ] " # is written in double quotes'

MAX_DEPTH = 100
"""How deep parentheses may nest, and lists too."""

T = TypeVar("T")


class Word(NamedTuple):
    """A bare word, or a string if `quoted`, at `[start, end)` of the text."""

    text: str
    start: int
    end: int
    quoted: bool = False


class ListText(NamedTuple):
    """`[...]`, brackets included, at `[start, end)` of the text."""

    items: tuple[RawValue, ...]
    start: int
    end: int


RawValue: TypeAlias = Word | ListText


class OptionText(NamedTuple):
    """`key` or `key=value`."""

    key: Word
    value: RawValue | None


class Item(NamedTuple):
    """`name{options}(inside)`; `inside` is None where there are no parentheses, which begin at `opening`."""

    name: Word
    options: tuple[OptionText, ...]
    inside: tuple[Item, ...] | None
    opening: int


def read_items(text: str) -> tuple[Item, ...]:
    """The items of a pipeline text; PipelineError if it does not follow the grammar."""
    tokens = tokenize(text)
    _check_depth(text, tokens)
    return _Reader(text, tokens).items(None)


def _check_depth(text: str, tokens: list[Token]) -> None:
    for opener, closer in ("()", "[]"):
        depth = 0
        for token in tokens:
            depth += (token.kind == opener) - (token.kind == closer)
            if depth > MAX_DEPTH:
                raise mistake(f"brackets nest deeper than {MAX_DEPTH} levels", text, token.start, token.end)


class _Reader:
    """A recursive-descent reader, one method for each rule of the grammar."""

    def __init__(self, text: str, tokens: list[Token]) -> None:
        self._text = text
        self._tokens = tokens
        self._at = 0

    def items(self, opening: Token | None) -> tuple[Item, ...]:
        """Items up to the end of the text, or up to the `)` that closes `opening`."""
        closer = ")" if opening else "end"
        items: list[Item] = []
        if self._next.kind not in (closer, "end"):
            items.append(self._item())
        while items and self._next.kind == ",":
            comma = self._take()
            if self._next.kind in (closer, "end"):
                raise self._wrong("trailing comma: nothing follows it", comma)
            items.append(self._item())
        self._close(opening, closer)
        return tuple(items)

    def _item(self) -> Item:
        name = self._word("the name of a pass", _ORDER_NOTE)
        options = self._sequence("}", self._option) if self._next.kind == "{" else ()
        opening = self._next
        inside = self.items(self._take()) if opening.kind == "(" else None
        return Item(name, options, inside, opening.start)

    def _option(self) -> OptionText:
        key = self._word("the name of an option", _QUOTE_NOTE)
        if self._next.kind != "=":
            return OptionText(key, None)
        self._take()
        return OptionText(key, self._value())

    def _value(self) -> RawValue:
        start = self._next.start
        if self._next.kind == "[":
            items = self._sequence("]", self._element)
            return ListText(items, start, self._tokens[self._at - 1].end)
        if self._next.kind not in ("word", "string"):
            raise self._expected("a value", _QUOTE_NOTE)
        token = self._take()
        return Word(token.text, token.start, token.end, quoted=token.kind == "string")

    def _element(self) -> RawValue:
        """A value in a list, where `x=1` without white space is one word: no key can stand there."""
        value = self._value()
        while isinstance(value, Word) and self._next.kind == "=" and not self._next.spaced:
            mark = self._take()
            if self._next.kind not in ("word", "string") or self._next.spaced:
                raise self._wrong("expected a value, found '='", mark, _QUOTE_NOTE)
            more = self._take()
            value = Word(f"{value.text}={more.text}", value.start, more.end, quoted=True)
        return value

    def _sequence(self, closer: str, read_one: Callable[[], T]) -> tuple[T, ...]:
        """What stands between the bracket that comes next and `closer`, separated by white space or by one comma."""
        opening = self._take()
        found: list[T] = []
        while self._next.kind not in (closer, "end"):
            if found:
                self._separator(closer)
            found.append(read_one())
        self._close(opening, closer)
        return tuple(found)

    def _separator(self, closer: str) -> None:
        if self._next.kind == ",":
            comma = self._take()
            if self._next.kind in (closer, "end"):
                raise self._wrong("trailing comma: nothing follows it", comma)
        elif self._next.kind in ("word", "string", "[") and not self._next.spaced:
            raise self._expected("white space or a comma", _QUOTE_NOTE)

    def _close(self, opening: Token | None, closer: str) -> None:
        if self._next.kind == closer:
            self._take()
        elif opening and self._next.kind == "end":
            raise self._wrong(f"{opening.text!r} is never closed", opening)
        else:
            raise self._expected(f"',' or {repr(closer) if opening else 'the end of the text'}", _ORDER_NOTE)

    def _word(self, what: str, note: str) -> Word:
        if self._next.kind != "word":
            raise self._expected(what, note)
        token = self._take()
        return Word(token.text, token.start, token.end)

    @property
    def _next(self) -> Token:
        return self._tokens[self._at]

    def _take(self) -> Token:
        """The next token, which is not looked at again; the end of the text stays."""
        token = self._next
        self._at += token.kind != "end"
        return token

    def _expected(self, what: str, note: str) -> PipelineError:
        """The error that `what` should come next; `note` helps where a mark stands that opens or assigns."""
        found = "the end of the text" if self._next.kind == "end" else quoted(self._next.text)
        misplaced = self._next.kind in ("=", "(", "{", "[")
        return self._wrong(f"expected {what}, found {found}", self._next, note if misplaced else "")

    def _wrong(self, problem: str, token: Token, note: str = "") -> PipelineError:
        return mistake(problem, self._text, token.start, token.end, note)
