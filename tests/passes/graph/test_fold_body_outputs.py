"""An output of a body that is constant stays the output of a Constant node: onnx's type inference takes the types of a
body's outputs from nodes alone."""

from __future__ import annotations

import onnx.checker
import onnx.parser

from onnxpress.backends.ort import OrtBackend
from onnxpress.ir import emit, lower
from onnxpress.passes.manager.manager import PassManager

TEXT = """<ir_version: 8, opset_import: ["" : 17]>
g (bool c, float[2] x) => (float[2] y) {
    z = If(c) <
        then_branch = t () => (u) { a = Constant <value = float[2] {4, 9}> () b = Abs(a) u = Sqrt(b) },
        else_branch = e () => (v) { v = Constant <value = float[2] {1, 2}> () }>
    y = Add(x, z)
}"""


def test_constant_outputs_of_bodies_are_constant_nodes() -> None:
    proto = onnx.parser.parse_model(TEXT)
    onnx.checker.check_model(proto, full_check=True)
    model = lower(proto)
    PassManager("fold,dce", backend=OrtBackend()).run(model)
    branch = next(iter(model.graph.nodes))
    assert [[node.op_type for node in body.nodes] for body in branch.bodies] == [["Constant"], ["Constant"]]
    assert [body.outputs[0].name for body in branch.bodies] == ["u", "v"]
    value = branch.bodies[0].outputs[0].const
    assert value is not None
    assert value.numpy().tolist() == [2, 3]
    after = emit(model)
    onnx.checker.check_model(after, full_check=True)
    assert after.ByteSize() <= proto.ByteSize()
