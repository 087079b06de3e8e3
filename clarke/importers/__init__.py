"""Networks from elsewhere: each `from_*` returns a Network, and `load` chooses by suffix.

An imported network declares no loss unless its source has one.
"""

import os
from pathlib import Path

from clarke.importers import nnet
from clarke.network import Network

_READERS = {".nnet": nnet.from_nnet}


def load(source) -> Network:
    """The network in the file `source`, read by its suffix (.nnet).

    ValueError for anything else, and for a file that cannot be read as what its suffix says.
    """
    suffix = Path(source).suffix.lower() if isinstance(source, str | os.PathLike) else None
    if suffix not in _READERS:
        raise ValueError(f"cannot load {source!r:.80}: supported are {', '.join(_READERS)} files")
    return _READERS[suffix](source)
