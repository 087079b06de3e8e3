"""Chambers, and layered patterns at a kink, against the sign tree with one warm linear program an undecided node.

The baseline is written here: the incremental sign tree of Rada & Cerny (SIAM J. Discrete Math. 32(1), 2018), depth
first, on one persistent HiGHS model. The parent's witness decides one child of a node for free, and both where the ball
about it that avoids the earlier hyperplanes reaches beyond the next; else the other child costs one linear program from
the basis at hand. A central arrangement is enumerated in a half-space and mirrored. Both programs
return all sign vectors, which must agree, and their number must be the known one; else the benchmark stops.

One process, one thread; the least CPU time of two or more interleaved runs. Run as:

    OMP_NUM_THREADS=1 python benchmarks/chambers.py [--quick] [--rate] [--layered]

--quick leaves out trees of more than about 5 s, --rate prints clarke's own rates only, --layered the second table only.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import sys
import tracemalloc
from collections import Counter
from collections.abc import Callable
from contextlib import contextmanager
from functools import partial
from itertools import combinations, pairwise, product
from math import factorial, sqrt
from time import process_time
from typing import NamedTuple
from unittest.mock import patch

import autograd.numpy as anp
import highspy
import numpy as np

import clarke
from clarke import compiled, halfspaces, restriction
from clarke.fan import fan_of
from clarke.kinks import germ
from clarke.skeleton import skeleton

# ---------------------------------------------------------------- the baseline


class Cone:
    """{d : s_i v_i . d > 0} over the rows i that have a sign, asked for a point by one linear program kept warm.

    The program is the dual of: any d with s_i v_i . d >= 1. That is max sum_i s_i y_i over sum_i y_i v_i = 0,
    s_i y_i >= 0: unbounded iff the cone is empty (Gordan), and otherwise its prices are such a d. So a basis is n by n
    and not k by k, a sign is the bound and the cost of a column, and y = 0 is always feasible: primal simplex, from the
    last basis. With HiGHS 1.15 this was faster than the rows s_i v_i . d >= 1 themselves with dual or primal simplex.
    """

    OPTIONS = {  # noqa: RUF012
        "output_flag": False,
        "presolve": "off",
        "solver": "simplex",
        "simplex_strategy": 4,  # primal
        "simplex_scale_strategy": 0,
        "simplex_primal_edge_weight_strategy": 0,  # Dantzig: the programs are small
        "primal_simplex_bound_perturbation_multiplier": 0.0,
        "parallel": "off",
        "threads": 1,
    }

    def __init__(self, rows):
        k, n = rows.shape
        lp = highspy.HighsLp()
        lp.num_col_, lp.num_row_ = k, n
        lp.col_cost_ = lp.col_lower_ = lp.col_upper_ = np.zeros(k)
        lp.row_lower_ = lp.row_upper_ = np.zeros(n)
        i, entry = np.nonzero(rows)
        lp.a_matrix_.format_ = highspy.MatrixFormat.kColwise
        lp.a_matrix_.start_ = np.searchsorted(i, np.arange(k + 1)).astype(np.int32)
        lp.a_matrix_.index_, lp.a_matrix_.value_ = entry.astype(np.int32), rows[i, entry]
        self.model, self.programs = highspy.Highs(), 0
        for name, value in self.OPTIONS.items():
            self.model.setOptionValue(name, value)
        self.model.passModel(lp)

    def set_row(self, i, row):
        for entry, value in enumerate(row.tolist()):
            self.model.changeCoeff(entry, i, value)

    def set_sign(self, i, sign):
        if sign > 0:
            self.model.changeColBounds(i, 0.0, highspy.kHighsInf)
        else:
            self.model.changeColBounds(i, -highspy.kHighsInf, 0.0)
        self.model.changeColCost(i, -float(sign))

    def unset(self, i):
        self.model.changeColBounds(i, 0.0, 0.0)
        self.model.changeColCost(i, 0.0)

    def witness(self):
        """d with s_i v_i . d >= 1, or None if the cone is empty."""
        self.programs += 1
        self.model.run()
        status = self.model.getModelStatus()
        if status == highspy.HighsModelStatus.kOptimal:
            return -np.array(self.model.getSolution().row_dual)
        if status != highspy.HighsModelStatus.kUnbounded:
            sys.exit(f"HiGHS ended {status}")
        return None


LEAST = 1e-6  # distances from a witness below this decide nothing


def sides(cone, j, row, w, height, room):
    """Yields (side, witness, room) for the children of a node: h_j is |height| from w, the walls before at least room.

    w shows its own side; the ball of radius room around w, if it reaches beyond h_j, the other; else one program.
    """
    ahead, beyond = (1, -1) if height > 0 else (-1, 1), (room - abs(height)) / 2
    for side in ahead:
        cone.set_sign(j, side)
        if side == ahead[0] and abs(height) > LEAST:
            yield side, w, min(room, abs(height))
        elif beyond > LEAST:
            yield side, w + (side * beyond - height) * row, beyond
        elif (inside := cone.witness()) is not None:
            yield side, inside, 1.0
    cone.unset(j)


def sign_tree(normals):
    """(signs (m, k) of all chambers, number of linear programs)."""
    rows = normals / np.linalg.norm(normals, axis=1, keepdims=True)
    k, cone, found, signs = len(rows), Cone(rows), [], np.ones(len(rows), np.int8)

    def descend(j, w, heights, room):
        if j == k:
            found.append(signs.copy())
            return
        for side, inside, left in sides(cone, j, rows[j], w, heights[j], room):
            signs[j] = side
            descend(j + 1, inside, heights if inside is w else (rows @ inside).tolist(), left)

    cone.set_sign(0, 1)
    descend(1, rows[0], (rows @ rows[0]).tolist(), 1.0)
    half = np.array(found)
    return np.vstack([half, -half]), cone.programs


class Unit(NamedTuple):
    """A kink: guard (R,) acts on the R registers (rows of R^n -> R); the registers change by plus or by minus."""

    guard: np.ndarray
    plus: np.ndarray | None
    minus: np.ndarray | None


def layered_tree(n, units):
    """(signs (m, k) of all patterns at the origin, number of linear programs); registers begin as I, then zeros."""
    k, cone, found, signs = len(units), Cone(np.zeros((len(units), n))), [], np.ones(len(units), np.int8)

    def descend(j, w, maps, room):
        if j == k:
            found.append(signs.copy())
            return
        guard, plus, minus = units[j]
        row = guard @ maps
        length = sqrt(row @ row)
        if length < 1e-10:  # identically zero on this cone: one child
            signs[j] = 0
            descend(j + 1, w, maps, room)
            return
        row = row / length
        cone.set_row(j, row)
        for side, inside, left in sides(cone, j, row, w, float(row @ w), room):
            signs[j] = side
            step = plus if side > 0 else minus
            descend(j + 1, inside, maps if step is None else step @ maps, left)

    descend(0, np.ones(n), np.eye(len(units[0].guard), n), 1.0)
    return np.array(found), cone.programs


# ---------------------------------------------------------------- instances


class Arrangement(NamedTuple):
    name: str
    normals: np.ndarray
    known: int
    slow: bool = False


def cube(n):
    return np.array(list(product((0.0, 1.0), repeat=n)))


def gaussian(k, n):
    return np.random.default_rng(0).standard_normal((k, n))


def resonance(n):
    return cube(n)[1:]


def threshold(n):
    return np.column_stack([np.ones(2**n), cube(n)])


def braid(n):
    return np.array([np.eye(n)[i] - np.eye(n)[j] for i, j in combinations(range(n), 2)])


def cross_polytope(n):
    return np.column_stack([np.vstack([np.eye(n), -np.eye(n)]), np.ones(2 * n)])


def pencil(k, n):
    """k - n + 2 lines in a plane, times n - 2 coordinate hyperplanes."""
    normals = np.eye(k, n, n - k)
    normals[: k - n + 2, :2] = gaussian(k - n + 2, 2)
    return normals


def arrangements():
    return [
        Arrangement("random", gaussian(30, 4), 8_180),
        Arrangement("random", gaussian(20, 6), 33_328),
        Arrangement("random", gaussian(16, 8), 32_768),
        Arrangement("resonance 5", resonance(5), 11_292),
        Arrangement("threshold 5", threshold(5), 94_572, slow=True),
        Arrangement("braid 7", braid(7), factorial(7)),
        Arrangement("braid 8", braid(8), factorial(8)),
        Arrangement("cross-polytope 8", cross_polytope(8), 2 * 3**8 - 2**8),
        Arrangement("pencil", pencil(20, 6), 2 * 16 * 2**4),
        Arrangement("pencil", pencil(20, 8), 2 * 14 * 2**6),
    ]


class Layered(NamedTuple):
    name: str
    function: Callable
    point: np.ndarray
    units: list[Unit]
    known: int | None = None


def exchanges(n):
    """Odd-even transposition: pairs of wires."""
    return [(a, a + 1) for turn in range(n) for a in range(turn % 2, n - 1, 2)]


def exchange_unit(n, a, b):
    return Unit(np.eye(n)[a] - np.eye(n)[b], None, np.eye(n)[[b if i == a else a if i == b else i for i in range(n)]])


def through(wires):
    """The wires, a list, through the network of maxima and minima."""
    for a, b in exchanges(len(wires)):
        wires[a], wires[b] = anp.maximum(wires[a], wires[b]), anp.minimum(wires[a], wires[b])
    return sum((i + 1) * wire for i, wire in enumerate(wires))


def sorting(n):
    units = [exchange_unit(n, a, b) for a, b in exchanges(n)]
    return Layered(f"sorting, {n} wires", lambda x: through([x[i] for i in range(n)]), np.ones(n), units, factorial(n))


def folded_sorting(n):
    """Absolute values, then a sorting network: the chambers of type B."""
    folds = [Unit(np.eye(n)[i], None, np.diag(1 - 2 * np.eye(n)[i])) for i in range(n)]
    units = folds + [exchange_unit(n, a, b) for a, b in exchanges(n)]
    known = 2**n * factorial(n)
    return Layered(f"folds, {n} wires", lambda x: through([anp.abs(x[i]) for i in range(n)]), np.zeros(n), units, known)


def relu_net(sizes, seed, known=None):
    """Gaussian weights, no bias, at the origin; a register for every input and every activation."""
    rng = np.random.default_rng(seed)
    weights = [rng.standard_normal((b, a)) for a, b in pairwise(sizes)]
    starts, units = np.cumsum([0, *sizes]), []
    for layer, weight in enumerate(weights):
        for j, row in enumerate(weight):
            guard = np.zeros(sum(sizes))
            guard[starts[layer] : starts[layer + 1]] = row
            plus = np.eye(sum(sizes))
            plus[starts[layer + 1] + j] = guard
            units.append(Unit(guard, plus, None))

    def net(x):
        for weight in weights:
            x = anp.maximum(anp.dot(weight, x), 0)
        return anp.sum(x)

    return Layered(f"ReLU {'-'.join(map(str, sizes))}", net, np.zeros(sizes[0]), units, known)


def layered_families():
    nets = [relu_net((4, 8, 6, 5), seed) for seed in (0, 1)]
    nets += [relu_net((5, 8, 6, 5), 0), relu_net((5, 8, 6, 5), 1, known=5_062)]
    return [*map(sorting, (4, 5, 6)), *map(folded_sorting, (3, 4)), *nets]


# ---------------------------------------------------------------- measurement


ROUTES = {"numpy": False, "numba": True} if compiled.available() else {"numpy": False}


@contextmanager
def route(by_numba):
    """clarke.restriction.COMPILED set for a while."""
    before, restriction.COMPILED = restriction.COMPILED, by_numba
    try:
        yield
    finally:
        restriction.COMPILED = before


@contextmanager
def counted(solved):
    """Counts in `solved` clarke's calls of linprog and nnls."""

    def watched(name):
        solver = getattr(halfspaces, name)
        return patch.object(halfspaces, name, lambda *a, **k: solved.update([name]) or solver(*a, **k))

    with watched("linprog"), watched("nnls"):
        yield


