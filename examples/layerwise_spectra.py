"""
What do the Hessians of single layers look like while a network learns, with too few parameters and with too many?
==================================================================================================================

Two tanh networks learn scikit-learn's handwritten digits, whole batch, by Adam: one too narrow to fit its training set,
one wide enough to fit it exactly. At a few steps the Hessian of the loss in the weights of each layer alone, a diagonal
block of the whole (the local Hessian of Bolshim & Kugaevskikh, "Local properties of neural networks through the lens of
layer-wise Hessians", 2025), is decomposed, and so is its Gauss-Newton part. The picture shows all eigenvalues by rank:
positive ones as lines, the absolute values of negative ones dashed.

What is seen: at the start a quarter to a third of the mass of the spectra of W1 and W2 is negative (none in the 2 by 2
block of the narrow one), and under 3 percent after 10 steps. In the narrow network, which never fits, the largest
eigenvalue of W1 grows a hundredfold and the Gauss-Newton part becomes nearly all of the Hessian. In the wide one the
traces grow first and then shrink with the loss, as they must with cross-entropy, whose own curvature vanishes with its
gradient; there the tensor part keeps its share. The Hessian of W3 is its Gauss-Newton part at every step: the outputs
are linear in it. One data set, one seed, one optimizer: an illustration, no test of that paper's statements.

    python examples/layerwise_spectra.py [--quick] [--out layerwise_spectra.png]
"""

import argparse
from dataclasses import dataclass

import matplotlib
import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from sklearn.datasets import load_digits
from tqdm import tqdm

import clarke
from clarke.diagnostics import gauss_newton_gap, layer_spectra, participation_rank
from clarke.linearization import linearize
from clarke.plots import PAPER

RATE = 0.01
LAYERS = "W1", "W2", "W3"
FLOOR = 1e-8  # relative to the largest eigenvalue of the panel: below it eigenvalues are rounding, and are not drawn


@dataclass(frozen=True, eq=False)
class Course:
    """A training: checkpoints by step; spectra[step][part][layer]; losses (2, steps), on training and test data."""

    title: str
    spectra: dict
    ranks: dict
    gaps: dict
    losses: np.ndarray
    accuracy: tuple


def build(width, pixels, labels, theta=None):
    """64-width-width-10, tanh, cross-entropy."""
    return clarke.mlp(
        (64, width, width, 10),
        activation="tanh",
        loss="cross_entropy",
        inputs=pixels,
        targets=np.eye(10)[labels],
        theta=theta,
        rng=np.random.default_rng(0),
    )


def loss_and_accuracy(network, labels):
    (_, head, _) = network.losses[0]
    y = network.value("y")
    return float(head(y)), float(np.mean(y.argmax(axis=1) == labels))


def learn(title, width, train, test, checkpoints, progress):
    """Adam (Kingma & Ba, ICLR 2015) with the adjoints of the parameters, and spectra at the checkpoints."""
    network, other = build(width, *train), build(width, *test)
    theta, mean, square = network.point(), 0.0, 0.0
    spectra, ranks, gaps, losses = {}, {}, {}, []
    for step in range(checkpoints[-1] + 1):
        network = network.at(theta)
        losses.append([loss_and_accuracy(net, of[1])[0] for net, of in ((network, train), (other.at(theta), test))])
        if step in checkpoints:
            blocks = clarke.hessian_blocks(network)
            spectra[step] = {part.part: layer_spectra(part, LAYERS) for part in (blocks, blocks.gauss_newton)}
            ranks[step] = {name: participation_rank(blocks.gauss_newton, name) for name in LAYERS}
            gaps[step] = {name: gauss_newton_gap(blocks, name) for name in LAYERS}
            progress.update()
        lin = linearize(network)
        g = np.concatenate([lin.adjoint(name).ravel() for name in network.parameters])
        mean, square = 0.9 * mean + 0.1 * g, 0.999 * square + 0.001 * g**2
        t = step + 1
        theta = theta - RATE * (mean / (1 - 0.9**t)) / (np.sqrt(square / (1 - 0.999**t)) + 1e-8)
    accuracy = loss_and_accuracy(network, train[1])[1], loss_and_accuracy(other.at(network.point()), test[1])[1]
    return Course(f"{title}: {network.size} parameters", spectra, ranks, gaps, np.transpose(losses), accuracy)


