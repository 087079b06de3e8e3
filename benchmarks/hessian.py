"""The Hessian of a network by blocks against autograd.hessian, and against other frameworks where they are installed.

Full Hessian, all diagonal blocks, one off-diagonal block, and products with a vector, of the mean cross-entropy over a
batch of 64 in all parameters. Every other program is given the loss in its own plain spelling, and is timed only after
its answer has been found equal to clarke's to 1e-10 of the largest entry. clarke starts each time from a fresh network
at the point (`network.at(theta)`): values, kinks and derivatives included, nothing kept. Only `next product` has the
operator, like its peers a linearized gradient, ready. jax is compiled before it is timed; torch is not compiled.

One process, one thread, float64; the least CPU time of two or more interleaved runs. Run as:

    python benchmarks/hessian.py [--quick] [--only NAME]

--quick runs each a few times only, --only NAME the networks whose name contains NAME.
"""

import os

os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"
os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false"
os.environ["JAX_PLATFORMS"] = "cpu"

import argparse
import sys
import tracemalloc
import warnings
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from itertools import pairwise
from math import prod
from time import process_time
from types import SimpleNamespace
from typing import NamedTuple

import autograd
import autograd.numpy as anp
import numpy as np
from autograd.scipy.special import logsumexp

import clarke
from clarke import convolution, layers
from clarke.blocks import hessian_blocks

SAMPLES = 64
AGREE = 1e-10  # largest difference allowed, relative to the largest entry
QUANTITIES = ("gradient", "Hessian", "diagonal blocks", "one block", "product", "next product")

# ---------------------------------------------------------------- networks


class Case(NamedTuple):
    """loss(dialect): the loss as a function of the arrays of the parameters. module(torch): the same as a torch module
    of standard layers, or None. pair: the names of an off-diagonal block."""

    name: str
    network: clarke.Network
    loss: Callable
    module: Callable
    pair: tuple[str, str]

    @property
    def arrays(self):
        return [np.array(self.network.value(name)) for name in self.network.parameters]

    @property
    def pair_numbers(self):
        return tuple(self.network.parameters.index(name) for name in self.pair)

    def flat(self, dialect):
        """The loss as a function of one flat vector."""
        loss, shapes = self.loss(dialect), [array.shape for array in self.arrays]
        spans = list(pairwise(np.cumsum([0, *map(prod, shapes)]).tolist()))

        def of_vector(theta):
            return loss(*(theta[a:b].reshape(shape) for (a, b), shape in zip(spans, shapes, strict=True)))

        return of_vector


def data(shape, classes, rng):
    return rng.standard_normal((SAMPLES, *shape)), np.eye(classes)[rng.integers(classes, size=SAMPLES)]


def placed(network, rng):
    """The network at parameters drawn with variance 1 / fan-in, biases too."""
    values = [network.value(name) for name in network.parameters]
    fans = [prod(value.shape[1:]) or 1 for value in values]
    return network.at(
        np.concatenate([rng.standard_normal(v.size) / np.sqrt(f) for v, f in zip(values, fans, strict=True)])
    )


def mlp(activation, sizes, rng):
    inputs, targets = data(sizes[:1], sizes[-1], rng)
    network = clarke.mlp(sizes, activation=activation, loss="cross_entropy", inputs=inputs, targets=targets, rng=rng)

    def loss(d):
        act, x, t = d.activations[activation], d.constant(inputs), d.constant(targets)

        def of(*arrays):
            a = x
            for k in range(0, len(arrays), 2):
                z = a @ arrays[k].T + arrays[k + 1]
                a = act(z)
            return d.cross_entropy(z, t)

        return of

    def module(torch):
        act = {"tanh": torch.nn.Tanh, "relu": torch.nn.ReLU}[activation]
        stack = [layer for a, b in pairwise(sizes) for layer in (torch.nn.Linear(a, b), act())]
        return torch.nn.Sequential(*stack[:-1])

    name = f"{activation} {'-'.join(map(str, sizes))}"
    return Case(name, placed(network, rng), loss, module, ("W1", "W2"))


