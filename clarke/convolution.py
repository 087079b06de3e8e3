"""Convolutions and poolings, with their derivatives in closed form.

A convolution is linear in the patches of its input and in its kernel; the patches are a gather by one table of
integers, so that a recording of it has one gather and one matrix product. In the closed forms R directions are folded
into the samples, and patches are formed for `BLOCK` numbers at a time, never for all directions at once.

As in every framework a convolution here is a cross-correlation. Signals (N, C, T) are images of height 1.
"""
# autograd.numpy has its names at run time only
# pyright: reportAttributeAccessIssue=false

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from typing import Any

import autograd.numpy as np
import numpy as onp
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from .local import Factor, Local, closed_form

BLOCK = 2**17  # numbers of patches formed at a time: they stay in cache
BELOW = 2.0**40  # how far what stands for a padded entry lies below an entry of its window


# ---------------------------------------------------------------- windows


@dataclass(frozen=True)
class Windows:
    """The windows of an image: (h, w) = window at every `stride` of the padded size (H, W)."""

    size: tuple[int, int]
    window: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]

    @property
    def padded(self) -> tuple[Any, ...]:
        return tuple(n + 2 * p for n, p in zip(self.size, self.padding, strict=True))

    @property
    def out(self) -> tuple[Any, ...]:
        """(Ho, Wo): how many windows there are."""
        return tuple((n - k) // s + 1 for n, k, s in zip(self.padded, self.window, self.stride, strict=True))

    @property
    def taps(self) -> Iterator[tuple[int, int, slice, slice]]:
        """(i, j, rows, columns): the offsets within a window, and where in the padded image all windows have them."""
        (high, wide), (down, right) = self.out, self.stride
        for i in range(self.window[0]):
            for j in range(self.window[1]):
                yield i, j, slice(i, i + down * (high - 1) + 1, down), slice(j, j + right * (wide - 1) + 1, right)


def _windows(name, shape, role, window, stride, padding):
    """The `Windows` of arrays of this shape (N, C, T) or (N, C, H, W), or ValueError."""
    given = {role: window, "stride": stride, "padding": padding}
    sides = (_sides(name, what, value, len(shape) - 2) for what, value in given.items())
    found = Windows((shape[-2] if len(shape) == 4 else 1, shape[-1]), *sides)
    if any(k > n for k, n in zip(found.window, found.padded, strict=True)):
        padded = found.padded[4 - len(shape) :]
        raise ValueError(f"{name}: {role} {window} does not fit into {padded}, the padded size; pad more, or shrink it")
    return found


def _sides(name, what, value, count):
    """(rows, columns) from an int or, of images, a pair; rows are trivial for signals."""
    least = 0 if what == "padding" else 1
    many = isinstance(value, tuple | list)
    sides = tuple(value) if many else (value,) * count
    if len(sides) != count or not all(isinstance(n, int | onp.integer) and n >= least for n in sides):
        kind = "an int or a pair of ints" if count == 2 else "an int"
        raise ValueError(f"{name}: {what} is {kind} >= {least}; got {value!r}")
    return int(sides[0]) if count == 2 else least, int(sides[-1])


def _padded(x, windows):
    """x (..., H, W) with its zeros around."""
    if not any(windows.padding):
        return x
    (up, left), (high, wide) = windows.padding, windows.size
    padded = onp.zeros((*x.shape[:-2], *windows.padded))
    padded[..., up : up + high, left : left + wide] = x
    return padded


def _seen(x, windows):
    """(..., h, w, Ho, Wo): the windows of x (..., H, W), a view if there is no padding."""
    down, right = windows.stride
    seen = sliding_window_view(_padded(x, windows), windows.window, axis=(-2, -1))
    return onp.moveaxis(seen[..., ::down, ::right, :, :], (-2, -1), (-4, -3))


def _folded(seen, windows):
    """The adjoint of `_seen`: (..., h, w, Ho, Wo) added up where the windows have it, (..., H, W)."""
    total = onp.zeros((*seen.shape[:-4], *windows.padded))
    for i, j, rows, columns in windows.taps:
        total[..., rows, columns] += seen[..., i, j, :, :]
    (up, left), (high, wide) = windows.padding, windows.size
    return total[..., up : up + high, left : left + wide]


def _blocks(count, each):
    """Slices of `count` things of `each` numbers, about BLOCK numbers at a time."""
    step = max(1, BLOCK // each)
    return (slice(start, min(start + step, count)) for start in range(0, count, step))


@lru_cache(maxsize=256)
def _patch_table(channels, windows):
    """(L, C h w): the entries of a flat padded image (C, H, W) in each patch."""
    flat = onp.arange(channels * prod(windows.padded)).reshape(channels, *windows.padded)
    seen = _seen(flat, Windows(windows.padded, windows.window, windows.stride, (0, 0)))
    return _frozen(onp.transpose(seen, (3, 4, 0, 1, 2)).reshape(prod(windows.out), -1))


@lru_cache(maxsize=256)
def _entry_table(windows):
    """(entries, below), both (L, h w): the entries of a flat image (H, W) in each window, and what to take off them.

    For a padded entry stands the last real one of its window, less BELOW: a copy of an entry that can never win,
    wherever x moves, where a constant would need to know how low x can be.
    """
    flat = onp.full(windows.padded, -1)
    (up, left), (high, wide) = windows.padding, windows.size
    flat[up : up + high, left : left + wide] = onp.arange(high * wide).reshape(high, wide)
    seen = _seen(flat, Windows(windows.padded, windows.window, windows.stride, (0, 0)))
    entries = onp.transpose(seen, (2, 3, 0, 1)).reshape(prod(windows.out), -1)
    absent = entries < 0
    return _frozen(onp.where(absent, entries.max(axis=1, keepdims=True), entries)), _frozen(BELOW * absent)


def _frozen(array):
    array.flags.writeable = False
    return array


def _gathered(x, windows):
    """Patches (N, L, C h w) of x (N, C, H, W) or (N, C, T), zeros where it is padded; traceable."""
    if any(windows.padding):
        around = tuple((p, p) for p in windows.padding)[4 - np.ndim(x) :]
        x = np.pad(x, ((0, 0), (0, 0), *around), "constant")
    return np.reshape(x, (x.shape[0], -1))[:, _patch_table(x.shape[1], windows)]


# ---------------------------------------------------------------- convolution


def _convolution_windows(name, x, K, b=None, *, stride=1, padding=0):
    kind = {"conv1d": ("x (N, Cin, T), K (Cout, Cin, k)", 3), "conv2d": ("x (N, Cin, H, W), K (Cout, Cin, kh, kw)", 4)}
    shapes, ndim = kind[name]
    if np.ndim(x) != ndim or np.ndim(K) != ndim or np.shape(x)[1] != np.shape(K)[1]:
        raise ValueError(f"{name} takes {shapes}; got {np.shape(x)}, {np.shape(K)}")
    if b is not None and np.shape(b) != np.shape(K)[:1]:
        raise ValueError(f"{name} takes b ({np.shape(K)[0]},) beside K {np.shape(K)}; got {np.shape(b)}")
    kernel = np.shape(K)[2:]
    return _windows(name, np.shape(x), "kernel", kernel if ndim == 4 else kernel[0], stride, padding)


def _convolved(name, x, K, b, stride, padding):
    windows = _convolution_windows(name, x, K, b, stride=stride, padding=padding)
    patches = _gathered(x, windows)
    y = np.dot(np.reshape(patches, (-1, patches.shape[2])), np.transpose(np.reshape(K, (K.shape[0], -1))))
    if b is not None:
        y = y + b
    out = windows.out[4 - np.ndim(x) :]
    y = np.reshape(y, (x.shape[0], *out, K.shape[0]))
    return np.transpose(y, (0, np.ndim(x) - 1, *range(1, np.ndim(x) - 1)))


def _convolution_derivatives(values, output, pieces, **keywords):
    """y is linear in the patches P of x, in K, and in b: of the second derivatives only those in (x, K) are not 0.

    second(0, 1, delta, T) is the transposed convolution of delta with the kernel T, second(1, 0, delta, t) the
    correlation of delta with the patches of t.
    """
    x, K = values[0], values[1]
    windows = _convolution_windows(f"conv{x.ndim - 2}d", *values, **keywords)
    N, Cin, Cout, Q, L = len(x), K.shape[1], len(K), K[0].size, prod(windows.out)
    image, kernel = (Cin, *windows.size), K.reshape(Cout, Q)
    seen = onp.transpose(_seen(x.reshape(N, *image), windows), (0, 4, 5, 1, 2, 3))
    patches = onp.ascontiguousarray(seen).reshape(N * L, Q)

    def push(i, t):
        R = len(t)
        if i == 0:
            t, y = t.reshape(R * N, *image), onp.empty((R * N, Cout, L))
            for block in _blocks(R * N, Q * L):
                onp.matmul(kernel, _seen(t[block], windows).reshape(-1, Q, L), out=y[block])
            return y.reshape(R, *output.shape)
        if i == 1:
            y = t.reshape(R * Cout, Q) @ patches.T
            return y.reshape(R, Cout, *output.shape[:1], *output.shape[2:]).swapaxes(1, 2)
        return onp.broadcast_to(t.reshape(R, 1, Cout, *(1 for _ in output.shape[2:])), (R, *output.shape))

    def pull(i, c):
        R = len(c)
        c = c.reshape(R * N, Cout, L)
        if i == 0:
            total = onp.empty((R * N, *image))
            for block in _blocks(R * N, Q * L):
                grown = (kernel.T @ c[block]).reshape(-1, Cin, *windows.window, *windows.out)
                total[block] = _folded(grown, windows)
            return total.reshape(R, *x.shape)
        c = c.reshape(R, N, Cout, L)
        if i == 1:
            return (c.swapaxes(1, 2).reshape(R * Cout, N * L) @ patches).reshape(R, *K.shape)
        return c.sum(axis=(1, 3))

    def patches_of(t):
        """(R, Q, N L): the patches of t (R, *x)."""
        seen = _seen(t.reshape(len(t), N, *image), windows)
        return onp.moveaxis(seen, 1, 4).reshape(len(t), Q, N * L)

    def second(i, j, delta, t):
        R, delta = len(t), delta.reshape(N, Cout, L).swapaxes(0, 1).reshape(Cout, N * L)
        if i == 0:
            kernels, total = t.reshape(R, Cout, Q).swapaxes(1, 2), onp.empty((R, N, *image))
            for block in _blocks(R, Q * N * L):
                grown = kernels[block].reshape(-1, Cout) @ delta
                grown = grown.reshape(-1, Cin, *windows.window, N, *windows.out)
                total[block] = _folded(onp.moveaxis(grown, 4, 1), windows)
            return total.reshape(R, *x.shape)
        total = onp.empty((R, Q, Cout))
        for block in _blocks(R, Q * N * L):
            total[block] = patches_of(t[block]) @ delta.T
        return total.swapaxes(1, 2).reshape(R, *K.shape)

    def view(c):
        return onp.moveaxis(c.reshape(len(c), N, Cout, L), 2, 3)[:, :, :, None]

    def tangent(t):
        return onp.moveaxis(patches_of(t).reshape(len(t), Q, N, L), 1, 3)[:, :, :, None]

    factors = {1: Factor(patches.reshape(N, L, 1, Q), view, {0: tangent})}
    if len(values) == 3:
        factors[2] = Factor(onp.ones((N, L, 1, 1)), view)
    return Local(push, pull, second, frozenset({(0, 1), (1, 0)}), frozenset({0}), factors)


def _convolution_magnitude(values, sizes, **keywords):
    """The convolution of the sizes."""
    return (conv1d if np.ndim(sizes[0]) == 3 else conv2d)(*sizes, **keywords)


@closed_form(_convolution_derivatives, magnitude=_convolution_magnitude)
def conv1d(
    x: NDArray[Any], K: NDArray[Any], b: NDArray[Any] | None = None, *, stride: int = 1, padding: int = 0
) -> NDArray[Any]:
    """y[n, c, t] = b[c] + sum_{a, i} K[c, a, i] x[n, a, stride t + i - padding], x zero outside its ends.

    x (N, Cin, T), K (Cout, Cin, k), b (Cout,) or none -> (N, Cout, (T + 2 padding - k) // stride + 1). ValueError for
    any other shapes, a stride below 1, a padding below 0, a kernel longer than the padded signal.
    """
    return _convolved("conv1d", x, K, b, stride, padding)


@closed_form(_convolution_derivatives, magnitude=_convolution_magnitude)
def conv2d(
    x: NDArray[Any],
    K: NDArray[Any],
    b: NDArray[Any] | None = None,
    *,
    stride: int | tuple[int, int] = 1,
    padding: int | tuple[int, int] = 0,
) -> NDArray[Any]:
    """y[n, c, u, v] = b[c] + sum_{a, i, j} K[c, a, i, j] x[n, a, s u + i - p, s' v + j - p'], x zero outside.

    x (N, Cin, H, W), K (Cout, Cin, kh, kw), b (Cout,) or none -> (N, Cout, Ho, Wo), Ho = (H + 2 p - kh) // s + 1, Wo
    likewise; stride (s, s') and padding (p, p') an int or a pair (rows, columns). ValueError as in `conv1d`.
    """
    return _convolved("conv2d", x, K, b, stride, padding)


# ---------------------------------------------------------------- pooling


def _pooling_windows(name, x, *, size, stride=None, padding=0):
    ndim = {"1": 3, "2": 4}.get(name[-2])
    if np.ndim(x) != ndim:
        raise ValueError(f"{name} takes x {'(N, C, T)' if ndim == 3 else '(N, C, H, W)'}; got shape {np.shape(x)}")
    windows = _windows(name, np.shape(x), "size", size, size if stride is None else stride, padding)
    if any(2 * p > k for p, k in zip(windows.padding, windows.window, strict=True)):
        raise ValueError(
            f"{name}: padding {padding} is more than half of size {size}: windows of padding alone; lower it"
        )
    return windows


def _average_derivatives(values, output, pieces, **keywords):
    """Linear: a sum over the taps of a window, and its transpose."""
    (x,) = values
    windows = _pooling_windows(f"average_pool{x.ndim - 2}d", x, **keywords)
    count = prod(windows.window)

    def push(i, t):
        padded = _padded(t.reshape(-1, *windows.size), windows)
        total = onp.zeros((len(padded), *windows.out))
        for _, _, rows, columns in windows.taps:
            total += padded[:, rows, columns]
        return (total / count).reshape(len(t), *output.shape)

    def pull(i, c):
        shares = c.reshape(-1, 1, 1, *windows.out) / count
        shares = onp.broadcast_to(shares, (len(shares), *windows.window, *windows.out))
        return _folded(shares, windows).reshape(len(c), *x.shape)

    return Local(push, pull, samplewise=frozenset({0}))


def _average_magnitude(values, sizes, **keywords):
    """The average of the sizes."""
    return _averaged(f"average_pool{np.ndim(sizes[0]) - 2}d", sizes[0], **keywords)


def _averaged(name, x, **keywords):
    windows = _pooling_windows(name, x, **keywords)
    lines = np.reshape(x, (x.shape[0] * x.shape[1], 1, *x.shape[2:]))
    out = windows.out[4 - np.ndim(x) :]
    return np.reshape(np.mean(_gathered(lines, windows), axis=2), (x.shape[0], x.shape[1], *out))


@closed_form(_average_derivatives, magnitude=_average_magnitude)
def average_pool1d(x: NDArray[Any], *, size: int, stride: int | None = None, padding: int = 0) -> NDArray[Any]:
    """The mean over each window of `size` entries, `stride` (default: size) apart; x (N, C, T).

    Padded entries are zeros and are counted in the mean, as by torch's default count_include_pad=True. ValueError for
    another shape, size or stride below 1, padding below 0 or above size / 2, a window longer than the padded signal.
    """
    return _averaged("average_pool1d", x, size=size, stride=stride, padding=padding)


@closed_form(_average_derivatives, magnitude=_average_magnitude)
def average_pool2d(
    x: NDArray[Any],
    *,
    size: int | tuple[int, int],
    stride: int | tuple[int, int] | None = None,
    padding: int | tuple[int, int] = 0,
) -> NDArray[Any]:
    """The mean over each window (h, w) = size of x (N, C, H, W); size, stride (default: size), padding int or pair.

    Padded entries are zeros and are counted, as by torch's default. ValueError as in `average_pool1d`.
    """
    return _averaged("average_pool2d", x, size=size, stride=stride, padding=padding)


def _max_derivatives(values, output, pieces, **keywords):
    """A piece copies one entry of x to each output: the winner, off the wires of pieces[0] or else the largest."""
    (x,) = values
    windows = _pooling_windows(f"max_pool{x.ndim - 2}d", x, **keywords)
    entries, below = _entry_table(windows)
    (L, count), pixels = entries.shape, prod(windows.size)
    if pieces is None:
        taps = onp.argmax(x.reshape(-1, pixels)[:, entries] - below, axis=-1).ravel()
    else:
        out, entry, _ = pieces[0].wires[0]
        taps = onp.empty(output.size, dtype=onp.intp)
        taps[out] = entry % count  # the argument of the maximum has its windows as rows
    image, place = onp.divmod(onp.arange(output.size), L)
    winners = entries[place, taps] + pixels * image
    order = onp.argsort(winners, kind="stable")
    won, first, times = onp.unique(winners[order], return_index=True, return_counts=True)
    source, alive = onp.zeros(x.size, dtype=onp.intp), onp.zeros(x.size)
    source[won], alive[won] = order[first], 1.0
    again = [(won[times > k], order[first[times > k] + k]) for k in range(1, times.max())]

    def push(i, t):
        return onp.take(t.reshape(len(t), -1), winners, axis=1).reshape(len(t), *output.shape)

    def pull(i, c):
        c = c.reshape(len(c), -1)
        total = onp.take(c, source, axis=1)  # a gather: of each entry the first window that it won
        total *= alive
        for entries, windows in again:
            total[:, entries] += c[:, windows]
        return total.reshape(len(c), *x.shape)

    return Local(push, pull, samplewise=frozenset({0}))


def _max_magnitude(values, sizes, **keywords):
    """The largest size of a window."""
    return _maximal(f"max_pool{np.ndim(sizes[0]) - 2}d", sizes[0], **keywords)


def _max_guards(values, sizes, **keywords):
    """One guard a window: winner less the entry of least difference / scale, so that a window ties iff it does.

    The scale is the sum of the two sizes. Windows of one entry have none.
    """
    windows = _pooling_windows(f"max_pool{values[0].ndim - 2}d", values[0], **keywords)
    entries, below = _entry_table(windows)
    x, size = (a.reshape(-1, prod(windows.size))[:, entries] for a in (values[0], sizes[0]))
    best = onp.argmax(x - below, axis=-1)[..., None]
    gaps, scales = (onp.take_along_axis(x, best, -1) - x, size + onp.take_along_axis(size, best, -1))
    barred = onp.broadcast_to(below > 0, x.shape).copy()
    onp.put_along_axis(barred, best, True, -1)
    ratio = onp.where(barred, onp.inf, gaps / onp.maximum(scales, onp.finfo(float).tiny))
    near = onp.argmin(ratio, axis=-1)[..., None]
    kept = ~barred.all(axis=-1)
    return tuple(onp.take_along_axis(a, near, -1)[..., 0][kept] for a in (gaps, scales))


def _maximal(name, x, **keywords):
    windows = _pooling_windows(name, x, **keywords)
    entries, below = (table.reshape(*windows.out[4 - np.ndim(x) :], -1) for table in _entry_table(windows))
    gathered = np.reshape(x, (x.shape[0], x.shape[1], -1))[:, :, entries]
    if any(windows.padding):
        gathered = gathered - below
    return np.max(gathered, axis=-1)


@closed_form(_max_derivatives, magnitude=_max_magnitude, guards=_max_guards)
def max_pool1d(x: NDArray[Any], *, size: int, stride: int | None = None, padding: int = 0) -> NDArray[Any]:
    """The maximum over each window of `size` entries, `stride` (default: size) apart; x (N, C, T).

    Padded entries never win. A kink wherever two entries of a window are its largest. ValueError as in
    `average_pool1d`.
    """
    return _maximal("max_pool1d", x, size=size, stride=stride, padding=padding)


@closed_form(_max_derivatives, magnitude=_max_magnitude, guards=_max_guards)
def max_pool2d(
    x: NDArray[Any],
    *,
    size: int | tuple[int, int],
    stride: int | tuple[int, int] | None = None,
    padding: int | tuple[int, int] = 0,
) -> NDArray[Any]:
    """The maximum over each window (h, w) = size of x (N, C, H, W); size, stride (default: size), padding int or pair.

    Padded entries never win. A kink wherever two entries of a window are its largest. ValueError as in
    `average_pool1d`.
    """
    return _maximal("max_pool2d", x, size=size, stride=stride, padding=padding)
