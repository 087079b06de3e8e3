"""Products with the inverse of a network's Hessian plus damping, linear in depth.

    (H + lambda I) x = r

is solved through the symmetric lift of `lift`, whose Schur complement is exactly H + lambda I, by one of

    banded       LU with partial pivoting in the order of the network: for chains, definite or not
    riccati      block LDL^T backward along a chain, unstable where a trailing minor of H + lambda I vanishes
    sparse       SuperLU on the lift of any DAG
    compressed   parameters that enter linearly eliminated first, then banded or sparse: for dense layers
    dense        the matrix itself, LDL^T

(`eliminations`). Parameters shared by far nodes are bordered. Every answer carries its residual, recomputed by a
Hessian-vector product of the network's two passes.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.sparse.linalg import LinearOperator

from .blocks import hessian_blocks
from .eliminations import (
    SINGULAR,
    Factorization,
    Inertia,
    SingularHessian,
    UnsuitableMethod,
    bandwidth,
    dense,
    front,
    lifted,
    riccati,
)
from .layers import constant
from .lift import lift, linear_parameters, outline
from .linearization import Layout, hessian_product

if TYPE_CHECKING:
    from .network import Network

METHODS = ("auto", "banded", "riccati", "sparse", "compressed", "dense")
REFINEMENTS = 3
ACCURATE = 1e-12  # a residual below this is not refined further
TRUSTED = 1e-8  # a residual above this, or no damping at all, is followed by a test whether the matrix is singular
SHIFT = 1e-8  # relative: regular systems change little when their damping changes this little
SMALL = 1e-12  # the same relative to H, where there is no damping


@dataclass(frozen=True, eq=False)
class InverseProduct:
    """solution: flat over wrt. residual: |(H + lambda I) x - r| / |r|, by Hessian-vector products. log_abs_det:
    log|det(H + lambda I)|. method: what gave the answer. costs: method -> seconds as estimated by "auto", else empty.
    "compressed" divides by the damping: where that is below some 1e-10 of H, refinement still serves the solution, but
    log_abs_det and inertia are as rough as the factors; the other methods lose nothing.
    """

    solution: np.ndarray
    residual: float
    log_abs_det: float
    method: str
    costs: Mapping[str, float]
    factorization: Factorization = field(repr=False)

    @cached_property
    def inertia(self) -> Inertia:
        """(positive, negative, zero) eigenvalues of H + lambda I; counted when first asked for, linear in depth."""
        return self.factorization.inertia()

    def operator(self) -> LinearOperator:
        """(H + lambda I)^-1 as a LinearOperator: a preconditioner, say; without refinement."""
        n, solve = len(self.solution), self.factorization.solve

        def matvec(v):
            return solve(np.ravel(v).astype(float))

        products: dict[str, Any] = {"matvec": matvec, "rmatvec": matvec}
        return LinearOperator(dtype=np.dtype(float), shape=(n, n), **products)


def inverse_hessian_product(
    network: "Network",
    rhs: ArrayLike,
    *,
    damping: float,
    wrt: Iterable[str] | None = None,
    method: str = "auto",
    pattern: str | None = None,
    weights: Mapping[str, float] | None = None,
) -> InverseProduct:
    """(H + damping I)^-1 rhs, H the Hessian of the network's loss over wrt (all parameters by default).

    rhs: flat (n,), in the order of wrt; damping: a number (units of H), 0 only where H is regular; method: "auto" or
    one of the room's five; pattern, weights: which element at a kink, as for `hessian_blocks` (a mixture is solved as
    one system of copies that share the parameters).

    "auto" takes the cheapest by an estimate of seconds (`costs`) and goes on to the next where a method fails its own
    residual. Raises `SingularHessian`; `UnsuitableMethod` where "riccati" is asked for and the network is no chain, or
    a pivot vanishes; ValueError for bad arguments; KinkError as `hessian_blocks`.
    """
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}; got {method!r}")
    if isinstance(damping, bool) or not isinstance(damping, (int, float, np.floating, np.integer)):
        raise ValueError(f"damping must be a finite number; got {damping!r}")
    damping = float(damping)
    if not np.isfinite(damping):
        raise ValueError(f"damping must be a finite number; got {damping!r}")
    blocks = hessian_blocks(network, pattern=pattern, weights=weights)
    names = blocks.names(wrt)
    elements = blocks.mixture
    leaves = elements[0][1].leaves
    if unfit := [name for name in names if name not in leaves]:
        raise ValueError(f"wrt names {unfit}, computed nodes; give inputs and parameters")
    layout = Layout(network, names)
    n, r = layout.size, constant("rhs", rhs)
    if r.shape != (n,):
        raise ValueError(f"rhs must be flat over {', '.join(names)}, shape ({n},); got {r.shape}")
    product = _product(elements, layout, damping)
    unit = 2.0 ** np.clip(np.frexp(np.abs(r).max())[1], -1000, 1000)  # in which no norm of r over- or underflows
    costs = _costs(elements, names, damping) if method == "auto" else {}
    trials = sorted(costs, key=costs.__getitem__) if method == "auto" else [method]
    best, refused = None, None
    for trial in trials:
        try:
            found = _factorize(trial, blocks, names, damping)
            x, residual = _refined(found, product, r / unit)
        except (UnsuitableMethod, SingularHessian) as error:
            refused = error
            continue
        if best is None or residual < best[1]:
            best = x, residual, found
        if residual <= TRUSTED:
            break
    if best is None:
        raise refused or AssertionError("no method was tried")
    x, residual, found = best
    if damping == 0 or not residual <= TRUSTED:
        _require_regular(found, blocks, names, damping, product, n)
    with np.errstate(over="ignore"):
        x = x * unit
    if not np.isfinite(x).all():
        raise ValueError("rhs is so large that the solution overflows; scale it down")
    x.flags.writeable = False
    return InverseProduct(x, residual, found.log_abs_det, found.method, costs, found)


def _product(elements, layout, damping):
    """v -> (H + damping I) v, by the two passes of each element."""

    def product(v):
        return damping * v + sum(weight * hessian_product(lin, layout, v[None])[0] for weight, lin in elements)

    return product


def _refined(found, product, r):
    """The solution with its residual, refined while that gets smaller."""
    size = float(np.linalg.norm(r)) or 1.0
    with np.errstate(all="ignore"):
        x = found.solve(r)
        if not np.isfinite(x).all():
            raise SingularHessian(SINGULAR)
        rest = r - product(x)
        for _ in range(REFINEMENTS):
            if np.linalg.norm(rest) <= ACCURATE * size:
                break
            better = x + found.solve(rest)
            left = r - product(better)
            gain = np.linalg.norm(left) / np.linalg.norm(rest)
            if gain < 1:
                x, rest = better, left
            if not gain < 0.5:
                break
        residual = float(np.linalg.norm(rest)) / size
    return x, residual if residual < np.inf else np.inf  # nan is no residual to compare with


def _require_regular(found, blocks, names, damping, product, n):
    """A regular system answers a small change of its damping by a small change of its solution, a singular one does
    not. Residuals alone cannot tell: those of expanding networks are large although the solution is right.
    """
    probe = np.random.default_rng(0).standard_normal(n)  # rhs itself may lie in the range of a singular matrix
    with np.errstate(all="ignore"):
        scale = float(np.linalg.norm(product(probe)) / np.linalg.norm(probe))
        apart = linear_parameters(blocks.mixture, names, damping)  # no others: the shift is not to be divided by
        shifted = _factorize(found.method, blocks, names, damping * (1 + SHIFT) if damping else SMALL * scale, apart)
        before, after = found.solve(probe), shifted.solve(probe)
        change = np.linalg.norm(after - before) / np.linalg.norm(after)
    if not change <= 0.1:
        raise SingularHessian(SINGULAR)


# ---------------------------------------------------------------- the methods


def _factorize(method, blocks, names, damping, apart=None) -> Factorization:
    """apart: the parameters that may be eliminated, by default all that can."""
    if method == "dense":
        matrix = np.array(blocks.dense(names), order="F")
        matrix[np.diag_indices(len(matrix))] += damping
        return dense(matrix)
    compressed = method == "compressed"
    system = lift(blocks.mixture, names, damping, eliminate=compressed and (True if apart is None else apart))
    if method == "riccati":
        return riccati(system)
    banded = _cost_of_band(system) <= _cost_of_sparse(system) if compressed else method == "banded"
    return lifted(system, method, banded)


# ---------------------------------------------------------------- which method


# Seconds on one thread of the machine where `benchmarks/inverse.py` was run to fit them; only their ratios matter.
STEP = 1e-5  # Python at one step of a run
WALK = 5e-5  # Python at one variable of the lift that is followed to the next cuts
FLOP = 2e-11  # in products of large matrices
COLUMN = 5e-7, 5e-9  # one column of a product with H, at one step and for each of its numbers
PAIR = 3.5e-5  # Python at one pair of layers contracted over samples
BAND = 1.5e-8, 2.5e-11  # a diagonal of one column of a band, and what it costs more with each further diagonal
LOOSE = 8e-8, 3e-11  # the same for a column of a sparse matrix and the size of the front it meets
LARGEST = 1 << 30  # bytes: a larger matrix is not formed by "auto"


def _costs(elements, names, damping):
    """method -> estimated seconds, of methods that can be the best: where parameters can be eliminated, they are."""
    lin, copies = elements[0][1], len(elements)
    system = outline(elements, names, damping, eliminate=True)
    in_runs = sum(len(run.names) for run in lin.runs)
    walks = max(len(system.order) - len(system.cuts) * copies - 2 * in_runs, 0) + 2 * len(system.eliminated)
    forming = WALK * walks + STEP * in_runs + FLOP * _forming(system)
    band, loose = _cost_of_band(system), _cost_of_sparse(system)
    if system.eliminated:
        costs = {"compressed": forming + min(band, loose)}
    else:
        costs = {"banded": forming + band, "sparse": forming + loose}
    n = sum(lin.network.value(name).size for name in names)
    factoring = n * n * 1e-8 + n**3 / 3 * FLOP
    if 8 * n * n <= LARGEST and factoring < min(costs.values()):
        costs["dense"] = factoring + copies * _cost_of_columns(lin, set(names))
    return costs


def _cost_of_band(system):
    size, width = int(system.sizes.sum()), bandwidth(system)
    return size * width * (BAND[0] + BAND[1] * width + 2e-9 * _border(system))


def _cost_of_sparse(system):
    size, met = int(system.sizes.sum()), front(system)
    return size * met * (LOOSE[0] + LOOSE[1] * met + 1e-8 * _border(system))


def _border(system):
    return sum(int(system.sizes[system.number("x", name)]) for name in system.shared)


def _cost_of_columns(lin, names):
    """Of forming the dense Hessian: one column an entry of a parameter, or of a channel where it can be contracted."""
    columns, contracted, numbers = 0, 0, 0
    for step in lin.steps:
        numbers += lin.adjoints[step.name].size
        own = [i for i, parent in enumerate(step.parents) if parent in names]
        quick = [i for i in own if i in step.local.factors]
        if quick:
            contracted += 1
            columns += int(np.prod(lin.adjoints[step.name].shape[1:]))
        columns += sum(lin.network.value(step.parents[i]).size for i in own if i not in quick)
    return columns * (COLUMN[0] * len(lin.steps) + COLUMN[1] * numbers) + PAIR * contracted**2 / 2


def _forming(system):
    """Multiplications that make the blocks."""
    high, low = system.pairs
    return float(np.sum(system.sizes[high] * system.sizes[low] * np.maximum(system.sizes[high], system.sizes[low])))
