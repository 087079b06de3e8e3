"""Stochastic nodes by reparametrization: derivatives of an expected loss.

A stochastic node has the value mu + sigma o eps, eps standard normal, o and / entrywise; F(mu) = E L(mu + sigma o eps).
F is smooth even where L has kinks. Two estimates of its Hessian:

    pathwise    E[nabla^2 L(mu + sigma o eps)]
    stein       E[grad L(mu + sigma o eps) (eps / sigma)^T],   symmetrized

Stein's holds for every locally Lipschitz L whose gradient grows no faster than a polynomial: grad F = E grad L, since
L is differentiable almost everywhere, and then the normal density is differentiated: entry j of eps / sigma is
d/dmu_j of the logarithm of the density of mu + sigma o eps. The pathwise one needs L to be C^{1,1} in mu, beside such
growth. Where the gradient jumps it leaves out the integral of the jumps over the kinks: for L = |mu| it is 0, where
F'' = 2 phi(mu / sigma) / sigma. This corrects Theorem 6 (1) and Proposition 4 of [BK25], which have the pathwise form
for all networks.

[BK25] Bolshim, Kugaevskikh. Inter-layer Hessian of a network as a DAG (2025).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import selections
from .blocks import HessianBlocks
from .layers import constant
from .linearization import linearize
from .network import Network

METHODS = ("auto", "pathwise", "stein")


@dataclass(frozen=True, eq=False)
class ExpectedHessian:
    """Estimates of the Hessian (d, d) and gradient (d,) of mu -> E L(mu + sigma o eps), read-only, with the standard
    error of each entry. method: "pathwise" or "stein"; reason: why that one, and what it assumes; samples: how many
    independent draws of eps were averaged, each with its mirror image -eps for "stein".
    """

    hessian: np.ndarray
    stderr: np.ndarray
    gradient: np.ndarray
    gradient_stderr: np.ndarray
    method: str
    reason: str
    samples: int

    def __post_init__(self) -> None:
        for name in ("hessian", "stderr", "gradient", "gradient_stderr"):
            object.__setattr__(self, name, constant(name, getattr(self, name)))

    def __repr__(self) -> str:
        return f"ExpectedHessian(({len(self.hessian)}, {len(self.hessian)}), {self.method}, {self.samples} samples)"


def expected_hessian(
    network: Network, name: str, sigma: ArrayLike, *, samples: int, rng: np.random.Generator, method: str = "auto"
) -> ExpectedHessian:
    """The Hessian and gradient of mu -> E L(mu + sigma o eps), mu the value of the input, parameter or node `name`.

    The noise is added to the value of `name`, as in `hessian_blocks`: for a computed node, its ancestors stay, and
    whatever else they feed. Entries are in C order. Nothing else is noisy: what is noisy together must be one
    array.

    sigma: a number > 0, or an array of them that broadcasts to the shape of the value. samples: an int >= 2; rng: a
    numpy Generator. method: "pathwise", "stein" or "auto", which is "pathwise" if no piecewise operation lies between
    `name` and the loss, else "stein", even if the gradient happens not to jump. "stein" takes the pairs

        (grad L(mu + sigma o eps) - grad L(mu - sigma o eps)) (eps / 2 sigma)^T,

    free of the noise of grad L(mu) eps^T / sigma; its standard error still grows like 1 / sigma at a jump.

    A draw costs a linearization of what `name` reaches, and its Hessian block (pathwise) or one more linearization
    (stein); functions without closed forms are recorded anew each time. Raises ValueError for what does not fit, or a
    network without a loss, and what `from_function` raises for a function that cannot be recorded.
    """
    sigma = _checked(network, name, sigma, samples, rng, method)
    above = seen_from(network, name)
    kinked = _piecewise(above)
    chosen = ("stein" if kinked else "pathwise") if method == "auto" else method
    d, shape = sigma.size, sigma.shape
    means, spreads = (tuple(np.zeros(s) for s in ((d,), (d, d))) for _ in range(2))
    for count in range(1, samples + 1):  # Welford's recurrence
        terms = draw(above, name, sigma, rng.standard_normal(shape), chosen)
        for term, mean, spread in zip(terms, means, spreads, strict=True):
            step = term - mean
            mean += step / count
            spread += step * (term - mean)
    errors = [np.sqrt(spread / (samples - 1) / samples) for spread in spreads]
    reason = _reason(name, kinked, chosen, method != "auto")
    return ExpectedHessian(means[1], errors[1], means[0], errors[0], chosen, reason, int(samples))


def seen_from(network: Network, name: str) -> Network:
    """The part of the network that `name` reaches, a function of one parameter, `name`; what feeds it from elsewhere is
    an input, at its value. The derivatives of its loss in `name` are those of the network.
    """
    reached, needed, nodes = {name}, {name}, network.dag.nodes
    for node, data in nodes.data():  # parents were declared first
        if not reached.isdisjoint(data["parents"]):
            reached.add(node)
            needed.update(data["parents"])
    needed.update(parent for _, _, parents in network.losses for parent in parents)
    part = Network()
    for node, data in nodes.data():
        if node != name and node in reached:
            part.node(node, data["fun"], *data["parents"])
        elif node == name:
            part.parameter(name, network.value(name))
        elif node in needed:
            part.input(node, network.value(node))
    for _, fun, parents in network.losses:
        part.loss(fun, *parents)
    return part


def draw(
    network: Network, name: str, sigma: np.ndarray, eps: np.ndarray, method: str
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(gradient (d,), Hessian (d, d)), the terms of one draw eps; network: one that is `seen_from` name.

    The pieces at mu + sigma o eps are read off the values. But for draws of probability 0, a guard ties there only if
    its first two derivatives vanish with it, and then the pieces agree to second order.
    """
    mu, shift = network.value(name), sigma * eps

    def moved(value):
        return linearize(network.at(value.ravel()))

    if method == "pathwise":
        lin = moved(mu + shift)
        blocks = HessianBlocks(lin.network, {"": 1.0}, _elements=((1.0, lin),))
        return lin.adjoint(name).ravel(), blocks[name, name]
    plus, minus = (moved(mu + side * shift).adjoint(name).ravel() for side in (1.0, -1.0))
    outer = np.outer(plus - minus, (eps / (2.0 * sigma)).ravel())
    return (plus + minus) / 2.0, (outer + outer.T) / 2.0


