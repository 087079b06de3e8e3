"""Bounds of |H_O|: searched for violations, their looseness over depth, and what the norm costs without the matrix.

    OMP_NUM_THREADS=1 python benchmarks/bounds.py [--quick]

1,000 random chains (--quick: 100), each moved uphill on |H_O| / bound over its parameters and its sample; exits with a
message if a bound other than the printed Lemma 5 is violated.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import math
import sys
from functools import partial
from time import process_time

import numpy as np

import clarke
from clarke import layers
from clarke.bounds import norm_report
from clarke.factors import outer_product_factors, outer_product_norm

KEPT = ("Lemma 2", "Theorem 1", "Theorem 2", "Lemma 3", "Lemma 4", "Lemma 5", "Lemma 5 corrected", "sharp")
KEPT += ("sharp, by weights",)


def chain(rng, sides, channels, size, kernel, *, pool=None, place=1, head=(), scale=1.0, relu=True, keywords=None):
    """Convolutions without bias on a sample of sides of `size`; a pooling in Lambda^(place), perhaps beside a relu."""
    keywords = keywords or {}
    network = clarke.Network()
    network.input("x", rng.standard_normal((1, channels[0], *[size] * sides)))
    convolve = partial([layers.conv1d, layers.conv2d][sides - 1], **keywords)
    pools = {"max": (layers.max_pool1d, layers.max_pool2d), "average": (layers.average_pool1d, layers.average_pool2d)}
    last = len(channels) - 1
    for k in range(1, last + 1):
        K = rng.standard_normal((channels[k], channels[k - 1], *[kernel] * sides))
        network.parameter(f"K{k}", K / math.sqrt(K[0].size))
        network.node(f"z{k}", convolve, _above(network), f"K{k}")
        if k < last or head:
            if relu or k != place or pool is None:
                network.node(f"h{k}", layers.relu, _above(network))
            if pool and k == place:
                network.node(f"p{k}", partial(pools[pool][sides - 1], size=2), _above(network))
    network.node("flat", layers.reshape, _above(network))
    width = network.value("flat").size
    for k, wide in enumerate(head, 1):
        if k > 1:
            network.node(f"g{k}", layers.relu, _above(network))
        network.parameter(f"V{k}", scale * rng.standard_normal((wide, width)) / math.sqrt(width))
        network.node(f"y{k}", layers.affine, _above(network), f"V{k}")
        width = wide
    return network


def _above(network):
    return network.nodes[-1] if network.nodes else "x"


def family(rng, which):
    """(network, the bound to go uphill on)"""
    depth, size = int(rng.integers(2, 5)), int(rng.integers(6, 10))
    kernel = int(rng.integers(1, 4)) if size > 2 * depth + 2 else 1 + int(rng.integers(0, 2))
    channels = [int(c) for c in rng.integers(1, 4, size=depth + 1)]
    name = ("Theorem 1", "Theorem 2", "Lemma 3", "Lemma 4", "Lemma 5 corrected", "sharp")[which]
    if which < 2:
        channels[-1] = max(channels[-1], 2)
        return chain(rng, which + 1, channels, size, min(kernel, 2)), name
    if which < 4:
        channels[-1] = max(channels[-1], 2)
        pool, channels = ("max", "average")[which - 2], channels[:2] + channels[-1:]
        return chain(rng, 2, channels, size, min(kernel, 2), pool=pool, relu=rng.random() < 0.5), name
    head = tuple(int(n) for n in rng.integers(2, 5, size=rng.integers(1, 3)))
    sides = int(rng.integers(1, 3))
    if which == 4:
        return chain(rng, sides, channels[:3], size, kernel, head=head, scale=10 ** rng.uniform(-6, 0)), name
    keywords = {"stride": int(rng.integers(1, 3)), "padding": int(rng.integers(0, 2))}
    pool = (None, "max", "average")[int(rng.integers(0, 3))]
    return chain(rng, sides, channels[:3], max(size, 8), min(kernel, 2), head=head, pool=pool, keywords=keywords), name


def uphill(network, name, rng, steps):
    """Every report on a random ascent of |H_O| / bound `name`."""
    names = (*network.parameters, *network.inputs)
    best, width = norm_report(network), 0.5
    yield best
    for _ in range(steps):
        point = network.point(names)
        moved = network.at(point + width * np.abs(point).mean() * rng.standard_normal(point.size), names)
        try:
            found = norm_report(moved)
        except clarke.KinkError:
            continue
        yield found
        if found.looseness[name] < best.looseness[name]:
            best, network, width = found, moved, min(1.3 * width, 2.0)
        else:
            width = max(0.85 * width, 1e-3)


def search(count, steps):
    largest, spoke, violated = dict.fromkeys(KEPT, 0.0), dict.fromkeys(KEPT, 0), dict.fromkeys(KEPT, 0)
    for seed in range(count):
        rng = np.random.default_rng(seed)
        for report in uphill(*family(rng, seed % 6), rng, steps):
            for bound in report.bounds:
                if bound.holds is not None:
                    spoke[bound.name] += 1
                    violated[bound.name] += not bound.holds
                    largest[bound.name] = max(largest[bound.name], 1 / report.looseness[bound.name])
    print(f"{count} chains, each with {steps} steps uphill on norm / bound\n")
    print(f"{'bound':20s} {'evaluated':>10s} {'violated':>9s} {'largest norm / bound':>21s}")
    for name in KEPT:
        print(f"{name:20s} {spoke[name]:10,d} {violated[name]:9,d} {largest[name]:21.4g}")
    if any(violated[name] for name in KEPT if name != "Lemma 5"):
        sys.exit("stopped: a bound that should hold is violated")


def attained(starts, steps):
    """The largest norm / sharp found for kernels of k taps on d windows, two layers."""
    print("\nlargest norm / sharp found; one convolution to the logits, and two with a relu between\n")
    print(f"{'taps':>5s} {'windows':>8s} {'mu':>3s} {'one layer':>10s} {'two layers':>11s}")
    for taps, windows in ((1, 4), (2, 2), (2, 4), (3, 3), (3, 6), (5, 5)):
        found = []
        for channels in ((1, 1), (1, 1, 1)):
            best = 0.0
            size = windows + (len(channels) - 1) * (taps - 1)
            for seed in range(starts):
                rng = np.random.default_rng(seed)
                network = chain(rng, 1, channels, size, taps)
                if seed % 2:  # logits near 0: two equal classes cannot be had, all equal can
                    network = network.at(network.point() * 0.01)
                best = max(best, *(1 / r.looseness["sharp"] for r in uphill(network, "sharp", rng, steps)))
            found.append(best)
        print(f"{taps:5d} {windows:8d} {min(taps, windows):3d} {found[0]:10.3f} {found[1]:11.3f}")
    tiny, V = 1e-4, np.array([[0.0, 1.0], [0.0, -1.0]])
    network = clarke.mlp(
        (2, 2, 2, 2),
        activation="relu",
        loss=None,
        inputs=np.array([[1.0, tiny]]),
        bias=False,
        theta=np.concatenate([np.eye(2).ravel(), np.eye(2).ravel(), V.ravel()]),
    )
    print(
        f"dense, x along one top singular vector and G along another: {1 / norm_report(network).looseness['sharp']:.5f}"
    )


def over_depth(draws):
    print(f"\nbound / norm over depth, medians of {draws} random chains (2 channels, kernel 2 or 2 x 2)\n")
    print(f"{'layers':>6s}  {'1-D: Thm 1':>11s} {'Lemma 2':>10s} {'weights':>10s} {'sharp':>10s}", end="")
    print(f"  {'2-D: Thm 2':>11s} {'Lemma 2':>10s} {'weights':>10s} {'sharp':>10s}")
    for depth in (1, 2, 3, 4, 5):
        line = f"{depth:6d} "
        for sides, theorem in ((1, "Theorem 1"), (2, "Theorem 2")):
            rows = []
            for seed in range(draws):
                rng = np.random.default_rng(seed)
                looseness = norm_report(chain(rng, sides, [2] * (depth + 1), 8, 2)).looseness
                rows.append([looseness[n] for n in (theorem, "Lemma 2", "sharp, by weights", "sharp")])
            medians = np.median(rows, axis=0)
            line += f" {medians[0]:11.3g} {medians[1]:10.3g} {medians[2]:10.3g} {medians[3]:10.3g} "
        print(line)


def timed(call):
    best, value = math.inf, None
    for _ in range(3):
        start = process_time()
        value = call()
        best = min(best, process_time() - start)
    return best, value


def cost():
    print("\nCPU seconds for |H_O| of one image; dense: factors, H_O and its largest eigenvalue\n")
    print(f"{'parameters':>10s} {'gram':>9s} {'lanczos':>9s} {'report':>9s} {'dense':>9s} {'relative difference':>20s}")
    for channels, side in (((4, 4), 10), ((8, 8), 10), ((16, 16), 12), ((16, 64, 160), 20), ((64, 160, 320), 28)):
        rng = np.random.default_rng(0)
        network = clarke.conv_net(
            channels,
            kernel=3,
            inputs=rng.standard_normal((1, 1, side, side)),
            outputs=10,
            activation="relu",
            loss=None,
            pool="max",
            padding=1,
            rng=rng,
        )
        gram, value = timed(partial(outer_product_norm, network, method="gram"))
        lanczos, other = timed(partial(outer_product_norm, network, method="lanczos"))
        report, _ = timed(partial(norm_report, network))
        line = f"{network.size:10,d} {gram:9.4f} {lanczos:9.4f} {report:9.4f}"
        if network.size < 4000:
            start = process_time()
            dense = np.linalg.eigvalsh(outer_product_factors(network).hessian())[-1]
            line += f" {process_time() - start:9.3f} {abs(value / dense - 1):20.1e}"
        else:
            line += f" {'-':>9s} {abs(value / other - 1):20.1e}  (to lanczos)"
        print(line)


def main():
    if {*sys.argv[1:]} - {"--quick"}:
        sys.exit(f"unknown option in {sys.argv[1:]}")
    quick = "--quick" in sys.argv
    search(*((100, 10) if quick else (1002, 20)))
    attained(*((4, 60) if quick else (6, 200)))
    over_depth(11 if quick else 51)
    cost()


if __name__ == "__main__":
    main()
