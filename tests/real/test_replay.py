"""Real models, bodies and Constant nodes included: what a run tells is enough to make the same bytes again."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

import onnx
import pytest
from click.testing import CliRunner

from onnxpress.cli.main import onnxpress
from onnxpress.passes.manager.provenance import KEY

from .conftest import path_of

PIPELINE = "fold,dce,guard{rel-l2=0.2}(quantize-insert{mode=weight-only})"


@dataclass(frozen=True)
class Case:
    """A model, what pins its inputs, and an IR version to raise it to."""

    name: str
    pins: tuple[str, ...] = ()
    ir_version: int | None = None


CASES = [
    Case("silero_vad", ("--value", "sr=16000")),
    Case("silero_vad", ("--value", "sr=16000"), ir_version=10),
    Case("ppocr_cls", ("--shape", "x=1x3x48x192")),
    Case("magika"),
]


def call(*args: object) -> str:
    done = CliRunner().invoke(onnxpress, [str(arg) for arg in args], standalone_mode=False)
    assert done.exception is None, done.output
    assert not done.return_value, done.output
    return done.stdout


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.name}-{case.ir_version or 'as-is'}")
def test_it_is_replayed_to_the_same_bytes(case, tmp_path):
    source, out = tmp_path / "in.onnx", tmp_path / "out.onnx"
    proto = onnx.load(path_of(case.name))
    proto.ir_version = case.ir_version or proto.ir_version
    onnx.save(proto, source)
    args = ("--data", "random", *case.pins, "--seed", 11, "--samples", 2)
    call("run", source, "-p", PIPELINE, *args, "-o", out, "--provenance", "--quiet")
    assert call("replay", out, "--input", source, "--data", "random", "-o", tmp_path / "new.onnx") == "the same bytes\n"
    assert (tmp_path / "new.onnx").read_bytes() == out.read_bytes()

    (entry,) = (one.value for one in onnx.load(out).metadata_props if one.key == KEY)
    (run,) = json.loads(entry)["runs"]
    assert (run["pipeline"], run["seed"]) == (PIPELINE.replace("{mode=weight-only}", ""), 11)
    assert str(tmp_path) not in entry
    assert not re.search(r"20\d\d-\d\d|\d\d:\d\d:\d\d", entry)
    told = call("explain", out)
    assert "nodes of quantize-insert" in told
    assert "nodes of the input" in told
