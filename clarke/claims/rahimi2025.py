"""Claims of Rahimi (2025): products with the inverse Hessian of a pipeline.

A case is a pipeline z_l = f_l(z_{l-1}; x_l) by its Taylor series at the origin, where z_0 and all x_l are 0:

    f_l(z; x) = F_l z + G_l x + y^T T_l y / 2,    y = (z, x), one symmetric matrix T_l[i] an output i,

a scalar z_0 in, the scalar loss z_L out. Every pipeline is one to second order, and weights are small integers. The
printed matrices M, D_x, P, D_D, D_M, D_xx, D_xz, D_zx, D_zz are assembled here literally; `clarke.woodbury` has the
paper's section 6, and the truth comes from `clarke.hessian_blocks` and `clarke.hvp` of the same pipeline.
"""

from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import autograd.numpy as np
import numpy as onp
from numpy.random import Generator
from numpy.typing import NDArray
from scipy.linalg import block_diag

from clarke import (
    Network,
    hessian_blocks,
    hvp,
    inverse_hessian_product,
    jacobian,
    layers,
    mlp,
    newton_step,
    vec,
)
from clarke.eliminations import bandwidth
from clarke.lift import outline
from clarke.linearization import linearize
from clarke.woodbury import Pipeline, inverse_of_q, lifted, woodbury_solve

from .statements import AMENDED, FAILS, HOLDS, UNTESTABLE, Case, Evidence, assume, at_most, claim, equal

PAPER = "rahimi2025"

# ---------------------------------------------------------------- pipelines


def taylor(z: NDArray[Any], x: NDArray[Any], F: Any, G: NDArray[Any], T: NDArray[Any]) -> NDArray[Any]:
    """F z + G x + y^T T y / 2"""
    y = np.concatenate([z, x])
    return np.dot(F, z) + np.dot(G, x) + 0.5 * np.einsum("ijk,j,k->i", T, y, y)


def head(z: NDArray[Any]) -> NDArray[Any] | float:
    """The loss is z_L."""
    return np.sum(z)


def arrays(case: Case) -> list[tuple[NDArray[Any], NDArray[Any], NDArray[Any]]]:
    """The steps (F_l, G_l, T_l)."""
    found = []
    for F, G, T in zip(case["F"], case["G"], case["T"], strict=True):
        F, G = onp.array(F, float), onp.array(G, float)
        found.append((F, G, onp.array(T, float).reshape(len(F), sum(A.shape[1] for A in (F, G)), -1)))
    return found


def network_of(case: Case) -> Network:
    """The pipeline as a network at the origin."""
    network = Network()
    network.input("z0", onp.zeros(1))
    for k, (F, G, T) in enumerate(arrays(case), 1):
        network.parameter(f"x{k}", onp.zeros(G.shape[1]))
        network.node(f"z{k}", partial(taylor, F=F, G=G, T=T), f"z{k - 1}", f"x{k}")
    network.loss(head, f"z{len(case['F'])}")
    return network


def adjoints(steps: Sequence[tuple[NDArray[Any], NDArray[Any], NDArray[Any]]]) -> list[NDArray[Any]]:
    """b_1, ..., b_L: (a_l,) each, b_L = 1."""
    found = [onp.ones(1)]
    for F, _, _ in reversed(steps[1:]):
        found.insert(0, found[0] @ F)
    return found


def pipeline_of(case: Case) -> Pipeline:
    """The same for `clarke.woodbury`: second derivatives weighted by the adjoints."""
    steps = arrays(case)
    weighted = [onp.tensordot(b, T, 1) for b, (_, _, T) in zip(adjoints(steps), steps, strict=True)]
    ends = [F.shape[1] for F, _, _ in steps]
    return Pipeline(
        [F for F, _, _ in steps],
        [G for _, G, _ in steps],
        [W[:n, :n] for n, W in zip(ends, weighted, strict=True)],
        [W[:n, n:] for n, W in zip(ends, weighted, strict=True)],
        [W[n:, n:] for n, W in zip(ends, weighted, strict=True)],
    )


def flattened(T: NDArray[Any], rows: slice, columns: slice) -> NDArray[Any]:
    """The derivative in the arguments `columns` of vec of the Jacobian in the arguments `rows`: index (row, output)."""
    return T[:, rows, columns].transpose(1, 0, 2).reshape(-1, T[:, rows, columns].shape[2])


def printed(case: Case) -> dict[str, NDArray[Any]]:
    """The matrices recapitulated after (24), as printed, by name."""
    steps = arrays(case)
    b, M_, Dx, P = adjoints(steps), *pipeline_of(case).matrices
    parts = {"DD": [], "DM": [], "Dxx": [], "Dxz": [], "Dzx": [], "Dzz": []}
    for row, (F, G, T) in zip(b, steps, strict=True):
        n, p = F.shape[1], G.shape[1]
        z, x = slice(0, n), slice(n, n + p)
        parts["DD"].append(onp.kron(onp.eye(p), row))
        parts["DM"].append(onp.kron(onp.eye(n), row))
        parts["Dxx"].append(flattened(T, x, x))
        parts["Dzx"].append(flattened(T, x, z))
        parts["Dxz"].append(flattened(T, z, x))
        parts["Dzz"].append(flattened(T, z, z))
    return {"M": M_, "Dx": Dx, "P": P} | {name: onp.asarray(block_diag(*blocks)) for name, blocks in parts.items()}


