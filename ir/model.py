"""Models: a main graph, functions and what a file says besides."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from onnx import ModelProto, TensorProto

from .graph import Function, Graph


class Model:
    """An ONNX model in memory. `onnxpress.load` makes one; only the Rewriter changes one.

    `source` is the message that it came from: what no pass touched is emitted from there.
    """

    def __init__(self, graph: Graph, functions: list[Function], source: ModelProto, path: Path | None = None) -> None:
        self.graph = graph
        self.source = source
        self.path = path
        """The file that it was read from, if it was."""
        graph.owner = self
        self._functions = {function.key: function for function in functions}
        self._ir_version = int(source.ir_version)
        self._opset = {"" if o.domain == "ai.onnx" else o.domain: o.version for o in source.opset_import}
        self._metadata: dict[str, str] = {}
        self._version = self._types_version = 0
        self.externals: Mapping[str, Sequence[TensorProto]] | None = None
        """The external tensors of `source` by location, once somebody has looked for them."""

    @property
    def ir_version(self) -> int:
        """The version of the file format."""
        return self._ir_version

    @property
    def opset(self) -> Mapping[str, int]:
        """The opset versions of the main graph by domain."""
        return self._opset

    @property
    def functions(self) -> Mapping[tuple[str, str, str], Function]:
        """The model-local functions by domain, name and overload."""
        return self._functions

    @property
    def metadata(self) -> Mapping[str, str]:
        """Its metadata: those of the source message, and what a pass set."""
        return {**{entry.key: entry.value for entry in self.source.metadata_props}, **self._metadata}

    @property
    def version(self) -> int:
        """Grows with every mutation: the key of cached analyses."""
        return self._version

    @property
    def types_version(self) -> int:
        """Grows with every mutation but those after which all values that are left have the types that they had: the
        key of what was inferred."""
        return self._types_version

    def roots(self) -> Iterator[Graph]:
        """The main graph, then the body of every function."""
        yield self.graph
        for function in self._functions.values():
            yield function.body

    def walk_graphs(self) -> Iterator[Graph]:
        """Every graph of the model: main graph, functions, and all bodies inside them, outermost first."""
        for root in self.roots():
            yield from root.walk_graphs()
