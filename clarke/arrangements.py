"""Chambers of a hyperplane arrangement, each with a point in it, without a linear program.

For hyperplanes h_i = {x : v_i . x = t_i} and an open convex cone P, the chambers are the pieces
into which the h_i cut P: the sign vectors of (v_i . x - t_i) that occur on open sets. Deletion and
restriction: h_j splits a cell of {h_1 .. h_{j-1}} exactly where it meets it, so

    #cells(A in P) = 1 + sum_j #cells({h_1 .. h_{j-1}} restricted to h_j, in P and h_j),

over the h_j that meet P [Z75]. The same recursion yields points: if w' lies in a cell of the j-th
restriction, then w' +- s v_j, with s short of the nearest wall, lie in the two halves; every cell
gets a point from the last hyperplane that split its ancestor. So distinct sign vectors are counted
twice, by the points found and by the sum, and the two are compared at every flat.

A central arrangement is one half (v_1 . x > 0) and its mirror image; an affine one is the central
one of the (v_i, -t_i) in the cone x_{n+1} > 0.

[Z75] Zaslavsky. Facing up to arrangements. Memoirs of the AMS 154 (1975).
"""

import math
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from hashlib import blake2b
from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import linprog, nnls

ROUNDING = 1e-14  # unit rows this close are taken to coincide; grows as angles shrink
UNASKED = 1e6  # exact work (cells x rows x dimension) begun without being asked for: seconds


class TooManyChambers(RuntimeError):
    """The enumeration passed max_chambers; `count` chambers are known to exist by then."""

    def __init__(self, count: int, limit: int):
        super().__init__(count, limit)
        self.count, self.limit = count, limit

    def __str__(self):
        return (
            f"at least {self.count} chambers, more than max_chambers={self.limit}; raise "
            "max_chambers, or ask for fewer hyperplanes or a smaller cone"
        )


@dataclass(frozen=True, eq=False, repr=False)
class Chambers:
    """signs (m, k) int8 in lexicographic order, witnesses (m, n), margins (m,).

    signs[a] = sign(normals @ witnesses[a] - offsets); margins[a] is the distance from witnesses[a]
    to the nearest hyperplane. `complete` iff every chamber is listed, in the sense `reason` states.
    """

    signs: np.ndarray
    witnesses: np.ndarray
    margins: np.ndarray
    complete: bool
    reason: str

    def __post_init__(self):
        for name, dtype in (("signs", np.int8), ("witnesses", float), ("margins", float)):
            array = np.array(getattr(self, name), dtype=dtype)
            array.flags.writeable = False
            object.__setattr__(self, name, array)

    def __len__(self):
        return len(self.signs)

    def __repr__(self):
        state = "complete" if self.complete else "incomplete"
        return f"Chambers({len(self)} of {self.signs.shape[1]} hyperplanes, {state})"