def draw(rng: Generator, square: bool = False) -> Any:
    """1 to 3 steps of widths and numbers of parameters 1 to 2; where square, D_x is square and regular."""
    depth = int(rng.integers(1, 4))
    a = [1, *(int(rng.integers(1, 3)) for _ in range(depth - 1)), 1]
    case = {"F": [], "G": [], "T": []}
    for before, after in pairwise(a):
        p = after if square else int(rng.integers(1, 3))
        F = rng.choice([1, -1, 2], size=(after, before))
        G = rng.integers(-1, 2, size=(after, p))
        T = rng.integers(-1, 2, size=(after, before + p, before + p))
        T = T + T.swapaxes(1, 2)
        if square:
            G = onp.tril(G, -1) + onp.diag(rng.choice([1, -1, 2], size=p))
            T[:, range(before, before + p), range(before, before + p)] += 3
        case = {"F": [*case["F"], F], "G": [*case["G"], G], "T": [*case["T"], T]}
    return case


draw_square = partial(draw, square=True)


def hessian_of(case: Case) -> NDArray[Any]:
    """The Hessian in all parameters."""
    return onp.asarray(hessian_blocks(network_of(case)).dense())


def regular(matrix: NDArray[Any]) -> bool:
    """Whether the matrix has an inverse that keeps five digits of 15."""
    values = onp.linalg.svd(matrix, compute_uv=False)
    return matrix.shape[0] == matrix.shape[1] and values[-1] > 1e-5 * max(1.0, values[0])


def rank(matrix: NDArray[Any]) -> int:
    """The number of singular values above 1e-9 of the largest, and of 1."""
    values = onp.linalg.svd(matrix, compute_uv=False)
    return int(onp.sum(values > 1e-9 * max(1.0, values[0])))


def direction(n: int) -> NDArray[Any]:
    """(1, 2, ..., n) / n: a right-hand side."""
    return onp.arange(1.0, n + 1) / n


# ---------------------------------------------------------------- derivatives


@claim(
    "R-8",
    paper=PAPER,
    place="eq. (8)",
    statement="dz_L / dx = e_L M^-1 D_x",
    verdict=HOLDS,
    domain=draw,
)
def gradient(case: Case) -> Any:
    """dz = M^-1 D_x dx by forward substitution, and e_L picks the last, scalar, entry of dz."""
    parts = printed(case)
    last = onp.eye(len(parts["M"]))[-1]
    return equal(
        gradient=hessian_blocks(network_of(case)).gradient.dense(),
        printed=last @ onp.linalg.solve(parts["M"], parts["Dx"]),
    )


@claim(
    "R-24",
    paper=PAPER,
    place="eq. (24)",
    statement="H = D_D D_xx + D_D D_zx P M^-1 D_x + D_x^T M^-T P^T D_M D_xz + D_x^T M^-T P^T D_M D_zz P M^-1 D_x",
    corrected="As printed; P is rectangular where widths differ.",
    verdict=HOLDS,
    domain=draw,
    cites=("pearlmutter1994",),
)
def polynomial(case: Case) -> Any:
    """Differentiate e_L M^-1 D_x: d vec of each Jacobian is (D_xx + D_zx P M^-1 D_x) dx and (D_xz + D_zz P M^-1 D_x)
    dx, weighted by b. P takes (dz_1, ..., dz_L) to (dz_0, ..., dz_{L-1}), of as many entries as a_0 = a_L only."""
    S = printed(case)
    down = S["P"] @ onp.linalg.solve(S["M"], S["Dx"])
    straight = S["DD"] @ (S["Dxx"] + S["Dzx"] @ down)
    through = down.T @ S["DM"] @ (S["Dxz"] + S["Dzz"] @ down)
    return equal(hessian=hessian_of(case), printed=straight + through)


def draw_map(rng: Generator) -> Any:
    o, d = int(rng.integers(1, 3)), int(rng.integers(1, 4))
    T = rng.integers(-2, 3, size=(o, d, d))
    return {"T": T + T.swapaxes(1, 2), "dx": rng.integers(-2, 3, size=d)}


def change_of_jacobian(case: Case) -> NDArray[Any]:
    """vec of the change of the Jacobian of g(x) = x^T T x / 2 from 0 to dx."""
    T, dx = onp.array(case["T"], float), onp.array(case["dx"], float)

    def g(x):
        return 0.5 * np.einsum("ijk,j,k->i", T, x, x)

    return vec(jacobian(g, dx).matrix - jacobian(g, 0.0 * dx).matrix)


def stacked(case: Case) -> Evidence:
    """The (o d) x d matrix, entry ((j, i), k) the second derivative of g_i in x_j and x_k."""
    T, dx = onp.array(case["T"], float), onp.array(case["dx"], float)
    return equal(change_of_the_jacobian=change_of_jacobian(case), od_by_d=flattened(T, slice(None), slice(None)) @ dx)


