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

from dataclasses import dataclass

import numpy as np
import scipy.linalg
import scipy.optimize

from . import selections
from .arrangements import TooManyChambers, strict_direction
from .graph import gradient, hessian, run

STEP = 1e-5  # length of the displacement at which a chamber found at first order is looked at
RADIUS = 1e-2  # of the random points at which identities are checked, relative to max(1, |x|)
_STEPS = (1e-2, 3e-3, 1e-3, 3e-4, 1e-4)  # of an arc, in the same unit
_IDENTITY = 1e-9  # residual, relative to the largest term, below which a sum counts as identically zero
_DRAWS = 200  # random directions tried before a pattern is called undecided
_BEYOND = 20  # of those on which every second-order term vanishes, how many are looked at


@dataclass(frozen=True, eq=False)
class Condition:
    """orientation * (sum of the terms of operation `position`) > 0; orientation 0 asks nothing."""

    position: int
    terms: tuple
    orientation: int


def _conditions(stage, signs):
    terms, orientation = stage.ties.constraints(signs)
    return [
        Condition(stage.position, tuple((k, e[[i]], c[[i]]) for k, e, c in terms), int(orientation[i]))
        for i in range(len(orientation))
    ]


def _unit(skel):
    return max(1.0, float(np.max(np.abs(skel.germ.x))))


def _values(skel, signs, conditions, points):
    """(T, c): the conditions' guards, unoriented and less their value at x, under the pieces of `signs`.

    `signs` may be a prefix: operations after it take any piece, which no condition of the prefix sees. Rows that
    leave the domain of f are nan.
    """
    here, branches = skel.germ, _branches(skel, signs)
    found = []
    for y in [here.x, *points]:
        with np.errstate(all="ignore"):
            tape = run(here.graph, y, lambda i, op, args, sizes: branches[i])
        flats = {c.position: [np.ravel(np.asarray(a, float)) for a in tape.arguments[c.position]] for c in conditions}
        found.append([sum(float(coef[0] * flats[c.position][k][e[0]]) for k, e, coef in c.terms) for c in conditions])
    values = np.array(found).reshape(len(points) + 1, len(conditions))
    return values[1:] - values[0]


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
    rows = np.array([skel.rows(c.position, c.terms)[0] for c in conditions]).reshape(len(conditions), -1)
    values = skel.under(rows, slots)
    n = skel.germ.x.size
    size = np.abs(rows[:, :n]).max(axis=1, initial=0) + np.abs(rows[:, n:]) @ np.abs(slots).max(axis=1, initial=0)
    values[np.abs(values).max(axis=1, initial=0) <= skel.germ.tol * size] = 0.0
    return values


def _points_near(skel, count, seed=0):
    """(count, n) random points at distance RADIUS from x: identities of smooth functions are checked there."""
    rng = np.random.default_rng([seed, skel.germ.x.size, count])
    directions = rng.standard_normal((count, skel.germ.x.size))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    return skel.germ.x + RADIUS * _unit(skel) * directions


# ---------------------------------------------------------------- the identity that makes first order exact


def relations_persist(skel, signs) -> bool:
    """Do the linear relations between the guards' gradients on this chamber hold for the guards themselves?

    Checked at three random points near x; mute letters are the relation h_j = 0.
    """
    conditions = [c for stage in skel.germ.stages for c in _conditions(stage, signs[stage.letters])]
    J = _gradients(skel, signs, conditions)
    length = np.linalg.norm(J, axis=1)
    scaled = J / np.where(length > 0, length, 1.0)[:, None]
    relations = scipy.linalg.null_space(scaled.T, rcond=1e-9).T  # (r, c)
    if not len(relations):
        return True
    values = _values(skel, signs, conditions, _points_near(skel, 3)) / np.where(length > 0, length, 1.0)
    if not np.all(np.isfinite(values)):
        return False
    residual = np.abs(values @ relations.T)
    noise = np.abs(relations) @ _rounding(skel, conditions, length)
    return bool(np.all(residual <= _IDENTITY * (np.abs(values) @ np.abs(relations.T)) + noise))


def _rounding(skel, conditions, length):
    """(c,): what rounding may leave in a guard's value near x, in units of its gradient."""
    sizes = skel.germ.tape.magnitudes
    found = []
    for c in conditions:
        op = skel.germ.graph.program.operations[c.position - 1]
        parents = dict(zip(op.argnums, op.parents, strict=True))
        found.append(sum(float(np.ravel(sizes[parents[k]])[e[0]]) for k, e, _ in c.terms if k in parents))
    return 1e-14 * (np.array(found) + _unit(skel)) / np.where(length > 0, length, 1.0)


# ---------------------------------------------------------------- the search, letter by letter


