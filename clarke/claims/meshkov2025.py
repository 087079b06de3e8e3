"""Claims of Meshkov (2025): norms of the Hessian of a convolutional network.

A case holds one sample x (C_0, d) or (C_0, m, n); kernels W^(p) (C_p, C_{p-1}, taps...), p = 1, ..., L+1, stride 1
without padding, or matrices (outputs, inputs) of dense layers; ReLU between, or in one place a pooling. The softmax of
all that leaves the last layer is p, and H_O = J^T (diag(p) - p p^T) J. One pixel and its 1 x 1 kernels are written as
a vector and matrices where there is a pooling.
"""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import combinations
from math import prod, sqrt
from typing import Any

import numpy as np
from scipy import sparse

from .. import layers
from ..bounds import loss_increments, norm_report
from ..elements import KinkError
from ..factors import outer_product_factors, outer_product_norm
from ..network import Network
from .statements import AMENDED, FAILS, HOLDS, Case, Evidence, OutsideHypothesis, assume, at_most, claim, equal, worst

PAPER = "meshkov2025"
STEP = 1e-30  # of a complex step: nothing is subtracted


# ---------------------------------------------------------------- the network of a case, for the library


def network_of(case: Case, targets: Any = None) -> Network:
    """The network; x may hold samples (N, ...) where there are targets (N, classes)."""
    x = np.asarray(case["x"], float)
    sides, net = x.ndim - 1 - (targets is not None), Network()
    net.input("x", x if targets is not None else x[None])
    above, last = "x", len(case["kernels"])
    for p, kernel in enumerate(map(np.asarray, case["kernels"]), 1):
        if kernel.ndim == 2 and sides:
            net.node("flat", layers.reshape, above)
            above, sides = "flat", 0
        net.parameter(f"W{p}", kernel.astype(float))
        net.node(f"z{p}", (layers.affine, layers.conv1d, layers.conv2d)[sides], above, f"W{p}")
        above = f"z{p}"
        if p < last:
            net.node(f"x{p}", _between(case, p), above)
            above = f"x{p}"
    if sides:
        net.node("logits", layers.reshape, above)
        above = "logits"
    if targets is not None:
        net.loss(layers.cross_entropy(np.asarray(targets, float)), above)
    return net


def _between(case, p):
    pool = case.get("pool")
    if not pool or pool["after"] != p:
        return layers.relu
    kind = {"max": layers.max_pool2d, "average": layers.average_pool2d}[pool["kind"]]
    return partial(kind, size=pool["size"], padding=pool["padding"])


def smooth(door: Callable[..., Any], network: Network) -> float:
    """door(network), outside the hypothesis where the point is a kink: there the network has no Hessian."""
    try:
        return door(network)
    except KinkError:
        raise OutsideHypothesis from None


# ---------------------------------------------------------------- the same by its definition


def placement(shape: tuple[int, ...], kernel: Any) -> Any:
    """(Q (n_out, n_in, size of W), the output's shape): 1 where an entry of T holds an entry of W."""
    kernel, inside = np.asarray(kernel), shape[1:]
    outer, inner, *taps = kernel.shape
    if not taps:
        shape, inside, inner = (prod(shape),), (), prod(shape)
    windows = [n - k + 1 for n, k in zip(inside, taps, strict=True)]
    Q = np.zeros((outer, *windows, inner, *inside, outer, inner, *taps))
    for place in np.ndindex(*windows):
        for tap in np.ndindex(*taps):
            at = tuple(map(sum, zip(place, tap, strict=True)))
            for c, a in np.ndindex(outer, inner):
                Q[c, *place, a, *at, c, a, *tap] = 1
    out = (outer, *windows)
    return Q.reshape(prod(out), prod(shape), kernel.size), out


def matrices(case: Case) -> Any:
    """The matrices (T^(p), Q^(p)), Q as (n_out, n_in, size of W), and what follows T^(p): a function of rows."""
    shape, found = np.shape(case["x"]), []
    for p, kernel in enumerate(map(np.asarray, case["kernels"]), 1):
        Q, shape = placement(shape, kernel)
        after = _relu if p < len(case["kernels"]) else _same
        pool = case.get("pool")
        if pool and pool["after"] == p:
            table, channels = windows_of(shape[1:], pool), shape[0]
            after = partial(_pooled, table=table, channels=channels, kind=pool["kind"])
            shape = (channels, *_pooled_sides(shape[1:], pool))
        found.append((Q @ kernel.ravel().astype(float), Q, after))
    return found


