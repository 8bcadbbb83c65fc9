import sys
import zipfile

import ml_dtypes
import numpy as np
import pytest
from onnx import TensorProto

from onnxpress.backends.interface import Pins
from onnxpress.backends.samples import load_samples, samples_from
from onnxpress.errors import UserError
from onnxpress.ir.backend import Port

FLOAT, INT64, STRING = TensorProto.FLOAT, TensorProto.INT64, TensorProto.STRING
IMAGE = Port("x", FLOAT, ("batch", 3, None, None))
ROWS = Port("x", FLOAT, ("batch", 2))
RATE = Port("sr", INT64, ())
STATE = Port("state", FLOAT, (2, "batch", 4))


def floats(*shape):
    return np.arange(np.prod(shape), dtype=np.float32).reshape(shape)


@pytest.fixture
def npz(tmp_path):
    def save(name="d.npz", compressed=True, **arrays):
        (np.savez_compressed if compressed else np.savez)(tmp_path / name, **arrays)
        return str(tmp_path / name)

    return save


def loaded(spec, *ports, **options):
    return list(load_samples(spec, ports, **options))


def mistake(spec, *ports, pins=None):
    """The one-line message of the UserError."""
    with pytest.raises(UserError) as caught:
        loaded(spec, *ports, pins=pins or Pins())
    assert "\n" not in str(caught.value)
    return str(caught.value)


def assert_feeds(found, expected):
    assert len(found) == len(expected)
    for feed, wanted in zip(found, expected, strict=True):
        assert feed.keys() == wanted.keys()
        for name, array in wanted.items():
            assert feed[name].dtype == array.dtype
            np.testing.assert_array_equal(feed[name], array, strict=True)


@pytest.mark.parametrize("compressed", [True, False])
def test_rows_are_samples_of_batch_one(npz, compressed):
    x = floats(4, 3, 5, 7)
    samples = load_samples(npz(x=x, compressed=compressed), [IMAGE])
    assert samples.count == 4
    for _ in range(2):
        assert_feeds(list(samples), [{"x": x[i : i + 1]} for i in range(4)])


def test_columns_in_memory_order_are_samples_too(npz):
    x = np.asfortranarray(floats(3, 2))
    assert_feeds(loaded(npz(x=x), ROWS), [{"x": x[i : i + 1]} for i in range(3)])


def test_several_inputs_advance_together(npz):
    x, y = floats(3, 2), floats(3, 1)
    feeds = loaded(npz(x=x, y=y), ROWS, Port("y", FLOAT, (None, 1)))
    assert_feeds(feeds, [{"x": x[i : i + 1], "y": y[i : i + 1]} for i in range(3)])


def test_a_scalar_array_holds_for_every_sample_and_a_vector_gives_scalars(npz):
    x = floats(2, 2)
    feeds = loaded(npz(x=x, sr=np.int64(16000)), ROWS, RATE)
    assert_feeds(feeds, [{"x": x[i : i + 1], "sr": np.array(16000)} for i in range(2)])
    feeds = loaded(npz(x=x, sr=np.array([8000, 16000])), ROWS, RATE)
    assert_feeds(feeds, [{"x": x[i : i + 1], "sr": np.array(8000 * (i + 1))} for i in range(2)])


def test_one_rank_more_is_a_stack_of_samples(npz):
    state = floats(3, 2, 1, 4)
    assert_feeds(loaded(npz(state=state), STATE), [{"state": each} for each in state])


def test_a_fixed_first_size_takes_as_many_rows(npz):
    x = floats(6, 2)
    pair = Port("x", FLOAT, (2, 2))
    assert_feeds(loaded(npz(x=x), pair), [{"x": x[i : i + 2]} for i in (0, 2, 4)])
    state, y = floats(2, 1, 4), floats(3, 2)
    feeds = loaded(npz(state=state, y=y), STATE, Port("y", FLOAT, (None, 2)))
    assert_feeds(feeds, [{"state": state, "y": y[i : i + 1]} for i in range(3)])
    assert "[5, 2], expected [2, 2]" in mistake(npz(x=floats(5, 2)), pair)


def test_numbered_samples_may_differ_in_shape_and_keep_numeric_order(npz):
    arrays = {f"x@{i}": floats(1, 3, 4, i + 1) for i in range(12)} | {f"sr@{i}": np.array(i) for i in range(12)}
    feeds = loaded(npz(**arrays), IMAGE, RATE)
    assert_feeds(feeds, [{"x": arrays[f"x@{i}"], "sr": arrays[f"sr@{i}"]} for i in range(12)])


