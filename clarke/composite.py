"""f as a smooth function of x and of the outputs of all its kinks, near and far.

Cut loose every output u_j of a max, min or abs. Then f(x) = Phi(x, u) with Phi smooth, and each u_j is the largest (or
smallest) of its pieces e_r(x, u), smooth in x and in earlier outputs:

    u_j = s_j max_r s_j e_r(x, u),    s_j = 1 for a max or abs, -1 for a min.

`skeleton` does this for the kinks that tie at one point; here every kink is cut, so one recording serves every x. A
`where` is continuous, so near a kink that makes the gradient jump it is the larger of its two pieces, or the smaller:
there s_j is that sign. Elsewhere, and in a sort, the piece in force is kept.

First derivatives of everything come from one forward pass of matrices, sparse where x and u are many; the Hessian of a
Lagrangian Phi + sum_r mu_r s_j (e_r - u_j) is S^T K S: local second derivatives K between tangents S.
"""

import warnings
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import autograd
import numpy as np
import scipy.sparse as sp
from autograd.core import primitive_vjps
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import solve_triangular
from scipy.sparse.linalg import splu, spsolve_triangular

from . import primitives, selections
from .graph import Graph, Tape, evaluate, pullback, run

if TYPE_CHECKING:
    from scipy import sparse

STRAIGHT = 0.2  # what the difference of the pieces of a `where` may miss of its linear model in the guard, relative
DENSE = 250  # entries of (x, u) up to which matrices are dense

_REARRANGE = frozenset(
    """reshape ravel transpose swapaxes moveaxis rollaxis roll squeeze expand_dims broadcast_to atleast_1d atleast_2d
    atleast_3d concatenate_args array_from_args _array_from_scalar_or_array repeat tile flipud fliplr rot90 diagonal
    astype real getitem split array_split vsplit dsplit""".split()
)


@dataclass(frozen=True, eq=False)
class Composite:
    """The parts of a recorded f that do not depend on x: K outputs of kinks, R pieces.

    sides (K,): s_j; of a `where` it depends on x, and a `Model` has its own. owner, source, entry (R,): the output that
    piece r may be, and where its value stands: flat entry of the value at position `source`, or of `constants` where
    source is -1; coef (R,) multiplies it. first: position of an operation -> the number of its first output.
    """

    graph: Graph
    sides: np.ndarray
    owner: np.ndarray
    source: np.ndarray
    entry: np.ndarray
    coef: np.ndarray
    constants: np.ndarray
    first: dict[Any, Any]
    _local: dict[Any, Any] = field(default_factory=dict, repr=False)  # derivatives that are the same at every x

    @cached_property
    def starts(self) -> np.ndarray:
        """(K + 1,): the pieces of output j are starts[j]:starts[j + 1]."""
        return np.searchsorted(self.owner, np.arange(len(self.sides) + 1))

    @property
    def size(self) -> int:
        return self.graph.size + len(self.sides)


def composite(graph: Graph, x: np.ndarray) -> Composite:
    """Number the outputs of the kinks of a scalar graph and their pieces; x is any point of its domain."""
    sides, columns, constants, first, count, known = [], [], [np.zeros(0)], {}, 0, 0
    with np.errstate(all="ignore"):
        tape = run(graph, x, _in_force)
    for i, op in enumerate(graph.program.operations, 1):
        if op.name not in selections.PIECEWISE or op.name == "sort" or (op.name == "where" and 0 not in op.argnums):
            continue
        args, first[i] = tape.arguments[i], count
        parents = dict(zip(op.argnums, op.parents, strict=True))
        branch, ties, _ = selections.decide(op.name, args, op.kwargs, [np.ones(np.shape(a)) for a in args], np.inf)
        sides.append(np.full(int(np.prod(op.shape)), -1.0 if op.name in ("min", "minimum") else 1.0))
        found = [(outs, argument, entries, coefs) for argument, (outs, entries, coefs) in enumerate(branch.wires)]
        for tie in ties:
            if isinstance(tie, selections.TwoWayTies):
                found += [(tie.outs, *tie.plus), (tie.outs, *tie.minus)]
            else:
                k = len(tie.members)
                found.append((np.full(k, tie.out), 0, tie.members, np.ones(k)))
        for outs, argument, entries, coefs in found:
            if argument in parents:
                columns.append((count + outs, np.full(len(outs), parents[argument]), entries, coefs))
            else:
                columns.append((count + outs, np.full(len(outs), -1), known + np.arange(len(outs)), coefs))
                constants.append(np.ravel(np.asarray(args[argument], float))[entries])
                known += len(outs)
        count += len(sides[-1])
    owner, source, entry, coef = (np.concatenate([np.zeros(0), *(column[k] for column in columns)]) for k in range(4))
    order = np.argsort(owner, kind="stable")
    owner, source, entry = (a[order].astype(int) for a in (owner, source, entry))
    sides = np.concatenate([np.zeros(0), *sides])
    return Composite(graph, sides, owner, source, entry, coef[order], np.concatenate(constants), first)


