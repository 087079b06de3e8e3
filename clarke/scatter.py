"""How far estimates of layer traces scatter: variances in closed form, the probe count, the bias of unrolling."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import inf, nan
from typing import Any

import numpy as np

from .blocks import HessianBlocks, hessian_blocks
from .kinks import TOL
from .linearization import Layout
from .network import Network
from .traces import count_of, kurtosis_of, layer_traces, names_of

# ---------------------------------------------------------------- sharing


def unrolling_bias(
    network: Network,
    *,
    names: Iterable[str] | None = None,
    pattern: str | None = None,
    weights: Mapping[str, float] | None = None,
    tol: float = TOL,
) -> dict[Any, Any]:
    """name -> sum_a tr H_{aa} - tr H = - sum_{a != b} tr H_{ab}, a and b running over the places where it is used.

    The bias of a trace estimator that gives every use of a shared parameter a copy of its own [BK26]; either sign, and
    0 for a parameter used once. (theta_a - theta_b)^2 / 2 with both tied has bias 2. Exact, hence as costly as
    `layer_traces(method="exact")` of both networks; the positions of a convolution are one use. Raises as that does.
    """
    blocks = hessian_blocks(network, pattern=pattern, weights=weights, tol=tol)
    names = names_of(network, names)
    free, copies = unrolled(network, names)
    shared = [name for name in names if len(copies[name]) > 1]
    bias = dict.fromkeys(names, 0.0)
    if shared:
        element = blocks.weights if set(blocks.weights) != {""} else None
        tied = layer_traces(network, method="exact", names=shared, tol=tol, weights=element).estimate
        every = [copy for name in shared for copy in copies[name]]
        apart = layer_traces(free, method="exact", names=every, tol=tol, weights=element).estimate
        for name in shared:
            bias[name] = sum(apart[copy] for copy in copies[name]) - tied[name]
    return bias


def unrolled(network: Network, names: Iterable[str]) -> tuple[Network, dict[str, list[Any]]]:
    """(the network with a copy of each of the names for every use, name -> the names of its copies)."""
    free, copies = Network(), {name: [] for name in names}
    taken = set(network.dag.nodes)

    def renamed(parents):
        found = []
        for parent in parents:
            if parent in copies:
                if copies[parent]:
                    copy = f"{parent} (copy {len(copies[parent]) + 1})"
                    while copy in taken:
                        copy = f"({copy})"
                    taken.add(copy)
                    declare(copy, parent)
                else:
                    copy = parent
                copies[parent].append(copy)
                parent = copy
            found.append(parent)
        return found

    def declare(name, original):
        kind = network.dag.nodes[original]["kind"]
        (free.input if kind == "input" else free.parameter)(name, network.value(original))

    for name, data in network.dag.nodes(data=True):
        if data["kind"] == "node":
            free.node(name, data["fun"], *renamed(data["parents"]))
        else:
            declare(name, name)
    for _, fun, parents in network.losses:
        free.loss(fun, *renamed(parents))
    return free, copies


# ---------------------------------------------------------------- variances


def trace_variance(
    blocks: HessianBlocks,
    names: Iterable[str] | None = None,
    *,
    distribution: str = "rademacher",
    kurtosis: float | None = None,
    probes: int = 1,
    per_layer: bool = False,
) -> np.ndarray:
    """(k, k): the covariances of Hutchinson's estimates of the traces of k parameters, at a fixed Hessian.

        Var t_l = 2 |H_ll|_F^2 + (kappa - 3) sum_i (H_ll)_ii^2 + sum_{m != l} |H_lm|_F^2,    Cov(t_l, t_m) = |H_lm|_F^2,

    over the number of probes, for entries independent, of mean 0, variance 1 and E z^4 = kappa: 1 for Rademacher, 3 for
    Gaussian [BK26]. The probe covers the names, by default every parameter; with `per_layer` each has a probe of its
    own, and nothing crosses. blocks: a `HessianBlocks`, or one of its parts. Forms its dense matrix over the names.
    ValueError for anything else, unknown names, a kurtosis below 1, or fewer probes than 1.
    """
    if not isinstance(blocks, HessianBlocks):
        raise ValueError(f"blocks must be a clarke.HessianBlocks; got {type(blocks).__name__}")
    kappa, names = kurtosis_of(distribution, kurtosis), names_of(blocks.network, names)
    probes = count_of(probes)
    starts = Layout(blocks.network, names).starts
    squares = np.square(blocks.dense(names))
    between = np.add.reduceat(np.add.reduceat(squares, starts, axis=0), starts, axis=1)
    diagonal = np.add.reduceat(np.diagonal(squares), starts)
    own = 2.0 * np.diagonal(between) + (kappa - 3.0) * diagonal
    if per_layer:
        return np.diag(own) / probes
    covariance = np.array(between)
    np.fill_diagonal(covariance, own + between.sum(axis=1) - np.diagonal(between))
    return covariance / probes


@dataclass(frozen=True)
class ProbeCount:
    """The variance of Hutchinson's estimate of one layer's trace, on a random mini-batch, with K probes of that batch:

        Var = sampling + probe / K,    sampling = Var_B(tr H_B),    probe = E_B[V(H_B)],    critical = probe / sampling,

    V(H) the variance at a fixed Hessian (`trace_variance`). At K = critical both are equal; beyond it, probes reduce
    what is already the smaller. inf where sampling is 0, nan where both are.
    """

    name: str
    batch_size: int
    sampling: float
    probe: float
    critical: float

    def variance(self, probes: int) -> float:
        """The total variance with so many probes."""
        return self.sampling + self.probe / probes


def probe_count(
    samples: Iterable[Any],
    name: str,
    *,
    batch_size: int,
    replacement: bool = True,
    distribution: str = "rademacher",
    kurtosis: float | None = None,
    per_layer: bool = False,
) -> ProbeCount:
    """K* for the trace of one layer, from the Hessians of the loss on single samples.

    samples: one `Network` (or `HessianBlocks`, at a kink) for each sample of the data set, all with the same
    parameters; a generator will do. The loss of a batch must be the mean over its samples: batch normalization is not
    covered. With H_i of sample i, mean Hbar, and sigma^2 = Var_i tr H_i, a batch of B has

        sampling = sigma^2 / B,    probe = V(Hbar) + E_i V(H_i - Hbar) / B,
        K* = (B V(Hbar) + E_i V(H_i - Hbar)) / sigma^2,

    linear in the batch size [BK26]. Without replacement both 1 / B become (N - B) / (B (N - 1)). V has the cross-layer
    term unless `per_layer`. Where every probe draws a batch of its own the variance is (sampling + probe) / K and there
    is no K*. ValueError for no samples, samples whose parameters differ in shape, or a batch size out of range.
    """
    kappa = kurtosis_of(distribution, kurtosis)
    if isinstance(batch_size, bool) or not isinstance(batch_size, int | np.integer) or batch_size < 1:
        raise ValueError(f"batch_size is an int, at least 1; got {batch_size!r}")
    N, mean, spread, traces, shapes = 0, None, 0.0, [], None
    for blocks in samples:
        blocks = blocks if isinstance(blocks, HessianBlocks) else hessian_blocks(blocks)
        every = blocks.network.parameters
        if name not in every:
            raise ValueError(f"no parameter {name!r}; sample {N} has {', '.join(every)}")
        found = [(other, blocks.network.value(other).shape) for other in every]
        if shapes is not None and found != shapes:
            raise ValueError(f"sample {N} has parameters {found}, the first {shapes}")
        shapes, N = found, N + 1
        others = () if per_layer else [other for other in every if other != name]
        rows = np.concatenate([blocks[name, name], *(blocks[name, other] for other in others)], axis=1)
        mean = np.zeros_like(rows) if mean is None else mean
        step = rows - mean  # Welford: V is quadratic, so its deviations add up like squares
        mean = mean + step / N
        spread += _row_variance(step, kappa) * (N - 1) / N
        traces.append(np.trace(rows[:, : len(rows)]))
    if mean is None:
        raise ValueError("samples is empty: one network for each sample of the data set")
    if not replacement and batch_size > N:
        raise ValueError(f"a batch of {batch_size} of {N} samples needs replacement")
    share = 1.0 / batch_size if replacement else (N - batch_size) / (batch_size * max(1, N - 1))
    sampling = float(np.var(traces) * share)
    probe = float(_row_variance(mean, kappa) + spread / N * share)
    critical = probe / sampling if sampling else inf if probe else nan
    return ProbeCount(name, int(batch_size), sampling, probe, critical)


def _row_variance(rows, kappa):
    """V of one layer from its rows (p, P) of the Hessian, its own block first."""
    own = rows[:, : len(rows)]
    return np.sum(rows**2) + np.sum(own**2) + (kappa - 3.0) * np.sum(np.diagonal(own) ** 2)