def test_numbered_samples_mix_with_a_value_for_all(npz):
    feeds = loaded(npz(**{"x@0": floats(1, 2), "x@1": floats(3, 2), "sr": np.int64(7)}), ROWS, RATE)
    assert_feeds(feeds, [{"x": floats(n, 2), "sr": np.array(7)} for n in (1, 3)])


def test_names_may_hold_slashes_colons_and_at_signs(npz):
    ports = Port("a/b:0", FLOAT, (None, 2)), Port("c@1", FLOAT, (None, 2))
    feeds = loaded(npz(**{"a/b:0": floats(2, 2), "c@1": floats(2, 2)}), *ports)
    assert_feeds(feeds, [{"a/b:0": floats(2, 2)[i : i + 1], "c@1": floats(2, 2)[i : i + 1]} for i in range(2)])


def test_unknown_rank_takes_rows(npz):
    assert_feeds(loaded(npz(x=floats(2, 3)), Port("x", FLOAT, None)), [{"x": r[None]} for r in floats(2, 3)])


@pytest.mark.parametrize("unknown", [0, -1, "?", "", None])
def test_sizes_that_exporters_write_for_unknown_are_free(npz, unknown):
    assert_feeds(loaded(npz(x=floats(1, 3)), Port("x", FLOAT, (unknown, unknown))), [{"x": floats(1, 3)}])


def test_a_folder_is_read_in_the_order_of_names(npz, tmp_path):
    npz("b.npz", x=floats(1, 2) + 10)
    npz("a.npz", x=floats(2, 2))
    (tmp_path / "notes.txt").write_text("not data")
    samples = load_samples(str(tmp_path), [ROWS])
    assert samples.count == 3
    assert [feed["x"][0, 0] for feed in samples] == [0, 2, 10]
    both = load_samples([str(tmp_path / "b.npz"), str(tmp_path / "a.npz")], [ROWS])
    assert [feed["x"][0, 0] for feed in both] == [10, 0, 2]


def test_strings_byte_order_and_types_foreign_to_numpy(npz):
    words = np.array([["a", "ä"], ["", "ccc"]])
    feeds = loaded(npz(w=words), Port("w", STRING, (None, 2)))
    assert [feed["w"].tolist() for feed in feeds] == [[["a", "ä"]], [["", "ccc"]]]
    assert feeds[0]["w"].dtype == object
    assert_feeds(loaded(npz(x=floats(1, 2).astype(">f4")), ROWS), [{"x": floats(1, 2)}])
    half = floats(2, 2).astype(ml_dtypes.bfloat16)
    feeds = loaded(npz(x=half), Port("x", TensorProto.BFLOAT16, (None, 2)))
    assert_feeds(feeds, [{"x": half[:1]}, {"x": half[1:]}])


def test_nan_is_data(npz):
    assert np.isnan(loaded(npz(x=np.full((1, 2), np.nan, np.float32)), ROWS)[0]["x"]).all()


def test_an_input_with_a_default_may_be_left_out(npz):
    optional = Port("k", FLOAT, (1,), optional=True)
    assert_feeds(loaded(npz(x=floats(1, 2)), ROWS, optional), [{"x": floats(1, 2)}])


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"X": floats(1, 2)}, "the model has no input 'X' (it has 'x', 'sr')"),
        ({"xx": floats(1, 2)}, "did you mean 'x'?"),
        ({"x": floats(1, 2)}, "no data for input 'sr' (sr: int64 [])"),
        ({"x": floats(1, 2).astype(np.float64), "sr": 1}, "'x' is float64, the model takes float; convert"),
        ({"x": floats(1, 2), "sr": np.float32(1)}, "'sr' is float32, the model takes int64; convert"),
        ({"x": floats(1, 2), "sr": np.str_("1")}, "the model takes int64"),
        ({"x": floats(2), "sr": 1}, "'x' is [2], expected [batch, 2]"),
        ({"x": floats(1, 3), "sr": 1}, "'x' is [1, 3], expected [batch, 2]"),
        ({"x": floats(1, 1, 1, 2), "sr": 1}, "'x' is [1, 1, 1, 2], expected [batch, 2]"),
        ({"x": floats(3, 2), "sr": np.arange(2)}, "different numbers of samples: 'x' has 3, 'sr' has 2"),
        ({"x": floats(0, 2), "sr": 1}, "no samples in it"),
        ({"x@0": floats(1, 2), "x@1": floats(1, 2), "sr@0": 1}, "'x' has 2, 'sr' has 1"),
        ({"x@0": floats(1, 2), "x@1": floats(1, 2), "sr@0": 1, "sr@2": 1}, "sample @1 is given for only one of"),
        ({"x": floats(1, 2), "x@0": floats(1, 2), "sr": 1}, "input 'x' is given whole and by sample"),
        ({"x@0": floats(3), "sr@0": 1}, "x@0: input 'x' is [3], expected [batch, 2]"),
        ({"x": np.array([[1, "a"]], dtype=object), "sr": 1}, "pickled objects are refused"),
        ({"x": np.zeros((1, 2), [("é", "f4")]), "sr": 1}, "the model takes float"),
        ({}, "no arrays in it"),
    ],
)
def test_data_that_do_not_fit_the_model(npz, arrays, words):
    path = npz(**arrays)
    message = mistake(path, ROWS, RATE)
    assert words in message
    assert message.startswith(path)