def _in_force(i, op, args, sizes):
    return selections.natural_branch(op.name, args, op.kwargs)


@dataclass(frozen=True, eq=False)
class Model:
    """f at x with first derivatives.

    value: f(x). phi (n + K,): gradient of Phi in (x, u). gaps (R,): s_j (e_r - u_j) <= 0, 0 for a piece in force.
    rows (R, n + K): gradients of s_j e_r in (x, u), dense or sparse. kept (K,) bool: outputs of a `where` that are, as
    far as is known, no max or min of their pieces; the piece that is not in force has a gap of -infinity there.
    """

    parts: Composite
    x: np.ndarray
    value: float
    u: np.ndarray
    phi: np.ndarray
    gaps: np.ndarray
    rows: Any
    tape: Tape
    tangents: list[Any]
    kept: np.ndarray
    _hessians: dict[Any, Any] = field(default_factory=dict, repr=False)  # by multipliers

    def in_force(self) -> np.ndarray:
        """(K,): for every output the first piece that attains it."""
        order = np.lexsort((np.arange(len(self.gaps)), -self.gaps, self.parts.owner))
        return order[self.parts.starts[:-1]]

    def multipliers(self, weights: np.ndarray) -> NDArray[np.float64]:
        """(R,) mu with d(Phi + sum_r mu_r s_j (e_r - u_j)) / du = 0: the adjoints of u, split by the weights (R,).

        A multiplier is negative where f falls as s_j u_j grows.
        """
        parts, n = self.parts, len(self.x)
        K, columns = len(parts.sides), self.rows[:, n:]
        right = parts.sides * self.phi[n:]
        if K and _couples(columns):
            if sp.issparse(columns):
                spread = sp.csr_array((weights, (np.arange(len(weights)), parts.owner)), shape=(len(weights), K))
                through = sp.diags_array(parts.sides) @ (columns.T @ spread)
                system = sp.csr_array(sp.eye_array(K) - through)
                right = spsolve_triangular(system, right, lower=False, unit_diagonal=True)
            else:
                through = np.zeros((K, K))
                np.add.at(through.T, parts.owner, weights[:, None] * columns)
                through *= parts.sides[:, None]
                right = solve_triangular(np.eye(K) - through, right, unit_diagonal=True, check_finite=False)
        with np.errstate(invalid="ignore"):
            return weights * right[parts.owner]

    def own_multipliers(self) -> NDArray[np.float64]:
        """`multipliers` of the pieces in force."""
        weights = np.zeros(len(self.parts.owner))
        if len(weights):
            weights[self.in_force()] = 1.0
        return self.multipliers(weights)

    def gradient(self, mu: np.ndarray) -> NDArray[np.float64]:
        """(n,): of Phi + sum_r mu_r s_j (e_r - u_j) in x; with `own_multipliers` that of the selection in force."""
        n = len(self.x)
        return self.phi[:n] + np.asarray(self.rows[:, :n].T @ mu).ravel()

    def hessian(self, mu: np.ndarray) -> "NDArray[np.float64] | sparse.csr_array":
        """(n + K, n + K): Hessian of Phi + sum_r mu_r s_j e_r in (x, u); a curvature that is not finite counts as 0."""
        key = mu.tobytes()
        if key not in self._hessians:
            self._hessians[key] = _lagrangian_hessian(self, mu)
        return self._hessians[key]

    def selection_hessian(self, mu: np.ndarray) -> Any:
        """(n, n): the Hessian of the selection in force, T^T W T with u = u(x) put in; mu its own multipliers."""
        W = self.hessian(mu)
        if not len(self.parts.sides):
            return W
        T = self._selection_tangents()
        P = T.T @ (W @ T)
        return (P + P.T) / 2

    def selection_terms(self, mu: np.ndarray) -> "list[Term]":
        """The `Term`s (k, n) that make up `selection_hessian`, which is not formed."""
        terms = _curvature_terms(self, mu)
        if not len(self.parts.sides):
            return list(terms)
        T, found = self._selection_tangents(), []
        for term in terms:
            left = term.left @ T
            found.append(Term(left, term.weights, left if term.left is term.right else term.right @ T))
        return found

    def _selection_tangents(self):
        """T (n + K, n): the derivative of (x, u(x)) for the selection in force."""
        parts, n = self.parts, len(self.x)
        K = len(parts.sides)
        rows = self.rows[self.in_force()]
        if sp.issparse(rows):
            rows = sp.diags_array(parts.sides) @ rows
            U = rows[:, :n]
            if rows[:, n:].nnz:
                U = sp.csr_array(splu(sp.csc_matrix(sp.eye_array(K) - rows[:, n:])).solve(U.toarray()))
            return sp.vstack([sp.eye_array(n), U], format="csr")
        rows = parts.sides[:, None] * rows
        U = rows[:, :n]
        if rows[:, n:].any():
            U = solve_triangular(np.eye(K) - rows[:, n:], U, lower=True, check_finite=False)
        return np.vstack([np.eye(n), U])

    def outputs(self, x: np.ndarray) -> NDArray[np.float64]:
        """u (K,) at another x."""
        with np.errstate(all="ignore"):
            return _outputs(self.parts, run(self.parts.graph, x, _in_force))

    def moved(self, x: np.ndarray, u: np.ndarray) -> NDArray[np.float64]:
        """gaps (R,) at another (x, u): u need not be what the kinks give there."""
        parts, graph = self.parts, self.parts.graph

        def inject(i, value):
            if i not in parts.first:
                return value
            a, shape = parts.first[i], np.shape(value)
            return u[a : a + int(np.prod(shape))].reshape(shape)

        with np.errstate(all="ignore"):
            tape = run(graph, x, _in_force, inject=inject)
        return _gaps(parts, tape, u)


