"""Limiting gradients, Jacobians and Hessians at a point: the B-subdifferential and its second-order kin.

Near x a piecewise-smooth f is one smooth selection f_s in each chamber s of its fan, so

    limiting gradients  g_s = f_s'(x),     limiting Hessians  H_s = f_s''(x),

one pair a pattern, taken by differentiating the forced selection, never f itself. conv{g_s} is the Clarke
subdifferential of f at x. conv{H_s} is the Clarke generalized Hessian [HSN84] where f is C^{1,1} near x; where the
gradient jumps it leaves the jump out, so it always travels with `c11`.

[HSN84] Hiriart-Urruty, Strodiot, Nguyen. Appl. Math. Optim. 11 (1984) 43-56.
"""

from bisect import bisect_left, bisect_right
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from scipy.sparse.linalg import LinearOperator

from . import fan as fans
from . import second_order
from .arrangements import strict_direction
from .graph import from_function, gradient, hessian, hessian_product, point, pullback, run
from .kinks import TOL, germ
from .primitives import NotPiecewiseSmooth
from .skeleton import (
    Skeleton,
    curved_entries,
    hessians_by_pattern,
    hessians_by_skeleton,
    skeleton,
)

LIMIT = 2**30  # bytes of matrices that are formed without being asked twice


@dataclass(frozen=True, eq=False)
class LimitingGradients:
    """patterns: m sign strings; vectors (m, n): units of f/x; witnesses (m, n); complete, reason: the fan's."""

    patterns: tuple[str, ...]
    vectors: np.ndarray
    witnesses: np.ndarray
    complete: bool
    reason: str
    undecided: tuple[str, ...] = ()

    def distinct(self, tol=1e-9) -> "LimitingGradients":
        """One pattern for each distinct gradient (relative to the largest entry), in order."""
        keep = distinct_elements([self.vectors], tol)
        return LimitingGradients(
            tuple(self.patterns[i] for i in keep),
            _frozen(self.vectors[keep]),
            _frozen(self.witnesses[keep]),
            self.complete,
            self.reason,
            self.undecided,
        )

    def __len__(self):
        return len(self.patterns)


@dataclass(frozen=True, eq=False)
class LimitingJacobians:
    """patterns: m sign strings; matrices (m, p, n): units of F/x, p = the size of F's output in C order."""

    patterns: tuple[str, ...]
    matrices: np.ndarray
    witnesses: np.ndarray
    complete: bool
    reason: str
    undecided: tuple[str, ...] = ()

    def distinct(self, tol=1e-9) -> "LimitingJacobians":
        """One pattern for each distinct Jacobian (relative to the largest entry), in order."""
        keep = distinct_elements([self.matrices], tol)
        return LimitingJacobians(
            tuple(self.patterns[i] for i in keep),
            _frozen(self.matrices[keep]),
            _frozen(self.witnesses[keep]),
            self.complete,
            self.reason,
            self.undecided,
        )

    def __len__(self):
        return len(self.patterns)


@dataclass(frozen=True, eq=False)
class LimitingHessians:
    """patterns: m sign strings; gradients (m, n); matrices (m, n, n) symmetric, units of f/x^2, paired with them.

    matrices is computed when first asked for; above 1 GiB it raises MemoryError (use `operator(i)`). c11: True if f
    is proved C^{1,1} near x, False if a facet shows a jump of the gradient, else None.
    """

    patterns: tuple[str, ...]
    gradients: np.ndarray
    witnesses: np.ndarray
    complete: bool
    reason: str
    undecided: tuple[str, ...]
    _skeleton: Skeleton = field(repr=False)

    @cached_property
    def matrices(self) -> np.ndarray:
        m, n = self.gradients.shape
        if 8 * m * n * n > LIMIT:
            raise MemoryError(
                f"{m} limiting Hessians of size {n} x {n} take {8 * m * n * n / 2**30:.1f} GiB, above the limit of "
                f"{LIMIT / 2**30:.0f} GiB; use .operator(i) for products, limiting_gradients, or limiting_hessian for "
                "one element"
            )
        return _frozen(_hessians(self._skeleton, self.patterns))

    @cached_property
    def c11(self) -> bool | None:
        return _c11(self)

    def operator(self, i) -> LinearOperator:
        """H of the i-th pattern as a scipy LinearOperator: a product costs about two gradients, no matrix is formed."""
        skel = self._skeleton
        graph, x, n = skel.germ.graph, skel.germ.x, skel.germ.x.size
        branches = skel.germ.branches(fans.signs_of(self.patterns[i]))

        def product(v):
            return hessian_product(graph, x, branches, _top(graph), np.ravel(v))

        # scipy builds the operator in __new__, which its annotations do not show
        return LinearOperator((n, n), matvec=product, rmatvec=product, dtype=float)  # pyright: ignore[reportCallIssue]

    def distinct(self, tol=1e-9) -> "LimitingHessians":
        """One pattern for each distinct pair (gradient, Hessian), each relative to its largest entry, in order."""
        keep = distinct_elements([self.gradients, self.matrices], tol, (_gradient_floor(self), 0.0))
        fewer = LimitingHessians(
            tuple(self.patterns[i] for i in keep),
            _frozen(self.gradients[keep]),
            _frozen(self.witnesses[keep]),
            self.complete,
            self.reason,
            self.undecided,
            self._skeleton,
        )
        fewer.__dict__.update(matrices=_frozen(self.matrices[keep]), c11=self.c11)
        return fewer

    def __len__(self):
        return len(self.patterns)


