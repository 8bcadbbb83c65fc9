"""The text form of models: short for people, full for keeping every field. `specs/ir-text.md` describes it."""

from __future__ import annotations

from pathlib import Path

from onnx import FunctionProto, GraphProto

from ..graph import Function, Graph
from ..model import Model
from ..proto.emit import emit_function, emit_graph
from ..proto.lower import lower
from .lexer import TextError
from .parser import Parser
from .printer import Printer, Types
from .store import Weights, finder, save_weights
from .tensors import Style

__all__ = ["TextError", "parse", "print_graph", "print_model", "save_weights"]


def print_model(model: Model, *, full: bool = False, types: Types | None = None) -> str:
    """The text of a model: short, or with every field of its messages.

    The short form shows types of what nodes compute: those in `types`, such as `infer_shapes(model).type`, else those
    that are declared. The full form shows what is declared alone.
    """
    return "\n".join(Printer(Style(full), types).model(model)) + "\n"


def print_graph(graph: Graph, *, full: bool = False, types: Types | None = None) -> str:
    """The text of a main graph, a body or a function alone; see `print_model`."""
    printer = Printer(Style(full), types)
    if isinstance(graph.owner, Function):
        function = FunctionProto()
        emit_function(graph.owner, function, printer.style.emit)
        lines = printer.function(graph.owner, function)
    else:
        message = GraphProto()
        emit_graph(graph, message, printer.style.emit)
        lines = printer.graph(graph, message, "graph ")
    return "\n".join(lines) + "\n"


def parse(text: str, *, weights: Weights | None = None, path: Path | None = None) -> Model:
    """The model that a text describes.

    Tensors that stand there by digest are taken from `weights`: a model, or a folder made by `save_weights`. External
    data are looked for beside `path`, or beside the file that the model `weights` was read from.
    Raises TextError, a UserError, where the text is wrong.
    """
    if path is None and isinstance(weights, Model):
        path = weights.path
    return lower(Parser(text, finder(weights)).model(), path)
