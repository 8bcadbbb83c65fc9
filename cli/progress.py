"""Bars on stderr for long work, where a person sees them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

from .tables import is_tty, make_console

if TYPE_CHECKING:
    from rich.progress import Progress

T = TypeVar("T")


class Bars:
    """Shows a bar for each work under way, or nothing where `display` is None."""

    def __init__(self, display: Progress | None) -> None:
        self._display = display

    def track(self, items: Sequence[T], label: str) -> Iterable[T]:
        """The items one by one, with a bar called `label` beside."""
        if self._display is None:
            yield from items
            return
        task = self._display.add_task(label, total=len(items))
        try:
            for item in items:
                yield item
                self._display.advance(task)
        finally:
            self._display.remove_task(task)

    @contextmanager
    def working(self, label: str) -> Iterator[None]:
        """A moving bar while something runs whose length is not known."""
        if self._display is None:
            yield
            return
        task = self._display.add_task(label, total=None)
        try:
            yield
        finally:
            self._display.remove_task(task)


@contextmanager
def bars(*, quiet: bool = False) -> Iterator[Bars]:
    """Bars as long as the context lasts; none if stderr is no terminal, or if `quiet`."""
    if quiet or not is_tty(stderr=True):
        yield Bars(None)
        return
    from rich.progress import (
        BarColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    console = make_console(stderr=True)
    # stdout may lead to a file: rich must not take what is written there for its own
    with Progress(*columns, console=console, transient=True, redirect_stdout=False, redirect_stderr=False) as display:
        yield Bars(display)
