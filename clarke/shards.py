"""Chambers too many for memory: a stream cone by cone, and shards on disk that survive a killed run.

The letters of a few hyperplanes, the first signs, fix an open cone, and the chambers with these
letters are the chambers of the other hyperplanes in it. A tree of such cones, each split by a
hyperplane that meets it, lists every chamber in exactly one leaf. A hyperplane that misses a cone
misses all cones inside it, so the deeper the cone, the fewer rows it passes to `chambers`: wall rows
that follow from others, and hyperplanes that miss the cone, are left out, each with a Gordan
certificate (a convex combination of rows that is 0), and their letters read off afterwards.

Offsets make the cones affine: they are cones of y = (w, 1) for the rows (v_i, -t_i). A central
arrangement has the tree of the half v_1 . w > 0, and every leaf brings its mirror image.
"""

import heapq
import io
import json
import math
import os
import re
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from hashlib import blake2b, sha256
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

import numpy as np
from numpy.typing import ArrayLike

from . import arrangements, integers, restriction
from .arrangements import Answer, Chambers, Problem, answer, chambers
from .halfspaces import ROUNDING, min_norm_direction, scaled, unit
from .restriction import TooManyChambers

SAMPLE = 64  # points of a cone, to see which hyperplanes cut it and how evenly
SHARD = 75_000  # chambers in a shard, where nothing else is asked
WAYS, SMALL = 32, 5_000  # random ways to cones of so many cells, to estimate how many there are in all
VERSION = 1


def iter_chambers(
    normals: ArrayLike,
    *,
    chunk: int = 65536,
    offsets: ArrayLike | None = None,
    cone: ArrayLike | None = None,
    tol: float = 1e-9,
    exact: bool = False,
    mapper: Callable[..., Any] = map,
    progress: bool = False,
) -> Iterator[Chambers]:
    """The chambers of `chambers(normals, ...)`, none twice, as a generator of `Chambers`.

    normals (k, n), offsets (k,) or None, cone (c, n) or None, tol: as in `chambers`; so is exact=True,
    and without it every cone is decided in floats first, for integers too. Each value has between 1
    and `chunk` rows, lexicographic within it, with all k letters; only an empty cone gives one value
    without rows. Memory is that of one call of `chambers` with at most `chunk` of them, and of the
    depth of the tree, whatever their number in all.

    `complete` and `reason` speak of one cone, as they do in `chambers`; a hyperplane is left out of it
    only where it misses it by a Gordan certificate within rounding. All are listed iff every value is
    complete. Cones may differ in the question they answer (at tolerance, or exact where floats decide
    nothing), as their reasons say: for noise of the size of rounding the values together then answer
    neither. exact=True answers one throughout.

    `mapper` maps over parts of one cone. ValueError, at the call, for wrong arguments.
    """
    if not isinstance(chunk, (int, np.integer)) or chunk < 2:
        raise ValueError(f"chunk must be an integer, at least 2 (a chamber and its mirror image); got {chunk!r}")
    given = arrangements.checked(normals, offsets, cone, tol, 2)
    return _stream(given, int(chunk), tol, exact, mapper, progress)


def _stream(given, chunk, tol, exact, mapper, progress):
    bar = None
    if progress:
        from tqdm import tqdm

        bar = tqdm(desc="chambers", unit="chamber")
    for found in _leaves(given, chunk, tol, exact, mapper):
        if bar is not None:
            bar.update(len(found))
        yield found
    if bar is not None:
        bar.close()


def _leaves(given, chunk, tol, exact, mapper):
    """Depth first. A cone is tried once its generic count, to the power that was right for the cones
    before it, fits in a chunk; a cone that has more all the same is split, and raises that power."""
    space = _space(given, tol, exact)
    if space is None:
        yield _trivial(given, tol, exact)
        return
    limit = chunk // 2 if space.mirrored else chunk
    power, stack, some = 0.9, [_node(space, space.first)], False
    while stack:
        node = stack.pop()
        bound = _generic(space, node)
        if bound**power <= limit or not len(node.cuts):
            try:
                found = _enumerated(space, node, limit, mapper)
            except TooManyChambers:
                power = max(power, min(1.0, math.log(1.5 * limit, bound)))
            else:
                count = len(found) // 2 if space.mirrored else len(found)
                if bound > 1:
                    power += 0.3 * (math.log(max(count, 1), bound) - power)
                some = some or len(found) > 0 or not found.complete
                if len(found) or not found.complete or not (stack or some):
                    yield found
                continue
        stack.extend(reversed([*_children(space, node)]))


