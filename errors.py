"""Every error that onnxpress raises on purpose, with its exit code on the command line, and what messages share."""

from collections.abc import Iterable
from typing import ClassVar


class OnnxpressError(Exception):
    """Base of all errors of onnxpress: a message for a person, one line where possible."""

    exit_code: ClassVar[int] = 3


class UserError(OnnxpressError):
    """The input, an option or a file is wrong: says what, where, and what to do. Exit code 2."""

    exit_code: ClassVar[int] = 2


class LimitError(OnnxpressError):
    """A limit that the user set was passed, or a comparison failed. Exit code 1."""

    exit_code: ClassVar[int] = 1


class VerifyError(OnnxpressError):
    """The graph breaks an invariant of the IR: a fault of a pass or of onnxpress. Exit code 3."""


class PassError(OnnxpressError):
    """A pass failed; names the pass and what it was doing. Exit code 3.

    `failed_pass` is the pass, innermost in combinators; None where the error was raised by the pass itself.
    """

    failed_pass: object = None


class RewriteError(OnnxpressError):
    """A rewrite that would break the graph was refused: a fault of the pass that asked for it. Exit code 3."""


class ExecutionError(OnnxpressError):
    """An executor refused a model or a feed; carries the executor's own words. Exit code 3."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?` with the known word that is nearest, or nothing when none is near."""
    import difflib  # only a mistake pays for it

    names, word = list(known), word[:60]
    near = difflib.get_close_matches(word, names, n=1)
    near = near or difflib.get_close_matches(word.lower().replace("_", "-"), names, n=1)
    return f"; did you mean {near[0]!r}?" if near else ""
