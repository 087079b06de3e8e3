"""Claims of Bolshim and Kugaevskikh (2025) about the blocks of the Hessian: formulas, propositions, algorithms.

Cases are networks as `clarke.claims.networks` writes them. What is printed is taken from `clarke.printed`, what holds
from `clarke.hessian_blocks` and `clarke.notation`, and both are compared with `networks.truth`, which differentiates
the loss forward and knows no formula of the paper.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import pairwise
from math import exp, inf, isinf, pi, sqrt
from typing import TYPE_CHECKING, Any

import autograd.numpy as anp
import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from ... import arithmetic, layers, notation, printed
from ...attention import softmax_attention
from ...blocks import hessian_blocks
from ...network import Network
from ...normalization import batch_norm
from ...stochastic import draw, seen_from
from ..networks import (
    Truth,
    build,
    drawn,
    drawn_term,
    drawn_value,
    pairs,
    readers,
    truth,
    under,
    untied,
    vertices,
    worst,
)
from ..references import brute_force
from ..statements import AMENDED, FAILS, HOLDS, UNTESTABLE, Case, Evidence, assume, claim, equal

if TYPE_CHECKING:
    from ...notation import Notation

PAPER = "bolshim2025interlayer"


# ---------------------------------------------------------------- the true blocks


def input_blocks(case: Case) -> dict[tuple[str, str], NDArray[np.float64]]:
    """{(v, w): H^f_{v,w}} of inputs and nodes."""
    true = truth(case)
    return {(v, w): true.block(true.hessian, v, w) for v, w in pairs(vertices(case))}


def parameter_blocks(case: Case) -> dict[tuple[str, str], NDArray[np.float64]]:
    """{(t, s): H_{t,s}} of parameters."""
    true = truth(case)
    return {(t, s): true.block(true.hessian, t, s) for t, s in pairs(case.get("parameters", {}))}


def theta(case: Case) -> dict[str, list[str]]:
    """node -> the parameters it reads, for the nodes that read any."""
    read = {v: [t for t in readers(text) if t in case.get("parameters", {})] for v, text in case["nodes"].items()}
    return {v: names for v, names in read.items() if names}


def unrolled_blocks(case: Case, matrix: str = "hessian") -> dict[tuple[str, str], NDArray[np.float64]]:
    """{(v, w): H_{theta_v, theta_w}} of nodes that read parameters, each of its own copy of them."""
    true, copies = truth(untied(case)), {v: [f"{t}_{v}" for t in names] for v, names in theta(case).items()}
    whole = getattr(true, matrix)
    return {
        (v, w): np.block([[true.block(whole, a, b) for b in copies[w]] for a in copies[v]]) for v, w in pairs(copies)
    }


def children(case: Case) -> dict[str, list[str]]:
    """array -> the nodes that read it."""
    names = (*case.get("inputs", {}), *case.get("parameters", {}), *case["nodes"])
    return {v: [u for u, text in case["nodes"].items() if v in readers(text)] for v in names}


def heads(case: Case) -> set[str]:
    """The arrays the losses read."""
    return {name for text in case["losses"] for name in readers(text)}


def below(case: Case) -> dict[str, set[str]]:
    """array -> all it has a path to, itself included."""
    found, next_to = {}, children(case)
    for v in reversed(list(next_to)):
        found[v] = {v}.union(*(found[u] for u in next_to[v]))
    return found


def leading(case: Case) -> set[str]:
    """The arrays with a path to a loss."""
    return {v for v, reached in below(case).items() if reached & heads(case)}


# ---------------------------------------------------------------- domains


def with_inputs(rng: np.random.Generator) -> dict[str, Any]:
    """Inputs and nodes, one loss or two."""
    return drawn(rng, losses=2)


def with_parameters(rng: np.random.Generator) -> dict[str, Any]:
    """Nodes with parameters of their own."""
    return drawn(rng, nodes=3, parameters=True)


def with_sharing(rng: np.random.Generator) -> dict[str, Any]:
    """Nodes with parameters, some of them shared."""
    return drawn(rng, least=2, nodes=3, parameters=True, shared=True)


def with_smooth_sharing(rng: np.random.Generator) -> Any:
    """Two nodes or three with parameters, most of them shared."""
    return drawn(rng, least=2, nodes=3, parameters=True, shared=True, shapes=("", "square", "tanh"))


# ---------------------------------------------------------------- formulas (1), (2)


def by_blocks(case: Case) -> Evidence:
    """H = S^T K S, by the library."""
    true = input_blocks(case)
    found = hessian_blocks(build(case))
    return worst({pair: found[pair] for pair in true}, true, found="found")


def by_recursion(case: Case) -> Evidence:
    """H_{v,w} = sum over u in Ch(v) of D_{u<-v}^T H_{u,w} + (K S)_{v,w}, for all pairs, no pseudo-inverse anywhere."""
    true = input_blocks(case)
    return worst(notation.input_hessian(build(case)), true, found="found")


@claim(
    "F1",
    paper=PAPER,
    place="formula (1)",
    statement="the block H_{v,w} of the full input Hessian is the sum over u in Ch(v) & Ch(w) of D_{u<-v}^T H_{u,u} "
    "D_{u<-w} (Gauss-Newton) and of delta_u . T^sym_{u;v,w} (mixed inputs), for v = w the sum over u in Ch(v) of "
    "delta_u . T_{u;v} (pure), the pseudo-inverse terms of the paths v ->* w and w ->* v, and d^2 L / df_v df_w "
    "(direct dependence of the loss)",
    verdict=FAILS,
    corrected="H = S^T K S, S = (I - D)^{-1}, K_{v,w} the direct second derivative of the loss plus delta_u . "
    "T_{u;v,w} over all common children u, v = w once; (1) is right for v = w and for siblings where every node has at "
    "most one child that leads to a loss and no loss couples two nodes",
    amended=by_blocks,
    domain=with_inputs,
    counterexample={"inputs": {"x": 0}, "nodes": {"h": "x", "y": "x * h"}, "losses": ["y"]},
)
def formula_1(case: Case) -> Evidence:
    """y = x h with h = x is x^2, so H[x, x] = 2. Formula (1) sees y curved in x and h jointly, which is a block of
    (x, h), and in x alone, where it is flat; no term of it carries the curvature of (x, h) to (x, x) through h = x. In
    general it lacks D^T H_{u,u'} D for u != u' and D^T (S^T K)_{u,w}, (K S)_{v,u} D: expand H = S^T K S by the last
    edges. Blocks that are undefined as printed count as violations."""
    true = input_blocks(case)
    return worst(printed.formula_1(build(case), misfit="omit"), true)


def two_sided(
    n: "Notation", H: Mapping[tuple[str, str], np.ndarray], v: str, w: str, edges: Sequence[tuple[str, str]]
) -> NDArray[np.float64]:
    """K_{v,w} + sum over (u, z) in edges of D_{u<-v}^T H_{u,z} D_{z<-w}, and both one-sided terms in K."""
    KS = (n.loss_part + n.tensor_part) @ n.total
    total = n.K(v, w) + 0.0
    for u, z in edges:
        total += n.D(u, v).T @ H[u, z] @ n.D(z, w)
    for u in n.children[v]:
        total += n.D(u, v).T @ KS.T[n.at[u], n.at[w]]
    for z in n.children[w]:
        total += KS[n.at[v], n.at[z]] @ n.D(z, w)
    return total


def every_pair(n: "Notation", v: str, w: str) -> list[tuple[str, str]]:
    """Ch(v) x Ch(w)."""
    return [(u, z) for u in n.children[v] for z in n.children[w]]


def by_pairs(
    case: Case, edges: Callable[..., Any]
) -> tuple[dict[tuple[Any, ...], NDArray[np.float64]], dict[tuple[Any, ...], NDArray[np.float64]]]:
    """`two_sided` on all blocks, the blocks to the right of it the right ones."""
    true, n = input_blocks(case), notation.notation(build(case))
    H = notation.input_hessian(n)
    return {(v, w): two_sided(n, H, v, w, edges(n, v, w)) for v, w in true}, true


def over_every_pair(case: Case) -> Evidence:
    """All pairs of children."""
    return worst(*by_pairs(case, every_pair), found="found")


@claim(
    "F1.1",
    paper=PAPER,
    place="formula (1), first term",
    statement="what children contribute to H_{v,w} by their own second derivatives is the sum over u in Ch(v) & Ch(w) "
    "of D_{u<-v}^T H_{u,u} D_{u<-w}",
    verdict=FAILS,
    corrected="the sum over all pairs u in Ch(v), u' in Ch(w) of D_{u<-v}^T H_{u,u'} D_{u'<-w}",
    amended=over_every_pair,
    domain=with_inputs,
    counterexample={"inputs": {"x": 0}, "nodes": {"h": "x", "y": "x + h"}, "losses": ["square(y)"]},
)
def common_children_only(case: Case) -> Evidence:
    """All else in the two-sided expansion of H = S^T K S is granted, so that the pairs alone are judged:
    S = I + S D, hence S^T K S = K + D^T (S^T K) + (K S) D + D^T H D, and D^T H D has all pairs. With y = x + h, h = x
    the loss is (2 x)^2 / 2: H[x, x] = 4 = H[h, h] + H[y, y] + 2 H[h, y], of which the last is not printed."""
    return worst(*by_pairs(case, lambda n, v, w: [(u, u) for u in n.common(v, w)]))


def one_way(case: Case) -> list[tuple[str, str]]:
    """Pairs v ->* w, v != w, without a common child or a common loss."""
    reached, next_to, read = below(case), children(case), [set(readers(text)) for text in case["losses"]]
    return [
        (v, w)
        for v, w in pairs(vertices(case))
        if v != w and w in reached[v] and not set(next_to[v]) & set(next_to[w]) and not any({v, w} <= r for r in read)
    ]


@claim(
    "F1.4",
    paper=PAPER,
    place="formula (1), terms 4 and 5",
    statement="a path v ->* w contributes to H_{v,w} the sum over u in Ch(v) and z in Ch(u) & Pa(w) of D_{u<-v}^T "
    "H_{u,z} D_{w<-z}^{-T}, a path w ->* v the mirror image",
    verdict=FAILS,
    corrected="no pseudo-inverse is needed: H_{v,w} = sum over u in Ch(v) of D_{u<-v}^T H_{u,w} + (K S)_{v,w} for all "
    "pairs",
    amended=by_recursion,
    domain=with_inputs,
    counterexample={
        "inputs": {"v": 0},
        "nodes": {"u": "v", "z": "u", "w": "0.01 z", "y": "z + w"},
        "losses": ["square(y)"],
    },
)
def pseudo_inverse_terms(case: Case) -> Evidence:
    """The term is judged where it stands alone: v ->* w without a common child, no loss that reads both, the blocks
    H_{u,z} the right ones. Here H[u, z] = 1.01^2 is divided by D_{w<-z} = 0.01, where the true block is multiplied:
    H[v, w] = 1.01. As D_{w<-z} -> 0 the term has no bound. A path of one edge or two has no term at all."""
    true, wanted = input_blocks(case), one_way(case)
    assume(wanted)
    n = notation.notation(build(case))
    terms, found = printed.lemma_1(n, misfit="omit"), {}
    for v, w in wanted:
        through = [(v, u, z, w) for u in n.children[v] for z in n.children[u] if z in n.parents[w]]
        if all(path in terms for path in through):
            found[v, w] = sum((terms[path] for path in through), np.zeros_like(true[v, w]))
    return worst(found, {pair: true[pair] for pair in wanted})


def against_out(case: Case) -> tuple[str, list[str]]:
    """(out, the other vertices); the losses read out alone, and nothing reads out."""
    read = heads(case)
    assume(len(read) == 1)
    (out,) = read
    assume(not children(case)[out])
    others = [v for v in vertices(case) if v != out]
    assume(others)
    return out, others


def base_amended(case: Case) -> Evidence:
    """H_{out,v} = K^loss_{out,out} S_{out,v}."""
    out, others = against_out(case)
    true, found = truth(case), hessian_blocks(build(case))
    right = {(out, v): true.block(true.loss_part, out, out) @ true.block(true.total, out, v) for v in others}
    return worst({pair: found[pair] for pair in right}, right, found="found")


@claim(
    "F2",
    paper=PAPER,
    place="formula (2)",
    statement="base conditions: H_{out,out} = Hessian of L at f_out, and H_{out,v} = H_{v,out} = 0 for all v != out",
    verdict=FAILS,
    corrected="H_{out,v} = (Hessian of L) S_{out,v}, and direct mixed blocks of the loss where it has any",
    amended=base_amended,
    domain=drawn,
    counterexample={"inputs": {"x": 0}, "nodes": {"y": "x"}, "losses": ["square(y)"]},
    share=0.3,
)
def base_conditions(case: Case) -> Evidence:
    """A shift of x moves y, on which the gradient of the loss depends: d/dx of dL/dy = y is 1. In general
    d/d eps_v of (grad L)(f_out) is (Hessian of L) d f_out / d eps_v."""
    out, others = against_out(case)
    true = input_blocks(case)
    found = printed.formula_1(build(case), misfit="omit")
    both = [(out, out), *((out, v) for v in others), *((v, out) for v in others)]
    return worst({pair: found[pair] for pair in both}, {pair: true[pair] for pair in both})


# ---------------------------------------------------------------- pseudo-inverses and paths


def matrices(rng: np.random.Generator) -> Any:
    """A with 1 to 3 rows and columns."""
    rows, columns = int(rng.integers(1, 4)), int(rng.integers(1, 4))
    return {"A": [[int(rng.integers(-2, 3)) for _ in range(columns)] for _ in range(rows)]}


@claim(
    "R5",
    paper=PAPER,
    place="Remark 5",
    statement="D^{-T} = (D^T)^+ is the Moore-Penrose pseudo-inverse of D^T, the inverse where D^T is square and "
    "nonsingular; with D^T = U Sigma V^* it is V Sigma^+ U^*",
    verdict=HOLDS,
    domain=matrices,
)
def pseudo_inverse_by_svd(case: Case) -> Any:
    """Penrose's four equations determine it. The transpose of A^+ solves those of A^T, so (A^T)^+ = (A^+)^T. The
    library's A^+ is read off Lemma 1 in v -> u -> z -> w = A z, all blocks but the last factor set to I."""
    A = np.array(case["A"], dtype=float)
    M, n = A.T, A.shape[1]
    U, s, Vt = np.linalg.svd(M, full_matrices=False)
    X = Vt.T @ np.diag([1 / t if t > 1e-9 * max(s[0], 1.0) else 0.0 for t in s]) @ U.T
    path = {
        "inputs": {"v": [0] * n},
        "nodes": {"u": "v", "z": "u", "w": f"{A.astype(int).tolist()} z"},
        "losses": ["w"],
    }
    (library,) = printed.lemma_1(build(path), blocks={("u", "z"): np.eye(n)}, misfit="repair").values()
    left, right = [library.T, M @ X @ M, X @ M @ X, M @ X, X @ M], [X, M, X, (M @ X).T, (X @ M).T]
    if A.shape[0] == n and abs(np.linalg.det(M)) > 0.5:  # of integers
        left, right = [*left, X @ M], [*right, np.eye(n)]
    flat = [np.concatenate([part.ravel() for part in parts]) for parts in (left, right)]
    return equal(penrose_left=flat[0], penrose_right=flat[1])


def relu_layers(rng: np.random.Generator) -> Any:
    """h = relu(W x)."""
    columns, rows = int(rng.integers(1, 4)), int(rng.integers(1, 4))
    case = {"inputs": {"x": drawn_value(rng, columns)}, "nodes": {}, "losses": ["square(h)"]}
    case["nodes"]["h"] = under("relu", drawn_term(rng, "x", columns, rows))
    return case


@claim(
    "R6",
    paper=PAPER,
    place="Remark 6",
    statement="in most practical architectures, as fully connected layers and convolutions with enough channels, the "
    "Jacobians D_{w<-z} usually have full rank",
    verdict=FAILS,
    corrected="H = S^T K S needs no rank: it holds whatever the ranks of the Jacobians",
    amended=by_blocks,
    domain=relu_layers,
    counterexample={"inputs": {"x": -1}, "nodes": {"h": "relu(x)"}, "losses": ["square(h)"]},
)
def full_rank(case: Case) -> Evidence:
    """A dead relu takes its row out of the Jacobian: of k units all are alive on one of 2^k sign patterns. The
    Jacobian of softmax is never of full rank (its output sums to 1), nor is that of batch normalization. A remark
    about what is usual, judged by its instances."""
    truth(case)
    D = notation.notation(build(case)).D("h", "x")
    rank = int(np.linalg.matrix_rank(D))
    return Evidence(float(min(D.shape) - rank), {"jacobian": D, "rank": rank, "full_rank": min(D.shape)})


PATH = ("v", "u", "z", "w")


def along_a_path(rng: np.random.Generator) -> Any:
    """v -> u -> z -> w, and perhaps a node after it; w mostly affine in z, with D_{w<-z} of full row rank."""
    sizes = {name: int(rng.integers(1, 3)) for name in ("v", "u", "z", "y")}
    sizes["w"] = rows = int(rng.integers(1, sizes["z"] + 1))
    terms = {name: drawn_term(rng, above, sizes[above], sizes[name]) for above, name in ("vu", "uz", "wy")}
    right = [[int(rng.integers(-2, 3)) if j > i else int(i == j) for j in range(sizes["z"])] for i in range(rows)]
    curves = ("", "square", "tanh")
    nodes = {name: under(str(rng.choice(curves)), terms[name]) for name in "uz"}
    nodes["w"] = under(str(rng.choice(("", "", "square"))), f"{right} z")
    if rng.integers(0, 2):
        nodes["y"] = under(str(rng.choice(curves)), terms["y"])
    last = "y" if "y" in nodes else "w"
    losses = [under(str(rng.choice(("square", "", "cube"))), last)]
    return {"inputs": {"v": drawn_value(rng, sizes["v"])}, "nodes": nodes, "losses": losses}


def repaired_path(case: Case) -> Any:
    """D_{u<-v}^T H_{u,z} D_{w<-z}^+ under the hypotheses."""
    true, next_to, live = truth(case), children(case), leading(case)
    assume(set(next_to["v"]) & live == {"u"} and set(next_to["z"]) & live == {"w"} and not {"v", "z"} & heads(case))
    assume(not true.K[true.at["z"]].any() and not true.block(true.K @ true.total, "v", "w").any())
    D = true.block(true.local, "w", "z")
    assume(np.linalg.matrix_rank(D) == len(D))
    found = printed.lemma_1(build(case), misfit="repair")
    return worst({("v", "w"): found[PATH]}, {("v", "w"): true.block(true.hessian, "v", "w")}, found="found")


@claim(
    "L1",
    paper=PAPER,
    place="Lemma 1",
    statement="for a path v -> u -> z -> w its contribution to H_{v,w} is D_{u<-v}^T H_{u,z} D_{w<-z}^{-T}, "
    "D_{w<-z}^{-T} = (D_{w<-z}^T)^+",
    verdict=FAILS,
    corrected="D_{u<-v}^T H_{u,z} D_{w<-z}^+ is H_{v,w} if w is affine in z with no cross term, z has no other child "
    "that leads to a loss and no loss reads it, D_{w<-z} has full row rank, u is the only child of v that leads to a "
    "loss, and (K S)_{v,w} = 0",
    amended=repaired_path,
    domain=along_a_path,
    counterexample={"inputs": {"v": 1}, "nodes": {"u": "v", "z": "u", "w": "square(z)"}, "losses": ["w"]},
    share=0.2,
)
def lemma_1(case: Case) -> Evidence:
    """In a chain the path is all there is, so its contribution is H_{v,w}. Under the hypotheses H_{u,z} = H_{u,w}
    D_{w<-z}, and D D^+ = I at full row rank; so the factor is D^+, of dimensions (d_z, d_w), where (D^T)^+ has (d_w,
    d_z). Here w = z^2 / 2 is curved in z: H[u, z] = 1 and D_{w<-z} = 1, but the loss is w itself and H[v, w] = 0."""
    true = truth(case)
    found = printed.lemma_1(build(case), misfit="omit")
    path = {("v", "w"): found[PATH]} if PATH in found else {}
    return worst(path, {("v", "w"): true.block(true.hessian, "v", "w")})


def paths_between(case: Case) -> dict[tuple[str, str], list[list[Any]]]:
    """{(v, w): the paths, lists of edges (u, v)}; the empty path for v = w."""
    next_to = children(case)
    found = {pair: [[]] if pair[0] == pair[1] else [] for pair in pairs(vertices(case))}
    for w in vertices(case):
        for v in reversed(vertices(case)):
            found[v, w] += [[(u, v), *rest] for u in next_to[v] for rest in found[u, w]]
    return found


def by_pairs_of_paths(case: Case) -> Evidence:
    """sum over a, b, over paths p: v ->* a and q: w ->* b, of D_p^T K_{a,b} D_q."""
    true, between, n = input_blocks(case), paths_between(case), notation.notation(build(case))

    def carried(path, v):
        total = np.eye(n.at[v].stop - n.at[v].start)
        for edge in path:
            total = n.D(*edge) @ total
        return total

    ways = {(v, a): [carried(path, v) for path in found] for (v, a), found in between.items()}
    found = {pair: np.zeros_like(block) for pair, block in true.items()}
    for v, w in true:
        for a, b in true:
            for p in ways[v, a]:
                for q in ways[w, b]:
                    found[v, w] = found[v, w] + p.T @ n.K(a, b) @ q
    return worst(found, true, found="found")


@claim(
    "R7",
    paper=PAPER,
    place="Remark 7",
    statement="in the fourth and fifth terms of (1) every path from v to w or from w to v is counted exactly once",
    verdict=FAILS,
    corrected="each term of S^T K S is a distinct pair of paths: H_{v,w} is the sum over a, b and over all paths p: v "
    "->* a, q: w ->* b of D_p^T K_{a,b} D_q",
    amended=by_pairs_of_paths,
    domain=with_inputs,
    counterexample={"inputs": {"v": 0}, "nodes": {"w": "v"}, "losses": ["square(w)"]},
)
def paths_counted_once(case: Case) -> Evidence:
    """The term has one summand for each u in Ch(v), z in Ch(u) & Pa(w): the paths of three edges. The path v -> w of
    one edge is counted 0 times, and so is one of two. Longer ones recur only through an edge u -> z. S = I + D + D^2 +
    ... has every path once, and S^T K S every pair of paths once."""
    truth(case)
    terms = printed.lemma_1(build(case), misfit="repair")
    between = {pair: len(found) for pair, found in paths_between(case).items() if pair[0] != pair[1]}
    counted = dict.fromkeys(between, 0)
    for v, *_, w in terms:
        counted[v, w] += 1
    return worst(counted, between, name="paths", found="counted")


# ---------------------------------------------------------------- which blocks vanish, and recursions


def excluded(case: Case, true: Truth) -> list[tuple[str, str]]:
    """Pairs for which none of the three cases of Theorem 2 holds."""
    reached = below(case)
    return [
        (v, w)
        for v, w in pairs(vertices(case))
        if not reached[v] & reached[w] & set(case["nodes"]) - {v, w}
        and w not in reached[v]
        and v not in reached[w]
        and not true.block(true.loss_part, v, w).any()
    ]


def curved_pairs(case: Case) -> set[tuple[str, str]]:
    """(a, b) whose K can be nonzero by what is written: read by one curved function, or different factors."""
    live, found = leading(case), set()
    texts = [text for name, text in case["nodes"].items() if name in live] + case["losses"]
    for text in texts:
        names = readers(text)
        if text.startswith(("square", "cube", "tanh")):
            found |= set(pairs(names))
        elif " * " in text:
            found |= {(a, b) for a, b in pairs(names) if a != b or text.split().count(a) > 1 or len(names) == 1}
    return found


def structurally_zero(case: Case) -> Evidence:
    """No a, b with v ->* a, w ->* b and K_{a,b} structurally nonzero: the block is 0."""
    reached, curved, true = below(case), curved_pairs(case), truth(case)
    none = [(v, w) for v, w in pairs(vertices(case)) if not any(a in reached[v] and b in reached[w] for a, b in curved)]
    assume(none)
    found = hessian_blocks(build(case))
    return worst({p: found[p] for p in none}, {p: 0 * true.block(true.hessian, *p) for p in none}, found="found")


def coupled(rng: np.random.Generator) -> Any:
    """Nodes of one entry on two inputs, and a loss that reads two of them or a node and an input."""
    case = {"inputs": {"v": drawn_value(rng, 1), "w": drawn_value(rng, 1)}, "nodes": {}, "losses": []}
    above = ["v", "w"]
    for name in "abc"[: int(rng.integers(1, 4))]:
        case["nodes"][name] = under(str(rng.choice(("", "square", "tanh"))), drawn_term(rng, rng.choice(above), 1, 1))
        above.append(name)
    a, b = (str(name) for name in rng.choice(above[::-1], size=2, replace=False))
    joint = str(rng.choice((" * ", " + ")))
    case["losses"].append(under(str(rng.choice(("", "square"))), f"{a}{joint}{b}"))
    return case


def with_zeros(rng: np.random.Generator) -> Any:
    """Those, or networks without curved nodes."""
    return drawn(rng, nodes=3, losses=2, shapes=("", "relu")) if rng.integers(0, 3) == 2 else coupled(rng)


@claim(
    "T2",
    paper=PAPER,
    place="Thm 2",
    statement="H_{v,w} can be nonzero if v and w have paths to a common u, or there is a path v ->* w or w ->* v, or "
    "d^2 L / df_v df_w != 0 directly; if none of these holds, H_{v,w} = 0",
    verdict=AMENDED,
    corrected="H_{v,w} can be nonzero only if there are a, b with v ->* a, w ->* b and K_{a,b} structurally nonzero: a "
    "and b are read by a common curved child that leads to a loss, or coupled directly by a loss",
    amended=structurally_zero,
    domain=with_zeros,
    printed_domain=coupled,
    counterexample={"inputs": {"v": 0, "w": 0}, "nodes": {"a": "v"}, "losses": ["a * w"]},
)
def vanishing_blocks(case: Case) -> Evidence:
    """H = S^T K S vanishes unless some K_{a,b} is reached from both sides, which is the corrected condition. Printed,
    the loss must couple v and w themselves. In L = a w, a = v it couples a and w: v and w have no common descendant and
    no path between them, L does not read v, and H[v, w] = 1. The condition is too wide too: in affine nodes under an
    affine loss all blocks vanish."""
    true = truth(case)
    none = excluded(case, true)
    assume(none)
    blocks = {pair: true.block(true.hessian, *pair) for pair in none}
    return worst({pair: 0 * block for pair, block in blocks.items()}, blocks)


def with_its_source(case: Case) -> Evidence:
    """sum over u in Ch(v) of D_{u<-v}^T H_{u,w} + (K S)_{v,w}, for all pairs."""
    true, next_to = truth(case), children(case)
    H, KS = hessian_blocks(build(case)), true.K @ true.total
    found = {
        (v, w): sum((true.block(true.local, u, v).T @ H[u, w] for u in next_to[v]), true.block(KS, v, w))
        for v, w in pairs(vertices(case))
    }
    return worst(found, input_blocks(case), found="found")


@claim(
    "P2",
    paper=PAPER,
    place="Prop. 2",
    statement="where there is a one-sided path, v ->* w say, H_{v,w} is the sum over u in Ch(v) of D_{u<-v}^T H_{u,w} "
    "for nodes v that have no common descendants with w",
    verdict=AMENDED,
    corrected="H_{v,w} = sum over u in Ch(v) of D_{u<-v}^T H_{u,w} + (K S)_{v,w} for all pairs; Prop. 2 holds exactly "
    "where (K S)_{v,w} = 0, as in piecewise-linear networks with the loss on out alone, for v != out",
    amended=with_its_source,
    domain=with_inputs,
    counterexample={"inputs": {"v": 0}, "nodes": {"w": "v", "y": "w", "out": "v * y"}, "losses": ["out"]},
)
def proposition_2(case: Case) -> Evidence:
    """From S = I + S D: H = S^T K S = K S + D^T H. Here out = v y couples v with y, which w moves: (K S)[v, w] = 1,
    and w and y move nothing by themselves, H[w, w] = 0. "Common descendants" is read as common children, as in the
    proof of Theorem 2; read literally it would leave, after v ->* w, only a w that no node reads."""
    true = input_blocks(case)
    found = printed.proposition_2(build(case))
    assume(found)
    return worst(found, {pair: true[pair] for pair in found})


@claim(
    "P2s",
    paper=PAPER,
    place="after Prop. 2",
    statement="in the smooth case H_{v,w} = H_{w,v}^T for all v, w, by equality of mixed partial derivatives",
    verdict=HOLDS,
    domain=with_inputs,
)
def symmetry(case: Case) -> Any:
    """Schwarz: L is C^2 in the perturbations. Every column is a product with the Hessian of its own, so that nothing
    makes the two blocks equal by construction."""
    truth(case)
    names = vertices(case)
    operator = hessian_blocks(build(case)).operator(names)
    H = operator @ np.eye(operator.shape[0])
    return equal(block=H, transposed=H.T)


# ---------------------------------------------------------------- the parametric Hessian


def by_parameter_formula(case: Case) -> Evidence:
    """D_v^T H_{v,w} D_w + 1_{v=w} delta_v . T_v^theta + M^T S D + its mirror."""
    true = unrolled_blocks(case)
    assume(true)
    return worst(notation.unrolled_hessian(build(case)), true, name="H_theta", found="found")


@claim(
    "F3",
    paper=PAPER,
    place="formula (3)",
    statement="H_{theta_v,theta_w} is D_v^T H_{v,w} D_w (Gauss-Newton block) + 1_{v=w} delta_v . T_v^theta + the sum "
    "over u in Pa(v) & Ch(w) of delta_v . T_{v;u,theta} (D_{w<-u} D_w)^T + the sum over u in Pa(w) & Ch(v) of delta_w "
    ". T_{w;u,theta} (D_{v<-u} D_v)^T",
    verdict=FAILS,
    corrected="the mixed part is the sum over u in Pa(v) of M_{u,v}^T S_{u,w} D_w, M_{u,v} = delta_v . T_{v;u,theta}, "
    "u = w and longer paths included, plus its mirror",
    amended=by_parameter_formula,
    domain=with_parameters,
    counterexample={"parameters": {"s": 0, "t": 0}, "nodes": {"h": "s", "y": "h * t"}, "losses": ["y"]},
    share=0.3,
)
def formula_3(case: Case) -> Evidence:
    """The input blocks in it are the right ones. L = s t: the derivative of y = h t in t depends on h, which s moves;
    here u = w = h, which is no child of itself, so both sums are empty and the block of (t, s) is 0 where it is 1.
    Where they are not empty their factors fit only if d_u = d_w = p_v = p_w."""
    true = unrolled_blocks(case)
    assume(true)
    return worst(printed.formula_3(build(case), misfit="omit"), true, name="H_theta")


def mixed_part(case: Case) -> Evidence:
    """M_{u,v}^T S_{u,w} D_w, summed over u in Pa(v): of the dimensions of its block, and the mixed derivative."""
    assume(len(theta(case)) > 1)
    true, n = truth(case), notation.notation(build(case))
    found, right = {}, {}
    for v, w in pairs(theta(case)):
        found[v, w] = notation.mixed_term(n, v, w)
        rows, columns = (np.concatenate([np.r_[true.at[t]] for t in theta(case)[a]]) for a in (v, w))
        above = [u for u in readers(case["nodes"][v]) if u not in case["parameters"]]
        right[v, w] = sum(
            (true.tensor_part[rows, true.at[u]] @ true.total[true.at[u], columns] for u in above),
            np.zeros((len(rows), len(columns))),
        )
    return worst(found, right, name="mixed", found="found")


def parameters_two_apart(rng: np.random.Generator) -> dict[str, Any]:
    """w -> u -> v with parameters in w and in v."""
    sizes = {name: int(rng.integers(1, 3)) for name in "swtuv"}
    nodes = {
        "w": drawn_term(rng, "s", sizes["s"], sizes["w"]),
        "u": drawn_term(rng, "w", sizes["w"], sizes["u"]),
        "v": " * ".join(drawn_term(rng, name, sizes[name], sizes["v"]) for name in "ut"),
    }
    return {"parameters": {name: drawn_value(rng, sizes[name]) for name in "st"}, "nodes": nodes, "losses": ["v"]}


def with_parameters_apart(rng: np.random.Generator) -> dict[str, Any]:
    """Those, or any nodes with parameters."""
    return with_parameters(rng) if rng.integers(0, 2) else parameters_two_apart(rng)


@claim(
    "R9",
    paper=PAPER,
    place="Remark 9",
    statement="in the third term of (3) T_{v;u,theta} is d_u x p_v; with (D_{w<-u} D_w)^T, of dimensions p_w x d_u, in "
    "place of D_{w<-u} D_w the dimensions agree, and the product is p_v x p_w",
    verdict=FAILS,
    corrected="the transpose belongs to T: (T_{v;u,theta})^T, p_v x d_u, times D_{u<-w} D_w, d_u x p_w",
    amended=mixed_part,
    domain=with_parameters_apart,
    counterexample={
        "parameters": {"s": [0, 0], "t": 0},
        "nodes": {"w": "[[1, 1]] s", "u": "w", "v": "u * t"},
        "losses": ["v"],
    },
    printed_domain=parameters_two_apart,
    share=0.3,
)
def transposed_factor(case: Case) -> Evidence:
    """d_u x p_v times p_w x d_u needs p_v = p_w, and is d_u x d_u even then; D_{w<-u} itself is against the arrow. Here
    p_v = 1 and p_w = 2."""
    truth(case)
    try:
        printed.formula_3(build(case))
    except printed.DimensionError as error:
        return Evidence(inf, {"as_printed": str(error)})
    return Evidence(0.0)


def gauss_newton_part(case: Case) -> Evidence:
    """S^T K^loss S, and its eigenvalues where the losses are jointly convex."""
    names = list(case.get("parameters", {}))
    assume(names)
    true = truth(case)
    assume(np.linalg.eigvalsh(true.loss_part)[0] >= -1e-12)
    right = true.over(true.gauss_newton, names)
    found = hessian_blocks(build(case)).gauss_newton.dense()
    least = np.linalg.eigvalsh(found)[0] / max(1.0, np.abs(right).max())
    same = equal(gauss_newton=found, true_gauss_newton=right)
    return Evidence(max(same.measure, -least), {**same.values, "least_eigenvalue": least})


@claim(
    "F3gn",
    paper=PAPER,
    place="formula (3), first term; sec. 8.1",
    statement="D_v^T H_{v,w} D_w is the Gauss-Newton block; it is advisable to check that D_v^T H_{v,v} D_v is "
    "positive semidefinite before adding the other terms",
    verdict=FAILS,
    corrected="the Gauss-Newton matrix is (S D)^T K^loss (S D), positive semidefinite where the losses are jointly "
    "convex",
    amended=gauss_newton_part,
    domain=with_parameters,
    counterexample={"parameters": {"t": 1}, "nodes": {"h": "t", "y": "square(h)"}, "losses": ["-1 y"]},
    share=0.3,
)
def first_term(case: Case) -> Evidence:
    """H_{v,w} = S^T K S has the tensors of all nodes after v and w besides K^loss. L = -h^2 / 2 through the affine,
    convex loss -y: the Gauss-Newton part is 0, D^T H D = -1."""
    true = unrolled_blocks(case, "gauss_newton")
    assume(true)
    n = notation.notation(build(case))
    H = notation.input_hessian(n)
    found = {(v, w): n.D_theta(v).T @ H[v, w] @ n.D_theta(w) for v, w in true}
    return worst(found, true, name="gauss_newton")


@claim(
    "T3",
    paper=PAPER,
    place="Thm 3",
    statement="for L in C^2 the full Hessian in theta = (theta_1, ..., theta_n) is the block matrix of the d^2 L / "
    "dtheta_i dtheta_j",
    verdict=HOLDS,
    domain=with_parameters,
    share=0.3,
)
def assembly_of_blocks(case: Case) -> Any:
    """A matrix is the array of its blocks; by Schwarz it is symmetric."""
    names = list(case.get("parameters", {}))
    assume(names)
    true, H = truth(case), hessian_blocks(build(case))
    assembled = np.block([[H[v, w] for w in names] for v in names])
    return equal(
        blocks_side_by_side=np.concatenate([assembled, assembled.T]),
        true_hessian=np.tile(true.over(true.hessian, names), (2, 1)),
    )


def shared_names(case: Case) -> Any:
    """Parameters that several nodes read."""
    read = [name for names in theta(case).values() for name in names]
    return [name for name in case.get("parameters", {}) if read.count(name) > 1]


@claim(
    "P3",
    paper=PAPER,
    place="Prop. 3",
    statement="if a vector theta is shared by nodes v_1, ..., v_K, its Hessian is the sum over a and b of "
    "H_{theta_{v_a},theta_{v_b}}",
    verdict=HOLDS,
    domain=with_smooth_sharing,
    share=0.2,
)
def shared_parameters(case: Case) -> Any:
    """theta enters through its copies theta_a = theta, so d/dtheta = sum_a d/dtheta_a, twice. The same gives
    H_{theta,phi} = sum_a H_{theta_a,phi} for every other phi, which the algorithms of sec. 4 leave out."""
    tied = shared_names(case)
    assume(tied)
    apart, found = truth(untied(case)), hessian_blocks(build(case))
    copies = {t: [f"{t}_{v}" for v, names in theta(case).items() if t in names] for t in tied}
    sums = {(t, t): sum(apart.block(apart.hessian, a, b) for a, b in pairs(copies[t])) for t in tied}
    return worst({pair: found[pair] for pair in sums}, sums, found="found")


# ---------------------------------------------------------------- algorithms


def by_recursion_and_sharing(case: Case) -> Evidence:
    """A^T H_theta A of the parameter formula, for all pairs of parameters."""
    true = parameter_blocks(case)
    assume(true)
    n = notation.notation(build(case))
    unrolled = notation.unrolled_hessian(n)
    return worst({(t, s): printed.tied(n, unrolled, t, s) for t, s in true}, true, found="found")


@claim(
    "ALG",
    paper=PAPER,
    place="sec. 4",
    statement="the algorithm of sec. 4 returns the full Hessian: H_{v,w} by formula (1) for v, w with a common child, "
    "all others 0; H_{theta_v,theta_w} by formula (3) where v and w have paths to a common u; then sums over shared "
    "parameters",
    verdict=FAILS,
    corrected="H^f by the recursion with (K S)_{v,w} for all pairs, then the parameter formula with S, then A^T H A "
    "for shared parameters, cross blocks included",
    amended=by_recursion_and_sharing,
    domain=with_sharing,
    counterexample={"parameters": {"s": 0, "t": 0}, "nodes": {"h": "s", "y": "h + t"}, "losses": ["square(y)"]},
    share=0.3,
)
def section_4(case: Case) -> Evidence:
    """L = (s + t)^2 / 2. h and y have no common child, so H[h, y] stays 0, and with it the block of (s, t), which is 1.
    Blocks that are never assembled, those of a shared parameter with another, count as violations."""
    true = parameter_blocks(case)
    assume(true)
    return worst(printed.section_4(build(case), misfit="omit"), true)


@claim(
    "Alg1",
    paper=PAPER,
    place="App. A, Algorithm 1",
    statement="ComputeInputHessian(v, w) returns H_{v,w}: the direct block of the loss, over common children "
    "D_{u<-v}^T H_{u,u} D_{u<-w} and the second derivatives, and both sums D_{u<-v}^T H_{u,w} over u in Ch(v) \\ Ch(w) "
    "and H_{v,u} D_{u<-w} over u in Ch(w) \\ Ch(v)",
    verdict=FAILS,
    corrected="the one-term recursion H_{v,w} = sum over u in Ch(v) of D_{u<-v}^T H_{u,w} + (K S)_{v,w}",
    amended=by_recursion,
    domain=with_inputs,
    counterexample={"inputs": {"x": 0}, "nodes": {"h": "x", "y": "h"}, "losses": ["square(y)"]},
)
def algorithm_1(case: Case) -> Evidence:
    """In a chain either sum is the whole block, and the algorithm adds both: H[x, h] = H[h, h] + H[x, y] = 2 for 1.
    Pure second derivatives count twice besides, once as mixed ones of v = w."""
    true = input_blocks(case)
    return worst(printed.algorithm_1(build(case)), true)


def in_matrix_form(case: Case) -> Evidence:
    """D^T H D + K_theta,theta + M^T S D + (M^T S D)^T of the true arrays, and the blocks of the library."""
    names = list(case.get("parameters", {}))
    assume(names)
    true = truth(case)
    a = np.concatenate([np.r_[true.at[v]] for v in vertices(case)])
    p = np.concatenate([np.r_[true.at[t]] for t in names])
    D, S, M = true.local[np.ix_(a, p)], true.total[np.ix_(a, a)], true.K[np.ix_(a, p)]
    mixed = M.T @ S @ D
    formula = D.T @ true.hessian[np.ix_(a, a)] @ D + true.K[np.ix_(p, p)] + mixed + mixed.T
    return equal(found_H=hessian_blocks(build(case)).dense(), formula=formula)


@claim(
    "Alg2",
    paper=PAPER,
    place="App. A, Algorithm 2",
    statement="ComputeParameterHessian(v, w) returns H_{theta_v,theta_w}: D_v^T H_{v,w} D_w, for v = w delta_v . "
    "T_v^theta, and for u in Pa(v) & Ch(w) the sum over i, j, alpha of T_{v;u,theta} D_{w<-u} delta_{v,i}",
    verdict=FAILS,
    corrected="D_v^T H_{v,w} D_w + 1_{v=w} delta_v . T_v^theta + M^T S D + its transpose",
    amended=in_matrix_form,
    domain=with_parameters,
    counterexample={"parameters": {"s": 0, "t": 0}, "nodes": {"h": "s", "y": "h * t"}, "losses": ["y"]},
    share=0.3,
)
def algorithm_2(case: Case) -> Evidence:
    """The input blocks in it are the right ones. L = s t as for (3). The loops have no mirror term, and add a matrix
    d_w x d_u, which is 0 against the arrow, to a block p_v x p_w."""
    true = unrolled_blocks(case)
    assume(true)
    return worst(printed.algorithm_2(build(case), misfit="omit"), true, name="H_theta")


def by_parameter_blocks(case: Case) -> Evidence:
    """H over all parameters, shared ones included."""
    true = parameter_blocks(case)
    assume(true)
    found = hessian_blocks(build(case))
    return worst({pair: found[pair] for pair in true}, true, found="found")


def with_losses_inside(rng: np.random.Generator) -> Any:
    """Nodes with parameters, some of them read by a loss and by further nodes."""
    return drawn(rng, nodes=3, parameters=True, shared=True, losses=2)


@claim(
    "Alg3",
    paper=PAPER,
    place="App. A, Algorithm 3",
    statement="FullHessianComputation returns the full Hessian: blocks of nodes that influence the loss directly are "
    "its second derivatives and count as computed, the others come from Algorithm 1, the parameters' from Algorithm 2",
    verdict=FAILS,
    corrected="the blocks of loss nodes are a source term K^loss, not finished values: what their children contribute "
    "is added; shared parameters by A^T H A",
    amended=by_parameter_blocks,
    domain=with_losses_inside,
    counterexample={"parameters": {"t": 0}, "nodes": {"a": "t", "b": "a"}, "losses": ["square(a)", "square(b)"]},
    share=0.3,
)
def algorithm_3(case: Case) -> Evidence:
    """L = a^2 / 2 + b^2 / 2 with b = a = t is t^2. H[a, a] is set to 1 from the first loss and never touched again."""
    true = unrolled_blocks(case)
    assume(true)
    return worst(printed.algorithm_3(build(case), misfit="omit"), true, name="H_theta")


# ---------------------------------------------------------------- scope


def single_nodes(rng: np.random.Generator) -> Any:
    """y = g(t), loss l(y)."""
    columns, rows = int(rng.integers(1, 4)), int(rng.integers(1, 4))
    text = under(str(rng.choice(("", "square", "tanh", "cube"))), drawn_term(rng, "t", columns, rows))
    loss = under(str(rng.choice(("square", "", "cube"))), "y")
    return {"parameters": {"t": drawn_value(rng, columns)}, "nodes": {"y": text}, "losses": [loss]}


@claim(
    "SN",
    paper=PAPER,
    place="abstract; sec. 1",
    statement="for the trivial graph of a single node without descendants or ancestors the formulas reduce to the "
    "standard Hessian of L in theta",
    verdict=HOLDS,
    domain=single_nodes,
)
def single_node(case: Case) -> Any:
    """(1) is H_{y,y} = Hessian of the loss, all sums being empty, and (3) is D^T H_{y,y} D + delta . T^theta: the chain
    rule of second order."""
    n = notation.notation(build(case))
    found = printed.formula_3(n, blocks=printed.formula_1(n))
    return worst({("t", "t"): found["y", "y"]}, parameter_blocks(case))


@claim(
    "T4.4",
    paper=PAPER,
    place="Thm 4 (4)",
    statement="with formulas (1) and (3) the dimensions of all tensor operations are consistent",
    verdict=FAILS,
    corrected="those of H_{v,w} = sum over u in Ch(v) of D_{u<-v}^T H_{u,w} + (K S)_{v,w} and of the corrected (3) are",
    amended=by_recursion,
    domain=with_inputs,
    counterexample={
        "inputs": {"v": 0},
        "nodes": {"u": "v", "z": "[[1], [1]] u", "w": "[[1, 1]] z", "y": "w"},
        "losses": ["square(y)"],
    },
    printed_domain=along_a_path,
)
def dimensions(case: Case) -> Evidence:
    """D_{w<-z}^{-T} = (D_{w<-z}^T)^+ is d_w x d_z, here 1 x 2, and is multiplied from the left by H_{u,z}, d_u x d_z,
    here 1 x 2: the product is defined only for d_z = d_w."""
    truth(case)
    network = build(case)
    try:
        printed.formula_1(network)
        printed.formula_3(network)
    except printed.DimensionError as error:
        return Evidence(inf, {"as_printed": str(error)})
    return Evidence(0.0)


ARCHITECTURES = {"residual": 1, "batch normalization": 2, "attention": 3, "recurrent": 2}
"""name -> how many weights it has."""


def architecture(case: Case) -> Network:
    """Numbers or tokens x through an architecture of one channel, the loss |y|^2 / 2."""
    network, x = Network(), np.array(case["x"], dtype=float)
    axes = {"batch normalization": 1, "attention": 3}.get(case["architecture"], 2)
    for k, weight in enumerate(case["weights"]):
        network.parameter(f"w{k}", np.full((1,) * axes, float(weight)))
    if case["architecture"] == "recurrent":
        above = ()
        for t, value in enumerate(x):
            network.input(f"x{t}", [[value]])
            network.node(f"z{t}", layers.affine, f"x{t}", "w0")
            if above:
                network.node(f"r{t}", layers.affine, *above, "w1")
                network.node(f"s{t}", arithmetic.add, f"z{t}", f"r{t}")
            network.node(f"h{t}", layers.tanh, f"s{t}" if above else "z0")
            above = (f"h{t}",)
        network.loss(half_square, *above)
        return network
    attention = case["architecture"] == "attention"
    network.input("x", x[None, :, None] if attention else x[:, None])
    if attention:
        for k, name in enumerate("qkv"):
            network.node(name, arithmetic.matmul, "x", f"w{k}")
        network.node("y", softmax_attention, *"qkv")
    elif case["architecture"] == "residual":
        network.node("h", layers.affine, "x", "w0")
        network.node("y", arithmetic.add, "x", "h")
    else:
        network.node("h", batch_norm, "x", "w0", "w1")
        network.node("y", layers.tanh, "h")
    network.loss(half_square, "y")
    return network


def half_square(y: NDArray[Any]) -> NDArray[Any] | float:
    """|y|^2 / 2."""
    return anp.sum(y**2) / 2


def architectures(rng: np.random.Generator) -> dict[str, Any]:
    """One of the four, on two or three numbers."""
    name = str(rng.choice(list(ARCHITECTURES)))
    x = [float(t) for t in rng.choice((0, 1, -1, 0.5, 2), size=2, replace=False)]  # of a variance that is not 0
    weights = [float(rng.choice((1, 0.5, -1, 2))) for _ in range(ARCHITECTURES[name])]
    return {"architecture": name, "x": x, "weights": weights}


def of_architecture(case: Case) -> tuple[Network, list[str], dict[tuple[Any, ...], NDArray[np.float64]]]:
    """(network, names, {pair: H} of all of them)."""
    network = architecture(case)
    names = list(network.dag)
    H, ends = brute_force(network, names), np.cumsum([0, *(network.value(name).size for name in names)])
    at = {name: slice(*span) for name, span in zip(names, pairwise(ends), strict=True)}
    return network, names, {(v, w): H[at[v], at[w]] for v, w in pairs(names)}


def architectures_by_blocks(case: Case) -> Evidence:
    """S^T K S of the architecture, parameters among the arrays."""
    network, names, true = of_architecture(case)
    found = hessian_blocks(network)
    return worst({pair: found[pair] for pair in pairs(names)}, true, found="found")


@claim(
    "T5",
    paper=PAPER,
    place="Thm 5",
    statement="batch normalization, attention, residual connections and recurrent networks are represented as nodes of "
    "a DAG and included in the formalism: the general formulas (1) and (3) apply",
    verdict=AMENDED,
    corrected="they are, and H = S^T K S applies, with A^T H A for the weights a recurrent network shares",
    amended=architectures_by_blocks,
    domain=architectures,
    counterexample={"architecture": "residual", "x": [1], "weights": [1]},
    tolerance=1e-8,
)
def architectures_by_formula_1(case: Case) -> Evidence:
    """Any smooth node fits a DAG. A residual connection y = x + w x is two children of x, one the child of the other:
    formulas (1) and (2) give 0 for H[x, y] = 1 + w, and w^2 H[h, h] + H[y, y] = 2 for H[x, x] = (1 + w)^2 = 4."""
    network, _, true = of_architecture(case)
    found = printed.formula_1(network, misfit="omit")
    inside = [name for name in network.dag if name not in network.parameters]
    return worst(found, {pair: true[pair] for pair in pairs(inside)})


# ---------------------------------------------------------------- stochastic nodes


def density(t: float) -> float:
    """Of a standard normal number."""
    return exp(-t * t / 2) / sqrt(2 * pi)


def moments(a: float, b: float) -> NDArray[np.float64]:
    """Integrals of 1, e, e^2, e^3 times the standard normal density over (a, b)."""

    def edge(power, t):
        return 0.0 if isinf(t) else t**power * density(t)

    inside = ndtr(b) - ndtr(a)
    return np.array(
        [
            inside,
            edge(0, a) - edge(0, b),
            inside + edge(1, a) - edge(1, b),
            edge(2, a) - edge(2, b) + 2 * (edge(0, a) - edge(0, b)),
        ]
    )


def expectation(network: Network, name: str, sigma: float, method: str, kinks: Sequence[float]) -> float:
    """E of the Hessian term of `stochastic.draw`, exactly, for one number and a loss that is piecewise of degree 3.

    Between kinks the term is a polynomial of degree 3 in the noise: four draws determine it.
    """
    part, ends = seen_from(network, name), [-inf, *sorted({0.0, *kinks, *(-k for k in kinks)}), inf]
    total = 0.0
    for a, b in pairwise(ends):
        low, high = (b - 2.0 if isinf(a) else a), (a + 2.0 if isinf(b) else b)
        points = low + (high - low) * np.array([1, 3, 5, 7]) / 8
        terms = [draw(part, name, np.full((1, 1), sigma), np.full((1, 1), e), method)[1].item() for e in points]
        total += moments(a, b) @ np.linalg.solve(np.vander(points, increasing=True), terms)
    return float(total)


def kinked_loss(case: Case) -> Network:
    """sum_k jump_k relu(m - at_k) + curve_k relu(m - at_k)^2 / 2 at m = mu."""
    network = Network()
    network.parameter("m", [[float(case["mu"])]])
    for k, (at, jump, curve) in enumerate(zip(case["at"], case["jump"], case["curve"], strict=True)):
        network.node(f"z{k}", partial(arithmetic.rescale, shift=-float(at)), "m")
        network.node(f"h{k}", layers.relu, f"z{k}")
        network.node(f"q{k}", arithmetic.product, f"h{k}", f"h{k}")
        network.loss(layers.weighted_sum([[float(jump)]]), f"h{k}")
        network.loss(layers.weighted_sum([[curve / 2.0]]), f"q{k}")
    return network


def noisy(rng: np.random.Generator) -> dict[str, Any]:
    """One or two kinks at different places, each with a jump of the slope, or of the curvature alone."""
    count = int(rng.integers(1, 3))
    places = [float(t) / 2 for t in rng.choice([0, 1, -1, 2], size=count, replace=False)]
    jumps, curves = ([float(rng.integers(low, 3)) for _ in range(count)] for low in (0, -2))
    sigma = float(rng.choice((1, 0.5, 2)))
    return {"mu": float(rng.integers(-2, 3)) / 2, "sigma": sigma, "at": places, "jump": jumps, "curve": curves}


def smoothed(case: Case) -> tuple[list[float], float]:
    """(places in units of the noise, F'')."""
    mu, sigma = case["mu"], case["sigma"]
    t = [(at - mu) / sigma for at in case["at"]]
    terms = zip(t, case["jump"], case["curve"], strict=True)
    return t, sum(jump * density(s) / sigma + curve * ndtr(-s) for s, jump, curve in terms)


def by_stein(case: Case) -> Evidence:
    """Stein's form always, the mean of Hessians where the gradient does not jump."""
    kinks, right = smoothed(case)
    network = kinked_loss(case)
    methods = ["stein"] if any(case["jump"]) else ["stein", "pathwise"]
    found = [expectation(network, "m", case["sigma"], method, kinks) for method in methods]
    return equal(found=found, true_second_derivative=[right] * len(found))


@claim(
    "T6.1",
    paper=PAPER,
    place="Thm 6 (1)",
    statement="with stochastic nodes f_v ~ p, in the maximum likelihood approach formulas (1) and (3) are applied to "
    "the expected loss E L",
    verdict=AMENDED,
    corrected="the expected Hessian E[Hessian of L] is the Hessian of E L where L is C^{1,1} in mu and dominated; "
    "otherwise, for Gaussian noise, E[grad L(mu + sigma eps) eps^T] / sigma",
    amended=by_stein,
    domain=noisy,
    counterexample={"mu": 0, "sigma": 1, "at": [0], "jump": [1], "curve": [0]},
)
def pathwise(case: Case) -> Evidence:
    """Formulas (1) and (3) have no value for an expectation but that of each draw, averaged. F(mu) = E relu(mu + eps)
    has F''(0) = phi(0) = 0.399, while the Hessian of every draw is 0: the jump of the gradient at the kink is left
    out. With m - at = s, E relu'' is phi(s / sigma) / sigma and E (relu^2 / 2)'' is Phi(s / sigma)."""
    kinks, right = smoothed(case)
    return equal(
        mean_of_hessians=[expectation(kinked_loss(case), "m", case["sigma"], "pathwise", kinks)],
        true_second_derivative=[right],
    )


def autoencoders(rng: np.random.Generator) -> Any:
    """x, mean m and deviation s of the code, weight a of the decoder."""
    x, m, a = (float(rng.integers(-4, 5)) / 2 for _ in range(3))
    return {"x": x, "m": m, "s": float(rng.choice((1, 0.5, 2))), "a": a}


def negative_elbo(m: Any, s: Any, a: Any, eps: float, *, x: Any) -> Any:
    """-log p(x | z) + KL up to constants: (x - a z)^2 / 2 + (m^2 + s^2) / 2 - log s, z = m + s eps."""
    return anp.sum((x - a * (m + s * eps)) ** 2 / 2 + (m**2 + s**2) / 2 - anp.log(s))


@claim(
    "T6.2",
    paper=PAPER,
    place="Thm 6 (2)",
    statement="in variational autoencoders the Hessian is computed for the variational lower bound E_q[log p(x | z)] - "
    "KL(q(z | x), p(z))",
    verdict=HOLDS,
    domain=autoencoders,
)
def elbo(case: Case) -> Any:
    """x ~ N(a z, 1), q = N(m, s^2), prior N(0, 1). With z = m + s eps the loss is of degree 2 in eps, so the mean over
    eps = 1 and eps = -1 is the expectation, with all its derivatives: ((x - a m)^2 + a^2 s^2 + m^2 + s^2) / 2 - log s,
    whose Hessian in (m, s, a) is written down."""
    x, m, s, a = (case[key] for key in ("x", "m", "s", "a"))
    network = Network()
    for name in ("m", "s", "a"):
        network.parameter(name, [case[name]])
    for k, eps in enumerate((1.0, -1.0)):
        network.input(f"eps{k}", [eps])
        network.node(f"draw{k}", partial(negative_elbo, x=x), "m", "s", "a", f"eps{k}")
        network.loss(partial(arithmetic.rescale, scale=0.5), f"draw{k}")
    mixed = 2 * a * m - x
    formula = [[a * a + 1, 0, mixed], [0, a * a + 1 + 1 / s**2, 2 * a * s], [mixed, 2 * a * s, m * m + s * s]]
    return equal(found_H=hessian_blocks(network).dense(), true_H=formula)


@claim(
    "T6.3",
    paper=PAPER,
    place="Thm 6 (3)",
    statement="in reinforcement learning the formalism is applied to the function of expected reward, taking the "
    "stochasticity of the policy into account",
    verdict=UNTESTABLE,
    reason="no formula is stated: neither how the stochastic policy enters nor what the Hessian of the expected reward "
    "is",
)
def expected_reward(case: Case) -> None:
    """What would be testable is the score-function form E[R (grad log p grad log p^T + Hessian of log p)]."""


NODES = {
    "relu": lambda w, mu, sigma: abs(w) * density(mu / sigma) / sigma if w else 0.0,
    "square": lambda w, mu, sigma: w * w,
    "cube": lambda w, mu, sigma: 2 * w**3 * mu,
    "squared relu": lambda w, mu, sigma: w * w * float(ndtr(np.sign(w) * mu / sigma)) if w else 0.0,
}
"""g -> the second derivative of E g(w (mu + sigma eps)): relu, z^2 / 2, z^3 / 3, relu(z)^2 / 2."""


def reparametrized(case: Case) -> Network:
    """L = g(w m)."""
    network = Network()
    network.parameter("m", [[float(case["mu"])]])
    network.node("z", partial(arithmetic.rescale, scale=float(case["w"])), "m")
    above = "z"
    if "relu" in case["g"]:
        network.node("h", layers.relu, "z")
        above = "h"
    if case["g"] in ("square", "squared relu"):
        network.node("y", arithmetic.product, above, above)
    elif case["g"] == "cube":
        network.node("y", partial(arithmetic.power, exponent=3), above)
    weight = {"relu": 1.0, "cube": 1 / 3}.get(case["g"], 0.5)
    network.loss(layers.weighted_sum([[weight]]), "h" if case["g"] == "relu" else "y")
    return network


def reparametrizations(rng: np.random.Generator) -> dict[str, Any]:
    """A node on w (mu + sigma eps)."""
    w, mu = float(rng.choice((1, -1, 0.5, 2))), float(rng.integers(-4, 5)) / 2
    return {"g": str(rng.choice(list(NODES))), "w": w, "mu": mu, "sigma": float(rng.choice((1, 0.5, 2)))}


def expected(case: Case, method: str) -> tuple[float, float]:
    """(found, right)."""
    right = NODES[case["g"]](case["w"], case["mu"], case["sigma"])
    kinks = [case["mu"] / case["sigma"]] if "relu" in case["g"] else []
    return expectation(reparametrized(case), "m", case["sigma"], method, kinks), right


def smooth_or_stein(case: Case) -> Evidence:
    """The mean of Hessians for all but relu, and Stein's form for all."""
    methods = ["stein"] if case["g"] == "relu" else ["stein", "pathwise"]
    found, right = zip(*(expected(case, method) for method in methods), strict=True)
    return equal(found=found, true_second_derivative=right)


@claim(
    "P4",
    paper=PAPER,
    place="Prop. 4",
    statement="by reparametrization stochastic nodes become deterministic nodes with an external source of randomness, "
    "so that the standard formalism of the Hessian applies",
    verdict=AMENDED,
    corrected="it applies, draw by draw, to nodes that are smooth, or C^{1,1}; for others by Stein's form E[grad L(mu "
    "+ sigma eps) eps^T] / sigma",
    amended=smooth_or_stein,
    domain=reparametrizations,
    counterexample={"g": "relu", "w": 1, "mu": 0, "sigma": 1},
)
def reparametrization(case: Case) -> Evidence:
    """f = mu + sigma eps makes every draw deterministic, and differentiation may pass under the expectation for C^{1,1}
    g of polynomial growth. For relu each draw has Hessian 0, E relu(mu + sigma eps) the second derivative
    phi(mu / sigma) / sigma > 0."""
    found, right = expected(case, "pathwise")
    return equal(mean_of_hessians=[found], true_second_derivative=[right])
