"""Facts of a model: symbolic shapes of its values, and partial elements of small integer tensors, in one walk.

The two feed each other: the elements of Shape(x) are the sizes of x, and the elements of its target are the shape that
a Reshape gives. Facts rest on graph inputs, weights and operators alone. A size is equal to another one only if both
come from the same dimension of the same input, or from equal expressions: two inputs whose dimensions have the same
name need not agree, since no runtime checks that they do.

Of onnx's inference only numbers and ranks are taken, and only where nothing that it read is a claim of the file (the
inputs of the bodies of Loop and Scan). Of an If whose condition is known, only the branch that is taken counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeGuard

from onnx import TensorProto

from ..graph import Function, Graph
from ..model import Model
from ..node import Node
from ..value import Value
from .broadcasting import Found, ImpossibleError, Open
from .conclusions import Conclusion, Memory
from .dims import Dim, Poly, bounds
from .element_rules import DECIDE, RULES, elements_of
from .elements import MAX_ELEMENTS, RANGES, Elements, Shape, array, numbers
from .equalities import FORCING, equalities, positive
from .shape_rules import shapes_of
from .shapes import Shapes

MAX_TRIALS = 24
MAX_WALKS = 4
_CLAIMING = ("Loop", "Scan", "SequenceMap")
_RESTING_ON_MORE = ("Reshape",)
"""Operators whose rules ask for more than what is known of their inputs: which sizes are not 0."""


class Facts:
    """What is known of the values of a model as it is now.

    `assumed` says for Ifs which branch (0 then, 1 else) they take.
    """

    def __init__(
        self, model: Model, shapes: Shapes, assumed: Mapping[Node, int] | None = None, memory: Memory | None = None
    ) -> None:
        self.model = model
        self.taken: dict[Node, int] = {}
        """The branch that an If takes in every run that does not fail: 0 then, 1 else."""
        self.undecided: dict[Node, Graph] = {}
        """Ifs whose branches give different ranks, with the outermost graph that is run only if they are."""
        self.impossible: set[Graph] = set()
        """Graphs in which a node fails in every run, so that whatever runs them fails."""
        self._assumed = dict(assumed or {})
        self._inferred = shapes
        self._memory = Memory() if memory is None else memory
        self.atoms = self._memory.atoms
        self.equal: list[tuple[Dim, Dim]] = []
        """Sizes that are equal in every run that does not fail."""
        self._positive = set[Dim]()
        """Sizes that are not 0 in any run that does not fail."""
        self._shapes: dict[Value, Shape | None] = {}
        self._elements: dict[Value, Elements | None] = {}
        self._claims: set[Value | None] = set()
        for root in model.roots():
            main = root is model.graph
            for value in root.inputs:
                self._shapes[value] = self._input_shape(value) if main else None
            self._walk(root, root, inferred=main)

    # ---- answers

    def shape(self, value: Value | None) -> Shape | None:
        """The shape of a value over unknown sizes; None if its rank is unknown."""
        if value is None:
            return None
        found = self._shapes.get(value)
        if found is None and (constant := value.const) is not None:
            return constant.shape
        return found

    def elements(self, value: Value | None) -> Elements | None:
        """What is known of the elements of a small integer or boolean tensor; None if nothing is."""
        if value is None:
            return None
        if value in self._elements:
            return self._elements[value]
        constants = self._memory.constants
        if value not in constants:
            constants[value] = _stored(value)
        return constants[value]

    def numbers(self, value: Value | None) -> list[int] | None:
        """The elements of a value if all of them are known numbers."""
        return numbers(self.elements(value))

    def fails(self, scope: Graph) -> bool:
        """Whether every run of a graph fails, or of one around it."""
        return any(scope.is_inside(graph) for graph in self.impossible)

    def is_positive(self, size: Dim) -> bool:
        """Whether a size is 1 or more in every run that does not fail."""
        return bounds(size)[0] >= 1 or size in self._positive

    def dtype(self, value: Value) -> int | None:
        """The element type of a tensor, if known."""
        found = self._inferred.dtype(value)
        if found is None and value.producer is not None and value is value.producer.outputs[0]:
            return self._computed_dtype(value.producer)
        return found

    def _computed_dtype(self, node: Node) -> int | None:
        """Where onnx infers nothing, as in functions."""
        if node.domain or node.op_type not in RULES:
            return None
        if node.op_type in ("Shape", "Size"):
            return int(TensorProto.INT64)
        if node.op_type in DECIDE:
            return int(TensorProto.BOOL)
        if node.op_type == "Cast":
            return int(node.attr("to", 0)) or None
        source = node.input(1 if node.op_type == "Where" else 0)
        return None if source is None or node.op_type == "ConstantOfShape" else self.dtype(source)

    # ---- the walk

    def _input_shape(self, value: Value) -> Shape | None:
        shape = self._inferred.shape(value)
        if shape is None:
            return None
        return tuple(dim if isinstance(dim, int) else self.atoms.of(value, place) for place, dim in enumerate(shape))

    def _walk(self, graph: Graph, scope: Graph, *, inferred: bool) -> None:
        """Follow the nodes of a graph; all of `scope` that is followed is run whenever this graph is."""
        opset = graph.opset.get("", 1)
        for node in graph.nodes:
            if node.op_type == "If" and not node.domain:
                self._if(node, scope, inferred)
                continue
            for body in node.bodies:
                for value in body.inputs:
                    self._shapes[value] = None
                self._walk(body, body, inferred=False)
            if node.constant is None:
                self._node(node, scope, inferred, opset)

    def _node(self, node: Node, scope: Graph, inferred: bool, opset: int) -> None:
        functions = self.model.functions
        function = functions.get((node.domain, node.op_type, node.overload)) if functions else None
        standard = not node.domain and function is None
        trusted = inferred and not self._rests_on_claims(node, function)
        if not trusted:
            self._claims.update(node.outputs)
        if not self._remember(node, scope, trusted):
            self._conclude(node, scope, trusted, opset if standard else None)
        if standard and scope is self.model.graph and node.op_type in FORCING:
            self.equal += equalities(node, self)
            self._positive.update(size for size in positive(node, self) if isinstance(size, Poly))

    def _remember(self, node: Node, scope: Graph, trusted: bool) -> bool:
        """Take over what was concluded for a node from the same knowledge, if something was."""
        kept = self._memory.nodes.get(node)
        if kept is None or not kept.holds(trusted, *self._read(node)):
            return False
        self._shapes.update(zip(node.outputs, kept.shapes, strict=True))
        if kept.elements is not None:
            self._elements[node.outputs[0]] = kept.elements
        if kept.impossible:
            self.impossible.add(scope)
        return True

    def _read(self, node: Node) -> tuple[list[Shape | None], list[Elements | None]]:
        return [self.shape(value) for value in node.inputs], [self.elements(value) for value in node.inputs]

    def _conclude(self, node: Node, scope: Graph, trusted: bool, opset: int | None) -> None:
        """Apply the rules, those of the standard domain if an opset of it is given, and keep what they say."""
        found: Found = ()
        impossible = False
        if opset is not None:
            try:
                found = shapes_of(node, self, opset)
            except ImpossibleError:
                impossible = True
                self.impossible.add(scope)
        outputs, elements = node.outputs, None
        for slot, value in enumerate(outputs):
            self._shapes[value] = self._settled(value, found[slot] if slot < len(found) else None, trusted)
        if opset is not None and outputs and node.op_type in RULES:
            elements = self._elements[outputs[0]] = elements_of(node, self)
        if self._memory.keeps and node.op_type not in _RESTING_ON_MORE:
            shapes = [self._shapes[value] for value in outputs]
            self._memory.nodes[node] = Conclusion(trusted, *self._read(node), shapes, elements, impossible)

    def _rests_on_claims(self, node: Node, function: Function | None) -> bool:
        return (
            (node.op_type in _CLAIMING and not node.domain)
            or (function is not None and bool(function.body.value_infos))
            or (bool(self._claims) and not self._claims.isdisjoint(node.inputs))
        )

    def _settled(self, value: Value, own: Open | None, trusted: bool) -> Shape | None:
        """One shape from that of the rules and that of onnx; what neither knows gets an unknown size of its own."""
        if own is not None and _is_static(own):
            return own
        theirs = self._inferred.shape(value) if trusted and value.name else None
        if own is None:
            own = None if theirs is None else (None,) * len(theirs)
        if own is None:
            return None
        if theirs is None or len(theirs) != len(own):
            theirs = (None,) * len(own)
        sizes: list[Dim] = []
        for place, (mine, other) in enumerate(zip(own, theirs, strict=True)):
            narrower = other if isinstance(other, int) and not isinstance(mine, int) else mine
            sizes.append(self.atoms.of(value, place) if narrower is None else narrower)
        return tuple(sizes)

    def _if(self, node: Node, scope: Graph, inferred: bool) -> None:
        branches, condition = branches_of(node), self.numbers(node.input(0))
        if branches is None:
            return
        taken = self._assumed.get(node)
        if condition is not None and len(condition) == 1:
            taken = 0 if condition[0] else 1
        if taken is not None:
            self.taken[node] = taken
        reached = [branch for index, branch in enumerate(branches) if taken in (None, index)]
        for branch in reached:
            self._walk(branch, branch if taken is None else scope, inferred=inferred)
        for slot, value in enumerate(node.outputs):
            results = [branch.outputs[slot] for branch in reached]
            if any(result in self._claims for result in results):
                self._claims.add(value)
            shapes = [self.shape(result) for result in results]
            self._shapes[value] = self._joined(value, shapes)
            if len({len(shape) for shape in shapes if shape is not None}) > 1:
                self.undecided[node] = scope
            known = [self.elements(result) for result in results]
            self._elements[value] = known[0] if len(known) == 1 else _common(known)

    def _joined(self, value: Value, shapes: list[Shape | None]) -> Shape | None:
        first = shapes[0]
        if first is None or any(shape is None or len(shape) != len(first) for shape in shapes):
            return None
        columns = zip(*(shape for shape in shapes if shape is not None), strict=True)
        return tuple(
            column[0] if len(set(column)) == 1 else self.atoms.of(value, place) for place, column in enumerate(columns)
        )


def _is_static(shape: Open) -> TypeGuard[tuple[int, ...]]:
    """Whether all sizes are numbers."""
    return all(type(size) is int for size in shape)


def _stored(value: Value) -> Elements | None:
    constant = value.const
    if constant is None or constant.dtype not in RANGES or constant.size > MAX_ELEMENTS:
        return None
    return array([int(item) for item in constant.numpy().flat], constant.shape)


def _common(known: list[Elements | None]) -> Elements | None:
    first, second = known
    if first is None or second is None or first.shape != second.shape:
        return None
    same = [a if a == b else None for a, b in zip(first.flat, second.flat, strict=True)]
    return array(same, first.shape) if any(item is not None for item in same) else None


def branches_of(node: Node) -> tuple[Graph, Graph] | None:
    """The branches of an If: then, else."""
    yes, no = node.attributes.get("then_branch"), node.attributes.get("else_branch")
    if yes is None or no is None or len(yes.graphs) != 1 or len(no.graphs) != 1:
        return None
    return yes.graphs[0], no.graphs[0]


def find_facts(model: Model, shapes: Shapes) -> Facts:
    """Facts, with those Ifs decided of which one branch makes the model fail for certain.

    What follows such an If may hold only for the rank that one branch gives: the other one is never taken by a run
    that succeeds.
    """
    memory, assumed, tried = Memory(), dict[Node, int](), set[Node]()
    facts = _learned(model, shapes, assumed, memory)
    while len(tried) < MAX_TRIALS:
        node = next((node for node in facts.undecided if node not in tried), None)
        if node is None:
            break
        tried.add(node)
        memory.keeps = True
        scope = facts.undecided[node]
        if facts.fails(scope):
            continue
        for index in (0, 1):
            if Facts(model, shapes, {**assumed, node: index}, memory).fails(scope):
                assumed[node] = 1 - index
                facts = _learned(model, shapes, assumed, memory)
                break
    return facts


def _learned(model: Model, shapes: Shapes, assumed: Mapping[Node, int], memory: Memory) -> Facts:
    """Facts that use what the operators force sizes to be: each walk may learn what the next one needs."""
    facts = Facts(model, shapes, assumed, memory)
    for _ in range(MAX_WALKS):
        if facts.impossible or not memory.learn(facts.equal):
            break
        facts = Facts(model, shapes, assumed, memory)
    return facts
