"""The .nnet text format: fully connected ReLU networks with their normalization.

After comment lines starting with //, the lines hold comma-separated numbers: the counts of layers,
inputs, outputs and the widest layer; the sizes; an unused flag; the minima and the maxima of the
inputs; the means and the ranges of the inputs, each followed by that of the outputs; then for each
layer the rows of W, one a line, and the entries of b, one a line. The last layer has no ReLU.

Source: K. Julian, Neural Network File Format, Stanford 2016 (github.com/sisl/NNet).
"""

import re
from dataclasses import dataclass, fields
from itertools import pairwise
from os import PathLike
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import ArrayLike, NDArray

from clarke.layers import constant
from clarke.models import mlp
from clarke.network import Network

_NUMBER = r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?"


@dataclass(frozen=True, eq=False)
class Header:
    """What a .nnet file says of its own arrays.

    sizes (L + 1,); minima, maxima, means, ranges (sizes[0],) of the inputs, in raw units;
    output_mean and output_range, of all outputs. Ranges are positive, minima at most maxima.
    """

    sizes: tuple[int, ...]
    minima: np.ndarray
    maxima: np.ndarray
    means: np.ndarray
    ranges: np.ndarray
    output_mean: float
    output_range: float

    def __post_init__(self) -> None:
        for field in fields(self)[1:5]:
            array = constant(field.name, getattr(self, field.name))
            if array.shape != (self.sizes[0],):
                raise ValueError(f"{field.name} needs {self.sizes[0]} entries; got {array.shape}")
            object.__setattr__(self, field.name, array)
        if not (self.ranges > 0).all() or not self.output_range > 0:
            raise ValueError("a range is not positive")
        if (self.minima > self.maxima).any():
            raise ValueError("a minimum is above its maximum")

    def normalize(self, raw: ArrayLike) -> NDArray[np.float64]:
        """(raw - means) / ranges for raw (..., inputs): the network's own coordinates.

        Not clipped to [minima, maxima]: a clip would add kinks that the network does not have.
        """
        raw = constant("raw", raw)
        if raw.shape[-1:] != self.means.shape:
            raise ValueError(f"raw inputs have shape (..., {len(self.means)}); got {raw.shape}")
        return (raw - self.means) / self.ranges


def from_nnet(path: str | PathLike[str]) -> Network:
    """The ReLU network of a .nnet file: mlp's names, no loss.

    The input "x" (1, inputs) is in normalized coordinates, see `Header.normalize`, and starts at
    zeros, the mean of the header; the output "y" (1, outputs) is not scaled back either.
    ValueError naming the file and the line for whatever is not a .nnet file.
    """
    header, weights = read_nnet(path)
    return mlp(
        header.sizes,
        activation="relu",
        loss=None,
        inputs=np.zeros((1, header.sizes[0])),
        theta=np.concatenate([array.ravel() for pair in weights for array in pair]),
    )


def read_nnet(path: str | PathLike[str]) -> tuple[Header, list[tuple[Any, ...]]]:
    """(Header, [(W_1, b_1), ..., (W_L, b_L)]), W (out, in), b (out,), of a .nnet file.

    ValueError naming the file and the line unless it is one to the last byte.
    """
    lines = _Lines(path)
    depth, inputs, outputs, widest = lines.integers(4)
    sizes = lines.integers(depth + 1)
    counts = inputs, outputs, widest
    if depth < 1 or min(sizes) < 1 or (sizes[0], sizes[-1], max(sizes)) != counts:
        lines.refuse(f"sizes {sizes[:9]} contradict the counts {(depth, *counts)} before them")
    if sum(m * (n + 1) for n, m in pairwise(sizes)) > lines.bytes:  # a number takes a byte
        lines.refuse(f"sizes {sizes[:9]} declare more weights than {lines.bytes} bytes can hold")
    lines.numbers(1)
    minima, maxima = lines.numbers(inputs), lines.numbers(inputs)
    means, ranges = lines.numbers(inputs + 1), lines.numbers(inputs + 1)
    output = float(means[-1]), float(ranges[-1])
    try:
        header = Header(sizes, minima, maxima, means[:-1], ranges[:-1], *output)
    except ValueError as error:
        lines.refuse(str(error), error)
    weights = []
    for n, m in pairwise(sizes):
        W = np.stack([lines.numbers(n) for _ in range(m)])
        b = np.concatenate([lines.numbers(1) for _ in range(m)])
        weights.append((W, b))
    lines.finish()
    return header, weights


class _Lines:
    """The lines of a file, from the first that is no comment, with the place for the blame."""

    def __init__(self, path):
        self.path, self.at = path, 0
        try:
            if not Path(path).is_file():  # a device could be endless
                raise FileNotFoundError("no such file")
            data = Path(path).read_bytes()
        except (OSError, TypeError, ValueError) as error:
            self.refuse(f"cannot be read: {error}", error)
        self.bytes = len(data)
        self.rest = data.decode("latin-1").split("\n")  # any byte decodes; only numbers pass
        while self.at < len(self.rest) and self.rest[self.at].startswith("//"):
            self.at += 1

    def refuse(self, problem, cause=None) -> NoReturn:
        place = f"{self.path}, line {self.at}" if self.at else f"{self.path}"
        raise ValueError(f"{place}: {problem}") from cause

    def fields(self, count, pattern, kind):
        """The `count` fields of the next line, each matching `pattern`; one last comma is usual."""
        self.at += 1
        if self.at > len(self.rest):
            self.refuse("the file ends too early")
        line = self.rest[self.at - 1].strip(" \t\r")
        found = [field.strip(" \t") for field in line.removesuffix(",").split(",")]
        if len(found) != count:
            self.refuse(f"expected {count} {kind}, found {len(found)}")
        for field in found:
            if not re.fullmatch(pattern, field, re.ASCII):
                self.refuse(f"expected {kind}, found {field!r:.40}")
        return found

    def integers(self, count):
        return tuple(int(field) for field in self.fields(count, r"\d{1,9}", "counts"))

    def numbers(self, count):
        values = np.array([float(field) for field in self.fields(count, _NUMBER, "numbers")])
        if not np.isfinite(values).all():
            self.refuse("a number is too large for a float")
        return values

    def finish(self):
        for line in self.rest[self.at :]:
            self.at += 1
            if line.strip(" \t\r"):
                self.refuse(f"expected the end of the file, found {line!r:.40}")
