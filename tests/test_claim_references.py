"""What the claims are judged by: networks as they are written, their derivatives, and counts of multiplications."""

from contextlib import suppress
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from clarke import notation, printed
from clarke.claims import networks
from clarke.claims.bolshim2025interlayer import costs
from clarke.claims.references import brute_force, brute_gradient, brute_jacobian, brute_parts
from clarke.claims.statements import OutsideHypothesis

SEEDS = range(40)


def close(a, b):
    assert np.abs(a - b).max(initial=0) <= 1e-12 * max(1.0, np.abs(b).max(initial=0))


def off_kinks(rng):
    """The first case drawn in which no relu is at its kink, and its derivatives."""
    while True:
        case = networks.drawn(rng, parameters=True, shared=True, losses=2)
        with suppress(OutsideHypothesis):
            return case, networks.truth(case)


@pytest.mark.parametrize("seed", SEEDS)
def test_forward_derivatives_are_those_of_the_loss_differentiated_backward(seed):
    case, true = off_kinks(np.random.default_rng(seed))
    network, names = networks.build(case), list(true.names)
    assert names == list(network.dag)
    close(true.hessian, brute_force(network, names))
    close(true.gradient, brute_gradient(network, names))
    close(true.total, brute_jacobian(network, names, names))
    gauss_newton, tensor = brute_parts(network, names)
    close(true.gauss_newton, gauss_newton)
    close(true.total.T @ true.tensor_part @ true.total, tensor)
    close(true.total, np.linalg.inv(np.eye(len(true.local)) - true.local))


def test_a_network_is_written_in_formulas():
    case = {
        "inputs": {"x": [1, 2]},
        "parameters": {"t": 3},
        "nodes": {"a": "[[1, -1]] x", "b": "tanh(0.5 a + t)", "c": "-2 a * t", "d": "relu(c)", "e": "cube(d * t)"},
        "losses": ["square(b)", "e"],
    }
    network = networks.build(case)
    values = {name: network.value(name).tolist() for name in "abcde"}
    assert values == {"a": [-1], "b": [np.tanh(2.5)], "c": [6], "d": [6], "e": [18**3 / 3]}
    assert networks.readers("-2 a * t") == ("a", "t")
    assert sum(fun(network.value(*parents)) for _, fun, parents in network.losses) == np.tanh(2.5) ** 2 / 2 + 18**3 / 3
    assert networks.untied(case)["nodes"]["e"] == "cube(d * t_e)"
    assert networks.untied(case)["parameters"] == {"t_b": 3, "t_c": 3, "t_e": 3}
    with pytest.raises(OutsideHypothesis):
        networks.truth({"inputs": {"x": 0}, "nodes": {"h": "relu(x)"}, "losses": ["h"]})


def test_the_worst_block_is_the_one_reported():
    true = {("v", "v"): np.eye(2), ("v", "w"): np.ones((2, 1))}
    found = networks.worst({("v", "v"): np.eye(2), ("v", "w"): np.zeros((2, 1))}, true)
    assert found.measure == 1
    assert found.values["block"] == "H[v, w]"
    assert networks.worst(true, true).measure == 0
    assert networks.worst({("v", "v"): np.eye(2)}, true).measure == np.inf
    assert networks.worst({**true, ("v", "w"): np.ones((1, 2))}, true).measure == np.inf


# ---------------------------------------------------------------- counts


class Counted(np.ndarray):
    """An array that counts the multiplications of the matrix products it takes part in."""

    multiplications = 0

    def __array_ufunc__(self, ufunc, method, *inputs, out=None, **keywords):
        plain = [np.asarray(a) for a in inputs]
        if ufunc is np.matmul:
            Counted.multiplications += plain[0].shape[0] * plain[0].shape[1] * plain[1].shape[1]
        if out is not None:
            keywords["out"] = tuple(np.asarray(a) for a in out)
        return getattr(ufunc, method)(*plain, **keywords).view(Counted)


def counted(compute):
    Counted.multiplications = 0
    compute()
    return Counted.multiplications


@pytest.mark.parametrize(("n", "d", "p"), [(1, 1, 1), (3, 2, 3), (4, 1, 2), (2, 3, 1)])
def test_the_count_of_formula_3_is_what_its_products_take(n, d, p):
    nodes, parameters, above = {}, {}, f"{np.eye(d).tolist()} x"
    for k in range(n):
        nodes[f"a{k}"] = f"{above} + {np.ones((d, p)).tolist()} t{k}"
        parameters[f"t{k}"] = [1] * p
        above = f"a{k}"
    case = {"inputs": {"x": [1] * d}, "parameters": parameters, "nodes": nodes, "losses": [f"square({above})"]}
    found = notation.notation(networks.build(case))
    blocks = {pair: block.view(Counted) for pair, block in notation.input_hessian(found).items()}
    count = counted(partial(printed.formula_3, found, blocks=blocks, misfit="repair"))
    assert count == costs.products_of_formula_3(n, 1, d, p)


@pytest.mark.parametrize(("n", "d"), [(2, 1), (3, 2), (4, 1), (5, 2)])
def test_on_a_complete_graph_formula_1_takes_what_its_first_term_takes_and_more(n, d):
    nodes = {f"a{k}": " + ".join(["x", *(f"a{j}" for j in range(1, k))]) for k in range(1, n)}
    case = {"inputs": {"x": [1] * d}, "nodes": nodes, "losses": [f"square(a{n - 1})"]}
    found = notation.notation(networks.build(case))
    found = replace(found, loss_part=found.loss_part.view(Counted))
    count = counted(partial(printed.formula_1, found))
    assert count >= costs.products_on_a_complete_dag(n, d, 1)
    if n <= 3:  # no path of three edges, no pseudo-inverse
        assert count == costs.products_on_a_complete_dag(n, d, 1)


def test_the_growth_of_a_ratio_is_read_off_its_last_doubling():
    case = {"n": "k", "d": "k^2"}
    assert costs.growth(lambda n, d: 5 * n**2 * d, lambda n, d: n * d, case).measure == pytest.approx(1)
    assert abs(costs.growth(lambda n, d: 5 * d + n, lambda n, d: d, case).measure) < costs.ROUNDING
    assert costs.growth(lambda n, d: n, lambda n, d: d, case).measure == pytest.approx(-1)
