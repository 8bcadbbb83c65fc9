"""The types an option can have: each reads a raw value, checks one given in Python, and shows one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from ...errors import did_you_mean
from .lexer import show_text
from .mistakes import quoted
from .syntax import ListText, RawValue, Word
from .units import INTEGERS, read_float, read_int, read_size, show_float, show_size


class BadValueError(ValueError):
    """A raw value that does not fit the option; `raw` is the part at fault."""

    def __init__(self, problem: str, raw: RawValue) -> None:
        super().__init__(problem)
        self.raw = raw


class Kind(ABC):
    """A type of option values: `read(show(value))` is the identical value, for every value that has no `fault`."""

    @abstractmethod
    def read(self, raw: RawValue) -> Any:
        """The value that `raw` spells; BadValueError if it spells none or one with a fault."""

    @abstractmethod
    def fault(self, value: object) -> str | None:
        """What is wrong with a value given in Python (type, range, choice), or None."""

    @abstractmethod
    def show(self, value: Any) -> str:
        """The canonical text of a value without fault."""

    @abstractmethod
    def describe(self) -> str:
        """The accepted values in words."""


class ScalarKind(Kind):
    """A type whose values are single words or strings."""

    def read(self, raw: RawValue) -> Any:
        if isinstance(raw, ListText):
            raise BadValueError("one value is expected, not a list", raw)
        try:
            value = self._from_text(raw.text)
        except ValueError as error:
            raise BadValueError(f"{quoted(raw.text)} is {error}", raw) from None
        if problem := self.fault(value):
            raise BadValueError(problem, raw)
        return value

    @abstractmethod
    def _from_text(self, text: str) -> Any:
        """The value that `text` spells; a ValueError completes the sentence "'text' is ..."."""


class BoolKind(ScalarKind):
    """`true`, `false`, or a bare key for true."""

    def _from_text(self, text: str) -> bool:
        if text not in ("true", "false"):
            raise ValueError("neither true nor false")
        return text == "true"

    def fault(self, value: object) -> str | None:
        return None if isinstance(value, bool) else f"{quoted(value)} is neither True nor False"

    def show(self, value: Any) -> str:
        return "true" if value else "false"

    def describe(self) -> str:
        return "true or false"


class StrKind(ScalarKind):
    """Any text."""

    def _from_text(self, text: str) -> str:
        return text

    def fault(self, value: object) -> str | None:
        if not isinstance(value, str):
            return f"{quoted(value)} is not a str"
        surrogate = any("\ud800" <= c <= "\udfff" for c in value)
        return f"{quoted(value)} is not valid Unicode" if surrogate else None

    def show(self, value: Any) -> str:
        return show_text(value)

    def describe(self) -> str:
        return "text"


class NumberKind(ScalarKind):
    """What numbers share: a lowest and a highest value, both allowed."""

    def __init__(self, low: float | None, high: float | None) -> None:
        self.low = low
        self.high = high

    def _out_of_range(self, value: Any) -> str | None:
        if self.low is not None and not value >= self.low:
            return f"{self.show(value)} is below the lowest value, {self.show(self.low)}"
        if self.high is not None and not value <= self.high:
            return f"{self.show(value)} is above the highest value, {self.show(self.high)}"
        return None

    def _described(self, what: str) -> str:
        low = None if self.low is None else self.show(self.low)
        high = None if self.high is None else self.show(self.high)
        if low is not None and high is not None:
            return f"{what} from {low} to {high}"
        return what + (f" of at least {low}" if low else f" of at most {high}" if high else "")


class IntKind(NumberKind):
    """A 64-bit integer, signed or unsigned."""

    def _from_text(self, text: str) -> int:
        return read_int(text)

    def fault(self, value: object) -> str | None:
        if not isinstance(value, int) or isinstance(value, bool):
            return f"{quoted(value)} is not an int"
        return self._out_of_range(value) if value in INTEGERS else "the number does not fit 64 bits"

    def show(self, value: Any) -> str:
        return str(int(value))

    def describe(self) -> str:
        return self._described("a whole number")


class SizeKind(NumberKind):
    """A number of bytes; the annotation is `Size`."""

    def _from_text(self, text: str) -> int:
        return read_size(text)

    def fault(self, value: object) -> str | None:
        if not isinstance(value, int) or isinstance(value, bool):
            return f"{quoted(value)} is not an int (bytes)"
        if value not in INTEGERS or value < 0:
            return "the size is negative" if value < 0 else "the size does not fit 64 bits"
        return self._out_of_range(value)

    def show(self, value: Any) -> str:
        return show_size(int(value))

    def describe(self) -> str:
        return self._described("a size in bytes (such as 64MB)")


class FloatKind(NumberKind):
    """A 64-bit float; NaN only where `nan` allows it."""

    def __init__(self, low: float | None, high: float | None, nan: bool) -> None:
        super().__init__(low, high)
        self.nan = nan

    def _from_text(self, text: str) -> float:
        return read_float(text)

    def fault(self, value: object) -> str | None:
        if not isinstance(value, (int, float)) or isinstance(value, bool):
            return f"{quoted(value)} is not a float"
        if isinstance(value, int) and (value not in INTEGERS or float(value) != value):
            return "the whole number is not exact as a 64-bit float"
        if value != value:
            return None if self.nan else "nan is not accepted"
        return self._out_of_range(value)

    def show(self, value: Any) -> str:
        return show_float(value)

    def describe(self) -> str:
        return ("nan or " if self.nan else "") + self._described("a number")


class ChoiceKind(ScalarKind):
    """One of a few values, each with its text: `Literal`, `StrEnum`, or `choices`."""

    def __init__(self, values: dict[str, Any]) -> None:
        self.values = values

    def _from_text(self, text: str) -> Any:
        if text not in self.values:
            raise ValueError(f"not one of the accepted values{did_you_mean(text, self.values)}")
        return self.values[text]

    def _text_of(self, value: object) -> str | None:
        return next((t for t, v in self.values.items() if type(v) is type(value) and v == value), None)

    def fault(self, value: object) -> str | None:
        if self._text_of(value) is None:
            return f"{quoted(value)} is not one of {', '.join(map(repr, self.values.values()))}"
        return None

    def show(self, value: Any) -> str:
        return show_text(self._text_of(value) or "")

    def describe(self) -> str:
        return f"one of {', '.join(map(show_text, self.values))}"


class OptionalKind(Kind):
    """The word `none`, or what `inner` accepts; text that happens to read none is quoted."""

    def __init__(self, inner: Kind) -> None:
        self.inner = inner

    def read(self, raw: RawValue) -> Any:
        if isinstance(raw, Word) and raw.text == "none" and not raw.quoted:
            return None
        return self.inner.read(raw)

    def fault(self, value: object) -> str | None:
        return None if value is None else self.inner.fault(value)

    def show(self, value: Any) -> str:
        if value is None:
            return "none"
        shown = self.inner.show(value)
        return '"none"' if shown == "none" else shown

    def describe(self) -> str:
        return f"none or {self.inner.describe()}"


class WordOrKind(Kind):
    """One of a few words, or a number."""

    def __init__(self, words: ChoiceKind, inner: NumberKind) -> None:
        self.words, self.inner = words, inner

    def _kind(self, value: object) -> Kind:
        return self.words if isinstance(value, str) else self.inner

    def read(self, raw: RawValue) -> Any:
        is_word = isinstance(raw, Word) and raw.text in self.words.values
        return (self.words if is_word else self.inner).read(raw)

    def fault(self, value: object) -> str | None:
        return self._kind(value).fault(value)

    def show(self, value: Any) -> str:
        return self._kind(value).show(value)

    def describe(self) -> str:
        return f"{' or '.join(self.words.values)} or {self.inner.describe()}"


class ListKind(Kind):
    """A tuple of any length, written `[a b c]`."""

    def __init__(self, inner: Kind) -> None:
        self.inner = inner

    def read(self, raw: RawValue) -> Any:
        if isinstance(raw, Word):
            raise BadValueError(f"a list is expected, such as [{show_text(raw.text)}]", raw)
        return tuple(map(self.inner.read, raw.items))

    def fault(self, value: object) -> str | None:
        if not isinstance(value, tuple):
            return f"{quoted(value)} is not a tuple"
        return next(filter(None, map(self.inner.fault, value)), None)

    def show(self, value: Any) -> str:
        return f"[{' '.join(map(self.inner.show, value))}]"

    def describe(self) -> str:
        return f"a list [...] of {self.inner.describe()}"
