import math

import ml_dtypes
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from onnxpress.backends.metrics import METRICS, Limit, hopeless, measure, mismatch, perfect, worst
from onnxpress.errors import UserError

FLOATS = [np.float64, np.float32, np.float16, ml_dtypes.bfloat16]
DTYPES = [*FLOATS, np.int8, np.uint64, np.bool_, np.complex64, ml_dtypes.float8_e4m3fn, ml_dtypes.int4]
SHAPES = hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)


@st.composite
def arrays(draw, shape=SHAPES, dtypes=tuple(DTYPES)):
    dtype = np.dtype(draw(st.sampled_from(dtypes)))
    values = draw(hnp.arrays(np.float64, draw(shape) if isinstance(shape, st.SearchStrategy) else shape))
    with np.errstate(all="ignore"):
        if dtype.kind in "iu" or dtype.name == "int4":
            return np.clip(np.nan_to_num(values), 0, 7).astype(dtype)
        return values.astype(dtype)


@st.composite
def pairs(draw, dtypes=tuple(DTYPES)):
    a = draw(arrays(dtypes=dtypes))
    return a, draw(arrays(shape=a.shape, dtypes=(a.dtype,)))


UP_TO_SIX = st.integers(1, 6)


def finite(low=-1e6, high=1e6, sides=UP_TO_SIX):
    return sides.flatmap(lambda n: hnp.arrays(np.float64, n, elements=st.floats(low, high).map(lambda x: round(x, 3))))


@given(arrays())
def test_equal_outputs_are_perfect(a):
    assert measure(a, a.copy()) == perfect()
    assert mismatch(a, a.copy()) is None


@given(st.one_of(arrays(), st.none()), st.one_of(arrays(), st.none()))
def test_total_and_never_nan(a, b):
    values = measure(a, b)
    assert values.keys() == METRICS.keys()
    assert not any(map(math.isnan, values.values()))


@given(pairs())
def test_perfect_or_hopeless_alike_from_both_sides(pair):
    a, b = pair
    one, other = measure(a, b), measure(b, a)
    for name in ("max-abs", "unequal"):
        assert one[name] == other[name]
    assert (one == hopeless()) == (other == hopeless())


@given(pairs(FLOATS), st.data())
def test_a_nan_or_inf_of_one_side_passes_no_limit(pair, data):
    a, b = pair
    if not a.size:
        return
    at = data.draw(st.integers(0, a.size - 1))
    a, b = a.copy(), b.copy()
    a.reshape(-1)[at] = 1
    b.reshape(-1)[at] = data.draw(st.sampled_from([math.nan, math.inf, -math.inf]))
    for one, other in ((a, b), (b, a)):
        values = measure(one, other)
        for name, metric in METRICS.items():
            loosest = metric.highest if metric.small_is_good else metric.lowest
            loosest = math.copysign(1.7e308, loosest) if math.isinf(loosest) else loosest
            assert not Limit(name, loosest).holds(values[name])


@given(finite(), st.sampled_from([math.nan, math.inf, -math.inf]))
def test_the_same_nan_or_inf_at_the_same_place_adds_no_error(a, special):
    b = a + 1
    with_special = measure(np.append(a, special), np.append(b, special))
    plain = measure(a, b)
    for name in ("max-abs", "rel-l2", "sqnr", "cosine", "unequal"):
        assert with_special[name] == plain[name]


def test_inf_of_another_sign_is_no_match():
    assert measure(np.array([np.inf, 1]), np.array([-np.inf, 1])) == hopeless()


@given(finite(), finite(sides=st.just(1)), st.integers(-900, 900))
@example(np.array([1.0, 2.0]), np.array([3.0]), 900)
def test_relative_metrics_do_not_depend_on_the_scale(a, shift, exponent):
    b = a + shift
    plain, scaled = measure(a, b), measure(np.ldexp(a, exponent), np.ldexp(b, exponent))
    for name in ("rel-l2", "sqnr", "cosine"):
        assert scaled[name] == pytest.approx(plain[name], rel=1e-12, abs=0)
    assert scaled["max-abs"] == math.ldexp(plain["max-abs"], exponent)


