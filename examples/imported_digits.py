"""
What do trained classifiers of digits look like at their kinks?
===============================================================

A scikit-learn perceptron, trained on handwritten digits and imported with its loss, is studied in the space of
images, at a point where six of its units vanish together. A torch convolutional network without biases, if torch is
there, is studied in the space of its parameters, on 64 images: empty borders of the images make hundreds of its units
vanish whatever the weights are, and torch's gradient is compared with the limiting ones.

    python examples/imported_digits.py [--quick] [--out imported_digits.png]
"""

import argparse
import importlib.util
import warnings

import numpy as np
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier

import clarke

TRAINED, UNITS, IMAGES = 1200, 6, 64


def perceptron(X, y, quick):
    """The Study of the perceptron's loss of one image, near it, where units of it vanish."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = MLPClassifier((16,) if quick else (32, 16), max_iter=60, random_state=0).fit(X[:TRAINED], y[:TRAINED])
    network = clarke.importers.load(model, X[1500:1501], y[1500:1501])
    logits = network.function(wrt="x", output="y")
    x = clarke.vertex(logits, network.point("x"), units=UNITS)
    score = model.score(X[TRAINED:], y[TRAINED:])
    return clarke.study(network.function(wrt="x"), x, output=logits, name=f"perceptron, accuracy {score:.2f}, its loss")


def convolutional(X, y, steps):
    """Lines about the parameters of a torch network at its trained point."""
    import torch
    from torch import nn

    torch.manual_seed(0)
    images, labels = torch.tensor(X.reshape(-1, 1, 8, 8)), torch.tensor(y)
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3, bias=False),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, bias=False),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(32, 10, bias=False),
    ).double()
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(steps):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(images[:TRAINED]), labels[:TRAINED]).backward()
        optimizer.step()
    network = clarke.importers.load(model, images[:IMAGES])
    network.loss(clarke.layers.cross_entropy(np.eye(10)[y[:IMAGES]]), network.nodes[-1])
    f, w = network.function(), network.point()
    found = clarke.limiting_gradients(f, w)
    yield f"{network.size} parameters, {IMAGES} images, {len(clarke.active_kinks(f, w))} units at their kink"
    yield f"{len(found.patterns)} pattern(s), complete: {found.complete}: {found.reason}"
    yield str(clarke.min_norm_element(found))
    yield str(clarke.check_ad(f, w, derivative="gradient", backend="torch"))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--quick", action="store_true", help="smaller networks")
    parser.add_argument("--out", default="imported_digits.png", help="the picture of the perceptron")
    args = parser.parse_args()
    X, y = load_digits(return_X_y=True)
    X = X / 16
    found = perceptron(X, y, args.quick)
    print(found)
    found.plot().savefig(args.out, dpi=300)
    print(f"\npicture         {args.out}\n")
    if importlib.util.find_spec("torch") is None:
        print("torch is not installed: no convolutional network")
        return
    print("torch convolutional network\n===========================")
    for line in convolutional(X, y, 10 if args.quick else 60):
        print(line)


if __name__ == "__main__":
    main()
