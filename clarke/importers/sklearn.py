"""scikit-learn estimators: multilayer perceptrons and linear models, with the objective that they minimize.

With n samples x_i, targets y_i, f = x W^T + b and s_ik = +1 where sample i is of class k, else -1 (one class stands for
two), the losses are

    MLPClassifier        -(1/n) sum_i log p_i(y_i) + (alpha / 2n) sum |W|^2, p the softmax, or logistic, of the output
    MLPRegressor         (1/2nk) sum (y - f)^2 over all n k entries + (alpha / 2n) sum |W|^2
    LinearSVC            C sum_ik h(s_ik f_ik) + |W|^2 / 2 (or |W|_1), h(m) = max(0, 1 - m), or its square; the
                         intercept, divided by intercept_scaling, is penalized like W
    SGDClassifier        (1/n) sum_ik h(s_ik f_ik) + alpha R(W), h as above, or log_loss, perceptron, modified_huber
    LogisticRegression   -C sum_i log p_i(y_i) + R(W); liblinear penalizes the intercept as LinearSVC does
    LinearRegression     |y - f|^2
    Ridge                |y - f|^2 + alpha |W|^2
    ElasticNet, Lasso    |y - f|^2 / 2n + alpha R(W)
    HuberRegressor       sum_i (sigma + H((y_i - f_i) / sigma) sigma) + alpha |W|^2, sigma a parameter, H(z) = z^2 for
                         |z| <= epsilon, else 2 epsilon |z| - epsilon^2

R(W) = (1 - l1_ratio) |W|^2 / 2 + l1_ratio |W|_1; class weights multiply what a sample of a class adds. These are sums
over all of X: a stochastic solver divides alpha by the size of its batch. Probabilities are not clipped.
"""

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.sparse import issparse

from clarke import layers
from clarke.models import mlp
from clarke.network import Network

from .tensors import require_same, rescaled

_ACTIVATIONS = {"identity": "linear", "logistic": "sigmoid", "relu": "relu", "tanh": "tanh"}


def from_sklearn(estimator: Any, X: ArrayLike, y: ArrayLike) -> Network:
    """The network and the loss of a fitted estimator at X (n, features), y; see the module for which, and for the loss.

    The input is "x". Perceptrons have the names of `mlp`, linear models W (outputs, features), b (outputs,) where an
    intercept is fitted, and the output "y", of a classifier the decision function. Weights of samples are not known to
    an estimator and stay out. ValueError for other estimators, unfitted ones, losses outside the list, constraints
    (positive), X and y that do not fit, or values that come out different from those of predict, predict_proba or
    decision_function.
    """
    names = [c.__name__ for c in type(estimator).__mro__ if c.__module__.partition(".")[0] == "sklearn"]
    if not names or names[0] not in _ESTIMATORS:
        got = type(estimator).__name__
        advice = "; pass the last step, with X transformed by the others" if got == "Pipeline" else ""
        raise ValueError(f"cannot import {got}: supported are {', '.join(_ESTIMATORS)}{advice}")
    from sklearn.utils.validation import check_is_fitted

    check_is_fitted(estimator)
    if getattr(estimator, "positive", False):
        _refuse(estimator, "positive=True, a constraint that no loss expresses,")
    if issparse(X):
        raise ValueError("X is sparse; pass X.toarray()")
    X = layers.constant("X", X)
    if X.ndim != 2 or X.shape[1] != estimator.n_features_in_:
        raise ValueError(f"X has shape (n, {estimator.n_features_in_}) for this estimator; got {X.shape}")
    y = np.asarray(y)
    if len(np.shape(y)) not in (1, 2) or len(y) != len(X):
        raise ValueError(f"y has one target for each of the {len(X)} samples of X; got shape {y.shape}")
    return _ESTIMATORS[names[0]](estimator, X, y)


def _refuse(estimator, what):
    raise ValueError(f"{type(estimator).__name__} with {what} is not supported")


def _require(estimator, ours, theirs, what):
    theirs = np.asarray(theirs, dtype=float).reshape(np.shape(ours))
    require_same(type(estimator).__name__, [what], [ours], [theirs], float(np.abs(theirs).max()))


# ---------------------------------------------------------------- targets


def _classes(estimator, y):
    """(n, classes) of 0 and 1, one column for two classes."""
    known = estimator.classes_
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    unknown = set(np.unique(y).tolist()) - set(known.tolist())
    if y.ndim != 1 or unknown:
        raise ValueError(f"y holds classes of the estimator, {known.tolist()}; got shape {y.shape}, {sorted(unknown)}")
    hot = (y[:, None] == known).astype(float)
    return hot[:, 1:] if len(known) == 2 else hot


def _targets(y, outputs):
    y = layers.constant("y", y)
    y = y.reshape(len(y), -1)
    if y.shape[1] != outputs:
        raise ValueError(f"y has {outputs} targets a sample for this estimator; got {y.shape[1]}")
    return y


