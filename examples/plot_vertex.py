"""
Where several kinks meet
========================

Three ReLU units of two inputs whose kinks meet in one point, and a second layer above them.
"""

import autograd.numpy as np

import clarke

W = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])


def net(x):
    h = np.maximum(np.dot(W, x), 0)
    return np.maximum(h[0] + h[1] - h[2], 0) + np.abs(h[0] - h[1]) + 0.25 * h[2]


found = clarke.study(net, [0.0, 0.0])
print(found.fan)
figure = found.plot()

# %%
# The kink of ``h[0] + h[1] - h[2]`` depends on the letters of the layer below: where both inputs are positive its
# argument is 0 throughout, and the kink is mute (letter 0).

print(found.fan.patterns)
