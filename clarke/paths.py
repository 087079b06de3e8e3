"""The path formulas of Bolshim & Kugaevskikh (2025) as printed, and where they agree with the Hessian.

M. Bolshim, A. Kugaevskikh. Interlayer Hessian as a tool for analyzing neural networks (in Russian). June 2025. Numbers
of formulas, remarks, lemmas and algorithms below are theirs. Their nodes v are our inputs and nodes; theta_v is what
node v reads of the parameters, stacked in the order it names them, one copy a node. Their H^f_{v,w} is taken as the
total derivative d^2 L / d eps_v d eps_w of the loss under additive perturbations of the nodes. In the notation of
`Notation` the right formulas are

    H^f         = S^T K S,    H_{v,w} = sum_{u in Ch(v)} D_{u<-v}^T H_{u,w} + (K S)_{v,w}        (`input_hessian`)
    H_{th_v,th_w} = D_v^T H_{v,w} D_w + 1_{v=w} sum_i delta_{v,i} [T_v^theta]_i
                    + sum_{u in Pa(v)} M_{u,v}^T S_{u,w} D_w + sum_{u in Pa(w)} D_v^T S_{u,v}^T M_{u,w}
                                                                                            (`unrolled_hessian`)

Everything here is dense, at points where no kink is active, and meant for small networks; `blocks` computes.

What does not fit. Some printed products have factors of unequal dimensions. The functions that transcribe them take
`misfit`: "raise" raises `DimensionError` at the first; "omit" leaves the blocks that are undefined as printed out of
the dict; "repair" makes each product fit by the least change, stated in the function's docstring. A repair mends the
dimensions, not the formula.
"""

import textwrap
from dataclasses import dataclass
from functools import partial

import numpy as np
from scipy.linalg import solve_triangular

from . import graph as graphs
from .blocks import KinkError, hessian_blocks
from .kinks import active_kinks, germ

LIMIT = 2**24  # numbers in one dense matrix over all arrays of the network: 128 MiB
AGREE = 1e-9  # relative to the size of the terms that are summed

Blocks = dict[tuple[str, str], np.ndarray]


class DimensionError(ValueError):
    """A product does not fit as printed; the message names the formula, the block, the factors and their shapes."""


# ---------------------------------------------------------------- the arrays of Table 1


