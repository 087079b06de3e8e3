"""The Hessian plus damping, lifted to a sparse symmetric system linear in depth.

Cut the network at some nodes v, z_v = g_v(parameters, other cuts), with tangents dz_v and multipliers mu_v. Then
(H + lambda I) dx = r if and only if

    lambda dx + sum of W_{x,.} d(.) + sum_v G_v^T mu_v  = r
    G_v dx + sum_u F_{v<-u} dz_u - dz_v                 = 0              (one block for each cut v)
    sum of W_{z_v,.} d(.) + sum_u F_{u<-v}^T mu_u - mu_v = 0

where F, G are derivatives from cut to cut and W the second derivatives of the nodes between cuts, weighted by the
adjoints, and of the losses. The matrix is symmetric and its (z, mu) block unimodular, so, with m the sum of the sizes
of the cuts,

    |det| = |det(H + lambda I)|,     inertia = inertia(H + lambda I) + (m, m, 0).

A parameter theta that enters one node linearly has W_{theta,theta} = 0 and can be eliminated exactly,
theta = (r - A^T (mu, dz)) / lambda: of a dense layer there remain a_in + a_out numbers a sample, whatever the size of
its matrix. A mixture sum_k w_k H_k of elements is the Hessian of K copies of the network that share the parameters,
the k-th weighted by w_k.

The idea of lifting is Rahimi's (2025, section 6), whose own elimination fails on every network; that of eliminating
backward in time is Pantoja's (1988) and Dunn & Bertsekas' (1989).
"""

import heapq
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .linearization import Layout, Linearization
from .runs import Run, joined

Variable = tuple[str, str, int]  # "x", "z" or "mu"; a name; the copy of the network
SWEEPS = 30  # of scaling; each halves the orders of magnitude that rows are apart
CANCELLED = 1e-6  # a damping below this part of its terms is not divided by


@dataclass(frozen=True, eq=False)
class Bundle:
    """Blocks of one shape: blocks[k] (G, r, c) stands in the rows of the variable number rows[k] (G,) and the columns
    of columns[k], its transpose in the mirror place. No place occurs twice.
    """

    rows: np.ndarray
    columns: np.ndarray
    blocks: np.ndarray


@dataclass(frozen=True, eq=False)
class Lift:
    """order: the variables in the order of the network, a parameter before the first cut it reaches; sizes (k,): of
    the variables in order; at: name -> the number in the order of its first variable (of a cut mu, z of the first copy,
    mu, z of the second, ...); bundles: the matrix is their sum. shared: the parameters that reach several cuts.
    eliminated: parameter -> its own damping; they are no variables. curvature: the largest entry of W, or the damping.
    """

    elements: tuple[tuple[float, Linearization], ...]
    wrt: tuple[str, ...]
    damping: float
    order: tuple[Variable, ...]
    sizes: np.ndarray
    at: Mapping[str, int]
    bundles: tuple[Bundle, ...]
    cuts: tuple[str, ...]
    shared: tuple[str, ...]
    eliminated: Mapping[str, float]
    curvature: float

    def number(self, kind: str, name: str, copy: Any = 0) -> int:
        """The number of a variable in the order."""
        return self.at[name] + 2 * copy + (kind == "z")

    @cached_property
    def starts(self) -> np.ndarray:
        """Where each variable begins in a flat vector, and at the end its length."""
        return np.concatenate([[0], np.cumsum(self.sizes)])

    @cached_property
    def balance(self) -> np.ndarray:
        """(k,) powers of 2, one for each variable, B the diagonal matrix of them: B K B is the same in whatever unit
        the loss is measured, and the largest entry in the rows of a variable is near 1 (Ruiz 2001).
        """
        half = int(np.frexp(self.curvature)[1]) // 2 if 0 < self.curvature < np.inf else 0
        found = np.ldexp(1.0, [half if kind == "mu" else -half for kind, _, _ in self.order])
        none = np.zeros(0, dtype=int)
        rows = np.concatenate([none, *(bundle.rows for bundle in self.bundles)])
        columns = np.concatenate([none, *(bundle.columns for bundle in self.bundles)])
        sizes = np.concatenate([none, *(np.abs(b.blocks).max(axis=(1, 2), initial=0.0) for b in self.bundles)])
        for _ in range(SWEEPS):
            scaled, largest = sizes * found[rows] * found[columns], np.zeros(len(found))
            np.maximum.at(largest, rows, scaled)
            np.maximum.at(largest, columns, scaled)
            largest[largest == 0] = 1.0
            if np.all((largest > 0.01) & (largest < 100.0)):
                break
            found = found * np.exp2(np.round(-0.5 * np.log2(largest)))
        return found

    @cached_property
    def pairs(self) -> np.ndarray:
        """Pairs of numbers of variables that meet, (2, count), the larger first, each once."""
        count, none = len(self.order), np.zeros(0, dtype=int)
        places = [np.maximum(b.rows, b.columns) * count + np.minimum(b.rows, b.columns) for b in self.bundles]
        return np.array(np.divmod(np.unique(np.concatenate([none, *places])), max(count, 1)))

    @cached_property
    def kept(self) -> np.ndarray:
        """Where the parameters of wrt that are variables stand in a flat vector: the entries of one after the other."""
        names = [name for name in self.wrt if name not in self.eliminated]
        chosen = np.array([self.at[name] for name in names], dtype=int)
        return ranges(self.starts[chosen], self.sizes[chosen])

    @cached_property
    def layout(self) -> Layout:
        """Of the parameters in a flat vector over wrt."""
        return Layout(self.elements[0][1].network, self.wrt)