def limiting_gradients(f, x, *, tol=TOL, max_chambers=fans.MAX_CHAMBERS, mapper=map) -> LimitingGradients:
    """All limiting gradients of a scalar f at x, one a pattern.

    f: autograd.numpy function (n,) -> scalar, or a Graph; x (n,). Equal gradients of different patterns are kept
    (see `distinct`). Raises ValueError if f is not scalar, and what `local_fan` raises.
    """
    skel, fan = _study(f, x, tol, max_chambers, mapper, scalar="limiting_gradients")
    return LimitingGradients(
        fan.patterns, _frozen(_jacobians(skel, fan)[:, 0]), fan.witnesses, fan.complete, fan.reason, fan.undecided
    )


def limiting_jacobians(F, x, *, tol=TOL, max_chambers=fans.MAX_CHAMBERS, mapper=map) -> LimitingJacobians:
    """All limiting Jacobians of F at x, one a pattern: matrices (m, p, n), F's output flattened in C order."""
    skel, fan = _study(F, x, tol, max_chambers, mapper)
    return LimitingJacobians(
        fan.patterns, _frozen(_jacobians(skel, fan)), fan.witnesses, fan.complete, fan.reason, fan.undecided
    )


def limiting_hessians(f, x, *, tol=TOL, max_chambers=fans.MAX_CHAMBERS, mapper=map) -> LimitingHessians:
    """All limiting Hessians of a scalar f at x, each with the gradient of the same pattern.

    f: autograd.numpy function (n,) -> scalar, or a Graph; x (n,). Raises ValueError if f is not scalar, and what
    `local_fan` raises. Their hull is the Clarke generalized Hessian only where `c11` is True.
    """
    skel, fan = _study(f, x, tol, max_chambers, mapper, scalar="limiting_hessians")
    return LimitingHessians(
        fan.patterns, _frozen(_jacobians(skel, fan)[:, 0]), fan.witnesses, fan.complete, fan.reason, fan.undecided, skel
    )


def limiting_gradient(f, x, direction=None, *, tol=TOL) -> np.ndarray:
    """One limiting gradient (n,) of a scalar f at x, in one pass: the gradient met along x + t direction, t -> 0+.

    A drop-in for autograd.grad(f)(x) that is right at kinks; at a smooth point it is the gradient. direction: (n,),
    default `fan.generic_direction`; where it lies on a wall between chambers, the generic one breaks the tie. Record
    f once with `from_function` to skip the recording.
    """
    graph, x, tape, _ = _one_piece(f, x, direction, tol, "limiting_gradient")
    if graph.output is None:
        return np.zeros(x.size)
    with np.errstate(all="ignore"):
        found = np.array(pullback(graph, tape, _top(graph))[0], dtype=float)
    if not np.all(np.isfinite(found)):
        raise NotPiecewiseSmooth("a derivative is not finite at x, so no finite set of smooth pieces describes f")
    return found


def limiting_hessian(f, x, direction=None, *, tol=TOL) -> np.ndarray:
    """One limiting Hessian (n, n) of a scalar f at x, of the same piece as `limiting_gradient`.

    A drop-in for autograd.hessian(f)(x): symmetric, right at kinks, the Hessian at a smooth point.
    """
    graph, x, _, branches = _one_piece(f, x, direction, tol, "limiting_hessian")
    if graph.output is None:
        return np.zeros((x.size, x.size))
    with np.errstate(all="ignore"):
        return hessian(graph, x, branches, _top(graph))


