"""The chambers that meet at x, level by level.

Walk the kinks in order of execution. On the open cone where all earlier letters are fixed, the guards of the next
operation have derivatives linear in the direction, so its letters there are the chambers of a central arrangement
inside that cone. A strictly feasible cone is always realized. What first order rejects is settled by an identity or
a certificate; what cannot be settled is listed in `undecided`.

When the list is complete. Let h be the guards met on the way to a pattern, J their gradients at x, and N the linear
relations N J = 0. If N h = 0 identically, h is an invertible change of coordinates away from a linear map, so the fan
of h is exactly that of J. In input space of a piecewise-linear function this always holds (h is affine); in parameter
space it holds, for instance, whenever the gradients are independent.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import pairwise, product
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import cones as rays
from . import descent, second_order, selections
from .arrangements import TooManyChambers, chambers
from .graph import PROBE, Graph, pushforward, require_same_value, unit_of
from .halfspaces import min_norm_direction, strict_direction, unit
from .kinks import TOL, Germ, Kink, germ, text
from .skeleton import ROUNDING, Functionals, Skeleton, skeleton, stacked

MAX_CHAMBERS = 100_000
COMPARED = 16  # chambers, one for two kinks, in which f is evaluated again: slow beside everything else
TREE = 8  # at most so many walls: a tree of signs in the cone; beyond, deletion and restriction
BATCH, RAYS = 2048, 16  # cones worked on together where they have so many rays each, fewer where they have more
WALLS = 16  # of a cone, looked at together
SLOTS = 2**32  # bytes of derivatives under all patterns of a level
DENSE = 10**6  # entries of the guards' derivatives: beyond, they are kept by stage
MEMBERS = 12  # of a max or min: beyond, its cones may have too many rays


@dataclass(frozen=True, eq=False, repr=False)
class Fan:
    """The activation patterns realized arbitrarily near x.

    kinks: one a letter. patterns: m strings over `+-0`, one a chamber, in lexicographic order of -, 0, +; at least
    one, '' where nothing ties. witnesses (m, n): a unit direction inside each chamber, or, where the chamber's
    tangent cone has no interior, a displacement w with x + w in it. complete: every pattern realized in every
    neighborhood of x, for the kinks active at this tol, is listed. reason: the criterion met, or what failed.
    undecided: patterns neither realized nor excluded (a shorter string stands for all that begin with it).
    margin: smallest |guard| / scale among the kinks that are not active.
    """

    kinks: tuple[Kink, ...]
    patterns: tuple[str, ...]
    witnesses: np.ndarray
    complete: bool
    reason: str
    undecided: tuple[str, ...]
    margin: float

    def __len__(self) -> int:
        return len(self.patterns)

    def __repr__(self) -> str:
        k, m = len(self.kinks), len(self.patterns)
        state = "complete" if self.complete else f"incomplete, {len(self.undecided)} undecided"
        return f"Fan({m} pattern{'s' * (m != 1)} of {k} kink{'s' * (k != 1)}, {state})"


@dataclass(frozen=True, eq=False)
class Cone:
    """An open cone of directions on which the letters so far are fixed: rows @ w > 0, and du/dx there."""

    signs: tuple[Any, ...]
    rows: np.ndarray
    witness: np.ndarray
    slots: np.ndarray


def local_fan(
    f: Callable[..., Any] | Graph,
    x: ArrayLike,
    *,
    tol: float = TOL,
    max_chambers: int = MAX_CHAMBERS,
    mapper: Callable[..., Any] = map,
) -> Fan:
    """All activation patterns of f realized arbitrarily near x, each with a witness.

    f: autograd.numpy function of one flat array (n,), or a Graph. tol: a guard ties iff |guard| <= tol * its scale.
    mapper: a `map` over independent cones (`ProcessPoolExecutor().map`); the result does not depend on it.
    Raises `TooManyChambers` beyond max_chambers, and what `from_function` raises; never enumerates 2^k.
    """
    return walk(f, x, tol=tol, max_chambers=max_chambers, mapper=mapper)[1]


def walk(
    f: Callable[..., Any] | Graph,
    x: ArrayLike,
    *,
    tol: float = TOL,
    max_chambers: int = MAX_CHAMBERS,
    mapper: Callable[..., Any] = map,
) -> tuple[Skeleton, Fan]:
    """The skeleton of f at x and its fan, f compared with its recording in up to 16 of the chambers."""
    skel = skeleton(germ(f, x, tol=tol))
    here, fan = skel.germ, fan_of(skel, max_chambers=max_chambers, mapper=mapper)
    if here.graph.source is not None:
        chosen = fan.witnesses[:: -(-len(fan) // min(COMPARED, 1 + len(here.kinks) // 2))]
        steps = np.minimum(1.0, PROBE * unit_of(here.x) / np.linalg.norm(chosen, axis=1))
        for number, y in enumerate(here.x + steps[:, None] * chosen):
            if not number or not _replayed(here.graph, y):
                require_same_value(here.graph, here.graph.source, y)
    return skel, fan


def _replayed(graph, y):
    """Does f give at y, to the last bit, what the operations give as they were written? The program costs more."""
    with np.errstate(all="ignore"):
        direct, replayed = graph.source(np.array(y)), graph(y)
    return np.array_equal(direct, replayed) or np.array_equal(direct, replayed, equal_nan=True)


def fan_of(skel: Skeleton, *, max_chambers: int = MAX_CHAMBERS, mapper: Callable[..., Any] = map) -> Fan:
    """The fan of a germ whose skeleton is at hand."""
    here = skel.germ
    if not isinstance(max_chambers, (int, np.integer)) or max_chambers < 1:
        raise ValueError(f"max_chambers must be a positive integer; got {max_chambers!r}")
    letters, witnesses, flags = _first_order(skel, max_chambers, mapper)
    undecided = []
    if flags:
        undecided, reason = [text(prefix) for prefix, _ in flags], flags[0][1]
    elif not here.kinks:
        reason = "no kink is active, so f is smooth near x"
    elif affine_guards(here):
        reason = "every guard is affine in x, so the fan of the tangent cones is exact"
    elif all(second_order.relations_persist(skel, signs) for signs in letters):
        reason = (
            "on every chamber the linear relations between the guards' gradients hold for the guards themselves "
            "(with probability 1: checked at random points near x)"
        )
    else:
        found = dict(zip(map(tuple, letters.tolist()), witnesses, strict=True))
        found, undecided, reason = second_order.search(skel, found, max_chambers)
        letters = np.array(list(found), dtype=int).reshape(len(found), len(here.kinks))
        witnesses = np.array([*found.values()]).reshape(len(found), here.x.size)
    patterns, order = _in_order(letters)
    witnesses = witnesses[order]
    witnesses.flags.writeable = False
    return Fan(here.kinks, patterns, witnesses, not undecided, reason, tuple(undecided), here.margin)


def _in_order(letters):
    """(patterns as strings in lexicographic order of -, 0, +; the order)."""
    m, k = letters.shape
    numbers = np.ascontiguousarray(letters + 2, dtype=np.uint8)
    order = np.argsort(numbers.view(f"S{k}")[:, 0]) if k else np.arange(m)  # as bytes
    written = np.frombuffer(b" -0+", np.uint8)[numbers[order]].tobytes().decode()
    return tuple(written[a * k : (a + 1) * k] for a in range(m)), order


def affine_guards(here: Germ) -> bool:
    graph = here.graph
    return all(
        graph.degrees[parent] <= 1
        for stage in here.stages
        for parent in graph.program.operations[stage.position - 1].parents
    )


# ---------------------------------------------------------------- first order


class Level(NamedTuple):
    """Consecutive stages whose guards do not depend on one another's outputs, decided together.

    walls: their guards, one for all that are parallel as functionals of (x, u). Of each stage: group and facing of its
    guards (K,): guard i is a positive multiple of facing[i] * walls[group[i]]; group -1 where it is zero. The guards of
    a max, min or sort are the differences of its members, in the order of `_pairs`.
    """

    stages: tuple[Any, ...]
    walls: Functionals
    group: tuple[Any, ...]
    facing: tuple[Any, ...]


def _first_order(skel, max_chambers, mapper):
    """(letters (m, k), witnesses (m, n)) after the last stage, and the prefixes whose subdivision was flagged, with
    the flag's reason. Cones that are in doubt among the many go on one at a time.
    """
    found = _descended(skel, max_chambers, mapper)
    if found is not None:
        return *found, []
    n, kinks = skel.germ.x.size, len(skel.germ.kinks)
    cones, letters = rays.whole(n), np.zeros((1, kinks), dtype=np.int8)
    slots, points = np.zeros((1, skel.size, n)), np.eye(1, n)
    levels, apart, flags = list(_levels(skel)), [], []
    for number, level in enumerate(levels):
        stages, last = level.stages, number == len(levels) - 1
        for stage in stages:
            _require_continuous(skel, stage, slots)
        crown = isinstance(stages[0].ties, selections.ExtremumTie)
        if last and number == 0 and not crown and len(level.walls.x) > TREE:
            signs, points, flag = _arrangement(level.walls.under(slots)[0], max_chambers)
            return _read(level, signs), points, [((), flag)] * bool(flag)
        at, grown, unsure = [], [], np.arange(len(letters))
        if level.group:
            most = max(1, BATCH // max(1, len(cones.rays) // (RAYS * max(1, len(letters)))))
            at = [np.arange(a, min(a + most, len(letters))) for a in range(0, len(letters), most)]
            walls = level.walls.cleaned(slots)
            walls = unit(walls.reshape(-1, n)).reshape(walls.shape)
            numbers = len(cones.normals) + np.arange(walls.shape[0] * walls.shape[1]).reshape(walls.shape[:2])
            cones = cones._replace(normals=np.concatenate([cones.normals, walls.reshape(-1, n)]))
            tasks = [(rays.taken(cones, i), numbers[i]) for i in at] if len(at) > 1 else [(cones, numbers)] * len(at)
            grown = list(mapper(partial(_crown if crown else _grow, level, max_chambers), tasks))
            unsure = np.concatenate([i[g.unsure] for i, g in zip(at, grown, strict=True)] or [np.zeros(0, int)])
        apart += [_alone(letters[c, : stages[0].first], cones, c, points[c], slots[c]) for c in unsure.tolist()]
        apart, more = _one_by_one(skel, stages, apart, max_chambers, mapper)
        flags += more
        parent = np.concatenate([i[g.parent] for i, g in zip(at, grown, strict=True)] or [np.zeros(0, int)])
        letters = letters[parent]
        if len(parent) + len(apart) > max_chambers:
            raise TooManyChambers(len(parent) + len(apart), max_chambers)
        if grown:
            letters[:, stages[0].first : stages[-1].letters.stop] = np.concatenate([g.letters for g in grown])
            cones, points = rays.joined([g.cones for g in grown]), np.concatenate([g.points for g in grown])
        if not last:
            _require_memory(len(letters), skel)
            slots = skel.advance_all(stages, letters, slots[parent])
    letters = np.concatenate([letters, np.array([c.signs for c in apart], np.int8).reshape(len(apart), kinks)])
    points = np.concatenate([points[: len(letters) - len(apart)], *(c.witness[None] for c in apart)])
    return letters.astype(int), points, flags


def _require_memory(patterns, skel):
    """MemoryError, and what to do, before the derivatives of all cones of a level would not fit."""
    n, kinks = skel.germ.x.size, len(skel.germ.kinks)
    needed = 8 * patterns * skel.size * n
    if needed > SLOTS:
        raise MemoryError(
            f"{patterns:,} patterns of the first layers of {kinks} kinks in {n} variables, and more to come, take "
            f"{needed / 2**30:.1f} GiB, above the limit of {SLOTS / 2**30:.0f} GiB; take fewer variables or samples "
            "(network.function(wrt=...)), or ask for one element (limiting_gradient, limiting_hessian)"
        )


def _descended(skel, max_chambers, mapper):
    """(letters, witnesses) by the compiled descent; None where it does not apply or is in doubt."""
    program = _program(skel) if descent.possible() else None
    if program is None:
        return None
    walls = (program.levels[:, 1] - program.levels[:, 0]).tolist()
    if (len(walls) == 1 and walls[0] > TREE) or not descent.worthwhile(walls, program.x.shape[1]):
        return None
    signs = [None]
    if mapper is not map:  # one task for each cell of the first level
        few = descent.patterns(max_chambers, ROUNDING, program._replace(levels=program.levels[:1]), None)
        signs = [*few.signs] if few.status == descent.SETTLED else signs
    found = list(mapper(partial(descent.patterns, max_chambers, ROUNDING, program), signs))
    known = sum(part.known for part in found)
    if any(part.status == descent.DOUBTFUL for part in found):
        return None
    if known > max_chambers:
        raise TooManyChambers(known, max_chambers)
    return np.concatenate([p.letters for p in found]).astype(int), np.concatenate([p.points for p in found])


def _program(skel) -> descent.Program | None:
    """The levels of a germ of two-way kinks alone, none of a `where`, whose continuity wants the slots; else None.

    A level is as long as no guard reads one of its letters; so slots have the numbers of their letters.
    """
    stages, operations, n, K = skel.germ.stages, skel.germ.graph.program.operations, skel.germ.x.size, skel.size
    if not stages or K * (n + K) > DENSE:
        return None
    columns, coefs = ([], [], [], []), ([], [], [], [])  # of both terms of the guard, and of both sides
    for stage in stages:
        ties = stage.ties
        if not isinstance(ties, selections.TwoWayTies) or operations[stage.position - 1].name == "where":
            return None
        guard, found = ties.guard_terms, {}
        mute = (*guard[0][:2], np.zeros(ties.letters))
        for k, term in enumerate((guard[0], guard[1] if len(guard) > 1 else mute, ties.plus, ties.minus)):
            argument, entries, coef = term
            key = argument, id(entries)
            if key not in found:
                found[key] = skel.entry_rows(stage.position, argument, entries)
            columns[k].extend(found[key])
            coefs[k].append(coef)
    first, second, plus, minus = (
        np.concatenate(c)[:, None] * np.array(rows) for c, rows in zip(coefs, columns, strict=True)
    )
    guards = first + second
    row, column = guards[:, n:].nonzero()
    latest = np.full(K, -1)
    latest[row] = column  # ascending, so the last one stays
    latest, begins = latest.tolist(), [0]
    for stage in stages:
        if max(latest[stage.letters]) >= begins[-1]:
            begins.append(stage.first)
    level = np.searchsorted(begins, np.arange(K), side="right") - 1
    chosen, group, facing = _grouped(guards, level)
    rows = np.concatenate([guards[chosen], plus, minus])
    row, column = rows[:, n:].nonzero()
    ends = np.searchsorted(level[chosen], np.arange(len(begins) + 1))
    return descent.Program(
        np.ascontiguousarray(rows[:, :n]),
        np.searchsorted(row, np.arange(len(rows) + 1)),
        column,
        rows[row, n + column],
        np.array([ends[:-1], ends[1:], begins, [*begins[1:], K]]).T.copy(),
        group,
        facing,
    )


def _alone(signs, cones, c, point, slots):
    return Cone(tuple(signs.tolist()), cones.rows(c, np.arange(cones.count[c])), point, slots)


def _levels(skel):
    """The stages as levels, each begun where a guard depends on an output of the last."""
    stages, guards, cut = [], [], set()
    for stage in skel.germ.stages:
        own, crown = _guards(skel, stage), isinstance(stage.ties, selections.ExtremumTie)
        read = set(own.numbers.tolist())
        if skel.germ.graph.program.operations[stage.position - 1].name == "where":  # continuous under the slots so far
            read.update(*(side.numbers.tolist() for side in skel.candidates(stage)))
        if stages and (crown or read & cut or isinstance(stages[-1].ties, selections.ExtremumTie)):
            yield _level(stages, guards)
            stages, guards, cut = [], [], set()
        stages.append(stage)
        guards.append(own)
        cut.update(skel.own[stage.first].tolist())
    if stages:
        yield _level(stages, guards)


def _guards(skel, stage) -> Functionals:
    """The guards of a two-way stage; the differences of the members of any other (none where they are too many)."""
    ties = stage.ties
    if isinstance(ties, selections.TwoWayTies):
        return skel.functionals(stage.position, ties.guard_terms)
    (members,) = skel.candidates(stage)
    if isinstance(ties, selections.ExtremumTie) and ties.letters > MEMBERS:
        return members[:0]
    a, b = _pairs(len(ties.members))
    return Functionals(members.x[a] - members.x[b], members.numbers, members.u[a] - members.u[b])


def _pairs(k):
    """(a, b) for a < b, ordered by b: so the walls before each b make a whole arrangement."""
    b, a = np.tril_indices(k, -1)
    return a, b


def _level(stages, guards) -> Level:
    """The level, its guards grouped: rows that are parallel to rounding are one wall."""
    every = stacked(guards) if len(guards) > 1 else guards[0]
    if not len(every.x):
        return Level(tuple(stages), every, (), ())
    first, group, facing = _grouped(np.hstack([every.x, every.u]), np.zeros(len(every.x), dtype=int))
    stops = np.cumsum([0, *(len(g.x) for g in guards)]).tolist()
    group, facing = (tuple(a[i:j] for i, j in pairwise(stops)) for a in (group, facing))
    return Level(tuple(stages), every[first], group, facing)


def _grouped(rows, level):
    """(first, group, facing): rows of one level, levels ascending, that are parallel to rounding are one wall, the row
    first[group] times `facing` and a positive number; group -1: zero rows.
    """
    units = unit(rows)
    key = units @ generic_direction(units.shape[1])
    facing = np.where(key < 0, -1, 1)
    order = np.lexsort((np.abs(key), level))
    turned = (facing[:, None] * units)[order]
    new = (np.abs(turned[1:] - turned[:-1]).max(axis=1, initial=0) > PARALLEL) | (np.diff(level) != 0)
    label = np.zeros(len(units), dtype=int)
    label[order[1:]] = np.cumsum(new)
    first = np.full(len(units), len(units))
    np.minimum.at(first, label, np.arange(len(units)))
    first = first[label]  # of those parallel to each row
    nonzero = units.any(axis=1)
    named = np.flatnonzero(nonzero & (first == np.arange(len(units))))  # walls in order of appearance
    group = np.where(nonzero, np.searchsorted(named, first), -1)
    return named, group, facing * facing[first]


class Grown(NamedTuple):
    """What a level makes of some cones: cones in them with a point and the level's letters each, the number of the
    one each lies in; and the numbers of those that are in doubt, in which nothing is listed.
    """

    cones: rays.Cones
    points: np.ndarray
    letters: np.ndarray
    parent: np.ndarray
    unsure: np.ndarray


def _grow(level, limit, task) -> Grown:
    """Each cone divided by all its walls, given by their numbers, one after the other."""
    cones, walls = task
    parent, signs = np.arange(len(walls)), np.zeros((len(walls), 0), dtype=np.int8)
    unsure = np.zeros(len(walls), dtype=bool)
    for a in range(0, walls.shape[1], WALLS):
        cones, up, more, doubt = rays.cells(cones, walls[parent, a : a + WALLS], limit)
        unsure[parent[doubt]] = True
        parent, signs = parent[up], np.column_stack([signs[up], more])
    points = _points(cones)
    heights = (cones.normals[walls][parent] @ points[:, :, None])[:, :, 0]
    shown = ((signs == 0) | (signs * heights > rays.NEAR)).all(axis=1)  # those implied, too
    return _shown(cones, points, shown, _read(level, signs), parent, unsure)


def _crown(level, limit, task) -> Grown:
    """Each cone divided by which member of a max or min is ahead: a copy for each member, cut by its rivals."""
    cones, walls = task
    ties, k = level.stages[0].ties, level.stages[0].ties.letters
    group, facing = np.full((k, k), -1), np.zeros((k, k), dtype=int)
    a, b = _pairs(k)
    group[a, b] = group[b, a] = level.group[0]
    facing[a, b], facing[b, a] = level.facing[0], -level.facing[0]
    walls = np.column_stack([walls, np.full(len(walls), len(cones.normals))])  # number -1: a zero normal
    cones = cones._replace(normals=np.concatenate([cones.normals, np.zeros((1, cones.normals.shape[1]))]))
    copy, winner = np.repeat(np.arange(len(walls)), k), np.tile(np.arange(k), len(walls))
    rival = np.arange(k - 1) + (np.arange(k - 1) >= winner[:, None])
    wall = walls[copy[:, None], group[winner[:, None], rival]]
    wall = np.where(ties.side * facing[winner[:, None], rival] > 0, wall, ~wall)
    cones, up, signs, doubt = rays.cells(rays.taken(cones, copy), wall, limit, ahead=True)
    unsure, twins = np.zeros(len(walls), dtype=bool), np.zeros((len(up), k), dtype=bool)
    unsure[copy[doubt]] = True
    parent, winner = copy[up], winner[up]
    twins[np.arange(len(up))[:, None], rival[up]] = signs == 0
    twins[np.arange(len(up)), winner] = True
    letters = np.where(twins, np.where(twins.sum(axis=1) == 1, 1, 0)[:, None], -1)
    once = np.flatnonzero(np.argmax(twins, axis=1) == winner)  # twins that win together are one piece
    cones = rays.taken(cones, once)
    return _shown(cones, _points(cones), np.ones(len(once), bool), letters[once], parent[once], unsure)


def _points(cones):
    points = rays.interior(cones)
    points[cones.rank == 0, 0] = 1.0
    return points


def _shown(cones, points, shown, letters, parent, unsure) -> Grown:
    """The cones whose points show them, those of doubtful parents left out."""
    unsure[parent[~(shown & (rays.margins(cones, points) > rays.NEAR))]] = True
    if unsure.any():
        left = np.flatnonzero(~unsure[parent])
        cones, points, letters, parent = rays.taken(cones, left), points[left], letters[left], parent[left]
    return Grown(cones, points, letters, parent, np.flatnonzero(unsure))


def _read(level, signs):
    """(C, letters) of the level's stages, from the signs (C, G) of its walls."""
    padded, read = np.column_stack([signs, np.zeros(len(signs), dtype=signs.dtype)]), []
    for stage, group, facing in zip(level.stages, level.group, level.facing, strict=True):
        letters = facing * padded[:, group]
        if isinstance(stage.ties, selections.SortTie):
            k = len(stage.ties.members)
            a, b = _pairs(k)
            table = np.zeros((len(signs), k, k), dtype=int)
            table[:, a, b], table[:, b, a] = letters, -letters
            wires, every = np.tile(np.arange(k), (len(signs), 1)), np.arange(len(signs))
            letters = np.empty((len(signs), stage.ties.letters), dtype=int)
            for letter, (i, j) in enumerate(stage.ties.comparators):
                letters[:, letter] = table[every, wires[:, i], wires[:, j]]
                swapped = (letters[:, letter] > 0)[:, None]
                wires[:, [i, j]] = np.where(swapped, wires[:, [j, i]], wires[:, [i, j]])
        read.append(letters)
    return np.column_stack(read)