def chambers(
    normals,
    *,
    offsets=None,
    cone=None,
    tol=1e-9,
    exact=False,
    max_chambers=1_000_000,
    mapper=map,
    progress=False,
) -> Chambers:
    """The chambers of the hyperplanes {x : normals[i] . x = offsets[i]} in {x : cone @ x > 0}.

    normals (k, n), offsets (k,) or None for 0, cone (c, n) or None for the whole space. A zero
    normal has the sign of -offsets[i]. Witnesses have unit norm when offsets is None; margins are
    min_i |v_i . w - t_i| / |v_i| over nonzero normals, recomputed on the input, inf if there are
    none. An empty cone has no chambers, and that list is complete.

    Unit rows of one flat closer than rounding coincide, farther apart than `tol` they differ. In
    between floats decide nothing: another position is tried, then exact arithmetic if that takes
    seconds; otherwise complete=False and `reason` names the obstacle. exact=True computes in
    integers: floats count at their exact dyadic values, ints and Fractions (dtype object) as they
    are. A chamber too thin for its float witness keeps its exact signs, has margin 0, and is
    counted in `reason`, which always says which question was answered.

    `mapper` maps over independent parts of the work; the result does not depend on it: random steps
    are seeded from the input. ValueError for wrong arguments, TooManyChambers past max_chambers.
    """
    given = _checked(normals, offsets, cone, tol, max_chambers)
    floats = given.each(lambda a: a.astype(float))
    k, n = floats.normals.shape
    asked = given if exact else floats
    central = asked.offsets is None and asked.cone is None
    if central and not (asked.normals != 0).any():
        whole = np.zeros((1, k)), np.eye(1, n), np.array([np.inf])
        return Chambers(*whole, True, "no hyperplane: the whole space is one chamber")
    if asked.cone is not None and not (asked.cone != 0).any(axis=1).all():
        empty = np.zeros((0, k)), np.zeros((0, n)), np.zeros(0)
        return Chambers(*empty, True, "the cone is empty: one of its rows is zero")
    run = partial(_run, mapper=mapper, progress=progress)
    copies = 2 if central else 1
    limit = max_chambers // copies
    try:
        if exact:
            return _exact_route(given, floats, limit, run)
        fence, rows, unit = _unit_rows(floats)
        results = []
        for isotropic in (False, True):
            points, doubts = _float_route(fence, rows, isotropic, tol, limit, run)
            points[:, n:] /= unit
            results.append(_collect(floats, points, doubts, _TOLERANCE.format(tol)))
            if results[-1].complete:
                return results[-1]
        doubt = results[0].reason
        bound = sum(math.comb(len(rows), i) for i in range(min(rows.shape[1], len(rows) + 1)))
        if bound * rows.size <= UNASKED:
            result = _exact_route(given, floats, limit, run)
            return replace(result, reason=f"{result.reason}; floats could not decide: {doubt}")
        advice = f"exact=True decides, among up to {copies * bound} chambers"
        return replace(max(results, key=len), reason=f"{doubt}; {advice}")
    except TooManyChambers as stop:
        raise TooManyChambers(copies * stop.count, max_chambers) from None


def strict_direction(rows, tol=1e-9):
    """A unit d with rows @ d > 0, or the reason there is none: (d or None, margin, multipliers).

    rows (m, n). With u_i = rows_i / |rows_i| and p = multipliers @ u the point of conv{u_i} nearest
    0 (multipliers >= 0, sum 1), |p| is the largest possible min_i u_i . d, attained at d = p / |p|.
    margin = min_i u_i . d, recomputed, if that exceeds tol. Otherwise d is None, margin = |p|, and
    the multipliers are Gordan's: multipliers @ u = 0 up to |p|, so no d is better than |p|. A zero
    row takes the whole multiplier. No rows: the first unit vector, margin inf.
    ValueError unless rows is a finite matrix with at least one column.
    """
    rows = _matrix("rows", rows).astype(float)
    units = _unit(rows)
    if not len(rows):
        return np.eye(1, rows.shape[1])[0], np.inf, np.zeros(0)
    dead = ~units.any(axis=1)
    if dead.any():
        return None, 0.0, np.eye(1, len(rows), int(np.argmax(dead)))[0]
    return _min_norm_direction(units, tol)


def _min_norm_direction(units, tol):
    """strict_direction for unit rows: |x @ U|^2 + (1 - sum x)^2 is least at a multiple of p's x."""
    m, n = units.shape
    system, one = np.vstack([units.T, np.ones(m)]), np.append(np.zeros(n), 1.0)
    try:
        weights = nnls(system, one)[0]
        settled = (system.T @ (one - system @ weights)).max() <= 1e-9  # nnls can stop at a degenerate vertex
    except RuntimeError:  # or cycle
        weights, settled = np.zeros(m), False
    d = weights @ units
    if not settled:  # max s, U d >= s, |d_i| <= 1, whose prices are Gordan's
        cost, rise = np.append(np.zeros(n), -1.0), np.hstack([-units, np.ones((m, 1))])
        bounds = [(-1.0, 1.0)] * n + [(None, None)]
        program: Any = linprog(cost, rise, np.zeros(m), bounds=bounds)
        weights, d = np.maximum(-program.ineqlin.marginals, 0), program.x[:n]
    weights = weights / weights.sum()
    bound = float(np.linalg.norm(weights @ units))
    if ROUNDING < bound < 1e-3:  # p has lost digits; U d = 1 on its support has the same direction
        d = np.linalg.lstsq(units[weights > 0], np.ones((weights > 0).sum()), rcond=0)[0]
    d = d / (np.linalg.norm(d) or 1)
    margin = float((units @ d).min())
    if margin > max(tol, n * np.finfo(float).eps):
        return d, margin, weights
    return None, bound, weights


# The door: arguments in, original signs out

