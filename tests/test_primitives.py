"""The alphabet: each operation is recorded, evaluated, differentiated and measured as numpy and finite differences say.

`ALPHABET` writes every operation in every form we know of, at a point where no guard vanishes.
"""

from functools import cache
from math import comb

import autograd
import autograd.numpy as anp
import autograd.numpy.linalg as linalg
import autograd.scipy.special as special
import numpy as np
import pytest
from autograd.extend import defvjp, primitive

from clarke import graph, kinks, lowering, primitives, selections
from clarke.primitives import HiddenBranch, NotPiecewiseSmooth, UnsupportedPrimitive
from clarke.selections import where

EPS = np.finfo(float).eps
X = np.array([0.61, -1.3, 0.87, 0.33, -0.45, 1.7, -0.92, 0.14, -0.28, 1.11, 0.53, -0.71])
RNG = np.random.default_rng(7)
W = RNG.standard_normal((3, 4))
P = RNG.standard_normal(12)
B34 = RNG.standard_normal((3, 4))
T = RNG.standard_normal((2, 3, 4))
M3 = np.array([[3.0, 0.4, 0.2], [0.1, 2.0, 0.3], [0.5, 0.2, 4.0]])


def grid(x):
    return anp.reshape(x, (3, 4))


def cube(x):
    return anp.reshape(x, (2, 3, 2))


def positive(x):
    return x * x + 0.5


def inside(x):
    """In (-1, 1)."""
    return 0.3 * anp.tanh(x)


def regular(x):
    return 0.3 * anp.reshape(x[:9], (3, 3)) + M3


def definite(x):
    a = anp.reshape(x[:9], (3, 3))
    return anp.dot(a, a.T) + 3 * np.eye(3)


