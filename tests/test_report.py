"""A study says what the rooms found, in 80 columns and in JSON, and leaves out only what it names."""

import json
import subprocess
import sys

import autograd.numpy as anp
import numpy as np
import pytest

import clarke
from clarke import limiting, report
from clarke.audit import check_ad
from clarke.fan import local_fan
from clarke.graph import from_function
from clarke.limiting import limiting_gradients, limiting_hessians, limiting_jacobians
from clarke.models import digits
from clarke.projection import eigenvalue_interval, min_norm_element
from clarke.report import study


def ridge(x):
    """|x_0| + x_1^2 + 3 x_1: gradients (+-1, 2 x_1 + 3), one Hessian."""
    return anp.abs(x[0]) + x[1] ** 2 + 3 * x[1]


def half(x):
    """max(x_0, 0)^2: C^{1,1}, Hessians 0 and 2."""
    return anp.maximum(x[0], 0) ** 2


def row(text, label):
    """The text of one row of a report, unwrapped."""
    lines = text.splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith(label.ljust(report.INDENT)))
    more = [line for line in lines[at + 1 :]]
    end = next((i for i, line in enumerate(more) if not line.startswith(" " * report.INDENT)), len(more))
    return " ".join([lines[at][report.INDENT :], *(line.strip() for line in more[:end])])


@pytest.fixture(scope="module")
def digits_study():
    network = digits()
    return study(
        network.function(wrt="x"), network.point("x"), output=network.function(wrt="x", output="y"), name="digits"
    )


def test_a_study_holds_what_the_rooms_return(digits_study):
    network = digits()
    f, x = network.function(wrt="x"), network.point("x")
    fan, hessians = local_fan(f, x), limiting_hessians(f, x)
    assert digits_study.kinks == fan.kinks
    assert digits_study.fan.patterns == fan.patterns
    assert (digits_study.fan.complete, digits_study.fan.reason) == (fan.complete, fan.reason)
    assert digits_study.fan.undecided == fan.undecided
    assert digits_study.fan.margin == fan.margin
    np.testing.assert_array_equal(digits_study.fan.witnesses, fan.witnesses)
    np.testing.assert_array_equal(digits_study.gradients.vectors, limiting_gradients(f, x).vectors)
    np.testing.assert_array_equal(digits_study.hessians.matrices, hessians.matrices)
    np.testing.assert_array_equal(
        digits_study.jacobians.matrices, limiting_jacobians(network.function(wrt="x", output="y"), x).matrices
    )
    assert digits_study.c11 is hessians.c11
    assert digits_study.eigenvalue_interval == eigenvalue_interval(hessians)
    np.testing.assert_array_equal(digits_study.min_norm.element, min_norm_element(hessians).element)
    for audit in digits_study.audits:
        again = check_ad(f, x, derivative=audit.derivative)
        assert (audit.inside, audit.is_element, audit.distance) == (again.inside, again.is_element, again.distance)
    assert [audit.derivative for audit in digits_study.audits] == ["gradient", "hessian"]
    assert digits_study.notes == ()
    assert digits_study.value == pytest.approx(np.log(10))


def test_the_report_of_digits_says_560_of_2_to_the_24(digits_study):
    text = str(digits_study)
    assert max(map(len, text.splitlines())) <= report.WIDTH
    assert text.isascii()
    assert row(text, "patterns") == "560 of 2^24 = 16,777,216"
    assert row(text, "  complete").startswith("yes: every guard is affine")
    assert row(text, "  h1") == "  12  maximum  h1[0, 0], h1[0, 1], h1[0, 2], ... and 9 more"
    assert row(text, "  next") == "no other guard"
    mute = sum(pattern.count("0") for pattern in digits_study.fan.patterns)
    assert row(text, "  mute").startswith(f"{mute} letters in {sum('0' in p for p in digits_study.fan.patterns)} ")
    assert row(text, "Jacobians").endswith("of the output, 10 x 3")


def test_the_report_of_a_ridge_is_what_one_computes_by_hand():
    found = study(ridge, [0.0, 0.0])
    text = str(found)
    assert text.startswith("ridge\n=====\n")
    assert row(text, "point") == "x in R^2: (0, 0)"
    assert row(text, "kinks").startswith("1 active")
    assert row(text, "patterns") == "2 of 2^1 = 2"
    assert row(text, "gradients") == "2 distinct of 2 in R^2"
    assert row(text, "  least norm").startswith("3 (gap ")
    assert "not stationary" in row(text, "  least norm")
    assert row(text, "  C^{1,1}").startswith("no")
    assert row(text, "Hessians") == "1 distinct of 2, 2 x 2"
    assert row(text, "  eigenvalues") == "of the hull in [0, 2]"
    assert row(text, "  gradient") == "inside the hull, but none of the limiting gradients"
    assert row(text, "  Hessian") == "one of the limiting Hessians"
    assert found.stationary is False
    assert found.title == "ridge: 1 kink, 2 patterns at x"


