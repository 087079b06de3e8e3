"""The minimum-norm element of a hull against cvxpy, naive and cached, and Clarabel, OSQP and daqp called directly.

All solve min |V^T w|^2 over w >= 0, sum w = 1, V (m, n) standard normal plus a shift: at 0 the origin is inside the
hull once m exceeds 2n or so, at 0.5 it is outside unless n is small. The naive call is what one writes first, a fresh
problem with default settings; the cached one is compiled once for a shape, and that is not counted; the direct calls
skip cvxpy, at default settings, the Gram matrix counted. `clarke` checks and certifies; no other answer is sharpened.

For every solver the gap of its answer, normalized to the simplex, relative to max |v|^2. Then hulls that are
degenerate, repeated or badly scaled, and zonotopes, with gap and time of clarke alone. A solver that is not installed
is left out, and the first line says so.

One process, one thread; the least CPU time of two or more interleaved runs, in ms for clarke, for the others as a
multiple of that. Run as:

    OMP_NUM_THREADS=1 python benchmarks/projection.py [--quick]

--quick leaves out baselines of more than about 2 s and hulls with more than a million entries.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import warnings
from collections.abc import Callable
from functools import lru_cache
from importlib.util import find_spec
from time import process_time
from typing import NamedTuple

import cvxpy as cp
import numpy as np
import scipy.sparse as sp

from clarke import Zonotope, min_norm_element

SHAPES = [
    *[(m, n) for m in (2, 4, 10) for n in (2, 10, 100)],
    (10, 1000),
    (20, 5),
    (20, 20),
    (20, 100),
    *[(250, n) for n in (10, 50, 200)],
    *[(500, n) for n in (50, 200)],
    *[(1000, n) for n in (50, 200)],
    *[(2000, n) for n in (10, 50, 200)],
]
SLOW = 250_000  # entries of V from which a baseline can take more than 2 s
CACHED = 5_000  # entries up to which cvxpy's parametrized problem compiles in seconds


class Contender(NamedTuple):
    name: str
    solve: Callable  # V -> weights, or None where it gave up
    most: float = np.inf  # entries of V


def naive(V):
    w = cp.Variable(len(V), nonneg=True)
    cp.Problem(cp.Minimize(cp.sum_squares(V.T @ w)), [cp.sum(w) == 1]).solve()
    return w.value


@lru_cache
def compiled(m, n):
    points, w = cp.Parameter((n, m)), cp.Variable(m, nonneg=True)
    return cp.Problem(cp.Minimize(cp.sum_squares(points @ w)), [cp.sum(w) == 1]), points, w


def cached(V):
    problem, points, w = compiled(*V.shape)
    points.value = V.T
    problem.solve()
    return w.value


def clarabel_direct(V):
    import clarabel

    m = len(V)
    settings = clarabel.DefaultSettings()
    settings.verbose = False
    rows = sp.vstack([np.ones((1, m)), -sp.eye(m)]).tocsc()
    right = np.append(1.0, np.zeros(m))
    cones = [clarabel.ZeroConeT(1), clarabel.NonnegativeConeT(m)]
    gram = sp.csc_matrix(np.triu(V @ V.T))
    return np.array(clarabel.DefaultSolver(gram, np.zeros(m), rows, right, cones, settings).solve().x)


def osqp_direct(V):
    import osqp

    m, solver = len(V), osqp.OSQP()
    rows = sp.vstack([np.ones((1, m)), sp.eye(m)]).tocsc()
    low, high = np.append(1.0, np.zeros(m)), np.append(1.0, np.full(m, np.inf))
    solver.setup(sp.csc_matrix(np.triu(V @ V.T)), np.zeros(m), rows, low, high, verbose=False)
    return solver.solve().x


def daqp_direct(V):
    import daqp

    m = len(V)
    high, low = np.append(np.full(m, 1e30), 1.0), np.append(np.zeros(m), 1.0)
    x, _, flag, _ = daqp.solve(V @ V.T, np.zeros(m), np.ones((1, m)), high, low, np.zeros(m + 1, dtype=np.int32))
    return x if flag > 0 else None


CONTENDERS = [
    Contender("naive", naive),
    Contender("cached", cached, CACHED),
    Contender("clarabel", clarabel_direct),
    Contender("osqp", osqp_direct),
    Contender("daqp", daqp_direct),
]


def gap(V, w):
    """(|P|^2 - min <P, v>) / max |v|^2 of the weights, made feasible; infinity for none."""
    if w is None or not np.isfinite(w).all() or not np.maximum(w, 0).any():
        return np.inf
    P = np.maximum(w, 0) @ V / np.maximum(w, 0).sum()
    return max(float((P @ P - (V @ P).min()) / (V * V).sum(axis=1).max()), 0.0)


def race(calls, spend):
    """(least CPU seconds of each call, first answers); calls alternate until each has spent its seconds, twice."""
    times, answers = [[] for _ in calls], [None] * len(calls)

    def unfinished(taken):
        return len(taken) < 2 or (sum(taken) < spend and len(taken) < 2000)

    while any(map(unfinished, times)):
        for i, call in enumerate(calls):
            if unfinished(times[i]):
                start = process_time()
                answer = call()
                times[i].append(process_time() - start)
                if answers[i] is None:
                    answers[i] = answer
    return list(map(min, times)), answers


def against_the_others(quick):
    here = [c for c in CONTENDERS if c.name in ("naive", "cached") or find_spec(c.name)]
    missing = [c.name for c in CONTENDERS if c not in here]
    if missing:
        print(f"not installed, left out: {', '.join(missing)}")
    head = f"{'m':>5s} {'n':>5s} {'shift':>5s} {'clarke ms':>10s} {'gap':>6s} {'support':>7s}"
    print(head + "".join(f"{c.name:>9s} {'gap':>6s}" for c in here))
    least = {}
    for m, n in SHAPES:
        for shift in (0.0, 0.5):
            V = np.random.default_rng(m + n).standard_normal((m, n)) + shift
            entered = [c for c in here if V.size <= c.most and not (quick and V.size >= SLOW and shift)]
            calls = [lambda V=V: min_norm_element(V), *(lambda c=c, V=V: c.solve(V) for c in entered)]
            for call in calls[: 1 + (V.size <= CACHED) * len(entered)]:
                call()  # imports and compilation are not counted
            seconds, answers = race(calls, 0.3)
            ours = answers[0]
            line = f"{m:5d} {n:5d} {shift:5.1f} {1e3 * seconds[0]:10.3f} {ours.gap:6.0e}"
            line += f" {np.count_nonzero(ours.weights):7d}"
            taken = {c.name: (s, gap(V, w)) for c, s, w in zip(entered, seconds[1:], answers[1:], strict=True)}
            for c in here:
                time, left = taken.get(c.name, (np.nan, np.nan))
                line += f"{time / seconds[0]:8.3g}x {left:6.0e}" if c.name in taken else f"{'-':>9s} {'-':>6s}"
            print(line, flush=True)
            if "naive" in taken:
                group = "m <= 10" if m <= 10 else "m = 20" if m == 20 else "m >= 250"
                least.setdefault(group, []).append(seconds[1] / seconds[0])
    for group, ratios in least.items():
        mean = np.exp(np.mean(np.log(ratios)))
        print(f"{group}: naive cvxpy takes at least {min(ratios):.3g} times as long, {mean:.3g} in the geometric mean")


def hard_hulls(quick):
    rng = np.random.default_rng(0)
    normal = rng.standard_normal
    cube = np.array(np.meshgrid(*[[-1.0, 1.0]] * 10)).reshape(10, -1).T
    few = normal((40, 50)) + 0.3
    yield "normal", normal((2000, 100))
    yield "at the threshold of holding 0", normal((400, 200))
    yield "vertices of a zonotope", cube @ normal((10, 40)) + 2 * normal(40)
    yield "a flat of dimension 5", rng.dirichlet(np.ones(5), 400) @ normal((5, 1000)) + 1
    yield "repeated 20 times", np.repeat(few, 20, axis=0)[rng.permutation(800)]
    yield "nearly repeated, 1e-9", np.repeat(few, 20, axis=0) + 1e-9 * normal((800, 50))
    yield "a line and noise 1e-7", np.outer(normal(300), normal(60)) + 1e-7 * normal((300, 60)) + 0.1
    yield "rows of many sizes", normal((500, 300)) * np.exp(3 * normal((500, 1))) + 0.1
    yield "columns of many sizes", normal((300, 500)) * np.exp(3 * normal(500)) + 0.1
    yield "rows from 1e-8 to 1e8", normal((300, 50)) * 10 ** rng.uniform(-8, 8, (300, 1))
    yield "entries from 1e-150 to 1e150", 10 ** rng.uniform(-150, 150, (60, 30))
    yield "far, 1e4 widths", np.column_stack([normal((200, 30)), np.full(200, 1e4)])
    A = normal((100, 30, 30))
    yield "positive semidefinite", A @ A.swapaxes(1, 2)
    if not quick:
        yield "long", normal((1000, 10_000)) + 0.05
        yield "long, many", normal((2000, 10_000)) + 0.05
        V = normal((2000, 10_000))
        yield "long, 0 inside", V - rng.dirichlet(np.ones(2000)) @ V
        yield "square", normal((2000, 2000))
        yield "square, at the threshold", normal((2000, 1000))


def alone(quick):
    print(f"\n{'hull':30s} {'m':>5s} {'n':>6s} {'clarke ms':>10s} {'gap':>6s} {'support':>7s}  method")
    worst = 0.0
    for name, V in hard_hulls(quick):
        (seconds,), (r,) = race([lambda V=V: min_norm_element(V)], 0.1)
        size, support = V[0].size, np.count_nonzero(r.weights)
        print(
            f"{name:30s} {len(V):5d} {size:6d} {1e3 * seconds:10.1f} {r.gap:6.0e} {support:7d}  {r.method}", flush=True
        )
        worst = max(worst, r.gap)
    print(f"worst gap: {worst:.1e}")
    print(f"\n{'zonotope, 2^k vertices':30s} {'k':>5s} {'n':>6s} {'clarke ms':>10s} {'gap':>6s}")
    for k, n in [(200, 20), (200, 50), (200, 200), (200, 1000), (500, 100), (1000, 200)]:
        for shift in (0, 1, 5):
            rng = np.random.default_rng(k + n + shift)
            G = rng.standard_normal((k, n))
            Z = Zonotope(shift * np.sqrt(k) / 2 * rng.standard_normal(n) - G.sum(axis=0) / 2, G)
            (seconds,), (r,) = race([lambda Z=Z: min_norm_element(Z)], 0.1)
            print(f"{f'center {shift} widths from 0':30s} {k:5d} {n:6d} {1e3 * seconds:10.2f} {r.gap:6.0e}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="leave out what takes more than a few seconds")
    quick = parser.parse_args().quick
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # inaccurate answers show in their gaps
        against_the_others(quick)
    alone(quick)


if __name__ == "__main__":
    main()