@dataclass(frozen=True, eq=False, repr=False)
class Notation:
    """The arrays of Table 1 at one point, dense, with S and K, over all arrays of the network (parameters as nodes).

    nodes: inputs and nodes, parents first. theta: node -> the names of its parameters. parents, children: node ->
    nodes. below: node -> the nodes it has a path to, itself included. out: the node the losses read, None if they
    read several; read: the names they read; leading: names with a path to a loss.
    The matrices are square over `names`, `at[name]` the rows of a name:
    local[u, v] = D_{u<-v} for v a parent of u, else 0; total = S = (I - local)^{-1}; K = loss_part + tensor_part;
    delta (flat) = S^T grad L. curvature: u -> (rows of its parents, sum_i delta_{u,i} d^2 (g_u)_i).
    """

    names: tuple[str, ...]
    nodes: tuple[str, ...]
    theta: dict[str, tuple[str, ...]]
    parents: dict[str, tuple[str, ...]]
    children: dict[str, tuple[str, ...]]
    below: dict[str, frozenset[str]]
    out: str | None
    read: frozenset[str]
    leading: frozenset[str]
    at: dict[str, slice]
    local: np.ndarray
    total: np.ndarray
    loss_part: np.ndarray
    tensor_part: np.ndarray
    delta: np.ndarray
    curvature: dict[str, tuple[np.ndarray, np.ndarray]]

    def D(self, u, v):
        """D_{u<-v} (d_u, d_v), the partial Jacobian along one edge; 0 where there is no edge from v to u."""
        return self.local[self.at[u], self.at[v]]

    def S(self, u, v):
        """d f_u / d eps_v (d_u, d_v), total: the sum over all paths from v to u; I for u = v."""
        return self.total[self.at[u], self.at[v]]

    def K(self, v, w):
        """d^2 L / df_v df_w direct + sum_u sum_i delta_{u,i} [T_{u;v,w}]_i over common children u (once, v = w too)."""
        here = self.at[v], self.at[w]
        return self.loss_part[here] + self.tensor_part[here]

    def T(self, u, v, w):
        """sum_i delta_{u,i} d^2 (g_u)_i / df_v df_w (d_v, d_w)."""
        rows, matrix = self.curvature[u]
        pick = [np.flatnonzero(np.isin(rows, np.r_[self.at[name]])) for name in (v, w)]
        return matrix[np.ix_(*pick)]

    def rows(self, v):
        """The rows of theta_v."""
        return np.concatenate([np.r_[self.at[name]] for name in self.theta[v]])

    def part(self, block, v, name, w, other):
        """What a block (p_v, p_w) has for the parameters `name` of theta_v and `other` of theta_w."""
        pick = [np.flatnonzero(np.isin(self.rows(a), np.r_[self.at[b]])) for a, b in ((v, name), (w, other))]
        return block[np.ix_(*pick)]

    def D_theta(self, v):
        """D_v = d g_v / d theta_v (d_v, p_v)."""
        return self.local[self.at[v], self.rows(v)]

    def M(self, u, v):
        """sum_i delta_{v,i} [T_{v;u,theta}]_i (d_u, p_v), for u in Pa(v)."""
        return np.hstack([self.T(v, u, name) for name in self.theta[v]])

    def T_theta(self, v):
        """sum_i delta_{v,i} [T_v^theta]_i (p_v, p_v)."""
        return np.vstack([np.hstack([self.T(v, a, b) for b in self.theta[v]]) for a in self.theta[v]])

    def common(self, v, w):
        """Ch(v) and Ch(w) intersected."""
        return [u for u in self.children[v] if u in self.children[w]]

    def reaches(self, v, w):
        """v ->* w, v = w included."""
        return w in self.below[v]


def notation(network) -> Notation:
    """The derivatives of every node of the network, each with the pieces it has at the network's point.

    KinkError, naming the units, where a kink is active; MemoryError where a dense matrix over all arrays would have
    more than LIMIT numbers; ValueError for a network without a loss. A `Notation` is returned as it is, so every
    function here that takes a network takes a `Notation` too.
    """
    if isinstance(network, Notation):
        return network
    dag, names = network.dag, tuple(network.dag)
    sizes = [network.value(name).size for name in names]
    if sum(sizes) ** 2 > LIMIT:
        raise MemoryError(
            f"the arrays of the network have {sum(sizes)} entries, and a dense matrix over them more than {LIMIT} "
            "numbers; the path formulas are for small networks: use hessian_blocks(network).operator(names)"
        )
    leaves = network.inputs + network.parameters
    _refuse(active_kinks(network.function(wrt=leaves), network.point(leaves)))
    ends = np.cumsum(sizes)
    at = {name: slice(int(end) - size, int(end)) for name, end, size in zip(names, ends, sizes, strict=True)}
    parents_of = {name: tuple(dict.fromkeys(dag.nodes[name]["parents"])) for name in names}

    local = np.zeros((ends[-1], ends[-1]))
    functions = {}
    for name in network.nodes:
        functions[name] = _Piece(network, name, dag.nodes[name]["fun"], dag.nodes[name]["parents"])
        local[at[name], functions[name].rows(at)] = functions[name].jacobian()
    loss_part, delta, read = np.zeros_like(local), np.zeros(ends[-1]), set()
    for label, fun, parents in network.losses:
        head = _Piece(network, label, fun, parents)
        rows = head.rows(at)
        delta[rows] += head.jacobian()[0]
        loss_part[np.ix_(rows, rows)] += head.hessian(np.ones(1))
        read.update(parents)

    tensor_part, curvature, leading = np.zeros_like(local), {}, set(read)
    for name in reversed(network.nodes):
        rows = functions[name].rows(at)
        delta[rows] += local[at[name], rows].T @ delta[at[name]]
        matrix = functions[name].hessian(delta[at[name]])
        tensor_part[np.ix_(rows, rows)] += matrix
        curvature[name] = rows, matrix
        if name in leading:
            leading.update(parents_of[name])

    nodes = tuple(name for name in names if dag.nodes[name]["kind"] != "parameter")
    theta = {v: tuple(p for p in parents_of[v] if p in network.parameters) for v in nodes}
    parents = {v: tuple(p for p in parents_of[v] if p not in network.parameters) for v in nodes}
    children = {v: tuple(u for u in nodes if v in parents[u]) for v in nodes}
    below: dict = {}
    for v in reversed(nodes):
        below[v] = frozenset({v}).union(*(below[u] for u in children[v]))
    ends_of_paths = [v for v in nodes if v in read]
    out = ends_of_paths[0] if len(ends_of_paths) == 1 else None
    total = solve_triangular(np.eye(len(local)) - local, np.eye(len(local)), lower=True, unit_diagonal=True)
    for array in (local, total, loss_part, tensor_part, delta, *(matrix for _, matrix in curvature.values())):
        array.flags.writeable = False
    shape = (names, nodes, theta, parents, children, below, out, frozenset(read), frozenset(leading), at)
    return Notation(*shape, local, total, loss_part, tensor_part, delta, curvature)