def _class_weights(estimator, y):
    """The weight of each class."""
    from sklearn.utils.class_weight import compute_class_weight

    return compute_class_weight(estimator.class_weight, classes=estimator.classes_, y=np.ravel(y))


def _weights(estimator, hot, y):
    """(n, columns): what a sample counts in the problem of each column, the weight of its class or 1."""
    weights = _class_weights(estimator, y)
    if hot.shape[1] == 1:
        return np.where(hot == 1, weights[1], weights[0])
    return np.where(hot == 1, weights, 1.0)


# ---------------------------------------------------------------- perceptrons


def _perceptron(estimator, X):
    sizes = [X.shape[1], *(len(b) for b in estimator.intercepts_)]
    arrays = [a for W, b in zip(estimator.coefs_, estimator.intercepts_, strict=True) for a in (W.T.ravel(), b)]
    theta, activation = np.concatenate(arrays).astype(float), _ACTIVATIONS[estimator.activation]
    return mlp(sizes, activation=activation, loss=None, inputs=X, theta=theta)


def _decay(estimator, network, n):
    for name in network.parameters:
        if name.startswith("W") and estimator.alpha:
            network.loss(layers.weight_decay(float(estimator.alpha) / n), name)
    return network


def _mlp_classifier(estimator, X, y):
    network, n = _perceptron(estimator, X), len(X)
    logits = network.value("y")
    proba = np.asarray(estimator.predict_proba(X), dtype=float)
    if estimator.out_activation_ == "softmax":
        _require(estimator, layers.softmax(logits), proba, "probabilities")
        network.loss(layers.cross_entropy(_classes(estimator, y)), "y")
        return _decay(estimator, network, n)
    ours = layers.sigmoid(logits)
    _require(estimator, ours, proba[:, 1:] if logits.shape[1] == 1 else proba, "probabilities")
    hot = _classes(estimator, y) if logits.shape[1] == 1 else _targets(y, logits.shape[1])
    if not np.isin(hot, (0.0, 1.0)).all():
        raise ValueError("y of several labels holds 0 and 1")
    _logistic(network, hot, np.full(hot.shape, 1.0 / n))
    return _decay(estimator, network, n)


def _mlp_regressor(estimator, X, y):
    if getattr(estimator, "loss", "squared_error") != "squared_error":
        _refuse(estimator, f"loss={estimator.loss!r}")
    network = _perceptron(estimator, X)
    _require(estimator, network.value("y"), estimator.predict(X), "predictions")
    targets = _targets(y, network.value("y").shape[1])
    _squares(network, targets, 1.0 / targets.size)
    return _decay(estimator, network, len(X))


# ---------------------------------------------------------------- linear models


def _linear(estimator, X):
    """x, W, b and y = x W^T + b."""
    network, W = Network(), np.atleast_2d(np.asarray(estimator.coef_, dtype=float))
    network.input("x", X)
    network.parameter("W", W)
    if estimator.fit_intercept:
        network.parameter("b", np.asarray(estimator.intercept_, dtype=float).reshape(-1))
    network.node("y", layers.affine, "x", *network.parameters)
    scores = estimator.decision_function(X) if hasattr(estimator, "decision_function") else estimator.predict(X)
    _require(estimator, network.value("y"), scores, "decision function")
    return network


def _penalty(network, name, coefficient, l1_ratio=0.0, scale=1.0):
    """coefficient R(array / scale)."""
    if coefficient and l1_ratio < 1:
        network.loss(layers.weight_decay(float(coefficient * (1.0 - l1_ratio) / scale**2)), name)
    if coefficient and l1_ratio > 0:
        network.node(f"|{name}|", layers.absolute, name)
        weights = np.full(network.value(name).shape, coefficient * l1_ratio / scale)
        network.loss(layers.weighted_sum(weights), f"|{name}|")


def _squares(network, targets, coefficient):
    """coefficient |y - targets|^2 / 2."""
    network.node("residual", partial(layers.rescale, shift=layers.constant("targets", -targets)), "y")
    network.loss(layers.weight_decay(float(coefficient)), "residual")


def _margins(network, signs, scale, shift):
    """The node scale signs y + shift."""
    step = rescaled(scale * signs, shift)
    network.node("margin", step, "y")


def _logistic(network, hot, weights):
    _margins(network, 1.0 - 2.0 * hot, 1.0, 0.0)
    network.node("softplus", layers.softplus, "margin")
    network.loss(layers.weighted_sum(weights), "softplus")


def _hinge(network, hot, weights, kind):
    """weights times h(m), m = s y: of 1 - m (of -m for a perceptron) the positive part, its square, or with
    u = 1 - m cut off at 0 and 2 the product u (2 (1 - m) - u), the modified Huber loss.
    """
    _margins(network, 1.0 - 2.0 * hot, 1.0, 0.0 if kind == "perceptron" else 1.0)
    if kind == "modified_huber":
        _cut_off_square(network, "margin", 0.0, 2.0)
        network.loss(layers.weighted_sum(weights), "square")
        return
    network.node("hinge", layers.relu, "margin")
    if kind == "squared_hinge":
        network.node("square", layers.product, "hinge", "hinge")
    network.loss(layers.weighted_sum(weights), "square" if kind == "squared_hinge" else "hinge")


