"""A strategy for the pass with options of every kind that do not contradict each other."""

from hypothesis import strategies as st

from onnxpress.passes.quantize.alphabet import AFFINE, SYMMETRIC
from onnxpress.passes.quantize.nbits import TYPES
from onnxpress.passes.quantize.quantize_insert import QuantizeInsert
from onnxpress.passes.quantize.recipe import BOOK_BITS
from onnxpress.passes.quantize.targets.profile import names, profile

GRANULARITIES = st.sampled_from(["auto", "tensor", "channel", "block"])
BLOCKS = st.integers(2, 40)


def quantizers() -> st.SearchStrategy[QuantizeInsert]:
    """Linear levels with zero points or without, 8-bit floats, books, and MatMulNBits; no weight is too small."""
    orders = st.sampled_from(["auto", "true", "false"])
    common = {"min_bytes": st.just(0), "balance": st.booleans(), "sequential": orders}
    shared = {**common, "granularity": GRANULARITIES, "block": BLOCKS}
    forms = st.sampled_from(["cast", "dq"])
    integers = st.builds(
        QuantizeInsert, type=st.sampled_from(list(AFFINE)), symmetric=st.booleans(), form=forms,
        levels=st.sampled_from(["linear", "pow2"]), **shared,
    )  # fmt: skip
    floats = st.builds(
        QuantizeInsert, type=st.sampled_from([t for t in SYMMETRIC if t not in AFFINE]), form=forms, **shared
    )
    books = st.sampled_from([(levels, kind) for levels, kinds in BOOK_BITS.items() for kind in kinds]).flatmap(
        lambda pair: st.builds(QuantizeInsert, levels=st.just(pair[0]), type=st.just(pair[1]), **shared)
    )
    nbits = st.builds(
        QuantizeInsert, format=st.just("nbits"), type=st.sampled_from(list(TYPES)), symmetric=st.booleans(),
        block=st.sampled_from([16, 32, 64]), levels=st.sampled_from(["linear", "pow2"]), **common,
    )  # fmt: skip
    return st.one_of(integers, floats, books, nbits)


def integer_quantizers() -> st.SearchStrategy[QuantizeInsert]:
    """Activations too, of all units that a target knows, whatever the outputs lose, or within the usual error."""
    common = {
        "latency": st.sampled_from(["off", "profile"]), "error": st.sampled_from([0.05, 1e3]),
        "target": st.sampled_from(names()), "rounding": st.just("nearest"), "min_bytes": st.sampled_from([0, 1000]),
    }  # fmt: skip
    ranges = st.sampled_from(["auto", "minmax", "percentile", "mse"])
    static = st.builds(
        QuantizeInsert, mode=st.just("static"), calibration=ranges, equalize=st.sampled_from(["auto", "true"]), **common
    )
    types = st.sampled_from([(name, kind) for name in names() for kind in profile(name).takes])
    typed = types.flatmap(
        lambda pair: st.builds(
            QuantizeInsert, mode=st.just("static"), activations=st.just(pair[1]),
            **{**common, "target": st.just(pair[0])},
        )
    )  # fmt: skip
    takes = [name for name in names() if profile(name).qoperators]
    operators = st.builds(
        QuantizeInsert, mode=st.just("static"), format=st.just("qoperator"),
        **{**common, "target": st.sampled_from(takes)},
    )  # fmt: skip
    return st.one_of(static, typed, operators, st.builds(QuantizeInsert, mode=st.just("dynamic"), **common))