def test_an_input_that_is_no_tensor_cannot_come_from_npz(npz):
    assert "is not a tensor: give it through module:function" in mistake(npz(s=floats(1)), Port("s", None, None))


def test_unreadable_files(npz, tmp_path):
    whole = (tmp_path / "d.npz", npz(x=floats(50, 2)))[0].read_bytes()
    for content in (b"", b"hello", whole[: len(whole) // 2]):
        (tmp_path / "bad.npz").write_bytes(content)
        assert "bad.npz: not a readable .npz file: " in mistake(str(tmp_path / "bad.npz"), ROWS)
    np.save(tmp_path / "single.npy", floats(1, 2))
    assert "not a readable .npz file" in mistake(str(tmp_path / "single.npy"), ROWS)
    with zipfile.ZipFile(tmp_path / "text.npz", "w") as archive:
        archive.writestr("x.npy", "no array")
    assert "not a readable .npz file" in mistake(str(tmp_path / "text.npz"), ROWS)
    assert "no such file" in mistake(str(tmp_path / "absent.npz"), ROWS)
    (tmp_path / "empty").mkdir()
    assert "no .npz files in this folder" in mistake(str(tmp_path / "empty"), ROWS)
    assert "no files given" in mistake([], ROWS)


def test_damaged_data_are_found_when_read(tmp_path):
    np.savez(tmp_path / "d.npz", x=floats(4, 2))
    content = bytearray((tmp_path / "d.npz").read_bytes())
    at = content.index(floats(4, 2).tobytes())
    content[at] ^= 0xFF
    (tmp_path / "d.npz").write_bytes(content)
    assert "d.npz: not a readable .npz file: Bad CRC-32" in mistake(str(tmp_path / "d.npz"), ROWS)


def test_a_header_that_promises_too_much_is_not_believed(tmp_path):
    np.savez(tmp_path / "d.npz", x=floats(4, 2))
    with zipfile.ZipFile(tmp_path / "d.npz") as archive:
        member = archive.read("x.npy")
    with zipfile.ZipFile(tmp_path / "d.npz", "w") as archive:
        archive.writestr("x.npy", member.replace(b"(4, 2)", b"(4, 9)"))
    assert "x.npy is shorter or longer than its shape says" in mistake(str(tmp_path / "d.npz"), ROWS)


def test_large_files_are_read_row_by_row(npz, monkeypatch):
    taken = []
    original = np.empty
    path = npz(x=floats(1000, 2), compressed=False)
    monkeypatch.setattr(np, "empty", lambda shape, *rest: taken.append(shape) or original(shape, *rest))
    assert sum(1 for _ in load_samples(path, [ROWS])) == 1000
    assert max(taken) == 2


def test_pinned_values_stand_in_for_data_and_replace_it(npz):
    pins = Pins.parse(values=["sr=16000"])
    x = floats(2, 2)
    expected = [{"x": x[i : i + 1], "sr": np.array(16000)} for i in range(2)]
    assert_feeds(loaded(npz(x=x), ROWS, RATE, pins=pins), expected)
    assert_feeds(loaded(npz(x=x, sr=np.int64(1)), ROWS, RATE, pins=pins), expected)
    state = Pins.parse(["state=2x1x4"], ["state=0"])
    assert_feeds(loaded(npz(x=x[:1]), ROWS, STATE, pins=state), [{"x": x[:1], "state": floats(2, 1, 4) * 0}])
    assert "pin its size with --shape as well" in mistake(npz(x=x), ROWS, STATE, pins=Pins.parse(values=["state=0"]))


def test_pinned_shapes_must_be_met(npz):
    pins = Pins.parse(["x=2x2"])
    assert [feed["x"].shape for feed in loaded(npz(x=floats(4, 2)), ROWS, pins=pins)] == [(2, 2)] * 2
    assert "[3, 2], expected [2, 2]" in mistake(npz(x=floats(3, 2)), ROWS, pins=pins)


@pytest.mark.parametrize(
    ("shapes", "values", "words"),
    [
        (["x=1x3"], [], "'x' is [1, 3], expected [batch, 2]"),
        (["y=1x2"], [], "--shape: the model has no input 'y'"),
        ([], ["src=1"], "did you mean 'sr'?"),
        ([], ["sr=1.5"], "--value sr=1.5: '1.5' is no int64"),
        ([], ["sr=99999999999999999999"], "is no int64"),
        ([], ["x=one"], "'one' is no float"),
        (["x=1xax2"], [], "--shape x=1xax2: expected NAME=SIZExSIZE"),
        (["x"], [], "expected NAME=SIZExSIZE"),
        (["=1"], [], "expected NAME=SIZExSIZE"),
        ([], ["sr"], "expected NAME=VALUE"),
        ([], ["sr="], "expected NAME=VALUE"),
    ],
)
def test_bad_pins(npz, shapes, values, words):
    path = npz(x=floats(1, 2), sr=np.int64(1))
    with pytest.raises(UserError) as caught:
        loaded(path, ROWS, RATE, pins=Pins.parse(shapes, values))
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("dtype", "text", "value"),
    [
        (TensorProto.BOOL, "true", True),
        (TensorProto.UINT8, "255", 255),
        (TensorProto.FLOAT16, "-2.5", -2.5),
        (TensorProto.BFLOAT16, "1e3", ml_dtypes.bfloat16(1000)),
        (TensorProto.DOUBLE, "nan", np.nan),
        (TensorProto.INT4, "-8", -8),
        (STRING, "yes", "yes"),
    ],
)
def test_pinned_values_take_the_type_of_their_input(dtype, text, value):
    array = Pins.parse(values=[f"v={text}"]).array(Port("v", dtype, (2,)))
    np.testing.assert_array_equal(array, [value] * 2)


@pytest.mark.parametrize(
    ("dtype", "text"), [(TensorProto.UINT8, "256"), (TensorProto.INT4, "8"), (TensorProto.BOOL, "2")]
)
def test_pinned_values_that_do_not_fit(dtype, text):
    with pytest.raises(UserError, match=f"{text!r} is no"):
        Pins.parse(values=[f"v={text}"]).check([Port("v", dtype, ())])


MODULE = """
import numpy as np

def feeds():
    for i in range(3):
        yield {"x": np.full((1, 2), i, np.float32)}

def wrong():
    yield {"x": np.zeros((1, 2), np.float32)}
    yield {"x": np.zeros((1, 2))}

def raising():
    yield {"x": np.zeros((1, 2), np.float32)}
    raise ValueError("out of files")

def arrays():
    yield np.zeros((1, 2), np.float32)

def nothing():
    return []

number = 3
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    name = "onnxpress_test_feeds"
    (tmp_path / f"{name}.py").write_text(MODULE)
    (tmp_path / f"{name}_broken.py").write_text("1 / 0")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield name
    for loaded_name in (name, f"{name}_broken"):
        sys.modules.pop(loaded_name, None)


def test_a_function_of_a_module_in_the_working_directory(module):
    before = list(sys.path)
    samples = load_samples(f"{module}:feeds", [ROWS])
    assert samples.count is None
    assert [feed["x"][0, 0] for feed in samples] == [0, 1, 2]
    assert sum(1 for _ in samples) == 3
    assert sys.path == before


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (":wrong", "sample 1: input 'x' is float64, the model takes float"),
        (":raising", "sample 1: ValueError: out of files"),
        (":arrays", "sample 0: expected a dict of arrays by input name, not ndarray"),
        (":nothing", "no samples"),
        (":number", "has no function 'number'"),
        (":absent", "has no function 'absent'"),
        ("_broken:feeds", "cannot import onnxpress_test_feeds_broken: ZeroDivisionError"),
        ("_absent:feeds", "ModuleNotFoundError: No module named"),
    ],
)
def test_functions_that_do_not_deliver(module, name, words):
    assert words in mistake(f"{module}{name}", ROWS)


def test_feeds_of_the_caller_keep_sequences():
    parts = [floats(1), floats(2)]
    ports = [Port("s", None, None), RATE]
    feeds = list(samples_from(lambda: [{"s": parts, "sr": 3}], ports, source="given"))
    assert feeds[0]["s"] is parts
    assert feeds[0]["sr"].dtype == np.int64


def test_random_must_be_expected():
    assert "--data random" in mistake("random", ROWS)
    samples = load_samples("random", [ROWS], generated=lambda: [{"x": floats(1, 2)}])
    assert_feeds(list(samples), [{"x": floats(1, 2)}])
