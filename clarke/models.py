"""Builders of networks, and the embedded digits network.

What the builders share: `activation` is the name of one in `clarke.activations` or a function of an array of the same
shape; `loss` is "squared", "cross_entropy", a function or None, as in `mlp`; `targets` (N, outputs), or else
`outputs`, says how many outputs the dense head y = h V^T + c has; `bias=False` leaves out all vectors that are added.
`theta` holds the parameters flat, in the order listed, each in C order; without it they are drawn with `rng`: weights
normal with variance gain / fan-in, gain 2 before a relu and 1 otherwise, biases 0. What does not fit is a ValueError.
"""

from collections.abc import Callable, Iterable
from functools import partial
from importlib.resources import files
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from clarke import layers
from clarke.layers import constant
from clarke.network import Network

_ACTIVATIONS = {
    "relu": layers.relu,
    "tanh": layers.tanh,
    "sigmoid": layers.sigmoid,
    "linear": layers.linear,
    "softplus": layers.softplus,
    "gelu": layers.gelu,
    "silu": layers.silu,
    "leaky_relu": layers.leaky_relu,
    "relu6": layers.relu6,
    "hard_tanh": layers.hard_tanh,
    "absolute": layers.absolute,
}
_LOSSES = {"squared": layers.squared_error, "cross_entropy": layers.cross_entropy}


