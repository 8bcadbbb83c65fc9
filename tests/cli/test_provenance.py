"""Provenance: what a model tells of the run that made it, explained and replayed."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import numpy_helper

import onnxpress as op
from onnxpress.ir import emit, lower
from onnxpress.ir.proto import file_size
from onnxpress.passes.manager.provenance import KEY
from onnxpress.specs import models

SMALLER = "fold,dce,guard{rel-l2=0.5}(quantize-insert{mode=weight-only})"


def without_provenance(proto: onnx.ModelProto) -> onnx.ModelProto:
    kept = onnx.ModelProto()
    kept.CopyFrom(proto)

    def clear(message) -> None:
        for index in reversed(range(len(message.metadata_props))):
            if message.metadata_props[index].key == KEY:
                del message.metadata_props[index]

    def walk(nodes) -> None:
        for node in nodes:
            clear(node)
            for attribute in node.attribute:
                walk(attribute.g.node)
                for graph in attribute.graphs:
                    walk(graph.node)

    clear(kept)
    walk(kept.graph.node)
    for function in kept.functions:
        walk(function.node)
    return kept


@given(models(), st.sampled_from(["fold", "dce,fold", "fixpoint(fold,dce)"]), st.sampled_from([None, 10]))
def test_without_its_entries_a_model_is_as_without_provenance(proto, pipeline, ir_version):
    if ir_version is not None and proto.ir_version < ir_version:
        proto.ir_version = ir_version
    plain, telling = lower(proto), lower(proto)
    report = op.PassManager(pipeline, measure=False).run(plain)
    op.PassManager(pipeline, measure=False, provenance=True).run(telling)
    wanted = emit(plain).SerializeToString(deterministic=True)
    found = emit(telling)
    assert without_provenance(found).SerializeToString(deterministic=True) == wanted
    assert file_size(telling) == found.ByteSize()
    assert (KEY in telling.metadata) == report.changed
    if not report.changed:
        assert found.SerializeToString(deterministic=True) == proto.SerializeToString(deterministic=True)


@pytest.fixture
def made(cli, tmp_path, model, data):
    out = tmp_path / "out.onnx"
    assert cli("run", model, "-p", SMALLER, "--data", data, "--seed", "3", "-o", out, "--provenance").code == 0
    return out


def test_replay_gives_the_same_bytes(cli, tmp_path, model, data, made):
    new = tmp_path / "new.onnx"
    code, out, _ = cli("replay", made, "--input", model, "--data", data, "-o", new)
    assert (code, out) == (0, "the same bytes\n")
    assert new.read_bytes() == made.read_bytes()


def test_no_path_and_no_clock_goes_in(cli, tmp_path, model, data, made):
    other = tmp_path / "elsewhere" / "x.onnx"
    other.parent.mkdir()
    other.write_bytes(model.read_bytes())
    again = other.with_name("y.onnx")
    assert cli("run", other, "-p", SMALLER, "--data", data, "--seed", "3", "-o", again, "--provenance").code == 0
    assert again.read_bytes() == made.read_bytes()
    assert str(tmp_path).encode() not in made.read_bytes()


def test_replay_names_what_is_another(cli, tmp_path, model, data, made):
    other = tmp_path / "other.onnx"
    changed = onnx.load(model)
    changed.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.zeros((64, 32), np.float32), "w"))
    onnx.save(changed, other)
    code, _, err = cli("replay", made, "--input", other, "--data", data)
    assert (code, err.count("\n")) == (2, 1)
    assert "--input is another model" in err
    code, _, err = cli("replay", made, "--input", model)
    assert code == 2
    assert "the run had sample data, and there is no --data" in err
    np.savez(tmp_path / "zeros.npz", x=np.zeros((2, 1, 64), np.float32))
    code, _, err = cli("replay", made, "--input", model, "--data", tmp_path / "zeros.npz")
    assert code == 2
    assert "--data holds other samples" in err
    assert cli("replay", model, "--input", model).code == 2


def test_replay_names_another_version(cli, tmp_path, model, data, made):
    proto = onnx.load(made)
    (entry,) = (entry for entry in proto.metadata_props if entry.key == KEY)
    told = json.loads(entry.value)
    told["runs"][-1]["versions"]["onnxruntime"] = "1.0"
    entry.value = json.dumps(told)
    onnx.save(proto, made)
    code, _, err = cli("replay", made, "--input", model, "--data", data)
    assert code == 2
    assert "onnxruntime was 1.0 and is " in err
    code, out, _ = cli("replay", made, "--input", model, "--data", data, "--any-version")
    assert code == 1
    assert out.startswith("other bytes: ")


@pytest.mark.parametrize("ir_version", [8, 10])
def test_a_node_tells_its_story(cli, tmp_path, model, ir_version):
    proto = onnx.load(model)
    proto.ir_version = ir_version
    source, out = tmp_path / "source.onnx", tmp_path / "out.onnx"
    onnx.save(proto, source)
    assert cli("run", source, "-p", "fold,dce,quantize-insert", "-o", out, "--provenance").code == 0
    onnx.checker.check_model(out, full_check=True)
    made = next(node for node in onnx.load(out).graph.node if node.op_type == "Cast")
    assert (len(made.metadata_props) == 1) == (ir_version >= 10)
    told = cli("explain", out, made.output[0]).out.splitlines()
    assert told[1].startswith("made by quantize-insert, rule cast")
    assert "comes from the input model, unchanged" in cli("explain", out, "sum").out
    assert "made to read other values by quantize-insert" in cli("explain", out, "product").out
    summary = cli("explain", out).out
    assert "pipeline: fold,dce,quantize-insert" in summary
    assert "nodes of quantize-insert" in summary
    assert json.loads(cli("explain", out, "product", "--json").out)["node"] == "product"


def test_a_second_run_goes_on_with_the_story(cli, tmp_path, model):
    once, twice = tmp_path / "once.onnx", tmp_path / "twice.onnx"
    cli("run", model, "-p", "fold", "-o", once, "--provenance")
    cli("run", once, "-p", "quantize-insert", "-o", twice, "--provenance")
    told = json.loads(cli("explain", twice, "--json").out)
    assert [run["pipeline"] for run in told["runs"]] == ["fold", "quantize-insert"]
    story = json.loads(cli("explain", twice, "product", "--json").out)["story"]
    assert [chapter["by"] for chapter in story] == ["fold", "quantize-insert"]
    assert cli("replay", twice, "--input", once).out == "the same bytes\n"


def test_what_cannot_be_explained_is_said(cli, model, made):
    code, _, err = cli("explain", model, "sum")
    assert (code, err.count("\n")) == (1, 1)
    assert "--provenance" in err
    code, _, err = cli("explain", made, "summ")
    assert (code, err.count("\n")) == (2, 1)
    assert "did you mean 'sum'?" in err


WRONG_TYPE = '{"runs": [{"pipeline": 1, "seed": 0, "versions": {}, "input": ""}]}'


@pytest.mark.parametrize("entry", ["{", "3", '{"runs": 3}', '{"runs": [{}]}', WRONG_TYPE])
def test_an_entry_of_somebody_else_is_a_mistake(cli, tmp_path, model, entry):
    proto = onnx.load(model)
    proto.metadata_props.add(key=KEY, value=entry)
    foreign = tmp_path / "foreign.onnx"
    onnx.save(proto, foreign)
    for asked in (("explain", foreign, "sum"), ("replay", foreign, "--input", model)):
        code, _, err = cli(*asked)
        assert (code, err.count("\n")) == (2, 1)
        assert "the provenance in the model cannot be read" in err
