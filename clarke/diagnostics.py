"""How the layers of a network share curvature: diagnostics of the blocks of its Hessian, and spectra.

    R(v, w)  = |H_vw|_F / sqrt(|H_vv|_F |H_ww|_F)                            resonance
    C(v, w)  = |(H_vv^+)^{1/2} H_vw (H_ww^+)^{1/2}|_F^2 / min(rank H_vv, rank H_ww)     coupling, H PSD
    C~(v, w) = |H_vw|_F^2 / (tr H_vv tr H_ww)                                trace_coupling
    D(v)     = |H_vv|_F^2 / |H_vv|_2^2                                       stable_rank
    D~(v)    = (tr H_vv)^2 / |H_vv|_F^2                                      participation_rank
    gap      = |H_vw - H^GN_vw|_F / |H_vw|_F                                 gauss_newton_gap

with 0/0 = 0 and x/0 = inf. The names resonance, geometric coupling, stable rank and GN-Gap are those of Bolshim &
Kugaevskikh (abstract of arXiv 2604.11639); their formulas are not public, and these are the definitions of this
library. For PSD H, write H_vw = B_v^T B_w: then R^2 is the cosine of the angle between B_v B_v^T and B_w B_w^T, and C
the mean squared cosine of the principal angles between the ranges of B_v and B_w.

Every diagnostic but C can also be estimated: for a probe z of random signs on the entries of w, zero elsewhere,

    E |(Hz)_v|^2 = |H_vw|_F^2,        E z^T (Hz)_w = tr H_ww,

so one product with H a layer gives all pairs at once (`block_moments`).
"""

import math
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, aslinearoperator, eigsh

from .blocks import HessianBlocks
from .linearization import Layout
from .network import Network

PROBES = 16  # probes a layer, unless told
RANK = 1e-10  # eigenvalues below this, relative to the largest, count as zero; below its negative, as negative
BREAKDOWN = 1e-10  # a Lanczos residual below this, relative to the largest product, ends the recursion
ROOM = 1 << 26  # numbers of Lanczos vectors held at a time
DENSE = 48  # up to this many rows a symmetric operator is formed rather than iterated with


# ---------------------------------------------------------------- estimates


@dataclass(frozen=True)
class Estimate:
    """value, its standard error (nan from one probe), the number of probes a layer; float(estimate) is the value."""

    value: float
    stderr: float
    probes: int

    def __float__(self) -> float:
        return self.value

    def __str__(self) -> str:
        return f"{self.value:.4g} ± {self.stderr:.2g} ({self.probes} probes)"


@dataclass(frozen=True, eq=False)
class BlockMoments:
    """What K probes a layer say of all pairs of names; `resonance`, `trace_coupling` and `participation_rank` take it
    in place of blocks and return an `Estimate`.

    squares: (K, n, n), squares[k, i, j] = |(H z)_i|^2, z the kth probe on names[j]; its mean is unbiased for
    |H_ij|_F^2. traces: (K, n), z^T (H z)_j, unbiased for tr H_jj.
    """

    names: tuple[str, ...]
    squares: np.ndarray
    traces: np.ndarray

    def norm(self, v: str, w: str) -> Estimate:
        """An estimate of |H_vw|_F."""
        return _jackknife(np.sqrt, self._square(v, w))

    def trace(self, v: str) -> Estimate:
        """An unbiased estimate of tr H_vv."""
        return _jackknife(lambda t: t, self.traces[:, self._place(v)])

    def _square(self, v, w):
        i, j = self._place(v), self._place(w)
        return (self.squares[:, i, j] + self.squares[:, j, i]) / 2

    def _place(self, name):
        if name not in self.names:
            raise ValueError(f"{name!r} was not probed; the moments are those of {', '.join(self.names)}")
        return self.names.index(name)