def _piecewise(network):
    """The nodes and losses with piecewise operations of a network `seen_from` name."""
    operations = network.function().program.operations
    return tuple(dict.fromkeys(op.label or op.source for op in operations if op.name in selections.PIECEWISE))


def _reason(name, kinked, chosen, asked):
    where = ", ".join(kinked[:6]) + (", ..." if len(kinked) > 6 else "")
    if not kinked:
        smooth = f"no piecewise operation lies between {name!r} and the loss"
        return f"{smooth}: differentiation passes under the expectation" + (", either way" if asked else "")
    kinks = f"{where} {'is' if len(kinked) == 1 else 'are'} piecewise"
    if chosen == "stein":
        return f"{kinks}: Stein's identity holds though the gradient may jump, which a mean of Hessians would leave out"
    return f"asked for, though {kinks}: right only if the gradient does not jump there"


def _checked(network, name, sigma, samples, rng, method):
    """sigma in the shape of the value, or ValueError."""
    if not isinstance(network, Network):
        raise ValueError(f"network must be a clarke.Network; got {type(network).__name__}")
    if not network.losses:
        raise ValueError("the network declares no loss: add one with .loss")
    if not isinstance(name, str) or name not in network.dag:
        raise ValueError(f"no input, parameter or node {name!r}; the network has {', '.join(network.dag)}")
    if not isinstance(samples, int | np.integer) or isinstance(samples, bool) or samples < 2:
        raise ValueError(f"samples must be an integer >= 2, so that there is a standard error; got {samples!r}")
    if not isinstance(rng, np.random.Generator):
        raise ValueError(f"rng must be a numpy Generator; got {rng!r}")
    if method not in METHODS:
        raise ValueError(f"method is one of {', '.join(METHODS)}; got {method!r}")
    sigma, shape = constant("sigma", sigma), network.value(name).shape
    if (sigma <= 0).any():
        raise ValueError(f"sigma must be > 0; its least entry is {sigma.min():g}: freeze an entry outside {name!r}")
    if sigma.ndim > len(shape) or any(s not in (1, n) for s, n in zip(sigma.shape[::-1], shape[::-1], strict=False)):
        raise ValueError(f"sigma must broadcast to the shape {shape} of {name!r}; got {sigma.shape}")
    return np.broadcast_to(sigma, shape)
