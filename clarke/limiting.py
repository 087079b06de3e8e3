"""Limiting gradients, Jacobians and Hessians at a point: the B-subdifferential and its second-order kin.

Near x a piecewise-smooth f is one smooth selection f_s in each chamber s of its fan, so

    limiting gradients  g_s = f_s'(x),     limiting Hessians  H_s = f_s''(x),

one pair a pattern, taken by differentiating the forced selection, never f itself. conv{g_s} is the Clarke
subdifferential of f at x. conv{H_s} is the Clarke generalized Hessian [HSN84] where f is C^{1,1} near x; where the
gradient jumps it leaves the jump out, so it always travels with `c11`.

[HSN84] Hiriart-Urruty, Strodiot, Nguyen. Appl. Math. Optim. 11 (1984) 43-56.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.sparse.linalg import LinearOperator

from . import fan as fans
from . import second_order
from .graph import Graph, from_function, gradient, hessian, hessian_product, point, pullback, run, unit_of
from .halfspaces import strict_direction
from .kinks import TOL, germ, signs_of, text
from .primitives import NotPiecewiseSmooth
from .skeleton import (
    Skeleton,
    curved_entries,
    hessians_by_pattern,
    hessians_by_skeleton,
    skeleton,
)

LIMIT = 2**30  # bytes of matrices that are formed without being asked twice


@dataclass(frozen=True, eq=False, repr=False)
class LimitingGradients:
    """patterns: m sign strings; vectors (m, n): units of f/x; witnesses (m, n); complete, reason, undecided: the fan's.

    Iterates over its vectors; np.asarray gives them.
    """

    patterns: tuple[str, ...]
    vectors: np.ndarray
    witnesses: np.ndarray
    complete: bool
    reason: str
    undecided: tuple[str, ...] = ()

    def distinct(self, tol: float = 1e-9) -> "LimitingGradients":
        """One pattern for each distinct gradient (relative to the largest entry), in order."""
        return _kept(self, distinct_elements([self.vectors], tol), "vectors")

    def __len__(self) -> int:
        return len(self.patterns)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.vectors)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self.vectors, dtype=dtype)

    def __repr__(self) -> str:
        return _line(self, f"n={self.vectors.shape[1]}")


@dataclass(frozen=True, eq=False, repr=False)
class LimitingJacobians:
    """patterns: m sign strings; matrices (m, p, n): units of F/x, p = the size of F's output in C order.

    witnesses (m, n); complete, reason, undecided: the fan's. Iterates over its matrices; np.asarray gives them.
    """

    patterns: tuple[str, ...]
    matrices: np.ndarray
    witnesses: np.ndarray
    complete: bool
    reason: str
    undecided: tuple[str, ...] = ()

    def distinct(self, tol: float = 1e-9) -> "LimitingJacobians":
        """One pattern for each distinct Jacobian (relative to the largest entry), in order."""
        return _kept(self, distinct_elements([self.matrices], tol), "matrices")

    def __len__(self) -> int:
        return len(self.patterns)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.matrices)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self.matrices, dtype=dtype)

    def __repr__(self) -> str:
        return _line(self, "p={}, n={}".format(*self.matrices.shape[1:]))


@dataclass(frozen=True, eq=False, repr=False)
class LimitingHessians:
    """patterns: m sign strings; gradients (m, n); matrices (m, n, n) symmetric, units of f/x^2, paired with them.

    matrices is computed when first asked for; above 1 GiB it raises MemoryError (use `operator(i)`). c11: True if f
    is proved C^{1,1} near x, False if the gradient is seen to jump near x, else None. witnesses (m, n); complete,
    reason, undecided: the fan's. Iterates over its matrices; np.asarray gives them.
    """

    patterns: tuple[str, ...]
    gradients: np.ndarray
    witnesses: np.ndarray
    complete: bool
    reason: str
    undecided: tuple[str, ...]
    _skeleton: Skeleton

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

    def operator(self, i: int) -> LinearOperator:
        """H of the i-th pattern as a scipy LinearOperator: a product costs about two gradients, no matrix is formed."""
        skel = self._skeleton
        graph, x, n = skel.germ.graph, skel.germ.x, skel.germ.x.size
        branches = skel.germ.branches(signs_of(self.patterns[i]))

        def product(v):
            if graph.output is None:
                return np.zeros(n)
            return hessian_product(graph, x, branches, _top(graph), np.ravel(v))

        # scipy builds the operator in __new__, which its annotations do not show
        return LinearOperator((n, n), matvec=product, rmatvec=product, dtype=float)  # pyright: ignore[reportCallIssue]

    def distinct(self, tol: float = 1e-9) -> "LimitingHessians":
        """One pattern for each distinct pair (gradient, Hessian), each relative to its largest entry, in order."""
        keep = distinct_elements([self.gradients, self.matrices], tol, (_gradient_floor(self), 0.0))
        fewer = _kept(self, keep, "gradients")
        fewer.__dict__.update(matrices=_frozen(self.matrices[keep]), c11=self.c11)
        return fewer

    def __len__(self) -> int:
        return len(self.patterns)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.matrices)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self.matrices, dtype=dtype)

    def __repr__(self) -> str:
        return _line(self, f"n={self.gradients.shape[1]}")


def _kept(found, keep, name):
    """The same set with only these elements."""
    return replace(
        found,
        patterns=tuple(found.patterns[i] for i in keep),
        witnesses=_frozen(found.witnesses[keep]),
        **{name: _frozen(getattr(found, name)[keep])},
    )


def _line(found, sizes):
    m = len(found.patterns)
    state = "complete" if found.complete else f"incomplete, {len(found.undecided)} undecided"
    return f"{type(found).__name__}({m} pattern{'s' * (m != 1)}, {sizes}, {state})"


def limiting_gradients(
    f: Callable[..., Any] | Graph,
    x: ArrayLike,
    *,
    tol: float = TOL,
    max_chambers: int = fans.MAX_CHAMBERS,
    mapper: Callable[..., Any] = map,
) -> LimitingGradients:
    """All limiting gradients of a scalar f at x, one a pattern.

    f: autograd.numpy function (n,) -> scalar, or a Graph; x (n,). Equal gradients of different patterns are kept
    (see `distinct`). Raises ValueError if f is not scalar, and what `local_fan` raises.
    """
    skel, fan = _walk(f, x, tol, max_chambers, mapper, scalar="limiting_gradients")
    return LimitingGradients(
        fan.patterns, _frozen(_jacobians(skel, fan)[:, 0]), fan.witnesses, fan.complete, fan.reason, fan.undecided
    )


def limiting_jacobians(
    F: Callable[..., Any] | Graph,
    x: ArrayLike,
    *,
    tol: float = TOL,
    max_chambers: int = fans.MAX_CHAMBERS,
    mapper: Callable[..., Any] = map,
) -> LimitingJacobians:
    """All limiting Jacobians of F at x, one a pattern: matrices (m, p, n), F's output flattened in C order."""
    skel, fan = _walk(F, x, tol, max_chambers, mapper)
    return LimitingJacobians(
        fan.patterns, _frozen(_jacobians(skel, fan)), fan.witnesses, fan.complete, fan.reason, fan.undecided
    )


