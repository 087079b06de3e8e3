"""Claims of the seminar of Kornilov: closed-form derivatives, and passes over a graph.

Three sides to an example: the derivative as the seminar prints it, the library's closed form, and a complex step of the
function written out here: Im f(x + i t h) / t for the first derivative, where nothing is subtracted and t is 1e-30, and
Cauchy's formula on a circle of such steps for the second.
"""

from collections.abc import Callable
from itertools import combinations, permutations
from typing import Any

import autograd.numpy as anp
import numpy as np
from numpy.typing import NDArray

from ..differentials import differential
from ..passes import cost, hvp, jacobian, jvp, vjp
from ..primitives import NotPiecewiseSmooth
from .references import dyadic
from .statements import AMENDED, FAILS, HOLDS, Case, Evidence, assume, at_most, claim, equal, worst

PAPER = "kornilov"
STEP = 1e-30
ROUNDING = 1e-12  # of a coefficient that may attain 1/4
RADIUS, POINTS = 1 / 64, 16  # of the circle: its error is of order 2 (RADIUS / R)^14, R the distance of singularities


# ---------------------------------------------------------------- derivatives from values


def units(x: np.ndarray) -> NDArray[np.float64]:
    """The entries' directions, in C order."""
    return np.eye(np.size(x)).reshape(-1, *np.shape(x))


def along(f: Callable[..., Any], x: np.ndarray, h: np.ndarray) -> float:
    """df(x)[h] by a complex step."""
    return np.imag(f(x + 1j * STEP * h)) / STEP


def slopes(f: Callable[..., Any], x: np.ndarray) -> NDArray[np.float64]:
    """The derivative, of shape f(x).shape + x.shape."""
    columns = [along(f, x, e) for e in units(x)]
    return np.stack(columns, axis=-1).reshape(np.shape(columns[0]) + np.shape(x))


def bend(f: Callable[..., Any], x: Any, h: Any) -> Any:
    """d2f(x)[h, h] = (2 / r^2) times the mean of f(x + r w h) / w^2 over the circle of w."""
    w = np.exp(2j * np.pi * np.arange(POINTS) / POINTS)
    return 2 / RADIUS**2 * np.real(np.mean([f(x + RADIUS * z * h) / z**2 for z in w], axis=0))


def mixed(f: Callable[..., Any], x: Any, h: Any, k: Any) -> Any:
    """d2f(x)[h, k], by polarization."""
    return (bend(f, x, h + k) - bend(f, x, h - k)) / 4


def curvatures(f: Callable[..., Any], x: Any) -> Any:
    """The Hessian of scalar f, of shape x.shape + x.shape."""
    e, n = units(x), np.size(x)
    H = np.zeros((n, n))
    for i in range(n):
        H[i, i] = bend(f, x, e[i])
        for j in range(i):
            H[i, j] = H[j, i] = mixed(f, x, e[i], e[j])
    return H.reshape(2 * np.shape(x))


def agree(**sides: Any) -> Evidence:
    """Every side equal to the last."""
    *others, (name, truth) = sides.items()
    return worst(*(equal(**{other: value, name: truth}) for other, value in others))


def example(f: Callable[..., Any], x: Any, printed: Any, library: Any, hessian: Any = None) -> Evidence:
    """Gradient, and Hessian where it is printed, by three ways."""
    first = agree(printed_gradient=printed, library_gradient=library.gradient(x), complex_step=slopes(f, x))
    if hessian is None:
        return first
    second = agree(printed_hessian=hessian, library_hessian=library.hessian(x), circle_of_steps=curvatures(f, x))
    return worst(first, second)


def read(case: Case, *names: str) -> list[NDArray[np.float64]]:
    """The arrays of a case."""
    return [np.asarray(case[name], float) for name in names]


def leibniz(X: Any) -> Any:
    """det X as the sum over permutations."""
    n, total = len(X), 0.0
    for sigma in permutations(range(n)):
        sign = (-1) ** sum(sigma[i] > sigma[j] for i, j in combinations(range(n), 2))
        total = total + sign * np.prod([X[i, sigma[i]] for i in range(n)])
    return total


def inverse(X: Any) -> Any:
    """X^-1 by cofactors."""
    return cofactors(X).T / leibniz(X)


def cofactors(X: Any) -> Any:
    """(-1)^{i+j} M_ij."""
    n = len(X)
    return np.array(
        [
            [(-1) ** (i + j) * leibniz(np.delete(np.delete(X, i, 0), j, 1)) if n > 1 else 1.0 for j in range(n)]
            for i in range(n)
        ]
    )


def sigma(z: Any) -> float:
    """The sigmoid."""
    return 1 / (1 + np.exp(-z))


# ---------------------------------------------------------------- what domains draw


def size(rng: np.random.Generator, top: Any = 3) -> Any:
    """1, ..., top."""
    return int(rng.integers(1, top + 1))


def regular(rng: np.random.Generator, n: int) -> Any:
    """An invertible matrix: 4 or -4 on the diagonal, and entries up to 1 added."""
    return np.diag(rng.choice([4, -4], size=n)) + dyadic(rng, n, n, top=1)


def definite(rng: np.random.Generator, n: int) -> Any:
    """A positive definite matrix, I + F F^T."""
    F = dyadic(rng, n, n, top=1)
    return np.eye(n) + F @ F.T


