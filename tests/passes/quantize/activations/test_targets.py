"""What each target asks for, checked by a walker over the emitted messages that knows the rules in its own words."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import onnxpress
from onnxpress.errors import UserError
from onnxpress.passes.quantize.targets.profile import names, profile

DEMO = Path(str(files("onnxpress.cli.demo") / "digits.onnx"))
DATA = str(files("onnxpress.cli.demo") / "calib.npz")
RULES = {
    # activations, symmetric, largest weight level, bias in int32, every product's output quantized
    "generic": (np.uint8, False, 127, True, True),
    "litert": (np.int8, False, 127, True, True),
    "ort-cpu": (np.uint8, False, 127, True, False),
    "ort-cpu-arm": (np.int8, False, 127, True, False),
    "ort-cpu-avx2": (np.uint8, False, 63, True, False),
    "tensorrt": (np.int8, True, 127, False, False),
}


def quantized(target):
    model = onnxpress.load(DEMO)
    text = f"simplify,quantize-insert{{mode=static target={target} latency=off error=1 rounding=nearest}}"
    report = onnxpress.PassManager(text, measure=False).run(model, data=DATA)
    return onnxpress.ir.emit(model), report


class Walker:
    """Follows the messages of a model."""

    def __init__(self, model):
        self.nodes = list(model.graph.node)
        self.held = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
        self.maker = {name: node for node in self.nodes for name in node.output}
        self.readers = {}
        for node in self.nodes:
            for name in node.input:
                self.readers.setdefault(name, []).append(node)

    def products(self):
        """Convolutions and products that read something decoded, with the node that decodes it."""
        for node in self.nodes:
            if node.op_type in ("Conv", "MatMul", "Gemm"):
                decode = self.maker.get(node.input[0])
                if decode is not None and decode.op_type == "DequantizeLinear":
                    yield node, decode

    def behind(self, node):
        """The only reader of an output, past an activation."""
        (reader,) = self.readers.get(node.output[0], [None])
        return self.behind(reader) if reader is not None and reader.op_type in ("Relu", "Clip") else reader


def test_every_profile_has_rules_here():
    assert set(names()) == set(RULES)
    assert {one for one in names() if profile(one).runs_here} == {"ort-cpu"}


@pytest.mark.parametrize("target", RULES)
def test_a_real_network_keeps_the_rules_of_its_target(target):
    dtype, symmetric, level, int32_bias, closed = RULES[target]
    model, report = quantized(target)
    onnx.checker.check_model(model, full_check=True)
    walker = Walker(model)
    found = list(walker.products())
    assert found
    for node, decode in found:
        zero = walker.held[decode.input[2]]
        assert zero.dtype == dtype
        assert not symmetric or not zero.any()
        weight = walker.maker[node.input[1]]
        levels = walker.held[weight.input[0]]
        assert levels.dtype == np.int8
        assert np.abs(levels.astype(int)).max() <= level
        assert not walker.held[weight.input[2]].any()
        assert walker.held[weight.input[1]].ndim == (node.op_type == "Conv" or target != "litert")
        if len(node.input) > 2:
            bias = walker.maker.get(node.input[2])
            assert (bias is not None) == int32_bias
            if bias is not None:
                assert walker.held[bias.input[0]].dtype == np.int32
                assert len(bias.input) == 2
                step = walker.held[decode.input[1]] * walker.held[weight.input[1]]
                np.testing.assert_allclose(walker.held[bias.input[1]], step, rtol=1e-6)
        if closed or (node.op_type == "Conv" and target.startswith("ort")):
            assert walker.behind(node).op_type == "QuantizeLinear"
    shown = [remark.reason for remark in report.remarks if "MACs run in integers" in remark.reason]
    assert ("not measured" in shown[0]) == (not profile(target).runs_here)


def test_an_unknown_target_is_told_what_there_is():
    with pytest.raises(UserError, match="ort-cpu"):
        onnxpress.PassManager("quantize-insert{mode=static target=ort}")


def test_times_are_measured_only_where_the_target_runs():
    model = onnxpress.load(DEMO)
    with pytest.raises(UserError, match="does not run here"):
        onnxpress.PassManager("quantize-insert{mode=static target=tensorrt latency=measure}").run(model, data=DATA)


def test_without_data_there_is_one_clear_error():
    with pytest.raises(UserError, match="sample data"):
        onnxpress.PassManager("quantize-insert{mode=static}").run(onnxpress.load(DEMO))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("cache=ranges.npz", "cache is for mode=static, not for weight-only"),
        ("mode=static budget=0.2", "budget is for mode=weight-only, and goes without mode=static"),
        ("error=0.1 budget=0.2", "budget is for mode=weight-only, and goes without error"),
        ("type=int4 budget=0.2", "leave out type=int4"),
        ("type=int8 levels=kmeans budget=0.2", "leave out levels=kmeans"),
        ("budget=150%", "a share lies above 0"),
        ("budget=0", "a share lies above 0"),
        ("budget=1.5", "budget=1.5: a share such as 0.15 or 15%, or bytes such as 2MB .not a whole number"),
        ("budget=much", "budget=much: a share such as 0.15 or 15%, or bytes such as 2MB"),
        ("mode=dynamic calibration=mse", "calibration is for mode=static, not for dynamic"),
        ("mode=dynamic latency=measure", "latency=measure is for mode=static"),
        ("mode=static percentile=99", "percentile is for calibration=percentile"),
    ],
)
def test_an_option_that_would_do_nothing_is_a_mistake(options, words):
    with pytest.raises(UserError, match=words):
        onnxpress.PassManager(f"quantize-insert{{{options}}}")
