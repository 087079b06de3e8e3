"""Laws of what comes from scikit-learn: its values, its objective, its minimizer."""

import pickle

import numpy as np
import pytest
from scipy.optimize import approx_fprime
from scipy.sparse import csr_array
from scipy.special import log_softmax

import clarke
from clarke import importers
from clarke.importers.sklearn import from_sklearn

sklearn = pytest.importorskip("sklearn")
from sklearn import linear_model, neural_network, pipeline, preprocessing, svm  # noqa: E402
from sklearn.exceptions import NotFittedError  # noqa: E402

rng = np.random.default_rng(0)
X = rng.normal(size=(30, 3))
CLASSES = np.array(["c", "a", "b"])[np.argmax(X @ rng.normal(size=(3, 3)) + rng.normal(size=(30, 3)), axis=1)]
TWO = np.where(X[:, 0] + 0.5 * rng.normal(size=30) > 0, 7, 3)
REAL = X @ [1.0, -2.0, 0.5] + rng.standard_t(1.5, size=30)
REALS = np.stack([REAL, X[:, 0] ** 2], axis=1)
LABELS = (X[:, :2] > 0).astype(int)
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def loss_of(network):
    return float(network.function()(network.point()))


PERCEPTRONS = {
    "classes": (neural_network.MLPClassifier, CLASSES, "relu"),
    "two classes": (neural_network.MLPClassifier, TWO, "tanh"),
    "labels": (neural_network.MLPClassifier, LABELS, "logistic"),
    "real": (neural_network.MLPRegressor, REAL, "relu"),
    "reals": (neural_network.MLPRegressor, REALS, "identity"),
}


@pytest.fixture(scope="module")
def perceptron():
    made = {}

    def of(case):
        if case not in made:
            kind, y, activation = PERCEPTRONS[case]
            options = {"hidden_layer_sizes": (4, 3), "activation": activation, "alpha": 0.3, "max_iter": 300}
            made[case] = kind(**options, solver="lbfgs", tol=1e-9, random_state=1).fit(X, y), y
        return made[case]

    return of


@pytest.mark.parametrize("case", PERCEPTRONS)
def test_the_loss_of_a_perceptron_is_the_one_that_lbfgs_ended_at(perceptron, case):
    """loss_ is the full objective at the fitted weights, which lbfgs evaluates on all samples."""
    estimator, y = perceptron(case)
    network = from_sklearn(estimator, X, y)
    assert loss_of(network) == pytest.approx(estimator.loss_, rel=1e-10)
    assert network.parameters == ("W1", "b1", "W2", "b2", "W3", "b3")
    assert network.inputs == ("x",)
    for k, (W, b) in enumerate(zip(estimator.coefs_, estimator.intercepts_, strict=True), 1):
        assert (network.value(f"W{k}") == W.T).all()
        assert (network.value(f"b{k}") == b).all()
    assert loss_of(pickle.loads(pickle.dumps(network))) == loss_of(network)


@pytest.mark.parametrize("case", ["two classes", "labels"])
def test_the_gradient_of_a_perceptron_is_zero_where_lbfgs_converged(perceptron, case):
    network = from_sklearn(perceptron(case)[0], X, perceptron(case)[1])
    gradient = clarke.limiting_gradient(network.function(), network.point())
    assert np.abs(gradient).max() < 1e-3 * max(1.0, loss_of(network))
    assert np.abs(np.asarray(clarke.hessian_blocks(network).gradient["W1"]).ravel() - gradient[:12]).max() < 1e-12


def penalty(W, ratio):
    return (1 - ratio) * np.sum(W**2) / 2 + ratio * np.abs(W).sum()


def signs(y, classes):
    return np.where(y == classes[1], 1.0, -1.0)[:, None] if len(classes) == 2 else 2.0 * (y[:, None] == classes) - 1


def huber(z):
    return np.where(np.abs(z) <= 1.35, z**2, 2 * 1.35 * np.abs(z) - 1.35**2)


HINGES = {
    "hinge": lambda m: np.maximum(0, 1 - m),
    "squared_hinge": lambda m: np.maximum(0, 1 - m) ** 2,
    "perceptron": lambda m: np.maximum(0, -m),
    "modified_huber": lambda m: np.where(m >= -1, np.maximum(0, 1 - m) ** 2, -4 * m),
    "log_loss": lambda m: np.logaddexp(0, -m),
}


def svc(e, y):
    s, f = signs(y, e.classes_), e.decision_function(X).reshape(30, -1)
    bias = e.intercept_ / e.intercept_scaling if e.fit_intercept else np.zeros(1)
    ratio = float(e.penalty == "l1")
    total = e.C * HINGES[e.loss](s * f).sum() + (1 + ratio) * penalty(e.coef_, ratio)
    return total + (1 + ratio) * penalty(bias, ratio) - ratio * (penalty(e.coef_, 1) + penalty(bias, 1))


def sgd(e, y):
    s, f = signs(y, e.classes_), e.decision_function(X).reshape(30, -1)
    ratio = {"l2": 0.0, "l1": 1.0, "elasticnet": e.l1_ratio, None: 0.0}[e.penalty]
    decay = 0.0 if e.penalty is None else e.alpha * penalty(e.coef_, ratio)
    return HINGES[e.loss](s * f).sum() / 30 + decay


