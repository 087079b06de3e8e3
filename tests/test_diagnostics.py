"""Diagnostics of Hessian blocks: invariances and bounds, estimates averaged over all sign vectors, spectra."""

import math
import re
from itertools import product

import autograd.numpy as np
import numpy as onp
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import subspace_angles
from scipy.sparse.linalg import LinearOperator, aslinearoperator

import clarke
from clarke import diagnostics as room
from clarke import hessian_blocks, layers
from clarke.claims.references import brute_force
from clarke.diagnostics import (
    BlockMoments,
    Estimate,
    block_moments,
    chain_upper_bound,
    coupling,
    decay,
    distances,
    extreme_eigenvalues,
    gauss_newton_gap,
    layer_spectra,
    participation_rank,
    resonance,
    skip_lower_bound,
    spectral_density,
    stable_rank,
    trace_coupling,
)

seeds = st.integers(0, 2**32 - 1).map(onp.random.default_rng)


@pytest.fixture
def rng():
    return onp.random.default_rng(0)


def split(H, sizes):
    """(v, w) -> block, for v, w of 'abc'."""
    ends = onp.cumsum([0, *sizes])
    spans = dict(zip("abc", map(slice, ends[:-1], ends[1:]), strict=False))
    return {(v, w): H[spans[v], spans[w]] for v, w in product(spans, spans)}


def psd(rng, sizes, rank=None):
    n = sum(sizes)
    B = rng.normal(size=(n if rank is None else rank, n))
    return B.T @ B, B


def quadratic(H, sizes):
    """A network of parameters a, b, ... whose Hessian is H."""
    network = clarke.Network()
    names = "abc"[: len(sizes)]
    for name, size in zip(names, sizes, strict=True):
        network.parameter(name, onp.ones(size))

    def loss(*parts):
        x = np.concatenate(parts)
        return np.dot(x, np.dot(H, x)) / 2

    network.loss(loss, *names)
    return hessian_blocks(network)


def mlp(rng, sizes=(3, 4, 3, 2), N=4, activation="tanh", loss="cross_entropy"):
    T = onp.eye(sizes[-1])[rng.integers(0, sizes[-1], N)]
    network = clarke.mlp(
        sizes, activation=activation, loss=loss, inputs=rng.normal(size=(N, sizes[0])), targets=T, rng=rng
    )
    return network.at(network.point() + 0.1 * rng.normal(size=network.size))


def signs(n):
    return onp.array(list(product([-1.0, 1.0], repeat=n)))


def all_signs(sizes):
    """name -> every sign vector equally often, one number of rows for all names."""
    most = max(sizes.values())
    return {name: onp.tile(signs(size), (2 ** (most - size), 1)) for name, size in sizes.items()}


# ---------------------------------------------------------------- exact diagnostics


@given(seeds, st.integers(1, 4), st.integers(1, 4), st.integers(1, 8))
def test_for_psd_hessians_all_are_in_their_ranges(rng, p, q, rank):
    H = split(psd(rng, (p, q), rank)[0], (p, q))
    R, C, T = (fun(H, "a", "b") for fun in (resonance, coupling, trace_coupling))
    assert 0 <= R <= 1 + 1e-12
    assert 0 <= C <= 1
    assert 0 <= T <= R**2 * (1 + 1e-12)
    assert resonance(H, "a", "a") == pytest.approx(1)
    assert coupling(H, "a", "a") == pytest.approx(1)
    ranks = min(rank, p), min(rank, q)
    assert min(ranks) * C * (1 + 1e-6) >= T
    for v, r in zip("ab", ranks, strict=True):
        D, P = stable_rank(H, v), participation_rank(H, v)
        assert 1 - 1e-12 <= D <= r + 1e-9
        assert 1 - 1e-12 <= P <= r + 1e-9
        assert trace_coupling(H, v, v) == pytest.approx(1 / P)
    product_of_ranks = participation_rank(H, "a") * participation_rank(H, "b")
    assert pytest.approx(R**2 / math.sqrt(product_of_ranks)) == T


def test_without_curvature_of_its_own_a_layer_may_resonate_without_bound():
    swap = split(onp.array([[0.0, 1.0], [1.0, 0.0]]), (1, 1))
    assert resonance(swap, "a", "b") == math.inf
    mixed = split(onp.array([[1.0, 3.0], [3.0, 1.0]]), (1, 1))
    assert resonance(mixed, "a", "b") == 3
    zero = split(onp.zeros((3, 3)), (1, 2))
    for fun in (resonance, coupling, trace_coupling):
        assert fun(zero, "a", "b") == 0
        assert fun(zero, "b", "b") == 0
    assert stable_rank(zero, "b") == participation_rank(zero, "b") == 0
    del mixed["a", "b"]  # its transpose will do
    assert resonance(mixed, "a", "b") == 3