def convolutional(activation, pool, rng):
    """Images 8x8; 4 channels 3x3 padded; pooled to 4x4; 8 channels 3x3; dense, 10 classes.

    The activation follows the pool: the same function for max pool and relu, but without the ties of units at rest.
    """
    inputs, targets = data((1, 8, 8), 10, rng)
    network = clarke.Network()
    network.input("x", inputs)
    for name, shape in {
        "K1": (4, 1, 3, 3), "b1": (4,), "K2": (8, 4, 3, 3), "b2": (8,), "W3": (10, 32), "b3": (10,),
    }.items():  # fmt: skip
        network.parameter(name, np.zeros(shape))
    act = {"tanh": layers.tanh, "relu": layers.relu}[activation]
    pooling = {"average": convolution.average_pool2d, "max": convolution.max_pool2d}[pool]
    network.node("c1", partial(convolution.conv2d, padding=1), "x", "K1", "b1")
    network.node("p1", partial(pooling, size=2), "c1")
    network.node("h1", act, "p1")
    network.node("c2", convolution.conv2d, "h1", "K2", "b2")
    network.node("h2", act, "c2")
    network.node("f", layers.reshape, "h2")
    network.node("y", layers.affine, "f", "W3", "b3")
    network.loss(layers.cross_entropy(targets), "y")

    def loss(d):
        act, pooled, x, t = d.activations[activation], d.pools[pool], d.constant(inputs), d.constant(targets)

        def of(K1, b1, K2, b2, W3, b3):
            h = act(pooled(d.conv(x, K1, 1) + b1.reshape(-1, 1, 1)))
            h = act(d.conv(h, K2, 0) + b2.reshape(-1, 1, 1))
            return d.cross_entropy(h.reshape(SAMPLES, -1) @ W3.T + b3, t)

        return of

    def module(torch):
        nn = torch.nn
        act, pooled = (
            {"tanh": nn.Tanh, "relu": nn.ReLU}[activation],
            {"average": nn.AvgPool2d, "max": nn.MaxPool2d}[pool],
        )
        first, second = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 8, 3)
        return nn.Sequential(first, pooled(2), act(), second, act(), nn.Flatten(), nn.Linear(32, 10))

    return Case(f"convolutional {activation}, {pool} pool", placed(network, rng), loss, module, ("K1", "K2"))


def residual(activation, rng):
    """8 inputs, a layer of 16, two residual blocks h + W' act(W h) of 16, dense, 5 classes."""
    inputs, targets = data((8,), 5, rng)
    act = {"tanh": layers.tanh, "relu": layers.relu}[activation]
    network = clarke.Network()
    network.input("x", inputs)
    shapes = [(16, 8), (16, 16), (16, 16), (16, 16), (16, 16), (5, 16)]
    for k, shape in enumerate(shapes, 1):
        network.parameter(f"W{k}", np.zeros(shape))
        network.parameter(f"b{k}", np.zeros(shape[0]))
    network.node("h1", layers.affine, "x", "W1", "b1")
    for block, k in ((2, 2), (3, 4)):
        network.node(f"z{k}", layers.affine, f"h{block - 1}", f"W{k}", f"b{k}")
        network.node(f"a{k}", act, f"z{k}")
        network.node(f"z{k + 1}", layers.affine, f"a{k}", f"W{k + 1}", f"b{k + 1}")
        network.node(f"h{block}", layers.add, f"h{block - 1}", f"z{k + 1}")
    network.node("y", layers.affine, "h3", "W6", "b6")
    network.loss(layers.cross_entropy(targets), "y")

    def loss(d):
        act, x, t = d.activations[activation], d.constant(inputs), d.constant(targets)

        def of(W1, b1, W2, b2, W3, b3, W4, b4, W5, b5, W6, b6):
            h = x @ W1.T + b1
            h = h + act(h @ W2.T + b2) @ W3.T + b3
            h = h + act(h @ W4.T + b4) @ W5.T + b5
            return d.cross_entropy(h @ W6.T + b6, t)

        return of

    def module(torch):
        act = {"tanh": torch.tanh, "relu": torch.relu}[activation]

        class Residual(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.layers = torch.nn.ModuleList(torch.nn.Linear(b, a) for a, b in shapes)

            def forward(self, x):
                first, *inner, last = self.layers
                h = first(x)
                for before, after in (inner[:2], inner[2:]):
                    h = h + after(act(before(h)))
                return last(h)

        return Residual()

    return Case(f"residual {activation}", placed(network, rng), loss, module, ("W2", "W4"))


def cases():
    rng = np.random.default_rng(0)
    yield from (mlp(act, sizes, rng) for sizes in ((4, 16, 16, 3), (10, 32, 32, 10)) for act in ("tanh", "relu"))
    yield convolutional("tanh", "average", rng)
    yield convolutional("relu", "max", rng)
    yield from (residual(act, rng) for act in ("tanh", "relu"))


# ---------------------------------------------------------------- contenders: case, direction -> {quantity: call}


def of_clarke(case, direction):
    theta, network, (v, w) = case.network.point(), case.network, case.pair

    def fresh():
        return hessian_blocks(network.at(theta))

    def gradient():
        found = fresh()
        return np.concatenate([found.gradient[name] for name in network.parameters])

    ready = fresh().operator()
    return {
        "gradient": gradient,
        "Hessian": lambda: fresh().dense(),
        "diagonal blocks": lambda: list(fresh().diagonal().values()),
        "one block": lambda: fresh()[v, w],
        "product": lambda: fresh().operator() @ direction,
        "next product": lambda: ready @ direction,
    }


def gathered_convolution(x, K, padding):
    """Patches by one gather, then a matrix product: of five spellings autograd differentiated this one fastest."""
    x = anp.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)), "constant") if padding else x
    n, *image = x.shape
    flat = np.arange(prod(image)).reshape(image)
    table = np.lib.stride_tricks.sliding_window_view(flat, K.shape[2:], axis=(1, 2)).transpose(1, 2, 0, 3, 4)
    high, wide = table.shape[:2]
    patches = x.reshape(n, -1)[:, table.reshape(high * wide, -1)].reshape(n * high * wide, -1)
    y = anp.dot(patches, K.reshape(len(K), -1).T).reshape(n, high, wide, len(K))
    return anp.transpose(y, (0, 3, 1, 2))


