"""ClarkeSVC: what scikit-learn asks of a classifier, the objective of LinearSVC, certificates, counted steps."""

import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp

pytest.importorskip("sklearn", reason="ClarkeSVC needs scikit-learn, the extra sklearn")
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC
from sklearn.utils.estimator_checks import parametrize_with_checks

from clarke import estimators
from clarke.estimators import ClarkeSVC

rng = np.random.default_rng(0)
X = rng.normal(size=(90, 4))
THREE = np.array(["c", "a", "b"])[np.argmax(X @ rng.normal(size=(4, 3)) + rng.normal(size=(90, 3)), axis=1)]
TWO = np.where(X[:, 0] + 0.5 * rng.normal(size=90) > 0.3, 7, 3)
COUNTS = rng.integers(0, 4, size=90)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning")
@parametrize_with_checks([ClarkeSVC(), ClarkeSVC(C=10.0, class_weight="balanced", intercept_scaling=2.0)])
def test_scikit_learn_finds_nothing_amiss(estimator, check):
    check(estimator)


def standardized(X):
    return StandardScaler().fit_transform(X)


def slope(A, s, c, w):
    """The gradient of |w|^2 / 2 + sum c max(0, 1 - s A w)^2 at w."""
    return w - 2 * A.T @ (c * s * np.maximum(1 - s * (A @ w), 0))


def certified(estimator, X, y, counts=None):
    """The largest relative gradient of the problems, from the data and the fitted coefficients alone."""
    counts, worst = np.ones(len(y)) if counts is None else counts, 0.0
    column = estimator.intercept_scaling * np.ones((len(y), 1))
    A = np.hstack([X, column]) if estimator.fit_intercept else np.asarray(X)
    last = np.reshape(estimator.intercept_, (-1, 1)) / estimator.intercept_scaling
    W = np.hstack([estimator.coef_, last]) if estimator.fit_intercept else estimator.coef_
    for k, w in zip(estimator.classes_ if len(W) > 1 else estimator.classes_[1:], W, strict=True):
        s = np.where(y == k, 1.0, -1.0)
        scale = np.linalg.norm(slope(A, s, estimator.C * counts, np.zeros(len(w))))
        worst = max(worst, np.linalg.norm(slope(A, s, estimator.C * counts, w)) / scale)
    return worst


# ---------------------------------------------------------------- LinearSVC


@pytest.mark.parametrize("y", [TWO, THREE], ids=["two", "three"])
@pytest.mark.parametrize("weights", [None, COUNTS], ids=["unweighted", "weighted"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"C": 30.0},
        {"fit_intercept": False},
        {"intercept_scaling": 5.0},
        {"class_weight": "balanced"},
        {"dict": 3.0},
    ],
    ids=str,
)
def test_linear_svc_ends_at_the_same_coefficients(y, weights, options):
    """Including its rule that a class's weight leaves the rest of a one-vs-rest problem alone."""
    if "dict" in options:
        options = {"class_weight": {y[0]: options["dict"]}}
    ours = ClarkeSVC(**options).fit(X, y, weights)
    theirs = LinearSVC(dual=False, tol=1e-9, max_iter=10_000, **options).fit(X, y, weights)
    assert np.allclose(ours.coef_, theirs.coef_, rtol=0, atol=1e-6)
    assert np.allclose(ours.intercept_, theirs.intercept_, rtol=0, atol=1e-6)
    assert ours.coef_.shape == theirs.coef_.shape
    assert np.shape(ours.intercept_) == np.shape(theirs.intercept_)
    assert np.allclose(ours.decision_function(X), theirs.decision_function(X), atol=1e-5)
    assert (ours.predict(X) == theirs.predict(X)).all()


@pytest.mark.parametrize("options", [{}, {"class_weight": "balanced"}], ids=str)
@pytest.mark.parametrize("y", [TWO, THREE], ids=["two", "three"])
def test_a_weight_of_k_is_k_copies_and_none_is_absence(y, options):
    weighted = ClarkeSVC(**options).fit(X, y, COUNTS)
    copied = ClarkeSVC(**options).fit(np.repeat(X, COUNTS, axis=0), np.repeat(y, COUNTS))
    assert np.allclose(weighted.coef_, copied.coef_, rtol=0, atol=1e-12)
    assert np.allclose(weighted.intercept_, copied.intercept_, rtol=0, atol=1e-12)


@pytest.mark.parametrize("y", [TWO, THREE], ids=["two", "three"])
@pytest.mark.parametrize("fit_intercept", [True, False])
def test_sparse_rows_are_the_same_rows(y, fit_intercept):
    holes = np.where(rng.random(X.shape) < 0.5, X, 0)
    dense = ClarkeSVC(fit_intercept=fit_intercept).fit(holes, y)
    for form in (sp.csr_array, sp.csc_matrix):
        sparse = ClarkeSVC(fit_intercept=fit_intercept).fit(form(holes), y)
        assert np.allclose(sparse.coef_, dense.coef_, rtol=0, atol=1e-12)
        assert (sparse.predict(form(holes)) == dense.predict(holes)).all()


