"""What this library claims itself, in the same form.

Each statement says its hypotheses; where a shorter one is in use and does not hold, that one is printed here as well,
with what is missing.
"""

from collections.abc import Callable, Iterator
from itertools import combinations, pairwise, product
from typing import TYPE_CHECKING, Any

import autograd.numpy as np
import numpy as onp
from numpy.random import Generator
from numpy.typing import NDArray
from scipy.optimize import linprog

from clarke import (
    Network,
    chambers,
    characteristic_polynomial,
    count_chambers,
    hessian_blocks,
    inverse_hessian_product,
    layers,
    limiting_gradient,
    limiting_hessian,
    limiting_hessians,
    local_fan,
    min_norm_element,
    mlp,
    newton_step,
)
from clarke.lift import lift
from clarke.linearization import linearize

from .references import brute_force, dyadic, second
from .statements import AMENDED, HOLDS, Case, Evidence, assume, at_most, claim, equal

if TYPE_CHECKING:
    from ..lift import Lift

PAPER = "clarke"

# ---------------------------------------------------------------- fans


def two_layers(case: Case) -> Any:
    """x -> sum relu(V relu(W x + b) + c), c such that the units of the second layer listed in `tied` vanish at 0."""
    W, V, b = (onp.array(case[name], float) for name in "WVb")
    c = onp.where(case["tied"], -V @ onp.maximum(b, 0), 1.0 - V @ onp.maximum(b, 0))

    def f(x):
        return np.sum(np.maximum(np.dot(V, np.maximum(np.dot(W, x) + b, 0.0)) + c, 0.0))

    return f, W, V, b


def draw_two_layers(rng: Generator) -> Any:
    n = int(rng.integers(1, 4))
    d, m = int(rng.integers(1, 4)), int(rng.integers(0, 3))
    return {
        "W": rng.integers(-2, 3, size=(d, n)),
        "b": rng.choice([0, 1, -2], size=d),
        "V": rng.integers(-2, 3, size=(m, d)),
        "tied": rng.integers(0, 2, size=m) == 0,
    }


def letters_under(rows: Any) -> Iterator[Any]:
    """All pairs (letters, sign rows) of guards with these gradients: both signs, or '0' alone for a zero gradient."""
    options = [["0"] if not row.any() else ["+", "-"] for row in rows]
    for letters in product(*options):
        yield letters, [row * (1.0 if letter == "+" else -1.0) for row, letter in zip(rows, letters, strict=True)]


def strictly_feasible(rows: Any) -> Any:
    """Whether some h has row . h > 0 for every row, hence >= 1: one linear program."""
    rows = [row for row in rows if row.any()]
    if not rows:
        return True
    A = -onp.array(rows)
    return linprog(onp.zeros(A.shape[1]), A_ub=A, b_ub=-onp.ones(len(A)), bounds=(None, None)).status == 0


@claim(
    "C-fan",
    paper=PAPER,
    place="fan",
    statement="For a piecewise-linear f, `local_fan(f, x)` is complete and lists exactly the patterns realized in "
    "every neighborhood of x",
    verdict=HOLDS,
    domain=draw_two_layers,
)
def fan_of_piecewise_linear(case: Case) -> Evidence:
    """Near x such an f is f(x) plus a positively homogeneous function of the displacement, so a pattern is realized
    near x iff its cone {h : s_i g_i . h > 0}, g_i the gradient of the guard under the earlier letters, is not empty.
    Reference: one linear program for every sign vector."""
    f, W, V, b = two_layers(case)
    found, first = set(), b == 0
    for letters, rows in letters_under(W[first]):
        slopes = (b > 0).astype(float)
        slopes[first] = [letter == "+" for letter in letters]
        deeper = V[onp.array(case["tied"], bool)] @ (slopes[:, None] * W)
        for more, others in letters_under(deeper):
            if strictly_feasible(rows + others):
                found.add("".join(letters + more))
    fan = local_fan(f, onp.zeros(W.shape[1]))
    values = {"fan": sorted(fan.patterns), "linear_programs": sorted(found), "complete": str(fan.complete)}
    return Evidence(len(found ^ set(fan.patterns)) + (not fan.complete), values)


