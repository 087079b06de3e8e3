"""Laws of the readers: what a .nnet file means, and that nothing else is one."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from strategies import TINY_NNET

from clarke import importers
from clarke.importers.nnet import Header, from_nnet, read_nnet

ACAS = Path(__file__).resolve().parents[2] / "shared" / "data" / "acasxu"

W1, b1 = np.array([[1, -1], [0.5, 2], [-1, 0.25]]), np.array([0, -1, 0.125])
W2, b2 = np.array([[1.0, 2, -4]]), np.array([0.5])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("nnet")


def written(folder, text, name="tiny.nnet"):
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def acas(name):
    path = ACAS / f"ACASXU_experimental_v2a_{name}.nnet"
    if not path.exists():
        pytest.skip(f"the ACAS Xu networks are not at {ACAS}")
    return path


def forward(weights, x):
    for layer, (W, b) in enumerate(weights, 1):
        x = np.array([W @ row + b for row in x])
        if layer < len(weights):
            x = np.maximum(x, 0)
    return x


def test_a_file_means_its_header_and_its_weights(folder):
    header, ((V1, c1), (V2, c2)) = read_nnet(written(folder, TINY_NNET))
    assert header.sizes == (2, 3, 1)
    assert header.minima.tolist() == [-1, -2]
    assert header.maxima.tolist() == [1, 2]
    assert header.means.tolist() == [0.5, 10]
    assert header.ranges.tolist() == [2, 4]
    assert (header.output_mean, header.output_range) == (7, 3)
    for read, meant in [(V1, W1), (c1, b1), (V2, W2), (c2, b2)]:
        assert read.shape == meant.shape
        assert (read == meant).all()


def test_a_network_has_the_names_of_an_mlp_the_weights_of_its_file_and_no_loss(folder):
    net = from_nnet(written(folder, TINY_NNET))
    assert net.inputs == ("x",)
    assert net.parameters == ("W1", "b1", "W2", "b2")
    assert net.nodes == ("z1", "h1", "y")
    assert net.value("x").tolist() == [[0, 0]]
    for name, meant in [("W1", W1), ("b1", b1), ("W2", W2), ("b2", b2)]:
        assert (net.value(name) == meant).all()
    with pytest.raises(ValueError, match="declares no loss"):
        net.function()


@given(x=st.lists(st.floats(-9, 9), min_size=2, max_size=2))
def test_the_output_of_a_tiny_file_is_the_formula(folder, x):
    net = from_nnet(written(folder, TINY_NNET)).at(x, "x")
    assert net.value("y")[0] == pytest.approx(W2 @ np.maximum(W1 @ x + b1, 0) + b2, abs=1e-12)


@pytest.mark.parametrize("name", ["1_1", "2_9", "3_3"])
def test_an_acas_network_computes_what_a_loop_over_its_layers_does(name):
    net, (header, weights) = from_nnet(acas(name)), read_nnet(acas(name))
    assert header.sizes == (5, *6 * [50], 5)
    assert net.size == 13_305
    for x in np.random.default_rng(0).uniform(-0.5, 0.5, size=(5, 1, 5)):
        moved = net.at(x.ravel(), "x")
        assert moved.value("y") == pytest.approx(forward(weights, x), rel=1e-12, abs=1e-12)
        recorded = net.function("x", output="y")(x.ravel())
        assert recorded == pytest.approx(moved.value("y"), rel=1e-12, abs=1e-12)


def test_normalization_subtracts_the_mean_divides_by_the_range_and_never_clips(folder):
    header, _ = read_nnet(written(folder, TINY_NNET))
    assert header.normalize(header.means).tolist() == [0, 0]
    assert header.normalize([[100.5, 10], [0.5, -390]]).tolist() == [[50, 0], [0, -100]]
    with pytest.raises(ValueError, match=r"raw inputs have shape \(..., 2\); got \(3,\)"):
        header.normalize(np.ones(3))
    with pytest.raises(ValueError, match="raw must be finite"):
        header.normalize([np.nan, 0])


def test_a_header_is_checked_and_frozen():
    with pytest.raises(ValueError, match=r"maxima needs 2 entries; got \(1,\)"):
        Header((2, 1), [0, 0], [1], [0, 0], [1, 1], 0.0, 1.0)
    header = Header((1, 1), [0], [1], [0], [1], 0.0, 1.0)
    with pytest.raises(ValueError, match="read-only"):
        header.ranges[0] = 2


def test_line_endings_spaces_and_last_commas_do_not_matter(folder):
    plain = read_nnet(written(folder, TINY_NNET))[1]
    for text in (
        TINY_NNET.replace("\n", "\r\n"),
        TINY_NNET.replace(",", " ,\t"),
        TINY_NNET.replace(",\n", "\n"),
        TINY_NNET.removesuffix("\n"),
        TINY_NNET + "\n \n",
    ):
        again = read_nnet(written(folder, text))[1]
        assert all((a == b).all() for u, v in zip(plain, again, strict=True) for a, b in zip(u, v, strict=True))


def edited(line, text):
    lines = TINY_NNET.split("\n")
    lines[line - 1] = text
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "line", "problem"),
    [
        ("", 1, "expected 4 counts, found 1"),
        ("// only a comment", 2, "the file ends too early"),
        (edited(3, "2,2,1"), 3, "expected 4 counts, found 3"),
        (edited(3, "2.0,2,1,3"), 3, "expected counts, found '2.0'"),
        (edited(3, "-2,2,1,3"), 3, "expected counts, found '-2'"),
        (edited(3, "9999999999,2,1,3"), 3, "expected counts, found '9999999999'"),
        (edited(3, "999999999,2,1,3"), 4, "expected 1000000000 counts, found 3"),
        (edited(3, "0,2,1,3"), 4, "expected 1 counts, found 3"),
        (edited(3, "2,2,1,4"), 4, r"sizes \(2, 3, 1\) contradict the counts \(2, 2, 1, 4\)"),
        (edited(4, "2,3,2"), 4, r"sizes \(2, 3, 2\) contradict the counts \(2, 2, 1, 3\)"),
        (edited(4, "2,0,1"), 4, r"sizes \(2, 0, 1\) contradict"),
        (
            TINY_NNET.replace("2,2,1,3", "2,2,1,999999999").replace("2,3,1", "2,999999999,1"),
            4,
            "sizes .* declare more weights than 1.. bytes can hold",
        ),
        (
            "0,1,1,1\n1\n0\n0\n1\n0,0\n1,1\n",
            2,
            r"sizes \(1,\) contradict the counts \(0, 1, 1, 1\)",
        ),
        (edited(5, "0,0"), 5, "expected 1 numbers, found 2"),
        (edited(6, "-1"), 6, "expected 2 numbers, found 1"),
        (edited(8, "0.5,10.0"), 8, "expected 3 numbers, found 2"),
        (edited(9, "2.0,0,3.0"), 9, "a range is not positive"),
        (edited(9, "2.0,4.0,-3.0"), 9, "a range is not positive"),
        (edited(7, "1.0,-3.0"), 9, "a minimum is above its maximum"),
        (edited(10, "1,,"), 10, "expected numbers, found ''"),
        (edited(10, "1,nan"), 10, "expected numbers, found 'nan'"),
        (edited(10, "1,inf"), 10, "expected numbers, found 'inf'"),
        (edited(10, "1,1_0"), 10, "expected numbers, found '1_0'"),
        (edited(10, "1,\u0663"), 10, "expected numbers, found"),
        (edited(10, "1," + "9" * 100_000 + "x"), 10, "expected numbers, found '999"),
        (edited(10, "1,0x1"), 10, "expected numbers, found '0x1'"),
        (edited(10, "1,1e999"), 10, "a number is too large for a float"),
        (edited(12, "// late"), 12, "expected 2 numbers, found 1"),
        (TINY_NNET[: TINY_NNET.index("1,2,-4")], 16, "expected 3 numbers, found 1"),
        (TINY_NNET[: TINY_NNET.index("\n0.5,\n")], 17, "the file ends too early"),
        (TINY_NNET + "3,\n", 18, "expected the end of the file, found '3,'"),
        (TINY_NNET + "\n\x00", 19, r"expected the end of the file, found '\\x00'"),
    ],
)
def test_what_is_not_a_nnet_file_is_refused_with_its_line(folder, text, line, problem):
    path = written(folder, text)
    with pytest.raises(ValueError, match=f"tiny.nnet, line {line}: {problem}"):
        from_nnet(path)


def test_what_cannot_be_read_is_refused_with_its_path(folder):
    for path in (folder / "missing.nnet", folder, "/dev/zero", "a\0b.nnet"):
        with pytest.raises(ValueError, match=r"cannot be read: (no such file|embedded null)"):
            from_nnet(path)
    with pytest.raises(ValueError, match="3: cannot be read: "):
        from_nnet(3)


CHANGES = st.lists(
    st.tuples(
        st.integers(0, len(TINY_NNET)),
        st.integers(0, 8),
        st.one_of(st.binary(max_size=4), st.sampled_from([b",", b"\n", b"9", b"-", b"e9", b"//"])),
    ),
    min_size=1,
    max_size=4,
)


@given(CHANGES)
@settings(max_examples=500, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_mutated_bytes_are_a_consistent_network_or_a_value_error_naming_the_file(folder, changes):
    data = TINY_NNET.encode()
    for start, length, insertion in changes:
        data = data[:start] + insertion + data[start + length :]
    path = written(folder, data, "fuzzed.nnet")
    try:
        header, weights = read_nnet(path)
    except ValueError as error:
        assert str(error).startswith(f"{path}, line ")
    else:
        assert len(weights) == len(header.sizes) - 1
        for n, m, (W, b) in zip(header.sizes, header.sizes[1:], weights, strict=False):
            assert (W.shape, b.shape) == ((m, n), (m,))
            assert np.isfinite(W).all()
            assert np.isfinite(b).all()
        assert from_nnet(path).value("x").shape == (1, header.sizes[0])


@given(st.binary(max_size=200))
def test_random_bytes_are_no_network(folder, data):
    with pytest.raises(ValueError, match=r"fuzzed.nnet, line \d+: "):
        read_nnet(written(folder, data, "fuzzed.nnet"))


@pytest.mark.parametrize("cut", [0.1, 0.5, 0.9, 0.999])
def test_a_truncated_acas_file_is_refused(folder, cut):
    data = acas("1_1").read_bytes()
    with pytest.raises(ValueError, match=r"cut.nnet, line \d+: "):
        from_nnet(written(folder, data[: int(cut * len(data))], "cut.nnet"))


def test_load_reads_by_suffix(folder):
    for name in ("tiny.nnet", "TINY_NNET.NNET"):
        path = written(folder, TINY_NNET, name)
        for source in (path, str(path)):
            assert (importers.load(source).value("y") == from_nnet(path).value("y")).all()


@pytest.mark.parametrize("source", ["model.txt", "nnet", Path("m"), 3, None, b"x.nnet"])
def test_load_lists_what_is_supported(source):
    with pytest.raises(ValueError, match=r"cannot load .*: supported are \.nnet files"):
        importers.load(source)
