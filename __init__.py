"""onnxpress: a compiler for model compression.

    import onnxpress as op

    model = op.load("model.onnx")
    report = op.PassManager("fold,dce,quantize-insert{mode=weight-only}").run(model)
    op.save(model, "small.onnx")

Heavy modules (onnx, onnxruntime) are imported when first needed.
"""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from .api import PassManager as PassManager
    from .api import compare as compare
    from .api import load as load
    from .api import register_pass as register_pass
    from .api import save as save
    from .errors import OnnxpressError as OnnxpressError

_LAZY = dict.fromkeys(("PassManager", "compare", "load", "register_pass", "save"), "api") | {
    "OnnxpressError": "errors"
}
__all__ = ["__version__", *sorted(_LAZY)]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'onnxpress' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f".{_LAZY[name]}", __name__), name)
