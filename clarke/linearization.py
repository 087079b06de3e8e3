"""A network at one point, node by node: values, local derivatives, adjoints; and products with its Hessian.

With D_{u<-v} the Jacobian of node u in its parent v, S the total derivatives and delta = S^T grad L the adjoints,

    S_{u,w}  = 1_{u=w} + sum_{v in Pa(u)} D_{u<-v} S_{v,w}                            (`tangents`, forward)
    H_{v,w}  = sum_{u in Ch(v)} D_{u<-v}^T H_{u,w} + sum_y K_{v,y} S_{y,w}            (`curvature`, backward)
    K_{v,y}  = d2 L / df_v df_y + sum_{u in Ch(v) & Ch(y)} sum_i delta_{u,i} d2 g_{u,i} / df_v df_y

where the first term of K makes the Gauss-Newton part and the second the tensor part. Both passes carry any number of
columns at once.

Many small equal steps in a row are carried as one (`runs`).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .local import Local, local
from .network import Network
from .runs import Run, adjoints_along, curvature_along, joined, runs_among, tangents_along

if TYPE_CHECKING:
    from .selections import Branch

PARTS = ("hessian", "gauss_newton", "tensor")
FEW = 4  # columns carried through a run as one array; with more, step by step stays in cache


@dataclass(frozen=True, eq=False)
class Step:
    """One node or loss: its name, the names of its parents, its derivatives `local`, formed when first asked for."""

    name: str
    parents: tuple[str, ...]
    is_loss: bool
    fun: Callable[..., Any]
    pieces: Any
    network: Network
    still: frozenset[int] = frozenset()  # the arguments that nothing moves

    @cached_property
    def local(self) -> Local:
        values = tuple(self.network.value(parent) for parent in self.parents)
        output = None if self.is_loss else self.network.value(self.name)
        return local(self.fun, values, output, self.pieces, self.still)


@dataclass(frozen=True, eq=False)
class Linearization:
    """network; steps: the nodes that reach a loss, parents first, then the losses; adjoints: dL/d(value) by name,
    losses included; uses[name]: (step number, argument) of every use of an array; leaves: name -> "input" or
    "parameter", in order of declaration; numbers: name -> step number of every node and loss in steps; runs, in order.
    """

    network: Network
    steps: tuple[Step, ...]
    adjoints: Mapping[str, np.ndarray]
    uses: Mapping[str, tuple[Any, ...]]
    leaves: Mapping[str, str]
    numbers: Mapping[str, int]
    runs: tuple[Run, ...] = ()

    @cached_property
    def plan(self) -> tuple[Any, ...]:
        """The steps in order, those of a run as one."""
        found, start = [], 0
        for run in self.runs:
            found += [*self.steps[start : run.start], run]
            start = run.stop
        return (*found, *self.steps[start:])

    @cached_property
    def _run_of(self):
        return {name: run for run in self.runs for name in run.names}

    def curved(self, step: Step) -> Any:
        """The curved pairs of a step, its derivatives not formed where it belongs to a run."""
        run = self._run_of.get(step.name)
        return (step if run is None else run).local.curved

    def adjoint(self, name: str) -> NDArray[np.float64]:
        """dL/d(value of name), zero where no loss depends on it."""
        found = self.adjoints.get(name)
        return np.zeros(self.network.value(name).shape) if found is None else found


class Layout:
    """How the arrays of some names lie one after the other in a flat vector (n,), each in C order."""

    def __init__(self, network: Network, names: Any) -> None:
        self.names, shapes = names, [network.value(name).shape for name in names]
        self.size: int = 0
        self.runs: list[Any] = []  # names of one shape in a row: (names, their entries, shape)
        start = 0
        for k in range(1, len(names) + 1):
            if k == len(names) or shapes[k] != shapes[start]:
                length = int(np.prod(shapes[start])) * (k - start)
                self.runs.append((names[start:k], slice(self.size, self.size + length), shapes[start]))
                start, self.size = k, self.size + length

    @cached_property
    def spans(self) -> dict[str, slice]:
        """name -> its entries, a slice."""
        found = {}
        for names, span, shape in self.runs:
            size = int(np.prod(shape))
            for k, name in enumerate(names):
                found[name] = slice(span.start + k * size, span.start + (k + 1) * size)
        return found

    @cached_property
    def starts(self) -> np.ndarray:
        """Where each array begins."""
        return np.array([span.start for span in self.spans.values()], dtype=int)

    def split(self, V: np.ndarray) -> dict[str, NDArray[np.float64]]:
        """name -> its array (R, *shape), of flat vectors V (R, n)."""
        found = {}
        for names, span, shape in self.runs:
            found.update(zip(names, V[:, span].reshape(len(V), len(names), *shape).swapaxes(0, 1), strict=True))
        return found

    def join(self, arrays: Mapping[str, np.ndarray], count: int = 1) -> NDArray[np.float64]:
        """The flat vectors (count, n) of the arrays by name, of count directions each; zero where one is absent."""
        found = np.zeros((count, self.size))
        for names, span, shape in self.runs:
            nothing = np.zeros((count, int(np.prod(shape))))
            parts = [arrays[name].reshape(count, -1) if name in arrays else nothing for name in names]
            np.concatenate(parts, axis=1, out=found[:, span])
        return found


def linearize(network: Network, pieces: "Mapping[str, tuple[Branch, ...]] | None" = None) -> Linearization:
    """The derivatives of every node that reaches a loss. pieces: name -> the Branch of each of its piecewise
    operations; where a name is missing no guard of it ties.
    """
    pieces = pieces or {}
    nodes, losses = network.dag.nodes, network.losses
    needed = {parent for _, _, parents in losses for parent in parents}
    declared = [(name, data["fun"], data["parents"]) for name, data in nodes.data() if data["kind"] == "node"]
    for name, _, parents in reversed(declared):  # parents were declared first
        if name in needed:
            needed.update(parents)
    calls = [(*call, False) for call in declared if call[0] in needed]
    calls += [(label, fun, parents, True) for label, fun, parents in losses]
    steps, uses, still = [], {}, set()
    for number, (name, fun, parents, is_loss) in enumerate(calls):
        fixed = frozenset(i for i, parent in enumerate(parents) if parent in still)
        steps.append(Step(name, parents, is_loss, fun, pieces.get(name), network, fixed))
        if pieces and (len(fixed) == len(parents) or steps[-1].local.constant):
            still.add(name)  # the recording of the network, whose pieces these are, has no part of it
        for argument, parent in enumerate(parents):
            uses.setdefault(parent, []).append((number, argument))
    leaves = {name: kind for name, kind in nodes.data("kind") if kind != "node"}
    numbers = {step.name: k for k, step in enumerate(steps)}
    adjoints: dict[str, np.ndarray] = {step.name: np.ones(()) for step in steps if step.is_loss}
    lin = Linearization(network, tuple(steps), adjoints, uses, leaves, numbers, runs_among(network, steps, leaves))
    for step in reversed(lin.plan):
        if isinstance(step, Run):
            adjoints_along(step, adjoints)
            continue
        c = adjoints[step.name][None]
        for i, parent in enumerate(step.parents):
            pulled = step.local.pull(i, c)[0]
            adjoints[parent] = pulled if parent not in adjoints else adjoints[parent] + pulled
    return lin


def tangents(lin: Linearization, seeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Forward pass: name -> (R, *shape) for the names that move, from the perturbations `seeds` of some of them.

    Seeds may have different R: a shorter array stands for one padded with zero columns at its end.
    """
    moving = dict(seeds)
    for step in _plan(lin, moving.values()):
        if isinstance(step, Run):
            tangents_along(step, moving)
            continue
        if step.is_loss:
            continue
        for i, parent in enumerate(step.parents):
            if parent in moving:
                moving[step.name] = joined(moving.get(step.name), step.local.push(i, moving[parent]))
    return moving