@claim(
    "R-10",
    paper=PAPER,
    place="sec. 5, after (10)",
    statement="If g: R^d -> R^o, then nabla_xx g(x) in R^(o x d^2) is the unique matrix such that "
    "vec(nabla_x g(x + dx) - nabla_x g(x)) -> nabla_xx g(x) dx",
    corrected="nabla_xx g(x) is (o d) x d: vec of the o x d Jacobian has o d entries, dx has d.",
    verdict=AMENDED,
    amended=stacked,
    domain=draw_map,
    counterexample={"T": [[[1, 0], [0, 1]]], "dx": [1, 0]},
)
def o_by_d_squared(case: Case) -> Evidence:
    """An o x d^2 matrix takes d^2 entries; dx has d. Both fit only where d = 1. The shapes used later in the paper,
    a p x p for nabla_xx f_l, are the right ones."""
    T, dx = onp.array(case["T"], float), onp.array(case["dx"], float)
    o, d = T.shape[:2]
    if d > 1:
        return Evidence(onp.inf, {"nabla_xx_g": f"{o} x {d * d}", "dx": f"{d} entries", "vec": f"{o * d} entries"})
    return equal(change_of_the_jacobian=change_of_jacobian(case), printed=T.reshape(o, d * d) @ dx)


# ---------------------------------------------------------------- the lift and Woodbury


@claim(
    "R-27",
    paper=PAPER,
    place="eqs. (26)-(27)",
    statement="H = U^T X U = A + U^T Q U with U = [M^-1 D_x; I], A = D_x^T M^-T M^-1 D_x and Q = X - diag(I, 0)",
    verdict=HOLDS,
    domain=draw,
)
def lifted_forms(case: Case) -> Any:
    """U^T X U is (24) block by block; the I taken from the corner of X gives back (M^-1 D_x)^T (M^-1 D_x) = A."""
    A, U, Q = lifted(pipeline_of(case))
    H, n = hessian_of(case), len(U) - len(A)
    X = Q + onp.diag(onp.repeat([1.0, 0.0], [n, len(A)]))
    return equal(hessian=[H, H], printed=[U.T @ X @ U, A + U.T @ Q @ U])


def require_regular(case: Case) -> Any:
    """(A, U, Q, H) where A, Q and H are regular."""
    found = (*lifted(pipeline_of(case)), hessian_of(case))
    assume(all(regular(matrix) for matrix in (found[0], found[2], found[3])))
    return found


def woodbury(A: Any, U: Any, Q: Any) -> Any:
    """The right-hand side of (28)."""
    Ainv = onp.linalg.inv(A)
    return Ainv - Ainv @ U.T @ onp.linalg.solve(onp.linalg.inv(Q) + U @ Ainv @ U.T, U @ Ainv)


def woodbury_inverse(case: Case) -> Any:
    """(28) where A, Q, H are regular."""
    A, U, Q, H = require_regular(case)
    return equal(product=woodbury(A, U, Q) @ H, identity=onp.eye(len(H)))


TWO_PARAMETERS = {"F": [[[0]]], "G": [[[1, 0]]], "T": [[[[0, 0, 0], [0, 1, 0], [0, 0, 1]]]]}
"""f(x1, x2) = x1 + (x1^2 + x2^2) / 2: one step, H = I."""


@claim(
    "R-28",
    paper=PAPER,
    place="eq. (28)",
    statement="H^-1 = (A + U^T Q U)^-1 = A^-1 - A^-1 U^T (Q^-1 + U A^-1 U^T)^-1 U A^-1",
    corrected="Where A and Q are invertible too. A = D_x^T M^-T M^-1 D_x has rank at most sum min(p_l, a_l): singular "
    "as soon as some p_l > a_l, which holds in every network with a matrix of parameters (of two columns or more).",
    verdict=AMENDED,
    amended=woodbury_inverse,
    domain=draw_square,
    printed_domain=draw,
    counterexample=TWO_PARAMETERS,
    share=0.2,
    cites=("woodbury1950",),
)
def woodbury_as_printed(case: Case) -> Evidence:
    """Woodbury needs the inverses it writes. x1 + (x1^2 + x2^2)/2 has H = I, but a gradient (1, 0) and so
    A = [[1, 0], [0, 0]]. Where A or Q is singular their ranks are set against their sizes, else (28) against H."""
    A, U, Q = lifted(pipeline_of(case))
    H = hessian_of(case)
    assume(regular(H))
    if rank(A) < len(A) or rank(Q) < len(Q):
        return equal(ranks_of_A_and_Q=[rank(A), rank(Q)], sizes=[len(A), len(Q)])
    assume(regular(A) and regular(Q))
    return equal(product=woodbury(A, U, Q) @ H, identity=onp.eye(len(H)))


def inverse_of_a(case: Case) -> Any:
    """A^-1 by the printed product, D_x square and regular."""
    M, Dx, _ = pipeline_of(case).matrices
    assume(regular(Dx))
    root = onp.linalg.solve(Dx, M)
    return equal(product=lifted(pipeline_of(case))[0] @ root @ root.T, identity=onp.eye(len(Dx)))