def draw_guards(rng: Generator) -> Any:
    """Quadratic guards g_i(x) = A_i . x + x^T Q_i x, A lower triangular with a diagonal that is not 0."""
    n = int(rng.integers(1, 4))
    k = int(rng.integers(1, n + 1))
    Q = rng.integers(-2, 3, size=(k, n, n))
    A = onp.tril(rng.integers(-2, 3, size=(n, n)), -1) + onp.diag(rng.choice([1, -1, 2], size=n))
    return {"A": A[:k, rng.permutation(n)], "Q": Q}


@claim(
    "C-fan-independent",
    paper=PAPER,
    place="fan",
    statement="Where the guards met on the way have linearly independent gradients at x, the fan is that of the "
    "gradients: complete, with all 2^k patterns of k kinks, however curved the guards are",
    verdict=HOLDS,
    domain=draw_guards,
)
def fan_of_independent_guards(case: Case) -> Evidence:
    """With independent gradients the guards are part of a chart near x (inverse function theorem), in which they are
    coordinates: every sign vector s is realized arbitrarily near, at x + t A^+ s for small t > 0, where
    g = t s + O(t^2). Reference: the signs at t = 2^-12 and 2^-24 of that path."""
    A, Q = onp.array(case["A"], float), onp.array(case["Q"], float)

    def guards(x):
        return np.dot(A, x) + np.einsum("ijk,j,k->i", Q, x, x)

    fan = local_fan(lambda x: np.sum(np.maximum(guards(x), 0.0)), onp.zeros(A.shape[1]))
    realized = set()
    for s in product((-1.0, 1.0), repeat=len(A)):
        for t in (2.0**-12, 2.0**-24):
            signs = guards(t * onp.linalg.lstsq(A, onp.array(s), rcond=None)[0])
            realized.add("".join("+" if g > 0 else "-" for g in signs))
    values = {"fan": sorted(fan.patterns), "along_paths": sorted(realized), "complete": str(fan.complete)}
    missing = len(realized ^ set(fan.patterns)) + (len(fan) != 2 ** len(A)) + (not fan.complete)
    return Evidence(missing, values)


# ---------------------------------------------------------------- H = S^T K S


def draw_dag(rng: Generator) -> Any:
    """Nodes f = tanh(A p + B q) + p * q of two earlier arrays p, q, width d; a squared loss on each of the last two."""
    d, count = int(rng.integers(1, 3)), int(rng.integers(1, 5))
    return {
        "x": dyadic(rng, d, top=1),
        "A": dyadic(rng, count, d, d, top=1),
        "B": dyadic(rng, count, d, d, top=1),
        "parents": [[int(rng.integers(0, k + 1)), int(rng.integers(0, k + 1))] for k in range(count)],
    }


def dag_of(case: Case) -> Any:
    """(network, names): the input f0 and the nodes f1, f2, ..."""
    network = Network()
    network.input("f0", onp.array(case["x"], float))
    for k, (p, q) in enumerate(case["parents"], 1):
        A, B = (onp.array(case[name][k - 1], float) for name in "AB")

        def node(left, right, A=A, B=B):
            return np.tanh(np.dot(A, left) + np.dot(B, right)) + left * right

        network.node(f"f{k}", node, f"f{p}", f"f{q}")
    names = tuple(f"f{k}" for k in range(len(case["parents"]) + 1))
    for name in names[-2:]:
        network.loss(layers.squared_error(onp.zeros(len(case["x"]))), name)
    return network, names


