"""Laws of convolutions and poolings, and of their closed forms."""

import itertools
import pickle
from functools import partial

import closed_forms as laws
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.signal import correlate

import clarke
from clarke import convolution, selections
from clarke.convolution import average_pool1d, average_pool2d, conv1d, conv2d, max_pool1d, max_pool2d
from clarke.kinks import germ, signs_of
from clarke.local import carried

# name -> (function, shape of x, shape of K)
CONVOLUTIONS = {
    "signal": (conv1d, (2, 2, 5), (3, 2, 2)),
    "signal, padded and strided": (partial(conv1d, stride=2, padding=1), (2, 2, 5), (2, 2, 3)),
    "one tap": (conv1d, (2, 1, 3), (2, 1, 1)),
    "image": (conv2d, (2, 2, 3, 4), (2, 2, 2, 3)),
    "image, padded": (partial(conv2d, padding=1), (2, 1, 3, 3), (2, 1, 3, 3)),
    "image, pairs": (partial(conv2d, stride=(2, 1), padding=(0, 2)), (2, 2, 4, 2), (2, 2, 3, 2)),
    "gaps": (partial(conv2d, stride=3), (1, 1, 5, 4), (2, 1, 2, 1)),
}
POOLINGS = {
    "signal": ((max_pool1d, average_pool1d), {"size": 2}, (2, 2, 6)),
    "signal, overlapping": ((max_pool1d, average_pool1d), {"size": 4, "stride": 1, "padding": 2}, (2, 1, 5)),
    "image": ((max_pool2d, average_pool2d), {"size": 2}, (2, 2, 4, 4)),
    "image, overlapping": ((max_pool2d, average_pool2d), {"size": 4, "stride": 2, "padding": 1}, (2, 2, 5, 4)),
    "image, pairs": (
        (max_pool2d, average_pool2d),
        {"size": (2, 1), "stride": (1, 2), "padding": (1, 0)},
        (2, 1, 3, 4),
    ),
    "gaps": ((max_pool2d, average_pool2d), {"size": (1, 2), "stride": 3}, (1, 2, 4, 5)),
}
BIASED = pytest.mark.parametrize("biased", [False, True], ids=["", "b"])
CONVOLVED = pytest.mark.parametrize("case", CONVOLUTIONS)
POOLED = pytest.mark.parametrize("case", POOLINGS)


def convolution_at(case, biased=True):
    """(fun, values) on small integers, so that every product below is exact."""
    fun, x, K = CONVOLUTIONS[case]
    rng = np.random.default_rng(list(CONVOLUTIONS).index(case))
    shapes = [x, K, K[:1]][: 2 + biased]
    return fun, [laws.integers(rng, shape) for shape in shapes], rng