def test_units_of_the_intercept_are_those_of_its_column():
    """A column of constants in X does what fit_intercept does."""
    built_in = ClarkeSVC(intercept_scaling=3.0).fit(X, TWO)
    by_hand = ClarkeSVC(fit_intercept=False).fit(np.hstack([X, np.full((90, 1), 3.0)]), TWO)
    assert np.allclose(by_hand.coef_[:, :-1], built_in.coef_, atol=1e-14)
    assert np.allclose(3.0 * by_hand.coef_[:, -1], built_in.intercept_, atol=1e-14)
    assert by_hand.intercept_ == 0.0


# ---------------------------------------------------------------- certificates and steps


@pytest.mark.parametrize("C", [1.0, 100.0])
@pytest.mark.parametrize("case", ["cancer", "parity", "digit"])
def test_the_classic_data_are_solved_to_1e_12_in_15_steps(case, C):
    data = load_breast_cancer() if case == "cancer" else load_digits()
    rows, y = standardized(data.data), data.target % 2 if case == "parity" else data.target
    found = ClarkeSVC(C=C).fit(rows, y)
    assert certified(found, rows, y) <= 1e-12
    assert found.relative_gradient_.max() <= 1e-12
    assert found.n_iter_ <= {"cancer": 12, "parity": 5, "digit": 15}[case]


def test_the_certificate_belongs_to_the_weighted_problem():
    found = ClarkeSVC(C=2.0).fit(X, THREE, COUNTS)
    assert certified(found, X, THREE, COUNTS) <= 1e-12
    assert found.relative_gradient_.shape == found.dual_gap_.shape == (3,)
    assert (found.dual_gap_ < 1e-20).all()


def test_a_fit_cut_short_warns_and_its_certificate_tells_how_far_it_is():
    with pytest.warns(ConvergenceWarning, match=r"1 of 1 problems ended before tol=1e-12.*iteration limit reached"):
        early = ClarkeSVC(max_iter=1).fit(X, TWO)
    assert early.n_iter_ == 1
    assert early.relative_gradient_[0] == pytest.approx(certified(early, X, TWO), rel=1e-6)
    full = ClarkeSVC().fit(X, TWO)
    A, s = np.hstack([X, np.ones((90, 1))]), np.where(TWO == 7, 1.0, -1.0)

    def value(estimator):
        w = np.append(estimator.coef_, estimator.intercept_)
        return w @ w / 2 + np.sum(np.maximum(1 - s * (A @ w), 0) ** 2)

    assert 0 < value(early) - value(full) <= early.dual_gap_[0]


# ---------------------------------------------------------------- at home in scikit-learn


def test_it_pickles_searches_and_pipes():
    found = ClarkeSVC().fit(X, THREE)
    assert (pickle.loads(pickle.dumps(found)).predict(X) == found.predict(X)).all()
    search = GridSearchCV(make_pipeline(StandardScaler(), ClarkeSVC()), {"clarkesvc__C": [1e-3, 1.0]}, cv=3)
    assert search.fit(X, TWO).best_score_ > 0.7


def test_an_unfitted_one_says_so():
    with pytest.raises(NotFittedError):
        ClarkeSVC().predict(X)


@pytest.mark.parametrize(
    ("options", "y", "weights", "message"),
    [
        ({"C": 0.0}, TWO, None, "C must be a finite number > 0; got 0.0"),
        ({"C": "1"}, TWO, None, "C must be a finite number > 0; got '1'"),
        ({"class_weight": {7: -1.0}}, TWO, None, "class_weight must hold finite numbers >= 0; got {7: -1.0}"),
        ({"class_weight": {7: np.inf}}, TWO, None, "class_weight must hold finite numbers >= 0"),
        ({"intercept_scaling": -1.0}, TWO, None, "intercept_scaling must be a finite number > 0; got -1.0"),
        ({"tol": -1.0}, TWO, None, "tol must be a finite number >= 0"),
        ({"max_iter": 0.5}, TWO, None, "maxiter must be an integer >= 0"),
        ({}, np.ones(90, dtype=int), None, "y must hold at least 2 classes; got only one class"),
        ({}, X[:, 0], None, "Unknown label type: continuous"),
        ({}, TWO, -np.ones(90), "Negative values in data passed to `sample_weight`"),
    ],
)
def test_bad_arguments_are_named(options, y, weights, message):
    with pytest.raises(ValueError, match=message):
        ClarkeSVC(**options).fit(X, y, weights)


def fresh(code):
    """The code in a new process, run from the root of the sources."""
    root = str(Path(estimators.__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": root}
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root, env=environment)


def test_clarke_does_without_scikit_learn():
    assert fresh("import sys, clarke; sys.exit('sklearn' in sys.modules)").returncode == 0


def test_the_estimators_say_what_to_install():
    found = fresh("import sys; sys.modules['sklearn'] = None; import clarke.estimators")
    assert "ImportError: estimators need scikit-learn 1.6 or later: pip install 'clarke[sklearn]'" in found.stderr