@given(seeds)
def test_resonance_is_orthogonally_invariant_and_coupling_linearly(rng):
    sizes = 3, 2
    H = psd(rng, sizes, 4)[0]
    Q, _ = onp.linalg.qr(rng.normal(size=(3, 3)))
    U, _ = onp.linalg.qr(rng.normal(size=(2, 2)))
    turn = onp.block([[Q, onp.zeros((3, 2))], [onp.zeros((2, 3)), U]])
    A, B = Q * [1.0, 2.0, 0.5] @ Q.T @ Q, U * [3.0, 1.0] @ U.T
    stretch = onp.block([[A, onp.zeros((3, 2))], [onp.zeros((2, 3)), B]])
    before = split(H, sizes)
    turned, stretched = (split(M.T @ H @ M, sizes) for M in (turn, stretch))
    for fun in (resonance, coupling, trace_coupling):
        assert fun(turned, "a", "b") == pytest.approx(fun(before, "a", "b"))
    assert coupling(stretched, "a", "b") == pytest.approx(coupling(before, "a", "b"), abs=1e-7)


def test_resonance_changes_when_a_layer_is_stretched():
    H = onp.array([[1.0, 0.0, 0.5], [0.0, 1.0, 0.0], [0.5, 0.0, 1.0]])
    M = onp.diag([1.0, 3.0, 1.0])
    assert resonance(split(M @ H @ M, (2, 1)), "a", "b") < resonance(split(H, (2, 1)), "a", "b")


@given(seeds, st.integers(1, 4), st.integers(1, 4), st.integers(1, 6))
def test_coupling_is_the_mean_squared_cosine_of_principal_angles(rng, p, q, rank):
    H, B = psd(rng, (p, q), rank)
    angles = subspace_angles(B[:, :p], B[:, p:])
    assert coupling(split(H, (p, q)), "a", "b") == pytest.approx(onp.mean(onp.cos(angles) ** 2), abs=1e-6)


def test_coupling_says_nothing_where_both_layers_move_the_outputs_freely(rng):
    H = split(psd(rng, (3, 4), 2)[0], (3, 4))
    assert coupling(H, "a", "b") == pytest.approx(1)
    assert trace_coupling(H, "a", "b") < 1


def test_coupling_refuses_an_indefinite_hessian_and_names_the_eigenvalue(rng):
    swap = split(onp.array([[1.0, 2.0], [2.0, 1.0]]), (1, 1))
    with pytest.raises(ValueError, match=r"PSD Hessian; over 'a' and 'b', .* it has the eigenvalue -1 .*is 3\)"):
        coupling(swap, "a", "b")
    found = hessian_blocks(mlp(rng))
    with pytest.raises(ValueError, match="eigenvalue"):
        coupling(found.tensor, "W1", "W2")
    assert 0 <= coupling(found.gauss_newton, "W1", "W2") <= 1
    shifted = split(onp.eye(2) * -1e-3, (1, 1))
    with pytest.raises(ValueError, match="PSD"):
        trace_coupling(shifted, "a", "b")


def test_diagnostics_of_a_network_are_those_of_its_brute_force_hessian(rng):
    network = mlp(rng)
    names = [*network.parameters, "z1", "y"]
    H, ends = brute_force(network, names), onp.cumsum([0, *(network.value(n).size for n in names)])
    at = dict(zip(names, map(slice, ends[:-1], ends[1:]), strict=True))
    dense = {(v, w): H[at[v], at[w]] for v in names for w in names}
    found = hessian_blocks(network)
    for v, w in product(names, names):
        assert resonance(found, v, w) == pytest.approx(resonance(dense, v, w), rel=1e-8)
    for v in names:
        assert stable_rank(found, v) == pytest.approx(stable_rank(dense, v), rel=1e-8)
        assert participation_rank(found, v) == pytest.approx(participation_rank(dense, v), rel=1e-8)
        gap = onp.linalg.norm(H[at[v], at[v]] - found.gauss_newton[v, v]) / onp.linalg.norm(H[at[v], at[v]])
        assert gauss_newton_gap(found, v) == pytest.approx(gap, rel=1e-8, abs=1e-12)
    spectra = layer_spectra(found)
    assert tuple(spectra) == network.parameters
    for v, values in spectra.items():
        onp.testing.assert_allclose(values, onp.linalg.eigvalsh(H[at[v], at[v]]), atol=1e-10)


