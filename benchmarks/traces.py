"""Layer traces: the exact route against the library's own gradient, sampled outputs against Hutchinson's probes.

Exact: `layer_traces(network)` of a network moved to the point, against `hessian_blocks(network).gradient` of the same,
so that both pay for the forward pass, the test for kinks and the linearization (whose adjoints are the gradient). Dense
networks, ten outputs, mean cross-entropy.

Equal error: the time of one probe times the variance of its estimate, of Hutchinson's over that of ggn-mc, layer by
layer; ready linearization, no setup, probes at once. Variances from the samples. "full" is one probe for all layers,
"own" one a layer. The last column is the exact route in probes of ggn-mc. Where curvlinops and torch are installed
their Hutchinson trace of the whole Hessian is timed a product beside clarke's.

One process, one thread, float64, least CPU time of repeated runs; the largest network first, so that the allocator has
settled. Run as:

    python benchmarks/traces.py [--quick]
"""

import os

os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"))

import argparse
from functools import partial
from importlib.util import find_spec
from itertools import pairwise
from time import process_time

import numpy as np

import clarke
from clarke import curvature_sources, traces
from clarke.blocks import hessian_blocks
from clarke.traces import layer_traces

DENSE = (((784, 256, 256, 10), 128), ((64, 128, 128, 10), 256), ((64, 64, 10), 64), ((64, 32, 32, 10), 400))
NOISY = (((64, 64, 64, 10), 64), ((64, 32, 32, 32, 10), 256))


def network_of(sizes, samples, activation, rng):
    inputs, targets = rng.standard_normal((samples, sizes[0])), np.eye(sizes[-1])[rng.integers(sizes[-1], size=samples)]
    network = clarke.mlp(sizes, activation=activation, loss="cross_entropy", inputs=inputs, targets=targets, rng=rng)
    return network.at(network.point() + 0.01 * rng.standard_normal(network.size))


def least(call, seconds, at_least=5):
    """The least CPU time of a call, repeated for about so many seconds."""
    best, spent, runs = np.inf, 0.0, 0
    while spent < seconds or runs < at_least:
        start = process_time()
        call()
        took = process_time() - start
        best, spent, runs = min(best, took), spent + took, runs + 1
    return best


def exact_against_gradients(seconds, rng):
    print(f"{'network':28s} {'N':>4s} {'gradient':>11s} {'traces':>11s} {'ratio':>6s}   method")
    for sizes, samples in DENSE:
        for activation in ("relu", "tanh") if sum(sizes[1:-1]) <= 64 else ("relu",):
            network = network_of(sizes, samples, activation, rng)
            theta = network.point()

            def gradient(network=network, theta=theta):
                found = hessian_blocks(network.at(theta))
                return [found.gradient[name] for name in network.parameters]

            def exact(network=network, theta=theta):
                return layer_traces(network.at(theta))

            times, found = [least(call, seconds) for call in (gradient, exact)], exact()
            name = f"{activation} {'-'.join(map(str, sizes))}"
            print(
                f"{name:28s} {samples:4d} {1e3 * times[0]:8.2f} ms {1e3 * times[1]:8.2f} ms "
                f"{times[1] / times[0]:6.2f}   {found.reason.split('every trace takes ')[-1]}"
            )


def equal_error(seconds, probes, rng):
    for sizes, samples in NOISY:
        network = network_of(sizes, samples, "relu", rng)
        names = network.parameters
        lin = hessian_blocks(network)._elements[0][1]
        signs = traces._draw("rademacher", rng, (probes, network.size))
        outputs = traces._draw("rademacher", rng, (probes, samples * sizes[-1]))
        routes = {
            "full": partial(traces._probed, lin, names, signs, "hessian", False),
            "own": partial(traces._probed, lin, names, signs, "hessian", True),
            "ggn-mc": partial(curvature_sources.sampled_traces, lin, names, outputs),
        }
        times = {route: least(call, seconds, 2) / probes for route, call in routes.items()}
        found = {route: call() for route, call in routes.items()}
        exact = least(
            partial(curvature_sources.traces_of_plan, lin, curvature_sources.plan_of(lin, names, "hessian")), seconds
        )
        print(
            f"\nrelu {'-'.join(map(str, sizes))}, {samples} samples; a probe takes "
            + ", ".join(f"{route} {1e6 * t:.0f} us" for route, t in times.items())
            + f"; exact {exact / times['ggn-mc']:.1f} probes of ggn-mc"
        )
        print(f"{'':6s} {'trace':>9s} {'rel. error of one probe':>34s} {'cost at equal error / ggn-mc':>32s}")
        print(f"{'':6s} {'':9s} {'full':>12s}{'own':>11s}{'ggn-mc':>11s} {'full':>16s}{'own':>16s}")
        ratios = []
        for name in names:
            spread = {route: samples[name].std(ddof=1) for route, samples in found.items()}
            cost = {route: times[route] * spread[route] ** 2 for route in routes}
            mean = found["ggn-mc"][name].mean()
            ratios.append([cost[route] / cost["ggn-mc"] for route in ("full", "own")])
            print(
                f"{name:6s} {mean:9.3g} {spread['full'] / mean:12.3f}{spread['own'] / mean:11.3f}"
                f"{spread['ggn-mc'] / mean:11.4f} {ratios[-1][0]:16.0f}{ratios[-1][1]:16.0f}"
            )
        print(f"{'least':6s} {'':9s} {'':34s} {min(r[0] for r in ratios):16.0f}{min(r[1] for r in ratios):16.0f}")


def of_curvlinops(seconds, rng):
    """Hessian-vector products of the same loss, ten columns at once."""
    import torch
    from curvlinops import HessianLinearOperator

    torch.set_num_threads(1)
    sizes, samples = NOISY[0]
    network = network_of(sizes, samples, "relu", rng)
    module = torch.nn.Sequential(
        *[layer for n, m in pairwise(sizes) for layer in (torch.nn.Linear(n, m, dtype=torch.float64), torch.nn.ReLU())][
            :-1
        ]
    )
    with torch.no_grad():
        for parameter, name in zip(module.parameters(), network.parameters, strict=True):
            parameter.copy_(torch.tensor(np.array(network.value(name))))
    data = torch.tensor(np.array(network.value("x"))), torch.tensor(network.losses[0][1].keywords["targets"].argmax(1))
    theirs = HessianLinearOperator(
        module, torch.nn.CrossEntropyLoss(), list(module.parameters()), [data], check_deterministic=False
    )
    ours = hessian_blocks(network).operator()
    signs = traces._draw("rademacher", rng, (network.size, 10))
    along = torch.tensor(signs)
    agree = np.abs(ours @ signs - (theirs @ along).numpy()).max() / np.abs(ours @ signs).max()
    times = [least(call, seconds) for call in (lambda: theirs @ along, lambda: ours @ signs)]
    print(f"\n10 products with the Hessian: curvlinops / clarke {times[0] / times[1]:.1f} (they agree to {agree:.0e})")


def main(quick):
    rng, seconds = np.random.default_rng(0), 0.2 if quick else 2.0
    exact_against_gradients(seconds, rng)
    equal_error(seconds, 64 if quick else 512, rng)
    if find_spec("curvlinops") and find_spec("torch"):
        of_curvlinops(seconds, rng)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="each a few times only")
    main(parser.parse_args().quick)
