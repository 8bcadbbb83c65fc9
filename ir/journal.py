"""The journal of edits: what was changed, by whom, and how to undo it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from ..errors import RewriteError
from .graph import Function, Graph
from .model import Model
from .node import Node
from .value import Value

Subject = Node | Value | Graph | Model | Function


class Application(NamedTuple):
    """One application of a rule of a pass: its number in the journal (from 1), and the node that it starts from."""

    number: int
    by: str
    rule: str
    subject: str
    mark: int
    """The place in the journal where it begins."""


class Edit(NamedTuple):
    """One primitive change: what kind, of what, in which application, how to undo it, and which values it took a use
    from. What no rule claims has application None."""

    kind: str
    subject: Subject
    by: str
    undo: Callable[[], None]
    released: tuple[Value, ...] = ()
    application: Application | None = None
    partner: Value | None = None
    """The other value that an exchange of names changed."""

    @property
    def rule(self) -> str:
        """The rule that made it; empty if none claims it."""
        return "" if self.application is None else self.application.rule


class Journal:
    """The edits of one model, in order. `by` names the pass that acts; the pass manager sets it, and the two limits."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.by = ""
        self.journal: list[Edit] = []
        self.applications: list[Application] = []
        self.listeners: list[Callable[[Edit], None]] = []
        self.may_touch: Callable[[Node], bool] | None = None
        """Which nodes may be erased or given other attributes; None for all."""
        self.edit_limit: int | None = None
        """The length of the journal at which a pass that never stops is stopped."""
        self._current: Application | None = None

    def mark(self) -> int:
        """A place in the journal, for `rollback`."""
        return len(self.journal)

    def rollback(self, mark: int) -> None:
        """Undo everything since `mark`."""
        while len(self.journal) > mark:
            self.journal.pop().undo()
            self.model._version += 1
            self.model._types_version += 1
        while self.applications and self.applications[-1].mark >= mark:
            self.applications.pop()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Undo everything that the block did if it raises."""
        mark = self.mark()
        try:
            yield
        except BaseException:
            self.rollback(mark)
            raise

    @contextmanager
    def apply(self, rule: str, *nodes: Node) -> Iterator[None]:
        """One application of `rule` to the nodes that it matched, as a transaction: its edits carry the rule.

        RewriteError if a node may not be touched. An application inside another one belongs to the outer one.
        """
        for node in nodes:
            self.check_touch(node)
        if self._current is not None:
            with self.transaction():
                yield
            return
        mark = self.mark()
        made = Application(len(self.applications) + 1, self.by, rule, nodes[0].label if nodes else "model", mark)
        self.applications.append(made)
        self._current = made
        try:
            yield
        except BaseException:
            self.rollback(mark)
            raise
        finally:
            self._current = None
        if self.mark() == mark and self.applications and self.applications[-1] is made:
            self.applications.pop()  # nothing was changed

    def check_touch(self, node: Node) -> None:
        """RewriteError if `node` is out of the scope that the pass runs in."""
        if self.may_touch is not None and not self.may_touch(node):
            raise RewriteError(f"node {node.label!r} is out of the scope that the pass may act in (ask ctx.selects)")

    def record(
        self,
        kind: str,
        subject: Subject,
        undo: Callable[[], None],
        released: tuple[Value, ...] = (),
        partner: Value | None = None,
        *,
        keeps_types: bool = False,
    ) -> None:
        """Write down a change that was just made, and tell the listeners; whether it `keeps_types` of all values that
        are left, whatever can be inferred of them."""
        self.model._version += 1
        if not keeps_types:
            self.model._types_version += 1
        edit = Edit(kind, subject, self.by, undo, released, self._current, partner)
        self.journal.append(edit)
        for listener in self.listeners:
            listener(edit)
        if self.edit_limit is not None and len(self.journal) > self.edit_limit:
            raise RewriteError(f"it has made {len(self.journal)} edits and does not stop")
