"""Ways to factor H + lambda I: its symmetric lift in the order of the network, as a sparse matrix, backward along a
chain, and the matrix itself; and the signs of its eigenvalues.

    banded    LU with partial pivoting of the band (LAPACK gbtrf)
    sparse    LU with a minimum-degree order (SuperLU)
    riccati   V_{l-1} = T_l - S_l R_l^-1 S_l^T, R_l the pivot of the parameters of step l: breaks down where a trailing
              principal minor of H + lambda I vanishes
    dense     LDL^T with 1 x 1 and 2 x 2 pivots (LAPACK sytrf)

Parameters that reach several cuts, tied ones among them, stand at the end, as a border, and are solved for through
their Schur complement.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.linalg import lapack
from scipy.sparse import csc_array
from scipy.sparse.linalg import splu

from .lift import SWEEPS, Lift, parameters_of, ranges, right_hand_side

PIVOT = 1e-10  # riccati: a stage whose smallest eigenvalue is smaller, relative to its largest, is not trusted
THRESHOLD = 0.01  # inertia: a pivot smaller than this part of what it multiplies is put off
SINGULAR = "H + damping I is singular or nearly so: no unique solution; raise the damping"

Inertia = tuple[int, int, int]


class SingularHessian(ValueError):
    """H + damping I is singular, or so near it that its inverse is rounding: raise the damping."""


class UnsuitableMethod(ValueError):
    """The method cannot serve this network; the message says why."""


@dataclass(frozen=True, eq=False)
class Factorization:
    """solve: r -> x, arrays (n,) flat over the parameters. log_abs_det: log|det(H + lambda I)|. inertia: () ->
    (positive, negative, zero), the eigenvalues of H + lambda I by sign.
    """

    solve: Callable[..., Any]
    method: str
    log_abs_det: float
    inertia: Callable[[], Inertia]


# ---------------------------------------------------------------- the matrix itself


def dense(matrix: np.ndarray) -> Factorization:
    """LDL^T of a symmetric matrix (n, n), which is overwritten; SingularHessian."""
    n = len(matrix)
    work = lapack.dsytrf_lwork(n, lower=1)[0]
    factor, pivots, info = lapack.dsytrf(matrix, lower=1, lwork=int(work), overwrite_a=1)
    values = _block_diagonal(factor, pivots)
    if info > 0 or not np.isfinite(values).all() or np.abs(values).min() <= 1e-15 * np.abs(values).max():
        raise SingularHessian(SINGULAR)
    inertia = int(np.sum(values > 0)), int(np.sum(values < 0)), 0

    def solve(r):
        return lapack.dsytrs(factor, pivots, r, lower=1)[0]

    return Factorization(solve, "dense", float(np.log(np.abs(values)).sum()), lambda: inertia)


def _block_diagonal(factor, pivots):
    """Eigenvalues of the 1 x 1 and 2 x 2 blocks of D in the LDL^T of LAPACK's dsytrf (lower)."""
    values = factor.diagonal().copy()
    first = np.flatnonzero(pivots < 0)[::2]  # the rows of a 2 x 2 block stand together, both marked
    if first.size:
        pairs = np.empty((len(first), 2, 2))
        pairs[:, 0, 0], pairs[:, 1, 1] = values[first], values[first + 1]
        pairs[:, 0, 1] = pairs[:, 1, 0] = factor[first + 1, first]
        low, high = np.linalg.eigvalsh(pairs).T
        values[first], values[first + 1] = low, high
    return values


# ---------------------------------------------------------------- the lift