# ---------------------------------------------------------------- behind the doors


def _study(f, x, tol, max_chambers, mapper, scalar=""):
    graph = from_function(f, x)
    if scalar:
        _require_scalar(graph, scalar)
    fan = fans.local_fan(graph, x, tol=tol, max_chambers=max_chambers, mapper=mapper)
    return skeleton(germ(graph, x, tol=tol)), fan


def _require_scalar(graph, door):
    if int(np.prod(graph.shape)) != 1:
        raise ValueError(
            f"f: {door} needs a scalar function; it returns shape {graph.shape}; use limiting_jacobians, or sum it up"
        )


def _jacobians(skel, fan):
    """(m, p, n) from the skeleton: linear algebra only."""
    rows = skel.output_rows()
    n = skel.germ.x.size
    if not skel.size:
        return np.repeat(rows[None, :, :n], len(fan.patterns), axis=0)
    return np.array([skel.under(rows, skel.slots_under(fans.signs_of(p))) for p in fan.patterns])


def _hessians(skel, patterns):
    graph, n = skel.germ.graph, skel.germ.x.size
    if graph.output is None or graph.degrees[graph.program.output] <= 1:
        return np.zeros((len(patterns), n, n))
    signs = [fans.signs_of(p) for p in patterns]
    cotangent = np.ones(graph.shape)
    with np.errstate(all="ignore"):
        if (1 + len(curved_entries(skel))) * (n + skel.size) < len(patterns) * n:
            return hessians_by_skeleton(skel, signs, cotangent)
        return hessians_by_pattern(skel, signs, cotangent)


def _top(graph):
    """The cotangent of a scalar output."""
    return {graph.program.output: np.ones(graph.shape)}


def _one_piece(f, x, direction, tol, door):
    """The graph, the point, its tape and the branches of the piece met along the direction."""
    graph = from_function(f, x)
    _require_scalar(graph, door)
    here = germ(graph, x, tol=tol)
    if direction is not None:
        direction = point(direction, here.x.size, name="direction")
        if not np.any(direction):
            raise ValueError("direction must not be zero; leave it out for the generic one")
    if not here.kinks:
        return graph, here.x, here.tape, here.decided
    signs = fans.pattern_by_tangents(here, direction)
    branches = here.branches(fans.pattern_along(skeleton(here), direction) if signs is None else signs)
    return graph, here.x, run(graph, here.x, lambda i, op, args, sizes: branches[i]), branches


def distinct_elements(arrays, tol=1e-9, floors=(0.0, 0.0)):
    """Indices of the first of each class of elements that agree in every array to tol times its scale.

    arrays: stacks with elements along axis 0. Scale: the array's largest entry, or its floor if that is larger.
    """
    scales = [max(np.abs(a).max(initial=0.0), floor) or 1.0 for a, floor in zip(arrays, floors, strict=False)]
    stacked = np.hstack([a.reshape(len(a), -1) / scale for a, scale in zip(arrays, scales, strict=True)])
    probe = fans.generic_direction(stacked.shape[1])
    keys = (stacked @ probe).tolist()
    reach = tol * float(np.abs(probe).sum()) + 1e-14 * stacked.shape[1]  # the second part: rounding of the keys
    kept, kept_keys = [], []  # sorted by key: elements that agree have keys within reach
    for i, key in enumerate(keys):
        low, high = bisect_left(kept_keys, key - reach), bisect_right(kept_keys, key + reach)
        near = kept[low:high]
        if not near or np.abs(stacked[near] - stacked[i]).max(axis=1, initial=0).min() > tol:
            at = bisect_right(kept_keys, key)
            kept.insert(at, i)
            kept_keys.insert(at, key)
    return sorted(kept)


def _gradient_floor(found):
    """A gradient entry below 1e-12 of this is what rounding x to double precision leaves: |H| |x| ulps."""
    x = found._skeleton.germ.x
    return 1e-3 * float(np.abs(found.matrices).max(initial=0.0)) * max(1.0, float(np.abs(x).max()))


def _frozen(array):
    array = np.array(array, dtype=float)
    array.flags.writeable = False
    return array


# ---------------------------------------------------------------- is f C^{1,1} near x?

_SAME = 1e-8  # relative difference of derivatives that counts as a jump