@claim(
    "C-sks",
    paper=PAPER,
    place="blocks",
    statement="H = S^T K S: S = (I - N)^-1 with the local Jacobians in N, K the second derivatives of the losses plus "
    "those of the nodes weighted by the adjoints S^T grad L, on any directed acyclic graph",
    verdict=HOLDS,
    domain=draw_dag,
)
def total_second_derivative(case: Case) -> Any:
    """f = g(f) + eps has df = S d eps, S = (I - N)^-1; the gradient in eps is delta = S^T grad L, and differentiating
    (I - N)^T delta = grad L gives (I - N)^T d delta = (d2 L + sum_u delta_u d2 g_u) df = K df. S^T K S is assembled
    here from closed forms node by node; the library and autograd's whole Hessian are held against it."""
    network, names = dag_of(case)
    d, n = len(case["x"]), len(names)
    f = [network.value(name) for name in names]
    N, K = onp.zeros((n * d, n * d)), onp.zeros((n * d, n * d))
    at = [slice(k * d, (k + 1) * d) for k in range(n)]
    slopes, inner = [], []
    for k, (p, q) in enumerate(case["parents"], 1):
        A, B = (onp.array(case[name][k - 1], float) for name in "AB")
        slope = 1 - onp.tanh(A @ f[p] + B @ f[q]) ** 2
        N[at[k], at[p]] += slope[:, None] * A + onp.diag(f[q])
        N[at[k], at[q]] += slope[:, None] * B + onp.diag(f[p])
        slopes.append(slope)
        inner.append((A, B))
    S = onp.linalg.inv(onp.eye(n * d) - N)
    direct = onp.zeros(n * d)
    for k in range(max(0, n - 2), n):
        direct[at[k]] = f[k] / d  # the mean over the d entries, each a sample
        K[at[k], at[k]] += onp.eye(d) / d
    delta = S.T @ direct
    for k, (p, q) in enumerate(case["parents"], 1):
        A, B = inner[k - 1]
        tanh = onp.tanh(A @ f[p] + B @ f[q])
        bend = onp.diag(-2 * tanh * slopes[k - 1] * delta[at[k]])
        J = onp.zeros((d, n * d))
        J[:, at[p]] += A
        J[:, at[q]] += B
        K += J.T @ bend @ J
        K[at[p], at[q]] += onp.diag(delta[at[k]])
        K[at[q], at[p]] += onp.diag(delta[at[k]])
    H = S.T @ K @ S
    return equal(
        library_and_whole_derivative=[hessian_blocks(network).dense(names), brute_force(network, names)],
        assembled=onp.array([H, H]),
    )


# ---------------------------------------------------------------- chambers


def draw_normals(rng: Generator) -> Any:
    n, k = int(rng.integers(1, 4)), int(rng.integers(1, 7))
    return {"normals": rng.integers(-2, 3, size=(k, n))}


@claim(
    "C-count",
    paper=PAPER,
    place="arrangements, counting",
    statement="The chambers enumerated, the number counted and (-1)^n chi(-1) are one number, for every central "
    "arrangement, in general position or not",
    verdict=HOLDS,
    domain=draw_normals,
    cites=("zaslavsky1975", "orlik1992"),
)
def count_identity(case: Case) -> Any:
    """Zaslavsky: the number of chambers is (-1)^n chi(-1). Reference: Whitney's rank sum over all sets B of
    hyperplanes, chi(t) = sum_B (-1)^|B| t^(n - rank B)."""
    normals = onp.array(case["normals"])
    rows = normals[normals.any(axis=1)]
    chosen = onp.array(list(product((0, 1), repeat=len(rows)))).reshape(2 ** len(rows), len(rows), 1)
    ranks = onp.linalg.matrix_rank(chosen * rows) if len(rows) else onp.zeros(1, int)
    whitney = int(onp.sum((-1.0) ** (chosen.sum((1, 2)) + ranks)))
    polynomial = characteristic_polynomial(normals)
    at_minus_one = sum(c * (-1) ** (len(polynomial) - 1 - i) for i, c in enumerate(polynomial))
    listed = len(chambers(normals).signs)
    return equal(
        enumerated_counted_polynomial=[listed, count_chambers(normals), (-1) ** normals.shape[1] * at_minus_one],
        whitney=[whitney] * 3,
    )


