"""What a user can get wrong: one clear line on stderr, exit code 2, no file written, no traceback."""

import os
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxpress.specs import model_of


def no_such_file(folder: Path, model: Path) -> Path:
    return folder / "nowhere.onnx"


def truncated(folder: Path, model: Path) -> Path:
    content = model.read_bytes()
    return written(folder, content[: len(content) // 2])


def text(folder: Path, model: Path) -> Path:
    return written(folder, b"This is the text of a license, not a model.\n")


def empty(folder: Path, model: Path) -> Path:
    return written(folder, b"")


def noise(folder: Path, model: Path) -> Path:
    return written(folder, np.random.default_rng(0).bytes(3000))


def a_folder(folder: Path, model: Path) -> Path:
    path = folder / "bad.onnx"
    path.mkdir()
    return path


def wrong_domain(folder: Path, model: Path) -> Path:
    proto = onnx.load(model)
    proto.opset_import[0].domain = "com.nowhere"
    return written(folder, proto.SerializeToString())


def unknown_opset(folder: Path, model: Path) -> Path:
    proto = onnx.load(model)
    proto.opset_import[0].version = 9999
    return written(folder, proto.SerializeToString())


def missing_data(folder: Path, model: Path) -> Path:
    return referring(folder, "gone.data")


def short_data(folder: Path, model: Path) -> Path:
    (folder / "short.data").write_bytes(bytes(100))
    return referring(folder, "short.data")


def data_above(folder: Path, model: Path) -> Path:
    (folder / "secret.data").write_bytes(bytes(8192))
    (folder / "inner").mkdir()
    return referring(folder / "inner", "../secret.data")


def linked_data(folder: Path, model: Path) -> Path:
    (folder / "secret.data").write_bytes(bytes(8192))
    (folder / "inner").mkdir()
    (folder / "inner" / "link.data").symlink_to(folder / "secret.data")
    return referring(folder / "inner", "link.data")


def written(folder: Path, content: bytes) -> Path:
    path = folder / "bad.onnx"
    path.write_bytes(content)
    return path


def referring(folder: Path, location: str) -> Path:
    """A model of which the weight lies in the file `location`."""
    weight = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[64, 32], data_location=TensorProto.EXTERNAL)
    weight.external_data.add(key="location", value=location)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "external",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 64])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 32])],
        [weight],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return written(folder, proto.SerializeToString())


BAD_MODELS = {
    no_such_file: "no such file",
    truncated: "",
    text: "text file",
    empty: "empty",
    noise: "",
    a_folder: "folder",
    wrong_domain: "ai.onnx",
    unknown_opset: "9999",
    missing_data: "gone.data",
    short_data: "short.data",
    data_above: "outside",
    linked_data: "outside",
}