def _arrangement(walls, limit):
    """(signs, witnesses, flag or '') of the chambers of many walls, all of them in the whole space."""
    walls, apart = _aligned(walls)
    found = chambers(walls, max_chambers=max(limit, 2))
    if len(found) > limit:
        raise TooManyChambers(len(found), limit)
    thick, flag = _thick(found, apart)
    return found.signs[thick], found.witnesses[thick], flag


def _thick(found, apart, cone=None):
    """(which of these chambers have witnesses beyond rounding, flag or '').

    Where floats do not decide, `chambers` answers for the floats as exact numbers; but the rows here carry rounding,
    and slivers that it opens between them are no cells.
    """
    thick = found.margins > SLIVER
    if cone is not None and len(found):
        thick = thick & ((cone @ found.witnesses.T).min(axis=0, initial=np.inf) > SLIVER)
    if apart > SLIVER:
        return thick, f"two normals closer than {ANGLE:g} were taken as one: a sliver may be missing"
    if not thick.all():
        return thick, f"{(~thick).sum()} cells thinner than rounding were left out, which may be there: {found.reason}"
    return thick, "" if found.complete else found.reason


def _one_by_one(skel, stages, cones, max_chambers, mapper):
    """The cones after these stages, and the flags, a cone at a time: the slow twin, and what doubtful cones take."""
    flags = []
    for stage in stages:
        divide = {
            selections.TwoWayTies: _two_way_task,
            selections.ExtremumTie: _extremum_task,
            selections.SortTie: _sort_task,
        }[type(stage.ties)]
        for cone in cones:
            _require_continuous(skel, stage, cone.slots)
        tasks = [divide(skel, stage, cone, max_chambers) for cone in cones]
        grown = []
        for cone, (children, flag) in zip(cones, mapper(_divide, tasks), strict=True):
            if flag:
                flags.append((cone.signs, flag))
            for signs, rows, witness in children:
                slots = skel.advance(stage, signs, cone.slots)
                grown.append(Cone((*cone.signs, *(int(s) for s in signs)), rows, witness, slots))
            if len(grown) > max_chambers:
                raise TooManyChambers(len(grown), max_chambers)
        cones = grown
    return cones, flags