def block_moments(
    blocks: HessianBlocks,
    names: Iterable[str] | None = None,
    *,
    operator: Any = True,
    rng: np.random.Generator | None = None,
    probes: Any = PROBES,
) -> BlockMoments:
    """Probe each of the names: `probes` products a name, all pairs of names estimated from them.

    blocks: HessianBlocks, or one of its parts. names: by default all parameters. operator: True for the products of
    blocks; or a LinearOperator (or symmetric matrix) over all parameters in order of insertion, such as the
    Hessian-vector product of a framework, when names are parameters. probes: their number, drawn by rng as independent
    random signs; or a dict name -> (K, size) of entries with mean 0 and variance 1, independent between entries, and
    nothing is drawn.
    """
    if not isinstance(blocks, HessianBlocks):
        raise ValueError(f"estimates need HessianBlocks, which know where a name lies; got {type(blocks).__name__}")
    names = _names(blocks.network, names)
    product, spans = _located(blocks, names, operator)
    drawn = _probes({name: spans[name].stop - spans[name].start for name in names}, probes, rng)
    K, n = len(drawn[names[0]]), len(names)
    squares, traces = np.zeros((K, n, n)), np.zeros((K, n))
    for j, w in enumerate(names):
        whole = np.zeros((product.shape[0], K))
        whole[spans[w]] = drawn[w].T
        found = _times(product, whole)
        for i, v in enumerate(names):
            squares[:, i, j] = np.sum(found[spans[v]] ** 2, axis=0)
        traces[:, j] = np.sum(drawn[w].T * found[spans[w]], axis=0)
    return BlockMoments(names, _frozen(squares), _frozen(traces))


def _jackknife(function, *samples):
    """function of the means over axis 0, with its delete-one jackknife standard error (Tukey 1958).

    For a linear function this is the usual standard error of a mean. Elsewhere the bias is O(1/K).
    """
    K = len(samples[0])
    with np.errstate(all="ignore"):
        value = float(function(*(s.mean(axis=0) for s in samples)))
        if K == 1:
            return Estimate(value, math.nan, 1)
        left = np.asarray(function(*((s.sum(axis=0) - s) / (K - 1) for s in samples)))
        stderr = float(np.sqrt((K - 1) / K * np.sum((left - left.mean()) ** 2)))
    return Estimate(value, stderr, K)


def _probes(sizes, probes, rng):
    """name -> (K, size)"""
    if isinstance(probes, Mapping):
        given = {name: np.array(probes[name], dtype=float) for name in sizes if name in probes}
        shapes = {name: array.shape for name, array in given.items()}
        first = (*next(iter(shapes.values()), ()), 0)  # a number has no axis 0
        if any(shapes.get(name) != (first[0], size) or not first[0] for name, size in sizes.items()):
            wanted = ", ".join(f"{name} (K, {size})" for name, size in sizes.items())
            raise ValueError(f"probes must hold {wanted} with one K >= 1; got {shapes}")
        if unfit := [name for name, array in given.items() if not np.isfinite(array).all()]:
            raise ValueError(f"probes of {unfit[0]} hold nan or infinity")
        return given
    if isinstance(probes, bool) or not isinstance(probes, int | np.integer) or probes < 1:
        raise ValueError(f"probes must be their number, at least 1, or a dict name -> (K, size); got {probes!r}")
    rng = _generator(rng)
    return {name: _signs(rng, probes, size) for name, size in sizes.items()}


def _signs(rng, count, size):
    return rng.integers(0, 2, (count, size)) * 2.0 - 1.0


def _generator(rng):
    if not isinstance(rng, np.random.Generator):
        raise ValueError(f"pass rng, a numpy Generator: probes are drawn; got rng={rng!r}")
    return rng


def _estimating(operator, rng):
    if operator is None and rng is not None:
        raise ValueError("rng is given but nothing is drawn: pass operator=True (or a LinearOperator) for an estimate")
    return operator is not None


def _located(blocks, names, operator):
    """An operator in which each of the names has a span: of the names alone, or what the caller gave."""
    inside = names if operator is True else blocks.network.parameters
    layout = Layout(blocks.network, inside)
    spans = layout.spans
    if operator is True:
        return blocks.operator(names), spans
    foreign = [name for name in names if name not in spans]
    if foreign:
        raise ValueError(f"an operator acts on the parameters, {foreign[0]!r} is none; pass operator=True")
    product = _symmetric_operator(operator)
    if product.shape[0] != layout.size:
        raise ValueError(f"the parameters have {layout.size} entries in all; the operator has shape {product.shape}")
    return product, spans


def _symmetric_operator(operator) -> LinearOperator:
    try:
        found = aslinearoperator(operator)
    except TypeError:
        raise ValueError(f"operator must be a LinearOperator or a matrix; got {type(operator).__name__}") from None
    if found.shape[0] != found.shape[1] or not found.shape[0]:
        raise ValueError(f"operator must be square and symmetric; got shape {found.shape}")
    return found


def _times(operator, V):
    found = np.asarray(operator.matmat(V), dtype=float)
    if not np.isfinite(found).all():
        raise ValueError("a product of the operator holds nan or infinity")
    return found


# ---------------------------------------------------------------- blocks


def _names(network, names):
    names = network.parameters if names is None else (names,) if isinstance(names, str) else tuple(names)
    known = network.dag.nodes
    if not names or len(set(names)) < len(names):
        raise ValueError(f"names must be given, each once; got {names!r}")
    for name in names:
        if name not in known:
            raise ValueError(f"no input, parameter or node {name!r}; the network has {', '.join(known)}")
    return names


