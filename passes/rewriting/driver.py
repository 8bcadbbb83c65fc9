"""The driver: applies rules to all nodes of a model until none fits, with fuel against rules that undo each other."""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Iterator, Sequence

from ...ir import Graph, Node, Value
from ...ir.analysis.purity import Purity
from ..manager.context import Context
from ..manager.sweep import erase_if_dead
from .pattern import Bound, head_of
from .rule import Builder, Match, Results, Rule, Types

FUEL_PER_NODE = 10
LEAST_FUEL = 1000
_ROUNDS = 20
_RECENT = 100
_NOTHING = Bound()
QUIET = "-"
"""How a guard's reason begins that is not worth a remark."""


def apply_rules(ctx: Context, rules: Sequence[Rule], at: Iterable[Node] | None = None) -> Counter[str]:
    """Apply `rules` wherever they fit, and say what guards declined; returns how often each was applied.

    `at` has the nodes at which some rule fits or a guard has something to say, if that is known; others are looked at
    once something has changed.
    """
    return _Driver(ctx, rules).run(at)


class _Driver:
    def __init__(self, ctx: Context, rules: Sequence[Rule]) -> None:
        self.ctx = ctx
        self.rules = rules
        self.applied = Counter[str]()
        self.declined: dict[Node, dict[str, str]] = {}
        self.by_operator: dict[str, list[Rule]] = defaultdict(list)
        for rule in self.rules:
            for op_type in rule.pattern.op_types:
                self.by_operator[op_type].append(rule)
        self.fitting: dict[tuple[str, ...], list[Rule]] = {}
        nodes = sum(map(len, self.ctx.model.walk_graphs()))
        self.fuel = max(LEAST_FUEL, FUEL_PER_NODE * nodes)
        self.recent: deque[str] = deque(maxlen=_RECENT)
        self.work: deque[Node] = deque()
        self.waiting: set[Node] = set()
        self.purity = Purity(self.ctx.model)

    def run(self, at: Iterable[Node] | None) -> Counter[str]:
        """Rounds, each with types of its own: what one makes is known to the next."""
        for _ in range(_ROUNDS):
            before = self.applied.total()
            self.types = Types(self.ctx.shapes())
            self.add(self.everywhere() if at is None else at)
            at = None
            while self.work and self.fuel > 0:
                self.visit(self.next())
            if self.applied.total() == before or self.fuel <= 0:
                break
        self.explain()
        return self.applied

    def everywhere(self) -> Iterator[Node]:
        """All nodes of the model."""
        for graph in self.ctx.model.walk_graphs():
            yield from graph.nodes

    def add(self, nodes: Iterable[Node]) -> None:
        for node in nodes:
            if node not in self.waiting and node.op_type in self.by_operator:
                self.waiting.add(node)
                self.work.append(node)

    def next(self) -> Node:
        node = self.work.popleft()
        self.waiting.discard(node)
        return node

    def visit(self, node: Node) -> None:
        """Apply the first rule that fits a node."""
        self.declined.pop(node, None)
        rules = self.rules_for(node)
        if not rules or node.graph is None or node.domain or not _is_alive(node.graph):
            return
        version = node.graph.opset.get("", 0)
        for rule in rules:
            if node.graph is not None and rule.since <= version <= rule.until and self.try_rule(rule, node):
                return

    def rules_for(self, node: Node) -> list[Rule]:
        """The rules that may fit, as far as the operators of a node and of those that feed it tell: many nodes have
        the same of both."""
        key = (node.op_type, *map(head_of, node.inputs))
        if key not in self.fitting:
            self.fitting[key] = [rule for rule in self.by_operator[key[0]] if rule.pattern.may_take(key[1:])]
        return self.fitting[key]

    def try_rule(self, rule: Rule, node: Node) -> bool:
        for bound in rule.pattern.find_node(node, node, _NOTHING):
            match = Match(bound, self.types, self.ctx)
            reason = self.reason(rule, match)
            if not reason:
                return self.rewrite(rule, match)
            if not reason.startswith(QUIET):
                self.declined.setdefault(node, {})[rule.name] = reason
        return False

    def reason(self, rule: Rule, match: Match) -> str:
        """Why a match is left alone; empty if it is not."""
        if not all(map(self.ctx.selects, match.bound.matched)):
            return QUIET
        if any(value.pinned for node in match.bound.matched for value in node.outputs):
            return QUIET
        if rule.exclusive:
            shared = next((node for node in match.inner if not _is_inner(node, match.bound.matched)), None)
            if shared is not None:
                return f"{QUIET} {shared.label} has other readers"
        return rule.guard(match)

    def rewrite(self, rule: Rule, match: Match) -> bool:
        rewriter, root = self.ctx.rewriter, match.root
        around, readers = list(_around(match)), list(_readers(root))
        builder = Builder(match)
        with rewriter.apply(rule.name, *match.bound.matched):
            results = rule.build(match, builder)
            for old, new in zip(root.outputs, _listed(results), strict=False):
                if new is not None and new is not old:
                    self.types.note(new, old)
                    if builder.made_here(new):
                        rewriter.take_over(old, new)
                    else:
                        rewriter.replace(old, new, keeps_types=self.types.agree(old, new))
            self.erase(match.bound.matched)
        self.applied[rule.name] += 1
        self.recent.append(rule.name)
        self.fuel -= 1
        self.declined.pop(root, None)
        self.add(builder.made)
        self.add(node for node in around if node.graph is not None)
        self.add(node for node in readers if node.graph is not None)
        return True

    def erase(self, nodes: Iterable[Node]) -> None:
        """Erase nodes that nothing reads any more, and what only they read: rules need not look at it again."""
        todo = deque(nodes)
        while todo:
            node = todo.popleft()
            reads = node.inputs
            if self.ctx.selects(node) and erase_if_dead(node, self.ctx.rewriter, self.purity):
                todo += (value.producer for value in reads if value is not None and value.producer is not None)

    def explain(self) -> None:
        """Say what was done, what was declined, and whether rules fought."""
        remarks = self.ctx.remarks
        for name, count in sorted(self.applied.items()):
            remarks.applied("model", f"applied {count} times" if count > 1 else "applied once", rule=name)
        for node, reasons in self.declined.items():
            if node.graph is not None:
                for name, reason in reasons.items():
                    remarks.missed(node.label, reason, rule=name)
        if self.fuel <= 0:
            fighting = ", ".join(sorted(set(self.recent)))
            remarks.failed("model", f"rules undo each other without end: {fighting}", rule="fuel")


