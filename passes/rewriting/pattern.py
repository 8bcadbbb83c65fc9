"""Patterns: operator calls over named holes, and how they match the graph behind a value.

    x, c = var("x"), const("c")
    op.Mul(op.Add(x, c), scalar(0.5))        # matches Mul(Add(?, constant), 0.5), either operand first
    op["Relu", "Clip"](x, ...)               # one of several operators, with any more inputs

A call matches a node of the standard domain, in the graph of the root, whose inputs match one by one; of operators that
commute both orders are tried. The same hole twice must be the same value.

Most nodes are no match, so a pattern is asked three things, each of which spares the next: `may_match` sees the head of
a value alone, `may_be` all that the pattern says of operators and constants, and `find` fills the holes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from types import EllipsisType, MappingProxyType
from typing import NamedTuple, TypeVar

from ...ir import Node, Value
from .constants import may_be_zeros, same_number, scalar_of

_T = TypeVar("_T")
COMMUTE = frozenset({"Add", "Mul", "And", "Or", "Xor", "Equal", "BitwiseAnd", "BitwiseOr", "BitwiseXor"})
ABSENT, NUMBER, CONSTANT, OTHER = "absent", "number", "constant", "other"


def head_of(value: Value | None) -> str:
    """What a first look tells of a value: the standard operator that computes it, or that it is an input left out, a
    constant of one element or of several, or anything else."""
    if value is None:
        return ABSENT
    node = value.producer
    if node is not None and node.op_type != "Constant":
        return node.op_type if not node.domain else OTHER
    tensor = value.const
    if tensor is None:
        return OTHER if node is None or node.domain else node.op_type
    return NUMBER if tensor.size == 1 else CONSTANT


class Bound(NamedTuple):
    """What the holes and names of a pattern stand for so far."""

    values: Mapping[str, Value] = MappingProxyType({})
    nodes: Mapping[str, Node] = MappingProxyType({})
    matched: tuple[Node, ...] = ()
    """Every node of the match, the root first."""

    def with_value(self, name: str, value: Value) -> Bound | None:
        """This with a hole filled; None if it is filled with another value already."""
        if not name:
            return self
        if name in self.values:
            return self if self.values[name] is value else None
        return Bound({**self.values, name: value}, self.nodes, self.matched)

    def with_node(self, name: str, node: Node) -> Bound:
        """This with one more node."""
        nodes = {**self.nodes, name: node} if name else self.nodes
        return Bound(self.values, nodes, (*self.matched, node))


class Pattern:
    """A hole or a call."""

    def find(self, value: Value | None, root: Node, bound: Bound) -> Iterator[Bound]:
        """All ways in which the pattern matches `value`, read by the match that began at `root`."""
        raise NotImplementedError

    def may_match(self, head: str) -> bool:
        """Whether `find` can find anything at a value with this head."""
        return head != ABSENT

    def may_be(self, value: Value | None) -> bool:
        """Whether `find` can find anything at a value, whatever the holes stand for."""
        return value is not None


class Hole(Pattern):
    """What matches a value in one way at most."""

    def fill(self, value: Value, bound: Bound) -> Bound | None:
        """The match with the hole filled; None if the value does not fit."""
        raise NotImplementedError

    def find(self, value: Value | None, root: Node, bound: Bound) -> Iterator[Bound]:
        """Fill the hole."""
        found = None if value is None else self.fill(value, bound)
        if found is not None:
            yield found


class Var(Hole):
    """A hole for any value."""

    def __init__(self, name: str = "") -> None:
        self.name = name

    def fill(self, value: Value, bound: Bound) -> Bound | None:
        """It fits unless the hole is filled with another."""
        return bound.with_value(self.name, value)


class Const(Var):
    """A hole for a constant."""

    def fill(self, value: Value, bound: Bound) -> Bound | None:
        """It fits if it is a constant."""
        return None if value.const is None else bound.with_value(self.name, value)

    def may_match(self, head: str) -> bool:
        """Whether it is a constant."""
        return head in (NUMBER, CONSTANT)

    def may_be(self, value: Value | None) -> bool:
        """Whether it is a constant."""
        return value is not None and value.const is not None


class Every(Const):
    """A hole for a constant of which each element is one number; of zeros the sign counts."""

    def __init__(self, number: float, name: str = "") -> None:
        super().__init__(name)
        self.number = number

    def fill(self, value: Value, bound: Bound) -> Bound | None:
        """Compare the elements."""
        return bound.with_value(self.name, value) if same_number(value, self.number) else None

    def may_be(self, value: Value | None) -> bool:
        """Whether each element is the number."""
        return value is not None and same_number(value, self.number)


class Zeros(Const):
    """A hole for a constant that may be of zeros alone."""

    def fill(self, value: Value, bound: Bound) -> Bound | None:
        """Look into it, unless it is large."""
        return bound.with_value(self.name, value) if may_be_zeros(value) else None

    def may_be(self, value: Value | None) -> bool:
        """Whether it may be."""
        return value is not None and may_be_zeros(value)


class Scalar(Hole):
    """A constant of one element near a number: within `rel` of it, exactly equal for 0."""

    def __init__(self, number: float, rel: float = 0.0, name: str = "") -> None:
        self.number = number
        self.rel = rel
        self.name = name

    def fill(self, value: Value, bound: Bound) -> Bound | None:
        """Compare the element."""
        return bound.with_value(self.name, value) if self.may_be(value) else None

    def may_match(self, head: str) -> bool:
        """Whether it is a constant of one element."""
        return head == NUMBER

    def may_be(self, value: Value | None) -> bool:
        """Whether it is the number."""
        number = None if value is None else scalar_of(value)
        return number is not None and abs(number - self.number) <= self.rel * abs(self.number)


class Call(Pattern):
    """An operator call. `rest` allows more inputs than are listed; `label` is how the match calls the node."""

    def __init__(
        self,
        op_types: tuple[str, ...],
        inputs: tuple[Pattern | None, ...],
        rest: bool = False,
        label: str = "",
        output: int = 0,
    ) -> None:
        self.op_types = op_types
        self.inputs = inputs
        self.rest = rest
        self.label = label
        self.output = output
        self._telling = tuple((place, one) for place, one in enumerate(inputs) if type(one) is not Var)
        """The inputs that not any value will do for, with their places."""
        self._taken: dict[tuple[str, ...], bool] = {}
        """What `may_take` has said."""

    def named(self, label: str) -> Call:
        """The same call, its node known to the match as `label`."""
        named = copy(self)
        named.label = label
        return named

    def find(self, value: Value | None, root: Node, bound: Bound) -> Iterator[Bound]:
        """Match the node that computes `value`."""
        node = None if value is None else value.producer
        if node is None or value is None or node.graph is not root.graph or node.outputs[self.output] is not value:
            return
        yield from self.find_node(node, root, bound)

    def find_node(self, node: Node, root: Node, bound: Bound) -> Iterator[Bound]:
        """Match a node, whichever output is read."""
        for inputs in self._orders_of(node):
            if self._may_read(inputs):
                yield from self._find_inputs(inputs, root, bound.with_node(self.label, node))

    def may_match(self, head: str) -> bool:
        """Whether one of the operators computes it."""
        return head in self.op_types

    def may_take(self, heads: tuple[str, ...]) -> bool:
        """Whether a node of one of the operators may match that reads values with these heads."""
        if heads not in self._taken:
            self._taken[heads] = any(map(self._may_read_heads, self._orders(heads, ABSENT, commute=True)))
        return self._taken[heads]

    def may_be(self, value: Value | None) -> bool:
        """Whether a node computes it that may match."""
        node = None if value is None else value.producer
        if node is None or node.op_type not in self.op_types:
            return False
        return any(map(self._may_read, self._orders_of(node)))

    def _orders_of(self, node: Node) -> Sequence[tuple[Value | None, ...]]:
        """The inputs of a node in each order to try; none if it is no such node."""
        if node.op_type not in self.op_types or node.domain:
            return ()
        return self._orders(node.inputs, None, commute=node.op_type in COMMUTE)

    def _orders(self, inputs: tuple[_T, ...], absent: _T, *, commute: bool) -> Sequence[tuple[_T, ...]]:
        """As many of a node's inputs as there are patterns, in each order to try; none if there are more of them."""
        count, wanted = len(inputs), len(self.inputs)
        while count > wanted and inputs[count - 1] is absent:
            count -= 1
        if count > wanted and not self.rest:
            return ()
        inputs = inputs[:count] + (absent,) * (wanted - count)
        return (inputs, inputs[::-1]) if commute and len(inputs) == 2 else (inputs,)

    def _may_read(self, inputs: tuple[Value | None, ...]) -> bool:
        for place, wanted in self._telling:
            value = inputs[place]
            if not (value is None if wanted is None else wanted.may_be(value)):
                return False
        return True

    def _may_read_heads(self, heads: tuple[str, ...]) -> bool:
        for wanted, head in zip(self.inputs, heads, strict=False):
            if not (head == ABSENT if wanted is None else wanted.may_match(head)):
                return False
        return True

    def _find_inputs(
        self, inputs: tuple[Value | None, ...], root: Node, bound: Bound, first: int = 0
    ) -> Iterator[Bound]:
        """Match the inputs from the `first` on, one by one."""
        for at in range(first, len(self.inputs)):
            wanted, value = self.inputs[at], inputs[at]
            if wanted is None:
                continue
            if isinstance(wanted, Hole):
                filled = None if value is None else wanted.fill(value, bound)
                if filled is None:
                    return
                bound = filled
                continue
            for found in wanted.find(value, root, bound):
                yield from self._find_inputs(inputs, root, found, at + 1)
            return
        yield bound


