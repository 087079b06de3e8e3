"""Claims of the abstract of Bolshim and Kugaevskikh (2026) on networks as DAGs.

The abstract is public, the definitions of its diagnostics are not: resonance, coupling and stable rank are those of
`clarke.diagnostics`, and claims about them are judged by those.
"""

from functools import partial
from itertools import pairwise, product
from typing import TYPE_CHECKING, Any

import autograd.numpy as np
import numpy as onp
from numpy.random import Generator
from numpy.typing import NDArray
from scipy.sparse.linalg import LinearOperator

from clarke import Network, hessian_blocks, layers, mlp, participation_rank, resonance, trace_coupling
from clarke.diagnostics import block_moments

from .references import brute_force, brute_jacobian, brute_loss_hessian, brute_parts, dyadic
from .statements import AMENDED, HOLDS, Case, Evidence, assume, at_most, claim, equal

if TYPE_CHECKING:
    from ..diagnostics import BlockMoments

PAPER, PLACE = "bolshim2026dag", "abstract"


# ---------------------------------------------------------------- S1: the split


def power(y: NDArray[Any], exponent: int) -> NDArray[Any]:
    """y^exponent, entry by entry."""
    return y**exponent


def powers(case: Case) -> Network:
    """y = (A w)^inner with the loss sum y^outer."""
    network = Network()
    network.parameter("w", onp.array(case["w"], float))
    A = onp.array(case["A"], float)
    network.node("y", partial(linear_power, matrix=A, exponent=case["inner"]), "w")
    network.loss(partial(sum_of_powers, exponent=case["outer"]), "y")
    return network


def linear_power(w: NDArray[Any], matrix: NDArray[Any], exponent: int) -> NDArray[Any]:
    """(A w)^exponent"""
    return power(np.dot(matrix, w), exponent)


def sum_of_powers(y: NDArray[Any], exponent: int) -> NDArray[Any] | float:
    """sum y^exponent"""
    return np.sum(power(y, exponent))


def draw_powers(rng: Generator) -> Any:
    n, d = int(rng.integers(1, 3)), int(rng.integers(1, 3))
    return {
        "A": rng.integers(-2, 3, size=(d, n)),
        "w": dyadic(rng, n),
        "inner": int(rng.integers(1, 4)),
        "outer": int(rng.integers(1, 4)),
    }


def split_of_the_declared_head(case: Case) -> Evidence:
    """The library's parts against S^T K^loss S by brute force, and what is left."""
    network = powers(case)
    names = ("w", "y")
    blocks = hessian_blocks(network)
    return equal(
        parts=[blocks.gauss_newton.dense(names), blocks.tensor.dense(names)],
        gauss_newton_and_rest=onp.array(brute_parts(network, names)),
    )


@claim(
    "S1",
    paper=PAPER,
    place=PLACE,
    statement="The canonical decomposition H = H^GN + H^T separates the Gauss-Newton component (convex part) from the "
    "tensor component (residual curvature responsible for saddle points)",
    corrected="For a declared loss head H^GN = S^T K^loss S and H^T = S^T K^tensor S, with K^loss the second "
    "derivative of the losses in what they read and K^tensor that of the nodes, weighted by the adjoints. Of the loss "
    "as a function of the parameters alone there is no canonical split: it moves with what is called the head; and "
    "H^GN is convex only if the head is.",
    verdict=AMENDED,
    amended=split_of_the_declared_head,
    domain=draw_powers,
    counterexample={"A": [[1]], "w": [1], "inner": 2, "outer": 2},
)
def canonical(case: Case) -> Evidence:
    """L(w) = w^4 is y^2 with y = w^2, or y with y = w^4. The first head gives H^GN = 2 y'^2 = 8 w^2 and H^T = 4 w^2,
    the second H^GN = 0 and H^T = 12 w^2. A canonical split of the Hessian of L would not see the difference."""
    inner, outer = case["inner"], case["outer"]
    whole = powers({**case, "inner": inner * outer, "outer": 1})
    return equal(
        gauss_newton_of_the_power=hessian_blocks(powers(case)).gauss_newton.dense(),
        gauss_newton_of_the_identity=hessian_blocks(whole).gauss_newton.dense(),
    )


