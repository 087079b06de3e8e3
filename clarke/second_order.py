"""What first order cannot decide: does a pattern exist arbitrarily near x although its tangent cone is empty?

Fix a prefix of letters; the pieces chosen so far make every guard met a smooth function h_j, oriented so that the
pattern asks for h_j > 0. Let J be the gradients at x.

Excluded, each a proof up to the check named:
- identity: lambda >= 0, not 0, with sum lambda_j h_j = 0 at random points near x;
- curvature: Gordan multipliers lambda (lambda^T J = 0) make sum lambda_j h_j a negative semidefinite quadratic
  exactly, or its Hessian is negative definite on the common kernel of the gradients it uses;
- dependence: with minimal Gordan support S, one h_k vanishes wherever the others of S do; then
  h_k = sum a_j h_j with a_j(x) < 0 (Hadamard's lemma), which contradicts h > 0 near x.
Realized: an arc x + t d + t^2 e, or a direction, along which all h_j > 0 at five shrinking steps.
Otherwise undecided, and said so.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.linalg
import scipy.optimize
from numpy.typing import ArrayLike, NDArray

from . import selections
from .graph import gradient, hessian, run, unit_of
from .halfspaces import strict_direction
from .kinks import Stage, text
from .primitives import NotPiecewiseSmooth
from .restriction import TooManyChambers

if TYPE_CHECKING:
    from .skeleton import Skeleton

RADII = (0.5, 0.1, 1e-2)  # of the random points at which identities are checked, relative to max(1, |x|)
_STEPS = (1e-2, 1e-3, 1e-4, 1e-6, 1e-8)  # of an arc, in the same unit
_NOISE = 1e-13  # of a guard's magnitude at a point: what rounding may leave there
_DRAWS = 200  # random directions tried before a pattern is called undecided
_CUTS = 60  # rounds of cutting planes that look for other Gordan multipliers
_BEYOND = 20  # of those on which every second-order term vanishes, how many are looked at


@dataclass(frozen=True, eq=False)
class Condition:
    """orientation * (sum of the terms of operation `position`) > 0; orientation 0 asks nothing."""

    position: int
    terms: tuple[Any, ...]
    orientation: int


def _conditions(stage, signs):
    terms, orientation = stage.ties.constraints(signs)
    return [
        Condition(stage.position, tuple((k, e[[i]], c[[i]]) for k, e, c in terms), int(orientation[i]))
        for i in range(len(orientation))
    ]


def _unit(skel):
    return unit_of(skel.germ.x)


def _values(skel, signs, conditions, points):
    """(values, noise), both (T, c): the conditions' guards less their value at x, and what rounding may leave of them.

    Under the pieces of `signs`, which may be a prefix: operations after it take any piece, which no condition of the
    prefix sees. Rows that leave the domain of f are nan.
    """
    here = skel.germ
    values, sizes = [], []
    for y in [None, *points]:
        tape = _tape(skel, signs, y)
        if tape is None:
            values.append([np.nan] * len(conditions))
            sizes.append([np.nan] * len(conditions))
            continue
        flats = {c.position: _flats(here, tape, c.position) for c in conditions}
        values.append([sum(coef[0] * flats[c.position][k][0][e[0]] for k, e, coef in c.terms) for c in conditions])
        sizes.append([sum(flats[c.position][k][1][e[0]] for k, e, _ in c.terms) for c in conditions])
    shape = (len(points) + 1, len(conditions))
    values, sizes = np.array(values, dtype=float).reshape(shape), np.array(sizes, dtype=float).reshape(shape)
    offset = np.where(values[0] == 0, 0.0, sizes[0])  # an exact zero at x brings no rounding along
    return values[1:] - values[0], _NOISE * (sizes[1:] + offset)


def _tape(skel, signs, y):
    """The forward pass at y (x for None) under the pieces of `signs`, magnitudes too; None outside the domain of f."""
    key = tuple(int(s) for s in signs)
    if skel.latest.get("signs") != key:
        skel.latest.clear()
        skel.latest.update(signs=key, branches=_branches(skel, signs))
    if y is None and "tape" in skel.latest:
        return skel.latest["tape"]
    branches = skel.latest["branches"]
    try:
        with np.errstate(all="ignore"):
            tape = run(
                skel.germ.graph,
                skel.germ.x if y is None else y,
                lambda i, op, args, around: branches[i],
                magnitudes=True,
            )
    except NotPiecewiseSmooth:
        tape = None
    if y is None:
        skel.latest["tape"] = tape
    return tape


def pattern_at(skel: "Skeleton", y: np.ndarray) -> np.ndarray:
    """Signs of the ties at a point y near x: the letters of the piece that f takes there (0 where a guard is 0)."""
    here = skel.germ
    signs = np.zeros(len(here.kinks), dtype=int)
    stages = {}
    for stage in here.stages:
        stages.setdefault(stage.position, []).append(stage)

    def branch_of(i, op, args, around):
        branch, flats = here.decided[i], [np.ravel(np.asarray(a, float)) for a in args]
        for stage in stages.get(i, ()):
            signs[stage.letters] = stage.ties.letters_of(flats)
            branch = selections.extend(branch, list(stage.ties.pieces(signs[stage.letters])))
        return branch

    with np.errstate(all="ignore"):
        run(here.graph, np.asarray(y, dtype=float), branch_of)
    return signs


def _flats(here, tape, position):
    """(value, magnitude) of each argument of an operation, flat."""
    op = here.graph.program.operations[position - 1]
    parents = dict(zip(op.argnums, op.parents, strict=True))
    return [
        (np.ravel(np.asarray(a, float)), np.ravel(tape.magnitudes[parents[k]] if k in parents else np.abs(a)))
        for k, a in enumerate(tape.arguments[position])
    ]


def _gradients(skel, signs, conditions):
    """(c, n): the guards' gradients at x under the pieces of `signs` (rounding set to zero)."""
    slots = np.zeros((skel.size, skel.germ.x.size))
    for stage in skel.germ.stages:
        if stage.first >= len(signs):
            break
        letters = np.zeros(stage.ties.letters, dtype=int)
        known = np.asarray(signs[stage.letters])
        letters[: len(known)] = known
        slots = skel.advance(stage, letters, slots)
    rows = np.array([skel.rows(c.position, c.terms)[0] for c in conditions])
    return skel.cleaned(rows.reshape(len(conditions), -1), slots)