def _refuse(kinks):
    if kinks:
        units = ", ".join(kink.name for kink in kinks[:8]) + (", ..." if len(kinks) > 8 else "")
        raise KinkError(
            f"{len(kinks)} kinks are active: {units}; the path formulas need second derivatives there: move the "
            "point (network.at), or take hessian_blocks(network, pattern=...)",
            kinks,
        )


class _Piece:
    """A node function, or a loss, of its distinct parents stacked flat, with the pieces it has at the point."""

    def __init__(self, network, name, fun, parents):
        self.parents = tuple(dict.fromkeys(parents))
        values = {parent: network.value(parent) for parent in self.parents}
        ends = np.cumsum([value.size for value in values.values()])

        def stacked(x):
            pieces = {
                parent: x[end - value.size : end].reshape(value.shape)
                for (parent, value), end in zip(values.items(), ends, strict=True)
            }
            with graphs.label(x, name):
                return fun(*(pieces[parent] for parent in parents))

        self.x = np.concatenate([value.ravel() for value in values.values()])
        self.graph = graphs.from_function(stacked, self.x)
        self.size = int(np.prod(self.graph.shape))
        if self.graph.output is not None:
            found = germ(self.graph, self.x, tol=0.0)
            _refuse(found.kinks)  # of a node no loss reads
            self.tape, self.branches = found.tape, found.branches(np.zeros(0, dtype=int))

    def rows(self, at):
        return np.concatenate([np.r_[at[parent]] for parent in self.parents])

    def jacobian(self):
        if self.graph.output is None:
            return np.zeros((self.size, len(self.x)))
        end = self.graph.program.output
        units = np.eye(self.size).reshape(self.size, *self.graph.shape)
        return np.array([graphs.pullback(self.graph, self.tape, {end: unit})[0] for unit in units])

    def hessian(self, weights):
        """Of sum_i weights_i y_i, (n, n)."""
        if self.graph.output is None or not weights.any():
            return np.zeros((len(self.x), len(self.x)))
        cotangent = {self.graph.program.output: weights.reshape(self.graph.shape)}
        return graphs.hessian(self.graph, self.x, self.branches, cotangent)


# ---------------------------------------------------------------- what is right


