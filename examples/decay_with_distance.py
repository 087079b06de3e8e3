"""
Does curvature fade with distance in a network, and do skip connections keep it?
================================================================================

Chains of twelve random linear layers of width 8, with and without skips, under a squared loss. Two answers. The norm
of H[v, out] decays exponentially where every Jacobian is a contraction, and skips near the identity keep it up; both
have their bounds. The resonance R(v, out) = norm(H_vout) / sqrt(norm(H_vv) norm(H_outout)), in which the norms are
divided out, does not decay exponentially: scaling a layer does not change it, and with H_outout = c I of d rows it is
at least d^(-1/4).

    python examples/decay_with_distance.py [--quick] [--out decay_with_distance.png]
"""

import argparse

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from tqdm import tqdm

import clarke
from clarke.diagnostics import chain_upper_bound, decay, skip_lower_bound
from clarke.layers import affine, squared_error
from clarke.plots import PAPER

WIDTH, DEPTH = 8, 12
TABLE = 1, 3, 6, 9, 12
Q, EPS = 0.8, 0.1


def gaussian(rng):
    """Entries N(0, 1/8): products keep their mean square."""
    return rng.normal(size=(WIDTH, WIDTH)) / np.sqrt(WIDTH)


def scaled(W, norm):
    return norm * W / np.linalg.norm(W, 2)


FAMILIES = {
    "no skip, $W_{ij}\\sim N(0, 1/8)$": (gaussian, "#1f5a8a", "o"),
    f"no skip, $|W|_2={Q}$": (lambda rng: scaled(gaussian(rng), Q), "#5fa3c9", "s"),
    "skip, $I + 0.3\\,W$": (lambda rng: np.eye(WIDTH) + 0.3 * gaussian(rng), "#a33b20", "o"),
    f"skip, $I + J$, $|J|_2={EPS}$": (lambda rng: np.eye(WIDTH) + scaled(gaussian(rng), EPS), "#e08a5b", "s"),
}


def chain(layer, rng):
    """x -> n1 -> ... -> n12, each the layer drawn times the one before."""
    network = clarke.Network()
    network.input("x", rng.normal(size=(1, WIDTH)))
    before = "x"
    for k in range(1, DEPTH + 1):
        network.parameter(f"W{k}", layer(rng))
        network.node(f"n{k}", affine, before, f"W{k}")
        before = f"n{k}"
    network.loss(squared_error(np.zeros((1, WIDTH))), before)
    return network


def study(layer, rng, draws, progress):
    """Resonance and relative norm with the output, (draws, DEPTH + 1) each, by distance."""
    found = []
    for _ in range(draws):
        network = chain(layer, rng)
        fade = decay(clarke.hessian_blocks(network), f"n{DEPTH}", ["x", *network.nodes])
        found.append((fade.resonance, fade.norms / fade.norms[0]))
        progress.update()
    return np.swapaxes(found, 0, 1)


def picture(results):
    """Left the resonance, right the norms with their bounds; medians, and 10 to 90 percent of the draws."""
    away = np.arange(DEPTH + 1)
    with matplotlib.rc_context(PAPER):
        figure = Figure(figsize=(6.9, 2.9), layout="constrained")
        left, right = figure.subplots(1, 2)
        for (label, (_, color, marker)), panels in zip(FAMILIES.items(), results, strict=True):
            for ax, values in zip((left, right), panels, strict=True):
                low, middle, high = np.quantile(values, [0.1, 0.5, 0.9], axis=0)
                ax.fill_between(away, low, high, color=color, alpha=0.15, lw=0)
                hollow = {"ms": 5, "mfc": "none", "mew": 0.7} if marker == "s" else {"ms": 2.5}
                ax.plot(away, middle, color=color, marker=marker, lw=1, label=label, **hollow)
        left.axhline(WIDTH**-0.25, color="black", lw=0.8, ls=":")
        left.text(0, WIDTH**-0.25 + 0.008, "floor $8^{-1/4}$", fontsize=7, va="bottom")
        left.set(ylabel="resonance $R(v, \\mathrm{out})$", ylim=(0.55, 1.02))
        for bound, rate, text in ((chain_upper_bound, Q, f"${Q}^k$"), (skip_lower_bound, EPS, f"${1 - EPS}^k$")):
            right.plot(away, bound(1.0, rate, away), color="black", lw=0.8, ls="--")
            right.annotate(
                text, (DEPTH, bound(1.0, rate, DEPTH)), xytext=(3, 0), textcoords="offset points", fontsize=7
            )
        right.set(ylabel=r"$\Vert H_{v,\mathrm{out}}\Vert_F\, /\, \Vert H_{\mathrm{out},\mathrm{out}}\Vert_F$")
        right.set(yscale="log", xlim=(-0.6, DEPTH + 1.6))
        for ax in (left, right):
            ax.set(xlabel="distance $k$ to the output", xticks=away[::3])
        handles, labels = left.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
        figure.draw_without_rendering()  # ticks are made when drawn: they take the fonts of now
    return figure


def main(out, quick):
    draws = 25 if quick else 400
    with tqdm(total=draws * len(FAMILIES), desc="networks") as progress:
        results = [study(layer, np.random.default_rng(0), draws, progress) for layer, _, _ in FAMILIES.values()]
    print("mean resonance with the output at distance", *TABLE)
    for label, (values, _) in zip(FAMILIES, results, strict=True):
        row = "  ".join(f"{values[:, k].mean():.3f} ± {values[:, k].std(ddof=1) / np.sqrt(draws):.3f}" for k in TABLE)
        print(f"  {label:32} {row}")
    picture(results).savefig(out, dpi=200)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--quick", action="store_true", help="fewer networks")
    parser.add_argument("--out", default="decay_with_distance.png", help="where to write the picture")
    arguments = parser.parse_args()
    main(arguments.out, arguments.quick)