def mlp(
    sizes: Iterable[int],
    *,
    activation: str | Callable[..., Any],
    loss: str | Callable[..., Any] | None,
    inputs: ArrayLike,
    targets: ArrayLike | None = None,
    bias: bool = True,
    theta: ArrayLike | None = None,
    rng: np.random.Generator | None = None,
) -> Network:
    """The multilayer perceptron z_l = h_{l-1} W_l^T + b_l, h_l = activation(z_l), y = z_L.

    sizes       (n_0, ..., n_L), L >= 1; W_l is (n_l, n_{l-1}), b_l (n_l,), absent without `bias`
    activation  the name of one in `clarke.activations`, or a function of z (N, n_l) of the same shape
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


def residual_chain(depth: int, width: int, *, rng: np.random.Generator) -> Network:
    """z_l = z_{l-1} + tanh(A z_{l-1} + x_l) for l = 1, ..., L = depth, loss |z_L - y|^2 / 2; A is fixed.

    Names: input "z0" (1, width); parameters "x1", ..., "xL", each (width,); nodes "z1", ..., "zL", one a step. z0, y
    and the x_l are drawn standard normal. The entries of A are normal with standard deviation 1 / (depth sqrt(width)):
    then |A|_2 is about 2 / depth, and the singular values of all dz_L / dz_l stay between about e^-2 and e^2 however
    long the chain, while z_L itself grows like sqrt(depth).
    """
    depth, width = _whole("depth", depth), _whole("width", width)
    if not isinstance(rng, np.random.Generator):
        raise ValueError(f"rng must be a numpy Generator; got {rng!r}")
    A = constant("A", rng.normal(scale=1.0 / (depth * np.sqrt(width)), size=(width, width)))
    step = partial(layers.residual_tanh, matrix=A)
    network = Network()
    network.input("z0", rng.normal(size=(1, width)))
    target = rng.normal(size=(1, width))
    for layer in range(1, depth + 1):
        network.parameter(f"x{layer}", rng.normal(size=width))
        network.node(f"z{layer}", step, f"z{layer - 1}", f"x{layer}")
    network.loss(layers.squared_error(target), f"z{depth}")
    return network


def residual(
    width: int,
    depth: int,
    *,
    activation: str | Callable[..., Any],
    loss: str | Callable[..., Any] | None,
    inputs: ArrayLike,
    targets: ArrayLike | None = None,
    outputs: int | None = None,
    bias: bool = True,
    theta: ArrayLike | None = None,
    rng: np.random.Generator | None = None,
) -> Network:
    """h_0 = x W_0^T + b_0, h_l = h_{l-1} + activation(h_{l-1} W_l^T + b_l) for l = 1, ..., depth, y = h_depth V^T + c.

    inputs (N, features); h_l (N, width). Names: input "x"; parameters "W0", "b0", "W1", "b1", ..., "V", "c"; nodes
    "h0", then "z1", "a1", "h1", ..., with a_l = activation(z_l), and "y". A drawn W_l, l >= 1, has 1 / depth of the
    variance said above, so that what the branches add up to does not grow with the depth.
    """
    width, depth = _whole("width", width), _whole("depth", depth)
    act = _choose("activation", activation, _ACTIVATIONS)
    inputs = _inputs(inputs, {2: "(N, features)"})
    outputs = _outputs(targets, outputs)
    head = _head(loss, targets, (len(inputs), outputs))
    shapes = {"W0": (width, inputs.shape[1]), "b0": (width,)}
    for layer in range(1, depth + 1):
        shapes |= {f"W{layer}": (width, width), f"b{layer}": (width,)}
    shapes |= {"V": (outputs, width), "c": (outputs,)}

    network = Network()
    network.input("x", inputs)
    quiet = {f"W{layer}": depth**-0.5 for layer in range(1, depth + 1)}
    _parameters(network, shapes, bias, theta, activation, rng, quiet)
    _affine(network, "h0", "x", "W0", "b0")
    for layer in range(1, depth + 1):
        _affine(network, f"z{layer}", f"h{layer - 1}", f"W{layer}", f"b{layer}")
        network.node(f"a{layer}", act, f"z{layer}")
        network.node(f"h{layer}", layers.add, f"h{layer - 1}", f"a{layer}")
    return _headed(network, f"h{depth}", head)


def recurrent(
    hidden: int,
    *,
    inputs: ArrayLike,
    targets: ArrayLike | None = None,
    activation: str | Callable[..., Any],
    loss: str | Callable[..., Any] | None,
    outputs: int | None = None,
    bias: bool = True,
    theta: ArrayLike | None = None,
    rng: np.random.Generator | None = None,
) -> Network:
    """h_t = activation(x_t W^T + b + h_{t-1} U^T) for t = 1, ..., T, h_0 = 0, y = h_T V^T + c: unrolled, W, b, U tied.

    inputs (N, T, features); h_t (N, hidden). Names: inputs "x1", ..., "xT" (N, features) and "h0"; parameters "W",
    "b", "U", "V", "c"; nodes of step t: "u{t}" = x_t W^T + b, "v{t}" = h_{t-1} U^T, "z{t}" their sum, "h{t}"; and "y".
    """
    hidden = _whole("hidden", hidden)
    act = _choose("activation", activation, _ACTIVATIONS)
    inputs = _inputs(inputs, {3: "(N, T, features)"})
    N, steps, features = inputs.shape
    outputs = _outputs(targets, outputs)
    head = _head(loss, targets, (N, outputs))
    shapes = {"W": (hidden, features), "b": (hidden,), "U": (hidden, hidden), "V": (outputs, hidden), "c": (outputs,)}

    network = Network()
    for t in range(1, steps + 1):
        network.input(f"x{t}", inputs[:, t - 1])
    network.input("h0", np.zeros((N, hidden)))
    _parameters(network, shapes, bias, theta, activation, rng)
    for t in range(1, steps + 1):
        _affine(network, f"u{t}", f"x{t}", "W", "b")
        _affine(network, f"v{t}", f"h{t - 1}", "U")
        network.node(f"z{t}", layers.add, f"u{t}", f"v{t}")
        network.node(f"h{t}", act, f"z{t}")
    return _headed(network, f"h{steps}", head)


def conv_net(
    channels: Iterable[int],
    *,
    kernel: int | tuple[int, int],
    inputs: ArrayLike,
    targets: ArrayLike | None = None,
    activation: str | Callable[..., Any],
    loss: str | Callable[..., Any] | None,
    pool: str | None = None,
    pool_size: int | tuple[int, int] = 2,
    stride: int | tuple[int, int] = 1,
    padding: int | tuple[int, int] = 0,
    outputs: int | None = None,
    bias: bool = True,
    theta: ArrayLike | None = None,
    rng: np.random.Generator | None = None,
) -> Network:
    """Convolutions, each with an activation and perhaps a pooling, then y = (all flat) V^T + c.

    channels: (c_1, ..., c_L), L >= 1, the output channels of each convolution. inputs (N, C, T) for `conv1d`, or
    (N, C, H, W) for `conv2d`; kernel, stride and padding, an int or for images a pair, are those of every convolution.
    pool: None, "max" or "average", over disjoint windows of pool_size.

    Names: input "x"; parameters "K1", "b1", ..., "KL", "bL", "V", "c"; nodes "z1", "h1" and, if pooled, "p1", ...,
    "flat" and "y". The fan-in of K_l (c_l, c_{l-1}, *kernel) is the size of a patch.
    """
    channels = _counts("channels", channels, 1)
    act = _choose("activation", activation, _ACTIVATIONS)
    inputs = _inputs(inputs, {3: "(N, C, T)", 4: "(N, C, H, W)"})
    sides: int = inputs.ndim - 2
    window = tuple(kernel) if sides == 2 and isinstance(kernel, tuple | list) else (kernel,) * sides
    if len(window) != sides or not all(_is_count(k) for k in window):
        raise ValueError(f"kernel is an int >= 1{' or a pair of them' if sides == 2 else ''}; got {kernel!r}")
    convolve = partial([layers.conv1d, layers.conv2d][sides - 1], stride=stride, padding=padding)
    pools = {"max": [layers.max_pool1d, layers.max_pool2d], "average": [layers.average_pool1d, layers.average_pool2d]}
    if pool is not None and not (isinstance(pool, str) and pool in pools):
        raise ValueError(f"pool is None or one of {', '.join(pools)}; got {pool!r}")
    pooled = pool and partial(pools[pool][sides - 1], size=pool_size)

    shapes: dict[str, Any] = {}
    image: np.ndarray = np.zeros((1, *inputs.shape[1:]))
    for layer, count in enumerate(channels, 1):
        shapes |= {f"K{layer}": (count, image.shape[1], *window), f"b{layer}": (count,)}
        image = _fitted(convolve, f"convolution {layer}", image, np.zeros(shapes[f"K{layer}"]))
        image = _fitted(pooled, f"pool_size after convolution {layer}", image) if pooled else image
    outputs = _outputs(targets, outputs)
    head = _head(loss, targets, (len(inputs), outputs))
    shapes |= {"V": (outputs, image.size), "c": (outputs,)}

    network = Network()
    network.input("x", inputs)
    _parameters(network, shapes, bias, theta, activation, rng)
    above = "x"
    for layer in range(1, len(channels) + 1):
        network.node(f"z{layer}", convolve, above, *_those(network, f"K{layer}", f"b{layer}"))
        network.node(above := f"h{layer}", act, f"z{layer}")
        if pooled:
            network.node(above := f"p{layer}", pooled, f"h{layer}")
    network.node("flat", layers.reshape, above)
    return _headed(network, "flat", head)


def transformer(
    heads: int,
    hidden: int | None,
    *,
    inputs: ArrayLike,
    targets: ArrayLike | None = None,
    loss: str | Callable[..., Any] | None,
    causal: bool = False,
    outputs: int | None = None,
    bias: bool = True,
    theta: ArrayLike | None = None,
    rng: np.random.Generator | None = None,
) -> Network:
    """One encoder block on tokens x (N, T, d), averaged over tokens, with a dense head:

        r = x + MultiHead(x Wq^T + bq, x Wk^T + bk, x Wv^T + bv) Wo^T + bo,    n = layer_norm(r; gamma, beta),
        s = r + gelu(n W1^T + b1) W2^T + b2,    m = mean of s over its tokens,    y = m V^T + c.

    heads divides d; W1 is (hidden, d). Names: input "x"; parameters "Wq", "bq", "Wk", "bk", "Wv", "bv", "Wo", "bo",
    "gamma", "beta", "W1", "b1", "W2", "b2", "V", "c"; nodes "q", "k", "v", "attended", "o", "r", "n", "z", "h", "f"
    (the feed-forward branch), "s", "m", "y". A drawn gamma is 1. The loss does not depend on bk, which adds one number
    to all scores of a query, so that its blocks are 0.
    """
    heads, hidden = _whole("heads", heads), _whole("hidden", hidden)
    inputs = _inputs(inputs, {3: "(N, T, d)"})
    d = inputs.shape[2]
    if d % heads:
        raise ValueError(f"heads must divide the {d} features of a token; got {heads}")
    outputs = _outputs(targets, outputs)
    head = _head(loss, targets, (len(inputs), outputs))
    shapes = {}
    for each in "qkvo":
        shapes |= {f"W{each}": (d, d), f"b{each}": (d,)}
    shapes |= {"gamma": (d,), "beta": (d,), "W1": (hidden, d), "b1": (hidden,), "W2": (d, hidden), "b2": (d,)}
    shapes |= {"V": (outputs, d), "c": (outputs,)}

    network = Network()
    network.input("x", inputs)
    _parameters(network, shapes, bias, theta, "linear", rng)
    for each in "qkv":
        _affine(network, each, "x", f"W{each}", f"b{each}")
    network.node("attended", partial(layers.multi_head_attention, heads=heads, causal=causal), *"qkv")
    _affine(network, "o", "attended", "Wo", "bo")
    network.node("r", layers.add, "x", "o")
    network.node("n", layers.layer_norm, "r", *_those(network, "gamma", "beta"))
    _affine(network, "z", "n", "W1", "b1")
    network.node("h", layers.gelu, "z")
    _affine(network, "f", "h", "W2", "b2")
    network.node("s", layers.add, "r", "f")
    network.node("m", layers.mean, "s")
    return _headed(network, "m", head)


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


# ---------------------------------------------------------------- what does not fit


def _sizes(sizes) -> tuple[int, ...]:
    return _counts("sizes", sizes, 2)


def _counts(role, given, least) -> tuple[int, ...]:
    counts = tuple(given) if isinstance(given, Iterable) else ()
    if len(counts) < least or not all(_is_count(n) for n in counts):
        raise ValueError(f"{role} are at least {('one integer', 'two integers')[least - 1]} >= 1; got {given!r}")
    return counts


def _is_count(n):
    return isinstance(n, int | np.integer) and not isinstance(n, bool) and n >= 1


def _whole(role, n):
    if not _is_count(n):
        raise ValueError(f"{role} must be an integer >= 1; got {n!r}")
    return int(n)


def _inputs(inputs, kinds):
    """inputs, with as many axes as one of `kinds`: number of axes -> what they are."""
    inputs = constant("inputs", inputs)
    if inputs.ndim not in kinds:
        raise ValueError(f"inputs must have shape {' or '.join(kinds.values())}; got {inputs.shape}")
    return inputs


def _outputs(targets, outputs):
    """The number of outputs: what `outputs` says, else that of the targets (N, outputs)."""
    if outputs is not None:
        return _whole("outputs", outputs)
    if targets is None:
        raise ValueError("pass targets (N, outputs), or outputs, their number; got neither")
    targets = constant("targets", targets)
    if targets.ndim != 2:
        raise ValueError(f"targets must have shape (N, outputs); got {targets.shape}")
    return targets.shape[1]


def _fitted(fun, what, *arrays):
    """fun(*arrays), whose own complaint is told as one about `what`."""
    try:
        return fun(*arrays)
    except ValueError as error:
        raise ValueError(f"{what} does not fit: {error}") from error


def _choose(role, given, known) -> Any:
    if isinstance(given, str) and given in known:
        return known[given]
    if callable(given):
        return given
    raise ValueError(f"{role} is a function or one of {', '.join(known)}; got {given!r}")


def _head(loss, targets, shape) -> Any:
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


# ---------------------------------------------------------------- building


def _parameters(network, shapes, bias, theta, activation, rng, scale=None):
    """Declare the parameters name -> shape at theta, or as drawn, those in `scale` times that."""
    if not bias:
        shapes = {name: shape for name, shape in shapes.items() if len(shape) > 1 or name == "gamma"}
    if theta is None:
        arrays = dict(zip(shapes, _draw(shapes.values(), activation, rng), strict=True))
        arrays = {name: array * (scale or {}).get(name, 1.0) for name, array in arrays.items()}
        if "gamma" in arrays:
            arrays["gamma"] = np.ones(shapes["gamma"])
    else:
        arrays = dict(zip(shapes, _unflatten(theta, shapes.values()), strict=True))
    for name, array in arrays.items():
        network.parameter(name, array)


def _those(network, *names):
    """The parameters that were declared: without bias some were not."""
    return [name for name in names if name in network.dag]


def _affine(network, name, above, *parameters):
    network.node(name, layers.affine, above, *_those(network, *parameters))


def _headed(network, above, head):
    """y = above V^T + c, and its loss."""
    _affine(network, "y", above, "V", "c")
    if head is not None:
        network.loss(head, "y")
    return network


def _draw(shapes, activation, rng):
    if not isinstance(rng, np.random.Generator):
        raise ValueError(f"pass theta, or rng (a numpy Generator) to draw it; got rng={rng!r}")
    gain = 2.0 if activation in ("relu", layers.relu) else 1.0

    def drawn(shape):
        if len(shape) == 1:
            return np.zeros(shape)
        return rng.normal(scale=np.sqrt(gain / np.prod(shape[1:])), size=shape)

    return [drawn(shape) for shape in shapes]


def _unflatten(theta, shapes):
    theta, sizes = constant("theta", theta), [int(np.prod(shape)) for shape in shapes]
    if theta.shape != (sum(sizes),):
        raise ValueError(f"theta must have shape ({sum(sizes)},); got {theta.shape}")
    pieces = np.split(theta, np.cumsum(sizes)[:-1])
    return [piece.reshape(shape) for piece, shape in zip(pieces, shapes, strict=True)]
