"""The executable half of the specification: strategies that draw models and feeds, and `check_pass`, which holds a pass
to its promises. Needs hypothesis (the extra `test`)."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .check import BrokenPromiseError as BrokenPromiseError
    from .check import Checked as Checked
    from .check import Trial as Trial
    from .check import check_pass as check_pass
    from .golden import check_golden as check_golden
    from .golden import model_of as model_of
    from .impure import impure_nodes as impure_nodes
    from .negatives import check_variants as check_variants
    from .strategies import models as models
    from .strategies_feeds import feeds as feeds
    from .strategies_options import passes as passes

_LAZY = {
    "BrokenPromiseError": "check",
    "Checked": "check",
    "Trial": "check",
    "check_golden": "golden",
    "check_pass": "check",
    "check_variants": "negatives",
    "feeds": "strategies_feeds",
    "impure_nodes": "impure",
    "model_of": "golden",
    "models": "strategies",
    "passes": "strategies_options",
}
__all__ = sorted(_LAZY)


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'onnxpress.specs' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f".{_LAZY[name]}", __name__), name)