def _divide(task):
    function, *arguments = task
    return function(*arguments)


def _require_continuous(skel, stage, slots):
    """The two sides of a `where` must agree to first order along the zero set of its guard, under any slots."""
    if skel.germ.graph.program.operations[stage.position - 1].name != "where":
        return
    a, b = skel.candidates(stage)
    guards, gaps = skel.functionals(stage.position, stage.ties.guard_terms).cleaned(slots), (a - b).cleaned(slots)
    length = np.linalg.norm(guards, axis=-1, keepdims=True)
    normals = guards / np.where(length > 0, length, 1.0)
    along = gaps - np.sum(gaps * normals, axis=-1, keepdims=True) * normals
    off = (length[..., 0] > 0) & (np.linalg.norm(along, axis=-1) > 1e-7 * np.linalg.norm(gaps, axis=-1))
    if off.any():
        name = skel.germ.kinks[stage.first + int(np.argmax(off.reshape(-1, off.shape[-1]).any(axis=0)))].name
        raise ValueError(
            f"where: at {name} the sides agree at x but not along the zero set of the guard near x; a selection must "
            "be continuous, so choose a guard that vanishes only where a equals b"
        )


def distinct_normals(rows: np.ndarray) -> NDArray[np.float64]:
    """Distinct unit normals among the nonzero rows, in order."""
    unit, _ = _aligned(rows)
    unit = unit[unit.any(axis=1)]
    return unit[np.sort(np.unique(unit, axis=0, return_index=True)[1])]