def _cut_off_square(network, name, low, high):
    """The node "square": z^2 between the bounds, continued by its tangents; u (2 z - u), u = z cut off."""
    network.node("inside", partial(layers.clip, low=low, high=high), name)
    network.node("twice", partial(layers.rescale, scale=2.0), name)
    network.node("rest", layers.subtract, "twice", "inside")
    network.node("square", layers.product, "inside", "rest")


def _linear_svc(estimator, X, y):
    if estimator.multi_class != "ovr":
        _refuse(estimator, f"multi_class={estimator.multi_class!r}")
    network, hot = _linear(estimator, X), _classes(estimator, y)
    _hinge(network, hot, estimator.C * _weights(estimator, hot, y), estimator.loss)
    _liblinear_penalty(estimator, network, float(estimator.penalty == "l1"))
    return network


def _liblinear_penalty(estimator, network, l1_ratio):
    _penalty(network, "W", 1.0, l1_ratio)
    if "b" in network.parameters:
        _penalty(network, "b", 1.0, l1_ratio, float(estimator.intercept_scaling))


def _sgd_classifier(estimator, X, y):
    kinds = "hinge", "squared_hinge", "perceptron", "modified_huber", "log_loss"
    if estimator.loss not in kinds:
        _refuse(estimator, f"loss={estimator.loss!r}")
    network, hot = _linear(estimator, X), _classes(estimator, y)
    weights = _weights(estimator, hot, y) / len(X)
    if estimator.loss == "log_loss":
        _logistic(network, hot, weights)
    else:
        _hinge(network, hot, weights, estimator.loss)
    ratio = {"l2": 0.0, "l1": 1.0, "elasticnet": estimator.l1_ratio}.get(estimator.penalty, 0.0)
    _penalty(network, "W", 0.0 if estimator.penalty is None else float(estimator.alpha), float(ratio))
    return network


def _logistic_regression(estimator, X, y):
    if getattr(estimator, "multi_class", "auto") == "ovr" and len(estimator.classes_) > 2:
        _refuse(estimator, "multi_class='ovr'")
    network, hot = _linear(estimator, X), _classes(estimator, y)
    penalty = getattr(estimator, "penalty", "deprecated")
    ratio = estimator.l1_ratio or 0.0 if penalty in ("deprecated", "elasticnet") else float(penalty == "l1")
    free = penalty is None or np.isinf(estimator.C)
    C = 1.0 if free else float(estimator.C)
    counts = C * _class_weights(estimator, y)[np.searchsorted(estimator.classes_, np.ravel(y))]
    if hot.shape[1] == 1:
        _logistic(network, hot, counts[:, None])
    else:
        network.loss(layers.cross_entropy(len(X) * counts[:, None] * hot), "y")
    if not free and estimator.solver == "liblinear":
        _liblinear_penalty(estimator, network, float(ratio))
    elif not free:
        _penalty(network, "W", 1.0, float(ratio))
    return network


def _least_squares(estimator, X, y):
    network = _linear(estimator, X)
    _squares(network, _targets(y, network.value("y").shape[1]), 2.0)
    return network


def _ridge(estimator, X, y):
    if np.size(estimator.alpha) > 1:
        _refuse(estimator, "an alpha for each target")
    network = _least_squares(estimator, X, y)
    _penalty(network, "W", 2.0 * float(np.reshape(estimator.alpha, ())))
    return network


def _elastic_net(estimator, X, y):
    network = _linear(estimator, X)
    _squares(network, _targets(y, network.value("y").shape[1]), 1.0 / len(X))
    _penalty(network, "W", float(estimator.alpha), float(estimator.l1_ratio))
    return network


def _huber(estimator, X, y):
    network, epsilon = _linear(estimator, X), float(estimator.epsilon)
    targets = _targets(y, 1)
    network.parameter("sigma", estimator.scale_)
    network.node("scale", partial(layers.broadcast, shape=targets.shape), "sigma")
    network.node("residual", partial(layers.rescale, shift=layers.constant("targets", -targets)), "y")
    network.node("z", layers.quotient, "residual", "scale")
    _cut_off_square(network, "z", -epsilon, epsilon)
    network.node("cost", layers.product, "scale", "square")
    for name in ("scale", "cost"):
        network.loss(layers.weighted_sum(np.ones(targets.shape)), name)
    _penalty(network, "W", 2.0 * float(estimator.alpha))
    return network


_ESTIMATORS = {
    "ElasticNet": _elastic_net,
    "HuberRegressor": _huber,
    "Lasso": _elastic_net,
    "LinearRegression": _least_squares,
    "LinearSVC": _linear_svc,
    "LogisticRegression": _logistic_regression,
    "MLPClassifier": _mlp_classifier,
    "MLPRegressor": _mlp_regressor,
    "Ridge": _ridge,
    "SGDClassifier": _sgd_classifier,
}