def limiting_hessians(
    f: Callable[..., Any] | Graph,
    x: ArrayLike,
    *,
    tol: float = TOL,
    max_chambers: int = fans.MAX_CHAMBERS,
    mapper: Callable[..., Any] = map,
) -> LimitingHessians:
    """All limiting Hessians of a scalar f at x, each with the gradient of the same pattern.

    f: autograd.numpy function (n,) -> scalar, or a Graph; x (n,). Raises ValueError if f is not scalar, and what
    `local_fan` raises. Their hull is the Clarke generalized Hessian only where `c11` is True.
    """
    skel, fan = _walk(f, x, tol, max_chambers, mapper, scalar="limiting_hessians")
    return LimitingHessians(
        fan.patterns, _frozen(_jacobians(skel, fan)[:, 0]), fan.witnesses, fan.complete, fan.reason, fan.undecided, skel
    )


def limiting_gradient(
    f: Callable[..., Any] | Graph, x: ArrayLike, direction: ArrayLike | None = None, *, tol: float = TOL
) -> np.ndarray:
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


def limiting_hessian(
    f: Callable[..., Any] | Graph, x: ArrayLike, direction: ArrayLike | None = None, *, tol: float = TOL
) -> np.ndarray:
    """One limiting Hessian (n, n) of a scalar f at x, of the same piece as `limiting_gradient`.

    A drop-in for autograd.hessian(f)(x): symmetric, right at kinks, the Hessian at a smooth point.
    """
    graph, x, _, branches = _one_piece(f, x, direction, tol, "limiting_hessian")
    if graph.output is None:
        return np.zeros((x.size, x.size))
    with np.errstate(all="ignore"):
        return hessian(graph, x, branches, _top(graph))