def quartered(x):
    """(..., H, W) -> (..., H/2, 2, W/2, 2)."""
    return x.reshape(*x.shape[:2], x.shape[2] // 2, 2, x.shape[3] // 2, 2)


AUTOGRAD = SimpleNamespace(
    constant=lambda array: array,
    activations={"tanh": anp.tanh, "relu": lambda z: anp.maximum(z, 0.0)},
    pools={
        "average": lambda x: anp.mean(quartered(x), axis=(3, 5)),
        "max": lambda x: anp.max(quartered(x), axis=(3, 5)),
    },
    conv=gathered_convolution,
    cross_entropy=lambda z, t: -anp.sum(t * (z - logsumexp(z, axis=1, keepdims=True))) / SAMPLES,
)


def of_autograd(case, direction):
    flat, loss, theta, arrays = case.flat(AUTOGRAD), case.loss(AUTOGRAD), case.network.point(), case.arrays
    (v, w), every = case.pair_numbers, range(len(arrays))
    rows, columns = (v, w) if arrays[v].size <= arrays[w].size else (w, v)  # a reverse pass for each row

    def one_block():
        found = autograd.jacobian(autograd.grad(loss, rows), columns)(*arrays)
        return found.reshape(arrays[rows].size, -1) if rows == v else found.reshape(arrays[rows].size, -1).T

    ready = autograd.make_hvp(flat)(theta)[0]
    return {
        "gradient": lambda: autograd.grad(flat)(theta),
        "Hessian": lambda: autograd.hessian(flat)(theta),
        "diagonal blocks": lambda: [autograd.hessian(loss, k)(*arrays) for k in every],
        "one block": one_block,
        "product": lambda: autograd.hessian_vector_product(flat)(theta, direction),
        "next product": lambda: ready(direction),
    }


def torch_dialect():
    import torch
    from torch.nn import functional

    torch.set_num_threads(1)
    return SimpleNamespace(
        constant=torch.tensor,
        activations={"tanh": torch.tanh, "relu": torch.relu},
        pools={"average": partial(functional.avg_pool2d, kernel_size=2), "max": lambda x: quartered(x).amax((3, 5))},
        conv=lambda x, K, padding: functional.conv2d(x, K, padding=padding),
        cross_entropy=lambda z, t: -(t * functional.log_softmax(z, 1)).sum() / SAMPLES,
    )


def of_torch(case, direction):
    import torch
    from torch.func import grad, hessian, jacfwd, jvp, linearize

    dialect = torch_dialect()
    flat, loss, theta = case.flat(dialect), case.loss(dialect), torch.tensor(case.network.point())
    arrays, along = [torch.tensor(array) for array in case.arrays], torch.tensor(direction)
    (v, w), every = case.pair_numbers, range(len(arrays))
    rows, columns = (w, v) if arrays[v].numel() <= arrays[w].numel() else (v, w)  # a tangent for each column

    def one_block():
        found = jacfwd(grad(loss, rows), columns)(*arrays).reshape(arrays[rows].numel(), -1)
        return found if rows == v else found.T

    _, ready = linearize(grad(flat), theta)
    return {
        "gradient": lambda: grad(flat)(theta),
        "Hessian": lambda: hessian(flat)(theta),
        "diagonal blocks": lambda: [hessian(loss, k)(*arrays) for k in every],
        "one block": one_block,
        "product": lambda: jvp(grad(flat), (theta,), (along,))[1],
        "next product": lambda: ready(along),
    }


def of_jax(case, direction):
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_enable_x64", True)
    dialect = SimpleNamespace(
        constant=jnp.array,
        activations={"tanh": jnp.tanh, "relu": jax.nn.relu},
        pools={"average": lambda x: quartered(x).mean((3, 5)), "max": lambda x: quartered(x).max((3, 5))},
        conv=lambda x, K, padding: jax.lax.conv_general_dilated(x, K, (1, 1), [(padding, padding)] * 2),
        cross_entropy=lambda z, t: -(t * jax.nn.log_softmax(z)).sum() / SAMPLES,
    )
    flat, loss, theta = case.flat(dialect), case.loss(dialect), jnp.array(case.network.point())
    arrays, along = [jnp.array(array) for array in case.arrays], jnp.array(direction)
    (v, w), every = case.pair_numbers, range(len(arrays))
    rows, columns = (w, v) if arrays[v].size <= arrays[w].size else (v, w)

    def block(*arrays):
        found = jax.jacfwd(jax.grad(loss, rows), columns)(*arrays).reshape(arrays[rows].size, -1)
        return found if rows == v else found.T

    _, linear = jax.linearize(jax.grad(flat), theta)
    calls = {
        "gradient": (jax.grad(flat), theta),
        "Hessian": (jax.hessian(flat), theta),
        "diagonal blocks": (lambda *a: [jax.hessian(loss, k)(*a) for k in every], *arrays),
        "one block": (block, *arrays),
        "product": (lambda x, t: jax.jvp(jax.grad(flat), (x,), (t,))[1], theta, along),
        "next product": (linear, along),
    }
    compiled = {name: (jax.jit(call), arguments) for name, (call, *arguments) in calls.items()}
    return {name: lambda f=f, a=a: jax.block_until_ready(f(*a)) for name, (f, a) in compiled.items()}


def torch_module(case):
    """(torch, the module at the parameters, inputs, classes)."""
    import torch

    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)  # BackPACK's average pooling builds layers of its own
    module = case.module(torch)
    with torch.no_grad():
        for parameter, array in zip(module.parameters(), case.arrays, strict=True):
            parameter.copy_(torch.tensor(array))
    targets = case.network.losses[0][1].keywords["targets"]
    return torch, module, torch.tensor(np.array(case.network.value("x"))), torch.tensor(targets.argmax(1))


