"""Claims of the abstract of Bolshim and Kugaevskikh (2025) on layer-wise Hessians."""

from typing import Any

import numpy as np

from ..blocks import hessian_blocks
from ..models import mlp
from .references import brute_force, dyadic
from .statements import HOLDS, UNTESTABLE, Case, claim, equal

PAPER = "bolshim2025local"


def two_layers(rng: np.random.Generator) -> Any:
    """A smooth network n-2-1 with a squared loss over one or two samples."""
    n, samples = int(rng.integers(1, 3)), int(rng.integers(1, 3))
    activation = rng.choice(["tanh", "sigmoid", "softplus"])
    case = {"activation": str(activation), "theta": dyadic(rng, 2 * n + 5), "x": dyadic(rng, samples, n)}
    return case | {"t": dyadic(rng, samples, 1)}


@claim(
    "LW-1",
    paper=PAPER,
    place="abstract",
    statement="the local Hessian of each functional block (layer) is defined as the matrix of second derivatives of a "
    "scalar function with respect to the parameters of that layer",
    verdict=HOLDS,
    corrected="it is the diagonal block of S^T K S that belongs to the layer",
    domain=two_layers,
)
def local_hessian(case: Case) -> Any:
    """The Hessian over all parameters has the second derivatives with respect to those of one layer, the others fixed,
    as its diagonal block: fixing variables is restricting a quadratic form. The blocks of H = S^T K S, layer by layer,
    beside automatic differentiation of the loss in the parameters of the layer alone."""
    sizes = (len(case["x"][0]), 2, 1)
    network = mlp(
        sizes,
        activation=case["activation"],
        loss="squared",
        inputs=case["x"],
        targets=case["t"],
        theta=case["theta"],
    )
    H, layers = hessian_blocks(network), (("W1", "b1"), ("W2", "b2"))
    ours = [H.dense(names).ravel() for names in layers]
    theirs = [brute_force(network, names).ravel() for names in layers]
    return equal(blocks_of_the_layers=[*ours[0], *ours[1]], second_derivatives=[*theirs[0], *theirs[1]])


@claim(
    "LW-2",
    paper=PAPER,
    place="abstract",
    statement="the spectral properties of local Hessians reveal quantitative patterns associated with overfitting, "
    "underparameterization and expressivity; 111 experiments across 37 data sets",
    verdict=UNTESTABLE,
    reason="an empirical finding about training runs: no pattern is stated that a network could contradict, and "
    "neither runs nor data are given",
)
def spectral_patterns(case: Case) -> None:
    """Nothing to evaluate."""