# ---------------------------------------------------------------- behind the doors


def _walk(f, x, tol, max_chambers, mapper, scalar=""):
    graph = from_function(f, x)
    if scalar:
        _require_scalar(graph, scalar)
    return fans.walk(graph, x, tol=tol, max_chambers=max_chambers, mapper=mapper)


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
    return np.array([skel.under(rows, skel.slots_under(signs_of(p))) for p in fan.patterns])


def _hessians(skel, patterns):
    graph, n = skel.germ.graph, skel.germ.x.size
    if graph.output is None or graph.degrees[graph.program.output] <= 1:
        return np.zeros((len(patterns), n, n))
    signs = [signs_of(p) for p in patterns]
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
        direction = direction / np.abs(direction).max()  # so that its norm neither overflows nor vanishes
    if not here.kinks:
        return graph, here.x, here.tape, here.decided
    signs = fans.pattern_by_tangents(here, direction)
    branches = here.branches(fans.pattern_along(skeleton(here), direction) if signs is None else signs)
    return graph, here.x, run(graph, here.x, lambda i, op, args, sizes: branches[i]), branches


def distinct_elements(
    arrays: Sequence[np.ndarray], tol: float = 1e-9, floors: tuple[float, ...] = (0.0, 0.0)
) -> list[int]:
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
    return 1e-3 * float(np.abs(found.matrices).max(initial=0.0)) * float(np.abs(x).max())


def _frozen(array):
    array = np.array(array, dtype=float)
    array.flags.writeable = False
    return array


# ---------------------------------------------------------------- is f C^{1,1} near x?

_SAME = 1e-8  # relative difference of second derivatives that counts as a jump


def _c11(found):
    """False where the gradient is seen to jump, True where it is proved not to, else None.

    Equal limiting gradients are necessary (any two chambers are joined through facets). Where all guards are affine
    and f is piecewise quadratic, f is C^{1,1} near x iff moreover H_i - H_j = c n n^T across every facet with normal
    n. Otherwise the equality must persist along every facet, which is looked at near x and far; that proves nothing
    about chambers whose tangent cone has no interior, so with one of those the answer is False or None.
    """
    skel = found._skeleton
    if len(distinct_elements([found.gradients], 1e-9, (_gradient_floor(found),))) > 1:
        return False
    if len(found.patterns) == 1:
        return True if found.complete else None
    graph = skel.germ.graph
    quadratic = fans.affine_guards(skel.germ) and graph.degrees[graph.program.output] <= 2
    size = np.abs(found.matrices).max() or 1.0
    proved = True
    if not quadratic or np.abs(found.matrices - found.matrices[0]).max() > _SAME * size:
        for i, j, normal, inside in facets(skel, found.patterns, found.witnesses):
            jump = found.matrices[i] - found.matrices[j]
            across = jump - (normal @ jump @ normal) * np.outer(normal, normal)
            if np.abs(across).max() > _SAME * size:
                return False
            if not quadratic:
                verdict = _gradients_agree_along(skel, found.patterns[i], found.patterns[j], normal, inside, size)
                if verdict is False:
                    return False
                proved = proved and verdict is True
    if not quadratic:
        if _jumps_on_a_segment(found, size):
            return False
        proved = proved and all(
            len(rows := _cone_rows(skel, signs_of(p))) and np.all(rows @ w > 0)
            for p, w in zip(found.patterns, found.witnesses, strict=True)
        )
    return True if found.complete and proved else None


