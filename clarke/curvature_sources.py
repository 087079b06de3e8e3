"""Where the curvature of a network is: the second derivatives of its nodes and losses, factored and pulled back.

The Hessian is S^T K S, and K is a sum over the curved nodes and losses s (`linearization`), so that

    tr H_{theta,theta} = sum_s tr (S_{s,theta}^T K_s S_{s,theta}),      S_{s,theta} = d(arguments of s) / d theta.

Where samples do not meet on the way from theta to s, K_s and S split over the samples, and from any factors
K_{s,n} = sum_r sigma_{r,n} c_{r,n} c_{r,n}^T

    tr (S^T K S) = sum_r sum_n sigma_{r,n} |S_n^T c_{r,n}|^2:

as many backward columns as s has entries a sample, whatever the number of samples and of parameters. The gradient of
one sample in a dense layer is the outer product of its cotangent c and its input a~ = (a, 1), of squared length
|c|^2 |a~|^2; where theta is used in several places (channels of a convolution, tied layers) it is the sum over them,
and the square of the sum has the cross terms. Replacing the r by random signs leaves the sum unbiased and one column.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from math import inf
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .assembly import separable
from .blocks import COLUMNS
from .linearization import Linearization, Step, curvature, tangents
from .runs import joined

CACHE = 1 << 17  # numbers of columns pulled back at a time
LARGEST = 1 << 25  # numbers of the second derivatives of one node that are factored


def columns_at_once(lin: Linearization, names: Iterable[str]) -> int:
    """How many columns are carried at a time."""
    carried = sum(a.size for a in lin.adjoints.values()) + sum(lin.network.value(name).size for name in names)
    return max(1, COLUMNS // carried)


@dataclass(frozen=True, eq=False)
class Source:
    """A node or loss, number `position` of the steps, that is curved in `arguments`, D entries of each of N samples.

    N = 1 where samples meet in it. aligned: the names whose entry n of axis 0 reaches it through its sample n alone.
    before: the names with a way to it.
    """

    position: int
    step: Step
    arguments: tuple[int, ...]
    samples: int
    entries: int
    aligned: frozenset[Any]
    before: frozenset[Any]

    @property
    def numbers(self) -> int:
        """Of its second derivatives."""
        return self.samples * self.entries**2


@dataclass(frozen=True, eq=False)
class Plan:
    """How to get exact traces: sources: (source, names by sample, names in whole, name -> (factor, ways) of those that
    take no column of it); own: names by columns of their own; separable: losses of the names alone; curved: names with
    a tensor part; columns: how many in all.
    """

    part: str
    sources: tuple[Any, ...]
    own: tuple[str, ...]
    separable: tuple[Step, ...]
    curved: tuple[str, ...]
    columns: int


def plan_of(lin: Linearization, names: Any, part: str, most: int | None = None) -> Plan:
    """The plan of least columns. With `most` it is only sought if it may have no more: else nothing but `curved` is
    there, and `columns` is a bound from below, above `most`."""
    steps = list(_curved(lin, names, part))
    tensor = np.zeros(len(names), dtype=bool)
    for _, step, _, reached in steps:
        if not step.is_loss:
            tensor |= reached
    curved = tuple(names[k] for k in np.flatnonzero(tensor))
    joint = [each for each in steps if not separable(lin, each[1])]
    if most is not None and joint:  # a name without columns of its own takes one of each source at least
        dear = np.flatnonzero(sum(reached.astype(int) for *_, reached in joint) > most)
        least = sum(2 * lin.network.value(names[k]).size for k in dear)
        if least > most:
            return Plan(part, (), (), (), curved, least)
    terms, numbers = [], {step.name: k for k, step in enumerate(lin.steps)}
    for position, step, arguments, reached in joint:
        source = _source(lin, position, step, arguments)
        by_sample, whole = [], []
        for k in np.flatnonzero(reached):
            (by_sample if _by_sample(lin, source, names[k]) else whole).append(names[k])
        ways = _direct(lin, source, by_sample, numbers)
        if ways and _entrywise(lin, source) is None:
            ways = {}
        terms.append((source, [name for name in by_sample if name not in ways], whole, ways))
    own, columns = _own_columns(lin, [term[:3] for term in terms])
    kept = []
    for source, by_sample, whole, ways in terms:
        left = [tuple(name for name in part if name not in own) for part in (by_sample, whole)]
        direct = {name: way for name, way in ways.items() if name not in own}
        if any(left) or direct:
            kept.append((source, *left, direct))
    alone = tuple(step for _, step, _, _ in steps if separable(lin, step))
    return Plan(part, tuple(kept), tuple(n for n in names if n in own), alone, curved, columns)


def _curved(lin, names, part):
    """(position, step, arguments, reached) of the steps with a curved pair of arguments that one name moves both:
    reached (names,) bool says which, arguments are those that they move."""
    movers = _movers(lin, names)
    for position, step in enumerate(lin.steps):
        if part == "gauss_newton" and not step.is_loss:
            continue
        each, both = [movers.get(parent, 0) for parent in step.parents], 0
        pairs = list(step.local.curved)
        for i, j in pairs:
            both |= each[i] & each[j]
        if both:
            arguments = sorted({i for pair in pairs for i in pair if each[i] & both})
            yield position, step, arguments, _as_array(both, len(names))


def _as_array(bits, n):
    """(n,) bool."""
    data = np.frombuffer(bits.to_bytes((n + 7) // 8, "little"), dtype=np.uint8)
    return np.unpackbits(data, bitorder="little")[:n].astype(bool)


def _movers(lin, names):
    """Array -> which of the names move it, as bits; arrays that none moves are left out."""
    found = {name: 1 << k for k, name in enumerate(names)}
    for step in lin.steps:
        bits = 0
        for parent in step.parents:
            bits |= found.get(parent, 0)
        if bits:
            found[step.name] = bits
    return found


def _source(lin, position, step, arguments):
    values = [lin.network.value(step.parents[i]) for i in arguments]
    apart = all(i in step.local.samplewise for i in arguments)
    samples = len(values[0]) if apart else 1
    before = {step.parents[i] for i in arguments}
    aligned = set(before) if apart else set()
    for k in range(position - 1, -1, -1):
        earlier = lin.steps[k]
        if earlier.name in before:
            for i, parent in enumerate(earlier.parents):
                if parent not in before:
                    before.add(parent)
                    aligned.add(parent)
                if not (earlier.name in aligned and i in earlier.local.samplewise):
                    aligned.discard(parent)
    return Source(
        position,
        step,
        tuple(arguments),
        samples,
        sum(v.size for v in values) // samples,
        frozenset(aligned),
        frozenset(before),
    )


def _uses(lin, source, name):
    """(step number, argument) of the uses of the name on a way to the source."""
    return [(k, i) for k, i in lin.uses.get(name, ()) if lin.steps[k].name in source.before]


def _by_sample(lin, source, name):
    """Does the gradient in the name split over the samples of the source, as `_squares` takes it?"""
    if name in source.aligned:
        return True
    uses = _uses(lin, source, name)
    if name in {source.step.parents[i] for i in source.arguments}:
        return False
    layouts = set()
    for k, i in uses:
        factor = lin.steps[k].local.factors.get(i)
        if factor is None or lin.steps[k].name not in source.aligned:
            return False
        layouts.add((len(factor.basis), *factor.basis.shape[2:]))
    return len(layouts) == 1


def _own_columns(lin, terms):
    """(names that are cheaper by columns of their own, all columns then): a run of those whose sources are dearest.

    Columns of their own count twice, out and back.
    """
    costs, forced = {}, set()
    for source, by_sample, whole in terms:
        for name in (*by_sample, *whole):
            times = 1 if name in by_sample else source.samples
            costs[name] = costs.get(name, 0) + times * source.entries
            if source.numbers > LARGEST:
                forced.add(name)
    twice = {name: 2 * lin.network.value(name).size for name in costs}
    order = sorted(costs.keys() - forced, key=lambda name: (twice[name] - costs[name], name))
    place = dict.fromkeys(forced, 0) | {name: k for k, name in enumerate(order, 1)}
    totals = np.cumsum([sum(twice[name] for name in forced), *(twice[name] for name in order)])
    for source, by_sample, whole in terms:  # a source is needed until the last of its names has columns of its own
        totals[: max((place[name] for name in by_sample), default=0)] += source.entries
        totals[: max((place[name] for name in whole), default=0)] += source.entries * source.samples
    best = int(np.argmin(totals))
    return forced | set(order[:best]), int(totals[best])


# ---------------------------------------------------------------- exact


def traces_of_plan(lin: Linearization, plan: Plan) -> dict[Any, Any]:
    """name -> trace."""
    total: dict[str, Any] = {}

    def add(name, value):
        total[name] = total.get(name, 0.0) + value

    for source, by_sample, whole, direct in plan.sources:
        K = _second(lin, source)
        for name, (factor, ways) in direct.items():
            add(name, _trace_of_diagonal(lin, source, K, factor, ways))
        if not by_sample and not whole:
            continue
        roots = _roots(K)
        few = _few(lin, source)
        for k in range(0, len(roots.signs), few):
            signs, columns = roots.signs[k : k + few], roots.expanded(slice(k, k + few))
            if by_sample:
                for name, squares in _pulled(lin, source, columns, by_sample):
                    add(name, float(np.sum(signs * squares)))
            for n in range(source.samples if whole else 0):
                one = np.zeros_like(columns)
                one[:, n] = columns[:, n]
                for name, squares in _pulled(lin, source, one, whole, together=True):
                    add(name, float(signs[:, n] @ squares))
    for name in plan.own:
        add(name, _by_columns(lin, name, plan.part))
    for name, value in _separable(lin, plan).items():
        if name not in plan.own:
            add(name, value)
    return {name: total.get(name, 0.0) for name in lin.leaves}


def _direct(lin, source, names, numbers) -> dict:
    """name -> (factor, ways) of the names with one way to the source: a linear use, then steps that `_ways` lists."""
    found, ways = {}, None
    for name in names:
        if name in source.aligned or len(uses := _uses(lin, source, name)) != 1:
            continue
        ((k, i),) = uses
        factor = lin.steps[k].local.factors.get(i)
        ways = _ways(lin, source, numbers) if ways is None else ways
        way, matrices = ways.get(lin.steps[k].name, (None, 0))
        if factor is not None and way and not (matrices and factor.basis.shape[1] > 1):
            found[name] = factor, way
    return found


def _ways(lin, source, numbers):
    """array -> (its one way to the source, how many matrices are on it), where the steps (k, i) of the way keep the
    diagonals of a diagonal matrix pulled back through them: entrywise ones, and one matrix, the same for all samples.
    The last of the way is the source's own. numbers: of the steps, by name.

    Through a second matrix the diagonal needs the whole of what the first left; so does a name that is used at several
    places of a sample, behind one.
    """
    found: dict[str, Any] = {}
    pending: list[Any] = [(source.step.parents[i], ((source.position, i),), 0) for i in source.arguments]
    while pending:
        array, way, matrices = pending.pop()
        onward = [n for n, _ in lin.uses[array] if n == source.position or lin.steps[n].name in source.before]
        if array not in numbers or len(onward) != 1:
            continue
        found[array] = way, matrices
        k = numbers[array]
        for i, parent in enumerate(lin.steps[k].parents):
            if parent not in numbers:
                continue
            if _slopes(lin, k, i)[1]:
                pending.append((parent, ((k, i), *way), matrices))
            elif not matrices and i in lin.steps[k].local.matrices:
                pending.append((parent, ((k, i), *way), 1))
    return found


def _slopes(lin, k, i) -> tuple[Any, bool]:
    """(slopes, whether step k is entrywise in its argument i): two columns pushed forward tell, with probability 1."""
    step = lin.steps[k]
    shape = lin.network.value(step.parents[i]).shape
    if shape != lin.network.value(step.name).shape or i in step.local.matrices:
        return None, False
    probes = np.stack([np.ones(shape), np.random.default_rng(0).uniform(1.0, 2.0, shape)])
    slopes, more = step.local.push(i, probes)
    return slopes, bool(np.all(np.abs(more - probes[1] * slopes) <= 8.0 * np.finfo(float).eps * np.abs(slopes)))


def _trace_of_diagonal(lin, source, K, factor, ways):
    """sum_o K_oo |dy_o / dtheta|^2 over the entries o of the argument, K (D, N) diagonal: no columns, since an entry
    y[n, l, g, c] reads theta[g, c] times B[n, l, g] alone. On the ways between, diag(S A S) = S^2 diag(A) for slopes S,
    and diag(M^T A M) = (M o M)^T a for A = diag(a).
    """
    values = {i: lin.network.value(source.step.parents[i]) for i in source.arguments}
    last, start = ways[-1][1], 0
    for i in source.arguments[: source.arguments.index(last)]:
        start += values[i].size // source.samples
    bent = K[start : start + values[last].size // source.samples].T.reshape(values[last].shape)
    for k, i in reversed(ways[:-1]):
        matrix = lin.steps[k].local.matrices.get(i)
        bent = bent @ matrix**2 if matrix is not None else bent * np.square(_slopes(lin, k, i)[0])
    return float(np.sum(factor.view(bent[None])[0].sum(axis=-1) * np.sum(factor.basis**2, axis=-1)))


def _few(lin, source):
    """How many columns are pulled back from the source at a time."""
    arrays = [lin.network.value(name).size for name in source.before if name not in lin.leaves]
    widest = max(source.samples * source.entries, *arrays, 1)
    return max(1, CACHE // widest)


def _by_columns(lin, name, part):
    """sum_j e_j^T H e_j."""
    value, total = lin.network.value(name), 0.0
    few = columns_at_once(lin, (name,))
    for start in range(0, value.size, few):
        stop = min(start + few, value.size)
        seed = np.zeros((stop - start, value.size))
        seed[np.arange(stop - start), np.arange(start, stop)] = 1.0
        rows = curvature(lin, tangents(lin, {name: seed.reshape(-1, *value.shape)}), {name}, part)
        if name in rows:
            total += float(np.trace(rows[name].reshape(stop - start, -1)[:, start:stop]))
    return total


def _separable(lin, plan):
    """name -> the trace of the losses of parameters and inputs alone."""
    total: dict[str, float] = {}
    for step in plan.separable:
        for i, j in step.local.curved:
            name = step.parents[i]
            if name == step.parents[j]:
                found = _trace_of_second(step, i, j, lin.adjoints[step.name], lin.network.value(name))
                total[name] = total.get(name, 0.0) + found
    return total


def _trace_of_second(step, i, j, delta, value):
    """sum_k e_k^T (second derivative) e_k: one column an entry of one sample where samples do not meet."""
    apart = {i, j} <= set(step.local.samplewise)
    entries, total = value.size // len(value) if apart else value.size, 0.0
    few = max(1, COLUMNS // value.size)
    for start in range(0, entries, few):
        stop = min(start + few, entries)
        units = np.zeros((stop - start, value.size // entries, entries))
        units[np.arange(stop - start), :, np.arange(start, stop)] = 1.0
        bent = step.local.second(i, j, delta, units.reshape(-1, *value.shape)).reshape(units.shape)
        total += float(np.sum(bent[np.arange(stop - start), :, np.arange(start, stop)]))
    return total


@dataclass(frozen=True, eq=False)
class Roots:
    """K_n = sum_r signs[r, n] c_{r,n} c_{r,n}^T, with signs (R, N).

    c_{r,n} = columns[r, n], of (R, N, D); or, where `places` (R,) is given, columns[r, n] times the unit vector number
    places[r] of D entries, with columns (R, N): every K_n is diagonal.
    """

    signs: np.ndarray
    columns: np.ndarray
    entries: int
    places: np.ndarray | None = None

    def expanded(self, here: slice) -> NDArray[np.float64]:
        """(some, N, D): the columns `here`, a slice."""
        if self.places is None:
            return self.columns[here]
        places = self.places[here]
        found = np.zeros((*self.signs[here].shape, self.entries))
        found[np.arange(len(places)), :, places] = self.columns[here]
        return found

    def combined(self, z: np.ndarray) -> Iterator[tuple[float, NDArray[np.float64]]]:
        """(sign, (probes, N, D)): sum_r z[p, n, r] c_{r,n} over the columns of that sign, for the signs there are."""
        for sign in (1.0, -1.0):
            kept, R = self.signs == sign, len(self.signs)
            if kept.all():
                columns = self.columns
            elif kept.any():
                columns = self.columns * (kept if self.places is not None else kept[:, :, None])
            else:
                continue
            if self.places is not None:
                found = np.zeros((*z.shape[:2], self.entries))
                found[:, :, self.places] = z[:, :, :R] * columns.T
            else:
                by_sample = np.ascontiguousarray(z[:, :, :R].swapaxes(0, 1)) @ columns.swapaxes(0, 1)
                found = np.ascontiguousarray(by_sample.swapaxes(0, 1))
            yield sign, found


def _second(lin, source) -> np.ndarray:
    """(D, N, D): the second derivatives of the source in its arguments, K[:, n] those of sample n; (D, N), their
    diagonals, where all are diagonal. Some columns at a time, so that a diagonal never takes more than its room."""
    values = [lin.network.value(source.step.parents[i]) for i in source.arguments]
    N, D, delta = source.samples, source.entries, lin.adjoints[source.step.name]
    ends = np.cumsum([0, *(v.size // N for v in values)])
    spans = dict(zip(source.arguments, pairwise(ends.tolist()), strict=True))
    curved, few = set(source.step.local.curved), max(1, CACHE // (N * D))
    if (found := _entrywise(lin, source)) is not None:
        return found
    K, diagonal = None, np.zeros((D, N))
    for j, (first, end) in spans.items():
        value = lin.network.value(source.step.parents[j])
        for start in range(first, end, few):
            stop = min(start + few, end)
            every, places = np.arange(stop - start), np.arange(start, stop)
            units = np.zeros((stop - start, N, end - first))
            units[every, :, places - first] = 1.0
            units = units.reshape(-1, *value.shape)
            for i, (left, right) in spans.items():
                if (i, j) not in curved:
                    continue
                bent = source.step.local.second(i, j, delta, units).reshape(stop - start, N, -1)
                if K is None and i == j:
                    diagonal[start:stop] = bent[every, :, places - left]
                if K is None and np.count_nonzero(bent) > (np.count_nonzero(diagonal[start:stop]) if i == j else 0):
                    K = np.zeros((D, N, D))
                    K[np.arange(D), :, np.arange(D)] = diagonal
                if K is not None:
                    K[start:stop, :, left:right] = bent
    return diagonal if K is None else K


def _entrywise(lin, source):
    """(D, N): the diagonals where K (1, p) = (k, k p) for a p drawn at random, which with probability 1 has no solution
    but K = diag(k); else None. Two columns in place of D.
    """
    local, delta, found = source.step.local, lin.adjoints[source.step.name], []
    if any(i != j for i, j in local.curved if {i, j} <= set(source.arguments)):
        return None
    rng = np.random.default_rng(0)
    for i in source.arguments:
        shape = lin.network.value(source.step.parents[i]).shape
        probes = np.stack([np.ones(shape), rng.uniform(1.0, 2.0, shape)])
        bent, bent_more = local.second(i, i, delta, probes)
        if np.any(np.abs(bent_more - probes[1] * bent) > 8.0 * np.finfo(float).eps * np.abs(bent)):
            return None
        found.append(bent.reshape(source.samples, -1).T)
    return np.ascontiguousarray(np.concatenate(found))


def _roots(K) -> Roots:
    """The factors of K (D, N, D), or of a diagonal (D, N). R <= D: those that are zero in all samples are left out."""
    D = len(K)
    if K.ndim == 2:
        places = np.flatnonzero(K.any(axis=1))
        kept = K[places]
        return Roots(np.where(kept < 0, -1.0, 1.0), np.sqrt(np.abs(kept)), D, places)
    every = np.arange(D)
    least = 4.0 * D * np.finfo(float).eps * np.abs(K[every, :, every]).max(axis=0)
    left, roots = np.array(K.transpose(0, 2, 1), order="C"), np.zeros((D, D, K.shape[1]))
    rest = np.zeros(K.shape[1])
    for r in every:  # Cholesky, zero where a pivot is: the loss is convex in the outputs
        there = left[r, r] > least
        rest = np.maximum(rest, np.where(there, 0.0, np.abs(left[r, r:]).max(axis=0)))
        row = left[r, r:] / np.sqrt(np.where(there, left[r, r], inf))
        left[r + 1 :, r + 1 :] -= row[1:, None] * row[None, 1:]
        roots[r, r:] = row
    if np.all(rest <= 4.0 * least):
        roots = roots[roots.any(axis=(1, 2))].swapaxes(1, 2)
        return Roots(np.ones(roots.shape[:2]), np.ascontiguousarray(roots), D)
    values, vectors = np.linalg.eigh((K.swapaxes(0, 1) + K.transpose(1, 2, 0)) / 2)
    columns = (vectors * np.sqrt(np.abs(values))[:, None, :]).transpose(2, 0, 1)
    return Roots(np.where(values < 0, -1.0, 1.0).T, np.ascontiguousarray(columns), D)


def _seeds(lin, source, columns):
    """name -> (R, *shape): the columns (R, N, D) as cotangents of the source's arguments."""
    seeds, start = {}, 0
    for i in source.arguments:
        name = source.step.parents[i]
        value = lin.network.value(name)
        width = value.size // source.samples
        piece = columns[:, :, start : start + width].reshape(len(columns), *value.shape)
        seeds[name] = joined(seeds.get(name), piece)
        start += width
    return seeds