# A tree of cones


class _Space(NamedTuple):
    """The problem as rows . y in R^N: K hyperplanes that are not zero, then the rows of the cone.

    rows (K + c, N) floats; ratios the same rows as Fractions, whole as integers, or None unless
    exact. moved (K + c, d), unit: in isotropic position, where the tree is decided; rounding in it is
    below `rough`, and what exceeds `clear` is beyond doubt. live (K,) the places of the hyperplanes
    in the input; y_N is in units of `typical`; `first` the (hyperplane, sign) the tree begins with.
    """

    given: Problem
    floats: Problem
    rows: np.ndarray
    ratios: np.ndarray | None
    whole: np.ndarray | None
    moved: np.ndarray
    rough: float
    clear: float
    live: np.ndarray
    typical: float
    tol: float
    mirrored: bool
    first: tuple[Any, ...]


class _Node(NamedTuple):
    """A cone: prefix, the signs that define it; walls, the irredundant rows as (row, sign) pairs.

    points (s, d) unit, clearly inside; cuts (m,) hyperplanes that may cut it, sure (m,) whether they
    do; letters (K,) the signs of those that do not, 0 for the others.
    """

    prefix: tuple[Any, ...]
    walls: tuple[Any, ...]
    points: np.ndarray
    cuts: np.ndarray
    sure: np.ndarray
    letters: np.ndarray


def _space(given, tol, exact) -> _Space | None:
    """None where there is nothing to split: no hyperplane, or a cone with a zero row."""
    floats = given.each(lambda a: a.astype(float))
    asked = given if exact else floats
    central = asked.offsets is None and asked.cone is None
    live = np.flatnonzero((asked.normals != 0).any(axis=1))
    if (central and not len(live)) or (asked.cone is not None and not (asked.cone != 0).any(axis=1).all()):
        return None
    ratios, whole, typical = None, None, 1.0
    if exact:
        fence, rows = arrangements.homogeneous(*given.each(integers.fractions))
        ratios = np.vstack([fence, rows] if central else [rows, fence])
        whole = integers.primitive(ratios)
        rows = integers.ratios(whole)
    else:
        typical = arrangements.unit_rows(floats)[2]
        typical = 2.0 ** round(math.log2(typical))  # so that rows stay exact, should floats not decide
        normals, offsets = scaled(floats.normals, floats.offsets)
        if offsets is not None:
            offsets = np.clip(offsets / typical, -1e300, 1e300)
        fence, rows = arrangements.homogeneous(normals, offsets, floats.cone)
        rows = np.vstack([fence, rows] if central else [rows, fence])
    units = unit(rows)
    basis = restriction.position(units, True)
    moved = units @ basis
    length = np.linalg.norm(moved, axis=1, keepdims=True)
    rough = float(ROUNDING * np.linalg.norm(basis, 2) / length.min())
    position = moved / length, rough, max(tol, rough)
    return _Space(given, floats, rows, ratios, whole, *position, live, typical, tol, central, ((0, 1),) * central)


def _trivial(given, tol, exact):
    return chambers(given.normals, offsets=given.offsets, cone=given.cone, tol=tol, exact=exact)


def _generic(space, node) -> int:
    """Cells of as many hyperplanes in general position in a cone: no cone of them has more [Z75]."""
    m = len(node.cuts)
    return sum(math.comb(m, i) for i in range(min(space.moved.shape[1], m + 1)))


def _node(space, prefix) -> _Node:
    """The cone of the prefix, a tuple of (hyperplane, sign), inside the cone of the problem."""
    K = len(space.live)
    walls = *((c, 1) for c in range(K, len(space.rows))), *prefix
    direction, margin, _ = min_norm_direction(_signed(space.moved, walls), 0)
    points = space.moved[:0] if direction is None or margin <= space.clear else direction[None]
    letters = np.zeros(K, dtype=np.int8)
    cuts = np.setdiff1d(np.arange(K), [j for j, _ in prefix])
    return _refined(space, prefix, walls, points, cuts, letters)