def _couples(columns):
    return bool(columns.nnz if sp.issparse(columns) else columns.any())


def model_at(parts: Composite, x: np.ndarray) -> Model:
    """Values and first derivatives of all pieces at x."""
    graph, N = parts.graph, parts.size
    with np.errstate(all="ignore"):
        tape = run(graph, x, _in_force)
        tangents = _tangents(parts, tape)
    u = _outputs(parts, tape)
    phi = np.asarray(_row(tangents[int(graph.program.output or 0)], 0)).ravel()
    rows: Any = np.zeros((len(parts.owner), N)) if N <= DENSE else None
    blocks = []
    weight = parts.sides[parts.owner] * parts.coef
    for source in np.unique(parts.source):
        which = np.flatnonzero(parts.source == source)
        if source < 0:
            if rows is None:
                blocks.append((which, sp.csr_matrix((len(which), N))))
            continue
        found = _scaled(weight[which], tangents[source][parts.entry[which]])
        if rows is None:
            blocks.append((which, sp.csr_matrix(found)))
        else:
            rows[which] = found
    if rows is None and blocks:
        order = np.argsort(np.concatenate([which for which, _ in blocks]), kind="stable")
        rows = _stack([block for _, block in blocks], N)[order]
    elif rows is None:
        rows = sp.csr_matrix((0, N))
    value = float(np.ravel(tape.values[int(graph.program.output or 0)])[0])
    kept = np.zeros(len(parts.sides), bool)
    model = Model(parts, x, value, u, phi, _gaps(parts, tape, u), rows, tape, tangents, kept)
    return _with_switches(model) if any(graph.program.operations[i - 1].name == "where" for i in parts.first) else model


