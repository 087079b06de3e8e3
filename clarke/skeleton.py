"""The smooth skeleton of f near x: every tied output cut loose as a variable of its own.

Near x, f(x) = Phi(x, u), where u (the slots) are the outputs of the tied entries and Phi is smooth. A pattern s sets
each slot to one of the smooth functions e(x, earlier slots) that meet there. So one Jacobian of Phi and of the e's
gives the first derivatives under every pattern by linear algebra alone,

    U_s = du/dx,   D_s f = Phi_x + Phi_u U_s,

and one Hessian of the Lagrangian Phi + sum_i lambda_i e_i, lambda the adjoint of the slots, the second ones:

    H_s = T^T (Phi'' + sum_i lambda_i e_i'') T,   T = [I; U_s].

This is H = S^T K S with the kinks as nodes.
"""

from dataclasses import dataclass, field

import numpy as np

from .graph import Tape, hessian, injected_hessian, pullback
from .kinks import Germ
from .primitives import NotPiecewiseSmooth

ROUNDING = 1e-12  # relative: what is left of a sum of terms below this is rounding (sums here have hundreds of terms)


@dataclass(frozen=True, eq=False)
class Skeleton:
    """germ: f near x. slots[i]: (flat outputs, slot numbers) of the tied entries of operation i; size: their number."""

    germ: Germ
    slots: dict
    size: int
    _rows: dict = field(default_factory=dict, repr=False)
    latest: dict = field(default_factory=dict, repr=False)  # what was last computed for one prefix of letters

    def row(self, position, entry):
        """Gradient (n + size,) in (x, u) of one flat entry of the value at this position."""
        key = position, int(entry)
        if key not in self._rows:
            shape = np.shape(self.germ.tape.values[position])
            unit = np.zeros(shape)
            unit.reshape(-1)[entry] = 1.0
            self._rows[key] = self._gradient(position, unit)
        return self._rows[key]

    def _gradient(self, position, cotangent):
        tape = self.germ.tape
        cut = Tape(tape.values, tape.arguments, self.germ.decided, [])
        with np.errstate(all="ignore"):
            kept = pullback(self.germ.graph, cut, {position: cotangent}, watch=self.slots)
        n = self.germ.x.size
        row = np.zeros(n + self.size)
        row[:n] = kept[0]
        for i, g in kept.items():
            if i:
                outs, numbers = self.slots[i]
                row[n + numbers] = np.ravel(g)[outs]
        if not np.all(np.isfinite(row)):
            source = self.germ.graph.program.operations[position - 1].source if position else "x"
            raise NotPiecewiseSmooth(
                f"a derivative leading into {source} is not finite at x, so no finite set of smooth pieces describes f"
            )
        return row

    def rows(self, position, terms):
        """(k, n + size): gradients in (x, u) of sums of terms (argument, entries, coefs) of one operation."""
        op = self.germ.graph.program.operations[position - 1]
        total = np.zeros((len(terms[0][1]), self.germ.x.size + self.size))
        for argument, entries, coefs in terms:
            if argument in op.argnums:
                parent = op.parents[op.argnums.index(argument)]
                total += coefs[:, None] * np.array([self.row(parent, e) for e in entries]).reshape(total.shape)
        return total

    def output_rows(self):
        """(p, n + size): the Jacobian of Phi, one row an output of f."""
        graph = self.germ.graph
        count = int(np.prod(graph.shape))
        if graph.output is None:
            return np.zeros((count, self.germ.x.size + self.size))
        rows = [self.row(graph.program.output, e) for e in range(count)]
        return np.array(rows).reshape(count, self.germ.x.size + self.size)

    def under(self, rows, slots):
        """(k, n): those gradients in x once du/dx = slots (size, n)."""
        n = self.germ.x.size
        return rows[:, :n] + rows[:, n:] @ slots

    def cleaned(self, rows, slots):
        """`under`, with exact zeros where what is left is rounding of its own terms."""
        n = self.germ.x.size
        values = self.under(rows, slots)
        size = np.abs(rows[:, :n]).max(axis=1, initial=0) + np.abs(rows[:, n:]) @ np.abs(slots).max(axis=1, initial=0)
        values[np.abs(values).max(axis=1, initial=0) <= ROUNDING * size] = 0.0
        return values

    def advance(self, stage, signs, slots):
        """slots with the outputs of this stage set by its signs: a new array."""
        after = slots.copy()
        outs, numbers = self.slots[stage.position]
        place = dict(zip(outs.tolist(), numbers.tolist(), strict=True))
        for out, argument, entries, coefs in stage.ties.pieces(signs):
            chosen = self.under(self.rows(stage.position, ((argument, entries, coefs),)), slots)
            after[[place[o] for o in out.tolist()]] = chosen
        return after

    def slots_under(self, signs):
        """du/dx (size, n) under a whole pattern."""
        slots = np.zeros((self.size, self.germ.x.size))
        for stage in self.germ.stages:
            slots = self.advance(stage, signs[stage.letters], slots)
        return slots