class AnyInput(Call):
    """A call that reads, at one of its places, what the one pattern in `inputs` matches."""

    def may_take(self, heads: tuple[str, ...]) -> bool:
        """Whether one of them may be it."""
        return any(wanted is not None and wanted.may_match(head) for wanted in self.inputs for head in heads)

    def may_be(self, value: Value | None) -> bool:
        """Whether a node of the operator computes it."""
        node = None if value is None else value.producer
        return node is not None and node.op_type in self.op_types

    def find_node(self, node: Node, root: Node, bound: Bound) -> Iterator[Bound]:
        """Match a node once for each input that fits."""
        if node.op_type in self.op_types and not node.domain:
            bound = bound.with_node(self.label, node)
            for value in dict.fromkeys(node.inputs):
                for wanted in self.inputs:
                    if wanted is not None:
                        yield from wanted.find(value, root, bound)


class AnyOf(Pattern):
    """The first alternative that matches, then the others."""

    def __init__(self, options: tuple[Pattern, ...]) -> None:
        self.options = options

    def may_match(self, head: str) -> bool:
        """Whether one of them may."""
        return any(option.may_match(head) for option in self.options)

    def may_be(self, value: Value | None) -> bool:
        """Whether one of them may."""
        return any(option.may_be(value) for option in self.options)

    def find(self, value: Value | None, root: Node, bound: Bound) -> Iterator[Bound]:
        """Try every alternative."""
        for option in self.options:
            yield from option.find(value, root, bound)


