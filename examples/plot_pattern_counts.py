"""
How many patterns meet
======================

Patterns of first-layer units that share a kink, against Zaslavsky's bound for hyperplanes in general position. Weights
are small whole numbers, so that hyperplanes coincide and meet: the numbers stay below the bound.
"""

import autograd.numpy as np
import numpy
from matplotlib import rc_context
from matplotlib.figure import Figure

import clarke
from clarke.plots import PAPER
from clarke.profiles import counts, pattern_counts

rng = numpy.random.default_rng(0)
fans = []
for n in (2, 3, 4):
    for k in range(1, 13):
        W = rng.integers(-2, 3, size=(k, n))
        fans.append(clarke.local_fan(lambda x, W=W: np.sum(np.maximum(np.dot(W, x), 0)), numpy.zeros(n)))
with rc_context(PAPER):
    figure = Figure(figsize=(3.4, 2.4), layout="constrained")
    counts(pattern_counts(fans), figure.subplots())