def draw_more_normals(rng: Generator) -> Any:
    n, k = int(rng.integers(2, 5)), int(rng.integers(1, 7))
    return {"normals": rng.integers(-2, 3, size=(k, n))}


@claim(
    "C-deletion",
    paper=PAPER,
    place="counting",
    statement="chi(A) = chi(A without h) - chi(A restricted to h), so the numbers of chambers add up, for every "
    "hyperplane h that is not another one of A",
    verdict=HOLDS,
    domain=draw_more_normals,
    share=0.3,
    cites=("zaslavsky1975", "orlik1992"),
)
def deletion_and_restriction(case: Case) -> Any:
    """h cuts exactly those chambers of A without h in two that meet it, and they meet it in the chambers of the
    restriction. On h, x_j = -sum_{i != j} h_i x_i / h_j for h_j != 0: the restricted normals are v_i h_j - v_j h_i."""
    normals = onp.array(case["normals"])
    h, rest = normals[-1], normals[:-1]
    assume(h.any() and all(onp.linalg.matrix_rank(onp.array([h, v])) == 2 for v in rest if v.any()))
    j = int(onp.flatnonzero(h)[0])
    restricted = onp.delete(rest * h[j] - onp.outer(rest[:, j], h), j, axis=1)
    whole = characteristic_polynomial(normals)
    deleted, on_h = characteristic_polynomial(rest), [0, *characteristic_polynomial(restricted)]
    return equal(
        whole_and_chambers=[*whole, count_chambers(normals)],
        deletion_and_restriction=[
            *(a - b for a, b in zip(deleted, on_h, strict=True)),
            count_chambers(rest) + count_chambers(restricted),
        ],
    )


# ---------------------------------------------------------------- the Hessian of a network


def draw_dense(rng: Generator) -> Any:
    depth = int(rng.integers(1, 4))
    return {
        "widths": [int(rng.integers(1, 4)) for _ in range(depth + 1)],
        "activation": str(rng.choice(["tanh", "softplus", "linear", "relu"])),
        "loss": str(rng.choice(["squared", "cross_entropy"])),
        "bias": bool(rng.integers(0, 2)),
        "theta": dyadic(rng, 36),
        "x": dyadic(rng, 3),
        "damping": int(rng.integers(-4, 5)) + 0.5,
    }


def dense_net(case: Case) -> Any:
    """A dense network at one sample, without kinks."""
    widths, bias = case["widths"], case["bias"]
    size = sum(a * (b + bias) for b, a in pairwise(widths))
    network = mlp(
        widths,
        activation=case["activation"],
        loss=case["loss"],
        bias=bias,
        inputs=[case["x"][: widths[0]]],
        targets=onp.eye(1, widths[-1]),
        theta=onp.array(case["theta"], float)[:size],
    )
    if case["activation"] == "relu":
        assume(all(onp.all(network.value(f"z{k}") != 0) for k in range(1, len(widths) - 1)))
    return network


def signature(values: Any) -> Any:
    """(positive, negative)"""
    return onp.array([onp.sum(values > 0), onp.sum(values < 0)])


def assembled(system: "Lift") -> Any:
    """The lifted matrix, dense."""
    found = onp.zeros((system.starts[-1], system.starts[-1]))
    for bundle in system.bundles:
        for s, t, block in zip(bundle.rows, bundle.columns, bundle.blocks, strict=True):
            rows, columns = (
                slice(system.starts[k], system.starts[k] + n) for k, n in zip((s, t), block.shape, strict=True)
            )
            found[rows, columns] += block
            if s != t:
                found[columns, rows] += block.T
    return found


