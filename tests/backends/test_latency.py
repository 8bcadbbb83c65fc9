import gc
import time

import pytest

from onnxpress.backends.latency import latency_ratio
from onnxpress.errors import ExecutionError


class Clock:
    """A clock that only advances while a fake session runs, and on which the machine may be slow."""

    def __init__(self, monkeypatch):
        self.now = self.cpu = 0.0
        self.order = []
        monkeypatch.setattr(time, "perf_counter", lambda: self.now)
        monkeypatch.setattr(time, "process_time", lambda: self.cpu)

    def session(self, name, seconds, cpu=None, slowdown=lambda now: 1):
        clock = self

        class Fake:
            inputs = outputs = ()

            def run(self, feeds):
                clock.order.append(name)
                clock.now += seconds * slowdown(clock.now)
                clock.cpu += seconds if cpu is None else cpu
                return {}

        return Fake()


@pytest.fixture
def clock(monkeypatch):
    return Clock(monkeypatch)


def test_ratio_of_steady_sessions(clock):
    found = latency_ratio(clock.session("a", 2e-3), clock.session("b", 3e-3, cpu=6e-3), {})
    assert (found.ratio_low, found.ratio, found.ratio_high) == pytest.approx((1.5, 1.5, 1.5))
    assert found.cpu_ratio == pytest.approx(3)
    assert (found.median_a_us, found.median_b_us) == pytest.approx((2000, 3000))
    assert found.difference_us == pytest.approx(1000)
    assert found.as_dict()["rounds"] == found.rounds


def test_runs_are_interleaved_abba_after_a_warm_up(clock):
    found = latency_ratio(clock.session("a", 1.0), clock.session("b", 1.0), {}, seconds=0, min_rounds=2)
    assert found.rounds == 2
    assert "".join(clock.order) == "ababab" + "abba" * 2


def test_a_steadily_slowing_machine_cancels(clock):
    def slower(now):
        return 1 + now / 100

    found = latency_ratio(clock.session("a", 1e-3, slowdown=slower), clock.session("b", 1e-3, slowdown=slower), {})
    assert found.ratio == pytest.approx(1, abs=1e-6)


def test_rare_interruptions_do_not_move_the_median(clock):
    def interrupted(now):
        return 1000 if len(clock.order) % 41 == 0 else 1

    found = latency_ratio(clock.session("a", 1e-3), clock.session("b", 1e-3, slowdown=interrupted), {}, seconds=60)
    assert found.ratio == pytest.approx(1)


@pytest.mark.parametrize(("seconds", "rounds"), [(0.0, 5), (0.39, 10), (100, 20)])
def test_time_and_rounds_bound_the_work(clock, seconds, rounds):
    a, b = clock.session("a", 1e-2), clock.session("b", 1e-2)
    assert latency_ratio(a, b, {}, seconds=seconds, min_rounds=5, max_rounds=20).rounds == rounds


def test_a_clock_that_stands_still_gives_a_finite_ratio(clock):
    found = latency_ratio(clock.session("a", 0.0), clock.session("b", 0.0), {}, max_rounds=7)
    assert (found.ratio, found.cpu_ratio, found.rounds) == (1, 1, 7)


def test_garbage_collection_is_off_while_timing_and_on_again_after(clock):
    states = []

    class Noting:
        inputs = outputs = ()

        def run(self, feeds):
            states.append(gc.isenabled())
            return {}

    latency_ratio(Noting(), clock.session("b", 1.0), {}, seconds=0, min_rounds=1)
    assert states == [True] * 3 + [False] * 2
    assert gc.isenabled()


def test_a_refused_feed_is_an_execution_error(clock):
    class Refusing:
        inputs = outputs = ()

        def run(self, feeds):
            raise ExecutionError("no")

    with pytest.raises(ExecutionError, match="no"):
        latency_ratio(clock.session("a", 1.0), Refusing(), {})


def test_real_clocks_tell_slow_from_fast():
    class Busy:
        inputs = outputs = ()

        def __init__(self, count):
            self.count = count

        def run(self, feeds):
            return {"y": sum(range(self.count))}

    found = latency_ratio(Busy(2_000), Busy(20_000), {}, seconds=0.2)
    assert found.ratio_low <= found.ratio <= found.ratio_high
    assert found.ratio > 3
    assert found.cpu_ratio > 3