def _children(space, node):
    """The two sides of the hyperplane that halves the points best, among those that surely cut.

    One that may miss the cone loses nothing: then one side is empty, and `chambers` has to say so.
    """
    value = node.points @ space.moved[node.cuts].T
    even = np.minimum((value > space.clear).sum(axis=0), (value < -space.clear).sum(axis=0))
    at = int(np.argmax(np.where(node.sure, even + 1, 0)))
    j, cuts = int(node.cuts[at]), np.delete(node.cuts, at)
    for sign in (-1, 1):
        points = node.points[sign * value[:, at] > space.clear]
        prefix, walls = (*node.prefix, (j, sign)), (*node.walls, (j, sign))
        yield _refined(space, prefix, walls, points, cuts, node.letters)


def _refined(space, prefix, walls, points, cuts, letters) -> _Node:
    """Drop the walls that follow from others and, where all is clear, the hyperplanes that miss the cone.

    A single hyperplane that floats cannot tell about casts doubt on others that missed by rounding.
    """
    for row, sign in walls[: -1 if prefix else None]:
        others = tuple(wall for wall in walls if wall[0] != row)
        if others and _side(space, others, row, -sign)[0] < 0:
            walls = others
    letters = letters.copy()
    for row, sign in prefix:
        letters[row] = sign
    points = _spread(space, walls, points, prefix)
    sides = np.zeros((len(cuts), 2), dtype=int)
    for a, j in enumerate(cuts.tolist()):
        value = points @ space.moved[j]
        sides[a] = [(sign * value > space.clear).any() for sign in (-1, 1)]
        for b, sign in enumerate((-1, 1)):
            if sides[a, b] == 0 and sides[a, 1 - b] >= 0:
                sides[a, b], point = _side(space, walls, j, sign)
                points = points if point is None else np.vstack([points, point])
    missed = np.logical_or(sides[:, 0] < 0, sides[:, 1] < 0)
    sure = np.logical_and(sides[:, 0] > 0, sides[:, 1] > 0)
    if not np.logical_or(missed, sure).all():
        return _Node(prefix, walls, points, cuts, sure, letters)
    letters[cuts[missed]] = np.where(sides[missed, 0] < 0, 1, -1)
    return _Node(prefix, walls, points, cuts[~missed], sure[~missed], letters)


def _signed(rows, walls):
    return rows[[row for row, _ in walls]] * np.array([[sign] for _, sign in walls])


def _side(space, walls, row, sign):
    """Does the cone of these walls have points with sign * row > 0? (1: yes, -1: no, 0: floats do not tell; a point).

    A float point clearly inside proves it for exact rows as well. No: Gordan's multipliers, to the
    last digits, as a chamber much thinner than ROUNDING may be one of noise that floats resolve elsewhere.
    """
    walls = (*walls, (row, sign))
    direction, margin, _ = min_norm_direction(_signed(space.moved, walls), 0)
    if direction is not None and margin > space.clear:
        return 1, direction
    if space.whole is not None:
        return (1 if integers.interior(_signed(space.whole, walls)) is not None else -1), None
    return (-1 if margin <= space.rough / 16 and space.rough <= space.tol else 0), None


def _seed(space, prefix=()):
    return int.from_bytes(blake2b(space.rows.tobytes() + repr(prefix).encode(), digest_size=8).digest(), "little")


def _spread(space, walls, points, prefix):
    """SAMPLE points of the cone, clearly inside, by hit and run from those given."""
    if not len(points):
        return points
    rows = _signed(space.moved, walls)
    rng = np.random.default_rng(_seed(space, prefix))
    moving = points[np.arange(SAMPLE) % len(points)]
    for _ in range(8):
        along = rng.normal(size=moving.shape)
        along /= np.linalg.norm(along, axis=1, keepdims=True)
        height, slope = moving @ rows.T, along @ rows.T
        with np.errstate(all="ignore"):
            wall = np.where(slope != 0, -height / slope, np.inf)
        high = np.where(wall > 0, wall, 2).min(axis=1, initial=2)
        low = np.where(wall < 0, wall, -2).max(axis=1, initial=-2)
        moving = moving + (low + rng.uniform(0.05, 0.95, len(low)) * (high - low))[:, None] * along
        moving /= np.linalg.norm(moving, axis=1, keepdims=True)
    inside = (moving @ rows.T > space.clear).all(axis=1)
    return np.vstack([points[:SAMPLE], moving[inside]])