def drawn(**kinds: str) -> Callable[..., Any]:
    """rng -> case: name="mn" draws an array (m, n), name="" a number; n, m and k are drawn once a case."""

    def draw(rng):
        sides = {letter: size(rng) for letter in "nmk"}
        return {name: dyadic(rng, *(sides[letter] for letter in shape)) for name, shape in kinds.items()}

    return draw


def drawn_with(make: Callable[..., Any], **kinds: str) -> Callable[..., Any]:
    """The same with one n for every side; name="make" draws make(rng, n)."""

    def draw(rng):
        case, n = {}, size(rng)
        for name, shape in kinds.items():
            case[name] = make(rng, n) if shape == "make" else dyadic(rng, *[n] * len(shape))
        return case

    return draw


# ---------------------------------------------------------------- from the definition


@claim(
    "K-5.13",
    paper=PAPER,
    place="Example 5.13",
    statement="D<c, x>[h] = <c, h>; D<Ax, x>[h] = <(A + A^T) x, h>; D(X^-1)[H] = -X^-1 H X^-1 and D(det X)[H] = det X "
    "Tr(X^-1 H) for invertible X; d(det X) = <Adj(X)^T, dX> for any X",
    verdict=HOLDS,
    domain=drawn_with(regular, c="n", A="nn", x="n", h="n", X="make", H="nn", Y="nn"),
)
def from_the_definition(case: Case) -> Any:
    """What is linear in h in f(x + h) - f(x): <c, h>; <Ah, x> + <Ax, h>; the Neumann series to first order,
    (I + E)^-1 = I - E + o(E); det(I + E) = 1 + Tr E + o(E). By expansion along a row the partial derivatives of det are
    the cofactors, at singular Y too: here Y is any matrix."""
    c, A, x, h, X, H, Y = read(case, "c", "A", "x", "h", "X", "H", "Y")
    det, inv = differential("det"), differential("inverse")
    form = differential("quadratic_form", A=A)
    Z = inverse(X)
    return worst(
        agree(
            printed=[c @ h, ((A + A.T) @ x) @ h],
            library=[differential("linear", c=c).first(x, h), form.first(x, h)],
            complex_step=[along(lambda v: np.sum(c * v), x, h), along(lambda v: np.sum(A * np.outer(v, v)), x, h)],
        ),
        agree(printed_d_inverse=-Z @ H @ Z, library_d_inverse=inv.first(X, H), step_of_inverse=along(inverse, X, H)),
        agree(
            printed_d_det=[leibniz(X) * np.trace(Z @ H), np.sum(cofactors(Y) * H)],
            library_d_det=[det.first(X, H), det.first(Y, H)],
            step_of_det=[along(leibniz, X, H), along(leibniz, Y, H)],
        ),
    )


@claim(
    "K-5.14",
    paper=PAPER,
    place="Example 5.14",
    statement="f(x) = <Ax, x>/2 + <b, x> + c has gradient (A + A^T) x / 2 + b and Hessian (A + A^T) / 2",
    verdict=HOLDS,
    domain=drawn(A="nn", b="n", c="", x="n"),
)
def quadratic(case: Case) -> Any:
    """d<Ax, x> = <(A + A^T) x, dx>, and the gradient is affine with matrix (A + A^T) / 2. A need not be symmetric."""
    A, b, c, x = read(case, "A", "b", "c", "x")
    S = (A + A.T) / 2
    closed = differential("quadratic", A=A, b=b, c=c)
    return example(lambda v: np.sum(A * np.outer(v, v)) / 2 + np.sum(b * v) + c, x, S @ x + b, closed, S)


def definite_form(rng: np.random.Generator) -> Any:
    """A positive definite and x whole, not 0."""
    n = size(rng)
    x = rng.integers(-2, 3, size=n)
    return {"A": definite(rng, n), "x": x + (not x.any()) * np.eye(n, dtype=int)[0]}


@claim(
    "K-5.15",
    paper=PAPER,
    place="Example 5.15",
    statement="f(x) = ln <Ax, x>, A positive definite, has gradient 2 A x / <Ax, x> and Hessian 2 A / <Ax, x> - "
    "4 A x x^T A / <Ax, x>^2",
    verdict=HOLDS,
    domain=definite_form,
)
def log_of_a_form(case: Case) -> Any:
    """d ln y = dy / y with dy = 2 <Ax, dx>, then the quotient rule. The example lets x be any vector; it is not 0."""
    A, x = read(case, "A", "x")
    y, q = A @ x, x @ A @ x
    closed = differential("log_quadratic", A=A)
    printed = 2 * A / q - 4 * np.outer(y, y) / q**2
    return example(lambda v: np.log(np.sum(A * np.outer(v, v))), x, 2 * y / q, closed, printed)


def nonzero(rng: np.random.Generator) -> Any:
    """x whole, not 0, and a direction."""
    n = size(rng)
    x = rng.integers(-2, 3, size=n)
    return {"x": x + (not x.any()) * np.eye(n, dtype=int)[0], "h": dyadic(rng, n)}


def length(v: Any) -> Any:
    """sqrt <v, v>, without a conjugate."""
    return np.sqrt(np.sum(v * v))


