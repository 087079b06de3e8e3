"""A network at one point, node by node: values, local derivatives, adjoints; and products with its Hessian.

With D_{u<-v} the Jacobian of node u in its parent v, S the total derivatives and delta = S^T grad L the adjoints,

    S_{u,w}  = 1_{u=w} + sum_{v in Pa(u)} D_{u<-v} S_{v,w}                            (`tangents`, forward)
    H_{v,w}  = sum_{u in Ch(v)} D_{u<-v}^T H_{u,w} + sum_y K_{v,y} S_{y,w}            (`curvature`, backward)
    K_{v,y}  = d2 L / df_v df_y + sum_{u in Ch(v) & Ch(y)} sum_i delta_{u,i} d2 g_{u,i} / df_v df_y

where the first term of K makes the Gauss-Newton part and the second the tensor part. Both passes carry any number of
columns at once.

Many small equal steps in a row, z_l = g(z_{l-1}, leaves of its own), are one `Run`: their derivatives are formed
together, and the recursions along them solved as banded triangular systems.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from scipy.linalg import lapack

from .local import Local, broadcasts, local
from .network import Network

PARTS = ("hessian", "gauss_newton", "tensor")
SHORTEST = 8  # steps that make a run
NARROW = 16  # entries of the state of a run, a sample: with more, each step is work enough by itself
FEW = 4  # columns carried through a run as one array; with more, step by step stays in cache


@dataclass(frozen=True, eq=False)
class Step:
    """One node or loss: its name, the names of its parents, its derivatives `local`, formed when first asked for."""

    name: str
    parents: tuple[str, ...]
    is_loss: bool
    fun: Callable
    pieces: Any
    network: Network
    still: frozenset[int] = frozenset()  # the arguments that nothing moves

    @cached_property
    def local(self) -> Local:
        values = tuple(self.network.value(parent) for parent in self.parents)
        output = None if self.is_loss else self.network.value(self.name)
        return local(self.fun, values, output, self.pieces, self.still)


@dataclass(frozen=True, eq=False)
class Run:
    """Steps start, ..., stop - 1, m of them, of one function; each reads the one before as its argument `chain`, and
    leaves as the others.

    names: of the steps; before: what the first one reads as `chain`; leaves: argument -> the leaf of each step; local:
    the derivatives of all steps at once, arrays (R, m, ...); links (m, n, d, d): dz_l / dz_{l-1} of n samples apart.
    """

    start: int
    stop: int
    chain: int
    names: tuple[str, ...]
    before: str
    leaves: Mapping[int, tuple[str, ...]]
    local: Local
    links: np.ndarray

    @cached_property
    def bands(self):
        """I - (links below the diagonal) of each sample, as LAPACK stores unit lower triangles with a band."""
        m, n, d, _ = self.links.shape
        found = np.zeros((n, m, d, 2 * d))
        rows, columns = np.indices((d, d))
        found[:, :-1, columns, d + rows - columns] = -self.links[1:].swapaxes(0, 1)
        return found.reshape(n, m * d, 2 * d)

    def along(self, given, transposed=False):
        """dz with dz_l = links_l dz_{l-1} + given_l, dz_0 = 0; or c with c_l = links_{l+1}^T c_{l+1} + given_l.
        given (R, m, *shape).
        """
        m, n, d, _ = self.links.shape
        columns = given.reshape(len(given), m, n, d).transpose(2, 1, 3, 0).reshape(n, m * d, len(given))
        found = np.empty_like(columns)
        for k, band in enumerate(self.bands):
            found[k] = lapack.dtbtrs(band.T, columns[k], uplo="L", trans="T" if transposed else "N", diag="U")[0]
        return found.reshape(n, m, d, -1).transpose(3, 1, 0, 2).reshape(given.shape)

    def gathered(self, known, names):
        """The arrays (R, ...) of the names as one (R, m, ...), zero where absent; None if all are absent."""
        found = [known.get(name) for name in names]
        sample = next((array for array in found if array is not None), None)
        if sample is None:
            return None
        nothing = np.zeros(sample.shape)
        return _stacked([nothing if array is None else array for array in found]).swapaxes(0, 1)

    def adjoints(self, lin):
        """Those of the nodes, (m, *shape)."""
        return _stacked([lin.adjoints[name] for name in self.names])


@dataclass(frozen=True, eq=False)
class Linearization:
    """network; steps: the nodes that reach a loss, parents first, then the losses; adjoints: dL/d(value) by name,
    losses included; uses[name]: (step number, argument) of every use of an array; leaves: name -> "input" or
    "parameter", in order of declaration; numbers: name -> step number of every node and loss in steps; runs, in order.
    """

    network: Network
    steps: tuple[Step, ...]
    adjoints: Mapping[str, np.ndarray]
    uses: Mapping[str, tuple]
    leaves: Mapping[str, str]
    numbers: Mapping[str, int]
    runs: tuple[Run, ...] = ()

    @cached_property
    def plan(self):
        """The steps in order, those of a run as one."""
        found, start = [], 0
        for run in self.runs:
            found += [*self.steps[start : run.start], run]
            start = run.stop
        return (*found, *self.steps[start:])

    @cached_property
    def _run_of(self):
        return {name: run for run in self.runs for name in run.names}

    def curved(self, step):
        """The curved pairs of a step, its derivatives not formed where it belongs to a run."""
        run = self._run_of.get(step.name)
        return (step if run is None else run).local.curved

    def adjoint(self, name):
        """dL/d(value of name), zero where no loss depends on it."""
        found = self.adjoints.get(name)
        return np.zeros(self.network.value(name).shape) if found is None else found


def linearize(network, pieces=None) -> Linearization:
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
    lin = Linearization(network, tuple(steps), adjoints, uses, leaves, numbers, _runs(network, steps, leaves))
    for step in reversed(lin.plan):
        if isinstance(step, Run):
            _adjoints_of(step, adjoints)
            continue
        c = adjoints[step.name][None]
        for i, parent in enumerate(step.parents):
            pulled = step.local.pull(i, c)[0]
            adjoints[parent] = pulled if parent not in adjoints else adjoints[parent] + pulled
    return lin


def _runs(network, steps, leaves):
    """The runs among the steps."""
    found, start = [], 0
    for k in range(1, len(steps) + 1):
        if k < len(steps) and steps[k].fun is steps[k - 1].fun and steps[k - 1].name in steps[k].parents:
            continue
        if k - start >= SHORTEST and broadcasts(steps[start].fun):
            run = _run(network, steps, start, k, leaves)
            found += [run] if run else []
        start = k
    return tuple(found)


def _run(network, steps, start, stop, leaves):
    """The run of steps[start:stop], None if it is none or its state is not narrow."""
    members = steps[start:stop]
    chain = members[1].parents.index(members[0].name)
    own = [i for i in range(len(members[1].parents)) if i != chain]
    names = tuple(step.name for step in members)
    if any(step.pieces is not None for step in members) or len(members[0].parents) != len(own) + 1:
        return None
    if any(step.parents[chain] != name for step, name in zip(members[1:], names[:-1], strict=True)):
        return None
    apart = {i: tuple(step.parents[i] for step in members) for i in own}
    every = {name for each in apart.values() for name in each}
    if len(every) < len(own) * len(members) or not every <= leaves.keys() or members[0].parents[chain] in every:
        return None
    value = network.value
    arguments = [[value(step.parents[i]) for step in members] for i in range(len(own) + 1)]
    if any(len({array.shape for array in each}) > 1 for each in arguments):
        return None
    output = [*arguments[chain][1:], value(names[-1])]
    shape = output[0].shape
    if output[-1].shape != shape:
        return None
    together = local(members[0].fun, tuple(_stacked(each) for each in arguments), _stacked(output))
    n = shape[0] if shape and chain in together.samplewise else 1
    d = output[0].size // n
    if d > NARROW:
        return None
    seed = np.broadcast_to(np.eye(d)[:, None, None], (d, len(members), n, d)).reshape(d, len(members), *shape)
    links = together.push(chain, seed).reshape(d, len(members), n, d).transpose(1, 2, 3, 0)
    return Run(start, stop, chain, names, members[0].parents[chain], apart, together, links)


def _stacked(arrays):
    return np.concatenate(arrays, axis=None).reshape(len(arrays), *arrays[0].shape)


def _adjoints_of(run, adjoints):
    given = {name: adjoints[name][None] for name in run.names if name in adjoints}
    c = run.along(run.gathered(given, run.names), transposed=True)
    adjoints.update(zip(run.names, c[0], strict=True))
    rows: dict[str, np.ndarray] = {}
    _handed_down(run, c, rows)
    for name, row in rows.items():
        adjoints[name] = row[0] if name not in adjoints else adjoints[name] + row[0]


def _handed_down(run, c, rows, wanted=None, bent=None):
    """Add to rows what the leaves of the run, and what stands before it, get from c (R, m, *shape), its own rows; and
    bent, argument -> (R, m, ...).
    """
    bent = bent or {}
    if wanted is None or run.before in wanted:
        first = np.zeros_like(c)
        first[:, 0] = c[:, 0]
        rows[run.before] = joined(rows.get(run.before), run.local.pull(run.chain, first)[:, 0])
    for i, names in run.leaves.items():
        if wanted is not None and wanted.isdisjoint(names):
            continue
        whole = run.local.pull(i, c) + bent.get(i, 0.0)
        for name, row in zip(names, whole.swapaxes(0, 1), strict=True):
            if wanted is None or name in wanted:
                rows[name] = row if name not in rows else rows[name] + row


def tangents(lin: Linearization, seeds) -> dict[str, np.ndarray]:
    """Forward pass: name -> (R, *shape) for the names that move, from the perturbations `seeds` of some of them.

    Seeds may have different R: a shorter array stands for one padded with zero columns at its end.
    """
    moving = dict(seeds)
    for step in _plan(lin, moving.values()):
        if isinstance(step, Run):
            _tangents_of(step, moving)
            continue
        if step.is_loss:
            continue
        for i, parent in enumerate(step.parents):
            if parent in moving:
                moving[step.name] = joined(moving.get(step.name), step.local.push(i, moving[parent]))
    return moving


def curvature(lin: Linearization, moving, wanted, part="hessian", limits=None) -> dict[str, np.ndarray]:
    """Backward pass: name -> (R, *shape), the rows H_{name, .} of the columns whose tangents are `moving`.

    wanted: the names whose rows are asked for; a name that is absent from the result has zero rows. limits: name ->
    how many of the leading columns its rows, and all above it, are wanted for.
    """
    above, wanted = _ancestry(lin, wanted), set(wanted)
    rows: dict[str, np.ndarray] = {}
    for step in reversed(_plan(lin, moving.values()) if part == "hessian" and limits is None else lin.steps):
        if isinstance(step, Run):
            _curvature_of(lin, step, moving, rows, above, wanted)
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


def _tangents_of(run, moving):
    given = run.gathered(moving, run.names)
    for i, names in run.leaves.items():
        t = run.gathered(moving, names)
        if t is not None:
            pushed = run.local.push(i, t)
            given = pushed if given is None else given + pushed
    if run.before in moving:
        t = moving[run.before]
        whole = np.zeros((len(t), len(run.names), *t.shape[1:]))
        whole[:, 0] = t
        pushed = run.local.push(run.chain, whole)
        given = pushed if given is None else given + pushed
    if given is not None:
        moving.update(zip(run.names, run.along(given).swapaxes(0, 1), strict=True))


def _curvature_of(lin, run, moving, rows, above, wanted):
    read = {run.chain: (run.before, *run.names[:-1]), **run.leaves}
    t = {i: run.gathered(moving, names) for i, names in read.items()}
    delta = run.adjoints(lin)
    c, bent = run.gathered(rows, run.names), {}
    for i, j in run.local.curved:
        if t[j] is not None:
            found = run.local.second(i, j, delta, t[j])
            bent[i] = found if i not in bent else bent[i] + found
    down = bent.pop(run.chain, None)
    if down is not None:
        if run.before in above:
            rows[run.before] = joined(rows.get(run.before), down[:, 0])
        down = np.concatenate([down[:, 1:], np.zeros_like(down[:, :1])], axis=1)
        c = down if c is None else c + down
    if c is None and bent:
        c = np.zeros((len(next(iter(bent.values()))), *delta.shape))
    if c is not None:
        c = run.along(c, transposed=True)
        _handed_down(run, c, rows, above, bent)
        for name in rows.keys() & set(run.names):
            del rows[name]
        if not wanted.isdisjoint(run.names):
            rows.update({name: row for name, row in zip(run.names, c.swapaxes(0, 1), strict=True) if name in wanted})


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


def joined(total, part):
    """total + part, the shorter one padded with zero columns; total may be None. Neither is changed."""
    if total is None:
        return part
    if len(total) == len(part):
        return total + part
    longer, shorter = (total, part) if len(total) > len(part) else (part, total)
    whole = np.array(longer)
    whole[: len(shorter)] += shorter
    return whole
