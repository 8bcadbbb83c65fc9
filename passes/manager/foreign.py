"""Code that others wrote: however it ends, it is one error, and what it prints does not get into the output."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout

from ...errors import PassError
from .mistakes import words_of


@contextmanager
def foreign_code() -> Iterator[None]:
    """Turn SystemExit and the like into a PassError, and let what the block prints go to stderr; an interrupt stays."""
    with redirect_stdout(sys.stderr):
        try:
            yield
        except (Exception, KeyboardInterrupt):
            raise
        except BaseException as error:
            raise PassError(f"{type(error).__name__}: {words_of(error)}".rstrip(": ")) from error
