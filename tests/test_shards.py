"""Chambers as a stream and on disk: the same ones, none twice, in bounded memory, whatever kills the run."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import tracemalloc
import warnings
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from fractions import Fraction
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_arrangements import arrangements_in_cones, check_certificates, cube, deformed, generic, noisy_braid, roots

import clarke
from clarke import arrangements, shards
from clarke.arrangements import Chambers, TooManyChambers, chambers
from clarke.shards import iter_chambers, read_chambers, write_chambers

slow = settings(deadline=None, max_examples=60)


def threshold(d):
    return np.column_stack([np.ones(2**d), cube(d)])


def letters(stream):
    """The sign vectors of a stream, in order, and how many there were."""
    parts = [part.signs for part in stream]
    return np.unique(np.vstack(parts), axis=0), sum(map(len, parts))


def check_stream(stream, chunk, normals, offsets=None, cone=None, exact=False):
    parts = list(stream)
    whole = chambers(normals, offsets=offsets, cone=cone, exact=exact)
    assert whole.complete
    signs, total = letters(parts)
    np.testing.assert_array_equal(signs, whole.signs)
    assert total == len(whole)
    for part in parts:
        assert isinstance(part, Chambers)
        assert part.complete, part.reason
        assert len(part) <= chunk
        assert len(part) or len(whole) == 0 == len(parts) - 1
        check_certificates(part, normals, offsets, cone)
    return parts


def check_shards(directory, normals, count, **options):
    """Exactly the chambers, and no file but the manifest and the shards."""
    signs, total = letters(read_chambers(directory))
    np.testing.assert_array_equal(signs, chambers(normals, **options).signs)
    assert total == len(signs) == count
    plan = json.loads((directory / "manifest.json").read_text())["plan"]
    names = [f"shard-{number:06d}.npz" for number in range(len(plan))]
    assert sorted(p.name for p in directory.iterdir()) == ["manifest.json", *names]


def contents(directory):
    return {p.name: p.read_bytes() for p in directory.iterdir()}


# The stream


@slow
@given(arrangements_in_cones(rows=7), st.integers(2, 9), st.booleans())
def test_the_stream_has_the_chambers_of_chambers_and_none_twice(case, chunk, exact):
    normals, offsets, cone = case
    stream = iter_chambers(normals, offsets=offsets, cone=cone, chunk=chunk, exact=exact)
    check_stream(stream, chunk, normals, offsets, cone, exact)


@slow
@given(arrangements_in_cones(rows=4), st.integers(2, 6))
def test_zero_equal_and_opposite_normals_keep_their_letters(case, chunk):
    normals, offsets, cone = case
    normals = np.vstack([0 * normals[:1], normals, -normals, 3 * normals])
    if offsets is not None:
        offsets = np.concatenate([offsets[:1], offsets, -offsets, 3 * offsets])
    stream = iter_chambers(normals, offsets=offsets, cone=cone, chunk=chunk)
    check_stream(stream, chunk, normals, offsets, cone)


@pytest.mark.parametrize("chunk", [2, 3, 50, 701, 10**6])
@pytest.mark.parametrize("normals", [threshold(3), roots(5), np.random.default_rng(0).normal(size=(9, 4))])
def test_every_chunk_size_gives_the_central_chambers(normals, chunk):
    parts = check_stream(iter_chambers(normals, chunk=chunk), chunk, normals)
    assert chunk < 10**6 or len(parts) == 1
    for part in parts:  # with its mirror image
        np.testing.assert_array_equal(part.signs, -part.signs[::-1])


@pytest.mark.parametrize(("normals", "count"), [(threshold(4), 1882), (roots(6), 720), (cube(5)[1:], 11292)])
def test_the_stream_has_the_known_counts(normals, count):
    parts = check_stream(iter_chambers(normals, chunk=900), 900, normals)
    assert sum(map(len, parts)) == count


def test_affine_arrangements_are_streamed_inside_and_outside_of_cones():
    normals, offsets = deformed(5, (0, 1))
    parts = check_stream(iter_chambers(normals, offsets=offsets, chunk=100), 100, normals, offsets)
    assert sum(map(len, parts)) == 6**4
    fundamental = np.eye(5)[:-1] - np.eye(5)[1:]
    stream = iter_chambers(normals, offsets=offsets, cone=fundamental, chunk=5)
    assert sum(map(len, check_stream(stream, 5, normals, offsets, fundamental))) == 42
    far = 1e6 * offsets  # the cones are decided in the unit of the offsets
    check_stream(iter_chambers(normals, offsets=far, chunk=100), 100, normals, far)


def test_more_than_64_hyperplanes_are_streamed():
    rng = np.random.default_rng(1)
    normals, offsets = rng.normal(size=(70, 2)), rng.normal(size=70)
    parts = check_stream(iter_chambers(normals, offsets=offsets, chunk=300), 300, normals, offsets)
    assert sum(map(len, parts)) == 1 + 70 + 70 * 69 // 2
    normals = rng.normal(size=(80, 3)) @ rng.normal(size=(3, 6))  # of rank 3 in R^6
    check_stream(iter_chambers(normals, chunk=1000), 1000, normals)


def test_exact_input_is_streamed_exactly():
    eps = Fraction(1, 10**40)
    normals = np.array([[1, 0, 0], [1, eps, 0], [1, 0, eps], [0, 1, 1], [0, 0, 0]], dtype=object)
    for chunk in (2, 6, 100):
        parts = list(iter_chambers(normals, chunk=chunk, exact=True))
        signs, total = letters(parts)
        np.testing.assert_array_equal(signs, chambers(normals, exact=True).signs)
        assert total == generic(4, 3)
        assert all(part.complete and len(part) <= chunk for part in parts)
        assert any((part.margins == 0).any() and part.reason.count("too thin") == 1 for part in parts)
    line = np.array([[Fraction(1, 10**400)], [3]], dtype=object)
    check = iter_chambers(line, offsets=np.array([Fraction(1, 10**401), 1], dtype=object), chunk=2, exact=True)
    assert letters(check)[0].tolist() == [[-1, -1], [1, -1], [1, 1]]


@pytest.mark.parametrize("exponent", range(1, 16, 2))
def test_noise_is_resolved_or_flagged_or_taken_for_rounding(exponent):
    normals = noisy_braid(10.0**-exponent, exponent)
    parts = list(iter_chambers(normals, chunk=500))
    signs, total = letters(parts)
    assert total == len(signs)
    complete = all(part.complete for part in parts)
    assert not complete or total == (2942 if exponent < 14 else 720)
    assert exponent > 3 or (complete and total == 2942)
    assert exponent < 15 or (complete and total == 720)


def test_cones_are_decided_in_isotropic_position():
    thin = np.random.default_rng(3).normal(size=(12, 4)) * [1, 1, 1e-10, 1e-10]
    parts = list(iter_chambers(thin, chunk=60))
    _, total = letters(parts)
    assert total == generic(12, 4) or not all(part.complete for part in parts)


def test_a_doubt_of_one_cone_is_told_with_that_cone(monkeypatch):
    monkeypatch.setattr(arrangements, "UNASKED", 0)
    rng = np.random.default_rng(0)
    normals = rng.normal(size=(9, 4))
    normals[1] = normals[0] + 1e-11 * rng.normal(size=4)
    for chunk in (20, 1000):
        parts = list(iter_chambers(normals, chunk=chunk))
        signs, total = letters(parts)
        assert total == len(signs) <= generic(9, 4)
        doubtful = [part for part in parts if not part.complete]
        assert doubtful
        assert all("neither equal nor distinct at tolerance 1e-09" in part.reason for part in doubtful)
    parts = list(iter_chambers(normals, chunk=2))  # cones of one chamber are no work for exact arithmetic
    assert letters(parts)[1] == generic(9, 4)
    assert all(part.complete for part in parts)
    assert any("in exact arithmetic" in part.reason for part in parts)


def test_a_witness_with_the_letters_of_another_cone_is_dropped_and_told(monkeypatch):
    monkeypatch.setattr(shards, "_constant", None)  # only the exact route needs it

    def outside(*arguments):
        answer = arrangements.answer(*arguments)
        found = answer.chambers
        points = np.vstack([found.witnesses[1:], wrong])
        return answer._replace(chambers=Chambers(found.signs, points, found.margins, True, found.reason))

    wrong = np.array([[1.0, 1.1, 1.2, 1.3]])
    normals = np.vstack([np.eye(4), [[1, 1, 1, -7]]])
    monkeypatch.setattr(shards, "answer", outside)
    parts = list(iter_chambers(normals, chunk=8))
    assert len(parts) > 1
    told = [part for part in parts if "2 witnesses have other signs than their cone" in part.reason]
    assert told
    assert not any(part.complete for part in told)
    signs, total = letters(parts)
    assert total == len(signs)


def test_only_hyperplanes_that_cut_a_cone_and_walls_it_needs_are_passed_on(monkeypatch):
    passed = []

    def recording(given, *options):
        passed.append((given.normals, given.cone))
        return arrangements.answer(given, *options)

    monkeypatch.setattr(shards, "answer", recording)
    letters(iter_chambers(threshold(3), chunk=12))
    assert len(passed) > 10
    for rows, cone in passed:
        for row in rows:
            assert len(chambers([row], cone=cone)) == 2
        for i in range(len(cone)):
            others = np.delete(cone, i, axis=0)
            assert len(chambers(cone[i : i + 1], cone=others if len(others) else None)) == 2


def test_few_cones_are_tried_in_vain(monkeypatch):
    tried = []

    def counting(*arguments):
        try:
            found = cells(*arguments)
        except TooManyChambers:
            tried.append(False)
            raise
        tried.append(True)
        return found

    cells = shards._cells
    monkeypatch.setattr(shards, "_cells", counting)
    letters(iter_chambers(roots(7), chunk=400))
    assert tried.count(False) <= tried.count(True) / 2
    assert tried.count(True) <= 4 * 5040 / 400


def test_an_empty_cone_and_no_hyperplane_give_one_value():
    simplex = np.vstack([np.eye(3), -np.ones((1, 3))])
    for cone in (simplex, np.zeros((1, 3))):
        for exact in (False, True):
            (part,) = iter_chambers(roots(3), cone=cone, exact=exact)
            assert (part.signs.shape, part.complete) == ((0, 3), True)
            assert part.reason.count("the cone is empty") == 1
    for normals in (np.zeros((0, 3)), np.zeros((2, 3))):
        (part,) = iter_chambers(normals)
        assert part.signs.tolist() == [[0] * len(normals)]
    (part,) = iter_chambers(np.zeros((2, 1)), offsets=[3, -4])
    assert part.signs.tolist() == [[-1, 1]]


def test_memory_of_the_stream_is_bounded_by_the_chunk():
    """A chamber of threshold 5 is 32 + 6 * 8 + 8 = 88 bytes, a list of all 8.3 MB.

    The law: the peak of the stream is at most A * chunk * 88 bytes + B, with A = 20 (the work
    arrays of one call of `chambers`, its result, and the previous value, still alive) and B = 2 MB
    (work arrays of fixed size), however many chambers there are; that of the list is above 8.3 MB.
    """

    def peak(run):
        tracemalloc.start()
        try:
            return run(), tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    normals, chunk = threshold(5), 2000
    whole, most = peak(lambda: len(chambers(normals)))
    total, least = peak(lambda: sum(map(len, iter_chambers(normals, chunk=chunk))))
    assert whole == total == 94572
    assert most > whole * 88
    assert least < 20 * chunk * 88 + 2e6
    assert least < most / 3


def test_a_mapper_and_a_bar_change_nothing(capsys):
    normals = roots(5)
    first = list(iter_chambers(normals, chunk=30))
    with ProcessPoolExecutor(2) as pool:
        for options in ({"mapper": pool.map}, {"progress": True}):
            for a, b in zip(first, iter_chambers(normals, chunk=30, **options), strict=True):
                assert (a.signs.tolist(), a.witnesses.tolist()) == (b.signs.tolist(), b.witnesses.tolist())
    assert "chambers: 120chamber" in capsys.readouterr().err


@pytest.mark.parametrize("chunk", [1, 0, -5, 2.5])
def test_a_chunk_holds_a_chamber_and_its_mirror_image(chunk):
    with pytest.raises(ValueError, match=f"chunk must be an integer, at least 2.*got {chunk}"):
        iter_chambers(np.eye(2), chunk=chunk)


def test_wrong_arguments_are_refused_at_the_call(tmp_path):
    with pytest.raises(ValueError, match="normals must be a matrix"):
        iter_chambers([1, 2])
    with pytest.raises(ValueError, match="tol is a distance"):
        write_chambers(tmp_path, np.eye(2), tol=2)
    for count in (0, 1.5):
        with pytest.raises(ValueError, match=f"shards must be an integer, at least 1, or None; got {count}"):
            write_chambers(tmp_path, np.eye(2), shards=count)
    assert not list(tmp_path.iterdir())


# Shards on disk

CASES = {
    "central": {"normals": threshold(4)},
    "affine": {"normals": deformed(4, (0, 1))[0], "offsets": deformed(4, (0, 1))[1]},
    "in a cone": {"normals": threshold(3), "cone": [[1, 2, 0, 0], [0, 1, 2, 0]]},
    "exact": {"normals": roots(5) * Fraction(1, 3), "exact": True},
    "with zeros": {"normals": np.vstack([np.zeros((2, 5)), roots(5)[::-1], roots(5)])},
    "no hyperplane": {"normals": np.zeros((2, 3))},
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
@pytest.mark.parametrize("count", [None, 1, 5])
def test_what_is_written_is_read(tmp_path, case, count):
    normals, rest = case["normals"], {name: value for name, value in case.items() if name != "normals"}
    total = write_chambers(tmp_path / "new" / "folder", normals, shards=count, **rest)
    parts = list(read_chambers(tmp_path / "new" / "folder"))
    assert len(parts) == (min(count or 1, total))
    check_shards(tmp_path / "new" / "folder", normals, total, **rest)
    cone = rest.get("cone")
    for part in parts:
        assert part.complete
        check_certificates(part, normals, rest.get("offsets"), cone)
        for array in (part.signs, part.witnesses, part.margins):
            assert not array.flags.writeable


def test_there_are_no_more_shards_than_cones(tmp_path):
    assert write_chambers(tmp_path, roots(4), shards=100) == 24
    assert [len(part) for part in read_chambers(tmp_path)] == [2] * 12
    check_shards(tmp_path, roots(4), 24)


def test_a_large_arrangement_is_cut_into_shards_unasked(tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "SHARD", 500)
    assert write_chambers(tmp_path, roots(7)) == 5040
    sizes = [len(part) for part in read_chambers(tmp_path)]
    assert 7 <= len(sizes) <= 14  # of 500 each, were the estimate right
    assert max(sizes) < 2000


@pytest.mark.parametrize("normals", [roots(7), threshold(4), np.random.default_rng(0).normal(size=(16, 6))])
def test_random_ways_down_a_tree_estimate_the_count(normals, monkeypatch):
    monkeypatch.setattr(shards, "SMALL", 100)
    space = shards._space(arrangements.checked(normals, None, None, 1e-9, 2), 1e-9, False)
    assert shards._estimate(space) == pytest.approx(len(chambers(normals)), rel=0.5)


def test_an_incomplete_shard_is_read_as_one(tmp_path, monkeypatch):
    monkeypatch.setattr(arrangements, "UNASKED", 0)
    normals = np.random.default_rng(0).normal(size=(9, 4))
    normals[1] = normals[0] + 1e-11
    write_chambers(tmp_path, normals, shards=4)
    parts = list(read_chambers(tmp_path))
    assert not all(part.complete for part in parts)
    assert any("neither equal nor distinct" in part.reason for part in parts)


def test_every_mapper_writes_the_same_files(tmp_path, capsys):
    normals = threshold(4)
    assert write_chambers(tmp_path / "map", normals, shards=7, progress=True) == 1882
    assert "shards: 100%" in capsys.readouterr().err
    with ProcessPoolExecutor(2) as pool:
        for name, mapper in {
            "pool": pool.map,
            "list": lambda work, items: list(map(work, items)),
            "backward": lambda work, items: [work(item) for item in reversed(items)],
        }.items():
            assert write_chambers(tmp_path / name, normals, shards=7, mapper=mapper) == 1882
            assert contents(tmp_path / name) == contents(tmp_path / "map")


@pytest.mark.filterwarnings("ignore")
def test_a_cluster_writes_the_same_files(tmp_path):
    distributed = pytest.importorskip("distributed")
    normals = threshold(4)
    write_chambers(tmp_path / "map", normals, shards=7)
    options = {"n_workers": 2, "threads_per_worker": 1, "processes": True, "dashboard_address": None}
    with distributed.LocalCluster(**options) as cluster, distributed.Client(cluster) as client:
        mapper = client.get_executor().map
        assert write_chambers(tmp_path / "dask", normals, shards=7, mapper=mapper) == 1882
    assert contents(tmp_path / "dask") == contents(tmp_path / "map")


# Runs that are killed, workers that fail, files that are damaged

SCRIPT = """
import sys, numpy as np
from concurrent.futures import ProcessPoolExecutor
from clarke.shards import write_chambers
directory, normals, shards, workers = sys.argv[1], np.load(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
if __name__ == "__main__":
    mapper = ProcessPoolExecutor(workers).map if workers else map
    print(write_chambers(directory, normals, shards=shards, mapper=mapper))
"""


def killed_and_continued(tmp_path, normals, count, shards, kills, seed):
    """Kill the run, with its workers, at `kills` random moments: (shards there, files left) at each."""
    rng, directory, seen = random.Random(seed), tmp_path / "shards", []
    np.save(tmp_path / "normals.npy", normals)
    (tmp_path / "script.py").write_text(SCRIPT)
    path = os.pathsep.join([str(Path(clarke.__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    for kill in range(kills):
        workers = 2 * (kill % 2)
        command = [sys.executable, "script.py", str(directory), "normals.npy", str(shards), str(workers)]
        run = subprocess.Popen(
            command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": path}, start_new_session=True, stdout=-3
        )
        there = len(list(directory.glob("shard-*.npz")))
        wanted = there + rng.randint(0, max(1, (shards - there) // (kills - kill + 1)))
        end = time.monotonic() + 60
        while run.poll() is None and len(list(directory.glob("shard-*.npz"))) < wanted:
            assert time.monotonic() < end
            time.sleep(0.001)
        time.sleep(rng.uniform(0, 0.05))
        if run.poll() is None:
            os.killpg(run.pid, signal.SIGKILL)
        assert run.wait() in (-signal.SIGKILL, 0)
        left = [p.name for p in directory.glob("*")]
        seen.append((sum(name.endswith(".npz") for name in left), sum(name.endswith(".tmp") for name in left)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # no shard is damaged
        assert write_chambers(directory, normals, shards=shards) == count
    check_shards(directory, normals, count)
    return seen


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="kills a process group")
@pytest.mark.parametrize(("normals", "count"), [(threshold(4), 1882), (roots(7), 5040)], ids=["threshold 4", "braid 7"])
def test_a_run_that_is_killed_loses_and_doubles_nothing(tmp_path, normals, count):
    seen = killed_and_continued(tmp_path, normals, count, shards=40, kills=3, seed=count)
    assert 0 < seen[-1][0] < 40


def test_a_second_run_makes_only_what_is_missing(tmp_path):
    asked = []

    def recording(work, tasks):
        asked.append([number for number, _ in tasks])
        return map(work, tasks)

    write_chambers(tmp_path, roots(5), shards=6, mapper=recording)
    first = contents(tmp_path)
    for number in (1, 4):
        (tmp_path / f"shard-{number:06d}.npz").unlink()
    assert write_chambers(tmp_path, roots(5), shards=6, mapper=recording) == 120
    assert write_chambers(tmp_path, roots(5).tolist(), shards=6, mapper=recording) == 120
    assert asked == [[0, 1, 2, 3, 4, 5], [1, 4], []]
    assert contents(tmp_path) == first


@pytest.fixture
def written(tmp_path):
    write_chambers(tmp_path, roots(5), shards=6)
    return tmp_path


SHARD = "shard-000002.npz"


@pytest.mark.parametrize("size", [0, 10, 64, 500, -1])
def test_a_truncated_shard_is_named_and_made_again(written, size):
    whole = (written / SHARD).read_bytes()
    (written / SHARD).write_bytes(whole[:size])
    check_remade(written, whole)


@pytest.mark.parametrize("place", [0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99999])
def test_a_flipped_bit_anywhere_is_noticed(written, place):
    whole = (written / SHARD).read_bytes()
    flipped = bytearray(whole)
    flipped[int(place * len(whole))] ^= 1
    (written / SHARD).write_bytes(flipped)
    check_remade(written, whole)


def test_a_shard_under_another_number_is_noticed(written):
    whole = (written / SHARD).read_bytes()
    shutil.copy(written / "shard-000003.npz", written / SHARD)
    with pytest.raises(ValueError, match=f"{SHARD} is damaged: it is a shard of another manifest or number"):
        list(read_chambers(written))
    check_remade(written, whole)


def check_remade(directory, whole):
    with pytest.raises(ValueError, match=f"{SHARD} is damaged.*write_chambers with the same arguments makes it again"):
        list(read_chambers(directory))
    with pytest.warns(UserWarning, match=f"{SHARD} is damaged.*; it is made again"):
        assert write_chambers(directory, roots(5), shards=6) == 120
    assert (directory / SHARD).read_bytes() == whole
    check_shards(directory, roots(5), 120)


def test_a_missing_shard_is_named(written):
    (written / SHARD).unlink()
    stream = read_chambers(written)
    assert len(next(stream))
    with pytest.raises(FileNotFoundError, match=f"{SHARD} is missing; write_chambers with the same arguments"):
        list(stream)


@pytest.mark.parametrize(
    ("changed", "name"),
    [
        ({"normals": 2 * roots(5)}, "normals"),
        ({"normals": roots(5), "offsets": np.zeros(10)}, "offsets"),
        ({"normals": roots(5), "cone": np.eye(5)}, "cone"),
        ({"normals": roots(5), "tol": 1e-8}, "tol"),
        ({"normals": roots(5), "exact": True}, "exact"),
        ({"normals": roots(5), "shards": 7}, "shards"),
    ],
)
def test_a_directory_of_other_arguments_is_left_alone(written, changed, name):
    before = contents(written)
    with pytest.raises(ValueError, match=f"holds the chambers of other arguments:.*{name}.* changed"):
        write_chambers(written, **{"shards": 6, **changed})
    assert contents(written) == before


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda manifest: {**manifest, "version": 2}, "format version 2; this clarke reads version 1"),
        (lambda manifest: {**manifest, "plan": manifest["plan"][1:]}, "manifest.json is damaged"),
        (lambda manifest: {**manifest, "more": 1}, "manifest.json is damaged"),
        (lambda _: {"name": "an app"}, "manifest.json is none that write_chambers makes"),
        (lambda _: [1], "manifest.json is none that write_chambers makes"),
    ],
)
def test_a_foreign_manifest_is_refused(written, spoil, message):
    path = written / "manifest.json"
    path.write_text(json.dumps(spoil(json.loads(path.read_text()))))
    before = contents(written)
    with pytest.raises(ValueError, match=message):
        read_chambers(written)
    with pytest.raises(ValueError, match=message):
        write_chambers(written, roots(5), shards=6)
    assert contents(written) == before


def test_half_a_manifest_is_told_and_can_be_made_again(written):
    whole = (written / "manifest.json").read_bytes()
    (written / "manifest.json").write_bytes(whole[:100])
    for call in (read_chambers, partial(write_chambers, normals=roots(5), shards=6)):
        with pytest.raises(ValueError, match=r"manifest.json is damaged \(.*delete it, and write_chambers"):
            call(written)
    (written / "manifest.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"has no manifest.json; write_chambers makes one"):
        read_chambers(written)
    assert write_chambers(written, roots(5), shards=6) == 120  # from the shards that are there
    assert (written / "manifest.json").read_bytes() == whole


def test_temporary_files_of_a_dead_run_are_removed_and_no_others(written):
    for name in ("manifest.json", SHARD):
        (written / f"{name}.{'0' * 32}.tmp").write_bytes(b"half")
    (written / "mine.tmp").write_bytes(b"keep")
    assert write_chambers(written, roots(5), shards=6) == 120
    assert [p.name for p in written.glob("*.tmp")] == ["mine.tmp"]


def test_a_worker_that_raises_leaves_whole_shards_only(tmp_path, monkeypatch):
    def failing(*_):
        raise MemoryError("no room for this shard")

    calls = iter([arrangements.answer, arrangements.answer, failing])
    monkeypatch.setattr(shards, "answer", lambda *a: next(calls)(*a))
    with pytest.raises(MemoryError, match="no room for this shard"):
        write_chambers(tmp_path, roots(5), shards=6)
    assert sorted(contents(tmp_path)) == ["manifest.json", "shard-000000.npz", "shard-000001.npz"]
    monkeypatch.setattr(shards, "answer", arrangements.answer)

    def full(source, target):
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="no space left"):
        write_chambers(tmp_path, roots(5), shards=6)
    monkeypatch.undo()
    assert sorted(contents(tmp_path)) == ["manifest.json", "shard-000000.npz", "shard-000001.npz"]
    assert write_chambers(tmp_path, roots(5), shards=6) == 120
    check_shards(tmp_path, roots(5), 120)


def dying(work, task):
    if task[0] == 3:
        os._exit(1)
    return work(task)


def test_a_worker_that_dies_is_an_error_and_the_next_run_continues(tmp_path):
    with ProcessPoolExecutor(2) as pool, pytest.raises(BrokenProcessPool):
        write_chambers(tmp_path, roots(5), shards=6, mapper=lambda work, tasks: pool.map(partial(dying, work), tasks))
    assert not (tmp_path / "shard-000003.npz").exists()
    assert write_chambers(tmp_path, roots(5), shards=6) == 120
    check_shards(tmp_path, roots(5), 120)


def test_a_mapper_that_loses_results_or_writes_elsewhere_is_told(tmp_path):
    with pytest.raises(ValueError, match=r"a result for each of its items; shard-000005.npz has none"):
        write_chambers(tmp_path / "a", roots(5), shards=6, mapper=lambda work, tasks: map(work, tasks[:-1]))
    with pytest.raises(
        FileNotFoundError, match=r"shard-000000.npz is not the one its worker wrote.*share the directory"
    ):
        write_chambers(tmp_path / "b", roots(5), shards=6, mapper=lambda work, tasks: [(0, 4, "0" * 64)])


def test_the_files_are_archives_any_numpy_reads(written):
    with np.load(written / SHARD, allow_pickle=False) as file:
        assert set(file) == {"signs", "witnesses", "margins", "complete", "reason", "manifest", "shard"}
        assert file["signs"].dtype == np.int8
    manifest = json.loads((written / "manifest.json").read_text())
    assert (manifest["k"], manifest["n"], len(manifest["plan"])) == (10, 5, 6)
    for number, (prefix, part) in enumerate(zip(manifest["plan"], read_chambers(written), strict=True)):
        rows, signs = np.array(prefix).T
        letters = part.signs[:, rows]
        assert ((letters == signs) | (letters == -signs)).all(), number
        np.testing.assert_array_equal(letters[:, 0] * signs[0], np.repeat([-1, 1], len(part) // 2) * letters[-1, 0])