def peak(call):
    """Megabytes that Python and numpy held at once during the call, on the numpy route, by tracemalloc."""
    tracemalloc.start()
    with route(False):
        call()
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return most / 2**20


def race(calls, spend=2.0):
    """Least CPU seconds of each call; calls alternate, each until it has spent its seconds, twice at least."""
    times = [[] for _ in calls]

    def unfinished(taken):
        return len(taken) < 2 or sum(taken) < spend

    while any(map(unfinished, times)):
        for call, taken in zip(calls, times, strict=True):
            if unfinished(taken):
                start = process_time()
                call()
                taken.append(process_time() - start)
    return list(map(min, times))


def compare(names, tree, ours, check, rate):
    """Prints one line of a table. ours() is clarke's call, tree() the baseline's; check(clarke's list, tree's signs).

    Returns clarke's rates over the tree's, a route each, and how often clarke called linprog and nnls.
    """
    calls, solved, kept = [], Counter(), []
    for by_numba in ROUTES.values():
        with route(by_numba), counted(solved):
            check(found := ours())

        def call(by_numba=by_numba):
            with route(by_numba):
                ours()

        calls.append(call)
    if not rate:
        calls.append(lambda: kept.append(tree()))
    seconds = race(calls)
    line, ratios = f"{names} {len(found):8,d} {solved['linprog']:4d} {solved['nnls']:6,d}", []
    if not rate:
        signs, programs = kept[0]
        check(found, signs)
        line += f" {len(signs) / seconds[-1]:10,.0f} {programs:9,d}"
        ratios = [seconds[-1] / s for s in seconds[: len(ROUTES)]]
    for i in range(len(ROUTES)):
        line += f" {len(found) / seconds[i]:11,.0f}" + (f" {ratios[i]:7.3g}x" if ratios else "")
    print(line, flush=True)
    return ratios, solved