def test_the_gap_is_zero_for_one_layer_of_curvature_infinite_where_parts_cancel_and_whole_in_zero_one(rng):
    linear = mlp(rng, sizes=(3, 2), activation="linear")
    assert gauss_newton_gap(hessian_blocks(linear)) == 0
    found = hessian_blocks(mlp(rng))
    T, G = (onp.linalg.norm(part.dense()) for part in (found.tensor, found.gauss_newton))
    assert gauss_newton_gap(found) == pytest.approx(T / (T + G))
    relu = hessian_blocks(mlp(rng, activation="relu"))
    assert gauss_newton_gap(relu, "z1") == pytest.approx(0, abs=1e-12)  # piecewise linear in its inputs ...
    assert gauss_newton_gap(relu, "W1", "W3") > 0  # ... not in its parameters
    network = clarke.Network()  # f = a, loss f^2 / 2 + g with g = -a^2 / 2 a node: H = 1 - 1
    network.parameter("a", [1.0])
    network.node("g", negative_half_square, "a")
    network.loss(half_square, "a")
    network.loss(total, "g")
    assert gauss_newton_gap(hessian_blocks(network), "a") == math.inf


def half_square(a):
    return np.sum(a**2) / 2


def negative_half_square(a):
    return -(a**2) / 2


def total(g):
    return np.sum(g)


def test_no_scale_is_too_small_and_no_two_scales_are_too_far_apart(rng):
    """H_vv of a contracting network is of the order q^(2 distance): its squares underflow long before it does."""
    H = psd(rng, (3, 2), 4)[0]
    scales = onp.repeat([1e-100, 1e-10], [3, 2])
    before, after = split(H, (3, 2)), split(H * scales[:, None] * scales, (3, 2))
    for fun in (resonance, coupling, trace_coupling):
        assert fun(after, "a", "b") == pytest.approx(fun(before, "a", "b"), rel=1e-6)
    for fun in (stable_rank, participation_rank):
        assert fun(after, "a") == pytest.approx(fun(before, "a"))
    after["a", "a"] = -after["a", "a"]
    with pytest.raises(ValueError, match="PSD"):
        coupling(after, "a", "b")
    fade = decay(hessian_blocks(linear_chain([0.5 * onp.eye(2)] * 300, 2)), "n300", ["n1"])
    assert fade.resonance == pytest.approx(1)


# ---------------------------------------------------------------- estimates


def test_block_moments_average_to_norms_and_traces_over_all_sign_vectors(rng):
    sizes = {"a": 3, "b": 2, "c": 1}
    H = rng.normal(size=(6, 6))
    H = H + H.T
    blocks = quadratic(H, tuple(sizes.values()))
    found = block_moments(blocks, probes=all_signs(sizes))
    assert found.squares.shape == (8, 3, 3)
    exact = split(H, tuple(sizes.values()))
    for (i, v), (j, w) in product(enumerate(sizes), enumerate(sizes)):
        square = onp.sum(exact[v, w] ** 2)
        assert found.squares[:, i, j].mean() == pytest.approx(square)
        assert float(found.norm(v, w)) ** 2 == pytest.approx(square)
        for fun in (resonance, trace_coupling):
            if fun is resonance or min(onp.trace(exact[n, n]) for n in (v, w)) >= 0:
                assert float(fun(found, v, w)) == pytest.approx(fun(exact, v, w))
    for v in sizes:
        assert float(found.trace(v)) == pytest.approx(onp.trace(exact[v, v]))
        assert float(participation_rank(found, v)) == pytest.approx(participation_rank(exact, v))


def test_every_estimate_from_all_sign_vectors_is_the_exact_value(rng):
    network = clarke.Network()
    network.parameter("a", rng.normal(size=3))
    network.parameter("b", rng.normal(size=2))
    network.node("p", bent, "a", "b")
    network.loss(half_square, "p")
    found, sizes = hessian_blocks(network), {"a": 3, "b": 2}
    probes = all_signs(sizes)
    for fun in (resonance, trace_coupling, gauss_newton_gap):
        for part in (found, found.gauss_newton)[: 1 if fun is gauss_newton_gap else 2]:
            if fun is trace_coupling and min(onp.trace(part[v, v]) for v in sizes) < 0:
                continue
            estimate = fun(part, "a", "b", operator=True, probes=probes)
            assert float(estimate) == pytest.approx(fun(part, "a", "b"))
    assert float(participation_rank(found, "a", operator=True, probes=probes)) == pytest.approx(
        participation_rank(found, "a")
    )
    estimate = stable_rank(found, "a", operator=True, probes=probes, rng=rng)
    assert float(estimate) == pytest.approx(stable_rank(found, "a"))
    every = signs(5)
    whole = gauss_newton_gap(found, operator=True, probes={"a": every[:, :3], "b": every[:, 3:]})
    assert float(whole) == pytest.approx(gauss_newton_gap(found))


def bent(a, b):
    return np.tanh(a) * np.sum(b**2)


