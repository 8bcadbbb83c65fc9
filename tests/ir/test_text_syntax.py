"""How the text looks: in full, short for people, as a whole and in part."""

import re

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from onnxpress.ir import DerivedTensor, Rewriter, lower, tensor
from onnxpress.ir.analysis.shapes import infer_shapes
from onnxpress.ir.text import TextError, parse, print_graph, print_model

BRANCHES = """\
ir_version = 10
producer_name = "test"
opset = 17
opset my.domain = 1
doc "two\\nlines"
meta "who" = "me"

graph main {
  doc "the graph"
  in %c: bool[]
  in %x: f32[batch,?,"2*n"]
      doc "the input"
  in %w: f32[3]

  default %w = f32[3] float_data [0x1p+0 -0x0p+0 0x7fc00001]
  const %idx = i64[2] [-1 3]
  const %half = f16[] -0x1.8p+1
  sparse %s = [3,3] values f32[2] [0x1p+0 inf] indices i64[2] [0 8] @idx

  %a: f32[batch,?] = Relu(%x) @first
  %y: f32[...] = If(%c) {
    then_branch=graph then {
      # reads %a, %w
      %t = Add(%a, %w)
      out %t
    }
    else_branch=graph "else branch" {
      # reads %x
      const %k = i4[3] [-8 0 7]
      %e, _, %"odd name" = my.domain::Custom:wide(%x, _, %k) {alpha=0x1p-1 none=ints [] t=f32[] 0x1p+0 @inner}
      out %e: f32[batch,3]
    }
  } @cond
      doc "which way"
      meta "layer" = "0"
      extra { device_configurations { configuration_id: "gpu" } }

  out %y: seq(f32[...])
}

function my.domain::Custom:wide {
  opset = 17
  attr alpha
  attr beta=0x1.8p+0
  in %p
  in %q
  in %r

  %o = LeakyRelu(%p) {alpha=float $alpha}
  %o2 = Identity(%o)

  out %o
  out %o2
  out %o2
}
"""

SHORT = """\
ir_version = 10
producer_name = "test"
opset = 17
opset my.domain = 1

graph main {
  in %c: bool[]
  in %x: f32[batch,?,"2*n"]
  in %w: f32[3]

  default %w = f32[3] [1.0 -0.0 nan]
  const %idx = i64[2] [-1 3]
  const %half = f16[] -3.0
  sparse %s = [3,3] values f32[2] [1.0 inf] indices i64[2] [0 8] @idx

  %a: f32[batch,?] = Relu(%x) @first
  %y: f32[...] = If(%c) {
    then_branch=graph then {
      # reads %a, %w
      %t = Add(%a, %w)
      out %t
    }
    else_branch=graph "else branch" {
      # reads %x
      const %k = i4[3] [-8 0 7]
      %e, _, %"odd name" = my.domain::Custom:wide(%x, _, %k) {alpha=0.5 none=ints [] t=f32[] 1.0 @inner}
      out %e: f32[batch,3]
    }
  } @cond

  out %y: seq(f32[...])
}

function my.domain::Custom:wide {
  opset = 17
  attr alpha
  attr beta=1.5
  in %p
  in %q
  in %r

  %o = LeakyRelu(%p) {alpha=float $alpha}
  %o2 = Identity(%o)

  out %o
  out %o2
  out %o2
}
"""


def linear(weight: TensorProto) -> onnx.ModelProto:
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"], name="layer")],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 10])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [weight],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


WEIGHT = onnx.numpy_helper.from_array(np.arange(100, dtype=np.float32).reshape(10, 10), "w")


def test_full_golden() -> None:
    assert print_model(parse(BRANCHES), full=True) == BRANCHES


def test_short_golden() -> None:
    assert print_model(parse(BRANCHES)) == SHORT


def test_short_text_leaves_out_what_is_long() -> None:
    model = lower(linear(WEIGHT))
    assert "  const %w = f32[10,10] ...  # 400 B\n" in print_model(model)
    with pytest.raises(TextError, match="something was left out here"):
        parse(print_model(model))


def test_short_text_computes_no_derived_tensor() -> None:
    def never(*_: object) -> np.ndarray:
        raise AssertionError("computed")

    model = lower(linear(WEIGHT))
    Rewriter(model).set_tensor(
        model.graph.initializers[0], DerivedTensor("quantize", never, (), TensorProto.FLOAT, (2,))
    )
    assert "const %w = f32[2] ...  # 8 B, quantize\n" in print_model(model)


def test_short_text_names_a_node_only_where_its_result_does_not() -> None:
    text = "graph g { in %x %layer_output_0 = Relu(%x) @layer %b = Relu(%x) @b %c = Relu(%x) @other out %x }"
    assert re.findall(r"@\w+", print_model(parse(text))) == ["@other"]
    assert re.findall(r"@\w+", print_model(parse(text), full=True)) == ["@layer", "@b", "@other"]


def test_inferred_types_are_shown_to_people_only() -> None:
    model = lower(linear(WEIGHT))
    assert "%y: f32[n,10] = MatMul" in print_model(model, types=infer_shapes(model).type)
    assert "%y = MatMul" in print_model(model, full=True, types=infer_shapes(model).type)


def test_edits_are_shown() -> None:
    model = parse(BRANCHES)
    rewriter = Rewriter(model)
    branch = next(node for node in model.graph.nodes if node.op_type == "If").bodies[0]
    rewriter.set_attribute(next(iter(branch.nodes)), "axis", 3)
    rewriter.set_tensor(model.graph.initializers[1], tensor(np.array([7], np.int64)))
    text = print_model(model, full=True)
    assert "%t = Add(%a, %w) {axis=3}" in text
    assert "const %idx = i64[1] [7]" in text


def test_one_graph_alone() -> None:
    model = parse(BRANCHES)
    branch = next(node for node in model.graph.nodes if node.op_type == "If").bodies[0]
    assert print_graph(branch) == "graph then {\n  # reads %a, %w\n  %t = Add(%a, %w)\n  out %t\n}\n"
    (function,) = model.functions.values()
    assert print_graph(function.body) == SHORT[SHORT.index("function") :]
    assert print_graph(model.graph, full=True) in BRANCHES


def test_types_stand_apart_where_their_order_would_be_lost() -> None:
    nodes = "%a = Relu(%x)  %b = Relu(%a)  out %b }"
    text = print_model(parse(f"graph g {{ in %x info %b: f32[2] info %a: f32[] {nodes}"), full=True)
    assert "  info %b: f32[2]\n  info %a: f32[]\n\n  %a = Relu(%x)\n" in text
    assert "info" not in print_model(parse(f"graph g {{ in %x info %a: f32[2] info %b: f32[] {nodes}"), full=True)
