"""Derivatives in closed form: the examples 5.13 to 5.33 of Kornilov's seminar on matrix calculus, as a table.

`differential(name, **parameters)` is one function of the table with its parameters fixed: its value, its derivative as
a tensor of shape f(x).shape + x.shape (for scalar f the gradient, of the shape of x), its second derivative of shape
f(x).shape + x.shape + x.shape, and the differentials df(x)[h] and d2f(x)[h1, h2]. x is a number, a vector or a matrix
as the entry says, never flattened; `T.reshape(-1, x.size, order="F")` is the matrix d vec(f) / d vec(x)^T.

Inner products are the standard ones. The seminar says (5.2.2 and the tables of 5.3.1) that its tables hold for every
inner product. They do not: in <u, v>_M = u^T M v, M symmetric positive definite, the gradient of <Ax, x>_M is
(A + M^-1 A^T M) x, so for M = diag(1, 2), A = [[0, 1], [0, 0]], x = (1, 1) it is (1, 1/2), and (A + A^T) x = (1, 1).

What else the seminar gets wrong stands in the `note` of the entry.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from .primitives import RESOLUTION, NotPiecewiseSmooth


@dataclass(frozen=True, eq=False)
class Rules:
    """What an entry is made of once its parameters are fixed.

    shape: of x; numbers are fixed, letters free, equal letters equal. value takes complex x too, so that a complex step
    may be taken. require(x), before any derivative: raises where there is none.
    """

    shape: tuple[Any, ...]
    value: Callable[..., Any]
    jacobian: Callable[..., Any]
    hessian: Callable[..., Any]
    require: Callable[..., Any] = lambda x: None


@dataclass(frozen=True, eq=False)
class Entry:
    """One line of the table: source in the seminar, the formula, its parameters in words, and what to know about it."""

    name: str
    source: str
    formula: str
    parameters: Mapping[str, str]
    domain: str
    note: str
    rules: Callable[..., Any] = field(repr=False)


@dataclass(frozen=True, eq=False)
class Differential:
    """A function of the table with its parameters fixed; every array returned is new.

    Raises ValueError for an x that is not real (f(x) itself takes complex x), not finite, of another shape or outside
    `entry.domain`, and `NotPiecewiseSmooth` where there is no derivative and no finite set of smooth pieces either,
    like a norm at 0.
    """

    entry: Entry
    rules: Rules = field(repr=False)

    def __call__(self, x: ArrayLike) -> Any:
        """f(x)."""
        return self.rules.value(self._point(x, complex_too=True))

    def jacobian(self, x: ArrayLike) -> np.ndarray:
        """The derivative, of shape f(x).shape + x.shape."""
        x = self._point(x)
        self.rules.require(x)
        return np.array(self.rules.jacobian(x), dtype=float)

    def gradient(self, x: ArrayLike) -> np.ndarray:
        """The same for scalar f, of the shape of x; ValueError for an f that returns an array."""
        if np.ndim(self(x)):
            raise ValueError(f"{self.entry.name} returns an array, which has no gradient; use jacobian")
        return self.jacobian(x)

    def hessian(self, x: ArrayLike) -> np.ndarray:
        """The second derivative, of shape f(x).shape + x.shape + x.shape."""
        x = self._point(x)
        self.rules.require(x)
        return np.array(self.rules.hessian(x), dtype=float)

    def first(self, x: ArrayLike, h: ArrayLike) -> np.ndarray:
        """df(x)[h], of the shape of f(x)."""
        return _applied(self.jacobian(x), self._step(h, x, "h"))

    def second(self, x: ArrayLike, h1: ArrayLike, h2: ArrayLike) -> np.ndarray:
        """d2f(x)[h1, h2], of the shape of f(x); symmetric and bilinear."""
        return _applied(_applied(self.hessian(x), self._step(h2, x, "h2")), self._step(h1, x, "h1"))

    def _point(self, x, complex_too=False):
        array = np.asarray(x)
        if array.dtype.kind not in ("biufc" if complex_too else "biuf"):
            raise ValueError(f"x must hold real numbers; got dtype {array.dtype}")
        if not array.size or not np.all(np.isfinite(array)):
            raise ValueError(f"x must be finite and nonempty; got shape {array.shape}")
        if not _fits(array.shape, self.rules.shape):
            wanted = ", ".join(map(str, self.rules.shape))
            raise ValueError(f"x must have shape ({wanted}) for {self.entry.name}; got {array.shape}")
        return array.astype(complex if array.dtype.kind == "c" else float)

    @staticmethod
    def _step(h, x, name):
        array = np.asarray(h)
        if array.shape != np.shape(x) or array.dtype.kind not in "biuf":
            raise ValueError(f"{name} must be real, of the shape {np.shape(x)} of x; got {array.dtype} {array.shape}")
        return array.astype(float)


def _applied(tensor, h):
    return np.tensordot(tensor, h, axes=h.ndim)


def _fits(shape, wanted):
    known: dict[Any, int] = {}
    return len(shape) == len(wanted) and all(
        have == (want if isinstance(want, int) else known.setdefault(want, have))
        for have, want in zip(shape, wanted, strict=True)
    )


_TABLE: dict[str, Entry] = {}
TABLE: Mapping[str, Entry] = MappingProxyType(_TABLE)


def differential(name: str, **parameters: Any) -> Differential:
    """The function `name` of `TABLE` with its parameters; `TABLE[name].parameters` says what they are.

    ValueError for a name that is not in the table, for a parameter missing, unknown, not finite or of a wrong shape.
    """
    if name not in _TABLE:
        raise ValueError(f"there is no {name!r} in the table; it has {', '.join(_TABLE)}")
    entry = _TABLE[name]
    if set(parameters) != set(entry.parameters):
        needs = ", ".join(f"{k}: {v}" for k, v in entry.parameters.items()) or "none"
        raise ValueError(f"{name} takes the parameters ({needs}); got ({', '.join(parameters)})")
    sizes: dict[str, int] = {}
    given = {k: _parameter(name, k, entry.parameters[k], v, sizes) for k, v in parameters.items()}
    return Differential(entry, entry.rules(**given))


def _parameter(name, key, kind, value, sizes):
    if kind == "a Differential of vectors":
        if not isinstance(value, Differential) or len(value.rules.shape) != 1:
            raise ValueError(f"{key} of {name} must be {kind}; got {type(value).__name__}")
        return value
    array, letters = np.asarray(value), kind.split()[1:]
    if array.dtype.kind not in "biuf" or not array.size or not np.all(np.isfinite(array)):
        came = f"dtype {array.dtype}, shape {array.shape}"
        raise ValueError(f"{key} of {name} must hold finite real numbers, at least one; got {came}")
    known = [sizes.get(letter, letter) for letter in letters]
    if not _fits(array.shape, known):
        raise ValueError(f"{key} of {name} must have shape ({', '.join(map(str, known))}); got {array.shape}")
    sizes.update(zip(letters, array.shape, strict=True))
    return array.astype(float)


def _enter(name, source, formula, domain="", note="", **parameters):
    """Decorator of rules; a parameter is described as "array m n", one letter an axis."""

    def enter(rules):
        _TABLE[name] = Entry(name, source, formula, MappingProxyType(parameters), domain, note, rules)
        return rules

    return enter


# ---------------------------------------------------------------- what entries share


def _zero(*shape):
    return lambda x: np.zeros((*shape, *2 * x.shape))


def _square(x):
    return np.sum(x * x)  # not a norm: analytic, and a complex step passes


def _length(x):
    """The root of `_square`, scaled so that no square overflows or vanishes."""
    scale = np.max(np.abs(x.real))
    return scale * np.sqrt(_square(x / scale)) if scale else np.sqrt(_square(x))


def _sigmoid(z):
    """1 / (1 + exp(-z)), to relative accuracy on either side; 1 - it is that of -z."""
    return np.exp(-_softplus(-z))


def _softplus(z):
    """ln(1 + exp(z)) without overflow, analytic near the real axis."""
    return np.log1p(np.exp(-z)) + z if np.real(z) > 0 else np.log1p(np.exp(z))


def _require_regular(name):
    def require(X):
        values = np.linalg.svd(X, compute_uv=False)
        if values[-1] <= len(X) * np.finfo(float).eps * values[0]:
            raise ValueError(f"{name} is defined for invertible X; this one is singular to working precision")

    return require


def _require_length(length, scale, name):
    if length <= RESOLUTION * scale or scale == 0:
        raise NotPiecewiseSmooth(
            f"{name} vanishes here: its one-sided derivative is not linear in the direction, so there is no gradient, "
            "and no finite set of smooth pieces; square it"
        )


def _trace_form(P, Q):
    """T with <H, T K> = Tr(P H Q K), as T[i, j, k, l]."""
    return np.einsum("li,jk->ijkl", P, Q)


def _both(T):
    """T(H, K) + T(K, H)."""
    return T + T.transpose(2, 3, 0, 1)


# ---------------------------------------------------------------- 5.13: from the definition


@_enter("linear", "Example 5.13 a", "<c, x>", c="array n")
def _linear(c):
    return Rules(c.shape, lambda x: c @ x, lambda x: c, _zero())


@_enter("quadratic_form", "Example 5.13 b", "<A x, x>", note="A need not be symmetric.", A="array n n")
def _quadratic_form(A):
    return Rules((len(A),), lambda x: x @ A @ x, lambda x: (A + A.T) @ x, lambda x: A + A.T)


@_enter("matrix_linear", "Section 5.1 and the table of 5.3.1", "<A, X> = Tr(A^T X)", A="array m n")
def _matrix_linear(A):
    return Rules(A.shape, lambda X: np.sum(A * X), lambda X: A, _zero())


@_enter("trace", "Table of 5.3.1", "Tr X")
def _trace():
    return Rules(("n", "n"), np.trace, lambda X: np.eye(len(X)), _zero())


@_enter("inverse", "Example 5.13 c", "X^-1", domain="X invertible")
def _inverse():
    """dY[H] = -Y H Y and d2Y[H, K] = Y H Y K Y + Y K Y H Y, for Y = X^-1."""

    def hessian(X):
        Y = np.linalg.inv(X)
        T = np.einsum("ai,jk,lb->abijkl", Y, Y, Y)
        return T + T.transpose(0, 1, 4, 5, 2, 3)

    def jacobian(X):
        Y = np.linalg.inv(X)
        return -np.einsum("ai,jb->abij", Y, Y)

    require = _require_regular("X^-1")

    def value(X):
        require(X.real)
        return np.linalg.inv(X)

    return Rules(("n", "n"), value, jacobian, hessian, require)


def _minors(X):
    """(U, s, Vt, sign): X = U diag(s) Vt and sign = det U det Vt, so that det X = sign prod(s)."""
    U, s, Vt = np.linalg.svd(X)
    return U, s, Vt, np.linalg.det(U) * np.linalg.det(Vt)


def _cofactors(X):
    """Adj(X)^T, the gradient of det, at singular X too: sign U diag(prod of the other s) Vt."""
    U, s, Vt, sign = _minors(X)
    others = [np.prod(np.delete(s, i)) for i in range(len(s))]
    return sign * (U * others) @ Vt


def _second_cofactors(X):
    """The second derivative of det, at singular X too: sum over a != b of prod(other s) (h_aa k_bb - h_ab k_ba)."""
    U, s, Vt, sign = _minors(X)
    n = len(s)
    w = np.array([[np.prod(np.delete(s, [a, b])) if a != b else 0.0 for b in range(n)] for a in range(n)])
    same = np.einsum("ab,ia,aj,kb,bl->ijkl", w, U, Vt, U, Vt)
    crossed = np.einsum("ab,ia,bj,kb,al->ijkl", w, U, Vt, U, Vt)
    return sign * (same - crossed)


@_enter(
    "det",
    "Example 5.13 d and formula (20)",
    "det X",
    note="The expansion of det(I + A) sums over i < j (and i < j < k, ...); the seminar prints i <= j, which for n = 1 "
    "adds a^2 to 1 + a. The bound |lambda| <= |A| is argued with a real eigenvector, which [[0, -1], [1, 0]] does "
    "not have; with a complex one, or with any submultiplicative norm, it holds. Jacobi's formula holds for every "
    "X, and so do the derivatives here: they are computed from the singular values, not from X^-1.",
)
def _det():
    return Rules(("n", "n"), np.linalg.det, _cofactors, _second_cofactors)


# ---------------------------------------------------------------- 5.14 to 5.21: functions of a vector


@_enter(
    "quadratic", "Example 5.14", "<A x, x> / 2 + <b, x> + c", A="array n n", b="array n", c="array",
    note="A need not be symmetric: the Hessian is (A + A^T) / 2.",
)  # fmt: skip
def _quadratic(A, b, c):
    S = (A + A.T) / 2
    return Rules(b.shape, lambda x: x @ A @ x / 2 + b @ x + c, lambda x: S @ x + b, lambda x: S)


@_enter("residual", "Example 5.14, its end", "|A x - b|^2 / 2", A="array m n", b="array m")
def _residual(A, b):
    return Rules(A.shape[1:], lambda x: _square(A @ x - b) / 2, lambda x: A.T @ (A @ x - b), lambda x: A.T @ A)


@_enter(
    "log_quadratic", "Example 5.15", "ln <A x, x>, A symmetric positive definite", domain="x != 0", A="array n n",
    note="The seminar lets x be any vector; ln <A 0, 0> is not defined.",
)  # fmt: skip
def _log_quadratic(A):
    if not _positive_definite(A):
        raise ValueError("A of log_quadratic must be symmetric positive definite")

    def value(x):
        require(x.real)
        scale, u = scaled(x)
        return np.log(u @ A @ u) + 2 * np.log(scale)

    def require(x):
        if not np.any(x):
            raise ValueError("ln <A x, x> is not defined at x = 0")

    def scaled(x):
        scale = np.max(np.abs(x.real))  # so that <A x, x> neither overflows nor vanishes
        return scale, x / scale

    def jacobian(x):
        scale, u = scaled(x)
        return 2 * (A @ u) / (u @ A @ u) / scale

    def hessian(x):
        scale, u = scaled(x)
        y = A @ u / (u @ A @ u)
        return (2 * A / (u @ A @ u) - 4 * np.outer(y, y)) / scale / scale

    return Rules((len(A),), value, jacobian, hessian, require)


def _positive_definite(A):
    if np.max(np.abs(A - A.T)) > RESOLUTION * np.max(np.abs(A)):
        return False
    return bool(np.linalg.eigvalsh((A + A.T) / 2)[0] > 0)


@_enter(
    "norm", "Examples 5.7 and 5.16", "|x|_2", domain="derivatives: x != 0",
    note="At 0 the one-sided derivative along h is |h|, not linear in h, and NotPiecewiseSmooth is raised. (The "
    "seminar writes it Df(0)[h] in 5.7 and as a two-sided limit in 5.16; neither exists.)",
)  # fmt: skip
def _norm():
    def hessian(x):
        r = _length(x)
        return (np.eye(len(x)) - np.outer(x / r, x / r)) / r

    return Rules(
        ("n",),
        _length,
        lambda x: x / _length(x),
        hessian,
        lambda x: _require_length(_length(x), _length(x), "|x|_2"),
    )


@_enter(
    "norm_cubed", "Example 5.17", "|x|_2^3 / 3",
    note="Twice continuously differentiable, with Hessian 0 at 0, where the formula x x^T / |x| + |x| I is 0 / 0.",
)  # fmt: skip
def _norm_cubed():
    def hessian(x):
        r = _length(x)
        return np.outer(x, x / r) + r * np.eye(len(x)) if r else np.zeros((len(x), len(x)))

    return Rules(("n",), lambda x: _length(x) ** 3 / 3, lambda x: _length(x) * x, hessian)


@_enter("softmax", "Example 5.18", "exp(x) / sum exp(x)")
def _softmax():
    def value(x):
        e = np.exp(x - np.max(x.real))
        return e / np.sum(e)

    def centered(s):
        """delta_kj - s_j: 1 - s_k is the sum of the others, so that a confident s loses no digits."""
        away = np.tile(-s, (len(s), 1))
        np.fill_diagonal(away, (1.0 - np.eye(len(s))) @ s)
        return away

    def jacobian(x):
        s = value(x)
        return s[:, None] * centered(s)

    def hessian(x):
        """s_k (delta_kj - s_j) differentiated: (delta_ki - s_i) (delta_kj - s_j) s_k - s_k J_ji."""
        s, J = value(x), jacobian(x)
        away = centered(s)
        return np.einsum("k,kj,ki->kji", s, away, away) - np.einsum("k,ji->kji", s, J)

    return Rules(("n",), value, jacobian, hessian)


@_enter("sum_of_sines", "Example 5.19", "sum_i sin x_i")
def _sum_of_sines():
    return Rules(("n",), lambda x: np.sum(np.sin(x)), np.cos, lambda x: np.diag(-np.sin(x)))


@_enter(
    "logistic", "Example 5.20", "ln(1 + exp <a, x>)", a="array n",
    note="The Hessian is s (1 - s) a a^T with s (1 - s) in (0, 1/4]; the seminar prints (0, 0.25), but 1/4 is attained "
    "wherever <a, x> = 0.",
)  # fmt: skip
def _logistic(a):
    def hessian(x):
        return _sigmoid(a @ x) * _sigmoid(-(a @ x)) * np.outer(a, a)

    return Rules(a.shape, lambda x: _softplus(a @ x), lambda x: _sigmoid(a @ x) * a, hessian)


@_enter(
    "log_likelihood", "Section 5.5.1", "-ln(1 + exp(-y <w, x>)), a function of w", x="array n", y="array",
    note="The seminar calls it the logistic regression's loss. It is the log-likelihood, concave and unbounded below "
    "(y = x = 1, w -> -infinity), to be maximized; the loss is minus it.",
)  # fmt: skip
def _log_likelihood(x, y):
    def hessian(w):
        z = y * (w @ x)
        return -_sigmoid(-z) * _sigmoid(z) * y**2 * np.outer(x, x)

    return Rules(x.shape, lambda w: -_softplus(-y * (w @ x)), lambda w: y * _sigmoid(-y * (w @ x)) * x, hessian)


@_enter(
    "along_line", "Example 5.21", "f(x + alpha p), a function of the number alpha",
    f="a Differential of vectors", x="array n", p="array n",
)  # fmt: skip
def _along_line(f, x, p):
    def hessian(alpha):
        return f.second(x + alpha * p, p, p)

    return Rules((), lambda alpha: f(x + alpha * p), lambda alpha: f.first(x + alpha * p, p), hessian)


# ---------------------------------------------------------------- 5.22 to 5.28: functions of a matrix


@_enter(
    "frobenius", "Example 5.22", "|A X - B|_F", domain="derivatives: A X != B", A="array m k", B="array m n",
    note="The seminar does not exclude A X = B, where its gradient is 0 / 0 and the function is not differentiable "
    "unless A = 0; NotPiecewiseSmooth is raised there.",
)  # fmt: skip
def _frobenius(A, B):
    def parts(X):
        R = A @ X - B
        return R, _length(R)

    def jacobian(X):
        R, r = parts(X)
        return A.T @ (R / r)

    def hessian(X):
        R, r = parts(X)
        G = A.T @ (R / r)
        return (np.einsum("ik,jl->ijkl", A.T @ A, np.eye(B.shape[1])) - np.einsum("ij,kl->ijkl", G, G)) / r

    def require(X):
        size = _length(np.abs(A) @ np.abs(X) + np.abs(B))
        _require_length(parts(X)[1], size, "|A X - B|_F")

    return Rules((A.shape[1], B.shape[1]), lambda X: _length(A @ X - B), jacobian, hessian, require)


@_enter(
    "trace_conjugation", "Example 5.23", "Tr(A X B X^-1)", domain="X invertible", A="array n n", B="array n n",
    note="The gradient is right; on the way the seminar prints <I, A d(A X B X^-1)> for <I, A d(X B X^-1)>.",
)  # fmt: skip
def _trace_conjugation(A, B):
    require = _require_regular("Tr(A X B X^-1)")

    def value(X):
        require(X.real)
        return np.trace(A @ X @ B @ np.linalg.inv(X))

    def jacobian(X):
        Y = np.linalg.inv(X)
        return (B @ Y @ A - Y @ A @ X @ B @ Y).T

    def hessian(X):
        """-Tr(A H B Y K Y) + Tr(A X B Y H Y K Y), each with H and K exchanged added."""
        Y = np.linalg.inv(X)
        return _both(_trace_form(Y @ A @ X @ B @ Y, Y) - _trace_form(Y @ A, B @ Y))

    return Rules((len(A), len(A)), value, jacobian, hessian, require)


@_enter("trace_gram", "Example 5.24", "Tr(A X^T X), X (m, n)", A="array n n")
def _trace_gram(A):
    S = A + A.T
    return Rules(
        ("m", len(A)),
        lambda X: np.sum((X @ A) * X),
        lambda X: X @ S,
        lambda X: np.einsum("ik,jl->ijkl", np.eye(len(X)), S),
    )


@_enter(
    "log_det", "Example 5.25", "ln det X", domain="values: det X > 0; derivatives: X symmetric positive definite",
    note="Concave on the symmetric matrices, as the seminar shows: d2f[H, H] = -|X^-1/2 H X^-1/2|_F^2. Not beyond "
    "them: for antisymmetric H it is +|X^-1/2 H X^-1/2|_F^2. The tensors here are those of all matrices, of which the "
    "symmetric ones are a subspace.",
)  # fmt: skip
def _log_det():
    def value(X):
        if np.linalg.slogdet(X.real)[0] <= 0:
            raise ValueError("ln det X is defined for det X > 0")
        sign, size = np.linalg.slogdet(X)
        return size + np.log(sign) if np.iscomplexobj(X) else size

    def require(X):
        if not _positive_definite(X):
            raise ValueError("the derivatives of ln det X are given at symmetric positive definite X; this one is not")

    def hessian(X):
        Y = np.linalg.inv(X)
        return -_trace_form(Y, Y)

    return Rules(("n", "n"), value, lambda X: np.linalg.inv(X).T, hessian, require)


@_enter(
    "det_of_inverse", "Example 5.26", "det(A X^-1 B)", domain="X invertible", A="array p n", B="array n p",
    note="The seminar asks for an invertible A X^-1 B. That is not needed: with the adjugate in place of "
    "det(M) M^-1, as here, the gradient -X^-T A^T Adj(A X^-1 B)^T B^T X^-T holds wherever X^-1 exists.",
)  # fmt: skip
def _det_of_inverse(A, B):
    require = _require_regular("det(A X^-1 B)")

    def value(X):
        require(X.real)
        return np.linalg.det(A @ np.linalg.inv(X) @ B)

    def jacobian(X):
        Y = np.linalg.inv(X)
        return -((A @ Y).T @ _cofactors(A @ Y @ B) @ (Y @ B).T)

    def hessian(X):
        """d2 det(M)[dM[H], dM[K]] + <Adj(M)^T, A (Y K Y H Y + Y H Y K Y) B>, dM[H] = -A Y H Y B."""
        Y = np.linalg.inv(X)
        left, right, M = A @ Y, Y @ B, A @ Y @ B
        inner = right @ _cofactors(M).T @ left
        T = np.einsum("pi,jq,pqrs,rk,ls->ijkl", left, right, _second_cofactors(M), left, right)
        return T + _both(_trace_form(inner, Y))

    return Rules((A.shape[1], A.shape[1]), value, jacobian, hessian, require)


@_enter("product", "Example 5.27", "A x, a function of A (m, n)", x="array n")
def _product(x):
    """The derivative of entry k in A_ij is delta_ki x_j: a tensor (m, m, n)."""
    return Rules(
        ("m", len(x)),
        lambda A: A @ x,
        lambda A: np.einsum("ki,j->kij", np.eye(len(A)), x),
        lambda A: np.zeros((len(A), *2 * A.shape)),
    )


@_enter(
    "spectral_norm", "Example 5.28", "|A|_2 = sqrt lambda_max(A^T A)",
    domain="derivatives: largest singular value simple",
    note="The maximum in the definition (21) is over x != 0. The seminar stops at the value; where the largest "
    "singular value is simple it is smooth, with gradient u v^T, and where it is not, NotPiecewiseSmooth is raised.",
)  # fmt: skip
def _spectral_norm():
    def value(A):
        if not np.iscomplexobj(A):
            return np.linalg.norm(A, 2)
        values = np.linalg.eigvals(A.T @ A)  # the analytic continuation: no conjugate
        return np.sqrt(values[np.argmax(values.real)])

    def jacobian(A):
        U, _, Vt = np.linalg.svd(A)
        return np.outer(U[:, 0], Vt[0])

    def hessian(A):
        """sum_j (s_1 (a_j^2 + b_j^2) + 2 s_j a_j b_j) / (s_1^2 - s_j^2), a_j = <u_j, H v_1>, b_j = <u_1, H v_j>."""
        U, s, Vt = np.linalg.svd(A)
        m, n = A.shape
        T = np.zeros((m, n, m, n))
        for j in range(1, max(m, n)):
            low = s[j] if j < len(s) else 0.0
            a = np.outer(U[:, j], Vt[0]) if j < m else np.zeros((m, n))
            b = np.outer(U[:, 0], Vt[j]) if j < n else np.zeros((m, n))
            square = s[0] * (_pair(a, a) + _pair(b, b)) + low * (_pair(a, b) + _pair(b, a))
            T += square / ((s[0] - low) * (s[0] + low))
        return T

    def require(A):
        s = np.linalg.svd(A, compute_uv=False)
        _require_length(s[0], s[0], "|A|_2")
        if len(s) > 1 and s[0] - s[1] <= RESOLUTION * s[0]:
            raise NotPiecewiseSmooth(
                f"the largest singular value is multiple here ({s[0]:.6g} and {s[1]:.6g}): the norm has no gradient, "
                "and no finite set of smooth pieces"
            )

    return Rules(("m", "n"), value, jacobian, hessian, require)


def _pair(a, b):
    return np.einsum("ij,kl->ijkl", a, b)


# ---------------------------------------------------------------- 5.30 to 5.33: applications


@_enter(
    "least_squares", "Example 5.30", "|y - A x|^2", A="array m n", y="array m",
    note="The most probable x only if the noise is Gaussian, which the seminar does not say.",
)  # fmt: skip
def _least_squares(A, y):
    return Rules(A.shape[1:], lambda x: _square(y - A @ x), lambda x: -2 * A.T @ (y - A @ x), lambda x: 2 * A.T @ A)


@_enter(
    "regularized_unit", "Examples 5.32 and 5.33",
    "(sigma(<w, x> + b) - t)^2 / 2 + lam |w|^2 / 2, a function of the concatenated (x, w, b)",
    t="array", lam="array",
    note="Section 5.5.2 sums the backward pass over the descendants of a vertex; it must be its children: along "
    "u3 = u2 = u1 the sum over descendants of total derivatives is 2. Section 5.5.3 says that all u_i must be stored; "
    "checkpointing recomputes them instead. Section 5.5.4 says that a forward pass stores one layer only; with a skip "
    "connection it must keep what later layers still need.",
)  # fmt: skip
def _regularized_unit(t, lam):
    def split(v):
        n = (len(v) - 1) // 2
        if len(v) != 2 * n + 1 or n < 1:
            raise ValueError(f"regularized_unit takes (x, w, b) of length 2 n + 1, n >= 1; got length {len(v)}")
        return v[:n], v[n:-1], v[-1]

    def value(v):
        x, w, b = split(v)
        return (_sigmoid(w @ x + b) - t) ** 2 / 2 + lam * (w @ w) / 2

    def parts(v):
        x, w, b = split(v)
        s = _sigmoid(w @ x + b)
        slope = s * _sigmoid(-(w @ x + b))
        outer = slope**2 + (s - t) * slope * (1 - 2 * s)
        return np.concatenate([w, x, [1.0]]), (s - t) * slope, outer, np.concatenate([0 * x, w, [0.0]])

    def jacobian(v):
        dz, first, _, own = parts(v)
        return first * dz + lam * own

    def hessian(v):
        dz, first, second, _ = parts(v)
        n = (len(v) - 1) // 2
        H = second * np.outer(dz, dz)
        i = np.arange(n)
        H[i, n + i] += first
        H[n + i, i] += first
        H[n + i, n + i] += lam
        return H

    return Rules(("2n+1",), value, jacobian, hessian)