def _block(blocks, v, w):
    """H_vw from HessianBlocks, or from any mapping (v, w) -> array that holds it or its transpose."""
    if isinstance(blocks, HessianBlocks):
        return blocks[v, w]
    if not isinstance(blocks, Mapping):
        kind = type(blocks).__name__
        raise ValueError(f"blocks must be HessianBlocks or a mapping (v, w) -> array; got {kind}")
    if (v, w) in blocks:
        block = np.array(blocks[v, w], dtype=float)
    elif (w, v) in blocks:
        block = np.array(blocks[w, v], dtype=float).T
    else:
        raise ValueError(f"blocks holds no block {v!r}, {w!r}")
    if block.ndim != 2 or not np.isfinite(block).all() or (v == w and block.shape[0] != block.shape[1]):
        raise ValueError(f"block {v!r}, {w!r} must be a finite matrix, square if v = w; got shape {block.shape}")
    return block


def _norm(block):
    """|block|_F, which squares nothing that is small: norms of contracting networks underflow when squared."""
    largest = float(np.max(np.abs(block), initial=0.0))
    return largest * float(np.linalg.norm(block / largest)) if largest else 0.0


def _ratio(a, b):
    """a / b for a, b >= 0, with 0/0 = 0 and a/0 = inf."""
    a, b = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(a == 0, 0.0, a / b)


def _of(blocks, names, exact, sampled, operator, rng, probes):
    """exact(), or sampled(moments) where moments are given or asked for."""
    names = tuple(dict.fromkeys(names))
    if isinstance(blocks, BlockMoments):
        if operator is not None or rng is not None:
            raise ValueError("these moments are drawn already: pass neither operator nor rng with them")
        return sampled(blocks)
    if not _estimating(operator, rng):
        return float(exact())
    return sampled(block_moments(blocks, names, operator=operator, rng=rng, probes=probes))


def resonance(
    blocks: HessianBlocks | BlockMoments,
    v: str,
    w: str,
    *,
    operator: Any = None,
    rng: np.random.Generator | None = None,
    probes: int = PROBES,
) -> float | Estimate:
    """R(v, w) = |H_vw|_F / sqrt(|H_vv|_F |H_ww|_F), 0/0 = 0; this library's definition of the papers' resonance.

    If H is PSD, R is in [0, 1] and R(v, v) = 1 where H_vv != 0; else it can exceed 1 or be infinite ([[0, 1], [1, 0]]):
    between the layers of a network at random weights it is often 2 to 4, and `blocks.gauss_newton` is what to ask.
    It does not change under orthogonal maps inside v and w, and does under others. It does not decay to zero with
    depth: where H_ww = c I, as at the output of a squared loss, R(v, w)^4 = participation_rank(v) / w.size for every v
    on whose curvature only w bears, so R >= w.size^(-1/4).

    blocks: HessianBlocks, one of its parts, a mapping (v, w) -> array, or BlockMoments. With operator (True for the
    products of blocks, or a LinearOperator over all parameters) and rng: an `Estimate` from `probes` products for v and
    for w, see `block_moments`; its bias is O(1 / probes), and it can exceed 1.
    """

    def sampled(moments):
        if v == w:
            return _jackknife(lambda own: _ratio(own, own), moments._square(v, v))
        squares = [moments._square(*pair) for pair in ((v, w), (v, v), (w, w))]
        return _jackknife(lambda a, b, c: np.sqrt(_ratio(a, np.sqrt(b) * np.sqrt(c))), *squares)

    def exact():
        own = np.sqrt(_norm(_block(blocks, v, v))) * np.sqrt(_norm(_block(blocks, w, w)))
        return _ratio(_norm(_block(blocks, v, w)), own)

    return _of(blocks, (v, w), exact, sampled, operator, rng, probes)