def files_in(folder: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def assert_one_clear_line(result, *words: str) -> None:
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith("onnxpress: error: ")
    assert result.err.count("\n") == 1
    assert "Traceback" not in result.err
    for word in words:
        assert word in result.err


@pytest.mark.parametrize("make", BAD_MODELS, ids=lambda make: make.__name__)
@pytest.mark.parametrize("command", ["run", "stats", "print", "compare first", "compare second"])
def test_bad_model(cli, tmp_path, model, make, command):
    folder = tmp_path / "folder"
    folder.mkdir()
    bad = make(folder, model)
    before = files_in(tmp_path)
    args = {
        "run": ["run", bad, "-p", "fold", "-o", tmp_path / "out.onnx", "--report", tmp_path / "report.json"],
        "stats": ["stats", bad],
        "print": ["print", bad],
        "compare first": ["compare", bad, model],
        "compare second": ["compare", model, bad],
    }[command]
    assert_one_clear_line(cli(*args), bad.name, BAD_MODELS[make])
    assert files_in(tmp_path) == before


def unreadable_npz(path: Path) -> None:
    path.write_bytes(b"PK\x03\x04 and then nothing that makes sense")


def text_npz(path: Path) -> None:
    path.write_text("no archive\n")


def cut_npz(path: Path) -> None:
    np.savez(path, x=np.zeros((3, 64), np.float32))
    path.write_bytes(path.read_bytes()[:-400])


def wrong_name(path: Path) -> None:
    np.savez(path, image=np.zeros((3, 64), np.float32))


def wrong_dtype(path: Path) -> None:
    np.savez(path, x=np.zeros((3, 64), np.float64))


def wrong_rank(path: Path) -> None:
    np.savez(path, x=np.zeros((3, 64, 1, 1), np.float32))


def wrong_size(path: Path) -> None:
    np.savez(path, x=np.zeros((3, 65), np.float32))


def pickled(path: Path) -> None:
    np.savez(path, x=np.array([{}], dtype=object))


def nothing_there(path: Path) -> None:
    path.unlink(missing_ok=True)


BAD_DATA = {
    unreadable_npz: "not a readable .npz",
    text_npz: "not a readable .npz",
    cut_npz: "not a readable .npz",
    wrong_name: "'image'",
    wrong_dtype: "float64",
    wrong_rank: "'x'",
    wrong_size: "65",
    pickled: "pickled",
    nothing_there: "no such file",
}


@pytest.mark.parametrize("make", BAD_DATA, ids=lambda make: make.__name__)
@pytest.mark.parametrize("command", ["run", "compare"])
def test_bad_data(cli, tmp_path, model, other, make, command):
    bad = tmp_path / "bad.npz"
    make(bad)
    before = files_in(tmp_path)
    args = {"run": ["run", model, "-p", "fold", "-o", tmp_path / "out.onnx"], "compare": ["compare", model, other]}
    assert_one_clear_line(cli(*args[command], "--data", bad), "bad.npz", BAD_DATA[make])
    assert files_in(tmp_path) == before


@pytest.fixture
def layers(tmp_path: Path) -> Path:
    """Two layers with an activation between: there is something to do for every pass."""
    rng = np.random.default_rng(0)
    weights = {"a": rng.normal(size=(64, 128)), "b": rng.normal(size=(128, 32))}
    proto = model_of("g (float[n,64] x) => (float[n,32] y) { h = MatMul(x, a) \n r = Relu(h) \n y = MatMul(r, b) }")
    proto.graph.initializer.extend(numpy_helper.from_array(w.astype(np.float32), name) for name, w in weights.items())
    path = tmp_path / "layers.onnx"
    onnx.save(proto, path)
    return path


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(
    "pipeline",
    [
        "quantize-insert{mode=static}",
        "quantize-insert{type=int4}",
        "prune{sparsity=0.5}",
        "prune{unit=weight sparsity=0.5 criterion=obs}",
        "prune{unit=weight error=0.1}",
        "factorize{error=0.1}",
        "float{compute}",
        "equalize",
        "repair(prune{sparsity=0.5 repair=off})",
    ],
)
def test_data_that_nothing_is_learnt_from(cli, tmp_path, layers, pipeline, bad):
    path = tmp_path / "bad.npz"
    np.savez(path, x=np.full((4, 64), bad, np.float32))
    before = files_in(tmp_path)
    result = cli("run", layers, "-p", pipeline, "--data", path, "-o", tmp_path / "out.onnx")
    assert_one_clear_line(
        result, "bad.npz: sample 0", "'x'", "holds NaN" if np.isnan(bad) else "holds no finite number"
    )
    assert files_in(tmp_path) == before
    assert cli("run", layers, "-p", "fold", "--data", path).code == 0


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--shape", "x=1xa"], ["--shape x=1xa", "NAME="]),
        (["--shape", "y=1x64"], ["'y'", "'x'"]),
        (["--shape", "x=1x65"], ["--shape", "65"]),
        (["--value", "x"], ["--value x"]),
        (["--value", "x=red", "--shape", "x=1x64"], ["'red'"]),
        (["--data", "no_such_module:feeds"], ["no_such_module"]),
        (["--data", "json:no_such_function"], ["no_such_function"]),
    ],
)
@pytest.mark.parametrize("command", ["run", "compare"])
def test_bad_pins_and_functions(cli, tmp_path, model, other, command, args, words):
    start = {"run": ["run", model, "-p", "fold", "-o", tmp_path / "out.onnx"], "compare": ["compare", model, other]}
    assert_one_clear_line(cli(*start[command], *args), *words)
    assert not (tmp_path / "out.onnx").exists()


@pytest.mark.parametrize("limit", ["rel-l2", "rel-l2=", "rel-l2=nan", "rel-l2=-1", "rell2=1e-3", "sqnr=x", "argmax=2"])
def test_bad_limit(cli, model, other, limit):
    assert_one_clear_line(cli("compare", model, other, "--max", limit), limit)


@pytest.mark.parametrize("option", ["-o", "--report"])
@pytest.mark.parametrize("place", ["missing/out.file", "small.onnx/out.file", "inner"])
def test_place_that_cannot_be_written(cli, tmp_path, model, option, place):
    (tmp_path / "inner").mkdir()
    before = files_in(tmp_path)
    assert_one_clear_line(cli("run", model, "-p", "fold", option, tmp_path / place), option, place)
    assert files_in(tmp_path) == before


WRITING = {
    "run": ["run", "MODEL", "-p", "fold", "-o"],
    "report": ["run", "MODEL", "-p", "fold", "--report"],
    "replay": ["replay", "MODEL", "--input", "MODEL", "-o"],
    "reduce": ["reduce", "MODEL", "-p", "fold", "--when", "fails", "-o"],
    "bisect": ["bisect", "MODEL", "-p", "fold", "--when", "fails", "-o"],
    "demo": ["demo", "-o"],
}