def _c11(found):
    """False on a violated facet, True where proved, else None.

    Equal limiting gradients are necessary (any two chambers are joined through facets). Where all guards are affine
    and f is piecewise quadratic, f is C^{1,1} near x iff moreover H_i - H_j = c n n^T across every facet with normal
    n. Otherwise the equality of gradients must persist along the facet: it is looked at near x, and a difference
    there is a violation.
    """
    gradients, skel = found.gradients, found._skeleton
    if len(distinct_elements([gradients], 1e-9, (_gradient_floor(found),))) > 1:
        return False
    if len(found.patterns) == 1:
        return True if found.complete else None
    graph = skel.germ.graph
    affine = fans._affine_guards(skel.germ)
    quadratic = affine and graph.degrees[graph.program.output] <= 2
    size = np.abs(found.matrices).max() or 1.0
    if np.abs(found.matrices - found.matrices[0]).max() <= _SAME * size and quadratic:
        return True if found.complete else None
    persists, noise = True, 1e-7 * _gradient_floor(found)
    for i, j, normal, inside in facets(skel, found.patterns, found.witnesses):
        jump = found.matrices[i] - found.matrices[j]
        across = jump - (normal @ jump @ normal) * np.outer(normal, normal)
        if np.abs(across).max() > _SAME * size:
            return False
        if not quadratic:
            verdict = _gradients_agree_along(skel, found.patterns[i], found.patterns[j], normal, inside, noise)
            if verdict is False:
                return False
            persists = persists and verdict
    return True if found.complete and (quadratic or persists) else None


def facets(skel, patterns, witnesses):
    """Pairs (i, j, unit normal, direction inside the common facet) of chambers with interior that share a facet."""
    numbers = {p: i for i, p in enumerate(patterns)}
    for i, pattern in enumerate(patterns):
        rows = _cone_rows(skel, fans.signs_of(pattern))
        if not len(rows) or np.any(rows @ witnesses[i] <= 0):
            continue  # found at second order: its tangent cone has no interior
        for r in range(len(rows)):
            others = np.delete(rows, r, axis=0)
            flat = others - np.outer(others @ rows[r], rows[r])  # their traces on the wall
            inside, _, _ = strict_direction(flat) if len(flat) else (np.zeros(rows.shape[1]), 0, None)
            if inside is None:
                continue
            inside = inside - (inside @ rows[r]) * rows[r]
            beyond = fans.text(fans.pattern_along(skel, inside - 1e-6 * rows[r]))
            if beyond in numbers and numbers[beyond] > i:
                yield i, numbers[beyond], rows[r], inside


def _cone_rows(skel, signs):
    """Distinct unit normals of the tangent cone of one pattern."""
    rows, slots = [np.zeros((0, skel.germ.x.size))], np.zeros((skel.size, skel.germ.x.size))
    for stage in skel.germ.stages:
        terms, orientation = stage.ties.constraints(signs[stage.letters])
        values = fans._without_zeros(skel.rows(stage.position, terms), skel, slots)
        rows.append(orientation[:, None] * values)
        slots = skel.advance(stage, signs[stage.letters], slots)
    return fans._unit_rows(np.vstack(rows))


def _gradients_agree_along(skel, first, second, normal, inside, noise):
    """True if the two pieces' gradients agree at points of the facet near x, False if they differ, None if unclear.

    noise: a difference that rounding the point may cause.
    """
    graph, x = skel.germ.graph, np.array(skel.germ.x)
    signs = [fans.signs_of(p) for p in (first, second)]
    pieces = [skel.germ.branches(s) for s in signs]
    rng = np.random.default_rng(0)
    for t in (1e-2, 1e-3):
        reach = t * max(1.0, float(np.abs(x).max()))
        for spread in (1.0, 0.3, 0.1, 0.03):
            tangent = inside + spread * rng.standard_normal(x.size)
            start = x + reach * (tangent - (tangent @ normal) * normal)
            on_facet = second_order.onto_facet(skel, signs[0], normal, start)
            if on_facet is not None:
                break
        else:
            return None
        with np.errstate(all="ignore"):
            here, there = (gradient(graph, on_facet, piece, _top(graph)) for piece in pieces)
        if not (np.all(np.isfinite(here)) and np.all(np.isfinite(there))):
            return None
        jump, size = np.abs(here - there).max(), np.abs(here).max() + np.abs(there).max()
        if jump > max(1e-6 * size, noise):
            return False
        if jump > max(1e-11 * size, noise):
            return None
    return True