def lifted(system: Lift, method: str, banded: bool) -> Factorization:
    """LU of the lifted matrix, `banded` or else sparse; SingularHessian."""
    solve, log_det = _bordered(system, banded)
    lin = system.elements[0][1]
    for name, own in system.eliminated.items():
        log_det += lin.network.value(name).size * np.log(abs(own))
    for k, (weight, _) in enumerate(system.elements):
        if weight != 1:
            log_det -= 2 * sum(system.sizes[system.number("z", cut, k)] for cut in system.cuts) * np.log(weight)
    log_det -= 2 * float(system.sizes @ np.log(system.balance))

    balance = np.repeat(system.balance, system.sizes)

    def solved(r):
        return parameters_of(system, balance * solve(balance * right_hand_side(system, r)), r)

    return Factorization(solved, method, float(log_det), lambda: inertia(system))


def _positions(system: Lift):
    """(the first row of each variable, which of them stand in the border), with the border at the end."""
    in_border = np.zeros(len(system.order), dtype=bool)
    in_border[[system.number("x", name) for name in system.shared]] = True
    order = np.argsort(in_border, kind="stable")
    place = np.empty(len(order), dtype=int)
    place[order] = np.cumsum(system.sizes[order]) - system.sizes[order]
    return place, in_border


def bandwidth(system: Lift) -> int:
    """How many diagonals below the main one the lifted matrix has, the border left out."""
    place, in_border = _positions(system)
    high, low = system.pairs[:, ~in_border[system.pairs].any(axis=0)]
    return int((place[high] + system.sizes[high] - 1 - place[low]).max(initial=1))


def front(system: Lift) -> float:
    """How many entries a variable meets, itself included and the border left out, on average: what an elimination has
    at hand at least.
    """
    _, in_border = _positions(system)
    high, low = system.pairs[:, ~in_border[system.pairs].any(axis=0)]
    sizes = system.sizes.astype(float)
    met = np.sum(sizes[high] * sizes[low] * np.where(high == low, 1.0, 2.0))
    return float(met / max(np.sum(sizes[~in_border]), 1.0))


def _bordered(system: Lift, banded):
    """(solve, log|det|) of the lifted matrix, balanced: the part without shared parameters factored, these through
    their Schur complement.
    """
    place, in_border = _positions(system)
    n, b = int(system.sizes.sum()), int(system.sizes[in_border].sum())
    inner = n - b
    order = ranges(place, system.sizes)
    solve, log_det = (_banded if banded else _sparse)(system, place, in_border, inner)
    if not b:

        def permuted(r):
            y = np.empty(n)
            y[order] = r
            return solve(y)[order]

        return permuted, log_det
    edge, corner = np.zeros((inner, b)), np.zeros((b, b))
    for rows, columns, block in _oriented(system, system.balance):
        inside, across = in_border[rows], in_border[columns]
        for k in np.flatnonzero(across):
            to = slice(place[columns[k]] - inner, place[columns[k]] - inner + block.shape[2])
            start = place[rows[k]]
            if inside[k]:
                corner[start - inner : start - inner + block.shape[1], to] += block[k]
            else:
                edge[start : start + block.shape[1], to] += block[k]
    with np.errstate(all="ignore"):
        reduced = solve(edge)
        schur = corner - edge.T @ reduced
    if not np.isfinite(schur).all():
        raise SingularHessian(SINGULAR)
    last = dense(np.asfortranarray((schur + schur.T) / 2))

    def through(r):
        y = np.empty(n)
        y[order] = r
        z = solve(y[:inner])
        w = last.solve(y[inner:] - edge.T @ z)
        y[:inner], y[inner:] = z - reduced @ w, w
        return y[order]

    return through, log_det + last.log_abs_det


def _oriented(system, balance=None):
    """(rows, columns, blocks) of both halves of the matrix, in numbers of variables; of B K B with a balance B."""
    for bundle in system.bundles:
        blocks = _scaled(bundle, balance)
        yield bundle.rows, bundle.columns, blocks
        off = bundle.rows != bundle.columns
        if off.any():
            yield bundle.columns[off], bundle.rows[off], blocks[off].swapaxes(1, 2)


def _scaled(bundle, balance):
    if balance is None:
        return bundle.blocks
    return bundle.blocks * (balance[bundle.rows] * balance[bundle.columns])[:, None, None]


