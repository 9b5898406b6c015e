"""Windows in time: on the grid, when the caller is slow, when the clock is set."""

import time
from collections.abc import Iterator

import pytest

from probes.observer import Observer

pytestmark = pytest.mark.kernel


@pytest.fixture
def observer() -> Iterator[Observer]:
    with Observer(0.2) as observer:
        yield observer


def test_windows_are_on_the_grid(observer: Observer) -> None:
    windows = observer.windows()
    next(windows)
    times = [next(windows).time for _ in range(5)]
    assert times == pytest.approx([times[0] + 0.2 * i for i in range(5)])
    assert times[0] / 0.2 == pytest.approx(round(times[0] / 0.2))


def test_the_first_window_begins_at_once_and_ends_with_the_clock(observer: Observer) -> None:
    began, since = time.time(), time.monotonic()
    windows = observer.windows()
    first, second = next(windows), next(windows)
    assert first.time == pytest.approx(began, abs=0.05)
    # from a quarter to one and a quarter of a window, and what a busy machine adds
    assert 0.045 <= first.width < 0.25 + 0.2
    assert first.nominal == 0.2
    assert second.time / 0.2 == pytest.approx(round(second.time / 0.2))
    assert first.time + first.width == pytest.approx(second.time, abs=0.05)
    assert time.monotonic() - since < 2


def test_a_slow_caller_gets_one_long_window(observer: Observer) -> None:
    windows = observer.windows()
    next(windows)
    time.sleep(1.1)
    held_up, following = next(windows), next(windows)
    assert 0.9 < held_up.width < 1.4
    assert following.width == pytest.approx(0.2, abs=0.19)
    assert following.time - held_up.time == pytest.approx(1.2, abs=0.21)


@pytest.mark.parametrize("step_s", [-3600.0, 3600.0])
def test_a_clock_that_is_set_does_not_stop_the_windows(
    observer: Observer, monkeypatch: pytest.MonkeyPatch, step_s: float
) -> None:
    windows = observer.windows()
    before = next(windows)
    real = time.time
    monkeypatch.setattr("probes.observer.time.time", lambda: real() + step_s)
    began = time.monotonic()
    next(windows)
    after = next(windows)
    assert time.monotonic() - began < 2
    assert after.time - before.time == pytest.approx(step_s, abs=2)
    assert after.width < 0.5


def test_stop_ends_the_windows(observer: Observer) -> None:
    windows = observer.windows()
    next(windows)
    observer.stop()
    assert list(windows) == []