def curvature(
    lin: Linearization,
    moving: Mapping[str, np.ndarray],
    wanted: Any,
    part: str = "hessian",
    limits: Mapping[str, int] | None = None,
) -> dict[str, np.ndarray]:
    """Backward pass: name -> (R, *shape), the rows H_{name, .} of the columns whose tangents are `moving`.

    wanted: the names whose rows are asked for; a name that is absent from the result has zero rows. limits: name ->
    how many of the leading columns its rows, and all above it, are wanted for.
    """
    above, wanted = _ancestry(lin, wanted), set(wanted)
    rows: dict[str, np.ndarray] = {}
    for step in reversed(_plan(lin, moving.values()) if part == "hessian" and limits is None else lin.steps):
        if isinstance(step, Run):
            curvature_along(lin, step, moving, rows, above, wanted)
            continue
        parents = [(i, p) for i, p in enumerate(step.parents) if p in above]
        if not parents:
            continue
        if part != ("tensor" if step.is_loss else "gauss_newton"):
            for i, j in step.local.curved:
                target, source = step.parents[i], step.parents[j]
                if target in above and source in moving:
                    t = moving[source] if limits is None else moving[source][: limits[target]]
                    bent = step.local.second(i, j, lin.adjoints[step.name], t)
                    rows[target] = joined(rows.get(target), bent)
        if step.name in rows:
            for i, parent in parents:
                c = rows[step.name] if limits is None else rows[step.name][: limits[parent]]
                rows[parent] = joined(rows.get(parent), step.local.pull(i, c))
            if step.name not in wanted:
                del rows[step.name]
    return rows


def _plan(lin, arrays):
    """The steps, those of runs as one where all arrays have the same few columns."""
    columns = {len(array) for array in arrays} if lin.runs else ()
    return lin.plan if len(columns) == 1 and max(columns) <= FEW else lin.steps


def hessian_product(lin: Linearization, layout: Layout, V: np.ndarray, part: str = "hessian") -> np.ndarray:
    """(R, n): H v for the rows v of V (R, n), flat over the names of the layout."""
    rows = curvature(lin, tangents(lin, layout.split(V)), layout.names, part)
    return layout.join(rows, len(V))


def _ancestry(lin, wanted):
    """wanted, and every node on a way from one of them to a loss; of a run perhaps more of its nodes."""
    above = set(wanted)
    for step in lin.plan:
        if isinstance(step, Run):
            if step.before in above or not all(
                above.isdisjoint(names) for names in (step.names, *step.leaves.values())
            ):
                above.update(step.names)
        elif not above.isdisjoint(step.parents):
            above.add(step.name)
    return above
