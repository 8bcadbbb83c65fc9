"""Analyses that are computed once and kept until the model changes."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

from ..model import Model
from .shapes import Shapes, infer_shapes

T = TypeVar("T")


class _Found:
    def __init__(self, version: Hashable, result: Any, ahead: float) -> None:
        self.version = version
        self.result = result
        self.ahead = ahead
        """Seconds that it took somebody who asked ahead of others; 0 if others have asked for it since."""


class Analyses:
    """The analyses of one model: functions of it, cached by the version of what they look at."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._found: dict[Callable[[Model], Any], _Found] = {}
        self.claimed = 0.0
        """Seconds of analyses that were asked for ahead, and then by others: they would have been run anyway."""

    def shapes(self, *, ahead: bool = False) -> Shapes:
        """Types and shapes of all values, inferred from inputs and weights alone. What could not be inferred may be
        after any change."""
        kept = self._found.get(infer_shapes)
        failed = kept is not None and bool(kept.result.problem)
        version = (self._model.types_version, self._model.version if failed else 0)
        return self.get(infer_shapes, version, ahead=ahead)

    def get(self, analysis: Callable[[Model], T], version: Hashable = None, *, ahead: bool = False) -> T:
        """What `analysis` says of the model as it is now; `ahead` if the work may serve others who will ask for it.
        `version` is that of what it looks at: by default of the whole model."""
        version = self._model.version if version is None else version
        found = self._found.get(analysis)
        if found is None or found.version != version:
            started = time.perf_counter()
            result = analysis(self._model)
            seconds = time.perf_counter() - started if ahead else 0.0
            found = self._found[analysis] = _Found(version, result, seconds)
        if not ahead:
            self.claimed += found.ahead
            found.ahead = 0.0
        return found.result  # type: ignore[no-any-return]  # what the function returned