@claim(
    "K-5.16",
    paper=PAPER,
    place="Example 5.16",
    statement="f(x) = ||x||_2, x != 0, has gradient x / ||x|| and Hessian I / ||x|| - x x^T / ||x||^3; at 0 it is not "
    "differentiable, its derivative along any h is ||h||, not linear in h",
    verdict=HOLDS,
    domain=nonzero,
)
def norm(case: Case) -> Any:
    """d<x, x>^{1/2} = <x, dx> / |x|, then the quotient rule. At 0 the limit over t > 0 of |t h| / t is |h|; the
    two-sided limit the example prints in one place does not exist for h != 0. The library refuses the derivative at
    0."""
    x, h = read(case, "x", "h")
    r, closed, t = np.sqrt(x @ x), differential("norm"), 2.0**-20
    at_0 = equal(quotient_at_0=(closed(t * h) - closed(0 * h)) / t, norm_of_h=np.linalg.norm(h))
    refused = 1.0
    try:
        closed.gradient(0 * x)
    except NotPiecewiseSmooth:
        refused = 0.0
    found = example(length, x, x / r, closed, np.eye(len(x)) / r - np.outer(x, x) / r**3)
    return worst(found, at_0, Evidence(refused, {"gradient_at_0": "refused" if refused == 0 else "given"}))


def nonzero_and_small(rng: np.random.Generator) -> Any:
    """The same with a whole number k: 2^-k x is looked at too."""
    return nonzero(rng) | {"k": int(rng.integers(1, 200))}


@claim(
    "K-5.17",
    paper=PAPER,
    place="Example 5.17",
    statement="f(x) = ||x||_2^3 / 3 has gradient ||x|| x and Hessian x x^T / ||x|| + ||x|| I; the second derivative "
    "at 0 is 0, and the function is twice continuously differentiable",
    verdict=HOLDS,
    domain=nonzero_and_small,
)
def norm_cubed(case: Case) -> Any:
    """d(|x| x) = <x, dx> x / |x| + |x| dx. At 0, |<|h| h, h1>| / |h| = |<h, h1>| -> 0; and the eigenvalues of the
    Hessian at x are 2 |x| along x and |x| across, so that it tends to 0 with x."""
    x, h = read(case, "x", "h")
    r, closed, small = np.sqrt(x @ x), differential("norm_cubed"), 2.0 ** -case["k"] * x
    tends = np.linalg.norm(closed.hessian(small), 2) / np.linalg.norm(small)
    found = example(lambda v: length(v) ** 3 / 3, x, r * x, closed, np.outer(x, x) / r + r * np.eye(len(x)))
    return worst(
        found,
        equal(norm_of_the_hessian_over_norm_of_x=tends, limit=2.0),
        equal(hessian_at_0=closed.second(0 * x, h, h), zero=0.0),
    )


@claim(
    "K-5.18",
    paper=PAPER,
    place="Example 5.18",
    statement="The Jacobian of s = softmax(x) is J_kj = -s_k s_j for k != j, and s_j (1 - s_j) for k = j",
    verdict=HOLDS,
    domain=drawn(x="n"),
)
def softmax(case: Case) -> Any:
    """The quotient rule for exp(x_k) / sum_i exp(x_i), in the two cases."""
    (x,) = read(case, "x")
    s = np.exp(x) / np.sum(np.exp(x))
    printed = np.where(np.eye(len(x), dtype=bool), s * (1 - s), -np.outer(s, s))
    step = slopes(lambda v: np.exp(v) / np.sum(np.exp(v)), x)
    return agree(printed=printed, library=differential("softmax").jacobian(x), complex_step=step)


@claim(
    "K-5.19",
    paper=PAPER,
    place="Example 5.19",
    statement="f(x) = h(g(x)), g = sin entry by entry, h(u) = sum_i u_i, has gradient cos(x) and Hessian diag(-sin(x))",
    verdict=HOLDS,
    domain=drawn(x="n"),
)
def sines(case: Case) -> Any:
    """J_g = diag(cos x), grad h = 1, and J_g^T 1 = cos x; once more for the Hessian."""
    (x,) = read(case, "x")
    closed = differential("sum_of_sines")
    return example(lambda v: np.sum(np.sin(v)), x, np.cos(x), closed, np.diag(-np.sin(x)))


@claim(
    "K-5.20",
    paper=PAPER,
    place="Example 5.20",
    statement="f(x) = ln(1 + exp <a, x>) has gradient sigma(<a, x>) a and Hessian sigma(<a, x>) (1 - sigma(<a, x>)) a "
    "a^T",
    verdict=HOLDS,
    domain=drawn(a="n", x="n"),
)
def logistic(case: Case) -> Any:
    """The chain rule, with exp z / (1 + exp z) = sigma(z) and sigma' = sigma (1 - sigma)."""
    a, x = read(case, "a", "x")
    s, closed = sigma(a @ x), differential("logistic", a=a)
    printed = s * (1 - s) * np.outer(a, a)
    return example(lambda v: np.log(1 + np.exp(np.sum(a * v))), x, s * a, closed, printed)


