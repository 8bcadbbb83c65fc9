"""Where a node comes from: source nodes by label, joined without copying when nodes are merged again and again."""

from __future__ import annotations

from collections.abc import Iterable


class Origin:
    """The labels of source nodes in order, each once; made of labels and of other origins, which are shared."""

    __slots__ = ("_parts",)

    def __init__(self, *parts: str | Origin) -> None:
        self._parts = parts

    @classmethod
    def joined(cls, origins: Iterable[Origin]) -> Origin:
        """What stands for several: one that stands alone is taken as it is."""
        parts = tuple(dict.fromkeys(origin for origin in origins if origin._parts))
        return parts[0] if len(parts) == 1 else cls(*parts)

    def labels(self) -> tuple[str, ...]:
        """The labels."""
        found: dict[str, None] = {}
        seen: set[Origin] = set()
        todo: list[str | Origin] = [self]
        while todo:
            part = todo.pop()
            if isinstance(part, str):
                found[part] = None
            elif part not in seen:
                seen.add(part)
                todo += reversed(part._parts)
        return tuple(found)
