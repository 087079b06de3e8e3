"""Hulls of linear operators: inner products through products, nothing n by n held.

<A, B> = trace(A^T B) = sum_j (A e_j) . (B e_j) takes the n columns of each operator once, some at a time. All inner
products of m operators are R^T R, and R (m, m) grows from the columns by QR, so that no digit is lost to a Gram matrix.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from scipy.sparse.linalg import LinearOperator, aslinearoperator

from .least_norm import triangle

HELD = 2**22  # numbers of columns held at a time, or one column of each operator


def are_operators(elements: Any) -> bool:
    """Is it a list or tuple with a scipy LinearOperator in it?"""
    return isinstance(elements, list | tuple) and any(isinstance(A, LinearOperator) for A in elements)


def read_operators(name: str, given: Any) -> list[LinearOperator]:
    """All of them as real LinearOperators of one shape, or ValueError."""
    operators = []
    for i, A in enumerate(given):
        try:
            operators.append(A if isinstance(A, LinearOperator) else aslinearoperator(A))
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"{name}[{i}] must be a LinearOperator or a matrix like the others; got {type(A).__name__}"
            ) from error
    shapes = {A.shape for A in operators}
    if len(shapes) > 1 or 0 in operators[0].shape:
        raise ValueError(f"{name} must be operators of one shape, with entries; got {sorted(shapes)}")
    for i, A in enumerate(operators):
        if np.dtype(A.dtype).kind not in "biuf":
            raise ValueError(f"{name}[{i}] must be real; its dtype is {A.dtype}")
    return operators


def columns(operators: list[LinearOperator], last: str = "") -> Iterator[np.ndarray]:
    """(m, rows, c) blocks of the columns of all operators: n products each in all. last: the name of the last one,
    where it is none of the elements.
    """
    m, (rows, n) = len(operators), operators[0].shape
    width = max(1, min(n, HELD // (m * rows)))
    for start in range(0, n, width):
        stop = min(start + width, n)
        E = np.zeros((n, stop - start))
        E[range(start, stop), range(stop - start)] = 1.0
        block = np.empty((m, rows, stop - start))
        for i, A in enumerate(operators):
            block[i] = A.matmat(E)
            if not np.isfinite(block[i]).all():
                name = last if last and i == m - 1 else f"elements[{i}]"
                raise ValueError(f"{name} gave NaN or infinity in a product; a hull needs finite entries")
        yield block


def images(operators: list[LinearOperator], target: LinearOperator | None) -> np.ndarray:
    """R^T (m, at most 2m), rows with row products <A_i - T, A_j - T>: the differences are formed before any product."""
    m = len(operators)
    R = np.empty((0, m))
    for block in columns(operators) if target is None else columns([*operators, target], "target"):
        differences = block if target is None else block[:-1] - block[-1]
        X = differences.reshape(m, -1).T
        R = triangle((m, len(R) + len(X)), np.vstack([R, X]).__getitem__)
    return R.T


def inner_products(operators: list[LinearOperator], direction: LinearOperator) -> np.ndarray:
    """<A_i, D> for all i."""
    total = np.zeros(len(operators))
    for block in columns([*operators, direction], "direction"):
        total += np.einsum("ijk,jk->i", block[:-1], block[-1])
    return total


def combination(operators: list[LinearOperator], weights: np.ndarray) -> LinearOperator:
    """sum_i weights[i] A_i as an operator; an A_i of weight 0 is never called."""
    used = [(float(w), A) for w, A in zip(weights, operators, strict=True) if w]

    def product(v) -> Any:
        return sum(w * A.matmat(v) for w, A in used)

    def adjoint(v) -> Any:
        return sum(w * A.rmatmat(v) for w, A in used)

    def one(v):
        return product(np.reshape(v, (-1, 1)))[:, 0]

    def one_adjoint(v):
        return adjoint(np.reshape(v, (-1, 1)))[:, 0]

    build: Any = LinearOperator  # scipy builds it in __new__, which its annotations do not show
    return build(operators[0].shape, matvec=one, rmatvec=one_adjoint, matmat=product, rmatmat=adjoint, dtype=float)
