"""
What does a network look like at the point where all its kinks meet?
====================================================================

Trains the small network behind `clarke.models.digits`: 3-12-12-10, ReLU, no biases, on the first
three principal components of scikit-learn's handwritten digits, centered, so that the mean image is
the origin and all 24 hidden units are at their kink there. After a first training each unit of the
second layer keeps its five largest weights and all are trained again: sparse units are mute wherever
their five parents are off. The weights are rounded to multiples of 2^-10, so that sums and products
of a few of them are exact in floating point.

    python examples/train_digits.py [--out digits.npz]
"""

import argparse
from itertools import pairwise

import autograd.numpy as np
from autograd import value_and_grad
from sklearn.datasets import load_digits
from tqdm import tqdm

from clarke.layers import affine, cross_entropy, relu

SIZES = (3, 12, 12, 10)
EPOCHS, BATCH, RATE = 100, 32, 0.01
KEPT = 5  # weights of each unit of the second layer


def logits(weights, x):
    """The outputs (N, 10) of the network at x (N, 3)."""
    W1, W2, W3 = weights
    return affine(relu(affine(relu(affine(x, W1)), W2)), W3)


def principal_components(pixels, count):
    """The coordinates (N, count) of the rows of `pixels` about their mean, each axis signed so that
    its largest entry is positive."""
    centered = pixels - pixels.mean(axis=0)
    axes = np.linalg.svd(centered, full_matrices=False)[2][:count]
    largest = np.abs(axes).argmax(axis=1)
    return centered @ (axes * np.sign(axes[range(count), largest])[:, None]).T


def adam(gradient, weights, rates):
    """Adam (Kingma & Ba, ICLR 2015): gradient(weights, t) is asked for once for each rate."""
    means = [np.zeros_like(W) for W in weights]
    squares = [np.zeros_like(W) for W in weights]
    for t, rate in enumerate(tqdm(rates, desc="training")):
        for W, g, m, v in zip(weights, gradient(weights, t), means, squares, strict=True):
            m += 0.1 * (g - m)
            v += 0.001 * (g**2 - v)
            W -= rate * (m / (1 - 0.9 ** (t + 1))) / (np.sqrt(v / (1 - 0.999 ** (t + 1))) + 1e-8)
    return weights


def largest(W, count):
    """1 at the `count` largest |entries| of each row of W, else 0."""
    ranks = np.abs(W).argsort(axis=1).argsort(axis=1)
    return (ranks >= W.shape[1] - count).astype(float)


def train(x, labels, rng):
    """Weights (W1, W2, W3), multiples of 2^-10."""
    onehot = np.eye(10)[labels]
    starts = [slice(i, i + BATCH) for i in range(0, len(x), BATCH)]
    weights = [rng.normal(scale=np.sqrt(2 / n), size=(m, n)) for n, m in pairwise(SIZES)]
    mask = np.ones_like(weights[1])
    for _ in range(2):
        orders = [rng.permutation(len(x)) for _ in range(EPOCHS)]
        batches = [order[start] for order in orders for start in starts]

        def gradient(weights, t, batches=batches, mask=mask):
            loss = cross_entropy(onehot[batches[t]])
            W1, W2, W3 = value_and_grad(lambda weights: loss(logits(weights, x[batches[t]])))(weights)[1]
            return [W1, W2 * mask, W3]

        weights = adam(gradient, weights, RATE * np.linspace(1, 0, len(batches), endpoint=False))
        mask = largest(weights[1], KEPT)
        weights[1] *= mask
    return [np.round(W * 2**10) / 2**10 for W in weights]


def main(out):
    data = load_digits()
    x, labels = principal_components(data.data / 16, 3), data.target
    weights = train(x, labels, np.random.default_rng(3))
    accuracy = np.mean(logits(weights, x).argmax(axis=1) == labels)
    means = np.array([x[labels == digit].mean(axis=0) for digit in range(10)])
    target = np.sum(means**2, axis=1).argmin()
    print(f"train accuracy {accuracy:.3f}; the mean image is nearest the mean {target}")
    np.savez(out, W1=weights[0], W2=weights[1], W3=weights[2], target=target)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--out", default="digits.npz", help="where to write the weights")
    main(parser.parse_args().out)
