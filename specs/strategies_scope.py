"""Graphs in the making: typed variables, and nodes and constants put one after another.

Every block of `strategies_*` takes a Scope, picks operands of the types it needs, and adds what it builds; a block that
finds no operand adds nothing. The variable made last comes first, so that examples shrink to short chains.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Protocol, TypeVar

import numpy as np
from hypothesis import strategies as st
from onnx import AttributeProto, FunctionProto, GraphProto, NodeProto, SparseTensorProto, TensorProto, ValueInfoProto
from onnx import helper as onnx_helper

from .strategies_weights import array_of, sparse_of, to_tensor

Dim = int | str
Shape = tuple[Dim, ...]
_T = TypeVar("_T")

FLOAT, DOUBLE, FLOAT16 = TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16
INT64, INT32, BOOL, STRING = TensorProto.INT64, TensorProto.INT32, TensorProto.BOOL, TensorProto.STRING
FUNCTION_DOMAIN = "local"


class Draw(Protocol):
    """Hypothesis's `draw`."""

    def __call__(self, strategy: st.SearchStrategy[_T]) -> _T:
        """A value of `strategy`."""
        ...


@dataclass(frozen=True)
class Var:
    """A value that can be read: its name, element type and shape (names for dimensions that a feed decides)."""

    name: str
    dtype: int
    shape: Shape

    @property
    def static(self) -> tuple[int, ...] | None:
        """The shape if it holds numbers alone."""
        dims = tuple(dim for dim in self.shape if isinstance(dim, int))
        return dims if len(dims) == len(self.shape) else None

    def info(self, *, sized: bool = True) -> ValueInfoProto:
        """Its declaration, with nothing but the rank unless `sized`."""
        shape = list(self.shape) if sized else [None] * len(self.shape)
        return onnx_helper.make_tensor_value_info(self.name, self.dtype, shape)


@dataclass(frozen=True)
class Signature:
    """A function of the model, and what a call must give it and gets back."""

    proto: FunctionProto
    inputs: tuple[Var, ...]
    outputs: tuple[Var, ...]
    attributes: tuple[str, ...]


@dataclass
class World:
    """What all graphs of one model share."""

    draw: Draw
    opset: int
    ir_version: int
    families: Sequence[Sequence[Callable[[Scope], None]]]
    """Families of blocks: all are drawn alike, and so are the members of each."""
    by_attribute: Sequence[Callable[[Scope], None]] = ()
    """Blocks for the bodies of functions that have attributes."""
    real: int = FLOAT
    """The floating-point type that most of the model computes in."""
    large: bool = False
    """Whether layers have weights above a kilobyte."""
    functions: list[Signature] = field(default_factory=list)
    domains: set[str] = field(default_factory=set)
    symbols: int = 0
    arrays: list[Any] = field(default_factory=list)
    """The elements of every constant so far."""

    def symbol(self) -> str:
        """A dimension that nobody else has."""
        self.symbols += 1
        return f"D{self.symbols}"

    def chance(self, percent: int) -> bool:
        """True about so often; shrinks to False."""
        return self.draw(st.integers(0, 99)) >= 100 - percent


class Names:
    """Fresh names, shared by the graphs that see each other."""

    def __init__(self, count: int = 0) -> None:
        self.count = count

    def fresh(self) -> str:
        """A name that this object has not given out."""
        self.count += 1
        return f"v{self.count}"