def _listed(results: Results) -> Sequence[Value | None]:
    return [results] if isinstance(results, Value) else results


def _readers(root: Node) -> Iterator[Node]:
    """The nodes that read what is replaced."""
    for value in root.outputs:
        for use in value.uses:
            if isinstance(use.user, Node):
                yield use.user


def _around(match: Match) -> Iterator[Node]:
    """The nodes that feed a match: they may match something else once it is gone."""
    for node in match.bound.matched:
        for value in node.inputs:
            if value is not None and value.producer is not None:
                yield value.producer


def _is_inner(node: Node, matched: tuple[Node, ...]) -> bool:
    """Whether only nodes of the match read what `node` computes."""
    return all(value.is_read_only_by(matched) for value in node.outputs)


def _is_alive(graph: Graph) -> bool:
    """Whether no node around a graph was erased."""
    here: Graph | None = graph
    while here is not None and here.parent is not None:
        here = here.parent.graph
        if here is None:
            return False
    return True


def can_stand_for(old: Value, new: Value) -> str:
    """Why readers of `old` cannot simply read the existing value `new`; empty if they can.

    An output of a graph must be computed in it by a node of its own, so that its name can be kept.
    """
    for use in old.uses:
        if isinstance(use.user, Graph):
            graph = use.user
            is_constant = new.is_initializer or (new.producer is not None and new.producer.is_op("Constant"))
            if new.graph is not graph or new.is_input or is_constant:
                return f"{QUIET} an output cannot be an input or a constant"
            if new in graph.outputs or new.pinned:
                return f"{QUIET} two outputs cannot be one value"
    return ""