ANGLE = 1e-10  # normals this close are one normal: rounding must not open slivers between guards that coincide
SLIVER = 1e-13  # but beyond what rounding explains, the list is not called complete
PARALLEL = 1e-15  # functionals of (x, u) this close are one, whatever the slots: as close as rounding puts them


def _aligned(rows):
    """(unit rows, how far apart those were that are now one): parallel or antiparallel to within ANGLE, exactly so.

    Zero rows stay zero. The distance is the largest entry times sqrt(n), an upper bound of the Euclidean one.
    """
    largest = np.abs(rows).max(axis=1, keepdims=True, initial=0)
    unit = rows / np.where(largest > 0, largest, 1.0)  # first, so that no square overflows
    unit = unit / np.where(largest > 0, np.linalg.norm(unit, axis=1, keepdims=True), 1.0)
    key = unit @ generic_direction(rows.shape[1])
    side = np.where(key < 0, -1.0, 1.0)[:, None]
    unit, key = side * unit, np.abs(key)  # one of +-u, so that only neighbours in the key can coincide
    order, apart = np.argsort(key, kind="stable"), 0.0
    for at, i in enumerate(order):
        for j in order[:at][::-1]:
            if key[i] - key[j] > ANGLE:
                break
            gap = np.abs(unit[i] - unit[j]).max()
            if gap <= ANGLE:
                unit[i], apart = unit[j], max(apart, float(gap) * np.sqrt(rows.shape[1]))
                break
    return side * unit + 0.0, apart  # no negative zeros: equal rows must be equal bytes