@claim(
    "C-inertia",
    paper=PAPER,
    place="lift, inverse",
    statement="The lift of H + lambda I, nothing eliminated, has the inertia of H + lambda I plus (m, m, 0), m the "
    "number of entries of the cuts, and its determinant up to sign",
    verdict=HOLDS,
    domain=draw_dense,
    share=0.3,
    cites=("haynsworth1968",),
)
def inertia_of_the_lift(case: Case) -> Any:
    """The block of (z, mu) is [[W, -B^T], [-B, 0]] with B unit triangular: determinant (-1)^m, and inertia (m, m, 0) as
    it is zero on m dimensions and regular. Its Schur complement is H + lambda I; inertias add (Haynsworth) and
    determinants multiply. Reference: eigenvalues of the Hessian by brute force."""
    network, damping = dense_net(case), case["damping"]
    H = brute_force(network, network.parameters) + damping * onp.eye(network.size)
    values = onp.linalg.eigvalsh(H)
    assume(onp.abs(values).min() > 1e-4 * max(1.0, onp.abs(values).max()))
    system = lift(((1.0, linearize(network)),), network.parameters, damping)
    m = (system.starts[-1] - network.size) // 2
    K = assembled(system)
    found = inverse_hessian_product(network, onp.ones(network.size), damping=damping)
    logarithm = onp.sum(onp.log(onp.abs(values)))
    return equal(
        lift_and_inverse_product=[
            *(signature(onp.linalg.eigvalsh(K)) - m),
            onp.linalg.slogdet(K)[1],
            *found.inertia[:2],
            found.log_abs_det,
        ],
        brute_force=[*signature(values), logarithm, *signature(values), logarithm],
    )


@claim(
    "C-rank",
    paper=PAPER,
    place="inverse",
    statement="At one sample the Hessian of a dense network over its weights has rank at most "
    "a_1 + sum_{l >= 2} (a_l + a_{l-1} - 1), and with biases a_1 + sum_{l >= 2} (a_l + a_{l-1}), whatever the "
    "activations and the loss of the outputs",
    verdict=HOLDS,
    domain=draw_dense,
    share=0.4,
)
def rank_bound(case: Case) -> Any:
    """The second variation reads dW_l only through dW_l z + db_l (a_l numbers) and, as beta^T dW_l dz_{l-1}, through
    dW_l^T beta_l (a_{l-1} numbers, none for l = 1, where dz_0 = 0). Without biases z^T (dW_l^T beta) =
    beta^T (dW_l z) is one relation between them. So H is a quadratic form in that many linear functionals."""
    H, a = hessian_blocks(dense_net(case)).dense(), case["widths"]
    bound = a[1] + sum(after + before - 1 + case["bias"] for before, after in pairwise(a[1:]))
    values = onp.linalg.svd(H, compute_uv=False)
    return at_most(rank=int(onp.sum(values > 1e-11 * max(1.0, values[0]))), bound=bound)


# ---------------------------------------------------------------- elements of least norm


def draw_planted(rng: Generator, samples: Any = 1) -> Any:
    """Units of the first layer vanish at the first sample where they are tied; the others, and later ones, do not."""
    n, d, m = (int(rng.integers(1, 3)) for _ in range(3))
    x = 2 * rng.integers(-1, 2, size=(samples, n)) + 1
    W, V = rng.integers(-2, 3, size=(d, n)), rng.integers(-2, 3, size=(m, d))
    tied = rng.integers(0, 2, size=d) == 0
    return {
        "x": x,
        "t": rng.integers(-3, 4, size=(samples, 1)),
        "W": W,
        "b": onp.where(tied, -W @ x[0], rng.integers(-2, 3, size=d) + 0.5),
        "V": V,
        "c": rng.integers(-2, 3, size=m) + 0.25,
        "u": rng.integers(-2, 3, size=m),
    }


def draw_two_samples(rng: Generator) -> Any:
    return draw_planted(rng, samples=2)


ORDER = ("W", "b", "V", "c", "u")


