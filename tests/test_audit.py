"""What the frameworks return at kinks, held against the truth."""

import autograd.numpy as np
import numpy as onp
import pytest
from hypothesis import given, settings
from strategies import nets

import clarke


def readme(w):
    return (np.maximum(w[0], 0) * w[1] - 1) ** 2


def test_the_readme_hessian_of_autograd_is_no_element_and_no_mixture():
    audit = clarke.check_ad(readme, [0.0, 2.0])
    assert audit.value.tolist() == [[2.0, -1.0], [-1.0, 0.0]]
    assert audit.inside is False
    assert not audit.is_element
    assert audit.distance == pytest.approx(2 / 3)  # from the segment between 0 and [[8, -2], [-2, 0]]
    assert str(audit) == "autograd's hessian is outside, at distance 0.666667 from the hull of 2 limiting hessians"


def test_its_gradient_is_a_mixture_but_no_element():
    audit = clarke.check_ad(readme, [0.0, 2.0], derivative="gradient")
    assert audit.value.tolist() == [-2.0, 0.0]
    assert audit.inside is True
    assert not audit.is_element
    assert str(audit) == "autograd's gradient is inside the hull of 2 limiting gradients"


def test_autograd_halves_the_hessian_of_a_square_written_in_two_pieces():
    f = lambda x: (np.maximum(x[0], 0) ** 2 + np.minimum(x[0], 0) ** 2) / 2  # noqa: E731
    audit = clarke.check_ad(f, [0.0])
    assert audit.value.tolist() == [[0.5]]
    assert audit.distance == pytest.approx(0.5)
    assert audit.elements.c11 is True


def test_a_graph_is_audited_with_autograds_convention_for_the_operation_that_was_written():
    f = lambda x: np.sum(np.clip(x, 0.0, 1.0))  # noqa: E731
    assert clarke.check_ad(f, [0.0], derivative="gradient").value.tolist() == [0.0]
    assert clarke.check_ad(clarke.from_function(f, [0.0]), [0.0], derivative="gradient").value.tolist() == [0.0]


@given(nets(max_width=2, outputs=1))
@settings(max_examples=30, deadline=None)
def test_off_the_kinks_autograd_is_an_element(net):
    y = net.x + onp.array([0.3, 0.11, -0.21])[: len(net.x)]
    audit = clarke.check_ad(lambda x: np.sum(net(x) ** 2), y)
    if not clarke.active_kinks(net, y):
        assert audit.inside
        assert audit.is_element


def test_outside_an_incomplete_set_is_unknown_and_never_false():
    f = lambda z: np.maximum(z[0], 0) ** 2 + np.maximum(z[0] - z[1] ** 4, 0) ** 2  # noqa: E731
    audit = clarke.check_ad(f, [0.0, 0.0])
    assert not audit.elements.complete
    assert audit.inside in (True, None)
    audit = clarke.check_ad(lambda z: f(z) + 0.0, [0.0, 0.0], function=lambda z: f(z) - np.tanh(z[1]) ** 2)
    assert audit.inside is None
    assert "of the known" in str(audit)


def test_elements_at_hand_are_taken_and_must_be_of_the_kind():
    found = clarke.limiting_hessians(readme, [0.0, 2.0])
    assert clarke.check_ad(readme, [0.0, 2.0], elements=found).elements is found
    with pytest.raises(ValueError, match="a gradient is held against LimitingGradients; got LimitingHessians"):
        clarke.check_ad(readme, [0.0, 2.0], derivative="gradient", elements=found)

    with pytest.raises(ValueError, match="elements: of a function of 2 variables; x has 1"):
        clarke.check_ad(lambda x: x[0] ** 2, [0.0], elements=found)


def test_a_constant_is_audited_too():
    assert clarke.check_ad(lambda x: 2.0, [1.0]).is_element
    assert clarke.check_ad(clarke.from_function(lambda x: 2.0, [1.0, 2.0]), [1.0, 2.0]).is_element


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"derivative": "third"}, "derivative must be 'gradient' or 'hessian'; got 'third'"),
        ({"backend": "theano"}, "backend must be one of 'autograd', 'torch', 'jax'; got 'theano'"),
        (
            {"function": lambda w: w[0] * w[1] + 5.0 + w[0] ** 2},
            "function: autograd evaluates it to 5.0 at x, f is 1.0",
        ),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        clarke.check_ad(readme, [0.0, 2.0], **arguments)


def test_a_derivative_that_is_not_finite_is_named():
    f = lambda x: np.sum(x**2)  # noqa: E731
    with pytest.raises(ValueError, match="autograd's gradient is not finite at x"):
        clarke.check_ad(f, [0.0], derivative="gradient", function=lambda x: np.sqrt(x[0]))


# ---------------------------------------------------------------- other frameworks, where they are installed

PROGRAMS = {
    "readme": (readme, [0.0, 2.0]),
    "abs, sort and clip": (
        lambda x: np.sum(np.sort(np.abs(x)) * onp.array([1.0, 2.0])) + np.clip(x[0], 0, 1),
        [0.5, -0.5],
    ),
    "max over an axis": (lambda x: np.max(np.concatenate([x, -x])) * np.tanh(x[0] - 1), [1.0, 1.0]),
    "a layer": (
        lambda x: np.sum(np.maximum(np.dot(onp.array([[1.0, -1.0], [2.0, 1.0]]), x), 0) ** 2) + np.mean(np.exp(x)),
        [1.0, 1.0],
    ),
    "where": (lambda x: clarke.where(x[0], x[0] ** 2, -x[0]) + np.linalg.norm(x[1:]), [0.0, 2.0]),
}


@pytest.mark.parametrize("derivative", ["gradient", "hessian"])
@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize("backend", ["torch", "jax"])
def test_a_recorded_graph_runs_in_the_framework(backend, name, derivative):
    pytest.importorskip(backend, reason=f"{backend} is not installed")
    f, x = PROGRAMS[name]
    away = onp.array(x) + onp.array([0.013, 0.0071])
    assert clarke.check_ad(f, away, derivative=derivative, backend=backend).is_element
    value = clarke.check_ad(f, x, derivative=derivative, backend=backend).value
    assert value.shape == ((2,) if derivative == "gradient" else (2, 2))


def test_jax_returns_the_same_foreign_hessian_on_the_readme_loss():
    pytest.importorskip("jax", reason="jax is not installed")
    assert clarke.check_ad(readme, [0.0, 2.0], backend="jax").inside is False


def test_torch_returns_0_for_the_gradient_of_x_written_in_two_relus():
    torch = pytest.importorskip("torch", reason="torch is not installed")
    f = lambda x: np.maximum(x[0], 0) - np.maximum(-x[0], 0)  # noqa: E731
    audit = clarke.check_ad(
        f, [0.0], derivative="gradient", backend="torch", function=lambda x: torch.relu(x[0]) - torch.relu(-x[0])
    )
    assert audit.value.tolist() == [0.0]
    assert audit.distance == pytest.approx(1.0)


@pytest.mark.parametrize("backend", ["torch", "jax"])
def test_a_missing_framework_is_an_import_error_that_names_the_extra(backend, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, backend, None)
    with pytest.raises(ImportError, match=rf"pip install 'clarke\[{backend}\]'"):
        clarke.check_ad(readme, [0.0, 2.0], backend=backend)