@given(finite(sides=st.just(5)), finite(sides=st.just(5)))
def test_formulas(a, b):
    if not a.any() or not b.any() or (a == b).all():
        return
    values = measure(a, b)
    assert values["max-abs"] == np.abs(a - b).max()
    assert values["rel-l2"] == pytest.approx(np.linalg.norm(a - b) / np.linalg.norm(a), rel=1e-12)
    assert values["sqnr"] == pytest.approx(10 * np.log10((a**2).sum() / ((a - b) ** 2).sum()), rel=1e-9, abs=1e-9)
    assert values["cosine"] == pytest.approx(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)), rel=1e-9, abs=1e-9)


def test_the_largest_doubles_do_not_overflow():
    top = np.finfo(np.float64).max
    values = measure(np.array([top, -top, top]), np.array([-top, top, top]))
    assert values["max-abs"] == math.inf
    assert values["rel-l2"] == pytest.approx(2 * math.sqrt(2 / 3))
    assert values["cosine"] == pytest.approx(-1 / 3)


def test_subnormal_references_do_not_underflow():
    assert measure(np.array([5e-324]), np.array([1e-323]))["rel-l2"] == 1.0


def test_zero_reference():
    zero, other = np.zeros(3, np.float32), np.array([0, 1e-30, 0], np.float32)
    assert measure(zero, -zero) == perfect()
    values = measure(zero, other)
    assert (values["rel-l2"], values["sqnr"], values["cosine"]) == (math.inf, -math.inf, -math.inf)
    assert values["max-abs"] == pytest.approx(1e-30)
    back = measure(other, zero)
    assert (back["rel-l2"], back["sqnr"], back["cosine"]) == (1.0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("a", "b", "words"),
    [
        (np.zeros((2, 3)), np.zeros((3, 2)), "float64 [3, 2] instead of float64 [2, 3]"),
        (np.zeros(3), np.zeros((3, 1)), "float64 [3, 1] instead of float64 [3]"),
        (np.float32(1), np.float16(1), "float16 [] instead of float32 []"),
        (np.zeros(0, np.int32), np.zeros(0, np.int64), "int64 [0] instead of int32 [0]"),
        (np.array(["1"], object), np.array([1]), "int64 [1] instead of strings [1]"),
        (None, np.zeros(1), "float64 [1] instead of nothing"),
        ([np.zeros(1)], [np.zeros(1)] * 2, "a sequence of 2 instead of a sequence of 1"),
        ([np.zeros(1)], np.zeros(1), "float64 [1] instead of a sequence of 1"),
        ([np.zeros(1), None], [np.zeros(1), np.zeros(2)], "float64 [2] instead of nothing"),
        ({1: 0.5}, {2: 0.5}, "a map with keys ['2'] instead of a map with keys ['1']"),
    ],
)
def test_other_kind_shape_or_dtype_is_a_mismatch(a, b, words):
    assert measure(a, b) == hopeless()
    assert mismatch(a, b) == words
    assert mismatch(b, a) is not None


@pytest.mark.parametrize("shape", [(0,), (2, 0), (0, 3)])
@pytest.mark.parametrize("dtype", [np.float32, np.int64, object])
def test_empty_outputs_are_equal(shape, dtype):
    assert measure(np.zeros(shape, dtype), np.zeros(shape, dtype)) == perfect()


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (np.array([1, 2, 3, 4]), np.array([1, 9, 3, 4])),
        (np.array([2**63, 0, 1, 2], np.uint64), np.array([2**63 + 1, 0, 1, 2], np.uint64)),
        (np.array([True, True, False, True]), np.array([True, False, False, True])),
        (np.array(["a", "b", "", "é"], object), np.array(["a", "B", "", "é"])),
        (np.array([1, 2, 3, 4], ml_dtypes.int4), np.array([1, -2, 3, 4], ml_dtypes.int4)),
    ],
)
def test_other_types_count_unequal_elements(a, b):
    expected = {"max-abs": 1, "rel-l2": 0.25, "sqnr": 20 * math.log10(4), "cosine": 0.75, "argmax": 0.75, "unequal": 1}
    assert measure(a, b) == pytest.approx(expected)


@pytest.mark.parametrize("dtype", [ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2, np.float16])
def test_narrow_floats_are_measured_as_numbers(dtype):
    values = measure(np.array([1, 2, -4], dtype), np.array([1, 2, -3.5], dtype))
    assert values["max-abs"] == 0.5
    assert values["rel-l2"] == pytest.approx(0.5 / math.sqrt(21))


