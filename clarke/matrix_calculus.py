"""Matrices as vectors, and derivatives checked against their function.

`vec` stacks columns, as the matrix calculus of Magnus & Neudecker and of the seminar does; `rvec` stacks rows, as numpy
and every flat vector of this library does. rvec(A) = vec(A^T) = K_{m,n} vec(A). The matrices that connect the two, and
connect vec with the half `vech` of a symmetric matrix, are scipy.sparse arrays with one number (or two) a row.

`check_gradient` and `check_hessian` ask whether a formula is the derivative of a function, at a tolerance derived from
what they measured: noise of the function, step, truncation. A kink in the stencil is reported, never averaged over.

J. R. Magnus, H. Neudecker. The elimination matrix: some lemmas and applications. SIAM J. Alg. Disc. Meth. 1 (1980).
J. J. More, S. M. Wild. Estimating computational noise. SIAM J. Sci. Comput. 33 (2011).
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from math import comb
from operator import index
from typing import Any

import numpy as np
import scipy.sparse as sparse
from numpy.typing import ArrayLike

EPS = float(np.finfo(float).eps)


def symmetrize(H: ArrayLike) -> np.ndarray:
    """(H + H^T) / 2, for H (..., n, n): the nearest symmetric matrix in the Frobenius norm.

    The symmetrization of Bolshim & Kugaevskikh (2025), Prop. 2 and formulas (4), (5); done block by block,
    (H_vw + H_wv^T) / 2, it is the same map. They recommend it for minimum-norm elements at a kink, where, they say,
    symmetry may fail. It cannot: every limiting Hessian is a limit of symmetric matrices, so it and every element of
    the hull is symmetric, and `symmetrize` is the identity there, bit for bit. It has work to do on matrices that
    rounding, estimation or a wrong formula has left asymmetric, and then it can change the spectrum.

    A new array. ValueError unless H holds real numbers and its last two axes have one length.
    """
    H = np.array(_square(H, "H"), dtype=float)
    return (H + H.swapaxes(-1, -2)) / 2


# ---------------------------------------------------------------- arguments


def _matrix(A, name):
    given = np.asarray(A)
    if given.dtype.kind not in "biuf":
        raise ValueError(f"{name} must hold real numbers; got dtype {given.dtype}")
    if given.ndim < 2:
        raise ValueError(f"{name} must be a matrix, or a stack of them (..., m, n); got shape {given.shape}")
    return given


def _square(A, name):
    given = np.asarray(A)
    if given.dtype.kind not in "biuf":
        raise ValueError(f"{name} must hold real numbers; got dtype {given.dtype}")
    if given.ndim < 2 or given.shape[-1] != given.shape[-2]:
        raise ValueError(f"{name} must be square in its last two axes; got shape {given.shape}")
    return given


def _vector(v, name):
    given = np.asarray(v)
    if given.dtype.kind not in "biuf":
        raise ValueError(f"{name} must hold real numbers; got dtype {given.dtype}")
    if given.ndim < 1:
        raise ValueError(f"{name} must be a vector, or a stack of them (..., k); got a scalar")
    return given


def _length(n, name):
    try:
        length = index(n)
    except TypeError:
        raise ValueError(f"{name} must be a positive integer; got {n!r}") from None
    if length < 1:
        raise ValueError(f"{name} must be a positive integer; got {n!r}")
    return length


# ---------------------------------------------------------------- vectors


def vec(A: ArrayLike) -> np.ndarray:
    """The columns of A (..., m, n), one under the other: (..., m n), entry i + m j is A_ij. Column-major.

    vec(A X B) = (B^T kron A) vec(X), <A, B> = vec(A)^T vec(B). A new array; ValueError unless A is a real matrix.
    """
    A = _matrix(A, "A")
    return np.array(A.swapaxes(-1, -2)).reshape(*A.shape[:-2], -1)


def rvec(A: ArrayLike) -> np.ndarray:
    """The rows of A (..., m, n), one after the other: (..., m n), entry n i + j is A_ij. Row-major, numpy's C order.

    rvec(A) = vec(A^T) and rvec(A X B) = (A kron B^T) rvec(X). A new array; ValueError unless A is a real matrix.
    """
    A = _matrix(A, "A")
    return np.array(A).reshape(*A.shape[:-2], -1)


def unvec(v: ArrayLike, shape: tuple[int, ...]) -> np.ndarray:
    """The matrix (..., m, n) with vec(A) = v, for v (..., m n) and shape (m, n). A new array."""
    v, (m, n) = _folded(v, shape)
    return np.array(v.reshape(*v.shape[:-1], n, m).swapaxes(-1, -2))


def unrvec(v: ArrayLike, shape: tuple[int, ...]) -> np.ndarray:
    """The matrix (..., m, n) with rvec(A) = v, for v (..., m n) and shape (m, n). A new array."""
    v, (m, n) = _folded(v, shape)
    return np.array(v).reshape(*v.shape[:-1], m, n)


def _folded(v, shape):
    v = _vector(v, "v")
    if np.shape(shape) != (2,):
        raise ValueError(f"shape must be (m, n); got {shape!r}")
    m, n = (_length(k, name) for k, name in zip(shape, "mn", strict=True))
    if v.shape[-1] != m * n:
        raise ValueError(f"v has {v.shape[-1]} entries, a matrix of shape ({m}, {n}) has {m * n}")
    return v, (m, n)


def vech(A: ArrayLike, *, weighted: bool = False) -> np.ndarray:
    """The lower triangle of A (..., n, n), column by column: (..., n (n + 1) / 2), with A_11, A_21, ..., A_n1, A_22...

    weighted: entries off the diagonal times sqrt 2, so that |vech(A)| = |A|_F and vech(A)^T vech(B) = <A, B> for
    symmetric A, B. Without weights the norm, and so the nearest point of a hull, is another one: a minimum-norm element
    must be computed with them. A new array; ValueError unless A is real and square, and symmetric if weighted.
    """
    A = _square(A, "A")
    if weighted and not np.array_equal(A, A.swapaxes(-1, -2)):
        raise ValueError("a weighted vech keeps the norm of symmetric matrices only, and A is not; symmetrize it")
    rows, columns = _half(A.shape[-1])
    half = np.array(A[..., rows, columns])
    return half * _weights(rows, columns) if weighted else half


def unvech(v: ArrayLike, *, weighted: bool = False) -> np.ndarray:
    """The symmetric matrix (..., n, n) with vech(A) = v, for v (..., n (n + 1) / 2). A new array.

    weighted: v was made by `vech(A, weighted=True)`.
    """
    v = _vector(v, "v")
    n = int(np.sqrt(2 * v.shape[-1]))
    if n < 1 or n * (n + 1) // 2 != v.shape[-1]:
        raise ValueError(f"v must have n (n + 1) / 2 entries, n >= 1: 1, 3, 6, 10, ...; got {v.shape[-1]}")
    rows, columns = _half(n)
    half = v / _weights(rows, columns) if weighted else v
    A = np.empty((*v.shape[:-1], n, n), dtype=half.dtype)
    A[..., rows, columns] = half
    A[..., columns, rows] = half
    return A


def _half(n):
    """Rows and columns of the lower triangle, column by column."""
    columns, rows = np.triu_indices(n)
    return rows, columns


def _weights(rows, columns):
    return np.where(rows == columns, 1.0, np.sqrt(2.0))


# ---------------------------------------------------------------- matrices between them


def commutation(m: int, n: int) -> Any:
    """K_{m,n}, (m n, m n) with K vec(A) = vec(A^T) for A (m, n): a permutation; K^T = K^{-1} = K_{n,m}.

    K_{p,m} (A kron B) K_{n,q} = B kron A for A (m, n), B (p, q). A scipy.sparse CSR array.
    """
    m, n = _length(m, "m"), _length(n, "n")
    i, j = (k.ravel() for k in np.indices((m, n)))
    return sparse.csr_array((np.ones(m * n), (j + n * i, i + m * j)), shape=(m * n, m * n))


def duplication(n: int, *, weighted: bool = False) -> sparse.csr_array:
    """D_n, (n^2, n (n + 1) / 2) with D vech(A) = vec(A) for symmetric A (n, n). A scipy.sparse CSR array.

    D^T D is diagonal: 1 for A_ii, 2 for A_ij. weighted: for the weighted vech; then D^T D = I, D is an isometry and
    D D^T vec(A) = vec(symmetrize(A)).
    """
    n = _length(n, "n")
    rows, columns = _half(n)
    place = np.arange(len(rows))
    off = rows != columns
    entries = np.concatenate([rows + n * columns, (columns + n * rows)[off]])
    columns_of_D = np.concatenate([place, place[off]])
    values = 1 / _weights(rows, columns)[columns_of_D] if weighted else np.ones(n * n)
    return sparse.csr_array((values, (entries, columns_of_D)), shape=(n * n, len(rows)))


def elimination(n: int) -> sparse.csr_array:
    """L_n, (n (n + 1) / 2, n^2) with L vec(A) = vech(A) for every A (n, n), symmetric or not; L D = I, L L^T = I.

    A scipy.sparse CSR array.
    """
    n = _length(n, "n")
    rows, columns = _half(n)
    k = len(rows)
    return sparse.csr_array((np.ones(k), (np.arange(k), rows + n * columns)), shape=(k, n * n))


# ---------------------------------------------------------------- derivatives checked against their function


@dataclass(frozen=True, eq=False)
class DerivativeCheck:
    """Is it the derivative? True as a condition iff `agrees`, so `assert check_gradient(f, g, x)` means what it says.

    error, tolerance: |given - reference| and what may be there, at the `worst` entry (by their ratio; None is the
    generic direction); in units of f / x or f / x^2. agrees: every entry within its tolerance, and no kink. method:
    "complex step" or "differences". kinks: a sentence for each direction in which the one-sided quotients disagree at
    every step, so that there is nothing to compare with. reference: the derivative found, NaN where there is a kink.
    """

    agrees: bool
    error: float
    tolerance: float
    worst: tuple[Any, ...] | None
    method: str
    kinks: tuple[str, ...]
    reference: np.ndarray

    def __bool__(self) -> bool:
        return self.agrees

    def __repr__(self) -> str:
        said = "; ".join(self.kinks) or f"error {self.error:.1e}, tolerance {self.tolerance:.1e} at {self.worst}"
        return f"DerivativeCheck(agrees={self.agrees}, {self.method}: {said})"


def check_gradient(
    f: Callable[..., Any], gradient: Callable[..., Any] | ArrayLike, x: ArrayLike, *, method: str = "auto"
) -> DerivativeCheck:
    """Compare a gradient (or Jacobian) with the derivative of f at x.

    f: arrays of the shape of x to a number or an array; x: any shape, real. gradient: an array of shape
    f(x).shape + x.shape, or a function of x that returns it.

    differences: central quotients at steps h/4, h/2, h, extrapolated (Richardson) to order 6, along every coordinate
    and one generic direction. The step is the largest h = 0.06 max(1, |x|) / 4^k at which f at +-3h/4 is what those
    values predict, up to noise, and whose quotient the next such step repeats; hence the truncation, 0.31 |r_odd| / h
    for a residual r_odd, is at most a multiple of the noise, and the tolerance is at most 163 noise / h. The noise is
    measured (More & Wild), and is at least eps |f| and eps (|x| + h) |f'|; where no step passes, also eps times the
    largest |f| within 0.06 max(1, |x|). Where none passes then, because f is only C^1, the tolerance is the oscillation
    of the slope over the stencil, which must fall with h; where it does not, the direction has a kink, and the check
    fails and says so. A step that a kink passes because noise drowns it has the kink in its tolerance. A step at which
    f raises ValueError or ArithmeticError, or is not finite, has left its domain and is not taken.
    complex step: Im f(x + i h e) / h at h = 1e-20, which cancels nothing. It is believed only if it agrees with
    differences for which a step passed: abs, a norm or a conjugate makes it silently wrong. Tolerance: 1024 eps times
    the largest of the derivative, noise / eps, and |x| |f''|. To either, 1024 eps of the largest entry, or mean slope
    over 0.06 max(1, |x|), are added for the roundings in `gradient`. method: "auto" takes it where it can be believed.

    Not covered: a kink that neither a coordinate nor the generic direction crosses; one whose slopes differ by less
    than ten tolerances. ValueError for a bad x, gradient or method, for f not finite at x, and for
    "complex step" of an f that is not analytic.
    """
    return _check(f, gradient, x, 1, method)


def check_hessian(
    f: Callable[..., Any], hessian: Callable[..., Any] | ArrayLike, x: ArrayLike, *, method: str = "auto"
) -> DerivativeCheck:
    """Compare a Hessian with the second derivative of f at x, from values of f alone.

    hessian: an array of shape f(x).shape + x.shape + x.shape, or a function of x that returns it. As `check_gradient`,
    with differences of the complex-step gradient where that can be believed (tolerance as there, of the gradient), else
    second differences in every e_i and e_i +- e_j (tolerance at most 2200 noise / h^2 on a diagonal entry). A jump of
    f'' is reported as a kink: x |x| at 0 has the symmetric second difference 0 and no Hessian. A Hessian can also be
    checked as the gradient of a gradient: `check_gradient(gradient, hessian, x)`.
    """
    return _check(f, hessian, x, 2, method)


def _check(f, derivative, x, order, method):
    if method not in ("auto", "complex step", "differences"):
        raise ValueError(f'method must be "auto", "complex step" or "differences"; got {method!r}')
    x = np.asarray(x)
    if x.dtype.kind not in "biuf" or x.size == 0 or not np.all(np.isfinite(x)):
        raise ValueError(f"x must hold finite real numbers, at least one; got dtype {x.dtype}, shape {x.shape}")
    x = x.astype(float)
    shape, name = np.shape(f(x.copy())), ("gradient", "hessian")[order - 1]
    given = np.asarray(derivative(x.copy()) if callable(derivative) else derivative)
    expected = shape + order * x.shape
    if given.shape != expected or given.dtype.kind not in "biuf":
        raise ValueError(f"{name} must be a real array of shape {expected}; got {given.dtype} of shape {given.shape}")

    def flat(y):
        return np.ravel(f(y.reshape(x.shape)))

    point = x.ravel()
    here = flat(point.copy())
    if here.dtype.kind not in "biuf" or not np.all(np.isfinite(here)):
        raise ValueError(f"f must be real and finite at x; got {here}")
    found = None if method == "differences" else _by_complex_step(flat, point, order)
    if found is None and method == "complex step":
        raise ValueError('f is not analytic at x, so its complex step is not its derivative; use "differences"')
    used = "differences" if found is None else "complex step"
    found = found or _by_differences(flat, point, order)
    given = given.reshape(here.size, *order * (x.size,)).astype(float)
    along = given @ found.direction if order == 1 else given @ found.direction @ found.direction
    slopes = np.abs(_around(flat, point, [*np.eye(x.size), _generic(x.size)]) - here) / _reach(point) ** order
    sizes = np.concatenate([np.abs(found.value).ravel(), slopes.ravel()])
    own = 1024 * EPS * np.max(sizes, initial=0.0, where=np.isfinite(sizes))
    errors = np.abs(np.concatenate([(given - found.value).ravel(), along - found.along]))
    allowed = np.concatenate([found.tolerance.ravel(), found.along_tolerance]) + own
    with np.errstate(all="ignore"):
        ratios = np.where(errors == 0, 0.0, errors / allowed)
    worst = int(np.argmax(np.where(np.isnan(ratios), np.inf, ratios)))
    place = tuple(int(k) for k in np.unravel_index(worst, expected)) if worst < given.size else None
    error, tolerance = float(errors[worst]), float(allowed[worst])
    agrees = not found.kinks and error <= tolerance
    return DerivativeCheck(agrees, error, tolerance, place, used, found.kinks, found.value.reshape(expected))


@dataclass(frozen=True, eq=False)
class _Found:
    """value (p, n) or (p, n, n), along (p,) in the generic direction (n,), their tolerances; size: see complex step."""

    value: np.ndarray
    tolerance: np.ndarray
    direction: np.ndarray
    along: np.ndarray
    along_tolerance: np.ndarray
    size: float
    kinks: tuple[str, ...]
    rough: bool  # in some direction no step was clean: a kink, or no more than C^k


def _generic(n):
    rng = np.random.default_rng(0)
    return rng.uniform(0.5, 1.0, n) * rng.choice([-1.0, 1.0], n)


def _by_differences(F, x, order):
    n, unit = len(x), np.eye(len(x))
    named = [(unit[i], f"x[{i}]") for i in range(n)] + [(_generic(n), "a generic direction")]
    if order == 2:
        named += [
            (unit[i] + s * unit[j], f"x[{i}] {'-+'[s > 0]} x[{j}]") for i in range(n) for j in range(i) for s in (1, -1)
        ]
    floor = np.max([_noise(F, x, d) for d, _ in named], axis=0)
    lines = [_line(F, x, d, order, floor) for d, _ in named]
    if any(line[3] for line in lines):  # noise that comes and goes, as of det at a singular matrix, or a kink
        around = np.abs(_around(F, x, [d for d, _ in named]))
        wide = np.maximum(floor, EPS * np.max(np.where(np.isfinite(around), around, 0.0), axis=0))
        lines = [_line(F, x, d, order, wide) if line[3] else line for (d, _), line in zip(named, lines, strict=True)]
    kinks = tuple(f"{name}: {line[3]}" for (_, name), line in zip(named, lines, strict=True) if line[3])
    size, rough = max(line[2] for line in lines), not all(line[4] for line in lines)
    value = np.stack([line[0] for line in lines[:n]], axis=-1)
    tolerance = np.stack([line[1] for line in lines[:n]], axis=-1)
    if order == 2:
        diagonal, slack = value, tolerance
        value, tolerance = (np.zeros((len(value), n, n)) for _ in range(2))
        value[:, range(n), range(n)], tolerance[:, range(n), range(n)] = diagonal, slack
        rest = iter(lines[n + 1 :])
        for i in range(n):
            for j in range(i):
                plus, minus = next(rest), next(rest)
                value[:, i, j] = value[:, j, i] = (plus[0] - minus[0]) / 4
                tolerance[:, i, j] = tolerance[:, j, i] = (plus[1] + minus[1]) / 4
    return _Found(value, tolerance, named[n][0], lines[n][0], lines[n][1], size, kinks, rough)


def _by_complex_step(F, x, order):
    """None where the complex step cannot be believed."""
    first = _imaginary(F, x)
    if first is None:
        return None
    plain = _by_differences(F, x, 1)
    slack = 1024 * EPS * max(np.max(np.abs(first)), plain.size)
    if plain.rough or np.any(np.abs(first - plain.value) > plain.tolerance + slack):
        return None
    if order == 1:
        d = plain.direction
        tolerance = np.full(first.shape, slack)
        return _Found(first, tolerance, d, first @ d, np.full(len(first), slack * np.abs(d).sum()), slack, (), False)

    def gradient(y):
        found = _imaginary(F, y)
        return np.full(first.size, np.nan) if found is None else found.ravel()

    second, n = _by_differences(gradient, x, 1), len(x)
    p = len(first)
    d = second.direction
    return _Found(
        second.value.reshape(p, n, n),
        second.tolerance.reshape(p, n, n),
        d,
        second.along.reshape(p, n) @ d,
        second.along_tolerance.reshape(p, n) @ np.abs(d),
        second.size,
        second.kinks,
        second.rough,
    )


def _imaginary(F, x):
    """Im F(x + i h e_j) / h, (p, n), h = 1e-20; None where F does not take complex numbers."""
    columns, h = [], 1e-20
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("error")  # numpy warns where it drops an imaginary part
        for e in np.eye(len(x)):
            try:
                column = np.imag(np.asarray(F(x + 1j * h * e), dtype=complex)) / h
            except Exception:  # whatever a function of real numbers does with complex ones
                return None
            columns.append(column)
    J = np.stack(columns, axis=-1)
    return J if np.all(np.isfinite(J)) else None


# At t = 1/4, 1/2, 1 (times h) the odd part c1 t + c3 t^3 + c5 t^5 of f along a line, or the even part
# c2 t^2 + c4 t^4 + c6 t^6, is interpolated; c1 = leading . values is Richardson's extrapolation of the central
# quotients, and `predicted` gives the value at 3/4. The interpolation error is a multiple of
# w(t) = t^k (t^2 - 1/16) (t^2 - 1/4) (t^2 - 1), so the residual at 3/4 gives that of the leading coefficient.
STEPS = np.arange(-4, 5) / 4
REACH = 0.06  # the longest step, relative to max(1, |x|)
NOISE = 16.0  # how many times its measured level the noise of one value may be


def _rule(k):
    nodes = np.array([0.25, 0.5, 1.0])
    inverse = np.linalg.inv(np.stack([nodes**k, nodes ** (k + 2), nodes ** (k + 4)], axis=1))
    predicted = np.array([0.75**k, 0.75 ** (k + 2), 0.75 ** (k + 4)]) @ inverse
    return inverse[0], predicted, (1 / 64) / (0.75**k * (9 / 16 - 1 / 16) * (9 / 16 - 1 / 4) * (1 - 9 / 16))


ODD, EVEN = _rule(1), _rule(2)


def _line(F, x, d, order, floor):
    """(k-th derivative of F along d (p,), tolerance (p,), noise / eps + |x| |f''|, what is wrong, is it clean)."""
    unit = _reach(x) / REACH
    tiny = np.abs(x[(d != 0) & (x != 0)]).min(initial=unit)
    steps = [REACH * unit / 4**k for k in range(9 + max(0, int(np.log2(unit / tiny) / 2)))]
    reach = np.max(np.abs(x[d != 0]))  # how far a rounding of x is moved
    rough, last, failed, drowned = [], None, None, False
    for h in steps:
        with np.errstate(all="ignore"):
            values = np.stack([_value(F, x + t * h * d, floor.shape) for t in STEPS])
        if not np.all(np.isfinite(values)):
            rough, last = [], None
            continue
        odd, even = (values - values[::-1])[[5, 6, 8]] / 2, (values + values[::-1])[[5, 6, 8]] / 2 - values[4]
        slope, curvature = ODD[0] @ odd / h, 2 * (EVEN[0] @ even) / h**2
        noise = np.maximum(floor, EPS * (np.max(np.abs(values), axis=0) + (reach + h) * np.abs(slope)))
        off = [
            np.abs(rule[1] @ part - (values[7] + sign * values[1]) / 2 + (sign > 0) * values[4])
            for rule, part, sign in ((ODD, odd, -1), (EVEN, even, 1))
        ]
        slack = [NOISE * noise * c * (1 + np.abs(rule[1]).sum()) for rule, c in ((ODD, 1), (EVEN, 2))]
        clean = all(np.all(r <= s) for r, s in zip(off, slack, strict=True))
        size = float(np.max(noise) / EPS + reach * np.max(np.abs(curvature)))
        if order == 1:
            found, error = slope, (NOISE * noise * np.abs(ODD[0]).sum() + ODD[2] * (off[0] + slack[0])) / h
        else:
            error = 2 * (2 * NOISE * noise * np.abs(EVEN[0]).sum() + EVEN[2] * (off[1] + slack[1])) / h**2
            found = curvature
        if clean:
            # from one step to the next a residual falls by 4^7 where F is smooth, by 4^order at a kink that is
            # about to drown in the noise
            if failed and any(
                np.any((p > s) & (r > p / (2 * 4**order))) for (p, s), r in zip(failed, off, strict=True)
            ):
                drowned = True
                error = error + (off[0] + off[1]) * (4 / h) ** order
            if last is not None and np.all(np.abs(last[0] - found) <= last[1] + error):
                return last
            last = found, error, size, "", not drowned
        else:
            last, drowned, failed = None, False, list(zip(off, slack, strict=True))
        pieces = np.diff(values, n=order, axis=0) * (4 / h) ** order
        swing = np.ptp(pieces, axis=0)
        rough.append((swing, 2 * 2**order * NOISE * noise * (4 / h) ** order, found, error, size, pieces))
    if len(rough) >= 3:
        halved = [np.all(b[0] <= a[0] / 2 + b[1]) for a, b in zip(rough[-3:], rough[-2:], strict=False)]
        if all(halved):  # only C^order: the swing bounds the error
            best = min(rough[-3:], key=lambda r: float(np.max(r[0] + r[1])))
            return best[2], best[3] + best[0], best[4], "", False
    nothing = np.full(floor.shape, np.nan)
    what = ("one-sided quotients", "one-sided second quotients")[order - 1]
    if not rough:
        return nothing, nothing, 0.0, "f is not finite near x", False
    pieces = rough[-1][5]
    k = int(np.argmax(rough[-1][0]))
    said = f"{what} {pieces[0, k]:.6g} and {pieces[-1, k]:.6g} at step {steps[-1]:.1e}"
    return nothing, nothing, 0.0, said, False


def _reach(x):
    return REACH * max(1.0, float(np.max(np.abs(x))))


def _around(F, x, directions):
    """F at the ends of the longest steps, (2 len(directions), p); NaN outside its domain."""
    shape = F(x.copy()).shape
    with np.errstate(all="ignore"):
        return np.stack([_value(F, x + t * _reach(x) * d, shape) for d in directions for t in (1, -1)])


def _value(F, y, shape):
    try:
        return np.asarray(F(y), dtype=float).reshape(shape)
    except (ValueError, ArithmeticError):
        return np.full(shape, np.nan)


def _noise(F, x, d):
    """Level of the noise of F at x along d, (p,): differences of order 6 to 8 over steps where a smooth f has none.

    The lesser of what either side of x shows: a jump at x is not noise.
    """
    shape, step = F(x.copy()).shape, 1e-12 * _reach(x) / REACH
    sides = []
    for side in (step, -step):
        with np.errstate(all="ignore"):
            values = np.stack([_value(F, x + k * side * d, shape) for k in range(1, 13)])
            size = np.max(np.abs(values), axis=0)
            size = np.where((size > 0) & np.isfinite(size), size, 1.0)  # squares of what is left do not overflow
            moves = [np.diff(values / size, n=k, axis=0) for k in (6, 7, 8)]
            levels = [  # C(2k, k) is the sum of the squared weights
                size * np.sqrt(np.mean(m**2, axis=0) / comb(2 * k, k)) for k, m in zip((6, 7, 8), moves, strict=True)
            ]
        sides.append(np.max(levels, axis=0))
    found = np.fmin(*sides)
    return np.where(np.isfinite(found), found, 0.0)