class Maybe(Pattern):
    """An input that may be left out."""

    def __init__(self, inner: Pattern) -> None:
        self.inner = inner

    def find(self, value: Value | None, root: Node, bound: Bound) -> Iterator[Bound]:
        """Match nothing, or what is inside."""
        if value is None:
            yield bound
        else:
            yield from self.inner.find(value, root, bound)

    def may_match(self, head: str) -> bool:
        """Whether it is left out, or may be what is inside."""
        return head == ABSENT or self.inner.may_match(head)

    def may_be(self, value: Value | None) -> bool:
        """Whether it is left out, or may be what is inside."""
        return value is None or self.inner.may_be(value)


class _Op:
    """Makes calls: `op.Add(x, y)`, `op["Add", "Sub"](x, y)`; a last `...` allows more inputs."""

    def __getattr__(self, op_type: str) -> _Caller:
        return _Caller((op_type,))

    def __getitem__(self, op_types: tuple[str, ...]) -> _Caller:
        return _Caller(op_types)


class _Caller(NamedTuple):
    op_types: tuple[str, ...]

    def __call__(self, *inputs: Pattern | EllipsisType | None) -> Call:
        listed = tuple(one for one in inputs if not isinstance(one, EllipsisType))
        return Call(self.op_types, listed, rest=len(listed) < len(inputs))


op = _Op()


def var(name: str = "") -> Var:
    """A hole for any value."""
    return Var(name)


def const(name: str = "") -> Const:
    """A hole for a constant."""
    return Const(name)


def scalar(number: float, rel: float = 0.0, name: str = "") -> Scalar:
    """A constant of one element that is `number`, within `rel` times it."""
    return Scalar(number, rel, name)


def every(number: float, name: str = "") -> Every:
    """A constant of which each element is `number`; -0 is another one than 0."""
    return Every(number, name)


def zeros(name: str = "") -> Zeros:
    """A constant that may be of zeros alone, of either sign: a guard must look into a large one."""
    return Zeros(name)


def any_input(op_type: str, inner: Pattern) -> AnyInput:
    """A call of an operator of any number of inputs, one of which `inner` matches."""
    return AnyInput((op_type,), (inner,), rest=True)


def any_of(*options: Pattern) -> AnyOf:
    """One of several patterns."""
    return AnyOf(options)


def maybe(inner: Pattern) -> Maybe:
    """An input that may be left out."""
    return Maybe(inner)