@claim(
    "R-28b",
    paper=PAPER,
    place="sec. 6",
    statement="A^-1 = D_x^-1 M M^T D_x^-T",
    corrected="Only where D_x is square and invertible: p_l = a_l in every layer, p_L = 1. Else A may be invertible or "
    "not, but D_x^-1 does not exist.",
    verdict=AMENDED,
    amended=inverse_of_a,
    domain=draw_square,
    printed_domain=draw,
    counterexample=TWO_PARAMETERS,
    share=0.3,
)
def inverse_of_a_as_printed(case: Case) -> Evidence:
    """D_x is block diagonal with blocks a_l x p_l: of one loss and two parameters it is 1 x 2."""
    _, Dx, _ = pipeline_of(case).matrices
    if Dx.shape[0] != Dx.shape[1]:
        return Evidence(onp.inf, {"D_x": f"{Dx.shape[0]} x {Dx.shape[1]}"})
    return inverse_of_a(case)


def dense_layer(case: Case) -> Any:
    """Q_22 of one dense layer h = activation(W z) whose adjoint is given."""
    W = onp.array(case["W"], float)
    network = Network()
    network.input("z", onp.array([case["z"]], float))
    network.parameter("W", W)
    network.node("s", layers.affine, "z", "W")
    network.node("h", {"tanh": layers.tanh, "relu": layers.relu, "linear": layers.linear}[case["activation"]], "s")
    network.loss(layers.weighted_sum(onp.ones((1, len(W)))), "h")
    assume(case["activation"] != "relu" or onp.all(network.value("s") != 0))
    return hessian_blocks(network)["W", "W"]


def draw_with_layer(rng: Generator) -> Any:
    outputs, inputs = int(rng.integers(1, 3)), int(rng.integers(2, 4))
    layer = {
        "W": 2 * rng.integers(-1, 2, size=(outputs, inputs)) + onp.eye(1, inputs, dtype=int)[0],
        "z": 2 * rng.integers(-1, 2, size=inputs) + 1,
        "activation": str(rng.choice(["tanh", "relu", "linear"])),
    }
    return {**draw_square(rng), **layer}


def error_of_29(case: Case) -> Any:
    """max |Q^-1 Q - I| with Q^-1 by (29), where Q, Q_22 and S_q are regular."""
    _, _, Q = lifted(pipeline_of(case))
    p = sum(G.shape[1] for _, G, _ in arrays(case))
    Q12, Q22 = Q[:-p, -p:], Q[-p:, -p:]
    assume(regular(Q) and regular(Q22) and regular(Q[:-p, :-p] - Q12 @ onp.linalg.solve(Q22, Q12.T)))
    return onp.abs(inverse_of_q(pipeline_of(case)) @ Q - onp.eye(len(Q))).max()


def through_q22(case: Case) -> Any:
    """(29) where it says something, and the rank of Q_22 of a dense layer."""
    error = error_of_29(case)
    bound = len(case["W"]) if case["activation"] == "tanh" else 0
    return at_most(error_and_rank_of_a_dense_layer=[error, rank(dense_layer(case))], bounds=[0.0, bound])


LINEAR_LAYER = {
    "F": [[[0]], [[1]]],
    "G": [[[1]], [[1]]],
    "T": [[[[0, 0], [0, 1]]], [[[0, 1], [1, 0]]]],
    **{"W": [[1, 0]], "z": [1, 1], "activation": "linear"},
}
"""z_1 = x_1 + x_1^2 / 2, z_2 = z_1 + x_2 + z_1 x_2: the second step is linear in its parameter."""


def draw_linear_layers(rng: Generator) -> Any:
    """Square pipelines some of whose layers are linear in their parameters: Q_22 has zero blocks there."""
    case = draw_square(rng)
    for k, (F, _, T) in enumerate(arrays(case)):
        if rng.integers(0, 2):
            n = F.shape[1]
            case["T"][k] = onp.array(T)
            case["T"][k][:, n:, n:] = 0
    return case


@claim(
    "R-29",
    paper=PAPER,
    place="eq. (29)",
    statement="Q^-1 is given by its blocks through Q_22^-1 and S_q^-1, S_q = Q_11 - Q_12 Q_22^-1 Q_21",
    corrected="Where Q_22 and S_q are invertible too. Q_22 = diag of the second derivatives of each layer in its own "
    "parameters, weighted by the adjoint: of a dense layer it has rank at most a_out of a_out a_in, singular for every "
    "a_in >= 2, and it is 0 for linear and ReLU layers.",
    verdict=AMENDED,
    amended=through_q22,
    domain=draw_with_layer,
    printed_domain=draw_linear_layers,
    counterexample=LINEAR_LAYER,
    share=0.2,
)
def through_q22_as_printed(case: Case) -> Evidence:
    """For a dense layer Q_22 = diag(b sigma'') (x) z z^T, one z a layer. With z_1 = x_1 + x_1^2/2 and
    z_2 = z_1 + x_2 + z_1 x_2, Q is regular and Q_22 = diag(1, 0) is not; its rank is set against its size."""
    _, _, Q = lifted(pipeline_of(case))
    p = sum(G.shape[1] for _, G, _ in arrays(case))
    assume(regular(Q))
    if rank(Q[-p:, -p:]) < p:
        return equal(rank_of_Q22=rank(Q[-p:, -p:]), size=p)
    return error_of_29(case)


