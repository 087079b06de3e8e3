"""The formulas of Bolshim & Kugaevskikh (2025) as printed: (1) with its pseudo-inverse path propagation, (2), (3),
Lemma 1, Propositions 2 and 3, the algorithm of section 4 and Algorithms 1-3.

Numbers of formulas, remarks, lemmas and algorithms are theirs; the arrays are those of `notation`, which also has the
formulas that are right. `blocks` computes; `paths` compares.

What does not fit. Some printed products have factors of unequal dimensions. The functions that transcribe them take
`misfit`: "raise" raises `DimensionError` at the first; "omit" leaves the blocks that are undefined as printed out of
the dict; "repair" makes each product fit by the least change, stated in the function's docstring. A repair mends the
dimensions, not the formula.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .notation import Blocks, Notation, input_hessian, notation, parameter_pairs, unrolled_hessian

if TYPE_CHECKING:
    from .network import Network


class DimensionError(ValueError):
    """A product does not fit as printed; the message names the formula, the block, the factors and their shapes."""


# ---------------------------------------------------------------- products that may not fit


def _product(where, *factors):
    """The product of (text, matrix) factors from the left, or DimensionError."""
    (text, value), *rest = factors
    for name, factor in rest:
        if value.shape[1] != factor.shape[0]:
            raise DimensionError(f"{where}: {text} {value.shape} times {name} {factor.shape} does not fit")
        text, value = f"{text} {name}", value @ factor
    return text, value


def _add(where, total, product):
    text, value = product
    if value.shape != total.shape:
        raise DimensionError(f"{where}: {text} is {value.shape}, the block {total.shape}")
    return total + value


def _tabulate(pairs, block, misfit) -> dict[Any, Any]:
    """{pair: block(*pair, H)} where H(v, w) looks another block up, computing it first where needed."""
    if misfit not in ("raise", "omit", "repair"):
        raise ValueError(f'misfit is "raise", "omit" or "repair"; got {misfit!r}')
    found = {}

    def look_up(*pair):
        if pair not in found:
            try:
                found[pair] = block(*pair, look_up)
            except DimensionError as error:
                found[pair] = error
        if isinstance(found[pair], DimensionError):
            raise found[pair]
        return found[pair]

    for pair in pairs:
        try:
            look_up(*pair)
        except DimensionError:
            if misfit == "raise":
                raise
    return {pair: found[pair] for pair in pairs if not isinstance(found[pair], DimensionError)}


def _given(n, blocks):
    """H(v, w), from the blocks given or the right ones."""
    table = input_hessian(n) if blocks is None else blocks

    def look_up(v, w):
        if (v, w) not in table:
            raise DimensionError(f"H[{v}, {w}] is not among the blocks: undefined as printed, or left out")
        return table[v, w]

    return look_up


def _pairs(n):
    """All pairs of nodes, the last first, so that recursions stay shallow."""
    rank = {v: k for k, v in enumerate(n.nodes)}
    both = [(v, w) for v in n.nodes for w in n.nodes]
    return sorted(both, key=lambda pair: -min(rank[pair[0]], rank[pair[1]]))


def _inverse_transposed(A):
    """A^{-T} := (A^T)^+ (Def. 6, Remark 5), singular values below max(shape) eps of the largest taken as 0."""
    return np.linalg.pinv(A.T, rtol=max(A.shape) * np.finfo(float).eps)


# ---------------------------------------------------------------- formulas (1), (2): the input Hessian


def formula_1(network: "Network | Notation", *, misfit: str = "raise") -> Blocks:
    """H^f_{v,w} by formulas (1) and (2), the pseudo-inverse propagation included, for all pairs of nodes.

        sum_{u in Ch(v) & Ch(w)} D_{u<-v}^T H_{u,u} D_{u<-w}  +  sum_{u in Ch(v) & Ch(w)} delta_u . T^sym_{u;v,w}
        + 1_{v=w} sum_{u in Ch(v)} delta_u . T_{u;v}
        + sum_{u in Ch(v)} sum_{z in Ch(u) & Pa(w)} D_{u<-v}^T H_{u,z} D_{w<-z}^{-T}                        (v ->* w)
        + sum_{u in Ch(w)} sum_{z in Ch(u) & Pa(v)} D_{v<-z}^{-T} H_{z,u} D_{u<-w}^T                        (w ->* v)
        + d^2 L / df_v df_w,          H_{out,out} = Hessian of L,  H_{out,v} = H_{v,out} = 0 for v != out      (2)

    The second term is read for v != w, where sec. 3.5 defines T_{u;v,w}; otherwise it would repeat the third. (2) is
    used where the losses read a single node, `out`. Dimensions: the fourth term fits iff d_z = d_w (the factor is
    (d_w, d_z)), the fifth iff d_u = d_w; so, as printed, they are not each other's transposes. misfit="repair" takes
    D_{w<-z}^+ in the fourth and D_{u<-w} in the fifth.

    Right for v = w and for siblings, where every node has at most one child and no loss couples two nodes.
    """
    n = notation(network)
    return _tabulate(_pairs(n), lambda v, w, H: _formula_1(n, v, w, H, misfit == "repair"), misfit)


def _formula_1(n, v, w, H, repair):
    total = n.loss_part[n.at[v], n.at[w]].copy()
    if n.out in (v, w):
        return total if v == w else np.zeros_like(total)
    for u in n.common(v, w):
        total += n.D(u, v).T @ H(u, u) @ n.D(u, w)
        total += n.T(u, v, v) if v == w else (n.T(u, v, w) + n.T(u, w, v).T) / 2
    where = f"formula (1), H[{v}, {w}]"
    for u in n.children[v]:
        for z in n.children[u]:
            if z in n.parents[w]:
                total = _add(where, total, _path(n, where, (v, u, z, w), H, repair))
    for u in n.children[w]:
        for z in n.children[u]:
            if z in n.parents[v]:
                last = (f"D[{u}<-{w}]", n.D(u, w)) if repair else (f"D[{u}<-{w}]^T", n.D(u, w).T)
                first = (f"D[{v}<-{z}]^-T", _inverse_transposed(n.D(v, z)))
                total = _add(where, total, _product(where, first, (f"H[{z}, {u}]", H(z, u)), last))
    return total


def _path(n, where, path, H, repair):
    """D_{u<-v}^T H_{u,z} D_{w<-z}^{-T}."""
    v, u, z, w = path
    inverse = _inverse_transposed(n.D(w, z))
    last = (f"D[{w}<-{z}]^+", inverse.T) if repair else (f"D[{w}<-{z}]^-T", inverse)
    return _product(where, (f"D[{u}<-{v}]^T", n.D(u, v).T), (f"H[{u}, {z}]", H(u, z)), last)


def lemma_1(
    network: "Network | Notation", *, blocks: Mapping[Any, Any] | None = None, misfit: str = "raise"
) -> dict[tuple[str, str, str, str], np.ndarray]:
    """Lemma 1: D_{u<-v}^T H_{u,z} (D_{w<-z}^T)^+ for every path v -> u -> z -> w, keyed (v, u, z, w).

    blocks: the input Hessian H, the right one by default. Fits iff d_z = d_w; misfit="repair" takes D_{w<-z}^+,
    which always fits. That repaired product is H_{v,w} if K_{z,.} = 0 (w affine in z with no cross term, z read by no
    loss), w is the only child of z and u the only child of v that lead to a loss, D_{w<-z} has full row rank and
    (K S)_{v,w} = 0; as printed, if D_{w<-z} is symmetric besides.
    """
    n = notation(network)
    H = _given(n, blocks)
    paths = [(v, u, z, w) for v in n.nodes for u in n.children[v] for z in n.children[u] for w in n.children[z]]

    def block(v, u, z, w, _):
        where = f"Lemma 1, path {v} -> {u} -> {z} -> {w}"
        total = np.zeros((n.S(v, v).shape[0], n.S(w, w).shape[0]))
        return _add(where, total, _path(n, where, (v, u, z, w), H, misfit == "repair"))

    return _tabulate(paths, block, misfit)


def proposition_2(network: "Network | Notation", *, blocks: Mapping[Any, Any] | None = None) -> Blocks:
    """Proposition 2: sum_{u in Ch(v)} D_{u<-v}^T H_{u,w}, for v ->* w, v != w, without a common child.

    blocks: the input Hessian H, the right one by default. What is missing is exactly (K S)_{v,w}: zero for
    piecewise-linear nodes with the loss on out alone.
    """
    n = notation(network)
    H = _given(n, blocks)
    found = {}
    for v in n.nodes:
        for w in n.nodes:
            if v != w and n.reaches(v, w) and not n.common(v, w):
                found[v, w] = sum((n.D(u, v).T @ H(u, w) for u in n.children[v]), 0 * n.K(v, w))
    return found


# ---------------------------------------------------------------- formula (3): the parametric Hessian


def formula_3(
    network: "Network | Notation", *, blocks: Mapping[Any, Any] | None = None, misfit: str = "raise"
) -> Blocks:
    """H_{theta_v, theta_w} by formula (3), for all pairs of nodes that read parameters.

        D_v^T H_{v,w} D_w + 1_{v=w} sum_i delta_{v,i} [T_v^theta]_i
        + sum_{u in Pa(v) & Ch(w)} sum_i delta_{v,i} [T_{v;u,theta}]_i (D_{w<-u} D_w)^T
        + sum_{u in Pa(w) & Ch(v)} sum_i delta_{w,i} [T_{w;u,theta}]_i (D_{v<-u} D_v)^T

    blocks: the input Hessian H, the right one by default. Here w -> u, so D_{w<-u} is against the arrow: 0, of shape
    (d_w, d_u). The third term fits iff d_u = d_w = p_v = p_w, and Remark 9, which says that it always does, has
    (d_u, p_v) times (p_w, d_u). misfit="repair" takes [T_{v;u,theta}]_i^T D_{u<-w} D_w, and for the fourth term
    (D_{u<-v} D_v)^T [T_{w;u,theta}]_i.

    Missing even then: longer paths from w to u (S_{u,w} in place of D_{u<-w}), and u = w itself.
    """
    n = notation(network)
    H = _given(n, blocks)
    pairs = parameter_pairs(n)
    return _tabulate(pairs, lambda v, w, _: _formula_3(n, v, w, H, misfit == "repair"), misfit)


def _formula_3(n, v, w, H, repair):
    where = f"formula (3), H[theta_{v}, theta_{w}]"
    total = n.D_theta(v).T @ H(v, w) @ n.D_theta(w)
    if v == w:
        total = total + n.T_theta(v)
    if repair:
        return total + one_edge(n, v, w) + one_edge(n, w, v).T
    for a, b in ((v, w), (w, v)):
        for u in n.parents[a]:
            if u in n.children[b]:
                total = _add(where, total, _against(n, where, u, a, b))
    return total


def one_edge(n: Notation, v: str, w: str) -> NDArray[np.float64]:
    """The third term of formula (3), repaired: sum over u in Pa(v) & Ch(w) of M_{u,v}^T D_{u<-w} D_w."""
    total = np.zeros((len(n.rows(v)), len(n.rows(w))))
    for u in n.parents[v]:
        if u in n.children[w]:
            total += n.M(u, v).T @ n.D(u, w) @ n.D_theta(w)
    return total


def _against(n, where, u, v, w):
    """[T_{v;u,theta}] (D_{w<-u} D_w)^T contracted with delta_v, for w -> u -> v."""
    _, back = _product(where, (f"D[{w}<-{u}]", n.D(w, u)), (f"D_{w}", n.D_theta(w)))
    return _product(where, (f"T[{v};{u},theta]", n.M(u, v)), (f"(D[{w}<-{u}] D_{w})^T", back.T))


def proposition_3(network: "Network | Notation", *, blocks: Mapping[Any, Any] | None = None) -> Blocks:
    """Proposition 3: H_{theta,theta} = sum_a sum_b H_{theta_a,theta_b} for every parameter read by several nodes.

    blocks: the unrolled blocks, the right ones by default (`unrolled_hessian`). Right, while no loss reads theta
    itself. It does not state H_{theta,phi} = sum_a H_{theta_a,phi}, and sec. 4 does not compute it.
    """
    n = notation(network)
    unrolled = unrolled_hessian(n) if blocks is None else blocks
    found = {}
    for name, users in readers_of(n).items():
        if len(users) > 1:
            if (block := tied(n, unrolled, name, name)) is None:
                raise ValueError(f"blocks must have all pairs of {', '.join(users)}, which read {name!r}")
            found[name, name] = block
    return found


def readers_of(n: Notation) -> dict[str, list[str]]:
    """Parameter -> the nodes that read it."""
    names = [name for name in n.names if name not in n.nodes]
    return {name: [v for v in n.nodes if name in n.theta[v]] for name in names}


def tied(n: Notation, unrolled: Mapping[tuple[str, str], np.ndarray], name: str, other: str) -> np.ndarray | None:
    """A^T H A: the sum over the nodes that read them of the parts of the unrolled blocks; None if one is missing."""
    users = readers_of(n)
    total = np.zeros((n.S(name, name).shape[0], n.S(other, other).shape[0]))
    for v in users[name]:
        for w in users[other]:
            if (v, w) not in unrolled:
                return None
            total += n.part(unrolled[v, w], v, name, w, other)
    return total


# ---------------------------------------------------------------- the algorithms


def section_4(network: "Network | Notation", *, misfit: str = "raise") -> Blocks:
    """The algorithm of sec. 4: the parametric Hessian by pairs of parameters, everything as printed.

    Input blocks start at 0 and are computed by formula (1), v in reverse topological order, for the w that have a
    child in common with v only; what (1) reads before it is computed is 0. Then formula (3) for all v, w with a path
    to some common u (paths of length 0 allowed). Then, for a parameter read by several nodes, lines 16-26 sum
    H_{theta,theta}; its blocks with the other parameters are never assembled and are left out here too. misfit: see
    `formula_1` and `formula_3`.
    """
    n, repair = notation(network), misfit == "repair"
    H: dict[Any, Any] = {(v, w): np.zeros_like(n.K(v, w)) for v in n.nodes for w in n.nodes}
    if n.out is not None:
        H[n.out, n.out] = n.loss_part[n.at[n.out], n.at[n.out]]

    def look_up(a, b):
        if isinstance(H[a, b], DimensionError):
            raise H[a, b]
        return H[a, b]

    for v in reversed(n.nodes):
        for w in n.nodes:
            if n.common(v, w):
                try:
                    H[v, w] = _formula_1(n, v, w, look_up, repair)
                except DimensionError as error:
                    if misfit == "raise":
                        raise
                    H[v, w] = error

    def block(v, w, _):
        if any(n.reaches(v, u) and n.reaches(w, u) for u in n.nodes):
            return _formula_3(n, v, w, look_up, repair)
        return np.zeros((len(n.rows(v)), len(n.rows(w))))

    unrolled = _tabulate(parameter_pairs(n), block, misfit)
    return by_name(n, unrolled, sharing=True)


def algorithm_1(network: "Network | Notation") -> Blocks:
    """ComputeInputHessian (Algorithm 1) called on every pair of nodes, nothing computed before.

    The direct loss block, the common children, and both one-sided sums, over Ch(v) minus Ch(w) and Ch(w) minus Ch(v).
    Lines 16-21 and 23-26 add the whole tensor T, times delta_{u,i}, to a matrix, for every i: read with T's slice i.
    ComputeMixedHessian is called for v = w too, so pure second derivatives count twice, as printed. The `if` of line
    12 is never closed: read as closed after line 13.
    """
    n = notation(network)
    rank = {v: k for k, v in enumerate(n.nodes)}
    pairs = sorted(_pairs(n), key=lambda pair: -rank[pair[0]] - rank[pair[1]])
    return _tabulate(pairs, lambda v, w, H: _algorithm_1(n, v, w, H), "raise")


def _algorithm_1(n, v, w, H):
    total = n.loss_part[n.at[v], n.at[w]].copy()
    for u in n.common(v, w):
        total += n.D(u, v).T @ H(u, u) @ n.D(u, w)
        total += (n.T(u, v, w) + n.T(u, w, v).T) / 2
        if v == w:
            total += n.T(u, v, v)
    for u in n.children[v]:
        if u not in n.children[w]:
            total += n.D(u, v).T @ H(u, w)
    for u in n.children[w]:
        if u not in n.children[v]:
            total += H(v, u) @ n.D(u, w)
    return total


def algorithm_2(
    network: "Network | Notation", *, blocks: Mapping[Any, Any] | None = None, misfit: str = "raise"
) -> Blocks:
    """ComputeParameterHessian (Algorithm 2) on all pairs of nodes that read parameters.

    D_v^T H_{v,w} D_w, the second derivatives in theta_v for v = w (with slice i, as in Algorithm 1), and for w -> u
    -> v the sums over i, j, alpha of [T_{v;u,theta}]_{i,j,alpha} D_{w<-u} delta_{v,i}: a number times a matrix (d_w,
    d_u), which is 0 against the arrow and fits iff d_w = p_v, d_u = p_w. misfit="repair" adds to row alpha the row j
    of D_{u<-w} D_w. The mirror term of formula (3), v -> u -> w, is absent, so the result is not symmetric.
    """
    n = notation(network)
    H = _given(n, blocks)
    return _tabulate(parameter_pairs(n), lambda v, w, _: _algorithm_2(n, v, w, H, misfit == "repair"), misfit)


def _algorithm_2(n, v, w, H, repair):
    where = f"Algorithm 2, H[theta_{v}, theta_{w}]"
    total = n.D_theta(v).T @ H(v, w) @ n.D_theta(w)
    if v == w:
        total = total + n.T_theta(v)
    if repair:
        return total + one_edge(n, v, w)
    for u in n.parents[v]:
        if u in n.children[w]:
            total = _add(where, total, (f"T[{v};{u},theta] D[{w}<-{u}]", n.M(u, v).sum() * n.D(w, u)))
    return total


def algorithm_3(network: "Network | Notation", *, misfit: str = "raise") -> Blocks:
    """FullHessianComputation (Algorithm 3): H_{theta_v, theta_w} for all pairs of nodes that read parameters.

    Blocks of nodes the loss reads are the direct second derivatives and count as computed, so that nothing their
    children contribute is ever added. Algorithm 1 is called for pairs with a common child; what it computes on its
    way is kept, all else stays 0. Then Algorithm 2 (misfit: see there), on its own blocks. Sharing is absent. Line 5
    sets to 0 the delta_out and H_{out,out} of lines 2 and 3: read as setting the others.
    """
    n = notation(network)
    direct = [v for v in n.nodes if v in n.read]
    H = {(v, w): n.loss_part[n.at[v], n.at[w]] for v in direct for w in direct}

    def look_up(v, w):
        if (v, w) not in H:
            H[v, w] = _algorithm_1(n, v, w, look_up)
        return H[v, w]

    for v in reversed(n.nodes):
        for w in n.nodes:
            if n.common(v, w):
                look_up(v, w)
    blocks = {(v, w): H.get((v, w), np.zeros_like(n.K(v, w))) for v in n.nodes for w in n.nodes}

    def block(v, w, _):
        if any(n.reaches(v, u) and n.reaches(w, u) for u in n.nodes):
            return _algorithm_2(n, v, w, lambda a, b: blocks[a, b], misfit == "repair")
        return np.zeros((len(n.rows(v)), len(n.rows(w))))

    return _tabulate(parameter_pairs(n), block, misfit)


def by_name(n: Notation, unrolled: Mapping[tuple[str, str], np.ndarray], *, sharing: bool) -> Blocks:
    """Blocks by pairs of nodes as blocks by pairs of parameters; of a parameter with several readers only what is
    assembled: the diagonal block with `sharing`, else nothing."""
    users, found = readers_of(n), {}
    for name in users:
        for other in users:
            single = len(users[name]) == len(users[other]) == 1
            if single or (sharing and name == other and users[name]):
                block = tied(n, unrolled, name, other)
                if block is not None:
                    found[name, other] = block
    return found