def input_hessian(network) -> Blocks:
    """H^f_{v,w} (d_v, d_w) for all pairs of nodes: H_{v,w} = sum_{u in Ch(v)} D_{u<-v}^T H_{u,w} + (K S)_{v,w}."""
    n = notation(network)
    source = (n.loss_part + n.tensor_part) @ n.total
    found = {}
    for v in reversed(n.nodes):
        for w in n.nodes:
            found[v, w] = source[n.at[v], n.at[w]].copy()
            for u in n.children[v]:
                found[v, w] += n.D(u, v).T @ found[u, w]
    return found


def unrolled_hessian(network) -> Blocks:
    """H_{theta_v, theta_w} (p_v, p_w) for all pairs of nodes that read parameters, one copy of them a node.

    What a loss reads of a parameter without any node between is no part of it.
    """
    n, H = notation(network), input_hessian(network)
    return {
        (v, w): n.D_theta(v).T @ H[v, w] @ n.D_theta(w)
        + (n.T_theta(v) if v == w else 0)
        + _mixed(n, v, w)
        + _mixed(n, w, v).T
        for v, w in _parameter_pairs(n)
    }


def _mixed(n, v, w):
    """sum_{u in Pa(v)} M_{u,v}^T S_{u,w} D_w (p_v, p_w)."""
    total = np.zeros((len(n.rows(v)), len(n.rows(w))))
    for u in n.parents[v]:
        total += n.M(u, v).T @ n.S(u, w) @ n.D_theta(w)
    return total


def _parameter_pairs(n):
    nodes = [v for v in n.nodes if n.theta[v]]
    return [(v, w) for v in nodes for w in nodes]


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


def _tabulate(pairs, block, misfit) -> dict:
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


def formula_1(network, *, misfit="raise") -> Blocks:
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


def lemma_1(network, *, blocks=None, misfit="raise") -> dict[tuple[str, str, str, str], np.ndarray]:
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


def proposition_2(network, *, blocks=None) -> Blocks:
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


def formula_3(network, *, blocks=None, misfit="raise") -> Blocks:
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
    pairs = _parameter_pairs(n)
    return _tabulate(pairs, lambda v, w, _: _formula_3(n, v, w, H, misfit == "repair"), misfit)


def _formula_3(n, v, w, H, repair):
    where = f"formula (3), H[theta_{v}, theta_{w}]"
    total = n.D_theta(v).T @ H(v, w) @ n.D_theta(w)
    if v == w:
        total = total + n.T_theta(v)
    if repair:
        return total + _one_edge(n, v, w) + _one_edge(n, w, v).T
    for a, b in ((v, w), (w, v)):
        for u in n.parents[a]:
            if u in n.children[b]:
                total = _add(where, total, _against(n, where, u, a, b))
    return total


def _one_edge(n, v, w):
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


def proposition_3(network, *, blocks=None) -> Blocks:
    """Proposition 3: H_{theta,theta} = sum_a sum_b H_{theta_a,theta_b} for every parameter read by several nodes.

    blocks: the unrolled blocks, the right ones by default (`unrolled_hessian`). Right, while no loss reads theta
    itself. It does not state H_{theta,phi} = sum_a H_{theta_a,phi}, and sec. 4 does not compute it.
    """
    n = notation(network)
    unrolled = unrolled_hessian(n) if blocks is None else blocks
    found = {}
    for name, users in _users(n).items():
        if len(users) > 1:
            if (block := _tied(n, unrolled, name, name)) is None:
                raise ValueError(f"blocks must have all pairs of {', '.join(users)}, which read {name!r}")
            found[name, name] = block
    return found


def _users(n):
    """Parameter -> the nodes that read it."""
    names = [name for name in n.names if name not in n.nodes]
    return {name: [v for v in n.nodes if name in n.theta[v]] for name in names}


