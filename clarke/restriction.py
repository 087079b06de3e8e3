"""Deletion and restriction at a tolerance, all flats of one dimension at once."""

import math
from functools import partial
from hashlib import blake2b
from typing import NamedTuple

import numpy as np

from .halfspaces import ROUNDING, min_norm_direction


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


def lexicographic(signs):
    """The order of the rows; a column of zeros is constant, so one bit a letter suffices."""
    return np.lexsort(_words(signs > 0).byteswap().T[::-1])


def _words(bits):
    """(m, k) booleans packed into (m, ceil(k / 64)) uint64, the first bit first in memory."""
    packed = np.packbits(bits, axis=1)
    words = np.zeros((len(bits), -(-max(packed.shape[1], 1) // 8) * 8), np.uint8)
    words[:, : packed.shape[1]] = packed
    return words.view(np.uint64)


class _Flats(NamedTuple):
    """F flats of dimension d, each with its restricted arrangement.

    rows (F, m, d) have length 1, or 0 where absent; the first `fence` of them bound the open cone.
    noise (F, m) estimates their rounding errors; points (F, d) lie in the cones where d > 2.
    """

    rows: np.ndarray
    noise: np.ndarray
    points: np.ndarray
    fence: int


def float_route(fence, rows, isotropic, tol, limit, run):
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
            direction, margin, _ = min_norm_direction(walls[g][walls[g].any(axis=1)], tol)
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