def test_all_pairs_cost_one_product_a_layer_and_probe(rng, monkeypatch):
    found = hessian_blocks(mlp(rng))
    columns = []
    times = room._times
    monkeypatch.setattr(room, "_times", lambda A, V: columns.append(V.shape[1]) or times(A, V))
    moments = block_moments(found, rng=rng, probes=5)
    assert columns == [5] * len(found.network.parameters)
    for v, w in product(moments.names, moments.names):
        assert isinstance(resonance(moments, v, w), Estimate)
    assert columns == [5] * len(found.network.parameters)


def test_a_pair_is_read_off_the_columns_of_both_its_names(rng):
    moments = block_moments(hessian_blocks(mlp(rng)), ("W1", "W2"), rng=rng, probes=3)
    both = (moments.squares[:, 0, 1].mean() + moments.squares[:, 1, 0].mean()) / 2
    assert moments.norm("W1", "W2").value ** 2 == pytest.approx(both)
    assert moments.norm("W1", "W2") == moments.norm("W2", "W1")


def test_a_foreign_operator_over_all_parameters_gives_what_the_blocks_give(rng):
    found = hessian_blocks(mlp(rng))
    H, G = found.dense(), found.gauss_newton.dense()
    probes = {n: rng.normal(size=(6, found.network.value(n).size)) for n in found.network.parameters}
    for fun in (resonance, trace_coupling):
        own = fun(found.gauss_newton, "W1", "b2", operator=True, probes=probes)
        foreign = fun(found.gauss_newton, "W1", "b2", operator=aslinearoperator(onp.array(G)), probes=probes)
        assert (foreign.value, foreign.stderr) == pytest.approx((own.value, own.stderr))
    pairs = [("W1", "W2"), ("b3", None), (None, None)]
    for v, w in pairs:
        own = gauss_newton_gap(found, v, w, operator=True, probes=probes)
        foreign = gauss_newton_gap(found, v, w, operator=(H, G), probes=probes)
        assert (foreign.value, foreign.stderr) == pytest.approx((own.value, own.stderr))


def test_the_jackknife_is_the_standard_error_of_a_mean_and_the_delta_method_of_a_ratio(rng):
    a, b = rng.normal(size=50) + 5, rng.normal(size=50) + 3
    mean = room._jackknife(lambda t: t, a)
    assert mean.value == pytest.approx(a.mean())
    assert mean.stderr == pytest.approx(a.std(ddof=1) / math.sqrt(50))
    ratio = room._jackknife(lambda x, y: x / y, a, b)
    r = a.mean() / b.mean()
    assert ratio.stderr == pytest.approx((a - r * b).std(ddof=1) / math.sqrt(50) / b.mean(), rel=0.05)
    assert math.isnan(room._jackknife(lambda t: t, a[:1]).stderr)


def test_probes_are_signs_of_the_rng_and_an_estimate_reads_as_a_number(rng):
    found = hessian_blocks(mlp(rng))
    one = resonance(found, "W1", "W2", operator=True, rng=onp.random.default_rng(7), probes=200)
    two = resonance(found, "W1", "W2", operator=True, rng=onp.random.default_rng(7), probes=200)
    assert one == two
    assert onp.asarray(one, dtype=float) == one.value == float(one)
    assert re.fullmatch(r"[\d.]+ ± [\d.]+ \(200 probes\)", str(one))
    assert abs(one.value - resonance(found, "W1", "W2")) < 6 * one.stderr  # seeded: nothing is drawn anew
    assert resonance(found, "W1", "W1", operator=True, rng=rng) == Estimate(1.0, 0.0, room.PROBES)


# ---------------------------------------------------------------- distance


def linear_chain(matrices, d, head=None):
    """x -> n1 -> ... -> nL, each node W_k times the one before; the loss |nL|^2 / 2."""
    network = clarke.Network()
    network.input("x", onp.ones((1, d)))
    before = "x"
    for k, W in enumerate(matrices, 1):
        network.parameter(f"W{k}", W)
        network.node(f"n{k}", layers.affine, before, f"W{k}")
        before = f"n{k}"
    network.loss(head or layers.squared_error(onp.zeros((1, d))), before)
    return network


def of_norm(rng, d, norm):
    J = rng.normal(size=(d, d))
    return norm * J / onp.linalg.norm(J, 2)


@settings(deadline=None, max_examples=25)
@given(seeds, st.floats(0.2, 1.5), st.integers(1, 4))
def test_in_a_chain_of_contractions_the_norm_decays_at_least_so_fast(rng, q, d):
    found = hessian_blocks(linear_chain([of_norm(rng, d, q) for _ in range(6)], d))
    fade = decay(found, "n6", found.network.nodes)
    assert fade.names == ("n6", "n5", "n4", "n3", "n2", "n1")
    assert fade.distances.tolist() == [0, 1, 2, 3, 4, 5]
    norm = onp.linalg.norm(found["n6", "n6"])
    assert onp.all(fade.norms <= chain_upper_bound(norm, q, fade.distances) * (1 + 1e-9))
    for i, v in enumerate(fade.names):
        for j, w in enumerate(fade.names):
            assert onp.linalg.norm(found[v, w]) <= chain_upper_bound(norm, q, i + j) * (1 + 1e-9)


