"""Claims of the abstract of Bolshim and Kugaevskikh (2026) on the stochastic trace of layers.

Nothing is drawn: averages run over all sign vectors, and over all mini-batches, so that equality is demanded.
"""

from collections.abc import Callable
from itertools import pairwise, product
from typing import TYPE_CHECKING, Any

import autograd.numpy as np
import numpy as onp
from numpy.random import Generator

from clarke import hessian_blocks, layer_traces, mlp, probe_count, recurrent, trace_variance, unrolling_bias

from .references import brute_force, dyadic, second
from .statements import HOLDS, UNTESTABLE, Case, claim, equal

if TYPE_CHECKING:
    from ..network import Network

PAPER, PLACE = "bolshim2026trace", "abstract"


def signs(n: int) -> Any:
    """All 2^n sign vectors."""
    return onp.array(list(product((-1.0, 1.0), repeat=n))).reshape(-1, n)


def net(case: Case, sample: Any = slice(None)) -> Any:
    """A dense network without biases on the samples asked for, loss the mean of |y - t|^2 / 2."""
    sizes = tuple(int(width) for width in case["widths"])
    count = sum(a * b for a, b in pairwise(sizes))
    return mlp(
        sizes,
        activation=case["activation"],
        loss="squared",
        bias=False,
        inputs=onp.array(case["x"], float)[sample, : sizes[0]],
        targets=onp.array(case["t"], float)[sample, : sizes[-1]],
        theta=onp.array(case["theta"], float)[:count],
    )


def draw_net(rng: Generator, samples: Any = 2) -> Any:
    shallow = [(1, 1, 1), (2, 1, 1), (1, 2, 1), (1, 1, 2), (1, 1, 1, 1)]
    return {
        "widths": shallow[int(rng.integers(0, len(shallow)))],
        "activation": str(rng.choice(["linear", "tanh", "softplus"])),
        "theta": dyadic(rng, 4),
        "x": dyadic(rng, samples, 2),
        "t": dyadic(rng, samples, 2),
    }


def by_layer(network: "Network") -> Any:
    """The spans of the parameters in a flat vector."""
    ends = onp.cumsum([0, *(network.value(name).size for name in network.parameters)])
    return [slice(a, b) for a, b in pairwise(ends)]


def estimates(H: Any, spans: Any, probes: int) -> Any:
    """(probes, layers): z_l . (H z)_l"""
    found = probes * (probes @ H)
    return onp.stack([found[:, span].sum(1) for span in spans], axis=1)


@claim(
    "H1",
    paper=PAPER,
    place=PLACE,
    statement="A single Hessian-vector product over the whole parameter vector recovers unbiased estimates of every "
    "per-layer trace",
    verdict=HOLDS,
    domain=draw_net,
    cites=("hutchinson1990",),
)
def unbiased(case: Case) -> Any:
    """E z_l^T (Hz)_l = sum_m E z_l^T H_lm z_m = tr H_ll, as E z z^T = I. The average over all sign vectors, one
    product each, is the trace itself."""
    network = net(case)
    H, spans = brute_force(network, network.parameters), by_layer(network)
    every: Any = signs(network.size)
    found = layer_traces(network, method="hutchinson", probes=every).estimate
    return equal(averages=list(found.values()), traces=[onp.trace(H[span, span]) for span in spans])


@claim(
    "H2",
    paper=PAPER,
    place=PLACE,
    statement="A closed-form expression for the variance of the estimator at a fixed Hessian",
    verdict=HOLDS,
    domain=draw_net,
    cites=("hutchinson1990",),
)
def variance(case: Case) -> Any:
    """Signs: Var t_l = 2 sum_{i != j} (H_ll)_ij^2 + sum_{m != l} |H_lm|_F^2 and Cov(t_l, t_m) = |H_lm|_F^2: only
    products z_i z_j, i != j, vary, and distinct pairs are uncorrelated. Against the moments over all sign vectors."""
    network = net(case)
    H, spans = brute_force(network, network.parameters), by_layer(network)
    drawn = estimates(H, spans, signs(network.size))
    centred = drawn - drawn.mean(0)
    return equal(closed_form=trace_variance(hessian_blocks(network)), over_all_signs=centred.T @ centred / len(drawn))


def draw_recurrent(rng: Generator) -> Any:
    steps = int(rng.integers(1, 4))
    return {
        "x": dyadic(rng, steps),
        "t": dyadic(rng),
        "W": dyadic(rng),
        "U": dyadic(rng),
        "V": dyadic(rng),
        "activation": str(rng.choice(["linear", "tanh"])),
    }


