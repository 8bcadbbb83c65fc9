"""Analyses that are computed once and kept until the model changes."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeVar

from ..model import Model

T = TypeVar("T")


class _Found:
    def __init__(self, version: int, result: Any, ahead: float) -> None:
        self.version = version
        self.result = result
        self.ahead = ahead
        """Seconds that it took somebody who asked ahead of others; 0 if others have asked for it since."""


class Analyses:
    """The analyses of one model: functions of it, cached by its version."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._found: dict[Callable[[Model], Any], _Found] = {}
        self.claimed = 0.0
        """Seconds of analyses that were asked for ahead, and then by others: they would have been run anyway."""

    def get(self, analysis: Callable[[Model], T], *, ahead: bool = False) -> T:
        """What `analysis` says of the model as it is now; `ahead` if the work may serve others who will ask for it."""
        found = self._found.get(analysis)
        if found is None or found.version != self._model.version:
            started = time.perf_counter()
            result = analysis(self._model)
            seconds = time.perf_counter() - started if ahead else 0.0
            found = self._found[analysis] = _Found(self._model.version, result, seconds)
        if not ahead:
            self.claimed += found.ahead
            found.ahead = 0.0
        return found.result  # type: ignore[no-any-return]  # what the function returned
