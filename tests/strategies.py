"""Hypothesis strategies: piecewise-linear nets with kinks planted exactly at a point.

Weights and points are dyadic with few bits, so every preactivation is computed without rounding and a planted kink is
an exact zero. Everything shrinks to one unit, one input, weight 1.
"""

from dataclasses import dataclass

import autograd.numpy as np
import numpy as onp
from hypothesis import strategies as st

small = st.integers(-3, 3)
halves = st.integers(-6, 6).map(lambda k: k / 2)


def relu_maximum(z):
    return np.maximum(z, 0.0)


@dataclass(frozen=True)
class Net:
    """z_l = W_l a_{l-1} + b_l, a_l = relu(z_l), output W a + b of the last layer; `x` is where kinks are planted."""

    layers: tuple
    x: onp.ndarray

    def __call__(self, x, relu=relu_maximum):
        a = x
        for W, b in self.layers[:-1]:
            a = relu(np.dot(W, a) + b)
        W, b = self.layers[-1]
        return np.dot(W, a) + b

    def preactivations(self, x):
        a, found = onp.asarray(x, float), []
        for W, b in self.layers[:-1]:
            found.append(W @ a + b)
            a = onp.maximum(found[-1], 0)
        return found


@st.composite
def matrices(draw, rows, cols, elements=small):
    return onp.array(draw(st.lists(elements, min_size=rows * cols, max_size=rows * cols)), float).reshape(rows, cols)


@st.composite
def nets(draw, max_inputs=3, max_width=3, max_depth=2, outputs=None):
    """Nets in which each hidden unit vanishes at x or not, as drawn; at least one does."""
    n = draw(st.integers(1, max_inputs))
    x = draw(matrices(1, n, halves))[0]
    a, layers, planted = x, [], False
    depth = draw(st.integers(1, max_depth))
    for level in range(depth):
        width = draw(st.integers(1, max_width))
        W = draw(matrices(width, len(a)))
        z = W @ a
        vanish = onp.array(draw(st.lists(st.booleans(), min_size=width, max_size=width)))
        if level == depth - 1 and not planted and not vanish.any():
            vanish[0] = True
        planted = planted or bool(vanish.any())
        b = onp.where(vanish, -z, draw(matrices(1, width, halves))[0])
        layers.append((W, b))
        a = onp.maximum(W @ a + b, 0)
    out = outputs or draw(st.integers(1, 2))
    layers.append((draw(matrices(out, len(a))), draw(matrices(1, out))[0]))
    return Net(tuple(layers), x)


# y = W2 max(W1 x + b1, 0) + b2 with 2 inputs, 3 hidden units and 1 output
TINY_NNET = """\
// a comment
// another
2,2,1,3,
2,3,1,
0,
-1.0,-2,
1.0,2.0,
0.5,10.0,7.0,
2.0,4.0,3.0,
1,-1,
.5,2.,
-1e0,+2.5E-1,
0.0,
-1.0,
0.125,
1,2,-4,
0.5,
"""