def _banded(system, place, in_border, n):
    width = bandwidth(system)
    tall = 3 * width + 1  # one row of fill by pivoting for each diagonal above
    flat = np.zeros(n * tall)
    for rows, columns, blocks in _oriented(system, system.balance):
        here = ~(in_border[rows] | in_border[columns])
        i = place[rows[here]][:, None, None] + np.arange(blocks.shape[1])[:, None]
        j = place[columns[here]][:, None, None] + np.arange(blocks.shape[2])
        flat[2 * width + i + j * (tall - 1)] += blocks[here]
    factor, pivots, info = lapack.dgbtrf(flat.reshape(n, tall).T, width, width, overwrite_ab=1)
    diagonal = factor[2 * width]
    if info > 0 or not np.isfinite(diagonal).all():
        raise SingularHessian(SINGULAR)

    def solve(r):
        return lapack.dgbtrs(factor, width, width, r, pivots)[0]

    return solve, float(np.log(np.abs(diagonal)).sum())


def _sparse(system, place, in_border, n):
    rows, columns, data = [], [], []
    for s, t, blocks in _oriented(system, system.balance):
        g, i, j = np.nonzero(blocks)
        g, i, j = (each[~(in_border[s[g]] | in_border[t[g]])] for each in (g, i, j))
        rows.append(place[s[g]] + i)
        columns.append(place[t[g]] + j)
        data.append(blocks[g, i, j])
    matrix = csc_array((np.concatenate(data), (np.concatenate(rows), np.concatenate(columns))), shape=(n, n))
    try:
        factor = splu(matrix, permc_spec="COLAMD")
    except RuntimeError as error:  # "Factor is exactly singular"
        raise SingularHessian(SINGULAR) from error
    return factor.solve, float(np.log(np.abs(factor.U.diagonal())).sum())  # L has ones on its diagonal


# ---------------------------------------------------------------- inertia


def inertia(system: Lift) -> Inertia:
    """(positive, negative, zero) eigenvalues of H + lambda I, by block elimination of the lift in its order.

    What meets nothing still to come is diagonalized and eliminated, but for the eigenvectors whose eigenvalue is less
    than THRESHOLD of their coupling: these wait (pivots put off, as in the multifrontal method of Duff & Reid 1983, so
    that no vanishing minor is divided by). By Sylvester's law the signs of all pivots are those of the lift, and no
    scaling of its rows and columns together changes them: what is at hand is equilibrated first, since activations of
    an expanding network leave beside 1 the square of what is large, whose rounding would give eigenvalues their signs.
    """
    numbers = np.arange(len(system.order))
    last = numbers.copy()  # the last variable that each one meets
    high, low = system.pairs
    np.maximum.at(last, low, high)
    blocks: dict[int, list[Any]] = {}
    for bundle in system.bundles:
        for s, t, block in zip(bundle.rows.tolist(), bundle.columns.tolist(), bundle.blocks, strict=True):
            blocks.setdefault(max(s, t), []).append((s, t, block))
    signs = [0, 0, 0]
    front, held, late = np.zeros((0, 0)), {}, 0  # late: rows of put-off pivots, in front; held: variable -> its rows
    units, balance = np.zeros(0), system.balance.tolist()  # units: what the rows of front have been multiplied with
    for k, (kind, _, _) in enumerate(system.order):
        size, size_before = int(system.sizes[k]), len(front)
        front, units = np.pad(front, (0, size)), np.concatenate([units, np.full(size, balance[k])])
        held[k] = slice(size_before, size_before + size)
        for s, t, block in blocks.get(k, ()):
            block = units[held[s], None] * block * units[held[t]]
            front[held[s], held[t]] += block
            if s != t:
                front[held[t], held[s]] += block.T
        if kind == "mu":  # its z comes next
            continue
        ready = [v for v in held if last[v] <= k]
        rest = [v for v in held if last[v] > k]
        if not ready:
            continue
        these = np.concatenate([np.arange(late), *(np.arange(held[v].start, held[v].stop) for v in ready)])
        those = np.concatenate([np.zeros(0, int), *(np.arange(held[v].start, held[v].stop) for v in rest)])
        if (step := _equilibrating(front)) is not None:
            front, units = step[:, None] * front * step, step * units
        values, vectors = np.linalg.eigh(front[np.ix_(these, these)])
        across = front[np.ix_(those, these)] @ vectors
        good = np.abs(values) > np.maximum(THRESHOLD * np.abs(across).max(axis=0, initial=0), 1e-14)
        if not rest:
            good[:] = True
        _count(signs, values[good])
        left = front[np.ix_(those, those)] - across[:, good] / values[good] @ across[:, good].T
        late = int(np.sum(~good))
        units = np.concatenate([np.ones(late), units[those]])
        front = np.block([[np.diag(values[~good]), across[:, ~good].T], [across[:, ~good], left]])
        ends = np.cumsum([late, *system.sizes[rest].tolist()]).tolist()
        held = {v: slice(a, b) for v, a, b in zip(rest, ends[:-1], ends[1:], strict=True)}
    lin = system.elements[0][1]
    for name, own in system.eliminated.items():
        signs[0 if own > 0 else 1] += lin.network.value(name).size
    m = sum(int(size) for size, (kind, _, _) in zip(system.sizes, system.order, strict=True) if kind == "z")
    return signs[0] - m, signs[1] - m, signs[2]