def coupling(blocks: HessianBlocks, v: str, w: str, *, tol: float = RANK) -> float:
    """C(v, w) = |(H_vv^+)^{1/2} H_vw (H_ww^+)^{1/2}|_F^2 / min(rank H_vv, rank H_ww), 0 where a block is 0.

    This library's definition of the papers' geometric coupling: the mean squared canonical correlation of v and w, in
    [0, 1], unchanged by invertible linear maps inside v and inside w. It says nothing where both layers can move the
    outputs freely: it is then 1. Eigenvalues below tol times the largest of their block count as zero, and where
    some are near tol the value hangs on it.

    ValueError naming the least eigenvalue where the Hessian over v and w is not PSD, to -tol times its largest, once
    each is scaled by the largest entry of its own block; `blocks.gauss_newton` is PSD for convex losses. Exact only:
    pseudo-inverses cannot be read off a few products.
    """
    if not (isinstance(tol, int | float | np.floating) and 0 < tol < 1):
        raise ValueError(f"tol must be a number in (0, 1); got {tol!r}")
    if isinstance(blocks, BlockMoments):
        raise ValueError("coupling needs whole blocks, no estimate of it is made from products: see trace_coupling")
    own = {name: _block(blocks, name, name) for name in (v, w)}
    cross = _block(blocks, v, w)
    if cross.shape != (len(own[v]), len(own[w])):
        raise ValueError(f"block {v!r}, {w!r} has shape {cross.shape}; needs {(len(own[v]), len(own[w]))}")
    size = {name: np.max(np.abs(block), initial=0.0) or 1.0 for name, block in own.items()}
    own, cross = {name: own[name] / size[name] for name in own}, cross / np.sqrt(size[v]) / np.sqrt(size[w])
    joint = own[v] if v == w else np.block([[own[v], cross], [cross.T, own[w]]])
    values = np.linalg.eigvalsh(joint)
    if values[0] < -tol * max(values[-1], -values[0]):
        raise ValueError(
            f"coupling needs a PSD Hessian; over {v!r} and {w!r}, the largest entry of each own block scaled to 1, it "
            f"has the eigenvalue {values[0]:.3g} (the largest is {values[-1]:.3g}): take blocks.gauss_newton of a "
            "convex loss"
        )
    roots = {name: _inverse_root(block, tol) for name, block in own.items()}
    rank = min(roots[v].shape[1], roots[w].shape[1])
    return min(_norm(roots[v].T @ cross @ roots[w]) ** 2 / rank, 1.0) if rank else 0.0


def _inverse_root(block, tol):
    """F (n, rank) with F F^T the pseudo-inverse of a PSD block."""
    values, vectors = np.linalg.eigh(block)
    keep = values > tol * values[-1] if values[-1] > 0 else np.zeros(len(values), dtype=bool)
    return vectors[:, keep] / np.sqrt(values[keep])


def trace_coupling(
    blocks: HessianBlocks | BlockMoments,
    v: str,
    w: str,
    *,
    operator: Any = None,
    rng: np.random.Generator | None = None,
    probes: int = PROBES,
) -> float | Estimate:
    """C~(v, w) = |H_vw|_F^2 / (tr H_vv tr H_ww), 0/0 = 0: the surrogate of `coupling` that a few products estimate.

    This library's definition. For PSD H it is in [0, 1], and C~ = R(v, w)^2 / sqrt(D~(v) D~(w)) <= R^2, with D~ the
    participation rank: C~(v, v) is 1 / D~(v), not 1, and C~ <= min(rank) C is all that it says of C. Arguments as in
    `resonance`. ValueError where a trace is negative: C~ is for PSD H.
    """

    def sampled(moments):
        i, j = moments._place(v), moments._place(w)
        square, first, second = moments._square(v, w), moments.traces[:, i], moments.traces[:, j]
        return _jackknife(lambda a, b, c: _ratio(a, b * c), square, first, second)

    def exact():
        first, second = (float(np.trace(_block(blocks, name, name))) for name in (v, w))
        if min(first, second) < 0:
            raise ValueError(f"trace_coupling needs a PSD Hessian; the traces are {first:.3g}, {second:.3g}")
        return _ratio(_norm(_block(blocks, v, w)), np.sqrt(first) * np.sqrt(second)) ** 2

    return _of(blocks, (v, w), exact, sampled, operator, rng, probes)


def stable_rank(
    blocks: HessianBlocks | BlockMoments,
    v: str,
    *,
    operator: Any = None,
    rng: np.random.Generator | None = None,
    probes: int = PROBES,
) -> float | Estimate:
    """D(v) = |H_vv|_F^2 / |H_vv|_2^2, with 1 <= D <= rank H_vv where H_vv != 0, and 0 where it is 0.

    With operator and rng: |H_vv|_F^2 from `probes` products, and |H_vv|_2 by `extreme_eigenvalues`, some tens of
    products more; the standard error is that of the first alone. A definition of numerical linear algebra; whether it
    is the papers' we cannot tell.
    """
    if isinstance(blocks, BlockMoments):
        raise ValueError("the moments hold no spectral norm: pass the blocks, with operator and rng")
    if not _estimating(operator, rng):
        values = np.linalg.eigvalsh(_block(blocks, v, v))
        return float(_ratio(_norm(values), np.max(np.abs(values)))) ** 2
    moments = block_moments(blocks, (v,), operator=operator, rng=rng, probes=probes)
    product, spans = _located(blocks, (v,), operator)
    ends = extreme_eigenvalues(_restricted(product, spans[v]), rng=rng)
    norm = max(abs(ends.lowest[0]), abs(ends.highest[-1]))
    return _jackknife(lambda a: _ratio(a, norm**2), moments._square(v, v))