def _two_way_task(skel, stage, cone, limit):
    rows = skel.rows(stage.position, stage.ties.guard_terms)
    return _two_way_children, skel.cleaned(rows, cone.slots), cone.rows, cone.witness, limit


def _two_way_children(guards, rows, witness, limit):
    live = np.flatnonzero(np.abs(guards).max(axis=1) > 0)
    if not len(live):
        return [(np.zeros(len(guards), dtype=int), rows, witness)], ""
    cells, flag = _subdivide(rows, witness, guards[live], limit)
    children = []
    for sign, ahead, inside in cells:
        signs = np.zeros(len(guards), dtype=int)
        signs[live] = sign
        children.append((signs, ahead, inside))
    return children, flag


def _subdivide(rows, witness, walls, limit):
    """The cells into which the walls cut the open cone rows @ w > 0: [(signs, rows, witness)], and a flag or ''."""
    if len(walls) <= TREE:
        cells = _tree(rows, witness, walls)
        if cells is not None:
            return cells, ""
    aligned, apart = _aligned(np.vstack([rows, walls]))
    cone, walls = aligned[: len(rows)], aligned[len(rows) :]
    found = chambers(walls, cone=cone if len(cone) else None, max_chambers=max(limit, 2))
    thick, flag = _thick(found, apart, cone)
    cells = [
        (sign, distinct_normals(np.vstack([cone, sign[:, None] * walls])), inside)
        for sign, inside in zip(found.signs[thick], found.witnesses[thick], strict=True)
    ]
    return cells, flag