@claim(
    "K-5.21",
    paper=PAPER,
    place="Example 5.21",
    statement="phi(alpha) = f(x + alpha p) has phi'(alpha) = <grad f(x + alpha p), p> and phi''(alpha) = "
    "<hess f(x + alpha p) p, p>",
    verdict=HOLDS,
    domain=drawn(a="n", x="n", p="n", alpha=""),
)
def line(case: Case) -> Any:
    """The chain rule with d(x + alpha p) = p d alpha, twice; f is ln(1 + exp <a, x>) + sum_i sin x_i here, the two
    terms one after the other for the library."""
    a, x, p, alpha = read(case, "a", "x", "p", "alpha")
    y, parts = x + alpha * p, [differential("logistic", a=a), differential("sum_of_sines")]
    lines = [differential("along_line", f=f, x=x, p=p) for f in parts]

    def phi(t):
        return np.log(1 + np.exp(np.sum(a * (x + t * p)))) + np.sum(np.sin(x + t * p))

    s, one = sigma(a @ y), np.array(1.0)
    gradient, H = s * a + np.cos(y), s * (1 - s) * np.outer(a, a) - np.diag(np.sin(y))
    return agree(
        printed=[gradient @ p, (H @ p) @ p],
        library=[sum(float(f.gradient(alpha)) for f in lines), sum(float(f.hessian(alpha)) for f in lines)],
        steps_in_alpha=[along(phi, alpha, one), bend(phi, alpha, one)],
    )


# ---------------------------------------------------------------- functions of a matrix


@claim(
    "K-5.22",
    paper=PAPER,
    place="Example 5.22",
    statement="f(X) = ||AX - B||_F has gradient A^T (AX - B) / ||AX - B||",
    verdict=HOLDS,
    domain=drawn(A="mk", X="kn", B="mn"),
)
def frobenius(case: Case) -> Any:
    """d|R| = <R, dR> / |R| with dR = A dX. At AX = B the printed gradient is 0 / 0, and such cases are left out."""
    A, X, B = read(case, "A", "X", "B")
    R = A @ X - B
    assume(R.any())
    printed = A.T @ R / np.sqrt(np.sum(R * R))
    return example(lambda V: length(A @ V - B), X, printed, differential("frobenius", A=A, B=B))


@claim(
    "K-5.23",
    paper=PAPER,
    place="Example 5.23",
    statement="f(X) = Tr(A X B X^-1), X invertible, has gradient A^T X^-T B^T - X^-T B^T X^T A^T X^-T",
    verdict=HOLDS,
    domain=drawn_with(regular, A="nn", B="nn", X="make"),
)
def conjugation(case: Case) -> Any:
    """df = Tr(A dX B X^-1) - Tr(A X B X^-1 dX X^-1), each rotated until dX stands last. On the way the seminar prints
    <I, A d(A X B X^-1)> for <I, A d(X B X^-1)>."""
    A, B, X = read(case, "A", "B", "X")
    Y = inverse(X)
    printed = A.T @ Y.T @ B.T - Y.T @ B.T @ X.T @ A.T @ Y.T
    return example(lambda V: np.trace(A @ V @ B @ inverse(V)), X, printed, differential("trace_conjugation", A=A, B=B))


@claim(
    "K-5.24",
    paper=PAPER,
    place="Example 5.24",
    statement="f(X) = Tr(A X^T X) has gradient X A + X A^T",
    verdict=HOLDS,
    domain=drawn(A="nn", X="mn"),
)
def gram(case: Case) -> Any:
    """df = Tr(A dX^T X) + Tr(A X^T dX) = <X A, dX> + <X A^T, dX>."""
    A, X = read(case, "A", "X")
    return example(lambda V: np.trace(A @ V.T @ V), X, X @ A + X @ A.T, differential("trace_gram", A=A))


def definite_points(rng: np.random.Generator) -> Any:
    """X and Z positive definite, symmetric H and K."""
    n = size(rng)
    H, K = dyadic(rng, n, n), dyadic(rng, n, n)
    return {"X": definite(rng, n), "Z": definite(rng, n), "H": H + H.T, "K": K + K.T}


@claim(
    "K-5.25",
    paper=PAPER,
    place="Example 5.25",
    statement="f(X) = ln det X on the positive definite matrices has gradient X^-1 and d2f(X) = -<X^-1 dX X^-1, dX_1>; "
    "d2f(X)[H, H] = -||X^-1/2 H X^-1/2||_F^2 <= 0, so f is concave",
    verdict=HOLDS,
    domain=definite_points,
)
def log_det(case: Case) -> Any:
    """d ln det X = <X^-T, dX> and d(X^-1) = -X^-1 dX X^-1; Tr(X^-1 H X^-1 H) is the squared norm of the symmetric
    X^-1/2 H X^-1/2. Concavity is looked for between X and Z. For antisymmetric H the sign is the other, and the
    space is that of symmetric matrices."""
    X, Z, H, K = read(case, "X", "Z", "H", "K")
    closed, Y = differential("log_det"), inverse(X)

    def f(V):
        return np.log(leibniz(V))

    values, vectors = np.linalg.eigh(X)
    root = (vectors / np.sqrt(values)) @ vectors.T
    return worst(
        agree(printed=np.sum(Y * H), library=closed.first(X, H), complex_step=along(f, X, H)),
        agree(
            printed_second=[-np.sum((Y @ H @ Y) * K), -np.sum(np.square(root @ H @ root))],
            library_second=[closed.second(X, H, K), closed.second(X, H, H)],
            circle_of_steps=[mixed(f, X, H, K), bend(f, X, H)],
        ),
        at_most(mean_of_the_values=(closed(X) + closed(Z)) / 2, value_of_the_mean=closed((X + Z) / 2)),
    )