ALPHABET = {
    "reshape": lambda x: anp.reshape(x, (3, 4)),
    "reshape_m": lambda x: x.reshape(3, 4),
    "reshape_mt": lambda x: x.reshape((3, -1)),
    "reshapeF": lambda x: anp.reshape(x, (3, 4), order="F"),
    "ravel": lambda x: anp.ravel(grid(x)),
    "ravelF": lambda x: anp.ravel(grid(x), order="F"),
    "ravel_m": lambda x: grid(x).ravel(),
    "flatten": lambda x: grid(x).flatten(),
    "transpose": lambda x: anp.transpose(grid(x)),
    "T": lambda x: grid(x).T,
    "transpose_axes": lambda x: anp.transpose(cube(x), (2, 0, 1)),
    "transpose_kw": lambda x: anp.transpose(cube(x), axes=(2, 0, 1)),
    "transpose_neg": lambda x: anp.transpose(cube(x), (-1, 0, 1)),
    "swapaxes": lambda x: anp.swapaxes(grid(x), 0, 1),
    "moveaxis": lambda x: anp.moveaxis(cube(x), 0, -1),
    "rollaxis": lambda x: anp.rollaxis(cube(x), 2),
    "roll": lambda x: anp.roll(x, 3),
    "roll_ax": lambda x: anp.roll(grid(x), 2, axis=1),
    "roll_pos": lambda x: anp.roll(grid(x), 2, 1),
    "squeeze": lambda x: anp.squeeze(anp.reshape(x, (3, 1, 4))),
    "squeeze_ax": lambda x: anp.squeeze(anp.reshape(x, (3, 1, 4, 1)), axis=1),
    "squeeze_m": lambda x: anp.reshape(x, (3, 1, 4)).squeeze(),
    "expand": lambda x: anp.expand_dims(x, 1),
    "newaxis": lambda x: x[:, None],
    "broadcast_to": lambda x: anp.broadcast_to(x, (2, 12)),
    "bcast_col": lambda x: anp.broadcast_to(x[:, None], (12, 3)),
    "at1": lambda x: anp.atleast_1d(x[0]),
    "at2": lambda x: anp.atleast_2d(x),
    "at3": lambda x: anp.atleast_3d(grid(x)),
    "concat": lambda x: anp.concatenate([x, 2 * x]),
    "concat_ax": lambda x: anp.concatenate([grid(x), B34, grid(x)], axis=1),
    "concat_tuple": lambda x: anp.concatenate((x[:3], x[5:])),
    "concat_none": lambda x: anp.concatenate([grid(x), B34], axis=None),
    "concat_neg": lambda x: anp.concatenate([grid(x), grid(x)], -1),
    "vstack": lambda x: anp.vstack([x, P]),
    "hstack": lambda x: anp.hstack([x, P]),
    "stack": lambda x: anp.stack([x, P, 2 * x]),
    "stack_ax": lambda x: anp.stack([x, P], axis=1),
    "stack_neg": lambda x: anp.stack([grid(x), B34], axis=-1),
    "column_stack": lambda x: anp.column_stack([x, P]),
    "append": lambda x: anp.append(x, P),
    "row_stack": lambda x: anp.vstack((x, 2 * x)),
    "array": lambda x: anp.array([x[0], x[1] * 2]),
    "array_nest": lambda x: anp.array([[x[0], 1.0], [2, x[3]]]),
    "array_rows": lambda x: anp.array([x, 2 * x]),
    "array_mixed": lambda x: anp.array([x[0], 0.0, 3]),
    "array_id": lambda x: anp.array(x),
    "array3": lambda x: anp.array([[[x[0]], [x[1]]], [[x[2]], [x[3]]]]),
    "array_dtype": lambda x: anp.array([x[0], x[1]], dtype=float),
    "sum": lambda x: anp.sum(x),
    "sum_m": lambda x: x.sum(),
    "sum_ax": lambda x: anp.sum(grid(x), axis=0),
    "sum_neg": lambda x: anp.sum(grid(x), axis=-1),
    "sum_tuple": lambda x: anp.sum(cube(x), axis=(0, 2)),
    "sum_keep": lambda x: anp.sum(grid(x), axis=1, keepdims=True),
    "sum_keepall": lambda x: anp.sum(grid(x), keepdims=True),
    "sum_m_ax": lambda x: grid(x).sum(axis=0),
    "sum_m_pos": lambda x: grid(x).sum(1),
    "sum_negtuple": lambda x: anp.sum(cube(x), axis=(-1, 0)),
    "mean": lambda x: anp.mean(x),
    "mean_ax": lambda x: anp.mean(grid(x), axis=1),
    "mean_keep": lambda x: anp.mean(grid(x), axis=0, keepdims=True),
    "mean_m": lambda x: x.mean(),
    "mean_tuple": lambda x: anp.mean(cube(x), axis=(0, 2)),
    "mean_neg": lambda x: grid(x).mean(axis=-1),
    "cumsum": lambda x: anp.cumsum(x),
    "cumsum0": lambda x: anp.cumsum(grid(x), axis=0),
    "cumsum1": lambda x: anp.cumsum(grid(x), axis=1),
    "cumsumneg": lambda x: anp.cumsum(grid(x), axis=-1),
    "cumsum_none": lambda x: anp.cumsum(grid(x)),
    "cumsum_none_kw": lambda x: anp.cumsum(grid(x), axis=None),
    "cumsum_pos": lambda x: anp.cumsum(grid(x), 0),
    "cumsum_1d0": lambda x: anp.cumsum(x, axis=0),
    "cumsum_m": lambda x: grid(x).cumsum(axis=1),
    "cumsum3": lambda x: anp.cumsum(cube(x), axis=1),
    "repeat": lambda x: anp.repeat(x, 2),
    "repeat_ax": lambda x: anp.repeat(grid(x), 3, axis=0),
    "repeat_arr": lambda x: anp.repeat(grid(x), [1, 2, 0], axis=0),
    "repeat_m": lambda x: x.repeat(2),
    "repeat_none": lambda x: anp.repeat(grid(x), 2),
    "tile": lambda x: anp.tile(x, 2),
    "tile2": lambda x: anp.tile(x, (2, 2)),
    "tile3": lambda x: anp.tile(grid(x), (2, 1)),
    "pad": lambda x: anp.pad(x, (1, 2), mode="constant"),
    "pad2": lambda x: anp.pad(grid(x), ((1, 0), (0, 2)), "constant"),
    "pad_default": lambda x: anp.pad(x, 1),
    "pad_vals": lambda x: anp.pad(x, (1, 2), mode="constant", constant_values=3.0),
    "pad_int": lambda x: anp.pad(grid(x), 1, "constant"),
    "flipud": lambda x: anp.flipud(grid(x)),
    "fliplr": lambda x: anp.fliplr(grid(x)),
    "rot90": lambda x: anp.rot90(grid(x)),
    "rot90_3": lambda x: anp.rot90(grid(x), 3),
    "diag": lambda x: anp.diag(x),
    "diag_mat": lambda x: anp.diag(grid(x)),
    "diag_k": lambda x: anp.diag(x, 1),
    "diagonal": lambda x: anp.diagonal(grid(x), axis1=-1, axis2=-2),
    "diagonal0": lambda x: anp.diagonal(grid(x)),
    "trace": lambda x: anp.trace(grid(x)),
    "trace_k": lambda x: anp.trace(grid(x), 1),
    "triu": lambda x: anp.triu(grid(x)),
    "tril": lambda x: anp.tril(grid(x), k=-1),
    "astype": lambda x: x.astype(float),
    "real": lambda x: anp.real(x),
    "real_if": lambda x: anp.real_if_close(x),
    "split": lambda x: anp.split(x, 3)[1],
    "split_idx": lambda x: anp.split(x, [2, 5])[1],
    "split_ax": lambda x: anp.split(grid(x), 2, axis=1)[1],
    "array_split": lambda x: anp.array_split(x, 5)[0],
    "vsplit": lambda x: anp.vsplit(grid(x), 3)[2],
    "hsplit": lambda x: anp.hsplit(grid(x), 2)[1],
    "dsplit": lambda x: anp.dsplit(cube(x), 2)[1],
    "split_sum": lambda x: sum(anp.split(x, 3)),
    "split_unpack": lambda x: (lambda a, b: a * b)(*anp.split(x, 2)),
    "hsplit_1d": lambda x: anp.hsplit(x, 3)[0],
    "split_neg": lambda x: anp.split(x, 3)[-1],
    "full": lambda x: anp.full((2, 3), x[0]),
    "full_like": lambda x: anp.full_like(np.zeros(3), 2.0) * x[0],
    "add": lambda x: x + P,
    "add_scalar": lambda x: x + 1,
    "radd": lambda x: 1 + x,
    "add_list": lambda x: x + list(P),
    "subtract": lambda x: x - P,
    "rsub": lambda x: 1 - x,
    "rsub_l": lambda x: anp.subtract(list(P), x),
    "neg": lambda x: -x,
    "add_b": lambda x: grid(x) + x[:4],
    "add_col": lambda x: grid(x) + x[:3, None],
    "diff": lambda x: anp.diff(x),
    "diff2": lambda x: anp.diff(x, 2),
    "diff_ax": lambda x: anp.diff(grid(x), axis=0),
    "diff_n": lambda x: anp.diff(grid(x), n=1, axis=1),
    "rad2deg": lambda x: anp.rad2deg(x),
    "degrees": lambda x: anp.degrees(x),
    "deg2rad": lambda x: anp.deg2rad(x),
    "radians": lambda x: anp.radians(x),
    "mul": lambda x: x * P,
    "mul_int": lambda x: -3 * x,
    "mul_x": lambda x: x * x,
    "mul_list": lambda x: list(P) * x,
    "mul_tuple": lambda x: tuple(P) * x,
    "mul_b": lambda x: grid(x) * x[:4],
    "mul_npint": lambda x: np.int64(3) * x,
    "mul_npf": lambda x: np.float64(3.0) * x,
    "mul_bool": lambda x: np.array([True, False] * 6) * x,
    "mul_f32": lambda x: np.float32(-0.5) * x,
    "mul_negint_arr": lambda x: np.arange(-6, 6) * x,
    "mul_0d": lambda x: np.array(-2.0) * x,
    "dot": lambda x: anp.dot(W, x[:4]),
    "dot_list": lambda x: anp.dot([1, -2], x[:2]),
    "dot_list2": lambda x: anp.dot([[1, -2], [3, -4]], x[:2]),
    "dot_x": lambda x: anp.dot(x, x),
    "dot_mat": lambda x: anp.dot(grid(x), grid(x).T),
    "dot_3": lambda x: anp.dot(T, x[:4]),
    "dot_scalar": lambda x: anp.dot(x, 2.0),
    "rdot": lambda x: anp.dot(x[:3], W),
    "at_op": lambda x: W @ x[:4],
    "at_list": lambda x: anp.matmul([[1, -2], [3, -4]], x[:2]),
    "matmul_b": lambda x: anp.matmul(T, grid(x).T),
    "matmul_xx": lambda x: x @ x,
    "rmatmul": lambda x: x[:3] @ W,
    "matmul_3": lambda x: anp.matmul(anp.reshape(x, (2, 2, 3)), cube(x)),
    "inner": lambda x: anp.inner(x, P),
    "inner2": lambda x: anp.inner(grid(x), B34),
    "outer": lambda x: anp.outer(x[:3], x),
    "outer_c": lambda x: anp.outer(x, [1, -2]),
    "tensordot": lambda x: anp.tensordot(grid(x), B34, 2),
    "tensordot_ax": lambda x: anp.tensordot(grid(x), T, axes=([0, 1], [1, 2])),
    "tensordot1": lambda x: anp.tensordot(W, grid(x).T, 1),
    "tensordot_kw": lambda x: anp.tensordot(grid(x), T, axes=([0], [1])),
    "einsum": lambda x: anp.einsum("ij,j->i", W, x[:4]),
    "einsum_xx": lambda x: anp.einsum("ij,kj->ik", grid(x), grid(x)),
    "einsum_imp": lambda x: anp.einsum("ij,jk", W, grid(x).T),
    "einsum_ell": lambda x: anp.einsum("...j,j->...", T, x[:4]),
    "einsum_op": lambda x: anp.einsum(W, [0, 1], x[:4], [1], [0]),
    "einsum_op2": lambda x: anp.einsum(grid(x), [0, 1], x[:4], [1], [0]),
    "einsum_op_noout": lambda x: anp.einsum(grid(x), [0, 1], x[:4], [1]),
    "einsum_3": lambda x: anp.einsum("i,ij,j->", x[:3], W, x[:4]),
    "einsum_one": lambda x: anp.einsum("ij->j", grid(x)),
    "einsum_trace": lambda x: anp.einsum("ij->ji", grid(x)),
    "einsum_list": lambda x: anp.einsum("i,i->i", [1, -2], x[:2]),
    "kron": lambda x: anp.kron(x[:2], x[:3]),
    "kron_c": lambda x: anp.kron(anp.reshape(x[:4], (2, 2)), W),
    "einsum_opt": lambda x: anp.einsum("ij,j->i", W, x[:4], optimize=True),
    "kron_int": lambda x: anp.kron(np.array([1, -2]), x),
    "div": lambda x: x / 2,
    "div_arr": lambda x: x / (2 + P * P),
    "rdiv": lambda x: 1 / positive(x),
    "div_xx": lambda x: x / positive(x),
    "true_divide": lambda x: anp.true_divide(x, 3),
    "divide": lambda x: anp.divide(x, [-2.0] * 12),
    "div_int": lambda x: x / np.array([-2] * 12),
    "pow2": lambda x: x**2,
    "pow3": lambda x: anp.power(x, 3),
    "pow_neg": lambda x: positive(x) ** (-1),
    "pow_frac": lambda x: positive(x) ** 1.5,
    "pow_xx": lambda x: positive(x) ** x,
    "rpow": lambda x: 2.0**x,
    "rpow_int": lambda x: 2**x,
    "pow_arr": lambda x: x ** np.array([2, 3] * 6),
    "pow0": lambda x: x**0,
    "pow1": lambda x: x**1,
    "pow2f": lambda x: x**2.0,
    "pow_list": lambda x: anp.power(x, [2, 3] * 6),
    "exp": lambda x: anp.exp(x),
    "exp2": lambda x: anp.exp2(x),
    "expm1": lambda x: anp.expm1(x),
    "log": lambda x: anp.log(positive(x)),
    "log2": lambda x: anp.log2(positive(x)),
    "log10": lambda x: anp.log10(positive(x)),
    "log1p": lambda x: anp.log1p(positive(x)),
    "sin": lambda x: anp.sin(x),
    "cos": lambda x: anp.cos(x),
    "tan": lambda x: anp.tan(inside(x)),
    "arcsin": lambda x: anp.arcsin(inside(x)),
    "arccos": lambda x: anp.arccos(inside(x)),
    "arctan": lambda x: anp.arctan(x),
    "sinh": lambda x: anp.sinh(x),
    "cosh": lambda x: anp.cosh(x),
    "tanh": lambda x: anp.tanh(x),
    "arcsinh": lambda x: anp.arcsinh(x),
    "arccosh": lambda x: anp.arccosh(1 + positive(x)),
    "arctanh": lambda x: anp.arctanh(inside(x)),
    "square": lambda x: anp.square(x),
    "sqrt": lambda x: anp.sqrt(positive(x)),
    "reciprocal": lambda x: anp.reciprocal(positive(x)),
    "sinc": lambda x: anp.sinc(positive(x)),
    "logaddexp": lambda x: anp.logaddexp(x, P),
    "logaddexp_xx": lambda x: anp.logaddexp(x, 2 * x),
    "logaddexp2": lambda x: anp.logaddexp2(x, P),
    "arctan2": lambda x: anp.arctan2(x, positive(x)),
    "arctan2_c": lambda x: anp.arctan2(x, 2.0),
    "rarctan2": lambda x: anp.arctan2(2.0, x),
    "hypot": lambda x: anp.hypot(x, positive(x)),
    "hypot_c": lambda x: anp.hypot(x, 2.0),
    "logaddexp_l": lambda x: anp.logaddexp(x, 0),
    "expit": lambda x: special.expit(x),
    "logit": lambda x: special.logit(0.5 + inside(x)),
    "erf": lambda x: special.erf(x),
    "erfc": lambda x: special.erfc(x),
    "erfinv": lambda x: special.erfinv(inside(x)),
    "gammaln": lambda x: special.gammaln(positive(x)),
    "psi": lambda x: special.psi(positive(x)),
    "i0": lambda x: special.i0(x),
    "j0": lambda x: special.j0(x),
    "j1": lambda x: special.j1(positive(x)),
    "y0": lambda x: special.y0(positive(x)),
    "y1": lambda x: special.y1(positive(x)),
    "logsumexp": lambda x: special.logsumexp(x),
    "logsumexp_ax": lambda x: special.logsumexp(grid(x), axis=1),
    "logsumexp_keep": lambda x: special.logsumexp(grid(x), axis=-1, keepdims=True),
    "logsumexp_b": lambda x: special.logsumexp(x, b=P * P),
    "logsumexp_t": lambda x: special.logsumexp(cube(x), axis=(0, 2)),
    "prod": lambda x: anp.prod(x[:4]),
    "prod_ax": lambda x: anp.prod(grid(x), axis=1),
    "prod_neg": lambda x: anp.prod(grid(x), axis=-1),
    "prod_keep": lambda x: anp.prod(grid(x), axis=0, keepdims=True),
    "prod_tuple": lambda x: anp.prod(cube(x), axis=(0, 2)),
    "prod_m": lambda x: x[:3].prod(),
    "var": lambda x: anp.var(x),
    "var_ax": lambda x: anp.var(grid(x), axis=0),
    "var_dd": lambda x: anp.var(x, ddof=1),
    "var_keep": lambda x: anp.var(grid(x), axis=1, keepdims=True),
    "var_m": lambda x: x.var(),
    "std": lambda x: anp.std(x),
    "std_ax": lambda x: anp.std(grid(x), axis=1),
    "std_dd": lambda x: anp.std(x, ddof=1),
    "std_m": lambda x: x.std(),
    "std_neg": lambda x: anp.std(grid(x), axis=-1, keepdims=True),
    "std_tuple": lambda x: anp.std(cube(x), axis=(0, 2)),
    "cross": lambda x: anp.cross(x[:3], x[3:6]),
    "cross_c": lambda x: anp.cross(x[:3], [1.0, -2.0, 3.0]),
    "norm": lambda x: linalg.norm(x),
    "norm2": lambda x: linalg.norm(x, 2),
    "norm_ord_kw": lambda x: linalg.norm(x, ord=2),
    "norm_ax": lambda x: linalg.norm(grid(x), axis=1),
    "norm_keep": lambda x: linalg.norm(grid(x), axis=0, keepdims=True),
    "norm_fro": lambda x: linalg.norm(grid(x)),
    "norm_fro2": lambda x: linalg.norm(grid(x), "fro"),
    "norm_fro_ax": lambda x: linalg.norm(cube(x), axis=(0, 2)),
    "norm_2ax": lambda x: linalg.norm(grid(x), 2, axis=1),
    "norm1": lambda x: linalg.norm(x, 1),
    "norm1_ax": lambda x: linalg.norm(grid(x), 1, axis=0),
    "norminf": lambda x: linalg.norm(x, np.inf),
    "norminf_ax": lambda x: linalg.norm(grid(x), np.inf, axis=1),
    "norminf_keep": lambda x: linalg.norm(grid(x), np.inf, axis=1, keepdims=True),
    "normminf": lambda x: linalg.norm(x, -np.inf),
    "normminf_ax": lambda x: linalg.norm(grid(x), -np.inf, axis=0),
    "mnorm1": lambda x: linalg.norm(grid(x), 1),
    "mnorminf": lambda x: linalg.norm(grid(x), np.inf),
    "mnorm1_ax": lambda x: linalg.norm(cube(x), 1, axis=(0, 2)),
    "mnorm1_ax2": lambda x: linalg.norm(cube(x), 1, axis=(2, 0)),
    "mnorminf_ax": lambda x: linalg.norm(cube(x), np.inf, axis=(-1, 0)),
    "mnorm1_keep": lambda x: linalg.norm(grid(x), 1, keepdims=True),
    "norm1_keep": lambda x: linalg.norm(grid(x), 1, axis=1, keepdims=True),
    "norm1_neg": lambda x: linalg.norm(grid(x), 1, -1),
    "det": lambda x: linalg.det(regular(x)),
    "det_b": lambda x: linalg.det(anp.stack([regular(x), definite(x)])),
    "slogdet": lambda x: linalg.slogdet(regular(x))[1],
    "slogdet_un": lambda x: (lambda sign, log: sign * log)(*linalg.slogdet(regular(x))),
    "inv": lambda x: linalg.inv(regular(x)),
    "pinv": lambda x: linalg.pinv(grid(x)),
    "solve": lambda x: linalg.solve(regular(x), x[9:]),
    "solve_c": lambda x: linalg.solve(M3, x[9:]),
    "solve_m": lambda x: linalg.solve(regular(x), W),
    "cholesky": lambda x: linalg.cholesky(definite(x)),
    "solve_list": lambda x: linalg.solve([[3.0, 1.0], [1.0, 2.0]], x[:2]),
    "getitem": lambda x: x[3],
    "getslice": lambda x: x[2:7],
    "getstep": lambda x: x[::2],
    "getneg": lambda x: x[-1],
    "getrev": lambda x: x[::-1],
    "getbool": lambda x: x[np.array([True, False] * 6)],
    "getint": lambda x: x[np.array([1, 1, 0])],
    "getlist": lambda x: x[[3, 0]],
    "get2": lambda x: grid(x)[1, 2],
    "getcol": lambda x: grid(x)[:, 1],
    "getmesh": lambda x: grid(x)[np.arange(3), np.array([0, 3, 1])],
    "getnone": lambda x: grid(x)[None, :, None],
    "getell": lambda x: cube(x)[..., 0],
    "getnpint": lambda x: x[np.int64(2)],
    "gettup": lambda x: grid(x)[0,],
    "iterate": lambda x: sum(a for a in x),
    "getboollist": lambda x: x[[True, False] * 6],
    "get_ix": lambda x: grid(x)[np.ix_([0, 2], [1, 3])],
    "select": lambda x: anp.select([np.arange(12) < 3, np.arange(12) > 9], [x, 2 * x], x[0]),
    "mask": lambda x: anp.where(np.array([True, False] * 6), x, 2 * x),
    "mask_c": lambda x: anp.where(np.array([True, False] * 6), x, 0.0),
    "mask_b": lambda x: anp.where(np.array([[True], [False], [True]]), x[:4], grid(x)),
    "mask_sc": lambda x: anp.where(True, x, x[0]),
    "mask_list": lambda x: anp.where([True, False] * 6, x, P),
    "mask_l2": lambda x: anp.where([True, False], [1, 2], x[:2]),
    "mask_bb": lambda x: anp.where(np.eye(3, dtype=bool), x[:3], x[3:6, None]),
    "mask_int": lambda x: anp.where(np.array([0, 2] * 6), x, -x),
    "abs": lambda x: anp.abs(x),
    "abs_b": lambda x: abs(x),
    "absolute": lambda x: anp.absolute(x),
    "fabs": lambda x: anp.fabs(x),
    "maximum": lambda x: anp.maximum(x, P),
    "rmaximum": lambda x: anp.maximum(P, x),
    "maximum0": lambda x: anp.maximum(x, 0),
    "rmax0": lambda x: anp.maximum(0, x),
    "maximum_b": lambda x: anp.maximum(grid(x), x[:4] * x[4]),
    "maximum_col": lambda x: anp.maximum(x[:3, None] + x[11], x[:4] * 2),
    "maximum_list": lambda x: anp.maximum(x, [0.0] * 12),
    "minimum": lambda x: anp.minimum(x, P),
    "minimum_b": lambda x: anp.minimum(x[0] * 2, x),
    "fmax": lambda x: anp.fmax(x, P),
    "fmin": lambda x: anp.fmin(P, x),
    "fmax0": lambda x: anp.fmax(x, 0.0),
    "max": lambda x: anp.max(x),
    "max_ax": lambda x: anp.max(grid(x), axis=0),
    "max_neg": lambda x: anp.max(grid(x), axis=-1),
    "max_keep": lambda x: anp.max(grid(x), axis=1, keepdims=True),
    "max_tuple": lambda x: anp.max(cube(x), axis=(0, 2)),
    "max_tuplerev": lambda x: anp.max(cube(x), axis=(2, 0)),
    "max_m": lambda x: x.max(),
    "max_max": lambda x: grid(x).max(axis=1),
    "max_pos": lambda x: anp.max(grid(x), 1),
    "min": lambda x: anp.min(x),
    "min_ax": lambda x: anp.min(grid(x), axis=0),
    "amax": lambda x: anp.amax(x),
    "amin": lambda x: anp.amin(grid(x), axis=1),
    "min_m": lambda x: x.min(),
    "max_keepall": lambda x: anp.max(grid(x), keepdims=True),
    "min_tuple": lambda x: anp.min(cube(x), axis=(0, -1), keepdims=True),
    "max_0d": lambda x: anp.max(x[0]),
    "clip": lambda x: anp.clip(x, -0.5, 0.5),
    "clip_none": lambda x: anp.clip(x, None, 0.5),
    "clip_none2": lambda x: anp.clip(x, -0.5, None),
    "clip_inf": lambda x: anp.clip(x, 0, np.inf),
    "clip_inf2": lambda x: anp.clip(x, -np.inf, 0.2),
    "clip_arr": lambda x: anp.clip(x, -abs(P), abs(P)),
    "clip_kw": lambda x: anp.clip(x, a_min=-0.5, a_max=0.5),
    "clip_m": lambda x: x.clip(-0.5, 0.5),
    "clip_infarr": lambda x: anp.clip(x, np.array([-np.inf, -0.3] * 6), 1.0),
    "clip_kw2": lambda x: anp.clip(x, min=-0.5, max=0.5),
    "clip_b": lambda x: anp.clip(grid(x), -0.2, np.array([0.1, 0.2, 0.3, 0.4])),
    "clip_list": lambda x: anp.clip(x, [-0.5] * 12, None),
    "sort": lambda x: anp.sort(x),
    "sort_ax": lambda x: anp.sort(grid(x), axis=0),
    "sort_none": lambda x: anp.sort(grid(x), axis=None),
    "sort_neg": lambda x: anp.sort(grid(x), axis=-1),
    "sort_2d": lambda x: anp.sort(grid(x)),
    "sort_1": lambda x: anp.sort(grid(x), 1),
    "median": lambda x: anp.median(x),
    "median_odd": lambda x: anp.median(x[:5]),
    "median_ax": lambda x: anp.median(grid(x), axis=0),
    "median_ax1": lambda x: anp.median(grid(x), axis=1),
    "median_neg": lambda x: anp.median(grid(x), axis=-1, keepdims=True),
    "median_keep": lambda x: anp.median(grid(x), keepdims=True),
    "median_all": lambda x: anp.median(grid(x)),
    "ptp": lambda x: anp.ptp(x),
    "ptp_ax": lambda x: anp.ptp(grid(x), axis=1),
    "ptp_neg": lambda x: anp.ptp(grid(x), axis=-1),
    "ptp_tuple": lambda x: anp.ptp(cube(x), axis=(0, 1)),
    "nan_to_num": lambda x: anp.nan_to_num(x),
    "cwhere": lambda x: where(x, x, 2 * x),
    "cwhere_b": lambda x: where(x[:4], grid(x) * 0 + x[:4], 2 * x[:4]),
    "cwhere_c": lambda x: where(x, x * x, 0.0),
    "cwhere_sc": lambda x: where(x[0], anp.sin(x), x * x[0]),
    "cwhere_list": lambda x: where(x[:2], [0.0, 0.0], x[:2]),
    "cwhere_scal": lambda x: where(x[0], x[0] ** 2, 0),
    "softplus": lambda x: anp.log1p(anp.exp(x)),
    "selu": lambda x: where(x, x, anp.exp(x) - 1),
    "huber": lambda x: where(1 - abs(x), x * x / 2, abs(x) - 0.5),
    "linspace": lambda x: anp.linspace(0.0, 1.0, 12) * x,
    "ones_like": lambda x: anp.ones_like(x) * x,
    "zeros_like": lambda x: anp.zeros_like(x) + x,
    "eye": lambda x: anp.eye(12) @ x,
    "shape": lambda x: x * x.shape[0] * x.size * x.ndim,
    "len": lambda x: x * len(x),
    "identity": lambda x: x,
    "tensordot_negative_axes": lambda x: anp.tensordot(grid(x), T, axes=([-1], [-1])),
    "tensordot_list": lambda x: anp.tensordot([1.0, -2.0], x[:2], 1),
    "tensordot_outer": lambda x: anp.tensordot(x[:2], x[:3], 0),
    "kron_1d_2d": lambda x: anp.kron(x[:2], W),
    "kron_list": lambda x: anp.kron([1, -2], x[:3]),
    "matmul_1d_3d": lambda x: anp.matmul(x[:4], anp.swapaxes(T, 1, 2)),
    "matmul_broadcast": lambda x: anp.matmul(anp.reshape(x, (1, 3, 4)), anp.swapaxes(T, 1, 2)),
    "inner_list": lambda x: anp.inner([1, -2, 0], x[:3]),
    "outer_matrix": lambda x: anp.outer(grid(x), x[:2]),
    "einsum_summed_out": lambda x: anp.einsum("ij,k->k", grid(x), x[:2]),
    "einsum_batch": lambda x: anp.einsum("bij,jk->bik", T, anp.reshape(x, (4, 3))),
    "einsum_sublist_ellipsis": lambda x: anp.einsum(T, [Ellipsis, 3], x[:4], [3], [Ellipsis]),
    "einsum_scalar": lambda x: anp.einsum("i,i", x, x),
    "einsum_negative_lists": lambda x: anp.einsum([[1, -2], [-3, 4]], [0, 1], x[:2], [1], [0]),
    "norm_fro_negative": lambda x: linalg.norm(cube(x), axis=(-1, 0)),
    "norm_fro_named_axes": lambda x: linalg.norm(cube(x), "fro", axis=(0, 1)),
    "norm_2_negative": lambda x: linalg.norm(grid(x), 2, -1),
    "norm_axis_tuple1": lambda x: linalg.norm(grid(x), axis=(1,)),
    "norm_fro_keep": lambda x: linalg.norm(grid(x), "fro", keepdims=True),
    "norm_1_one_axis_tuple": lambda x: linalg.norm(grid(x), 1, axis=(0,)),
    "trace_batch": lambda x: anp.trace(cube(x)),
    "triu_batch": lambda x: anp.triu(cube(x), 1),
    "trace_rect": lambda x: anp.trace(anp.reshape(x, (4, 3)), -1),
    "cross_rows": lambda x: anp.cross(grid(x)[:, :3], [1.0, -2.0, 0.5]),
    "cross_axis": lambda x: anp.cross(anp.reshape(x[:6], (3, 2)), anp.reshape(x[6:], (3, 2)), axis=0),
    "logsumexp_neg_b": lambda x: special.logsumexp(x, b=np.where(np.arange(12) == 3, -0.01, 1.0)),
    "logsumexp_pos": lambda x: special.logsumexp(grid(x), 0),
    "slogdet_batch": lambda x: linalg.slogdet(anp.stack([regular(x), definite(x)]))[1],
    "inv_batch": lambda x: linalg.inv(anp.stack([regular(x), definite(x)])),
    "repeat_negative": lambda x: anp.repeat(anp.reshape(x, (2, 6)), 2, axis=-1),
    "repeat_kw": lambda x: anp.repeat(x, repeats=3),
    "tile_short": lambda x: anp.tile(anp.reshape(x, (2, 6)), 2),
    "tile_long": lambda x: anp.tile(x, (3, 1, 2)),
    "roll_tuple": lambda x: anp.roll(grid(x), (1, -2), axis=(0, 1)),
    "squeeze_two": lambda x: anp.squeeze(anp.reshape(x, (1, 12, 1)), axis=(0, 2)),
    "rot90_axes": lambda x: anp.rot90(cube(x), axes=(1, 2)),
    "expand_two": lambda x: anp.expand_dims(x, (0, 2)),
    "rollaxis_negative": lambda x: anp.rollaxis(cube(x), -1),
    "swap_negative": lambda x: anp.swapaxes(cube(x), -1, 0),
    "moveaxis_many": lambda x: anp.moveaxis(cube(x), (0, 1), (-1, 0)),
    "broadcast_list": lambda x: anp.broadcast_to(x, [2, 12]),
    "broadcast_new_and_old": lambda x: anp.broadcast_to(x[:3, None], (2, 3, 4)),
    "diagonal_batch": lambda x: anp.diagonal(cube(x), 1, 0, 1),
    "diag_offset_rect": lambda x: anp.diag(grid(x), -1),
    "pad_edge": lambda x: anp.pad(x, 2, mode="edge"),
    "pad_reflect": lambda x: anp.pad(grid(x), ((1, 1), (2, 0)), "reflect"),
    "pad_wrap": lambda x: anp.pad(x, (3, 0), "wrap"),
    "pad_symmetric": lambda x: anp.pad(x, pad_width=(0, 2), mode="symmetric"),
    "diff_3": lambda x: anp.diff(grid(x), 3),
    "diff_0": lambda x: anp.diff(x, 0),
    "diff_axis_first": lambda x: anp.diff(cube(x), axis=0),
    "concat_none_constant": lambda x: anp.concatenate([x, [[1.0], [-2.0]]], axis=None),
    "concat_list": lambda x: anp.concatenate([x, [-1.0, 2.0]]),
    "concat_scalars": lambda x: anp.concatenate([[1.0], x[:2], [-3]]),
    "hstack_scalars": lambda x: anp.hstack([x[0], x[1], -2.0]),
    "vstack_lists": lambda x: anp.vstack([x[:2], [1, -2]]),
    "stack_lists": lambda x: anp.stack([[1.0, -2.0], x[:2]]),
    "getitem_all_true": lambda x: x[[True] * 12],
    "getitem_bool_rows": lambda x: grid(x)[[True, False, True]],
    "getitem_list_column": lambda x: grid(x)[[2, 0, 2], 1],
    "getitem_empty_list": lambda x: anp.sum(x[[]]) + x,
    "getitem_mask2": lambda x: grid(x)[np.eye(3, 4, dtype=bool)],
    "getitem_intrange": lambda x: x[range(3)],
    "getitem_rowbool": lambda x: grid(x)[:, [True, False, False, True]],
    "power_pow_traced_exponent": lambda x: anp.power(2.5, x),
    "power_two_args": lambda x: anp.power(positive(x), positive(x[::-1])),
    "divide_scalar_by": lambda x: -2 / positive(x),
    "power_neg_int": lambda x: (2 + x * x) ** (-2),
    "pow_neg_arr": lambda x: positive(x) ** np.array([-1.0, -0.5] * 6),
    "std_keyword": lambda x: anp.std(grid(x), axis=0, ddof=2),
    "var_tuple": lambda x: anp.var(cube(x), axis=(0, -1), ddof=1),
    "prod_single": lambda x: anp.prod(x[:1]),
    "prod_product": lambda x: anp.prod(grid(x)),
    "mean_scalar": lambda x: anp.mean(x[0]),
    "sum_dtype": lambda x: anp.sum(x, dtype=float),
    "sum_of_list": lambda x: anp.sum([x[0], 2 * x[1]]),
    "max_of_list": lambda x: anp.max(anp.array([x[0], x[1], 0.0])),
    "max_scalar_axis": lambda x: anp.max(grid(x), axis=(1,)),
    "sort_stable": lambda x: anp.sort(x, kind="stable"),
    "sort_rows_then_columns": lambda x: anp.sort(anp.sort(grid(x), axis=1), axis=0),
    "sort3": lambda x: anp.sort(cube(x), axis=1),
    "median3": lambda x: anp.median(cube(x), axis=1, keepdims=True),
    "median_one": lambda x: anp.median(x[:1]),
    "median_two": lambda x: anp.median(x[:2]),
    "clip_traced_bounds": lambda x: anp.clip(x[:4], x[4:8] - 3.5, x[8:] + 3),
    "clip_constant_traced": lambda x: anp.clip(P[:4], x[:4] - 0.1, None),
    "clip_constant_twice": lambda x: anp.clip(-9.0, P - 3, x - 2) + anp.clip(-9.0, -0.5, x),
    "clip_positional_keyword": lambda x: anp.clip(x, -0.5, a_max=0.4),
    "clip_scalar": lambda x: anp.clip(x[0], -0.5, 0.5),
    "ptp_keep": lambda x: anp.ptp(grid(x), axis=0, keepdims=True),
    "maximum_three": lambda x: anp.maximum(anp.maximum(x[:4], x[4:8]), x[8:]),
    "maximum_int": lambda x: anp.maximum(x, np.arange(-6, 6)),
    "leaky": lambda x: anp.maximum(x, 0.1 * x),
    "fmin_broadcast": lambda x: anp.fmin(grid(x), x[:3, None] * 2),
    "where_nested": lambda x: where(x, where(x - 1, 2 * x - 1, x), -x),
    "where_guard_only": lambda x: where(x, 1.0, 0.0) * x,
    "where_broadcast_guard": lambda x: where(x[:3, None], grid(x) * x[:3, None], 0.0),
    "where_rows": lambda x: where(x[:4], x[:4] * P[:3, None], anp.zeros((3, 4))),
    "mask_scalar_false": lambda x: anp.where(False, x[0], x),
    "mask_traced_broadcast": lambda x: anp.where(np.eye(3, 4) > 0, x[0], grid(x)),
    "abs_scalar": lambda x: abs(x[0]),
    "abs_matrix": lambda x: anp.abs(grid(x)),
    "onp_exp": lambda x: np.exp(x),
    "onp_multiply": lambda x: P * x,
    "onp_add_out": lambda x: np.add(P, x),
    "method_mean": lambda x: grid(x).mean(axis=(0, 1)),
    "method_clip": lambda x: grid(x).clip(-0.2, 0.2),
    "method_std": lambda x: x.std(axis=0),
    "method_prod": lambda x: grid(x).prod(axis=0),
    "method_swapaxes": lambda x: grid(x).swapaxes(0, 1),
    "method_diagonal": lambda x: grid(x).diagonal(),
    "method_trace": lambda x: grid(x).trace(),
    "method_min": lambda x: grid(x).min(axis=0),
    "softmax": lambda x: anp.exp(x - anp.max(x)) / anp.sum(anp.exp(x - anp.max(x))),
    "constant_in_loop": lambda x: sum(k * x[k] ** 2 for k in range(5)),
    "unused": lambda x: (anp.exp(x), x * 2)[1],
}