_TOLERANCE = (
    "deletion-restriction at tolerance {:g}, rows within rounding taken as equal; the count identity held at every flat"
)
_EXACT = "deletion-restriction in exact arithmetic; the count identity held at every flat"


class _Problem(NamedTuple):
    normals: np.ndarray
    offsets: np.ndarray | None
    cone: np.ndarray | None

    def each(self, change):
        offsets, cone = (None if a is None else change(a) for a in self[1:])
        return _Problem(change(self.normals), offsets, cone)


def _checked(normals, offsets, cone, tol, max_chambers) -> _Problem:
    """The arguments as finite arrays of matching shapes, their dtype kept for exact work."""
    if not 0 <= tol < 0.1:
        raise ValueError(f"tol is a distance of unit normals, 0 <= tol < 0.1; got {tol!r}")
    if max_chambers < 2:
        raise ValueError(f"max_chambers must be at least 2; got {max_chambers!r}")
    normals = _matrix("normals", normals)
    if offsets is not None:
        offsets = _finite("offsets", offsets)
        if offsets.shape != normals.shape[:1]:
            raise ValueError(f"offsets must be ({len(normals)},), one for each normal; got {offsets.shape}")
    if cone is not None:
        cone = _matrix("cone", cone)
        if cone.shape[1] != normals.shape[1]:
            raise ValueError(f"cone must be (c, {normals.shape[1]}), as wide as normals; got {cone.shape}")
        cone = cone if len(cone) else None
    return _Problem(normals, offsets, cone)


def _matrix(name, value):
    array = _finite(name, value)
    if array.ndim != 2 or not array.shape[1]:
        raise ValueError(
            f"{name} must be a matrix of at least one column, a row for each vector; got shape {array.shape}"
        )
    return array


def _finite(name, value):
    try:
        array = np.asarray(value)
        finite = np.isfinite(array.astype(float)).all()
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"{name} must be an array of real numbers; {error}") from None
    if not finite:
        raise ValueError(f"{name} must be finite; it holds NaN or infinity: drop those rows")
    return array


def _run(work, pieces, *, mapper, progress):
    done = mapper(work, pieces)
    if progress:
        from tqdm import tqdm

        done = tqdm(done, total=len(pieces), desc="chambers", unit="hyperplane")
    return done


def _homogeneous(normals, offsets, cone):
    """(fence, rows): the hyperplanes as rows . y = 0 in the open cone fence @ y > 0.

    y = w, or y = (w, 1) with offsets. A central arrangement is fenced by its first hyperplane.
    """
    if offsets is None:
        rows = normals[(normals != 0).any(axis=1)]
        return (rows[:1], rows[1:]) if cone is None else (cone, rows)
    rows = np.column_stack([normals, -offsets])[(normals != 0).any(axis=1)]
    last = np.eye(1, rows.shape[1], rows.shape[1] - 1, dtype=int).astype(rows.dtype)
    if cone is None:
        return last, rows
    return np.vstack([np.column_stack([cone, np.zeros_like(cone[:, :1])]), last]), rows


def _unit(rows):
    """Rows of length 1, or 0, scaled by powers of two first, as squares under- and overflow."""
    rows = _scaled(rows)[0]
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(length > 0, length, 1)


def _scaled(rows, offsets=None):
    power = -np.frexp(np.abs(rows).max(axis=1, initial=0))[1]
    with np.errstate(over="ignore"):
        return np.ldexp(rows, power[:, None]), None if offsets is None else np.ldexp(offsets, power)


def _unit_rows(floats):
    """fence, rows of unit length, and the unit of the last coordinate: a typical |t_i| / |v_i|."""
    normals, offsets = _scaled(floats.normals, floats.offsets)
    unit = 1.0
    if offsets is not None:
        length = np.linalg.norm(normals, axis=1)
        offsets = np.clip(offsets / np.where(length > 0, length, 1), -1e300, 1e300)
        normals = normals / np.where(length > 0, length, 1)[:, None]
        some = np.abs(offsets[(length > 0) & (offsets != 0)])
        unit = float(np.exp(np.log(some).mean())) if len(some) else 1.0
        offsets = offsets / unit
    fence, rows = _homogeneous(normals, offsets, floats.cone)
    return _unit(fence), _unit(rows), unit