@claim(
    "K-5.26",
    paper=PAPER,
    place="Example 5.26",
    statement="f(X) = det(A X^-1 B) with A X^-1 B invertible has gradient -det(A X^-1 B) X^-T A^T (A X^-1 B)^-T B^T "
    "X^-T",
    verdict=HOLDS,
    domain=drawn_with(regular, A="nn", B="nn", X="make"),
    share=0.2,
)
def det_of_inverse(case: Case) -> Any:
    """d det Y = det(Y) <Y^-T, dY> with dY = -A X^-1 dX X^-1 B, rotated. With the adjugate in place of det(Y) Y^-1 it
    holds for singular A X^-1 B too, as in the library; here A and B keep one row and column, or all."""
    A, B, X = read(case, "A", "B", "X")
    Y = inverse(X)
    found = []
    for rows in {1, len(X)}:
        left, right = A[:rows], B[:, :rows]
        M = left @ Y @ right
        assume(abs(leibniz(M)) > 1e-3)
        printed = -leibniz(M) * Y.T @ left.T @ inverse(M).T @ right.T @ Y.T
        closed = differential("det_of_inverse", A=left, B=right)
        found.append(example(lambda V, L=left, R=right: leibniz(L @ inverse(V) @ R), X, printed, closed))
    return worst(*found)


@claim(
    "K-5.27",
    paper=PAPER,
    place="Example 5.27",
    statement="f(A) = Ax, A (n, m), has df(A) = (dA) x; its derivative is the n x n x m tensor df_k/dA_ij = delta(i = "
    "k) x_j",
    verdict=HOLDS,
    domain=drawn(A="nm", x="m"),
)
def tensor(case: Case) -> Any:
    """f_k = sum_l A_kl x_l holds A_ij only for k = i, with factor x_j."""
    A, x = read(case, "A", "x")
    printed = np.array([[(i == k) * x for i in range(len(A))] for k in range(len(A))], dtype=float)
    library = differential("product", x=x).jacobian(A)
    return agree(printed=printed, library=library, complex_step=slopes(lambda V: np.sum(V * x, axis=1), A))


# ---------------------------------------------------------------- applications


def stretched(rng: np.random.Generator) -> Any:
    """A matrix and vectors that are not 0, as columns."""
    n, m = size(rng), size(rng)
    X = dyadic(rng, n, 4)
    return {"A": dyadic(rng, m, n), "X": X + np.where(X.any(axis=0), 0, 1)}


@claim(
    "K-5.28",
    paper=PAPER,
    place="Example 5.28",
    statement="||A||_2 = max_x ||Ax||_2 / ||x||_2 = sqrt(lambda_max(A^T A)), attained at an eigenvector",
    verdict=HOLDS,
    domain=stretched,
)
def induced_norm(case: Case) -> Any:
    """Stationary points of |Ax|^2 - nu (|x|^2 - 1) are the eigenvectors of A^T A, of value nu. The maximum is over
    x != 0."""
    A, X = read(case, "A", "X")
    values, vectors = np.linalg.eigh(A.T @ A)
    stretches, top = np.linalg.norm(A @ X, axis=0) / np.linalg.norm(X, axis=0), np.linalg.norm(A @ vectors[:, -1])
    value = differential("spectral_norm")(A)
    return worst(
        agree(library_norm=value, stretch_of_the_eigenvector=top, root_of_lambda_max=np.sqrt(max(values[-1], 0.0))),
        at_most(stretches=stretches, norm=np.full(len(stretches), value)),
    )


@claim(
    "K-5.30",
    paper=PAPER,
    place="Example 5.30",
    statement="f(x) = ||y - Ax||_2^2 has gradient -2 A^T (y - Ax); it vanishes at x = (A^T A)^-1 A^T y if A^T A is "
    "invertible, and there is the minimum",
    verdict=HOLDS,
    domain=drawn(A="mn", y="m", x="n"),
    share=0.2,
)
def least_squares(case: Case) -> Any:
    """df = -2 <y - Ax, A dx>; f is convex, so that its stationary point is its minimum."""
    A, y, x = read(case, "A", "y", "x")
    assume(abs(np.linalg.det(A.T @ A)) > 1e-3)
    closed = differential("least_squares", A=A, y=y)
    best = inverse(A.T @ A) @ A.T @ y
    return worst(
        example(lambda v: np.sum((y - A @ v) ** 2), x, -2 * A.T @ (y - A @ x), closed),
        equal(gradient_at_the_solution=closed.gradient(best), zero=np.zeros(len(x))),
        at_most(value_at_the_solution=closed(best), value_at_x=closed(x)),
    )


def unit(v: Any, t: Any, lam: Any) -> Any:
    """(sigma(<w, x> + b) - t)^2 / 2 + lam |w|^2 / 2 of the flat (x, w, b), for complex v and traced v alike."""
    n = (len(v) - 1) // 2
    x, w, b = v[:n], v[n : 2 * n], v[2 * n]
    y = 1 / (1 + anp.exp(-(anp.sum(w * x) + b)))
    return (y - t) ** 2 / 2 + lam * anp.sum(w * w) / 2


def printed_passes(case: Case) -> Any:
    """(x_bar, w_bar, b_bar), the same numbers at the end of either pass as printed."""
    x, w, b, t, lam = read(case, "x", "w", "b", "t", "lam")
    y = sigma(w @ x + b)
    z_bar = (y - t) * y * (1 - y)
    return np.concatenate([z_bar * w, z_bar * x + lam * w, [z_bar]])


