"""The public names, for type checkers; __init__.py opens their rooms when they are asked for."""

from .arrangements import Chambers, TooManyChambers, chambers
from .audit import Audit, check_ad
from .blocks import HessianBlocks, hessian_blocks
from .bounds import LossIncrements, NormReport, loss_increments, norm_report
from .counting import characteristic_polynomial, count_chambers
from .diagnostics import (
    coupling,
    gauss_newton_gap,
    participation_rank,
    resonance,
    spectral_density,
    stable_rank,
    trace_coupling,
)
from .differentials import Differential, differential
from .elements import KinkError
from .eliminations import SingularHessian, UnsuitableMethod
from .equations import fischer_burmeister, natural_residual, root
from .exact_projection import ExactProjection
from .factors import Factors, outer_product_factors, outer_product_norm
from .fan import Fan, local_fan
from .graph import Graph, from_function
from .inverse import InverseProduct, inverse_hessian_product
from .kinks import Kink, active_kinks
from .limiting import (
    LimitingGradients,
    LimitingHessians,
    LimitingJacobians,
    limiting_gradient,
    limiting_gradients,
    limiting_hessian,
    limiting_hessians,
    limiting_jacobians,
)
from .matrix_calculus import (
    DerivativeCheck,
    check_gradient,
    check_hessian,
    commutation,
    duplication,
    elimination,
    rvec,
    symmetrize,
    unrvec,
    unvec,
    unvech,
    vec,
    vech,
)
from .models import conv_net, digits, mlp, recurrent, residual, residual_chain, transformer
from .network import Network
from .passes import TiedPieces, forward_values, hvp, jacobian, jvp, vjp
from .paths import PathReport, path_report
from .piecewise_quadratic import SquaredHingeMinimum, minimize_squared_hinges
from .primitives import HiddenBranch, NotPiecewiseSmooth, UnsupportedPrimitive, smooth
from .printed import DimensionError
from .projection import (
    BlockwiseMinNorm,
    MinNormElement,
    ProjectionStopped,
    blockwise_min_norm,
    contains,
    eigenvalue_interval,
    min_norm_element,
    nearest_element,
    prove_nearest,
    support,
)
from .regions import Region, boundary_point, neighbors, region
from .report import Study, study
from .scatter import ProbeCount, probe_count, trace_variance, unrolling_bias
from .selections import where
from .semismooth import SingularElement, minimize, newton, newton_step
from .shards import iter_chambers, read_chambers, write_chambers
from .stochastic import ExpectedHessian, expected_hessian
from .traces import LayerTraces, layer_traces
from .vertices import vertex
from .zonotopes import Zonotope

__all__ = [
    "Audit",
    "BlockwiseMinNorm",
    "Chambers",
    "DerivativeCheck",
    "Differential",
    "DimensionError",
    "ExactProjection",
    "ExpectedHessian",
    "Factors",
    "Fan",
    "Graph",
    "HessianBlocks",
    "HiddenBranch",
    "InverseProduct",
    "Kink",
    "KinkError",
    "LayerTraces",
    "LimitingGradients",
    "LimitingHessians",
    "LimitingJacobians",
    "LossIncrements",
    "MinNormElement",
    "Network",
    "NormReport",
    "NotPiecewiseSmooth",
    "PathReport",
    "ProbeCount",
    "ProjectionStopped",
    "Region",
    "SingularElement",
    "SingularHessian",
    "SquaredHingeMinimum",
    "Study",
    "TiedPieces",
    "TooManyChambers",
    "UnsuitableMethod",
    "UnsupportedPrimitive",
    "Zonotope",
    "active_kinks",
    "blockwise_min_norm",
    "boundary_point",
    "chambers",
    "characteristic_polynomial",
    "check_ad",
    "check_gradient",
    "check_hessian",
    "commutation",
    "contains",
    "conv_net",
    "count_chambers",
    "coupling",
    "differential",
    "digits",
    "duplication",
    "eigenvalue_interval",
    "elimination",
    "expected_hessian",
    "fischer_burmeister",
    "forward_values",
    "from_function",
    "gauss_newton_gap",
    "hessian_blocks",
    "hvp",
    "inverse_hessian_product",
    "iter_chambers",
    "jacobian",
    "jvp",
    "layer_traces",
    "limiting_gradient",
    "limiting_gradients",
    "limiting_hessian",
    "limiting_hessians",
    "limiting_jacobians",
    "local_fan",
    "loss_increments",
    "min_norm_element",
    "minimize",
    "minimize_squared_hinges",
    "mlp",
    "natural_residual",
    "nearest_element",
    "neighbors",
    "newton",
    "newton_step",
    "norm_report",
    "outer_product_factors",
    "outer_product_norm",
    "participation_rank",
    "path_report",
    "probe_count",
    "prove_nearest",
    "read_chambers",
    "recurrent",
    "region",
    "residual",
    "residual_chain",
    "resonance",
    "root",
    "rvec",
    "smooth",
    "spectral_density",
    "stable_rank",
    "study",
    "support",
    "symmetrize",
    "trace_coupling",
    "trace_variance",
    "transformer",
    "unrolling_bias",
    "unrvec",
    "unvec",
    "unvech",
    "vec",
    "vech",
    "vertex",
    "vjp",
    "where",
    "write_chambers",
]
__version__: str
