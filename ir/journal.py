"""The journal of edits: what was changed, by whom, and how to undo it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from .graph import Function, Graph
from .model import Model
from .node import Node
from .value import Value

Subject = Node | Value | Graph | Model | Function


@dataclass(frozen=True, slots=True)
class Edit:
    """One primitive change: what kind, of what, by which pass, how to undo it, and which values it took a use from."""

    kind: str
    subject: Subject
    by: str
    undo: Callable[[], None]
    released: tuple[Value, ...] = ()


class Journal:
    """The edits of one model, in order. `by` names the pass (and rule) that acts; the pass manager sets it."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.by = ""
        self.journal: list[Edit] = []
        self.listeners: list[Callable[[Edit], None]] = []

    def mark(self) -> int:
        """A place in the journal, for `rollback`."""
        return len(self.journal)

    def rollback(self, mark: int) -> None:
        """Undo everything since `mark`."""
        while len(self.journal) > mark:
            self.journal.pop().undo()
            self.model._version += 1

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Undo everything that the block did if it raises."""
        mark = self.mark()
        try:
            yield
        except BaseException:
            self.rollback(mark)
            raise

    def record(self, kind: str, subject: Subject, undo: Callable[[], None], released: tuple[Value, ...] = ()) -> None:
        """Write down a change that was just made, and tell the listeners."""
        self.model._version += 1
        edit = Edit(kind, subject, self.by, undo, released)
        self.journal.append(edit)
        for listener in self.listeners:
            listener(edit)