def _same(z):
    return z


def _relu(z):
    return z * (z.real > 0)


def _pooled_sides(sides, pool):
    return [(n + 2 * pool["padding"]) // pool["size"] for n in sides]


def windows_of(sides: Any, pool: Any) -> Any:
    """For each window of a pooling the places it holds, -1 for padding."""
    k, pad = pool["size"], pool["padding"]
    image = np.pad(np.arange(prod(sides)).reshape(sides), pad, constant_values=-1)
    return [image[i * k : (i + 1) * k, j * k : (j + 1) * k].ravel() for i, j in np.ndindex(*_pooled_sides(sides, pool))]


def _pooled(z, table, channels, kind):
    """The winners by real part, or the means, padding counted as zeros."""
    image = z.reshape(len(z), channels, -1)
    columns = []
    for window in table:
        seen = image[:, :, window[window >= 0]]
        best = np.take_along_axis(seen, np.argmax(seen.real, axis=2)[:, :, None], axis=2)[:, :, 0]
        columns.append(best if kind == "max" else seen.sum(axis=2) / len(window))
    return np.stack(columns, axis=2).reshape(len(z), -1)


def logits(case: Case, rows: Any = None) -> Any:
    """z, of one row of parameters or of many, complex or not, each column flat over the kernels in order."""
    flat = np.concatenate([np.ravel(kernel) for kernel in case["kernels"]])[None] if rows is None else rows
    z, start = np.repeat(np.ravel(case["x"])[None].astype(flat.dtype), len(flat), axis=0), 0
    for _, Q, after in matrices(case):
        weights = flat[:, start : start + Q.shape[2]]
        start += Q.shape[2]
        z = after(np.einsum("oiw,rw,ri->ro", Q, weights, z, optimize=True))
    return z


def hessian(case: Case) -> Any:
    """(H_O, A): J by complex steps, A as a sum over pairs of classes."""
    flat = np.concatenate([np.ravel(kernel) for kernel in case["kernels"]])
    J = np.imag(logits(case, flat + 1j * STEP * np.eye(len(flat)))).T / STEP
    return J.T @ softmax_hessian(logits(case)[0]) @ J


def softmax_hessian(z: Any) -> Any:
    """sum over i < j of p_i p_j (e_i - e_j)(e_i - e_j)^T = diag(p) - p p^T."""
    p = np.exp(z - np.max(z))
    p, e = p / p.sum(), np.eye(len(p))
    pairs = ((i, j) for i, j in combinations(range(len(p)), 2))
    return sum((p[i] * p[j] * np.outer(e[i] - e[j], e[i] - e[j]) for i, j in pairs), np.zeros_like(e))


def square(a: Sequence[Sequence[Sequence[Any]]] | np.ndarray) -> float:
    """|a|^2, of all entries."""
    return float(np.sum(np.square(a)))


def squared_norms(case: Case) -> Any:
    """|T^(p)|^2 and |Q^(p)|^2."""
    found = matrices(case)
    return [np.linalg.norm(T, 2) ** 2 for T, _, _ in found], [
        np.linalg.norm(Q.reshape(-1, Q.shape[2]), 2) ** 2 for _, Q, _ in found
    ]


def constants(case: Case) -> tuple[Any, ...]:
    """(|x|^2, C, k, d, w^2, L) of the convolutions: the smallest that Theorems 1 and 2 allow; d is m n in 2-D."""
    kernels = [kernel for kernel in map(np.asarray, case["kernels"]) if kernel.ndim > 2]
    C = max(max(kernel.shape[:2]) for kernel in kernels)
    k = max(max(kernel.shape[2:]) for kernel in kernels)
    first = zip(np.shape(case["x"])[1:], kernels[0].shape[2:], strict=True)
    w2 = max(float(np.abs(kernel).max()) for kernel in kernels) ** 2
    return square(case["x"]), C, k, prod(n - taps + 1 for n, taps in first), w2, len(kernels) - 1


def overlaps(case: Case) -> Any:
    """(mu_p, d_p): how many windows of layer p share an entry, at most, the product over the axes of min(k, d); all."""
    sides, found = np.shape(case["x"])[1:], []
    for kernel in map(np.asarray, case["kernels"]):
        windows = [n - k + 1 for n, k in zip(sides, kernel.shape[2:], strict=True)]
        found.append((prod(min(k, d) for k, d in zip(kernel.shape[2:], windows, strict=True)), prod(windows)))
        sides = windows
    return found


# ---------------------------------------------------------------- what domains draw


def odd(rng: np.random.Generator, *shape: Any) -> Any:
    """Odd multiples of 1/4 in [-7/4, 7/4]: never 0, so that few cases are kinks."""
    return (2 * rng.integers(-4, 4, size=shape) + 1) / 4


def chains(rng: np.random.Generator, sides: Any = None, depth: Any = (1, 3), size: Any = (2, 4), head: Any = 0) -> Any:
    """Convolutions on a small image, then `head` dense layers; two channels or more at the end."""
    sides = int(rng.integers(1, 3)) if sides is None else sides
    image = [int(rng.integers(size[0], size[1] + 1)) for _ in range(sides)]
    channels, layers_ = int(rng.integers(1, 3)), int(rng.integers(depth[0], depth[1] + 1))
    x, kernels = odd(rng, channels, *image), []
    for p in range(layers_):
        k = int(rng.integers(1, min(3, *image) + 1))
        wide = 2 if p == layers_ - 1 and not head else int(rng.integers(1, 3))
        kernels.append(odd(rng, wide, channels, *[k] * sides))
        image, channels = [n - k + 1 for n in image], wide
    width = prod([channels, *image])
    for _ in range(head):
        wide = int(rng.integers(2, 4))
        kernels.append(odd(rng, wide, width))
        width = wide
    return {"x": x, "kernels": kernels}


def signals(rng: np.random.Generator) -> Any:
    """1-D convolutions."""
    return chains(rng, sides=1)


def images(rng: np.random.Generator) -> Any:
    """2-D convolutions."""
    return chains(rng, sides=2, size=(2, 3))


def pooled(kind: str) -> Callable[..., Any]:
    """rng -> 2-D convolutions with one pooling, its windows side by side and without padding."""

    def draw(rng):
        L = int(rng.integers(1, 3))
        after, size, image = int(rng.integers(1, L + 1)), int(rng.integers(2, 4)), rng.integers(4, 6, size=2)
        channels, kernels = int(rng.integers(1, 3)), []
        x = odd(rng, channels, *image)
        for p in range(1, L + 2):
            k = 2 if min(image) > 1 and (p > after or min(image) > size) and rng.integers(0, 2) else 1
            wide = 2 if p > L else int(rng.integers(1, 3))
            kernels.append(odd(rng, wide, channels, k, k))
            image, channels = (image - k + 1) // (size if p == after else 1), wide
        return {"x": x, "kernels": kernels, "pool": {"kind": kind, "after": after, "size": size, "padding": 0}}

    return draw


def any_chain(rng: np.random.Generator) -> Any:
    """1-D or 2-D convolutions, with a dense head or a pooling or neither."""
    what = rng.choice(["", "head", "max", "average"])
    if what in ("max", "average"):
        return pooled(what)(rng)
    return chains(rng, depth=(1, 2), head=int(what == "head"))


# ---------------------------------------------------------------- the Hessian as a product


@claim(
    "M-L1",
    paper=PAPER,
    place="Lemma 1",
    statement="If the network can be written as z = T^(L+1) Lambda^(L) ... Lambda^(1) T^(1) x, then "
    "H_O(theta) = Q^T F^T A F Q",
    verdict=HOLDS,
    domain=any_chain,
    share=0.3,
)
def product(case: Case) -> Any:
    """dz/dW^(p) = (dz/dz^(p)) (dz^(p)/dT^(p)) (dT^(p)/dW^(p)) = G^(p) (I (x) x^(p-1)^T) Q^(p), and G (I (x) x^T) =
    G (x) x^T. Side by side these are F Q = J, if the blocks of F and Q follow one order of the layers; the thesis
    stacks theta the other way round than F, and its proof prints x^(p) where x^(p-1) is meant. Here H_O is J^T A J
    with J by complex steps through T^(p) as defined."""
    f = smooth(outer_product_factors, network_of(case))
    FQ = (f.F @ sparse.block_diag(f.Q, format="csr")).toarray()
    return equal(Q_F_A_F_Q=FQ.T @ f.A @ FQ, J_A_J=hessian(case))


def class_scores(rng: np.random.Generator) -> Any:
    """Logits of two to five classes, some of them hopeless."""
    n = int(rng.integers(2, 6))
    return {"z": np.where(rng.integers(0, 4, size=n) < 3, rng.integers(-3, 4, size=n), -800)}


def softmax_of(z: Any) -> Any:
    """The library's A at logits z, those of one dense layer with the one input 1."""
    return outer_product_factors(network_of({"x": [1.0], "kernels": [np.asarray(z, float)[:, None]]})).A


def _half(case):
    """sup |A| = 1/2."""
    norm, pair = np.linalg.norm(softmax_of(case["z"]), 2), [0.0, 0.0, *[-800.0] * (len(case["z"]) - 2)]
    return worst(at_most(norm_A=norm, half=0.5), equal(norm_at_two_equal_classes=_norm(softmax_of(pair)), half=0.5))


def _norm(A):
    return np.linalg.norm(A, 2)


@claim(
    "M-A",
    paper=PAPER,
    place="proof of Lemma 2",
    statement="||A|| <= sqrt 2, A = diag(p) - p p^T, p = softmax(z)",
    verdict=HOLDS,
    corrected="||A|| <= 1/2, attained at p = (1/2, 1/2, 0, ...): true as printed, and 2 sqrt 2 times too large",
    amended=_half,
    domain=class_scores,
)
def softmax_norm(case: Any) -> Any:
    """u^T A u is the variance of u_i under p, at most (max u - min u)^2 / 4 (Popoviciu), and (max u - min u)^2 <=
    2 |u|^2: |A| <= 1/2, with equality for u = (1, -1, 0, ...) and p = (1/2, 1/2, 0, ...)."""
    return at_most(norm_A=_norm(softmax_of(case["z"])), printed=sqrt(2))


# ---------------------------------------------------------------- its norm


def _sharp_lemma_2(case):
    """(1/2) |x|^2 q^2 sum_p prod_{i != p} |T^(i)|^2."""
    norm, (T2, Q2) = smooth(outer_product_norm, network_of(case)), squared_norms(case)
    others = sum(prod(T2[:p] + T2[p + 1 :]) for p in range(len(T2)))
    return at_most(norm_H=norm, sharper=max(Q2) * square(case["x"]) * others / 2)


@claim(
    "M-L2",
    paper=PAPER,
    place="Lemma 2",
    statement="If ||Q^(p)|| <= q and ||T^(p)||^2 <= w_T^2 for all p, then ||H_O|| <= sqrt2 q^2 ||x||^2 (L+1) w_T^{2L}",
    verdict=HOLDS,
    corrected="true, and loose: ||H_O|| <= (1/2) q^2 ||x||^2 sum_p prod_{i != p} ||T^(i)||^2",
    amended=_sharp_lemma_2,
    domain=any_chain,
    share=0.3,
)
def lemma_2(case: Case) -> Any:
    """|J^(p)| <= |G^(p)| |x^(p-1)| |Q^(p)|, since |I (x) x^T| = |x|; |Lambda| <= 1, so |G^(p)| and |x^(p-1)| / |x| are
    at most the products of the |T^(i)| after and before p; |J|^2 <= sum_p |J^(p)|^2. With |A| <= 1/2 this is the
    sharper form, and sqrt 2 > 1/2."""
    norm, (T2, Q2) = smooth(outer_product_norm, network_of(case)), squared_norms(case)
    L = len(T2) - 1
    return at_most(norm_H=norm, printed=sqrt(2) * max(Q2) * square(case["x"]) * (L + 1) * max(T2) ** L)


def _by_weights(case):
    """(1/2) |x|^2 sum_p mu_p prod_{i != p} C_in C_out k_i mu_i w_i^2, and |Q^(p)|^2 = d_p."""
    kernels, mu = [np.asarray(kernel) for kernel in case["kernels"]], overlaps(case)
    t2 = [K[..., 0].size * K.shape[-1] * m * np.abs(K).max() ** 2 for K, (m, _) in zip(kernels, mu, strict=True)]
    total = sum(m * prod(t2[:p] + t2[p + 1 :]) for p, (m, _) in enumerate(mu))
    norm, (_, Q2) = smooth(outer_product_norm, network_of(case)), squared_norms(case)
    bounded = at_most(norm_H=norm, sharper=square(case["x"]) * total / 2)
    return worst(bounded, equal(squared_norms_of_Q=Q2, windows=[d for _, d in mu]))


SHARPER = (
    "true, and loose: ||H_O|| <= (1/2) ||x||^2 sum_p mu_p prod_{i != p} C_{i-1} C_i k_i mu_i w_i^2, k_i the number of "
    "taps and mu_i the product over the axes of min(taps, windows); "
)


@claim(
    "M-T1",
    paper=PAPER,
    place="Thm 1",
    statement="Let C_{W^(i)} be one-dimensional convolutions without padding, stride 1, C_l <= C, k_i <= k, "
    "d_i <= d_1 := d, |W_{ijk}|^2 <= w^2; then ||H_O|| <= sqrt2 ||x||^2 d^2 (L+1) (C^2 w^2 k d)^L",
    verdict=HOLDS,
    corrected=SHARPER + "||Q^(p)||^2 = d_p exactly",
    amended=_by_weights,
    domain=signals,
    share=0.3,
)
def theorem_1(case: Case) -> Any:
    """A patch matrix holds each entry of x^(p-1) in at most mu_p = min(k, d_p) of its d_p rows, so |J^(p)|^2 <=
    |G^(p)|^2 mu_p |x^(p-1)|^2; |T|^2 is at most the largest row sum (C_{i-1} k w) times the largest column sum
    (C_i mu w). Both are below the printed d^2 and C^2 w^2 k d. Q^T Q = d_p I: every weight stands in d_p places."""
    x2, C, k, d, w2, L = constants(case)
    norm = smooth(outer_product_norm, network_of(case))
    return at_most(norm_H=norm, printed=sqrt(2) * x2 * d**2 * (L + 1) * (C**2 * w2 * k * d) ** L)


def printed_2d(case: Case) -> float:
    """sqrt2 |x|^2 q^2 (L+1) (C^2 k^2 w^2 m n)^L, q^2 = C^2 k^2 m n."""
    x2, C, k, d, w2, L = constants(case)
    return sqrt(2) * x2 * C**2 * k**2 * d * (L + 1) * (C**2 * k**2 * w2 * d) ** L


@claim(
    "M-T2",
    paper=PAPER,
    place="Thm 2",
    statement="Let C_{W^(l)} be two-dimensional convolutions without padding, stride 1, C_l <= C, k_i <= k, m_i <= m_1 "
    ":= m, n_i <= n_1 := n, |W_{ijk}|^2 <= w^2; then ||H_O|| <= sqrt2 ||x||^2 q^2 (L+1) (C^2 k^2 w^2 m n)^L, "
    "q^2 = C^2 k^2 m n",
    verdict=HOLDS,
    corrected=SHARPER + "||Q^(p)||^2 = m_p n_p exactly",
    amended=_by_weights,
    domain=images,
    share=0.3,
)
def theorem_2(case: Case) -> Any:
    """As for Theorem 1, the patch matrix along each axis. The printed proof bounds |T|^2 and |Q|^2 by Frobenius norms,
    C^2 k^2 w^2 m n and C^2 k^2 m n; it prints both without the square."""
    return at_most(norm_H=smooth(outer_product_norm, network_of(case)), printed=printed_2d(case))


def tall_signals(rng: np.random.Generator) -> Any:
    """Two or three 1-D convolutions, with more places than taps."""
    return chains(rng, sides=1, depth=(2, 3), size=(4, 6))


def _attained(case):
    """Dense layers t I, all turned along e_1, and a last one that tells two logits apart: the bound, but for 1e-4^2."""
    depth, t = len(case["kernels"]) - 1, float(np.abs(case["kernels"][0]).max())
    last = t / sqrt(2) * np.array([[0.0, 1.0], [0.0, -1.0]])
    report = norm_report(network_of({"x": [1.0, 1e-4], "kernels": [t * np.eye(2)] * depth + [last]}))
    return at_most(scale=1e-9, most_of_the_sharp_bound=0.999 * report["sharp"].value, norm_H=report.norm)


@claim(
    "M-loose",
    paper=PAPER,
    place="sec. 6",
    statement="It is evident that our estimate considerably exceeds realistic values; the main reason is that the norm "
    "of T^(p) was estimated by a product of norms",
    verdict=HOLDS,
    corrected="for Theorem 1, printed / true >= 2 sqrt2 d (d / min(k, d))^{L+1}: exponential in the depth as soon as "
    "there are more places than taps; (1/2) ||x||^2 sum_p mu_p prod_{i != p} ||T^(i)||^2 is attained by dense layers",
    amended=_attained,
    domain=tall_signals,
    share=0.3,
)
def loose(case: Case) -> Any:
    """The sharper form of Theorem 1 is smaller than the printed one by sqrt 2 / (1/2) from A, by d^2 / mu from Q, and
    by d / mu from each of L layers, mu <= min(k, d). How much a bound must exceed to do so considerably is not
    printed; this much is proved and looked for."""
    x2, C, k, d, w2, L = constants(case)
    printed = sqrt(2) * x2 * d**2 * (L + 1) * (C**2 * w2 * k * d) ** L
    excess = 2 * sqrt(2) * d * (d / min(k, d)) ** (L + 1)
    norm = smooth(outer_product_norm, network_of(case))
    return at_most(norm_H=norm, printed_over_the_excess=printed / excess)


# ---------------------------------------------------------------- a growing sample


def samples(rng: np.random.Generator) -> Any:
    """A 1-D network with 2 to 4 samples and their classes; the radius R about an optimum."""
    case, N = chains(rng, sides=1, depth=(1, 2), size=(2, 3)), int(rng.integers(2, 5))
    classes = prod(placement_shape(case))
    drawn = {"x": odd(rng, N, *case["x"].shape), "kernels": case["kernels"]}
    return drawn | {"classes": [int(c) for c in rng.integers(0, classes, size=N)], "R": int(rng.integers(0, 9)) / 4}


def placement_shape(case: Case) -> Any:
    """The shape of the logits."""
    shape = np.shape(case["x"])
    for kernel in case["kernels"]:
        shape = (len(kernel), *(n - k + 1 for n, k in zip(shape[1:], kernel.shape[2:], strict=True)))
    return shape


def losses(case: Case) -> Any:
    """l_i = -ln softmax(z_i)[class of i]."""
    found = []
    for x, c in zip(case["x"], case["classes"], strict=True):
        z = logits({"x": x, "kernels": case["kernels"]})[0]
        found.append(np.log(np.sum(np.exp(z - z[c]))))
    return np.array(found)


def increments(case: Case) -> Any:
    """|L_{k+1} - L_k|, k = 1, ..., N - 1, by the library."""
    first = {"x": case["x"][0], "kernels": case["kernels"]}
    targets = np.eye(prod(placement_shape(first)))[case["classes"]]
    return loss_increments(network_of(case, targets)).increments


def _exactly(case):
    """|L_{k+1} - L_k| = |l_{k+1} - L_k| / (k + 1)."""
    found, each = increments(case), losses(case)
    after = np.arange(2, len(each) + 1)
    means = np.array([each[:k].mean() for k in after - 1])
    exact = equal(increments=found, differences_over_k_plus_1=np.abs(each[1:] - means) / after)
    return worst(exact, at_most(increments=found, W_over_k_plus_1=each.max() / after))


@claim(
    "M-Co",
    paper=PAPER,
    place="corollaries",
    statement="Let ||theta - theta*|| <= R, |l_i| <= W_l for all i, |x_i| <= W_x; then |L_{k+1}(theta) - L_k(theta)| "
    "<= 2 W_l / (k+1) + 2 R^2 sqrt2 d^2 W_x^2 (L+1) (C^2 w^2 k d)^L / (k+1)",
    verdict=HOLDS,
    corrected="with W_l bounding the losses at theta itself, |L_{k+1} - L_k| = |l_{k+1} - L_k| / (k+1) exactly, at "
    "most W_l / (k+1) since cross-entropies are not negative: the term of the Hessian is superfluous",
    amended=_exactly,
    domain=samples,
)
def corollary(case: Case) -> Any:
    """(k + 1) L_{k+1} = k L_k + l_{k+1}, so L_{k+1} - L_k = (l_{k+1} - L_k) / (k + 1), of modulus at most
    2 W / (k + 1): the corollary holds for every R and every theta*, the term of the Hessian adding what is not needed,
    in 2-D too. If W_l bounded the losses at theta* only it would be another statement, which the Taylor step does not
    prove: it leaves out the functional part of the Hessian and the remainder."""
    each, case_1 = losses(case), {"x": case["x"][0], "kernels": case["kernels"]}
    _, C, k, d, w2, L = constants(case_1)
    x2 = max(square(x) for x in case["x"])
    over, W = np.arange(2, len(each) + 1), np.abs(each).max()
    hessian_term = 2 * case["R"] ** 2 * sqrt(2) * d**2 * x2 * (L + 1) * (C**2 * w2 * k * d) ** L
    return at_most(increments=increments(case), printed=2 * W / over + hessian_term / over)


# ---------------------------------------------------------------- poolings


def one_pixel(kind: str, layers: int, sizes: Sequence[int]) -> Callable[..., Any]:
    """rng -> 1 x 1 convolutions on one pixel, all weights 1 or -1, with a pooling whose windows are padded."""

    def draw(rng):
        size, signs = int(rng.choice(sizes)), lambda *shape: 1 - 2 * rng.integers(0, 2, size=shape)
        pool = {"kind": kind, "after": 1, "size": size, "padding": size // 2}
        return {"x": signs(2) / 4, "kernels": [signs(2, 2) for _ in range(layers)], "pool": pool}

    return draw


def in_2d(case: Any) -> Any:
    """A case whose x is a vector and whose kernels are matrices as one pixel and kernels 1 x 1."""
    if np.ndim(case["x"]) > 1:
        return case
    kernels = [np.asarray(kernel)[..., None, None] for kernel in case["kernels"]]
    return case | {"x": np.asarray(case["x"])[:, None, None], "kernels": kernels}


def _printed_pooled(case):
    case, pool, L = in_2d(case), case["pool"], len(case["kernels"]) - 1
    factor = (1 / pool["size"] ** 2) ** (L - pool["after"] + 2)
    return at_most(norm_H=smooth(outer_product_norm, network_of(case)), printed=factor * printed_2d(case))


def _side_by_side(case):
    """The printed bound, if the windows read no padding; they are k_pool apart."""
    assume(case["pool"]["padding"] == 0)
    return _printed_pooled(case)


UNPADDED = "for windows k_pool apart that read no padding, so that both sides of the image shrink k_pool times"


@claim(
    "M-L3",
    paper=PAPER,
    place="Lemma 3",
    statement="Let Lambda^(l) be MaxPool2D with kernel k_pool x k_pool instead of the ReLU; then ||H_O|| <= sqrt2 "
    "||x||^2 q^2 (1/k_pool^2)^{L-l+2} (L+1) (k^2 C^2 w^2 m n)^L, q^2 = m n C^2 k^2",
    verdict=AMENDED,
    corrected=UNPADDED + ", the bound holds as printed",
    amended=_side_by_side,
    domain=pooled("max"),
    printed_domain=one_pixel("max", 2, [2]),
    counterexample={
        "x": [1, 1],
        "kernels": [[[1, 1], [-1, -1]], [[1, 1], [-1, -1]]],
        "pool": {"kind": "max", "after": 1, "size": 2, "padding": 1},
    },
    share=0.3,
)
def max_pooling(case: Case) -> Evidence:
    """One pixel pooled in a padded window is the pixel, and the bound shrinks by 1/k_pool^4 all the same. Without
    padding take M T^(l) for one layer: it keeps the rows of T^(l) that win, at most m n / k_pool^2 places, so that the
    Frobenius bounds of |T|^2 and |Q|^2 shrink by k_pool^2 from layer l on. For p < l all L - l + 2 such factors stand
    in the product, for p >= l one of them comes from Q^(p). The printed proof has |M| = 1 and reaches L - l + 1."""
    return _printed_pooled(case)


@claim(
    "M-L4",
    paper=PAPER,
    place="Lemma 4",
    statement="Let Lambda^(l) be AvgPool2D with kernel k_pool x k_pool instead of the ReLU; then ||H_O|| <= sqrt2 "
    "||x||^2 q^2 (1/k_pool^2)^{L-l+2} (L+1) (k^2 C^2 w^2 m n)^L, q^2 = m n C^2 k^2",
    verdict=AMENDED,
    corrected=UNPADDED + ", the bound holds as printed; the norm of the pooling is 1/k_pool",
    amended=_side_by_side,
    domain=pooled("average"),
    printed_domain=one_pixel("average", 3, [4, 6, 8]),
    counterexample={
        "x": [1, 1],
        "kernels": [[[1, 1], [-1, -1]], [[1, -1], [1, -1]], [[1, 1], [-1, -1]]],
        "pool": {"kind": "average", "after": 1, "size": 4, "padding": 2},
    },
    share=0.3,
)
def average_pooling(case: Case) -> Evidence:
    """In a padded window one pixel is divided by k_pool^2, so |H_O| by k_pool^4, the bound by k_pool^{2 (L - l + 2)}.
    Else as for Lemma 3: the rows of the pooling are orthogonal of norm 1/k_pool, and both |T^(l)|^2 and |Q^(l)|^2
    shrink by k_pool^2. The proof prints the blocks of A^T A as 1 1^T / k_pool^2 with norm 1/k_pool and takes |A| for
    |A^T A|: they are 1 1^T / k_pool^4 with norm 1/k_pool^2, and the slips cancel."""
    return _printed_pooled(case)


# ---------------------------------------------------------------- a dense head


def headed(rng: np.random.Generator) -> Any:
    """2-D convolutions, then one or two dense layers with weights up to 1/2."""
    case = chains(rng, sides=2, depth=(1, 2), size=(1, 2), head=int(rng.integers(1, 3)))
    kernels = [kernel if kernel.ndim > 2 else kernel / 4 for kernel in case["kernels"]]
    return {"x": case["x"], "kernels": kernels}


def one_unit(rng: np.random.Generator) -> Any:
    """One pixel, one channel, a head of two classes."""
    return {"x": odd(rng, 1, 1, 1), "kernels": [odd(rng, 1, 1, 1, 1), rng.integers(-4, 5, size=(2, 1)) / 16]}


def head_constants(case: Case) -> tuple[Any, ...]:
    """(sqrt2 |x|^2 q^2, a, b, L, P): a = h^2 w~^2, b = k^2 C^2 w^2 m n; h counts the inputs of the head too."""
    x2, C, k, d, w2, L = constants(case)
    dense = [matrix for matrix in map(np.asarray, case["kernels"]) if matrix.ndim == 2]
    h, w = max(max(matrix.shape) for matrix in dense), max(np.abs(matrix).max() for matrix in dense)
    return sqrt(2) * x2 * C**2 * k**2 * d, h**2 * w**2, C**2 * k**2 * w2 * d, L, len(dense)


def _upright(case):
    """a^P b^L (L + 1 + P b / a), multiplied out."""
    first, a, b, L, P = head_constants(case)
    bound = first * (a**P * b**L * (L + 1) + P * a ** (P - 1) * b ** (L + 1))
    return at_most(norm_H=smooth(outer_product_norm, network_of(case)), corrected=bound)


@claim(
    "M-L5",
    paper=PAPER,
    place="Lemma 5",
    statement="Let the last P layers T^(L+1+i) be linear with |T_ij| <= w~ and h_i <= h; then ||H_O|| <= sqrt2 ||x||^2 "
    "q^2 a^P b^L (L + 1 + P a / b), a = h^2 w~^2, b = k^2 C^2 w^2 m n, q^2 as in Theorem 2",
    verdict=FAILS,
    corrected="the ratio is upside down: ||H_O|| <= sqrt2 ||x||^2 q^2 (a^P b^L (L + 1) + P a^{P-1} b^{L+1})",
    amended=_upright,
    domain=headed,
    printed_domain=one_unit,
    counterexample={"x": [[[1]]], "kernels": [[[[[1]]]], [[0], [0]]]},
    share=0.3,
)
def head(case: Case) -> Evidence:
    """For p > L + 1 the proof has |G|^2 |R|^2 <= a^{P-1} b^{L+1} = a^P b^L (b / a), and prints a / b when it sums. With
    a head of zeros the printed bound is 0; dz/dW of the head is I (x) x^(1)^T, so |H_O| = |A| |x^(1)|^2 = 1/2 at two
    equal classes. The corrected sum is that of the proof, with |Q^(p)| = 1 <= q for the dense layers."""
    first, a, b, L, P = head_constants(case)
    return at_most(
        norm_H=smooth(outer_product_norm, network_of(case)), printed=first * a**P * b**L * (L + 1 + P * a / b)
    )
