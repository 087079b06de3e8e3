"""Matrix calculus: for now, symmetrization."""

import numpy as np


def symmetrize(H):
    """(H + H^T) / 2, for H (..., n, n): the nearest symmetric matrix in the Frobenius norm.

    The symmetrization of Bolshim & Kugaevskikh (2025), Prop. 2 and formulas (4), (5); done block by block,
    (H_vw + H_wv^T) / 2, it is the same map. They recommend it for minimum-norm elements at a kink, where, they say,
    symmetry may fail. It cannot: every limiting Hessian is a limit of symmetric matrices, so it and every element of
    the hull is symmetric, and `symmetrize` is the identity there, bit for bit. It has work to do on matrices that
    rounding, estimation or a wrong formula has left asymmetric, and then it can change the spectrum.

    A new array. ValueError unless H holds real numbers and its last two axes have one length.
    """
    given = np.asarray(H)
    if given.dtype.kind not in "biuf":
        raise ValueError(f"H must hold real numbers; got dtype {given.dtype}")
    if given.ndim < 2 or given.shape[-1] != given.shape[-2]:
        raise ValueError(f"H must be square in its last two axes; got shape {given.shape}")
    H = np.array(given, dtype=float)
    return (H + H.swapaxes(-1, -2)) / 2