def test_a_c11_point_is_stationary_with_its_clarke_hessian():
    found = study(half, [0.0])
    assert found.c11 is True
    assert found.stationary is True
    assert found.eigenvalue_interval == (0, 2)
    assert found.min_norm.distance == 0
    assert row(str(found), "  C^{1,1}").startswith("yes: the hull of the Hessians is the Clarke Hessian")
    assert "x is stationary" in str(found)


def test_what_autograd_gets_wrong_is_said_with_the_distance():
    # x = max(x, 0) + min(x, 0); autograd splits each tie in halves, and of x^2 / 2 makes the Hessian 1/2
    def f(x):
        return (anp.maximum(x[0], 0) ** 2 + anp.minimum(x[0], 0) ** 2) / 2

    text = str(study(f, [0.0]))
    assert row(text, "  Hessian") == "outside the hull of the limiting Hessians, 0.5 away"
    assert row(text, "  gradient") == "one of the limiting gradients"


def test_a_smooth_point_has_one_pattern_and_no_kinks():
    found = study(lambda x: anp.sum(x**2), [1.0, 2.0])
    assert row(str(found), "kinks") == "none active"
    assert row(str(found), "patterns") == "1: f is smooth near x"
    assert found.name == "f"
    assert found.title == "f: no active kink at x"
    json.dumps(found.to_dict(), allow_nan=False)


def test_names_are_truncated_but_counts_are_not():
    found = study(lambda x: anp.sum(anp.abs(x)) + anp.maximum(x[0], -1), np.zeros(9), name="sum")
    assert row(str(found), "  abs1").startswith("   9  abs      abs1[0], ")
    assert row(str(found), "  abs1").endswith(" more")
    assert row(str(found), "  next") == "|guard| = 1 of its scale"
    assert found.to_dict()["kinks_by_unit"] == {"abs1": 9}
    assert len(found.to_dict()["kinks"]) == 9


def test_kinks_of_max_and_sort_are_grouped_by_operation():
    def f(x):
        return anp.max(x) + anp.dot(anp.sort(x), anp.array([1.0, 2.0, 3.0])) + anp.max(x[None, :] * np.ones((2, 1)))

    groups = report.by_unit(study(f, np.zeros(3)).kinks)
    assert [len(names) for names in groups.values()] == [3, 3, 6]
    assert all("[" not in unit and "#" not in unit and "<" not in unit for unit, _ in groups)


def test_a_power_too_long_to_write_is_written_in_powers_of_ten():
    found = study(lambda x: anp.sum(anp.maximum(x[0] * np.ones(60), 0)), [0.0])
    assert row(str(found), "patterns") == "2 of 2^60, about 10^18"


def test_a_vector_valued_function_has_jacobians_only():
    def f(x):
        return anp.array([anp.abs(x[0]), x[0] * x[1]])

    found = study(f, [0.0, 1.0])
    assert found.gradients is found.hessians is found.min_norm is found.min_norm_gradient is None
    assert found.stationary is None
    assert found.audits == ()
    assert row(str(found), "Jacobians") == "2 distinct of 2, 2 x 2"
    assert row(str(found), "value") == "(0, 0)"
    assert found.to_dict()["jacobians"]["values"] == [[[-1, 0], [1, 0]], [[1, 0], [1, 0]]]
    assert found.to_dict()["hessians"] is None
    with pytest.raises(ValueError, match="output goes with a scalar f"):
        study(f, [0.0, 1.0], output=f)


def test_hessians_too_large_to_form_are_skipped_with_a_note(monkeypatch):
    monkeypatch.setattr(limiting, "LIMIT", 63)
    found = study(ridge, [0.0, 0.0])
    assert found.hessians is found.min_norm is found.eigenvalue_interval is found.c11 is None
    assert [audit.derivative for audit in found.audits] == ["gradient"]
    assert found.notes[0].startswith("no Hessians: 2 limiting Hessians of size 2 x 2 take")
    assert row(str(found), "note").startswith("no Hessians")
    assert "Hessians  " not in str(found)
    assert found.to_dict()["hessians"] is None


@pytest.mark.filterwarnings("error")
def test_a_piecewise_linear_function_is_audited_without_a_warning():
    found = study(lambda x: anp.maximum(x[0], 0) + x[1], [0.0, 1.0])
    gradient, hessian = found.audits
    assert (gradient.inside, hessian.is_element, found.notes) == (True, True, ())


