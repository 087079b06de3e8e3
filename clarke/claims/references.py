"""Slow references, independent of the rooms they judge: brute force for networks, and small exact draws.

A network is read through dag, losses and value only: its loss as a function of additive perturbations of named arrays,
differentiated whole. Smooth points only: at a kink these are autograd's conventions, which are no truth.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import autograd.numpy as np
import numpy as onp
from numpy.random import Generator
from numpy.typing import NDArray

from clarke.primitives import grad, jacobian

if TYPE_CHECKING:
    from ..network import Network


def sizes(network: "Network", names: Iterable[str]) -> list[int]:
    """The numbers of entries of the named arrays."""
    return [network.value(name).size for name in names]


def zero(network: "Network", names: Iterable[str]) -> NDArray[Any]:
    """The point where nothing is perturbed, flat over `names`."""
    return onp.zeros(sum(sizes(network, names)))


def perturbed(network: "Network", names: Iterable[str]) -> Callable[..., Any]:
    """eps -> {name: array}: each array of the network, eps_v added to f_v for every v of `names`."""

    def values(eps):
        found, start = {}, 0
        shifts = {}
        for name in names:
            shape, size = network.value(name).shape, network.value(name).size
            shifts[name] = eps[start : start + size].reshape(shape)
            start += size
        for name, data in network.dag.nodes(data=True):  # parents were declared first
            if data["kind"] == "node":
                found[name] = data["fun"](*(found[parent] for parent in data["parents"]))
            else:
                found[name] = network.value(name)
            if name in shifts:
                found[name] = found[name] + shifts[name]
        return found

    return values


def loss_of(network: "Network") -> Callable[..., Any]:
    """{name: array} -> the sum of the losses."""
    return lambda values: sum(fun(*(values[parent] for parent in parents)) for _, fun, parents in network.losses)


def perturbed_loss(network: "Network", names: Iterable[str]) -> Callable[..., Any]:
    """eps -> the loss, a scalar."""
    values, loss = perturbed(network, names), loss_of(network)
    return lambda eps: loss(values(eps)) + 0.0 * np.sum(eps)


def second(f: Callable[..., Any], at: NDArray[Any]) -> NDArray[Any]:
    """The Hessian of a scalar function of one flat array; 0 * y keeps a constant gradient from warning."""
    return jacobian(lambda y: grad(f)(y) + 0.0 * y)(at)


def brute_gradient(network: "Network", names: Iterable[str]) -> NDArray[Any]:
    """delta: the total derivatives of the loss in eps_v, flat over `names`."""
    return grad(perturbed_loss(network, names))(zero(network, names))


def brute_force(network: "Network", names: Iterable[str]) -> NDArray[Any]:
    """H^f: d^2 loss / d eps_v d eps_w at 0, dense over `names` (inputs, parameters and nodes), C order, in order."""
    return second(perturbed_loss(network, names), zero(network, names))


def brute_jacobian(network: "Network", targets: Sequence[str], names: Iterable[str]) -> NDArray[Any]:
    """S: d (targets, flat) / d eps, dense: total derivatives, the identity where a target is perturbed itself."""
    values = perturbed(network, names)

    def flat(eps):
        found = values(eps)
        return np.concatenate([np.reshape(found[target], -1) for target in targets]) + 0.0 * np.sum(eps)

    return jacobian(flat)(zero(network, names))


def brute_loss_hessian(network: "Network") -> tuple[list[str], NDArray[Any]]:
    """(heads, K): the arrays the losses read, each once, and the direct Hessian of their sum there, dense."""
    heads = list(dict.fromkeys(parent for _, _, parents in network.losses for parent in parents))
    loss = loss_of(network)

    def direct(flat):
        found, start = {}, 0
        for head in heads:
            shape, size = network.value(head).shape, network.value(head).size
            found[head] = flat[start : start + size].reshape(shape)
            start += size
        return loss(found) + 0.0 * np.sum(flat)

    return heads, second(direct, onp.concatenate([network.value(head).ravel() for head in heads]))


def brute_parts(network: "Network", names: Iterable[str]) -> tuple[NDArray[Any], NDArray[Any]]:
    """(gauss_newton, tensor), dense over `names`: S^T K_loss S, and what is left of the Hessian."""
    heads, K = brute_loss_hessian(network)
    S = brute_jacobian(network, heads, names)
    gauss_newton = S.T @ K @ S
    return gauss_newton, brute_force(network, names) - gauss_newton


# ---------------------------------------------------------------- what domains draw


def dyadic(rng: Generator, *shape: int, top: int = 2, denominator: int = 4) -> NDArray[Any]:
    """Multiples of 1/denominator in [-top, top], shape (); exact in floating point, and so are their kinks."""
    found = rng.integers(-top * denominator, top * denominator + 1, size=shape or None)
    return found / denominator