def of_curvlinops(case, direction):
    from curvlinops import HessianLinearOperator

    torch, module, x, classes = torch_module(case)
    parameters, loss = list(module.parameters()), torch.nn.CrossEntropyLoss()
    along = torch.tensor(direction)

    def operator(chosen):
        return HessianLinearOperator(module, loss, chosen, [(x, classes)], check_deterministic=False)

    def dense(chosen):
        return operator(chosen) @ torch.eye(sum(p.numel() for p in chosen), dtype=x.dtype)

    ready = operator(parameters)
    return {
        "Hessian": lambda: dense(parameters),
        "diagonal blocks": lambda: [dense([p]) for p in parameters],
        "product": lambda: operator(parameters) @ along,
        "next product": lambda: ready @ along,
    }


def of_backpack(case, direction):
    from backpack import backpack, extend
    from backpack.extensions import HMP

    torch, module, x, classes = torch_module(case)
    if not isinstance(module, torch.nn.Sequential):
        return {}
    module, loss = extend(module), extend(torch.nn.CrossEntropyLoss())

    def diagonal_blocks():
        module.zero_grad()
        with backpack(HMP()):
            loss(module(x), classes).backward()
            identities = [torch.eye(p.numel(), dtype=x.dtype).reshape(-1, *p.shape) for p in module.parameters()]
            return [p.hmp(one).detach() for p, one in zip(module.parameters(), identities, strict=True)]

    return {"diagonal blocks": diagonal_blocks}


CONTENDERS = {  # the module to import, the calls
    "autograd": ("autograd", of_autograd),
    "torch.func": ("torch", of_torch),
    "jax.jit": ("jax", of_jax),
    "curvlinops": ("curvlinops", of_curvlinops),
    "BackPACK": ("backpack", of_backpack),
}


# ---------------------------------------------------------------- measurement


