"""Claims of Bolshim and Kugaevskikh (2025) about costs, storage and approximations.

Times are numbers of multiplications of dense products, counted, never clocks. An asymptotic bound is judged along a
family, n = k, d = k^2 say: the measure is the exponent with which the ratio of count to bound grows, log_2 of its last
doubling, k = 2^20 to 2^21; a bound holds up to a constant iff it is at most 0.
n nodes, s parents of a node at most, d outputs of a node, p parameters of a node, P = n p.
"""

from collections.abc import Callable
from functools import partial
from math import log2
from typing import Any

import autograd.numpy as anp
import numpy as np
from numpy.typing import NDArray

from ... import layers, notation
from ...blocks import hessian_blocks
from ...network import Network
from ...passes import cost
from ..networks import build, drawn, truth, vertices
from ..references import dyadic
from ..statements import AMENDED, FAILS, HOLDS, UNTESTABLE, Case, Evidence, assume, at_most, claim, equal

PAPER = "bolshim2025interlayer"
POWERS = ("1", "k", "k^2", "k^3")
FAR = 20  # k = 2^FAR, doubled
ROUNDING = 1e-3  # of an exponent at that k: the next term is of order 1 / k


def growth(count: Callable[..., Any], bound: Callable[..., Any], case: Case) -> Evidence:
    """The exponent of k in count / bound along the family of the case, functions of its numbers by name."""
    ratios = []
    for power in (FAR, FAR + 1):
        numbers = {name: 2 ** (power * POWERS.index(value)) for name, value in case.items()}
        ratios.append(count(**numbers) / bound(**numbers))
    return at_most(exponent_of_count_over_bound=log2(ratios[1]) - log2(ratios[0]), none=0.0)


def families(rng: np.random.Generator) -> Any:
    """n, s, d and p as powers of k, s at most n."""
    n = int(rng.integers(0, 3))
    s, d, p = int(rng.integers(0, n + 1)), int(rng.integers(0, 3)), int(rng.integers(0, 4))
    return {"n": POWERS[n], "s": POWERS[s], "d": POWERS[d], "p": POWERS[p]}


# ---------------------------------------------------------------- Theorem 7


def products_of_formula_3(n: int, s: int, d: int, p: int) -> int:
    """D_v^T H_{v,w} D_w for all n^2 pairs: (p x d) (d x d), then (p x d) (d x p)."""
    return n**2 * (p * d * d + p * d * p)


def products_of_hessian_products(n: int, s: int, d: int, p: int) -> int:
    """K once, then P products with the Hessian.

    K: every node has d second derivatives of s d inputs and p parameters, weighted and summed. A product: tangents
    forward and adjoints backward over s edges and the parameters of every node, and its block of K between.
    """
    curvature = n * d * (s * d + p) ** 2
    one = n * (2 * (s * d * d + d * p) + (s * d) ** 2 + 2 * s * d * p)
    return curvature + n * p * one


def full_hessian(case: Case) -> Evidence:
    """O(n s^2 d^3 + n s^2 d^2 P + s d P^2)."""
    return growth(
        products_of_hessian_products,
        lambda n, s, d, p: n * s**2 * d**3 + n * s**2 * d**2 * (n * p) + s * d * (n * p) ** 2,
        case,
    )


@claim(
    "T7.1",
    paper=PAPER,
    place="Thm 7 (1)",
    statement="for n nodes of degree at most s, outputs of dimension at most d and P parameters the time of computing "
    "the full Hessian is O(n s d^3 + n s d^2 P + P^2) in the general case with dense tensors",
    verdict=FAILS,
    corrected="O(n s^2 d^3 + n s^2 d^2 P + s d P^2): K once, O(n s^2 d^3 + s d^2 P + sum_v d p_v^2), then P products "
    "with the Hessian, O(n s^2 d^2 + s sum_v d p_v) each",
    amended=full_hessian,
    domain=families,
    counterexample={"n": "1", "s": "1", "d": "k", "p": "k^2"},
    tolerance=ROUNDING,
)
def time_of_the_full_hessian(case: Case) -> Evidence:
    """A lower bound suffices: formula (3) alone, in which a block takes p d^2 + d p^2 multiplications; the proof counts
    "d_v d_w (p_v + p_w)", as if the second factor were as narrow as the first. For dense layers, p = d^2 = k^2, it is
    k^5 where the bound is k^4. In a chain all n^2 blocks are nonzero, not O(n s). A dense mixed tensor gives a node one
    block d x p for each parent, hence s d p in a product; where every parent has weights of its own it is d p."""
    return growth(products_of_formula_3, lambda n, s, d, p: n * s * d**3 + n * s * d**2 * (n * p) + (n * p) ** 2, case)


