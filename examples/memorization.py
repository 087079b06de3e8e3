"""
Can a monitor of layer traces tell a network that memorizes from one that learns?
=================================================================================

ReLU networks 64-32-32-10 are trained on 400 of scikit-learn's handwritten digits, on their labels, on labels of which
a fifth were replaced by random ones, and on random labels altogether. After each epoch the trace of every layer's
Hessian is taken, exactly (`clarke.layer_traces`: no path from a layer to itself is curved but in the loss, so ten
backward columns do), and its logarithm is watched by a cumulative sum (`clarke.monitoring`) calibrated on other runs
with true labels. The loss and the norm of its gradient are watched in the same way, for comparison.

What is printed is what was measured: alarms among runs with true labels that took no part in the calibration (false
alarms), and among runs with random labels (detections). On this small problem all six statistics find every run with
random labels, and the loss finds a fifth of random labels sooner than the traces do.

    python examples/memorization.py [--quick] [--out memorization.png]
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # small matrices: a second thread costs more than it gives

import argparse
from itertools import pairwise

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from tqdm import tqdm

import clarke
from clarke.linearization import linearize
from clarke.monitoring import alarm_rate, calibrate, monitor
from clarke.traces import layer_traces

SIZES, SAMPLES, BATCH = (64, 32, 32, 10), 400, 40
RATE, MOMENTUM = 0.1, 0.9
SHARES = {"true labels": 0.0, "a fifth random": 0.2, "random labels": 1.0}
STATISTICS = ("layer 1", "layer 2", "layer 3", "all layers", "loss", "gradient norm")
FALSE_ALARMS = 0.05
TOL = 1e-14  # of 25,600 guards an epoch some come within the default 1e-9 of their kink by chance


def network_of(theta, x, targets):
    return clarke.mlp(SIZES, activation="relu", loss="cross_entropy", inputs=x, targets=targets, theta=theta)


def gradient(network):
    """The gradient of the loss in all parameters, flat, by the closed forms of the layers."""
    lin = linearize(network)
    return np.concatenate([lin.adjoint(name).ravel() for name in network.parameters])


def cross_entropy(logits, targets):
    shifted = logits - logits.max(axis=1, keepdims=True)
    return np.mean(np.log(np.exp(shifted).sum(axis=1)) - (targets * shifted).sum(axis=1))


def train(share, epochs, rng):
    """(epochs, 6) the logarithms of STATISTICS at the start of every epoch, and the accuracy on its own labels."""
    digits = load_digits()
    chosen = rng.permutation(len(digits.data))[:SAMPLES]
    x, labels = (digits.data[chosen] - digits.data.mean(axis=0)) / 16, digits.target[chosen]
    labels = np.where(rng.random(SAMPLES) < share, rng.integers(0, 10, SAMPLES), labels)
    targets = np.eye(10)[labels]
    shapes = [(m, n) for n, m in pairwise(SIZES)]
    layers = [(rng.normal(scale=np.sqrt(2 / n), size=(m, n)), rng.normal(scale=0.01, size=m)) for m, n in shapes]
    theta = np.concatenate([array.ravel() for layer in layers for array in layer])
    velocity, found = np.zeros_like(theta), []
    for _ in range(epochs):
        whole = network_of(theta, x, targets)
        traces = layer_traces(whole, tol=TOL).estimate
        by_layer = [traces[f"W{k}"] + traces[f"b{k}"] for k in range(1, len(SIZES))]
        loss = cross_entropy(whole.value("y"), targets)
        found.append([*by_layer, sum(by_layer), loss, np.linalg.norm(gradient(whole))])
        order = rng.permutation(SAMPLES)
        for start in range(0, SAMPLES, BATCH):
            batch = order[start : start + BATCH]
            velocity = MOMENTUM * velocity - RATE * gradient(network_of(theta, x[batch], targets[batch]))
            theta = theta + velocity
    accuracy = np.mean(network_of(theta, x, targets).value("y").argmax(axis=1) == labels)
    return np.log(found), accuracy


def simulate(counts, epochs, seed):
    """name -> (runs, epochs, 6), one random stream a run, spawned before anything is drawn."""
    streams = iter(np.random.default_rng(seed).spawn(sum(counts.values())))
    bar, found = tqdm(total=sum(counts.values()), desc="training", unit="run"), {}
    for name, count in counts.items():
        runs = []
        for _ in range(count):
            runs.append(train(SHARES.get(name, 0.0), epochs, next(streams)))
            bar.update()
        found[name] = np.array([log for log, _ in runs])
        bar.write(f"{name:15s} {count:3d} runs, accuracy on their own labels {np.mean([a for _, a in runs]):.3f}")
    bar.close()
    return found


def table(runs, charts):
    """How many of the runs of each group alarmed, the share's standard error, the median epoch of the alarms."""
    print(
        f"\nalarms of runs, standard error of their share, median epoch; calibrated for {FALSE_ALARMS:.0%} false alarms"
    )
    print(f"{'':14s}" + "".join(f"{group:>24s}" for group in SHARES))
    for statistic, chart, s in zip(STATISTICS, charts, range(len(charts)), strict=True):
        line = f"{statistic:14s}"
        for group in SHARES:
            streams = runs[group][:, :, s]
            alarms = [found for found in (monitor(stream, chart).alarm for stream in streams) if found is not None]
            cell = f"{len(alarms)}/{len(streams)}, {alarm_rate(streams, chart)[1]:.3f}"
            line += f"{cell + (f', {np.median(alarms):.0f}' if alarms else ''):>24s}"
        print(line)
    for s in (3, 4):
        print(f"{STATISTICS[s]}: threshold {charts[s].threshold:.2f}; {charts[s].reason}")


