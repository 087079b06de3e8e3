"""Builders of networks, and the embedded digits network."""

from functools import partial
from importlib.resources import files
from itertools import pairwise

import numpy as np

from clarke import layers
from clarke.layers import constant
from clarke.network import Network

_ACTIVATIONS = {
    "relu": layers.relu,
    "tanh": layers.tanh,
    "sigmoid": layers.sigmoid,
    "linear": layers.linear,
}
_LOSSES = {"squared": layers.squared_error, "cross_entropy": layers.cross_entropy}


def mlp(sizes, *, activation, loss, inputs, targets=None, bias=True, theta=None, rng=None) -> Network:
    """The multilayer perceptron z_l = h_{l-1} W_l^T + b_l, h_l = activation(z_l), y = z_L.

    sizes       (n_0, ..., n_L), L >= 1; W_l is (n_l, n_{l-1}), b_l (n_l,), absent without `bias`
    activation  "relu", "tanh", "sigmoid", "linear", or a function of z (N, n_l) of the same shape
    loss        "squared" | "cross_entropy" (see `clarke.layers`), None, or a function returning a
                scalar: of y when targets is None, else of y and targets
    inputs      (N, n_0); targets (N, n_L), or None where the loss takes none
    theta       the flat parameters, each W row by row, then its b; drawn with `rng` when None

    Names: input "x"; parameters "W1", "b1", ...; nodes "z1", "h1", ..., "y". Drawn weights are
    normal with variance 2 / n_{l-1} before a relu (He et al., ICCV 2015), 1 / n_{l-1} otherwise;
    drawn biases are 0. ValueError for anything that does not fit, or a missing rng.
    """
    sizes = _sizes(sizes)
    act = _choose("activation", activation, _ACTIVATIONS)
    inputs = constant("inputs", inputs)
    if inputs.ndim != 2 or inputs.shape[1] != sizes[0]:
        raise ValueError(f"inputs must have shape (N, {sizes[0]}); got {inputs.shape}")
    head = _head(loss, targets, (len(inputs), sizes[-1]))
    shapes = [shape for n, m in pairwise(sizes) for shape in [(m, n), (m,)][: 1 + bool(bias)]]
    arrays = _draw(shapes, activation, rng) if theta is None else _unflatten(theta, shapes)

    network = Network()
    network.input("x", inputs)
    above, depth = "x", len(sizes) - 1
    for layer in range(1, depth + 1):
        names = [f"W{layer}", f"b{layer}"][: 1 + bool(bias)]
        for name in names:
            network.parameter(name, arrays.pop(0))
        network.node("y" if layer == depth else f"z{layer}", layers.affine, above, *names)
        if layer < depth:
            network.node(above := f"h{layer}", act, f"z{layer}")
    if head is not None:
        network.loss(head, "y")
    return network


def digits() -> Network:
    """A trained 3-12-12-10 ReLU network without biases at a point where all its kinks meet.

    It reads handwritten digits from their first three principal components, the mean image being
    the origin, and stands there: x = zeros (1, 3), so that every pre-activation is 0. The loss is
    the cross-entropy of the digit whose mean is nearest the mean image. Weights are multiples of
    2^-10; `examples/train_digits.py` made them.
    """
    with (files("clarke") / "data" / "digits.npz").open("rb") as file:
        data = dict(np.load(file, allow_pickle=False))
    weights = [data[f"W{layer}"] for layer in (1, 2, 3)]
    return mlp(
        (3, 12, 12, 10),
        activation="relu",
        loss="cross_entropy",
        inputs=np.zeros((1, 3)),
        targets=np.eye(10)[[int(data["target"])]],
        bias=False,
        theta=np.concatenate([W.ravel() for W in weights]),
    )


def _sizes(sizes):
    given, sizes = sizes, tuple(sizes)
    whole = all(isinstance(n, int | np.integer) and n >= 1 for n in sizes)
    if len(sizes) < 2 or not whole:
        raise ValueError(f"sizes are at least two integers >= 1; got {given!r}")
    return sizes


def _choose(role, given, known):
    if isinstance(given, str) and given in known:
        return known[given]
    if callable(given):
        return given
    raise ValueError(f"{role} is a function or one of {', '.join(known)}; got {given!r}")


def _head(loss, targets, shape):
    if targets is not None:
        targets = constant("targets", targets)
        if targets.shape != shape:
            raise ValueError(f"targets must have shape {shape}; got {targets.shape}")
    if loss is None:
        return None
    chosen = _choose("loss", loss, _LOSSES)
    if chosen is loss:
        return loss if targets is None else partial(_of_both, loss=loss, targets=targets)
    if targets is None:
        raise ValueError(f"the {loss} loss needs targets of shape {shape}; got None")
    return chosen(targets)


def _of_both(y, *, loss, targets):
    return loss(y, targets)


def _draw(shapes, activation, rng):
    if not isinstance(rng, np.random.Generator):
        raise ValueError(f"pass theta, or rng (a numpy Generator) to draw it; got rng={rng!r}")
    gain = 2.0 if activation in ("relu", layers.relu) else 1.0

    def drawn(shape):
        if len(shape) == 1:
            return np.zeros(shape)
        return rng.normal(scale=np.sqrt(gain / shape[1]), size=shape)

    return [drawn(shape) for shape in shapes]


def _unflatten(theta, shapes):
    theta, sizes = constant("theta", theta), [int(np.prod(shape)) for shape in shapes]
    if theta.shape != (sum(sizes),):
        raise ValueError(f"theta must have shape ({sum(sizes)},); got {theta.shape}")
    pieces = np.split(theta, np.cumsum(sizes)[:-1])
    return [piece.reshape(shape) for piece, shape in zip(pieces, shapes, strict=True)]