def graph_of(case: Case) -> Any:
    """The function of the flat (x, w, b), and the point."""
    x, w, b, t, lam = read(case, "x", "w", "b", "t", "lam")
    return lambda v: unit(v, t, lam), np.concatenate([x, w, [b]])


@claim(
    "K-5.32",
    paper=PAPER,
    place="Example 5.32",
    statement="Backward over z = w^T x + b, y = sigma(z), L = (y - t)^2 / 2, R = w^T w / 2, L + lambda R: R_bar = "
    "lambda, y_bar = y - t, z_bar = (y - t) sigma'(z), w_bar = z_bar x + lambda w, b_bar = z_bar, x_bar = z_bar w",
    verdict=HOLDS,
    domain=drawn(x="n", w="n", b="", t="", lam=""),
)
def backward(case: Case) -> Any:
    """The chain rule from the last vertex to the first; w is read by z and by R, and both contributions are added."""
    (f, v), one = graph_of(case), np.array(1.0)
    closed = differential("regularized_unit", t=case["t"], lam=case["lam"]).gradient(v)
    printed, step = printed_passes(case), slopes(f, v)
    return agree(printed=printed, library_pass=vjp(f, v, one), library_formula=closed, complex_step=step)


@claim(
    "K-5.33",
    paper=PAPER,
    place="Example 5.33",
    statement="Forward over the same graph: dz/dx = w, dy/dx = sigma'(z) w, dL/dx = (y - t) sigma'(z) w; dR/dw = w, "
    "dz/dw = x, dL/dw = (y - t) sigma'(z) x, w_bar = (y - t) sigma'(z) x + lambda w; b_bar = (y - t) sigma'(z)",
    verdict=HOLDS,
    domain=drawn(x="n", w="n", b="", t="", lam=""),
)
def forward(case: Case) -> Any:
    """The same factors from the first vertex to the last, one column for each entry of x, w and b."""
    f, v = graph_of(case)
    columns = np.array([jvp(f, v, e) for e in units(v)])
    return agree(printed=printed_passes(case), library_pass=columns, complex_step=slopes(f, v))


# ---------------------------------------------------------------- remarks


def inner_products(rng: np.random.Generator) -> Any:
    """M positive definite, A and x."""
    n = size(rng)
    return {"M": definite(rng, n), "A": dyadic(rng, n, n), "x": dyadic(rng, n)}


def small_inner_products(rng: np.random.Generator) -> Any:
    """Diagonal M, whole numbers, n = 2."""
    return {"M": np.diag(rng.integers(1, 3, size=2)), "A": rng.integers(-1, 2, size=(2, 2)), "x": rng.integers(0, 2, 2)}


def true_gradient(M: np.ndarray, A: np.ndarray, x: np.ndarray) -> np.ndarray:
    """g with df[h] = g^T M h for f(x) = <Ax, x>_M = (Ax)^T M x."""
    return np.linalg.solve(M, slopes(lambda v: np.sum((A @ v) * (M @ v)), x))


def _adjoint(case):
    M, A, x = read(case, "M", "A", "x")
    adjoint = np.linalg.solve(M, A.T @ M)
    return equal(corrected_gradient=(A + adjoint) @ x, true_gradient=true_gradient(M, A, x))


@claim(
    "K-ip",
    paper=PAPER,
    place="sec. 5.2.2, 5.3.1, remarks on the tables",
    statement="These tables hold for arbitrary inner products as well, not only for the standard one; in them d<Ax, "
    "x> = <(A + A^T) x, dx>",
    verdict=FAILS,
    corrected="transposes are to be read as adjoints: in <u, v>_M = u^T M v the gradient of <Ax, x>_M is "
    "(A + M^-1 A^T M) x",
    amended=_adjoint,
    domain=inner_products,
    printed_domain=small_inner_products,
    counterexample={"M": [[1, 0], [0, 2]], "A": [[0, 1], [0, 0]], "x": [1, 0]},
)
def any_inner_product(case: Case) -> Evidence:
    """<Ax, h>_M + <Ah, x>_M = h^T (M A + A^T M) x = <(A + M^-1 A^T M) x, h>_M. The adjoint M^-1 A^T M of A is A^T where
    M and A commute, so n = 1 is no counterexample. The true gradient is M^-1 times a complex step."""
    M, A, x = read(case, "M", "A", "x")
    return equal(printed_gradient=differential("quadratic_form", A=A).gradient(x), true_gradient=true_gradient(M, A, x))


def coefficient(case: Case) -> float:
    """sigma (1 - sigma), read off the library's Hessian: a^T H a / |a|^4."""
    a, x = read(case, "a", "x")
    assume(a.any())
    return float(a @ differential("logistic", a=a).hessian(x) @ a / (a @ a) ** 2)


def inside(value: float, interval: str, within: bool) -> Evidence:
    """0 within the interval, 1 outside."""
    return Evidence(0.0 if within else 1.0, {"coefficient": value, "interval": interval})


def _half_open(case):
    c = coefficient(case)
    return inside(c, "(0, 1/4]", 0 < c <= 0.25 + ROUNDING)