def participation_rank(
    blocks: HessianBlocks | BlockMoments,
    v: str,
    *,
    operator: Any = None,
    rng: np.random.Generator | None = None,
    probes: int = PROBES,
) -> float | Estimate:
    """D~(v) = (tr H_vv)^2 / |H_vv|_F^2, 0/0 = 0; in [1, rank H_vv] for PSD H_vv != 0, else in [0, rank].

    The surrogate of `stable_rank` that a few products estimate; this library's definition. Arguments as in `resonance`.
    """

    def sampled(moments):
        return _jackknife(lambda t, a: _ratio(t**2, a), moments.traces[:, moments._place(v)], moments._square(v, v))

    def exact():
        block = _block(blocks, v, v)
        return _ratio(abs(np.trace(block)), _norm(block)) ** 2

    return _of(blocks, (v,), exact, sampled, operator, rng, probes)


def gauss_newton_gap(
    blocks: HessianBlocks,
    v: Any = None,
    w: Any = None,
    *,
    operator: Any = None,
    rng: np.random.Generator | None = None,
    probes: Mapping[str, np.ndarray] | int = PROBES,
) -> float | Estimate:
    """|H_vw - H^GN_vw|_F / |H_vw|_F, which may exceed 1; without v, of the whole Hessian over all parameters,
    |H^T|_F / (|H^GN|_F + |H^T|_F), in [0, 1], with H^T = H - H^GN. 0/0 = 0, x/0 = inf.

    This library's definitions of the papers' GN-Gap. w is v where it is left out. Both are relative to what is declared
    as the loss. blocks: a whole HessianBlocks. With rng and operator True, or the pair (Hessian, Gauss-Newton) of
    operators over all parameters: an `Estimate` from `probes` products with each, the same probes for both.
    """
    if not isinstance(blocks, HessianBlocks):
        raise ValueError(f"gauss_newton_gap needs HessianBlocks, which have parts; got {type(blocks).__name__}")
    if v is None and w is not None:
        raise ValueError("w is given without v")
    parts = blocks.gauss_newton, blocks.tensor
    w = v if w is None else w
    if not _estimating(operator, rng):
        if v is None:
            first, rest = (_norm(part.dense()) for part in parts)
            return float(_ratio(rest, first + rest))
        return float(_ratio(_norm(parts[1][v, w]), _norm(blocks[v, w])))
    names = blocks.network.parameters if v is None else tuple(dict.fromkeys((v, w)))
    whole, gauss_newton = operator if isinstance(operator, tuple) and len(operator) == 2 else (operator, operator)
    if whole is gauss_newton and operator is not True:
        raise ValueError("gauss_newton_gap takes operator=True or a pair of operators (Hessian, Gauss-Newton)")
    hessian, spans = _located(blocks, _names(blocks.network, names), whole)
    second = parts[0].operator(names) if operator is True else _located(blocks, names, gauss_newton)[0]
    drawn = _probes({n: spans[n].stop - spans[n].start for n in names}, probes, rng)
    if v is None:
        z = np.concatenate([drawn[n] for n in names], axis=1).T
        bent = _times(second, z)
        squares = [np.sum(found**2, axis=0) for found in (bent, _times(hessian, z) - bent)]
        return _jackknife(lambda a, b: _ratio(np.sqrt(b), np.sqrt(a) + np.sqrt(b)), *squares)
    totals = []
    for source, target in ((w, v), (v, w)):
        z = np.zeros((hessian.shape[0], len(drawn[source])))
        z[spans[source]] = drawn[source].T
        full, bent = (_times(each, z)[spans[target]] for each in (hessian, second))
        totals.append([np.sum(found**2, axis=0) for found in (full - bent, full)])
    rest, full = ((a + b) / 2 for a, b in zip(*totals, strict=True))
    return _jackknife(lambda a, b: np.sqrt(_ratio(a, b)), rest, full)