def _equilibrating(matrix):
    """d (n,), powers of 2: the largest entry of each row of diag(d) A diag(d) is near 1, of zero rows 0 (Ruiz 2001).
    None where it is so already.
    """
    found, rest = None, np.abs(matrix)
    for _ in range(SWEEPS):
        largest = rest.max(axis=1, initial=0.0)
        largest[largest == 0] = 1.0
        if np.all((largest > 0.1) & (largest < 10.0)):
            break
        step = np.exp2(np.round(-0.5 * np.log2(largest)))
        found, rest = step if found is None else found * step, step[:, None] * rest * step
    return found


def _count(signs, values):
    signs[0] += int(np.sum(values > 0))
    signs[1] += int(np.sum(values < 0))
    signs[2] += int(np.sum(values == 0))


# ---------------------------------------------------------------- backward along a chain


def riccati(system: Lift) -> Factorization:
    """V_{l-1} = T - S R^{-1} S^T with R the pivot of the parameters of step l: block LDL^T of H + lambda I itself, its
    inertia that of all R. UnsuitableMethod unless each cut meets only the one before, or where a pivot is all but
    singular.
    """
    stages = _chain(system)
    known: dict[tuple[int, int], np.ndarray] = {}
    for rows, columns, blocks in _oriented(system):
        for s, t, block in zip(rows.tolist(), columns.tolist(), blocks, strict=True):
            known[s, t] = known[s, t] + block if (s, t) in known else block
    sizes, copies = system.sizes.tolist(), range(len(system.elements))

    def matrix(left, right):
        """The blocks of the variables left x right, side by side."""
        found = np.zeros((sum(sizes[s] for s in left), sum(sizes[t] for t in right)))
        i = 0
        for s in left:
            j = 0
            for t in right:
                if (s, t) in known:
                    found[i : i + sizes[s], j : j + sizes[t]] = known[s, t]
                j += sizes[t]
            i += sizes[s]
        return found

    def numbers(kind, cut):
        return [system.number(kind, cut, c) for c in copies] if cut else []

    weights = [weight for weight, _ in system.elements]
    kept, pivots, V = [], [], np.zeros((0, 0))
    for k in range(len(stages) - 1, -1, -1):
        params, cut = stages[k]
        z, mu, before = numbers("z", cut), numbers("mu", cut), numbers("z", stages[k - 1][1] if k else None)
        if not V.size and z:
            V = matrix(z, z)
        scale = np.repeat(weights, [sizes[s] for s in mu])[:, None] if mu else 1.0
        G, F = matrix(mu, params) / scale, matrix(mu, before) / scale
        R, S, T = matrix(params, params), matrix(before, params), matrix(before, before)
        with np.errstate(all="ignore"):
            if z:
                R, S, T = R + G.T @ V @ G, S + F.T @ V @ G, T + F.T @ V @ F
            R = (R + R.T) / 2
            sound = bool(np.isfinite(R).all() and np.isfinite(T).all())
            values, vectors = np.linalg.eigh(R) if params and sound else (np.ones(len(R)), np.eye(len(R)))
        if not sound or (params and np.abs(values).min() <= PIVOT * np.abs(values).max()):
            names = ", ".join(system.order[v][1] for v in params)
            raise UnsuitableMethod(f"riccati: the pivot of {names} is all but singular, or overflows")
        pivots.append(values)
        inverse = (vectors / values) @ vectors.T
        kept.append((params, bool(z), F, G, S, inverse))
        V = T - S @ inverse @ S.T
        V = (V + V.T) / 2
    pivots = np.concatenate(pivots)
    signs = int(np.sum(pivots > 0)), int(np.sum(pivots < 0)), 0
    spans, n = {}, 0
    for name in system.wrt:
        number = system.number("x", name)
        spans[number], n = slice(n, n + sizes[number]), n + sizes[number]

    def solve(r):
        steps, v = [], np.zeros(0)
        for params, has_cut, F, G, S, inverse in kept:
            g = np.concatenate([r[spans[p]] for p in params]) if params else np.zeros(0)
            handed = v if has_cut and v.size else np.zeros(len(G))
            steps.append(inverse @ (g - G.T @ handed))
            v = S @ steps[-1] + F.T @ handed
        out, dz = np.empty(n), np.zeros(0)
        for (params, _, F, G, S, inverse), step in zip(reversed(kept), reversed(steps), strict=True):
            x = step - inverse @ (S.T @ dz)
            start = 0
            for p in params:
                out[spans[p]] = x[start : start + sizes[p]]
                start += sizes[p]
            dz = F @ dz + G @ x
        return out

    return Factorization(solve, "riccati", float(np.log(np.abs(pivots)).sum()), lambda: signs)


