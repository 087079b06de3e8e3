"""
Newton at kinks
===============

A run of the regularized method on a classic problem, whose minimizer is a kink, and the starts from which the pure
Newton step cycles on a strongly convex function with a Lipschitz gradient.
"""

import autograd.numpy as np
import numpy
from matplotlib import rc_context
from matplotlib.figure import Figure

import clarke
from clarke import classics
from clarke.curves import convergence, cycle_figure, cycle_map
from clarke.plots import PAPER

found = clarke.minimize(classics.rosen_suzuki, numpy.zeros(4))
print(found.message, found.nit)
with rc_context(PAPER):
    run = Figure(figsize=(3.4, 2.6), layout="constrained")
    convergence(found, run.subplots(), optimum=-44.0).legend(frameon=False)

# %%
# f minus its minimum and the distance of 0 to the hull of the gradients nearby; a dotted line stands where the pieces
# used change.


def cut(x):
    """5 x^2, its curvature a tenth beyond 1 and -1."""
    return 5 * x[0] ** 2 - 4.5 * (np.maximum(x[0] - 1, 0) ** 2 + np.maximum(-x[0] - 1, 0) ** 2)


starts = cycle_figure(cycle_map(cut, numpy.linspace(-3, 3, 41)))