def _with_switches(model):
    """The model with the side of every `where`: a - b and the guard g vanish together and, to first order, in
    proportion, where the gradient jumps across g = 0; the sign of (a - b) g says which of a, b is the larger.
    """
    parts, tape = model.parts, model.tape
    sides, gaps, kept, guards = parts.sides.copy(), model.gaps.copy(), model.kept.copy(), {}
    for i, a in parts.first.items():
        op = parts.graph.program.operations[i - 1]
        if op.name == "where":
            entries = _spread(np.shape(tape.arguments[i][0]), op.shape)
            guards[i] = np.arange(a, a + len(entries)), op.parents[op.argnums.index(0)], entries
    for outs, source, entries in guards.values():
        up = np.ravel(tape.values[source])[entries] >= 0
        pieces = parts.starts[outs]
        gaps[pieces], gaps[pieces + 1] = np.where(up, 0.0, -1.0), np.where(up, -1.0, 0.0)
    T = replace(model, gaps=gaps)._selection_tangents()
    values = model.gaps  # side 1: e_r - u_j
    for outs, source, entries in guards.values():
        g, pieces = np.ravel(tape.values[source])[entries], parts.starts[outs]
        difference = values[pieces] - values[pieces + 1]
        slopes, guard_slopes = (
            np.asarray(M.toarray() if sp.issparse(M) else M)
            for M in ((model.rows[pieces] - model.rows[pieces + 1]) @ T, model.tangents[source][entries] @ T)
        )
        square = (guard_slopes**2).sum(axis=1)
        rate = (slopes * guard_slopes).sum(axis=1) / np.where(square > 0, square, 1.0)
        bent = np.abs(rate) * np.sqrt(square) > 1e-6 * np.sqrt((slopes**2).sum(axis=1))
        near = np.abs(difference - rate * g) <= STRAIGHT * np.abs(difference) + 1e-14 * np.abs(model.u[outs])
        sides[outs] = np.where(rate < 0, -1.0, 1.0)
        kept[outs] = ~(bent & near & (rate * difference * g >= 0))
        off = pieces + (g >= 0)
        own = np.where(kept[outs], -np.inf, np.minimum(sides[outs] * values[off], -np.finfo(float).tiny))
        gaps[pieces + (g < 0)], gaps[off] = 0.0, own
    flip = sides[parts.owner] * parts.sides[parts.owner]
    rows = _scaled(flip, model.rows)
    return replace(model, parts=replace(parts, sides=sides), gaps=gaps, rows=rows, kept=kept)


def _outputs(parts, tape):
    u = np.zeros(len(parts.sides))
    for i, a in parts.first.items():
        flat = np.ravel(tape.values[i])
        u[a : a + len(flat)] = flat
    return u


def _gaps(parts, tape, u):
    values = np.empty(len(parts.owner))
    for source in np.unique(parts.source):
        which = parts.source == source
        flat = parts.constants if source < 0 else np.ravel(tape.values[source])
        values[which] = parts.coef[which] * flat[parts.entry[which]]
    return parts.sides[parts.owner] * (values - u[parts.owner])


# ---------------------------------------------------------------- first derivatives: matrices pushed forward


def _scaled(weights, matrix):
    if sp.issparse(matrix):
        scaled = sp.csr_array(matrix, copy=True)
        scaled.data *= np.repeat(weights, np.diff(scaled.indptr))
        return scaled
    return weights[:, None] * matrix


def _row(matrix, k):
    return matrix[[k]].toarray() if sp.issparse(matrix) else matrix[k]


def _stack(parts, N) -> Any:
    if any(sp.issparse(p) for p in parts):
        return sp.vstack([sp.csr_matrix(p) for p in parts], format="csr")
    return np.concatenate(parts) if parts else np.zeros((0, N))


