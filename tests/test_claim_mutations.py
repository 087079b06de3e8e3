"""Mutating what is right makes a claim fail: formulas of the library, and the references it is held against."""

from itertools import product

import numpy as np
import pytest

import clarke
from clarke import blocks, claims, linearization, notation, printed
from clarke.claims import networks, search
from clarke.claims.bolshim2025interlayer import formulas


@pytest.fixture
def ledger(monkeypatch):
    monkeypatch.setattr(search, "SHRINKS", 0)  # found is enough
    return claims.ledger()


def common_only(n, v, w):
    """The pairs u != u' dropped."""
    return [(u, u) for u in n.common(v, w)]


def recursion_without_pairs(network):
    """The two-sided recursion with u = u' alone."""
    n, H = notation.notation(network), {}
    for v in reversed(n.nodes):
        for w in reversed(n.nodes):
            H[v, w] = formulas.two_sided(n, H, v, w, common_only(n, v, w))
    return H


def no_mixed_term(n, v, w):
    return np.zeros((len(n.rows(v)), len(n.rows(w))))


def gauss_newton_alone(lin, along, wanted, part):
    return linearization.curvature(lin, along, wanted, "gauss_newton")


def tied_without_cross_blocks(n, unrolled, name, other):
    """The sum over readers a != b dropped."""
    total = 0
    for v in n.nodes:
        if name in n.theta[v] and other in n.theta[v]:
            total = total + n.part(unrolled[v, v], v, name, v, other)
    return total if np.ndim(total) else None


def always_pathwise(network, name, sigma, eps, method):
    return clarke.stochastic.draw(network, name, sigma, eps, "pathwise")


def flat_square(z):
    """z^2 / 2 with second derivative 0."""
    return z**2 / 2, z, 0 * z


MUTATIONS = {
    "the pairs u != u' dropped from the sum": (formulas, "every_pair", common_only, ["F1.1"]),
    "the pairs u != u' dropped from the recursion": (
        notation,
        "input_hessian",
        recursion_without_pairs,
        ["F1.4", "Alg1", "ALG"],
    ),
    "the mixed term dropped": (notation, "mixed_term", no_mixed_term, ["F3", "R9", "ALG"]),
    "the mixed term over one edge only": (notation, "mixed_term", printed.one_edge, ["F3"]),
    "the tensor part dropped": (blocks, "curvature", gauss_newton_alone, ["F1", "P2", "T5"]),
    "the cross blocks of shared parameters dropped": (printed, "tied", tied_without_cross_blocks, ["ALG"]),
    "the jumps left out of Stein's form": (formulas, "draw", always_pathwise, ["T6.1", "P4"]),
}


@pytest.mark.parametrize("mutation", MUTATIONS)
def test_a_mutated_formula_is_noticed(mutation, ledger, monkeypatch):
    room, name, mutant, noticed_by = MUTATIONS[mutation]
    monkeypatch.setattr(room, name, mutant)
    for claim in noticed_by:
        found = claims.verify(ledger[claim])
        assert not found.confirmed, claim
        assert found.reasons


def test_what_is_not_mutated_is_confirmed(ledger):
    for claim in sorted({claim for *_, noticed_by in MUTATIONS.values() for claim in noticed_by}):
        assert claims.verify(ledger[claim], cases=5).confirmed, claim


def test_a_mutated_reference_is_noticed_too(ledger, monkeypatch):
    monkeypatch.setitem(networks.SHAPES, "square", flat_square)
    assert not claims.verify(ledger["F1"]).confirmed


def test_a_mutation_is_shown_at_the_simplest_network_that_tells_it(monkeypatch):
    """Without the pairs u != u' the least network of the domain that differs has two nodes."""
    monkeypatch.setattr(formulas, "every_pair", common_only)
    found = claims.check(claims.ledger()["F1.1"], amended=True, cases=20)
    assert len(found.counterexample["nodes"]) == 2
    assert len(found.draws) <= 16


# ---------------------------------------------------------------- the variance of a trace


def two_layers(rng):
    entries = rng.integers(-2, 3, size=10)
    return {"H": [int(h) for h in entries]}


@claims.claim(
    statement="Cov(t_l, t_m) = |H_lm|_F^2 and Var t_l has the sum of |H_lm|_F^2 over m != l beside its own term",
    verdict=claims.HOLDS,
    domain=two_layers,
)
def scatter_of_traces(case):
    """The covariance over all 2^4 sign vectors, of t_l = z_l . (H z)_l, layers of 1 and 3 entries."""
    H = np.zeros((4, 4))
    H[np.triu_indices(4)] = case["H"]
    H = H + H.T
    network = clarke.Network()
    network.parameter("a", [1.0])
    network.parameter("b", [1.0, 1.0, 1.0])
    network.node("z", lambda a, b: H[:, :1] @ a + H[:, 1:] @ b, "a", "b")
    network.loss(lambda z, a, b: (z[0] * a[0] + z[1] * b[0] + z[2] * b[1] + z[3] * b[2]) / 2, "z", "a", "b")
    signs = np.array(list(product((-1.0, 1.0), repeat=4)))
    terms = signs * (signs @ H)
    t = np.stack([terms[:, 0], terms[:, 1:].sum(axis=1)])
    centered = t - t.mean(axis=1, keepdims=True)
    return claims.equal(
        trace_variance=clarke.trace_variance(clarke.hessian_blocks(network)),
        over_all_signs=centered @ centered.T / len(signs),
    )


def test_the_cross_term_of_the_trace_variance_is_missed(monkeypatch):
    monkeypatch.setattr(search, "SHRINKS", 0)
    assert claims.verify(scatter_of_traces).confirmed
    whole = clarke.trace_variance
    monkeypatch.setattr(clarke, "trace_variance", lambda found: whole(found, per_layer=True))
    found = claims.verify(scatter_of_traces)
    assert not found.confirmed
    assert "violated by" in found.reasons[0]