def test_a_framework_that_fails_is_a_note():
    def f(x):  # autograd's norm has no derivative at 0; the guard is what vanishes
        return anp.dot(anp.sort(anp.reshape(x, (1, 2))), anp.array([1.0, 2.0]))[0]

    found = study(f, [0.0, 0.0])
    assert found.gradients is not None
    assert [note.partition(" could not")[0] for note in found.notes] == ["autograd's gradient", "autograd's hessian"]
    assert found.audits == ()


def test_an_incomplete_list_says_so_everywhere():
    def f(x):
        return anp.maximum(x[0], 0) + anp.maximum(x[0] - x[1] ** 4, 0) + x[1]

    found = study(f, [0.0, 0.0], output=f)
    text = str(found)
    assert row(text, "  complete").startswith("no: ")
    assert row(text, "  undecided") == "2: " + ", ".join(found.fan.undecided)
    assert "incomplete" in row(text, "note")
    assert found.notes[1].startswith("the limiting Jacobians of the output are incomplete: ")
    assert found.stationary is None
    assert "undecided" in row(text, "  least norm")
    assert found.to_dict()["patterns"]["complete"] is False
    assert sorted(found.to_dict()["patterns"]["undecided"]) == ["+-", "-+"]


def test_an_audit_of_an_incomplete_list_is_never_a_refutation(digits_study):
    outside = check_ad(lambda x: (anp.maximum(x[0], 0) ** 2 + anp.minimum(x[0], 0) ** 2) / 2, [0.0])
    unsure = report.Audit(**(vars(outside) | {"inside": None}))
    assert report._verdict(unsure).endswith("0.5 away; but that list is incomplete")


def test_what_to_dict_lists_survives_json(digits_study):
    found = study(ridge, [0.0, 0.0], output=lambda x: anp.array([anp.abs(x[0]), x[1]]))
    data = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert data == found.to_dict()
    assert data["gradients"] == {"count": 2, "distinct": 2, "shape": [2], "values": [[-1, 3], [1, 3]]}
    assert data["hessians"]["values"] == [[[0, 0], [0, 2]]]
    assert data["jacobians"]["distinct"] == 2
    assert data["min_norm_gradient"]["value"] == [0, 3]
    assert data["patterns"]["list"] == ["-", "+"]
    assert data["margin"] is None
    assert data["audits"][0]["inside"] is True
    large = json.loads(json.dumps(digits_study.to_dict(), allow_nan=False))
    norms = np.linalg.norm(digits_study.gradients.vectors, axis=1)
    assert "values" not in large["gradients"]
    np.testing.assert_allclose(large["gradients"]["norms_only"], [norms.min(), norms.max()])
    assert large["gradients"]["count"] == len(large["patterns"]["list"]) == 560


def test_an_element_of_more_than_64_entries_is_left_out_with_its_shape():
    data = study(lambda x: anp.sum(anp.abs(x[:1])) + anp.sum(x**2), np.zeros(9)).to_dict()
    assert data["hessians"]["norms_only"] == pytest.approx([6, 6])
    assert data["min_norm_hessian"]["shape"] == [9, 9]
    assert "value" not in data["min_norm_hessian"]
    assert data["gradients"]["distinct"] == 2


def test_a_long_name_stays_in_its_columns():
    name = "the loss of a network with a name that goes on and on " * 3
    assert max(map(len, str(study(ridge, [0.0, 0.0], name=name.strip())).splitlines())) <= report.WIDTH


def test_a_graph_and_a_tolerance_are_taken():
    f = from_function(ridge, np.zeros(2))
    assert len(study(f, [1e-3, 0.0]).kinks) == 0
    assert study(f, [1e-3, 0.0]).fan.margin == 1
    near = from_function(lambda x: anp.abs(x[0] - 1), np.ones(1))
    assert len(study(near, [1 + 1e-6], tol=1e-3).kinks) == 1
    assert len(study(near, [1 + 1e-6]).kinks) == 0
    assert study(near, [1.0], tol=1e-3).tol == 1e-3


def test_plots_are_imported_only_to_plot():
    code = "import sys, clarke; clarke.study(lambda x: x[0], [1.0]); assert 'matplotlib' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_missing_matplotlib_names_the_extra(monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.delitem(sys.modules, "clarke.plots", raising=False)
    monkeypatch.delitem(vars(clarke), "plots", raising=False)
    with pytest.raises(ImportError, match=r"pip install 'clarke\[plots\]'"):
        study(ridge, [0.0, 0.0]).plot()
