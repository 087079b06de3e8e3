"""The smooth skeleton of f near x: every tied output cut loose as a variable of its own.

Near x, f(x) = Phi(x, u), where u (the slots) are the outputs of the tied entries and Phi is smooth. A pattern s sets
each slot to one of the smooth functions e(x, earlier slots) that meet there. So one Jacobian of Phi and of the e's
gives the first derivatives under every pattern by linear algebra alone,

    U_s = du/dx,   D_s f = Phi_x + Phi_u U_s,

and one Hessian of the Lagrangian Phi + sum_i lambda_i e_i, lambda the adjoint of the slots, the second ones:

    H_s = T^T (Phi'' + sum_i lambda_i e_i'') T,   T = [I; U_s].

This is H = S^T K S with the kinks as nodes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from . import selections
from .graph import Tape, hessian, injected_hessian, pullback, pushforward
from .kinks import Germ, Stage
from .primitives import NotPiecewiseSmooth

ROUNDING = 1e-12  # relative: what is left of a sum of terms below this is rounding (sums here have hundreds of terms)


class Functionals(NamedTuple):
    """k gradients in (x, u): x (k, n), and u (k, c), the derivatives in the slots of these numbers (c,) only."""

    x: np.ndarray
    numbers: np.ndarray
    u: np.ndarray

    def under(self, slots: np.ndarray) -> NDArray[np.float64]:
        """(..., k, n): the gradients in x once du/dx = slots (..., size, n)."""
        if not self.numbers.size:
            return np.broadcast_to(self.x, (*slots.shape[:-2], *self.x.shape)).copy()
        return self.x + self.u @ slots[..., self.numbers, :]

    def cleaned(self, slots: np.ndarray) -> NDArray[np.float64]:
        """`under`, with exact zeros where what is left is rounding of its own terms."""
        values = self.under(slots)
        largest = np.abs(slots[..., self.numbers, :]).max(axis=-1, initial=0)
        size = np.abs(self.x).max(axis=1, initial=0) + largest @ np.abs(self.u).T
        values[np.abs(values).max(axis=-1, initial=0) <= ROUNDING * size] = 0.0
        return values

    def __sub__(self, other: "Functionals") -> "Functionals":
        return _together([self, other], lambda x, u: (x[0] - x[1], u[0] - u[1]))

    def __getitem__(self, which: np.ndarray) -> "Functionals":
        return Functionals(self.x[which], self.numbers, self.u[which])


def stacked(parts: Sequence[Functionals] | tuple[Functionals, Functionals]) -> Functionals:
    """One list of functionals below the other."""
    return _together(parts, lambda x, u: (np.concatenate(x), np.concatenate(u)))


def _together(parts, combine):
    """The functionals with derivatives in the same slots, combined."""
    numbers = np.unique(np.concatenate([part.numbers for part in parts]))
    u = [np.zeros((len(part.x), len(numbers))) for part in parts]
    for wide, part in zip(u, parts, strict=True):
        wide[:, np.searchsorted(numbers, part.numbers)] = part.u
    x, u = combine([part.x for part in parts], u)
    return Functionals(x, numbers, u)


class _Reached(Exception):
    """The last operation whose arguments' tangents are wanted."""