@settings(deadline=None, max_examples=25)
@given(seeds, st.floats(0.0, 1.0), st.integers(1, 4))
def test_skips_keep_the_norm_above_their_bound(rng, eps, d):
    found = hessian_blocks(linear_chain([onp.eye(d) + of_norm(rng, d, eps) for _ in range(6)], d))
    fade = decay(found, "n6")
    assert onp.all(fade.norms >= skip_lower_bound(fade.norms[0], eps, fade.distances) * (1 - 1e-9) - 1e-12)
    assert onp.all(fade.norms <= chain_upper_bound(fade.norms[0], 1 + eps, fade.distances) * (1 + 1e-9))


@pytest.mark.parametrize("sign", [1, -1])
def test_both_bounds_are_attained(sign):
    J = onp.eye(2) * (1 + sign * 0.25)
    fade = decay(hessian_blocks(linear_chain([J] * 4, 2)), "n4")
    bound = chain_upper_bound(fade.norms[0], 1.25, fade.distances)
    if sign < 0:
        bound = skip_lower_bound(fade.norms[0], 0.25, fade.distances)
    onp.testing.assert_allclose(fade.norms, bound)


@settings(deadline=None, max_examples=25)
@given(seeds, st.integers(1, 5))
def test_resonance_with_the_output_of_a_squared_loss_never_falls_below_a_floor(rng, d):
    found = hessian_blocks(linear_chain([of_norm(rng, d, 0.5) for _ in range(8)], d))
    fade = decay(found, "n8")
    for name, R in zip(fade.names, fade.resonance, strict=True):
        assert R**4 == pytest.approx(participation_rank(found, name) / d, rel=1e-6)
    assert onp.all(fade.resonance >= d**-0.25 - 1e-9)
    assert d > 1 or fade.resonance == pytest.approx(1)  # a scalar chain resonates fully at any depth


def test_resonance_fades_to_the_floor_in_vanilla_chains_and_slower_with_skips(rng):
    """The table of section 3 of the design: 8-d linear chains, W ~ N(0, 1/8), and I + 0.3 W."""
    far = {}
    for skip in (False, True):
        found = []
        for _ in range(20):
            W = [onp.eye(8) * skip + (0.3 if skip else 1.0) * rng.normal(size=(8, 8)) / 8**0.5 for _ in range(12)]
            found.append(decay(hessian_blocks(linear_chain(W, 8)), "n12", ["n11", "n6", "x"]).resonance)
        far[skip] = onp.mean(found, axis=0)
    onp.testing.assert_allclose(far[False], [0.84, 0.665, 0.63], atol=0.03)
    onp.testing.assert_allclose(far[True], [0.96, 0.845, 0.775], atol=0.03)


def test_distance_counts_the_edges_of_a_shortest_directed_path(rng):
    network = mlp(rng)
    assert distances(network, "y") == {
        **{"y": 0, "h2": 1, "W3": 1, "b3": 1, "z2": 2, "h1": 3, "W2": 3, "b2": 3},
        **{"z1": 4, "x": 5, "W1": 5, "b1": 5},
    }
    assert distances(network, "z2") == {
        **{"z2": 0, "h2": 1, "y": 2, "h1": 1, "W2": 1, "b2": 1},
        **{"z1": 2, "x": 3, "W1": 3, "b1": 3},
    }
    short = clarke.Network()
    short.input("x", onp.ones((1, 2)))
    short.node("h", layers.tanh, "x")
    short.node("k", layers.tanh, "h")
    short.node("s", layers.add, "x", "k")
    short.loss(layers.squared_error(onp.zeros((1, 2))), "s")
    assert distances(short, "s") == {"s": 0, "x": 1, "k": 1, "h": 2}


def test_decay_estimates_what_it_computes(rng):
    found = hessian_blocks(linear_chain([of_norm(rng, 3, 1.0) for _ in range(3)], 3))
    exact = decay(found, "n3")
    probes = dict.fromkeys(exact.names, signs(3))
    fade = decay(found, "n3", operator=True, probes=probes)
    onp.testing.assert_allclose(fade.resonance, exact.resonance)
    onp.testing.assert_allclose(fade.norms, exact.norms)
    assert not exact.stderr.any()
    assert fade.stderr[1:].any()


# ---------------------------------------------------------------- spectra