def _points_near(skel, count, seed=0):
    """(count, n) random points around x, at each of RADII in turn.

    An identity between analytic pieces holds near x iff it holds wherever they are defined, so the far points, where
    high-order terms show, are as good as the near ones.
    """
    rng = np.random.default_rng([seed, skel.germ.x.size, count])
    directions = rng.standard_normal((count, skel.germ.x.size))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    return skel.germ.x + _unit(skel) * np.resize(RADII, count)[:, None] * directions


# ---------------------------------------------------------------- the identity that makes first order exact


def relations_persist(skel: "Skeleton", signs: np.ndarray) -> bool:
    """Do the linear relations between the guards' gradients on this chamber hold for the guards themselves?

    Checked to rounding at six random points around x, far ones included; mute letters are the relation h_j = 0.
    """
    conditions = [c for stage in skel.germ.stages for c in _conditions(stage, signs[stage.letters])]
    J = _gradients(skel, signs, conditions)
    length = np.linalg.norm(J, axis=1)
    length = np.where(length > 0, length, 1.0)
    relations = scipy.linalg.null_space((J / length[:, None]).T, rcond=1e-9).T / length  # (r, c)
    if not len(relations):
        return True
    values, noise = _values(skel, signs, conditions, _points_near(skel, 2 * len(RADII)))
    inside = np.all(np.isfinite(values), axis=1)
    residual, rounding = np.abs(values @ relations.T), 10 * noise @ np.abs(relations.T)
    return bool(inside.any() and np.all(residual[inside] <= rounding[inside]))


# ---------------------------------------------------------------- the search, letter by letter


