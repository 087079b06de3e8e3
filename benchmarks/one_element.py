"""One true gradient or Hessian against autograd's own, at smooth points, on a recorded graph.

Prints the ratio of best times in one process, one BLAS thread: what a user pays for an answer that is right at kinks
too. Run as: OMP_NUM_THREADS=1 python benchmarks/one_element.py
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

from timeit import repeat

import autograd
import autograd.numpy as anp
import numpy as np

import clarke


def ratio(ours, theirs, graph, x, number):
    """Best time of ours(graph, x) over that of theirs(graph)(x)."""
    times = [min(repeat(call, number=number, repeat=7)) for call in (lambda: ours(graph, x), lambda: theirs(graph)(x))]
    return times[0] / times[1]


def mlp(sizes, activation, samples, rng):
    inputs, targets = rng.standard_normal((samples, sizes[0])), rng.standard_normal((samples, sizes[-1]))
    return clarke.mlp(sizes, activation=activation, loss="squared", inputs=inputs, targets=targets, rng=rng)


def main():
    rng = np.random.default_rng(0)
    readme = clarke.from_function(lambda w: (anp.maximum(w[0], 0) * w[1] - 1) ** 2, [0.3, 2.0])
    cases = [("the loss of the README", readme, np.array([0.3, 2.0]))]
    for sizes, activation in (((10, 20, 20, 1), "relu"), ((50, 100, 100, 1), "relu"), ((10, 30, 1), "tanh")):
        net = mlp(sizes, activation, 8, rng)
        layers = "-".join(map(str, sizes))
        cases.append((f"{activation} {layers}, in its inputs", net.function("x"), np.array(net.point("x"))))
        cases.append((f"{activation} {layers}, in its parameters", net.function(), np.array(net.point())))
    print(f"{'function':42s} {'n':>6s} {'gradient':>9s} {'Hessian':>9s}   (time / autograd's)")
    for name, graph, x in cases:
        line = f"{name:42s} {x.size:6d} {ratio(clarke.limiting_gradient, autograd.grad, graph, x, 20):9.2f}"
        if x.size <= 700:
            line += f" {ratio(clarke.limiting_hessian, autograd.hessian, graph, x, 1):9.2f}"
        print(line)


if __name__ == "__main__":
    main()