def _tree(rows, witness, walls):
    """The same cells, wall by wall: the witness shows one side, a direction or Gordan's multipliers settle
    the other one. None where that is not clear: rows all but parallel, or a cone as thin as rounding.
    """
    first, units = len(rows), np.vstack([rows, unit(walls)])
    known, cells = {}, [(np.zeros(0, dtype=int), rows, witness)]
    cosine = np.tril(units[first:] @ units.T, first - 1)
    for j, i in zip(*np.nonzero(np.abs(cosine) > 1 - 1e-9), strict=True):
        facing = int(np.sign(cosine[j, i]))
        if np.abs(units[first + j] - facing * units[i]).max() > SLIVER:
            return None
        known.setdefault(j, (i, facing))
    for j, wall in enumerate(units[first:]):
        divided = []
        for signs, cone, inside in cells:
            if j in known:  # parallel to a row of the cone, or to an earlier wall
                i, facing = known[j]
                divided.append((np.append(signs, facing * (signs[i - first] if i >= first else 1)), cone, inside))
                continue
            here = float(wall @ inside)
            for side in (-1, 1):
                ahead, there = np.vstack([cone, side * wall]), inside
                if side * here <= 1e-6 * np.linalg.norm(inside):
                    there, margin, _ = min_norm_direction(ahead, 1e-9)
                    if there is None and margin > SLIVER:
                        return None
                if there is not None:
                    divided.append((np.append(signs, side), ahead, there))
        cells = divided
    return cells


