"""What a model declares: types of values, metadata, versions, functions. Changes of it are edits like any other."""

from __future__ import annotations

from onnx import ValueInfoProto

from .graph import Function, Graph
from .journal import Journal
from .model import Model
from .node import Node
from .value import Value


class Declarations(Journal):
    """The part of the Rewriter that changes what is declared, and nothing that is computed."""

    def set_info(self, value: Value, info: ValueInfoProto | None) -> None:
        """Replace what is declared of a value; the name in `info` does not count."""
        before = value._info
        value._info = info

        def undo() -> None:
            value._info = before

        self.record("set-info", value, undo)

    def set_output_info(self, graph: Graph, slot: int, info: ValueInfoProto) -> None:
        """Replace what is declared of an output; the name in `info` does not count."""
        before = graph._output_infos[slot]
        graph._output_infos[slot] = info

        def undo() -> None:
            graph._output_infos[slot] = before

        self.record("set-info", graph.outputs[slot], undo)

    def set_claim(self, graph: Graph, value: Value, info: ValueInfoProto | None) -> None:
        """Replace what a graph declares of an intermediate value, or drop it; the name in `info` does not count."""
        before, kept = list(graph._value_infos), []
        for one, old in before:
            if one is not value:
                kept.append((one, old))
            elif info is not None:
                kept.append((one, info))
        graph._value_infos[:] = kept

        def undo() -> None:
            graph._value_infos[:] = before

        self.record("set-info", value, undo)

    def set_metadata(self, subject: Node | Model, key: str, value: str) -> None:
        """Set an entry of the metadata of a node (which files have from IR version 10 on) or of the model."""
        before = subject._metadata
        subject._metadata = {**before, key: value}

        def undo() -> None:
            subject._metadata = before

        self.record("set-metadata", subject, undo)

    def set_ir_version(self, version: int) -> None:
        """Set the version of the file format."""
        model, before = self.model, self.model.ir_version
        model._ir_version = version

        def undo() -> None:
            model._ir_version = before

        self.record("set-ir-version", model, undo)

    def set_opset(self, owner: Model | Function, domain: str, version: int | None) -> None:
        """Set the opset version of a domain; None removes the import."""
        before = dict(owner.opset)
        after = {key: old for key, old in before.items() if key != domain or version is not None}
        if version is not None:
            after[domain] = version
        owner._opset = after

        def undo() -> None:
            owner._opset = before

        self.record("set-opset", owner, undo)

    def remove_function(self, function: Function) -> None:
        """Remove a function; nothing may call it any more."""
        functions = self.model._functions
        before = dict(functions)
        del functions[function.key]

        def undo() -> None:
            functions.clear()
            functions.update(before)

        self.record("remove-function", function, undo)