def capacitance(case: Case) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """(D_x^-1 M, Q^-1 by (29), S_H by (35)) where everything to be inverted is regular."""
    M, Dx, _ = pipeline_of(case).matrices
    A, U, Q = lifted(pipeline_of(case))
    p = len(A)
    assume(regular(Dx) and regular(A) and regular(Q) and regular(Q[-p:, -p:]))
    assume(regular(Q[:-p, :-p] - Q[:-p, -p:] @ onp.linalg.solve(Q[-p:, -p:], Q[-p:, :-p])))
    return onp.linalg.solve(Dx, M), inverse_of_q(pipeline_of(case)), U @ onp.linalg.solve(A, U.T)


def with_plus_signs(case: Case) -> Evidence:
    """(28) with S_H of (37), the minus signs dropped, against the library's inverse."""
    capacitance(case)
    network, H = network_of(case), hessian_of(case)
    assume(regular(H))
    g = direction(len(H))
    return equal(
        woodbury=woodbury_solve(pipeline_of(case), g, as_printed=False),
        inverse_product=inverse_hessian_product(network, g, damping=0).solution,
    )


ONE_PARAMETER = {"F": [[[0]]], "G": [[[1]]], "T": [[[[0, 0], [0, 1]]]]}
"""f(x) = x + x^2 / 2: one step, H = 1."""


@claim(
    "R-36",
    paper=PAPER,
    place="eqs. (35)-(36)",
    statement="S_H = Q^-1 + U A^-1 U^T = -Q^-1 - U D_x^-1 M M^T D_x^-T U^T",
    corrected="S_H = Q^-1 + U D_x^-1 M M^T D_x^-T U^T: drop the minus signs in (36)-(38).",
    verdict=FAILS,
    amended=with_plus_signs,
    domain=draw_square,
    counterexample=ONE_PARAMETER,
    share=0.2,
    tolerance=1e-7,
)
def minus_signs(case: Case) -> Evidence:
    """A^-1 = D_x^-1 M M^T D_x^-T turns (35) into (36) with plus signs; the two lines printed are each other's
    negative, and S_H is not 0. x + x^2/2 has Q = diag(-1, 1), U = (1, 1) and S_H = [[0, 1], [1, 2]]."""
    root, Qinv, A_part = capacitance(case)
    U = lifted(pipeline_of(case))[1]
    return equal(line_36=-Qinv - U @ (root @ root.T) @ U.T, line_35=Qinv + A_part)


@claim(
    "R-37",
    paper=PAPER,
    place="eq. (37)",
    statement="U A^-1 U^T = [[I, M^T D_x^-T], [D_x^-1 M, D_x^-1 M M^T D_x^-T]]",
    verdict=HOLDS,
    domain=draw_square,
    share=0.3,
)
def block_form(case: Case) -> Any:
    """With R = D_x^-1 M, A^-1 = R R^T and U = [R^-1; I]: the blocks are R^-1 R R^T R^-T = I, R^T, R and R R^T. Where
    D_x is square and invertible, as everywhere in section 6."""
    M, Dx, _ = pipeline_of(case).matrices
    A, U, _ = lifted(pipeline_of(case))
    assume(regular(Dx) and regular(A))
    root = onp.linalg.solve(Dx, M)
    return equal(
        product=U @ onp.linalg.solve(A, U.T), blocks=onp.block([[onp.eye(len(M)), root.T], [root, root @ root.T]])
    )


def symmetric_lift(case: Case) -> Evidence:
    """The library's solution by the lift, residual against the Hessian of (24)."""
    S = printed(case)
    down = S["P"] @ onp.linalg.solve(S["M"], S["Dx"])
    H = S["DD"] @ (S["Dxx"] + S["Dzx"] @ down) + down.T @ S["DM"] @ (S["Dxz"] + S["Dzz"] @ down)
    assume(regular(H))
    g = direction(len(H))
    return equal(
        hessian_times_solution=H @ inverse_hessian_product(network_of(case), g, damping=0, method="sparse").solution,
        right_hand_side=g,
    )


@claim(
    "R-40",
    paper=PAPER,
    place="eqs. (40)-(43)",
    statement="S_H^-1 is given by its blocks through S_H11^-1",
    corrected="S_H11 is singular for every pipeline. The symmetric lift in (dx, mu, dz), whose Schur complement is "
    "H + lambda I, is solved by LU with pivoting instead.",
    verdict=FAILS,
    amended=symmetric_lift,
    domain=draw,
    printed_domain=draw_square,
    counterexample=ONE_PARAMETER,
    tolerance=1e-8,
    share=0.2,
)
def corner_of_the_capacitance(case: Case) -> Evidence:
    """Nothing reads z_L: its rows of D_zz P and D_zx P are 0, so that S_q has the decoupled last entry -1, S_q^-1 too,
    and S_H11 = S_q^-1 + I (up to the sign of (36)) the zero row of z_L. Its rank is set against its size."""
    _, Qinv, _ = capacitance(case)
    n = len(Qinv) - sum(G.shape[1] for _, G, _ in arrays(case))
    corner = Qinv[:n, :n] + onp.eye(n)
    return equal(rank_of_S_H11=rank(corner), size=n)