def _tied(n, unrolled, name, other) -> np.ndarray | None:
    """A^T H A: the sum over the nodes that read them of the parts of the unrolled blocks; None if one is missing."""
    users = _users(n)
    total = np.zeros((n.S(name, name).shape[0], n.S(other, other).shape[0]))
    for v in users[name]:
        for w in users[other]:
            if (v, w) not in unrolled:
                return None
            total += n.part(unrolled[v, w], v, name, w, other)
    return total


# ---------------------------------------------------------------- the algorithms


def section_4(network, *, misfit="raise") -> Blocks:
    """The algorithm of sec. 4: the parametric Hessian by pairs of parameters, everything as printed.

    Input blocks start at 0 and are computed by formula (1), v in reverse topological order, for the w that have a
    child in common with v only; what (1) reads before it is computed is 0. Then formula (3) for all v, w with a path
    to some common u (paths of length 0 allowed). Then, for a parameter read by several nodes, lines 16-26 sum
    H_{theta,theta}; its blocks with the other parameters are never assembled and are left out here too. misfit: see
    `formula_1` and `formula_3`.
    """
    n, repair = notation(network), misfit == "repair"
    H: dict = {(v, w): np.zeros_like(n.K(v, w)) for v in n.nodes for w in n.nodes}
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

    unrolled = _tabulate(_parameter_pairs(n), block, misfit)
    return _by_name(n, unrolled, sharing=True)


def algorithm_1(network) -> Blocks:
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


def algorithm_2(network, *, blocks=None, misfit="raise") -> Blocks:
    """ComputeParameterHessian (Algorithm 2) on all pairs of nodes that read parameters.

    D_v^T H_{v,w} D_w, the second derivatives in theta_v for v = w (with slice i, as in Algorithm 1), and for w -> u
    -> v the sums over i, j, alpha of [T_{v;u,theta}]_{i,j,alpha} D_{w<-u} delta_{v,i}: a number times a matrix (d_w,
    d_u), which is 0 against the arrow and fits iff d_w = p_v, d_u = p_w. misfit="repair" adds to row alpha the row j
    of D_{u<-w} D_w. The mirror term of formula (3), v -> u -> w, is absent, so the result is not symmetric.
    """
    n = notation(network)
    H = _given(n, blocks)
    return _tabulate(_parameter_pairs(n), lambda v, w, _: _algorithm_2(n, v, w, H, misfit == "repair"), misfit)


def _algorithm_2(n, v, w, H, repair):
    where = f"Algorithm 2, H[theta_{v}, theta_{w}]"
    total = n.D_theta(v).T @ H(v, w) @ n.D_theta(w)
    if v == w:
        total = total + n.T_theta(v)
    if repair:
        return total + _one_edge(n, v, w)
    for u in n.parents[v]:
        if u in n.children[w]:
            total = _add(where, total, (f"T[{v};{u},theta] D[{w}<-{u}]", n.M(u, v).sum() * n.D(w, u)))
    return total


def algorithm_3(network, *, misfit="raise") -> Blocks:
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

    return _tabulate(_parameter_pairs(n), block, misfit)


def _by_name(n, unrolled, *, sharing) -> Blocks:
    """Blocks by pairs of nodes as blocks by pairs of parameters; of a parameter with several readers only what is
    assembled: the diagonal block with `sharing`, else nothing."""
    users, found = _users(n), {}
    for name in users:
        for other in users:
            single = len(users[name]) == len(users[other]) == 1
            if single or (sharing and name == other and users[name]):
                block = _tied(n, unrolled, name, other)
                if block is not None:
                    found[name, other] = block
    return found


# ---------------------------------------------------------------- the report