@claim(
    "K-5.20c",
    paper=PAPER,
    place="Example 5.20",
    statement="The Hessian is a matrix of rank one, proportional to a a^T with coefficient sigma(<a, x>) "
    "(1 - sigma(<a, x>)) in (0, 0.25)",
    verdict=FAILS,
    corrected="the coefficient is in (0, 1/4]: 1/4 is attained where <a, x> = 0",
    amended=_half_open,
    domain=drawn(a="n", x="n"),
    counterexample={"a": [1], "x": [0]},
    share=0.3,
)
def open_interval(case: Case) -> Evidence:
    """s (1 - s) = 1/4 - (s - 1/2)^2, and sigma(0) = 1/2: the largest value is attained."""
    c = coefficient(case)
    return inside(c, "(0, 1/4)", 0 < c < 0.25 - ROUNDING)


def expansion(A: np.ndarray, pairs: Callable[..., Any]) -> float:
    """1 + sum of the eigenvalues + sum over pairs, then triples and so on, each number at most once."""
    values = np.linalg.eigvals(A)
    n = len(values)
    higher = sum(np.prod(values[list(s)]) for k in range(3, n + 1) for s in combinations(range(n), k))
    return float(np.real(1 + values.sum() + sum(values[i] * values[j] for i, j in pairs(n)) + higher))


def det_of_sum(case: Case) -> tuple[NDArray[np.float64], float]:
    """(A, det(I + A) by the library)."""
    (A,) = read(case, "A")
    return A, differential("det")(np.eye(len(A)) + A)


def _strictly(case):
    A, det = det_of_sum(case)
    return equal(sum_over_i_less_than_j=expansion(A, lambda n: combinations(range(n), 2)), det=det)


@claim(
    "K-5.13g",
    paper=PAPER,
    place="Example 5.13 g",
    statement="det(I + A) = prod_i (1 + lambda_i) = 1 + sum_i lambda_i + (sum_{1 <= i <= j <= n} lambda_i lambda_j + "
    "...), the dots for all triples, fours and so on of the eigenvalues",
    verdict=FAILS,
    corrected="the sum is over i < j, and the triples are those with i < j < k",
    amended=_strictly,
    domain=drawn(A="nn"),
    counterexample={"A": [[1]]},
)
def expansion_of_det(case: Case) -> Evidence:
    """Multiplying out a product takes each factor once: for n = 1, det(1 + a) = 1 + a, and i <= j adds a^2. The excess
    is sum_i lambda_i^2 = Tr A^2, of second order, so that the derivative of det is not affected."""
    A, det = det_of_sum(case)
    pairs = [(i, j) for i in range(len(A)) for j in range(i, len(A))]
    return equal(sum_over_i_at_most_j=expansion(A, lambda n: pairs), det=det)


def labelled(rng: np.random.Generator) -> Any:
    """A sample x with its label y = 1 or -1, and weights w."""
    n = size(rng)
    return {"x": dyadic(rng, n), "w": dyadic(rng, n), "y": int(rng.choice([1, -1]))}


def log_losses(case: Case) -> tuple[float, float]:
    """(the printed f, by the library; -ln of the probability sigma(y <w, x>) of the label)."""
    x, w, y = read(case, "x", "w", "y")
    return differential("log_likelihood", x=x, y=y)(w), -np.log(sigma(y * (w @ x)))


def _minus(case):
    f, loss = log_losses(case)
    return equal(minus_f=-f, minus_log_probability=loss)


@claim(
    "K-5.5.1",
    paper=PAPER,
    place="sec. 5.5.1",
    statement="The computational graph for logistic regression is that of f(x, w, y) = -log(1 + exp(-y w^T x))",
    verdict=AMENDED,
    corrected="the loss of logistic regression is +log(1 + exp(-y w^T x)); f is the log-likelihood, to be maximized",
    amended=_minus,
    domain=labelled,
    counterexample={"x": [1], "w": [0], "y": 1},
)
def likelihood(case: Case) -> Evidence:
    """P(y | x) = sigma(y w^T x), so -ln P = +ln(1 + exp(-y w^T x)): the function of Example 5.20 with a = -y x, which
    is said there to be minimized. f is its negative, concave and unbounded below."""
    f, loss = log_losses(case)
    return equal(printed_f=f, minus_log_probability=loss)


