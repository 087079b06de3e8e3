"""scikit-learn estimators on semismooth Newton (the extra `sklearn`).

They inherit from scikit-learn's base classes, because its pipelines and searches ask for that; the mathematics is
elsewhere, in `piecewise_quadratic`.
"""

import warnings
from collections.abc import Mapping
from numbers import Real
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import ArrayLike

from .piecewise_quadratic import minimize_squared_hinges

try:
    from sklearn.base import BaseEstimator, ClassifierMixin
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.utils.class_weight import compute_class_weight
    from sklearn.utils.multiclass import check_classification_targets
    from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data
except ImportError as error:
    raise ImportError("estimators need scikit-learn 1.6 or later: pip install 'clarke[sklearn]'") from error


class ClarkeSVC(ClassifierMixin, BaseEstimator):
    """Linear support vector machine with squared hinge loss, solved to rounding and certified.

    With s_i = +1 where sample i is of the class in question, else -1, and x_i with intercept_scaling as a last entry,

        minimize |w|^2 / 2 + C sum_i v_i max(0, 1 - s_i <x_i, w>)^2,    v_i = sample_weight_i class_weight,

    as LinearSVC(dual=False) does: for two classes one problem, for more one a class against the rest, where the weight
    of a class goes to its own samples and the rest keep 1; the intercept is penalized like any other coefficient.

    C > 0; tol bounds the gradient relative to that at w = 0, and the gap relative to the objective; max_iter bounds the
    Newton steps of one problem; intercept_scaling > 0; class_weight None, "balanced" or a dict class -> weight. Where
    tol is not reached, `fit` warns with ConvergenceWarning and the reason. X may be sparse. Nothing is random.

    Attributes: classes_; coef_ (problems, features); intercept_ (problems,), or 0.0 where none is fitted; n_iter_, the
    most Newton steps of one problem; n_features_in_, feature_names_in_; and of each problem, recomputed at its solution
    from the data, relative_gradient_ (problems,) and dual_gap_ (problems,), which bounds the objective less its minimum
    (see `piecewise_quadratic.SquaredHingeMinimum`).
    """

    def __init__(
        self,
        *,
        C: float = 1.0,
        tol: float = 1e-12,
        max_iter: int = 1000,
        fit_intercept: bool = True,
        intercept_scaling: float = 1.0,
        class_weight: Mapping[Any, float] | str | None = None,
    ) -> None:
        self.C: float = C
        self.tol: float = tol
        self.max_iter: int = max_iter
        self.fit_intercept: bool = fit_intercept
        self.intercept_scaling: float = intercept_scaling
        self.class_weight: Mapping[Any, float] | str | None = class_weight

    def fit(self, X: Any, y: Any, sample_weight: ArrayLike | None = None) -> "ClarkeSVC":
        """Fit to X (samples, features) and y (samples,) of two classes at least; returns self."""
        for name in ("C", "intercept_scaling"):
            value = getattr(self, name)
            if not (isinstance(value, Real) and 0 < float(value) < np.inf):
                raise ValueError(f"{name} must be a finite number > 0; got {value!r}")
        X, y = validate_data(self, X, y, accept_sparse="csr", dtype=np.float64, order="C")
        check_classification_targets(y)
        self.classes_, codes = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(f"y must hold at least 2 classes; got only one class, {self.classes_[0]!r}")
        counts = _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
        of_class = _class_weights(self.class_weight, self.classes_, codes, counts)
        rows = _with_column(X, float(self.intercept_scaling)) if self.fit_intercept else X
        found = [
            minimize_squared_hinges(rows, signs, self.C * counts * weights, tol=self.tol, maxiter=self.max_iter)
            for signs, weights in _problems(codes, of_class)
        ]
        W = np.stack([minimum.x for minimum in found])
        self.coef_ = W[:, : X.shape[1]]
        self.intercept_ = float(self.intercept_scaling) * W[:, -1] if self.fit_intercept else 0.0
        self.n_iter_ = max(minimum.nit for minimum in found)
        self.relative_gradient_ = np.array([minimum.relative_gradient for minimum in found])
        self.dual_gap_ = np.array([minimum.gap for minimum in found])
        failed = [minimum for minimum in found if not minimum.success]
        if failed:
            warnings.warn(
                f"{len(failed)} of {len(found)} problems ended before tol={self.tol:g}, with relative gradients up to "
                f"{self.relative_gradient_.max():.1e}: {failed[0].message}; raise max_iter or scale the features",
                ConvergenceWarning,
                stacklevel=2,
            )
        return self

    def decision_function(self, X: Any) -> np.ndarray:
        """<x, coef_> + intercept_: (samples,) for two classes, positive for classes_[1]; else (samples, classes)."""
        check_is_fitted(self)
        X = validate_data(self, X, accept_sparse="csr", dtype=np.float64, reset=False)
        scores = X @ self.coef_.T + self.intercept_
        return scores[:, 0] if len(self.classes_) == 2 else scores

    def predict(self, X: Any) -> np.ndarray:
        """The class of the greatest decision function, (samples,)."""
        scores = self.decision_function(X)
        return self.classes_[(scores > 0).astype(int) if scores.ndim == 1 else scores.argmax(axis=1)]

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags


def _class_weights(class_weight, classes, codes, counts):
    """The weight of each class; balanced ones give every class the same sum, as repeated samples would."""
    if class_weight is None:
        return np.ones(len(classes))
    if class_weight == "balanced":
        totals = np.bincount(codes, counts, len(classes))
        return np.divide(counts.sum(), len(classes) * totals, out=np.zeros(len(classes)), where=totals > 0)
    weights = compute_class_weight(class_weight, classes=classes, y=classes[codes])
    if not (np.isfinite(weights).all() and (weights >= 0).all()):
        raise ValueError(f"class_weight must hold finite numbers >= 0; got {class_weight!r}")
    return weights


def _problems(codes, of_class):
    """(signs, weights) of the samples, a pair for each problem."""
    if len(of_class) == 2:
        return [(np.where(codes == 1, 1.0, -1.0), of_class[codes])]
    return [(np.where(codes == k, 1.0, -1.0), np.where(codes == k, weight, 1.0)) for k, weight in enumerate(of_class)]


def _with_column(X, constant):
    """X with a last column of the constant."""
    column = np.full((X.shape[0], 1), constant)
    return sp.hstack([X, sp.csr_array(column)], format="csr") if sp.issparse(X) else np.hstack([X, column])