def _tangents(parts, tape) -> list[Any]:
    """The derivative of every value of the program in (x, u): (flat size, n + K) each, a list of them for a list."""
    graph, N, n = parts.graph, parts.size, parts.graph.size
    eye: Any = np.eye(N) if N <= DENSE else sp.eye_array(N, format="csr")
    zero: Any = np.zeros((1, N)) if N <= DENSE else sp.csr_array((1, N))
    tangents, affine = [eye[:n]], [True]
    for i, op in enumerate(graph.program.operations, 1):
        inputs = [tangents[p] for p in op.parents]
        affine.append(i in parts.first or (_affine(op) and all(affine[p] for p in op.parents)))
        if affine[i] and ("tangent", i) in parts._local:
            tangents.append(parts._local["tangent", i])
            continue
        if i in parts.first:
            a = n + parts.first[i]
            found = eye[a : a + int(np.prod(op.shape))]
        elif op.name in selections.SELECTIONS:
            found = 0.0
            for argnum, J in zip(op.argnums, inputs, strict=True):
                outs, entries, coefs = tape.branches[i].wires[argnum]
                shape = (int(np.prod(op.shape)), J.shape[0])
                wires = sp.csr_array((coefs, (outs, entries)), shape=shape)
                found = found + wires @ J
        elif op.name == "container_take":
            found = inputs[0][op.args[1]]
        elif op.name in _REARRANGE:
            found = _rearranged(op, tape.arguments[i], inputs, zero)
        elif op.name in ("add", "subtract"):
            found = 0.0
            for argnum, J in zip(op.argnums, inputs, strict=True):
                part = J[_spread(np.shape(tape.arguments[i][argnum]), op.shape)]
                found = found - part if op.name == "subtract" and argnum else found + part
        elif op.name == "negative":
            found = -inputs[0]
        elif _elementwise(op):
            found = 0.0
            for argnum, J, slope in zip(op.argnums, inputs, _slopes(op, tape, i), strict=True):
                found = found + _scaled(slope, J[_spread(np.shape(tape.arguments[i][argnum]), op.shape)])
        else:
            found = 0.0
            for J, local in zip(inputs, _local(parts, i, op, tape), strict=True):
                found = found + local @ J
        if affine[i]:
            parts._local["tangent", i] = found
        tangents.append(found)
    return tangents


def _affine(op):
    """Is the operation affine in its traced arguments?"""
    if op.name in selections.SELECTIONS:
        return False
    kind = primitives.named(op.name).kind
    return kind in ("linear", "signed linear") or (kind == "multilinear" and len(op.argnums) == 1)


def _spread(shape, out_shape):
    return np.broadcast_to(np.arange(int(np.prod(shape))).reshape(shape), out_shape).ravel()


def _elementwise(op):
    return primitives.named(op.name).kind == "elementwise" or op.name == "multiply"


def _rearranged(op, args, inputs, zero):
    """An operation that only moves entries, applied to the numbers of the entries; constants are number -1."""
    numbered = [-np.ones(np.shape(a), int) if isinstance(a, np.ndarray) else a for a in args]
    if op.name in ("concatenate_args", "array_from_args", "_array_from_scalar_or_array"):
        skip = 1 if op.name == "concatenate_args" else 2
        numbered = [a if k < skip or k in op.argnums else -np.ones(np.shape(a), int) for k, a in enumerate(args)]
    else:
        numbered = list(args)
    count = 0
    for argnum, J in zip(op.argnums, inputs, strict=True):
        numbered[argnum] = count + np.arange(J.shape[0]).reshape(np.shape(args[argnum]))
        count += J.shape[0]
    moved = numbered[0] if op.name == "astype" else primitives.named(op.name).raw(*numbered, **op.kwargs)
    stacked = _stack([*inputs, zero], zero.shape[1])
    if isinstance(moved, (list, tuple)):
        return [stacked[np.where(np.ravel(m) < 0, count, np.ravel(m))] for m in moved]
    flat = np.ravel(np.asarray(moved)).astype(int)
    return stacked[np.where(flat < 0, count, flat)]


