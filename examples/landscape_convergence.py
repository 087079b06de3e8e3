"""
How fast does the loss landscape of a convolutional network settle as samples join?
===================================================================================

And do the bounds of its Hessian say so?

The study of Meshkov (bachelor's thesis, in Russian, MIPT 2025) on scikit-learn's handwritten digits. Convolutions
with ReLU and a dense head, without biases, learn the digits by Adam with the library's gradients; depth, kernel,
channels and the position of a max pooling are varied one at a time. At the trained point theta the training samples
join in random order, and ``|L_{k+1} - L_k|`` is averaged over orders, L_k the mean loss of the first k. An optimum
theta* is stood in for by training on with a falling rate; the table says how small the gradient is there. R =
``|theta - theta*|``.

What is seen, beside the bounds of `clarke.bounds`:

- ``|L_{k+1} - L_k|`` = ``|l_{k+1} - L_k|`` / (k + 1) exactly, so that every curve becomes c / (k + 1), c the mean
  absolute deviation of the losses (dotted). The pictures of the thesis compare one number a network, and no second
  derivative is in it. As in the thesis it falls with the number of channels and is not monotone in the kernel; here
  it rises with depth, and is not monotone in the position of the pooling: pooling early costs most.
- Formula (2) of the thesis adds a second-order term to what is already exact. That term is 300 to 2,000 times what is
  measured.
- The thesis reads dependence on the architecture off its bound of ``|H_O|``. Over these networks that bound (Lemma 5,
  corrected; 10^12 to 10^21 times what is measured) ranks them in no relation to what is measured, and the sharp bound
  hardly better; the largest loss, the term of formula (2) and ``|H_O|`` itself do. The rank correlations are printed.
- The thesis smooths its curves exponentially with 0.995, a lag of 200 samples, which lifts a falling curve several
  times over. Here ``(k + 1) |L_{k+1} - L_k|``, which hardly falls, is averaged over windows k / 1.25 ... 1.25 k.

One data set, small networks, full training of none of them: an illustration. The numbers are those of the long form.

    python examples/landscape_convergence.py [--quick] [--out landscape_convergence.png]
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # small matrices: a second thread costs more than it gives

import argparse
from dataclasses import dataclass
from functools import partial

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from scipy.stats import spearmanr
from sklearn.datasets import load_digits
from tqdm import tqdm

import clarke
from clarke import layers
from clarke.linearization import linearize
from clarke.plots import PAPER

TRAIN, BATCH, RATE, SMOOTHING, WINDOW = 1437, 64, 3e-3, 0.995, 1.25
ORDERS = 2000  # over which increments are averaged
TOL = 1e-14  # of millions of guards some come within the default 1e-9 of their kink by chance


@dataclass(frozen=True)
class Design:
    """depth convolutions k x k of `channels`, a max pooling 2 x 2 after the convolution `pool` (0: none), a head."""

    depth: int = 2
    kernel: int = 3
    channels: int = 6
    pool: int = 0


VARIED = {
    "depth": [Design(depth=depth) for depth in (1, 2, 3)],
    "kernel": [Design(kernel=kernel) for kernel in (1, 2, 3, 4)],
    "channels": [Design(channels=channels) for channels in (2, 4, 8, 16)],
    "pool": [Design(depth=3, kernel=2, pool=pool) for pool in (0, 1, 2, 3)],
}
TITLES = {"depth": "convolutions", "kernel": "kernel", "channels": "channels", "pool": "pooling after"}


def build(design, images, labels):
    """The network of a design, its weights 0; without biases, so that the printed bounds speak of it."""
    network, above, inner = clarke.Network(), "x", 1
    network.input("x", images)
    for k in range(1, design.depth + 1):
        network.parameter(f"K{k}", np.zeros((design.channels, inner, design.kernel, design.kernel)))
        network.node(f"z{k}", layers.conv2d, above, f"K{k}")
        network.node(above := f"h{k}", layers.relu, f"z{k}")
        if k == design.pool:
            network.node(above := f"p{k}", partial(layers.max_pool2d, size=2), f"h{k}")
        inner = design.channels
    network.node("flat", layers.reshape, above)
    network.parameter("V", np.zeros((10, network.value("flat").shape[1])))
    network.node("y", layers.affine, "flat", "V")
    network.loss(layers.cross_entropy(np.eye(10)[labels]), "y")
    return network


def drawn(network, rng):
    """Weights of variance 2 / fan-in (He et al., ICCV 2015), flat."""
    shapes = [network.value(name).shape for name in network.parameters]
    return np.concatenate([rng.normal(scale=np.sqrt(2 / np.prod(s[1:])), size=np.prod(s)) for s in shapes])


def gradient(network):
    """The gradient of the loss, flat, by the closed forms of the layers."""
    lin = linearize(network)
    return np.concatenate([lin.adjoint(name).ravel() for name in network.parameters])


def learn(design, train, epochs, rng):
    """(theta, theta*): after `epochs` of Adam at a constant rate, and after as many again while the rate falls to 0."""
    theta = drawn(build(design, train[0][:1], train[1][:1]), rng)
    mean, square, t, reached = np.zeros_like(theta), np.zeros_like(theta), 0, theta
    for epoch in range(2 * epochs):
        rate = RATE * min(1.0, 2 - epoch / epochs)
        order = rng.permutation(TRAIN)
        for start in range(0, TRAIN, BATCH):
            batch, t = order[start : start + BATCH], t + 1
            g = gradient(build(design, train[0][batch], train[1][batch]).at(theta))
            mean, square = mean + 0.1 * (g - mean), square + 0.001 * (g**2 - square)
            theta = theta - rate * (mean / (1 - 0.9**t)) / (np.sqrt(square / (1 - 0.999**t)) + 1e-8)
        if epoch == epochs - 1:
            reached = theta
    return reached, theta


def increments(losses, rng):
    """(k + 1) |L_{k+1} - L_k|, k = 1, ..., N - 1, averaged over random orders of the losses (N,)."""
    k = np.arange(1, len(losses) + 1)
    means = np.array([np.cumsum(losses[rng.permutation(len(losses))]) / k for _ in range(ORDERS)])
    return k[1:] * np.abs(np.diff(means, axis=1)).mean(axis=0)


def smoothed(values):
    """Exponentially with 0.995, from the first value on, as in the thesis."""
    found, level = [], values[0]
    for value in values:
        found.append(level := SMOOTHING * level + (1 - SMOOTHING) * value)
    return np.array(found)


def averaged(values):
    """Entry k - 1 becomes the mean of the entries from k / WINDOW to k WINDOW."""
    k, total = np.arange(1, len(values) + 1), np.append(0, np.cumsum(values))
    first, last = np.ceil(k / WINDOW).astype(int), np.minimum(np.floor(k * WINDOW), len(values)).astype(int)
    return (total[last] - total[first - 1]) / (last - first + 1)


@dataclass(frozen=True, eq=False)
class Outcome:
    """What is measured of one trained network; every term times k + 1."""

    size: int
    accuracy: float
    gradient: float  # its norm at theta*
    curve: np.ndarray
    terms: dict


TERMS = {
    "measured": ("$|L_{k+1}-L_k|$", "black", "o"),
    "largest loss": ("$2W$", "#777777", "s"),
    "formula (2)": ("formula (2), its 2nd term", "#1f5a8a", "^"),
    "norm": ("$2R^2\\max|H_O|$", "#5fa3c9", "v"),
    "sharp": ("$2R^2\\,$sharp", "#e08a5b", "D"),
    "Lemma 5 corrected": ("$2R^2\\,$Lemma 5, corrected", "#a33b20", "P"),
}


def measure(design, train, test, epochs, seen, sizes, rng):
    """Train one network; its increments and its bounds. seen: samples of which Hessians are taken."""
    theta, optimum = learn(design, train, epochs, rng)
    network = build(design, *train).at(theta)
    exact = clarke.loss_increments(network)
    assert np.allclose(exact.increments, exact.identity, rtol=1e-9, atol=1e-15)
    order = rng.permutation(TRAIN)[:seen]
    part = build(design, train[0][order], train[1][order]).at(theta)
    second = clarke.loss_increments(part, optimum, sizes=sizes, tol=TOL)
    radius2 = second.radius**2
    largest = train[0][np.sum(train[0] ** 2, axis=(1, 2, 3)).argmax()]  # every bound is a multiple of |x|^2
    there = network.at(optimum)
    report = clarke.norm_report(there, largest, tol=TOL)
    norms = [clarke.outer_product_norm(there, image, tol=TOL) for image in train[0][order]]
    curve = increments(exact.losses, rng)
    terms = {
        "measured": np.abs(exact.losses - exact.losses.mean()).mean(),
        "largest loss": 2 * exact.losses.max(),
        "formula (2)": radius2 * np.nanmean(second.curvature),
        "norm": 2 * radius2 * max(norms),
        **{name: 2 * radius2 * report[name].value for name in ("sharp", "Lemma 5 corrected")},
    }
    answers = build(design, *test).at(theta).value("y").argmax(axis=1)
    size = float(np.linalg.norm(gradient(there)))
    return Outcome(network.size, float(np.mean(answers == test[1])), size, curve, terms)


def run(quick):
    """name -> design -> outcomes, one a seed."""
    data = load_digits()
    order = np.random.default_rng(0).permutation(len(data.target))
    images, labels = data.images[order, None] / 16, data.target[order]
    train, test = (images[:TRAIN], labels[:TRAIN]), (images[TRAIN:], labels[TRAIN:])
    designs = sorted({design for varied in VARIED.values() for design in varied}, key=repr)
    seeds, epochs, seen = (1, 8, 60) if quick else (5, 20, 200)
    sizes = sorted({int(k) for k in np.geomspace(2, seen - 1, 3 if quick else 6)})
    found = {design: [] for design in designs}
    with tqdm(total=seeds * len(designs), desc="networks", unit="net") as bar:
        for design in designs:
            for stream in np.random.default_rng(1).spawn(seeds):
                found[design].append(measure(design, train, test, epochs, seen, sizes, stream))
                bar.update()
    return found


def means(outcomes):
    """Geometric means over the seeds, by term."""
    return {name: np.exp(np.mean([np.log(o.terms[name]) for o in outcomes])) for name in TERMS}


def report(found):
    """The constants c of c / (k + 1), network by network, and how bounds rank them."""
    print("\nconstants c of c / (k + 1), geometric means over seeds; R = |theta - theta*|")
    print(f"{'':10s}{'':>4s} {'size':>6s} {'test':>6s} {'gradient':>9s}" + "".join(f"{name:>19s}" for name in TERMS))
    for what, designs in VARIED.items():
        for design in designs:
            outcomes, terms = found[design], means(found[design])
            accuracy, slope = (np.mean([getattr(o, key) for o in outcomes]) for key in ("accuracy", "gradient"))
            line = f"{what:10s}{getattr(design, what):4d} {outcomes[0].size:6d} {accuracy:6.3f} {slope:9.1e}"
            print(line + "".join(f"{terms[name]:>19.4g}" for name in TERMS))
        steps = np.diff([means(found[design])["measured"] for design in designs])
        print(f"{'':10s}measured: {'falls' if (steps < 0).all() else 'rises' if (steps > 0).all() else 'not monotone'}")
    table = {name: [means(outcomes)[name] for outcomes in found.values()] for name in TERMS}
    print("\nrank correlation with what is measured, over the networks")
    for name in list(TERMS)[1:]:
        print(f"  {name:18s} {spearmanr(table['measured'], table[name]).statistic:+.2f}")
    curve = np.mean([o.curve for o in found[Design()]], axis=0)
    falling = curve / np.arange(2, len(curve) + 2)
    print(f"exponential smoothing with {SMOOTHING} multiplies the curve at k = 1000 by", end=" ")
    print(f"{smoothed(falling)[999] / falling[995:1004].mean():.2f}")


def picture(found):
    """Above the increments as in the thesis, below their constants and those of the bounds."""
    with matplotlib.rc_context(PAPER):
        figure = Figure(figsize=(6.9, 4.3), layout="constrained")
        axes = figure.subplots(2, 4, sharey="row")
        colors = matplotlib.colormaps["viridis"](np.linspace(0.05, 0.85, 4))
        for (above, below), (what, designs) in zip(axes.T, VARIED.items(), strict=True):
            values = [getattr(design, what) for design in designs]
            for design, value, color in zip(designs, values, colors, strict=False):
                curves = np.array([averaged(o.curve) for o in found[design]])
                k = np.arange(1, curves.shape[1] + 1)
                low, high = curves.min(axis=0), curves.max(axis=0)
                above.fill_between(k, low / (k + 1), high / (k + 1), color=color, alpha=0.15, lw=0)
                above.loglog(k, curves.mean(axis=0) / (k + 1), color=color, lw=1, label=str(value or "none"))
                c = np.mean([o.terms["measured"] for o in found[design]])
                above.loglog(k, c / (k + 1), color=color, lw=0.8, ls=":")
            above.legend(title=TITLES[what], frameon=False, title_fontsize=7, labelspacing=0.2, loc="lower left")
            above.set(xlabel="samples $k$", xlim=(5, None))
            for name, (label, color, marker) in TERMS.items():
                logs = np.log([[o.terms[name] for o in found[design]] for design in designs])
                below.semilogy(np.exp(logs.mean(axis=1)), color=color, marker=marker, ms=3.5, lw=0.8, label=label)
            below.set(xlabel=TITLES[what], xticks=range(len(values)), xlim=(-0.4, len(values) - 0.6))
            below.set_xticklabels([str(value or "none") for value in values])
        axes[0, 0].set_ylabel("mean $|L_{k+1}-L_k|$")
        axes[1, 0].set_ylabel("terms, times $k+1$")
        handles, labels = axes[1, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
        figure.draw_without_rendering()  # ticks are made when drawn: they take the fonts of now
    return figure


def main(out, quick):
    found = run(quick)
    report(found)
    picture(found).savefig(out, dpi=200)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--quick", action="store_true", help="one seed, fewer epochs: under a minute")
    parser.add_argument("--out", default="landscape_convergence.png", help="where to write the picture")
    arguments = parser.parse_args()
    main(arguments.out, arguments.quick)