def partials_of_nodes(case: Case) -> Any:
    """D_{u<-v}^T H_{u,u} D_{u<-v} by the nonzeros of D: 2 d^2 for an elementwise node, 2 d^3 for a dense one."""
    assume("n" not in case)  # one width, not a family
    d = case["d"]
    x, W = np.arange(1.0, d + 1), np.ones((d, d)) + np.eye(d)
    entries = [cost(f, x).partials for f in (anp.tanh, lambda x: anp.dot(W, x))]
    return equal(multiplications=[2 * d * nonzeros for nonzeros in entries], elementwise_and_dense=[2 * d**2, 2 * d**3])


def widths(rng: np.random.Generator) -> Any:
    """A width."""
    return {"d": int(rng.integers(1, 9))}


@claim(
    "T7.2",
    paper=PAPER,
    place="Thm 7 (2)",
    statement="in networks with elementwise activations the time falls to O(n s d^2 + n s d P + P^2), since D_{u<-v}^T "
    "H_{u,u} D_{u<-w} takes O(d^2) operations",
    verdict=FAILS,
    corrected="that product takes O(d^2) through an elementwise node, O(d^3) through a dense affine one",
    amended=partials_of_nodes,
    domain=widths,
    printed_domain=families,
    counterexample={"n": "1", "s": "1", "d": "k", "p": "1"},
    tolerance=ROUNDING,
)
def time_with_elementwise_activations(case: Case) -> Evidence:
    """An elementwise activation has a diagonal Jacobian, but the affine node before it has a dense one, d x d, and a
    network has both: half of its nodes are counted here, 2 d^3 each. With one parameter a node the bound is d^2."""
    assume("n" in case)
    return growth(
        lambda n, s, d, p: n * 2 * d**3,
        lambda n, s, d, p: n * s * d**2 + n * s * d * (n * p) + (n * p) ** 2,
        case,
    )


def small_networks(rng: np.random.Generator) -> Any:
    """Nodes with parameters."""
    return drawn(rng, nodes=3, parameters=True)


@claim(
    "T7.3",
    paper=PAPER,
    place="Thm 7 (3)",
    statement="the space for storing the full Hessian is O(P^2)",
    verdict=HOLDS,
    domain=small_networks,
    share=0.3,
)
def storage(case: Case) -> Any:
    """A P x P matrix has P^2 numbers. Said of the result it is true, and is judged so; the way there may need more: all
    input blocks of formula (1) are (n d)^2 numbers besides, columns by products with the Hessian are not."""
    names = list(case.get("parameters", {}))
    assume(names)
    P = sum(np.size(case["parameters"][name]) for name in names)
    truth(case)
    return equal(numbers_stored=hessian_blocks(build(case)).dense().nbytes / 8, P_squared=P * P)


