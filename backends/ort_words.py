"""onnxruntime's complaints in one line: its own words, without codes and the paths of its build."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from ..errors import ExecutionError

_LONGEST = 400
_CODE = re.compile(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ")
_PLACE = re.compile(r"\S*onnxruntime\S*\.(?:cc|cpp|cu|cuh|h|hpp):\d+ ")
_TAIL = re.compile(r"(?: const|>| \[with [^\]]*\]|::)+")


@contextmanager
def in_its_words(what: str) -> Iterator[None]:
    """Turn whatever the block raises into an ExecutionError that begins with `what`."""
    try:
        yield
    except ExecutionError:
        raise
    except Exception as error:
        raise ExecutionError(f"{what}: {plain(str(error)) or type(error).__name__}") from error


def plain(words: str) -> str:
    """A message on one line, without error code and source places with the signatures behind them."""
    line = " ".join(_CODE.sub("", words).split())
    while place := _PLACE.search(line):
        line = line[: place.start()] + _after_signature(line[place.end() :])
    line = " ".join(line.split())
    return line if len(line) <= _LONGEST else line[:_LONGEST] + "..."


def _after_signature(text: str) -> str:
    """What follows a C++ signature such as `void ns::Class::Name(int, const T&) const`, if there is one."""
    rest = text
    while (opening := rest.find("(")) >= 0 and _is_name(rest[:opening]):
        rest = rest[_closing(rest, opening) :]
        tail = _TAIL.match(rest)
        if tail is None or not tail.group().endswith("::"):
            return rest[tail.end() if tail else 0 :]
        rest = rest[tail.end() :]
    return text


def _is_name(text: str) -> bool:
    """Whether it can be the part of a signature before the parameters: type and qualified name."""
    return "::" in text or text.startswith("<lambda")


def _closing(text: str, opening: int) -> int:
    """Where the parenthesis that opens at `opening` is closed."""
    depth = 0
    for index in range(opening, len(text)):
        depth += {"(": 1, ")": -1}.get(text[index], 0)
        if depth == 0:
            return index + 1
    return len(text)
