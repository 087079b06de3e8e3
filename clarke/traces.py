"""Layer traces tr H_{theta,theta}: exact, by sampled outputs, by Hutchinson's probes.

The exact ways and the sampled outputs are those of `curvature_sources`. Hutchinson's estimator has
t_theta = z_theta^T (H z)_theta, one probe z and one product with H for all layers at once: unbiased, but blurred by the
blocks between layers (`scatter.trace_variance`).

[H90] Hutchinson. Commun. Stat. Simul. Comput. 19 (1990) 433-450.  [BK26] Bolshim, Kugaevskikh. arXiv:2605.25674.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import nan, sqrt
from typing import TYPE_CHECKING, Any

import numpy as np

from .blocks import hessian_blocks
from .curvature_sources import columns_at_once, plan_of, read_by_losses, sampled_traces, traces_of_plan
from .kinks import TOL
from .linearization import Layout, curvature, tangents

if TYPE_CHECKING:
    from .network import Network

METHODS = ("auto", "exact", "ggn-mc", "hutchinson", "control-variate")
KURTOSES = {"rademacher": 1.0, "gaussian": 3.0}
EXACT = 128  # columns up to which "auto" takes the exact route, or twice the number of probes


@dataclass(frozen=True, eq=False)
class LayerTraces:
    """estimate, stderr: name -> float; samples: name -> (probes,), read-only, empty where nothing was drawn.

    stderr is the sample standard deviation over sqrt(probes): 0 for an exact trace, nan for a single probe. method: the
    one that was used; reason: why, in words. part: "hessian" or "gauss_newton".
    """

    estimate: Mapping[str, float]
    stderr: Mapping[str, float]
    samples: Mapping[str, np.ndarray]
    method: str
    reason: str
    part: str = "hessian"


def layer_traces(
    network: "Network",
    *,
    method: str = "auto",
    part: str = "hessian",
    names: Iterable[str] | None = None,
    probes: int = 10,
    distribution: str = "rademacher",
    per_layer: bool = False,
    rng: np.random.Generator | None = None,
    pattern: str | None = None,
    weights: Mapping[str, float] | None = None,
    tol: float = TOL,
) -> LayerTraces:
    """tr H_{theta,theta} of the network's loss, for each parameter theta.

    method   "exact"            columns of the outputs of curved nodes and losses, or of theta itself: the fewer
             "ggn-mc"           random signs in front of the output columns: one backward pass a probe for all layers,
                                no noise between layers, nor between samples that do not meet; of the Gauss-Newton part,
                                or of the Hessian where that has the same diagonal blocks
             "hutchinson"       z_theta^T (H z)_theta with one probe of all layers [BK26], or, if `per_layer`, one of
                                each; a probe is one product with H, or one a layer
             "control-variate"  the trace of the Gauss-Newton part, exact or by ggn-mc, plus Hutchinson's probes of the
                                tensor part. Better than "hutchinson" where the parts do not cancel: see stderr
             "auto"             exact where that takes at most 128 columns, or as many as the probes would; else ggn-mc
                                where the Gauss-Newton part has the traces asked for; else control-variate
    part     "hessian" or "gauss_newton"
    names    parameters and inputs; by default every parameter. A probe of Hutchinson's covers these names
    probes   how many, or the probes themselves, (probes, n), n the number of entries of the names; for "ggn-mc" of the
             arrays that the losses read, in order; they need mean 0, variance 1 and no correlation
    rng      a numpy Generator; needed where probes are drawn
    pattern, weights, tol   which element is meant at a kink, as in `hessian_blocks`. Of a million guards some come
             within the default tol of their kink by chance: lower it to watch a large network at many points

    A parameter used in several places is one array, and has one trace (see `unrolling_bias`). ggn-mc and exact factor
    the second derivatives of a loss, N D^2 numbers for D outputs a sample. Raises `KinkError` at a kink where elements
    differ and none is named; ValueError for a network without a loss, arguments outside the lists above, a missing rng,
    or "ggn-mc" of a Hessian whose traces have a tensor part.
    """
    if method not in METHODS:
        raise ValueError(f"method is one of {', '.join(METHODS)}; got {method!r}")
    if part not in ("hessian", "gauss_newton"):
        raise ValueError(f"part is 'hessian' or 'gauss_newton'; got {part!r}")
    if method == "control-variate" and part == "gauss_newton":
        raise ValueError("control-variate probes the tensor part: of the Gauss-Newton part take exact or ggn-mc")
    if per_layer and method != "hutchinson":
        raise ValueError(f"per_layer is a choice of method='hutchinson'; got method={method!r}")
    kurtosis_of(distribution)
    blocks = hessian_blocks(network, pattern=pattern, weights=weights, tol=tol)
    names = names_of(network, names)
    elements = blocks.mixture
    lin = elements[0][1]
    count = count_of(probes)
    most = max(EXACT, 2 * count)
    plan = plan_of(lin, names, part, {"exact": None, "auto": most}.get(method, 0))
    method, why = _chosen(method, part, plan, most)
    if method == "exact":
        found = _sum(
            [
                (w, traces_of_plan(other, plan if other is lin else plan_of(other, names, part)))
                for w, other in elements
            ],
            names,
        )
        return _exact_traces(found, why, part)

    def drawn(n, what):
        return _probes(probes, n, distribution, rng, method, what)

    if method == "ggn-mc":
        Z = drawn(read_by_losses(lin), "the arrays that the losses read")
        samples = _sum([(w, sampled_traces(lin, names, Z)) for w, lin in elements], names)
        return _from_samples(samples, method, why, part)
    Z = drawn(sum(network.value(name).size for name in names), ", ".join(names))
    if method == "hutchinson":
        samples = _sum([(w, _probed(lin, names, Z, part, per_layer)) for w, lin in elements], names)
        return _from_samples(samples, method, why, part)
    samples = _sum([(w, _probed(lin, names, Z, "tensor", False)) for w, lin in elements], names)
    base = plan_of(lin, names, "gauss_newton", most)
    if base.columns <= most:
        steady = _sum([(w, traces_of_plan(lin, plan_of(lin, names, "gauss_newton"))) for w, lin in elements], names)
        why += f"; the Gauss-Newton part exactly, by {base.columns} columns"
    elif isinstance(rng, np.random.Generator):
        signs = _draw(distribution, rng, (count, read_by_losses(lin)))
        steady = _sum([(w, sampled_traces(lin, names, signs)) for w, lin in elements], names)
        why += "; the Gauss-Newton part by sampled output directions"
    else:
        raise ValueError("rng is needed: the Gauss-Newton part is sampled; pass a numpy Generator")
    return _from_samples({name: samples[name] + steady[name] for name in names}, method, why, part)


def names_of(network: "Network", names: Iterable[str] | None) -> tuple[Any, ...]:
    free = network.inputs + network.parameters
    names = network.parameters if names is None else (names,) if isinstance(names, str) else tuple(names)
    if not names:
        raise ValueError(f"no names to take traces of; the network has {', '.join(free)}")
    unknown = [name for name in names if name not in free]
    if unknown:
        raise ValueError(f"no input or parameter {unknown[0]!r}; the network has {', '.join(free)}")
    if len(set(names)) < len(names):
        raise ValueError(f"names holds a name twice: {', '.join(names)}")
    return names


def kurtosis_of(distribution: str, kurtosis: Any = None) -> float:
    """E z^4 of the entries of a probe: 1 for "rademacher", 3 for "gaussian", or as given; ValueError below 1."""
    if distribution not in KURTOSES:
        raise ValueError(f"distribution is 'rademacher' or 'gaussian'; got {distribution!r}")
    if kurtosis is None:
        return KURTOSES[distribution]
    if not kurtosis >= 1:
        raise ValueError(f"kurtosis is E z^4 >= (E z^2)^2 = 1; got {kurtosis!r}")
    return float(kurtosis)


def count_of(probes: int) -> int:
    if isinstance(probes, int | np.integer) and not isinstance(probes, bool):
        if probes < 1:
            raise ValueError(f"probes is at least 1; got {probes}")
        return int(probes)
    given = np.asarray(probes)
    if given.ndim != 2 or not len(given):
        raise ValueError(f"probes is an int or an array (probes, n); got {probes!r:.60}")
    return len(given)


def _probes(probes, n, distribution, rng, method, what):
    """(probes, n): as given, or drawn."""
    if isinstance(probes, int | np.integer):
        if not isinstance(rng, np.random.Generator):
            raise ValueError(f"rng is needed: {method} draws its probes; pass a numpy Generator, got {rng!r}")
        return _draw(distribution, rng, (int(probes), n))
    given = np.asarray(probes, dtype=float)
    if given.shape != (len(given), n) or not np.isfinite(given).all():
        raise ValueError(f"probes of {what} are finite, of shape (probes, {n}); got shape {given.shape}")
    return given


def _draw(distribution, rng, shape):
    if distribution == "gaussian":
        return rng.standard_normal(shape)
    return 2.0 * rng.integers(0, 2, size=shape, dtype=np.int8) - 1.0


def _chosen(method, part, plan, most):
    """(method, reason)."""
    curved, columns = plan.curved, plan.columns
    where = (
        "the Gauss-Newton part has its curvature in the losses alone"
        if part == "gauss_newton"
        else "no path from a layer to itself is curved but in the losses, so H_ll is its Gauss-Newton part"
        if not curved
        else f"the tensor part may reach the diagonal blocks of {', '.join(curved[:3])}{', ...' if curved[3:] else ''}"
    )
    if method == "auto":
        if columns <= most:
            return "exact", f"{where}; every trace takes {columns} columns"
        method = "control-variate" if curved else "ggn-mc"
        return method, f"{where}; the exact traces take more than {most} columns"
    if method == "ggn-mc" and curved:
        raise ValueError(f"{where}: ask for part='gauss_newton', or take control-variate, hutchinson or exact")
    if method == "exact":
        return method, f"asked for; {where}; every trace takes {columns} columns"
    return method, f"asked for; {where}"


def _sum(weighted, names):
    return {name: sum(weight * found[name] for weight, found in weighted) for name in names}


def _exact_traces(found, why, part):
    nothing = np.zeros(0)
    nothing.flags.writeable = False
    return LayerTraces(
        {name: float(value) for name, value in found.items()},
        dict.fromkeys(found, 0.0),
        dict.fromkeys(found, nothing),
        "exact",
        why,
        part,
    )


def _from_samples(samples, method, why, part):
    for sample in samples.values():
        sample.flags.writeable = False
    return LayerTraces(
        {name: float(sample.mean()) for name, sample in samples.items()},
        {
            name: float(sample.std(ddof=1) / sqrt(len(sample))) if len(sample) > 1 else nan
            for name, sample in samples.items()
        },
        samples,
        method,
        why,
        part,
    )


# ---------------------------------------------------------------- Hutchinson


def _probed(lin, names, Z, part, per_layer):
    """name -> (probes,): z_l^T (H z)_l."""
    layout, few = Layout(lin.network, names), columns_at_once(lin, names)
    samples = {name: np.zeros(len(Z)) for name in names}
    together = [(name,) for name in names] if per_layer else [names]
    for start in range(0, len(Z), few):
        here = slice(start, min(start + few, len(Z)))
        seeds = layout.split(Z[here])
        for probed in together:
            rows = curvature(lin, tangents(lin, {name: seeds[name] for name in probed}), probed, part)
            for name in probed:
                if name in rows:
                    samples[name][here] = np.sum(seeds[name] * rows[name], axis=tuple(range(1, seeds[name].ndim)))
    return samples