class Scope:
    """The main graph, a body, or the body of a function, with the variables that can be read there."""

    def __init__(
        self,
        world: World,
        names: Names,
        *,
        outer: Sequence[Var] = (),
        refs: Sequence[str] = (),
        depth: int = 0,
        in_function: bool = False,
    ) -> None:
        self.world = world
        self.names = names
        self.vars = list(outer)
        self.refs = tuple(refs)
        """Attributes of the enclosing function that can be read here."""
        self.depth = depth
        self.in_function = in_function
        self.inputs: list[Var] = []
        self.own: set[str] = set()
        """Names of variables that nodes of this graph compute."""
        self.nodes: list[NodeProto] = []
        self.initializers: list[TensorProto] = []
        self.sparse: list[SparseTensorProto] = []
        self.value_infos: list[ValueInfoProto] = []

    # ---- drawing

    @property
    def opset(self) -> int:
        """The version of the standard operators."""
        return self.world.opset

    @property
    def real(self) -> int:
        """The floating-point type that most of the model computes in."""
        return self.world.real

    def draw(self, strategy: st.SearchStrategy[_T]) -> _T:
        """A value of `strategy`."""
        return self.world.draw(strategy)

    def choose(self, options: Sequence[_T]) -> _T:
        """One of `options`; shrinks to the first."""
        return options[self.draw(_below(len(options)))] if len(options) > 1 else options[0]

    def pick(self, fits: Callable[[Var], bool]) -> Var | None:
        """A variable that fits, the latest first; None if there is none."""
        found = [var for var in reversed(self.vars) if fits(var)]
        return self.choose(found) if found else None

    def operand(self, dtype: int, shape: Shape) -> Var | None:
        """A variable of exactly this type, or a new constant where the shape allows one."""
        found: list[Var | None] = [v for v in reversed(self.vars) if (v.dtype, v.shape) == (dtype, shape)]
        if all(isinstance(dim, int) for dim in shape):
            found.insert(0, None)
        if not found:
            return None
        return self.choose(found) or self.constant(dtype, [dim for dim in shape if isinstance(dim, int)])

    def steps(self, at_most: int) -> None:
        """Let some blocks build, at least one."""
        for number in range(at_most):
            if number and not self.world.chance(88):
                return
            self.draw(_step(self))

    # ---- building

    def input(self, dtype: int, shape: Shape) -> Var:
        """A new input of this graph."""
        var = Var(self.names.fresh(), dtype, shape)
        self.inputs.append(var)
        self.vars.append(var)
        return var

    def node(
        self,
        op_type: str,
        inputs: Sequence[Var | None],
        outputs: Sequence[tuple[int, Shape] | None],
        attributes: Mapping[str, Any] | None = None,
        *,
        domain: str = "",
    ) -> list[Var]:
        """A new node; `outputs` are types, None for one that is left out. Returns the variables made."""
        proto = NodeProto(op_type=op_type, domain=domain, input=[v.name if v else "" for v in inputs])
        for name, value in (attributes or {}).items():
            is_proto = isinstance(value, AttributeProto)
            proto.attribute.append(value if is_proto else onnx_helper.make_attribute(name, value))
        made = []
        for type_ in outputs:
            if type_ is None:
                proto.output.append("")
                continue
            var = Var(self.names.fresh(), *type_)
            proto.output.append(var.name)
            self.own.add(var.name)
            made.append(var)
        if len(self.nodes) % 2 and made:
            proto.name = f"{op_type}_{made[0].name}"
        self.nodes.append(proto)
        self.vars += made
        return made

    def opaque(self, op_type: str, inputs: Sequence[Var], attributes: Mapping[str, Any] | None = None) -> str:
        """A node whose one output is no tensor (a sequence, say); returns the output's name."""
        (made,) = self.node(op_type, inputs, [(FLOAT, ())], attributes)
        self.vars.remove(made)
        return made.name

    def constant(self, dtype: int, shape: Sequence[int]) -> Var:
        """A new constant of drawn elements, in any form that a file can give it."""
        return self.store(array_of(dtype, shape, self.draw(st.integers(0, 40))))

    def store(self, array: Any, *, forms: Sequence[str] = ()) -> Var:
        """A constant of these elements, in one of `forms` (in functions always as a Constant node); default: any."""
        array = np.asarray(array)
        self.world.arrays.append(array)
        made = to_tensor(array, raw=self.names.count % 3 != 0)
        dtype, shape = made.data_type, tuple(made.dims)
        form = self.choose(forms or self._forms(array))
        if "initializer" in form and (self.in_function or (self.depth and self.world.ir_version < 4)):
            form = "value"
        if self.opset < 9 and form == "value" and dtype not in (FLOAT, DOUBLE, FLOAT16):
            form = "initializer"  # Constant holds floats alone there
        if "initializer" in form:
            var = Var(self.names.fresh(), dtype, shape)
            if form == "initializer":
                made.name = var.name
                self.initializers.append(made)
            else:
                self.sparse.append(sparse_of(array, var.name))
            self.vars.append(var)
            return var
        (var,) = self.node("Constant", [], [(dtype, shape)], {form: _attribute(form, array, made)})
        if form == "sparse_value":
            self.own.remove(var.name)  # as an output it would be a sparse tensor, not one of elements
        return var

    def _forms(self, array: Any) -> list[str]:
        forms = ["initializer", "value"]
        if self.opset >= 12 and array.ndim < 2 and array.dtype in (np.float32, np.int64) and array.size:
            forms.append(("value_float" if array.dtype == np.float32 else "value_int") + "s" * array.ndim)
        # onnxruntime 1.31 corrupts its memory where a function with a sparse constant is called twice
        is_sparse = array.ndim in (1, 2) and array.dtype == np.float32 and array.size and np.isfinite(array).all()
        if is_sparse and not self.in_function:
            forms += ["sparse_value"] if self.opset >= 11 else []
            forms += ["sparse_initializer"] if self.world.ir_version >= 6 and not self.depth else []
        return forms

    # ---- finishing

    def result(self, var: Var) -> Var:
        """`var` as an output of this graph: through an Identity unless a node of this graph computes it."""
        if var.name in self.own:
            return var
        return self.node("Identity", [var], [(var.dtype, var.shape)])[0]

    def declare(self) -> None:
        """Put declarations of all, some or none of the variables into the graph."""
        mode = self.choose(("none", "all", "some"))
        for var in self.vars:
            if var.name in self.own and (mode == "all" or (mode == "some" and self.draw(st.booleans()))):
                self.value_infos.append(var.info(sized=mode == "all" or self.draw(st.booleans())))

    def graph(self, outputs: Sequence[Var], *, sized: bool = True) -> GraphProto:
        """The message of this graph."""
        name = f"g{self.names.count}"
        proto = GraphProto(name=name, node=self.nodes, initializer=self.initializers, sparse_initializer=self.sparse)
        proto.input.extend(var.info() for var in self.inputs)
        proto.output.extend(var.info(sized=sized) for var in outputs)
        names = {var.name for var in outputs}
        proto.value_info.extend(info for info in self.value_infos if info.name not in names)
        return proto


@st.composite
def _step(draw: Draw, scope: Scope) -> None:
    """One block. Being a strategy of its own, it shrinks as a whole."""
    families = [*scope.world.families, *([scope.world.by_attribute] if scope.refs else [])]
    family = families[draw(_below(len(families)))]
    family[draw(_below(len(family)))](scope)


@cache
def _below(count: int) -> st.SearchStrategy[int]:
    return st.integers(0, count - 1)


def _attribute(form: str, array: Any, made: TensorProto) -> Any:
    if form == "value":
        return made
    if form == "sparse_value":
        return sparse_of(array, "")
    return array.tolist()
