"""The cache of a calibration: used only for the same model and the same data, and said to be."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnxpress.errors import UserError
from onnxpress.passes.calibrate.cache import Cache
from onnxpress.passes.calibrate.calibrate import calibrate
from onnxpress.passes.calibrate.packing import pack, unpack
from onnxpress.passes.calibrate.statistics import METHODS, Method, Statistics
from onnxpress.passes.manager.context import Context

from .arrays import Array, arrays
from .models import TEXT, Feeds, context, model, values_of


def run(path: Path, feeds: Feeds | None, method: Method = "minmax", *, text: str = TEXT, names: str = "") -> object:
    """Calibrate some values (of all) with a cache; ranges by name and the remarks."""
    model_ = model(text)
    values = {name: value for name, value in values_of(model_).items() if not names or name in names.split()}
    ctx = context(model_, feeds)
    found = calibrate(ctx, values.values(), method=method, cache=str(path))
    return {name: found.get(value) for name, value in values.items()}, [remark.reason for remark in ctx.remarks]


@pytest.mark.parametrize("method", METHODS)
def test_another_method_needs_no_data(tmp_path: Path, method: Method) -> None:
    path = tmp_path / "cache.npz"
    run(path, Feeds(6))
    found, remarks = run(path, None, method)
    model_ = model()
    values = values_of(model_)
    fresh = calibrate(context(model_, Feeds(6)), values.values(), method=method)
    assert found == {name: fresh.get(value) for name, value in values.items()}
    assert remarks == ["statistics of 8 values taken from the cache"]


def test_the_same_model_and_data_are_not_run_again(tmp_path: Path) -> None:
    path = tmp_path / "cache"
    first = run(path, feeds := Feeds(4))
    walks, content = feeds.walks, path.read_bytes()
    again = run(path, feeds)
    assert feeds.walks == walks + 1  # for the digest
    assert again[0] == first[0]
    assert path.read_bytes() == content


def test_values_that_are_not_in_it_are_added(tmp_path: Path) -> None:
    path = tmp_path / "cache.npz"
    run(path, Feeds(4), names="0/a")
    with pytest.raises(UserError, match=r"does not know 7 values, among them 'b'; give --data"):
        run(path, None)
    run(path, Feeds(4))
    assert run(path, None)[0] == run(tmp_path / "other.npz", Feeds(4))[0]


@pytest.mark.parametrize(
    ("feeds", "text", "why"),
    [(Feeds(4, scale=2), TEXT, "other data"), (Feeds(4), TEXT.replace("Tanh", "Sin"), "another model")],
    ids=["data", "model"],
)
def test_other_data_or_another_model_are_seen_and_said(tmp_path: Path, feeds: Feeds, text: str, why: str) -> None:
    path = tmp_path / "cache.npz"
    run(path, Feeds(4))
    found, (remark,) = run(path, feeds, text=text)
    assert f"not used and made anew: it was made with {why}" in remark
    assert (found, []) == run(tmp_path / "fresh.npz", feeds, text=text)
    assert run(path, None, text=text)[0] == found


def test_without_data_another_model_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "cache.npz"
    with pytest.raises(UserError, match=r"cache.npz: there is no such file yet; give --data"):
        run(path, None)
    run(path, Feeds(2))
    with pytest.raises(UserError, match="made with another model, or the same one after other passes; give --data"):
        run(path, None, text=TEXT.replace("Tanh", "Sin"))


def _damaged(path: Path, kind: str) -> None:
    if kind == "text":
        path.write_text("hello")
    elif kind == "cut":
        path.write_bytes(path.read_bytes()[:-100])
    elif kind == "data":
        np.savez(path, x=np.zeros(3))
    elif kind == "folder":
        path.unlink()
        path.mkdir()
    else:
        with np.load(path) as file:
            kept = dict(file)
        kept[kind] = kept[kind][:-1]
        np.savez(path, **kept)


@pytest.mark.parametrize("kind", ["text", "cut", "data", "folder", "names", "numbers", "whole", "counts", "observed"])
def test_what_is_no_cache_is_neither_used_nor_overwritten(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "cache.npz"
    run(path, Feeds(2))
    _damaged(path, kind)
    before = None if path.is_dir() else path.read_bytes()
    with pytest.raises(UserError, match=r"cache.npz: this is no calibration cache of this version of onnxpress"):
        run(path, Feeds(2))
    assert path.is_dir() or path.read_bytes() == before


def test_a_place_that_cannot_be_written_to_is_the_users_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot write"):
        run(tmp_path / "missing" / "cache.npz", Feeds(2))


def test_what_cannot_be_observed_is_remembered(tmp_path: Path) -> None:
    text = """
        g (float[n, 8] x, bool c) => (float[n, 8] y) { y = local.twice (x) }
        <opset_import: ["" : 17], domain: "local"> twice (a) => (b) { d = Neg (a) b = Neg (d) }"""
    path = tmp_path / "cache.npz"
    first, _ = run(path, Feeds(2), text=text)
    assert {name for name, within in first.items() if within is None} == {"1/d", "1/b"}
    assert run(path, None, text=text)[0] == first


@given(st.lists(st.none() | st.lists(arrays(), max_size=2), max_size=4))
def test_statistics_come_back_as_they_were(seen: list[list[Array] | None]) -> None:
    entries: dict[str, Statistics | None] = {}
    for index, some in enumerate(seen):
        entries[f"v{index}"] = None if some is None else Statistics()
        for array in some or ():
            entries[f"v{index}"].update(array)  # type: ignore[union-attr]
    back = unpack(pack(entries))
    assert list(back) == list(entries)
    for name, one in entries.items():
        other = back[name]
        if one is None or other is None:
            assert one is other
            continue
        assert one.minmax == other.minmax
        assert one.average.range() == other.average.range()
        assert one.histogram is not None
        assert other.histogram is not None
        assert one.histogram.counts.tolist() == other.histogram.counts.tolist()
        assert one.histogram.bins().range(0, 1) == other.histogram.bins().range(0, 1)
        assert one.range("percentile") == other.range("percentile")


def test_statistics_without_a_histogram_are_not_kept() -> None:
    with pytest.raises(ValueError, match="without a histogram"):
        pack({"x": Statistics(histogram=False)})


def test_it_can_be_opened_without_a_file(tmp_path: Path) -> None:
    ctx: Context = context(model(), None)
    assert not Cache.open(ctx, tmp_path / "none", None).entries
