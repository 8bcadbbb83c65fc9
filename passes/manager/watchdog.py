"""A watchdog over a pass: one that gives no sign of life for long is stopped."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from ...errors import PassError


@contextmanager
def watch(seconds: float | None, pulse: Callable[[], object], words: str) -> Iterator[None]:
    """PassError `words` in the block if `pulse` stays equal for `seconds`; None watches nothing.

    Works where Python code runs in the main thread on a system with interval timers; elsewhere nothing is watched. A
    call that never comes back from compiled code cannot be stopped.
    """
    if seconds is None or not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
        yield
        return
    last = pulse()

    def ring(number: int, frame: FrameType | None) -> None:
        nonlocal last
        now = pulse()
        if now == last:
            raise PassError(words)
        last = now

    handler = signal.signal(signal.SIGALRM, ring)
    timer = signal.setitimer(signal.ITIMER_REAL, seconds, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, *timer)
        signal.signal(signal.SIGALRM, handler)
