"""
Curvature along a segment
=========================

Least and largest eigenvalue of the generalized Hessian of a squared-hinge loss along a segment. The gradient is
continuous; the Hessian jumps at every margin, where it is a set: the bars.
"""

import autograd.numpy as np
import numpy
from matplotlib import rc_context
from matplotlib.figure import Figure

from clarke.plots import PAPER
from clarke.profiles import band, eigenvalue_band

rng = numpy.random.default_rng(1)
X, y = rng.normal(size=(12, 2)), rng.choice([-1.0, 1.0], size=12)


def loss(w):
    return np.sum(w**2) / 2 + np.sum(np.maximum(1 - y * np.dot(X, w), 0) ** 2)


found = eigenvalue_band(loss, numpy.linspace([-1.5, -1.0], [1.5, 1.0], 60))
print(f"{found.kinked.sum()} kinks, all complete: {found.complete.all()}")
with rc_context(PAPER):
    figure = Figure(figsize=(3.4, 2.4), layout="constrained")
    band(found, figure.subplots())