_ONE_CHILD = "every node has at most one child that leads to a loss, no loss couples two nodes"
_MIXED = "sum_i delta[v,i] T[v;u,theta]_i^T S[u,w] D_w over all u in Pa(v), u = w included"
CONDITIONS = {
    "(1)": f"{_ONE_CHILD}, and v = w or v and w have a child in common",
    "(2)": "v = w = out; or (Hessian of L) S[out,v] = 0, as for a loss affine in out",
    "Prop. 2": "(K S)[v,w] = 0, as for piecewise-linear nodes, the loss on out alone, v != out",
    "Lemma 1": "the condition of its repair holds, and D[w<-z] is symmetric",
    "Lemma 1 repaired": "K[z,.] = 0 (w affine in z, no cross term, no loss reads z), w the only child of z and u the "
    "only child of v that lead to a loss, D[w<-z] of full row rank, (K S)[v,w] = 0",
    "Alg. 1": f"v or w has no child that leads to a loss; or {_ONE_CHILD}, v = w or siblings, and no pure second "
    "derivative downstream (it is counted twice)",
    "(3) first term": "the tensor part of H[v,w] vanishes between D_v^T and D_w (the term is called Gauss-Newton)",
    "(3)": f"no loss reads a parameter; {_MIXED}, vanishes, and so does its mirror",
    "(3) repaired": "no loss reads a parameter; the mixed terms with u = w, and with S[u,w] - D[u<-w] where w is "
    "farther from u than one edge, vanish",
    "Prop. 3": "no loss reads the parameter itself",
    "Alg. 2": f"no loss reads a parameter; {_MIXED}, vanishes, and so does its mirror",
    "Alg. 2 repaired": "the condition of (3) repaired holds, and the whole mirror term vanishes: it is not printed",
    "Alg. 3": "Alg. 1 and Alg. 2 right at the blocks used, no loss node with children, no parameter shared",
    "sec. 4": "(1) and (3) right at the blocks used, those without a common child zero, no shared cross blocks",
}
"""formula -> when it is right. "(1) repaired" is held to the condition of "(1)", and so are "Alg. 3", "sec. 4"."""


@dataclass(frozen=True, eq=False)
class PathEntry:
    """One formula at one block: `printed` None where it is undefined (a misfit, or never assembled), `true` the block.

    pair: the block's names, two nodes or two parameters; path: the nodes of a path (Lemma 1), else (). distance:
    |printed - true| in the Frobenius norm, inf for None. agrees: it is within tol of the size of the terms. met:
    whether `condition`, which is sufficient, is met here; None where it is not evaluated.
    """

    formula: str
    pair: tuple[str, str]
    path: tuple[str, ...]
    printed: np.ndarray | None
    true: np.ndarray
    distance: float
    agrees: bool
    condition: str
    met: bool | None


@dataclass(frozen=True, eq=False)
class PathReport:
    """Every formula at every block it speaks of; `str` is a table. `report[v, w]` and `of(formula)` select entries."""

    entries: tuple[PathEntry, ...]

    def of(self, formula) -> tuple[PathEntry, ...]:
        """The entries of one formula, named as in `CONDITIONS`, with " repaired" where dimensions were."""
        known = {entry.formula: None for entry in self.entries}
        if formula not in known:
            raise ValueError(f"no entries of {formula!r}; there are {', '.join(known)}")
        return tuple(entry for entry in self.entries if entry.formula == formula)

    def __getitem__(self, pair) -> tuple[PathEntry, ...]:
        """The entries of one block."""
        found = tuple(entry for entry in self.entries if entry.pair == pair)
        if not found:
            raise KeyError(f"no formula speaks of the block {pair!r}")
        return found

    def __str__(self):
        lines = ["block: |printed|, |true|, |printed - true|; * where the condition is met"]
        for formula in dict.fromkeys(entry.formula for entry in self.entries):
            entries = self.of(formula)
            agreeing, undefined = sum(e.agrees for e in entries), sum(e.printed is None for e in entries)
            tail = f", undefined in {undefined}" if undefined else ""
            lines += ["", f"{formula}: agrees in {agreeing} of {len(entries)} blocks{tail}"]
            lines += textwrap.wrap(f"if {entries[0].condition}", 100, initial_indent="  ", subsequent_indent="     ")
            for e in entries:
                block = " -> ".join(e.path) if e.path else ", ".join(e.pair)
                size = "undefined" if e.printed is None else f"{np.linalg.norm(e.printed):.3g}"
                gap = "" if e.printed is None else f"{e.distance:.1e}"
                verdict = "agrees" if e.agrees else "differs"
                mark = "*" if e.met else " "
                true = f"{np.linalg.norm(e.true):.3g}"
                lines.append(f"  {mark} {block:<28} {size:>10} {true:>10} {gap:>9}  {verdict}")
        return "\n".join(lines)