def head(names, rate):
    line = f"{names} {'LPs':>4s} {'nnls':>6s}" + ("" if rate else f" {'tree /s':>10s} {'its LPs':>9s}")
    for name in ROUTES:
        line += f" {name + ' /s':>11s}" + ("" if rate else f" {'ratio':>8s}")
    print(line)


def summary(rows):
    for name, ratios in zip(ROUTES, zip(*rows, strict=True), strict=False):
        print(f"geometric mean of the ratios, {name}: {np.exp(np.mean(np.log(ratios))):.3g}")
    print()


def require(true, message):
    if not true:
        sys.exit(f"stopped: {message}")


def chambers_table(quick, rate):
    head(f"{'arrangement':18s} {'k':>3s} {'n':>3s} {'MB':>6s} {'chambers':>8s}", rate)
    rows = []
    for name, normals, known, slow in arrangements():
        if quick and slow:
            continue

        def check(found, signs=None, name=name, known=known):
            require(found.complete, f"{name}: {found.reason}")
            require(len(found) == known, f"{name}: {len(found)} chambers, and {known} are known")
            if signs is not None:
                same = len(signs) == known and {*map(bytes, signs)} == {*map(bytes, found.signs)}
                require(same, f"{name}: the tree's {len(signs)} sign vectors are not clarke's {known}")

        ours, tree = partial(clarke.chambers, normals), partial(sign_tree, normals)
        names = f"{name:18s} {normals.shape[0]:3d} {normals.shape[1]:3d} {peak(ours):6.1f}"
        ratios, solved = compare(names, tree, ours, check, rate)
        require(not solved, f"{name}: clarke called {dict(solved)}")
        rows.append(ratios)
    summary(rows)