@pytest.mark.parametrize("name", ["inner/", "inner/.", "newdir/", "newdir/.", "newdir//"])
@pytest.mark.parametrize("command", WRITING)
def test_the_name_of_a_folder_is_no_target(cli, tmp_path, model, command, name):
    (tmp_path / "inner").mkdir()
    before = files_in(tmp_path)
    args = [str(model) if arg == "MODEL" else arg for arg in WRITING[command]]
    assert_one_clear_line(cli(*args, f"{tmp_path}/{name}"), args[-1], f"/{name}: names a folder")
    assert files_in(tmp_path) == before


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="there is no file system that takes no files")
@pytest.mark.parametrize("command", WRITING)
def test_a_folder_that_takes_no_files_is_found_before_any_work(cli, tmp_path, model, monkeypatch, command):
    monkeypatch.setattr("onnxpress.api.load", lambda *_: pytest.fail("the model is read"))
    args = [str(model) if arg == "MODEL" else arg for arg in WRITING[command]]
    assert_one_clear_line(cli(*args, "/proc/out.file"), args[-1], "folder /proc")


@pytest.mark.parametrize("command", WRITING)
def test_a_name_that_is_too_long(cli, tmp_path, model, command):
    args = [str(model) if arg == "MODEL" else arg for arg in WRITING[command]]
    assert_one_clear_line(cli(*args, tmp_path / ("x" * 300)), args[-1], "too long")
    assert_one_clear_line(cli("stats", tmp_path / ("x" * 300)), "too long")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
@pytest.mark.parametrize("option", ["-o", "--report"])
def test_closed_folder(cli, tmp_path, model, option):
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)
    assert_one_clear_line(cli("run", model, "-p", "fold", option, closed / "out.file"), option, "Permission denied")


@pytest.mark.parametrize("option", ["-o", "--report"])
def test_a_read_only_file_is_not_replaced(cli, tmp_path, model, option):
    kept = tmp_path / "kept.file"
    kept.write_bytes(b"kept")
    kept.chmod(0o444)
    assert_one_clear_line(cli("run", model, "-p", "fold", option, kept), option, "is read-only")
    assert kept.read_bytes() == b"kept"


@pytest.mark.parametrize("option", ["-o", "--report"])
def test_devices_are_not_replaced(cli, model, option):
    assert_one_clear_line(cli("run", model, "-p", "fold", option, os.devnull), option, "no regular file")
    assert not os.path.isfile(os.devnull)


def test_output_that_is_the_input(cli, tmp_path, model):
    (tmp_path / "link.onnx").symlink_to(model)
    before = model.read_bytes()
    for same in (model, tmp_path / "link.onnx", tmp_path / "." / "small.onnx"):
        assert_one_clear_line(cli("run", model, "-p", "fold", "-o", same), "--in-place")
    assert model.read_bytes() == before


@pytest.mark.parametrize("option", ["-o", "--report"])
def test_output_that_holds_the_data_of_the_input(cli, external, option):
    target = external.parent / "small.data"
    before = target.read_bytes()
    assert_one_clear_line(cli("run", external, "-p", "fold", option, target), "small.data")
    assert target.read_bytes() == before


@pytest.mark.parametrize("name", ["small.onnx", "samples.npz", "out.onnx"])
def test_report_over_a_file_of_the_run(cli, tmp_path, model, data, name):
    before = files_in(tmp_path)
    args = ["-o", tmp_path / "out.onnx", "--data", data, "--report", tmp_path / name]
    assert_one_clear_line(cli("run", model, "-p", "fold", *args), "--report", name)
    assert files_in(tmp_path) == before


def test_in_place_with_another_output(cli, tmp_path, model):
    result = cli("run", model, "-p", "fold", "--in-place", "-o", tmp_path / "out.onnx")
    assert_one_clear_line(result, "--in-place", "out.onnx")


@pytest.mark.parametrize("size", ["3XB", "-1", "many", "4GB"])
def test_bad_size(cli, model, size):
    assert_one_clear_line(cli("run", model, "-p", "fold", "--external-above", size), "--external-above", size)


def test_print_after_a_pass_that_does_not_run(cli, model):
    result = cli("run", model, "-p", "fold,dce", "--print-ir-after=fodl")
    assert_one_clear_line(result, "fold, dce", "did you mean 'fold'?")


@pytest.mark.parametrize("pipeline", ["fold,dcee", "fold{limitt=1}", "fold{limit=1XB}", "fold,", "fold(dce)", "fold{"])
@pytest.mark.parametrize("command", ["run", "demo"])
def test_bad_pipeline_shows_the_place(cli, tmp_path, model, command, pipeline):
    out = tmp_path / "out.onnx"
    code, stdout, err = cli(command, *([model] if command == "run" else []), "-p", pipeline, "-o", out)
    assert (code, stdout) == (2, "")
    first, text, caret = err.splitlines()[:3]
    assert first.startswith("onnxpress: error: ")
    assert text == f"  {pipeline}"
    assert caret.strip(" ~") == "^"
    assert not out.exists()


def test_a_bad_pipeline_is_found_before_the_model_is_read(cli, tmp_path):
    assert "unknown pass" in cli("run", tmp_path / "nowhere.onnx", "-p", "fodl").err


def test_the_copy_without_its_data(cli, tmp_path, external):
    alone = shutil.copy(external, tmp_path / "alone.onnx")
    assert_one_clear_line(cli("run", alone, "-p", "fold"), "alone.onnx", "small.data")