def _jumps_on_a_segment(found, size):
    """Does the gradient jump where a short random segment near x passes from one listed pattern to another?"""
    skel, listed = found._skeleton, set(found.patterns)
    graph, x = skel.germ.graph, np.array(skel.germ.x)
    unit = unit_of(x)
    rng = np.random.default_rng(1)
    for reach in (1e-2 * unit, 1e-3 * unit):
        for _ in range(8):
            ends = x + reach * rng.standard_normal((2, x.size)) / np.sqrt(x.size)
            signs = [second_order.pattern_at(skel, end) for end in ends]
            if (signs[0] == signs[1]).all():
                continue
            for _ in range(60):
                middle = ends[0] + 0.45 * (ends[1] - ends[0])
                if np.abs(ends[1] - ends[0]).max() <= 1e-14 * unit:
                    break
                there = second_order.pattern_at(skel, middle)
                side = 0 if (there == signs[0]).all() else 1
                ends[side], signs[side] = middle, there
            if not {text(s) for s in signs} <= listed:
                continue  # it ended on a kink, where the letters read are those of no region
            with np.errstate(all="ignore"):
                g = [gradient(graph, ends[0], skel.germ.branches(s), _top(graph)) for s in signs]
            jump, scale = np.abs(g[0] - g[1]).max(), np.abs(g).max()
            if jump > 1e-9 * scale + 1e-10 * size * reach:  # nan, outside the domain, is no jump
                return True
    return False


def facets(
    skel: Skeleton, patterns: tuple[str, ...], witnesses: np.ndarray
) -> Iterator[tuple[int, int, np.ndarray, np.ndarray]]:
    """Pairs (i, j, unit normal, direction inside the common facet) of chambers with interior that share a facet."""
    numbers = {p: i for i, p in enumerate(patterns)}
    for i, pattern in enumerate(patterns):
        rows = _cone_rows(skel, signs_of(pattern))
        if not len(rows) or np.any(rows @ witnesses[i] <= 0):
            continue  # found at second order: its tangent cone has no interior
        for r in range(len(rows)):
            others = np.delete(rows, r, axis=0)
            flat = others - np.outer(others @ rows[r], rows[r])  # their traces on the wall
            inside, _, _ = strict_direction(flat) if len(flat) else (np.zeros(rows.shape[1]), 0, None)
            if inside is None:
                continue
            inside = inside - (inside @ rows[r]) * rows[r]
            beyond = text(fans.pattern_along(skel, inside - 1e-6 * rows[r]))
            if beyond in numbers and numbers[beyond] > i:
                yield i, numbers[beyond], rows[r], inside


def _cone_rows(skel, signs):
    """Distinct unit normals of the tangent cone of one pattern."""
    rows, slots = [np.zeros((0, skel.germ.x.size))], np.zeros((skel.size, skel.germ.x.size))
    for stage in skel.germ.stages:
        terms, orientation = stage.ties.constraints(signs[stage.letters])
        values = skel.cleaned(skel.rows(stage.position, terms), slots)
        rows.append(orientation[:, None] * values)
        slots = skel.advance(stage, signs[stage.letters], slots)
    return fans.distinct_normals(np.vstack(rows))


def _gradients_agree_along(skel, first, second, normal, inside, size):
    """True if the two pieces' gradients agree on their facet near x and far, False if not near x, None if unclear."""
    graph, x = skel.germ.graph, np.array(skel.germ.x)
    signs = [signs_of(p) for p in (first, second)]
    pieces = [skel.germ.branches(s) for s in signs]
    rng = np.random.default_rng(0)
    agree = True
    for t in (1e-3, 1e-2, 0.3):  # far: a jump of high order is invisible near x, and analytic pieces agree everywhere
        reach = t * unit_of(x)
        for spread in (1.0, 0.3, 0.1, 0.03):
            tangent = inside + spread * rng.standard_normal(x.size)
            start = x + reach * (tangent - (tangent @ normal) * normal)
            on_facet = second_order.onto_facet(skel, signs[0], normal, start)
            if on_facet is not None:
                break
        else:
            if t > 0.1:
                continue
            return None
        with np.errstate(all="ignore"):
            here, there = (gradient(graph, on_facet, piece, _top(graph)) for piece in pieces)
        if not (np.all(np.isfinite(here)) and np.all(np.isfinite(there))):
            if t > 0.1:
                continue
            return None
        jump, scale = np.abs(here - there).max(), np.abs(here).max() + np.abs(there).max()
        noise = 1e-11 * size * reach / t  # the point is on the facet to 1e-12
        if t <= 0.1 and jump > 1e-9 * scale + noise:
            return False
        agree = agree and jump <= 1e-12 * scale + noise
    return True if agree else None
