"""Instruments: what hears of every pass, and may keep one from running."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ...ir import Model
    from .base import Pass


class Instrument:
    """Hears of every pass of a run, those inside combinators too. Override what you need; each method does nothing.

    An instrument reads the model and never changes it.
    """

    def should_run(self, pass_: Pass, model: Model) -> bool:
        """Whether `pass_` is to run; if one instrument says no, it is skipped and the report says so."""
        return True

    def before(self, pass_: Pass, model: Model) -> None:
        """`pass_` is about to run."""

    def after(self, pass_: Pass, model: Model, changed: bool) -> None:
        """`pass_` has run, and the model is verified."""

    def failed(self, pass_: Pass, model: Model, error: BaseException) -> None:
        """`pass_` failed, and the model is again as it was before it. Of nested passes the innermost comes first."""
