"""The arrays of a network's second-order calculus, dense, as Bolshim & Kugaevskikh (2025) tabulate them.

M. Bolshim, A. Kugaevskikh. Interlayer Hessian as a tool for analyzing neural networks (in Russian). June 2025, Table 1.
Their nodes v are our inputs and nodes; theta_v is what node v reads of the parameters, stacked in the order it names
them, one copy a node. Their H^f_{v,w} is taken as the total derivative d^2 L / d eps_v d eps_w of the loss under
additive perturbations of the nodes. In these arrays the right formulas are

    H^f         = S^T K S,    H_{v,w} = sum_{u in Ch(v)} D_{u<-v}^T H_{u,w} + (K S)_{v,w}        (`input_hessian`)
    H_{th_v,th_w} = D_v^T H_{v,w} D_w + 1_{v=w} sum_i delta_{v,i} [T_v^theta]_i
                    + sum_{u in Pa(v)} M_{u,v}^T S_{u,w} D_w + sum_{u in Pa(w)} D_v^T S_{u,v}^T M_{u,w}
                                                                                            (`unrolled_hessian`)

Meant for small networks, at points where no kink is active: the slow twin of `blocks`, and what `printed` reads.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve_triangular

from . import graph as graphs
from .elements import KinkError
from .kinks import active_kinks, germ

if TYPE_CHECKING:
    from .network import Network

LIMIT = 2**24  # numbers in one dense matrix over all arrays of the network: 128 MiB

Blocks = dict[tuple[str, str], np.ndarray]


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

    def D(self, u: str, v: str) -> NDArray[np.float64]:
        """D_{u<-v} (d_u, d_v), the partial Jacobian along one edge; 0 where there is no edge from v to u."""
        return self.local[self.at[u], self.at[v]]

    def S(self, u: str, v: str) -> NDArray[np.float64]:
        """d f_u / d eps_v (d_u, d_v), total: the sum over all paths from v to u; I for u = v."""
        return self.total[self.at[u], self.at[v]]

    def K(self, v: str, w: str) -> NDArray[np.float64]:
        """d^2 L / df_v df_w direct + sum_u sum_i delta_{u,i} [T_{u;v,w}]_i over common children u (once, v = w too)."""
        here = self.at[v], self.at[w]
        return self.loss_part[here] + self.tensor_part[here]

    def T(self, u: str, v: str, w: str) -> NDArray[np.float64]:
        """sum_i delta_{u,i} d^2 (g_u)_i / df_v df_w (d_v, d_w)."""
        rows, matrix = self.curvature[u]
        pick = [np.flatnonzero(np.isin(rows, np.r_[self.at[name]])) for name in (v, w)]
        return matrix[np.ix_(*pick)]

    def rows(self, v: str) -> np.ndarray:
        """The rows of theta_v."""
        return np.concatenate([np.r_[self.at[name]] for name in self.theta[v]])

    def part(self, block: np.ndarray, v: str, name: str, w: str, other: str) -> NDArray[np.float64]:
        """What a block (p_v, p_w) has for the parameters `name` of theta_v and `other` of theta_w."""
        pick = [np.flatnonzero(np.isin(self.rows(a), np.r_[self.at[b]])) for a, b in ((v, name), (w, other))]
        return block[np.ix_(*pick)]

    def D_theta(self, v: str) -> NDArray[np.float64]:
        """D_v = d g_v / d theta_v (d_v, p_v)."""
        return self.local[self.at[v], self.rows(v)]

    def M(self, u: str, v: str) -> NDArray[np.float64]:
        """sum_i delta_{v,i} [T_{v;u,theta}]_i (d_u, p_v), for u in Pa(v)."""
        return np.hstack([self.T(v, u, name) for name in self.theta[v]])

    def T_theta(self, v: str) -> NDArray[np.float64]:
        """sum_i delta_{v,i} [T_v^theta]_i (p_v, p_v)."""
        return np.vstack([np.hstack([self.T(v, a, b) for b in self.theta[v]]) for a in self.theta[v]])

    def common(self, v: str, w: str) -> list[str]:
        """Ch(v) and Ch(w) intersected."""
        return [u for u in self.children[v] if u in self.children[w]]

    def reaches(self, v: str, w: str) -> bool:
        """v ->* w, v = w included."""
        return w in self.below[v]


def notation(network: Any) -> Notation:
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
    below: dict[Any, Any] = {}
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


def input_hessian(network: "Network | Notation") -> Blocks:
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


def unrolled_hessian(network: "Network | Notation") -> Blocks:
    """H_{theta_v, theta_w} (p_v, p_w) for all pairs of nodes that read parameters, one copy of them a node.

    What a loss reads of a parameter without any node between is no part of it.
    """
    n, H = notation(network), input_hessian(network)
    return {
        (v, w): n.D_theta(v).T @ H[v, w] @ n.D_theta(w)
        + (n.T_theta(v) if v == w else 0)
        + mixed_term(n, v, w)
        + mixed_term(n, w, v).T
        for v, w in parameter_pairs(n)
    }


def mixed_term(n: Notation, v: str, w: str) -> NDArray[np.float64]:
    """sum_{u in Pa(v)} M_{u,v}^T S_{u,w} D_w (p_v, p_w)."""
    total = np.zeros((len(n.rows(v)), len(n.rows(w))))
    for u in n.parents[v]:
        total += n.M(u, v).T @ n.S(u, w) @ n.D_theta(w)
    return total


def parameter_pairs(n: Notation) -> list[tuple[str, str]]:
    nodes = [v for v in n.nodes if n.theta[v]]
    return [(v, w) for v in nodes for w in nodes]