# ---------------------------------------------------------------- S2, S3: piecewise-linear nodes

HALF = 0.5


def gate(a: NDArray[Any], b: NDArray[Any]) -> NDArray[Any]:
    """The product a * b of two branches, as in attention and gated units."""
    return a * b


def dense_or_gated(case: Case) -> Network:
    """h = relu(x W^T + b), g = x U^T, then y = h V^T, or (h * g) V^T where gated, and the loss |y - t|^2 / 2."""
    network = Network()
    network.input("x", onp.array(case["x"], float).reshape(1, -1))
    for name in "WbUV":
        network.parameter(name, onp.array(case[name], float))
    network.node("z", layers.affine, "x", "W", "b")
    network.node("h", layers.relu, "z")
    network.node("g", layers.affine, "x", "U")
    network.node("m", gate if case["gated"] else layers.add, "h", "g")
    network.node("y", layers.affine, "m", "V")
    network.loss(layers.squared_error(onp.array(case["t"], float).reshape(1, -1)), "y")
    assume(onp.all(network.value("z") != 0))  # almost everywhere
    return network


def draw_dense_or_gated(rng: Generator) -> Any:
    n, d, m = (int(rng.integers(1, 3)) for _ in range(3))
    return {
        "gated": bool(rng.integers(0, 2)),
        "x": rng.integers(-2, 3, size=n),
        "W": rng.integers(-2, 3, size=(d, n)),
        "b": rng.integers(-2, 2, size=d) + HALF,
        "U": rng.integers(-2, 3, size=(d, n)),
        "V": rng.integers(-2, 3, size=(m, d)),
        "t": rng.integers(-2, 3, size=m),
    }


INNER = ("x", "z", "h", "g", "m", "y")


def residual_of_inputs(network: Network) -> NDArray[Any]:
    """H^f - S^T K^loss S over inputs and nodes; the second term by brute force."""
    heads, K = brute_loss_hessian(network)
    S = brute_jacobian(network, heads, INNER)
    return hessian_blocks(network).dense(INNER) - S.T @ K @ S


def joint_linearity(case: Case) -> Evidence:
    """H^T = 0 for all pairs where no node multiplies; where one does, H^T between its parents is the adjoint of the
    product, entry by entry, and so is not zero for all losses."""
    network = dense_or_gated(case)
    residual = residual_of_inputs(network)
    if not case["gated"]:
        return equal(tensor_part=residual, zero=onp.zeros_like(residual))
    sizes = onp.cumsum([0, *(network.value(name).size for name in INNER)])
    spans = {name: slice(a, b) for name, a, b in zip(INNER, sizes[:-1], sizes[1:], strict=True)}
    adjoint = (network.value("y") - onp.array(case["t"], float)) @ onp.array(case["V"], float)
    return equal(tensor_part_of_h_and_g=residual[spans["h"], spans["g"]], adjoint=onp.diag(adjoint[0]))


@claim(
    "S2",
    paper=PAPER,
    place=PLACE,
    statement="For piecewise-linear activations (ReLU) the tensor component of the input Hessian vanishes: "
    "H^T_{v,w} = 0 a.e.",
    corrected="H^T_{v,w} = 0 for all v, w and every loss, almost everywhere, if and only if every node is jointly "
    "piecewise linear in its parents, the parameters fixed. Piecewise-linear activations are not enough: products of "
    "branches (gates, attention) have second derivatives.",
    verdict=AMENDED,
    amended=joint_linearity,
    domain=draw_dense_or_gated,
    counterexample={"gated": True, "x": [1], "W": [[1]], "b": [0.5], "U": [[1]], "V": [[1]], "t": [0]},
    share=0.3,
)
def vanishing_tensor(case: Case) -> Evidence:
    """K^tensor of a node is sum_i delta_i d2 g_i over its parents: zero almost everywhere iff each g_i is piecewise
    linear in all parents jointly (take delta = e_i for the converse). With m = h g and L = m^2/2 the activations are
    ReLU and H^T_{h,g} = m is not 0."""
    residual = residual_of_inputs(dense_or_gated(case))
    return equal(tensor_part=residual, zero=onp.zeros_like(residual))


