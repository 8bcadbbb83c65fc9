"""Writing is atomic: whatever stops it, what was there before is there still, and nothing else."""

import os
from pathlib import Path

import numpy as np
import pytest
from onnx import ModelProto, numpy_helper

from onnxpress.backends.files import model_from, save_model
from onnxpress.errors import UserError
from onnxpress.ir import DerivedTensor

from .files import arrays, change, names


@pytest.mark.parametrize("above", [0, 1 << 20])
@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_an_interruption_leaves_what_was_there(
    tmp_path: Path, everywhere: ModelProto, error: type[BaseException], above: int
) -> None:
    path = tmp_path / "m.onnx"
    save_model(model_from(everywhere), path, external_above=above)
    before = {item: item.read_bytes() for item in tmp_path.iterdir()}
    model = model_from(everywhere)

    def compute(array: np.ndarray) -> np.ndarray:
        raise error("now")

    source = model.graph.initializers[0].tensor
    assert source is not None
    change(model, "main", DerivedTensor("broken", compute, (source,), source.dtype, source.shape))
    with pytest.raises(error, match="now"):
        save_model(model, path, external_above=above)
    assert {item: item.read_bytes() for item in tmp_path.iterdir()} == before


def test_an_interruption_at_the_commit_takes_the_data_file_back(
    tmp_path: Path, everywhere: ModelProto, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = Path.replace

    def interrupted(self: Path, target: Path) -> Path:
        if target.suffix == ".onnx":
            raise KeyboardInterrupt
        return rename(self, target)

    monkeypatch.setattr(Path, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        save_model(model_from(everywhere), tmp_path / "m.onnx", external_above=0)
    assert names(tmp_path) == set()


def test_an_interruption_after_the_commit_keeps_the_data_file(
    tmp_path: Path, everywhere: ModelProto, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = Path.replace

    def interrupted(self: Path, target: Path) -> Path:
        done = rename(self, target)
        if target.suffix == ".onnx":
            raise KeyboardInterrupt
        return done

    monkeypatch.setattr(Path, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        save_model(model_from(everywhere), tmp_path / "m.onnx", external_above=0)
    assert len(names(tmp_path)) == 2
    assert np.array_equal(arrays(tmp_path / "m.onnx")["main"], numpy_helper.to_array(everywhere.graph.initializer[0]))


def test_a_full_disk_is_one_line(tmp_path: Path, everywhere: ModelProto, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match=r"cannot write to .*: No space left on device"):
        save_model(model_from(everywhere), tmp_path / "m.onnx")
    assert names(tmp_path) == set()


def test_derived_weights_are_computed_once(tmp_path: Path, everywhere: ModelProto) -> None:
    for above in (0, 1 << 20):
        model = model_from(everywhere)
        calls = []
        source = model.graph.initializers[0].tensor
        assert source is not None
        made = DerivedTensor("count", lambda a, calls=calls: calls.append(1) or a, (source,), source.dtype, (400,))
        change(model, "main", made)
        save_model(model, tmp_path / "m.onnx", external_above=above)
        assert len(calls) == 1