def test_large_float16_sums_do_not_overflow():
    a = np.full(100_000, 60_000, np.float16)
    assert measure(a, np.zeros_like(a))["rel-l2"] == 1.0


def test_complex_numbers_count_as_pairs():
    a, b = np.array([3 + 4j, 1], np.complex64), np.array([3 - 4j, 1], np.complex64)
    assert measure(a, b)["max-abs"] == 8
    assert measure(a, b)["argmax"] == 1
    assert measure(a, np.array([complex(3, math.nan), 1], np.complex64)) == hopeless()


@pytest.mark.parametrize(
    ("a", "b", "share"),
    [
        ([[1, 2, 3], [3, 2, 1]], [[1, 2, 4], [3, 2, 5]], 0.5),
        ([[5, 5, 1]], [[4, 6, 1]], 1.0),
        ([[0, 0, 0]], [[0, 1e-9, 0]], 1.0),
        ([[5, 1, 1]], [[0, 0, 1e-9]], 0.0),
        (5.0, 6.0, 1.0),
        ([[1, math.nan, 3]], [[2, math.nan, 1]], 0.0),
        ([[1, math.nan, 3]], [[2, math.nan, 4]], 1.0),
        ([[math.inf, 1]], [[math.inf, 2]], 1.0),
    ],
)
def test_argmax_agrees_where_the_result_picks_a_largest_of_the_reference(a, b, share):
    assert measure(np.array(a, float), np.array(b, float))["argmax"] == share


def test_sequences_and_maps_are_as_bad_as_their_worst_member():
    one, other = np.array([1.0, 2.0]), np.array([1.0, 2.5])
    assert measure([one, one], [one, other]) == measure(one, other)
    assert measure([{"a": 0.25}], [{"a": 0.5}])["max-abs"] == 0.25
    assert measure([], []) == perfect()
    assert measure([None], [None]) == perfect()


def test_worst():
    one = measure(np.array([1.0, 2.0]), np.array([1.0, 2.5]))
    assert worst([]) == perfect()
    assert worst([perfect(), one, perfect()]) == one
    assert worst([one, hopeless()]) == hopeless()
    assert worst([one | {"cosine": math.nan, "max-abs": math.nan}])["cosine"] == -math.inf


@given(st.sampled_from(sorted(METRICS)), st.floats(0, 1))
def test_limits_print_and_parse_back(name, value):
    assert Limit.parse(str(Limit(name, value))) == Limit(name, value)


@given(st.sampled_from(sorted(METRICS)), st.floats(0, 1), st.floats(allow_nan=True))
def test_limits_are_upper_or_lower(name, bound, value):
    holds = Limit(name, bound).holds(value)
    if name in ("sqnr", "cosine", "argmax"):
        assert holds == (value >= bound)
    else:
        assert holds == (value <= bound)


def test_limits_take_percent_and_decibels():
    assert Limit.parse("argmax=99%") == Limit("argmax", 0.99)
    assert Limit.parse("sqnr=30dB") == Limit("sqnr", 30)
    assert Limit.parse(" rel-l2 = 1e-3") == Limit("rel-l2", 1e-3)
    assert Limit.parse("sqnr=-3").holds(-2.9)


@pytest.mark.parametrize(
    "text", ["rel_l2=1e-3", "rell2=1", "rel-l2", "rel-l2=", "rel-l2=x", "rel-l2=nan", "rel-l2=inf"]
)
@pytest.mark.parametrize("suffix", ["", " "])
def test_bad_limits_are_user_errors_of_one_line(text, suffix):
    with pytest.raises(UserError, match="rel-l2") as caught:
        Limit.parse(text + suffix)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["rel-l2=-1", "cosine=2", "argmax=-0.1", "argmax=101%", "max-abs=3dB", "sqnr=5%"])
def test_limits_outside_a_metrics_range_are_refused(text):
    with pytest.raises(UserError, match=r"expected NAME=NUMBER"):
        Limit.parse(text)


def test_unknown_metric_suggests_a_near_one():
    with pytest.raises(UserError, match=r"did you mean 'cosine'\?"):
        Limit.parse("cosin=0.9")
