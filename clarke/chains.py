"""Chains of layers at one sample: which networks have the factors of `factors`, and which of their ties matter.

A chain leads from one input through convolutions and dense layers, with relu, poolings and reshapes after them, to
logits whose loss is the softmax cross-entropy. Only its parameters move here. A tie between functions that are equal
however they move, such as two windows on an empty corner of an image, is then no kink (`_only_mute_ties`).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import layers
from .convolution import Windows
from .elements import AGREE, KinkError, elements_at
from .fan import fan_of, pattern_along
from .kinks import TOL, germ, text
from .linearization import Linearization, Step, linearize
from .local import carried
from .network import Network
from .restriction import TooManyChambers
from .skeleton import skeleton

WEIGHTED = {layers.affine: "dense", layers.conv1d: "convolution", layers.conv2d: "convolution"}
BETWEEN = {
    layers.relu: "relu",
    layers.linear: "linear",
    layers.reshape: "reshape",
    layers.max_pool1d: "max",
    layers.max_pool2d: "max",
    layers.average_pool1d: "average",
    layers.average_pool2d: "average",
}
CROSS_ENTROPY = layers.cross_entropy(np.ones((1, 1))).func


# ---------------------------------------------------------------- a chain at one sample


@dataclass(frozen=True, eq=False)
class Between:
    """One operation of a Lambda: kind in `BETWEEN`, its step, the shape (1, ...) of its input; windows of a pooling."""

    kind: str
    step: Step
    shape: tuple[int, ...]
    windows: Windows | None

    @property
    def output(self) -> tuple[int, int]:
        """The shape of its output."""
        return self.step.local.push(0, np.zeros((1, *self.shape))).shape[1:]

    @property
    def size(self) -> int:
        """The number of entries of its input."""
        return prod(self.shape)


@dataclass(frozen=True, eq=False)
class Layer:
    """Layer p: kind "dense" or "convolution", its step, names (W[, b]) of its parameters and their arrays; value
    (1, ...), what it reads, x when flat; shape (1, ...), of its output; windows, one of a dense layer; sides, 1 or 2 of
    a convolution, else 0; between, the operations of Lambda^(p).
    """

    kind: str
    step: Step
    names: tuple[str, ...]
    weights: np.ndarray
    bias: np.ndarray | None
    value: np.ndarray
    shape: tuple[int, ...]
    windows: Windows
    sides: int
    between: tuple[Between, ...]

    @property
    def x(self) -> NDArray[np.float64]:
        """x^(p-1), flat."""
        return self.value.ravel()

    @property
    def places(self) -> int:
        """d_p: the number of windows."""
        return prod(self.windows.out)

    @property
    def fan(self) -> tuple[int, int, int]:
        """(C_in, C_out, k): channels, those of a dense layer its units, and taps."""
        outer, inner = self.weights.shape[:2]
        return inner, outer, prod(self.windows.window)


@dataclass(frozen=True, eq=False)
class Chain:
    """A network at one sample: its layers, the linearization they come from, the logits' probabilities p (C,)."""

    layers: tuple[Layer, ...]
    lin: Linearization
    probabilities: np.ndarray

    @property
    def size(self) -> int:
        """The number of parameters."""
        return sum(layer.weights.size + (0 if layer.bias is None else layer.bias.size) for layer in self.layers)

    @property
    def root(self) -> NDArray[np.float64]:
        """S (C, C) with S S^T = A = diag(p) - p p^T: column j is sqrt(p_j) (e_j - p)."""
        return centered(self.probabilities) * np.sqrt(self.probabilities)


def centered(p: np.ndarray) -> NDArray[np.float64]:
    """I - p 1^T (C, C) of probabilities: 1 - p_j is the sum of the others, so that a confident p loses no digits."""
    found = np.repeat(-p[:, None], len(p), axis=1)
    np.fill_diagonal(found, (1.0 - np.eye(len(p))) @ p)
    return found