def chain_with_sign(case: Case) -> Network:
    """x -> z = x W^T -> y = z V^T, linear, loss |y - t|^2 / 2; square."""
    d = len(case["W"])
    theta = onp.concatenate([onp.ravel(case["W"]), onp.ravel(case["V"])])
    return mlp(
        (d, d, d),
        activation="relu",
        loss="squared",
        bias=False,
        inputs=onp.array([case["x"]], float),
        targets=onp.array([case["t"]], float),
        theta=theta,
    )


def draw_chain_with_sign(rng: Generator) -> Any:
    d = int(rng.integers(1, 3))
    draws = {name: rng.integers(-2, 3, size=(d, d)) for name in "WV"}
    return {**draws, "x": rng.integers(1, 3, size=d), "t": rng.integers(-2, 3, size=d)}


def smooth_chain(case: Case) -> Network:
    network = chain_with_sign(case)
    assume(onp.all(network.value("z1") != 0))
    return network


CHAIN = ("x", "z1", "h1", "y")


def whole_is_psd(case: Case) -> Evidence:
    """The least eigenvalues of H^f and of its diagonal blocks, the blocks by the library, the whole by brute force."""
    network = smooth_chain(case)
    blocks, H = hessian_blocks(network), brute_force(network, CHAIN)
    own = [onp.linalg.eigvalsh(blocks[name, name])[0] for name in CHAIN]
    return at_most(scale=max(1.0, onp.abs(H).max()), zero=0.0, least_eigenvalues=[onp.linalg.eigvalsh(H)[0], *own])


@claim(
    "S3",
    paper=PAPER,
    place=PLACE,
    statement="For piecewise-linear activations H^f_{v,w} = H^GN_{v,w} >= 0",
    corrected="The whole H^f and its diagonal blocks are positive semidefinite where the nodes are jointly piecewise "
    "linear and the loss is convex; a block v != w need not be, nor even be square.",
    verdict=AMENDED,
    amended=whole_is_psd,
    domain=draw_chain_with_sign,
    counterexample={"W": [[1]], "V": [[-1]], "x": [1], "t": [0]},
    share=0.3,
)
def every_block_is_psd(case: Case) -> Evidence:
    """H^f = S^T K S with K = K^loss >= 0, hence PSD, and so are its principal submatrices. H_{h,y} = V^T is the
    transposed weight matrix itself: with V = -1 it is -1."""
    network = smooth_chain(case)
    blocks = hessian_blocks(network)
    pairs = list(product(CHAIN, CHAIN))
    least = [onp.linalg.eigvalsh(blocks[v, w] + blocks[v, w].T)[0] / 2 for v, w in pairs]
    return at_most(zero=onp.zeros(len(pairs)), least_eigenvalue_of_each_block=onp.array(least))


# ---------------------------------------------------------------- S4: parameters


def draw_two_layers(rng: Generator) -> Any:
    """One odd weight a unit and odd inputs: no kinks."""
    n, d = int(rng.integers(1, 3)), int(rng.integers(1, 4))
    odd = onp.eye(1, n, dtype=int)[0]
    return {
        "W": 2 * rng.integers(-1, 2, size=(d, n)) + odd,
        "V": rng.integers(-2, 3, size=(1, d)),
        "x": 2 * rng.integers(-1, 2, size=n) + 1,
        "t": rng.integers(-2, 3, size=1) + HALF,
    }


@claim(
    "S4",
    paper=PAPER,
    place=PLACE,
    statement="The full parametric Hessian contains residual terms that do not reduce to the GGN",
    verdict=HOLDS,
    domain=draw_two_layers,
    share=0.2,
)
def residual_of_parameters(case: Case) -> Any:
    """y = V relu(W x), L = (y - t)^2 / 2 has d2L / dV_j dW_jk = GGN + (y - t) 1[w_j . x > 0] x_k: the layer is
    bilinear in its parameters and its input, although both ReLU and the input Hessian have no second derivative. It
    is asked that this number is not 0 and that the library's tensor part is it."""
    W, V, x = (onp.array(case[name], float) for name in "WVx")
    slopes = (W @ x > 0).astype(float)
    assume(onp.all(W @ x != 0) and slopes.any())
    error = V[0] @ (slopes * (W @ x)) - case["t"][0]
    expected = onp.zeros((len(W), *W.shape))
    expected[onp.arange(len(W)), onp.arange(len(W))] = error * slopes[:, None] * x
    network = mlp(
        (len(x), len(W), 1),
        activation="relu",
        loss="squared",
        bias=False,
        inputs=[x],
        targets=[case["t"]],
        theta=onp.concatenate([W.ravel(), V.ravel()]),
    )
    assume(expected.any())
    return equal(tensor_part=hessian_blocks(network).tensor["W2", "W1"], mixed_term=expected.reshape(len(W), -1))


