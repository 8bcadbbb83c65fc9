"""Parsing: recursive descent from the text to a ModelProto, which is then lowered like any other."""

from __future__ import annotations

from onnx import FunctionProto, GraphProto, ModelProto, NodeProto, ValueInfoProto

from .attributes import read_attribute, read_value
from .digests import Find
from .extras import read_extras, read_inline
from .lexer import Lexer
from .printer import MODEL_FIELDS
from .tensors import read_sparse, read_tensor
from .types import read_type

_LINES = "in, out, const, default, sparse, info"


class Parser:
    """Reads one model; `find` gives the data of the tensors that stand in the text by digest."""

    def __init__(self, text: str, find: Find) -> None:
        self.lexer = Lexer(text)
        self.find = find

    def model(self) -> ModelProto:
        """The message of the whole text."""
        lexer, model = self.lexer, ModelProto()
        while lexer.token.kind != "end":
            read_extras(lexer, model)
            if lexer.at(*MODEL_FIELDS):
                self._model_field(model)
            elif lexer.accept("opset"):
                self._opset(model)
            elif lexer.at("graph") and not model.HasField("graph"):
                lexer.take()
                self.graph(model.graph)
            elif lexer.accept("function"):
                self.function(model.functions.add())
            elif lexer.token.kind != "end":
                words = ", ".join((*MODEL_FIELDS, "opset", "doc", "meta", "extra", "function", "graph (once)"))
                raise lexer.error(f"one of these is expected: {words}")
        return model

    def graph(self, graph: GraphProto) -> None:
        """Take a graph, from its name on."""
        lexer = self.lexer
        if not lexer.at("{"):
            graph.name = lexer.word("the name of a graph or '{'")
        graph.SetInParent()
        lexer.expect("{")
        with lexer.nested():
            read_extras(lexer, graph)
            while not lexer.accept("}"):
                self._graph_line(graph)

    def function(self, function: FunctionProto) -> None:
        """Take a function, from its domain on."""
        lexer = self.lexer
        function.domain, function.name, function.overload = self._operator()
        lexer.expect("{")
        read_extras(lexer, function)
        while not lexer.accept("}"):
            if lexer.accept("opset"):
                self._opset(function)
            elif lexer.accept("attr"):
                self._function_attribute(function)
            elif lexer.at("in", "out"):
                names = function.input if lexer.take().text == "in" else function.output
                names.append(lexer.name("value", "'%' and a name"))
            elif lexer.accept("info"):
                self._info(function.value_info.add())
            else:
                self._node(function)

    def _graph_line(self, graph: GraphProto) -> None:
        lexer = self.lexer
        if lexer.accept("in"):
            self._info(graph.input.add())
        elif lexer.accept("out"):
            self._info(graph.output.add())
        elif lexer.accept("info"):
            self._info(graph.value_info.add())
        elif lexer.at("const", "default"):
            lexer.take()
            dense = graph.initializer.add(name=self._constant_name())
            read_tensor(lexer, dense, self.find)
        elif lexer.accept("sparse"):
            sparse = graph.sparse_initializer.add()
            if name := self._constant_name():
                sparse.values.name = name
            read_sparse(lexer, sparse, self.find)
        else:
            self._node(graph)

    def _constant_name(self) -> str:
        name = self.lexer.name("value", "'%' and a name")
        self.lexer.expect("=", "after the name of a constant")
        return name

    def _node(self, target: GraphProto | FunctionProto) -> None:
        lexer, node = self.lexer, target.node.add()
        if not lexer.accept("none"):
            self._result(target, node)
            while not lexer.at("="):
                self._result(target, node)
        lexer.expect("=", "after the results of a node")
        node.domain, node.op_type, node.overload = self._operator()
        lexer.expect("(", "before what a node reads")
        while not lexer.accept(")"):
            node.input.append("" if lexer.accept("_") else lexer.name("value", "')', '_' or '%' and a name"))
        if lexer.accept("{"):
            while not lexer.accept("}"):
                read_attribute(lexer, node.attribute.add(), self.find, self.graph)
        if lexer.token.kind == "label":
            node.name = lexer.name("label", "a name")
        read_extras(lexer, node)

    def _result(self, target: GraphProto | FunctionProto, node: NodeProto) -> None:
        lexer = self.lexer
        if lexer.accept("_"):
            node.output.append("")
            return
        node.output.append(lexer.name("value", f"a node, {_LINES} or '}}'" if not node.output else "'=', '_' or '%'"))
        if lexer.accept(":"):
            read_type(lexer, target.value_info.add(name=node.output[-1]).type)

    def _operator(self) -> tuple[str, str, str]:
        """Domain, type and overload in `domain::Type:overload`."""
        lexer, domain = self.lexer, ""
        name = lexer.word("an operator")
        if lexer.accept("::"):
            domain, name = name, lexer.word("an operator")
        return domain, name, lexer.word("an overload") if lexer.accept(":") else ""

    def _info(self, info: ValueInfoProto) -> None:
        lexer = self.lexer
        info.name = lexer.name("value", "'%' and a name")
        if lexer.accept(":"):
            info.type.SetInParent()
            read_type(lexer, info.type)
        read_extras(lexer, info)

    def _function_attribute(self, function: FunctionProto) -> None:
        lexer = self.lexer
        name = lexer.word("the name of an attribute")
        if lexer.at("=", "("):
            read_value(lexer, function.attribute_proto.add(name=name), self.find, self.graph)
        else:
            function.attribute.append(name)

    def _model_field(self, model: ModelProto) -> None:
        lexer, field = self.lexer, self.lexer.take().text
        lexer.expect("=")
        is_number = isinstance(getattr(model, field), int)
        setattr(model, field, lexer.integer(field) if is_number else lexer.string(field))

    def _opset(self, target: ModelProto | FunctionProto) -> None:
        lexer, entry = self.lexer, target.opset_import.add()
        if not lexer.at("="):
            entry.domain = lexer.word("a domain or '='")
        lexer.expect("=")
        entry.version = lexer.integer("a version")
        read_inline(lexer, entry)