def _slopes(op, tape, i):
    """First derivatives (flat) of an elementwise operation in each traced argument, all broadcast."""
    args = _broadcast(op, tape, i)
    if op.name == "multiply":
        return [np.ravel(args[1 - k]).astype(float) for k in op.argnums]
    call = primitives.named(op.name).call
    vjp = primitive_vjps[call](op.argnums, np.asarray(tape.values[i]), args, op.kwargs)
    return [np.ravel(g) for g in vjp(np.ones(op.shape))]


def _broadcast(op, tape, i):
    return [np.broadcast_to(np.asarray(a, float), op.shape) for a in tape.arguments[i]]


def _local(parts, i, op, tape):
    """(outputs, inputs) Jacobians of an operation in each traced argument."""
    fixed = _affine(op)
    if fixed and ("local", i) in parts._local:
        return parts._local["local", i]
    args, value, entry = tape.arguments[i], tape.values[i], primitives.named(op.name)
    vector = len(op.argnums) == 1 and np.ndim(args[op.argnums[0]]) == 1
    if op.name in ("sum", "mean") and np.ndim(value) == 0:
        count = np.size(args[0])
        found = [np.full((1, count), 1.0 if op.name == "sum" else 1.0 / count)]
    elif op.name == "dot" and vector and max(map(np.ndim, args)) <= 2:
        other = np.asarray(args[1 - op.argnums[0]], float)
        found = [np.atleast_2d(other if op.argnums[0] == 1 else other.T)]
    else:
        vjp = primitive_vjps[entry.call](op.argnums, value, args, op.kwargs)
        rows = [[] for _ in op.argnums]
        for k in range(int(np.prod(np.shape(value)))):
            unit = np.zeros(np.shape(value))
            unit.reshape(-1)[k] = 1.0
            for row, g in zip(rows, vjp(unit), strict=True):
                row.append(np.ravel(g))
        found = [np.array(row).reshape(len(row), -1) for row in rows]
    if parts.size > DENSE:
        found = [sp.csr_array(m) for m in found]
    if fixed:
        parts._local["local", i] = found
    return found


# ---------------------------------------------------------------- second derivatives: S^T K S


def _lagrangian_hessian(model, mu):
    N = model.parts.size
    total = np.zeros((N, N)) if N <= DENSE else sp.csr_array((N, N))
    for term in _curvature_terms(model, mu):
        part = term.left.T @ _weighted(term.weights, term.right)
        total = total + (part if term.left is term.right else part + part.T)
    return (total + total.T) / 2


@dataclass(frozen=True, eq=False)
class Term:
    """left^T C right, and its transpose where left is not right: one operation's share of a Hessian.

    left, right (k, N): derivatives of the operation's arguments; C = diag(weights) if weights is (k,), else weights.
    """

    left: Any
    weights: np.ndarray
    right: Any


def _weighted(weights, matrix):
    if weights.ndim == 1:
        return _scaled(weights, matrix)
    return (sp.csr_array(weights) if sp.issparse(matrix) else weights) @ matrix


def _curvature_terms(model, mu):
    """The `Term`s of the Hessian of Phi + sum_r mu_r s_j e_r in (x, u)."""
    parts, tape = model.parts, model.tape
    graph = parts.graph
    cotangents: dict[Any, Any] = {graph.program.output: np.ones(graph.shape)}
    weight = mu * parts.sides[parts.owner] * parts.coef
    for source in np.unique(parts.source[(parts.source > 0) & (weight != 0)]):
        which = (parts.source == source) & (weight != 0)
        shape = np.shape(tape.values[source])
        pull = np.bincount(parts.entry[which], weight[which], minlength=int(np.prod(shape))).reshape(shape)
        cotangents[int(source)] = cotangents.get(int(source), 0.0) + pull
    cut = dict(tape.branches)
    for i in parts.first:
        branch = tape.branches[i]
        cut[i] = selections.assemble(branch.shape, branch.shapes, [])
    every = range(1, len(graph.program.operations) + 1)
    with np.errstate(all="ignore"):
        adjoints = pullback(graph, Tape(tape.values, tape.arguments, cut, []), cotangents, watch=every)
    for i in every:
        op = graph.program.operations[i - 1]
        if i not in adjoints or op.name in selections.SELECTIONS or graph.degrees[i] <= 1:
            continue
        kind = primitives.named(op.name).kind
        if kind in ("linear", "signed linear") or not np.any(adjoints[i]):
            continue
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # autograd: "output seems independent of input"
            yield from _curvature(op, i, model, _finite(adjoints[i]))