def _collect(floats, points, doubts, claim, exact_signs=None) -> Chambers:
    """Mirror, leave homogeneous coordinates, and judge every point on the original rows."""
    normals, offsets = _scaled(floats.normals, floats.offsets)
    if offsets is None:
        points = points / np.linalg.norm(points, axis=1, keepdims=True)
        offsets = np.zeros(len(normals))
        if floats.cone is None:
            points = np.vstack([points, -points])
            exact_signs = None if exact_signs is None else np.vstack([exact_signs, -exact_signs])
    else:
        with np.errstate(all="ignore"):
            points = points[:, :-1] / points[:, -1:]
    length = np.linalg.norm(normals, axis=1)
    with np.errstate(all="ignore"):
        value = points @ normals.T - offsets
        reach = np.linalg.norm(points, axis=1, keepdims=True) * length + np.abs(offsets)
        signs = np.sign(value).astype(np.int8)
        rounding = (4 + points.shape[1]) * np.finfo(float).eps * reach
        vague = (np.abs(value) <= rounding) & (length > 0)
        distance = np.abs(value[:, length > 0]) / length[length > 0]
    wrong = vague.any(axis=1) | ~np.isfinite(points).all(axis=1)
    if floats.cone is not None:
        wrong |= ~(points @ _scaled(floats.cone)[0].T > 0).all(axis=1)
    if exact_signs is not None:
        wrong |= (signs != exact_signs).any(axis=1)
        signs = exact_signs
    margins = np.where(wrong, 0, distance.min(axis=1, initial=np.inf))
    order = _lexicographic(signs)
    if exact_signs is not None and wrong.any():
        claim += f"; {wrong.sum()} chambers are too thin for a float witness (margin 0)"
    elif exact_signs is None:  # list no sign vector twice, and none that its witness does not prove
        order = order[~wrong[order]]
        repeated = (signs[order[1:]] == signs[order[:-1]]).all(axis=1)
        order = order[np.append(np.full(len(order[:1]), True), ~repeated)]
        if len(order) < len(points):
            lost = len(points) - len(order)
            doubts = (*doubts, f"{lost} witnesses do not show their signs on the original rows")
    if doubts:
        claim = "; ".join(doubts[:2])
    elif not len(order):
        claim = f"the cone is empty; {claim}"
    return Chambers(signs[order], points[order], margins[order], not doubts, claim)


def _lexicographic(signs):
    """The order of the rows; a column of zeros is constant, so one bit a letter suffices."""
    return np.lexsort(_words(signs > 0).byteswap().T[::-1])


