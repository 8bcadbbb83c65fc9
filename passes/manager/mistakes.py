"""How a mistake in a pipeline text is shown: what is wrong, the place with a caret, what would be accepted."""

from __future__ import annotations

from ...errors import PassError, UserError

_WIDTH = 100
"""Characters of the text that are shown around the place."""
_LONGEST_QUOTE = 60


class PipelineError(UserError):
    """A pipeline text is wrong. Line 1 says what; then the text with a caret under the place, then what is accepted."""


def mistake(problem: str, text: str, start: int, end: int, *notes: str) -> PipelineError:
    """The error for `text[start:end]`, both character offsets; `start == len(text)` is the end of the text."""
    line_start = text.rfind("\n", 0, start) + 1
    line_end = text.find("\n", start)
    line = text[line_start : line_end if line_end >= 0 else len(text)]
    if "\n" in text.strip():
        problem += f" (line {text.count(chr(10), 0, start) + 1})"
    shown = _under_caret(line, start - line_start, max(end, start + 1) - line_start)
    return PipelineError("\n".join([problem, *(f"  {row}" for row in (*shown, *filter(None, notes)))]))


def quoted(value: object) -> str:
    """`repr` of a value, cut to what fits a message."""
    text = repr(value)
    return text if len(text) <= _LONGEST_QUOTE else f"{text[: _LONGEST_QUOTE - 3]}..."


def one_line(error: BaseException) -> str:
    """What an exception says, on one line; with its type, unless its message was written for people."""
    message = " ".join(str(error).split())
    return message if isinstance(error, (UserError, PassError, ValueError)) else f"{type(error).__name__}: {message}"


def _under_caret(line: str, start: int, end: int) -> tuple[str, str]:
    """The part of `line` around `[start, end)`, made safe to print, and `^~~~` under that place."""
    left = max(0, min(start - _WIDTH // 2, len(line) - _WIDTH))
    right = min(len(line), left + _WIDTH)
    before = ("..." if left else "") + _printable(line[left:start])
    place = _printable(line[start : min(end, right)])
    after = _printable(line[min(end, right) : right]) + ("..." if right < len(line) else "")
    return (before + place + after).rstrip(), " " * _cells(before) + "^" + "~" * (_cells(place) - 1)


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else " " if c.isspace() else "\N{REPLACEMENT CHARACTER}" for c in text)


def _cells(text: str) -> int:
    """How many columns a terminal gives `text`."""
    import unicodedata  # only a mistake pays for it

    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in ("W", "F") else 1 for c in text
    )
