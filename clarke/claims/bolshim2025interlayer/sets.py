"""Claims of Bolshim and Kugaevskikh (2025) about subdifferentials, kinks and the minimum-norm element.

The functions f are those of `nearby`: c.x + x.A x / 2 + sum_k max(w_k.x, 0) (b_k + q_k.x) at 0, what a case leaves out
being 0. The library finds their limiting gradients and Hessians; `nearby` knows them cell by cell.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import autograd.numpy as anp
import numpy as np
from numpy.typing import ArrayLike, NDArray

from ...activations import sigmoid, tanh
from ...blocks import hessian_blocks
from ...layers import affine, squared_error
from ...limiting import (
    LimitingHessians,
    limiting_gradient,
    limiting_gradients,
    limiting_hessian,
    limiting_hessians,
    limiting_jacobians,
)
from ...models import mlp
from ...network import Network
from ...projection import min_norm_element, nearest_element, support
from ...regions import boundary_point
from ..nearby import (
    bends,
    bends_or_jumps,
    cells,
    generic,
    kinked,
    least_by_faces,
    numbers,
    pieces,
    read,
    same_set,
    slope,
    whole,
)
from ..references import brute_force, dyadic, second
from ..statements import AMENDED, FAILS, HOLDS, UNTESTABLE, Case, Evidence, assume, at_most, claim, equal, worst

PAPER = "bolshim2025interlayer"


def relu(z: NDArray[Any]) -> NDArray[Any]:
    return anp.maximum(z, 0.0)


def zero(case: Case) -> NDArray[np.float64]:
    return np.zeros(np.shape(case["W"])[1])


def with_direction(draw: Callable[..., Any]) -> Callable[..., Any]:
    """The domain `draw`, and a direction h on none of its kinks: 1, 3 and 3, 1 are orthogonal to no other w."""

    def domain(rng):
        case = draw(rng)
        return case | {"h": off_the_lines(rng, np.shape(case["W"])[1])}

    return domain


def off_the_lines(rng: np.random.Generator, n: int) -> Any:
    """A point x of whole numbers with w.x != 0 for every w != 0 that `whole` draws."""
    x = np.array([1, 3] if rng.integers(0, 2) else [3, 1]) * [1, rng.choice([1, -1])]
    return x[:n] * rng.choice([1, -1])


def off_the_kinks(case: Case, x: np.ndarray) -> bool:
    """Whether f is smooth at x: a unit with w = 0 has no kink."""
    W = np.asarray(case["W"])
    return bool(np.all((W @ x != 0) | ~np.any(W, axis=1)))


def spread(stack: np.ndarray) -> float:
    """The largest difference between two elements, entry by entry."""
    return float(np.ptp(np.asarray(stack, float), axis=0).max(initial=0.0))


# ---------------------------------------------------------------- section 3.2: what is assumed


def units(rng: np.random.Generator) -> Any:
    """A node max(W a + b, 0) with d outputs; the entries named by `tied` are at their kink, where b = -W a."""
    n, d = int(rng.integers(1, 3)), int(rng.integers(1, 3))
    a, W, tied = whole(rng, n), whole(rng, d, n), rng.integers(0, 2, size=d)
    return {"a": a, "W": W, "b": np.where(tied, -W @ a, whole(rng, d))}


def unit(case: Case) -> tuple[Network, NDArray[np.float64]]:
    """(the node as a network with input a and parameters W, b, its entries z)."""
    network = Network()
    network.input("a", np.asarray(case["a"], float)[None])
    network.parameter("W", np.asarray(case["W"], float))
    network.parameter("b", np.asarray(case["b"], float))
    network.node("v", lambda a, W, b: relu(affine(a, W, b)), "a", "W", "b")
    return network, np.asarray(case["W"], float) @ np.asarray(case["a"], float) + np.asarray(case["b"], float)


def finitely_many_pieces(case: Case) -> Evidence:
    """Near a point the Hessians of sum_i max(z_i, 0), z = W a + b, in (a, W, b) are those of its finitely many pieces:
    z is bilinear, its entries have independent gradients, so every choice of sides of the tied ones is realized."""
    network, z = unit(case)
    names = ("a", "W", "b")
    n, d = len(case["a"]), len(z)
    size = n + d * n + d
    sides = [[0, 1] if value == 0 else [int(value > 0)] for value in z]
    bilinear = np.zeros((d, size, size))
    for i in range(d):
        for j in range(n):
            bilinear[i, j, n + i * n + j] = bilinear[i, n + i * n + j, j] = 1
    chosen = np.stack(np.meshgrid(*sides, indexing="ij"), axis=-1).reshape(-1, d)
    node = network.function(wrt=names, output="v")
    jacobians = limiting_jacobians(node, network.point(names)).matrices
    total = limiting_hessians(lambda y: anp.sum(node(y)), network.point(names))
    columns = equal(arguments=jacobians.shape[2], inputs_and_parameters=sum(network.value(name).size for name in names))
    return worst(columns, same_set(limiting=total.matrices, of_pieces=np.einsum("md,dij->mij", chosen, bilinear)))


@claim(
    "A1",
    paper=PAPER,
    place="sec. 3.2, Assumption 1",
    statement="for every node v: in the smooth case g_v is in C^2(R^(sum of d_u over parents u), R^d_v), twice "
    "continuously differentiable in all inputs and parameters; in the nonsmooth case it is in PC^2 of the same space "
    "and locally Lipschitz, piecewise twice differentiable with borders of pieces of measure zero",
    verdict=AMENDED,
    corrected="g_v : R^(sum d_u) x R^p_v -> R^d_v is a continuous selection of finitely many C^2 functions",
    amended=finitely_many_pieces,
    domain=units,
    counterexample={"a": [1], "W": [[1]], "b": [0]},
)
def regularity(case: Case) -> Evidence:
    """The space named has no room for the parameters: the derivative of the node max(w a + b, 0) in all inputs and
    parameters has 3 columns, that of a function on R^1 has 1. Nor is PC^2 with null borders enough: |x|^(3/2) is
    locally Lipschitz with two C^2 pieces on open half-lines, but its second derivative is unbounded at 0, so that no
    generalized Hessian exists there. Finitely many functions that are C^2 across their borders exclude both."""
    network, z = unit(case)
    node = network.function(wrt=("a", "W", "b"), output="v")
    found = limiting_jacobians(node, network.point(("a", "W", "b"))).matrices[-1]
    return equal(
        derivative_of_the_node=found, as_a_function_of_its_inputs=(z >= 0)[:, None] * np.asarray(case["W"], float)
    )


def jumps(rng: np.random.Generator) -> dict[str, np.ndarray]:
    """A piecewise-linear f and a direction."""
    n, k = int(rng.integers(1, 3)), int(rng.integers(1, 5))
    return {"c": whole(rng, n), "W": whole(rng, k, n), "b": whole(rng, k), "h": whole(rng, n)}


@claim(
    "P1a",
    paper=PAPER,
    place="Prop. 1",
    statement="for a locally Lipschitz f : R^n -> R the Clarke subdifferential is defined and nonempty at all points; "
    "moreover it is a convex compact set",
    verdict=HOLDS,
    domain=jumps,
    tolerance=1e-8,
    cites=("clarke1983",),
)
def subdifferential(case: Case) -> Any:
    """Rademacher and boundedness by the Lipschitz constant K; the hull of a compact set is compact. A nonempty convex
    compact set is known by its support function, which at h is f'(0; h) = limsup (f(y + t h) - f(y)) / t, y -> 0,
    t -> 0+ [Clarke 1983]: here a quotient in every cell, beside the support of the set found."""
    h = np.asarray(case["h"], float)
    c, _, W, b, _ = read(case)
    found = limiting_gradients(kinked(case), zero(case))
    values = lambda x: c @ x + np.maximum(W @ x, 0) @ b  # noqa: E731
    t = 2.0**-16
    quotients = [(values(y + t * h) - values(y)) / t for y in cells(W)]
    bound = np.linalg.norm(c) + np.abs(b) @ np.linalg.norm(W, axis=1)
    return worst(
        equal(support_of_the_set=support(found, h), largest_difference_quotient=max(quotients)),
        at_most(longest_element=np.linalg.norm(found.vectors, axis=1).max(), lipschitz_constant=bound),
    )


def maps(rng: np.random.Generator) -> dict[str, np.ndarray]:
    n, m = int(rng.integers(1, 3)), int(rng.integers(1, 4))
    return {"W": whole(rng, m, n), "D": whole(rng, m, n)}


def supports(case: Case) -> tuple[NDArray[np.float64], float, float]:
    """The limiting Jacobians of F(x) = max(W x, 0) at 0, the support of their hull at D, and that of the product of the
    subdifferentials [0, 1] w_i of the components."""
    W, D = np.asarray(case["W"], float), np.asarray(case["D"], float)
    found = limiting_jacobians(lambda x: relu(anp.dot(W, x)), zero(case))
    return found.matrices, support(found, D), float(np.maximum(np.einsum("ij,ij->i", W, D), 0).sum())


def inside_the_product(case: Case) -> Evidence:
    """Row i of a limit of Jacobians is a limit of gradients of F_i, so the hull lies in the product. The limits are the
    Jacobians of the cells."""
    W = np.asarray(case["W"], float)
    found, joint, product = supports(case)
    return worst(
        same_set(limiting_jacobians=found, of_the_cells=(cells(W) @ W.T > 0)[:, :, None] * W),
        at_most(support_of_the_jacobians=joint, support_of_the_product=product),
    )


@claim(
    "P1b",
    paper=PAPER,
    place="Prop. 1, second paragraph",
    statement="for vector-valued F : R^n -> R^m the subdifferential is defined componentwise",
    verdict=FAILS,
    corrected="the generalized Jacobian lies in the product of the subdifferentials of the components, in general "
    "strictly: limits of Jacobians are kept joint",
    amended=inside_the_product,
    domain=maps,
    counterexample={"W": [[1], [1]], "D": [[1], [-1]]},
    cites=("clarke1983",),
)
def componentwise(case: Case) -> Evidence:
    """Definition 3 of the same paper takes limits of whole Jacobians. For F(x) = (max(x, 0), max(x, 0)) these are
    (0, 0) and (1, 1); componentwise the set is [0, 1] x [0, 1]. Two closed convex sets are equal iff their support
    functions are [Clarke 1983]."""
    _, joint, product = supports(case)
    return equal(support_of_the_product=product, support_of_the_jacobians=joint)


def nearest_of(vectors: Any, target: Any) -> Any:
    return vectors[np.linalg.norm(vectors - target, axis=1).argmin()]


@claim(
    "P1c",
    paper=PAPER,
    place="Prop. 1, second paragraph",
    statement="the Clarke Hessian of F also exists under the corresponding conditions of local Lipschitz continuity "
    "and differentiability almost everywhere of the components of the gradient grad F_i",
    verdict=HOLDS,
    domain=bends,
    cites=("clarke1983",),
)
def clarke_hessian_exists(case: Case) -> Any:
    """grad f is Lipschitz, so Clarke's generalized Jacobian of it exists, bounded by the constant. It must explain how
    the gradient changes: along h inside a cell grad f(h) - grad f(0) = H h with one of its elements."""
    _, A, W, _, Q = read(case)
    found = limiting_hessians(kinked(case), zero(case))
    directions, at_zero = cells(W), slope(case, zero(case))  # continuous there
    changes = [slope(case, h) - at_zero for h in directions]
    nearest = [nearest_of(found.matrices @ h, d) for h, d in zip(directions, changes, strict=True)]
    norms = np.linalg.norm(found.matrices, axis=(1, 2)).max()
    bound = np.linalg.norm(A) + 2 * (np.linalg.norm(W, axis=1) @ np.linalg.norm(Q, axis=1))
    return worst(
        equal(gradient_differences=changes, elements_times_directions=nearest),
        at_most(largest_element=norms, lipschitz_constant_of_the_gradient=bound),
        equal(c11=float(found.c11 is True), one=1.0),
    )


# ---------------------------------------------------------------- definitions 3 and 4


def mean_value(case: Case) -> tuple[LimitingHessians, Evidence]:
    """grad f(h) - grad f(-h), beside what is nearest to it of the hull of M 2h, M in the set at 0."""
    h = np.asarray(case["h"], float)
    assume(off_the_kinks(case, h))
    found = limiting_hessians(kinked(case), zero(case))
    difference = slope(case, h) - slope(case, -h)
    near = nearest_element(found.matrices @ (2 * h), difference).element
    return found, equal(difference_of_gradients=difference, nearest_of_the_set=near)


def mean_value_where_c11(case: Case) -> Any:
    found, evidence = mean_value(case)
    assume(found.c11)
    return evidence


@claim(
    "D3",
    paper=PAPER,
    place="Def. 3",
    statement="the Clarke Hessian of a function f is the generalized Jacobian of the gradient grad f (if it exists)",
    verdict=AMENDED,
    corrected="it is that where f is C^{1,1} near x; elsewhere the hull of the limiting Hessians is called so, and "
    "leaves the jump of the gradient out",
    amended=mean_value_where_c11,
    domain=with_direction(bends),
    printed_domain=with_direction(bends_or_jumps),
    counterexample={"W": [[1]], "b": [1], "h": [1]},
    share=0.3,
    cites=("clarke1983", "hiriart1984"),
)
def generalized_jacobian(case: Case) -> Evidence:
    """A generalized Jacobian of G contains, between two points, a matrix that maps their difference to the difference
    of G [Clarke 1983]. f = max(x, 0): all second derivatives near 0 are 0, but the gradient grows by 1
    from -1 to 1. Where f is C^{1,1}, it holds at 0 for pieces that are quadratic on cones: with H, H' of the cells of
    h and -h, grad f(h) - grad f(-h) = (H + H') h."""
    return mean_value(case)[1]


def block_by_block(stack: np.ndarray, sizes: Sequence[int]) -> NDArray[np.float64]:
    """Each block of least norm over the hull of the same blocks, by the faces of that hull."""
    ends = np.cumsum([0, *sizes])
    spans = [slice(a, b) for a, b in pairwise(ends)]
    return np.block([[least_by_faces(stack[:, rows, columns]) for columns in spans] for rows in spans])


def joint_minimum(case: Case) -> Evidence:
    """The element of least norm of the joint hull, by the library and by faces; <H*, H_i> >= |H*|^2 for all i."""
    stack = pieces(case)[1]
    found = min_norm_element(limiting_hessians(kinked(case), zero(case)))
    inner = np.einsum("ij,mij->m", found.element, stack)
    return worst(
        equal(true_H=found.element, by_faces=least_by_faces(stack)),
        at_most(square_of_its_norm=np.sum(found.element**2) * np.ones(len(stack)), inner_products=inner),
    )


@claim(
    "D4",
    paper=PAPER,
    place="Def. 4",
    statement="in the nonsmooth case a concrete element of the set is chosen by minimizing the squared Frobenius norm, "
    "block by block: H_vw = argmin of |M|^2 over M in the Clarke Hessian of f_v, and H_theta_v,theta_w likewise",
    verdict=FAILS,
    corrected="H* = argmin of |M| over the joint hull of the limiting Hessians of L; blocks are read off H*",
    amended=joint_minimum,
    domain=bends_or_jumps,
    counterexample={"W": [[1, 1]], "Q": [[1, 1]], "A": [[1, -1], [-1, 1]]},
    tolerance=1e-8,
)
def minimum_block_by_block(case: Case) -> Evidence:
    """The weights of the minimum differ from block to block, so that the matrix of the minima need not be in the set.
    f = (x - y)^2 / 2 + max(x + y, 0)^2 has the Hessians [[1, -1], [-1, 1]] and [[3, 1], [1, 3]]; entry by entry the
    least are 1, 0, 0, 1, but an element of the segment with diagonal (1, 1) has -1 beside it."""
    stack = limiting_hessians(kinked(case), zero(case)).matrices
    printed = block_by_block(stack, [1] * stack.shape[1])
    return equal(printed_H=printed, nearest_element_of_the_set=nearest_element(stack, printed).element)


def with_weights(rng: np.random.Generator) -> dict[str, np.ndarray]:
    case = bends_or_jumps(rng)
    return case | {"weights": rng.integers(0, 5, size=12)}


@claim(
    "R3",
    paper=PAPER,
    place="Remark 3",
    statement="|M|_F^2 is strictly convex in M and the set is convex and compact, so that the problem of minimizing "
    "|M|_F^2 has a unique solution: the choice of the element is unambiguous",
    verdict=HOLDS,
    domain=with_weights,
)
def unique_minimum(case: Case) -> Any:
    """Existence: compactness; uniqueness: with H* the element found, <H*, M - H*> >= 0 on the hull, so that
    |M|^2 >= |H*|^2 + |M - H*|^2 for every M of it: equality of norms forces M = H*. Checked at the corners and at a
    mixture of them."""
    stack = pieces(case)[1]
    weights = 1.0 + np.resize(case["weights"], len(stack))
    tried = np.append(stack, [np.tensordot(weights / weights.sum(), stack, 1)], axis=0)
    least = min_norm_element(limiting_hessians(kinked(case), zero(case))).element
    squares = np.sum(tried**2, axis=(1, 2))
    return at_most(least_and_distance=np.sum(least**2) + np.sum((tried - least) ** 2, axis=(1, 2)), squares=squares)


# ---------------------------------------------------------------- symmetry


def kinks_in_two(rng: np.random.Generator) -> Any:
    case = bends_or_jumps(rng)
    k, n = case["W"].shape
    return case if n == 2 else {"A": whole(rng, 2, 2), "W": whole(rng, k, 2), "Q": whole(rng, k, 2)}


def opposite_blocks(case: Case) -> tuple[list[float], list[float]]:
    """H_vw and H_wv for v = x_1, w = x_2: of the joint minimum, and each minimized on its own."""
    found = limiting_hessians(kinked(case), zero(case))
    assume(found.matrices.shape[1] == 2 and len(found.distinct()) > 1)
    joint, stack = min_norm_element(found).element, found.matrices
    alone = [float(least_by_faces(stack[:, i, j])) for i, j in ((0, 1), (1, 0))]
    return [joint[0, 1], alone[0]], [joint[1, 0], alone[1]]


def symmetric_minimum(case: Case) -> Evidence:
    vw, wv = opposite_blocks(case)
    return equal(H_vw=vw, H_wv_transposed=wv)


@claim(
    "SYM",
    paper=PAPER,
    place="after Prop. 2, symmetry property",
    statement="in the nonsmooth case the symmetry H_vw = H_wv^T may fail for elements of the Clarke Hessian of minimum "
    "norm",
    verdict=FAILS,
    corrected="it never fails: every limiting Hessian is symmetric, so is their hull; minima taken block by block "
    "agree with their transposes too, being unique",
    amended=symmetric_minimum,
    domain=kinks_in_two,
    counterexample={"W": [[1, 1]], "Q": [[1, 1]], "A": [[0, 1], [1, 0]]},
    share=0.3,
)
def asymmetric_minimum(case: Case) -> Evidence:
    """That something may fail no case can refute, the proof does: an element is a mixture of limits of Hessians at
    points where f is twice differentiable, these are symmetric by Schwarz, and symmetric matrices are a closed
    subspace. M -> M^T is an isometry that maps the hull of the blocks vw onto that of the blocks wv, so unique minima
    are mapped on each other. Measured at a kink: 1 where nothing of the asymmetry that is announced is there."""
    vw, wv = opposite_blocks(case)
    return Evidence(float(np.allclose(vw, wv, rtol=0, atol=1e-12)), {"H_vw": vw, "H_wv_transposed": wv})


def mixed_tensors(case: Case) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """T_{u;v,w} and T_{u;w,v} of the node u = f(v, w) on each of its pieces: by the library, and with the order of
    differentiation exchanged, by differentiating the gradient inside the cell."""
    assume(np.shape(case["W"])[1] == 2)
    found, centers = limiting_hessians(kinked(case), zero(case)), cells(case["W"])
    assume(len(centers) > 1)
    t = 2.0**-8
    e = np.eye(2) * t
    vw = [(slope(case, y + e[0])[1] - slope(case, y - e[0])[1]) / (2 * t) for y in centers]  # d/dv of df/dw
    wv = [(slope(case, y + e[1])[0] - slope(case, y - e[1])[0]) / (2 * t) for y in centers]  # d/dw of df/dv
    return found.matrices[:, 0, 1], np.array(vw), np.array(wv)


def equal_mixed_tensors(case: Case) -> Evidence:
    """On every piece; the library's blocks are the same numbers, as a set."""
    ours, vw, wv = mixed_tensors(case)
    return worst(equal(T_vw=vw, T_wv_transposed=wv), same_set(of_the_library=ours[:, None], T=vw[:, None]))


@claim(
    "R4",
    paper=PAPER,
    place="Remark 4",
    statement="the symmetrization T^sym = (T_{u;v,w} + T_{u;w,v}^T) / 2 is necessary for formula (1) to be correct in "
    "the nonsmooth case, where equality of mixed partial derivatives may be violated",
    verdict=FAILS,
    corrected="on every piece T_{u;v,w} = T_{u;w,v}^T, so T^sym = T: drop it, and assert symmetry instead",
    amended=equal_mixed_tensors,
    domain=kinks_in_two,
    counterexample={"W": [[1, 0]], "Q": [[0, 1]]},
    share=0.3,
)
def tensors_need_symmetrizing(case: Case) -> Evidence:
    """The tensors of formula (1) are those of a piece, which is C^2, so Schwarz applies: symmetrizing does nothing.
    Measured at a kink: 1 where T^sym = T on all pieces. Only partial derivatives taken one after the other at the kink
    itself can differ: the function with Hessians [[0, 0], [0, 0]], [[-1, 1], [1, -1]], [[1, 1], [1, -1]] and
    [[0, 0], [0, -2]] on the sectors of 45 degrees, twice round, is C^{1,1} with d/dy df/dx = 1 and d/dx df/dy = 0 at 0;
    but such numbers belong to no element of the set."""
    found, vw, wv = mixed_tensors(case)
    sides = same_set(T_symmetrized=(vw + wv) / 2, T=found)
    return Evidence(float(sides.measure <= 1e-9), sides.values)


@claim(
    "R8",
    paper=PAPER,
    place="Remark 8",
    statement="symmetrizing the Clarke Hessian changes its spectral properties: if H_vw and H_wv^T have different "
    "eigenvalues, the symmetrized version has another spectrum; the asymmetry may carry information about curvature",
    verdict=UNTESTABLE,
    corrected="no element of the set is asymmetric (SYM)",
    reason="a conditional whose premise never holds: every element is symmetric, so there is nothing to symmetrize",
)
def spectrum_of_the_asymmetric(case: Case) -> None:
    """See SYM."""


# ---------------------------------------------------------------- theorem 1


def shallow(rng: np.random.Generator) -> dict[str, np.ndarray]:
    """x -> max(V u, 0), u = max(W x + b, 0), and two points; the parents u_i are scalars with slopes |w_i|."""
    n, k, m = (int(rng.integers(1, 3)) for _ in range(3))
    W, y = whole(rng, k, n), whole(rng, n)
    b = np.where(rng.integers(0, 2, size=k), -W @ y, whole(rng, k))
    return {"W": W, "b": b, "V": whole(rng, m, k), "y": y, "z": whole(rng, n)}


def slopes(case: Case) -> tuple[Any, ...]:
    """(norms of the limiting Jacobians at y, |f(y) - f(z)| / |y - z|), slopes of the parents, |V|_2."""
    W, V, y = (np.asarray(case[name], float) for name in ("W", "V", "y"))
    b, z = numbers(case, "b", len(W)), numbers(case, "z", len(y))
    assume(np.any(y != z))
    node = lambda x: relu(anp.dot(V, relu(anp.dot(W, x) + b)))  # noqa: E731
    found = [np.linalg.norm(J, 2) for J in limiting_jacobians(node, y)]
    return (
        [*found, np.linalg.norm(node(y) - node(z)) / np.linalg.norm(y - z)],
        np.linalg.norm(W, axis=1),
        np.linalg.norm(V, 2),
    )


def root_of_squares(case: Case) -> Evidence:
    """|f_v(y) - f_v(z)| <= |W_v| |(f_u(y) - f_u(z))_u| <= |W_v| sqrt(sum L_u^2) |y - z|."""
    found, L, size = slopes(case)
    return at_most(largest_slope=max(found), root_of_sum_of_squares=float(np.sqrt(L @ L)) * size)


@claim(
    "T1.1",
    paper=PAPER,
    place="Thm 1 (1)",
    statement="every node function f_v of a ReLU network is locally Lipschitz",
    verdict=HOLDS,
    domain=shallow,
    share=0.3,
)
def locally_lipschitz(case: Case) -> Evidence:
    """By induction in topological order: a composition of affine maps and of ReLU, which are Lipschitz. A constant is
    sqrt(sum L_u^2) |W_v|; it bounds every difference quotient, and every limiting Jacobian at a kink."""
    return root_of_squares(case)


@claim(
    "T1.1p",
    paper=PAPER,
    place="Thm 1, proof step 1",
    statement="f_v is (prod_i L_{u_i}) |W_v|-Lipschitz, where L_{u_i} is the constant of f_{u_i}",
    verdict=FAILS,
    corrected="it is sqrt(sum_i L_{u_i}^2) |W_v|_2-Lipschitz",
    amended=root_of_squares,
    domain=shallow,
    counterexample={"W": [[1], [1]], "V": [[1, 1]], "y": [1]},
    share=0.3,
)
def product_of_constants(case: Case) -> Evidence:
    """Parents lie side by side, they are not composed: their constants add up as squares. With u_1 = u_2 = max(x, 0)
    and f_v = max(u_1 + u_2, 0) the slope is 2, the product 1 * 1 * |(1, 1)| = sqrt 2."""
    found, L, size = slopes(case)
    return at_most(largest_slope=max(found), product_of_constants=float(np.prod(L)) * size)


def one_or_two_layers(rng: np.random.Generator) -> Any:
    """F = max(W x, 0), or max(V max(W x, 0), 0), and targets of the loss |F - t|^2 / 2."""
    n, k, m = (int(rng.integers(1, 3)) for _ in range(3))
    case = {"W": whole(rng, k, n), "x": whole(rng, n)}
    if rng.integers(0, 2):
        return case | {"V": whole(rng, m, k), "t": whole(rng, m)}
    return case | {"t": whole(rng, k)}


def loss_of_layers(case: Case) -> Callable[..., Any]:
    W, t = np.asarray(case["W"], float), np.asarray(case["t"], float)
    V = np.asarray(case["V"], float) if "V" in case else None

    def loss(x):
        u = relu(anp.dot(W, x))
        return anp.sum(((u if V is None else relu(anp.dot(V, u))) - t) ** 2) / 2

    return loss


def smooth_almost_everywhere(case: Case) -> Evidence:
    """At the point moved by multiples of sqrt 2 and sqrt 3, which no kink with rational weights contains unless its
    preactivation vanishes identically near it: one gradient, one Hessian, that of automatic differentiation."""
    x = generic(numbers(case, "x", np.shape(case["W"])[1]))
    loss = loss_of_layers(case)
    found = limiting_hessians(loss, x)
    return worst(
        equal(limiting_hessians=found.matrices, hessian=np.repeat(second(loss, x)[None], len(found), axis=0)),
        at_most(jump_of_the_gradient=spread(found.gradients), zero=0.0),
    )


@claim(
    "T1.2",
    paper=PAPER,
    place="Thm 1 (2)",
    statement="for inputs x where x -> [f_u1(x), ..., f_uk(x)] has locally full rank for all nodes, L is twice "
    "differentiable at x",
    verdict=FAILS,
    corrected="L is C^2 on an open set of full measure, for all weights and without a condition on ranks",
    amended=smooth_almost_everywhere,
    domain=one_or_two_layers,
    counterexample={"W": [[1]], "t": [1]},
)
def full_rank_is_smooth(case: Case) -> Evidence:
    """The units of one layer have the input as parent: x -> x has full rank everywhere, also where max(w.x, 0) has its
    kink. L = (max(x, 0) - 1)^2 / 2 has the one-sided slopes 0 and -1 at 0. The kinks of a network lie in finitely many
    hyperplanes, one for each unit and each pattern of the units before it, or the preactivation is identically 0 on
    the region: a null set, whatever the ranks."""
    assume("V" not in case)
    x = numbers(case, "x", np.shape(case["W"])[1])
    found = limiting_hessians(loss_of_layers(case), x)
    values = {"limiting_gradients": found.gradients, "limiting_hessians": found.matrices}
    return Evidence(max(spread(found.gradients), spread(found.matrices)), values)


def half_square(case: Case) -> tuple[LimitingHessians, list[list[Any]]]:
    """(limiting Hessians of max(x, 0)^2 / 2 at x, what they are)."""
    x = float(case["x"])
    found = limiting_hessians(lambda y: relu(y[0]) ** 2 / 2, [x])
    return found, [[[0.0]], [[1.0]]] if x == 0 else [[[float(x > 0)]]]


def smooth_but_at_zero(case: Case) -> Evidence:
    found, truth = half_square(case)
    return worst(same_set(limiting=found.matrices, truth=truth), equal(c11=float(found.c11 is True), one=1.0))


@claim(
    "T1.2e",
    paper=PAPER,
    place="Thm 1 (2), example",
    statement="for the one-dimensional ReLU network F(x) = max(0, x) and L(x) = F(x)^2 / 2 the function is twice "
    "nondifferentiable on (-inf, 0], a set of positive measure",
    verdict=FAILS,
    corrected="it is twice nondifferentiable at 0 alone, a null set, and C^{1,1} everywhere",
    amended=smooth_but_at_zero,
    domain=lambda rng: {"x": dyadic(rng)},
    counterexample={"x": -1},
)
def nonsmooth_half_line(case: Case) -> Evidence:
    """L = 0 on (-inf, 0): all derivatives are 0 there. At 0 the second derivatives from the sides are 0 and 1."""
    assume(case["x"] <= 0)
    found = half_square(case)[0].distinct()
    return at_most(two_or_more=2.0, limiting_second_derivatives=float(len(found)))


def layers_and_a_ray(rng: np.random.Generator) -> Any:
    n, k, m = int(rng.integers(1, 3)), int(rng.integers(1, 4)), int(rng.integers(0, 3))
    case = {"W": whole(rng, k, n), "b": whole(rng, k), "V": whole(rng, m, k), "c": whole(rng, m)}
    return case | {"h": whole(rng, n)}


def cover(case: Case, spare: Any = 1) -> Any:
    """Every kink that the library meets from a generic point along h and -h lies on one of the hyperplanes that units
    have, pattern by pattern of the units before them, and these are at most 2^N - spare."""
    W, V, h = (np.asarray(case[name], float) for name in ("W", "V", "h"))
    b, c = np.asarray(case["b"], float), np.asarray(case["c"], float)
    assume(np.any(h))
    on = np.stack(np.meshgrid(*[[0.0, 1.0]] * len(W), indexing="ij"), axis=-1).reshape(-1, len(W))
    planes = [(w, t) for w, t in zip(W, b, strict=True) if np.any(w)]
    for s in on:
        planes += [(w, t) for w, t in zip(V @ (s[:, None] * W), V @ (s * b) + c, strict=True) if np.any(w)]

    def network(x):
        u = relu(anp.dot(W, x) + b)
        return anp.sum(u) + anp.sum(relu(anp.dot(V, u) + c))

    start, found = generic(np.zeros(W.shape[1])), []
    for direction in (h, -h):
        try:
            found.append(boundary_point(network, start, direction))
        except ValueError:  # no kink on this side
            continue
    assume(found)
    away = max(min(abs(w @ x + t) for w, t in planes) for x in found)
    N = len(W) + len(V)
    covered = at_most(distance_of_kinks_from_the_planes=away, zero=0.0)
    return worst(covered, at_most(hyperplanes=len({(*w, t) for w, t in planes}), allowed=2**N - spare))


@claim(
    "T1.2h",
    paper=PAPER,
    place="Thm 1, proof step 2",
    statement="the set of nonsmoothness of a ReLU network with N neurons in all can be covered by at most 2^N affine "
    "subspaces of codimension 1, each of measure zero",
    verdict=HOLDS,
    corrected="2^N - 1 are enough",
    amended=cover,
    domain=layers_and_a_ray,
    share=0.3,
)
def covering(case: Case) -> Any:
    """A unit has one preactivation, affine in x, for each on-off pattern of the units before it: at most
    1 + 2 + ... + 2^(N-1) = 2^N - 1 hyperplanes if units are taken one by one. Where that function is constant it has
    no kink."""
    return cover(case, spare=0)


def twice_differentiable(rng: np.random.Generator) -> Any:
    """F_0 = sum_k a_k (max(w_k.x, 0) - max(-w_k.x, 0)) and F_j = max(u_j.x, 0) of a ReLU network, under the C^2 loss
    (F_0 - t)^2 / 2 + sum_j s_j F_j^3 / 3: at 0 twice differentiable with gradient -t m, Hessian m m^T, m = W^T a."""
    n, k, r = (int(rng.integers(1, 3)) for _ in range(3))
    case = {"W": whole(rng, k, n), "a": whole(rng, k), "U": whole(rng, r, n), "s": whole(rng, r)}
    return case | {"t": int(whole(rng))}


@claim(
    "T1.3",
    paper=PAPER,
    place="Thm 1 (3)",
    statement="at all points x where L is twice differentiable the Clarke Hessian degenerates to a single element, the "
    "usual Hessian of L at x",
    verdict=HOLDS,
    corrected="for pieces with polyhedral domains, that is in the inputs of a ReLU network; not in its parameters",
    domain=twice_differentiable,
)
def single_hessian(case: Case) -> Any:
    """In the inputs F is affine on polyhedra, so each piece of L = l(F), l in C^2, that is met at x is C^2 on a cone
    with interior: its second-order expansion on the cone must be the one of L, and an open cone determines gradient and
    Hessian. Step 3 of the proof infers it from differentiability at x alone, which is not enough for curved borders:
    s(q) - 3 s(q - p^2) + 3 s(q - 2 p^2) - s(q - 3 p^2), s(t) = max(t, 0)^2, is C^{1,1} and at most of order p^4 near 0,
    so twice differentiable at 0 with Hessian 0, but d^2/dq^2 is 0, 2 or -4 near 0."""
    W, U = np.asarray(case["W"], float), np.asarray(case["U"], float)
    a, s, t = np.asarray(case["a"], float), np.asarray(case["s"], float), case["t"]

    def loss(x):
        z = anp.dot(W, x)
        return (anp.dot(a, relu(z) - relu(-z)) - t) ** 2 / 2 + anp.dot(s, relu(anp.dot(U, x)) ** 3) / 3

    found, m = limiting_hessians(loss, zero(case)), W.T @ a
    return worst(
        same_set(clarke_hessian=found.matrices, hessian=np.outer(m, m)[None]),
        same_set(limiting_gradients=found.gradients, gradient=-t * m[None]),
    )


def two_points(rng: np.random.Generator) -> Any:
    """f with no jump of the gradient at 0, and two points."""
    case = bends(rng)
    k, n = case["W"].shape
    if rng.integers(0, 2):
        case |= {"Q": whole(rng, k, n)}
    y = off_the_lines(rng, n)
    return case | {"y": y, "z": y * [-1, 1][:n]}


def across_the_axis(rng: np.random.Generator) -> Any:
    """max(w.x, 0) q.x, and two points, one the mirror image of the other: the gradient exists at 0."""
    y = off_the_lines(rng, 2)
    return {"W": whole(rng, 1, 2), "Q": whole(rng, 1, 2), "y": y, "z": y * [-1, 1]}


def two_sets(case: Case) -> Evidence:
    """The hull of the limiting Hessians is compact: finitely many, those of the pieces. It is a generalized Jacobian of
    the gradient, so bounds its difference quotients, where f is C^{1,1}."""
    found = limiting_hessians(kinked(case), zero(case))
    same = same_set(limiting=found.matrices, of_pieces=pieces(case)[1])
    return worst(same, quotient_of_gradients(case, found)) if found.c11 else same


def quotient_of_gradients(case: Case, found: Any) -> Evidence:
    y, z = np.asarray(case["y"], float), np.asarray(case["z"], float)
    assume(off_the_kinks(case, y) and off_the_kinks(case, z) and np.any(y != z))
    quotient = np.linalg.norm(slope(case, y) - slope(case, z)) / np.linalg.norm(y - z)
    return at_most(quotient_of_gradients=quotient, largest_element=max(np.linalg.norm(H, 2) for H in found.matrices))


@claim(
    "T1.4",
    paper=PAPER,
    place="Thm 1 (4)",
    statement="on the null submanifold of borders of linear regions of ReLU the Clarke Hessian is a nonempty, convex "
    "and compact set of matrices, provided the gradient of L exists at x",
    verdict=AMENDED,
    corrected="(i) the hull of the limiting Hessians of the pieces is always nonempty, convex and compact; (ii) it is "
    "the generalized Jacobian of grad L at x if L is C^{1,1} near x",
    amended=two_sets,
    domain=two_points,
    printed_domain=across_the_axis,
    counterexample={"W": [[1, 0]], "Q": [[0, 1]], "y": [1, 2], "z": [-1, 2]},
    share=0.2,
    cites=("clarke1983",),
)
def compact_where_the_gradient_exists(case: Case) -> Evidence:
    """L(v, w) = max(v, 0) w is l(F) with F = (max(v, 0), w), l(y) = y_1 y_2. Its gradient exists at 0, but jumps across
    v = 0 wherever w != 0: difference quotients of the gradient are unbounded near 0, so no compact set is a generalized
    Jacobian of it. The hull of limiting Hessians {0, [[0, 1], [1, 0]]} has norms up to 1; from (1, 2) to (-1, 2) the
    gradient changes by (2, 1), over a distance of 2. Near 0 the same at every scale, as L is homogeneous."""
    assume(spread(pieces(case)[0]) == 0)
    return quotient_of_gradients(case, limiting_hessians(kinked(case), zero(case)))


def powers(rng: np.random.Generator) -> Any:
    return {"w": int(rng.integers(1, 4)), "p": float(rng.choice([2, 1, 1.5, 3]))}


def bounded_pieces(case: Case) -> Any:
    """p = 1: the pieces of ReLU are linear. p = 2, 3: F is C^{1,1}. Second derivatives are at most p (p - 1) w^p on
    [-1, 1]."""
    w, p = case.get("w", 1), case["p"]
    assume(p in (1, 2, 3))
    found = [limiting_hessians(lambda x: relu(w * x[0]) ** p, [x]).matrices for x in (0.0, 1 / 16, 1.0)]
    return at_most(largest_element=float(np.abs(np.concatenate(found)).max()), bound=float(p * (p - 1) * w**p))


@claim(
    "T1p4",
    paper=PAPER,
    place="Thm 1, proof step 4",
    statement="for F locally Lipschitz with existing gradient all sets of second derivatives (Clarke Hessians of F_i) "
    "are bounded",
    verdict=FAILS,
    corrected="they are where grad F_i is locally Lipschitz; for a ReLU network the gradient jumps, and the Hessians "
    "of the finitely many pieces are bounded instead",
    amended=bounded_pieces,
    domain=powers,
    counterexample={"p": 1.5},
)
def bounded_second_derivatives(case: Case) -> Evidence:
    """F(x) = max(w x, 0)^p, 1 < p < 2, is locally Lipschitz and has a gradient everywhere, but F'(t) / t = p w^p
    t^(p - 2) grows without bound as t -> 0: bounded would mean bounded by a constant on (0, 1]; the quotients at 1/16
    and 1/256 exceed the one at 1, where they are largest for p >= 2."""
    w, p = case.get("w", 1), case["p"]
    assume(p > 1)
    quotients = [limiting_gradient(lambda x: relu(w * x[0]) ** p, [t])[0] / t for t in (1.0, 1 / 16, 1 / 256)]
    return at_most(quotients_at_1_and_nearer=quotients, quotient_at_1=quotients[0] * np.ones(3))


# ---------------------------------------------------------------- theorem 4


def smooth_networks(rng: np.random.Generator) -> Any:
    """A tanh network 1-2-1 with a squared loss, two flat vectors of parameters, a vector."""
    draw = lambda: dyadic(rng, 7)  # noqa: E731
    return {"theta": draw(), "h": draw(), "v": draw(), "x": dyadic(rng), "t": dyadic(rng)}


def network_at(case: Case, theta: ArrayLike, activation: Any) -> Any:
    data = np.atleast_2d(np.asarray(case["x"], float))
    targets = np.atleast_2d(np.asarray(case["t"], float))
    sizes = (data.shape[1], 2, 1)
    return mlp(sizes, activation=activation, loss="squared", inputs=data, targets=targets, theta=theta)


@claim(
    "T4.1",
    paper=PAPER,
    place="Thm 4 (1)",
    statement="in the smooth case the Hessian is a continuous operator on R^P, P the number of parameters of the "
    "network",
    verdict=HOLDS,
    domain=smooth_networks,
    tolerance=1e-7,
)
def continuous_operator(case: Case) -> Any:
    """A matrix is a continuous operator, and in theta it is continuous since L is C^2. Here L is even C^3, so that
    H(theta + t h) v - H(theta) v = O(t); at t = 2^-34 it must be below 1e-7 of the product."""
    theta, h, v = (np.asarray(case[name], float) for name in ("theta", "h", "v"))
    names = ("W1", "b1", "W2", "b2")
    there = brute_force(network_at(case, theta, "tanh"), names) @ v
    t = 2.0**-34
    here = hessian_blocks(network_at(case, theta + t * h, "tanh")).operator() @ v
    return equal(product_nearby=here, product=there)


def relu_networks(rng: np.random.Generator) -> Any:
    n = int(rng.integers(1, 3))
    return {"theta": whole(rng, 2 * n + 5), "x": whole(rng, n), "t": int(whole(rng))}


@claim(
    "T4.2",
    paper=PAPER,
    place="Thm 4 (2)",
    statement="in the nonsmooth case, for almost all points of the parameter space the Clarke Hessian exists and "
    "coincides with the usual Hessian",
    verdict=HOLDS,
    domain=relu_networks,
)
def almost_everywhere(case: Case) -> Any:
    """Preactivations are polynomials in the parameters on each piece; one that vanishes on a set of positive measure
    vanishes identically and is no kink. At whole numbers moved by multiples of sqrt 2, sqrt 3, sqrt 5, ... one element
    is left, the Hessian by automatic differentiation."""
    network = network_at(case, generic(case["theta"]), "relu")
    found = limiting_hessians(network.function(), network.point())
    truth = brute_force(network, network.parameters)
    return equal(clarke_hessian=found.matrices, hessian=np.repeat(truth[None], len(found), axis=0))


@claim(
    "T4.3",
    paper=PAPER,
    place="Thm 4 (3)",
    statement="on the submanifold of singular points the Clarke Hessian of minimum norm provides the best "
    "approximation in the Frobenius norm",
    verdict=FAILS,
    corrected="it is the projection of 0, the best approximation of the zero matrix; for a model of second order the "
    "active piece serves, or the set",
    amended=joint_minimum,
    domain=bends,
    printed_domain=bends,
    counterexample={"W": [[1]], "Q": [[1]]},
    tolerance=1e-8,
)
def best_approximation(case: Case) -> Evidence:
    """Of what is not said; of the Hessians near x it is not. For f = max(x, 0)^2 these are 0 and 2, the element of
    least norm is 0, at a distance 2 from the farther; their mean 1 is at a distance of 1 from both."""
    stack = pieces(case)[1]
    chosen = min_norm_element(limiting_hessians(kinked(case), zero(case))).element
    farthest = lambda M: max(np.linalg.norm(H - M) for H in stack)  # noqa: E731
    return at_most(error_of_the_minimum_norm_element=farthest(chosen), error_of_the_mean=farthest(stack.mean(axis=0)))


# ---------------------------------------------------------------- section 9: limitations


@claim(
    "Lim3",
    paper=PAPER,
    place="sec. 9, L3",
    statement="the set of nonsmoothness may have nonzero measure: for narrow networks or few channels the rank "
    "condition may be violated, the Clarke Hessian then does not degenerate to a single element almost everywhere, and "
    "the element of minimum norm leads to ambiguity",
    verdict=FAILS,
    corrected="the set of nonsmoothness has measure zero for all weights, and the element of minimum norm is unique",
    amended=smooth_almost_everywhere,
    domain=one_or_two_layers,
    counterexample={"W": [[1]], "V": [[1]], "t": [0], "x": [-1]},
)
def positive_measure(case: Case) -> Evidence:
    """F = max(max(x, 0), 0) has rank 0 on x < 0 and is 0 there: the second unit sits at 0, but has no kink in x. As in
    T1.2, a preactivation is affine on each region: constant, and then without a kink, or zero on a hyperplane. That
    it may happen no single case refutes; measured at a generic point where the rank is deficient: fewer than two
    elements. The element of least norm is unique at kinks too (R3)."""
    assume("V" in case)
    W, x = np.asarray(case["W"], float), generic(numbers(case, "x", np.shape(case["W"])[1]))
    assume(np.linalg.matrix_rank((W @ x > 0)[:, None] * W) < min(W.shape))
    found = limiting_hessians(loss_of_layers(case), x).distinct()
    return at_most(two_or_more=2.0, elements_at_almost_every_point=float(len(found)))


def tied_pairs(rng: np.random.Generator) -> Any:
    """L = |A theta_a - C theta_b|^2 / 2, A and C invertible, A - C not."""
    n = int(rng.integers(1, 3))
    C = whole(rng, n, n)
    return {"A": C + np.outer(whole(rng, n), whole(rng, n)) if n == 2 else C, "C": C}


@claim(
    "Lim4",
    paper=PAPER,
    place="sec. 9, L4",
    statement="with strong sharing of parameters the resulting matrix may turn out singular even if the blocks "
    "H_theta_a,theta_b are of full rank, because of linear dependences in the gradients",
    verdict=HOLDS,
    domain=tied_pairs,
    share=0.2,
)
def singular_when_tied(case: Case) -> Any:
    """Unrolled, L = |A theta_a - C theta_b|^2 / 2 has the blocks A^T A, C^T C, -A^T C, all of full rank; tied,
    theta_a = theta_b, it is |(A - C) theta|^2 / 2 with the singular Hessian (A - C)^T (A - C), the sum of the four. The
    least singular value of X^T Y, of whole numbers and order 1 or 2, is at least 1 / (|X| |Y|) where det is not 0."""
    A, C = np.asarray(case["A"], float), np.asarray(case["C"], float)
    assume(abs(np.linalg.det(A)) > 0.5 and abs(np.linalg.det(C)) > 0.5)

    def blocks(first, second_name):
        network = Network()
        for name in dict.fromkeys((first, second_name)):
            network.parameter(name, np.ones(len(A)))
        network.node("p", lambda t: anp.dot(A, t), first)
        network.node("q", lambda t: anp.dot(C, t), second_name)
        network.loss(lambda p, q: anp.sum((p - q) ** 2) / 2, "p", "q")
        return hessian_blocks(network)

    tied, apart = blocks("t", "t").dense(), blocks("a", "b")
    least = min(np.linalg.svd(apart[v, w])[1].min() for v in "ab" for w in "ab")
    least_allowed = min(1 / (np.linalg.norm(X) * np.linalg.norm(Y)) for X in (A, C) for Y in (A, C))
    return worst(
        equal(tied=tied, sum_of_blocks=A.T @ A + C.T @ C - A.T @ C - C.T @ A),
        at_most(least_singular_value_when_tied=np.linalg.svd(tied)[1].min(), zero=0.0),
        at_most(inverse_of_their_norms=least_allowed, least_singular_value_of_blocks=least),
    )


ACTIVATIONS = {"tanh": (tanh, 4 / (3 * 3**0.5), 8, 2), "sigmoid": (sigmoid, 1 / (6 * 3**0.5), 1, 1)}


def second_derivative(case: Case) -> tuple[float, float, float]:
    """(of the activation at x in modulus, its maximum over all x, a e^(-b |x|) that bounds it)."""
    function, most, a, b = ACTIVATIONS[case["activation"]]
    x = float(case["x"])
    return abs(float(limiting_hessian(lambda z: anp.sum(function(z)), [x])[0, 0])), most, a * np.exp(-b * abs(x))


def bounded_activations(case: Case) -> Evidence:
    found, most, decay = second_derivative(case)
    return worst(
        at_most(second_derivative=found, greatest=most),
        at_most(second_derivative_far_out=found, decay=decay, scale=1e-300),
    )


@claim(
    "Lim5",
    paper=PAPER,
    place="sec. 9, L5",
    statement="for activations with unbounded second derivative (for example tanh, sigma at inputs large in modulus) "
    "the entries of the tensors T_{u;v} are not necessarily bounded",
    verdict=FAILS,
    corrected="|tanh''| <= 4 / (3 sqrt 3) and |sigma''| <= 1 / (6 sqrt 3), and both vanish at infinity",
    amended=bounded_activations,
    domain=lambda rng: {"activation": rng.choice(["tanh", "sigmoid"]), "x": dyadic(rng, top=8)},
    counterexample={"activation": "tanh", "x": 4},
)
def unbounded_second_derivatives(case: Case) -> Evidence:
    """tanh'' = -2 tanh (1 - tanh^2) is extreme at tanh = 1 / sqrt 3; sigma'' = tanh''(x / 2) / 8. They are at most
    8 e^(-2|x|) and e^(-|x|). Measured at |x| >= 4, where the statement has them exceed every bound: they are below the
    greatest value taken near 0."""
    assume(abs(case["x"]) >= 4)
    found, most, _ = second_derivative(case)
    return at_most(greatest=most, second_derivative=found, scale=most)


def two_linear_layers(rng: np.random.Generator) -> Any:
    case = {"w1": int(whole(rng)), "w2": int(whole(rng))}
    return case | {"x": int(rng.choice([1, -1, 2, -2])), "t": int(rng.choice([1, -1, 4, 8]))}


@claim(
    "Lim6",
    paper=PAPER,
    place="sec. 9, L6",
    statement="formula (1) gives the full Hessian, but does not guarantee that it is positive (semi)definite even in "
    "the smooth case",
    verdict=HOLDS,
    domain=two_linear_layers,
    share=0.3,
)
def indefinite(case: Case) -> Any:
    """L = (w_2 w_1 x - t)^2 / 2 has the Hessian [[w_2^2 x^2, r], [r, w_1^2 x^2]], r = 2 w_1 w_2 x^2 - t x; where
    (w_1 w_2 x^2)^2 < r^2 it has a negative eigenvalue."""
    w1, w2, x, t = (case[name] for name in ("w1", "w2", "x", "t"))
    p, q, r = w2**2 * x**2, w1**2 * x**2, 2 * w1 * w2 * x**2 - t * x
    assume(p * q < r * r)
    network = Network()
    network.input("x", [[float(x)]])
    network.parameter("w1", [[float(w1)]])
    network.parameter("w2", [[float(w2)]])
    network.node("h", affine, "x", "w1")
    network.node("y", affine, "h", "w2")
    network.loss(squared_error([[float(t)]]), "y")
    least = np.linalg.eigvalsh(hessian_blocks(network).dense(("w1", "w2")))[0]
    return worst(
        equal(least_eigenvalue=least, by_formula=((p + q) - ((p - q) ** 2 + 4 * r * r) ** 0.5) / 2),
        at_most(least_eigenvalue_=least, zero=0.0),
    )
