"""Slow twins: one for every fast route, sharing no code with it."""

import itertools
from fractions import Fraction

import numpy as np
from scipy.optimize import linprog


def wolfe_min_norm_point(points):
    """Weights of the point of least norm in conv(points), in exact rational arithmetic.

    points: m sequences of n Fractions (or integers, or floats at their exact value). Returns m
    Fractions. [P. Wolfe. Finding the nearest point in a polytope. Math. Programming 11 (1976)
    128-149.] Finite, because a corral stays affinely independent and its norm falls every cycle.
    """
    points = [[Fraction(entry) for entry in point] for point in points]

    def dot(p, q):
        return sum((a * b for a, b in zip(p, q, strict=True)), Fraction(0))

    def solve(rows):
        """Gauss-Jordan on an augmented nonsingular system."""
        for k in range(len(rows)):
            pivot = next(i for i in range(k, len(rows)) if rows[i][k])
            rows[k], rows[pivot] = rows[pivot], rows[k]
            rows[k] = [entry / rows[k][k] for entry in rows[k]]
            for i in range(len(rows)):
                if i != k and rows[i][k]:
                    rows[i] = [a - rows[i][k] * b for a, b in zip(rows[i], rows[k], strict=True)]
        return [row[-1] for row in rows]

    def affine_minimizer(corral):
        """alpha of sum 1 with every <p_i, sum_j alpha_j p_j> equal to one multiplier."""
        gram = [[dot(points[i], points[j]) for j in corral] for i in corral]
        rows = [[*row, Fraction(-1), Fraction(0)] for row in gram]
        rows.append([Fraction(1)] * len(corral) + [Fraction(0), Fraction(1)])
        return solve(rows)[:-1]

    first = min(range(len(points)), key=lambda i: dot(points[i], points[i]))
    weight = {first: Fraction(1)}
    while True:
        corners = zip(*(points[i] for i in weight), strict=True)
        least = [dot(weight.values(), entries) for entries in corners]
        entering = min(range(len(points)), key=lambda i: dot(least, points[i]))
        if dot(least, points[entering]) >= dot(least, least):
            return [weight.get(i, Fraction(0)) for i in range(len(points))]
        weight[entering] = Fraction(0)
        while True:
            corral = list(weight)
            alpha = dict(zip(corral, affine_minimizer(corral), strict=True))
            blocked = [weight[i] / (weight[i] - alpha[i]) for i in corral if alpha[i] < 0]
            step = min(blocked, default=Fraction(1))
            moved = {i: weight[i] + step * (alpha[i] - weight[i]) for i in corral}
            weight = {i: w for i, w in moved.items() if w}
            if not blocked:
                break


def relu_patterns_by_lp(net, x):
    """{pattern: Jacobian} of a ReLU net at x: all 2^k labels of the tied units, one linear program each.

    A unit whose preactivation is identically zero under the earlier labels gets `0` and no constraint.
    """
    tied = [np.flatnonzero(z == 0) for z in net.preactivations(x)]
    fixed = [(z > 0).astype(float) for z in net.preactivations(x)]
    found = {}
    for labels in itertools.product((-1, 1), repeat=sum(map(len, tied))):
        rows, letters, left = [], "", list(labels)
        jacobian, feasible = np.eye(len(x)), True
        for (W, _), units, slopes in zip(net.layers[:-1], tied, fixed, strict=True):
            gradients, slopes = W @ jacobian, slopes.copy()
            for unit in units:
                label = left.pop(0)
                if not gradients[unit].any():
                    letters += "0"
                    feasible = feasible and label == 1  # count it once
                    continue
                rows.append(label * gradients[unit])
                letters += "+" if label > 0 else "-"
                slopes[unit] = label > 0
            jacobian = slopes[:, None] * gradients
        if feasible and strictly_feasible(np.array(rows).reshape(-1, len(x))):
            found[letters] = net.layers[-1][0] @ jacobian
    return found


def strictly_feasible(rows):
    """Is there d with rows @ d >= 1? Scaling makes that the same as > 0."""
    if not len(rows):
        return True
    n = rows.shape[1]
    return linprog(np.zeros(n), A_ub=-rows, b_ub=-np.ones(len(rows)), bounds=[(None, None)] * n).status == 0


def same_set(first, second, tol=1e-9, floor=0.0):
    """Are two stacks of arrays equal as sets, both ways, relative to their largest entry (or the floor)?"""
    first, second = np.asarray(first, float), np.asarray(second, float)
    scale = max(np.abs(first).max(initial=0), np.abs(second).max(initial=0), floor) or 1.0
    gaps = np.abs(first[:, None] - second[None]).reshape(len(first), len(second), -1).max(axis=2, initial=0) / scale
    return bool(gaps.min(axis=1).max() <= tol and gaps.min(axis=0).max() <= tol)


def chambers_by_lp(normals, offsets=None, cone=None):
    """The sign vectors of a hyperplane arrangement in an open cone, one linear program each.

    Tries all of {-1, 1}^k: maximize the slack e of s_i (v_i . w - t_i) >= e, c . w >= e, in a box.
    For small integer data, where a chamber that exists has slack above 1e-7. A zero normal has the
    sign of -t_i. Returns a sorted list of tuples.
    """
    normals = np.asarray(normals, dtype=float)
    k, n = normals.shape
    offsets = np.zeros(k) if offsets is None else np.asarray(offsets, dtype=float)
    cone = np.zeros((0, n)) if cone is None else np.asarray(cone, dtype=float)
    live = np.flatnonzero(normals.any(axis=1))
    found = []
    for choice in itertools.product((-1, 1), repeat=len(live)):
        signs = np.sign(-offsets)
        signs[live] = choice
        rows = np.vstack([-signs[live, None] * normals[live], -cone])
        bounds = np.concatenate([-signs[live] * offsets[live], np.zeros(len(cone))])
        answer = linprog(
            np.append(np.zeros(n), -1),
            np.hstack([rows, np.ones((len(rows), 1))]),
            bounds,
            bounds=[(-1e4, 1e4)] * n + [(None, 1)],
        )
        if answer.x[-1] > 1e-7:
            found.append(tuple(int(s) for s in signs))
    return sorted(found)


def first_kink_by_bisection(net, x, direction, start=1e-6, stop=2.0**20):
    """t > start with a sign of a preactivation of `net` changing at x + t direction, by bisection; None if none.

    Right because the points of one activation region of a ReLU net on a line are an interval.
    """

    def signs(t):
        z = np.concatenate(net.preactivations(x + t * direction))
        return np.where(np.abs(z) <= 1e-12 * max(1.0, t), 0, np.sign(z))

    here = signs(start)
    if (signs(stop) * here >= 0).all():
        return None
    low, high = start, stop
    while high - low > 1e-13 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if (signs(middle) * here >= 0).all() else (low, middle)
    return high