def _member_functionals(skel, stage, cone):
    """(k, n) functionals of the tied members, equal ones made exactly equal, and the class of each."""
    ties = stage.ties
    one = np.ones(len(ties.members))
    rows = skel.rows(stage.position, ((0, ties.members, one),))
    values = skel.under(rows, cone.slots)
    labels, classes = np.full(len(values), -1), []
    for k in range(len(values)):
        for c, first in enumerate(classes):
            if not np.any(skel.cleaned((rows[k] - rows[first])[None], cone.slots)):
                labels[k] = c
                break
        else:
            labels[k] = len(classes)
            classes.append(k)
    return values[classes], labels


def _extremum_task(skel, stage, cone, limit):
    values, labels = _member_functionals(skel, stage, cone)
    return _extremum_children, stage.ties.side * values, labels, cone.rows, cone.witness


def _extremum_children(values, labels, rows, witness):
    children = []
    for c in range(len(values)):
        ahead = distinct_normals(np.vstack([rows, np.delete(values[c] - values, c, axis=0)]))
        inside, _, _ = strict_direction(ahead)
        if inside is not None:
            alone = np.sum(labels == c) == 1
            children.append((np.where(labels == c, 1 if alone else 0, -1), ahead, inside))
    return children, ""


def _sort_task(skel, stage, cone, limit):
    values, labels = _member_functionals(skel, stage, cone)
    return _sort_children, stage.ties, values, labels, cone.rows, cone.witness, limit


def _sort_children(ties, values, labels, rows, witness, limit):
    first, second = np.triu_indices(len(values), 1)
    if not len(first):
        return [(np.zeros(ties.letters, dtype=int), rows, witness)], ""
    walls = values[first] - values[second]
    cells, flag = _subdivide(rows, witness, walls, limit)
    children = []
    for sign, ahead, inside in cells:
        table = np.zeros((len(values), len(values)), dtype=int)
        table[first, second], table[second, first] = sign, -sign
        signs = np.array(ties.signs(lambda a, b, table=table: table[labels[a], labels[b]]))
        children.append((signs, ahead, inside))
    return children, flag


# ---------------------------------------------------------------- one pattern, without enumeration


def pattern_along(skel: Skeleton, direction: ArrayLike | None = None) -> np.ndarray:
    """Signs of a chamber whose closure contains x + t * direction, later letters under the earlier ones.

    Where the direction lies on a wall, a fixed generic direction decides (`generic_direction`), so the pattern is
    always that of one realized chamber.
    """
    here = skel.germ
    n = here.x.size
    generic = generic_direction(n)
    first = generic if direction is None else direction
    slots, signs = np.zeros((skel.size, n)), []
    for stage in here.stages:
        ties = stage.ties
        _require_continuous(skel, stage, slots)
        if isinstance(ties, selections.TwoWayTies):
            rows = skel.rows(stage.position, ties.guard_terms)
            letters = _lexicographic(skel.cleaned(rows, slots), first, generic)
            letters = second_order.settle(skel, stage, signs, letters, first, generic)
        else:
            values, labels = _member_functionals(skel, stage, Cone((), np.zeros((0, n)), generic, slots))
            first_, second_ = np.array(list(product(range(len(values)), repeat=2))).T
            by_class = _lexicographic(values[first_] - values[second_], first, generic).reshape(len(values), -1)
            compare = second_order.settle_members(skel, stage, signs, by_class[np.ix_(labels, labels)], first, generic)
            letters = _letters_from(ties, compare)
        slots = skel.advance(stage, letters, slots)
        signs += [int(s) for s in letters]
    return np.array(signs, dtype=int)