def enumeration(here):
    return fan_of(skeleton(here))


def layered_table(rate):
    """local_fan, then the enumeration alone: the tree is given the tangents that `germ` finds by evaluating the graph,
    and is not asked whether f is what was recorded.
    """
    doors = {
        "local_fan of a recorded graph": lambda graph, x: partial(clarke.local_fan, graph, x),
        "the enumeration alone": lambda graph, x: partial(enumeration, germ(graph, x)),
    }
    for title, door in doors.items():
        print(title)
        head(f"{'function':18s} {'n':>3s} {'units':>5s} {'patterns':>8s}", rate)
        rows = []
        for name, function, x, units, known in layered_families():

            def check(found, signs=None, name=name, known=known):
                require(found.complete, f"{name}: {found.reason}")
                require(known in (None, len(found)), f"{name}: {len(found)} patterns, and {known} are known")
                if signs is not None:
                    distinct = {*map(bytes, signs)}
                    same = len(distinct) == len(signs) == len(found)
                    require(same, f"{name}: the tree has {len(distinct)} patterns, clarke {len(found)}")

            names = f"{name:18s} {x.size:3d} {len(units):5d}"
            ours, tree = door(clarke.from_function(function, x), x), partial(layered_tree, x.size, units)
            rows.append(compare(names, tree, ours, check, rate)[0])
        summary(rows)


def main():
    options = sys.argv[1:]
    require({*options} <= {"--quick", "--rate", "--layered"}, f"unknown option in {options}")
    print("" if "numba" in ROUTES else "numba is not installed\n", end="")
    print(
        "One thread. LPs, nnls: clarke's own calls, on all routes. /s: chambers or patterns a second. ratio: to the "
        "tree's.\nMB: tracemalloc's peak of one call, numpy route. First calls (they compile) are checked, not timed.\n"
    )
    if "--layered" not in options:
        chambers_table("--quick" in options, "--rate" in options)
    layered_table("--rate" in options)


if __name__ == "__main__":
    main()