def search(skel, first_order, max_chambers):
    """(witness of every realized pattern, undecided prefixes, reason), deciding each letter under its prefix.

    first_order: signs -> witness; a prefix of one of these without mute letters needs no search.
    """
    realized, undecided, settled = {(): None}, [], set()
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
                        undecided.append("".join("-0+"[s + 1] for s in signs))
                    settled.add(how)
                if len(grown) > max_chambers:
                    raise TooManyChambers(len(grown), max_chambers)
            realized = grown
        past.append(stage)
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
    """Are these guards zero at random points near x?"""
    values = _values(skel, prefix, conditions, _points_near(skel, 3))
    return bool(np.all(np.abs(values) <= _rounding(skel, conditions, np.zeros(len(conditions)))))


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
    values = orientation * _values(skel, prefix, path, points)
    finite = values[np.all(np.isfinite(values), axis=1)]
    if len(finite) > len(path) and _identity(finite, _rounding(skel, path, np.zeros(len(path)))):
        return False, None, "identities among the guards"
    multipliers = multipliers / np.where(length > 0, length, 1.0)  # for the rows as they are
    support = multipliers > 1e-12 * multipliers.max()
    kernel = scipy.linalg.null_space(J[support], rcond=1e-9) if np.any(J[support]) else np.eye(J.shape[1])
    H = _hessian(skel, prefix, path, orientation * multipliers)
    curvature = kernel.T @ H @ kernel
    scale = np.abs(H).max(initial=0.0)
    if scale > 0 and kernel.shape[1] and np.linalg.eigvalsh(curvature).max() < -1e-6 * scale:
        return False, None, "negative curvature of a Gordan combination"
    if np.linalg.eigvalsh(H).max() <= 1e-9 * scale and scale > 0:
        steps = points - skel.germ.x
        exact = 0.5 * np.einsum("ti,ij,tj->t", steps, H, steps)
        error = np.abs(values @ multipliers - exact)
        if np.all(error <= _IDENTITY * np.abs(exact).max() + 1e-14 * np.abs(values).max()):
            return False, None, "negative semidefinite Gordan combinations"
    if _dependent(skel, prefix, path, support, J):
        return False, None, "a guard that vanishes with the others"
    witness = _arc(skel, prefix, path, orientation, J, kernel, curvature)
    if witness is not None:
        return True, witness, "arcs of second order"
    return None, None, "undecided"


def _identity(values, noise):
    """Is there lambda >= 0, not 0, with values @ lambda = 0 at every sample?"""
    size = np.abs(values).max(axis=0)
    if np.any(size <= noise):
        return True
    scaled = values / size
    direction, _, lam = strict_direction(scaled.T)  # Gordan again: rows are samples now
    return direction is None and bool(np.abs(scaled @ lam).max() <= _IDENTITY + (lam / size) @ noise)


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
        noise = _rounding(skel, [path[k]], np.zeros(1))[0]
        zeros = [_newton(skel, prefix, others, y) for y in _points_near(skel, 3, seed=2)]
        if any(z is None for z in zeros):
            continue
        rest = _values(skel, prefix, [path[k]], zeros)[:, 0]
        generic = np.abs(_values(skel, prefix, [path[k]], _points_near(skel, 3, seed=2))).max()
        if np.all(np.abs(rest) <= _IDENTITY * generic + 100 * noise):
            return True
    return False


def _newton(skel, prefix, conditions, start):
    """A common zero of the guards near start, by least-norm Newton steps; None if lost."""
    graph, y, unit = skel.germ.graph, start.copy(), _unit(skel)
    branches = _branches(skel, prefix)
    single = [_cotangents(skel, [c], [1.0]) for c in conditions]
    for _ in range(30):
        values = _values(skel, prefix, conditions, [y])[0]
        with np.errstate(all="ignore"):
            jacobian = np.array([gradient(graph, y, branches, one) for one in single])
        if not (np.all(np.isfinite(values)) and np.all(np.isfinite(jacobian))):
            return None
        step = np.linalg.lstsq(jacobian, -values, rcond=1e-9)[0]
        y = y + step
        if np.linalg.norm(step) <= 1e-14 * unit:
            break
    return y if np.linalg.norm(y - skel.germ.x) <= 10 * RADIUS * unit else None


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
    """The displacement at the last step if every condition is positive at all steps, else None."""
    unit = _unit(skel)
    shrink = 1.0 / max(1.0, np.linalg.norm(e) * unit)
    noise = _rounding(skel, path, np.zeros(len(path)))
    witness = None
    for t in _STEPS[::-1]:  # the smallest first: most candidates fail there
        s = shrink * t * unit
        witness_here = s * d + s**2 * e
        values = orientation * _values(skel, prefix, path, [skel.germ.x + witness_here])[0]
        if not (np.all(np.isfinite(values)) and np.all(values > noise)):
            return None
        witness = witness_here if witness is None else witness
    return witness


def onto_facet(skel, signs, normal, start):
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
        steps = _values(skel, signs, shared, [y])[0] / slopes
        if not np.all(np.isfinite(steps)):
            return None
        y = y - steps[0] * normal
        if np.abs(steps[0]) <= 1e-15 * _unit(skel):
            break
    values = _values(skel, signs, conditions, [y])[0]
    orientation, noise = np.array([c.orientation for c in conditions]), _rounding(skel, conditions, np.zeros(len(on)))
    holds = orientation * values >= -noise
    met = np.abs(values[on] / slopes) <= 1e-12 * _unit(skel)
    return y if np.all(met) and np.all(holds[~on]) else None


def settle(skel, stage, prefix, letters, first, generic):
    """Letters of a two-way stage along a direction, those with zero gradient looked at beyond first order."""
    letters = np.array(letters, dtype=int)
    flat = np.flatnonzero(letters == 0)
    if not len(flat):
        return letters
    conditions = _conditions(stage, np.zeros(stage.ties.letters, dtype=int))
    letters[flat] = _signs_along(skel, prefix, [conditions[k] for k in flat], first, generic)
    return letters


def _signs_along(skel, prefix, conditions, first, generic):
    """Signs of the guards at five shrinking steps along `first`, or where they are 0 or vary, along `generic`."""
    unit, noise = _unit(skel), _rounding(skel, conditions, np.zeros(len(conditions)))
    signs = np.zeros(len(conditions), dtype=int)
    for direction in (first, generic):
        values = _values(skel, np.array(prefix), conditions, [skel.germ.x + t * unit * direction for t in _STEPS])
        seen = np.where(np.all(values > noise, axis=0), 1, np.where(np.all(values < -noise, axis=0), -1, 0))
        signs = np.where(signs == 0, seen, signs)
    return signs


def settle_members(skel, stage, prefix, compare, first, generic):
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
