"""The compiled recursion: its status, and that its absence changes nothing but time. Its laws are those of
test_arrangements, which runs on both routes."""

import subprocess
import sys

import numpy as np
import pytest

from clarke import compiled, restriction
from clarke.arrangements import TooManyChambers, chambers


def run(rows, fence=1, point=None, tol=1e-9, limit=10_000, seed=0):
    pytest.importorskip("numba")
    rows = np.array(rows, dtype=float)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    point = rows[0] if point is None else point
    return compiled.cells(rows, np.full(len(rows), 1e-14), fence, point, tol, limit, seed)


def test_a_settled_list_has_a_point_in_every_cell_of_the_half():
    found = run(np.eye(4))
    assert found.status == compiled.SETTLED
    assert found.known == len(found.points) == 8
    assert sorted(map(tuple, np.sign(found.points[:, 1:]).tolist())) == sorted(
        (a, b, c) for a in (-1, 1) for b in (-1, 1) for c in (-1, 1)
    )
    assert (found.points[:, 0] > 0).all()


def test_rows_neither_equal_nor_distinct_are_doubtful():
    rows = np.vstack([np.eye(4), [[0, 1, 1e-11, 0]]])
    assert run(rows).status == compiled.DOUBTFUL


def test_too_many_cells_stop_the_work():
    found = run(np.random.default_rng(0).normal(size=(20, 5)), limit=50)
    assert found.status == compiled.TOO_MANY
    assert found.known > 50


def test_the_same_seed_gives_the_same_points():
    rows = np.random.default_rng(1).normal(size=(12, 4))
    assert np.array_equal(run(rows, seed=3).points, run(rows, seed=3).points)


def test_a_doubtful_answer_is_decided_without_numba(monkeypatch):
    monkeypatch.setattr(restriction, "COMPILED", True)
    monkeypatch.setattr(restriction, "WORTH", 0)
    doubtful = compiled.Cells(np.empty((0, 4)), 0, compiled.DOUBTFUL)
    monkeypatch.setattr(compiled, "cells", lambda *_: doubtful)
    assert len(chambers(np.eye(4))) == 16
    monkeypatch.setattr(compiled, "cells", lambda *_: doubtful._replace(known=9, status=compiled.TOO_MANY))
    with pytest.raises(TooManyChambers, match="at least 18 chambers"):
        chambers(np.eye(4), max_chambers=16)


def test_numba_is_neither_loaded_by_the_import_nor_needed():
    script = """
import sys
sys.modules["numba"] = None
import clarke, numpy
assert len(clarke.chambers(numpy.random.default_rng(0).normal(size=(18, 5)))) == 6428
"""
    subprocess.run([sys.executable, "-W", "error", "-c", script], check=True)
    script = "import sys, clarke; assert 'numba' not in sys.modules"
    subprocess.run([sys.executable, "-c", script], check=True)


def test_both_routes_find_the_same_sign_vectors(monkeypatch):
    pytest.importorskip("numba")
    normals = np.random.default_rng(2).normal(size=(18, 5))
    found = []
    for route in (False, True):
        monkeypatch.setattr(restriction, "COMPILED", route)
        found.append(chambers(normals))
    assert np.array_equal(found[0].signs, found[1].signs)
    assert found[0].reason == found[1].reason