def _pulled(lin, source, columns, names, together=False) -> Iterator[tuple[str, np.ndarray]]:
    """(name, squared lengths of the cotangents of the name): (R, N), sample by sample, or if `together` (R,)."""
    rows, names = _seeds(lin, source, columns), set(names)
    in_rows = names if together else names & source.aligned  # those whose cotangents are formed
    ways = _movers(lin, names).keys() & source.before - (names - in_rows)
    awaited: dict[tuple[int, int], str] = {}
    held: dict[str, list[Any]] = {}
    for name in names - in_rows:
        awaited.update({use: name for use in _uses(lin, source, name)})
    left = {name: sum(other == name for other in awaited.values()) for name in names - in_rows}
    for k in range(source.position - 1, -1, -1):
        step = lin.steps[k]
        c = rows.pop(step.name, None)
        if c is None:
            continue
        for i, parent in enumerate(step.parents):
            if parent in ways:
                rows[parent] = joined(rows.get(parent), step.local.pull(i, c))
            name = awaited.get((k, i))
            if name is not None:
                factor = step.local.factors[i]
                held.setdefault(name, []).append((factor.view(c), factor.basis))
                left[name] -= 1
                if not left[name]:
                    yield name, _squares(held.pop(name))
    for name in in_rows & rows.keys():
        c = rows[name].reshape(len(columns), 1 if together else source.samples, -1)
        squares = np.einsum("rnd,rnd->rn", c, c)
        yield name, squares[:, 0] if together else squares