def logistic(e, y, ratio=0.0):
    log_p = e.predict_log_proba(X)
    decay = 0.0 if np.isinf(e.C) else penalty(e.coef_, ratio)
    if e.solver == "liblinear":
        decay += penalty(e.intercept_ / e.intercept_scaling, ratio)
    weights = np.ones(30) if e.class_weight is None else np.array([e.class_weight[k] for k in y])
    found = -(weights * log_p[np.arange(30), np.searchsorted(e.classes_, y)]).sum()
    return (1.0 if np.isinf(e.C) else e.C) * found + decay


def squares(e, y):
    return np.sum((y - e.predict(X)) ** 2)


LINEAR = {
    "svc": (svm.LinearSVC(C=2.0, dual=True), TWO, svc),
    "svc hinge": (svm.LinearSVC(loss="hinge", C=0.5, intercept_scaling=3.0), CLASSES, svc),
    "svc l1": (svm.LinearSVC(penalty="l1", dual=False), CLASSES, svc),
    "svc, no intercept": (svm.LinearSVC(fit_intercept=False, dual=True), TWO, svc),
    **{f"sgd {kind}": (linear_model.SGDClassifier(loss=kind, alpha=0.1), CLASSES, sgd) for kind in HINGES},
    "sgd l1": (linear_model.SGDClassifier(penalty="l1"), TWO, sgd),
    "sgd elastic": (linear_model.SGDClassifier(penalty="elasticnet", l1_ratio=0.25, alpha=0.2), TWO, sgd),
    "sgd free": (linear_model.SGDClassifier(penalty=None), TWO, sgd),
    "logistic": (linear_model.LogisticRegression(C=0.7), CLASSES, logistic),
    "logistic, two classes": (linear_model.LogisticRegression(class_weight={3: 2.0, 7: 0.5}), TWO, logistic),
    "logistic, liblinear": (linear_model.LogisticRegression(solver="liblinear", intercept_scaling=2.0), TWO, logistic),
    "logistic, free": (linear_model.LogisticRegression(C=np.inf), CLASSES, logistic),
    "least squares": (linear_model.LinearRegression(), REALS, squares),
    "ridge": (linear_model.Ridge(alpha=3.0), REAL, lambda e, y: squares(e, y) + 3 * np.sum(e.coef_**2)),
    "lasso": (linear_model.Lasso(0.2), REAL, lambda e, y: squares(e, y) / 60 + 0.2 * penalty(e.coef_, 1)),
    "elastic net": (
        linear_model.ElasticNet(alpha=0.3, l1_ratio=0.4),
        REAL,
        lambda e, y: squares(e, y) / 60 + 0.3 * penalty(e.coef_, 0.4),
    ),
    "huber": (
        linear_model.HuberRegressor(alpha=0.5, max_iter=500),
        REAL,
        lambda e, y: np.sum(e.scale_ * (1 + huber((y - e.predict(X)) / e.scale_))) + 0.5 * np.sum(e.coef_**2),
    ),
}


@pytest.mark.parametrize("case", LINEAR)
def test_the_loss_of_a_linear_model_is_its_objective(case):
    estimator, y, objective = LINEAR[case]
    estimator.fit(X, y)
    network = from_sklearn(estimator, X, y)
    assert loss_of(network) == pytest.approx(objective(estimator, y), rel=1e-12)
    assert network.parameters[: 1 + estimator.fit_intercept] == ("W", "b")[: 1 + estimator.fit_intercept]
    assert network.value("W").tolist() == np.atleast_2d(estimator.coef_).tolist()
    scores = estimator.decision_function if hasattr(estimator, "decision_function") else estimator.predict
    assert network.value("y").ravel() == pytest.approx(scores(X).ravel(), rel=1e-12, abs=1e-12)
    pickle.loads(pickle.dumps(network))


@pytest.mark.parametrize("case", ["svc", "logistic", "logistic, two classes", "ridge", "huber", "least squares"])
def test_a_fitted_linear_model_is_stationary_for_the_loss(case):
    estimator, y, _ = LINEAR[case]
    if {"tol", "max_iter"} <= set(estimator.get_params()):
        estimator = estimator.set_params(tol=1e-10, max_iter=100_000)
    network = from_sklearn(estimator.fit(X, y), X, y)
    f, x = network.function(), network.point()
    slope = approx_fprime(x, lambda z: float(f(z)), 1e-6)
    assert np.abs(slope).max() < 2e-3 * max(1.0, abs(loss_of(network)))


