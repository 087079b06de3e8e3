"""Weights of the point of a polytope nearest to a target: three active sets, a polish, and the gap that judges them.

The polytope is conv{b_i}, b_i the rows of B, the target t. A route is a generator: it takes B (m, n), t (n,) and
reach = max_i |b_i - t| > 0, and yields weights (m,), nonnegative and of sum 1, each better than the last or nearly so.
The caller stops when the gap contents it, so that no route judges itself.

With c_i = ((b_i - t) / reach, 1) and d = (0, 1) the weights solve one nonnegative least squares, the problem LDP of
[LH74]: the squared distance of d to the cone of the c_i is

    min over w >= 0 of sum 1, s >= 0 of |s sum_i w_i (b_i - t)|^2 / reach^2 + (s - 1)^2 = min_w q / (1 + q),

q = |sum_i w_i b_i - t|^2 / reach^2, at s = 1 / (1 + q); that increases in q, so w are the weights sought.

nnls        the active set of [LH74], one element at a time, in scipy's machine code.
wolfe       [W76]: a corral (an affinely independent face that holds its own nearest point in its interior) entered by
            the lowest element and left by the first weight to vanish; the orthogonal factors are updated by rotations
            [DGKS76], never the Gram matrix.
active_set  many elements at a time: proximal points [R76], each by semismooth Newton on its dual [LST18]. A face
            F = {i : x_i > 0} costs one Cholesky factor of lam I + C_F C_F^T or lam I + C_F^T C_F, the smaller;
            it may be affinely dependent.

[LH74] Lawson, Hanson. Solving Least Squares Problems. Prentice-Hall (1974), chapter 23.
[W76] Wolfe. Finding the nearest point in a polytope. Math. Programming 11 (1976) 128-149.
[DGKS76] Daniel, Gragg, Kaufman, Stewart. Math. Comp. 30 (1976) 772-795.
[R76] Rockafellar. Monotone operators and the proximal point algorithm. SIAM J. Control Optim. 14 (1976) 877-898.
[LST18] Li, Sun, Toh. SIAM J. Optim. 28 (2018) 433-458.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from scipy.linalg import lstsq, qr_delete, qr_insert
from scipy.linalg.blas import dsyrk
from scipy.linalg.lapack import dpotrf, dpotrs, dtrtrs
from scipy.optimize import nnls as lawson_hanson

EPS = float(np.finfo(float).eps)
LEAP = 1e-8  # lam in units of the mean eigenvalue of C^T C: the first tried, and the last
FIRST, FALL = 1e-2, 100.0  # where that fails lam begins here, and falls by this factor
TURNS = 16  # proximal points tried; two or three are the rule
PATIENCE = 1  # faces in a row with no fewer wrong signs, before full steps are given up
CHANGES = 40  # faces tried for one of them; those that converge need 25, rarely more
TINY = 1e-8  # share of a Newton step below which rounding has taken over
DEPENDENT = 1e-12  # sine of the angle to the columns before, below which a column is in their span
FAINT = 1e-9  # of the largest weight: a sign below it is noise
LOUD = 1e-2  # of the largest weight: noise above it hides the face
SETTLED = 16 * EPS  # a gap that the rounding of a thousand products explains
SLAB = 2**16  # numbers factored at a time: they stay in cache
LONG = 4  # entries an element, in units of m, beyond which the Gram matrix is cheaper than the elements


class ProjectionStopped(RuntimeError):
    """The solver ended without weights; there is nothing to certify."""


def gap(B: np.ndarray, t: np.ndarray, reach: float, w: np.ndarray) -> float:
    """max_i <P - t, P - b_i> / reach^2 at P = w @ B: at least |P - nearest point|^2 / reach^2."""
    P = w @ B
    e = P - t
    ahead = B @ e
    return max(float(e @ P - ahead[ahead.argmin()]) / reach / reach, 0.0)


# Lawson and Hanson


def nnls(B: np.ndarray, t: np.ndarray, reach: float) -> Iterator[np.ndarray]:
    """[LH74] on the c_i themselves; where those are long, on a Cholesky factor of their products, then on a QR factor.

    Raises ProjectionStopped if scipy's iterations end.
    """
    m, n = B.shape
    if m == 2:
        yield _on_segment(B, t, np.ones(2))
        return
    if n <= LONG * m:
        V = B.T - t[:, None]
    else:
        root, failed = dpotrf(_gram(B, t, reach), lower=1, overwrite_a=1, clean=1)
        if not failed:
            yield _lawson_hanson(root.T, _heights(root))
        V = triangle(B.shape, lambda columns: (B[:, columns] - t[columns]).T)
    rows, k = np.empty((len(V) + 1, m)), len(V)
    np.divide(V, reach, out=rows[:k])
    rows[k] = 1.0
    height = np.zeros(k + 1)
    height[k] = 1.0
    w = _lawson_hanson(rows, height)
    yield _on_segment(B, t, w) if np.count_nonzero(w) == 2 else w
    yield from wolfe(B, t, reach, w)  # asked for only where scipy's iterations stopped short, as they sometimes do


def _on_segment(B: np.ndarray, t: np.ndarray, w: np.ndarray) -> np.ndarray:
    """Weights of the point nearest to t between the two elements of positive weight: a closed form."""
    i, j = np.flatnonzero(w)
    along = B[j] - B[i]
    size = int(np.frexp(np.abs(along).max())[1])
    along = np.ldexp(along, -size)  # a hull within 1e-170 of a point has differences whose squares vanish
    whole = math.ldexp(1.0, size)
    share = min(max(float((t - B[i]) @ along) / float(along @ along), 0.0), whole) / whole
    x = np.zeros(len(w))
    x[i], x[j] = 1 - share, share
    return x


def _lawson_hanson(rows: np.ndarray, height: np.ndarray) -> np.ndarray:
    try:
        x, _ = lawson_hanson(rows, height)
    except RuntimeError as error:
        raise ProjectionStopped(f"nnls on {rows.shape[1]} elements: {error} Try another method.") from error
    return x / x.sum()


def triangle(shape: tuple[int, int], slab: Callable[[slice], np.ndarray]) -> np.ndarray:
    """R with R^T R = X^T X for the X (size, m) whose rows `columns` are slab(columns); shape = (m, size).

    A long X is met a slab at a time and never formed; a short one is returned as it is. The Gram
    matrix itself would lose half of the digits.
    """
    m, size = shape
    if size <= 2 * m:
        return slab(slice(None))
    R, step = np.empty((0, m)), max(4 * m, SLAB // m)
    for start in range(0, size, step):
        below = slab(slice(start, start + step))
        R = np.asarray(np.linalg.qr(np.vstack([R, below]), mode="r"))
    return R


def _gram(B: np.ndarray, t: np.ndarray, reach: float) -> np.ndarray:
    """The Gram matrix of the c_i, its lower half alone; the products are those of B, that needs no second copy."""
    G = dsyrk(1 / reach / reach, B.T, trans=1, lower=1)
    slopes = (B @ t) / reach / reach
    G -= slopes
    G -= slopes[:, None]
    G += 1 + (t @ t) / reach / reach
    return G


def _heights(L: np.ndarray) -> np.ndarray:
    """d with L d = 1: what d = (0, 1) is in the coordinates of the factor."""
    return dtrtrs(L, np.ones(len(L)), lower=1)[0]


# Wolfe


def wolfe(B: np.ndarray, t: np.ndarray, reach: float, start: np.ndarray | None = None) -> Iterator[np.ndarray]:
    """One weight vector, where no element is lower than the point found, or none that is can be told from its face.

    start: weights (m,) whose support is the first corral, its affinely dependent elements dropped, lightest first; the
    nearest element if None. Elements are as long as the corral is large at least, so at most n + 1 enter.
    """
    m, n = B.shape
    corral, w, Q, R = _corral(B, t, reach, start)
    least, settled = np.inf, start is None
    while True:
        if settled:
            P = w @ B[corral]
            e = P - t
            height = float(e @ e)
            ahead = B @ e
            entering = int(ahead.argmin())
            beyond = float(P @ e - ahead[entering])
            if beyond <= EPS * reach * reach or entering in corral or height >= least or len(corral) > n:
                break
            least = height
            try:
                Q, R = qr_insert(Q, R, _column(B, t, reach, entering), len(corral), which="col", rcond=EPS)
            except np.linalg.LinAlgError:  # in the span of the corral, to rounding
                break
            corral.append(entering)
            w = np.append(w, 0.0)
        u = dtrtrs(R, Q[-1])[0]
        u /= u.sum()
        settled = bool(u.min() > 0)
        if settled:
            w = u
            continue
        falling = np.flatnonzero(u <= 0)
        ratios = w[falling] / np.maximum(w[falling] - u[falling], np.finfo(float).tiny)
        leaving = int(falling[ratios.argmin()])
        w = np.delete(w + min(float(ratios.min()), 1.0) * (u - w), leaving)
        w = np.maximum(w, 0.0) / np.maximum(w, 0.0).sum()
        Q, R = qr_delete(Q, R, leaving, which="col")
        del corral[leaving]
        Q, R = Q[:, : len(corral)], R[: len(corral)]  # a square Q stays square
    weights = np.zeros(m)
    weights[corral] = w
    yield weights


def _corral(B, t, reach, start):
    """Elements, their weights, and the factors of their columns c_i, which are independent."""
    if start is None:
        corral = [int((np.einsum("ij,ij->i", B, B) - 2 * (B @ t)).argmin())]
        w = np.ones(1)
    else:
        corral = [int(i) for i in np.argsort(-start)[: np.count_nonzero(start)]]
        w = start[corral]
    while True:
        columns = np.column_stack([_column(B, t, reach, i) for i in corral])
        Q, R = np.linalg.qr(columns)
        kept = np.abs(R.diagonal()) > DEPENDENT * np.linalg.norm(columns, axis=0)[: len(R)]
        if kept.all() and len(kept) == len(corral):
            return corral, w / w.sum(), Q, R
        corral = [i for i, keep in zip(corral, kept, strict=False) if keep]  # those past the dimension go too
        w = w[: len(kept)][kept]


def _column(B, t, reach, i):
    return np.append((B[i] - t) / reach, 1.0)


# Proximal points by semismooth Newton


def active_set(B: np.ndarray, t: np.ndarray, reach: float) -> Iterator[np.ndarray]:
    """The weights where proximal points no longer move; should they stall, those of `wolfe` begun at their support."""
    m, n = B.shape
    if n > LONG * m:
        C = padded_root(_gram(B, t, reach))
        d = _heights(C)
    else:
        C = np.empty((m, n + 1))
        np.subtract(B, t, out=C[:, :n])
        C[:, :n] /= reach
        C[:, n] = 1.0
        d = np.zeros(n + 1)
        d[n] = 1.0
    x, y, left, change = np.zeros(m), np.zeros(C.shape[1]), np.inf, 1.0
    for w in proximal_points(C, d, np.inf):
        if not w.any():
            break
        x = w / w.sum()
        ahead = x @ C
        last, left = left, float(ahead @ ahead - (C @ ahead).min())
        before, change = change, math.sqrt((ahead - y) @ (ahead - y))
        y = ahead
        if left <= SETTLED and change * change <= EPS * before:  # the next change is near change^2 / before
            break
        if left > SETTLED and left > last / 4:
            break
    if left > SETTLED:
        yield from wolfe(B, t, reach, x if x.any() else None)
    else:
        yield x


def proximal_points(C: np.ndarray, d: np.ndarray, top: float = 1.0) -> Iterator[np.ndarray]:
    """x_0, x_1, ... in [0, 1]^m toward argmin |x C - d|, C (m, N), d (N,), top 1 or infinity.

    x_j = argmin over x in the box of |x C - d|^2 + lam |x - x_{j-1}|^2, x_{-1} = 0. The first is tried with a lam so
    small that one more ends the work; where that is not found by full steps, lam falls from point to point instead, as
    far as points are found. Ends where none is found, after TURNS trials, or at once where |C|^2 is no float. top: the
    bound on that first try, infinity where a solution is at most 1 without it: full steps pass through larger x.
    """
    faces = _Faces(C, d)
    unit = float(np.vdot(C, C)) / min(C.shape) or 1.0
    if LEAP * unit < np.finfo(float).tiny:  # no lam among the floats
        return
    none, every = np.zeros(len(C)), np.ones(len(C), dtype=bool)
    w, face, full = none, every, none
    ridge, floor, leaping = LEAP, LEAP, True
    for _ in range(TURNS):
        found = _proximal(C, d, w, face, full, ridge * unit, faces, leaping, top if leaping else 1.0)
        if found is None and not leaping and ridge >= FIRST:
            return
        if found is None:
            ridge = FIRST if leaping else ridge * FALL
            floor = LEAP if leaping else ridge
            leaping = False
            continue
        ridge = max(ridge / FALL, floor)
        leaping = False
        w = np.clip(found, 0.0, 1.0)
        face, full = (w > 0) & (w < 1), np.where(w >= 1, 1.0, 0.0)
        yield w


def padded_root(G: np.ndarray) -> np.ndarray:
    """Lower L with L L^T = G, its diagonal raised until it has one: near it, and good enough to find the face."""
    pad = 0.0
    while True:
        raised = G.copy(order="F")
        raised.flat[:: len(G) + 1] += pad
        L, failed = dpotrf(raised, lower=1, overwrite_a=1, clean=1)
        if not failed:
            return L
        pad = max(16 * pad, 4 * EPS * len(G) * float(G.diagonal().max()), np.finfo(float).tiny)


def _proximal(C, d, w, face, full, lam, faces, leaping, top):
    """argmin over x in [0, top]^m of |x C - d|^2 + lam |x - w|^2, not yet cut where it is noise; None: not found.

    While `leaping` no step is cut short, and a point that does not come near quickly is not found.

    The dual is strongly convex in r with gradient r - d + x C, x = clip(w + C r / lam, 0, top). A Newton step solves it
    on the face where 0 < x < top; `full` holds top where x is there and 0 elsewhere. A step too long is cut where the
    dual is least on it, by Newton's method on its piecewise linear slope.
    """
    a, r = w, d - w @ C
    q, fewest, idle = C @ r, len(w), 0
    for change in range(CHANGES):
        inside = np.flatnonzero(face)
        base = full.copy()
        base[inside] = w[inside]
        if len(inside):
            x = faces.solve(face, inside, lam, d - base @ C if base.any() else d)
            if x is None:
                return None
            base[inside] += x
        ahead = d - base @ C
        steep = C @ ahead
        z = w + steep / lam
        z[inside] = base[inside]
        size = faces.reach * (faces.goal + float(np.abs(base) @ faces.norms))
        most = min(float(np.abs(z).max()), 1.0)
        noise = max(FAINT * most, 8 * EPS * size / lam)
        now = (z > 0) & (z < top)
        wrong = (now != face) | ((z >= top) != (full > 0))
        count = np.count_nonzero(wrong & (np.abs(z) > noise) & (np.abs(z - top) > noise))
        if not count:
            return base if noise <= LOUD * most else None
        fewest, idle = (count, 0) if count < fewest else (fewest, idle + 1)
        if leaping and idle > PATIENCE:
            return None
        cut = _least_on(w + q / lam, (steep - q) / lam, r - d, ahead - r, lam) if change and not leaping else 1.0
        if cut < TINY:
            return None
        if cut < 1.0:
            a, r, q = a + cut * (base - a), r + cut * (ahead - r), q + cut * (steep - q)
            z = w + q / lam
        else:
            a, r, q = base, ahead, steep
        face, full = (z > 0) & (z < top), np.where(z >= top, top, 0.0)
    return None


def _least_on(z, step, e, change, lam):
    """alpha in (0, 1] at which the dual is least on r + alpha change, r - d = e, z + alpha step its argument; or 1."""
    first, second = float(e @ change), float(change @ change)

    def slope(alpha):
        x = z + alpha * step
        between = step[(x > 0) & (x < 1)]
        value = first + alpha * second + lam * float(np.clip(x, 0.0, 1.0) @ step)
        return value, second + lam * float(between @ between)

    start = slope(0.0)[0]
    if slope(1.0)[0] <= -FAINT * start:
        return 1.0
    low, high, alpha = 0.0, 1.0, 0.5
    for _ in range(50):
        value, curvature = slope(alpha)
        low, high = (low, alpha) if value > 0 else (alpha, high)
        ahead = alpha - value / curvature
        if abs(ahead - alpha) <= FAINT * alpha:
            break
        alpha = ahead if low < ahead < high else (low + high) / 2
    return alpha


class _Faces:
    """Newton systems on faces of C: the Gram matrix where m <= N, else C_F^T C_F kept up to date from face to face."""

    def __init__(self, C: np.ndarray, d: np.ndarray):
        self.normal: Any
        self.face: Any
        self.norms, self.goal = np.sqrt(np.einsum("ij,ij->i", C, C)), math.sqrt(d @ d)
        self.reach = float(self.norms.max())
        self.C, self.gram, self.normal, self.face = C, None, None, None
        self.key, self.rows, self.factor = None, C, None
        if len(C) <= C.shape[1]:
            G = dsyrk(1.0, C.T, trans=1, lower=1)
            self.gram = G + np.tril(G, -1).T

    def solve(self, face, inside, lam, r):
        """x with (lam I + C_F C_F^T) x = C_F r, or None if rounding made the matrix indefinite."""
        C, k = self.C, len(inside)
        short = self.gram is not None or k < C.shape[1]
        key = (lam, face.tobytes())
        if key != self.key:
            self.key = key
            if short:
                self.rows = C if k == len(C) else C[inside]
            if self.gram is not None:
                K = np.array(self.gram if k == len(C) else self.gram[np.ix_(inside, inside)], order="F")
            elif short:
                K = dsyrk(1.0, self.rows.T, trans=1, lower=1)
            else:
                self._follow(face, k)
                K = self.normal.copy(order="F")
            K.flat[:: len(K) + 1] += lam
            L, failed = dpotrf(K, lower=1, overwrite_a=1, clean=0)
            self.factor = None if failed else L
        if self.factor is None:
            return None
        if short:
            return dpotrs(self.factor, self.rows @ r, lower=1)[0]
        return (C @ dpotrs(self.factor, r, lower=1)[0])[inside]

    def _follow(self, face, k):
        if self.normal is not None:
            enter, leave = np.flatnonzero(face & ~self.face), np.flatnonzero(self.face & ~face)
            if len(enter) + len(leave) < k:
                for sign, moved in ((1.0, enter), (-1.0, leave)):
                    if len(moved):
                        self.normal = dsyrk(sign, self.C[moved].T, 1.0, self.normal, lower=1, overwrite_c=1)
                self.face = face
                return
        rows = self.C if k == len(face) else self.C[face]
        self.normal, self.face = dsyrk(1.0, rows.T, lower=1), face


# The polish


def polish(B: np.ndarray, t: np.ndarray, w: np.ndarray) -> np.ndarray:
    """Weights of the projection of t onto the affine hull of the b_i with w_i > 0: for hulls that are far.

    Solved for the change from w, relative to the heaviest b_i, so that it sums to 0. Where weights
    would turn negative, it goes as far as the first to reach 0 and begins again without that one.
    """
    x = w
    while True:
        x /= x.sum()
        heaviest, *others = np.argsort(-x)[: np.count_nonzero(x)]
        if not others:
            return x
        change = np.zeros_like(x)
        change[others] = _regress(B, t - x @ B, heaviest, others)
        change[heaviest] = -change.sum()
        negative = np.flatnonzero(x + change < 0)
        if not len(negative):
            return (x + change) / (x + change).sum()
        step = x[negative] / -change[negative]
        x = np.maximum(x + step.min() * change, 0)
        x[negative[step.argmin()]] = 0


def _regress(B: np.ndarray, y: np.ndarray, base: int, others: list[int]) -> np.ndarray:
    """c with |sum_i c_i (b_i - b_base) - y| least, i in others; the shortest such c."""

    def slab(columns: slice) -> np.ndarray:
        return np.vstack([B[others, columns] - B[base, columns], y[columns]]).T

    R = triangle((len(others) + 1, len(y)), slab)
    return lstsq(R[:, :-1], R[:, -1], lapack_driver="gelsy")[0]  # pyright: ignore
