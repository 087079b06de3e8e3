"""
Where several kinks meet
========================

Three ReLU units of two inputs whose kinks meet in one point, and a second layer above them.
"""

import autograd.numpy as np
import matplotlib.pyplot as plt

import clarke
from clarke.plots import PAPER, hull, regions

W = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])


def net(x):
    h = np.maximum(np.dot(W, x), 0)
    return np.maximum(h[0] + h[1] - h[2], 0) + np.abs(h[0] - h[1]) + 0.25 * h[2]


found = clarke.study(net, [0.0, 0.0])
print(found.fan)

with plt.rc_context(PAPER):
    figure, (left, right) = plt.subplots(1, 2, figsize=(6.9, 3.3), layout="constrained")
    regions(found, left)
    hull(found.gradients, right)
    for ax in (left, right):
        ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=4, frameon=False)

# %%
# The kink of ``h[0] + h[1] - h[2]`` depends on the letters of the layer below: where both inputs are positive its
# argument is 0 throughout, and the kink is mute (letter 0).

print(found.fan.patterns)