@cache
def recorded(name):
    """The germ at X of a case, its function, and a weight for each entry of its output."""
    f = ALPHABET[name]
    return kinks.germ(f, X), f, np.random.default_rng(len(name)).uniform(0.5, 1.5, np.shape(f(X.copy())))


def difference(g, x, h):
    """Central differences of g at x, one column an entry of x; error h^2 g''' / 6 + eps g / h."""
    return np.stack([(np.ravel(g(x + h * e)) - np.ravel(g(x - h * e))) / (2 * h) for e in np.eye(x.size)], axis=-1)


def energy(value, weights):
    """A curved function of the output, so that linear operations have second derivatives to compare."""
    return np.sum(weights * value + value * value / 2)


def pulled(here, weights):
    """y -> gradient at y of the energy, by the pullback of the pieces chosen at X."""
    branches = here.branches(np.zeros(0))

    def gradient(y):
        tape = graph.run(here.graph, y, lambda i, op, args, sizes: branches[i])
        end = here.graph.program.output
        return graph.pullback(here.graph, tape, {end: weights + tape.values[end]})[0]

    return gradient


def flattened(value):
    return np.concatenate([np.ravel(v) for v in value]) if isinstance(value, (list, tuple)) else np.asarray(value)


@pytest.mark.parametrize("name", ALPHABET)
def test_a_recording_computes_what_numpy_computes(name):
    here, f, _ = recorded(name)
    for x in (X, X + 1e-4):
        expected = f(x.copy())
        assert np.shape(graph.evaluate(here.graph, x)) == np.shape(expected) == here.graph.shape
        assert graph.evaluate(here.graph, x) == pytest.approx(expected, rel=1e-12, abs=1e-13)
        assert here.graph(x) == pytest.approx(expected, rel=1e-12, abs=1e-13)