def _squares(uses):
    """(R, N): |sum_l c[r, n, l, g, :] B[n, l, g, :]^T|^2 summed over g, for uses (c, B), l running through them all."""
    c = uses[0][0] if len(uses) == 1 else np.concatenate([c for c, _ in uses], axis=2)
    B = uses[0][1] if len(uses) == 1 else np.concatenate([B for _, B in uses], axis=1)
    (R, N, L, G, C), Q = c.shape, B.shape[-1]
    if L == 1:
        lengths = np.einsum("rngc,rngc->rng", c.reshape(R, N, G, C), c.reshape(R, N, G, C))
        return np.einsum("rng,ng->rn", lengths, np.einsum("nlgq,nlgq->ng", B, B))
    total, few = np.empty((R, N)), max(1, COLUMNS // max(1, N * G * (L * L if L < Q else L * C + C * Q)))
    basis = np.ascontiguousarray(B.transpose(0, 2, 1, 3))
    across = basis @ basis.swapaxes(2, 3) if L < Q else None
    for start in range(0, R, few):
        part = c[start : start + few]
        if across is not None:
            rows = np.ascontiguousarray(part.transpose(0, 1, 3, 2, 4))
            total[start : start + few] = np.einsum("rngkl,ngkl->rn", rows @ rows.swapaxes(3, 4), across)
        else:
            rows = np.ascontiguousarray(part.transpose(1, 3, 0, 4, 2)).reshape(N, G, -1, L)
            whole = (rows @ basis).reshape(N, G, len(part), -1)
            total[start : start + few] = np.einsum("ngrz,ngrz->rn", whole, whole)
    return total


# ---------------------------------------------------------------- sampled output directions


def _output_sources(lin, names):
    """(source, names by sample, names in whole) of the losses that are not separable."""
    movers = _movers(lin, names)
    for position, step in enumerate(lin.steps):
        arguments = sorted({i for pair in step.local.curved for i in pair})
        if step.is_loss and arguments and not separable(lin, step):
            source = _source(lin, position, step, arguments)
            if source.numbers > LARGEST:
                raise ValueError(
                    f"the second derivatives of {step.name} are {source.numbers} numbers, more than {LARGEST}, "
                    "too many to factor; take method='hutchinson'"
                )
            bits = 0
            for i in arguments:
                bits |= movers.get(step.parents[i], 0)
            by_sample, whole = [], []
            for k in np.flatnonzero(_as_array(bits, len(names))):
                (by_sample if _by_sample(lin, source, names[k]) else whole).append(names[k])
            yield source, by_sample, whole


def read_by_losses(lin: Linearization) -> int:
    """The number of entries of the arrays that the losses are curved in."""
    return sum(source.samples * source.entries for source, _, _ in _output_sources(lin, ()))


def sampled_traces(lin: Linearization, names: Iterable[str], Z: np.ndarray) -> dict[str, NDArray[np.float64]]:
    """name -> (probes,): sum_n |S_n^T sum_r z_{r,n} c_{r,n}|^2, the positive and the negative factors apart."""
    samples, used = {name: np.zeros(len(Z)) for name in names}, 0
    for source, by_sample, whole in _output_sources(lin, names):
        few, used, before = _few(lin, source), used + source.samples * source.entries, used
        z = Z[:, before:used].reshape(-1, source.samples, source.entries)
        for sign, drawn in _roots(_second(lin, source)).combined(z):
            for start in range(0, len(Z), few):
                here = slice(start, min(start + few, len(Z)))
                for name, squares in _pulled(lin, source, drawn[here], by_sample):
                    samples[name][here] += sign * squares.sum(axis=1)
                for name, squares in _pulled(lin, source, drawn[here], whole, together=True):
                    samples[name][here] += sign * squares
    for name, value in _separable(lin, plan_of(lin, names, "gauss_newton")).items():
        if name in samples:
            samples[name] += value
    return samples
