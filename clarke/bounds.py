"""Bounds of the norm of the outer-product Hessian of a convolutional network, beside the norm itself.

The bounds of Meshkov (2025) as printed, and one that is sharper than each: with lambda_p a bound of |Lambda^(p)| (1 but
for poolings), t_p = |T^(p)| and mu_p the largest number of windows of layer p that share an entry of its input,

    |H_O| <= |A| sum_p |J^(p)|^2 <= (1/2) |x|^2 sum_p mu_p lambda_p^2 prod_{i != p} lambda_i^2 t_i^2,
    t_i^2 <= C_in C_out k_i mu_i w_i^2,

by Popoviciu's |A| <= 1/2 (attained at p = (1/2, 1/2, 0, ...); the thesis takes sqrt 2), because the patches of a layer
hold each entry of its input mu_p times at most, and by row sums times column sums. mu_p <= min(k_p, d_p), for k_p taps
and d_p windows, with equality in 1-D at stride 1 without padding; it is the product over the axes in 2-D. The bound is
attained where every mu_p is 1 (dense layers, kernels of one tap), and is not elsewhere: the squared norm of the matrix
of patches stays below mu_p |x|^2. With biases, |x^(p)| <= lambda_p (t_p |x^(p-1)| + |bias^(p)|) takes the place of the
products, and mu_p |x^(p-1)|^2 + d_p that of mu_p |x^(p-1)|^2.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from math import prod, sqrt
from operator import index
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse.linalg import eigsh

from .chains import Chain, Layer, chain_at, entries, read_chain, scaled_rows
from .factors import layer_norm_squared, norm_of, operator_of
from .kinks import TOL
from .layers import constant

if TYPE_CHECKING:
    from .convolution import Windows
    from .network import Network

SLACK = 1e-9  # relative, of rounding, allowed to a bound that is attained
DENSE = 400  # up to this many parameters the difference of two Hessians is formed


# ---------------------------------------------------------------- one sample


@dataclass(frozen=True)
class Bound:
    """name; place in the thesis, or "here"; value, nan where it does not speak of the network; holds, None there; note:
    what keeps it from speaking, or how it was read."""

    name: str
    place: str
    value: float
    holds: bool | None
    note: str


@dataclass(frozen=True)
class NormReport:
    """norm: |H_O|_2 at one sample, over `parameters` numbers in `layers` layers; bounds: the `Bound`s; report[name]."""

    norm: float
    bounds: tuple[Bound, ...]
    layers: int
    parameters: int
    classes: int

    def __getitem__(self, name: str) -> Bound:
        for bound in self.bounds:
            if bound.name == name:
                return bound
        raise KeyError(f"no bound {name!r}; there are {', '.join(bound.name for bound in self.bounds)}")

    @property
    def looseness(self) -> dict[str, float]:
        """name -> bound / norm, at least 1 where it holds; nan where it does not speak, inf (0/0 = 1) at norm 0."""
        return {bound.name: _ratio(bound.value, self.norm) for bound in self.bounds}

    def __str__(self) -> str:
        what = f"{self.layers} layers, {self.parameters} parameters, {self.classes} classes"
        lines = [f"outer-product Hessian of one sample: |H_O| = {self.norm:.6g}   ({what})", ""]
        lines.append(f"{'bound':24s} {'printed in':10s} {'value':>11s} {'/ norm':>10s}")
        for bound in self.bounds:
            value, ratio = ("-", "-") if math.isnan(bound.value) else (f"{bound.value:.4g}", "")
            ratio = ratio or f"{self.looseness[bound.name]:.3g}"
            verdict = "  VIOLATED" if bound.holds is False else ""
            note = f"  ({bound.note})" if bound.note else ""
            lines.append(f"{bound.name:24s} {bound.place:10s} {value:>11s} {ratio:>10s}{verdict}{note}")
        return "\n".join(lines)


def _ratio(a, b):
    if b:
        return a / b
    return a if math.isnan(a) else 1.0 if a == 0 else math.inf


def norm_report(
    network: "Network", x: ArrayLike | None = None, *, pattern: str | None = None, tol: float = TOL
) -> NormReport:
    """|H_O|_2 of one sample, H_O = J^T (diag(p) - p p^T) J over the parameters, beside every bound.

    network: a chain of 1-D or 2-D convolutions and dense layers with relu, poolings and reshapes between, to logits; a
    loss on them is the softmax cross-entropy, or none is declared: targets, taken to sum to 1, do not enter. x: one
    sample, of the input's shape without axis 0; by default the network's own, if it has one. For the mean loss of N
    samples, |mean of H_O| <= mean of |H_O|.

    Bounds: "Lemma 2" with the exact |Q^(p)| and |T^(p)|, "Theorem 1" (1-D), "Theorem 2" (2-D), "Lemma 3" (one max
    pooling), "Lemma 4" (one average pooling), "Lemma 5" (dense head) as printed, with the smallest constants C, k, d,
    m, n, h, w that the network allows; "Lemma 5 corrected", where the head's term is not upside down; "sharp" with
    exact |T^(p)| and "sharp, by weights" with t_i^2 <= C_in C_out k_i mu_i w_i^2 (the module's docstring). Printed
    bounds but Lemma 2 need layers without bias, stride 1, no padding; h counts the inputs of the head too. How a bound
    was read where the thesis leaves it open, and why one does not apply, is in its note.

    Raises as `chains.chain_at`: ValueError for another network or sample, `KinkError` at a kink without `pattern`.
    """
    chain = chain_at(network, x, pattern=pattern, tol=tol)
    norm = norm_of(chain)
    found = tuple(
        Bound(name, place, value, None if math.isnan(value) else bool(value >= norm * (1 - SLACK)), note)
        for name, place, (value, note) in _bounds(chain)
    )
    return NormReport(norm, found, len(chain.layers), chain.size, len(chain.probabilities))


def _bounds(chain):
    """(name, place, (value, note)) of every bound."""
    exact = [layer_norm_squared(layer) for layer in chain.layers]
    yield "Lemma 2", "sec. 3.1", _lemma_2(chain, exact)
    yield "Theorem 1", "sec. 4.1", _convolutional(chain, 1)
    yield "Theorem 2", "sec. 4.2", _convolutional(chain, 2)
    yield "Lemma 3", "sec. 4.3", _pooled(chain, "max")
    yield "Lemma 4", "sec. 4.3", _pooled(chain, "average")
    yield "Lemma 5", "sec. 4.4", _headed(chain, corrected=False)
    yield "Lemma 5 corrected", "here", _headed(chain, corrected=True)
    yield "sharp", "here", (_sharp(chain, exact), "")
    yield "sharp, by weights", "here", (_sharp(chain, [_by_weights(layer) for layer in chain.layers]), "")


# ---------------------------------------------------------------- the bounds that are printed


def overlap(windows: "Windows") -> int:
    """mu: the largest number of windows that share an entry."""
    table = entries(windows)
    return int(np.bincount(table[table >= 0]).max(initial=0))


def _reach(layer):
    """|Q^(p)|^2: the columns of Q are disjoint, and hold a 1 for each window in which the tap reads no padding."""
    most = int((entries(layer.windows) >= 0).sum(axis=0).max())
    return most if layer.bias is None else layer.places


def _poolings(chain):
    """(p, operation), p from 1."""
    return [
        (p, other) for p, layer in enumerate(chain.layers, 1) for other in layer.between if other.windows is not None
    ]


def _shrinks(other):
    """Is |pooling| <= 1?"""
    return _pool_norm_squared(other) <= 1


def _pool_norm_squared(other):
    """Of a max pooling, how many windows may have one winner; of an average, row sums (1 at most) times column sums."""
    most = overlap(other.windows)
    return most / prod(other.windows.window) if other.kind == "average" else most


def _disjoint(other):
    return overlap(other.windows) == 1


NONE = math.nan


def _why_not(chain, kinds):
    """Why a printed bound on layers of these kinds does not speak of the chain, or ''."""
    if any(layer.kind not in kinds for layer in chain.layers):
        return "a dense layer" if "dense" not in kinds else "another layer"
    if any(layer.bias is not None for layer in chain.layers):
        return "biases"
    if any((*layer.windows.stride, *layer.windows.padding) != (1, 1, 0, 0) for layer in chain.layers):
        return "stride or padding"
    if any(not _disjoint(other) or any(other.windows.padding) for _, other in _poolings(chain)):
        return "overlapping or padded pooling"
    return ""


def _lemma_2(chain, exact):
    """sqrt2 q^2 |x|^2 (L+1) w_T^{2L}, |Q^(p)| <= q, |T^(p)| <= w_T."""
    if any(not _shrinks(other) for _, other in _poolings(chain)):
        return NONE, "a pooling of norm above 1"
    n, x2, note = len(chain.layers), _square(chain.layers[0].x), ""
    if any(layer.bias is not None for layer in chain.layers):
        exact = [layer_norm_squared(layer, True, layer is chain.layers[-1]) for layer in chain.layers]
        x2, note = x2 + 1.0, "layers on (x, 1)"
    q2 = max(_reach(layer) for layer in chain.layers)
    return sqrt(2) * q2 * x2 * n * _power(max(exact), n - 1), note


def _constants(convolutions):
    """(C, taps, d, w^2): most channels, k or k^2, most windows d or m n (without padding, those of
    the first layer), largest squared weight."""
    C = max(max(layer.fan[:2]) for layer in convolutions)
    k = max(max(layer.windows.window) for layer in convolutions)
    w2 = _power(max(float(np.max(np.abs(layer.weights))) for layer in convolutions), 2)
    return C, k ** convolutions[0].sides, max(layer.places for layer in convolutions), w2


def _convolutional(chain, sides):
    """Theorem 1: sqrt2 |x|^2 d^2 (L+1) (C^2 w^2 k d)^L. Theorem 2: d^2 is q^2 = C^2 k^2 m n, k d is k^2 m n."""
    if any(layer.sides not in (0, sides) for layer in chain.layers):
        return NONE, f"not {sides}-D"
    if why := _why_not(chain, ("convolution",)):
        return NONE, why
    (C, taps, d, w2), n = _constants(chain.layers), len(chain.layers)
    q2 = d * d if sides == 1 else C * C * taps * d
    note = "a pooling counted as norm 1" if _poolings(chain) else ""
    return sqrt(2) * _square(chain.layers[0].x) * q2 * n * _power(C * C * w2 * taps * d, n - 1), note


def _pooled(chain, kind):
    """Lemmas 3, 4: Theorem 2 times (1 / k_pool^2)^{L-l+2} for a pooling in Lambda^(l).

    The printed proof puts the exponent L-l+2 where it has shown L-l+1; with the pooling and T^(l) taken as one layer,
    both |T|^2 and |Q|^2 of the layers from l on are smaller by k_pool^2, and the lemma stands.
    """
    poolings, n = _poolings(chain), len(chain.layers)
    if any(layer.sides == 1 for layer in chain.layers):
        return NONE, "not 2-D"
    if why := _why_not(chain, ("convolution",)):
        return NONE, why
    if len(poolings) != 1 or poolings[0][1].kind != kind:
        return NONE, f"not one {kind} pooling"
    ((place, other),) = poolings
    k, stride = other.windows.window, other.windows.stride
    if k[0] != k[1] or stride != k or place == n:
        return NONE, "a pooling k x k, k apart, before the last layer"
    value, _ = _convolutional(chain, 2)
    beside = any(between.kind == "relu" for between in chain.layers[place - 1].between)
    return value / prod(k) ** (n - 1 - place + 2), "beside a relu" if beside else ""


def _headed(chain, corrected):
    """Lemma 5: sqrt2 |x|^2 q^2 a^P b^L (L + 1 + P a / b), a = h^2 w~^2, b = C^2 k^2 w^2 m n; corrected, P b / a."""
    if why := _why_not(chain, ("convolution", "dense")):
        return NONE, why
    kinds = [layer.kind for layer in chain.layers]
    convolutions = [layer for layer in chain.layers if layer.kind == "convolution"]
    dense = [layer for layer in chain.layers if layer.kind == "dense"]
    if not convolutions or not dense or kinds != sorted(kinds) or len({layer.sides for layer in convolutions}) > 1:
        return NONE, "not convolutions, then a dense head"
    (C, taps, d, w2), L, P = _constants(convolutions), len(convolutions) - 1, len(dense)
    h = max(max(layer.weights.shape) for layer in dense)
    w_head = max(float(np.max(np.abs(layer.weights))) for layer in dense)
    a, b = h * h * _power(w_head, 2), C * C * taps * w2 * d
    # where the powers are multiplied out nothing is divided by a zero a or b
    head = _power(a, P - 1) * _power(b, L + 1) if corrected else _over(_power(a, P + 1) * _power(b, L), b)
    terms = (L + 1) * _power(a, P) * _power(b, L) + P * head
    note = "" if convolutions[0].sides == 2 else "signals as images of height 1"
    pooled = "a pooling counted as norm 1" if _poolings(chain) else ""
    value = sqrt(2) * _square(chain.layers[0].x) * C * C * taps * d * terms
    return value, "; ".join(filter(None, (note, pooled)))


def _over(numerator, b):
    return numerator / b if b else (0.0 if numerator == 0 else math.inf)


def _square(x):
    with np.errstate(over="ignore"):  # an infinite bound holds
        return float(np.dot(x, x))


def _power(a, n):
    """a^n, inf where that is too large for a float."""
    with np.errstate(over="ignore"):
        return float(np.float64(a) ** n)


# ---------------------------------------------------------------- the sharp one


def _by_weights(layer: Layer):
    """|T|^2 <= C_in C_out k mu w^2: largest row sum times largest column sum of moduli."""
    inner, outer, taps = layer.fan
    return inner * outer * taps * overlap(layer.windows) * _power(np.max(np.abs(layer.weights)), 2)


def _sharp(chain: Chain, squares):
    """(1/2) sum_p (mu_p |x^(p-1)|^2 + d_p, the last if it has a bias) prod_{i > p} t_i^2 prod_{i >= p} lambda_i^2, with
    |x^(p-1)| bounded layer by layer."""
    size, inputs = math.sqrt(_square(chain.layers[0].x)), []
    pools = [prod(_pool_norm_squared(o) for o in layer.between if o.windows is not None) for layer in chain.layers]
    for layer, t2, pool2 in zip(chain.layers, squares, pools, strict=True):
        inputs.append(size * size)
        shift = 0.0 if layer.bias is None else math.sqrt(layer.places * _square(layer.bias))
        size = math.sqrt(pool2) * (math.sqrt(t2) * size + shift)
    total, after = 0.0, 1.0
    for layer, t2, pool2, x2 in reversed(list(zip(chain.layers, squares, pools, inputs, strict=True))):
        after *= pool2
        total += after * (overlap(layer.windows) * x2 + (0 if layer.bias is None else layer.places))
        after *= t2
    return total / 2


# ---------------------------------------------------------------- a growing sample


@dataclass(frozen=True, eq=False)
class LossIncrements:
    """L_k = (l_1 + ... + l_k) / k, from N losses in the order of the samples.

    losses (N,): l_1, ..., l_N; means (N,): L_1, ..., L_N; increments (N - 1,): |L_{k+1} - L_k|, k = 1, ..., N - 1.
    identity (N - 1,): |l_{k+1} - L_k| / (k + 1), which they equal. With an optimum theta*, else None: at_optimum, the
    identity there; curvature (N - 1,), |H_{k+1} - (H_1 + ... + H_k) / k|_2 of the outer-product Hessians at theta*, nan
    where it was not asked for; radius, |theta - theta*|.
    """

    losses: np.ndarray
    means: np.ndarray
    increments: np.ndarray
    identity: np.ndarray
    radius: float
    at_optimum: np.ndarray | None = None
    curvature: np.ndarray | None = None

    @property
    def printed(self) -> NDArray[np.float64]:
        """Formula (2) of the thesis: identity + radius^2 curvature / (k + 1). Its first term is already exact."""
        return self.identity + self._second()

    @property
    def taylor(self) -> NDArray[np.float64]:
        """at_optimum + radius^2 curvature / (2 (k + 1)): of second order about theta*, in modulus, where the gradients
        of both means vanish; the functional part H_F and the remainder are left out. An approximation, not a bound."""
        second = self._second()
        return np.asarray(self.at_optimum) + second / 2

    def _second(self):
        if self.curvature is None:
            raise ValueError("the second-order terms need theta*: pass optimum= to loss_increments")
        return self.radius**2 * self.curvature / np.arange(2, 2 + len(self.curvature))


def loss_increments(
    network: "Network",
    optimum: ArrayLike | None = None,
    *,
    sizes: Sequence[Any] | None = None,
    tol: float = TOL,
) -> LossIncrements:
    """How the mean loss moves as samples join: |L_{k+1} - L_k| beside |l_{k+1} - L_k| / (k + 1), equal to it exactly.

    network: as for `norm_report`, with its cross-entropy declared on N >= 2 samples; they join in their order. optimum:
    a flat theta* (network.size,), where the Hessians of formula (2) are taken, one sample at a time: N C size numbers
    are held. sizes: the k for which their differences are asked for, by default all. Targets that do not sum to 1
    multiply the Hessian of their sample by their sum. Losses of parameters alone do not count. Also a corollary of the
    thesis: if all |l_i| <= W at theta the identity alone gives 2 W / (k + 1).

    ValueError for another network, optimum or sizes; `KinkError` where a sample has a kink at theta*.
    """
    source, _, logits = read_chain(network)
    heads = [fun for _, fun, parents in network.losses if logits in parents]
    if len(heads) != 1:
        raise ValueError(f"the losses of samples need one cross-entropy on {logits!r}; got {len(heads)}")
    N = len(network.value(source))
    if N < 2:
        raise ValueError("a growing sample has at least 2 samples; the network holds 1")
    targets = heads[0].keywords["targets"]
    losses = _losses(network.value(logits), targets)
    means = np.cumsum(losses) / np.arange(1, N + 1)
    found = _frozen(losses), _frozen(means), _frozen(np.abs(np.diff(means))), _frozen(_identity(losses, means))
    if optimum is None:
        if sizes is not None:
            raise ValueError("sizes says where Hessians are compared: pass optimum with it")
        return LossIncrements(*found, 0.0)
    optimum = constant("optimum", optimum)
    if optimum.shape != (network.size,):
        raise ValueError(f"optimum must have shape ({network.size},); got {optimum.shape}")
    every = range(1, N)
    asked = _sizes(sizes, every)
    there = network.at(optimum)
    at = _losses(there.value(logits), targets)
    roots = [
        np.hstack(scaled_rows(chain_at(there, sample, tol=tol))) for sample in network.value(source)[: asked[-1] + 1]
    ]
    curvature, masses = np.full(N - 1, math.nan), targets.sum(axis=1)
    for k in asked:
        curvature[k - 1] = _difference(roots[k], roots[:k], masses[: k + 1])
    radius = float(np.linalg.norm(network.point() - optimum))
    optimal = _identity(at, np.cumsum(at) / np.arange(1, N + 1))
    return LossIncrements(*found, radius, _frozen(optimal), _frozen(curvature))


def _sizes(sizes, every):
    """The k asked for, in order."""
    if sizes is None:
        return [*every]
    try:
        asked = sorted({index(k) for k in sizes})
    except TypeError:
        asked = []
    if not asked or not {*asked} <= {*every}:
        raise ValueError(f"sizes is a sequence of some of 1, ..., {every[-1]}; got {sizes!r}")
    return asked


def _losses(logits, targets):
    shifted = logits - logits.max(axis=1, keepdims=True)
    return -np.sum(targets * (shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))), axis=1)


def _identity(losses, means):
    return np.abs(losses[1:] - means[:-1]) / np.arange(2, len(losses) + 1)


def _difference(new, old, masses):
    """|m B^T B - (1/k) sum_i m_i B_i^T B_i|_2, B (C, n); masses (k + 1,), m last."""
    stacked = np.vstack([new, *old])
    signs = np.repeat([masses[-1], *(-masses[:-1] / len(old))], len(new))
    n = stacked.shape[1]
    if n <= DENSE:
        return float(np.abs(np.linalg.eigvalsh((stacked.T * signs) @ stacked)).max())
    if not stacked.any():
        return 0.0
    start = np.random.default_rng(0).standard_normal(n)
    options: dict[str, Any] = {"which": "LM", "v0": start, "tol": 1e-10, "return_eigenvectors": False}
    return float(np.abs(eigsh(operator_of(partial(_weighted, stacked, signs), n), k=1, **options)[0]))


def _weighted(stacked, signs, v):
    return stacked.T @ (signs * (stacked @ v))


def _frozen(array):
    array = np.array(array)
    array.flags.writeable = False
    return array