def chain_of_sines(rng: np.random.Generator) -> Any:
    """x, the length of a chain of sines, and after how many of them one value is stored."""
    length = int(rng.integers(4, 13))
    return {"x": int(rng.integers(-8, 9)) / 4, "length": length, "every": int(rng.integers(2, length // 2 + 1))}


def checkpointed(x: float, length: int, every: int) -> tuple[float, int]:
    """(d u_m / d x, most values held at once) of u_i = sin u_{i-1}, by the backward pass that stores each `every`-th
    value and computes those between again."""
    held, most = {0: x}, 1
    for i in range(length):
        held[i + 1] = np.sin(held[i])
        most = max(most, len(held))
        if i % every:
            del held[i]
    c = 1.0
    del held[length]
    for start in range(every * ((length - 1) // every), -1, -every):
        for i in range(start, min(start + every, length) - 1):
            held[i + 1] = np.sin(held[i])
            most = max(most, len(held))
        for i in range(min(start + every, length) - 1, start - 1, -1):
            c *= np.cos(held.pop(i))
    return c, most


def sines_of(case: Case) -> tuple[Callable[..., Any], NDArray[np.float64]]:
    """The chain as a function of x (1,), for the library."""

    def f(v):
        for _ in range(case["length"]):
            v = anp.sin(v)
        return v

    return f, np.array([float(case["x"])])


def _recomputed(case):
    """The same gradient, with at most ceil(m / every) + every + 1 values held."""
    f, v = sines_of(case)
    m, s = case["length"], case["every"]
    found, most = checkpointed(float(case["x"]), m, s)
    same = equal(gradient_with_checkpoints=[found], gradient=vjp(f, v, np.ones(1)))
    return worst(same, at_most(held=most, checkpoints_and_a_segment=-(-m // s) + s + 1))


@claim(
    "K-mem",
    paper=PAPER,
    place="sec. 5.5.3",
    statement="To compute backpropagation ALL intermediate values u_i have to be stored, at all iterations of the "
    "algorithm",
    verdict=AMENDED,
    corrected="unless some are computed again: with every s-th of m values stored, m/s + s + 1 are held at most",
    amended=_recomputed,
    domain=chain_of_sines,
    counterexample={"x": 1, "length": 4, "every": 2},
)
def memory(case: Case) -> Evidence:
    """The backward pass reads u_{i-1} when it comes to u_i, and no sooner: a segment between two stored values is
    computed again from the first. The same gradient by a pass that holds fewer values than there are contradicts the
    word ALL."""
    f, v = sines_of(case)
    found, most = checkpointed(float(case["x"]), case["length"], case["every"])
    assume(np.isclose(found, vjp(f, v, np.ones(1))[0], rtol=1e-12))
    return at_most(all_values=cost(f, v).kept_backward, held_by_a_pass_with_checkpoints=most)


def wide_layers(rng: np.random.Generator) -> Any:
    """A network R^n -> R^p of one hidden layer, p at least 2 n."""
    n, h = size(rng, 2), size(rng)
    p = int(rng.integers(2 * n, 4 * n + 1))
    return {"W": dyadic(rng, h, n), "V": dyadic(rng, p, h), "x": dyadic(rng, n)}


def _through_one(case):
    """R^n -> R -> R^n, x -> c <a, x>: the outer product of c and a takes n^2, either mode 2 n^2."""
    V = np.asarray(case["V"], float)
    c, a = V[:, 0], V[::-1, 0]
    n = len(c)
    modes = [jacobian(lambda v: c * anp.dot(a, v), np.ones(n), mode=mode) for mode in ("forward", "backward")]
    return worst(
        equal(by_a_mode=modes[0].matrix, outer_product=np.outer(c, a)),
        at_most(twice_the_outer_product=2 * n * n, cheaper_mode=min(m.multiplications for m in modes)),
    )


@claim(
    "K-fwd",
    paper=PAPER,
    place="sec. 5.5.4",
    statement="If the dimension of the output of f is much larger than that of its input, the forward pass is more "
    "profitable",
    verdict=HOLDS,
    corrected="of the two passes; another order of multiplication can beat both: for R^n -> R -> R^n the outer product "
    "takes n^2 multiplications, either pass 2 n^2",
    amended=_through_one,
    domain=wide_layers,
)
def forward_is_cheaper(case: Case) -> Any:
    """A pass multiplies once with every entry of every local Jacobian, forward for each of n columns, backward for each
    of p rows: the ratio is n / p, and nothing else. Multiplications are counted in the library's loops, and here
    from the shapes: a dense layer (h, n) has h n entries, its tanh h."""
    W, V, x = read(case, "W", "V", "x")
    (h, n), p = W.shape, len(V)
    entries = h * n + h + p * h + p
    counted = [
        jacobian(lambda v: anp.tanh(anp.dot(V, anp.tanh(anp.dot(W, v)))), x, mode=mode)
        for mode in ("forward", "backward")
    ]
    forward, backward = (found.multiplications for found in counted)
    step = slopes(lambda v: np.tanh(V @ np.tanh(W @ v)), x)
    return worst(
        equal(multiplications=[forward, backward], from_the_shapes=[n * entries, p * entries]),
        at_most(twice_forward=2 * forward, backward=backward),
        agree(forward_jacobian=counted[0].matrix, backward_jacobian=counted[1].matrix, complex_step=step),
    )


@claim(
    "K-hvp",
    paper=PAPER,
    place="sec. 5.5.5",
    statement="For f with symmetric Hessian, hess f(x) u = grad g(x) with g(x) = <grad f(x), u>; for f: R^n -> R^m, "
    "u^T J_f(x) is the gradient of g(x) = <f(x), u>",
    verdict=HOLDS,
    domain=drawn(W="mn", c="m", x="n", u="n"),
)
def products(case: Case) -> Any:
    """d<grad f, u> = <hess f dx, u> = <dx, hess f u> by symmetry, and d<f, u> = <J^T u, dx>. f is sum_k c_k sin (W x)_k
    here, with gradient W^T (c cos W x), and sin W x for the second; the Hessian itself by a circle of steps."""
    W, c, x, u = read(case, "W", "c", "x", "u")

    def f(v):
        return anp.sum(c * anp.sin(anp.dot(W, v)))

    def waves(v):
        return anp.sin(anp.dot(W, v))

    of_g = slopes(lambda v: np.sum((W.T @ (c * np.cos(W @ v))) * u), x)
    rows = slopes(lambda v: np.sum(np.sin(W @ v) * c), x)
    return worst(
        agree(gradient_of_g=of_g, library_hvp=hvp(f, x, u), hessian_times_u=curvatures(f, x) @ u),
        agree(gradient_of_f_c=rows, library_vjp=vjp(waves, x, c), c_times_jacobian=c @ slopes(waves, x)),
    )