def _enumerated(space, node, limit, mapper=map) -> Chambers:
    """The chambers of the cone, judged on the original rows, with their mirror images if central.

    TooManyChambers past `limit`, mirror images not counted.
    """
    found, node = _cells(space, node, limit, mapper)
    points = found.chambers.witnesses.copy()
    if space.floats.offsets is not None:
        points[:, -1] /= space.typical
    doubts = () if found.chambers.complete else (found.chambers.reason,)
    signs = None
    if found.exact:
        signs = np.tile(_constant(space, node), (len(points), 1))
        signs[:, space.live[node.cuts]] = found.chambers.signs
    result = arrangements.collect(space.floats, points, doubts, found.claim, signs)
    return result if signs is not None else _consistent(space, node, result)


def _cells(space, node, limit, mapper=map) -> tuple[Answer, _Node]:
    """The cells, in R^N, of the hyperplanes that cut the cone; the node they are cells of.

    Where floats do not decide and `answer` turned to exact arithmetic, what floats left out comes back.
    """
    exact, rows = space.ratios is not None, space.rows if space.ratios is None else space.ratios

    def found(node, exact):
        cone = Problem(rows[node.cuts], None, _signed(rows, node.walls))
        return answer(cone, space.tol, exact, max(limit, 2), mapper)

    first = found(node, exact)
    if not exact and first.exact:
        node = _everything(space, node)
        again = found(node, True)
        first = again._replace(claim=first.claim)
    if len(first.chambers) > limit:
        raise TooManyChambers(len(first.chambers), limit)
    return first, node


def _everything(space, node) -> _Node:
    """The same cone, with all its walls and all other hyperplanes."""
    K = len(space.live)
    walls = *((c, 1) for c in range(K, len(space.rows))), *node.prefix
    cuts = np.setdiff1d(np.arange(K), [j for j, _ in node.prefix])
    letters = np.zeros(K, dtype=np.int8)
    for row, sign in node.prefix:
        letters[row] = sign
    return _Node(node.prefix, walls, node.points, cuts, np.zeros(len(cuts), dtype=bool), letters)


def _constant(space, node):
    """(k,) the letters that are the same on the whole cone, those of zero normals included."""
    normals, offsets, _ = space.given if space.ratios is not None else space.floats
    letters = np.zeros(len(normals), dtype=np.int8)
    if offsets is not None:
        letters[:] = (offsets < 0).astype(np.int8) - (offsets > 0).astype(np.int8)
    letters[space.live] = node.letters
    return letters


def _consistent(space, node, found) -> Chambers:
    """Rows with other letters than the prefix belong to another cone; any wrong letter is a doubt."""
    signs = found.signs[:, space.live]
    if space.mirrored:
        signs = signs * signs[:, :1]
    wrong = (signs != node.letters) & (node.letters != 0)
    if not wrong.any():
        return found
    left = ~wrong[:, [j for j, _ in node.prefix]].any(axis=1)
    rows = wrong.any(axis=1).sum()
    reason = f"{rows} witnesses have other signs than their cone" + ("" if found.complete else f"; {found.reason}")
    return Chambers(found.signs[left], found.witnesses[left], found.margins[left], False, reason)


# Shards on disk