@dataclass(frozen=True, eq=False)
class Skeleton:
    """germ: f near x. slots[i]: (flat outputs, slot numbers) of the tied entries of operation i; size: their number.

    own[stage.first]: the slots of one stage, in the order of its pieces.
    """

    germ: Germ
    slots: dict[Any, Any]
    size: int
    own: dict[Any, Any]
    _rows: dict = field(default_factory=dict, repr=False)
    _tangents: dict = field(default_factory=dict, repr=False)  # position: derivatives in x, where no slot is upstream
    _candidates: dict = field(default_factory=dict, repr=False)  # stage.first: the functionals its slots choose from
    latest: dict[Any, Any] = field(default_factory=dict, repr=False)  # what was last computed for one prefix of letters

    def row(self, position: Any, entry: int) -> NDArray[np.float64]:
        """Gradient (n + size,) in (x, u) of one flat entry of the value at this position."""
        key = position, int(entry)
        if key not in self._rows:
            outs, numbers = self.slots.get(position, (np.zeros(0, int), None))
            slot = (outs == entry).nonzero()[0]
            if slot.size:  # its own derivative
                self._rows[key] = np.zeros(self.germ.x.size + self.size)
                self._rows[key][self.germ.x.size + numbers[slot]] = 1.0
            else:
                self._rows[key] = self._gradient(position, _unit(self.germ, key))
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

    def functionals(self, position: int, terms: tuple[tuple[int, np.ndarray, np.ndarray], ...]) -> Functionals:
        """Gradients in (x, u) of sums of terms (argument, entries, coefs) of one operation."""
        op, n, k = self.germ.graph.program.operations[position - 1], self.germ.x.size, len(terms[0][1])
        x, total = 0.0, 0.0
        for argument, entries, coefs in terms:
            if argument not in op.argnums:
                continue
            parent = op.parents[op.argnums.index(argument)]
            forward = self._forward(parent, k)
            if forward is not None:
                x = x + coefs[:, None] * forward[entries]
            else:
                total = total + coefs[:, None] * np.array([self.row(parent, e) for e in entries.tolist()])
        if isinstance(total, float):
            return Functionals(np.zeros((k, n)) + x, np.zeros(0, dtype=int), np.zeros((k, 0)))
        total = total.reshape(k, -1)
        numbers = total[:, n:].any(axis=0).nonzero()[0]
        return Functionals(total[:, :n] + x, numbers, total[:, n + numbers])

    def entry_rows(
        self, position: int, argument: int, entries: np.ndarray
    ) -> NDArray[np.float64] | list[NDArray[np.float64]]:
        """(k, n + size), or a list of its rows: gradients in (x, u) of entries of one argument of an operation."""
        op, n = self.germ.graph.program.operations[position - 1], self.germ.x.size
        if argument in op.argnums:
            parent = op.parents[op.argnums.index(argument)]
            forward = self._forward(parent, len(entries))
            if forward is None:
                return [self.row(parent, e) for e in entries.tolist()]
        rows = np.zeros((len(entries), n + self.size))
        if argument in op.argnums:
            rows[:, :n] = forward[entries]
        return rows

    def _forward(self, position, count):
        """(entries, n): derivatives in x of the value at this position, by n tangents; None where the adjoints of
        so many entries cost less, slots lie upstream, or the tangents are not to be had.
        """
        n = self.germ.x.size
        if count <= n and position not in self._tangents:
            return None
        if not self._tangents:
            self._tangents[0] = np.eye(n)
            self._push()
        return self._tangents.get(position)

    def _push(self):
        """Tangents of the arguments of tied operations, the tied outputs held fixed."""
        graph, last = self.germ.graph, max(stage.position for stage in self.germ.stages)
        slotted, tied = [False], {stage.position for stage in self.germ.stages}
        for i, op in enumerate(graph.program.operations, 1):
            slotted.append(i in tied or any(slotted[p] for p in op.parents))

        def branch_of(i, along):
            op = graph.program.operations[i - 1]
            for argument, parent in zip(op.argnums, op.parents, strict=True):
                if i in tied and not slotted[parent]:
                    found = np.array([np.ravel(args[argument]) for args in along]).T
                    if np.all(np.isfinite(found)):  # else the adjoint says which entry is not
                        self._tangents[parent] = found
            if i == last:
                raise _Reached
            return self.germ.decided[i]

        try:
            with np.errstate(all="ignore"):
                pushforward(graph, self.germ.tape, np.eye(self.germ.x.size), branch_of)
        except (NotImplementedError, _Reached):
            pass

    def rows(self, position: int, terms: tuple[tuple[int, np.ndarray, np.ndarray], ...]) -> NDArray[np.float64]:
        """(k, n + size): the same gradients as one matrix."""
        found = self.functionals(position, terms)
        total = np.zeros((len(found.x), self.germ.x.size + self.size))
        total[:, : self.germ.x.size] = found.x
        total[:, self.germ.x.size + found.numbers] = found.u
        return total

    def output_rows(self) -> NDArray[np.float64]:
        """(p, n + size): the Jacobian of Phi, one row an output of f."""
        graph = self.germ.graph
        count = int(np.prod(graph.shape))
        if graph.output is None:
            return np.zeros((count, self.germ.x.size + self.size))
        rows = [self.row(graph.program.output, e) for e in range(count)]
        return np.array(rows).reshape(count, self.germ.x.size + self.size)

    def under(self, rows: np.ndarray, slots: np.ndarray) -> NDArray[np.float64]:
        """(k, n): those gradients in x once du/dx = slots (size, n)."""
        n = self.germ.x.size
        return rows[:, :n] + rows[:, n:] @ slots

    def cleaned(self, rows: np.ndarray, slots: np.ndarray) -> NDArray[np.float64]:
        """`under`, with exact zeros where what is left is rounding of its own terms."""
        n = self.germ.x.size
        return Functionals(rows[:, :n], np.arange(self.size), rows[:, n:]).cleaned(slots)

    def candidates(self, stage: Stage) -> tuple[Functionals, ...]:
        """What the slots of a stage choose from: (plus, minus) of a two-way stage, (members,) of any other."""
        if stage.first not in self._candidates:
            ties = stage.ties
            if isinstance(ties, selections.TwoWayTies):
                sides = ((ties.plus,), (ties.minus,))
            else:
                sides = (((0, ties.members, np.ones(len(ties.members))),),)
            self._candidates[stage.first] = tuple(self.functionals(stage.position, side) for side in sides)
        return self._candidates[stage.first]

    def advance(self, stage: Stage, signs: np.ndarray, slots: np.ndarray) -> NDArray[np.float64]:
        """slots (..., size, n) with the outputs of this stage set by its signs (..., letters): a new array.

        Cleaned: rounding in a slot would be all there is of a later guard that reads only this slot.
        """
        after, ties, signs = slots.copy(), stage.ties, np.asarray(signs)
        values = [functionals.cleaned(slots) for functionals in self.candidates(stage)]
        if isinstance(ties, selections.TwoWayTies):
            chosen = np.where((signs >= 0)[..., None], *values)
        else:
            if isinstance(ties, selections.SortTie):
                order = np.broadcast_to(np.arange(len(ties.members)), (*signs.shape[:-1], len(ties.members))).copy()
                for letter, (i, j) in enumerate(ties.comparators):
                    swapped = (signs[..., letter] > 0)[..., None]
                    order[..., [i, j]] = np.where(swapped, order[..., [j, i]], order[..., [i, j]])
            else:
                order = np.argmax(signs, axis=-1)[..., None]
            chosen = np.take_along_axis(values[0], order[..., None], axis=-2)
        after[..., self.own[stage.first], :] = chosen
        return after

    def advance_all(self, stages: tuple[Stage, ...], signs: np.ndarray, slots: np.ndarray) -> NDArray[np.float64]:
        """The same after several stages, signs (..., all letters)."""
        waiting, cut = [], set()  # two-way stages none of which chooses from what another one puts out
        for stage in stages:
            candidates = self.candidates(stage)
            two_way = isinstance(stage.ties, selections.TwoWayTies)
            if waiting and (not two_way or any(cut.intersection(side.numbers.tolist()) for side in candidates)):
                slots = self._advance_two_way(waiting, signs, slots)
                waiting, cut = [], set()
            if two_way:
                waiting.append(stage)
                cut.update(self.own[stage.first].tolist())
            else:
                slots = self.advance(stage, signs[..., stage.letters], slots)
        return self._advance_two_way(waiting, signs, slots) if waiting else slots

    def _advance_two_way(self, stages, signs, slots):
        if len(stages) == 1:
            return self.advance(stages[0], signs[..., stages[0].letters], slots)
        up, down = (stacked(side).cleaned(slots) for side in zip(*map(self.candidates, stages), strict=True))
        letters = np.concatenate([np.arange(stage.first, stage.letters.stop) for stage in stages])
        numbers, slots = np.concatenate([self.own[stage.first] for stage in stages]), slots.copy()
        slots[..., numbers, :] = np.where((signs[..., letters] >= 0)[..., None], up, down)
        return slots

    def slots_under(self, signs: np.ndarray) -> NDArray[np.float64]:
        """du/dx (..., size, n) under whole patterns (..., letters)."""
        slots = np.zeros((*np.shape(signs)[:-1], self.size, self.germ.x.size))
        for stage in self.germ.stages:
            slots = self.advance(stage, signs[..., stage.letters], slots)
        return slots


