"""Classic nonsmooth test problems: functions, published starts, optimal values.

[LV00] Luksan, Vlcek. Test problems for nonsmooth unconstrained and linearly constrained optimization. TR 798, Institute
       of Computer Science, Prague (2000), section 2 and 3.
[HMM04] Haarala, Miettinen, Makela. New limited memory bundle method. Optim. Methods Softw. 19 (2004) 673-692: the ten
       problems of any size.
[LW19] Lewis, Wylie. A simple Newton method for local nonsmooth optimization. arXiv 1907.11742 (2019).
[GO12] Gurbuzbalaban, Overton. On Nesterov's nonsmooth Chebyshev-Rosenbrock functions. Nonlinear Anal. 75 (2012).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import autograd.numpy as np
import numpy as onp
from numpy.typing import NDArray


@dataclass(frozen=True)
class Classic:
    """name, f, the published start, the optimal value, where it is from.

    Of El-Attar and the chained Mifflin 2 five to seven digits of the value are published; the rest are our own (the
    latter is convex, so a stationarity of 1e-14 proves them).
    """

    name: str
    f: Callable[..., Any]
    start: onp.ndarray
    optimum: float
    source: str


def _max(*values):
    return np.max(np.array(values))


def cb2(x: NDArray[Any]) -> float:
    return _max(x[0] ** 2 + x[1] ** 4, (2 - x[0]) ** 2 + (2 - x[1]) ** 2, 2 * np.exp(x[1] - x[0]))


def cb3(x: NDArray[Any]) -> float:
    return _max(x[0] ** 4 + x[1] ** 2, (2 - x[0]) ** 2 + (2 - x[1]) ** 2, 2 * np.exp(x[1] - x[0]))


def dem(x: NDArray[Any]) -> float:
    return _max(5 * x[0] + x[1], -5 * x[0] + x[1], x[0] ** 2 + x[1] ** 2 + 4 * x[1])


def ql(x: NDArray[Any]) -> float:
    q = x[0] ** 2 + x[1] ** 2
    return _max(q, q + 10 * (-4 * x[0] - x[1] + 4), q + 10 * (-x[0] - 2 * x[1] + 6))


def lq(x: NDArray[Any]) -> float:
    return np.maximum(-x[0] - x[1], -x[0] - x[1] + x[0] ** 2 + x[1] ** 2 - 1)


def mifflin1(x: NDArray[Any]) -> float:
    return -x[0] + 20 * np.maximum(x[0] ** 2 + x[1] ** 2 - 1, 0)


def mifflin2(x: NDArray[Any]) -> float:
    q = x[0] ** 2 + x[1] ** 2 - 1
    return -x[0] + 2 * q + 1.75 * np.abs(q)


def wolfe(x: NDArray[Any]) -> float:
    """5 sqrt(9 a^2 + 16 b^2) for a >= |b|, 9 a + 16 |b| for 0 < a < |b|, 9 a + 16 |b| - a^9 for a <= 0."""
    import clarke

    a, b = x[0], np.abs(x[1])
    inner = clarke.where(a, 9 * a + 16 * b, 9 * a + 16 * b - a**9)
    return clarke.where(a - b, 5 * np.sqrt(9 * a**2 + 16 * b**2), inner)


def rosen_suzuki(x: NDArray[Any]) -> float:
    f = x[0] ** 2 + x[1] ** 2 + 2 * x[2] ** 2 + x[3] ** 2 - 5 * x[0] - 5 * x[1] - 21 * x[2] + 7 * x[3]
    g1 = x[0] ** 2 + x[1] ** 2 + x[2] ** 2 + x[3] ** 2 + x[0] - x[1] + x[2] - x[3] - 8
    g2 = x[0] ** 2 + 2 * x[1] ** 2 + x[2] ** 2 + 2 * x[3] ** 2 - x[0] - x[3] - 10
    g3 = 2 * x[0] ** 2 + x[1] ** 2 + x[2] ** 2 + 2 * x[0] - x[1] - x[3] - 5
    return _max(f, f + 10 * g1, f + 10 * g2, f + 10 * g3)


_SHOR_A = onp.array(
    [[0, 0, 0, 0, 0], [2, 1, 1, 1, 3], [1, 2, 1, 1, 2], [1, 4, 1, 2, 2], [3, 2, 1, 0, 1],
     [0, 2, 1, 0, 1], [1, 1, 1, 1, 1], [1, 0, 1, 2, 1], [0, 0, 2, 1, 0], [1, 1, 2, 0, 0]], float
)  # fmt: skip
_SHOR_B = onp.array([1, 5, 10, 2, 4, 3, 1.7, 2.5, 6, 3.5])


def shor(x: NDArray[Any]) -> float:
    return np.max(_SHOR_B * np.sum((x - _SHOR_A) ** 2, axis=1))


def _maxquad():
    i = onp.arange(1, 11)
    A, b = onp.zeros((5, 10, 10)), onp.zeros((5, 10))
    for k in range(1, 6):
        for a in i:
            for c in i:
                if a < c:
                    A[k - 1, a - 1, c - 1] = A[k - 1, c - 1, a - 1] = onp.exp(a / c) * onp.cos(a * c) * onp.sin(k)
        for a in i:
            rest = onp.abs(A[k - 1, a - 1]).sum()
            A[k - 1, a - 1, a - 1] = a / 10 * abs(onp.sin(k)) + rest
            b[k - 1, a - 1] = onp.exp(a / k) * onp.sin(a * k)
    return A, b


_MAXQUAD_A, _MAXQUAD_B = _maxquad()


def maxquad(x: NDArray[Any]) -> float:
    return np.max(np.dot(np.dot(_MAXQUAD_A, x), x) - np.dot(_MAXQUAD_B, x))


def maxq(x: NDArray[Any]) -> float:
    return np.max(x**2)


def maxl(x: NDArray[Any]) -> float:
    return np.max(np.abs(x))


def goffin(x: NDArray[Any]) -> float:
    return len(x) * np.max(x) - np.sum(x)


def polak2(x: NDArray[Any]) -> float:
    tail = 4 * x[3] ** 2 + x[2] ** 2 + np.sum(x[4:] ** 2)
    sharp = np.exp(1e-8 * x[0] ** 2 + (x[1] + 2) ** 2 + tail), np.exp(1e-8 * x[0] ** 2 + (x[1] - 2) ** 2 + tail)
    return np.maximum(*sharp)


_EL_T = 0.1 * onp.arange(51)
_EL_Y = (
    0.5 * onp.exp(-_EL_T) - onp.exp(-2 * _EL_T) + 0.5 * onp.exp(-3 * _EL_T)
    + 1.5 * onp.exp(-1.5 * _EL_T) * onp.sin(7 * _EL_T) + onp.exp(-2.5 * _EL_T) * onp.sin(5 * _EL_T)
)  # fmt: skip


def el_attar(x: NDArray[Any]) -> float:
    fit = x[0] * np.exp(-x[1] * _EL_T) * np.cos(x[2] * _EL_T + x[3]) + x[4] * np.exp(-x[5] * _EL_T)
    return np.sum(np.abs(fit - _EL_Y))


def crescent(x: NDArray[Any]) -> float:
    q = x[0] ** 2 + (x[1] - 1) ** 2 - 1
    return np.maximum(q + x[1], -q + x[1])


def spiral(x: NDArray[Any]) -> float:
    r = np.sqrt(x[0] ** 2 + x[1] ** 2)
    tail = 0.005 * (x[0] ** 2 + x[1] ** 2)
    return np.maximum((x[0] - r * np.cos(r)) ** 2 + tail, (x[1] - r * np.sin(r)) ** 2 + tail)


def _hilbert(n):
    i = onp.arange(1, n + 1)
    return 1.0 / (i[:, None] + i[None] - 1)


def mxhilb(x: NDArray[Any]) -> float:
    return np.max(np.abs(np.dot(_hilbert(len(x)), x)))


def l1hilb(x: NDArray[Any]) -> float:
    return np.sum(np.abs(np.dot(_hilbert(len(x)), x)))


def nonsmooth_rosenbrock(x: NDArray[Any]) -> float:
    """8 |x_1^2 - x_2| + (1 - x_1)^2 [LW19]."""
    return 8 * np.abs(x[0] ** 2 - x[1]) + (1 - x[0]) ** 2


# ---------------------------------------------------------------- the ten of any size


def chained_lq(x: NDArray[Any]) -> float:
    a, b = x[:-1], x[1:]
    return np.sum(np.maximum(-a - b, -a - b + a**2 + b**2 - 1))


def _chained_cb3_pieces(x):
    a, b = x[:-1], x[1:]
    return a**4 + b**2, (2 - a) ** 2 + (2 - b) ** 2, 2 * np.exp(b - a)


def chained_cb3_1(x: NDArray[Any]) -> float:
    p, q, r = _chained_cb3_pieces(x)
    return np.sum(np.maximum(np.maximum(p, q), r))


def chained_cb3_2(x: NDArray[Any]) -> float:
    return _max(*(np.sum(p) for p in _chained_cb3_pieces(x)))


def active_faces(x: NDArray[Any]) -> float:
    g = np.log(np.abs(x) + 1)
    return np.maximum(np.log(np.abs(np.sum(x)) + 1), np.max(g))


def nonsmooth_brown2(x: NDArray[Any]) -> float:
    a, b = np.abs(x[:-1]), np.abs(x[1:])
    return np.sum(a ** (x[1:] ** 2 + 1) + b ** (x[:-1] ** 2 + 1))


def chained_mifflin2(x: NDArray[Any]) -> float:
    q = x[:-1] ** 2 + x[1:] ** 2 - 1
    return np.sum(-x[:-1] + 2 * q + 1.75 * np.abs(q))


def _crescents(x):
    q = x[:-1] ** 2 + (x[1:] - 1) ** 2
    return q + x[1:] - 1, -q + x[1:] + 1


def chained_crescent_1(x: NDArray[Any]) -> float:
    p, q = _crescents(x)
    return np.maximum(np.sum(p), np.sum(q))


def chained_crescent_2(x: NDArray[Any]) -> float:
    return np.sum(np.maximum(*_crescents(x)))


def _alternating(n, odd, even):
    return onp.where(onp.arange(n) % 2 == 0, float(odd), float(even))


def _signed(n):
    i = onp.arange(1.0, n + 1)
    return onp.where(i <= n / 2, i, -i)


def scalable(n: int = 50) -> list[Classic]:
    """The ten problems of [HMM04] with n variables."""
    ones = onp.ones(n)
    source = "HMM04"
    mifflin = {50: MIFFLIN2_50}.get(n, onp.nan)
    return [
        Classic(f"{name} {n}", f, start, value, source)
        for name, f, start, value in [
            ("generalized MAXQ", maxq, _signed(n), 0.0),
            ("generalized MXHILB", mxhilb, ones, 0.0),
            ("chained LQ", chained_lq, -0.5 * ones, -(n - 1) * 2**0.5),
            ("chained CB3 I", chained_cb3_1, 2 * ones, 2.0 * (n - 1)),
            ("chained CB3 II", chained_cb3_2, 2 * ones, 2.0 * (n - 1)),
            ("active faces", active_faces, ones, 0.0),
            ("nonsmooth Brown 2", nonsmooth_brown2, _alternating(n, -1, 1), 0.0),
            ("chained Mifflin 2", chained_mifflin2, -ones, mifflin),
            ("chained crescent I", chained_crescent_1, _alternating(n, -1.5, 2), 0.0),
            ("chained crescent II", chained_crescent_2, _alternating(n, -1.5, 2), 0.0),
        ]
    ]


MIFFLIN2_50 = -34.795181409548  # [HMM04]: -34.795

_i10, _i20, _i50 = (onp.arange(1.0, n + 1) for n in (10, 20, 50))


def fixed() -> list[Classic]:
    """The problems of fixed size."""
    return [
        Classic("CB2", cb2, onp.array([1.0, -0.1]), 1.9522244938706, "LV00 2.2"),
        Classic("CB3", cb3, onp.array([2.0, 2.0]), 2.0, "LV00"),
        Classic("DEM", dem, onp.array([1.0, 1.0]), -3.0, "LV00"),
        Classic("QL", ql, onp.array([-1.0, 5.0]), 7.2, "LV00"),
        Classic("LQ", lq, onp.array([-0.5, -0.5]), -(2**0.5), "LV00"),
        Classic("Mifflin 1", mifflin1, onp.array([0.8, 0.6]), -1.0, "LV00"),
        Classic("Mifflin 2", mifflin2, onp.array([-1.0, -1.0]), -1.0, "LV00"),
        Classic("Wolfe", wolfe, onp.array([3.0, 2.0]), -8.0, "LV00"),
        Classic("Rosen-Suzuki", rosen_suzuki, onp.zeros(4), -44.0, "LV00"),
        Classic("Shor", shor, onp.array([0.0, 0, 0, 0, 1]), 22.600162095910, "LV00"),
        Classic("Maxquad", maxquad, onp.ones(10), -0.84140833459641, "LV00"),
        Classic("Maxq", maxq, onp.where(_i20 <= 10, _i20, -_i20), 0.0, "LV00"),
        Classic("Maxl", maxl, onp.where(_i20 <= 10, _i20, -_i20), 0.0, "LV00"),
        Classic("Goffin", goffin, _i50 - 25.5, 0.0, "LV00"),
        Classic("Polak 2", polak2, onp.concatenate([[100.0], 0.1 * onp.ones(9)]), 54.598150033144, "LV00"),
        Classic("El-Attar", el_attar, onp.array([2.0, 2, 7, 0, -2, 1]), 0.55981306536072, "LV00"),
        Classic("crescent", crescent, onp.array([-1.5, 2.0]), 0.0, "LV00"),
        Classic("spiral", spiral, onp.array([1.411831, -4.79462]), 0.0, "LV00"),
        Classic("MXHILB", mxhilb, onp.ones(50), 0.0, "LV00"),
        Classic("L1HILB", l1hilb, onp.ones(50), 0.0, "LV00"),
        Classic("nonsmooth Rosenbrock", nonsmooth_rosenbrock, onp.array([-1.2, 1.0]), 0.0, "LW19"),
    ]


def suite() -> list[Classic]:
    return fixed() + scalable(50)