def search(
    skel: "Skeleton", first_order: Mapping[tuple[int, ...], np.ndarray], max_chambers: int
) -> tuple[dict[tuple[Any, ...], NDArray[np.float64]], list[str], str]:
    """(witness of every realized pattern, undecided prefixes, reason), deciding each letter under its prefix.

    first_order: signs -> witness; a prefix of one of these without mute letters needs no search.
    """
    realized: dict[tuple[int, ...], Any] = {(): None}
    undecided, settled = [], set()
    known = {}
    for signs, witness in first_order.items():
        for length in range(len(signs) + 1):
            if 0 in signs[:length]:
                break  # a mute letter of first order may have a sign at second order
            known.setdefault(signs[:length], witness)
    past = []
    for stage in skel.germ.stages:
        for step in _steps(skel, stage):
            grown = {}
            for prefix, _ in realized.items():
                for letters, conditions in step(prefix):
                    signs = prefix + letters
                    if signs in known:
                        grown[signs] = known[signs]
                        continue
                    path = [*_past(past, prefix), *_current(skel, stage, prefix), *conditions]
                    verdict, witness, how = _decide(skel, prefix, path)
                    if verdict:
                        grown[signs] = witness
                    elif verdict is None:
                        undecided.append(text(signs))
                    settled.add(how)
                if len(grown) > max_chambers:
                    raise TooManyChambers(len(grown), max_chambers)
            realized = grown
        past.append(stage)
    if not realized:  # there is always a chamber: the one in which a generic point near x lies
        displacement = _STEPS[-1] * _unit(skel) * np.sin(np.arange(1, skel.germ.x.size + 1))
        realized = {tuple(int(s) for s in pattern_at(skel, skel.germ.x + displacement)): displacement}
        undecided = [prefix for prefix in undecided if prefix != text(next(iter(realized)))] or undecided
    if undecided:
        reason = (
            f"{len(undecided)} pattern(s) could be neither realized nor excluded by identities, curvature, dependence "
            "or a search along arcs; see undecided"
        )
    else:
        reason = "first order, and beyond it: " + ", ".join(sorted(settled))
    return realized, undecided, reason


def _past(stages, prefix):
    return [c for stage in stages for c in _conditions(stage, np.array(prefix[stage.letters])) if c.orientation]


def _current(skel, stage, prefix):
    done = len(prefix) - stage.first
    if done <= 0 or isinstance(stage.ties, selections.ExtremumTie):
        return []
    letters = np.zeros(stage.ties.letters, dtype=int)
    letters[:done] = prefix[stage.first :]
    return [c for c in _conditions(stage, letters)[:done] if c.orientation]


def _steps(skel, stage):
    """Functions prefix -> [(letters, conditions they add)], one a letter (one a group for max and min)."""
    if isinstance(stage.ties, selections.ExtremumTie):
        return [lambda prefix: _winners(skel, stage, prefix)]

    def step(prefix):
        letters = np.zeros(stage.ties.letters, dtype=int)
        done = len(prefix) - stage.first
        letters[:done] = prefix[stage.first :]
        condition = _conditions(stage, letters)[done]
        if _vanishes(skel, prefix, [condition]):
            return [((0,), [])]
        return [((s,), [Condition(condition.position, condition.terms, s)]) for s in (-1, 1)]

    return [step] * stage.ties.letters


def _winners(skel, stage, prefix):
    k = stage.ties.letters
    options = {}
    for w in range(k):
        letters = np.full(k, -1)
        letters[w] = 1
        conditions = _conditions(stage, letters)
        twins = [j for j, c in zip(np.delete(np.arange(k), w), conditions, strict=True) if _vanishes(skel, prefix, [c])]
        if twins:
            letters[[w, *twins]] = 0
        options.setdefault(tuple(int(s) for s in letters), [c for c in _conditions(stage, letters) if c.orientation])
    return list(options.items())