def path_report(network, *, tol=AGREE) -> PathReport:
    """Printed value, true value and condition of agreement, block by block: pairs of nodes, pairs of parameters.

    True values are those of `hessian_blocks`. Each formula is judged on its own: Prop. 2, Lemma 1, formula (3), Prop. 3
    and Algorithm 2 are given the right blocks they start from; formula (1), Algorithms 1 and 3 and sec. 4 recur on
    what they print. A shared parameter is judged by A^T H A for formula (3) and Algorithm 2. Raises what `notation`
    raises. Meant for small networks: the work grows with the square of their arrays, and the table with it.
    """
    n, truth = notation(network), hessian_blocks(network)
    H, users = input_hessian(n), _users(n)
    pairs = [(v, w) for v in n.nodes for w in n.nodes]
    named = [(a, b) for a in users for b in users]
    around = solve_triangular(np.eye(len(n.local)) - np.abs(n.local), np.eye(len(n.local)), lower=True)
    terms = around.T @ (np.abs(n.loss_part) + np.abs(n.tensor_part)) @ around  # sizes of what is summed
    entries = []

    def small(matrix, v, w):
        return bool(np.linalg.norm(matrix) <= tol * np.linalg.norm(terms[n.at[v], n.at[w]]))

    def enter(formula, keys, printed, met, true=truth):
        for key in keys:
            pair = (key[0], key[-1])
            value, block = printed.get(key), true[pair]
            distance, agrees = np.inf, False
            if value is not None:
                value.flags.writeable = False
                distance = float(np.linalg.norm(value - block))
                agrees = small(distance, *pair) or distance <= tol * max(np.linalg.norm(value), np.linalg.norm(block))
            text = CONDITIONS.get(formula) or CONDITIONS[formula.removesuffix(" repaired")]
            path = key if len(key) > 2 else ()
            entries.append(PathEntry(formula, pair, path, value, block, distance, bool(agrees), text, met(*key)))

    def nothing_lacks(formula, blocks, lacking):
        """Whether `lacking`, by pairs of nodes, adds up to nothing, and a printed block is there at all."""
        missing = {pair: _tied(n, lacking, *pair) for pair in named}
        printed = {pair: _tied(n, blocks, *pair) for pair in named}

        def met(a, b):
            return printed[a, b] is not None and not n.read.intersection((a, b)) and small(missing[a, b], a, b)

        return formula, named, printed, met

    def base_holds(v, w):
        out, other = (v, w) if v == n.out else (w, v)
        return v == w or small(n.loss_part[n.at[out]] @ n.total[:, n.at[other]], out, other)

    tree = _is_tree(n)
    for suffix, misfit in _WAYS:
        printed = formula_1(n, misfit=misfit)
        enter("(1)" + suffix, [pair for pair in pairs if n.out not in pair], printed, partial(_siblings, n, tree))
    base = {pair: printed[pair] for pair in pairs if n.out in pair}
    enter("(2)", base, base, base_holds)
    printed, KS = proposition_2(n, blocks=H), (n.loss_part + n.tensor_part) @ n.total
    enter("Prop. 2", printed, printed, lambda v, w: small(KS[n.at[v], n.at[w]], v, w))

    def lemma(v, u, z, w):
        return _only_way(n, v, u, z, w) and small(KS[n.at[v], n.at[w]], v, w)

    paths = lemma_1(n, blocks=H, misfit="repair")
    enter("Lemma 1", paths, lemma_1(n, blocks=H, misfit="omit"), lambda *p: lemma(*p) and _symmetric(n.D(p[3], p[2])))
    enter("Lemma 1 repaired", paths, paths, lemma)
    enter("Alg. 1", pairs, algorithm_1(n), partial(_algorithm_1_is_right, n, tree))

    both = _parameter_pairs(n)
    tensor = n.total.T @ n.tensor_part @ n.total
    through = {(v, w): n.D_theta(v).T @ H[v, w] @ n.D_theta(w) for v, w in both}
    lacking = {(v, w): n.D_theta(v).T @ tensor[n.at[v], n.at[w]] @ n.D_theta(w) for v, w in both}
    enter(*nothing_lacks("(3) first term", through, lacking), truth.gauss_newton)
    whole = {(v, w): _mixed(n, v, w) for v, w in both}
    rest = {(v, w): whole[v, w] - _one_edge(n, v, w) for v, w in both}
    for (suffix, misfit), left in zip(_WAYS, (whole, rest), strict=True):
        lacking = {(v, w): left[v, w] + left[w, v].T for v, w in both}
        enter(*nothing_lacks("(3)" + suffix, formula_3(n, blocks=H, misfit=misfit), lacking))
    printed = proposition_3(n)
    enter("Prop. 3", printed, printed, lambda a, b: a not in n.read)
    for (suffix, misfit), left in zip(_WAYS, (whole, rest), strict=True):
        lacking = {(v, w): left[v, w] + whole[w, v].T for v, w in both}
        enter(*nothing_lacks("Alg. 2" + suffix, algorithm_2(n, blocks=H, misfit=misfit), lacking))
    for formula, algorithm in (("Alg. 3", _algorithm_3_by_name), ("sec. 4", section_4)):
        for suffix, misfit in _WAYS:
            enter(formula + suffix, named, algorithm(n, misfit=misfit), lambda *_: None)
    return PathReport(tuple(entries))


