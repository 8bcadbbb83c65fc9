"""How the cost of a pipeline grows with the number of nodes.

    python bench/scaling.py [-p PIPELINE] [--shape SHAPE] [--nodes 2500,5000,10000,20000] [--measure] [--profile]

For each shape of graph: CPU seconds for every number of nodes, and the ratio to the line before (2 is linear where the
nodes double). With `--measure` the error is measured too, which is mostly the executor's time; `--profile` prints where
the time goes in the largest model.
"""

from __future__ import annotations

import argparse
import cProfile
import itertools
import pstats
import time
from collections.abc import Callable

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import onnxpress

WIDTH = 8
Nodes = list[onnx.NodeProto]
Shape = Callable[[int], tuple[Nodes, list[onnx.TensorProto], str]]


def mixed(count: int) -> tuple[Nodes, list[onnx.TensorProto], str]:
    """Blocks of ten: a weight behind Constant, Identity, Cast, Transpose; a computed shape; a dead node."""
    nodes: Nodes = []
    weights: list[onnx.TensorProto] = []
    x = "x"
    for i in range(count // 10):
        weight = numpy_helper.from_array(np.full((WIDTH, WIDTH), 1 / WIDTH, np.float32), f"w{i}")
        nodes += [
            helper.make_node("Constant", [], [f"{i}.constant"], value=weight),
            helper.make_node("Identity", [f"{i}.constant"], [f"{i}.identity"]),
            helper.make_node("Cast", [f"{i}.identity"], [f"{i}.cast"], to=TensorProto.FLOAT),
            helper.make_node("Transpose", [f"{i}.cast"], [f"{i}.weight"]),
            helper.make_node("MatMul", [x, f"{i}.weight"], [f"{i}.matmul"]),
            helper.make_node("Shape", [x], [f"{i}.shape"]),
            helper.make_node("Relu", [f"{i}.matmul"], [f"{i}.relu"]),
            helper.make_node("Neg", [f"{i}.relu"], [f"{i}.dead"]),
            helper.make_node("Add", [f"{i}.relu", f"b{i}"], [f"{i}.add"]),
            helper.make_node("Reshape", [f"{i}.add", f"{i}.shape"], [f"{i}.x"]),
        ]
        weights.append(numpy_helper.from_array(np.zeros(WIDTH, np.float32), f"b{i}"))
        x = f"{i}.x"
    return nodes, weights, x


def chain(count: int) -> tuple[Nodes, list[onnx.TensorProto], str]:
    """One constant behind a chain of all the nodes."""
    names = ["c", *(f"{i}.neg" for i in range(count - 1))]
    nodes = [helper.make_node("Neg", [a], [b]) for a, b in itertools.pairwise(names)]
    nodes.append(helper.make_node("Add", ["x", names[-1]], ["sum"]))
    return nodes, [numpy_helper.from_array(np.ones(WIDTH, np.float32), "c")], "sum"


def fan(count: int) -> tuple[Nodes, list[onnx.TensorProto], str]:
    """One constant that half of the nodes read, each result added to the running sum."""
    nodes: Nodes = []
    x = "x"
    for i in range(count // 2):
        nodes.append(helper.make_node("Mul", ["c", "c"], [f"{i}.mul"]))
        nodes.append(helper.make_node("Add", [x, f"{i}.mul"], [f"{i}.x"]))
        x = f"{i}.x"
    return nodes, [numpy_helper.from_array(np.ones(WIDTH, np.float32), "c")], x


def growing(count: int) -> tuple[Nodes, list[onnx.TensorProto], str]:
    """Constants that would make the file grow, so that all of them stay computed."""
    nodes: Nodes = []
    x = "x"
    for i in range(count // 3):
        shape = numpy_helper.from_array(np.array([64, WIDTH], np.int64), "shape")
        nodes.append(helper.make_node("Constant", [], [f"{i}.shape"], value=shape))
        nodes.append(helper.make_node("ConstantOfShape", [f"{i}.shape"], [f"{i}.zeros"]))
        nodes.append(helper.make_node("Add", [x, f"{i}.zeros"], [f"{i}.x"]))
        x = f"{i}.x"
    return nodes, [], x


def bodies(count: int) -> tuple[Nodes, list[onnx.TensorProto], str]:
    """An If for every six nodes, with a constant in each branch and one captured from outside."""
    nodes: Nodes = []
    x = "x"
    one = numpy_helper.from_array(np.ones(WIDTH, np.float32), "one")
    for i in range(count // 6):
        branches = {}
        for branch, op_type in (("then_branch", "Add"), ("else_branch", "Sub")):
            inside = [
                helper.make_node("Constant", [], [f"{i}.{branch}.one"], value=one),
                helper.make_node(op_type, [x, f"{i}.{branch}.one"], [f"{i}.{branch}.out"]),
            ]
            out = helper.make_tensor_value_info(f"{i}.{branch}.out", TensorProto.FLOAT, None)
            branches[branch] = helper.make_graph(inside, branch, [], [out])
        nodes.append(helper.make_node("If", ["flag"], [f"{i}.if"], **branches))
        nodes.append(helper.make_node("Relu", [f"{i}.if"], [f"{i}.x"]))
        x = f"{i}.x"
    return nodes, [], x


def nested(count: int) -> tuple[Nodes, list[onnx.TensorProto], str]:
    """Concats in Concats, which become one."""
    nodes = [helper.make_node("Concat", [f"{i}.x" if i else "x", "x"], [f"{i + 1}.x"], axis=1) for i in range(count)]
    return nodes, [], f"{count}.x"


def alike(count: int) -> tuple[Nodes, list[onnx.TensorProto], str]:
    """Constants that differ in one element, and each of them twice."""
    nodes: Nodes = []
    weights: list[onnx.TensorProto] = []
    for i in range(count):
        array = np.zeros((100, WIDTH), np.float32)
        array[99 - i // 2 // WIDTH % 100, i // 2 % WIDTH] = 1 + i // 2 // (100 * WIDTH)
        weights.append(numpy_helper.from_array(array, f"w{i}"))
        nodes.append(helper.make_node("Add", [f"{i}.x" if i else "x", f"w{i}"], [f"{i + 1}.x"]))
    return nodes, weights, f"{count}.x"


def _steps(count: int, step: Callable[[int, str, str], onnx.NodeProto]) -> tuple[Nodes, str]:
    """A chain of nodes, each made of its number, what it reads and what it gives."""
    names = ["x", *(f"{i}.x" for i in range(count))]
    return [step(i, *pair) for i, pair in enumerate(itertools.pairwise(names))], names[-1]


def transposes(count: int) -> tuple[Nodes, list[onnx.TensorProto], str]:
    """A chain of Transposes."""
    nodes, last = _steps(count, lambda i, a, b: helper.make_node("Transpose", [a], [b], perm=[1, 0]))
    return nodes, [], last


def reshapes(count: int) -> tuple[Nodes, list[onnx.TensorProto], str]:
    """A chain of Reshapes to two shapes in turn."""
    nodes, last = _steps(count, lambda i, a, b: helper.make_node("Reshape", [a, f"to{i % 2}"], [b]))
    shapes = [numpy_helper.from_array(np.array([-1, WIDTH >> i], np.int64), f"to{i}") for i in range(2)]
    return nodes, shapes, last


def adds(count: int) -> tuple[Nodes, list[onnx.TensorProto], str]:
    """A chain of Adds of constants."""
    nodes, last = _steps(count, lambda i, a, b: helper.make_node("Add", [a, f"c{i}"], [b]))
    return nodes, [numpy_helper.from_array(np.full(WIDTH, i, np.float32), f"c{i}") for i in range(count)], last


def slices(count: int) -> tuple[Nodes, list[onnx.TensorProto], str]:
    """A chain of Slices along two axes in turn, all of which share their limits."""
    nodes, last = _steps(count, lambda i, a, b: helper.make_node("Slice", [a, "start", "end", f"axis{i % 2}"], [b]))
    limits = {"start": 0, "end": 1 << 30, "axis0": 0, "axis1": 1}
    return nodes, [numpy_helper.from_array(np.array([n], np.int64), name) for name, n in limits.items()], last


SHAPES: dict[str, Shape] = {
    f.__name__: f for f in (mixed, chain, fan, growing, bodies, nested, alike, transposes, reshapes, adds, slices)
}


def model_of(shape: Shape, count: int) -> onnx.ModelProto:
    """A model of about `count` nodes; `x` is float32 [batch, WIDTH]."""
    nodes, weights, result = shape(count)
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", WIDTH])
    flag = helper.make_tensor_value_info("flag", TensorProto.BOOL, [])
    y = helper.make_tensor_value_info(result, TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, shape.__name__, [x, flag], [y], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=SHAPES, action="append", help="default: all of them")
    parser.add_argument("-p", "--pipeline", default="simplify")
    parser.add_argument("--nodes", default="2500,5000,10000,20000")
    parser.add_argument("--measure", action="store_true")
    parser.add_argument("--profile", action="store_true")
    options = parser.parse_args()
    counts = [int(text) for text in options.nodes.split(",")]
    print(f"{'shape':<10} {'nodes':>6} {'left':>6} {'CPU s':>8} {'ratio':>6}")
    for name in options.shape or SHAPES:
        before = 0.0
        for count in counts:
            model = onnxpress.load(model_of(SHAPES[name], count))
            manager = onnxpress.PassManager(options.pipeline, measure=options.measure)
            profile = cProfile.Profile() if options.profile and count == counts[-1] else None
            start = time.process_time()
            report = profile.runcall(manager.run, model) if profile else manager.run(model)
            seconds = time.process_time() - start
            ratio = f"{seconds / before:6.2f}" if before else ""
            print(f"{name:<10} {count:>6} {report.after.cost.nodes:>6} {seconds:>8.2f} {ratio}", flush=True)
            before = seconds
            if profile:
                pstats.Stats(profile).sort_stats("tottime").print_stats(25)


if __name__ == "__main__":
    main()
