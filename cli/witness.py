"""What is kept of a run in case that a pass fails: enough to leave a reproducer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..passes.manager.instruments import Instrument

if TYPE_CHECKING:
    from ..ir import Model
    from ..passes.manager.base import Pass


class Witness(Instrument):
    """Keeps the model that a pass failed on, and which pass was interrupted; of nested passes the innermost. Costs no
    weight."""

    def __init__(self) -> None:
        self.number = 0
        """Of passes that began until the first failure."""
        self.seen: tuple[Pass, Model] | None = None
        self.stopped: Pass | None = None

    def before(self, pass_: Pass, model: Model) -> None:
        """Count."""
        self.number += 1

    def failed(self, pass_: Pass, model: Model, error: BaseException) -> None:
        """Keep a copy of the model, which is as it was before the pass."""
        from ..errors import OnnxpressError
        from ..ir import clone_model

        is_failure = isinstance(error, OnnxpressError) and error.exit_code not in (1, 2)
        if isinstance(error, KeyboardInterrupt):
            self.stopped = self.stopped or pass_
        if self.seen is None and is_failure:
            self.seen = pass_, clone_model(model)