def chain_at(network: Network, x: ArrayLike | None = None, *, pattern: str | None = None, tol: float = TOL) -> Chain:
    """The network at one sample x, of the input's shape without axis 0 (by default its own, if that is one sample).

    ValueError for a network that is not a chain of convolutions, dense layers, relu, poolings and reshapes from one
    input to at least two logits, each layer with parameters of its own, and for a loss on it other than cross-entropy
    (losses of parameters alone are no part of H_O). `KinkError`, naming units, at a kink, unless every piece that meets
    here as the parameters move has the same Jacobian in them, or `pattern` is given: a letter for each active kink of
    the loss of the network with the one sample, in its input and parameters. Ties of equal functions of the parameters
    are no kinks here: an empty corner of an image ties in every pooling window.
    """
    single, calls, logits = _one_sample(network, x)
    if pattern is not None:
        _, ((_, lin),), _, _ = elements_at(single, pattern, None, None, tol)
        return _chain(single, lin, calls, logits)
    if _only_mute_ties(single, calls, tol):
        return _chain(single, linearize(single), calls, logits)
    return _agreeing(single, calls, logits, tol)


def _agreeing(single, calls, logits, tol):
    """The chain on one piece, when all that meet have one Jacobian in the parameters; else `KinkError`.

    Pieces along a few directions are compared first: at most kinks two of them differ, and listing all can be long.
    """
    here = germ(single.function(), single.point(), tol=tol)
    if not here.kinks:
        return _chain(single, linearize(single), calls, logits)
    names = ", ".join(kink.name for kink in here.kinks[:12])
    names += f" and {len(here.kinks) - 12} more" if len(here.kinks) > 12 else ""
    way = "pass pattern=, a letter for each kink of the loss at this sample alone, in its input and parameters"
    skel, found = skeleton(here), []

    def compare(patterns):
        _, elements, _, _ = elements_at(single, None, dict.fromkeys(patterns, 1.0 / len(patterns)), here.kinks, tol)
        for _, lin in elements:
            chain = _chain(single, lin, calls, logits)
            rows = dict(rows_of(chain))
            found.append((chain, rows))
            first = found[0][1]
            if len(found) > 1:
                found.pop()
            for name, J in rows.items():
                if np.abs(J - first[name]).max() > AGREE * np.abs(first[name]).max():
                    raise KinkError(
                        f"the Jacobian in {name!r} differs between the pieces that meet at {names}; {way}", here.kinks
                    )

    directions = np.random.default_rng(0).standard_normal((3, here.x.size))
    compare(sorted({text(pattern_along(skel, direction)) for direction in (None, *directions)}))
    try:
        fan = fan_of(skel)
    except TooManyChambers as error:
        raise KinkError(f"{error.count} pieces or more meet at {names}; {way}", here.kinks) from error
    if not fan.complete:
        raise KinkError(f"the list of pieces that meet at {names} is incomplete ({fan.reason}); {way}", here.kinks)
    compare(fan.patterns)
    return found[0][0]


def _core(fun):
    """(function, keywords) of a partial without positional arguments."""
    keywords = {}
    while isinstance(fun, partial) and not fun.args:
        keywords = {**fun.keywords, **keywords}
        fun = fun.func
    return fun, keywords


def read_chain(network: Network) -> tuple[str, list[tuple[Any, ...]], str]:
    """(input, calls, logits): calls (name, kind, fun, parents) from the input to the node of the logits."""
    if not isinstance(network, Network):
        raise ValueError(f"network must be a clarke.Network; got {type(network).__name__}")
    nodes, dag = network.dag.nodes, network.dag
    heads = [(fun, parents) for _, fun, parents in network.losses if set(parents) - {*network.parameters}]
    for fun, parents in heads:
        if _core(fun)[0] is not CROSS_ENTROPY:
            raise ValueError(f"H_O needs the softmax cross-entropy; the loss of {', '.join(parents)} is another")
    ends = {p for _, parents in heads for p in parents} or {name for name in network.nodes if not dag.out_degree(name)}
    if len(ends) != 1:
        raise ValueError(f"H_O needs one node of logits; got {', '.join(sorted(ends)) or 'none'}")
    (logits,) = ends
    calls, name, taken = [], logits, set()
    while nodes[name]["kind"] == "node":
        fun, parents = nodes[name]["fun"], nodes[name]["parents"]
        kinds = WEIGHTED | BETWEEN
        kind = next((kind for known, kind in kinds.items() if known is _core(fun)[0]), None)
        if kind is None:
            known = ", ".join(sorted(f.__name__ for f in kinds))
            raise ValueError(f"node {name!r} is not one of {known}: a chain of these has the factors")
        own = parents[1:]
        if set(own) - {*network.parameters} or taken & {*own} or len({*own}) < len(own):
            raise ValueError(f"node {name!r} needs parameters of its own; its parents are {', '.join(parents)}")
        taken |= {*own}
        calls.append((name, kind, fun, parents))
        name = parents[0]
    if nodes[name]["kind"] != "input" or not taken:
        raise ValueError(f"a chain leads from an input through layers with parameters; this one begins at {name!r}")
    return name, calls[::-1], logits