def masked_loss(case: Case) -> tuple[Callable[..., Any], NDArray[Any], NDArray[Any], NDArray[Any]]:
    """(loss of flat parameters whose ReLU slopes are frozen, 0 at a kink; the preactivations)."""
    x, t = onp.array(case["x"], float), onp.array(case["t"], float)
    arrays = [onp.array(case[name], float) for name in ORDER]
    ends = onp.cumsum([0, *(array.size for array in arrays)])
    W, b, V, c, _ = arrays
    lower = x @ W.T + b
    upper = onp.maximum(lower, 0) @ V.T + c

    def loss(flat):
        W, b, V, c, u = (
            np.reshape(flat[i:j], array.shape) for i, j, array in zip(ends[:-1], ends[1:], arrays, strict=True)
        )
        h = (lower > 0) * (np.dot(x, W.T) + b)
        g = (upper > 0) * (np.dot(h, V.T) + c)
        return np.sum((np.dot(g, u) - t[:, 0]) ** 2) / (2 * len(x))

    return loss, onp.concatenate([array.ravel() for array in arrays]), lower, upper


def relu_net(case: Case) -> Network:
    """The same network, with its kinks."""
    network = Network()
    network.input("x", onp.array(case["x"], float))
    for name in ORDER:
        value = onp.array(case[name], float)
        network.parameter(name, value.reshape(1, -1) if name == "u" else value)
    network.node("z", layers.affine, "x", "W", "b")
    network.node("h", layers.relu, "z")
    network.node("s", layers.affine, "h", "V", "c")
    network.node("g", layers.relu, "s")
    network.node("y", layers.affine, "g", "u")
    network.loss(layers.squared_error(onp.array(case["t"], float)), "y")
    return network


def slope_zero_convention(case: Case) -> Evidence:
    """The element of least norm against the Hessian with slope 0 at every kink; kinks of the first layer only."""
    loss, theta, lower, upper = masked_loss(case)
    assume(onp.any(lower == 0) and onp.all(upper != 0))
    network = relu_net(case)
    found = limiting_hessians(network.function(), network.point())
    assume(found.complete)
    return equal(least_norm=min_norm_element(found).element, slope_zero=second(loss, theta))


def one_sample(case: Case) -> Any:
    """The same, under the hypothesis."""
    assume(len(case["x"]) == 1)
    return slope_zero_convention(case)


@claim(
    "C-slope0",
    paper=PAPER,
    place="projection, inverse",
    statement="At kinks of first-layer ReLU units the limiting Hessian of least norm is the one with slope 0 there",
    corrected="For ONE sample, over parameters among which are the weights and the bias of a dense first layer that "
    "nothing else reads, with a loss of the outputs alone, where only units of that layer are tied. With several "
    "samples, shared (convolutional) weights, or ties in a deeper layer the element of least norm can lie inside the "
    "hull; over the inputs it can be the one with slope 1.",
    verdict=AMENDED,
    amended=one_sample,
    domain=draw_planted,
    printed_domain=draw_two_samples,
    counterexample={
        "x": [[1], [2]],
        "t": [[-3], [3]],
        "W": [[1]],
        "b": [-1],
        "V": [[1]],
        "c": [0.25],
        "u": [1],
    },
    tolerance=1e-7,
    share=0.2,
)
def slope_zero_at_kinks(case: Case) -> Evidence:
    """Let K be the tied units, w_k their weights and bias. Their outputs are 0, so entries of H outside the rows and
    columns of w_k, k in K, do not depend on the slopes s; those inside are multiples of s_k, zero at s = 0. Hence
    <H(s) - H(0), H(0)> = 0 for every s, and H(0) is the least element of the hull as soon as it is in it: all signs
    are realized, the gradients of the guards in (w_k, b_k) being (x, 1) at different places. A second sample with the
    unit on fills those entries of H(0)."""
    return slope_zero_convention(case)


def draw_hull(rng: Generator) -> Any:
    m, d = int(rng.integers(1, 5)), int(rng.integers(1, 4))
    return {"elements": rng.integers(-3, 4, size=(m, d)), "weights": rng.integers(0, 4, size=m)}


