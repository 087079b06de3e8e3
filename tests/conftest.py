"""Settings of the test run."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # small blocks: a second thread costs more than it gives
os.environ.setdefault("MPLBACKEND", "Agg")