# ---------------------------------------------------------------- S5: decay


def chain(case: Case) -> Network:
    """z_k = z_{k-1} D_k^T, D_k = J_k, or I + J_k with skips; L = |z_d|^2 / 2."""
    J = onp.array(case["J"], float)
    network = Network()
    network.input("z0", onp.ones((1, J.shape[1])))
    for k, matrix in enumerate(J, 1):
        network.parameter(f"D{k}", matrix + onp.eye(J.shape[1]) * case["skip"])
        network.node(f"z{k}", layers.affine, f"z{k - 1}", f"D{k}")
    network.loss(layers.squared_error(onp.zeros((1, J.shape[1]))), f"z{len(J)}")
    return network


def draw_chain(rng: Generator) -> Any:
    depth, n = int(rng.integers(1, 6)), int(rng.integers(1, 3))
    return {"J": rng.integers(-2, 3, size=(depth, n, n)) / 8, "skip": bool(rng.integers(0, 2))}


def norms_decay(case: Case) -> Evidence:
    """|H_{v,out}|_F against the bounds, at every distance."""
    blocks, J = hessian_blocks(chain(case)), onp.array(case["J"], float)
    depth, n = len(J), J.shape[1]
    distance = onp.arange(depth, -1, -1)
    norms = onp.array([onp.linalg.norm(blocks[f"z{k}", f"z{depth}"]) for k in range(depth + 1)])
    size = max(onp.linalg.norm(matrix, 2) for matrix in J)
    if case["skip"]:
        assume(size < 1)
        return at_most(lower_bound=(1 - size) ** distance * onp.sqrt(n), norms=norms)
    return at_most(norms=norms, upper_bound=size**distance * onp.sqrt(n))


@claim(
    "S5",
    paper=PAPER,
    place=PLACE,
    statement="The theoretical analysis explains exponential decay of resonance in vanilla networks and its "
    "preservation under skip connections",
    corrected="Unnormalised: |H_{v,out}|_F <= q^dist |H_out|_F where |D_k|_2 <= q; with skips D = I + J, |J|_2 <= eps, "
    "|H_{v,out}|_F >= (1 - eps)^dist |H_out|_F, attained at J = -eps I, so preserved only if eps = O(1/depth). The "
    "normalised resonance need not decay at all.",
    verdict=AMENDED,
    amended=norms_decay,
    domain=draw_chain,
    counterexample={"J": [[[0.5]]], "skip": False},
    share=0.3,
)
def resonance_decays(case: Case) -> Evidence:
    """Chain: H_{v,out} = (D_d ... D_{v+1})^T, whose norm is at most q^dist |I|_F and, where every D = I + J, at least
    (1 - eps)^dist |I|_F. In the scalar chain H_vw = j_v j_w, so R = |j_v j_w| / sqrt(j_v^2 j_w^2) = 1 at every depth.
    Measured: R <= q^dist, 0 < q < 1, no skips."""
    J = onp.array(case["J"], float)
    size = max(onp.linalg.norm(matrix, 2) for matrix in J)
    assume(not case["skip"] and 0 < size < 1)
    blocks, depth = hessian_blocks(chain(case)), len(J)
    return at_most(
        resonance=[resonance(blocks, f"z{k}", f"z{depth}") for k in range(depth + 1)],
        exponential=[size ** (depth - k) for k in range(depth + 1)],
    )


# ---------------------------------------------------------------- S6: cost and estimates


