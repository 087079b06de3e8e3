"""
One kink
========

The loss of one ReLU neuron, its regions near the kink, and the hull of its limiting gradients.
"""

import autograd.numpy as np

import clarke


def loss(w):
    return (np.maximum(w[0], 0) * w[1] - 1) ** 2


found = clarke.study(loss, [0.0, 2.0])
print(found)

# %%
# The left panel shows a slice through the point: two regions, labeled with the sign of the guard. The right panel shows
# the two limiting gradients, their hull, and its element of least norm: it is 0, so the point is stationary, though no
# minimizer.

figure = found.plot()
