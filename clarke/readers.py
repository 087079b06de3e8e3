"""Arrays of numbers from .npy, .csv and .json files that nobody vouches for.

No pickle is read; a .npy file is as long as its header says before memory is taken. Whatever is wrong with a file is a
ValueError.
"""

import json
import math
import warnings
from os import PathLike
from pathlib import Path

import numpy as np
from numpy.lib import format as npy

HEADER = 10_000  # bytes of a .npy header that are read; ours have 128


def read_array(path: str | PathLike[str]) -> np.ndarray:
    """The array of real numbers in a file, read by its suffix; any shape.

    .npy: written by numpy.save. .csv: rows of numbers with commas between them. .json: nested lists of numbers.
    ValueError for anything else, OSError where there is no such file.
    """
    path = Path(path)
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise ValueError(f"arrays are read from {', '.join(_READERS)} files; got {path.suffix or 'no suffix'}")
    with path.open("rb") as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # numpy's of an empty file
        try:
            found = reader(file)
        except (ValueError, OSError):
            raise
        except Exception as error:  # numpy's parsers let through what their own parsers raise
            raise ValueError(f"no array of numbers: {type(error).__name__}: {error}") from error
    if found.dtype.kind not in "biuf":
        raise ValueError(f"no array of real numbers: its entries are {found.dtype}")
    return found


def _npy(file):
    version = npy.read_magic(file)
    read = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}.get(version)
    if read is None:
        raise ValueError(f"a .npy file of version {version}; 1.0 and 2.0 are read")
    shape, _, dtype = read(file, max_header_size=HEADER)
    if dtype.hasobject:
        raise ValueError("the file holds Python objects, which allow_pickle=False refuses")
    start = file.tell()
    promised, there = math.prod(shape) * dtype.itemsize, file.seek(0, 2) - start
    if min(shape, default=0) < 0 or promised != there:
        raise ValueError(f"the header promises {promised} bytes, shape {shape} of {dtype}; there are {there}")
    file.seek(0)
    return npy.read_array(file, allow_pickle=False, max_header_size=HEADER)


def _csv(file):
    try:
        return np.loadtxt(file, delimiter=",", ndmin=2)
    except ValueError as error:
        raise ValueError(f"{error}; a .csv file has commas between the numbers") from error


def _json(file):
    return np.array(json.load(file))


_READERS = {".npy": _npy, ".csv": _csv, ".json": _json}
