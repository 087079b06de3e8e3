"""Change detection on a stream of traces: a two-sided cumulative sum with a threshold calibrated by simulation.

A stream is standardized by what was seen in control, y_t = (x_t - center) / scale, and summed,

    U_t = max(0, U_{t-1} + y_t - k),    D_t = max(0, D_{t-1} - y_t - k),    alarm at the first t with U_t or D_t > h,

so that U_t is the largest excess of a stretch ending at t over its allowance k a step [P54]. The threshold h is the
quantile of the largest sum over a horizon, simulated in control with everything that a user estimates estimated again:
center and scale from a reference of the same size, and the sum run on them. The chance of a false alarm over the
horizon, reference and stream drawn together, is then at most the rate asked for, if the model of the noise holds.

What can break it is the model: successive traces of one training run share most of their weights and are correlated,
and a threshold for independent values then alarms far too often. The noise is simulated as Gaussian AR(1), its
coefficient estimated from the reference (0 on request). A trend in control is no noise: subtract it, or give whole
runs as the reference, each standardized by the mean and the scatter of the runs at the same step.

[P54] Page. Biometrika 41 (1954) 100-115.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from math import ceil, inf, sqrt
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

SIDES = ("both", "upper", "lower")
BLOCK = 1 << 20  # simulated numbers held at a time


@dataclass(frozen=True, eq=False)
class Chart:
    """A calibrated cumulative sum.

    center, scale: of the stream in control, scalars, or (T,) where the reference was whole runs. allowance k and
    threshold h, in units of scale. size: the number of reference values, or runs. correlation: of successive values, as
    simulated. false_alarm_rate: over `horizon` steps. simulations: how many the threshold is from; with n of them the
    rate it attains scatters by sqrt(rate (1 - rate) / n). reason: what was assumed, in words.
    """

    center: np.ndarray
    scale: np.ndarray
    allowance: float
    threshold: float
    side: str
    size: int
    horizon: int
    correlation: float
    false_alarm_rate: float
    simulations: int
    reason: str


@dataclass(frozen=True, eq=False)
class Monitoring:
    """upper, lower: (T,) the sums U and D, zero for a side that is not watched; alarm: the first step above, or None.
    chart: what they were held against."""

    upper: np.ndarray
    lower: np.ndarray
    alarm: int | None
    chart: Chart


@dataclass(frozen=True, eq=False)
class OperatingCharacteristic:
    """Of streams that shift by `shifts` (scales) at step `change`: rate and stderr of an alarm within the horizon,
    early: the rate of alarms before the change; delay: the mean number of steps to an alarm from the change on, where
    there is one, counted from 1 (nan where there is none). All (m,). runs: simulated for each.
    """

    shifts: np.ndarray
    rate: np.ndarray
    stderr: np.ndarray
    early: np.ndarray
    delay: np.ndarray
    change: int
    runs: int


def calibrate(
    reference: ArrayLike,
    *,
    false_alarm_rate: float,
    rng: np.random.Generator,
    horizon: int | None = None,
    allowance: float = 0.5,
    side: str = "both",
    correlation: float | None = None,
    simulations: int = 4000,
) -> Chart:
    """The chart whose chance of a false alarm over the horizon is `false_alarm_rate`.

    reference    (m,) values of one stream in control, m >= 3; or (runs, T), whole runs, runs >= 3, for streams that are
                 standardized step by step: center and scale are then their mean and standard deviation at each step
    horizon      the number of steps watched; needed for one stream, at most T (the default) for runs
    allowance    k: half the shift that is to be found soonest, in scales; >= 0
    side         "both" | "upper" | "lower"
    correlation  of successive values in control, in (-1, 1); None estimates it from the reference, and corrects the
                 bias of a short one, (1 + 3 r) / m [MP54]; 0 takes independence for granted
    rng          a numpy Generator, for the simulation

    Gaussian noise is assumed; take logarithms of traces. ValueError for any other arguments, a reference without
    scatter, or a rate that is too small for the number of simulations.

    [MP54] Marriott, Pope. Biometrika 41 (1954) 390-402.
    """
    values = _finite("reference", reference, (1, 2))
    if len(values) < 3:
        raise ValueError(f"reference has at least 3 {'runs' if values.ndim == 2 else 'values'}; got {len(values)}")
    if values.ndim == 2 and not values.shape[1]:
        raise ValueError("reference has runs of no steps")
    horizon = _horizon(horizon, values)
    if not 0 < false_alarm_rate < 1:
        raise ValueError(f"false_alarm_rate is in (0, 1); got {false_alarm_rate!r}")
    if not (np.isfinite(allowance) and allowance >= 0):
        raise ValueError(f"allowance is finite and at least 0; got {allowance!r}")
    if side not in SIDES:
        raise ValueError(f"side is one of {', '.join(SIDES)}; got {side!r}")
    _require_rng(rng)
    center, scale = values.mean(axis=0), values.std(axis=0, ddof=1)
    if not np.all(scale > 1e-13 * np.abs(values).max(axis=0)):  # equal values may differ from their mean by rounding
        raise ValueError("the reference does not vary, so that no scale can be taken from it")
    if isinstance(simulations, bool) or not isinstance(simulations, int | np.integer) or simulations < 1:
        raise ValueError(f"simulations is an int, at least 1; got {simulations!r}")
    estimated = correlation is None
    if estimated:
        correlation = _correlation(values)
    elif not -1 < correlation < 1:
        raise ValueError(f"correlation is in (-1, 1); got {correlation!r}")
    rank = ceil((simulations + 1) * (1 - false_alarm_rate))
    if rank > simulations:
        raise ValueError(
            f"{simulations} simulations cannot show a rate of {false_alarm_rate}: take at least "
            f"{ceil(1 / false_alarm_rate)}"
        )
    runs = values.ndim == 2
    largest = np.concatenate(
        [
            _sums(streams, allowance, side)[2]
            for streams in _simulated(len(values), horizon, runs, correlation, simulations, rng)
        ]
    )
    threshold = float(np.sort(largest)[rank - 1])
    how = "estimated from the reference" if estimated else "as given"
    what = f"{len(values)} runs, step by step" if runs else f"{len(values)} values of one stream, a constant level"
    return Chart(
        _frozen(center),
        _frozen(scale),
        float(allowance),
        threshold,
        side,
        len(values),
        horizon,
        float(correlation),
        float(false_alarm_rate),
        int(simulations),
        f"Gaussian noise with correlation {correlation:.3g} of successive values ({how}) around {what}",
    )


def monitor(stream: ArrayLike, chart: Chart) -> Monitoring:
    """The sums of a stream (T,) against the chart.

    At most `chart.horizon` steps, the stretch for which the false-alarm rate holds. ValueError for a longer stream, or
    one that is not finite.
    """
    values = _finite("stream", stream, (1,))
    if len(values) > chart.horizon:
        raise ValueError(f"the chart was calibrated for {chart.horizon} steps; got a stream of {len(values)}")
    upper, lower, _ = _sums(standardized(values, chart)[None], chart.allowance, chart.side)
    above = np.flatnonzero(np.maximum(upper[0], lower[0]) > chart.threshold)
    return Monitoring(_frozen(upper[0]), _frozen(lower[0]), int(above[0]) if len(above) else None, chart)


def standardized(stream: ArrayLike, chart: Chart) -> np.ndarray:
    """(x_t - center_t) / scale_t."""
    values = np.asarray(stream, dtype=float)
    center, scale = chart.center, chart.scale
    if center.ndim:
        center, scale = center[: values.shape[-1]], scale[: values.shape[-1]]
    return (values - center) / scale


def alarm_rate(streams: Iterable[Any], chart: Chart) -> tuple[float, float]:
    """(share of the streams with an alarm, its standard error); ValueError for no streams.

    The error is the standard deviation of Beta(a + 1, n - a + 1), what a alarms of n say of their probability when
    nothing else is known: close to sqrt(p (1 - p) / n), but not 0 where none or all alarm.
    """
    alarms = [monitor(stream, chart).alarm is not None for stream in streams]
    if not alarms:
        raise ValueError("streams is empty")
    n, p = len(alarms), (sum(alarms) + 1) / (len(alarms) + 2)
    return sum(alarms) / n, sqrt(p * (1 - p) / (n + 3))


def operating_characteristic(
    chart: Chart, shifts: ArrayLike, *, rng: np.random.Generator, change: int = 0, runs: Any = 4000
) -> OperatingCharacteristic:
    """How often, and how soon, the chart's rule alarms on streams whose mean shifts by `shifts` scales at `change`.

    Simulated as in `calibrate`, a reference drawn anew for every stream, by `rng`; a shift of 0 shows the false-alarm
    rate that the chart attains. ValueError for shifts that are not finite numbers, a change outside the horizon, or
    runs below 1.
    """
    _require_rng(rng)
    shifts = _finite("shifts", np.atleast_1d(shifts), (1,))
    if isinstance(change, bool) or not isinstance(change, int | np.integer) or not 0 <= change < chart.horizon:
        raise ValueError(f"change is a step of the horizon, 0 to {chart.horizon - 1}; got {change!r}")
    if isinstance(runs, bool) or not isinstance(runs, int | np.integer) or runs < 1:
        raise ValueError(f"runs is an int, at least 1; got {runs!r}")
    rate, early, delay = (np.zeros(len(shifts)) for _ in range(3))
    for s, shift in enumerate(shifts):
        first = []
        for streams in _simulated(
            chart.size, chart.horizon, chart.center.ndim > 0, chart.correlation, runs, rng, shift, change
        ):
            upper, lower, _ = _sums(streams, chart.allowance, chart.side)
            above = np.maximum(upper, lower) > chart.threshold
            first.append(np.where(above.any(axis=1), above.argmax(axis=1), chart.horizon))
        first = np.concatenate(first)
        found = (first >= change) & (first < chart.horizon)
        rate[s], early[s] = np.mean(first < chart.horizon), np.mean(first < change)
        delay[s] = np.mean(first[found] - change + 1) if found.any() else np.nan
    return OperatingCharacteristic(
        shifts, rate, np.sqrt(rate * (1 - rate) / runs), early, delay, int(change), int(runs)
    )


# ---------------------------------------------------------------- sums and simulations


def _sums(streams, allowance, side):
    """(U, D) (n, T) of standardized streams (n, T), and the largest of both (n,)."""
    n, T = streams.shape
    upper, lower = np.zeros((n, T)), np.zeros((n, T))
    for sums, y in ((upper, streams), (lower, -streams)):
        if side == ("lower" if sums is upper else "upper"):
            continue
        before = np.zeros(n)
        for t in range(T):
            before = np.maximum(0.0, before + y[:, t] - allowance)
            sums[:, t] = before
    return upper, lower, np.maximum(upper, lower).max(axis=1, initial=-inf)


def _simulated(size, horizon, runs, correlation, count, rng, shift=0.0, change: Any = 0):
    """Standardized streams (some, horizon) in control but for the shift, `count` in all, each with its own reference.

    runs: `size` independent streams beside it, step by step; else the `size` values before it.
    """
    each = size * (horizon + 1) if runs else size + horizon
    few = max(1, BLOCK // each)
    for start in range(0, count, few):
        n = min(few, count - start)
        if runs:
            every = _autoregressive(n * (size + 1), horizon, correlation, rng).reshape(n, size + 1, horizon)
            stream, beside = every[:, 0], every[:, 1:]
            center, scale = beside.mean(axis=1), beside.std(axis=1, ddof=1)
        else:
            every = _autoregressive(n, size + horizon, correlation, rng)
            stream, before = every[:, size:], every[:, :size]
            center, scale = before.mean(axis=1, keepdims=True), before.std(axis=1, ddof=1, keepdims=True)
        stream[:, change:] += shift
        yield (stream - center) / scale


def _autoregressive(n, T, correlation, rng):
    """(n, T) stationary Gaussian AR(1) streams of variance 1."""
    noise = rng.standard_normal((n, T))
    if correlation:
        step = sqrt(1 - correlation**2)
        for t in range(1, T):
            noise[:, t] = correlation * noise[:, t - 1] + step * noise[:, t]
    return noise


def _correlation(values):
    """Lag-1 autocorrelation of the values, or of runs about their mean at each step; corrected, kept within 0.99."""
    rest = values - values.mean(axis=0)
    if values.ndim == 2:
        rest = rest / values.std(axis=0)
        if rest.shape[1] < 2:
            return 0.0
        found = np.sum(rest[:, 1:] * rest[:, :-1]) / np.sum(rest[:, 1:] ** 2 + rest[:, :-1] ** 2) * 2
    else:
        found = np.sum(rest[1:] * rest[:-1]) / np.sum(rest**2)
        found += (1 + 3 * found) / len(rest)
    return float(np.clip(found, -0.99, 0.99))


def _horizon(horizon, values):
    if values.ndim == 2:
        most = values.shape[1]
        horizon = most if horizon is None else horizon
        if isinstance(horizon, bool) or not isinstance(horizon, int | np.integer) or not 1 <= horizon <= most:
            raise ValueError(f"horizon is at most the {most} steps of the reference runs; got {horizon!r}")
    elif isinstance(horizon, bool) or not isinstance(horizon, int | np.integer) or horizon < 1:
        raise ValueError(f"horizon is the number of steps watched, an int, at least 1; got {horizon!r}")
    return int(horizon)


def _finite(name, value, dimensions):
    values = np.asarray(value, dtype=float)
    if values.ndim not in dimensions or not np.isfinite(values).all():
        raise ValueError(f"{name} is finite, of {' or '.join(map(str, dimensions))} dimensions; got {value!r:.60}")
    return values


def _require_rng(rng):
    if not isinstance(rng, np.random.Generator):
        raise ValueError(f"rng is needed: the threshold is simulated; pass a numpy Generator, got {rng!r}")


def _frozen(array):
    array = np.array(array)
    array.flags.writeable = False
    return array