@pytest.mark.parametrize("name", ALPHABET)
def test_the_pullback_of_the_chosen_piece_is_its_derivative(name):
    here, f, weights = recorded(name)
    gradient = pulled(here, weights)(X)
    expected = difference(lambda y: energy(f(y), weights), X, 1e-5)[0]
    assert gradient == pytest.approx(expected, rel=1e-6, abs=1e-7 * (1 + np.abs(expected).max()))


@pytest.mark.parametrize("name", ALPHABET)
def test_the_pullback_of_the_chosen_piece_can_be_differentiated_again(name):
    here, _, weights = recorded(name)
    gradient = pulled(here, weights)
    hessian = autograd.jacobian(gradient)(X)
    expected = difference(gradient, X, 1e-5)
    assert hessian == pytest.approx(hessian.T, abs=1e-9 * (1 + np.abs(hessian).max()))
    assert hessian == pytest.approx(expected, rel=1e-5, abs=1e-6 * (1 + np.abs(expected).max()))


@pytest.mark.parametrize("name", ALPHABET)
def test_a_magnitude_is_finite_and_at_least_the_value(name):
    tape = recorded(name)[0].tape
    for value, size in zip(tape.values, tape.magnitudes, strict=True):
        value, size = flattened(value), flattened(size)
        assert size.shape == value.shape
        assert np.isfinite(size).all()
        assert (size >= np.abs(value) * (1 - 1e-12)).all()


