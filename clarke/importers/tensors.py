"""A program of tensor operations as a Network: what the importers of torch and ONNX have in common.

An operand is the name (a str) of an input, a parameter or a node of the network, or a constant: a number or an array.
Node functions neither broadcast nor guess, so that everything implicit in a tensor program becomes a node of its own,
named after the operation it serves with a suffix: linear_1.broadcast.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from math import prod
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from clarke import layers
from clarke.network import Network
from clarke.selections import where

SLACK = 1e-9  # how far imported values may be from those of the source, relative to the largest value on the way
FLOATS = 1 << 27  # the largest array that an importer makes: 1 GiB
LINES, ROOTS = 2, 4  # the lines through the example, and the entries on each, that a `where` is tested on


class UnsupportedOperations(ValueError):
    """operations: (node, operation, reason) for each operation of a source that has no node function."""

    def __init__(self, source: str, operations: Iterable[str]) -> None:
        self.operations: tuple[Any, ...] = tuple(operations)
        lines = "".join(f"\n  {node} ({operation}): {reason}" for node, operation, reason in self.operations)
        count = len(self.operations)
        super().__init__(f"{source}: {count} operation{'s' * (count > 1)} cannot be imported:{lines}")


@dataclass(frozen=True)
class Comparison:
    """first > second, or >=: what only a `where` may take, since it jumps."""

    first: object
    second: object

    def swapped(self) -> "Comparison":
        return Comparison(self.second, self.first)


def select(guard: np.ndarray, *sides: np.ndarray, above: float | None = None, below: Any = None) -> NDArray[np.float64]:
    """`where(guard, a, b)`; a fixed number may stand for a (above) or b (below)."""
    rest = iter(sides)
    a = next(rest) if above is None else above
    return where(guard, a, next(rest) if below is None else below)


# ---------------------------------------------------------------- steps: a function of one array, or None for itself


def reshaped(shape: tuple[int, ...], new: tuple[int, ...]) -> Callable[..., Any] | None:
    shape, new = tuple(shape), tuple(int(n) for n in new)
    if shape == new:
        return None
    if shape and new and shape[0] == new[0]:
        return partial(layers.reshape, shape=new[1:])
    return partial(layers.reshape, shape=new, samples=False)


def permuted(axes: Sequence[int] | tuple[int, ...]) -> Callable[..., Any] | None:
    axes = tuple(int(k) for k in axes)
    return None if axes == tuple(range(len(axes))) else partial(layers.transpose, axes=axes)


def broadcasted(shape: tuple[int, ...], new: tuple[int, int]) -> Callable[..., Any] | None:
    return None if tuple(shape) == tuple(new) else partial(layers.broadcast, shape=tuple(int(n) for n in new))


def rescaled(scale: Any = 1.0, shift: Any = 0.0) -> Callable[..., Any] | None:
    """None where nothing changes."""
    if np.all(np.equal(scale, 1.0)) and not np.any(shift):
        return None
    return partial(layers.rescale, scale=_fixed(scale), shift=_fixed(shift))


def _fixed(value):
    array = np.array(value, dtype=float)
    array.flags.writeable = False
    return array if array.size > 1 else float(array.reshape(()))


def swapped_to_end(ndim: int, axis: int) -> list[int]:
    """The permutation that exchanges an axis with the last one; its own inverse."""
    order = list(range(ndim))
    order[axis], order[-1] = order[-1], order[axis]
    return order


# ---------------------------------------------------------------- the network as it grows


class Translation:
    """network, and what has been refused so far; the methods add nodes and return the name of the last of them."""

    def __init__(self) -> None:
        self.network: Network = Network()
        self.refusals: list[Any] = []
        self.flipped: dict[str, str] = {}  # the transpose of a matrix -> the matrix
        self.selections: list[Any] = []  # (name, guard, a, b) of every `where`

    # ---- names and values

    def unique(self, wanted: str) -> str:
        """A name that the network takes, `wanted` if it can be."""
        name = wanted.strip() or "node"
        if re.search(r"\]$|^loss \d+$", name):
            name += "_"
        count = 0
        while (name if not count else f"{name}_{count}") in self.network.dag:
            count += 1
        return name if not count else f"{name}_{count}"

    def value(self, operand: str) -> NDArray[np.float64]:
        return self.network.value(operand) if isinstance(operand, str) else np.asarray(operand, dtype=float)

    def shape(self, operand: Any) -> tuple[int, ...]:
        return self.value(operand).shape

    def named(self, operand: Any, name: str) -> str:
        """An operand as a name: a constant becomes an input."""
        if isinstance(operand, str):
            return operand
        name = self.unique(name)
        self.network.input(name, operand)
        return name

    def emit(self, name: str, fun: Callable[..., Any], *parents: str) -> str:
        """The node fun(*parents), evaluated at once, so that what does not fit is known where it happens."""
        name = self.unique(name)
        self.network.node(name, fun, *parents)
        self.network.value(name)
        return name

    def chain(self, name: str, operand: Any, *steps: tuple[str, Callable[..., Any] | None]) -> str:
        """The steps that are not None, one after another; the last node has the name."""
        steps = tuple((part, fun) for part, fun in steps if fun is not None)
        for k, (part, fun) in enumerate(steps, 1):
            operand = self.emit(name if k == len(steps) else f"{name}.{part}", fun, operand)
        return operand

    # ---- arithmetic

    def binary(self, name: str, kind: str, a: Any, b: Any) -> str:
        """a + b, a - b, a * b, a / b, maximum, minimum with broadcasting; at least one of them is a name."""
        if any(isinstance(operand, Comparison) for operand in (a, b)):
            raise ValueError("a comparison used as a number jumps; write the selection with where")
        shape = np.broadcast_shapes(self.shape(a), self.shape(b))
        fixed = [operand for operand in (a, b) if not isinstance(operand, str)]
        if fixed and kind in _ARITHMETIC:
            return self._with_constant(name, kind, a, b, shape)
        if fixed and kind in ("maximum", "minimum") and np.unique(fixed[0]).size == 1:
            bound = float(np.ravel(fixed[0])[0])
            x = self.chain(f"{name}.broadcast", *self._spread_out(a if isinstance(a, str) else b, shape))
            return self.clip(name, x, *((bound, None) if kind == "maximum" else (None, bound)))
        parents = []
        for operand, side in ((a, "left"), (b, "right")):
            operand = self.named(operand, f"{name}.{side}")
            parents.append(self.chain(f"{name}.{side}", *self._spread_out(operand, shape)))
        return self.emit(name, _BINARY[kind], *parents)

    def _spread_out(self, operand, shape):
        return operand, ("broadcast", broadcasted(self.shape(operand), shape))

    def _with_constant(self, name, kind, a, b, shape):
        first = isinstance(a, str)
        c, invert = np.asarray(b if first else a, dtype=float), None
        if kind == "divide" and not first:
            invert = partial(layers.power, exponent=-1.0)
        elif kind == "divide":
            with np.errstate(all="ignore"):
                c = 1.0 / c
        options = {
            "add": {"shift": c},
            "subtract": {"shift": -c} if first else {"scale": -1.0, "shift": c},
        }.get(kind, {"scale": c})
        if not np.isfinite(c).all():
            raise ValueError("a constant is not finite")
        operand, out = self._spread_out(a if first else b, shape)
        return self.chain(name, operand, out, ("inverse", invert), ("rescale", rescaled(**options)))

    def clip(self, name: str, x: Any, low: float | None = None, high: float | None = None) -> str:
        """min(max(x, low), high) for numbers, either of them None; bounds that are arrays are nodes."""
        for kind, bound in (("maximum", low), ("minimum", high)):
            if bound is not None and (isinstance(bound, str) or np.size(bound) > 1):
                other = self.clip(f"{name}.{kind}", x, *((None, high) if bound is low else (low, None)))
                return self.binary(name, kind, other, bound)
        low = -np.inf if low is None else float(np.reshape(low, ()))
        high = np.inf if high is None else float(np.reshape(high, ()))
        if low <= np.finfo(np.float32).min:  # how "no bound" is often written
            low = -np.inf
        if high >= np.finfo(np.float32).max:
            high = np.inf
        if (low, high) == (-np.inf, np.inf):
            return x
        named = {(0.0, np.inf): layers.relu, (0.0, 6.0): layers.relu6, (-1.0, 1.0): layers.hard_tanh}
        return self.emit(name, named.get((low, high)) or partial(layers.clip, low=low, high=high), x)

    def leaky(self, name: str, x: Any, slope: float) -> str:
        """max(x, slope x), or relu where the slope is 0."""
        return self.emit(name, layers.relu if slope == 0 else partial(layers.leaky_relu, slope=float(slope)), x)

    def power(self, name: str, x: Any, exponent: ArrayLike) -> str:
        exponent = float(np.reshape(exponent, ()))
        return x if exponent == 1 else self.emit(name, partial(layers.power, exponent=exponent), x)

    def where(self, name: str, condition: Comparison, a: np.ndarray | str, b: np.ndarray | str) -> str:
        """The selection of a where the comparison holds, else b; what may be refused is tested in `finish`."""
        if not isinstance(condition, Comparison):
            raise ValueError("its condition is no comparison >, >=, < or <= of two arrays")
        guard = self.binary(f"{name}.guard", "subtract", condition.first, condition.second)
        sides = [side for side in (a, b) if isinstance(side, str)]
        fixed = {k: _fixed(v) for k, v in (("above", a), ("below", b)) if not isinstance(v, str)}
        found = self.emit(name, partial(select, **fixed) if fixed else select, guard, *sides)
        self.selections.append((found, guard, a, b))
        return found

    # ---- shapes

    def reshape(self, name: str, x: Any, shape: tuple[int, ...]) -> str:
        return self.chain(name, x, ("reshape", reshaped(self.shape(x), shape)))

    def permute(self, name: str, x: Any, axes: Sequence[int] | tuple[int, int]) -> str:
        ndim = len(self.shape(x))
        axes = tuple(int(k) % ndim for k in axes) if ndim else ()
        if axes == (1, 0) and x in self.flipped:
            return self.flipped[x]
        found = self.chain(name, x, ("transpose", permuted(axes)))
        if axes == (1, 0):
            self.flipped[found] = x
        return found

    def broadcast(self, name: str, x: Any, shape: tuple[int, ...]) -> str:
        return self.chain(name, *self._spread_out(x, tuple(shape)))

    def part(self, name: str, x: Any, index: Sequence[slice] | tuple[slice, ...]) -> str:
        """x[index], x itself where that is all of it."""
        whole = all(
            isinstance(k, slice) and k in (slice(None), slice(0, n, 1))
            for k, n in zip(index, self.shape(x), strict=False)
        )
        return x if whole else self.emit(name, partial(layers.part, index=tuple(index)), x)

    def split(
        self, name: str, x: Any, axis: int, lengths: Sequence[int], names: Iterable[str] | None = None
    ) -> list[str]:
        """Runs of these lengths along the axis, a list of names."""
        axis, names = axis % len(self.shape(x)), names or [f"{name}.{k}" for k in range(len(lengths))]
        spans = (slice(a, b, 1) for a, b in pairwise(np.cumsum([0, *lengths]).tolist()))
        runs = ((slice(None),) * axis + (span,) for span in spans)
        return [self.part(own, x, run) for own, run in zip(names, runs, strict=True)]

    def concatenate(self, name: str, operands: Iterable[Any], axis: int) -> str:
        operands = [o for o in operands if isinstance(o, str) or np.size(o)]
        if len(operands) == 1 and isinstance(operands[0], str):
            return operands[0]
        axis = axis % len(self.shape(operands[0]))
        names = [self.named(o, f"{name}.{k}") for k, o in enumerate(operands)]
        return self.emit(name, partial(layers.concatenate, axis=int(axis)), *names)

    def mean(
        self, name: str, x: Any, axes: Sequence[int] | range | None = None, keepdims: bool = False, total: bool = False
    ) -> str:
        """The mean over axes, by default all; the sum if `total`."""
        shape = self.shape(x)
        axes = range(len(shape)) if axes is None else [int(k) % len(shape) for k in np.atleast_1d(axes)]
        axes = sorted(set(axes))
        count, kept = prod(shape[k] for k in axes), [k for k in range(len(shape)) if k not in axes]
        left = tuple(shape[k] for k in kept)
        final = tuple(1 if k in axes else n for k, n in enumerate(shape)) if keepdims else left
        before = left
        steps: list[Any] = [("mean", partial(layers.mean, axis=axes[0] if axes else 1))]
        if not axes:
            return x
        if len(axes) > 1 or axes == [0]:
            before = left or (1,)
            ordered = tuple(shape[k] for k in (*kept, *axes))
            steps = [
                ("transpose", permuted((*kept, *axes))),
                ("reshape", reshaped(ordered, (*before, count))),
                ("mean", partial(layers.mean, axis=len(before))),
            ]
        if total:
            steps.append(("sum", rescaled(scale=count)))
        return self.chain(name, x, *steps, ("shape", reshaped(before, final)))

    # ---- matrices

    def linear(self, name: str, x: Any, W: str, b: str | None = None) -> str:
        """x W^T + b for a W (out, in)."""
        W, shape = self.named(W, f"{name}.weight"), self.shape(x)
        x = self.reshape(f"{name}.sample", self.named(x, f"{name}.left"), shape if len(shape) > 1 else (1, *shape))
        parents = [W] if b is None else [W, self.named(b, f"{name}.bias")]
        if len(shape) > 1:
            return self.emit(name, layers.affine, x, *parents)
        return self.reshape(name, self.emit(f"{name}.row", layers.affine, x, *parents), self.shape(W)[:1])

    def matmul(self, name: str, a: str, b: str) -> str:
        """numpy's matmul; a product with a matrix on the right is an affine node."""
        a, b = self.named(a, f"{name}.left"), self.named(b, f"{name}.right")
        left, right = self.shape(a), self.shape(b)
        if len(right) == 2:
            return self.linear(name, a, self.permute(f"{name}.transpose", b, (1, 0)))
        full_left = left if len(left) > 1 else (1, *left)
        full_right = right if len(right) > 1 else (*right, 1)
        batch = np.broadcast_shapes(full_left[:-2], full_right[:-2])
        parents = []
        for operand, side, full in ((a, "left", full_left), (b, "right", full_right)):
            operand = self.reshape(f"{name}.{side}", operand, full)
            parents.append(self.broadcast(f"{name}.{side}", operand, (*batch, *full[-2:])))
        final = (*batch, *full_left[-2:-1][: len(left) - 1], *full_right[-1:][: len(right) - 1])
        if final == (*batch, full_left[-2], full_right[-1]):
            return self.emit(name, layers.matmul, *parents)
        return self.reshape(name, self.emit(f"{name}.product", layers.matmul, *parents), final)

    def softmax(self, name: str, x: Any, axis: int, log: bool = False) -> str:
        ndim = len(self.shape(x))
        order = permuted(swapped_to_end(ndim, axis % ndim))
        fun = layers.log_softmax if log else layers.softmax
        return self.chain(name, x, ("transpose", order), ("softmax", fun), ("back", order))

    def attention(
        self, name: str, q: Any, k: Any, v: Any, *, causal: bool = False, scale: Any = None, shift: Any = None
    ) -> Any:
        """softmax(scale Q K^T + shift) V over the last two axes; scale 1 / sqrt(d) by default, shift fixed."""
        q, k, v = (self.named(a, f"{name}.{side}") for a, side in ((q, "Q"), (k, "K"), (v, "V")))
        shapes = [self.shape(a) for a in (q, k, v)]
        d = shapes[0][-1]
        scale = d**-0.5 if scale is None else float(scale)
        if shift is None and all(len(s) == 4 and s[:2] == shapes[0][:2] for s in shapes):
            q = self.chain(f"{name}.scaled", q, ("scale", rescaled(scale=_near_one(scale * d**0.5))))
            N, H = shapes[0][:2]
            merged = []
            for a, side, s in ((q, "Q", shapes[0]), (k, "K", shapes[1]), (v, "V", shapes[2])):
                last = ("merge", reshaped((N, s[2], H, s[3]), (N, s[2], H * s[3])))
                merged.append(self.chain(f"{name}.{side}", a, ("heads", permuted((0, 2, 1, 3))), last))
            fun = partial(layers.multi_head_attention, heads=H, causal=causal)
            y = self.emit(f"{name}.attention", fun, *merged)
            T, e = shapes[0][2], shapes[2][3]
            split = ("split", reshaped((N, T, H * e), (N, T, H, e)))
            return self.chain(name, y, split, ("heads", permuted((0, 2, 1, 3))))
        if causal:
            raise ValueError("causal attention takes Q, K and V (N, heads, T, d)")
        order = (*range(len(shapes[1]) - 2), len(shapes[1]) - 1, len(shapes[1]) - 2)
        scores = self.matmul(f"{name}.scores", q, self.permute(f"{name}.K", k, order))
        step = ("scale", rescaled(scale, 0.0 if shift is None else shift))
        weights = self.softmax(f"{name}.weights", self.chain(f"{name}.scaled", scores, step), -1)
        return self.matmul(name, weights, v)

    # ---- images and signals: x (N, C, T) or (N, C, H, W)

    def padded(self, name: str, x: Any, before: Sequence[int], after: Sequence[int]) -> str:
        """Zeros around the last axes."""
        shape = self.shape(x)
        before, after = ((0,) * (len(shape) - len(p)) + tuple(p) for p in (before, after))
        if min(*before, *after) < 0:
            raise ValueError("negative padding")
        if not any(before) and not any(after):
            return x
        full = tuple(a + n + b for a, n, b in zip(before, shape, after, strict=True))
        if prod(full) > FLOATS:
            raise ValueError(f"padding to {full} takes more than 1 GiB")
        index = tuple(slice(a, a + n) if a or b else slice(None) for a, n, b in zip(before, shape, after, strict=True))
        return self.emit(name, partial(layers.spread, shape=full, index=index), x)

    def convolution(
        self,
        name: str,
        x: Any,
        K: str,
        b: str | None,
        stride: Any,
        before: Sequence[int],
        after: Sequence[int],
        dilation: Sequence[int],
        groups: int,
    ) -> str:
        """A cross-correlation; groups are split and joined again, gaps of a dilated kernel are zeros."""
        K, dims = self.named(K, f"{name}.weight"), len(self.shape(K)) - 2
        if dims not in (1, 2) or len(self.shape(x)) != dims + 2:
            raise ValueError(f"a convolution takes (N, C, T) or (N, C, H, W); got {self.shape(x)}, {self.shape(K)}")
        if tuple(before) != tuple(after):
            x = self.padded(f"{name}.pad", x, before, after)
            before = (0,) * dims
        if any(d > 1 for d in dilation):
            shape = self.shape(K)
            full = tuple((n - 1) * d + 1 for n, d in zip(shape[2:], dilation, strict=True))
            if prod(shape[:2] + full) > FLOATS:
                raise ValueError(f"a kernel {full} takes more than 1 GiB")
            index = (slice(None), slice(None), *(slice(None, None, int(d)) for d in dilation))
            K = self.emit(f"{name}.dilated", partial(layers.spread, shape=shape[:2] + full, index=index), K)
        fun, sides = _by_dimension(layers.conv1d, layers.conv2d, dims, stride=stride, padding=before)
        fun = partial(fun, **sides)
        parents = [] if b is None else [self.named(b, f"{name}.bias")]
        if groups == 1:
            return self.emit(name, fun, x, K, *parents)
        inner, outer = self.shape(x)[1] // groups, self.shape(K)[0] // groups
        pieces = [self.split(f"{name}.x", x, 1, [inner] * groups), self.split(f"{name}.K", K, 0, [outer] * groups)]
        pieces += [self.split(f"{name}.b", p, 0, [outer] * groups) for p in parents]
        runs = [self.emit(f"{name}.group{g}", fun, *run) for g, run in enumerate(zip(*pieces, strict=True))]
        return self.concatenate(name, runs, 1)

    def max_pool(
        self,
        name: str,
        x: Any,
        size: Sequence[int] | tuple[int, int],
        stride: Any,
        before: Sequence[int] | tuple[int, int],
        after: Sequence[int] | tuple[int, int],
        dilation: Sequence[int] | tuple[int, int],
        out: Any,
    ) -> str:
        """out: the shape that the source has, which says whether it rounded sizes up."""
        if any(d > 1 for d in dilation):
            raise ValueError("dilated max pooling")
        if tuple(before) != tuple(after):
            raise ValueError("max pooling padded on one side; pad before it")
        fun, sides = self._pooling(layers.max_pool1d, layers.max_pool2d, x, size=size, stride=stride, padding=before)
        found = self.emit(name, partial(fun, **sides), x)
        if self.shape(found) != tuple(out):
            raise ValueError("pooling with sizes rounded up (ceil_mode)")
        return found

    def average_pool(
        self,
        name: str,
        x: Any,
        size: Sequence[int],
        stride: Any,
        before: Sequence[int],
        after: Sequence[int],
        out: Any,
        *,
        padding_counts: bool,
    ) -> str:
        """The mean of each window, over its real entries unless padding counts."""
        fun, sides = self._pooling(layers.average_pool1d, layers.average_pool2d, x, size=size, stride=stride)
        fun = partial(fun, **sides)
        share = None
        if not padding_counts and (any(before) or any(after)):
            ones = Translation()
            ones.network.input("x", np.ones((1, 1, *self.shape(x)[2:])))
            share = 1.0 / fun(ones.value(ones.padded("pad", "x", before, after)))
        found = self.chain(
            name,
            self.padded(f"{name}.pad", x, before, after),
            ("average", fun),
            ("share", None if share is None else rescaled(scale=share)),
        )
        if self.shape(found) != tuple(out):
            raise ValueError("pooling with sizes rounded up (ceil_mode)")
        return found

    def adaptive(self, name: str, x: Any, out: Any, maximum: bool = False) -> str:
        """Pooling to the given size of the last axes, where that divides the size there is."""
        shape = self.shape(x)
        size = tuple(n // m for n, m in zip(shape[2:], out, strict=True))
        if any(n % m for n, m in zip(shape[2:], out, strict=True)):
            raise ValueError(f"adaptive pooling from {shape[2:]} to {tuple(out)}, windows of several sizes")
        none, goal = (0,) * len(size), shape[:2] + tuple(out)
        if maximum:
            return self.max_pool(name, x, size, size, none, none, (1,) * len(size), goal)
        return self.average_pool(name, x, size, size, none, none, goal, padding_counts=True)

    def _pooling(self, one, two, x, **sides):
        dims = len(self.shape(x)) - 2
        if dims not in (1, 2):
            raise ValueError(f"pooling takes (N, C, T) or (N, C, H, W); got {self.shape(x)}")
        return _by_dimension(one, two, dims, **sides)

    # ---- normalization

    def batch_norm(
        self, name: str, x: Any, gamma: str, beta: str, mean: np.ndarray, variance: np.ndarray, eps: float
    ) -> str:
        """With fixed moments: an affine map of each channel."""
        along = (-1, *(1 for _ in self.shape(x)[2:]))
        scale = 1.0 / np.sqrt(np.asarray(variance, dtype=float) + eps)
        shift = -np.asarray(mean, dtype=float) * scale
        step = rescaled(scale.reshape(along), shift.reshape(along))
        if gamma is None and beta is None:
            return self.chain(name, x, ("normalized", step))
        return self.channels(name, self.chain(f"{name}.normalized", x, ("", step)), gamma, beta)

    def channels(self, name: str, x: Any, gamma: Any, beta: str) -> str:
        """gamma x + beta along axis 1."""
        C = self.shape(x)[1]
        gamma = self.named(np.ones(C) if gamma is None else gamma, f"{name}.scale")
        parents = [] if beta is None else [self.named(beta, f"{name}.shift")]
        return self.emit(name, layers.scale_channels, x, gamma, *parents)

    def layer_norm(self, name: str, x: Any, gamma: str, beta: str | None, eps: float, count: int) -> str:
        """Over the last `count` axes at once."""
        shape = self.shape(x)
        size = prod(shape[len(shape) - count :])
        flat = (*shape[: len(shape) - count], size)
        if count == len(shape):
            flat = (1, *flat)
        parents = [self.reshape(f"{name}.flat", self.named(x, f"{name}.x"), flat)]
        if beta is not None and gamma is None:
            gamma = np.ones(size)
        for theta, part in ((gamma, "scale"), (beta, "shift")):
            if theta is not None:
                theta = self.named(theta, f"{name}.{part}")
                theta = self.broadcast(f"{name}.{part}", theta, shape[len(shape) - count :])
                parents.append(self.reshape(f"{name}.{part}", theta, (size,)))
        fun = partial(layers.layer_norm, eps=float(eps))
        if flat == shape:
            return self.emit(name, fun, *parents)
        return self.reshape(name, self.emit(f"{name}.normalized", fun, *parents), shape)

    def group_norm(self, name: str, x: Any, gamma: Any, beta: Any, eps: float, groups: int) -> Any:
        shape = self.shape(x)
        flat = self.reshape(f"{name}.groups", x, (shape[0], groups, prod(shape[1:]) // groups))
        fun = partial(layers.layer_norm, eps=float(eps))
        if gamma is None and beta is None:
            return self.reshape(name, self.emit(f"{name}.normalized", fun, flat), shape)
        y = self.reshape(f"{name}.shape", self.emit(f"{name}.normalized", fun, flat), shape)
        return self.channels(name, y, gamma, beta)

    # ---- refusing and finishing

    def refuse(self, node: str, operation: str, reason: str) -> None:
        self.refusals.append((node, operation, str(reason)))

    def stand_in(self, name: str, value: np.ndarray) -> str:
        """What takes the place of a refused operation, so that the others can be looked at too."""
        name = self.unique(name)
        self.network.input(name, np.where(np.isfinite(value), value, 0.0))
        return name

    def finish(self, source: str) -> Network:
        """The network; `UnsupportedOperations` listing all that was refused."""
        if not self.refusals:
            for name, guard, a, b in self.selections:
                gap = _jump(self.network, guard, a, b)
                if gap is not None:
                    reason = f"it jumps: where its guard is 0 its sides are {gap[0]:.6g} and {gap[1]:.6g}"
                    self.refuse(name, "where", reason)
        if self.refusals:
            raise UnsupportedOperations(source, self.refusals)
        return self.network


def _near_one(factor):
    """1.0 for what differs from it by rounding."""
    return 1.0 if abs(factor - 1.0) < 1e-12 else factor


def _by_dimension(one, two, dims, **sides):
    """The function for signals or images, and its keywords as ints or pairs."""
    given = {key: tuple(int(n) for n in value) for key, value in sides.items()}
    return (one, {key: value[0] for key, value in given.items()}) if dims == 1 else (two, given)


_ARITHMETIC = frozenset({"add", "subtract", "multiply", "divide"})
_BINARY = {
    "add": layers.add,
    "subtract": layers.subtract,
    "multiply": layers.product,
    "divide": layers.quotient,
    "maximum": layers.maximum,
    "minimum": layers.minimum,
}


def _jump(network, guard, a, b):
    """(a, b) at a point where the guard is 0 and they differ, on a few lines through the point; None if none is seen.

    A guard that vanishes nowhere on them is not tested: `clarke.where` tests it again where a study meets it.
    """
    leaves = network.inputs + network.parameters
    x, rng = network.point(leaves), np.random.default_rng(0)
    reach = 4.0 * max(1.0, float(np.max(np.abs(x))))

    def at(t, direction):
        moved = network.at(x + t * direction, leaves)
        parts = (moved.value(p) if isinstance(p, str) else np.asarray(p, dtype=float) for p in (guard, a, b))
        return [part.ravel() for part in np.broadcast_arrays(*parts)]

    for direction in rng.standard_normal((LINES, x.size)):
        try:
            ends = [at(side * reach, direction)[0] for side in (0.0, 1.0)]
        except ValueError:  # the line leaves the domain of the network
            continue
        crossing = np.flatnonzero(np.sign(ends[0]) != np.sign(ends[1]))
        for entry in crossing[:: max(1, len(crossing) // ROOTS)][:ROOTS]:
            low, high, sign = 0.0, reach, np.sign(ends[0][entry])
            for _ in range(48):
                middle = (low + high) / 2
                low, high = (middle, high) if np.sign(at(middle, direction)[0][entry]) == sign else (low, middle)
            _, first, second = at((low + high) / 2, direction)
            one, two = float(first[entry]), float(second[entry])
            if abs(one - two) > 1e-6 * max(abs(one), abs(two), 1e-3 * reach):
                return one, two
    return None


def require_same(
    source: str,
    names: Iterable[str],
    ours: Sequence[np.ndarray],
    theirs: Sequence[np.ndarray],
    largest: float,
    slack: float = SLACK,
) -> None:
    """ValueError unless arrays are within slack * largest of one another."""
    for name, mine, meant in zip(names, ours, theirs, strict=True):
        gap = float(np.max(np.abs(mine - meant))) if np.shape(mine) == np.shape(meant) else np.inf
        if not gap <= slack * max(1.0, largest):
            raise ValueError(
                f"{source}: the imported {name} differs from that of the source by {gap:.3g} at the example, or near "
                "it; please report the model"
            )