def ranges(starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """start, ..., start + length - 1 for each pair, one after the other."""
    before = np.cumsum(lengths) - lengths
    return np.repeat(starts - before, lengths) + np.arange(lengths.sum())


def cut_nodes(lin: Linearization, wrt: Iterable[str]) -> tuple[str, ...]:
    """The nodes that read a parameter of wrt, and those where the motion of two cuts or parameters comes together."""
    behind: dict[str, frozenset[Any]] = {name: frozenset([name]) for name in wrt}
    cuts, parameters = [], set(wrt)
    for step in lin.steps:
        if step.is_loss:
            continue
        if parameters.isdisjoint(step.parents):
            sources = [behind[parent] for parent in step.parents if parent in behind]
            together = sources[0] if len(sources) == 1 else frozenset().union(*sources)
            if len(together) <= 1:
                if together:
                    behind[step.name] = together
                continue
        cuts.append(step.name)
        behind[step.name] = frozenset([step.name])
    return tuple(cuts)


def linear_parameters(
    elements: tuple[tuple[float, Linearization], ...], wrt: Iterable[str], damping: float
) -> dict[str, float]:
    """parameter -> its own damping, of those that can be eliminated: they enter one node, linearly and beside no other
    parameter of wrt in a curved pair, and losses only as a multiple of |theta|^2, which adds to the damping, in every
    element. One whose own damping all but cancels is kept: it would be divided by rounding.
    """
    found, parameters = {}, set(wrt)
    for name in wrt:
        uses = elements[0][1].uses.get(name, ())
        if sum(not elements[0][1].steps[number].is_loss for number, _ in uses) != 1:
            continue
        own, terms = damping, abs(damping)
        for weight, lin in elements:
            for number, i in uses:
                step = lin.steps[number]
                if step.is_loss:
                    c = weight * _isotropic(lin, step, i)
                    own, terms = own + c, terms + abs(c)
                elif not parameters.isdisjoint(step.parents[j] for k, j in lin.curved(step) if k == i):
                    own = np.nan
        if abs(own) > CANCELLED * terms:  # False for nan
            found[name] = own
    return found


def _isotropic(lin, step, i):
    """c where this loss has the second derivative c I in its parent i and no mixed one, else nan."""
    if any((k == i) != (j == i) for k, j in step.local.curved):
        return np.nan
    if (i, i) not in step.local.curved:
        return 0.0
    value = lin.network.value(step.parents[i])
    probe = np.stack([np.ones(value.shape), np.cos(1.0 + np.arange(value.size)).reshape(value.shape)])
    bent = step.local.second(i, i, lin.adjoints[step.name], probe)
    c = bent.flat[0]
    return float(c) if np.allclose(bent, c * probe, rtol=1e-15, atol=0) else np.nan


def lift(
    elements: tuple[tuple[float, Linearization], ...],
    wrt: Iterable[str],
    damping: float,
    *,
    eliminate: bool | Container[str] = False,
) -> Lift:
    """The lifted system of sum_k w_k H_k + damping I over wrt; elements: pairs (w_k, linearization). eliminate: whether
    linear parameters are, or which of them may be."""
    lin, copies = elements[0][1], range(len(elements))
    gone = linear_parameters(elements, wrt, damping) if eliminate else {}
    if not isinstance(eliminate, bool):
        gone = {name: own for name, own in gone.items() if name in eliminate}
    cuts, kept, reach, order, at, sizes = _arranged(lin, wrt, gone, len(elements))
    stops, ends = set(cuts), {*cuts, *wrt}
    rank = {name: k for k, name in enumerate([*kept, *cuts])}
    params, multipliers = (np.array([at[name] for name in names], dtype=int) for names in (kept, cuts))
    bundles, todo, curvature = [], np.ones(len(order), dtype=bool), abs(damping)
    for k, (weight, _) in enumerate(elements):
        todo[multipliers + 2 * k] = False
        bundles += _scaled_identities(-weight, sizes, multipliers + 2 * k, multipliers + 2 * k + 1)
    bundles += _scaled_identities(damping, sizes, params, params)
    if len(elements) == 1:
        along = _run_bundles(lin, rank, gone, stops, at, todo)
        bent_along = [bundle.blocks for bundle in along if len(bundle.rows) and order[bundle.rows[0]][0] != "mu"]
        bundles, curvature = bundles + along, max([curvature, *(np.abs(bent).max() for bent in bent_along)])
    single: dict[tuple[int, int], np.ndarray] = {}

    def add(s, t, block):
        pair = at[s[1]] + 2 * s[2] + (s[0] == "z"), at[t[1]] + 2 * t[2] + (t[0] == "z")
        if pair[::-1] in single:
            pair, block = pair[::-1], block.T
        single[pair] = single[pair] + block if pair in single else block

    bent: dict[str, list[Any]] = {
        name: [] for name in gone
    }  # what couples with theta: (variable, weight, column in theta)
    readers: dict[str, list[str]] = {}
    for name in gone:
        readers.setdefault(_node_of(lin, name)[0].name, []).append(name)
    for number in np.flatnonzero(todo).tolist():
        kind, name, k = variable = order[number]
        value = lin.network.value(name)
        seed = np.eye(value.size).reshape(-1, *value.shape)
        for copy in copies if kind == "x" else (k,):
            weight, here = elements[copy]
            arrived, rows = between_cuts(here, {name: seed}, stops, ends)
            for cut, found in arrived.items():
                add(("mu", cut, copy), variable, weight * found.reshape(value.size, -1).T)
            for other, found in rows.items():
                curvature = max(curvature, weight * float(np.abs(found).max(initial=0.0)))
                if other in gone:
                    bent[other].append((variable, weight, found))
                elif rank[other] >= rank[name]:
                    met: Variable = ("z", other, copy) if other in stops else ("x", other, 0)
                    add(met, variable, weight * found.reshape(value.size, -1).T)
        if kind == "z" and k == copies[-1]:
            for theta in readers.get(name, ()):
                _eliminate(elements, theta, gone[theta], bent.pop(theta), stops, ends, add)
    bundles += _bundled(single)
    shared = tuple(name for name in kept if len(reach[name]) > 1)
    return Lift(
        tuple(elements), tuple(wrt), damping, order, sizes, at, tuple(bundles), cuts, shared, gone, float(curvature)
    )


def outline(
    elements: tuple[tuple[float, Linearization], ...], wrt: Iterable[str], damping: float, *, eliminate: bool = False
) -> Lift:
    """What `lift` would return, its blocks empty and no number computed: a superset of the pairs that meet."""
    lin, copies = elements[0][1], len(elements)
    gone = linear_parameters(elements, wrt, damping) if eliminate else {}
    cuts, kept, reach, order, at, sizes = _arranged(lin, wrt, gone, copies)
    stops, pairs, across, plain = set(cuts), set(), set(), [np.zeros((2, 0), dtype=int)]
    behind: dict[str, tuple[int, ...]] = {name: (at[name],) for name in kept}  # by number; of a cut its first z

    def enter(step, local):
        sources = [behind.get(parent, ()) for parent in step.parents]
        met = () if step.is_loss or step.name not in stops else (at[step.name],)
        clique = {*met} if not gone.keys().isdisjoint(step.parents) else set()
        every = {k for each in sources for k in each}
        pairs.update((mu, k) for mu in met for k in every)
        for i, j in local.curved:
            if step.parents[i] in gone or step.parents[j] in gone:
                clique.update(sources[i], sources[j])
            else:
                pairs.update((s, t) for s in sources[i] for t in sources[j])
        across.update((s, t) for s in clique for t in clique)
        if met:
            pairs.add((met[0], met[0] + 1))
            behind[step.name] = (met[0] + 1,)
        elif not step.is_loss:
            behind[step.name] = tuple(every)

    for step in lin.plan:
        if not isinstance(step, Run):
            enter(step, step.local)
            continue
        moving = [i for i, names in step.leaves.items() if names[0] in at]
        if not stops.issuperset(step.names) or any(not at.keys() >= set(step.leaves[i]) for i in moving):
            for member in lin.steps[step.start : step.stop]:
                enter(member, step.local)
            continue
        enter(lin.steps[step.start], step.local)
        mu = np.array([at[name] for name in step.names])
        place = {i: np.array([at[name] for name in step.leaves[i][1:]]) for i in moving}
        place[step.chain] = mu[:-1] + 1
        plain += [np.array([mu[1:], each]) for each in place.values()] + [np.array([mu, mu + 1])]
        plain += [np.array([place[i], place[j]]) for i, j in step.local.curved if i in place and j in place]
        behind.update((name, (at[name] + 1,)) for name in step.names)
    plain.append(np.array(sorted(pairs), dtype=int).reshape(-1, 2).T)
    within = np.concatenate(plain, axis=1)
    between = np.array(sorted(across), dtype=int).reshape(-1, 2).T  # what is eliminated is shared by the copies
    of_cut = np.array([kind != "x" for kind, _, _ in order], dtype=bool)
    bundles = [
        Bundle(rows + 2 * k * of_cut[rows], columns + 2 * other * of_cut[columns], np.empty((len(rows), 0, 0)))
        for k in range(copies)
        for other in range(copies)
        for rows, columns in ([within, between] if k == other else [between])
    ]
    shared = tuple(name for name in kept if len(reach[name]) > 1)
    return Lift(
        tuple(elements), tuple(wrt), damping, order, sizes, at, tuple(bundles), cuts, shared, gone, abs(damping)
    )


def _arranged(lin, wrt, gone, copies):
    """(cuts, kept parameters, parameter -> the cuts it reaches, order, at, sizes) of a `Lift`."""
    cuts = cut_nodes(lin, wrt)
    kept, stops = [name for name in wrt if name not in gone], set(cuts)
    place = {name: k for k, name in enumerate(cuts)}
    reach = {name: _cuts_reached(lin, name, stops) for name in kept}
    entering: dict[str, list[str]] = {}
    for name, found in reach.items():
        first = found[0] if len(found) == 1 else min(found, key=place.__getitem__, default="")
        entering.setdefault(first, []).append(name)
    order: list[Variable] = []
    at: dict[str, int] = {}
    for cut in ("", *cuts):
        for name in entering.get(cut, ()):
            at[name] = len(order)
            order.append(("x", name, 0))
        if cut:
            at[cut] = len(order)
            order += [(kind, cut, k) for k in range(copies) for kind in ("mu", "z")]
    sizes = np.empty(len(order), dtype=int)
    for names, length in ((kept, 1), (cuts, 2 * copies)):
        numbers = np.array([at[name] for name in names], dtype=int)
        own = [lin.network.value(name).size for name in names]
        for k in range(length):
            sizes[numbers + k] = own
    return cuts, kept, reach, tuple(order), at, sizes


def _bundled(single):
    """{(row, column): block} as bundles, one for each shape."""
    shapes: dict[tuple[Any, ...], list[Any]] = {}
    for pair, block in single.items():
        shapes.setdefault(block.shape, []).append((pair, block))
    found = []
    for each in shapes.values():
        places = np.array([pair for pair, _ in each])
        found.append(Bundle(places[:, 0], places[:, 1], np.array([block for _, block in each])))
    return found


def _scaled_identities(scale, sizes, rows, columns):
    """scale I in each of these places, variables given by number."""
    return [
        Bundle(rows[these], columns[these], np.broadcast_to(scale * np.eye(size), (int(these.sum()), size, size)))
        for size in np.unique(sizes[rows])
        for these in [sizes[rows] == size]
    ]


def _run_bundles(lin, rank, gone, stops, at, todo):
    """The blocks in the columns of those variables that only one step of a run reads; they are struck off `todo`."""
    bundles, moving = [], {*rank, *gone}
    for run in lin.runs:
        read = {i: names for i, names in run.leaves.items() if not moving.isdisjoint(names)}
        own = {name for names in read.values() for name in names}
        if not own <= rank.keys() or not stops.issuperset(run.names):
            continue
        mu = np.array([at[name] for name in run.names])
        place = {i: np.array([at[name] for name in names]) for i, names in read.items()}
        place[run.chain] = np.concatenate([[-1], mu[:-1] + 1])  # the first reads what is no part of the run
        read[run.chain] = (run.before, *run.names[:-1])
        m = len(run.names)
        delta = run.adjoints(lin)
        for j, names in read.items():
            here = np.array([len(lin.uses[name]) == 1 for name in names])
            here[0] = False  # it may meet what stands before
            if not here.any():
                continue
            todo[place[j][here]] = False
            each = lin.network.value(names[1]).shape
            size = int(np.prod(each))
            seed = np.broadcast_to(np.eye(size).reshape(size, 1, *each), (size, m, *each))
            pushed = run.local.push(j, seed).reshape(size, m, -1).transpose(1, 2, 0)
            bundles.append(Bundle(mu[here], place[j][here], pushed[here]))
            for i, k in run.local.curved:
                if k != j or i not in read or (i != j and j == run.chain):
                    continue
                once = here
                if i != j and i != run.chain:  # as in `lift`, a pair stands in the column of the first of the two
                    once = here & [rank[a] > rank[b] for a, b in zip(read[i], read[j], strict=True)]
                bent = run.local.second(i, j, delta, seed).reshape(size, m, -1).transpose(1, 2, 0)
                bundles.append(Bundle(place[i][once], place[j][once], bent[once]))
    return bundles


def _node_of(lin, name):
    """The one node that reads an eliminated parameter, and the argument."""
    ((step, i),) = ((lin.steps[k], i) for k, i in lin.uses[name] if not lin.steps[k].is_loss)
    return step, i


def _eliminate(elements, theta, damping, couplings, stops, ends, add):
    """Add -A^T A / lambda, A the columns in theta of what couples with it: multipliers of its node, and `couplings`."""
    columns = list(couplings)
    for k, (weight, lin) in enumerate(elements):
        step, i = _node_of(lin, theta)
        value = lin.network.value(step.name)
        identity = np.eye(value.size).reshape(-1, *value.shape)
        columns.append((("mu", step.name, k), weight, step.local.pull(i, identity)))
    done = set()
    for variable, weight, column in columns:
        done.add(variable)
        for k, (other_weight, lin) in enumerate(elements):
            arrived, rows = between_cuts(lin, {theta: column}, stops, ends)
            scale = -weight * other_weight / damping
            found = {("mu", cut, k): block for cut, block in arrived.items()}
            found |= {("z", cut, k): block for cut, block in rows.items() if cut in stops}
            for at, block in found.items():
                if at not in done or at == variable:  # the other half is the transpose
                    add(at, variable, scale * block.reshape(len(block), -1).T)


def between_cuts(
    lin: Linearization, seeds: Mapping[str, Any], stops: set[str], ends: set[str]
) -> tuple[dict[str, NDArray[np.float64]], dict[str, NDArray[np.float64]]]:
    """The two passes of `linearization` from `seeds` to the next cuts, touching only the steps on the way.

    Returns (cut -> the tangents that arrive there, end -> rows of the second derivatives of what lies between).
    """
    moving, arrived = dict(seeds), {}
    todo = sorted({k for name in seeds for k, _ in lin.uses.get(name, ())})
    met = set(todo)
    while todo:
        step = lin.steps[heapq.heappop(todo)]
        if step.is_loss:
            continue
        total = None
        for i, parent in enumerate(step.parents):
            if parent in moving:
                total = joined(total, step.local.push(i, moving[parent]))
        if step.name in stops:
            arrived[step.name] = total
            continue
        moving[step.name] = total
        for k, _ in lin.uses.get(step.name, ()):
            if k not in met:
                met.add(k)
                heapq.heappush(todo, k)
    rows: dict[str, np.ndarray] = {}
    back = [-k for k in met]
    heapq.heapify(back)
    while back:
        step = lin.steps[-heapq.heappop(back)]
        found = []
        for i, j in step.local.curved:
            if step.parents[j] in moving:
                t = moving[step.parents[j]]
                found.append((step.parents[i], step.local.second(i, j, lin.adjoints[step.name], t)))
        if step.name in rows and step.name not in ends:
            c = rows.pop(step.name)
            found += [(parent, step.local.pull(i, c)) for i, parent in enumerate(step.parents)]
        for name, row in found:
            rows[name] = joined(rows.get(name), row)
            k = lin.numbers.get(name)
            if k is not None and k not in met and name not in ends:
                met.add(k)
                heapq.heappush(back, -k)
    return arrived, {name: row for name, row in rows.items() if name in ends}


def _cuts_reached(lin, name, stops):
    """The cuts that a parameter reaches without passing another."""
    todo = [k for k, _ in lin.uses.get(name, ())]
    if len(todo) == 1 and lin.steps[todo[0]].name in stops:
        return (lin.steps[todo[0]].name,)
    found, seen = set(), set()
    while todo:
        k = todo.pop()
        step = lin.steps[k]
        if k in seen or step.is_loss:
            continue
        seen.add(k)
        if step.name in stops:
            found.add(step.name)
        else:
            todo += [number for number, _ in lin.uses.get(step.name, ())]
    return tuple(found)


# ---------------------------------------------------------------- right-hand sides and solutions


def right_hand_side(system: Lift, r: np.ndarray) -> np.ndarray:
    """The lifted right-hand side of r, flat over wrt: r itself, and what the eliminated parameters leave behind."""
    found = np.zeros(system.starts[-1])
    if not system.eliminated:
        found[system.kept] = r
        return found
    stops, pieces = set(system.cuts), system.layout.split(r[None])
    if system.kept.size:
        found[system.kept] = np.concatenate([pieces[x].ravel() for x in system.wrt if x not in system.eliminated])
    for name in system.eliminated:
        for k, (weight, here) in enumerate(system.elements):
            arrived, rows = between_cuts(here, {name: pieces[name]}, stops, stops)
            scale = weight / system.eliminated[name]
            for kind, moved in (("mu", arrived), ("z", rows)):
                for cut, block in moved.items():
                    number = system.number(kind, cut, k)
                    found[system.starts[number] : system.starts[number + 1]] -= scale * block.ravel()
    return found


def parameters_of(system: Lift, solution: np.ndarray, r: np.ndarray) -> np.ndarray:
    """dx, flat over wrt, from a solution of the lifted system."""
    if not system.eliminated:
        return solution[system.kept]
    stops, values, layout = set(system.cuts), np.split(solution, system.starts[1:-1]), system.layout
    pieces, number = layout.split(r[None]), system.number
    left = {name: np.array(pieces[name]) for name in system.eliminated}
    targets = {*stops, *left}
    for k, (weight, here) in enumerate(system.elements):
        for name in system.eliminated:
            step, i = _node_of(here, name)
            shape = here.network.value(step.name).shape
            left[name] -= weight * step.local.pull(i, values[number("mu", step.name, k)].reshape(1, *shape))
        seeds = [(name, values[number("z", name, k)]) for name in system.cuts]
        seeds += [(name, values[number("x", name)]) for name in system.wrt if name not in left]
        for name, seed in seeds:
            _, rows = between_cuts(here, {name: seed.reshape(1, *here.network.value(name).shape)}, stops, targets)
            for other in rows.keys() & left.keys():
                left[other] -= weight * rows[other]
    return layout.join(
        {
            name: left[name] / system.eliminated[name] if name in left else values[number("x", name)]
            for name in system.wrt
        }
    )[0]