@pytest.mark.parametrize("name", ALPHABET)
def test_the_differences_beyond_the_degree_of_a_piece_vanish(name):
    here = recorded(name)[0]
    degree = here.graph.degrees[here.graph.program.output]
    assert degree >= 0
    if degree > 6:
        return
    branches, step = here.branches(np.zeros(0)), np.random.default_rng(3).uniform(0.5, 1.5, X.size)
    end = here.graph.program.output
    values = [
        graph.run(here.graph, X + t * step, lambda i, op, args, sizes: branches[i]).values[end]
        for t in range(int(degree) + 2)
    ]
    terms = [(-1) ** t * comb(int(degree) + 1, t) * v for t, v in enumerate(values)]
    assert (np.abs(sum(terms)) <= 1e-10 * (1 + np.abs(terms).max())).all()


def test_every_letter_of_the_alphabet_is_written_somewhere():
    written = set()
    for name in ALPHABET:
        here = recorded(name)[0].graph
        written |= {op.name for op in here.operations} | {op.name for op in here.program.operations}
    known = {
        entry.name for call, entry in primitives._by_call.items() if hasattr(call, "fun") and ":" not in entry.name
    }
    known |= set(lowering._LOWER) | set(selections.PIECEWISE)
    replaced = {name.removeprefix("numpy.").removeprefix("linalg.") for name in lowering._LOWER}
    assert sorted(known - written - replaced) == []