def layer_spectra(blocks: HessianBlocks, names: Iterable[str] | None = None) -> dict[str, np.ndarray]:
    """name -> the eigenvalues of H[name, name], ascending: the spectra of the local Hessians of Bolshim & Kugaevskikh,
    "Local properties of neural networks through the lens of layer-wise Hessians" (2025). names: by default all
    parameters.
    """
    if not isinstance(blocks, HessianBlocks):
        raise ValueError(f"layer_spectra needs HessianBlocks; got {type(blocks).__name__}")
    return {name: _frozen(np.linalg.eigvalsh(block)) for name, block in blocks.diagonal(names).items()}


# ---------------------------------------------------------------- against distance


@dataclass(frozen=True, eq=False)
class Decay:
    """names, nearest first; distances (n,), in edges, to the reference; resonance (n,) with stderr (n,), 0 where
    exact; norms (n,), |H[name, reference]|_F."""

    reference: str
    names: tuple[str, ...]
    distances: np.ndarray
    resonance: np.ndarray
    stderr: np.ndarray
    norms: np.ndarray


def distances(network: Network, reference: str) -> dict[str, int]:
    """name -> edges of a shortest directed path from the name to the reference, or from the reference to the name.

    Names that lie on no common path are left out: two parameters, say, are never on one.
    """
    if not isinstance(network, Network):
        raise ValueError(f"network must be a clarke.Network; got {type(network).__name__}")
    _names(network, (reference,))
    dag, found = network.dag, {}
    for following in (dag.predecessors, dag.successors):
        reached, waiting = {reference: 0}, deque([reference])
        while waiting:
            name = waiting.popleft()
            for other in following(name):
                if other not in reached:
                    reached[other] = reached[name] + 1
                    waiting.append(other)
        found.update(reached)
    return found


def decay(
    blocks: HessianBlocks,
    reference: str,
    names: Iterable[str] | None = None,
    *,
    operator: Any = None,
    rng: np.random.Generator | None = None,
    probes: int = PROBES,
) -> Decay:
    """Resonance with the reference, and |H[name, reference]|_F, against distance in the graph.

    names: by default the nodes on a directed path to or from the reference. operator, rng, probes: as in `resonance`.
    What decays in a chain is the norm (`chain_upper_bound`), not the resonance, see there.
    """
    if not isinstance(blocks, HessianBlocks):
        raise ValueError(f"decay needs HessianBlocks, whose network has the distances; got {type(blocks).__name__}")
    reach = distances(blocks.network, reference)
    names = [n for n in blocks.network.nodes if n in reach] if names is None else _names(blocks.network, names)
    off = [name for name in names if name not in reach]
    if off:
        raise ValueError(f"no directed path joins {off[0]!r} and {reference!r}")
    names = tuple(sorted(names, key=reach.__getitem__))
    if _estimating(operator, rng):
        every = tuple(dict.fromkeys((reference, *names)))
        moments = block_moments(blocks, every, operator=operator, rng=rng, probes=probes)
        found = [resonance(moments, name, reference) for name in names]
        values, errors = [float(e) for e in found], [e.stderr for e in found if isinstance(e, Estimate)]
        norms = [float(moments.norm(name, reference)) for name in names]
    else:
        values = [float(resonance(blocks, name, reference)) for name in names]
        errors, norms = np.zeros(len(names)), [_norm(blocks[name, reference]) for name in names]
    edges = _frozen([reach[name] for name in names])
    return Decay(reference, names, edges, _frozen(values), _frozen(errors), _frozen(norms))


def chain_upper_bound(norm: float, q: float, distance: ArrayLike) -> NDArray[np.float64] | float:
    """q^distance norm: |H_{v,out}|_F <= q^dist |H_{out,out}|_F on a chain whose nodes have Jacobians |D_k|_2 <= q.

    out: the one node that the loss reads. For the Gauss-Newton part, and for all of H where the nodes are piecewise
    linear, |H_vw|_F <= q^(dist(v) + dist(w)) |H_{out,out}|_F as well. distance may be an array.
    """
    norm, q, distance = _bounds_arguments(norm, q, distance)
    return q**distance * norm


def skip_lower_bound(norm: float, eps: float, distance: np.ndarray) -> NDArray[np.float64]:
    """(1 - eps)^distance norm: |H_{v,out}|_F >= (1 - eps)^dist |H_{out,out}|_F on a chain of Jacobians D_k = I + J_k,
    |J_k|_2 <= eps <= 1, such as residual blocks; distance counts blocks and may be an array. It keeps the norm at
    depth L only if eps is of order 1 / L.
    """
    norm, eps, distance = _bounds_arguments(norm, eps, distance)
    if eps > 1:
        raise ValueError(f"the bound needs eps <= 1; got {eps}")
    return (1 - eps) ** distance * norm


