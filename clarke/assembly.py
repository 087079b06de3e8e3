"""Dense Hessian blocks of parameters that enter their nodes channel by channel, contracted over samples by BLAS.

Where samples meet only in the loss, a sum over them, the blocks of two nodes are block-diagonal in the samples, so one
column an entry of one sample carries all samples at once. For a node u with y[n, c] = sum_q theta[c, q] B[n, q] and
likewise u' with theta', B' (l and g of `local.Factor` left out),

    H_{theta, theta'}[(c, q), (c', q')] = sum_n X[(c, q, c'), n] B'[n, q'],
    X[(c, q, c'), n] = H_{u, u'}[n, c, c'] B[n, q] + delta_u[n, c] (dB[n, q] / d eps_u'[n, c']),

2 N P^2 flops and no transposition. The second term is a tensor term: B of a later layer moves with an earlier node.
Only the pairs with u' at or before u are contracted; the others are their transposes.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .linearization import Linearization, Step, curvature, tangents

BLOCK = 1 << 17  # numbers of a block contracted at a time, or an eighth of the answer: what a cache holds
SAMPLES = 1 << 21  # numbers in the products of bases held at a time


@dataclass(frozen=True, eq=False)
class Group:
    """The parameters of one node that share a layout: their bases side by side, and the columns of the node.

    order: entries of one sample in the order (l, g, c). members: (name, argument, columns of the joint basis).
    """

    step: Step
    layout: tuple[int, int, int]
    order: np.ndarray
    members: tuple[Any, ...]
    basis: np.ndarray

    @property
    def flat(self) -> bool:
        """One position, one group: a dense layer."""
        return self.layout[:2] == (1, 1)


def samplewise_names(lin: Linearization) -> frozenset[str]:
    """The names whose perturbation of one sample reaches the losses through that sample alone."""
    found, closed = set(), {step.name for step in lin.steps if step.is_loss}
    for name in reversed([*lin.leaves, *(step.name for step in lin.steps if not step.is_loss)]):
        uses = [(lin.steps[number], argument) for number, argument in lin.uses.get(name, ())]
        if uses and all(i in step.local.samplewise and step.name in closed for step, i in uses):
            found.add(name)
            closed.add(name)
    return frozenset(found)


def separable(lin: Linearization, step: Any) -> bool:
    """Is this a loss of parameters and inputs alone, such as weight decay?"""
    return step.is_loss and lin.leaves.keys() >= set(step.parents)


def contractible(lin: Linearization, names: Iterable[str]) -> tuple[str, ...]:
    """Those of the names whose blocks `assemble` can contract and for which that is cheaper than column by column."""
    aligned = samplewise_names(lin)

    def enters_linearly(step, i):
        factor = step.local.factors.get(i)
        return (
            factor is not None
            and step.name in aligned
            and not any(lin.leaves.get(step.parents[j]) == "parameter" for j in factor.tangents)
        )

    def uses(name):
        return [(lin.steps[k], i) for k, i in lin.uses.get(name, ()) if not separable(lin, lin.steps[k])]

    fit = {name for name in names if uses(name) and all(enters_linearly(step, i) for step, i in uses(name))}
    while True:
        costly = set()
        for step in lin.steps:
            mine = {p for i, p in enumerate(step.parents) if p in fit and i in step.local.factors}
            if mine and 2 * sum(lin.network.value(p).size for p in mine) < lin.adjoints[step.name][0].size:
                costly |= mine
        if not costly:
            return tuple(name for name in names if name in fit)
        fit -= costly


def groups(lin: Linearization, names: Iterable[str]) -> list[Group]:
    """The groups of the names, in order of execution."""
    found, names = [], set(names)
    for step in lin.steps:
        arguments = [i for i, p in enumerate(step.parents) if p in names and i in step.local.factors]
        by_layout = {}
        for i in arguments:
            factor, shape = step.local.factors[i], lin.adjoints[step.name].shape
            entries = np.arange(int(np.prod(shape[1:]))).reshape(1, 1, *shape[1:])
            order = factor.view(np.broadcast_to(entries, (1, *shape)))[0, 0]
            by_layout.setdefault((order.shape, order.tobytes()), (order, []))[1].append(i)
        for order, together in by_layout.values():
            bases = [step.local.factors[i].basis for i in together]
            ends = np.cumsum([0, *(b.shape[-1] for b in bases)])
            members = tuple(
                (step.parents[i], i, slice(int(a), int(b)))
                for i, a, b in zip(together, ends[:-1], ends[1:], strict=True)
            )
            found.append(Group(step, order.shape, order.ravel(), members, np.concatenate(bases, axis=-1)))
    return found


def assemble(
    lin: Linearization,
    names: Iterable[str],
    block: Callable[..., Any],
    part: str = "hessian",
    wanted: Callable[..., Any] | None = None,
) -> set[tuple[str, str]]:
    """Add the blocks of pairs of the names (all `contractible`) to block(v, w), an array (v.size, w.size).

    wanted(v, w): which pairs; all by default. Of a pair v != w it may be that only block(v, w) or only block(w, v) is
    written, or that each gets one share of a sum (of a parameter that is shared). Returns the pairs (v, w) written;
    `mirror` completes them.
    """
    wanted = wanted or (lambda v, w: True)
    every, poured = groups(lin, names), set()
    seeds, ends, end = {}, [], 0
    for group in every:
        start, end = end, end + len(group.order)
        shape = lin.adjoints[group.step.name].shape
        seed = np.zeros((end, *shape))
        before = seeds.get(group.step.name)
        if before is not None:
            seed[: len(before)] = before
        seed.reshape(end, shape[0], -1)[np.arange(start, end), :, group.order] = 1.0
        seeds[group.step.name] = seed
        ends.append(end)
    limits, reached, k = {}, 0, 0
    for step in lin.steps:
        while k < len(every) and every[k].step is step:
            reached, k = ends[k], k + 1
        limits[step.name] = reached
    moving = tangents(lin, seeds)
    rows = curvature(lin, moving, seeds, part, limits)
    read = {
        later.step.parents[j]
        for later in every
        for _, i, _ in later.members
        for j in later.step.local.factors[i].tangents
    }
    seeds.clear()
    for name in moving.keys() - read:
        del moving[name]
    size = sum(lin.network.value(name).size for name in names)
    room = min(BLOCK, max(BLOCK >> 1, size * size >> 3))
    for a, later in enumerate(every):
        bent = rows.get(later.step.name)
        if bent is not None:
            bent = later.step.local.factors[later.members[0][1]].view(bent)
        for b, earlier in enumerate(every[: a + 1]):
            columns = slice(ends[b] - len(earlier.order), ends[b])
            pairs = [
                (m, e)
                for k, m in enumerate(later.members)
                for e in earlier.members[: k + 1 if a == b else None]
                if wanted(m[0], e[0]) or wanted(e[0], m[0])
            ]
            if pairs and len(earlier.basis) == len(later.basis):
                left = None if bent is None or len(bent) < ends[b] else bent[columns]
                shifts = _shifts(lin, later, moving, columns) if part != "gauss_newton" else {}
                _contract(lin, later, earlier, left, shifts, Sink(later, earlier, pairs, block, poured), room)
    _separable_losses(lin, names, block, part, wanted, poured)
    return poured


def _shifts(lin, group, moving, columns):
    """argument -> (R, N, L, G, Q), the derivative of its basis along the columns; only those that move."""
    found = {}
    for _, i, _ in group.members:
        for j, tangent in group.step.local.factors[i].tangents.items():
            source = moving.get(group.step.parents[j])
            if source is not None and len(source) >= columns.stop:
                shift = tangent(source[columns])
                found[i] = found[i] + shift if i in found else shift
    return found


def _contract(lin, later, earlier, left, shifts, sink, room):
    """Pour sum_n X B' into the sink, left being H_{u,u'} (R, N, L, G, C), or None where it is zero."""
    delta = later.step.local.factors[later.members[0][1]].view(lin.adjoints[later.step.name][None])[0]
    moved = [(q, shifts[i]) for _, i, q in later.members if i in shifts]
    if not (later.flat and earlier.flat):
        _contract_windows(later, earlier, left, delta, moved, sink)
        return
    if left is not None:
        _contract_flat(later, earlier, left, sink, room)
    for q, shift in moved:
        _contract_shift(later, earlier, delta, q, shift, sink, room)


def _contract_windows(later, earlier, left, delta, moved, sink):
    """Both terms, in any layout."""
    (_, _, G, Q), C = later.basis.shape, later.layout[2]
    (_, G2, C2), Q2 = earlier.layout, earlier.basis.shape[-1]
    whole, q2 = slice(0, G * C), slice(0, Q2)
    if left is not None:
        Y = _in_two_steps(left, later.basis, earlier).transpose(0, 2, 1, 3, 4, 5)
        sink(Y.reshape(G * C, Q, G2 * C2, Q2), whole, slice(0, Q), q2, False)
    for q, shift in moved:
        sink(_in_two_steps(shift, delta, earlier).reshape(G * C, -1, G2 * C2, Q2), whole, q, q2, True)


def _bands(channels, each, room, most):
    """Runs of channels of about `room` numbers, `each` a channel, at most `most` channels long."""
    tall = max(1, min(room // each, most))
    return [slice(c, min(c + tall, channels)) for c in range(0, channels, tall)]


def _contract_flat(later, earlier, left, sink, room):
    """Dense layers, first term. Of a diagonal block what is above its bands is left out."""
    (N, _, _, Q), C, C2, Q2 = later.basis.shape, later.layout[2], earlier.layout[2], earlier.basis.shape[-1]
    left, basis, other = left.reshape(C2, N, C), later.basis.reshape(N, Q), earlier.basis.reshape(N, Q2)
    parts = [(slice(0, Q), slice(0, Q2), False)]
    if later is earlier:
        parts = [(mine, theirs, mine == theirs) for (_, _, mine), (_, _, theirs) in sink.pairs]
    few = max(1, SAMPLES // (Q * Q2))
    for n in range(0, N, few):
        across = np.ascontiguousarray(left[:, n : n + few].transpose(2, 0, 1))
        for q, q2, lower in parts:
            first, second = basis[n : n + few, q, None], other[n : n + few, None, q2]
            both = (first * second).reshape(len(first), -1)
            for c in _bands(C, C2 * both.shape[1], room, max(8, -(-C // 4)) if lower else C):
                width = c.stop if lower else C2
                Y = across[c, :width].reshape(-1, len(both)) @ both
                Y = Y.reshape(-1, width, first.shape[1], second.shape[2])
                sink(Y.transpose(0, 2, 1, 3), c, q, q2, n > 0)


def _contract_shift(later, earlier, delta, q, shift, sink, room):
    """Dense layers, second term: sum_n delta[n, c] B'[n, q'] shift[c', n, q]."""
    N, C, C2 = len(later.basis), later.layout[2], earlier.layout[2]
    Q, Q2 = shift.shape[-1], earlier.basis.shape[-1]
    delta, other, shift = delta.reshape(N, C), earlier.basis.reshape(N, Q2), shift.reshape(C2, N, Q)
    c2, at = np.nonzero(np.abs(shift).sum(axis=1))
    if 8 * len(at) <= C2 * Q:  # only an activation lies between the layers: each entry moves with one unit
        few = max(1, SAMPLES // (len(at) * Q2 or 1))
        for n in range(0, N, few):
            here = slice(n, n + few)
            along = shift[c2, here, at].T[:, :, None] * other[here, None]
            sink.scatter((delta[here].T @ along.reshape(len(along), -1)).reshape(C, -1, Q2), q, at, c2)
        return
    bands, few = _bands(C, C2 * Q * Q2, room, C), max(1, SAMPLES // (C2 * (Q + Q2)))
    for n in range(0, N, few):
        here = slice(n, n + few)
        along, turned, adjoint = shift[:, here].transpose(1, 2, 0).reshape(-1, Q * C2), other[here].T, delta[here].T
        for c in bands:
            Y = (adjoint[c, None] * turned).reshape(-1, len(along)) @ along
            sink(Y.reshape(-1, Q2, Q, C2).transpose(0, 2, 3, 1), c, q, slice(0, Q2), True)


def _in_two_steps(moving, fixed, earlier):
    """sum_{n, l, l'} fixed[n, l, g, e] moving[(l', g', c'), n, l, g, a] B'[n, l', g', q'] as (g, e, a, g', c', q').

    First over l' within each sample, then over samples and l at once.
    """
    (L2, G2, C2), Q2 = earlier.layout, earlier.basis.shape[-1]
    (N, L, G, A), E = moving.shape[1:], fixed.shape[-1]
    parted = moving.reshape(L2, G2, C2, N, L, G, A)
    total, few = np.zeros((G, E, G2 * C2 * A * Q2)), max(1, SAMPLES // (L * G * A * G2 * C2 * max(L2, Q2)))
    for n in range(0, N, few):
        here = slice(n, n + few)
        inner = parted[:, :, :, here].transpose(3, 1, 2, 4, 5, 6, 0)  # n g' c' l g a l'
        count = len(inner)
        right = earlier.basis[here].transpose(0, 2, 1, 3)
        inner = (inner.reshape(count, G2, -1, L2) @ right).reshape(count, G2, C2, L, G, A, Q2)
        outer = inner.transpose(4, 0, 3, 1, 2, 5, 6).reshape(G, count * L, -1)  # g (n l) (g' c' a q')
        total += fixed[here].transpose(2, 3, 0, 1).reshape(G, E, -1) @ outer
    return total.reshape(G, E, G2, C2, A, Q2).transpose(0, 1, 4, 2, 3, 5)


class Sink:
    """Where the blocks of one pair of groups go: called with Y (channels, q, c', q') and the joint columns q, q' of it.

    A block written for the first time is assigned, to any other what comes is added. If the groups differ, a block
    (theta, theta) of a shared parameter also gets the transpose. poured: the pairs (later, earlier) that were written.
    """

    def __init__(
        self,
        later: Group,
        earlier: Group,
        pairs: Sequence[tuple[tuple[Any, ...], tuple[Any, ...]]],
        block: Callable[..., Any],
        poured: set[tuple[str, str]],
    ) -> None:
        self.pairs = pairs
        self.targets: list[Any] = []
        C, C2 = (group.layout[1] * group.layout[2] for group in (later, earlier))
        before = poured | {(m[0], e[0]) for m, e in pairs} if later is not earlier else set(poured)
        for (name, _, mine), (other, _, theirs) in pairs:
            whole, twice = block(name, other), name == other and (later is not earlier or mine != theirs)
            held = (other, name) in before or (name, other) in poured  # they may share their memory
            shape = C, mine.stop - mine.start, C2, theirs.stop - theirs.start
            back = whole.T.reshape(shape) if twice else None
            self.targets.append((whole.reshape(shape), mine, theirs, held, back))
            poured.add((name, other))

    def __call__(self, Y: np.ndarray, channels: slice, q: slice, q2: slice, add: bool) -> None:
        """channels: those of Y, which has the first c' at least."""
        c2 = slice(0, Y.shape[2])
        for target, mine, theirs, held, back in self.targets:
            if q.start <= mine.start and mine.stop <= q.stop and q2.start <= theirs.start and theirs.stop <= q2.stop:
                rows, columns = (slice(a.start - b.start, a.stop - b.start) for a, b in ((mine, q), (theirs, q2)))
                piece = Y[:, rows, :, columns]
                if add or held:
                    piece = np.ascontiguousarray(piece)  # a sum of strided arrays is several times slower
                    target[channels, :, c2] += piece
                else:
                    target[channels, :, c2] = piece
                if back is not None:
                    back[channels, :, c2] += piece

    def scatter(self, Y: np.ndarray, q: slice, at: np.ndarray, c2: np.ndarray) -> None:
        """Add Y (channels, k, q') at the columns at[k] of q and the channels c2[k]."""
        for target, mine, theirs, _, back in self.targets:
            if mine == q:
                target[:, at, c2] += Y[:, :, theirs]
                if back is not None:
                    back[:, at, c2] += Y[:, :, theirs]


def mirror(block: Callable[..., Any], poured: set[tuple[str, str]]) -> None:
    """Complete block(v, w), block(w, v) of the pairs that `assemble` wrote; each has an array of its own."""
    for v, w in poured:
        if v != w:
            there, back = block(v, w), block(w, v)
            if (w, v) not in poured:
                _transpose(there, back)
            elif v < w:  # shared parameters: each is used before the other
                there += back.T
                _transpose(there, back)


TILE = 64
ABOVE = np.triu(np.ones((TILE, TILE), dtype=bool), 1)


def _transpose(there, back):
    for start in range(0, len(there), TILE):
        here = slice(start, start + TILE)
        back[:, here] = there[here].T


def level(block: np.ndarray) -> None:
    """Complete a square block from what is on and below its diagonal."""
    for start in range(0, len(block), TILE):
        here = slice(start, start + TILE)
        corner = block[here, here]
        np.copyto(corner, corner.T, where=ABOVE[: len(corner), : len(corner)])
        block[here, start + TILE :] = block[start + TILE :, here].T


def _separable_losses(lin, names, block, part, wanted, poured):
    if part == "tensor":
        return
    for step in lin.steps:
        if separable(lin, step):
            for i, j in step.local.curved:
                v, w = step.parents[i], step.parents[j]
                if v in names and w in names and v <= w and (wanted(v, w) or wanted(w, v)):
                    value, back = lin.network.value(w), (w, v) in poured
                    identity = np.eye(value.size).reshape(-1, *value.shape)
                    bent = step.local.second(i, j, lin.adjoints[step.name], identity).reshape(value.size, -1)
                    if back:
                        block(w, v)[...] += bent
                    else:
                        block(v, w)[...] += bent.T
                        poured.add((v, w))
