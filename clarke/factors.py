"""The outer-product Hessian of a feed-forward ReLU network as a product of matrices, and its norm without forming it.

Layer p = 1, ..., L+1 is a convolution or a dense layer with matrix T^(p), and Lambda^(p) what follows it: the ReLU's
pattern, a pooling, or both. At one sample x, A = diag(p) - p p^T of the softmax p and x^(p) = R^(p) x,

    z = T^(L+1) Lambda^(L) ... Lambda^(1) T^(1) x,      G^(p) = T^(L+1) Lambda^(L) ... T^(p+1) Lambda^(p),
    Q^(p) = d vec_r T^(p) / d theta^(p),                R^(p) = Lambda^(p) T^(p) ... Lambda^(1) T^(1),
    F = [G^(1) (x) x^(0)^T, ..., G^(L+1) (x) x^(L)^T],  Q = diag(Q^(1), ..., Q^(L+1)),
    H_O = Q^T F^T A F Q = J^T A J                       (Meshkov 2025, Lemma 1),

blocks of F and Q in the order of the layers. The thesis stacks theta the other way round and writes x^(p) for x^(p-1)
in the proof. A layer with a bias acts on (x, 1); a pooling after layer L+1 is Lambda^(L+1) =
G^(L+1), else the identity.

Meshkov, "Analysis of the convergence of the loss landscape of convolutional networks by the Hessian", bachelor's thesis
(in Russian), MIPT 2025.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse
from scipy.sparse.linalg import LinearOperator, eigsh

from .chains import Chain, Layer, centered, chain_at, entries, logit_rows, rows_of
from .kinks import TOL

if TYPE_CHECKING:
    from .network import Network

ROWS = 1 << 25  # numbers of a Jacobian held at a time; above, its norm is found by Lanczos
DENSE = 1 << 18  # numbers of a matrix whose norm is found by its singular values; above, by Lanczos


# ---------------------------------------------------------------- the norm


def norm_of(chain: Chain, *, method: str = "auto") -> float:
    """|H_O|_2 = |S^T J|_2^2: see `outer_product_norm`."""
    C = len(chain.probabilities)
    if method not in ("auto", "gram", "lanczos"):
        raise ValueError(f'method is "auto", "gram" or "lanczos"; got {method!r}')
    if method == "gram" or C < 4 or (method == "auto" and C * chain.size <= ROWS):
        gram = np.zeros((C, C))
        for _, J in rows_of(chain):
            with np.errstate(over="ignore", invalid="ignore"):
                gram += J @ J.T
        if not np.all(np.isfinite(gram)):
            raise ValueError("|H_O| is too large for floating point at this sample; scale x or the parameters down")
        return float(max(np.linalg.eigvalsh(gram)[-1], 0.0))
    return _top(lambda v: _there_and_back(chain, v), C)


def _there_and_back(chain, v):
    """S^T J J^T S v by one pull and one push."""
    c, pulled = logit_rows(chain, (chain.root @ v)[None]), []
    for layer in reversed(chain.layers):
        for other in reversed(layer.between):
            c = other.step.local.pull(0, c)
        pulled.append([layer.step.local.pull(i, c) for i in range(1, 1 + len(layer.names))])
        c = layer.step.local.pull(0, c) if layer is not chain.layers[0] else c
    t = np.zeros((1, *chain.layers[0].value.shape))
    for layer, own in zip(chain.layers, reversed(pulled), strict=True):
        t = sum((layer.step.local.push(i, d) for i, d in enumerate(own, 1)), layer.step.local.push(0, t))
        for other in layer.between:
            t = other.step.local.push(0, t)
    return chain.root.T @ np.ravel(t)


def _top(product, n):
    """The largest eigenvalue of a PSD operator (n, n), to about 1e-10."""
    if n < 4:
        return float(max(np.linalg.eigvalsh(np.stack([product(e) for e in np.eye(n)]))[-1], 0.0))
    start = np.random.default_rng(0).standard_normal(n)
    if not np.any(product(start)):
        return 0.0
    options: dict[str, Any] = {"which": "LA", "v0": start, "tol": 1e-11, "return_eigenvectors": False}
    return float(max(eigsh(operator_of(product, n), k=1, **options)[0], 0.0))


def operator_of(product: Callable[..., Any], n: int) -> LinearOperator:
    """A symmetric LinearOperator (n, n) from its products with a vector."""
    products: dict[str, Any] = {"matvec": product, "rmatvec": product}
    return LinearOperator(dtype=np.dtype(float), shape=(n, n), **products)


def layer_norm_squared(layer: Layer, homogeneous: bool = False, last: bool = False) -> float:
    """|T^(p)|_2^2, of the layer without its bias; homogeneous: of what acts on (x, 1), with a row for 1 unless last."""
    local, into, out = layer.step.local, layer.value.size, prod(layer.shape)
    extra, below, shift = int(homogeneous), int(homogeneous and not last), np.zeros(out)
    if homogeneous and layer.bias is not None:
        shift = np.repeat(layer.bias, out // len(layer.bias))

    def push(t):
        moved = local.push(0, t[:, :into].reshape(len(t), *layer.value.shape)).reshape(len(t), out)
        return np.hstack([moved + t[:, into:] * shift, t[:, into : into + below]]) if extra else moved

    def pull(c):
        pulled = local.pull(0, c[:, :out].reshape(len(c), *layer.shape)).reshape(len(c), into)
        one = c[:, :out] @ shift[:, None] + c[:, out:].sum(axis=1, keepdims=True)
        return np.hstack([pulled, one]) if extra else pulled

    if into * out <= DENSE:
        small = push(np.eye(into + extra)) if into <= out else pull(np.eye(out + below))
        norm = float(np.linalg.norm(small, 2))
        return norm * norm
    if into <= out:
        return _top(lambda v: pull(push(v.reshape(1, -1)))[0], into + extra)
    return _top(lambda v: push(pull(v.reshape(1, -1)))[0], out + below)


def outer_product_norm(
    network: "Network",
    x: ArrayLike | None = None,
    *,
    pattern: str | None = None,
    tol: float = TOL,
    method: str = "auto",
) -> float:
    """|H_O|_2 over the parameters of the chain at one sample x, H_O never formed.

    With A = S S^T it is the squared norm of S^T J, which has one row a class. method: "gram" pulls all C rows at once
    and takes the largest eigenvalue of S^T J J^T S (C, C), exact; "lanczos" pulls and pushes one vector of C numbers a
    step, for many classes; "auto" is "gram" while C times the parameters fits `ROWS`. Raises as `chain_at`.
    """
    return norm_of(chain_at(network, x, pattern=pattern, tol=tol), method=method)


# ---------------------------------------------------------------- the matrices


@dataclass(frozen=True, eq=False)
class Factors:
    """The factors of H_O at one sample; tuples run over the layers p = 1, ..., L+1, n_p the size of z^(p).

    T: (n_p, n_{p-1}) sparse. Lambda: (size of x^(p), n_p) sparse; n_{p-1} in T is that size. G: (C, n_p). Q: (n_p
    n_{p-1}, size of theta^(p)) sparse, one 1 a row at most. x: x^(0), ..., x^(L). A: (C, C); probabilities: (C,).
    parameters: names by layer, W[, b]; the order of the columns of Q and of H_O. Where some layer has a bias
    (homogeneous) all act on (x, 1), and T^(p), p <= L, and Lambda^(p) have one row more, which hands on the 1.
    """

    parameters: tuple[tuple[str, ...], ...]
    T: tuple[sparse.csr_array, ...]
    Lambda: tuple[sparse.csr_array, ...]
    Q: tuple[sparse.csr_array, ...]
    x: tuple[np.ndarray, ...]
    probabilities: np.ndarray
    homogeneous: bool

    @property
    def A(self) -> NDArray[np.float64]:
        """diag(p) - p p^T, the Hessian of the cross-entropy in the logits."""
        return centered(self.probabilities) * self.probabilities

    @cached_property
    def G(self) -> tuple[NDArray[np.float64], ...]:
        """(C, n_p), z = G^(p) z^(p)."""
        found = [self.Lambda[-1].toarray()]
        for T, Lambda in zip(self.T[:0:-1], self.Lambda[-2::-1], strict=True):
            found.append((found[-1] @ T) @ Lambda)
        return tuple(found[::-1])

    @property
    def R(self) -> tuple[Any, ...]:
        """R^(0) = I, ..., R^(L), sparse: x^(p) = R^(p) x."""
        found = [sparse.eye_array(len(self.x[0]), format="csr")]
        for T, Lambda in zip(self.T[:-1], self.Lambda[:-1], strict=True):
            found.append(Lambda @ T @ found[-1])
        return tuple(found)

    @property
    def F(self) -> Any:
        """(C, sum of n_p n_{p-1}), sparse: the blocks G^(p) (x) x^(p-1)^T side by side."""
        return sparse.hstack([sparse.kron(G, x[None]) for G, x in zip(self.G, self.x, strict=True)], format="csr")

    def jacobian(self) -> np.ndarray:
        """J = F Q (C, number of parameters), by the blocks G^(p) (I (x) x^(p-1)^T) Q^(p)."""
        blocks = []
        for G, x, Q in zip(self.G, self.x, self.Q, strict=True):
            spread = sparse.kron(sparse.eye_array(G.shape[1], format="csr"), x[None], format="csr")
            blocks.append(G @ (spread @ Q))
        return np.hstack(blocks)

    def hessian(self) -> np.ndarray:
        """H_O = Q^T F^T A F Q, dense, over the parameters in the order of `parameters`."""
        J = self.jacobian()
        return J.T @ self.A @ J


def outer_product_factors(
    network: "Network", x: ArrayLike | None = None, *, pattern: str | None = None, tol: float = TOL
) -> Factors:
    """The `Factors` at one sample x; raises as `chain_at`. For large networks see `outer_product_norm`."""
    chain = chain_at(network, x, pattern=pattern, tol=tol)
    homogeneous = any(layer.bias is not None for layer in chain.layers)
    T, Q, Lambda, inputs = [], [], [], []
    for layer in chain.layers:
        last = layer is chain.layers[-1]
        matrix, derivative = _matrix(layer, homogeneous, last)
        T.append(matrix)
        Q.append(derivative)
        between = sparse.eye_array(prod(layer.shape), format="csr")
        for other in layer.between:
            between = _between_matrix(other) @ between
        if homogeneous and not last:
            between = sparse.block_diag([between, np.ones((1, 1))], format="csr")
        Lambda.append(between)
        inputs.append(np.append(layer.x, 1.0) if homogeneous else layer.x)
    names = tuple(layer.names for layer in chain.layers)
    return Factors(names, tuple(T), tuple(Lambda), tuple(Q), tuple(inputs), chain.probabilities, homogeneous)


def _matrix(layer, homogeneous, last):
    """(T, Q): the matrix of a layer and the derivative of vec_r T in its parameters."""
    (inner, outer, taps), size = layer.fan, layer.value.size
    table = entries(layer.windows)[:, None, :] + prod(layer.windows.size) * np.arange(inner)[:, None]  # l, a, tap
    inside = np.broadcast_to(entries(layer.windows)[:, None, :] >= 0, table.shape)
    place = np.broadcast_to(np.arange(layer.places)[:, None, None], table.shape)[inside]
    weight = np.broadcast_to(np.arange(inner * taps).reshape(inner, taps), table.shape)[inside]
    channel = np.arange(outer)[:, None]
    rows = (channel * layer.places + place).ravel()
    columns = np.broadcast_to(table[inside], (outer, len(place))).ravel()
    which, theta = (channel * inner * taps + weight).ravel(), layer.weights.ravel()
    n, m = layer.places * outer + (homogeneous and not last), size + homogeneous
    if homogeneous and layer.bias is not None:
        units = np.arange(layer.places * outer)
        rows, columns = np.append(rows, units), np.append(columns, np.full(len(units), size))
        which, theta = np.append(which, theta.size + units // layer.places), np.append(theta, layer.bias)
    Q = sparse.csr_array((np.ones(len(rows)), (rows * m + columns, which)), shape=(n * m, theta.size))
    values = theta[which]
    if homogeneous and not last:
        rows, columns, values = np.append(rows, n - 1), np.append(columns, size), np.append(values, 1.0)
    return sparse.csr_array((values, (rows, columns)), shape=(n, m)), Q


def _between_matrix(other):
    """The matrix of one operation of a Lambda."""
    push, size, shape = other.step.local.push, other.size, other.shape
    if other.kind == "relu":
        return sparse.diags_array(np.ravel(push(0, np.ones((1, *shape)))), format="csr")
    if other.windows is None:
        return sparse.eye_array(size, format="csr")
    pixels = prod(other.windows.size)
    if other.kind == "max":
        winners = np.ravel(push(0, np.arange(size, dtype=float).reshape(1, *shape))).astype(int)
        return sparse.csr_array((np.ones(len(winners)), (np.arange(len(winners)), winners)), shape=(len(winners), size))
    table = entries(other.windows)
    columns = (np.arange(0, size, pixels)[:, None, None] + table).reshape(-1, table.shape[1])
    inside = np.broadcast_to(table >= 0, (size // pixels, *table.shape)).reshape(columns.shape)
    rows = np.broadcast_to(np.arange(len(columns))[:, None], columns.shape)[inside]
    values = np.full(len(rows), 1.0 / prod(other.windows.window))
    return sparse.csr_array((values, (rows, columns[inside])), shape=(len(columns), size))
