"""Code that others wrote: however it ends, it is one error, and what it prints does not get into the output."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout

from ...errors import PassError


@contextmanager
def foreign_code() -> Iterator[None]:
    """Let what the block prints go to stderr, and turn SystemExit and the like into a PassError; an interrupt stays."""
    with redirect_stdout(sys.stderr):
        try:
            yield
        except (Exception, KeyboardInterrupt):
            raise
        except BaseException as error:
            raise PassError(" ".join(f"{type(error).__name__}: {error}".split())) from error
