"""One tool's documented int8 recipe for one file, in the interpreter that has the tool.

    PYTHON bench/quantizers.py TOOL MODEL.onnx CALIB.npz OUT.onnx

`bench/quantize.py` calls it for the tools that are compared. CALIB.npz holds one array an input with samples on its
first axis, or `NAME@0`, `NAME@1`, ... where samples differ in shape. Each recipe is what the tool's documentation shows
first for int8 on a CPU, per channel where it offers that, with all samples.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx


def feeds(path: str) -> list[dict[str, np.ndarray]]:
    """The samples, each a batch of one."""
    held = np.load(path)
    plain = [name for name in held if "@" not in name]
    if plain:
        return [{name: held[name][i : i + 1] for name in plain} for i in range(len(held[plain[0]]))]
    names = {name.split("@")[0] for name in held}
    count = 1 + max(int(name.split("@")[1]) for name in held)
    return [{name: held[f"{name}@{i}"] for name in names} for i in range(count)]


class Reader:
    """What onnxruntime and Quark take samples from."""

    def __init__(self, path: str) -> None:
        self._left: Iterator[dict[str, np.ndarray]] = iter(feeds(path))

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self._left, None)


def ort_static(source: str, data: str, target: str) -> None:
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

    quantize_static(
        processed(source, target), target, Reader(data), quant_format=QuantFormat.QDQ, per_channel=True,
        activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
    )  # fmt: skip


def ort_dynamic(source: str, data: str, target: str) -> None:
    from onnxruntime.quantization import quantize_dynamic

    quantize_dynamic(source, target, per_channel=True)


def ort_dynamic_processed(source: str, data: str, target: str) -> None:
    """Of what its own preparation makes of the model: behind a Transpose it finds no weight."""
    ort_dynamic(processed(source, target), data, target)


def ort_dynamic_tensors(source: str, data: str, target: str) -> None:
    """The same with one scale for each weight."""
    from onnxruntime.quantization import quantize_dynamic

    quantize_dynamic(processed(source, target), target)


def processed(source: str, target: str) -> str:
    """The model with its constants folded, as onnxruntime's quantizers want it."""
    from onnxruntime.quantization.shape_inference import quant_pre_process

    quant_pre_process(source, target + ".pre.onnx", skip_symbolic_shape=True)
    return target + ".pre.onnx"


def nncf(source: str, data: str, target: str, **more: Any) -> None:
    import nncf

    samples = feeds(data)
    onnx.save(nncf.quantize(onnx.load(source), nncf.Dataset(samples), subset_size=len(samples), **more), target)


def nncf_transformer(source: str, data: str, target: str) -> None:
    from nncf import ModelType

    nncf(source, data, target, model_type=ModelType.TRANSFORMER)


def aimet(source: str, data: str, target: str) -> None:
    from aimet_onnx import QuantizationSimModel, int8

    samples = feeds(data)
    model = onnx.load(source)
    simulated = QuantizationSimModel(model, param_type=int8, activation_type=int8, dummy_input=samples[0])
    simulated.compute_encodings(samples)
    onnx.save(simulated.to_onnx_qdq(export_int32_bias=True, prequantize_constants=True), target)


def quark(source: str, data: str, target: str) -> None:
    from quark.onnx import Int8Spec, ModelQuantizer, QConfig, QLayerConfig, QuantGranularity, UInt8Spec

    opset = next(each.version for each in onnx.load(source).opset_import if each.domain in ("", "ai.onnx"))
    # It refuses channels below opset 13.
    weight = Int8Spec(quant_granularity=QuantGranularity.Channel if opset >= 13 else QuantGranularity.Tensor)
    wanted = QLayerConfig(activation=UInt8Spec(), weight=weight)
    ModelQuantizer(QConfig(global_config=wanted)).quantize_model(source, target, Reader(data))


def onnxsim(source: str, data: str, target: str) -> None:
    import onnxsim

    simple, _ = onnxsim.simplify(onnx.load(source))
    onnx.save(onnxsim.quantize_static(simple, feeds(data)), target)


TOOLS = {
    "onnxruntime-static": ort_static,
    "onnxruntime-dynamic": ort_dynamic,
    "onnxruntime-dynamic-processed": ort_dynamic_processed,
    "onnxruntime-dynamic-processed-tensors": ort_dynamic_tensors,
    "nncf": nncf,
    "nncf-transformer": nncf_transformer,
    "aimet": aimet,
    "quark": quark,
    "onnxsim": onnxsim,
}

if __name__ == "__main__":
    TOOLS[sys.argv[1]](*sys.argv[2:])