def write_chambers(
    directory: str | PathLike[str],
    normals: ArrayLike,
    *,
    offsets: ArrayLike | None = None,
    cone: ArrayLike | None = None,
    tol: float = 1e-9,
    exact: bool = False,
    shards: int | None = None,
    mapper: Callable[..., Any] = map,
    progress: bool = False,
) -> int:
    """Write the chambers of `chambers(normals, ...)` to a directory; how many there are.

    normals, offsets, cone, tol, exact: as in `chambers`. A shard holds the chambers of one cone of
    first signs (both mirror images if central) in lexicographic order. `shards` asks for that many
    cones, or as many as there are; None for shards of some tens of thousands of chambers. The plan
    does not depend on `mapper`, which maps over shards; workers write their shards themselves, so
    they need the directory, and the files are the same for every mapper.

    `manifest.json` (digests of the arguments, the plan) comes first; a shard appears whole, under
    its name, or not at all. So a run that was killed, called again with the same arguments, verifies
    what is there and makes what is missing; a damaged shard is made again with a warning that names
    it. Every shard carries `complete` and `reason`: an incomplete one is no error here.

    ValueError for wrong arguments, and where the directory belongs to other ones; FileNotFoundError
    if workers wrote elsewhere; what a worker raises comes through, and loses no finished shard.
    """
    given = arrangements.checked(normals, offsets, cone, tol, 2)
    if shards is not None and (not isinstance(shards, (int, np.integer)) or shards < 1):
        raise ValueError(f"shards must be an integer, at least 1, or None; got {shards!r}")
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    arguments = _digests(given, tol, exact, shards)
    for stale in directory.glob("*.tmp"):
        if _TEMPORARY.fullmatch(stale.name):
            stale.unlink(missing_ok=True)
    manifest = _manifest(directory, missing=None)
    if manifest is None:
        plan = _plan(given, tol, exact, shards)
        manifest = {"version": VERSION, "k": given.normals.shape[0], "n": given.normals.shape[1]}
        manifest |= {"arguments": arguments, "plan": plan}
        manifest["digest"] = _digest(manifest)
        _replace(directory / MANIFEST, json.dumps(manifest).encode())
    changed = [name for name, value in arguments.items() if manifest["arguments"].get(name) != value]
    if changed:
        raise ValueError(
            f"{directory} holds the chambers of other arguments: {', '.join(changed)} changed since they were "
            "written; name another directory, or the same arguments to continue"
        )
    done = {}
    for number in range(len(manifest["plan"])):
        path = directory / _name(number)
        if path.exists():
            try:
                done[number] = len(_read(path, number, manifest))
            except ValueError as damage:
                warnings.warn(f"{damage}; it is made again", stacklevel=2)
    tasks = [(number, prefix) for number, prefix in enumerate(manifest["plan"]) if number not in done]
    results = mapper(partial(_write, str(directory), manifest["digest"], given, tol, exact), tasks)
    if progress:
        from tqdm import tqdm

        total = len(manifest["plan"])
        results = tqdm(results, desc="shards", unit="shard", total=total, initial=len(done))
    for number, count, digest in results:
        path = directory / _name(number)
        if not path.exists() or _trailer(path) != digest:
            raise FileNotFoundError(f"{path} is not the one its worker wrote; mapper must share the directory")
        done[number] = count
    absent = sorted(set(range(len(manifest["plan"]))) - set(done))
    if absent:
        raise ValueError(f"mapper must return a result for each of its items; {_name(absent[0])} has none")
    return sum(done.values())


def read_chambers(directory: str | PathLike[str]) -> Iterator[Chambers]:
    """The chambers `write_chambers` left in the directory, as a generator of `Chambers`, one a shard.

    Every byte is checked against a checksum; `complete` and `reason` are those of the shard. At the
    call FileNotFoundError without a manifest, ValueError for a damaged or foreign one; on the way
    FileNotFoundError for a missing shard and ValueError for a damaged one, by name.
    """
    directory = Path(directory)
    manifest = _manifest(directory, missing="write_chambers makes one")
    return _shards(directory, manifest)


def _shards(directory, manifest):
    for number in range(len(manifest["plan"])):
        path, remedy = directory / _name(number), "write_chambers with the same arguments makes it again"
        try:
            yield _read(path, number, manifest)
        except FileNotFoundError:
            raise FileNotFoundError(f"{path} is missing; {remedy}") from None
        except ValueError as damage:
            raise ValueError(f"{damage}; {remedy}") from None


MANIFEST = "manifest.json"
_TEMPORARY = re.compile(r"(manifest\.json|shard-\d+\.npz)\.[0-9a-f]{32}\.tmp")
_KEYS = {"version", "k", "n", "arguments", "plan", "digest"}


def _name(number):
    return f"shard-{number:06d}.npz"


def _digest(manifest):
    rest = {key: value for key, value in manifest.items() if key != "digest"}
    return sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def _digests(given, tol, exact, shards):
    """What the chambers and the plan depend on, argument by argument."""

    def of(array):
        if array is None:
            return None
        values = integers.fractions(array) if exact else array.astype("<f8")
        content = "\n".join(map(str, values.ravel().tolist())).encode() if exact else values.tobytes()
        return sha256(f"{array.shape}".encode() + content).hexdigest()

    arrays = {name: of(array) for name, array in given._asdict().items()}
    return {**arrays, "tol": float(tol), "exact": bool(exact), "shards": None if shards is None else int(shards)}


def _manifest(directory, missing):
    """The manifest, checked; None if there is none, which is an error if `missing` says what to do."""
    path = directory / MANIFEST
    try:
        manifest = json.loads(path.read_bytes())
    except FileNotFoundError:
        if missing is None:
            return None
        raise FileNotFoundError(f"{directory} has no {MANIFEST}; {missing}") from None
    except ValueError as error:
        raise ValueError(f"{path} is damaged ({error}); delete it, and write_chambers makes it again") from None
    if not isinstance(manifest, dict) or "version" not in manifest:
        raise ValueError(f"{path} is none that write_chambers makes; name another directory")
    if manifest["version"] != VERSION:
        raise ValueError(f"{path} has format version {manifest['version']!r}; this clarke reads version {VERSION}")
    if set(manifest) != _KEYS or manifest["digest"] != _digest(manifest):
        raise ValueError(f"{path} is damaged (its digest is another); delete it, and write_chambers makes it again")
    return manifest