def _vanishes(skel, prefix, conditions):
    """Are these guards zero at random points around x?"""
    values, noise = _values(skel, prefix, conditions, _points_near(skel, 2 * len(RADII)))
    inside = np.all(np.isfinite(values), axis=1)
    return bool(inside.any() and np.all(np.abs(values[inside]) <= noise[inside]))


def _decide(skel, prefix, path):
    """(True, witness, how) | (False, None, how) | (None, None, how) for the path conditions, all to be positive."""
    if not path:
        return True, np.eye(skel.germ.x.size)[0], "no condition"
    orientation = np.array([c.orientation for c in path])
    J = orientation[:, None] * _gradients(skel, prefix, path)
    length = np.linalg.norm(J, axis=1)
    direction, _, multipliers = strict_direction(J)
    if direction is not None:
        return True, direction, "strictly feasible cones"
    points = _points_near(skel, 2 * len(path) + 10, seed=1)
    values, noise = _values(skel, prefix, path, points)
    inside = np.all(np.isfinite(values), axis=1)
    steps, values, noise = points[inside] - skel.germ.x, orientation * values[inside], noise[inside]
    if len(values) > len(path) and _identity(values, noise):
        return False, None, "identities among the guards"
    multipliers = multipliers / np.where(length > 0, length, 1.0)  # for the rows as they are
    support = multipliers > 1e-12 * multipliers.max()
    H = _hessian(skel, prefix, path, orientation * multipliers)
    kernel = _kernel(J[support])
    curvature = kernel.T @ H @ kernel
    excluded = _downward(H, kernel, multipliers, steps, values, noise)
    if excluded:
        return False, None, excluded
    if _dependent(skel, prefix, path, support, J):
        return False, None, "a guard that vanishes with the others"
    witness = _arc(skel, prefix, path, orientation, J, kernel, curvature)
    if witness is not None:
        return True, witness, "arcs of second order"
    each = np.array([_hessian(skel, prefix, path, row) for row in np.diag(orientation)])
    multipliers = _least_curved(J, each)
    if multipliers is not None:
        kernel = _kernel(J[multipliers > 1e-12 * multipliers.max()])
        excluded = _downward(np.tensordot(multipliers, each, 1), kernel, multipliers, steps, values, noise)
        if excluded:
            return False, None, excluded
    return None, None, "undecided"


def _kernel(J):
    return scipy.linalg.null_space(J, rcond=1e-9) if np.any(J) else np.eye(J.shape[1])


def _downward(H, kernel, multipliers, steps, values, noise):
    """Why the Gordan combination with Hessian H at x is not positive near it, or None.

    kernel: of the gradients it uses; steps (T, n), values, noise (T, c): the guards at points near x.
    """
    scale = np.abs(H).max(initial=0.0)
    if scale == 0:
        return None
    if kernel.shape[1] and np.linalg.eigvalsh(kernel.T @ H @ kernel).max() < -1e-6 * scale:
        return "negative curvature of a Gordan combination"
    if np.linalg.eigvalsh(H).max() <= 1e-9 * scale:
        exact = 0.5 * np.einsum("ti,ij,tj->t", steps, H, steps)
        error = np.abs(values @ multipliers - exact)
        if len(steps) and np.all(error <= 10 * noise @ multipliers + 1e-12 * np.abs(exact)):
            return "negative semidefinite Gordan combinations"
    return None


