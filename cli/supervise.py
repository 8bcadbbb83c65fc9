"""Supervision: a run works in a child process, so that something is left to speak if the process dies.

A segmentation fault, an abort, `os._exit` or the kernel's killer for want of memory ends a process without a word. So
the process that the user started forks before anything large is loaded, which takes about a millisecond, and waits.
Before each pass the child leaves a crumb in a page of memory that both share: when it dies, the parent knows in which
pass. Signals that are sent to the parent are handed on, and the child dies with it.

The child ends by `os._exit`, as forked processes should: what was registered before the fork runs in the parent alone,
and nothing takes the heap apart, which lasts longer than a small run (what is registered in the child itself runs).

Only Linux has all that this takes (sigwaitinfo, PR_SET_PDEATHSIG); elsewhere, and in a process with several threads,
which cannot be forked safely, a run is not supervised.
"""

from __future__ import annotations

import atexit
import mmap
import os
import signal
import struct
import sys
import threading
from typing import TYPE_CHECKING, NamedTuple

from ..passes.manager.instruments import Instrument

if TYPE_CHECKING:
    from ..ir import Model
    from ..passes.manager.base import Pass

_PAGE = 1 << 16
_HEAD = struct.Struct("<?I?I")
"""Whether the run came to its end, how many passes have begun, whether one is under way, the bytes of its text."""
_ASKED_TO_END = frozenset({"SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT"})
_DIE_WITH_PARENT = 1
"""PR_SET_PDEATHSIG of prctl(2)."""


class Crumb(NamedTuple):
    """Where a run was: in pass `text`, the one that began as number `number`, or behind it (not `inside`)."""

    number: int
    inside: bool
    text: str


class Death(NamedTuple):
    """How a supervised process ended: its code is negative where a signal ended it, as that of `subprocess`."""

    code: int
    came_to_end: bool

    @property
    def is_wanted(self) -> bool:
        """Whether someone asked for it, by a signal that is meant for that."""
        return self.code < 0 and signal.Signals(-self.code).name in _ASKED_TO_END


class Trail:
    """The page that the run writes and its parent reads."""

    def __init__(self) -> None:
        self._page = mmap.mmap(-1, _PAGE)

    def write(self, crumb: Crumb) -> None:
        """Leave a crumb in the place of the last one."""
        text = crumb.text.encode()[: _PAGE - _HEAD.size]
        self._page[: _HEAD.size] = _HEAD.pack(False, crumb.number, crumb.inside, len(text))
        self._page[_HEAD.size : _HEAD.size + len(text)] = text

    def end(self) -> None:
        """Say that the run came to its end, whatever that was."""
        self._page[0] = 1

    def read(self) -> tuple[bool, Crumb]:
        """Whether it came to its end, and the last crumb."""
        ended, number, inside, length = _HEAD.unpack(self._page[: _HEAD.size])
        text = self._page[_HEAD.size : _HEAD.size + length].decode(errors="replace")
        return ended, Crumb(number, inside, text)


class Ending:
    """The way out of the child: made right after the fork, so that it comes behind all that registers later."""

    def __init__(self, trail: Trail) -> None:
        self._trail = trail
        self._code: int | None = None
        atexit.register(self._leave)

    def __call__(self, code: int) -> None:
        """Say that the run came to its end, and with which code the process is to end."""
        self._trail.end()
        self._code = code

    def _leave(self) -> None:
        if self._code is not None:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(self._code)


class Crumbs(Instrument):
    """Leaves a crumb before and behind every pass; of nested passes the innermost under way counts."""

    def __init__(self, trail: Trail) -> None:
        self._trail = trail
        self._begun = 0
        self._open: list[tuple[int, str]] = []

    def before(self, pass_: Pass, model: Model) -> None:
        """The pass is under way."""
        from ..passes.manager.text import pass_text

        self._begun += 1
        self._open.append((self._begun, pass_text(pass_)))
        self._trail.write(Crumb(self._begun, True, self._open[-1][1]))

    def after(self, pass_: Pass, model: Model, changed: bool) -> None:
        """The one around it is, if there is one."""
        done = self._open.pop()
        self._trail.write(Crumb(*_in(self._open[-1])) if self._open else Crumb(done[0], False, done[1]))

    def failed(self, pass_: Pass, model: Model, error: BaseException) -> None:
        """As behind it."""
        self.after(pass_, model, changed=False)


def _in(pass_: tuple[int, str]) -> tuple[int, bool, str]:
    return pass_[0], True, pass_[1]


def can_supervise() -> bool:
    """Whether this process can be forked, and has what supervision takes."""
    return sys.platform == "linux" and threading.active_count() == 1


def supervise(trail: Trail) -> Death | None:
    """Fork: None in the child, which goes on, and in the parent how the child ended."""
    sys.stdout.flush()
    sys.stderr.flush()
    signals = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGCHLD]
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # ignored, it would take the child's code away
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    parent, child = os.getpid(), os.fork()
    if child == 0:
        _die_with(parent)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        return None
    code = _wait(child, signals)
    while signal.sigtimedwait(signals, 0) is not None:
        pass  # they were for the child
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    return Death(code, trail.read()[0])


def _wait(child: int, signals: list[signal.Signals]) -> int:
    while True:
        heard = signal.sigwaitinfo(signals)
        if heard.si_signo == signal.SIGCHLD:
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                return os.waitstatus_to_exitcode(status)
        elif heard.si_code <= 0:  # a process sent it; what a terminal sends, the child hears itself
            os.kill(child, heard.si_signo)


def end_alike(death: Death) -> None:
    """End this process by the signal that ended the child."""
    signal.signal(-death.code, signal.SIG_DFL)
    os.kill(os.getpid(), -death.code)


def _die_with(parent: int) -> None:
    """Let the kernel end this process when its parent ends."""
    import ctypes  # numpy loads it anyway

    ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)
