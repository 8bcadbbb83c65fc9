"""Analyses that are computed once and kept until the model changes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from ..model import Model

T = TypeVar("T")


class Analyses:
    """The analyses of one model: functions of it, cached by its version."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._found: dict[Callable[[Model], Any], tuple[int, Any]] = {}

    def get(self, analysis: Callable[[Model], T]) -> T:
        """What `analysis` says of the model as it is now."""
        version, result = self._found.get(analysis, (-1, None))
        if version != self._model.version:
            result = analysis(self._model)
            self._found[analysis] = (self._model.version, result)
        return result  # type: ignore[no-any-return]  # what the function returned
