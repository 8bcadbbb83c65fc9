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
    from .api import Report as Report
    from .api import compare as compare
    from .api import load as load
    from .api import save as save
    from .errors import OnnxpressError as OnnxpressError
    from .ir import Graph as Graph
    from .ir import Model as Model
    from .ir import Value as Value
    from .passes.manager.base import Effect as Effect
    from .passes.manager.base import Pass as Pass
    from .passes.manager.context import Context as Context
    from .passes.manager.named import register_pipeline as register_pipeline
    from .passes.manager.options import option as option
    from .passes.manager.registry import register_pass as register_pass

_LAZY = {
    "Context": "passes.manager.context",
    "Effect": "passes.manager.base",
    "Graph": "ir",
    "Model": "ir",
    "OnnxpressError": "errors",
    "Pass": "passes.manager.base",
    "PassManager": "api",
    "Report": "api",
    "Value": "ir",
    "compare": "api",
    "load": "api",
    "option": "passes.manager.options",
    "register_pass": "passes.manager.registry",
    "register_pipeline": "passes.manager.named",
    "save": "api",
}
__all__ = ["__version__", *sorted(_LAZY)]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'onnxpress' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f".{_LAZY[name]}", __name__), name)
