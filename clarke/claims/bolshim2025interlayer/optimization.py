"""Claims of Bolshim and Kugaevskikh (2025) about Newton methods, stopping, and the limits they name."""

from collections.abc import Callable
from typing import Any

import autograd.numpy as anp
import numpy as np
from numpy.typing import ArrayLike, NDArray

from ...blocks import hessian_blocks
from ...graph import from_function
from ...layers import affine, squared_error
from ...limiting import limiting_gradient, limiting_gradients, limiting_hessian, limiting_hessians
from ...network import Network
from ...projection import min_norm_element
from ...semismooth import newton_step
from ..nearby import bends, bends_or_jumps, kinked, least_by_faces, numbers, pieces, read, slope, whole
from ..statements import AMENDED, FAILS, UNTESTABLE, Case, Evidence, assume, at_most, claim, equal, worst

PAPER = "bolshim2025interlayer"


def column(case: Case, name: str) -> NDArray[np.float64]:
    return np.asarray(case[name], float)


# ---------------------------------------------------------------- section 7: rates


def powers_of_distance(rng: np.random.Generator, exponents: Any) -> Any:
    n = int(rng.integers(1, 3))
    b, theta = rng.integers(0, 3, size=n), rng.integers(1, 4, size=n)
    return {"p": float(rng.choice(exponents)), "b": b, "theta": theta, "kappa": int(rng.integers(-2, 3))}