def report(course):
    """What was seen, as a table."""
    train, test = course.losses[:, -1]
    print(f"{course.title}; at the end loss {train:.3g} (test {test:.3g}), accuracy {course.accuracy[0]:.3f}", end=" ")
    print(f"(test {course.accuracy[1]:.3f})")
    print("  layer  step  largest  least     trace    negative share  GGN participation rank  GN gap")
    for name in LAYERS:
        for step in course.spectra:
            values = course.spectra[step]["hessian"][name]
            negative = np.abs(values[values < 0]).sum() / np.abs(values).sum()
            print(
                f"  {name:5}  {step:4}  {values[-1]:7.2g}  {values[0]:8.2g}  {values.sum():7.2g}  {negative:14.3f}"
                f"  {course.ranks[step][name]:22.1f}  {course.gaps[step][name]:6.3f}"
            )


def picture(courses):
    """One row for each of the two networks: its losses, then the spectra of its layers."""
    with matplotlib.rc_context(PAPER):
        figure = Figure(figsize=(6.9, 3.6), layout="constrained")
        axes = figure.subplots(len(courses), 1 + len(LAYERS), width_ratios=[1, 1.1, 1.1, 1.1], sharex="col")
        steps = list(courses[0].spectra)
        colors = ScalarMappable(LogNorm(1, 10 * steps[-1]), "plasma")  # the palest end of the map is left out
        lowest = min(course.losses.min() for course in courses)
        for (losses, *panels), course, last in zip(axes, courses, (False, True), strict=True):
            for values, style, label in zip(course.losses, ("-", "--"), ("training", "test"), strict=True):
                losses.loglog(np.arange(len(values)) + 1, values, style, color="#333333", lw=0.9, label=label)
            losses.set(ylabel="loss", xlabel="step + 1" if last else "", ylim=(min(lowest / 1.5, 0.08), 5))
            losses.set_title(course.title, loc="left")
            for k, (name, panel) in enumerate(zip(LAYERS, panels, strict=True)):
                draw(panel, course, name, colors)
                panel.set_title(f"{name}, {len(course.spectra[0]['hessian'][name])} entries", loc="right")
                panel.set(xlabel="rank" if last else "", ylabel="" if k else "$|\\lambda|$")
        axes[0, 0].legend(frameon=False, loc="lower left")
        for step in steps:
            axes[0, 1].plot([], [], color=colors.to_rgba(step + 1), label=f"step {step}")
        axes[0, 1].plot([], [], "--", color="#555555", lw=0.7, label="negative")
        axes[0, 1].plot([], [], ":", color="black", lw=1, label="Gauss\N{EN DASH}Newton part, last step")
        handles, labels = axes[0, 1].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
        figure.draw_without_rendering()  # ticks are made when drawn: they take the fonts of now
    return figure


def draw(ax, course, name, colors):
    largest = max(spectra["hessian"][name][-1] for spectra in course.spectra.values())
    for step, spectra in course.spectra.items():
        values = spectra["hessian"][name]
        color = colors.to_rgba(step + 1)
        for part, style, width in ((values[values > 0][::-1], "-", 1.0), (-values[values < 0], "--", 0.7)):
            kept = part[part > FLOOR * largest]
            ax.loglog(np.arange(len(kept)) + 1, kept, style, color=color, lw=width)
    final = spectra["gauss_newton"][name][::-1]
    final = final[final > FLOOR * largest]
    ax.loglog(np.arange(len(final)) + 1, final, ":", color="black", lw=1)
    least = min(line.get_ydata().min() for line in ax.lines if len(line.get_ydata()))
    ax.set_ylim(min(least / 3, largest / 1e3), 3 * largest)


def main(out, quick):
    data = load_digits()
    order = np.random.default_rng(1).permutation(len(data.target))
    pixels, labels = data.data[order] / 16 - 0.3, data.target[order]
    count = 100 if quick else 300
    train, test = (pixels[:count], labels[:count]), (pixels[-500:], labels[-500:])
    checkpoints = (0, 10, 100) if quick else (0, 10, 100, 1000)
    with tqdm(total=2 * len(checkpoints), desc="spectra") as progress:
        courses = [
            learn(title, width, train, test, checkpoints, progress)
            for title, width in (("narrow", 2), ("wide", 12 if quick else 28))
        ]
    for course in courses:
        report(course)
    picture(courses).savefig(out, dpi=200)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--quick", action="store_true", help="fewer samples, units and steps")
    parser.add_argument("--out", default="layerwise_spectra.png", help="where to write the picture")
    arguments = parser.parse_args()
    main(arguments.out, arguments.quick)