def _chain(system: Lift):
    """[(the parameters first met at this cut, the cut or None)] in order, parameters by number."""
    stages, params = [], []
    for number, (kind, name, copy) in enumerate(system.order):
        if kind == "x":
            params.append(number)
        elif kind == "mu" and copy == 0:
            stages.append((params, name))
            params = []
    if params:  # parameters that reach no cut stand first in the order; without any cut they are all there is
        stages.append((params, None))
    high, low = system.pairs
    first = stages[0][1]
    if first is not None:
        mu = system.number("mu", first)
        met = {*high[low == mu].tolist(), *low[high == mu].tolist()}
        if loose := [v for v in stages[0][0] if v not in met]:
            stages[0] = [v for v in stages[0][0] if v in met], first
            stages.insert(0, (loose, None))
    at = np.zeros(len(system.order))
    for k, (params, cut) in enumerate(stages):
        at[params] = k
        for c in range(len(system.elements) if cut else 0):
            at[[system.number("mu", cut, c), system.number("z", cut, c)]] = k, k + 0.5
    early, late = np.minimum(at[high], at[low]), np.maximum(at[high], at[low])
    kinds = np.array([kind for kind, _, _ in system.order])
    x_first = np.where(at[high] <= at[low], kinds[high], kinds[low]) == "x"
    z_last = np.where(at[high] <= at[low], kinds[low], kinds[high]) == "z"
    astray = np.flatnonzero((late - early > 0.5) | (x_first & z_last))
    if astray.size:
        s, t = (system.order[number][1] for number in (high[astray[0]], low[astray[0]]))
        raise UnsuitableMethod(
            f"riccati wants a chain, each cut node reading only the one before; {s!r} and {t!r} meet"
        )
    return stages