def race(calls, spend):
    """Least CPU seconds of each call; calls alternate, each until it has spent its seconds, twice at least."""
    times = [[] for _ in calls]

    def unfinished(taken):
        return len(taken) < 2 or sum(taken) < spend

    while any(map(unfinished, times)):
        for call, taken in zip(calls, times, strict=True):
            if unfinished(taken):
                start = process_time()
                call()
                taken.append(process_time() - start)
    return list(map(min, times))


def peak(call):
    """Bytes that Python and numpy held at once during the call, by tracemalloc."""
    tracemalloc.start()
    call()
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return most


def require_equal(case, quantity, name, ours, theirs):
    ours, theirs = (found if isinstance(found, list) else [found] for found in (ours, theirs))
    for a, b in zip(ours, theirs, strict=True):
        apart, scale = np.abs(a - np.asarray(b).reshape(a.shape)).max(), np.abs(a).max()
        if not apart <= AGREE * scale:
            sys.exit(f"stopped: {case.name}, {quantity}: {name} and clarke differ by {apart:.3g} of {scale:.3g}")


def measure(case, contenders, spend):
    """Prints the lines of one network. Returns {quantity: {name: its time over clarke's}}."""
    direction = np.random.default_rng(1).standard_normal(case.network.size)
    P, ours, ratios = case.network.size, of_clarke(case, direction), {}
    theirs = {name: calls(case, direction) for name, calls in contenders.items()}
    A, B = (np.random.default_rng(2).standard_normal(shape) for shape in ((P, SAMPLES), (SAMPLES, P)))
    memory = (peak(ours["Hessian"]) - peak(ours["gradient"])) / (8 * P * P)
    print(f"\n{case.name}, P = {P}")
    for quantity in QUANTITIES:
        found, names = ours[quantity](), [name for name in theirs if quantity in theirs[name]]
        for name in names:
            require_equal(case, quantity, name, found, theirs[name][quantity]())
        extra = [lambda: A @ B] if quantity == "Hessian" else []
        seconds, *others = race([ours[quantity], *(theirs[name][quantity] for name in names), *extra], spend)
        times = dict(zip(names, others, strict=False))
        ratios[quantity] = {name: times[name] / seconds for name in names}
        line = f"  {quantity:16s} {1e3 * seconds:9.3f}"
        line += "".join(f" {ratios[quantity][n]:10.3g}" if n in names else f" {'':>10s}" for n in contenders)
        if quantity == "gradient":
            gradients = seconds, times["autograd"]
        elif quantity == "Hessian":
            floor = others[-1]
            ratios["floor"] = {"clarke": seconds / floor}
            line += f"   {seconds / floor:.3g} times the GEMM of {1e3 * floor:.3g} ms; {memory:.3g} H of memory"
        elif "product" in quantity:
            line += f"   {seconds / gradients[0]:.3g} of clarke's gradients, {seconds / gradients[1]:.3g} of autograd's"
        print(line, flush=True)
    return ratios


def main():
    parser = argparse.ArgumentParser(description="The Hessian of a network against other programs.")
    parser.add_argument("--quick", action="store_true", help="each a few times only")
    parser.add_argument("--only", metavar="NAME", default="", help="the networks whose name contains NAME")
    options = parser.parse_args()
    warnings.filterwarnings("ignore")  # of frameworks about themselves
    np.empty(31 << 17)  # glibc keeps pages up to the size of what was freed: page faults would be timed, for all alike
    chosen = [case for case in cases() if options.only in case.name]
    if not chosen:
        sys.exit(f"no network has {options.only!r} in its name: {'; '.join(case.name for case in cases())}")
    contenders = {name: calls for name, (module, calls) in CONTENDERS.items() if find_spec(module)}
    for name in CONTENDERS.keys() - contenders.keys():
        print(f"{name}: not installed")
    print(f"{SAMPLES} samples. Milliseconds of clarke, then the time of the others over it.")
    head = "".join(f" {name:>10s}" for name in contenders)
    print(f"  {'':16s} {'clarke ms':>9s}{head}")
    found = [measure(case, contenders, 0.1 if options.quick else 1.0) for case in chosen]
    print("\ngeometric means")
    for quantity in QUANTITIES:
        line = f"  {quantity:16s} {'':9s}"
        for name in contenders:
            known = [ratios[quantity][name] for ratios in found if name in ratios[quantity]]
            line += f" {np.exp(np.mean(np.log(known))):10.3g}" if known else f" {'':>10s}"
        print(line)
    print(f"  times the GEMM: {np.exp(np.mean(np.log([ratios['floor']['clarke'] for ratios in found]))):.3g}")


if __name__ == "__main__":
    main()
