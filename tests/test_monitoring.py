"""The cumulative sum as a maximum over stretches, its threshold against closed forms, its rates against streams."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from clarke.monitoring import (
    Chart,
    _autoregressive,
    alarm_rate,
    calibrate,
    monitor,
    operating_characteristic,
    standardized,
)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def chart_of(threshold=4.0, side="both", allowance=0.5, horizon=1000, center=0.0, scale=1.0):
    return Chart(
        np.array(center), np.array(scale), allowance, threshold, side, 10, horizon, 0.0, 0.05, 100, "made by hand"
    )


def largest_stretch(y, allowance):
    """max over s <= t of the sum of y - k over (s, t], and 0."""
    y = np.asarray(y) - allowance
    return np.array([max([0.0, *(y[s : t + 1].sum() for s in range(t + 1))]) for t in range(len(y))])


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(-8, 8).map(lambda k: k / 4), min_size=1, max_size=12), st.sampled_from([0.0, 0.5, 1.25]))
def test_the_sums_are_the_largest_excess_of_a_stretch_that_ends_now(y, allowance):
    found = monitor(y, chart_of(allowance=allowance))
    np.testing.assert_allclose(found.upper, largest_stretch(y, allowance), atol=1e-12)
    np.testing.assert_allclose(found.lower, largest_stretch(-np.array(y), allowance), atol=1e-12)
    above = [t for t in range(len(y)) if max(found.upper[t], found.lower[t]) > 4.0]
    assert found.alarm == (above[0] if above else None)


def test_each_side_watches_its_own_direction():
    up, down = np.full(20, 1.0), np.full(20, -1.0)
    for side, alarms in (("upper", (True, False)), ("lower", (False, True)), ("both", (True, True))):
        chart = chart_of(side=side)
        assert tuple(monitor(y, chart).alarm is not None for y in (up, down)) == alarms
    assert monitor(up, chart_of()).alarm == 8  # 9 * 0.5 = 4.5 > 4


def test_another_unit_of_the_traces_changes_no_alarm(rng):
    reference, stream = rng.normal(size=30), rng.normal(size=50) + 0.6
    charts = [
        calibrate(a + b * reference, false_alarm_rate=0.05, horizon=50, rng=np.random.default_rng(1))
        for a, b in ((0.0, 1.0), (7.0, 4.0))
    ]
    one, two = monitor(stream, charts[0]), monitor(7.0 + 4.0 * stream, charts[1])
    assert charts[0].threshold == pytest.approx(charts[1].threshold, rel=1e-9)
    np.testing.assert_allclose(one.upper, two.upper, atol=1e-9)
    assert one.alarm == two.alarm


def test_over_one_step_the_threshold_is_a_quantile_of_student_s_t(rng):
    """y = (x - mean) / s of m values has sqrt(1 + 1/m) t_{m-1}; an alarm is |y| - k > h."""
    m, n, rate = 8, 40000, 0.1
    chart = calibrate(
        rng.normal(size=m), false_alarm_rate=rate, horizon=1, rng=rng, correlation=0.0, simulations=n, allowance=0.25
    )
    truth = np.sqrt(1 + 1 / m) * stats.t(m - 1).isf(rate / 2) - 0.25
    density = 2 * stats.t(m - 1).pdf((truth + 0.25) / np.sqrt(1 + 1 / m)) / np.sqrt(1 + 1 / m)
    assert abs(chart.threshold - truth) < 4 * np.sqrt(rate * (1 - rate) / n) / density
    runs = calibrate(
        rng.normal(size=(m, 1)), false_alarm_rate=rate, rng=rng, correlation=0.0, simulations=n, allowance=0.25
    )
    assert abs(runs.threshold - truth) < 4 * np.sqrt(rate * (1 - rate) / n) / density
    assert runs.center.shape == (1,)


@pytest.mark.parametrize("correlation", [0.0, 0.6])
@pytest.mark.parametrize("runs", [False, True])
def test_the_false_alarm_rate_is_attained_on_streams_drawn_elsewhere(correlation, runs):
    """500 references, each with a chart of the same threshold and one stream of its own."""
    rng, n, rate, size, horizon = np.random.default_rng(1), 500, 0.1, 12, 25

    def autoregressive(T):
        noise = [rng.normal()]
        for _ in range(T - 1):
            noise.append(correlation * noise[-1] + np.sqrt(1 - correlation**2) * rng.normal())
        return np.array(noise)

    shape = (size, horizon) if runs else size
    base = calibrate(rng.normal(size=shape), false_alarm_rate=rate, horizon=horizon, rng=rng, correlation=correlation)
    alarms = 0
    for _ in range(n):
        if runs:
            reference, stream = np.array([autoregressive(horizon) for _ in range(size)]), autoregressive(horizon)
        else:
            whole = autoregressive(size + horizon)
            reference, stream = whole[:size], whole[size:]
        center, scale = reference.mean(axis=0), reference.std(axis=0, ddof=1)
        chart = chart_of(base.threshold, center=center, scale=scale, horizon=horizon)
        alarms += monitor(stream, chart).alarm is not None
    error = np.sqrt(rate * (1 - rate) * (1 / n + 1 / base.simulations))
    assert abs(alarms / n - rate) < 4 * error


def test_correlation_taken_for_independence_alarms_too_often(rng):
    reference = rng.normal(size=40)
    naive = calibrate(reference, false_alarm_rate=0.05, horizon=40, rng=rng, correlation=0.0)
    aware = calibrate(reference, false_alarm_rate=0.05, horizon=40, rng=rng, correlation=0.7)
    assert aware.threshold > 2 * naive.threshold
    assert "correlation 0.7 of successive values (as given)" in aware.reason


def test_the_correlation_is_estimated_from_the_reference():
    rng, phi = np.random.default_rng(2), 0.8
    noise = [rng.normal()]
    for _ in range(4000):
        noise.append(phi * noise[-1] + 0.6 * rng.normal())
    chart = calibrate(noise, false_alarm_rate=0.1, horizon=5, rng=rng, simulations=50)
    assert abs(chart.correlation - phi) < 4 * 0.6 / np.sqrt(4000)
    assert "estimated" in chart.reason
    runs = calibrate(
        np.reshape(noise[1:], (40, 100)) * np.arange(1, 101) + 7, false_alarm_rate=0.1, rng=rng, simulations=50
    )
    assert abs(runs.correlation - phi) < 0.1
    assert calibrate(rng.normal(size=(5, 1)), false_alarm_rate=0.1, rng=rng, simulations=50).correlation == 0.0


def test_a_short_reference_has_its_correlation_corrected():
    """r, plus (1 + 3 r) / m."""
    values = np.array([3.0, 1.0, 0.0, 2.0, 4.0])
    rest = values - 2.0
    r = (rest[1:] @ rest[:-1]) / (rest @ rest)
    chart = calibrate(values, false_alarm_rate=0.1, horizon=2, rng=np.random.default_rng(0), simulations=20)
    assert chart.correlation == pytest.approx(r + (1 + 3 * r) / 5, rel=1e-12)


def test_the_simulated_noise_is_stationary_of_variance_one(rng):
    noise = _autoregressive(40000, 6, 0.7, rng)
    errors = 4 * np.sqrt(2 / 40000)
    np.testing.assert_allclose(noise.var(axis=0), 1.0, atol=errors)
    lag = (noise[:, 1:] * noise[:, :-1]).mean(axis=0)
    np.testing.assert_allclose(lag, 0.7, atol=errors)


def test_a_smaller_rate_takes_a_higher_threshold(rng):
    reference = rng.normal(size=20)
    thresholds = [
        calibrate(reference, false_alarm_rate=rate, horizon=30, rng=np.random.default_rng(4)).threshold
        for rate in (0.5, 0.2, 0.05, 0.01)
    ]
    assert thresholds == sorted(thresholds)


def test_runs_are_standardized_step_by_step(rng):
    trend = np.linspace(0, 50, 10)
    reference = trend + rng.normal(size=(20, 10)) * np.arange(1, 11)
    chart = calibrate(reference, false_alarm_rate=0.05, rng=rng)
    assert chart.horizon == 10
    y = standardized(reference, chart)
    np.testing.assert_allclose(y.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(y.std(axis=0, ddof=1), 1, rtol=1e-12)
    assert monitor(trend, chart).alarm is None
    assert monitor(trend[:4], chart).alarm is None
    assert monitor(trend[:4] + 100, chart).alarm == 0
    assert calibrate(reference, false_alarm_rate=0.05, horizon=4, rng=rng).horizon == 4


def test_power_grows_with_the_shift_and_starts_at_the_false_alarm_rate(rng):
    chart = calibrate(rng.normal(size=40), false_alarm_rate=0.1, horizon=40, rng=rng, correlation=0.0)
    found = operating_characteristic(chart, [0.0, 0.3, 0.6, 1.0, 30.0], rng=rng)
    assert (np.diff(found.rate) > 0).all()
    assert abs(found.rate[0] - 0.1) < 4 * np.sqrt(2) * found.stderr[0]
    assert found.rate[-1] == 1.0
    assert found.delay[-1] == 1.0
    assert (np.diff(found.delay[1:]) < 0).all()
    assert (found.early == 0).all()
    np.testing.assert_allclose(found.stderr, np.sqrt(found.rate * (1 - found.rate) / found.runs))


def test_alarms_before_the_change_are_counted_apart(rng):
    chart = calibrate(rng.normal(size=(30, 20)), false_alarm_rate=0.2, rng=rng, correlation=0.0)
    found = operating_characteristic(chart, [0.0, 3.0], rng=rng, change=10)
    assert (found.early < found.rate).all()
    assert abs(found.early[0] - found.early[1]) < 4 * np.sqrt(2 * 0.1 / found.runs)
    assert found.delay[1] < 5
    last = operating_characteristic(chart_of(threshold=0.0, horizon=5), 0.0, rng=rng, change=4)
    assert last.early[0] > 0.5
    assert last.delay[0] == 1.0  # alarms before the change are no part of it
    late = operating_characteristic(chart_of(threshold=1e9, horizon=5), 1.0, rng=rng)
    assert np.isnan(late.delay[0])
    assert late.rate[0] == 0.0


def test_the_alarm_rate_of_streams_has_the_error_of_a_beta_distribution():
    chart, loud, quiet = chart_of(), np.full(20, 2.0), np.zeros(20)
    assert alarm_rate([loud] * 3 + [quiet], chart) == (0.75, pytest.approx(stats.beta(4, 2).std()))
    assert alarm_rate([quiet] * 9, chart) == (0.0, pytest.approx(stats.beta(1, 10).std()))


def test_the_same_seed_gives_the_same_threshold(rng):
    reference = rng.normal(size=10)
    one, two = (
        calibrate(reference, false_alarm_rate=0.1, horizon=9, rng=np.random.default_rng(5)).threshold for _ in range(2)
    )
    assert one == two
    with pytest.raises(ValueError, match="read-only"):
        monitor([0.0], chart_of()).upper[0] = 1.0


def test_bad_arguments_are_named(rng):
    good = {"false_alarm_rate": 0.1, "horizon": 5, "rng": rng}
    reference = rng.normal(size=8)
    with pytest.raises(ValueError, match="reference has at least 3 values; got 2"):
        calibrate([1.0, 2.0], **good)
    with pytest.raises(ValueError, match="reference has at least 3 runs; got 1"):
        calibrate([[1.0, 2.0]], **good)
    with pytest.raises(ValueError, match="reference has runs of no steps"):
        calibrate(np.zeros((4, 0)), **good)
    with pytest.raises(ValueError, match="reference is finite, of 1 or 2 dimensions"):
        calibrate([1.0, np.nan, 2.0], **good)
    with pytest.raises(ValueError, match="the reference does not vary"):
        calibrate([1.0, 1.0, 1.0], **good)
    with pytest.raises(ValueError, match="the reference does not vary"):
        calibrate([0.1, 0.1, 0.1], **good)  # whose mean is another number
    for simulations in (100.0, True, 0):
        with pytest.raises(ValueError, match=f"simulations is an int, at least 1; got {simulations}"):
            calibrate(reference, simulations=simulations, **good)
    with pytest.raises(ValueError, match=r"false_alarm_rate is in \(0, 1\); got 1"):
        calibrate(reference, **{**good, "false_alarm_rate": 1})
    with pytest.raises(ValueError, match="horizon is the number of steps watched, an int, at least 1; got None"):
        calibrate(reference, false_alarm_rate=0.1, rng=rng)
    with pytest.raises(ValueError, match="horizon is at most the 3 steps of the reference runs; got 5"):
        calibrate(rng.normal(size=(4, 3)), **good)
    with pytest.raises(ValueError, match="allowance is finite and at least 0; got -1"):
        calibrate(reference, allowance=-1, **good)
    with pytest.raises(ValueError, match="side is one of both, upper, lower; got 'left'"):
        calibrate(reference, side="left", **good)
    with pytest.raises(ValueError, match=r"correlation is in \(-1, 1\); got 1"):
        calibrate(reference, correlation=1, **good)
    with pytest.raises(ValueError, match="rng is needed"):
        calibrate(reference, **{**good, "rng": None})
    with pytest.raises(ValueError, match=r"5 simulations cannot show a rate of 0\.1: take at least 10"):
        calibrate(reference, simulations=5, **good)
    chart = chart_of(horizon=3)
    with pytest.raises(ValueError, match="calibrated for 3 steps; got a stream of 4"):
        monitor(np.zeros(4), chart)
    with pytest.raises(ValueError, match="stream is finite, of 1 dimensions"):
        monitor(np.zeros((2, 2)), chart)
    with pytest.raises(ValueError, match="streams is empty"):
        alarm_rate([], chart)
    with pytest.raises(ValueError, match="change is a step of the horizon, 0 to 2; got 3"):
        operating_characteristic(chart, 1.0, rng=rng, change=3)
    with pytest.raises(ValueError, match="runs is an int, at least 1; got 0"):
        operating_characteristic(chart, 1.0, rng=rng, runs=0)
    with pytest.raises(ValueError, match="shifts is finite"):
        operating_characteristic(chart, np.inf, rng=rng)
    with pytest.raises(ValueError, match="rng is needed"):
        operating_characteristic(chart, 1.0, rng=3)