def pattern_by_tangents(here: Germ, direction: Any = None) -> Any:
    """The same signs in one forward pass of two tangents, whatever the number of kinks; None where that is in doubt.

    In doubt: a derivative that is small but not zero beside its generic one, or beside those of the other guards, so
    that only the gradient itself tells rounding from a slope; `where`, whose continuity wants gradients; an operation
    without a forward derivative.
    """
    n = here.x.size
    generic = generic_direction(n)
    first = generic if direction is None else direction / np.linalg.norm(direction)
    at, seen = {}, []
    for stage in here.stages:
        at.setdefault(stage.position, []).append(stage)
    if any(here.graph.program.operations[i - 1].name == "where" for i in at):
        return None
    skel, signs = skeleton(here), np.zeros(len(here.kinks), dtype=int)

    def branch_of(i, along):
        branch = here.decided[i]
        for stage in at.get(i, ()):
            flats = [[np.ravel(a) for a in args] for args in along]
            signs[stage.letters] = _letters_by_tangents(skel, stage, signs, flats, first, generic, seen)
            branch = selections.extend(branch, list(stage.ties.pieces(signs[stage.letters])))
        return branch

    try:
        with np.errstate(all="ignore"):
            pushforward(here.graph, here.tape, (first, generic), branch_of)
    except (_InDoubt, NotImplementedError):
        return None
    slopes = np.concatenate([*seen, np.zeros(1)])
    small = (slopes != 0) & (slopes <= 1e-10 * slopes.max())
    return None if small.any() else signs


class _InDoubt(ArithmeticError):
    """Tangents alone do not decide."""


def _letters_by_tangents(skel, stage, signs, flats, first, generic, seen):
    ties, before = stage.ties, signs[: stage.first]
    if isinstance(ties, selections.TwoWayTies):
        slopes = [sum(c * flat[k][e] for k, e, c in ties.guard_terms) for flat in flats]
        terms = [sum(np.abs(flat[k][e]) for k, e, _ in ties.guard_terms) for flat in flats]
        letters = _signs_of_slopes(slopes, terms)
        seen.append(np.abs(slopes[1]))
        return second_order.settle(skel, stage, before, letters, first, generic)
    values = [flat[0][ties.members] for flat in flats]
    slopes = [(v[:, None] - v[None]).ravel() for v in values]
    terms = [(np.abs(v)[:, None] + np.abs(v)[None]).ravel() for v in values]
    compare = _signs_of_slopes(slopes, terms).reshape(len(ties.members), -1)
    seen.append(np.abs(slopes[1]))
    return _letters_from(ties, second_order.settle_members(skel, stage, before, compare, first, generic))


def _signs_of_slopes(slopes, terms):
    """Sign of the first slope, or where that is zero of the generic one; `_InDoubt` where rounding could decide."""
    if np.any((slopes[0] != 0) & (np.abs(slopes[0]) <= 1e-9 * np.abs(slopes[1]))):
        raise _InDoubt  # on a wall but for rounding
    sign = np.zeros(len(slopes[0]), dtype=int)
    for slope, term in zip(slopes, terms, strict=True):
        sure = np.abs(slope) > 1e-9 * (term + term.max(initial=0.0))
        if np.any((sign == 0) & ~sure & (slope != 0)):
            raise _InDoubt
        sign = np.where(sign == 0, np.sign(slope) * sure, sign).astype(int)
    return sign


def _letters_from(ties, compare):
    """Letters of a max, min or sort from the signs of the members' differences."""
    if isinstance(ties, selections.SortTie):
        return np.array(ties.signs(lambda a, b: compare[a, b]), dtype=int)
    ahead = (ties.side * compare).sum(axis=1)
    best = ahead == ahead.max()
    return np.where(best, 1 if best.sum() == 1 else 0, -1)


@lru_cache(maxsize=64)
def generic_direction(n: int) -> np.ndarray:
    """The documented direction that decides kinks by default: sin(1), sin(2), ..., normalized.

    By Lindemann-Weierstrass these sines are linearly independent over the algebraic numbers, so a guard whose gradient
    has algebraic entries (floats are) vanishes along it only where the gradient is zero.
    """
    d = np.sin(np.arange(1, n + 1))
    d /= np.linalg.norm(d)
    d.flags.writeable = False
    return d


def _lexicographic(functionals, first, generic):
    """Sign along `first`, and where that is below rounding, along `generic`; 0 only for a zero functional."""
    size = np.abs(functionals).max(axis=1, initial=0)
    lead, tail = functionals @ first, functionals @ generic
    return np.where(
        size == 0, 0, np.where(np.abs(lead) > 1e-12 * size * np.linalg.norm(first), np.sign(lead), np.sign(tail))
    ).astype(int)