def test_class_weights_count_as_in_the_fit():
    estimator = svm.LinearSVC(class_weight="balanced", dual=True).fit(X, TWO)
    f = estimator.decision_function(X)
    counts = {k: 30 / (2 * np.sum(k == TWO)) for k in (3, 7)}
    terms = [counts[k] * max(0, 1 - (1 if k == 7 else -1) * v) ** 2 for k, v in zip(TWO, f, strict=True)]
    meant = sum(terms) + np.sum(estimator.coef_**2) / 2 + np.sum(estimator.intercept_**2) / 2
    assert loss_of(from_sklearn(estimator, X, TWO)) == pytest.approx(meant, rel=1e-12)
    estimator = linear_model.SGDClassifier(class_weight={"a": 2.0, "b": 3.0, "c": 1.0}).fit(X, CLASSES)
    network = from_sklearn(estimator, X, CLASSES)
    weights = np.where(CLASSES[:, None] == estimator.classes_, [2.0, 3.0, 1.0], 1.0)
    margins = signs(CLASSES, estimator.classes_) * estimator.decision_function(X)
    meant = np.sum(weights * np.maximum(0, 1 - margins)) / 30 + 1e-4 * np.sum(estimator.coef_**2) / 2
    assert loss_of(network) == pytest.approx(meant, rel=1e-12)


def test_the_loss_away_from_the_data_of_the_fit_is_that_of_the_data_given(perceptron):
    estimator, _ = perceptron("classes")
    few, network = slice(0, 5), from_sklearn(estimator, X[:5], CLASSES[:5])
    output = network.value("y")
    log_p = log_softmax(output, axis=1)[np.arange(5), np.searchsorted(estimator.classes_, CLASSES[few])]
    decay = 0.3 * sum(np.sum(W**2) for W in estimator.coefs_) / 2
    assert loss_of(network) == pytest.approx((decay - log_p.sum()) / 5, rel=1e-12)


def test_load_takes_an_estimator_and_its_data(perceptron):
    estimator, y = perceptron("real")
    assert loss_of(importers.load(estimator, X, y)) == loss_of(from_sklearn(estimator, X, y))


def test_an_estimator_is_not_changed(perceptron):
    estimator, y = perceptron("classes")
    before = pickle.dumps(estimator)
    network = from_sklearn(estimator, X, y)
    network.at(network.point() + 1.0).value("y")
    assert pickle.dumps(estimator) == before


REFUSED = {
    "ValueError|cannot import int: supported are ElasticNet, ": lambda: from_sklearn(3, X, REAL),
    "ValueError|cannot import Pipeline: .*; pass the last step": lambda: from_sklearn(
        pipeline.make_pipeline(preprocessing.StandardScaler(), linear_model.Ridge()).fit(X, REAL), X, REAL
    ),
    "ValueError|cannot import RidgeCV: ": lambda: from_sklearn(linear_model.RidgeCV().fit(X, REAL), X, REAL),
    "NotFittedError|is not fitted": lambda: from_sklearn(linear_model.Ridge(), X, REAL),
    r"ValueError|X has shape \(n, 3\) for this estimator; got \(30, 2\)": lambda: from_sklearn(
        linear_model.Ridge().fit(X, REAL), X[:, :2], REAL
    ),
    r"ValueError|one target for each of the 30 samples of X; got shape \(29,\)": lambda: from_sklearn(
        linear_model.Ridge().fit(X, REAL), X, REAL[1:]
    ),
    "ValueError|y has 2 targets a sample for this estimator; got 1": lambda: from_sklearn(
        linear_model.Ridge().fit(X, REALS), X, REAL
    ),
    r"ValueError|y holds classes of the estimator, \[3, 7\]; got shape \(30,\), \[8\]": lambda: from_sklearn(
        svm.LinearSVC(dual=True).fit(X, TWO), X, np.where(TWO == 7, 8, 3)
    ),
    "ValueError|Ridge with an alpha for each target is not supported": lambda: from_sklearn(
        linear_model.Ridge(alpha=[1.0, 2.0]).fit(X, REALS), X, REALS
    ),
    "ValueError|Lasso with positive=True, a constraint that no loss expresses, is not supported": lambda: from_sklearn(
        linear_model.Lasso(positive=True).fit(X, REAL), X, REAL
    ),
    "ValueError|X is sparse; pass X.toarray": lambda: from_sklearn(
        linear_model.Ridge().fit(csr_array(X), REAL), csr_array(X), REAL
    ),
    "ValueError|SGDClassifier with loss='huber' is not supported": lambda: from_sklearn(
        linear_model.SGDClassifier(loss="huber").fit(X, TWO), X, TWO
    ),
    "ValueError|LinearSVC with multi_class='crammer_singer' is not supported": lambda: from_sklearn(
        svm.LinearSVC(multi_class="crammer_singer").fit(X, CLASSES), X, CLASSES
    ),
    "ValueError|y of several labels holds 0 and 1": lambda: from_sklearn(
        neural_network.MLPClassifier((2,), max_iter=2).fit(X, LABELS), X, 2 * LABELS
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_not_supported_is_refused(case):
    kind, message = case.split("|", 1)
    with pytest.raises(NotFittedError if kind == "NotFittedError" else ValueError, match=message):
        REFUSED[case]()


def test_values_that_come_out_different_are_refused(perceptron):
    class Odd(linear_model.Ridge):
        def predict(self, X):
            return super().predict(X) + 1.0

    with pytest.raises(ValueError, match="Odd: the imported decision function differs from that of the source by 1 at"):
        from_sklearn(Odd().fit(X, REAL), X, REAL)