def _least_curved(J, each):
    """lambda >= 0, not 0, with lambda^T J = 0 and the least largest eigenvalue of sum lambda_j H_j on the kernel of J.

    Where Gordan multipliers are not unique the first found may curve up and another down. By cutting planes: the
    largest eigenvalue is the maximum of v^T H v over unit v. None where there is no such lambda to rounding.
    """
    size = np.maximum(np.linalg.norm(J, axis=1), np.linalg.norm(each, axis=(1, 2)))
    size = np.where(size > 0, size, 1.0)
    J, kernel = J / size[:, None], _kernel(J)
    K = kernel.T @ (each / size[:, None, None]) @ kernel
    cuts, found = np.eye(kernel.shape[1]), None
    for _ in range(_CUTS if kernel.shape[1] else 0):
        rows = np.einsum("vi,jik,vk->vj", cuts, K, cuts)
        lp = scipy.optimize.linprog(
            np.append(np.zeros(len(J)), 1.0),
            A_ub=np.column_stack([rows, -np.ones(len(rows))]),
            b_ub=np.zeros(len(rows)),
            A_eq=np.vstack([np.column_stack([J.T, np.zeros(J.shape[1])]), np.append(np.ones(len(J)), 0.0)]),
            b_eq=np.append(np.zeros(J.shape[1]), 1.0),
            bounds=[(0, None)] * len(J) + [(None, None)],
            options={"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10},
        )
        if lp.status:
            return None
        found = np.maximum(lp.x[:-1], 0.0)
        values, vectors = np.linalg.eigh(np.tensordot(found, K, 1))
        if values[-1] - lp.x[-1] <= 1e-10:  # what linprog resolves
            break
        cuts = np.vstack([cuts, vectors.T])
    if found is None or np.any(np.abs(found @ J) > 1e-12):
        return None
    return found / size


def _identity(values, noise):
    """Is there lambda >= 0, not 0, with values @ lambda = 0, to rounding, at every sample?"""
    size = np.abs(values).max(axis=0)
    if np.any(np.all(np.abs(values) <= noise, axis=0)):
        return True
    scaled = values / size
    direction, _, lam = strict_direction(scaled.T)  # Gordan again: rows are samples now
    return direction is None and bool(np.all(np.abs(scaled @ lam) <= 10 * (noise / size) @ lam))


def _cotangents(skel, path, weights):
    """{position: cotangent} whose pairing with the values is sum weights_j * guard_j."""
    here, found = skel.germ, {}
    for c, weight in zip(path, weights, strict=True):
        op = here.graph.program.operations[c.position - 1]
        parents = dict(zip(op.argnums, op.parents, strict=True))
        for k, entry, coef in c.terms:
            if k in parents and weight:
                g = found.setdefault(parents[k], np.zeros(np.shape(here.tape.values[parents[k]])))
                g.reshape(-1)[entry[0]] += weight * coef[0]
    return found


def _branches(skel, prefix):
    letters = np.zeros(len(skel.germ.kinks), dtype=int)
    letters[: len(prefix)] = prefix
    return skel.germ.branches(letters)


def _hessian(skel, prefix, path, weights):
    """Hessian at x of sum weights_j * guard_j under the prefix's pieces."""
    return hessian(skel.germ.graph, skel.germ.x, _branches(skel, prefix), _cotangents(skel, path, weights))


def _dependent(skel, prefix, path, support, J):
    """With a minimal Gordan support: does one guard of it vanish on the common zero set of the others?"""
    indices = np.flatnonzero(support)
    if len(indices) < 2 or np.linalg.matrix_rank(J[indices], tol=1e-9 * np.abs(J).max()) != len(indices) - 1:
        return False
    for k in indices:
        others = [path[j] for j in indices if j != k]
        zeros = [_newton(skel, prefix, others, y) for y in _points_near(skel, 2 * len(RADII), seed=2)]
        zeros = [z for z in zeros if z is not None]
        if len(zeros) < len(RADII):
            continue
        rest, noise = _values(skel, prefix, [path[k]], zeros)
        slack = 1e-13 * _unit(skel) * np.linalg.norm(J[k])  # of the Newton steps
        if np.all(np.abs(rest) <= 10 * noise + slack):
            return True
    return False


def _newton(skel, prefix, conditions, start):
    """A common zero of the guards near start, by least-norm Newton steps; None if lost."""
    graph, y, unit = skel.germ.graph, start.copy(), _unit(skel)
    branches = _branches(skel, prefix)
    single = [_cotangents(skel, [c], [1.0]) for c in conditions]
    for _ in range(30):
        values = _values(skel, prefix, conditions, [y])[0][0]
        with np.errstate(all="ignore"):
            jacobian = np.array([gradient(graph, y, branches, one) for one in single])
        if not (np.all(np.isfinite(values)) and np.all(np.isfinite(jacobian))):
            return None
        step = np.linalg.lstsq(jacobian, -values, rcond=1e-9)[0]
        y = y + step
        if np.linalg.norm(step) <= 1e-14 * unit:
            break
    return y if np.linalg.norm(y - skel.germ.x) <= 2 * unit else None


# ---------------------------------------------------------------- realizing


def _arc(skel, prefix, path, orientation, J, kernel, curvature):
    """A displacement w with all conditions positive at x + w, on an arc that stays positive down to x; or None.

    Along x + t d + t^2 e a guard is t J d + t^2 (J e + d^T Q d / 2) + O(t^3), so d must lie in the closed cone and,
    where J d = 0, the bracket must be positive: linear in e. Candidates are screened by that, then checked on f.
    """
    H = np.array([_hessian(skel, prefix, [c], [float(c.orientation)]) for c in path])
    length = np.linalg.norm(J, axis=1)
    scaled = J / np.where(length > 0, length, 1.0)[:, None]
    later = []
    for d in _directions_in(scaled, kernel, curvature):
        flat = np.abs(scaled @ d) <= 1e-9
        q = np.einsum("i,cij,j->c", d, H, d)[flat]
        if np.all(q > 0):
            witness = _verified(skel, prefix, path, orientation, d, np.zeros(d.size))
        elif np.any(q):
            witness = _bent(skel, prefix, path, orientation, J[flat], q, d)
        else:  # beyond second order
            later.append(d)
            continue
        if witness is not None:
            return witness
    for d in later[:_BEYOND]:
        witness = _verified(skel, prefix, path, orientation, d, np.zeros(d.size))
        if witness is not None:
            return witness
    return None


def _directions_in(rows, kernel, curvature):
    """Unit directions of the closed cone rows @ d >= 0: on the face the kernel spans first, then near it."""
    n = rows.shape[1]
    rng = np.random.default_rng([3, n, len(rows)])
    seeds = []
    if kernel.shape[1]:
        eigenvectors = kernel @ np.linalg.eigh(curvature)[1][:, ::-1]
        seeds += [s * v for v in eigenvectors.T for s in (1, -1)]
        seeds += list(rng.standard_normal((_DRAWS, kernel.shape[1])) @ kernel.T)
    for seed in seeds:
        d = _into_cone(rows, seed)
        if d is None:
            continue
        yield d
        inward = _into_cone(rows, rng.standard_normal(n))
        if inward is not None:
            yield (d + 0.3 * inward) / np.linalg.norm(d + 0.3 * inward)


def _into_cone(rows, v):
    """The unit vector along the projection of v on {d: rows d >= 0}, or None when that is zero."""
    try:
        lam, _ = scipy.optimize.nnls(rows.T, -v)
    except RuntimeError:  # it cycled: another seed will do
        return None
    d = v + rows.T @ lam
    d[np.abs(d) <= 1e-12 * np.abs(d).max(initial=0)] = 0.0
    length = np.linalg.norm(d)
    inside = length > 1e-6 * np.linalg.norm(v) and np.all(rows @ d >= -1e-9 * length)
    return d / length if inside else None


def _bent(skel, prefix, path, orientation, flat_rows, q, d):
    """The witness on an arc with J e + q/2 > 0 for the flat guards; None if there is no such e, or f disagrees."""
    lifted = np.vstack([np.column_stack([flat_rows, q / 2]), np.eye(1, d.size + 1, d.size)])
    direction, _, _ = strict_direction(lifted)
    if direction is None or direction[-1] <= 1e-9:
        return None
    return _verified(skel, prefix, path, orientation, d, direction[:-1] / direction[-1])


def _verified(skel, prefix, path, orientation, d, e):
    """A displacement if every condition is positive at all steps, as far as rounding lets one see; else None."""
    unit = _unit(skel)
    shrink = 1.0 / max(1.0, np.linalg.norm(e) * unit)
    positive = []
    for t in _STEPS[::-1]:
        s = shrink * t * unit
        displacement = s * d + s**2 * e
        values, noise = _values(skel, prefix, path, [skel.germ.x + displacement])
        if not (np.all(np.isfinite(values)) and np.all(orientation * values >= -noise)):
            return None
        if np.all(orientation * values > noise):
            positive.append(displacement)
    return positive[0] if len(positive) >= 3 else None


def onto_facet(
    skel: "Skeleton", signs: np.ndarray, normal: np.ndarray, start: np.ndarray
) -> NDArray[np.float64] | None:
    """The point start + c * normal on the facet of this pattern with that normal at x, by chord steps; None if lost.

    Guards that share the normal must vanish together there (otherwise the facet at x opens into a thin chamber), and
    the other conditions of the pattern must hold.
    """
    conditions = [c for stage in skel.germ.stages for c in _conditions(stage, signs[stage.letters])]
    J = _gradients(skel, signs, conditions)
    slope = J @ normal
    parallel = np.linalg.norm(J - np.outer(slope, normal), axis=1) <= 1e-9 * np.abs(slope)
    on = parallel & (slope != 0)
    shared, slopes = [conditions[k] for k in np.flatnonzero(on)], slope[on]
    if not shared:
        return None
    y = start
    for _ in range(60):
        steps = _values(skel, signs, shared, [y])[0][0] / slopes
        if not np.all(np.isfinite(steps)):
            return None
        y = y - steps[0] * normal
        if np.abs(steps[0]) <= 1e-15 * _unit(skel):
            break
    values, noise = (found[0] for found in _values(skel, signs, conditions, [y]))
    holds = np.array([c.orientation for c in conditions]) * values >= -noise
    met = np.abs(values[on] / slopes) <= 1e-12 * _unit(skel)
    return y if np.all(met) and np.all(holds[~on]) else None


def settle(
    skel: "Skeleton", stage: Stage, prefix: Any, letters: np.ndarray, first: ArrayLike, generic: np.ndarray
) -> np.ndarray:
    """Letters of a two-way stage along a direction, those with zero gradient looked at beyond first order."""
    letters = np.array(letters, dtype=int)
    flat = np.flatnonzero(letters == 0)
    if not len(flat):
        return letters
    conditions = _conditions(stage, np.zeros(stage.ties.letters, dtype=int))
    letters[flat] = _signs_along(skel, prefix, [conditions[k] for k in flat], first, generic)
    return letters


def _signs_along(skel, prefix, conditions, first, generic):
    """Signs of the guards near x on the curve x + t first + t^(3/2) generic, at the smallest t above rounding.

    One curve for all letters, and the one on which first-order letters are those of `first`, then of `generic`: so
    the letters together are those of points of one region.
    """
    unit, first = _unit(skel), first / np.linalg.norm(first)
    points = [skel.germ.x + t * unit * (first + 0.5 * np.sqrt(t) * generic) for t in (1e-10, *_STEPS[::-1])]
    values, noise = _values(skel, np.array(prefix), conditions, points)
    signs = np.zeros(len(conditions), dtype=int)
    for value, error in zip(values, noise, strict=True):
        signs = np.where((signs == 0) & (np.abs(value) > error), np.sign(value), signs).astype(int)
    return signs


def settle_members(
    skel: "Skeleton",
    stage: Stage,
    prefix: Sequence[Any] | np.ndarray,
    compare: np.ndarray,
    first: ArrayLike,
    generic: np.ndarray,
) -> np.ndarray:
    """compare (k, k): signs of differences of tied members along a direction, zeros looked at beyond first order."""
    members = stage.ties.members
    pairs = [(a, b) for a in range(len(members)) for b in range(a) if compare[a, b] == 0]
    if not pairs:
        return compare
    one = np.ones(1)
    conditions = [Condition(stage.position, ((0, members[[a]], one), (0, members[[b]], -one)), 1) for a, b in pairs]
    compare = compare.copy()
    for (a, b), sign in zip(pairs, _signs_along(skel, prefix, conditions, first, generic), strict=True):
        compare[a, b], compare[b, a] = sign, -sign
    return compare