def _one_sample(network, x):
    """The chain alone as a network of one sample, its calls, and the name of the logits (1, C)."""
    source, calls, logits = read_chain(network)
    whole = network.value(source)
    if x is None:
        if len(whole) != 1:
            raise ValueError(f"the network holds {len(whole)} samples; pass x, one of shape {whole.shape[1:]}")
        x = whole[0]
    x = layers.constant("x", x)
    if x.shape != whole.shape[1:]:
        raise ValueError(f"x is one sample of shape {whole.shape[1:]}; got {x.shape}")
    single = Network()
    single.input(source, x[None])
    for name, kind, fun, parents in calls:
        for parameter in parents[1:]:
            single.parameter(parameter, network.value(parameter))
        single.node(name, fun, *parents)
        if kind == "dense" and single.value(parents[0]).ndim != 2:
            raise ValueError(f"dense layer {name!r} needs one row a sample; {single.value(parents[0]).shape[1:]} came")
    shape = single.value(logits).shape
    if (classes := prod(shape)) < 2:
        raise ValueError(f"softmax needs at least two logits; {logits!r} has one")
    if len(shape) != 2:
        flat = "logits"
        while flat in single.dag:
            flat += "'"
        single.node(flat, layers.reshape, logits)
        calls, logits = [*calls, (flat, "reshape", layers.reshape, (logits,))], flat
    single.loss(layers.cross_entropy(np.eye(1, classes)), logits)
    return single, calls, logits


def _chain(single, lin, calls, logits):
    found, groups = [], []
    for call in calls:
        if call[1] in WEIGHTED.values():
            groups.append((call, []))
        elif groups:
            groups[-1][1].append(call)
    for (name, kind, fun, parents), after in groups:
        step, value, out = lin.steps[lin.numbers[name]], single.value(parents[0]), single.value(name)
        own = [single.value(parameter) for parameter in parents[1:]]
        windows = Windows((1, 1), (1, 1), (1, 1), (0, 0))
        if kind == "convolution":
            windows = _windows(value.shape, own[0].shape[2:], **_core(fun)[1])
        between = []
        for other, what, function, (above,) in after:
            before = single.value(above)
            pooled = _pooling(before.shape, **_core(function)[1]) if what in ("max", "average") else None
            between.append(Between(what, lin.steps[lin.numbers[other]], before.shape, pooled))
        bias = own[1] if len(own) == 2 else None
        sides = value.ndim - 2 if kind == "convolution" else 0
        found.append(Layer(kind, step, parents[1:], own[0], bias, value, out.shape, windows, sides, tuple(between)))
    z = single.value(logits).ravel()
    p = np.exp(z - z.max())
    return Chain(tuple(found), lin, p / p.sum())


def _windows(shape, window, stride=1, padding=0):
    """The `Windows` of (1, C, T) or (1, C, H, W); what does not fit was refused by the layer itself."""
    if len(shape) == 3:
        return Windows((1, shape[2]), (1, _pair(window)[1]), (1, _pair(stride)[1]), (0, _pair(padding)[1]))
    return Windows((shape[2], shape[3]), _pair(window), _pair(stride), _pair(padding))


def _pair(value):
    """(rows, columns) of an int, of one int in a sequence, or of two."""
    down, right = np.broadcast_to(value, 2)
    return int(down), int(right)


def _pooling(shape, size, stride=None, padding=0):
    return _windows(shape, size, size if stride is None else stride, padding)


def entries(windows: Windows) -> np.ndarray:
    """(places, taps): which entry of a flat image (H, W) each tap of each window reads; -1 where that is padding."""
    image = np.full(windows.padded, -1)
    (up, left), (high, wide) = windows.padding, windows.size
    image[up : up + high, left : left + wide] = np.arange(high * wide).reshape(high, wide)
    return np.stack([image[rows, columns].ravel() for _, _, rows, columns in windows.taps], axis=1)


# ---------------------------------------------------------------- ties of equal functions


