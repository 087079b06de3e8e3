"""Dense Hessian blocks of parameters that enter their nodes channel by channel, contracted over samples by BLAS.

Where samples meet only in the loss, a sum over them, the blocks of two nodes are block-diagonal in the samples, so one
column an entry of one sample carries all samples at once. For a node u with y[n, c] = sum_q theta[c, q] B[n, q] and
likewise u' with theta', B' (l and g of `local.Factor` left out),

    H_{theta, theta'}[(c, q), (c', q')] = sum_n X[(c, q, c'), n] B'[n, q'],
    X[(c, q, c'), n] = H_{u, u'}[n, c, c'] B[n, q] + delta_u[n, c] (dB[n, q] / d eps_u'[n, c']),

2 N P^2 flops and no transposition. The second term is a tensor term: B of a later layer moves with an earlier node.
Only the pairs with u' at or before u are contracted; the others are their transposes.
"""

from collections.abc import Callable
from dataclasses import dataclass

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
    members: tuple
    basis: np.ndarray


def samplewise_names(lin: Linearization) -> frozenset[str]:
    """The names whose perturbation of one sample reaches the losses through that sample alone."""
    found, closed = set(), {step.name for step in lin.steps if step.is_loss}
    for name in reversed([*lin.leaves, *(step.name for step in lin.steps if not step.is_loss)]):
        uses = [(lin.steps[number], argument) for number, argument in lin.uses.get(name, ())]
        if uses and all(i in step.local.samplewise and step.name in closed for step, i in uses):
            found.add(name)
            closed.add(name)
    return frozenset(found)


def separable(lin, step) -> bool:
    """Is this a loss of parameters and inputs alone, such as weight decay?"""
    return step.is_loss and lin.leaves.keys() >= set(step.parents)


def contractible(lin: Linearization, names) -> tuple[str, ...]:
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


def groups(lin: Linearization, names) -> list[Group]:
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


def assemble(lin: Linearization, names, block: Callable, part="hessian", wanted=None) -> set:
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
    room = min(BLOCK, max(BLOCK >> 3, size * size >> 3))
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
                _contract(lin, later, earlier, left, shifts, Sink(pairs, block, a != b, poured), room)
    _separable_losses(lin, names, block, part, wanted, poured)
    return poured


def _shifts(lin, group, moving, columns):
    """member -> (R, N, L, G, Q), the derivative of its basis along the columns; only those that move."""
    found = {}
    for name, i, _ in group.members:
        for j, tangent in group.step.local.factors[i].tangents.items():
            source = moving.get(group.step.parents[j])
            if source is not None and len(source) >= columns.stop:
                shift = tangent(source[columns])
                found[name] = found[name] + shift if name in found else shift
    return found


def _contract(lin, later, earlier, left, shifts, sink, room):
    """Pour sum_n X B' into the sink, left being H_{u,u'} (R, N, L, G, C), or None where it is zero."""
    N, L, G, Q = later.basis.shape
    C, (L2, G2, C2), Q2 = later.layout[2], earlier.layout, earlier.basis.shape[-1]
    delta = later.step.local.factors[later.members[0][1]].view(lin.adjoints[later.step.name][None])[0]
    moved = [(q, shifts[name]) for name, _, q in later.members if name in shifts]
    if not L == G == L2 == G2 == 1:
        whole = slice(0, G * C)
        if left is not None:
            Y = _in_two_steps(left, later.basis, earlier).transpose(0, 2, 1, 3, 4, 5)
            sink(Y.reshape(G * C, Q, G2 * C2, Q2), whole, slice(0, Q))
        for q, shift in moved:
            sink(_in_two_steps(shift, delta, earlier).reshape(G * C, -1, G2 * C2, Q2), whole, q)
        return
    basis, other = later.basis.reshape(N, Q), earlier.basis.reshape(N, Q2)
    few, tall = max(1, SAMPLES // (Q * Q2)), max(1, room // (Q * C2 * Q2))
    bands = [slice(c, min(c + tall, C)) for c in range(0, C, tall)]
    for n in range(0, N, few):
        here = slice(n, n + few)
        if left is not None:
            across = np.ascontiguousarray(left.reshape(C2, N, C)[:, here].transpose(2, 0, 1))
            both = (basis[here, :, None] * other[here, None, :]).reshape(-1, Q * Q2)
            for c in bands:
                Y = across[c].reshape(-1, len(both)) @ both
                sink(Y.reshape(-1, C2, Q, Q2).transpose(0, 2, 1, 3), c, slice(0, Q))
        for q, shift in moved:
            adjoint, turned = delta.reshape(N, C)[here].T, other[here].T
            along = shift.reshape(C2, N, -1)[:, here].transpose(1, 2, 0).reshape(len(turned.T), -1)
            for c in bands:
                Y = (adjoint[c, None] * turned[None]).reshape(-1, len(along)) @ along
                sink(Y.reshape(c.stop - c.start, Q2, -1, C2).transpose(0, 2, 3, 1), c, q)


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


@dataclass(frozen=True, eq=False)
class Sink:
    """Where the blocks of one pair of groups go: called with Y (channels, q, c', q') and the joint columns q.

    mirrored: the groups differ, so that a block (theta, theta) of a shared parameter also gets the transpose.
    poured: the pairs (later, earlier) that were written.
    """

    pairs: list
    block: Callable
    mirrored: bool
    poured: set

    def __call__(self, Y, channels, q):
        for (name, _, mine), (other, _, q2) in self.pairs:
            if not (q.start <= mine.start and mine.stop <= q.stop):
                continue
            piece, width = Y[:, mine.start - q.start : mine.stop - q.start, :, q2], mine.stop - mine.start
            rows = slice(channels.start * width, channels.stop * width)
            whole = self.block(name, other)
            band = whole[rows]
            band.reshape(piece.shape)[...] += piece
            if name == other and self.mirrored:
                whole[:, rows] += np.array(piece).reshape(band.shape).T
            self.poured.add((name, other))


def mirror(block, poured) -> None:
    """Complete block(v, w), block(w, v) of the pairs that `assemble` wrote; each has an array of its own."""
    for v, w in poured:
        if v != w:
            there, back = block(v, w), block(w, v)
            if (w, v) not in poured:
                back[...] = there.T
            elif v < w:  # shared parameters: each is used before the other
                there += back.T
                back[...] = there.T


TILE = 64


def level(block) -> None:
    """Make a square block exactly symmetric: it is so but for rounding. The part below the diagonal tiles stays."""
    for start in range(0, len(block), TILE):
        here = slice(start, start + TILE)
        corner = block[here, here]
        corner[...] = (corner + corner.T) / 2
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