def _plan(given, tol, exact, shards):
    """The prefixes of the shards, in the order of the tree."""
    space = _space(given, tol, exact)
    if space is None:
        return [[]]
    root = _node(space, space.first)
    if shards is None:
        shards = 1
        if _generic(space, root) > SHARD:  # floats will do: no answer depends on it
            shards = max(1, round(_estimate(_space(given, tol, False) or space) / SHARD))
    return [[[int(space.live[j]), sign] for j, sign in node.prefix] for node in _grown(space, root, shards)]


def _grown(space, root, count):
    """The leaves of a tree with that many, if there are, in its order: most candidates are split first."""
    heap: list[tuple[int, tuple[Any, ...], _Node]] = [(-_generic(space, root), (), root)]
    done = []
    while heap and len(heap) + len(done) < count:
        _, turns, node = heapq.heappop(heap)
        if not node.sure.any():  # no certain cut: leave doubts to `chambers`
            done.append((turns, node))
            continue
        for turn, child in enumerate(_children(space, node)):
            heapq.heappush(heap, (-_generic(space, child), (*turns, turn), child))
    done += [(turns, node) for _, turns, node in heap]
    return [node for _, node in sorted(done, key=lambda leaf: leaf[0])]


def _estimate(space) -> float:
    """About how many chambers there are, from some random ways down a small tree [K75].

    A way that took d turns to a cone of c cells counts for 2^d c, which is right on average.
    """
    rng, total = np.random.default_rng(_seed(space)), 0.0
    for node in _grown(space, _node(space, space.first), WAYS):
        weight = 2.0 if space.mirrored else 1.0
        while _generic(space, node) > SMALL and node.sure.any():
            node, weight = [*_children(space, node)][rng.integers(2)], 2 * weight
        try:
            cells = len(_cells(space, node, SMALL)[0].chambers)
        except TooManyChambers as stop:
            cells = stop.count
        total += weight * cells
    return total


def _write(directory, manifest_digest, given, tol, exact, task):
    """One shard: (its number, its chambers, the digest of the file)."""
    number, prefix = task
    space = _space(given, tol, exact)
    if space is None:
        found = _trivial(given, tol, exact)
    else:
        place = {int(j): a for a, j in enumerate(space.live)}
        node = _node(space, tuple((place[j], sign) for j, sign in prefix))
        found = _enumerated(space, node, 2**62)
    arrays = {name: getattr(found, name) for name in ("signs", "witnesses", "margins")}
    file = io.BytesIO()
    np.savez(file, **arrays, complete=found.complete, reason=found.reason, manifest=manifest_digest, shard=number)
    content = bytearray(file.getvalue())
    content[-2:] = len(sha256().hexdigest()).to_bytes(2, "little")  # the digest is the comment of the zip archive
    digest = sha256(content).hexdigest()
    _replace(Path(directory) / _name(number), bytes(content) + digest.encode())
    return number, len(found), digest


def _trailer(path):
    with open(path, "rb") as file:
        file.seek(-64, os.SEEK_END)
        return file.read().decode()


def _read(path, number, manifest) -> Chambers:
    """The chambers of a shard; ValueError if a byte is wrong or the shard is another's."""
    content = path.read_bytes()
    if sha256(content[:-64]).hexdigest().encode() != content[-64:]:
        raise ValueError(f"{path} is damaged: its checksum is another")
    with np.load(io.BytesIO(content), allow_pickle=False) as file:
        if (str(file["manifest"]), int(file["shard"])) != (manifest["digest"], number):
            raise ValueError(f"{path} is damaged: it is a shard of another manifest or number")
        signs, witnesses, margins = (arrangements.frozen(file[name]) for name in ("signs", "witnesses", "margins"))
        return Chambers(signs, witnesses, margins, bool(file["complete"]), str(file["reason"]))


def _replace(path, content):
    """The file appears whole or not at all: written beside it, flushed to disk, renamed.

    The other name is unique: workers that outlive a killed run may still be writing theirs.
    """
    beside = path.with_name(f"{path.name}.{uuid4().hex}.tmp")
    try:
        with open(beside, "xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
