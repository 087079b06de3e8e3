"""Limiting gradients and Hessians of piecewise-smooth functions at their kinks, exactly and with certificates.

    >>> import autograd.numpy as np, clarke
    >>> loss = lambda w: (np.maximum(w[0], 0) * w[1] - 1) ** 2
    >>> found = clarke.limiting_hessians(loss, [0.0, 2.0])
    >>> found.patterns, found.complete, found.c11
    (('-', '+'), True, False)
    >>> found.matrices.tolist()
    [[[0.0, 0.0], [0.0, 0.0]], [[8.0, -2.0], [-2.0, 0.0]]]

The rooms are listed in docs/house.md; every function of the walk is public here.
"""

from importlib import import_module
from importlib.util import find_spec

_DOORS = {
    "arrangements": "Chambers TooManyChambers chambers",
    "audit": "Audit check_ad",
    "blocks": "HessianBlocks hessian_blocks",
    "bounds": "LossIncrements NormReport loss_increments norm_report",
    "counting": "characteristic_polynomial count_chambers",
    "diagnostics": (
        "coupling gauss_newton_gap participation_rank resonance spectral_density stable_rank trace_coupling"
    ),
    "differentials": "Differential differential",
    "elements": "KinkError",
    "eliminations": "SingularHessian UnsuitableMethod",
    "equations": "fischer_burmeister natural_residual root",
    "exact_projection": "ExactProjection",
    "factors": "Factors outer_product_factors outer_product_norm",
    "fan": "Fan local_fan",
    "graph": "Graph from_function",
    "inverse": "InverseProduct inverse_hessian_product",
    "kinks": "Kink active_kinks",
    "limiting": (
        "LimitingGradients LimitingHessians LimitingJacobians limiting_gradient limiting_gradients "
        "limiting_hessian limiting_hessians limiting_jacobians"
    ),
    "matrix_calculus": (
        "DerivativeCheck check_gradient check_hessian commutation duplication elimination rvec symmetrize "
        "unrvec unvec unvech vec vech"
    ),
    "models": "conv_net digits mlp recurrent residual residual_chain transformer",
    "network": "Network",
    "passes": "TiedPieces forward_values hvp jacobian jvp vjp",
    "paths": "PathReport path_report",
    "piecewise_quadratic": "SquaredHingeMinimum minimize_squared_hinges",
    "primitives": "HiddenBranch NotPiecewiseSmooth UnsupportedPrimitive smooth",
    "printed": "DimensionError",
    "projection": (
        "BlockwiseMinNorm MinNormElement ProjectionStopped blockwise_min_norm contains eigenvalue_interval "
        "min_norm_element nearest_element prove_nearest support"
    ),
    "regions": "Region boundary_point neighbors region",
    "report": "Study study",
    "scatter": "ProbeCount probe_count trace_variance unrolling_bias",
    "selections": "where",
    "semismooth": "SingularElement minimize newton newton_step",
    "shards": "iter_chambers read_chambers write_chambers",
    "stochastic": "ExpectedHessian expected_hessian",
    "traces": "LayerTraces layer_traces",
    "vertices": "vertex",
    "zonotopes": "Zonotope",
}
"""Room -> the public names it gives; `__init__.pyi` says the same to type checkers."""
_ROOM = {name: room for room, names in _DOORS.items() for name in names.split()}

__all__ = sorted(_ROOM)  # pyright: ignore[reportUnsupportedDunderAll]
__version__ = "0.1.0"


def __getattr__(name):
    """A public name, or a room, when it is first asked for: `import clarke` itself reads nothing."""
    if name in _ROOM:
        found = globals()[name] = getattr(import_module(f".{_ROOM[name]}", __name__), name)
        return found
    if not name.startswith("_") and find_spec(f"{__name__}.{name}") is not None:
        return import_module(f".{name}", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return [*globals(), *__all__]