def skeleton(germ: Germ) -> Skeleton:
    """Number the tied outputs of the germ in order of execution."""
    slots, own, size = {}, {}, 0
    for stage in germ.stages:
        if isinstance(stage.ties, selections.TwoWayTies):
            outs = stage.ties.outs
        else:
            outs = np.concatenate([out for out, *_ in stage.ties.pieces(np.zeros(stage.ties.letters))])
        numbers = own[stage.first] = np.arange(size, size + len(outs))
        known = slots.get(stage.position)
        if known is None:
            slots[stage.position] = outs, numbers
        else:
            slots[stage.position] = np.concatenate([known[0], outs]), np.concatenate([known[1], numbers])
        size += len(outs)
    return Skeleton(germ, slots, size, own)


# ---------------------------------------------------------------- second derivatives


def hessians_by_pattern(
    skeleton: Skeleton, patterns: Sequence[np.ndarray], cotangent: np.ndarray
) -> NDArray[np.float64]:
    """(m, n, n): Hessians of <cotangent, f> under each row of signs, one differentiation a pattern (the slow route)."""
    germ = skeleton.germ
    top = {germ.graph.program.output: cotangent}
    return np.array([hessian(germ.graph, germ.x, germ.branches(signs), top) for signs in patterns])


def hessians_by_skeleton(
    skeleton: Skeleton, patterns: Sequence[np.ndarray], cotangent: np.ndarray
) -> NDArray[np.float64]:
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


def curved_entries(skeleton: Skeleton) -> list[tuple[int, int]]:
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