def of_copies(case: Case, name: str) -> Callable[..., Any]:
    """The loss of h_s = a(x_s W + h_{s-1} U), y = V h_T, as a function of one copy of W or U a step."""
    slope = {"linear": lambda z: z, "tanh": np.tanh}[case["activation"]]

    def loss(copies):
        h = 0.0
        for step, x in enumerate(case["x"]):
            W, U = (copies[step] if name == other else case[other] for other in "WU")
            h = slope(x * W + h * U)
        return 0.5 * (case["V"] * h - case["t"]) ** 2 + 0.0 * np.sum(copies)

    return loss


@claim(
    "H3",
    paper=PAPER,
    place=PLACE,
    statement="Unrolling shared weights into independent coordinates introduces a systematic bias whose sign and "
    "magnitude are governed by the cross-instance blocks of the unrolled Hessian",
    verdict=HOLDS,
    domain=draw_recurrent,
)
def cross_instance_bias(case: Case) -> Any:
    """With A copying the shared weight to its uses, H_tied = A^T H A, so tr H_tied = sum_ab tr H_ab and the unrolled
    trace sum_a tr H_aa differs from it by -sum_{a != b} tr H_ab."""
    network = recurrent(
        1,
        inputs=onp.array(case["x"], float).reshape(1, -1, 1),
        targets=[[case["t"]]],
        activation=case["activation"],
        loss="squared",
        bias=False,
        theta=onp.array([case[name] for name in "WUV"], float),
    )
    bias, expected = unrolling_bias(network), []
    for name in "WU":
        copies = onp.full(len(case["x"]), case[name], dtype=float)
        H = second(of_copies(case, name), copies)
        expected.append(onp.trace(H) - H.sum())
    return equal(bias=[bias["W"], bias["U"]], minus_the_cross_blocks=expected)


def draw_batch(rng: Generator) -> Any:
    N = int(rng.integers(1, 4))
    case = draw_net(rng, samples=N)
    return {**case, "batch": int(rng.integers(1, 3)), "probes": int(rng.integers(1, 3))}


@claim(
    "H4",
    paper=PAPER,
    place=PLACE,
    statement="A decomposition of the total variance under the mini-batch sampling distribution yields a critical "
    "probe count K* that balances the two sources of randomness",
    verdict=HOLDS,
    domain=draw_batch,
)
def critical_probes(case: Case) -> Any:
    """Var T = Var_B(tr H_B) + E_B[V(H_B)] / K by the law of total variance, the batch the same for the K probes; both
    terms are equal at K* = E_B[V(H_B)] / Var_B(tr H_B). Against the variance over all batches drawn with replacement
    and all sign vectors of K probes."""
    N, B, K = len(case["x"]), case["batch"], case["probes"]
    nets = [net(case, slice(i, i + 1)) for i in range(N)]
    spans, probes = by_layer(nets[0]), signs(nets[0].size)
    H = onp.array([brute_force(each, each.parameters) for each in nets])
    found = probe_count(nets, "W1", batch_size=B)
    drawn, traces, within = [], [], []
    for batch in product(range(N), repeat=B):
        mean = H[list(batch)].mean(0)
        each = estimates(mean, spans, probes)[:, 0]
        repeats = onp.array(onp.meshgrid(*[each] * K)).reshape(K, -1)
        drawn.append(repeats.mean(0))
        traces.append(onp.trace(mean[spans[0], spans[0]]))
        within.append(each.var())
    sampling, probe = float(onp.var(traces)), float(onp.mean(within))
    balanced = sampling * found.critical if sampling > 1e-12 else probe
    return equal(
        split_and_sampling_at_K=[found.sampling, found.probe, found.variance(K), balanced],
        over_all_batches_and_signs=[sampling, probe, onp.var(drawn), probe],
    )


@claim(
    "H5",
    paper=PAPER,
    place=PLACE,
    statement="The decomposition supports the practical recommendation K in [5, 10] in the on-line monitoring regime",
    verdict=UNTESTABLE,
    reason="A recommendation, not a statement: the critical count K* = E_B[V(H_B)] / Var_B(tr H_B) is linear in the "
    "batch size and takes any value >= 0 as the network and its data vary.",
)
def recommendation(case: Case) -> None:
    """clarke.probe_count gives K* of a layer at hand."""