def products_of_an_svd(n: int, m: int) -> int:
    """Of an n x m matrix, by Golub and Kahan: bidiagonalization, its reflectors accumulated, two QR sweeps a value.

    Step j reflects n - j rows and m - j columns of what is left, 4 (n - j) (m - j) multiplications; the accumulation
    takes as much again; a sweep rotates r pairs of columns of both factors.
    """
    r = min(n, m)
    left = r * n * m - (n + m) * (r * (r - 1) // 2) + (r - 1) * r * (2 * r - 1) // 6
    return 2 * 4 * left + 2 * r * r * 4 * (n + m)


def svd_of_any_shape(case: Case) -> Evidence:
    """O(n m min(n, m))."""
    return growth(products_of_an_svd, lambda n, m: n * m * min(n, m), case)


def shapes(rng: np.random.Generator) -> Any:
    """An n x m matrix, n and m powers of k."""
    return {"n": str(rng.choice(POWERS)), "m": str(rng.choice(POWERS))}


@claim(
    "T7.4",
    paper=PAPER,
    place="Thm 7 (4)",
    statement="the pseudo-inverse of D_{w<-z}^T needs a singular value decomposition, which takes O(d^3) for a d x d "
    "matrix and O(min(n, m) p t) for an n x m matrix of rank below min(n, m)",
    verdict=AMENDED,
    corrected="O(d^3) for a d x d matrix, O(n m min(n, m)) for an n x m one; none is needed for the Hessian",
    amended=svd_of_any_shape,
    domain=shapes,
    counterexample={"n": "k", "m": "k^2"},
    tolerance=ROUNDING,
)
def time_of_pseudo_inverses(case: Case) -> Evidence:
    """Counted: the algorithm of Golub and Kahan (1965), at two QR sweeps a singular value, which is what is observed.
    p and t are defined nowhere (P is the number of parameters, n that of nodes); they are taken as numbers that do not
    depend on the matrix. No such bound can hold: k^3 entries are to be read, and min(n, m) is k. The square case
    agrees."""
    square = case["n"] == case["m"]
    return growth(products_of_an_svd, lambda n, m: n**3 if square else min(n, m), case)


def products_on_a_complete_dag(n: int, d: int, p: int) -> int:
    """D_{u<-v}^T H_{u,u} D_{u<-w} for u after v and w: 2 d^3 each, sum over u of u^2 triples."""
    return (n - 1) * n * (2 * n - 1) // 6 * 2 * d**3


def complete_dag(case: Case) -> Evidence:
    """The blocks take O(n^3 d^3)."""
    return growth(products_on_a_complete_dag, lambda n, d, p: n**3 * d**3, case)


def complete(rng: np.random.Generator) -> Any:
    """n, d and p as powers of k, n not 1."""
    return {"n": str(rng.choice(POWERS[1:])), "d": str(rng.choice(POWERS[:3])), "p": str(rng.choice(POWERS[:3]))}


@claim(
    "T7.5",
    paper=PAPER,
    place="Thm 7 (5)",
    statement="for a complete DAG (s = O(n)) the time is O(n^2 d^3 + n^2 d^2 P + P^2) in the general case",
    verdict=FAILS,
    corrected="the input blocks alone take n^3 d^3, as the proof of the theorem gives: n^2 pairs with s common "
    "children each",
    amended=complete_dag,
    domain=complete,
    counterexample={"n": "k", "d": "k", "p": "1"},
    tolerance=ROUNDING,
)
def time_on_a_complete_dag(case: Case) -> Evidence:
    """Formula (1) has a product 2 d^3 for every triple v, w before u, n (n - 1) (2 n - 1) / 6 of them. With n = d = k
    and one parameter a node that is k^6, and the bound is k^5."""
    return growth(products_on_a_complete_dag, lambda n, d, p: n**2 * d**3 + n**2 * d**2 * (n * p) + (n * p) ** 2, case)


# ---------------------------------------------------------------- Theorem 8


def products_of_diagonal_blocks(n: int, d: int, p: int) -> int:
    """In a tree: H_{v,v} = D^T H_{u,u} D + delta . T, 3 d^3 a node; of its parameters D_v^T H_{v,v} D_v and
    delta . T^theta, d^2 p + 2 d p^2.
    """
    return n * (3 * d**3 + d * d * p + 2 * d * p * p)


def diagonal_in_trees(case: Case) -> Evidence:
    """O(n d^3 + d sum_v p_v^2 + P d^2)."""
    return growth(products_of_diagonal_blocks, lambda n, d, p: n * d**3 + d * n * p**2 + n * p * d**2, case)


def trees(rng: np.random.Generator) -> Any:
    """n, d and p as powers of k."""
    return {name: str(rng.choice(POWERS)) for name in "ndp"}


@claim(
    "T8.1",
    paper=PAPER,
    place="Thm 8 (1)",
    statement="block approximation: computing the diagonal blocks H_{theta_v,theta_v} alone lowers the time to O(n d^3 "
    "+ P d^2)",
    verdict=AMENDED,
    corrected="in trees O(n d^3 + d sum_v p_v^2 + P d^2); where a node has several children that lead to a loss, "
    "H_{v,v} needs off-diagonal blocks of them too",
    amended=diagonal_in_trees,
    domain=trees,
    counterexample={"n": "1", "d": "1", "p": "k"},
    tolerance=ROUNDING,
)
def time_of_diagonal_blocks(case: Case) -> Evidence:
    """A node with one output and p = k parameters has a block of k^2 entries; the bound is k. That H_{v,v} needs other
    blocks is F1.1: its recursion has all H_{u,u'}, u and u' children of v."""
    return growth(products_of_diagonal_blocks, lambda n, d, p: n * d**3 + n * p * d**2, case)


@claim(
    "T8.2",
    paper=PAPER,
    place="Thm 8 (2)",
    statement="approximating the off-diagonal blocks by products of matrices of low rank lowers the time to O(n^2 d^3 "
    "+ n^2 d^2 r + P r), r << P the rank",
    verdict=UNTESTABLE,
    reason="no construction of the factors and no error are stated, so any count can be met (r = 0), and the first "
    "term is no smaller than that of Theorem 7 (1)",
)
def low_rank(case: Case) -> None:
    """Blocks of networks need not be of low rank: that of two affine layers of width d has rank up to d."""


def first_terms(case: Case) -> NDArray[np.float64]:
    """H_{v,w} = d^2 L / df_v df_w + sum over u in Ch(v) & Ch(w) of D_{u<-v}^T H_{u,u} D_{u<-w}, dense over nodes."""
    n = notation.notation(build(case))
    H = {}
    for v in reversed(n.nodes):
        for w in n.nodes:
            H[v, w] = n.loss_part[n.at[v], n.at[w]] + 0.0
            for u in n.common(v, w):
                H[v, w] = H[v, w] + n.D(u, v).T @ H[u, u] @ n.D(u, w)
    return np.block([[H[v, w] for w in n.nodes] for v in n.nodes])


def least_eigenvalue(matrix: np.ndarray) -> float:
    """Relative to the largest entry, or to 1."""
    return float(np.linalg.eigvalsh((matrix + matrix.T) / 2)[0] / max(1.0, np.abs(matrix).max()))


def convex_losses(case: Case) -> Evidence:
    """S^T K^loss S and the first terms are positive semidefinite where K^loss is."""
    true = truth(case)
    assume(np.linalg.eigvalsh(true.loss_part)[0] >= -1e-12)
    found = hessian_blocks(build(case)).gauss_newton.dense(true.names)
    same = equal(gauss_newton=found, true_gauss_newton=true.gauss_newton)
    least = min(least_eigenvalue(found), least_eigenvalue(first_terms(case)))
    return Evidence(max(same.measure, -least), {**same.values, "least_eigenvalue": least})


def several_losses(rng: np.random.Generator) -> Any:
    """One loss or two, convex or not."""
    return drawn(rng, nodes=3, losses=2)


@claim(
    "T8.3",
    paper=PAPER,
    place="Thm 8 (3)",
    statement="Gauss-Newton approximation: using only the first terms of (1) and (3) lowers the cost and guarantees "
    "positive semidefiniteness",
    verdict=AMENDED,
    corrected="it is positive semidefinite if the losses are jointly convex in the arrays they read; the Gauss-Newton "
    "matrix is S^T K^loss S",
    amended=convex_losses,
    domain=several_losses,
    counterexample={"inputs": {"x": 0}, "nodes": {"y": "x"}, "losses": ["-1 y * y"]},
    share=0.3,
)
def first_terms_only(case: Case) -> Evidence:
    """First terms add up congruences of blocks H_{u,u}, so they inherit the sign of K^loss, and with it the lack of
    one: the loss -y^2 has H[y, y] = -2. (3) is a congruence of (1), which is judged here."""
    truth(case)
    found = first_terms(case)
    return Evidence(-least_eigenvalue(found), {"first_terms": found, "least_eigenvalue": least_eigenvalue(found)})


def layer(case: Case) -> Network:
    """z = x W^T, loss sum_n (v . z_n)^3 / 3 + sum_no z_no^3 / 3."""
    network = Network()
    network.input("x", case["x"])
    network.parameter("W", case["W"])
    network.node("z", layers.affine, "x", "W")
    network.loss(partial(cubes, v=np.array(case["v"], dtype=float)), "z")
    return network


def cubes(z: NDArray[Any], *, v: np.ndarray) -> NDArray[Any] | float:
    """sum_n (v . z_n)^3 / 3 + sum_no z_no^3 / 3."""
    return (anp.sum(anp.dot(z, v) ** 3) + anp.sum(z**3)) / 3


def layers_of_samples(rng: np.random.Generator) -> Any:
    """1 to 3 samples."""
    samples, inner, outer = (int(rng.integers(1, 4)) for _ in range(3))
    x, W, v = dyadic(rng, samples, inner), dyadic(rng, outer, inner), dyadic(rng, outer)
    return {"x": x.tolist(), "W": W.tolist(), "v": v.tolist()}


def sum_over_samples(case: Case) -> Evidence:
    """sum_n (Hessian of the loss in z_n) kron x_n x_n^T."""
    x, W, v = (np.array(case[key], dtype=float) for key in ("x", "W", "v"))
    z = x @ W.T
    terms = [np.kron(2 * (v @ a) * np.outer(v, v) + np.diag(2 * a), np.outer(b, b)) for a, b in zip(z, x, strict=True)]
    return equal(found_H=hessian_blocks(layer(case))["W", "W"], sum_of_kronecker_products=sum(terms))


@claim(
    "T8.4",
    paper=PAPER,
    place="Thm 8 (4)",
    statement="Kronecker factorization: matrix blocks are represented as Kronecker products of smaller matrices",
    verdict=AMENDED,
    corrected="for one sample H_{W,W} = H_{z,z} kron a a^T; for several it is the sum of these, for which one product "
    "is an approximation",
    amended=sum_over_samples,
    domain=layers_of_samples,
    counterexample={"x": [[1, 0], [0, 1]], "W": [[1, 0], [0, 1]], "v": [0, 0]},
)
def one_kronecker_product(case: Case) -> Evidence:
    """With its entries rearranged, [(o, o'), (i, i')], A kron B is the matrix vec A vec B^T of rank 1, so that singular
    values beyond the first measure the distance to the nearest product (Van Loan and Pitsianis, 1993). Two samples e_1
    and e_2, W = I and the loss sum z^3 / 3 have H = 2 diag(1, 0, 0, 1), rearranged of rank 2."""
    found = hessian_blocks(layer(case))["W", "W"]
    outer, inner = np.shape(case["W"])
    rearranged = found.reshape(outer, inner, outer, inner).transpose(0, 2, 1, 3).reshape(outer**2, inner**2)
    U, s, Vt = np.linalg.svd(rearranged)
    A, B = U[:, 0].reshape(outer, outer) * s[0], Vt[0].reshape(inner, inner)
    return equal(nearest_kronecker_product=np.kron(A, B), true_H=found)


# ---------------------------------------------------------------- limits


def bytes_of_blocks(case: Case) -> Any:
    """8 (n d)^2 bytes in float64, counted in a network small enough to be built: a chain of n nodes."""
    n, d = case["n"], case["d"]
    assume(n * d <= 32)
    network = {"inputs": {"a0": [1] * d}, "nodes": {}, "losses": [f"square(a{n - 1})"]}
    network["nodes"] = {f"a{k}": f"a{k - 1}" for k in range(1, n)}
    stored = hessian_blocks(build(network)).dense(vertices(network)).nbytes
    return equal(bytes_stored=stored, formula=8 * (n * d) ** 2)


def small_chains(rng: np.random.Generator) -> Any:
    """n nodes of d outputs."""
    return {"n": int(rng.integers(1, 9)), "d": int(rng.integers(1, 5))}


def large_graphs(rng: np.random.Generator) -> Any:
    """n from 10^4, d about 10^2."""
    return {"n": 10000 + 1000 * int(rng.integers(0, 11)), "d": 100 + int(rng.integers(-10, 11))}


PETABYTE = 10**15


@claim(
    "Lim1",
    paper=PAPER,
    place="sec. 9, L1",
    statement="already at n >~ 10^4 and d ~ 10^2 storing all H_{v,w} becomes impossible (petabytes of memory are "
    "required); Theorem 6 admits O(n^2 d^3 + n^2 d^2 P + P^2) operations for the complete graph",
    verdict=FAILS,
    corrected="8 (n d)^2 bytes: 8 TB in float64 at n = 10^4, d = 10^2; the theorem is number 7",
    amended=bytes_of_blocks,
    domain=small_chains,
    printed_domain=large_graphs,
    counterexample={"n": 10000, "d": 100},
)
def petabytes(case: Case) -> Evidence:
    """All blocks together are one n d x n d matrix, of 10^12 numbers here; a petabyte is 10^15 bytes. It is reached at
    n d = 1.1 10^7, ten times as much."""
    stored = 8 * (case["n"] * case["d"]) ** 2
    return Evidence((PETABYTE - stored) / PETABYTE, {"a_petabyte": PETABYTE, "bytes_required": stored})


@claim(
    "Lim7",
    paper=PAPER,
    place="sec. 9, L7",
    statement="summing blocks held on several devices needs an all-reduce of O(P^2) data; the latency of the network "
    "becomes the bottleneck, and exchanging hundreds of gigabytes an iteration outweighs any gain of the better step",
    verdict=UNTESTABLE,
    reason="about hardware and about a gain that is not quantified; products with the Hessian exchange O(P) numbers "
    "each",
)
def communication(case: Case) -> None:
    """Not a statement about a function of numbers."""
