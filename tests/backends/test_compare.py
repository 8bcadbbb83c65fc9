import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto

from onnxpress.backends.compare import compare_sessions
from onnxpress.backends.metrics import METRICS, Limit, hopeless
from onnxpress.errors import ExecutionError
from onnxpress.ir.backend import Port

FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64
X, Y, Z = Port("x", FLOAT, ("n",)), Port("y", FLOAT, ("n",)), Port("z", INT64, ())


class Fake:
    """A session that computes its outputs with a function of its feed, and checks that it knows the inputs."""

    def __init__(self, function, inputs=(X,), outputs=(Y,)):
        self.function, self.inputs, self.outputs = function, inputs, outputs

    def run(self, feeds):
        assert feeds.keys() <= {port.name for port in self.inputs}
        return self.function(**feeds)


def refuses_long(x):
    if len(x) > 2:
        raise ExecutionError(f"got {len(x)} elements\nand more words")
    return {"y": x}


def feeds(*lengths):
    return [{"x": np.arange(1, n + 1, dtype=np.float32)} for n in lengths]


SAME = Fake(lambda x: {"y": x})
OFF = Fake(lambda x: {"y": x + np.float32(0.5) * (np.arange(len(x)) == 2)})


def test_equal():
    found = compare_sessions(SAME, Fake(lambda x: {"y": x.copy()}), feeds(1, 2, 3), [Limit("unequal", 0)])
    assert (found.verdict, found.passed, found.checked, found.discarded) == ("equal", True, 3, 0)
    assert found.worst["max-abs"].value == 0
    assert found.worst["max-abs"].output is None


def test_worst_value_names_its_output_and_sample():
    found = compare_sessions(SAME, OFF, feeds(2, 4, 3, 2))
    worst = found.worst["rel-l2"]
    assert (worst.output, worst.sample) == ("y", 2)
    assert worst.value == pytest.approx(0.5 / math.sqrt(14))
    assert found.outputs["y"]["rel-l2"] == worst.value
    assert [sample["y"]["max-abs"] for sample in found.samples] == [0, 0.5, 0.5, 0]
    assert found.worst["max-abs"].sample == 1


@pytest.mark.parametrize(
    ("limits", "verdict", "passed"),
    [
        ([], "differs", True),
        (["max-abs=0.5"], "within", True),
        (["max-abs=0.49"], "over", False),
        (["max-abs=0.5", "cosine=0.999999"], "over", False),
        (["argmax=1"], "within", True),
        (["unequal=0"], "over", False),
    ],
)
def test_limits_decide(limits, verdict, passed):
    found = compare_sessions(SAME, OFF, feeds(4, 3), list(map(Limit.parse, limits)))
    assert (found.verdict, found.passed) == (verdict, passed)
    assert (found.broken == ()) is passed


def test_feeds_that_the_first_refuses_are_discarded():
    found = compare_sessions(Fake(refuses_long), SAME, feeds(1, 3, 2, 4), refused={"too odd": 2})
    assert (found.verdict, found.checked, found.discarded) == ("equal", 2, 4)
    assert found.refused == {"too odd": 2, "got 3 elements": 2}


@pytest.mark.parametrize("limits", [[], [Limit("unequal", 1e9)]])
def test_nothing_checked_is_never_equal(limits):
    found = compare_sessions(Fake(refuses_long), SAME, feeds(3, 4), limits)
    assert (found.verdict, found.passed, found.worst, found.broken) == ("not checked", False, {}, tuple(limits))
    assert compare_sessions(SAME, SAME, []).verdict == "not checked"


def test_a_feed_that_only_the_second_refuses_is_a_mismatch():
    found = compare_sessions(SAME, Fake(refuses_long), feeds(1, 3), [Limit("max-abs", 1e300)])
    assert (found.verdict, found.checked) == ("mismatch", 2)
    assert found.mismatches == ("the second model refuses a feed that the first runs: got 3 elements",)
    assert found.samples[1]["y"] == hopeless()
    assert found.broken == (Limit("max-abs", 1e300),)