def test_autograd_does_what_we_lower_around_wrongly():
    """Each of these would be a silent error if the recording trusted autograd: when one fails, drop its lowering."""
    x, weights = X, np.arange(1.0, 25.0)

    def error(f):
        n = np.size(f(x))
        gradient = autograd.grad(lambda y: anp.sum(anp.ravel(f(y)) * weights[:n]))(x)
        return np.abs(gradient - difference(lambda y: np.sum(np.ravel(f(y)) * weights[:n]), x, 1e-5)[0]).max()

    assert error(lambda y: anp.transpose(cube(y), (-1, 0, 1))) > 1
    assert error(lambda y: anp.tile(anp.reshape(y, (2, 6)), 2)) > 1
    assert error(lambda y: anp.cumsum(grid(y), axis=-1)) < 1e-8
    assert error(lambda y: y[[True] * 12]) > 1
    assert error(lambda y: anp.sum(y, where=np.arange(12) < 3)) > 0.5


# ---------------------------------------------------------------- magnitudes


def test_the_magnitude_of_an_affine_map_is_its_forward_evaluation_in_absolute_values():
    A, b, a = np.array([[1.0, -2.0], [-3.0, 0.5]]), np.array([-1.0, 4.0]), np.array([0.25, -8.0])
    expected = np.abs(A) @ np.abs(a) + np.abs(b)
    for f in (
        lambda x: anp.dot(A, x) + b,
        lambda x: A @ x - (-b),
        lambda x: anp.einsum("ij,j->i", A, x) + list(b),
        lambda x: anp.matmul(A.tolist(), x) + b,
        lambda x: b - anp.tensordot(-A, x, 1),
        lambda x: anp.array([-1 * (2 * x[1] - x[0]) - 1, b[1] + x[1] * 0.5 - 3 * x[0]]),
        lambda x: anp.sum(A * x, axis=1) + b,
    ):
        tape = kinks.germ(f, a).tape
        assert tape.magnitudes[-1] == pytest.approx(expected, rel=4 * EPS)


def test_a_difference_is_measured_by_its_own_two_terms():
    x = np.array([1e12, 1.0, 3.0, -2.0])
    tape = kinks.germ(lambda x: anp.diff(x), x).tape
    assert tape.magnitudes[-1].tolist() == [1e12 + 1, 4.0, 5.0]
    twice = kinks.germ(lambda x: anp.diff(x, 2), x).tape
    assert twice.magnitudes[-1].tolist() == [1e12 + 5, 9.0]


def test_the_magnitude_of_a_curve_is_its_value_and_its_slope_times_the_error():
    a = np.array([0.5])
    for f, slope in ((anp.exp, np.exp(0.5)), (anp.sin, np.cos(0.5)), (anp.sqrt, 0.5 / np.sqrt(0.5))):
        size = kinks.germ(lambda x, f=f: f(x), a).tape.magnitudes[-1]
        assert size == pytest.approx(np.abs(f(a)) + slope * 0.5)


SINGULAR = np.array([1.0, 1.0, 1.0, 1.0])


@pytest.mark.parametrize(
    "cancelling",
    [
        lambda x: linalg.det(anp.reshape(x, (2, 2)) * 0.1 * np.array([[1, 3], [1, 3]])),
        lambda x: anp.var(0.1 * x[:3]),
        lambda x: anp.cross(0.1 * x[:3], 0.3 * x[:3]),
        lambda x: linalg.slogdet(anp.reshape(x, (2, 2)) / 3 + np.diag([2 / 3, 2 / 3]))[1] - np.log(8 / 9) - 1e-13,
        lambda x: linalg.solve(M3[:2, :2], 0.1 * x[:2] - 0.3 * x[:2] + 0.2 * x[2:]),
        lambda x: special.logsumexp(0.1 * x) - np.log(4) - 0.1 * x[0],
        lambda x: anp.sum(0.1 * x[:3]) - 0.3 * x[3],
        lambda x: anp.prod(0.1 * x[:3]) - 0.001 * x[3],
        lambda x: linalg.inv(anp.reshape(x, (2, 2)) + np.eye(2))[0, 0] - 2 / 3,
    ],
)
def test_what_rounding_leaves_of_a_cancellation_is_a_kink(cancelling):
    value = cancelling(SINGULAR)
    assert np.abs(value).max() < 1e-12
    assert len(kinks.active_kinks(lambda x: anp.abs(cancelling(x)), SINGULAR)) == np.size(value)


# ---------------------------------------------------------------- degrees


@pytest.mark.parametrize(
    ("f", "degree"),
    [
        (lambda x: W @ x[:4], 1),
        (lambda x: anp.maximum(W @ x[:4] + 1, 0), 1),
        (lambda x: np.ones(3) @ anp.maximum(W @ anp.abs(x[:4]), 0), 1),
        (lambda x: x**2, 2),
        (lambda x: x * x, 2),
        (lambda x: anp.square(x), 2),
        (lambda x: anp.power(x, 2.0), 2),
        (lambda x: anp.dot(x, x), 2),
        (lambda x: anp.einsum("i,i,i->i", x, x, x), 3),
        (lambda x: anp.outer(x, x)[0] * x[0], 3),
        (lambda x: x ** np.array([1, 2, 3, 1, 1, 1, 1, 1, 1, 1, 1, 1]), 3),
        (lambda x: (x - 1) ** 3 / 7, 3),
        (lambda x: x**0, 0),
        (lambda x: anp.var(x), 2),
        (lambda x: anp.prod(x[:4]), 4),
        (lambda x: anp.prod(x[:4] * x[0]), 8),
        (lambda x: anp.kron(x[:2], x[:3]), 2),
        (lambda x: anp.maximum(x, 0) * anp.abs(x) ** 2, 3),
        (lambda x: anp.exp(x), np.inf),
        (lambda x: anp.exp(x**0), 0),
        (lambda x: 1 / positive(x), np.inf),
        (lambda x: positive(x) ** -1, np.inf),
        (lambda x: positive(x) ** 0.5, np.inf),
        (lambda x: 2.0**x, np.inf),
        (lambda x: anp.sqrt(positive(x)), np.inf),
        (lambda x: linalg.norm(x), np.inf),
    ],
)
def test_the_degree_of_a_polynomial_is_read_off_how_it_is_written(f, degree):
    recording = graph.from_function(f, X)
    assert recording.degrees[recording.program.output] == degree


# ---------------------------------------------------------------- singular points