def _curvature(op, i, model, adjoint):
    tape, tangents = model.tape, model.tangents
    if not _elementwise(op):
        yield _curvature_of_any(op, i, model, adjoint)
        return
    args, w = _broadcast(op, tape, i), np.ravel(adjoint)
    J = {
        k: tangents[p][_spread(np.shape(tape.arguments[i][k]), op.shape)]
        for k, p in zip(op.argnums, op.parents, strict=True)
    }
    for a in op.argnums:
        for b in op.argnums:
            if a > b:
                continue
            second = _finite(w * np.ravel(_second(op, args, a, b)))
            if not second.any():
                continue
            live = np.flatnonzero(second)
            left = J[a][live]
            yield Term(left, second[live], left if a == b else J[b][live])


def _finite(array):
    return np.where(np.isfinite(array), array, 0.0)


def _second(op, args, a, b):
    """Second derivative of an elementwise operation in its arguments a and b, at broadcast arguments."""
    if op.name == "multiply":
        return np.ones(op.shape) if a != b else np.zeros(op.shape)
    if op.name == "square":
        return np.full(op.shape, 2.0)
    if op.name == "power" and op.argnums == (0,):
        x, p = args
        return np.where((p == 0) | (p == 1), 0.0, p * (p - 1) * np.power(x, np.where((p == 0) | (p == 1), 2.0, p - 2)))
    call = primitives.named(op.name).call
    if op.name in ("exp", "sin", "cos"):
        return call(args[0]) if op.name == "exp" else -call(args[0])
    first = autograd.elementwise_grad(lambda *z: call(*z, **op.kwargs), a)
    return autograd.elementwise_grad(first, b)(*args)


def _curvature_of_any(op, i, model, adjoint):
    """Any other operation: the Hessian of <adjoint, operation> in its traced arguments, by autograd."""
    args, call = list(model.tape.arguments[i]), primitives.named(op.name).call
    shapes = [np.shape(args[k]) for k in op.argnums]
    ends = np.cumsum([int(np.prod(s)) for s in shapes])

    def weighted(flat):
        full = list(args)
        for k, end, shape in zip(op.argnums, ends, shapes, strict=True):
            full[k] = flat[end - int(np.prod(shape)) : end].reshape(shape)
        return autograd.numpy.sum(call(*full, **op.kwargs) * adjoint)

    at = np.concatenate([np.ravel(np.asarray(args[k], float)) for k in op.argnums])
    K = _finite(primitives.jacobian(lambda y: primitives.grad(weighted)(y) + 0.0 * y)(at))
    J = _stack([model.tangents[p] for p in op.parents], model.parts.size)
    return Term(J, (K + K.T) / 2, J)


def jacobian_of(graph: Any, tape: Tape) -> NDArray[np.float64]:
    """(p, n): derivative of the flat output under the branches of the tape, dense or sparse."""
    none = np.zeros(0)
    parts = Composite(graph, none, none.astype(int), none.astype(int), none.astype(int), none, none, {})
    if graph.output is None:
        return np.zeros((int(np.prod(graph.shape)), graph.size))
    with np.errstate(all="ignore"):
        return _tangents(parts, tape)[graph.program.output]


def value_at(graph: Graph, x: ArrayLike) -> Any:
    """f(x) of a scalar graph, as a float; nan outside its domain."""
    with np.errstate(all="ignore"):
        return float(np.ravel(evaluate(graph, x))[0])
