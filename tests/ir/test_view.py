"""The networkx view of a graph, and analyses that are kept until the model changes."""

import time

import networkx as nx
import onnx.parser

from onnxpress.ir import Model, Rewriter, lower
from onnxpress.ir.analysis.cache import Analyses
from onnxpress.ir.analysis.view import captured, dataflow

TEXT = """<ir_version: 8, opset_import: ["" : 17]>
g (float[2] x, bool c) => (float[2] z) <float[2] w = {1, 2}> {
    y = Add(x, w)
    z = If(c) <then_branch = t () => (float[2] u) { u = Mul(y, w) }, else_branch = e () => (float[2] v) { v = Neg(x) }>
}"""


def model() -> Model:
    return lower(onnx.parser.parse_model(TEXT))


def test_edges_are_uses_and_captures() -> None:
    graph = model().graph
    add, branch = graph.nodes
    view = dataflow(graph)
    x, condition = graph.inputs
    (w,) = graph.initializers
    assert {(a, b, slot) for a, b, slot in view.edges(data="slot")} == {
        (x, add, 0),
        (w, add, 1),
        (condition, branch, 0),
        (add, branch, None),
        (w, branch, None),
        (x, branch, None),
        (branch, graph.outputs[0], 0),
    }
    assert captured(branch) == [add.outputs[0], w, x]


def test_standard_algorithms_run_on_it() -> None:
    graph = model().graph
    view = dataflow(graph)
    assert nx.is_directed_acyclic_graph(view)
    assert nx.ancestors(view, graph.outputs[0]) == {*graph.nodes, *graph.inputs, *graph.initializers}


def test_an_analysis_runs_again_only_after_a_change() -> None:
    subject = model()
    runs = []

    def count(which: Model) -> int:
        runs.append(which.version)
        return len(which.graph)

    analyses = Analyses(subject)
    assert (analyses.get(count), analyses.get(count), len(runs)) == (2, 2, 1)
    rewriter = Rewriter(subject)
    rewriter.insert("Neg", [subject.graph.inputs[0]], graph=subject.graph)
    assert (analyses.get(count), analyses.get(count), len(runs)) == (3, 3, 2)
    rewriter.rollback(0)
    assert (analyses.get(count), len(runs)) == (2, 3)


def test_an_analysis_that_was_asked_for_ahead_is_claimed_once_by_who_needs_it() -> None:
    subject = model()
    analyses = Analyses(subject)

    def slow(which: Model) -> int:
        time.sleep(0.01)
        return len(which.graph)

    assert analyses.get(slow, ahead=True) == 2 == analyses.get(slow, ahead=True)
    assert analyses.claimed == 0
    analyses.get(slow)
    once = analyses.claimed
    analyses.get(slow)
    assert once >= 0.01
    assert analyses.claimed == once
    Rewriter(subject).insert("Neg", [subject.graph.inputs[0]], graph=subject.graph)
    analyses.get(slow)
    assert analyses.claimed == once, "nobody asked for it ahead"


def test_shapes_are_kept_through_what_leaves_them_and_inferred_anew_after_all_else() -> None:
    model = lower(
        onnx.parser.parse_model("""<ir_version: 8, opset_import: ["" : 17]>
        g (float[2, 3] x, float[1] d) => (float y) <float[1] d = {0}, float[1] w = {1}> {
            dead = Neg(x)
            turned = Transpose(x)
            y = Exp(x)
        }""")
    )
    rewriter, analyses = Rewriter(model), Analyses(model)
    dead, turned, exp = model.graph.nodes
    shapes = analyses.shapes()
    rewriter.erase(dead)
    rewriter.rename(turned.outputs[0], "other")
    rewriter.remove_initializer(model.graph.initializers[1])
    assert analyses.shapes() is shapes
    rewriter.set_input(exp, 0, turned.outputs[0])
    assert (shapes.shape(exp.outputs[0]), analyses.shapes().shape(exp.outputs[0])) == ((2, 3), (3, 2))
    shapes = analyses.shapes()
    rewriter.remove_initializer(model.graph.inputs[1])
    assert analyses.shapes() is not shapes
    shapes = analyses.shapes()
    rewriter.rollback(rewriter.mark() - 1)
    assert analyses.shapes() is not shapes