def _only_mute_ties(single, calls, tol):
    """Is every tie, to tol, one of functions that are equal however the parameters move, x fixed?

    Entries get labels: equal labels, equal functions of the parameters near this point; 0, the zero function. Scales
    are bounded from above, so that False may mean no tie at all.
    """
    if not (isinstance(tol, float | int | np.floating) and 0 <= tol < 1):
        raise ValueError(f"tol is relative to the scale of a guard, so 0 <= tol < 1; got {tol!r}")
    sizes = {name: np.abs(single.value(name)) for name in single.inputs + single.parameters}
    begin = next(k for k, (_, kind, _, _) in enumerate(calls) if kind in WEIGHTED.values())
    first = single.value(calls[begin][3][0])  # fixed: no parameter is above
    sizes[calls[begin][3][0]] = np.abs(first)
    labels = np.where(first == 0, 0, 1 + np.unique(first, return_inverse=True)[1].reshape(first.shape)).ravel()
    for name, kind, fun, parents in calls[begin:]:
        values, around, keywords = [single.value(p) for p in parents], [sizes[p] for p in parents], _core(fun)[1]
        sizes[name] = _magnitude(fun)(values, around)
        a, size = values[0].ravel(), around[0].ravel()
        if kind in ("dense", "convolution"):
            outer, biased, seen = len(values[1]), len(values) == 3, labels[None]
            if kind == "convolution":
                seen = _seen(labels, _windows(values[0].shape, values[1].shape[2:], **keywords))
            rows = _numbered(seen, biased)
            labels = np.where(rows == 0, 0, rows + (rows.max() + 1) * np.arange(outer)[:, None]).ravel()
        elif kind == "relu":
            if np.any((np.abs(a) <= 4.0 * tol * size) & (labels != 0)):
                return False
            labels = np.where(a > 0, labels, 0)
        elif kind in ("max", "average"):
            windows = _pooling(values[0].shape, **keywords)
            table, pixels = entries(windows), prod(windows.size)
            index = (np.arange(0, len(a), pixels)[:, None, None] + table).reshape(-1, table.shape[1])
            padded = np.broadcast_to(table < 0, (len(a) // pixels, *table.shape)).reshape(index.shape)
            if kind == "average":
                labels = _numbered(np.sort(np.where(padded, 0, labels[index]), axis=1), False)
                continue
            seen = np.where(padded, -np.inf, a[index])
            best = index[np.arange(len(index)), np.argmax(seen, axis=1)][:, None]
            near = ~padded & (a[best] - a[index] <= 4.0 * tol * (size[best] + size[index]))
            if np.any(near & (labels[index] != labels[best])):
                return False
            labels = labels[best[:, 0]]
    return True


def _magnitude(fun) -> Callable[..., Any]:
    """What the closed form of a layer of `WEIGHTED` or `BETWEEN` says of the sizes of its terms."""
    found = carried(fun, "magnitude")
    assert found is not None
    return found


def _seen(labels, windows):
    """(places, C taps): the labels in each patch, 0 for padding."""
    table, channels = entries(windows), labels.reshape(-1, prod(windows.size))
    return np.where(table < 0, 0, channels[:, table]).swapaxes(0, 1).reshape(len(table), -1)


def _numbered(rows, biased):
    """(n,): equal numbers for equal rows, from 1; 0 for rows of zeros, unless biased."""
    found = 1 + np.unique(rows, axis=0, return_inverse=True)[1].ravel()
    return found if biased else np.where(rows.any(axis=1), found, 0)


# ---------------------------------------------------------------- its Jacobian


def rows_of(chain: Chain) -> Iterator[tuple[str, NDArray[np.float64]]]:
    """(parameter, S^T J (C, its size)) from the last layer to the first, one pull of C rows in all."""
    c = logit_rows(chain, chain.root.T)
    for layer in reversed(chain.layers):
        for other in reversed(layer.between):
            c = other.step.local.pull(0, c)
        for i, name in enumerate(layer.names, 1):
            yield name, layer.step.local.pull(i, c).reshape(len(c), -1)
        if layer is not chain.layers[0]:
            c = layer.step.local.pull(0, c)


def scaled_rows(chain: Chain) -> list[np.ndarray]:
    """S^T J by parameter, (C, its size) each, in the order of the layers: H_O is its square."""
    found = dict(rows_of(chain))
    return [found[name] for layer in chain.layers for name in layer.names]


def logit_rows(chain: Chain, rows: np.ndarray) -> NDArray[np.float64]:
    """rows (R, C) as cotangents of what leaves Lambda^(L+1)."""
    last = chain.layers[-1]
    shape = last.between[-1].output if last.between else last.shape
    return rows.reshape(len(rows), *shape)