SINGULARITIES = {
    "norm": (lambda x: linalg.norm(x), np.zeros(3), "use the 1-norm"),
    "norm of a row": (
        lambda x: linalg.norm(anp.reshape(x, (2, 2)), axis=1),
        np.array([1.0, 2, 0, 0]),
        "use the 1-norm",
    ),
    "std": (lambda x: anp.std(x), np.full(3, 0.1), r"square it as np.var\(x\)"),
    "norm squared": (lambda x: anp.linalg.norm(x) ** 2, np.zeros(2), r"square it as np.sum\(x \*\* 2\)"),
    "std of a row": (lambda x: anp.std(anp.reshape(x, (2, 2)), axis=1), np.array([1.0, 1, 2, 3]), "square it"),
    "sqrt": (lambda x: anp.sqrt(x), np.zeros(1), "keep its argument away"),
    "power": (lambda x: x**0.5, np.zeros(1), "keep its argument away"),
    "power 1.5": (lambda x: x**1.5, np.zeros(1), "keep its argument away"),
    "power of an abs": (lambda x: anp.abs(x) ** 1.5, np.zeros(1), "keep its argument away"),
    "power of itself": (lambda x: anp.power(x, x + 1), np.zeros(1), "keep its argument away"),
    "true_divide": (lambda x: 1 / x, np.zeros(1), "no finite set of smooth pieces"),
    "true_divide by rounding": (lambda x: 1 / ((1 + x) - 1), np.full(1, 1e-12), "keep its argument away"),
    "true_divide in an oscillation": (lambda x: x**2 * anp.sin(1 / x), np.zeros(1), "no finite set of smooth pieces"),
    "reciprocal by rounding": (lambda x: anp.reciprocal((1 + x) - 1), np.full(1, 1e-12), "keep its argument away"),
    "log": (lambda x: anp.log(x), np.zeros(1), "no finite set of smooth pieces"),
    "log of rounding": (lambda x: anp.log((1 + x) - 1), np.full(1, 1e-12), "keep its argument away"),
    "log1p": (lambda x: anp.log1p(x), np.full(1, -1.0), "no finite set of smooth pieces"),
    "sqrt of rounding": (lambda x: anp.sqrt((1 + x) - 1), np.full(1, 1e-12), "keep its argument away"),
    "arccos": (lambda x: anp.arccos(x), np.ones(1), "keep its argument away"),
    "arcsin near 1": (lambda x: anp.arcsin(x), np.full(1, 1 - 1e-12), "keep its argument away"),
    "arctanh": (lambda x: anp.arctanh(x), np.full(1, 1 - 1e-12), "keep its argument away"),
    "arccosh": (lambda x: anp.arccosh(x), np.ones(1), "keep its argument away"),
    "hypot": (lambda x: anp.hypot(x[0], x[1]), np.zeros(2), "keep its argument away"),
    "arctan2": (lambda x: anp.arctan2(x[0], x[1]), np.zeros(2), "keep its argument away"),
    "logit": (lambda x: special.logit(x), np.zeros(1), "no finite set of smooth pieces"),
    "gammaln": (lambda x: special.gammaln(x), np.zeros(1), "no finite set of smooth pieces"),
    "exp": (lambda x: anp.exp(1e4 * x), np.ones(1), "overflows"),
}


@pytest.mark.parametrize("name", SINGULARITIES)
def test_a_singular_point_is_refused_by_the_name_of_its_operation(name):
    f, x, advice = SINGULARITIES[name]
    with pytest.raises(NotPiecewiseSmooth, match=rf"^{name.split()[0]} is .*{advice}"):
        kinks.germ(f, x)


@pytest.mark.parametrize(
    ("f", "x"),
    [
        (lambda x: x**2 + x**3 + x**1 + x**0, np.zeros(1)),
        (lambda x: anp.power(x, np.array([0, 1, 2, 3])), np.zeros(4)),
        (lambda x: anp.sqrt(x), np.full(1, 1e-30)),
        (lambda x: 1 / x, np.full(1, 1e-30)),
        (lambda x: linalg.norm(x), np.full(2, 1e-30)),
        (lambda x: linalg.norm(anp.reshape(x, (2, 2)), axis=1), np.array([1e12, 1.0, 1e-12, 1e-12])),
        (lambda x: anp.std(anp.reshape(x, (2, 2)), axis=1), np.array([1e12, 1.0, 1e-12, 2e-12])),
        (lambda x: anp.prod(x), np.zeros(3)),
        (lambda x: anp.hypot(x[0], x[1]), np.array([0.0, 1e-20])),
    ],
)
def test_a_small_argument_of_its_own_scale_is_regular(f, x):
    here = kinks.germ(f, x)
    gradient = graph.pullback(here.graph, here.tape, {here.graph.program.output: np.ones(here.graph.shape)})[0]
    assert np.isfinite(gradient).all()


def test_a_product_may_vanish_in_any_of_its_factors():
    x = np.array([0.0, 2.0, 0.0, 5.0])
    here = kinks.germ(lambda x: anp.prod(x), x)
    assert graph.hessian(here.graph, x, {}, {here.graph.program.output: np.ones(())}).tolist() == [
        [0, 0, 10, 0],
        [0, 0, 0, 0],
        [10, 0, 0, 0],
        [0, 0, 0, 0],
    ]


# ---------------------------------------------------------------- what jumps


JUMPS = {
    "greater": lambda x: (x > 0) * x,
    "greater_equal": lambda x: (x >= 0) * x,
    "less": lambda x: (x < 0) * x,
    "less_equal": lambda x: anp.less_equal(x, 0) * x,
    "equal": lambda x: (x == 0) * x,
    "not_equal": lambda x: (x != 0) * x,
    "isclose": lambda x: anp.isclose(x, 0.0) * x,
    "allclose": lambda x: anp.allclose(x, 0.0) * x,
    "array_equal": lambda x: anp.array_equal(x, np.zeros(12)) * x,
    "array_equiv": lambda x: anp.array_equiv(x, np.zeros(12)) * x,
    "sign": lambda x: anp.sign(x) * x,
    "heaviside": lambda x: anp.heaviside(x, 0.5) * x,
    "logical_and": lambda x: anp.logical_and(x, True) * x,
    "logical_or": lambda x: anp.logical_or(x, False) * x,
    "logical_not": lambda x: anp.logical_not(x) * x,
    "logical_xor": lambda x: anp.logical_xor(x, True) * x,
    "all": lambda x: anp.all(x) * x,
    "any": lambda x: x.any() * x,
    "nonzero": lambda x: x[x.nonzero()],
    "flatnonzero": lambda x: x[anp.flatnonzero(x)],
    "count_nonzero": lambda x: anp.count_nonzero(x) * x,
    "argwhere": lambda x: anp.argwhere(x) * 1.0,
    "searchsorted": lambda x: anp.searchsorted(np.zeros(2), x) * x,
    "signbit": lambda x: anp.signbit(x) * x,
    "copysign": lambda x: anp.copysign(1.0, x) * x,
    "argmax": lambda x: x[anp.argmax(x)],
    "argmin": lambda x: x[x.argmin()],
    "argsort": lambda x: x[anp.argsort(x)],
    "argpartition": lambda x: x[anp.argpartition(x, 2)],
    "partition": lambda x: anp.partition(x, 2),
    "where": lambda x: anp.where(x, x, 0.0),
    "piecewise": lambda x: anp.piecewise(x, [np.ones(12, bool)], [1.0]),
    "floor": lambda x: anp.floor(x),
    "ceil": lambda x: anp.ceil(x),
    "round": lambda x: anp.round(x),
    "rint": lambda x: anp.rint(x),
    "around": lambda x: anp.around(x),
    "fix": lambda x: anp.fix(x),
    "trunc": lambda x: anp.trunc(x),
    "floor_divide": lambda x: anp.floor_divide(x, 2),
    "mod": lambda x: anp.mod(x, 2),
    "remainder": lambda x: x % 2,
    "fmod": lambda x: anp.fmod(x, 2),
    "modf": lambda x: anp.modf(x)[0],
    "digitize": lambda x: anp.digitize(x, np.array([0.0])) * x,
}
UNREACHABLE = {"isreal", "select"}  # real is what every traced value is; the conditions of a select are refused first


def test_every_jump_is_provoked_below():
    assert set(JUMPS) | UNREACHABLE == set(primitives._JUMPS)


@pytest.mark.parametrize("name", JUMPS)
def test_a_jump_of_a_traced_value_is_refused_by_name(name):
    written = {"mod": "remainder", "around": "a?round", "round": "a?round"}.get(name, name)
    advice = "np.max|np.min|np.sort|clarke.where|only continuous selections"
    with pytest.raises(HiddenBranch, match=rf"^(np\.|a comparison \()?{written}\)? of a traced .*({advice})"):
        graph.from_function(JUMPS[name], X)


@pytest.mark.parametrize(
    ("f", "message"),
    [
        (
            lambda x: x.astype(int) * 1.0,
            "astype rounds a traced value to int64: its output jumps; keep it a float array",
        ),
        (lambda x: anp.array([x[0]], dtype=int) * 1.0, "rounds a traced value to int64"),
        (lambda x: anp.sum(x, dtype=int) * 1.0, "sum rounds a traced value to int64"),
        (lambda x: x.astype(bool) * 1.0, "astype rounds a traced value to bool"),
    ],
)
def test_rounding_to_an_integer_is_a_jump(f, message):
    with pytest.raises(HiddenBranch, match=message):
        graph.from_function(f, X)


