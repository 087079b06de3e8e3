"""A network at one point, node by node: values, local derivatives, adjoints; and products with its Hessian.

With D_{u<-v} the Jacobian of node u in its parent v, S the total derivatives and delta = S^T grad L the adjoints,

    S_{u,w}  = 1_{u=w} + sum_{v in Pa(u)} D_{u<-v} S_{v,w}                            (`tangents`, forward)
    H_{v,w}  = sum_{u in Ch(v)} D_{u<-v}^T H_{u,w} + sum_y K_{v,y} S_{y,w}            (`curvature`, backward)
    K_{v,y}  = d2 L / df_v df_y + sum_{u in Ch(v) & Ch(y)} sum_i delta_{u,i} d2 g_{u,i} / df_v df_y

where the first term of K makes the Gauss-Newton part and the second the tensor part. Both passes carry any number of
columns at once.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from .local import Local, local
from .network import Network

PARTS = ("hessian", "gauss_newton", "tensor")


@dataclass(frozen=True, eq=False)
class Step:
    """One node or loss: its name, the names of its parents, its derivatives."""

    name: str
    parents: tuple[str, ...]
    local: Local
    is_loss: bool


@dataclass(frozen=True, eq=False)
class Linearization:
    """network; steps: the nodes that reach a loss, parents first, then the losses; adjoints: dL/d(value) by name,
    losses included; uses[name]: (step number, argument) of every use of an array; leaves: name -> "input" or
    "parameter", in order of declaration; numbers: name -> step number of every node and loss in steps.
    """

    network: Network
    steps: tuple[Step, ...]
    adjoints: Mapping[str, np.ndarray]
    uses: Mapping[str, tuple]
    leaves: Mapping[str, str]
    numbers: Mapping[str, int]

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
    steps, uses = [], {}
    for number, (name, fun, parents, is_loss) in enumerate(calls):
        values = tuple(network.value(parent) for parent in parents)
        output = None if is_loss else network.value(name)
        steps.append(Step(name, parents, local(fun, values, output, pieces.get(name)), is_loss))
        for argument, parent in enumerate(parents):
            uses.setdefault(parent, []).append((number, argument))
    adjoints: dict[str, np.ndarray] = {step.name: np.ones(()) for step in steps if step.is_loss}
    for step in reversed(steps):
        c = adjoints[step.name][None]
        for i, parent in enumerate(step.parents):
            pulled = step.local.pull(i, c)[0]
            adjoints[parent] = pulled if parent not in adjoints else adjoints[parent] + pulled
    leaves = {name: kind for name, kind in nodes.data("kind") if kind != "node"}
    numbers = {step.name: k for k, step in enumerate(steps)}
    return Linearization(network, tuple(steps), adjoints, uses, leaves, numbers)


def tangents(lin: Linearization, seeds) -> dict[str, np.ndarray]:
    """Forward pass: name -> (R, *shape) for the names that move, from the perturbations `seeds` of some of them.

    Seeds may have different R: a shorter array stands for one padded with zero columns at its end.
    """
    moving = dict(seeds)
    for step in lin.steps:
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
    for step in reversed(lin.steps):
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


def _ancestry(lin, wanted):
    """wanted, and every node on a way from one of them to a loss."""
    above = set(wanted)
    for step in lin.steps:
        if not above.isdisjoint(step.parents):
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