_WAYS = (("", "omit"), (" repaired", "repair"))


def _algorithm_3_by_name(n, *, misfit):
    return _by_name(n, algorithm_3(n, misfit=misfit), sharing=False)


def _live(n, v):
    """The children of v that lead to a loss."""
    return [u for u in n.children[v] if u in n.leading]


def _is_tree(n):
    """At most one child that leads to a loss, and no loss that couples two nodes."""
    alone = not any(n.loss_part[n.at[v], n.at[w]].any() for v in n.nodes for w in n.nodes if v != w)
    return alone and all(len(_live(n, v)) <= 1 for v in n.nodes if v in n.leading)


def _siblings(n, tree, v, w):
    """The condition of (1)."""
    return tree and (v == w or any(u in _live(n, w) for u in _live(n, v)))


def _only_way(n, v, u, z, w):
    """The conditions of Lemma 1 repaired, but for (K S)_{v,w} = 0."""
    D = n.D(w, z)
    alone = set(_live(n, z)) <= {w} and set(_live(n, v)) <= {u}
    affine = not any(n.K(z, y).any() for y in n.nodes)
    return alone and affine and bool(np.linalg.matrix_rank(D) == len(D))


def _symmetric(D):
    return D.shape[0] == D.shape[1] and np.allclose(D, D.T, rtol=0, atol=AGREE * np.abs(D).max())


def _algorithm_1_is_right(n, tree, v, w):
    """The condition of Algorithm 1."""
    if not _live(n, v) or not _live(n, w):
        return True
    if not _siblings(n, tree, v, w):
        return False
    here = v if v == w else _live(n, v)[0]
    while below := _live(n, here):
        if n.T(below[0], here, here).any():
            return False
        here = below[0]
    return True
