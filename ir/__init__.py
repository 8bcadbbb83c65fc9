"""The intermediate representation: SSA over ONNX operators."""

from .attribute import Attribute
from .backend import Backend, Outputs, Port, Session
from .clone import clone_function, clone_graph, clone_model, clone_node
from .graph import Function, Graph
from .journal import Application, Edit
from .model import Model
from .node import Node
from .proto import emit, lower, strip_weights
from .rewriter import Rewriter
from .tensor import ArrayTensor, DerivedTensor, ExternalTensor, ProtoTensor, SparseTensor, Tensor, tensor
from .value import Use, Value
from .verify import verify

__all__ = [
    "Application",
    "ArrayTensor",
    "Attribute",
    "Backend",
    "DerivedTensor",
    "Edit",
    "ExternalTensor",
    "Function",
    "Graph",
    "Model",
    "Node",
    "Outputs",
    "Port",
    "ProtoTensor",
    "Rewriter",
    "Session",
    "SparseTensor",
    "Tensor",
    "Use",
    "Value",
    "clone_function",
    "clone_graph",
    "clone_model",
    "clone_node",
    "emit",
    "lower",
    "strip_weights",
    "tensor",
    "verify",
]