def least_by_faces(V: Any) -> Any:
    """The point of least norm of conv V: the least among the projections onto the faces' affine hulls that are convex
    combinations."""
    best = None
    for size in range(1, len(V) + 1):
        for chosen in combinations(range(len(V)), size):
            rows = V[list(chosen)]
            system = onp.block([[rows @ rows.T, onp.ones((size, 1))], [onp.ones((1, size)), onp.zeros((1, 1))]])
            weights = onp.linalg.lstsq(system, onp.append(onp.zeros(size), 1.0), rcond=None)[0][:size]
            point = weights @ rows
            if weights.min() >= -1e-9 and (best is None or point @ point < best @ best):
                best = point
    return best


@claim(
    "C-gap",
    paper=PAPER,
    place="projection",
    statement="For every Q in conv{v_i}, |Q - P|^2 <= |Q|^2 - min_i <Q, v_i>, P the element of least norm; so the gap "
    "that `min_norm_element` reports bounds its distance to P by sqrt(gap) max_i |v_i|",
    verdict=HOLDS,
    domain=draw_hull,
    share=0.4,
    tolerance=1e-9,
    cites=("lawson1974",),
)
def gap_bounds_distance(case: Case) -> Any:
    """<P, Q - P> >= 0 gives |Q - P|^2 <= <Q, Q - P>, and <Q, P> >= min_i <Q, v_i> as P is in the hull. Q is drawn;
    P comes from all faces, one linear system each."""
    V, weights = onp.array(case["elements"], float), onp.array(case["weights"], float)
    assume(weights.sum() > 0)
    Q, P = weights @ V / weights.sum(), least_by_faces(V)
    found = min_norm_element(V)
    bound = found.gap * onp.sum(V**2, axis=1).max()
    return at_most(
        squared_distances=[onp.sum((Q - P) ** 2), onp.sum((found.element - P) ** 2)],
        gaps=[Q @ Q - (V @ Q).min(), bound],
    )


# ---------------------------------------------------------------- Newton's order


def draw_start(rng: Generator) -> Any:
    n = int(rng.integers(1, 4))
    return {
        "w": rng.integers(-2, 3, size=n),
        "a": int(rng.integers(0, 4)),
        "k": int(rng.integers(-3, 4)) / 2,
        "x": rng.integers(-8, 9, size=n) / 64,
    }


@claim(
    "C-newton",
    paper=PAPER,
    place="semismooth",
    statement="Where f is C^{1,1} with piecewise Lipschitz second derivatives and every element of the hull of its "
    "limiting Hessians at the solution is regular, x - V^-1 grad f(x) converges locally quadratically, V any element "
    "of the hull at x, the one of least norm for instance",
    verdict=HOLDS,
    domain=draw_start,
    cites=("qi1993",),
)
def quadratic_order(case: Case) -> Any:
    """f = |x|^2/2 + a max(w . x, 0)^2/2 + (k/3) sum x_i^3 is C^{1,1} with solution 0. On a piece g(x) - V x = -k x^2,
    and V >= 1 - 2 |k| |x|_max, so that one step leads from x to at most |k| |x|^2 / (1 - 2 |k| |x|_max). At a kink,
    w . x = 0, all pieces have one gradient and V x is the same for every element of the hull. Where the gradient jumps
    there is no such bound: |x| + x^2/2 goes from x > 0 to -1."""
    w, x = onp.array(case["w"], float), onp.array(case["x"], float)
    a, k = case["a"], case["k"]
    largest = abs(k) * onp.abs(x).max(initial=0.0)
    assume(2 * largest < 0.5)

    def f(y):
        return 0.5 * np.dot(y, y) + 0.5 * a * np.maximum(np.dot(w, y), 0.0) ** 2 + k / 3 * np.sum(y**3)

    gradient = limiting_gradient(f, x)
    elements = [limiting_hessian(f, x), min_norm_element(limiting_hessians(f, x)).element]
    after = [onp.linalg.norm(x - newton_step(gradient, V)) for V in elements]
    return at_most(scale=1.0, errors_after_a_step=after, bound=abs(k) * (x @ x) / (1 - 2 * largest))
