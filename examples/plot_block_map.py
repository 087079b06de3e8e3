"""
The blocks of a Hessian
=======================

Norms of the blocks of the Hessian of a small network, of its Gauss-Newton part and of the tensor part.
"""

import numpy as np

import clarke
from clarke.plots import block_map

rng = np.random.default_rng(0)
x, t = rng.normal(size=(32, 4)), np.eye(3)[rng.integers(0, 3, 32)]
net = clarke.mlp((4, 8, 8, 8, 3), activation="tanh", loss="cross_entropy", inputs=x, targets=t, rng=rng)
figure = block_map(clarke.hessian_blocks(net))[0].figure