def newton_at(case: Case, theta: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The full Newton step of L = |theta|^2 / 2 + sum_i b_i |theta_i|^p / (p (p - 1)), and the gradient."""
    b, p = column(case, "b"), case["p"]
    f = from_function(lambda y: anp.sum(y**2 / 2 + b * anp.abs(y) ** p / (p * (p - 1))), theta)
    g = limiting_gradient(f, theta)
    return newton_step(g, limiting_hessian(f, theta)), g


def quadratic_where_lipschitz(case: Case) -> Any:
    """With M of the Hessian on the ball, mu = 1 <= Hessian and alpha = 1 + kappa |g|:
    |theta+| <= M |theta|^2 / 2 + |alpha - 1| |H^-1 g|."""
    theta, b, p, kappa = column(case, "theta") / 4, column(case, "b"), case["p"], case.get("kappa", 0)
    assume(p >= 3)
    step, g = newton_at(case, theta)
    size, alpha = np.linalg.norm(theta), 1 + kappa * np.linalg.norm(g)
    M = b.max() * (p - 2) * size ** (p - 3)
    bound = M * size**2 / 2 + abs(alpha - 1) * np.linalg.norm(step)
    return at_most(next_distance=np.linalg.norm(theta - alpha * step), quadratic_bound=bound)


@claim(
    "T9",
    paper=PAPER,
    place="Thm 9",
    statement="let L be in C^2 and theta* a local minimum with a positive definite Hessian; then Newton's method with "
    "step alpha_t converges quadratically in some neighborhood of theta* if alpha_t is chosen optimally",
    verdict=AMENDED,
    corrected="if moreover the Hessian is Lipschitz near theta* and |1 - alpha_t| <= C |g_t|; for L in C^2 alone and "
    "alpha_t -> 1 the convergence is superlinear",
    amended=quadratic_where_lipschitz,
    domain=lambda rng: powers_of_distance(rng, [3, 4]),
    printed_domain=lambda rng: powers_of_distance(rng, [3, 2.5]),
    counterexample={"p": 2.5, "b": [1, 0], "theta": [1, 1]},
)
def newton_is_quadratic(case: Case) -> Evidence:
    """L = (x^2 + y^2) / 2 + |x|^(5/2) / 3.75 is C^2 with the Hessian diag(1 + sqrt|x|, 1): at (s, s) the full step
    leaves x at about -s^(3/2) / 3. No alpha does better than the point of the line nearest to 0, whose distance is of
    order s^(3/2) too, so |theta+| / |theta|^2 grows like s^(-1/2): 16 times from s = 2^-8 to 2^-16, and both
    entries of that point are of one size again. A quadratic rate would bound it; measured with the best alpha, allowing
    a factor 2."""
    quotients = []
    for s in (2.0**-8, 2.0**-16):
        theta = s * column(case, "theta")
        step, _ = newton_at(case, theta)
        nearest = theta - (theta @ step) / (step @ step) * step
        quotients.append(np.linalg.norm(nearest) / (theta @ theta))
    return at_most(quotient_at_2_to_minus_16=quotients[1], twice_quotient_at_2_to_minus_8=2 * quotients[0])


def bowls(rng: np.random.Generator) -> dict[str, np.ndarray]:
    n = int(rng.integers(1, 3))
    half = whole(rng, n, n)
    return {"theta": whole(rng, n, top=3), "E": (half + half.T) / 64}


def bowl(case: Any, theta: np.ndarray, k: Any) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """(a step with B = H + E / 8^k on L = sum sqrt(1 + theta_i^2), B), B positive definite."""
    E = numbers(case, "E", (len(theta), len(theta))) / 8**k
    f = from_function(lambda y: anp.sum(anp.sqrt(1 + y**2)), theta)
    B = limiting_hessian(f, theta) + E
    assume(np.linalg.eigvalsh(B)[0] > 1e-9)
    return newton_step(limiting_gradient(f, theta), B), B, E


def one_step_bound(case: Case) -> Evidence:
    """B (theta+ - theta*) = (B - H(theta)) (theta - theta*) + (H(theta) - mean of H on the segment) (theta - theta*),
    and |H(y) - H(z)| <= |y - z| here."""
    theta = column(case, "theta")
    step, B, E = bowl(case, theta, 0)
    size = np.linalg.norm(theta)
    bound = np.linalg.norm(np.linalg.inv(B), 2) * (np.linalg.norm(E, 2) * size + size**2 / 2)
    return at_most(next_distance=np.linalg.norm(theta - step), bound=bound)


@claim(
    "Lem2",
    paper=PAPER,
    place="Lemma 2",
    statement="let L be twice continuously differentiable, theta* a local minimum with a positive definite Hessian; if "
    "theta_{k+1} = theta_k - B_k^-1 grad L(theta_k) with B_k symmetric positive definite and |B_k - Hessian(theta_k)| "
    "-> 0, then theta_k converges to theta*, at least superlinearly",
    verdict=FAILS,
    corrected="if theta_k -> theta*, then superlinearly: |theta+| <= |B^-1| (|B - H| |theta| + M |theta|^2 / 2) for a "
    "Hessian with constant M; quadratically if |B_k - H| = O(|g_k|)",
    amended=one_step_bound,
    domain=bowls,
    counterexample={"theta": [2]},
)
def converges_from_anywhere(case: Case) -> Evidence:
    """Nothing brings the sequence near theta*. L = sqrt(1 + x^2) is convex with the only minimum 0 and L'' > 0
    everywhere; with B_k = L'' exactly, theta_{k+1} = -theta_k^3: from 2 to -8 to 512."""
    theta = column(case, "theta")
    distances = [np.linalg.norm(theta)]
    for k in range(2):
        theta = theta - bowl(case, theta, k)[0]
        distances.append(np.linalg.norm(theta))
    return at_most(distances_after_1_and_2_steps=distances[1:], distance_at_the_start=distances[0] * np.ones(2))


def inner_minima(rng: np.random.Generator) -> Any:
    n = int(rng.integers(1, 3))
    theta = rng.integers(1, 5, size=n) / 4
    return {"c": rng.integers(1, 4, size=n), "theta": theta, "kappa": int(rng.integers(1, 3))}


def regularized(case: Case, damping: Callable[..., Any], steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Distances from 0 along theta - (P + lambda I)^-1 g, P of least norm, lambda = damping(k, |g|), for
    L = sum_i c_i theta_i^2 / 2 + max(theta_i - 1, 0)^2 / 2, and the dampings."""
    c, theta = column(case, "c"), column(case, "theta")
    f = from_function(lambda y: anp.sum(c * y**2 / 2 + anp.maximum(y - 1, 0) ** 2 / 2), theta)
    distances, dampings = [np.linalg.norm(theta)], []
    for k in range(steps):
        found = limiting_hessians(f, theta)
        g = found.gradients[0]  # all are one: L is C^{1,1}
        dampings.append(damping(k, np.linalg.norm(g)))
        theta = theta - newton_step(g, min_norm_element(found), dampings[-1])
        distances.append(np.linalg.norm(theta))
    return np.array(distances), np.array(dampings)


def two_rates(case: Case) -> Evidence:
    """In the smooth region theta+ = lambda (H + lambda I)^-1 theta: |theta+| <= lambda |theta| / mu, and for
    lambda = kappa |g| <= kappa c_max |theta| this is quadratic."""
    c, kappa = column(case, "c"), case.get("kappa", 1)
    slow, dampings = regularized(case, lambda k, size: 2.0**-k, 3)
    fast, _ = regularized(case, lambda k, size: kappa * size, 3)
    return worst(
        at_most(distances_lambda_to_0=slow[1:], superlinear_bound=dampings * slow[:-1] / c.min(), scale=1e-9),
        at_most(distances_lambda_of_g=fast[1:], quadratic_bound=kappa * c.max() * fast[:-1] ** 2 / c.min(), scale=1e-9),
    )


@claim(
    "C1",
    paper=PAPER,
    place="Cor. 1",
    statement="B_k = H_min + lambda_k I, H_min the element of minimum norm of the Clarke Hessian, satisfies the "
    "conditions of the lemma on quadratic convergence as lambda_k -> 0, if the minimum lies inside a smooth region; "
    "the symmetrized version preserves the quadratic rate",
    verdict=AMENDED,
    corrected="near the minimum: superlinear if lambda_k -> 0, quadratic if lambda_k = O(|g_k|)",
    amended=two_rates,
    domain=inner_minima,
    counterexample={"c": [1], "theta": [1]},
)
def quadratic_for_any_damping(case: Case) -> Evidence:
    """L = x^2 / 2 + max(x - 1, 0)^2 / 2 from its kink at 1: theta+ = theta lambda / (1 + lambda). With lambda_k = 2^-k
    the error falls like 2^(-k^2 / 2), superlinearly, and |theta+| / |theta|^2 = lambda / ((1 + lambda) |theta|) is
    unbounded: 0.5, 0.67, 1.2, 3.3, 13.8, ... A quadratic rate would bound it; measured after 8 steps, beside twice the
    first."""
    distances, _ = regularized(case, lambda k, size: 2.0**-k, 8)
    quotients = distances[1:] / distances[:-1] ** 2
    return at_most(quotient_at_step_8=quotients[-1], twice_the_first=2 * quotients[0])


# ---------------------------------------------------------------- factorizations


def chosen_element(case: Case) -> NDArray[np.float64]:
    return min_norm_element(limiting_hessians(kinked(case), np.zeros(np.shape(case["W"])[1]))).element


def damped_cholesky(case: Case) -> Evidence:
    """P = P^T already; P + lambda I = F F^T for lambda > -(least eigenvalue of P)."""
    P, truth = chosen_element(case), least_by_faces(pieces(case)[1])
    damping = 1 - min(0.0, np.linalg.eigvalsh(truth)[0])
    F = np.linalg.cholesky(P + damping * np.eye(len(P)))
    return worst(
        equal(symmetrized=(P + P.T) / 2, element=truth),
        equal(product_of_factors=F @ F.T, damped=truth + damping * np.eye(len(P))),
    )


@claim(
    "P5.1",
    paper=PAPER,
    place="Prop. 5 (1)",
    statement="methods with a Cholesky factorization need a symmetric matrix: in the nonsmooth case the blocks are to "
    "be symmetrized before it, (H + H^T) / 2",
    verdict=AMENDED,
    corrected="symmetrizing changes nothing (SYM); what a Cholesky factorization needs besides is positive "
    "definiteness, given by a damping lambda > -lambda_min",
    amended=damped_cholesky,
    domain=bends_or_jumps,
    counterexample={"W": [[1]], "Q": [[1]], "A": [[-3]]},
    tolerance=1e-8,
)
def symmetrized_has_a_factor(case: Case) -> Evidence:
    """A matrix has a factorization F F^T only if it is positive semidefinite. f = -3 x^2 / 2 + max(x, 0)^2 has the
    Hessians -3 and -1; the element of least norm, -1, is its own symmetrization."""
    P = chosen_element(case)
    return at_most(zero=0.0, least_eigenvalue_of_the_symmetrized=np.linalg.eigvalsh((P + P.T) / 2)[0])


def conjugate_gradients(A: np.ndarray, b: np.ndarray) -> NDArray[np.float64]:
    """n steps of the method of conjugate gradients from 0; it stops where nothing is left."""
    x, r = np.zeros(len(b)), np.array(b, dtype=float)
    p = r
    for _ in range(len(b)):
        if not np.any(p) or r @ r < 1e-24 * (b @ b):
            break
        alpha = (r @ r) / (p @ A @ p)
        x, left = x + alpha * p, r - alpha * A @ p
        r, p = left, left + (left @ left) / (r @ r) * p
    return x


def skewed(rng: np.random.Generator) -> Any:
    """A with a positive definite symmetric part, and a right side."""
    half, turn = whole(rng, 2, 2), int(whole(rng))
    return {"A": half @ half.T + np.eye(2, dtype=int) + turn * np.array([[0, 1], [-1, 0]]), "b": whole(rng, 2)}


def krylov_on_both(case: Case) -> Evidence:
    """On the symmetric part the method ends in n steps; on A itself the least residual over b, A b does (GMRES)."""
    A, b = column(case, "A"), column(case, "b")
    S = (A + A.T) / 2
    assume(np.linalg.eigvalsh(S)[0] > 0)
    basis = np.linalg.svd(np.stack([b, A @ b], axis=1))[0]
    least = basis @ np.linalg.lstsq(A @ basis, b, rcond=None)[0]
    return worst(
        equal(conjugate_gradients=conjugate_gradients(S, b), newton_step=newton_step(b, S)),
        equal(gmres_product=A @ least, right_side=b),
    )


@claim(
    "P5.2",
    paper=PAPER,
    place="Prop. 5 (2)",
    statement="for conjugate gradient and quasi-Newton methods, which do not need an explicit factorization, "
    "asymmetric blocks may be used, provided convergence is ensured",
    verdict=FAILS,
    corrected="plain conjugate gradients need a symmetric matrix and fail on others, even with a positive definite "
    "symmetric part; GMRES serves there. Moot: every element is symmetric",
    amended=krylov_on_both,
    domain=skewed,
    counterexample={"A": [[1, 1], [-1, 1]], "b": [1, 0]},
)
def conjugate_gradients_on_asymmetric(case: Case) -> Evidence:
    """The short recurrence makes directions conjugate only if A = A^T; what would ensure convergence otherwise the
    paper does not say, and a positive definite symmetric part does not. For A = [[1, 1], [-1, 1]], b = (1, 0) two
    steps give (1.5, 0.5), the solution is (0.5, 0.5)."""
    A, b = column(case, "A"), column(case, "b")
    return equal(conjugate_gradients=conjugate_gradients(A, b), solution=np.linalg.solve(A, b))


# ---------------------------------------------------------------- stopping


def convex(rng: np.random.Generator) -> Any:
    """Strongly convex, with kinks that make the gradient jump, and a point to compare 0 with."""
    n, k = int(rng.integers(1, 3)), int(rng.integers(1, 4))
    curvature = float(rng.choice([1, 2, 0.001]))
    case = {"c": whole(rng, n), "A": curvature * np.eye(n), "W": whole(rng, k, n), "b": rng.integers(0, 3, size=k)}
    return case | {"y": whole(rng, n, top=8)}


def distance_to_the_hull(case: Case) -> float:
    """|the gradient of least norm| at 0."""
    found = limiting_gradients(kinked(case), np.zeros(np.shape(case["W"])[1]))
    return float(np.linalg.norm(min_norm_element(found).element))


def gap_below(case: Case) -> Evidence:
    """f(y) >= f(0) + g.y + mu |y|^2 / 2 >= f(0) - |g|^2 / (2 mu) for the subgradient g of least norm."""
    _, A, W, b, _ = read(case)
    mu, y = np.linalg.eigvalsh(A)[0], numbers(case, "y", W.shape[1])
    assume(mu > 0 and np.all(b >= 0))
    bound = distance_to_the_hull(case) ** 2 / (2 * mu)
    return at_most(still_to_gain=-float(kinked(case)(y)), distance_squared_over_2_mu=bound)


EPS = 0.01


@claim(
    "P6.1",
    paper=PAPER,
    place="Prop. 6 (1)",
    statement="stopping criteria based on the eigenvalues of the Hessian: stop at small positive eigenvalues",
    verdict=FAILS,
    corrected="stop at a small distance of 0 to the hull of the limiting gradients, and judge it by the curvature: "
    "where f is convex with eigenvalues at least mu, f(x) - inf f <= distance^2 / (2 mu)",
    amended=gap_below,
    domain=convex,
    counterexample={"c": [1], "A": [[0.001]], "W": [[1]], "b": [1]},
    tolerance=1e-8,
)
def small_eigenvalues(case: Case) -> Evidence:
    """Eigenvalues say nothing of the gradient: x + max(x, 0) + x^2 / 2000 has at 0 the second derivative 0.001 and the
    slopes 1 and 2. Measured where all eigenvalues are in (0, 0.01]: the distance of 0 to the hull of the gradients,
    which the criterion would have below 0.01 too."""
    values = np.linalg.eigvalsh(limiting_hessians(kinked(case), np.zeros(np.shape(case["W"])[1])).matrices)
    assume(np.all((values > 0) & (values <= EPS)))
    return at_most(distance_of_0_to_the_gradients=distance_to_the_hull(case), eps=EPS)


def quadratics(rng: np.random.Generator) -> Any:
    n = int(rng.integers(1, 3))
    return {"A": np.diag(rng.choice([1, 2, 1024], size=n)) + np.ones((n, n), int), "c": whole(rng, n)}


def at_zero(case: Case) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """(gradient, Hessian) at 0 of x.A x / 2 + c.x, by the library; what there is still to gain, in closed form."""
    A, c = column(case, "A"), column(case, "c")
    f, x = lambda y: anp.dot(y, anp.dot(A, y)) / 2 + anp.dot(c, y), np.zeros(len(c))
    assume(np.linalg.eigvalsh(A)[0] > 0)
    return limiting_gradient(f, x), limiting_hessian(f, x), float(c @ np.linalg.solve(A, c) / 2)


def newton_decrement(case: Case) -> Evidence:
    g, H, gain = at_zero(case)
    return equal(newton_decrement=g @ newton_step(g, H) / 2, still_to_gain=gain)


@claim(
    "P6.2",
    paper=PAPER,
    place="Prop. 6 (2)",
    statement="stopping criteria using the relative norm of the gradient: |grad L(theta_t)| / |Hessian(theta_t)| < eps",
    verdict=FAILS,
    corrected="dist(0, hull of the limiting gradients) <= eps and least eigenvalue >= -eps; or the Newton decrement "
    "g.(H + lambda I)^-1 g / 2, which for a convex quadratic is L - min L",
    amended=newton_decrement,
    domain=quadratics,
    counterexample={"A": [[1024, 0], [0, 1]], "c": [0, 1]},
)
def relative_gradient(case: Case) -> Evidence:
    """|H| is the steepest direction's, the gradient may lie in the flattest. L = 512 x^2 + y^2 / 2 + y at 0 has
    |g| / |H| = 1/1024 but is 1/2 above its minimum, at a distance of 1. Measured where the quotient is below 0.01: what
    there is still to gain, beside 0.01."""
    g, H, gain = at_zero(case)
    assume(np.linalg.norm(g) / np.linalg.norm(H, 2) < EPS)
    return at_most(still_to_gain=gain, eps=EPS)


@claim(
    "P6.3",
    paper=PAPER,
    place="Prop. 6 (3)",
    statement="stopping criteria combining information on the curvature with the change of the value of the loss",
    verdict=UNTESTABLE,
    reason="no criterion is stated: neither the quantities nor how they are combined",
)
def combined_criterion(case: Case) -> None:
    """Nothing to evaluate."""


def armijo(case: Case) -> Any:
    """By the descent lemma f(x + t d) <= f(x) + t g.d + M t^2 |d|^2 / 2, and g.d = -d.B d <= -eta |d|^2: Armijo's rule
    with c1 and factor beta takes a step of at least min(1, 2 beta (1 - c1) eta / M), so that |g_t| is square summable
    where f is bounded below."""
    f, x, c1, beta, eta = kinked(case), numbers(case, "x", np.shape(case["W"])[1]), 0.25, 0.5, 1.0
    _, A, W, _, Q = read(case)
    P = min_norm_element(limiting_hessians(f, x)).element
    g = limiting_gradient(f, x)
    d = -newton_step(g, P, max(0.0, -np.linalg.eigvalsh(P)[0]) + eta)
    t = 1.0
    while t > 1e-9 and f(x + t * d) > f(x) + c1 * t * (g @ d) + 1e-12 * abs(f(x)):
        t *= beta
    M = np.linalg.norm(A, 2) + 2 * np.linalg.norm(W, axis=1) @ np.linalg.norm(Q, axis=1)
    least = min(1.0, 2 * beta * (1 - c1) * eta / M) if M else 1.0
    return worst(at_most(guaranteed_step=least, accepted_step=t), equal(gradient=g, by_formula=slope(case, x)))


def bends_and_a_point(rng: np.random.Generator) -> Any:
    case = bends(rng)
    return case | {"x": whole(rng, np.shape(case["W"])[1])}


@claim(
    "T10",
    paper=PAPER,
    place="Thm 10",
    statement="guarantees of convergence for regularized methods: for nonsmooth losses the use of theta_{t+1} = "
    "theta_t - (H_t + lambda I)^-1 grad L(theta_t), where H_t is the element of minimum norm and lambda > 0 is chosen "
    "so that H_t + lambda I is positive definite",
    verdict=UNTESTABLE,
    corrected="on C^{1,1}, with lambda_t >= max(0, -lambda_min(H_t)) + eta and Armijo's rule, g_t -> 0: the accepted "
    "steps are bounded below",
    amended=armijo,
    domain=bends_and_a_point,
    reason="the sentence has no predicate: it names the method and asserts nothing of it. Read as convergence for "
    "every such lambda it would be false: for |x| the element is 0, and theta - sign(theta) / lambda goes to and fro",
    cites=("hiriart1984",),
)
def guarantees(case: Case) -> None:
    """The corrected statement is evaluated: the step that Armijo's rule accepts is at least the one guaranteed."""


# ---------------------------------------------------------------- section 9: limitations


def narrow(rng: np.random.Generator) -> dict[str, np.ndarray]:
    n, d = int(rng.integers(1, 3)), int(rng.integers(1, 3))
    return {"D": whole(rng, d, n), "E": whole(rng, d, n) / 1024}


def block_changes(case: Case) -> tuple[Any, ...]:
    """How much D^+ changes from D to D + E, and how much the block H_vv of u = D v under the loss |u|^2 / 2."""
    D, E = column(case, "D"), column(case, "E")

    def block(W):
        network = Network()
        network.input("v", np.ones((1, W.shape[1])))
        network.input("D", W)
        network.node("u", affine, "v", "D")
        network.loss(squared_error(np.zeros((1, len(W)))), "u")
        return hessian_blocks(network)["v", "v"]

    change = np.linalg.norm(block(D + E) - block(D), 2)
    inverses = np.linalg.norm(np.linalg.pinv(D + E) - np.linalg.pinv(D), 2)
    return D, E, inverses, change


def stable_blocks(case: Case) -> Evidence:
    """H_vv = D^T D: |(D + E)^T (D + E) - D^T D| <= (2 |D| + |E|) |E|."""
    D, E, _, change = block_changes(case)
    size = np.linalg.norm(E, 2)
    return at_most(change_of_the_block=change, bound=(2 * np.linalg.norm(D, 2) + size) * size)


@claim(
    "Lim2",
    paper=PAPER,
    place="sec. 9, L2",
    statement="numerical instability of pseudo-inverses: formula (1) uses pseudo-inverses; for narrow layers singular "
    "values fall exponentially, and regularization distorts the spectrum of the Hessian",
    verdict=AMENDED,
    corrected="true of pseudo-inverses, and moot: no block of the Hessian needs one, the blocks change with D by at "
    "most (2 |D| + |E|) |E|",
    amended=stable_blocks,
    domain=narrow,
    counterexample={"D": [[0]], "E": [[0.001]]},
)
def unstable_blocks(case: Case) -> Evidence:
    """That pseudo-inverses are discontinuous where the rank drops is true: 0^+ = 0, but 0.001^+ = 1000. What does not
    hold is that the Hessian inherits it: in H = S^T K S only products of Jacobians occur. Measured: the block changes
    at least as much as the pseudo-inverse that formula (1) uses."""
    _, _, inverses, change = block_changes(case)
    return at_most(change_of_the_pseudo_inverse=inverses, change_of_the_block=change)