def _bounds_arguments(norm, rate, distance):
    norm, rate, distance = float(norm), float(rate), np.asarray(distance, dtype=float)
    if not (0 <= norm < math.inf and 0 <= rate < math.inf and np.isfinite(distance).all() and np.all(distance >= 0)):
        raise ValueError(f"norm, rate and distance must be finite and >= 0; got {norm}, {rate}, {distance}")
    return norm, rate, distance


# ---------------------------------------------------------------- spectra of operators


@dataclass(frozen=True, eq=False)
class SpectralDensity:
    """Eigenvalues of a symmetric H (n, n), as a distribution of total mass 1, estimated from K probes.

    nodes, weights: (K, m), a quadrature for each probe; its sums over f estimate tr f(H) / n. grid, density, stderr:
    (g,), the average distribution smoothed by a Gaussian of standard deviation `width`, and its standard error over
    probes (nan from one).
    """

    nodes: np.ndarray
    weights: np.ndarray
    width: float
    grid: np.ndarray
    density: np.ndarray
    stderr: np.ndarray

    def mean(self, f: Callable[..., Any]) -> Estimate:
        """An estimate of tr f(H) / n, the mean of f over the eigenvalues; f takes an array."""
        return _jackknife(lambda t: t, np.sum(self.weights * np.asarray(f(self.nodes), dtype=float), axis=1))

    def moment(self, k: int) -> Estimate:
        """An estimate of tr(H^k) / n, unbiased for k <= 2 steps - 1, where the quadrature is exact."""
        return self.mean(lambda t: t**k)