def draw_factor(rng: Generator) -> Any:
    """Bidiagonal G with a diagonal that is not 0, and g."""
    n = int(rng.integers(1, 4))
    G = onp.diag(rng.choice([1, -1, 2], size=n)) + onp.diag(rng.integers(-2, 3, size=n - 1), -1)
    return {"G": G, "g": rng.integers(-2, 3, size=n)}


def lower_first(case: Case) -> Evidence:
    """G^-1, then G^-T."""
    G, g = onp.array(case["G"], float), onp.array(case["g"], float)
    return equal(G_then_its_transpose=onp.linalg.solve(G.T, onp.linalg.solve(G, g)), solution=newton_step(g, G @ G.T))


@claim(
    "R-6d",
    paper=PAPER,
    place="sec. 6, steps 5-6",
    statement="With the Schur complement factored into G G^T, G lower bidiagonal by blocks, its inverse is applied by "
    "applying G^-T followed by G^-1",
    corrected="(G G^T)^-1 = G^-T G^-1: G^-1 is applied first, then G^-T; and G G^T needs a definite matrix, which "
    "nothing guarantees.",
    verdict=FAILS,
    amended=lower_first,
    domain=draw_factor,
    counterexample={"G": [[1, 0], [1, 1]], "g": [1, 0]},
    share=0.9,
)
def upper_first(case: Case) -> Evidence:
    """G^-T followed by G^-1 is (G^T G)^-1, another matrix unless G is normal. For G = [[1, 0], [1, 1]] G G^T is
    [[1, 1], [1, 2]] and G^T G [[2, 1], [1, 1]]."""
    G, g = onp.array(case["G"], float), onp.array(case["g"], float)
    return equal(transpose_then_G=onp.linalg.solve(G, onp.linalg.solve(G.T, g)), solution=newton_step(g, G @ G.T))


# ---------------------------------------------------------------- Pearlmutter's passes


def pearlmutter(case: Case, corrected: bool) -> Evidence:
    """The right-hand side of (54) on v = (1, ..., p) / p, printed or corrected, and the library's product."""
    S = printed(case)
    v = direction(S["Dx"].shape[1])
    g = onp.linalg.solve(S["M"], S["Dx"] @ v)
    down = S["P"] @ g
    if corrected:
        source = S["P"].T @ S["DM"] @ (S["Dzz"] @ down + S["Dxz"] @ v)
    else:
        source = S["P"] @ S["DM"] @ (S["Dzz"] @ g + S["Dxz"] @ v)
    b = onp.linalg.solve(S["M"].T, source)
    network = network_of(case)
    return equal(
        by_54=S["Dx"].T @ b + S["DD"] @ (S["Dzx"] @ down + S["Dxx"] @ v),
        hessian_vector_product=hvp(network.function(), network.point(), v),
    )


@claim(
    "R-54",
    paper=PAPER,
    place="eqs. (52), (54)",
    statement="M^T b'^T = P D_M (D_zz g + D_xz v), and Hv = D_x^T M^-T P D_M (D_zz M^-1 D_x v + D_xz v) + "
    "D_D (D_zx P M^-1 D_x v + D_xx v)",
    corrected="M^T b'^T = P^T D_M (D_zz P g + D_xz v): P is transposed, and stands before g as well.",
    verdict=AMENDED,
    amended=partial(pearlmutter, corrected=True),
    domain=draw,
    counterexample={"F": [[[0]], [[1]]], "G": [[[1]], [[0]]], "T": [[[[0, 0], [0, 0]]], [[[1, 0], [0, 0]]]]},
    cites=("pearlmutter1994",),
)
def downshift_not_transposed(case: Case) -> Evidence:
    """b'_l reads step l + 1, so what is computed there is shifted up, by P^T, and D_zz of step l + 1 meets dz_l, the
    entry l + 1 of P g. For z_1 = x_1, L = z_1 + z_1^2/2 the second derivative is 1, the printed product 0."""
    return pearlmutter(case, corrected=False)


# ---------------------------------------------------------------- costs, by counting


def counted_product(case: Case) -> tuple[NDArray[Any], int]:
    """(Hv, multiplications) by (24) from the right, the unweighted tensors multiplied first, as the paper counts."""
    steps = arrays(case)
    sizes = [G.shape[1] for _, G, _ in steps]
    v = onp.split(direction(sum(sizes)), onp.cumsum(sizes)[:-1])
    count = 0

    def times(matrix, vector):
        nonlocal count
        count += matrix.size
        return matrix @ vector

    z, moved = onp.zeros(steps[0][0].shape[1]), []
    for (F, G, _), part in zip(steps, v, strict=True):
        moved.append(z)
        z = times(F, z) + times(G, part)
    b = adjoints(steps)
    back, found = onp.zeros(1), []
    for k in reversed(range(len(steps))):
        F, G, T = steps[k]
        n, p, a = F.shape[1], G.shape[1], len(F)
        inner, own = slice(0, n), slice(n, n + p)
        bent = times(flattened(T, own, own), v[k]) + times(flattened(T, own, inner), moved[k])
        found.insert(0, times(G.T, back) + times(bent.reshape(p, a), b[k]))
        bent = times(flattened(T, inner, own), v[k]) + times(flattened(T, inner, inner), moved[k])
        back = times(F.T, back) + times(bent.reshape(n, a), b[k])
    return onp.concatenate(found), count