@pytest.mark.parametrize(
    ("f", "message"),
    [
        (lambda x: anp.cumprod(x), "cumprod is not in the alphabet of clarke.primitives; write it with supported"),
        (lambda x: anp.fft.fft(x), "fft is not in the alphabet.* declare it with clarke.smooth"),
        (lambda x: 1j * x, "multiply made a complex array of a traced value; write it with real numbers"),
        (lambda x: anp.sum(x, where=X > 0), "sum: the keyword where is not supported; leave it out"),
        (lambda x: anp.mean(x, 0, None), "mean: pass what comes after the axis by keyword"),
        (lambda x: anp.std(x, correction=1), "std: the keyword correction is not supported; leave it out"),
        (lambda x: anp.max(x, initial=0.0), "max: the keyword initial is not supported; leave it out"),
        (lambda x: anp.prod(x, initial=2.0), "prod: the keyword initial is not supported; leave it out"),
        (lambda x: anp.maximum(x, 0.0, where=X > 0, out=np.zeros(12)), "maximum: the keyword where is not supported"),
        (lambda x: anp.clip(x, 0.0, 1.0, casting="same_kind"), "clip: the keyword casting is not supported"),
        (lambda x: anp.median(cube(x), axis=(0, 1)), "median over several axes is not supported; reshape and take one"),
        (lambda x: anp.ptp(x, out=np.zeros(())), "ptp: the keyword out is not supported"),
        (lambda x: linalg.norm(x, 3), "norm of order 3 is not supported; 1, 2, inf and -inf are, for a vector"),
        (lambda x: linalg.norm(grid(x), 2), "norm of order 2 is not supported; 'fro', 1 and inf are, for a matrix"),
        (lambda x: linalg.norm(grid(x), "nuc"), "norm of order 'nuc' is not supported; 'fro', 1 and inf"),
        (lambda x: linalg.norm(grid(x), -np.inf), "norm of order -inf is not supported; 'fro', 1 and inf"),
        (lambda x: anp.pad(x, 1, mode="maximum"), "pad of mode 'maximum' is not supported; pad with np.concatenate"),
    ],
)
def test_what_is_outside_the_alphabet_is_refused_with_advice(f, message):
    with pytest.raises((UnsupportedPrimitive, TypeError, ValueError), match=message) as caught:
        graph.from_function(f, X)
    assert caught.type is UnsupportedPrimitive


@pytest.mark.parametrize(
    "f",
    [
        lambda x: anp.atleast_1d(x[0], x[1])[0],
        lambda x: anp.einsum("ii->i", x[:9].reshape((3, 3))),
        lambda x: linalg.det(anp.reshape(x[:4] * np.array([0.0, 0, 1, 1]), (2, 2))),
    ],
)
def test_a_form_that_autograd_cannot_differentiate_says_so(f):
    here = kinks.germ(f, X)
    with pytest.raises(
        UnsupportedPrimitive, match=r"autograd cannot differentiate this form of it .*; write it another"
    ):
        graph.pullback(here.graph, here.tape, {here.graph.program.output: np.ones(here.graph.shape)})


# ---------------------------------------------------------------- clarke.where


@pytest.mark.parametrize("guard", [0.3, -0.3, 0.0])
def test_where_selects_by_the_sign_of_its_guard(guard):
    assert where(guard, guard, 2 * guard) == (guard if guard >= 0 else 2 * guard)


def test_where_broadcasts_its_three_arguments():
    guard, a, b = np.array([[1.0], [-1.0]]), np.arange(3.0), 7.0
    assert where(guard, a, b).tolist() == [[0, 1, 2], [7, 7, 7]]
    assert where([1, -1], [1, 2], [3, 4]).tolist() == [1, 4]


@pytest.mark.parametrize(
    "shapes", [((2, 3), (3,), ()), ((3,), (2, 1), (2, 3)), ((), (2, 1), (1, 3)), ((2, 1), (), (3,))]
)
@pytest.mark.parametrize("argnum", [0, 1, 2])
def test_autograd_differentiates_where_through_broadcasting(shapes, argnum):
    rng = np.random.default_rng(1)
    args = [rng.standard_normal(s) for s in shapes]
    weights = rng.standard_normal(np.broadcast_shapes(*shapes))
    gradient = autograd.grad(lambda *v: anp.sum(weights * where(*v) ** 2), argnum)(*args)
    h = 1e-6
    expected = np.empty(shapes[argnum])
    for k in np.ndindex(shapes[argnum]):
        sides = []
        for step in (h, -h):
            moved = [np.array(a) for a in args]
            moved[argnum][k] += step
            sides.append(np.sum(weights * where(*moved) ** 2))
        expected[k] = (sides[0] - sides[1]) / (2 * h)
    assert gradient.shape == expected.shape
    assert gradient == pytest.approx(expected, abs=1e-8)


def test_where_refuses_to_jump_and_names_the_values():
    with pytest.raises(
        ValueError, match=r"where: a = 2 and b = 3 differ where guard is 0; a selection must be continuous"
    ):
        where(np.array([1.0, 0.0]), np.array([9.0, 2.0]), np.array([0.0, 3.0]))
    with pytest.raises(ValueError, match="a = 1 and b = -1 differ where guard is 0"):
        kinks.active_kinks(lambda x: where(x, 1.0, -1.0), np.zeros(1))
    with pytest.raises(ValueError, match=r"a = 0.5 and b = 0 differ where guard is 0"):
        kinks.active_kinks(lambda x: where(x[0], x[1], 0.0), np.array([0.0, 0.5]))


def test_where_may_jump_only_where_its_guard_does_not_vanish():
    assert kinks.active_kinks(lambda x: where(x, 1.0, -1.0), np.ones(1)) == ()
    assert len(kinks.active_kinks(lambda x: where(x, x, -x), np.zeros(1))) == 1


# ---------------------------------------------------------------- declaring a primitive smooth


@primitive
def undeclared(x):
    return x**2


defvjp(undeclared, lambda ans, x: lambda g: 2 * g * x)


@primitive
def without_vjp(x):
    return x**2


def test_an_operation_of_ones_own_must_be_declared():
    with pytest.raises(
        UnsupportedPrimitive, match=r"undeclared is not in the alphabet.* declare it with clarke.smooth"
    ):
        graph.from_function(lambda x: undeclared(x), X)


def test_only_a_primitive_with_a_derivative_can_be_declared_smooth():
    with pytest.raises(ValueError, match=r"without_vjp.* has no VJP; define one with autograd.extend.defvjp before"):
        primitives.smooth(without_vjp)
    with pytest.raises(ValueError, match="has no VJP"):
        primitives.smooth(len)


# ---------------------------------------------------------------- branches are linear maps


def test_a_branch_and_its_adjoint_are_adjoint():
    rng = np.random.default_rng(5)
    cases = [
        ("maximum", (rng.standard_normal((3, 4)), rng.standard_normal(4)), {}),
        ("minimum", (rng.standard_normal(()), rng.standard_normal((2, 3))), {}),
        ("abs", (rng.standard_normal((2, 3)),), {}),
        ("where", (rng.standard_normal((3, 1)), rng.standard_normal(4), rng.standard_normal((3, 4))), {}),
        ("max", (rng.standard_normal((2, 3, 2)),), {"axes": (0, 2), "keepdims": False}),
        ("min", (rng.standard_normal((2, 3, 2)),), {"axes": (1,), "keepdims": True}),
        ("sort", (rng.standard_normal((3, 4)),), {"axis": 0}),
        ("mask", (np.array([True, False, True]), rng.standard_normal((2, 3)), rng.standard_normal(3)), {}),
    ]
    for name, args, kwargs in cases:
        branch = selections.natural_branch(name, args, kwargs)
        value = selections.chosen(branch, args)
        g = rng.standard_normal(value.shape)
        pulls = [selections.pull(branch, k, g) for k in range(len(args))]
        assert [np.shape(p) for p in pulls] == [np.shape(a) for a in args]
        inner = sum(np.sum(a * p) for a, p in zip(args, pulls, strict=True))
        assert np.sum(value * g) == pytest.approx(inner)


def test_placing_values_is_linear_and_transposes_to_reading_them():
    base, values, entries = np.zeros((2, 3)), np.array([1.0, 2.0]), np.array([1, 5])
    assert selections.place(base, values, entries).tolist() == [[0, 1, 0], [0, 0, 2]]
    weights = np.arange(6.0).reshape(2, 3)
    total = lambda b, v: anp.sum(weights * selections.place(b, v, entries))  # noqa: E731
    assert autograd.grad(total, 1)(base, values).tolist() == [1, 5]
    assert autograd.grad(total, 0)(base, values).tolist() == [[0, 0, 2], [3, 4, 0]]


@pytest.mark.parametrize("function", [lambda x: anp.max([x[0], x[1]]), lambda x: anp.sum(anp.sort([x[0], x[1]]))])
def test_a_list_of_traced_entries_is_told_to_become_an_array(function):
    with pytest.raises(HiddenBranch, match=r"entries of a list are compared .* hand them np.array"):
        graph.from_function(function, [1.0, 2.0])