def spectral_density(
    operator: LinearOperator,
    *,
    steps: int,
    probes: np.ndarray,
    rng: np.random.Generator | None = None,
    grid: ArrayLike | None = None,
    width: float | None = None,
) -> SpectralDensity:
    """The eigenvalue density of a symmetric operator by stochastic Lanczos quadrature, `steps` products a probe.

    operator: LinearOperator or matrix, symmetric (not checked). probes: their number, drawn by rng as random signs; or
    an array (K, n), and nothing is drawn. Lanczos with full reorthogonalization gives for each probe the Gauss
    quadrature of its spectral measure, exact for polynomials of degree 2 steps - 1, and for every function once steps
    reaches the number of distinct eigenvalues the probe sees. So the average over probes is unbiased for
    tr(H^k) / n, k < 2 steps; probes sqrt(n) * I with steps = n give the spectrum itself.

    width: standard deviation of the Gaussian that smooths, by default 1/100 of the spread of the nodes (of the largest
    |node| where they coincide, 0.01 where all are 0). grid: an increasing array; by default 512 points from 5 widths
    below the least node to 5 above the greatest. Golub & Welsch (1969); Ubaru, Chen & Saad (2017).
    """
    A = _symmetric_operator(operator)
    n = A.shape[0]
    if isinstance(steps, bool) or not isinstance(steps, int | np.integer) or not 1 <= steps <= n:
        raise ValueError(f"steps must be an integer from 1 to {n}; got {steps!r}")
    Z = _probes({"H": n}, probes if isinstance(probes, int | np.integer) else {"H": probes}, rng)["H"]
    few = max(1, ROOM // (n * steps))
    parts = [_lanczos(A, Z[start : start + few], int(steps)) for start in range(0, len(Z), few)]
    T = np.concatenate(parts)
    nodes, vectors = np.linalg.eigh(T)
    weights = vectors[:, 0, :] ** 2 * (np.sum(Z**2, axis=1) / n)[:, None]
    seen = nodes[weights > 1e-14 * weights.max()]
    low, high = float(seen.min()), float(seen.max())
    if width is None:
        width = (high - low) / 100 or max(abs(low), abs(high)) / 100 or 0.01
    if not (isinstance(width, int | float | np.floating) and 0 < width < math.inf):
        raise ValueError(f"width must be a positive finite number; got {width!r}")
    grid = np.linspace(low - 5 * width, high + 5 * width, 512) if grid is None else np.array(grid, dtype=float)
    if grid.ndim != 1 or not grid.size or not np.isfinite(grid).all() or np.any(np.diff(grid) <= 0):
        raise ValueError(f"grid must be one increasing array of finite numbers; got shape {grid.shape}")
    bumps = np.stack([_smoothed(grid, x, w, width) for x, w in zip(nodes, weights, strict=True)])
    K = len(bumps)
    stderr = bumps.std(axis=0, ddof=1) / math.sqrt(K) if K > 1 else np.full(len(grid), math.nan)
    density = bumps.mean(axis=0)
    return SpectralDensity(
        _frozen(nodes), _frozen(weights), float(width), _frozen(grid), _frozen(density), _frozen(stderr)
    )


def _smoothed(grid, nodes, weights, width):
    return np.exp(-0.5 * ((grid[:, None] - nodes) / width) ** 2) @ weights / (width * math.sqrt(2 * math.pi))


def _lanczos(A, Z, steps):
    """(K, steps, steps): the tridiagonal matrix of each row of Z; after a breakdown its rest is zero and decoupled."""
    K, n = Z.shape
    Q, T = np.zeros((K, steps, n)), np.zeros((K, steps, steps))
    lengths = np.linalg.norm(Z, axis=1, keepdims=True)
    if not np.all(lengths > 0):
        raise ValueError("a probe is zero")
    q, largest = Z / lengths, np.zeros(K)
    for j in range(steps):
        Q[:, j] = q
        r = _times(A, q.T).T
        largest = np.maximum(largest, np.linalg.norm(r, axis=1))
        T[:, j, j] = np.sum(q * r, axis=1)
        if j + 1 == steps:
            break
        known = Q[:, : j + 1]
        for _ in range(2):  # twice is enough
            r = r - (known.swapaxes(1, 2) @ (known @ r[:, :, None]))[:, :, 0]
        beta = np.linalg.norm(r, axis=1)
        beta[beta <= BREAKDOWN * largest] = 0.0
        T[:, j, j + 1] = T[:, j + 1, j] = beta
        q = np.divide(r, beta[:, None], out=np.zeros_like(r), where=beta[:, None] > 0)
    return T


@dataclass(frozen=True, eq=False)
class ExtremeEigenvalues:
    """lowest, highest: (count,) eigenvalues at the two ends, each ascending; residual: the largest |Hx - lambda x|
    over their unit vectors: an eigenvalue of H lies within it of each value."""

    lowest: np.ndarray
    highest: np.ndarray
    residual: float


def extreme_eigenvalues(
    operator: LinearOperator, *, rng: np.random.Generator | None = None, count: int = 1, tol: float = 0.0
) -> ExtremeEigenvalues:
    """The least and greatest eigenvalues of a symmetric operator: scipy's eigsh from a start drawn by rng.

    tol: relative, as in eigsh; 0 is machine precision. An operator of at most 48 rows, or where 2 count reaches its
    size, is formed instead and nothing is drawn. ValueError for a wrong count; RuntimeError where eigsh does not
    converge. Lanczos from one vector sees each multiple eigenvalue once: multiplicities may be missed.
    """
    A = _symmetric_operator(operator)
    n = A.shape[0]
    if isinstance(count, bool) or not isinstance(count, int | np.integer) or not 1 <= count <= n:
        raise ValueError(f"count must be an integer from 1 to {n}; got {count!r}")
    if n <= max(DENSE, 2 * count):
        H = _times(A, np.eye(n))
        values, vectors = np.linalg.eigh((H + H.T) / 2)
        found = [(values[:count], vectors[:, :count]), (values[-count:], vectors[:, -count:])]
    else:
        start = _generator(rng).standard_normal(n)
        if not np.any(_times(A, start[:, None])):  # zero with probability 1, and ARPACK refuses it
            return ExtremeEigenvalues(_frozen(np.zeros(count)), _frozen(np.zeros(count)), 0.0)
        found = [_end(A, count, which, start, tol) for which in ("SA", "LA")]
    residual = max(float(np.linalg.norm(_times(A, X) - X * t, axis=0).max()) for t, X in found)
    return ExtremeEigenvalues(_frozen(found[0][0]), _frozen(found[1][0]), residual)


def _end(A, count, which, start, tol):
    try:
        values, vectors = eigsh(A, k=count, which=which, v0=start, tol=tol)
    except ArpackNoConvergence as error:
        have = len(error.eigenvalues)
        raise RuntimeError(
            f"eigsh found {have} of {count} eigenvalues ({which}) in its iterations; raise tol"
        ) from None
    order = np.argsort(values)
    return values[order], vectors[:, order]


def _restricted(operator, span):
    """The diagonal block of an operator at a span."""
    n, size = operator.shape[0], span.stop - span.start

    def matmat(V):
        V = np.asarray(V, dtype=float).reshape(size, -1)
        whole = np.zeros((n, V.shape[1]))
        whole[span] = V
        return _times(operator, whole)[span]

    products: dict[str, Any] = {"matvec": lambda v: matmat(v)[:, 0], "matmat": matmat}
    return LinearOperator(dtype=np.dtype(float), shape=(size, size), **products)


def _frozen(array):
    array = np.array(array)
    array.flags.writeable = False
    return array