def widths(case: Case) -> Any:
    """(L, a, p): the depth and the largest width and number of parameters of a layer."""
    steps = arrays(case)
    return len(steps), max(max(F.shape) for F, _, _ in steps), max(G.shape[1] for _, G, _ in steps)


def draw_wide(rng: Generator) -> Any:
    """A pipeline of one width."""
    depth, a, p = (int(rng.integers(1, 5)) for _ in range(3))
    case = {"F": [], "G": [], "T": []}
    for k in range(depth):
        before, after = (1 if k == 0 else a), (1 if k == depth - 1 else a)
        T = rng.integers(-1, 2, size=(after, before + p, before + p))
        case["F"].append(rng.integers(-1, 2, size=(after, before)))
        case["G"].append(rng.integers(-1, 2, size=(after, p)))
        case["T"].append(T + T.swapaxes(1, 2))
    return case


@claim(
    "R-5.4",
    paper=PAPER,
    place="sec. 5.4",
    statement="The formula computes Hg in O(L a p^2 + L a^2 p + L a^3) operations without forming H",
    verdict=HOLDS,
    domain=draw_wide,
)
def product_cost(case: Case) -> Any:
    """Multiplications of one product by (24), counted while it is computed: per layer a p^2 + 2 a^2 p + a^3 for D_xx,
    D_zx, D_xz, D_zz and 3 a p + 3 a^2 for the rest, at most 5 (a p^2 + a^2 p + a^3). The product itself is compared
    with the library's."""
    L, a, p = widths(case)
    product, count = counted_product(case)
    network = network_of(case)
    truth = hvp(network.function(), network.point(), direction(len(product)))
    error = onp.abs(product - truth).max() / max(1.0, onp.abs(truth).max())
    return at_most(error_and_multiplications=[error, count], bounds=[0.0, 5 * L * (a * p**2 + a**2 * p + a**3)])


ROUGHLY = 4
"""Costs within this factor are roughly equal."""


def draw_sizes(rng: Generator) -> Any:
    return {"L": int(rng.integers(1, 4)), "a": int(rng.integers(1, 7)), "p": int(rng.integers(1, 41))}


def multiplications(case: Case) -> tuple[int, int]:
    """(of one product by section 5.4, counted in a pipeline of L steps of width a with p parameters each and a head;
    of the inverses of its blocks of Q_22 and S_q, step 4 of the summary, n^3 for one of n rows by Gauss-Jordan)."""
    L, a, p = case["L"], case["a"], case["p"]
    shapes = [(a, a, p)] * L + [(1, a, 1)]
    steps = [(onp.zeros((n, m)), onp.zeros((n, q)), onp.zeros((n, m + q, m + q))) for n, m, q in shapes]
    product = counted_product({name: [step[i] for step in steps] for i, name in enumerate("FGT")})[1]
    return product, L * (p**3 + a**3)


def cost_ratio(case: Case) -> Evidence:
    """The blocks' inverses against max(a, p) / min(a, p) products."""
    product, inverse = multiplications(case)
    ratio = max(case["a"], case["p"]) / min(case["a"], case["p"])
    return at_most(scale=0.0, inverse=inverse, products=ratio * product)


@claim(
    "R-cost",
    paper=PAPER,
    place="abstract",
    statement="Hessian-inverse-vector products use roughly as much time as Hessian-vector products",
    corrected="O(L max(a, p)^3) against O(L (a p^2 + a^2 p + a^3)) for one product by section 5.4: a factor up to "
    "max(a, p) / min(a, p), and more against a matrix-free product.",
    verdict=AMENDED,
    amended=cost_ratio,
    domain=draw_sizes,
    counterexample={"L": 1, "a": 1, "p": 16},
)
def same_cost(case: Case) -> Evidence:
    """p^3 = (p/a) a p^2 for p >= a, and p^3 <= a^3 else, so the inverses of the blocks take at most max/min times the
    multiplications of a product, and p/a times asymptotically in p. Roughly is read as within a factor 4."""
    product, inverse = multiplications(case)
    return at_most(scale=0.0, inverse=inverse, four_products=ROUGHLY * product)


def elimination_work(network: Network, eliminate: bool = False) -> tuple[int, int]:
    """(unknowns, bandwidth) of the symmetric lift over all parameters: banded LU takes at most unknowns times
    2 bandwidth^2 multiplications and unknowns times 3 bandwidth numbers."""
    system = outline(((1.0, linearize(network)),), network.parameters, 1.0, eliminate=eliminate)
    return int(system.sizes.sum()), bandwidth(system)