@given(seeds, st.integers(1, 4))
def test_lanczos_moments_over_all_sign_vectors_are_the_moments_of_the_spectrum(rng, steps):
    H = rng.normal(size=(5, 5))
    H = H + H.T
    found = spectral_density(H, steps=steps, probes=signs(5))
    power, scale = onp.eye(5), onp.linalg.norm(H, 2)
    for k in range(2 * steps):
        assert found.moment(k).value == pytest.approx(onp.trace(power) / 5, abs=1e-9 * scale**k)
        power = power @ H


@given(seeds, st.integers(1, 6))
def test_with_every_axis_probed_and_as_many_steps_as_rows_the_spectrum_is_exact(rng, n):
    H = rng.normal(size=(n, n))
    H = H + H.T
    found = spectral_density(H, steps=n, probes=onp.eye(n) * onp.sqrt(n))
    values = onp.linalg.eigvalsh(H)
    for f in (onp.cos, onp.abs, lambda t: t > 0):
        assert found.mean(f).value == pytest.approx(onp.mean(f(values)), abs=1e-9)
    smooth = onp.mean(
        onp.exp(-0.5 * ((found.grid[:, None] - values) / found.width) ** 2) / found.width / onp.sqrt(2 * onp.pi),
        axis=1,
    )
    onp.testing.assert_allclose(found.density, smooth, atol=1e-6 * smooth.max())


@given(seeds, st.integers(1, 3))
def test_few_distinct_eigenvalues_end_the_recursion_and_lose_nothing(rng, distinct):
    Q, _ = onp.linalg.qr(rng.normal(size=(9, 9)))
    values = onp.array([0.0, 1.0, -3.0])[onp.arange(9) % distinct]
    H = Q * values @ Q.T
    found = spectral_density(H, steps=9, probes=3, rng=rng)
    z = signs(9)[:4]
    one = spectral_density(H, steps=distinct, probes=z)
    all_of_it = spectral_density(H, steps=9, probes=z)
    onp.testing.assert_allclose(found.weights.sum(axis=1), 1)
    assert not room._lanczos(aslinearoperator(H), z, 9)[:, distinct:].any()  # ended, not gone on with rounding
    for k in range(6):
        assert one.moment(k).value == pytest.approx(all_of_it.moment(k).value, abs=1e-8 * 3**k)


def test_a_density_has_mass_one_and_standard_errors_over_probes(rng):
    H = onp.diag(rng.normal(size=60))
    H[0, 1] = H[1, 0] = 3.0
    found = spectral_density(H, steps=20, probes=8, rng=rng)
    assert found.nodes.shape == found.weights.shape == (8, 20)
    assert onp.trapezoid(found.density, found.grid) == pytest.approx(1, abs=1e-4)
    assert found.moment(0) == Estimate(pytest.approx(1), pytest.approx(0, abs=1e-12), 8)
    exact = onp.trace(H @ H @ H @ H) / 60
    each = onp.sum(found.weights * found.nodes**4, axis=1)
    assert found.moment(4).stderr == pytest.approx(each.std(ddof=1) / math.sqrt(8))
    assert abs(found.moment(4).value - exact) < 6 * found.moment(4).stderr  # seeded
    Z = signs(6)[:5]
    D, given = psd(rng, (6,))[0], {"steps": 2, "grid": [0.5, 2.0], "width": 0.3}
    ones = [spectral_density(D, probes=z[None], **given).density for z in Z]
    several = spectral_density(D, probes=Z, **given)
    onp.testing.assert_allclose(several.density, onp.mean(ones, axis=0))
    onp.testing.assert_allclose(several.stderr, onp.std(ones, axis=0, ddof=1) / math.sqrt(5))
    single = spectral_density(H, steps=20, probes=1, rng=rng, grid=[-1.0, 0.0, 1.0], width=0.2)
    assert single.grid.tolist() == [-1, 0, 1]
    assert single.width == 0.2
    assert onp.isnan(single.stderr).all()


@pytest.mark.parametrize(("value", "width"), [(0.0, 0.01), (3.0, 0.03)])
def test_a_multiple_of_the_identity_has_one_bump(value, width, rng):
    found = spectral_density(value * onp.eye(5), steps=3, probes=2, rng=rng)
    assert found.width == pytest.approx(width)
    assert onp.trapezoid(found.density, found.grid) == pytest.approx(1, abs=1e-5)
    onp.testing.assert_allclose(onp.sort(found.nodes), [[0, 0, value]] * 2)  # the recursion ended after one step
    doubled = spectral_density(value * onp.eye(5), steps=3, probes=2 * signs(5), width=0.1)
    assert doubled.moment(0).value == pytest.approx(4)  # unbiased for probes of any length, if of variance 1