COLORS = {"true labels": "#2a78b5", "a fifth random": "#e08214", "random labels": "#b2182b"}


def draw(runs, charts, path):
    """Above the traces by layer, below the cumulative sums against the threshold."""
    figure, axes = plt.subplots(2, 3, figsize=(12, 6.4), sharex=True, layout="constrained")
    for ax, s in zip(axes[0], range(3), strict=True):
        for group, color in COLORS.items():
            traces = np.exp(runs[group][:, :, s])
            low, middle, high = np.quantile(traces, [0.1, 0.5, 0.9], axis=0)
            ax.fill_between(range(len(middle)), low, high, color=color, alpha=0.2, lw=0)
            ax.plot(middle, color=color, label=group)
        ax.set(title=f"trace of the Hessian, {STATISTICS[s]}", yscale="log")
    axes[0, 0].set_ylabel("median and 10-90 % of runs")
    axes[0, 0].legend(frameon=False)
    for ax, s in zip(axes[1], (3, 4, 5), strict=True):
        for group, color in COLORS.items():
            for stream in runs[group][:, :, s]:
                found = monitor(stream, charts[s])
                ax.plot(np.maximum(found.upper, found.lower), color=color, lw=0.7, alpha=0.6)
        ax.axhline(charts[s].threshold, color="black", lw=1.2, ls="--")
        ax.set(title=f"cumulative sum, {STATISTICS[s]}", xlabel="epoch", yscale="symlog", ylim=(0, None))
    axes[1, 0].set_ylabel("one line a run; dashed: threshold")
    figure.savefig(path, dpi=120)


def main(quick, out):
    epochs = 12 if quick else 20
    counts = {"calibration": 12 if quick else 40} | dict.fromkeys(SHARES, 8 if quick else 60)
    runs = simulate(counts, epochs, seed=0)
    rng = np.random.default_rng(1)
    charts = [
        calibrate(runs["calibration"][:, :, s], false_alarm_rate=FALSE_ALARMS, rng=rng) for s in range(len(STATISTICS))
    ]
    table(runs, charts)
    draw(runs, charts, out)
    print(f"wrote {out}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--quick", action="store_true", help="fewer runs and epochs: under a minute")
    parser.add_argument("--out", default="memorization.png", help="where to write the picture")
    arguments = parser.parse_args()
    main(arguments.quick, arguments.out)