def pooling_at(case, maximum):
    """(fun, [x]): distinct integers, so that nothing ties."""
    (greatest, mean), keywords, shape = POOLINGS[case]
    rng = np.random.default_rng(list(POOLINGS).index(case))
    x = rng.permutation(int(np.prod(shape))).reshape(shape) - float(np.prod(shape) // 2)
    return partial(greatest if maximum else mean, **keywords), [x], rng


def pair(value):
    return (value, value) if isinstance(value, int) else value


def windows_of(image, size, stride, padding):
    """(row, column, [the real entries of the window]) of one image (H, W), one by one."""
    (h, w), (down, right), (p, q) = size, stride, padding
    rows = range(0, image.shape[0] + 2 * p - h + 1, down)
    columns = range(0, image.shape[1] + 2 * q - w + 1, right)
    for (u, top), (v, left) in itertools.product(enumerate(rows), enumerate(columns)):
        yield (
            u,
            v,
            [
                image[i - p, j - q]
                for i in range(top, top + h)
                for j in range(left, left + w)
                if 0 <= i - p < image.shape[0] and 0 <= j - q < image.shape[1]
            ],
        )


# ---------------------------------------------------------------- convolution


@given(st.data())
def test_a_convolution_is_a_strided_sum_of_correlations(data):
    draw = data.draw
    h, w, kh, kw = (draw(st.integers(1, 4)) for _ in range(4))
    p, q = draw(st.integers(max(0, (kh - h + 1) // 2), 3)), draw(st.integers(max(0, (kw - w + 1) // 2), 3))
    down, right, N, Cin, Cout = (draw(st.integers(1, 3)) for _ in range(5))
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    x, K, b = (laws.integers(rng, s) for s in ((N, Cin, h, w), (Cout, Cin, kh, kw), (Cout,)))
    padded = np.pad(x, ((0, 0), (0, 0), (p, p), (q, q)))
    y = conv2d(x, K, b, stride=(down, right), padding=(p, q))
    for n, c in itertools.product(range(N), range(Cout)):
        channels = [correlate(padded[n, a], K[c, a], mode="valid", method="direct") for a in range(Cin)]
        assert (y[n, c] == sum(channels)[::down, ::right] + b[c]).all()


@given(st.integers(1, 5), st.integers(1, 4), st.integers(0, 2), st.integers(1, 3), st.integers(0, 2**16))
def test_a_signal_is_an_image_of_height_one(T, k, padding, stride, seed):
    rng = np.random.default_rng(seed)
    x, K = laws.integers(rng, (2, 2, T + k)), laws.integers(rng, (3, 2, k))
    y = conv1d(x, K, stride=stride, padding=padding)
    assert (y == conv2d(x[:, :, None], K[:, :, None], stride=(1, stride), padding=(0, padding))[:, :, 0]).all()


def test_a_convolution_written_out():
    x = np.array([[[1.0, 2.0, 3.0]]])
    assert conv1d(x, np.array([[[1.0, 10.0]]]), np.array([0.5])).tolist() == [[[21.5, 32.5]]]
    assert conv1d(x, np.array([[[1.0, 10.0]]]), padding=1, stride=3).tolist() == [[[10.0, 3.0]]]


@CONVOLVED
@BIASED
def test_products_of_a_convolution_are_its_jacobian_and_its_hessian(case, biased):
    fun, values, rng = convolution_at(case, biased)
    delta = laws.integers(rng, fun(*values).shape)
    laws.first_derivatives(fun, values, 0)
    laws.second_derivatives(fun, values, delta, 0)
    assert laws.samplewise(fun, values, delta) == {0}
    laws.magnitudes(fun, values)


@CONVOLVED
@BIASED
def test_a_convolution_takes_all_directions_at_once(case, biased):
    fun, values, rng = convolution_at(case, biased)
    laws.directions_at_once(fun, values, rng, 0)


@CONVOLVED
@BIASED
def test_the_patches_of_a_convolution_are_the_factor_of_its_kernel(case, biased):
    fun, values, rng = convolution_at(case, biased)
    assert laws.factors(fun, values, rng, 0) == ({1, 2} if biased else {1})
    K, factor = values[1], laws.local_of(fun, values).factors[1]
    assert factor.basis.shape[2:] == (1, K[0].size)


def test_blocks_smaller_than_a_sample_change_nothing(monkeypatch):
    fun, values, rng = convolution_at("image, padded")
    local, delta = laws.local_of(fun, values), laws.integers(rng, fun(*values).shape)
    t, s, c = (laws.integers(rng, (5, *v.shape)) for v in (*values[:2], delta))

    def products():
        return local.push(0, t), local.pull(0, c), local.second(0, 1, delta, s), local.second(1, 0, delta, t)

    whole = products()
    for block in (1, 200):
        monkeypatch.setattr(convolution, "BLOCK", block)
        assert all((a == b).all() for a, b in zip(whole, products(), strict=True))


@pytest.mark.parametrize("fun", [conv1d, partial(conv2d, padding=1)])
def test_a_convolution_is_recorded_as_one_gather_and_one_product(fun):
    ndim = 3 if fun is conv1d else 4
    values = [np.ones((2, 1, 3, 3)[:ndim]), np.ones((2, 1, 2, 2)[:ndim]), np.ones(2)]
    names = [op.name for op in laws.recording(fun, values).program.operations]
    assert names.count("dot") == 1
    assert set(names) <= {"getitem", "reshape", "pad", "dot", "transpose", "add"}
    assert names.count("getitem") == 4  # three parents cut out of one flat array, and the patches


# ---------------------------------------------------------------- pooling


@POOLED
@pytest.mark.parametrize("maximum", [True, False], ids=["max", "average"])
def test_a_pooling_is_the_largest_or_the_mean_of_each_window(case, maximum):
    fun, (x,), _ = pooling_at(case, maximum)
    keywords = {"padding": 0, "stride": fun.keywords["size"], **fun.keywords}
    y, images = fun(x), x if x.ndim == 4 else x[:, :, None]
    window = {what: pair(value) for what, value in keywords.items()}
    if x.ndim == 3:
        window = {what: (0 if what == "padding" else 1, value[1]) for what, value in window.items()}
    y = y if x.ndim == 4 else y[:, :, None]
    for n, c in itertools.product(range(len(x)), range(x.shape[1])):
        seen = list(windows_of(images[n, c], **window))
        assert len(seen) == y[n, c].size
        for u, v, entries in seen:
            if maximum:
                assert y[n, c, u, v] == max(entries)
            else:
                mean = sum(entries) / np.prod(window["size"])
                assert y[n, c, u, v] == mean


def test_a_padded_entry_never_wins():
    x = -np.array([[[5.0, 1e9, 2.0]]])
    assert max_pool1d(x, size=2, stride=1, padding=1).tolist() == [[[-5.0, -5.0, -2.0, -2.0]]]
    assert not germ(lambda z: max_pool1d(z.reshape(1, 1, 3), size=2, stride=2, padding=1), [0.0, 0.0, 1.0]).kinks


@POOLED
@pytest.mark.parametrize("maximum", [True, False], ids=["max", "average"])
def test_products_of_a_pooling_are_its_jacobian(case, maximum):
    fun, values, rng = pooling_at(case, maximum)
    delta = laws.integers(rng, fun(*values).shape)
    laws.first_derivatives(fun, values, 0)
    laws.second_derivatives(fun, values, delta, 0)
    assert laws.samplewise(fun, values, delta) == {0}
    laws.directions_at_once(fun, values, rng, 0)
    laws.magnitudes(fun, values)


@POOLED
def test_a_max_pooling_is_recorded_with_one_piecewise_operation(case):
    fun, values, _ = pooling_at(case, True)
    recorded = laws.recording(fun, values)
    assert [op.name for op in recorded.program.operations if op.name in selections.PIECEWISE] == ["max"]
    assert (recorded(laws.joined(values)) == fun(*values)).all()


@pytest.mark.parametrize(
    ("fun", "x"),
    [
        (partial(max_pool1d, size=2, stride=1), [[[1.0, 1.0, 0.0, 0.0, 3.0]]]),
        (partial(max_pool1d, size=3, stride=1, padding=1), [[[1.0, 1.0, 1.0]], [[0.0, 2.0, 2.0]]]),
        (partial(max_pool2d, size=2), [[[[0.0, 0.0], [0.0, 0.0]]]]),
        (partial(max_pool2d, size=2, stride=1, padding=1), [[[[1.0, 2.0], [2.0, 1.0]]]]),
    ],
)
def test_a_tied_pooling_has_the_limiting_jacobian_of_the_chosen_pattern(fun, x):
    x = np.array(x)
    f = laws.flat(fun, [x])
    found, here = clarke.limiting_jacobians(f, x.ravel()), germ(f, x.ravel())
    assert found.complete
    assert len(found) > 1
    for pattern, matrix in zip(found.patterns, found.matrices, strict=True):
        pieces = tuple(here.branches(signs_of(pattern)).values())
        local, y = laws.local_of(fun, [x], pieces), fun(x)
        assert (local.push(0, laws.units(x.shape)).reshape(-1, y.size).T == matrix).all()
        assert (local.pull(0, laws.units(y.shape)).reshape(y.size, -1) == matrix).all()


@given(st.data())
def test_the_guards_of_a_max_pooling_tie_where_the_recording_ties(data):
    case = data.draw(st.sampled_from(sorted(POOLINGS)))
    (fun, _), keywords, shape = POOLINGS[case]
    few = st.lists(st.integers(-2, 2), min_size=int(np.prod(shape)), max_size=int(np.prod(shape)))
    x, fun = np.array(data.draw(few), dtype=float).reshape(shape), partial(fun, **keywords)
    tol = data.draw(st.sampled_from([1e-9, 0.2, 0.5]))
    guards, scales = carried(fun, "guards")((x,), (np.abs(x),))
    here = germ(laws.flat(fun, [x]), x.ravel(), tol=tol)
    tied = np.abs(guards) <= tol * scales
    assert guards.shape == scales.shape
    assert len(guards) <= fun(x).size
    assert (guards >= 0).all()
    assert tied.sum() == len({kink.entry for kink in here.kinks})
    if not tied.any():
        # what stands for a padded entry has the ratio BELOW / (BELOW + |x| + |x|), within 4e-12 of 1
        assert min([1.0, *(guards / scales)]) == pytest.approx(min(1.0, here.margin), abs=1e-11)


def test_windows_of_one_entry_have_no_guards():
    x = np.zeros((1, 1, 3))
    assert [len(a) for a in carried(partial(max_pool1d, size=1), "guards")((x,), (x,))] == [0, 0]
    # two padded corners see one entry each, the window between them sees two that tie
    guards, scales = carried(partial(max_pool1d, size=2, stride=1, padding=1), "guards")((x[:, :, :2],), (x[:, :, :2],))
    assert guards.tolist() == scales.tolist() == [0.0]


# ---------------------------------------------------------------- both


@pytest.mark.parametrize(
    ("fun", "values"),
    [convolution_at(case)[:2] for case in CONVOLUTIONS]
    + [pooling_at(case, maximum)[:2] for case in POOLINGS for maximum in (True, False)],
)
def test_a_node_pickles_with_what_it_carries(fun, values):
    copy = pickle.loads(pickle.dumps(fun))
    assert (copy(*values) == fun(*values)).all()
    c = np.ones((1, *fun(*values).shape))
    assert (laws.local_of(copy, values).pull(0, c) == laws.local_of(fun, values).pull(0, c)).all()


def test_a_convolutional_network_is_recorded_with_the_value_it_has():
    rng = np.random.default_rng(0)
    network = clarke.Network()
    network.input("x", rng.normal(size=(3, 1, 6, 6)))
    network.parameter("K", rng.normal(size=(2, 1, 3, 3)))
    network.parameter("b", rng.normal(size=2))
    network.node("z", partial(conv2d, padding=1), "x", "K", "b")
    network.node("p", partial(max_pool2d, size=3, stride=2, padding=1), "z")
    network.node("y", partial(average_pool2d, size=(3, 2)), "p")
    recorded = network.function(output="y")
    assert np.abs(recorded(network.point()) - network.value("y")).max() == 0
    assert np.abs(recorded(network.point())).max() > 0
    signal = clarke.Network()
    signal.input("x", rng.normal(size=(3, 1, 8)))
    signal.parameter("K", rng.normal(size=(2, 1, 3)))
    signal.node("z", partial(conv1d, stride=2, padding=1), "x", "K")
    signal.node("y", partial(max_pool1d, size=2), "z")
    assert (signal.function(output="y")(signal.point()) == signal.value("y")).all()


def ones(*shape):
    return np.ones(shape)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: conv1d(ones(2, 3), ones(1, 1, 1)), r"conv1d takes x \(N, Cin, T\), K .*; got \(2, 3\), \(1, 1, 1\)"),
        (lambda: conv2d(ones(2, 3, 4), ones(1, 3, 1)), r"conv2d takes x \(N, Cin, H, W\), .*; got \(2, 3, 4\), "),
        (lambda: conv1d(ones(2, 3, 4), ones(1, 2, 2)), r"conv1d takes .*; got \(2, 3, 4\), \(1, 2, 2\)"),
        (lambda: conv1d(ones(2, 3, 4), ones(5, 3, 2), ones(1)), r"takes b \(5,\) beside K \(5, 3, 2\); got \(1,\)"),
        (lambda: conv1d(ones(2, 1, 4), ones(1, 1, 2), padding=-1), "conv1d: padding is an int >= 0; got -1"),
        (lambda: conv1d(ones(2, 1, 4), ones(1, 1, 2), stride=(1, 1)), r"conv1d: stride is an int >= 1; got \(1, 1\)"),
        (
            lambda: conv2d(ones(2, 1, 4, 4), ones(1, 1, 2, 2), stride=(1, 0)),
            r"conv2d: stride is an int or a pair of ints >= 1; got \(1, 0\)",
        ),
        (lambda: conv2d(ones(2, 1, 4, 4), ones(1, 1, 2, 2), padding=0.5), "conv2d: padding .*; got 0.5"),
        (
            lambda: conv1d(ones(2, 1, 2), ones(1, 1, 5), padding=1),
            r"conv1d: kernel 5 does not fit into \(4,\), the padded size; pad more",
        ),
        (lambda: conv2d(ones(2, 1, 2, 9), ones(1, 1, 3, 3)), r"conv2d: kernel \(3, 3\) does not fit into \(2, 9\)"),
        (lambda: max_pool1d(ones(2, 3), size=2), r"max_pool1d takes x \(N, C, T\); got shape \(2, 3\)"),
        (lambda: max_pool2d(ones(2, 3, 4), size=2), r"max_pool2d takes x \(N, C, H, W\); got shape \(2, 3, 4\)"),
        (lambda: average_pool1d(ones(2, 1, 4, 1), size=2), r"average_pool1d takes x \(N, C, T\); got"),
        (lambda: average_pool2d(ones(2, 1, 4, 4), size=(2,)), r"average_pool2d: size is .* >= 1; got \(2,\)"),
        (lambda: max_pool1d(ones(2, 1, 4), size=2, padding=2), "padding 2 is more than half of size 2: .*; lower it"),
        (lambda: max_pool2d(ones(2, 1, 4, 4), size=5), r"max_pool2d: size 5 does not fit into \(4, 4\)"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(call, message):
    with pytest.raises(ValueError, match=message):
        call()