def skeleton(germ) -> Skeleton:
    """Number the tied outputs of the germ in order of execution."""
    slots, size = {}, 0
    for stage in germ.stages:
        outs = np.concatenate([out for out, *_ in stage.ties.pieces(np.zeros(stage.ties.letters))])
        known = slots.get(stage.position, (np.empty(0, int), np.empty(0, int)))
        numbers = np.arange(size, size + len(outs))
        slots[stage.position] = (np.concatenate([known[0], outs]), np.concatenate([known[1], numbers]))
        size += len(outs)
    return Skeleton(germ, slots, size)


# ---------------------------------------------------------------- second derivatives


def hessians_by_pattern(skeleton, patterns, cotangent):
    """(m, n, n): Hessians of <cotangent, f> under each row of signs, one differentiation a pattern (the slow route)."""
    germ = skeleton.germ
    top = {germ.graph.program.output: cotangent}
    return np.array([hessian(germ.graph, germ.x, germ.branches(signs), top) for signs in patterns])


def hessians_by_skeleton(skeleton, patterns, cotangent):
    """(m, n, n): the same Hessians by the Lagrangian of the skeleton, a few differentiations for all patterns."""
    germ, n = skeleton.germ, skeleton.germ.x.size
    graph = germ.graph
    outputs = np.zeros(skeleton.size)
    for i, (outs, numbers) in skeleton.slots.items():
        outputs[numbers] = np.ravel(germ.tape.values[i])[outs]

    def second(cotangents):
        return injected_hessian(graph, germ.x, germ.decided, cotangents, skeleton.slots, outputs)

    base = second({graph.program.output: cotangent})
    top = skeleton._gradient(graph.program.output, cotangent)
    curved = {key: second({key[0]: _unit(germ, key)}) for key in curved_entries(skeleton)}
    found = []
    for signs in patterns:
        slots = skeleton.slots_under(signs)
        adjoint, total = top.copy(), base.copy()
        for stage in reversed(germ.stages):
            op = graph.program.operations[stage.position - 1]
            outs, numbers = skeleton.slots[stage.position]
            place = dict(zip(outs.tolist(), numbers.tolist(), strict=True))
            for out, argument, entries, coefs in stage.ties.pieces(signs[stage.letters]):
                weight = adjoint[[n + place[o] for o in out.tolist()]] * coefs
                rows = skeleton.rows(stage.position, ((argument, entries, np.ones(len(entries))),))
                adjoint = adjoint + weight @ rows
                if argument in op.argnums:
                    parent = op.parents[op.argnums.index(argument)]
                    for entry, w in zip(entries, weight, strict=True):
                        if (parent, int(entry)) in curved:
                            total = total + w * curved[parent, int(entry)]
        tangent = np.concatenate([np.eye(n), slots])
        H = tangent.T @ total @ tangent
        found.append((H + H.T) / 2)
    return np.array(found)


def _unit(germ, key):
    unit = np.zeros(np.shape(germ.tape.values[key[0]]))
    unit.reshape(-1)[key[1]] = 1.0
    return unit


def curved_entries(skeleton):
    """(position, flat entry) of the candidates of tied outputs that are not known to be affine in (x, u)."""
    germ = skeleton.germ
    graph, found = germ.graph, []
    for stage in germ.stages:
        op = graph.program.operations[stage.position - 1]
        for signs in (np.ones(stage.ties.letters), -np.ones(stage.ties.letters)):
            for _, argument, entries, _ in stage.ties.pieces(signs):
                if argument in op.argnums:
                    parent = op.parents[op.argnums.index(argument)]
                    members = getattr(stage.ties, "members", entries)
                    found += [(parent, int(e)) for e in members if graph.degrees[parent] > 1]
    return list(dict.fromkeys(found))