@pytest.mark.parametrize(
    ("result", "words"),
    [
        (lambda x: {"y": x[:, None]}, "output 'y': float32 [2, 1] instead of float32 [2]"),
        (lambda x: {"y": x.astype(np.float64)}, "output 'y': float64 [2] instead of float32 [2]"),
        (lambda x: {"y": x * np.float32(math.nan)}, "output 'y': NaN or Inf at different places"),
        (lambda x: {"y": None}, "output 'y': nothing instead of float32 [2]"),
    ],
)
def test_outputs_that_cannot_be_compared_are_mismatches(result, words):
    found = compare_sessions(SAME, Fake(result), feeds(2, 2))
    assert (found.verdict, found.mismatches) == ("mismatch", (words,))
    assert found.worst["max-abs"].value == math.inf


def two(x):
    return {"y": x, "z": np.int64(len(x))}


@pytest.mark.parametrize(
    ("a", "b", "words"),
    [
        ((X,), (X, Port("k", INT64, ())), "input 'k' is only in the second model"),
        ((X, Port("k", INT64, ())), (X,), "input 'k' is missing in the second model"),
        ((X,), (Port("x", INT64, ()),), "input 'x' is int64 instead of float"),
        ((X,), (Port("x", None, None),), "input 'x' is no tensor instead of float"),
        ((X, Z), (Z, X), "inputs are in another order: z, x instead of x, z"),
        ((Port("x", FLOAT, (), optional=True),), (X,), "input 'x' lost its default in the second model"),
    ],
)
def test_other_inputs_are_mismatches(a, b, words):
    found = compare_sessions(Fake(two, a), Fake(two, b), feeds(2))
    assert (found.verdict, found.mismatches) == ("mismatch", (words,))


def test_an_input_with_a_default_may_go_and_is_then_not_fed():
    default = Port("k", INT64, (), optional=True)
    a = Fake(lambda x, k=1: {"y": x}, (X, default))
    assert compare_sessions(a, SAME, feeds(2)).verdict == "equal"
    assert compare_sessions(SAME, a, feeds(2)).verdict == "equal"


@pytest.mark.parametrize(
    ("a", "b", "words"),
    [
        ((Y, Z), (Z, Y), "outputs are in another order: z, y instead of y, z"),
        ((Y, Z), (Y,), "output 'z' is missing in the second model"),
        ((Y,), (Y, Z), "output 'z' is only in the second model"),
    ],
)
def test_other_outputs_are_mismatches_and_the_common_ones_are_measured(a, b, words):
    def only(ports):
        return Fake(lambda x: {port.name: two(x)[port.name] for port in ports}, outputs=ports)

    found = compare_sessions(only(a), only(b), feeds(2))
    assert (found.verdict, found.mismatches) == ("mismatch", (words,))
    assert found.samples[0]["y"]["unequal"] == 0


def test_feeds_are_taken_one_at_a_time():
    alive = []

    def stream():
        for length in (1, 2, 3):
            assert alive == list(range(1, length))
            yield feeds(length)[0]

    def noting(x):
        alive.append(len(x))
        return {"y": x}

    assert compare_sessions(SAME, Fake(noting), stream()).checked == 3


@given(st.lists(st.sampled_from([0.0, 1.0, math.nan, math.inf]), min_size=1), st.floats(0, 2))
def test_the_report_is_strict_json(values, bound):
    def shifted(x):
        return {"y": np.float32(values)}

    found = compare_sessions(SAME, Fake(shifted), feeds(len(values)), [Limit("max-abs", bound)])
    report = json.loads(json.dumps(found.as_dict(), allow_nan=False))
    assert report["verdict"] == found.verdict
    assert {name: float(w["value"]) for name, w in report["worst"].items()} == {
        name: w.value for name, w in found.worst.items()
    }
    assert report["limits"] == [{"metric": "max-abs", "limit": bound, "holds": not found.broken}]
    assert report["samples"][0]["y"].keys() == METRICS.keys()
    assert (report["checked"], report["discarded"]) == (1, 0)
