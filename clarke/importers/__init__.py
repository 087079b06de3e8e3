"""Networks from elsewhere: each `from_*` returns a Network, and `load` chooses by what it is given.

An imported network declares no loss unless its source has one. A framework is imported when a model of it is.
"""

import os
from pathlib import Path
from typing import Any

import numpy as np

from clarke.importers import nnet, onnx, sklearn, tensors, torch
from clarke.network import Network

UnsupportedOperations = tensors.UnsupportedOperations

_READERS = {".nnet": nnet.from_nnet, ".onnx": onnx.from_onnx}
_LIBRARIES = {"torch": torch.from_torch, "sklearn": sklearn.from_sklearn}


def load(source: Any, *data: np.ndarray) -> Network:
    """The network in the file `source`, read by its suffix (.nnet, .onnx), or that of a model, chosen by its class.

    data: what the importer takes beside the source: the example of a torch module (and of an ONNX file, where wanted),
    X and y of a scikit-learn estimator. ValueError for anything else, and for a file that cannot be read as what its
    suffix says.
    """
    if isinstance(source, str | os.PathLike):
        reader = _READERS.get(Path(source).suffix.lower())
        if reader is not None:
            return reader(source, *data)
    libraries = {base.__module__.partition(".")[0] for base in type(source).__mro__}
    for library, importer in _LIBRARIES.items():
        if library in libraries:
            return importer(source, *data)
    supported = ".nnet files, .onnx files, torch modules with an example, scikit-learn estimators with X and y"
    raise ValueError(f"cannot load {source!r:.80}: supported are {supported}")
