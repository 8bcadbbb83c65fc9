"""Remarks: what a pass did, what it did not do and why, and the bytes at stake."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from typing import Any, NamedTuple


class Kind(StrEnum):
    """What a remark reports."""

    APPLIED = "applied"
    MISSED = "missed"
    FAILED = "failed"


class Remark(NamedTuple):
    """One thing that a pass has to say of a node, a value or the model.

    `rule` groups remarks for statistics; `bytes_at_stake` is what was saved (applied) or could have been (missed).
    """

    kind: Kind
    by: str
    subject: str
    reason: str
    rule: str = ""
    suggestion: str = ""
    bytes_at_stake: int = 0

    def as_dict(self) -> dict[str, Any]:
        """For the JSON report."""
        return {**self._asdict(), "kind": str(self.kind)}

    def __str__(self) -> str:
        tail = f" ({self.bytes_at_stake} bytes)" if self.bytes_at_stake else ""
        hint = f"; {self.suggestion}" if self.suggestion else ""
        return f"{self.by}: {self.kind}: {self.subject}: {self.reason}{hint}{tail}"


class Remarks:
    """The remarks of a run, in order. `by` names the pass that speaks; the pass manager sets it."""

    def __init__(self) -> None:
        self.by = ""
        self._all: list[Remark] = []

    def applied(self, subject: str, reason: str, *, rule: str = "", bytes_at_stake: int = 0) -> None:
        """Something was done."""
        self._all.append(Remark(Kind.APPLIED, self.by, subject, reason, rule, "", bytes_at_stake))

    def missed(
        self, subject: str, reason: str, *, rule: str = "", suggestion: str = "", bytes_at_stake: int = 0
    ) -> None:
        """Something could have been done and was not."""
        self._all.append(Remark(Kind.MISSED, self.by, subject, reason, rule, suggestion, bytes_at_stake))

    def failed(self, subject: str, reason: str, *, rule: str = "", suggestion: str = "") -> None:
        """Something was tried and failed; the graph is as it was before."""
        self._all.append(Remark(Kind.FAILED, self.by, subject, reason, rule, suggestion))

    def forget_since(self, count: int) -> None:
        """Drop all but the first `count`: what they tell of was taken back."""
        del self._all[count:]

    def __iter__(self) -> Iterator[Remark]:
        return iter(self._all)

    def __len__(self) -> int:
        return len(self._all)