def _words(bits):
    """(m, k) booleans packed into (m, ceil(k / 64)) uint64, the first bit first in memory."""
    packed = np.packbits(bits, axis=1)
    words = np.zeros((len(bits), -(-max(packed.shape[1], 1) // 8) * 8), np.uint8)
    words[:, : packed.shape[1]] = packed
    return words.view(np.uint64)


# The tolerance route: all flats of one dimension at once


class _Flats(NamedTuple):
    """F flats of dimension d, each with its restricted arrangement.

    rows (F, m, d) have length 1, or 0 where absent; the first `fence` of them bound the open cone.
    noise (F, m) estimates their rounding errors; points (F, d) lie in the cones where d > 2.
    """

    rows: np.ndarray
    noise: np.ndarray
    points: np.ndarray
    fence: int


def _float_route(fence, rows, isotropic, tol, limit, run):
    """Homogeneous witnesses (m, N) and doubts, in raw position or in isotropic position."""
    every = np.vstack([fence, rows])
    basis = _position(every, isotropic)
    moved = every @ basis
    length = np.linalg.norm(moved, axis=1, keepdims=True)
    noise = ROUNDING * np.linalg.norm(basis, 2) / length.T
    flats = _Flats((moved / length)[None], noise, np.zeros((1, basis.shape[1])), len(fence))
    seed = int.from_bytes(blake2b(every.tobytes(), digest_size=8).digest(), "little")
    doubts: tuple = ()
    if basis.shape[1] > 2:
        flats, _, doubts = _tidy(flats, tol)
    grain = 1 if math.comb(len(every), basis.shape[1] - 1) > 5000 else len(every)
    points, _, more = _cells(flats, tol, limit, (seed, int(isotropic)), run, grain)
    return points @ basis.T, (*doubts, *more)


def _position(rows, isotropic):
    """Coordinates (N, d), d >= 2, of the span of the rows.

    Isotropic: unit rows with sum u u^T nearly a multiple of the identity, which chambers, invariant
    under linear maps, do not notice and angles do.
    """
    _, values, axes = np.linalg.svd(rows, full_matrices=False)
    rank = int((values > ROUNDING * values[0]).sum())
    basis = axes[:rank].T if rank < rows.shape[1] else np.eye(rank)
    if rank == 1:  # a line, as the x-axis of a plane
        basis = np.hstack([basis, np.zeros_like(basis)])
    for _ in range(100 * (isotropic and rank > 1)):
        moved = rows @ basis
        moved /= np.linalg.norm(moved, axis=1, keepdims=True)
        step = basis @ np.linalg.inv(np.linalg.qr(moved, mode="r"))
        if np.linalg.cond(step) > 1e8:  # too many rows in a subspace: there is no such position
            break
        basis = step / np.linalg.norm(step, 2)
    return basis


def _tidy(flats, tol):
    """Merge parallel rows, find a point in each cone, drop flats with an empty cone.

    Returns the flats left, their indices, and doubts.
    """
    rows, noise, points, fence = flats
    d = rows.shape[2]
    cosine = rows @ rows.swapaxes(1, 2)
    f, i, j = np.nonzero(np.triu(np.abs(cosine) > 0.9999, 1))
    facing = np.sign(cosine[f, i, j])
    apart = np.linalg.norm(rows[f, i] - facing[:, None] * rows[f, j], axis=1)  # cosines lose digits
    rough = np.maximum(noise[f, i], noise[f, j])
    near = apart <= np.maximum(rough, tol)
    doubts = _doubts(apart, rough, tol, d)
    alive = np.ones(len(rows), dtype=bool)
    alive[f[near & (facing < 0) & (j < fence)]] = False
    rows = rows.copy()
    rows[f[near], j[near]] = 0
    there = rows[:, fence:].any(axis=2)
    if not there.all():  # pack the hyperplanes to the left
        left = fence + np.argsort(~there, axis=1, kind="stable")[:, : there.sum(axis=1).max()]
        at = np.arange(len(rows))[:, None]
        rows = np.hstack([rows[:, :fence], rows[at, left]])
        noise = np.hstack([noise[:, :fence], noise[at, left]])
    if fence == 1:
        points = rows[:, 0]
    else:
        walls = rows[:, :fence]
        height = np.where(walls.any(axis=2), (walls @ points[:, :, None])[:, :, 0], np.inf)
        inside = height.min(axis=1) > 1e-3 * np.linalg.norm(points, axis=1)
        for g in np.flatnonzero(alive & ~inside):
            direction, margin, _ = _min_norm_direction(walls[g][walls[g].any(axis=1)], tol)
            if direction is None:
                doubts += _doubts(margin, noise[g, :fence].max(), tol, d)
                alive[g] = False
            else:
                points[g] = direction
    left = np.flatnonzero(alive)
    return _Flats(rows[left], noise[left], points[left], fence), left, doubts


def _doubts(apart, rough, tol, d):
    """What floats cannot tell: distances above rounding and below tol, or rounding itself above."""
    near = (apart <= np.maximum(rough, tol)) & ~((apart <= rough) & (rough <= tol))
    if not near.any():
        return ()
    widest = np.broadcast_to(apart, near.shape)[near].max()
    said = f"rows {widest:.1e} apart in a flat of dimension {d}"
    return (f"{said}, neither equal nor distinct at tolerance {tol:g}",)


def _cells(flats, tol, limit, seed, run=map, grain=None):
    """Witnesses (N, d) of the cells of every flat, the flat (N,) of each, doubts.

    The children of flat f are its restrictions to its hyperplanes h_j, each with the rows before j.
    """
    rows, _, points, fence = flats
    count, m, d = rows.shape
    if d == 2:
        return _sectors(flats, tol, limit, np.random.default_rng(seed))
    f, j = np.nonzero(rows[:, fence:].any(axis=2))
    grain = grain or max(16, 2**21 // (m * m * d))
    pieces = [(f[a : a + grain], j[a : a + grain] + fence, (*seed, a)) for a in range(0, len(f), grain)]
    pools, split = [], 0
    for pool in run(partial(_split, flats, tol, limit), pieces):
        pools.append(pool)
        split += int(pool.cells.sum())
        if split + count > limit:
            raise TooManyChambers(split + count, limit)
    cells = sum((pool.cells for pool in pools), np.zeros(count, dtype=int))
    alone = np.flatnonzero(cells == 0)
    doubts = tuple(dict.fromkeys(doubt for pool in pools for doubt in pool.doubts))
    if not pools:
        return points[alone], alone, doubts
    witnesses, flat, key, margin = (
        np.concatenate([getattr(pool, name) for pool in pools]) for name in ("witnesses", "flat", "key", "margin")
    )
    order = np.lexsort((-margin, key))  # the widest of each sign vector
    first = order[np.append(True, key[order][1:] != key[order][:-1])] if len(key) else order
    found = np.bincount(flat[first], minlength=count)
    found[alone] += 1
    if (found != 1 + cells).any():
        doubts += (f"{(found != 1 + cells).sum()} flats of dimension {d} break the count identity",)
    return np.vstack([witnesses[first], points[alone]]), np.append(flat[first], alone), doubts


class _Pool(NamedTuple):
    """Candidate points with their flats, keys and margins; cells (F,) were split to get them."""

    witnesses: np.ndarray
    flat: np.ndarray
    key: np.ndarray
    margin: np.ndarray
    cells: np.ndarray
    doubts: tuple


def _restricted(flats, f, j):
    """The hyperplanes h_j of the flats f as flats; their mirrors (c, d); the rows kept (c, m').

    A Householder mirror takes h_j to an axis; dropping that axis restricts. Rows before j are kept.
    """
    rows, noise, points, fence = flats
    h, before = rows[f, j], rows[f, : j.max()]
    mirror = h.copy()
    mirror[:, 0] += np.copysign(1, h[:, 0])
    mirror /= np.linalg.norm(mirror, axis=1, keepdims=True)
    below = before[:, :, 1:] - 2 * (before @ mirror[:, :, None]) * mirror[:, None, 1:]
    middle = points[f] - 2 * (points[f] * mirror).sum(axis=1, keepdims=True) * mirror
    length = np.linalg.norm(below, axis=2)
    kept = (np.arange(j.max()) < j[:, None]) & (length > 0)
    length = np.where(kept, length, np.inf)
    noise = np.maximum(noise[f, : j.max()], noise[f, j][:, None]) / length
    return _Flats(below / length[:, :, None], noise, middle[:, 1:], fence), mirror, kept


def _split(flats, tol, limit, piece):
    """The two halves of every cell of flat f that its hyperplane h_j splits, for pairs (f, j)."""
    f, j, seed = piece
    rows, fence, doubts = flats.rows, flats.fence, ()
    child, mirror, kept = _restricted(flats, f, j)
    if rows.shape[2] > 3:
        child, left, doubts = _tidy(child, tol)
        f, j, mirror, kept = f[left], j[left], mirror[left], kept[left]
    low, c, more = _cells(child, tol, limit, seed)
    on = -2 * (low * mirror[c, 1:]).sum(axis=1, keepdims=True) * mirror[c]
    on[:, 1:] += low
    flat, h = f[c], rows[f[c], j[c]]
    height, slope = _products(on, rows, flat), _products(h, rows, flat)
    wall = slice(kept.shape[1])
    reach = np.ones((len(on), kept.shape[1]))
    np.divide(height[:, wall], slope[:, wall], out=reach, where=kept[c] & (slope[:, wall] != 0))
    step = np.abs(reach).min(axis=1, keepdims=True, initial=1)
    step *= np.random.default_rng(seed).uniform(0.35, 0.65, step.shape)  # walls may be symmetric
    there, size = rows[:, fence:].any(axis=2)[flat], np.hypot(1, step)
    halves = []
    for side in (step, -step):
        value = ((height + side * slope) / size)[:, fence:]
        margin = np.where(there, np.abs(value), np.inf).min(axis=1, initial=np.inf)
        off = margin > ROUNDING  # a point on a later hyperplane represents no cell
        points, key = (on + side * h) / size, _key(value > 0, flat)
        halves.append((points[off], flat[off], key[off], margin[off]))
    cells = np.bincount(flat, minlength=len(rows))
    points, flat, key, margin = map(np.concatenate, zip(*halves, strict=True))
    return _Pool(points, flat, key, margin, cells, (*doubts, *more))


def _products(points, rows, flat):
    """(N, m) products of each point with the rows of its flat."""
    if len(rows) == 1:
        return points @ rows[0].T
    block = max(1, 2**18 // max(rows[0].size, 1))
    return np.concatenate(
        [
            np.einsum("nd,nmd->nm", points[a : a + block], rows[flat[a : a + block]])
            for a in range(0, max(len(points), 1), block)
        ]
    )


def _key(bits, flat):
    """A 64-bit hash of flat and signs: a collision only lowers a count, which the identity sees."""
    key = flat.astype(np.uint64)
    for word in (0, *_words(bits).T):
        key = (key ^ word) * np.uint64(0x9E3779B97F4A7C15)
        key ^= key >> np.uint64(32)
    return key


def _sectors(flats, tol, limit, rng):
    """Dimension 2: the cone is an interval of angles, and each line cuts it at most once."""
    rows, noise, _, fence = flats
    axis = rows[:, 0]
    across = np.stack([-axis[:, 1], axis[:, 0]], axis=1)
    turn = np.arctan2((rows @ across[:, :, None])[:, :, 0], (rows @ axis[:, :, None])[:, :, 0])
    there = rows.any(axis=2)
    walls = np.where(there, turn, 0)[:, :fence]
    low = walls.max(axis=1, keepdims=True) - np.pi / 2
    high = walls.min(axis=1, keepdims=True) + np.pi / 2
    cuts = np.where(there, turn % np.pi - np.pi / 2, np.inf)[:, fence:]
    edges = np.hstack([low, np.sort(np.clip(cuts, low, high), axis=1), high])
    gaps = np.diff(edges, axis=1)
    rough = noise.max(axis=1, keepdims=True)
    between = np.where(gaps > 0, gaps, np.inf)
    apart = np.hstack([np.abs(cuts - low), np.abs(cuts - high), np.abs(high - low), between])
    doubts = _doubts(apart, rough, tol, 2)
    f, i = np.nonzero(gaps > np.maximum(rough, tol))
    if len(f) > limit:
        raise TooManyChambers(len(f), limit)
    angle = edges[f, i] + rng.uniform(0.35, 0.65, len(f)) * gaps[f, i]
    witnesses = np.cos(angle)[:, None] * axis[f] + np.sin(angle)[:, None] * across[f]
    return witnesses, f, doubts


# The exact route: the same recursion in integers, one flat at a time


def _exact_route(given, floats, limit, run) -> Chambers:
    """Rows become primitive integer vectors, points stay integer until they are reported."""
    fractions = given.each(_fractions)
    fence, rows = map(_primitive, _homogeneous(*fractions))
    point, doubts = _interior(fence), ()
    points = np.zeros((0, fence.shape[1]), dtype=object)
    if point is not None:
        points, broken = _exact_cells(fence, _distinct(rows), limit, point, run)
        doubts = (f"{broken} flats break the count identity",) * (broken > 0)
    every, offsets = fractions.normals, fractions.offsets
    every = _primitive(every if offsets is None else np.column_stack([every, -offsets]))
    signs, sides = (np.sign(points @ a.T).astype(np.int8) for a in (every, rows))
    points = _ratios(points)
    fence, rows = _unit(_ratios(fence)), _unit(_ratios(rows))
    distance = np.abs(points @ np.vstack([fence, rows]).T).min(axis=1, initial=np.inf)
    for a in np.flatnonzero(distance < 1e-6):  # the recursion thins chambers; their center does not
        center, _, _ = _min_norm_direction(np.vstack([fence, sides[a, :, None] * rows]), 0)
        points[a] = points[a] if center is None else center
    return _collect(floats, points, doubts, _EXACT, signs)


def _ratios(rows):
    """Integer rows over their largest entries, as correctly rounded floats."""
    return (rows / np.abs(rows).max(axis=1, keepdims=True, initial=1)).astype(float)


def _fractions(array):
    exact = [Fraction(x) for x in array.ravel().tolist()]
    return np.array(exact, dtype=object).reshape(array.shape)


def _primitive(rows):
    """Each row scaled, by a positive number, to coprime integers."""
    whole = np.empty(rows.shape, dtype=object)
    for row, out in zip(rows, whole, strict=True):
        common = math.lcm(*(x.denominator for x in row))
        out[:] = [int(x * common) for x in row]
    return _reduced(whole)


def _reduced(rows):
    divisor = np.gcd.reduce(np.abs(rows), axis=1, keepdims=True) if rows.size else 1
    return rows // np.where(divisor == 0, 1, divisor)


def _distinct(rows):
    """Primitive rows, no two parallel."""
    kept = {}
    for row in rows.tolist():
        lead = next(x for x in row if x)
        kept.setdefault(tuple(row if lead > 0 else [-x for x in row]), row)
    return np.array(list(kept.values()), dtype=object).reshape(-1, rows.shape[1])


def _exact_cells(fence, rows, limit, point, run=map):
    """Integer points, one in each cell, and how many flats broke the count identity.

    fence (c, d), rows (k, d) primitive, no two rows parallel; `point` lies in the cone.
    """
    halves, cells, broken = [], 0, 0
    for pair in run(partial(_exact_split, fence, rows, limit), range(len(rows))):
        points, split, failed = pair
        halves.append(points)
        cells, broken = cells + split, broken + failed
        if cells + 1 > limit:
            raise TooManyChambers(cells + 1, limit)
    if not cells:
        return point[None], broken
    points = np.vstack(halves)
    value = points @ rows.T
    points, value = (a[(value != 0).all(axis=1)] for a in (points, value))
    kept = {signs.tobytes(): i for i, signs in enumerate(value > 0)}
    return points[list(kept.values())], broken + (len(kept) != 1 + cells)


def _exact_split(fence, rows, limit, j):
    """Points in both halves of every cell of rows[:j] that h_j splits; their number; failures."""
    h = rows[j]
    none = np.empty((0, rows.shape[1]), dtype=object), 0, 0
    cone = _restrict(fence, h)
    point = _interior(cone)
    if point is None:
        return none
    low, broken = _exact_cells(cone, _distinct(_restrict(rows[:j], h)), limit, point)
    on, walls = _lift(low, h), np.vstack([fence, rows[:j]])
    return np.vstack([_step(on, walls, h, side) for side in (1, -1)]), len(low), broken


def _pivot(h):
    """The entry of h least in absolute value among the nonzero ones."""
    return min(np.flatnonzero(h != 0), key=lambda q: abs(h[q]))


def _restrict(rows, h):
    """rows on {h . x = 0}, in the coordinates other than the pivot, primitive, sides kept."""
    q = _pivot(h)
    below = (rows * h[q] - rows[:, q, None] * h) * (1 if h[q] > 0 else -1)
    return _reduced(np.delete(below, q, axis=1))


def _lift(low, h):
    """The points of {h . x = 0} with these coordinates, times |h_q|."""
    q = _pivot(h)
    others = np.delete(h, q)
    side = 1 if h[q] > 0 else -1
    return np.insert(low * abs(h[q]), q, -side * (low @ others), axis=1)


def _step(points, walls, h, side):
    """points +- 2^-e e_q, to the side of h asked for, with e the least that surely hits no wall."""
    q = _pivot(h)
    slope = walls[:, q]
    size = np.abs(points).max(axis=1, keepdims=True)
    bits = np.frompyfunc(int.bit_length, 1, 1)
    e = bits(slope[slope != 0]) - bits(points @ walls[slope != 0].T) + 1
    e = np.hstack([1 - bits(size), e]).max(axis=1)
    along = side if h[q] > 0 else -side
    powers = [(1 << max(x, 0), along << max(-x, 0)) for x in e]
    scale, step = np.array(powers, dtype=object).T
    points = points * scale[:, None]
    points[:, q] += step
    return _reduced(points)


def _interior(cone):
    """An integer point with cone @ x > 0, or None, exactly.

    A float guess first. Else by restriction again: if x satisfies the first rows and not the next,
    a point that satisfies them all is near one of {first rows > 0} on the next row's hyperplane.
    """
    if not cone.shape[1] or not (cone != 0).any(axis=1).all():
        return None
    if len(cone) == 1:
        return cone[0]
    guess, _, multipliers = _min_norm_direction(_unit(_ratios(cone)), 0)
    for bits in (4, 16, 53):
        if guess is None:
            break
        point = np.array([int(x) for x in np.rint(np.ldexp(guess, bits))], dtype=object)
        if (cone @ point > 0).all():
            return point
    cone = cone[np.argsort(-multipliers, kind="stable")]  # a Gordan certificate comes first
    point = cone[0]
    for i, row in enumerate(cone):
        if row @ point > 0:
            continue
        if row @ point < 0:
            low = _interior(_restrict(cone[:i], row))
            if low is None:
                return None
            point = _lift(low[None], row)[0]
        point = _step(point[None], cone[:i], row, 1)[0]
    return point
