"""Origins: what they list, and that joining them lists nothing."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from onnxpress.ir.origin import Origin


@given(st.lists(st.lists(st.integers(0, 100), max_size=3), max_size=30))
@settings(max_examples=100, deadline=None)
def test_they_list_what_listing_at_once_would(parts: list[list[int]]) -> None:
    origins = [Origin("a"), Origin("b", "c")]
    listed = [("a",), ("b", "c")]
    for numbers in parts:
        chosen = [number % len(origins) for number in numbers]
        origins.append(Origin.joined(origins[n] for n in chosen))
        listed.append(tuple(dict.fromkeys(label for n in chosen for label in listed[n])))
        if numbers and numbers[0] % 3 == 0:
            assert origins[-1].labels() == listed[-1]
    assert [one.labels() for one in origins] == listed


def test_what_is_shared_is_listed_once() -> None:
    """A node of which each part comes from both parts before: all paths would be 2**200."""
    left, right = Origin("left"), Origin("right")
    for _ in range(200):
        left, right = Origin.joined([left, right]), Origin.joined([right, left])
    assert left.labels() == ("left", "right")


def test_a_deep_one_is_listed_without_recursion() -> None:
    one = Origin("0")
    for number in range(1, 20_000):
        one = Origin.joined([one, Origin(str(number))])
    assert one.labels() == tuple(map(str, range(20_000)))