def test_probes_are_taken_in_turn_where_lanczos_vectors_would_fill_memory(rng, monkeypatch):
    H, Z = onp.diag(onp.arange(7.0)), signs(7)[:5]
    whole = spectral_density(H, steps=4, probes=Z)
    monkeypatch.setattr(room, "ROOM", 60)
    parts = spectral_density(H, steps=4, probes=Z)
    onp.testing.assert_allclose(whole.nodes, parts.nodes)


def test_the_spectrum_of_a_network_is_estimated_from_products(rng):
    found = hessian_blocks(mlp(rng))
    H = found.dense()
    n = len(H)
    density = spectral_density(found.operator(), steps=n, probes=onp.eye(n) * onp.sqrt(n))
    assert density.mean(onp.tanh).value == pytest.approx(onp.mean(onp.tanh(onp.linalg.eigvalsh(H))), abs=1e-8)


@pytest.mark.parametrize("n", [1, 7, 120])
def test_extreme_eigenvalues_are_those_of_numpy_with_their_residual(n, rng):
    H = rng.normal(size=(n, n))
    H = H + H.T
    count = min(n, 3)
    found = extreme_eigenvalues(H, count=count, rng=rng)
    values = onp.linalg.eigvalsh(H)
    onp.testing.assert_allclose(found.lowest, values[:count], atol=1e-10 * n)
    onp.testing.assert_allclose(found.highest, values[-count:], atol=1e-10 * n)
    assert found.residual < 1e-9 * n
    rough = extreme_eigenvalues(H, count=count, rng=rng, tol=1e-2)
    assert onp.abs(values - rough.highest[-1]).min() <= rough.residual + 1e-9


def test_a_large_zero_operator_has_zero_ends_and_stable_rank_iterates_where_blocks_are_large(rng):
    zero = extreme_eigenvalues(onp.zeros((60, 60)), rng=rng)
    assert (zero.lowest, zero.highest, zero.residual) == (0, 0, 0)
    for sign in (1, -1):
        blocks = quadratic(sign * psd(rng, (64, 2))[0], (64, 2))
        probes = {"a": onp.eye(64) * 8.0}  # their mean is the Frobenius norm itself
        estimate = stable_rank(blocks, "a", operator=True, probes=probes, rng=rng)
        assert float(estimate) == pytest.approx(stable_rank(blocks, "a"))


def test_eigenvalues_that_do_not_converge_are_an_error(rng, monkeypatch):
    def stalls(A, k, **keywords):
        raise room.ArpackNoConvergence("no", onp.zeros(1), onp.zeros((60, 1)))

    monkeypatch.setattr(room, "eigsh", stalls)
    with pytest.raises(RuntimeError, match="eigsh found 1 of 2 eigenvalues"):
        extreme_eigenvalues(onp.eye(60), count=2, rng=rng)


# ---------------------------------------------------------------- errors


