"""`--time`: how fast one model runs against another, as it would be deployed, on one thread."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from .words import seconds_text

if TYPE_CHECKING:
    from ..api import Data
    from ..backends.interface import Pins
    from ..backends.latency import Latency
    from ..ir import Backend, Model, Session


def time_models(original: Model, result: Model, *, data: Data | None, pins: Pins, seed: int) -> Latency | str:
    """Time `result` against `original` on the first input that the original runs; or the reason why it cannot be."""
    from ..backends import default_backend
    from ..backends.interface import first_line
    from ..backends.latency import latency_ratio
    from ..errors import ExecutionError

    backend = default_backend()
    try:
        first, second = (backend.prepare(model, optimize=True) for model in (original, result))
        feed = _first_accepted(first, _feeds(original, first, backend, data, pins, seed))
        if feed is None:
            return "the original runs none of the inputs"
        known = {port.name for port in second.inputs}
        return latency_ratio(first, second, {name: value for name, value in feed.items() if name in known})
    except ExecutionError as error:
        return first_line(error)


def latency_dict(latency: Latency | str) -> dict[str, Any]:
    """A latency, or the reason why there is none, ready for JSON."""
    return {"not_timed": latency} if isinstance(latency, str) else latency.as_dict()


def latency_text(latency: Mapping[str, Any]) -> str:
    """What `latency_dict` holds, in words."""
    if "not_timed" in latency:
        return f"Not timed: {latency['not_timed']}"
    times = f"{seconds_text(latency['median_a_us'] / 1e6)} before, {seconds_text(latency['median_b_us'] / 1e6)} after"
    spread = f"quartiles {latency['ratio_low']:.2f} to {latency['ratio_high']:.2f}"
    return f"Latency: {latency['ratio']:.2f} x ({spread}; {times}), one thread, optimizations on."


def _feeds(
    model: Model, session: Session, backend: Backend, data: Data | None, pins: Pins, seed: int
) -> Iterable[Mapping[str, Any]]:
    from ..api import samples_for
    from ..backends.generate import generate_feeds
    from ..ir import emit, strip_weights

    if data is not None:
        return samples_for(model, data, backend, pins, seed)
    return generate_feeds(emit(model, strip_weights()), session, n=1, seed=seed, pins=pins).feeds


def _first_accepted(session: Session, feeds: Iterable[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    from ..errors import ExecutionError

    for feed in feeds:
        try:
            session.run(feed)
        except ExecutionError:
            continue
        return feed
    return None
