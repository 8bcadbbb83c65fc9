"""Run a pipeline again, as far as a pass of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..passes.manager.instruments import Instrument

if TYPE_CHECKING:
    from ..ir import Model
    from ..passes.manager.base import Pass


class Caught(BaseException):
    """The run is where it was to be brought."""


class Catch(Instrument):
    """Ends a run before the pass that is the `number`th to begin, and keeps the pass and a copy of the model."""

    def __init__(self, number: int) -> None:
        self.found: tuple[Pass, Model] | None = None
        self._left = number

    def before(self, pass_: Pass, model: Model) -> None:
        """Count."""
        from ..ir import clone_model

        self._left -= 1
        if not self._left:
            self.found = pass_, clone_model(model)
            raise Caught