def draw_layers(rng: Generator) -> Any:
    depth = int(rng.integers(1, 4))
    return {
        "widths": rng.integers(1, 3, size=depth + 1),
        "theta": dyadic(rng, 16),
        "x": dyadic(rng, 2),
        "t": dyadic(rng, 2),
    }


def sampled(case: Case, rows: int | None = None) -> "tuple[Network, BlockMoments, int]":
    """(blocks, names, moments, columns multiplied): the moments from all sign vectors of each layer, or the first
    of them; every product with the Hessian is counted."""
    widths = tuple(int(width) for width in case["widths"])
    size = sum(a * b for a, b in pairwise(widths))
    network = mlp(
        widths,
        activation="tanh",
        loss="squared",
        bias=False,
        inputs=[case["x"][: widths[0]]],
        targets=[case["t"][: widths[-1]]],
        theta=onp.array(case["theta"], float)[:size],
    )
    blocks, names, count = hessian_blocks(network), network.parameters, []
    inner = blocks.operator()

    def matmat(V):
        V = onp.reshape(V, (inner.shape[1], -1))
        count.append(V.shape[1])
        return inner.matmat(V)

    counted = LinearOperator(inner.shape, matvec=matmat, matmat=matmat, dtype=float)  # pyright: ignore[reportCallIssue]
    largest = max(network.value(name).size for name in names)
    probes = {}
    for name in names:
        each = onp.array(list(product((-1.0, 1.0), repeat=network.value(name).size)))
        probes[name] = onp.tile(each, (2**largest // len(each), 1))[:rows]
    moments = block_moments(blocks, names, operator=counted, probes=probes)
    return network, moments, sum(count)


def exact_moments(case: Case) -> Evidence:
    """Averages over all sign vectors against the blocks by brute force, and the number of products."""
    network, moments, products = sampled(case)
    names, H = network.parameters, brute_force(network, network.parameters)
    ends = onp.cumsum([0, *(network.value(name).size for name in names)])
    spans = [slice(a, b) for a, b in pairwise(ends)]
    squares = onp.array([[onp.sum(H[s, t] ** 2) for t in spans] for s in spans])
    traces = onp.array([onp.trace(H[s, s]) for s in spans])
    estimated = [*moments.squares.mean(0).ravel(), *moments.traces.mean(0), products / len(names)]
    exact = [*squares.ravel(), *traces, len(moments.squares)]
    for i, name in enumerate(names):
        if squares[i, i] > 1e-9:
            estimated.append(float(participation_rank(moments, name)))
            exact.append(traces[i] ** 2 / squares[i, i])
        if min(traces[0], traces[i]) > 1e-3:
            estimated.append(float(trace_coupling(moments, names[0], name)))
            exact.append(squares[0, i] / (traces[0] * traces[i]))
    return equal(estimated=estimated, exact=exact)


@claim(
    "S6",
    paper=PAPER,
    place=PLACE,
    statement="The diagnostic metrics (resonance, geometric coupling, stable rank, GN-Gap) are estimated "
    "stochastically in O(P) time",
    corrected="One product with a probe z on layer w, O(P), gives |(Hz)_v|^2 for every v, whose mean is |H_vw|_F^2, "
    "and z . (Hz)_w, whose mean is tr H_ww. All pairs need one product per layer and probe; coupling and stable rank "
    "are reached only through the surrogates |H_vw|_F^2 / (tr H_vv tr H_ww) and (tr H_vv)^2 / |H_vv|_F^2.",
    verdict=AMENDED,
    amended=exact_moments,
    domain=draw_layers,
    counterexample={"widths": [1, 1, 1], "theta": [1, 1], "x": [1], "t": [0]},
)
def one_product_for_all(case: Case) -> Evidence:
    """A probe on all layers at once mixes the columns: E |(Hz)_v|^2 = sum_w |H_vw|_F^2, so the pairs are told apart by
    one product a layer only. Read as: the products for all pairs from one probe number 1, whatever the depth; each
    is O(P), so that all pairs cost O(layers P)."""
    network, _, products = sampled(case, rows=1)
    blocks = len(network.parameters)
    return Evidence(products - 1.0, {"layers": blocks, "products_for_all_pairs": products, "claimed": 1})