def chain_of(case: Case, depth: int) -> Network:
    """z_l = tanh(z_{l-1} W_l^T) of width a on n samples, one network of `depth` layers."""
    a, n = case["a"], case["samples"]
    return mlp(
        [a] * (depth + 1),
        activation="tanh",
        loss="squared",
        bias=False,
        inputs=onp.ones((n, a)),
        targets=onp.zeros((n, a)),
        theta=onp.zeros(depth * a * a),
    )


def draw_batch(rng: Generator) -> Any:
    return {"L": int(rng.integers(2, 6)), "a": int(rng.integers(1, 4)), "samples": int(rng.integers(1, 9))}


def linear_in_depth(case: Case) -> Evidence:
    """Twice the depth: the same bandwidth, at most p + 4 n a, and twice the unknowns, p + 2 n a a layer."""
    L, a, n = case["L"], case["a"], case["samples"]
    unknowns, band = elimination_work(chain_of(case, L))
    more, wider = elimination_work(chain_of(case, 2 * L))
    return at_most(
        scale=0.0,
        found=[unknowns, more, band, wider, wider],
        bounds=[L * (a * a + 2 * n * a), 2 * L * (a * a + 2 * n * a), a * a + 4 * n * a, a * a + 4 * n * a, band],
    )


@claim(
    "R-depth",
    paper=PAPER,
    place="abstract",
    statement="The inverse product of an L-layer net whose layers have p parameters and a activations takes storage "
    "and time linear in the depth, O(L max(a, p)^3) operations",
    corrected="True for one sample, by the symmetric lift (not by the printed elimination, which stops). A batch of n "
    "samples has n a activations a layer: O(L max(n a, p)^3), still linear in the depth.",
    verdict=AMENDED,
    amended=linear_in_depth,
    domain=draw_batch,
    counterexample={"L": 2, "a": 1, "samples": 8},
    share=0.9,
)
def linear_whatever_the_batch(case: Case) -> Evidence:
    """The lift has p + 2 n a unknowns a layer, those of neighbouring layers meet, and banded LU takes unknowns times
    bandwidth^2. Read with a activations a sample, as in the paper, where z_0 is one input: at most 75 L max(a, p)^3,
    the constant of one sample, (1 + 2) (1 + 4)^2. The samples are coupled by the parameters, so that they cannot be
    solved for one by one."""
    L, a = case["L"], case["a"]
    unknowns, band = elimination_work(chain_of(case, L))
    return at_most(scale=0.0, operations=unknowns * band**2, linear_bound=75 * L * max(a, a * a) ** 3)


@claim(
    "R-prior",
    paper=PAPER,
    place="sec. 1",
    statement="Unfortunately, there seems to exist no variant of Pearlmutter's trick to compute the "
    "Hessian-inverse-vector products directly",
    corrected="Prior art exists: Newton's step of an optimal control problem, which is this system, is computed in "
    "time linear in the number of stages by Pantoja (1988), Dunn and Bertsekas (1989) and Christianson (1999).",
    verdict=UNTESTABLE,
    reason="A hedged remark on the literature; no computation contradicts it.",
    cites=("pantoja1988", "dunn1989", "christianson1999"),
)
def no_variant(case: Case) -> None:
    """A pipeline is a discrete-time optimal control problem: states z_l, controls x_l, one terminal cost."""


def draw_growth(rng: Generator) -> Any:
    return {"L": int(rng.integers(1, 4)), "a": int(rng.integers(1, 6)), "p": int(rng.integers(1, 6))}


def compressed_work(case: Case) -> Evidence:
    """Of L dense layers of width a at one sample, P = L a^2, the parameters eliminated: 2 a unknowns a layer with a
    bandwidth of at most 4 a, hence 32 L a^3 multiplications, and 2 P more for the elimination."""
    L, a = case["L"], case["a"]
    unknowns, band = elimination_work(chain_of({**case, "samples": 1}, L), eliminate=True)
    return at_most(scale=0.0, operations=unknowns * band**2, bound=32 * L * a**3)


@claim(
    "R-lin",
    paper=PAPER,
    place="abstract",
    statement="Hessian-inverse-vector products can be computed in time and storage that scale linearly in the number "
    "of parameters",
    corrected="The printed cost O(L max(a, p)^3) is linear in the depth, cubic in the width: twice the parameters a "
    "layer take 8 times the operations. For dense layers at one sample O(L a^3 + P) by eliminating the parameters.",
    verdict=FAILS,
    amended=compressed_work,
    domain=draw_growth,
    counterexample={"L": 1, "a": 1, "p": 1},
    share=0.9,
)
def linear_in_parameters(case: Case) -> Evidence:
    """P = L p. For p >= a the blocks of Q_22 to be inverted take L p^3 operations: from p to 2 p they grow by 8, P by
    2. A parameter matrix theta enters a dense layer linearly, theta z, so that it can be eliminated."""
    L, a, p = case["L"], case["a"], case["p"]
    before, after = (L * max(a, size) ** 3 for size in (p, 2 * p))
    return at_most(scale=0.0, growth_of_the_cost=after / before, growth_of_the_parameters=2.0)