def test_wrong_arguments_are_refused_by_name(rng):
    found = hessian_blocks(mlp(rng))
    dense = split(onp.eye(3), (1, 2))
    moments = block_moments(found, ("W1", "W2"), rng=rng, probes=2)
    H, n = found.dense(), found.network.size
    draw = {"operator": True, "rng": rng}
    cases = [
        ("rng is given but nothing is drawn", lambda: resonance(found, "W1", "W2", rng=rng)),
        ("pass rng, a numpy Generator", lambda: resonance(found, "W1", "W2", operator=True)),
        ("pass rng", lambda: extreme_eigenvalues(onp.eye(99))),
        ("blocks must be HessianBlocks or a mapping", lambda: resonance(H, "W1", "W2")),
        ("blocks holds no block 'z', 'z'", lambda: resonance(dense, "a", "z")),
        ("block 'a', 'a' must be a finite matrix", lambda: resonance({("a", "a"): [[onp.nan]]}, "a", "a")),
        ("block 'a', 'a' must be", lambda: stable_rank({("a", "a"): onp.ones((2, 3))}, "a")),
        (r"has shape \(1, 1\); needs \(1, 2\)", lambda: coupling({**dense, ("a", "b"): [[1.0]]}, "a", "b")),
        ("no input, parameter or node 'Z'", lambda: resonance(found, "Z", "W1")),
        ("no input, parameter or node 'Z'", lambda: resonance(found, "Z", "W1", **draw)),
        ("names must be given, each once", lambda: block_moments(found, ("W1", "W1"), rng=rng)),
        ("estimates need HessianBlocks", lambda: resonance(dense, "a", "b", **draw)),
        ("drawn already", lambda: resonance(moments, "W1", "W2", **draw)),
        ("'b1' was not probed; the moments are those of W1, W2", lambda: resonance(moments, "W1", "b1")),
        ("coupling needs whole blocks", lambda: coupling(moments, "W1", "W2")),
        ("tol must be a number", lambda: coupling(dense, "a", "b", tol=0.0)),
        ("no spectral norm", lambda: stable_rank(moments, "W1")),
        ("'z1' is none", lambda: resonance(found, "W1", "z1", operator=H, rng=rng)),
        (f"have {n} entries in all", lambda: resonance(found, "W1", "W2", operator=onp.eye(3), rng=rng)),
        ("operator must be a LinearOperator", lambda: resonance(found, "W1", "W2", operator="H", rng=rng)),
        ("square and symmetric", lambda: spectral_density(onp.ones((2, 3)), steps=1, probes=1, rng=rng)),
        ("nan or infinity", lambda: spectral_density(onp.diag([onp.nan, 1]), steps=1, probes=1, rng=rng)),
        ("probes must be their number", lambda: resonance(found, "W1", "W2", probes=0, **draw)),
        ("probes must hold W1", lambda: block_moments(found, ("W1",), probes={"W1": onp.ones((3, 2))})),
        ("probes must hold W1", lambda: block_moments(found, ("W1",), probes={})),
        ("needs HessianBlocks, which have parts", lambda: gauss_newton_gap(dense)),
        ("w is given without v", lambda: gauss_newton_gap(found, w="W1")),
        ("pair of operators", lambda: gauss_newton_gap(found, operator=H, rng=rng)),
        ("part has no tensor part", lambda: gauss_newton_gap(found.gauss_newton)),
        ("layer_spectra needs HessianBlocks", lambda: layer_spectra(dense)),
        ("decay needs HessianBlocks", lambda: decay(dense, "a")),
        ("no directed path joins 'W1' and 'W2'", lambda: decay(found, "W2", ["W1"])),
        ("must be a clarke.Network", lambda: distances(found, "y")),
        ("no input, parameter or node 'Z'", lambda: distances(found.network, "Z")),
        ("finite and >= 0", lambda: chain_upper_bound(1.0, -0.5, 2)),
        ("finite and >= 0", lambda: skip_lower_bound(1.0, 0.5, -2)),
        ("needs eps <= 1", lambda: skip_lower_bound(1.0, 1.5, 2)),
        ("steps must be an integer from 1 to 3", lambda: spectral_density(onp.eye(3), steps=4, probes=1, rng=rng)),
        ("a probe is zero", lambda: spectral_density(onp.eye(3), steps=1, probes=onp.zeros((1, 3)))),
        ("probes must hold H", lambda: spectral_density(onp.eye(3), steps=1, probes=onp.ones((1, 2)))),
        ("probes must hold H", lambda: spectral_density(onp.eye(3), steps=1, probes=2.0, rng=rng)),
        ("probes of H hold nan", lambda: spectral_density(onp.eye(3), steps=1, probes=onp.full((1, 3), onp.nan))),
        ("width must be", lambda: spectral_density(onp.eye(3), steps=1, probes=1, rng=rng, width=0.0)),
        ("grid must be one increasing", lambda: spectral_density(onp.eye(3), steps=1, probes=1, rng=rng, grid=[1, 0])),
        ("count must be an integer from 1 to 3", lambda: extreme_eigenvalues(onp.eye(3), count=0)),
    ]
    for message, call in cases:
        with pytest.raises(ValueError, match=message):
            call()


def test_numbers_of_numpy_are_numbers_and_the_length_of_probes_scales_weights_alone(rng):
    A = onp.diag([1.0, 2.0, 4.0])
    found = spectral_density(A, steps=2, probes=onp.ones((1, 3)), width=onp.float32(0.125))
    assert found.width == 0.125
    short = spectral_density(A, steps=2, probes=onp.full((1, 3), 2.0**-30), width=0.125)
    onp.testing.assert_allclose(short.nodes, found.nodes, rtol=1e-14)
    onp.testing.assert_allclose(short.weights, found.weights * 2.0**-60, rtol=1e-14)
    blocks = split(onp.eye(3), (1, 2))
    assert coupling(blocks, "a", "b", tol=onp.float32(1e-6)) == coupling(blocks, "a", "b", tol=1e-6)


def test_one_product_that_is_a_vector_and_frozen_results(rng):
    A = LinearOperator(dtype=float, shape=(4, 4), matvec=lambda v: 2 * v)
    found = spectral_density(A, steps=2, probes=2, rng=rng)
    assert found.moment(1).value == pytest.approx(2)
    for array in (found.nodes, found.weights, found.grid, found.density, found.stderr):
        assert not array.flags.writeable
    moments = block_moments(hessian_blocks(mlp(rng)), rng=rng, probes=2)
    assert isinstance(moments, BlockMoments)
    assert not moments.squares.flags.writeable
