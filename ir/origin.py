"""Where nodes come from: labels of the nodes of the source that they stand for.

A node made of others comes from all that they come from. What it comes from is listed when somebody asks, not when the
node is made: in a chain of rewrites each list would be as long as all that it was made of.
"""

from __future__ import annotations

from collections.abc import Iterable


class Origin:
    """Labels, each once, in order; or those of other origins joined."""

    __slots__ = ("_labels", "_parts")

    def __init__(self, labels: Iterable[str] = (), parts: Iterable[Origin] = ()) -> None:
        self._labels = tuple(labels)
        self._parts = tuple(dict.fromkeys(parts))

    @property
    def labels(self) -> tuple[str, ...]:
        """All labels, those of its parts included."""
        if self._parts:
            self._labels = tuple(dict.fromkeys(label for one in self._leaves() for label in one._labels))
            self._parts = ()
        return self._labels

    def _leaves(self) -> list[Origin]:
        """What it is joined of, in order, each once."""
        found: list[Origin] = []
        seen, todo = {self}, [self]
        while todo:
            one = todo.pop()
            if not one._parts:
                found.append(one)
            todo += [part for part in reversed(one._parts) if part not in seen]
            seen.update(one._parts)
        return found


def joined(parts: Iterable[Origin]) -> Origin:
    """The origin of what is made of things of these origins."""
    listed = tuple(dict.fromkeys(parts))
    return listed[0] if len(listed) == 1 else Origin(parts=listed)
