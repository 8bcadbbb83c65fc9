"""Code that others wrote: however it ends, it is one error, and what it prints does not get into the output."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, redirect_stdout

from ...errors import PassError
from .mistakes import words_of


@contextmanager
def foreign_code(*, divert: bool = True) -> Iterator[None]:
    """Turn SystemExit and the like into a PassError, and let what the block prints go to stderr; an interrupt stays.

    `divert=False` leaves what is printed: in a block that runs others, such as instruments, which may print.
    """
    with redirect_stdout(sys.stderr) if divert else nullcontext():
        try:
            yield
        except (Exception, KeyboardInterrupt):
            raise
        except BaseException as error:
            raise PassError(f"{type(error).__name__}: {words_of(error)}".rstrip(": ")) from error
