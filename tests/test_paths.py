"""The printed path formulas: what is right instead, where they agree with it, and where they cannot."""

from functools import partial

import autograd.numpy as anp
import numpy as np
import pytest

from clarke import layers, models, notation, paths
from clarke import printed as paper
from clarke.blocks import KinkError
from clarke.claims.references import (
    brute_force,
    brute_gradient,
    brute_jacobian,
    brute_loss_hessian,
    brute_parts,
    perturbed_loss,
)
from clarke.network import Network

# ---------------------------------------------------------------- networks


def mix(*arrays, matrices, shape):
    """shape(sum_k A_k a_k), or the product of the A_k a_k."""
    terms = [anp.dot(A, anp.ravel(a)) for A, a in zip(matrices, arrays, strict=True)]
    if shape == "product":
        whole = 1.0
        for term in terms:
            whole = whole * term
        return whole
    total = sum(terms[1:], terms[0])
    return {"affine": layers.linear, "leaky": leaky, "relu": layers.relu, "tanh": layers.tanh}[shape](total)


def leaky(z):
    return anp.maximum(z, z / 4)


def square(*arrays):
    total = sum(anp.sum(a) for a in arrays)
    return total**2 / 2 + sum(anp.sum(a**3) for a in arrays) / 3


def quadratic(*arrays):
    return sum(anp.sum(a**2) for a in arrays) / 2


def node(rng, net, name, size, shape, *parents):
    matrices = [rng.normal(size=(size, net.value(p).size)) for p in parents]
    net.node(name, partial(mix, matrices=matrices, shape=shape), *parents)


def drawn(seed, shapes=("affine", "relu", "tanh", "product")):
    """A random DAG: skips, a parent read twice, shared parameters, dead nodes, losses inside and on parameters."""
    rng = np.random.default_rng(seed)
    net = Network()
    net.input("x", rng.normal(size=2))
    for k in range(3):
        net.parameter(f"t{k}", rng.normal(size=rng.integers(1, 3)))
    above = ["x"]
    for k in range(rng.integers(2, 6)):
        parents = list(rng.choice(above, size=min(len(above), rng.integers(1, 3)), replace=False))
        parents += list(rng.choice(["t0", "t1", "t2"], size=rng.integers(0, 3), replace=False))
        if rng.random() < 0.2:
            parents.append(parents[0])  # the same parent twice
        node(rng, net, f"n{k}", int(rng.integers(1, 3)), str(rng.choice(shapes)), *map(str, parents))
        above.append(f"n{k}")
    net.loss(square, above[-1])
    if rng.random() < 0.4:
        net.loss(square, *map(str, rng.choice(above, size=2, replace=False)))
    if rng.random() < 0.2:
        net.loss(quadratic, "t0")
    return net


def chain(seed, sizes, shape, loss=quadratic):
    """x -> n1 -> n2 -> ... -> out, with a parameter added in each node."""
    rng = np.random.default_rng(seed)
    net = Network()
    net.input("x", rng.normal(size=sizes[0]))
    above = "x"
    for k, size in enumerate(sizes[1:], 1):
        net.parameter(f"t{k}", rng.normal(size=size))
        name = "out" if k == len(sizes) - 1 else f"n{k}"
        node(rng, net, name, size, shape, above, f"t{k}")
        above = name
    net.loss(loss, "out")
    return net


def graph_of(edges, *, size=2, shape="affine", out="out", seed=0, loss=square):
    """Nodes with the edges given, "v -> w" in topological order; heads without parents are inputs."""
    rng = np.random.default_rng(seed)
    pairs = [edge.split("->") for edge in edges]
    net = Network()
    order = list(dict.fromkeys(name for pair in pairs for name in pair))
    parents = {name: [v for v, w in pairs if w == name] for name in order}
    for name in order:
        if not parents[name]:
            net.input(name, rng.normal(size=size))
    while left := [name for name in order if name not in net.dag]:
        name = next(name for name in left if all(p in net.dag for p in parents[name]))
        node(rng, net, name, size, shape, *parents[name])
    net.loss(loss, out)
    return net


SEEDS = range(40)


def close(a, b, scale=1.0, tol=1e-12):
    return np.abs(np.asarray(a) - b).max(initial=0) <= tol * max(scale, np.abs(b).max(initial=0))


# ---------------------------------------------------------------- the oracle


def test_the_oracle_is_the_second_difference_of_a_quadratic_loss_exactly():
    net = Network()
    net.parameter("W", [[1.0, -2.0], [0.5, 3.0]])
    net.input("x", [2.0, -1.0])
    net.node("y", anp.dot, "W", "x")
    net.node("unused", quadratic, "y")
    net.loss(quadratic, "y")
    for names in (["W", "y"], ["x", "y"], ["y", "unused"]):
        H, f = brute_force(net, names), perturbed_loss(net, names)
        units = np.eye(len(H))
        for i, e in enumerate(units):
            for j, d in enumerate(units):
                differences = f(e + d) - f(e - d) - f(d - e) + f(-e - d)
                assert differences == 4 * H[i, j], (names, i, j)  # degree 2, dyadic: no rounding
    gauss_newton, tensor = brute_parts(net, ["W", "x"])
    residual = net.value("y")
    assert np.array_equal(gauss_newton[:4, :4], np.kron(np.eye(2), np.outer([2, -1], [2, -1])))
    assert np.array_equal(tensor[:4, 4:], np.kron(residual[:, None], np.eye(2)))


# ---------------------------------------------------------------- what is right


@pytest.mark.parametrize("seed", SEEDS)
def test_the_corrected_formulas_are_the_hessian(seed):
    net = drawn(seed)
    n, names = notation.notation(net), list(net.dag)
    H = brute_force(net, names)
    scale = np.abs(H).max() + 1
    assert close(n.delta, brute_gradient(net, names), scale)
    assert close(n.total, brute_jacobian(net, names, names))
    assert close(n.total.T @ (n.loss_part + n.tensor_part) @ n.total, H, scale)
    gauss_newton, tensor = brute_parts(net, names)
    assert close(n.total.T @ n.loss_part @ n.total, gauss_newton, scale)
    assert close(n.total.T @ n.tensor_part @ n.total, tensor, scale)
    for (v, w), block in notation.input_hessian(net).items():
        assert close(block, H[n.at[v], n.at[w]], scale), (v, w)
    if not n.read.intersection(net.parameters):
        unrolled = notation.unrolled_hessian(n)
        for a in net.parameters:
            for b in net.parameters:
                assert close(paper.tied(n, unrolled, a, b), H[n.at[a], n.at[b]], scale), (a, b)


@pytest.mark.parametrize("seed", SEEDS[:10])
def test_the_two_sided_recursion_holds_for_all_pairs(seed):
    n = notation.notation(drawn(seed))
    H = notation.input_hessian(n)
    KS = (n.loss_part + n.tensor_part) @ n.total
    for v, w in H:
        total = n.K(v, w) + 0.0
        for u in n.children[v]:
            total += n.D(u, v).T @ KS.T[n.at[u], n.at[w]]
            for z in n.children[w]:
                total += n.D(u, v).T @ H[u, z] @ n.D(z, w)
        for z in n.children[w]:
            total += KS[n.at[v], n.at[z]] @ n.D(z, w)
        assert close(total, H[v, w], np.abs(n.total).max() ** 2 * 10), (v, w)


# ---------------------------------------------------------------- the report


@pytest.mark.parametrize("seed", SEEDS)
def test_the_report_has_the_true_blocks_and_its_conditions_suffice(seed):
    net = drawn(seed)
    names = list(net.dag)
    H, at = brute_force(net, names), notation.notation(net).at
    gauss_newton, _ = brute_parts(net, names)
    report = paths.path_report(net)
    for entry in report.entries:
        v, w = entry.pair
        truth = gauss_newton if entry.formula == "(3) first term" else H
        assert close(entry.true, truth[at[v], at[w]], np.abs(H).max() + 1), entry.pair
        assert entry.agrees or not entry.met, (entry.formula, entry.pair, entry.distance)
        assert (entry.printed is None) == np.isinf(entry.distance)


EXACT = ["(2)", "Prop. 2", "(3) first term", "(3) repaired", "Alg. 2 repaired", "Prop. 3"]


@pytest.mark.parametrize("seed", SEEDS)
def test_some_conditions_are_necessary_too_where_nothing_is_shared_or_regularized(seed):
    """Of these the residual is the condition itself; sums over several readers might cancel."""
    rng = np.random.default_rng(seed)
    net = Network()
    net.input("x", rng.normal(size=2))
    above = ["x"]
    for k in range(4):
        net.parameter(f"t{k}", rng.normal(size=rng.integers(1, 3)))
        parents = [str(p) for p in rng.choice(above, size=min(k + 1, 2), replace=False)]
        shape = str(rng.choice(["affine", "tanh", "product"]))
        node(rng, net, f"n{k}", int(rng.integers(1, 3)), shape, *parents, f"t{k}")
        above.append(f"n{k}")
    net.loss(square, "n3")
    for entry in paths.path_report(net).entries:
        if entry.formula in EXACT:
            assert entry.agrees == entry.met, (entry.formula, entry.pair, entry.distance)


def test_every_condition_is_met_somewhere_and_every_printed_formula_fails_somewhere():
    met, failed = set(), set()
    smooth = [chain(k, sizes, "tanh") for k, sizes in enumerate([(1, 1, 1, 1, 1), (2, 2, 2, 2)])]
    for net in [drawn(seed) for seed in SEEDS[:15]] + smooth + [identity_path()]:
        for entry in paths.path_report(net).entries:
            met |= {entry.formula} if entry.met else set()
            failed |= set() if entry.agrees else {entry.formula}
    formulas = set(paths.CONDITIONS) | {"(1) repaired", "Alg. 3 repaired", "sec. 4 repaired"}
    unevaluated = {"Alg. 3", "Alg. 3 repaired", "sec. 4", "sec. 4 repaired"}
    assert met == formulas - unevaluated
    assert failed | {"Prop. 3"} == formulas  # Prop. 3 fails only where a loss reads the parameter


def test_the_report_prints_as_a_table_and_is_read_by_block_and_by_formula():
    report = paths.path_report(chain(0, (2, 3, 1, 2), "tanh"))
    text = str(report)
    for formula in paths.CONDITIONS:
        if formula != "Prop. 3":  # nothing is shared
            assert f"\n{formula}: agrees in" in text
    assert "undefined in" in text
    assert {e.formula for e in report["x", "n1"]} == {"(1)", "(1) repaired", "Prop. 2", "Alg. 1"}
    assert {e.pair for e in report.of("(2)")} == {p for v in ("x", "n1", "n2", "out") for p in ((v, "out"), ("out", v))}
    assert report.of("Lemma 1")[0].path == ("x", "n1", "n2", "out")
    with pytest.raises(KeyError, match="no formula speaks of the block"):
        report["x", "t1"]
    with pytest.raises(ValueError, match=r"no entries of 'Prop. 3'; there are \(1\)"):
        report.of("Prop. 3")


# ---------------------------------------------------------------- formulas (1) and (2)


def test_in_a_chain_formula_1_is_block_diagonal_and_right_on_the_diagonal():
    """The pseudo-inverses propagate blocks H_{u,z} of adjacent nodes, and those are zero as printed."""
    for shape in ("affine", "tanh"):
        net = chain(1, (2, 2, 2, 2, 2), shape)
        n, printed, true = notation.notation(net), paper.formula_1(net), notation.input_hessian(net)
        for v, w in true:
            if v == w:
                assert close(printed[v, v], true[v, v], np.abs(true[v, v]).max())
            else:
                assert not printed[v, w].any()
                assert true[v, w].any()
        if shape == "affine":  # H_{v,w} = J_v^T Hessian(L) J_w, and the Hessian of L is I
            assert all(close(block, n.S("out", v).T @ n.S("out", w), 10) for (v, w), block in true.items())


def test_siblings_and_diagonal_blocks_of_a_tree_are_right():
    net = graph_of(["a->c", "b->c", "c->out", "d->out"], shape="product")
    report = paths.path_report(net)
    met = {e.pair for e in report.of("(1)") if e.met}
    assert met == {(v, v) for v in "abcd"} | {("a", "b"), ("b", "a"), ("c", "d"), ("d", "c")}
    assert met == {e.pair for e in report.of("(1)") if e.agrees}


def test_a_diamond_lacks_the_cross_terms_of_two_different_children():
    net = graph_of(["x->a", "x->b", "a->out", "b->out"], loss=quadratic)
    n, true, printed = notation.notation(net), notation.input_hessian(net), paper.formula_1(net)
    cross = n.D("a", "x").T @ true["a", "b"] @ n.D("b", "x")
    assert np.abs(cross).max() > 0.1
    assert close(true["x", "x"] - printed["x", "x"], cross + cross.T, 10)


def test_a_skip_makes_the_pseudo_inverse_term_nonzero_and_as_large_as_the_inverse():
    """v -> u -> z -> w with u and z both parents of c: H_{u,z} is not zero as printed, 1 / D_{w<-z} has no bound."""

    def network(small):
        net = Network()
        net.input("v", 1.0)
        net.node("u", partial(scaled, by=1.0), "v")
        net.node("z", partial(scaled, by=1.0), "u")
        net.node("w", partial(scaled, by=small), "z")
        net.node("out", total, "u", "z", "w")
        net.loss(quadratic, "out")
        return net

    for small in (1.0, 0.5, 2.0**-20):
        net = network(small)
        assert paper.formula_1(net)["v", "w"] == 1 / small
        assert notation.input_hessian(net)["v", "w"] == 2 + small
        assert paper.formula_1(network(-small))["w", "v"] == -1 / small


def scaled(a, by):
    return by * a


def total(*arrays):
    return sum(arrays)


def test_where_the_loss_reads_two_nodes_formula_2_is_not_used():
    net = graph_of(["x->a", "x->b"], out="a")
    net.loss(quadratic, "a", "b")
    report = paths.path_report(net)
    assert "(2)" not in {e.formula for e in report.entries}
    assert notation.notation(net).out is None
    assert all(e.agrees for e in report["a", "b"] if e.formula == "(1)")


# ---------------------------------------------------------------- Lemma 1


def identity_path(**change):
    """v -> u -> z -> w -> out satisfying Lemma 1 as printed: D_{w<-z} symmetric of full rank, w affine in z."""
    rng = np.random.default_rng(5)
    net = Network()
    net.input("v", rng.normal(size=2))
    node(rng, net, "u", 2, "tanh", "v")
    node(rng, net, "z", change.get("d_z", 2), "tanh", "u")
    if change.get("d_z", 2) == 2:
        A = np.array(change.get("A", [[2.0, 1.0], [1.0, 3.0]]))
    else:
        A = rng.normal(size=(2, change["d_z"]))
    net.node("w", partial(mix, matrices=[A], shape=change.get("w", "affine")), "z")
    node(rng, net, "out", 2, change.get("out", "tanh"), *change.get("readers", ["w"]))
    net.loss(square, *change.get("heads", ["out"]))
    return net


def lemma_entries(net):
    report, path = paths.path_report(net), ("v", "u", "z", "w")
    return [next(e for e in report.of(f) if e.path == path) for f in ("Lemma 1", "Lemma 1 repaired")]


def test_lemma_1_holds_under_its_true_hypotheses():
    printed, repaired = lemma_entries(identity_path())
    assert printed.met
    assert printed.agrees
    assert repaired.met
    printed, repaired = lemma_entries(identity_path(A=[[2.0, 1.0], [0.0, 3.0]]))
    assert not printed.met
    assert not printed.agrees  # the transposed pseudo-inverse is wrong for square matrices too
    assert repaired.met
    assert repaired.agrees
    printed, repaired = lemma_entries(identity_path(d_z=3))
    assert printed.printed is None
    assert repaired.met
    assert repaired.agrees


def test_lemma_1_repaired_passes_through_the_affine_layers_of_a_network_with_weights():
    rng = np.random.default_rng(0)
    data = {"inputs": rng.normal(size=(2, 3)), "targets": rng.normal(size=(2, 2))}
    net = models.mlp((3, 3, 3, 2), activation="tanh", loss="squared", rng=rng, **data)
    entries = paths.path_report(net).of("Lemma 1 repaired")
    met = [entry.path for entry in entries if entry.met]
    assert met == [("x", "z1", "h1", "z2"), ("h1", "z2", "h2", "y")]
    assert met == [entry.path for entry in entries if entry.agrees]


@pytest.mark.parametrize(
    "change",
    [
        {"w": "tanh"},  # w not affine in z
        {"readers": ["w", "z"]},  # z has another child
        {"heads": ["out", "z"]},  # a loss reads z
        {"A": [[1.0, 1.0], [1.0, 1.0]]},  # not of full row rank
        {"readers": ["w", "v"]},  # v has another child, not on the way to w
    ],
)
def test_lemma_1_needs_each_of_its_hypotheses(change):
    for entry in lemma_entries(identity_path(**change)):
        assert not entry.met
        assert not entry.agrees


def test_in_lemma_1_u_must_be_the_only_child_of_v_not_only_the_only_one_on_the_way_to_w():
    """out = B w + C v with L = |out|^2 / 2: all else holds, and C^T H_{out,w} is missing."""
    net = identity_path(readers=["w", "v"], out="affine")
    n, H = notation.notation(net), notation.input_hessian(net)
    assert not (n.loss_part + n.tensor_part)[n.at["z"]].any()
    assert not ((n.loss_part + n.tensor_part) @ n.total)[n.at["v"], n.at["w"]].any()
    lacking = H["v", "w"] - paper.lemma_1(net)["v", "u", "z", "w"]
    assert close(lacking, n.D("out", "v").T @ H["out", "w"], 10)
    assert np.abs(lacking).max() > 0.1


# ---------------------------------------------------------------- Proposition 2


@pytest.mark.parametrize("seed", SEEDS)
def test_the_residual_of_proposition_2_is_a_block_of_KS(seed):
    net = drawn(seed)
    names, at = list(net.dag), notation.notation(net).at
    H = brute_force(net, names)
    heads, K_loss = brute_loss_hessian(net)
    n = notation.notation(net)
    around = np.abs(n.total).T @ (np.abs(n.loss_part) + np.abs(n.tensor_part)) @ np.abs(n.total)
    for (v, w), printed in paper.proposition_2(net).items():
        KS = (n.loss_part + n.tensor_part)[at[v]] @ n.total[:, at[w]]
        residual = H[at[v], at[w]] - printed
        assert np.abs(residual - KS).max() <= 1e-12 * max(1, around.max()), (v, w)
    rows = np.concatenate([np.r_[at[head]] for head in heads])
    assert close(n.loss_part[np.ix_(rows, rows)], K_loss)


def test_proposition_2_holds_in_piecewise_linear_networks_with_the_loss_on_out():
    for seed in range(10):
        net = graph_of(["x->a", "x->b", "a->b", "b->c", "a->out", "c->out"], shape="leaky", seed=seed)
        entries = paths.path_report(net).of("Prop. 2")
        assert len(entries) == 8  # ten pairs are ordered by paths, two have a common child
        assert all(e.agrees and e.met for e in entries)


def test_proposition_2_fails_where_a_product_couples_v_with_what_follows_w():
    net = Network()
    for name, value in (("v", 2.0), ("one", 1.0)):
        net.input(name, value)
    net.node("w", partial(scaled, by=3.0), "v")
    net.node("y", partial(scaled, by=5.0), "w")
    net.node("out", product, "v", "y")
    net.loss(total, "out")
    assert paper.proposition_2(net)["v", "w"] == 0
    (entry,) = paths.path_report(net)["v", "w"][-2:-1]
    assert entry.formula == "Prop. 2"
    assert entry.true == 5
    assert not entry.met


def product(a, b):
    return a * b


# ---------------------------------------------------------------- formula (3), sharing, algorithms


def test_formula_3_repaired_reaches_one_edge_and_no_farther():
    net = models.mlp(
        (2, 2, 2, 1),
        activation="relu",
        loss="squared",
        inputs=[[1.0, 2.0]],
        targets=[[3.0]],
        bias=False,
        theta=np.array([1, 2, 1, 1, 1, -2, 3, 1, 1, 2]) / 4,
    )
    agrees = {e.pair: e.agrees for e in paths.path_report(net).of("(3) repaired")}
    assert agrees["W1", "W2"]  # W1 in z1, h1 one edge away, W2 in z2
    assert agrees["W2", "y" if "y" in net.parameters else "W3"]
    assert not agrees["W1", "W3"]
    assert agrees["W1", "W1"]


def test_a_parameter_applied_to_the_node_next_to_it_is_missing_from_formula_3():
    """y = t2 n, n = t1 x: the second derivative delta of (t2, t1) through u = w is not printed."""
    net = Network()
    net.input("x", 2.0)
    net.parameter("t1", 3.0)
    net.parameter("t2", 5.0)
    net.node("n", product, "t1", "x")
    net.node("y", product, "t2", "n")
    net.loss(total, "y")
    for misfit in ("raise", "repair"):
        assert paper.formula_3(net, misfit=misfit)["y", "n"] == 0
    assert notation.unrolled_hessian(net)["y", "n"] == 2


def tied():
    """out = t tanh(t x + s): t is read twice, s once."""
    net = Network()
    net.input("x", [1.0, -2.0])
    net.parameter("t", [0.5, 1.5])
    net.parameter("s", [0.25, 0.5])
    net.node("z", product, "t", "x")
    net.node("h", tanh_of_sum, "z", "s")
    net.node("out", product, "t", "h")
    net.loss(quadratic, "out")
    return net


def tanh_of_sum(a, b):
    return anp.tanh(a + b)


def test_proposition_3_is_right_and_the_algorithms_forget_the_other_blocks_of_a_shared_parameter():
    net = tied()
    report = paths.path_report(net)
    (entry,) = report.of("Prop. 3")
    assert entry.pair == ("t", "t")
    assert entry.agrees
    assert close(entry.printed, brute_force(net, ["t"]), 1)
    cross = brute_force(net, ["t", "s"])[:2, 2:]
    assert np.abs(cross).max() > 0.1
    for suffix in ("", " repaired"):
        printed = {e.pair: e.printed for e in report.of("sec. 4" + suffix)}
        assert printed["t", "s"] is None
        assert printed["s", "s"] is not None
    assert next(e for e in report.of("sec. 4 repaired") if e.pair == ("t", "t")).printed is not None
    assert {e.pair for e in report.of("Alg. 3 repaired") if e.printed is not None} == {("s", "s")}


def test_algorithm_1_counts_pure_second_derivatives_twice():
    net = graph_of(["x->out"], shape="tanh")
    n = notation.notation(net)
    extra = paper.algorithm_1(net)["x", "x"] - notation.input_hessian(net)["x", "x"]
    assert np.abs(extra).max() > 1e-3
    assert close(extra, n.T("out", "x", "x"))


def test_algorithm_1_counts_a_chain_once_for_every_way_of_taking_turns():
    """Off the diagonal both one-sided sums are the whole block; each call returns their sum."""
    net = chain(0, (1, 1, 1, 1), "affine")
    true, printed = notation.input_hessian(net), paper.algorithm_1(net)
    assert close(printed["n1", "n2"], 2 * true["n1", "n2"])
    assert close(printed["x", "n2"], 3 * true["x", "n2"])
    for v in ("x", "n1", "n2", "out"):
        assert close(printed[v, v], true[v, v])
        assert close(printed["out", v], true["out", v])  # where (2) has zero


def test_algorithm_3_never_adds_what_the_children_of_a_loss_node_contribute():
    net = Network()
    net.parameter("t", 3.0)
    net.input("x", 1.0)
    net.node("a", product, "t", "x")
    net.node("b", partial(scaled, by=2.0), "a")
    net.loss(quadratic, "a")
    net.loss(quadratic, "b")
    assert notation.unrolled_hessian(net)["a", "a"] == 5
    assert paper.algorithm_3(net, misfit="repair")["a", "a"] == 1


def test_blocks_of_nodes_without_a_common_child_are_left_at_zero():
    """By Algorithm 3 in a chain, where Algorithm 1 has them right; by sec. 4 where formula (1) has something else."""
    net = chain(0, (1, 1, 1), "affine")
    n, true = notation.notation(net), notation.input_hessian(net)
    assert close(paper.algorithm_1(net)["n1", "out"], true["n1", "out"])
    assert true["n1", "out"].any()
    assert not paper.algorithm_3(n)["n1", "out"].any()
    rng = np.random.default_rng(0)
    net = Network()
    net.input("x", 1.0)
    net.parameter("t", 3.0)
    net.parameter("s", 2.0)
    for name, parents in (("v", "xt"), ("u", "v"), ("z", "u"), ("w", "zs"), ("out", "uzw")):
        node(rng, net, name, 1, "affine", *parents)
    net.loss(quadratic, "out")
    assert paper.formula_1(net)["v", "w"].any()
    assert not paper.section_4(net)["t", "s"].any()
    assert brute_force(net, ["t", "s"])[0, 1] != 0


def test_algorithm_2_is_one_sided():
    rng = np.random.default_rng(0)
    net = models.mlp((2, 2, 2), activation="tanh", loss="squared", inputs=[[1, 2]], targets=[[0, 1]], rng=rng)
    block = paper.algorithm_2(net, misfit="repair")
    true = notation.unrolled_hessian(net)
    assert close(block["y", "z1"], true["y", "z1"])
    assert not close(block["z1", "y"], true["z1", "y"], tol=1e-3)


def test_blocks_handed_over_are_the_ones_used():
    net = chain(0, (2, 2, 2), "tanh")
    zeros = {pair: 0 * block for pair, block in notation.input_hessian(net).items()}
    n = notation.notation(net)
    assert close(paper.formula_3(net, blocks=zeros)["n1", "n1"], n.T_theta("n1"))
    assert not paper.proposition_2(net, blocks=zeros)["x", "n1"].any()
    with pytest.raises(paper.DimensionError, match="H\\[n1, n1\\] is not among the blocks"):
        paper.formula_3(net, blocks={})
    assert paper.formula_3(net, blocks={}, misfit="omit") == {}
    with pytest.raises(ValueError, match="blocks must have all pairs of z, out, which read 't'"):
        paper.proposition_3(tied(), blocks={})


# ---------------------------------------------------------------- what does not fit


def skipping(sizes):
    """v -> u -> z -> w with u, z and w read by out, of the given sizes."""
    rng = np.random.default_rng(3)
    net = Network()
    net.input("v", rng.normal(size=sizes[0]))
    for name, size, parent in zip("uzw", sizes[1:], "vuz", strict=True):
        node(rng, net, name, size, "tanh", parent)
    node(rng, net, "out", 1, "tanh", "u", "z", "w")
    net.loss(square, "out")
    return net


def test_the_fourth_term_of_formula_1_fits_only_between_layers_of_one_width():
    with pytest.raises(paper.DimensionError) as raised:
        paper.formula_1(skipping((2, 2, 3, 2)))
    assert str(raised.value).startswith("formula (1), H[v, w]: D[u<-v]^T H[u, z] (2, 3) times D[w<-z]^-T (2, 3)")
    omitted, repaired = (paper.formula_1(skipping((2, 2, 3, 2)), misfit=m) for m in ("omit", "repair"))
    assert set(repaired) - set(omitted) == {("v", "w")}
    assert repaired["v", "w"].shape == (2, 2)


def test_the_fifth_term_is_no_transpose_of_the_fourth():
    """It fits iff d_u = d_w, where the fourth wants d_z = d_w."""
    net = skipping((1, 3, 2, 2))
    assert ("v", "w") in paper.formula_1(net, misfit="omit")
    with pytest.raises(
        paper.DimensionError, match=r"H\[w, v\]: D\[w<-z\]\^-T H\[z, u\] .* times D\[u<-v\]\^T \(1, 3\)"
    ):
        paper.formula_1(net)
    square = paper.formula_1(skipping((2, 2, 2, 2)))
    assert not close(square["w", "v"], square["v", "w"].T, tol=1e-3)
    repaired = paper.formula_1(skipping((2, 3, 1, 2)), misfit="repair")
    assert all(close(block, repaired[w, v].T, 10) for (v, w), block in repaired.items())


def test_lemma_1_fits_only_between_layers_of_one_width():
    with pytest.raises(
        paper.DimensionError, match=r"Lemma 1, path v -> u -> z -> w: .* \(2, 3\) times .* does not fit"
    ):
        paper.lemma_1(skipping((2, 2, 3, 2)))
    with pytest.raises(paper.DimensionError, match=r"\(2, 3\) times"):
        paper.lemma_1(identity_path(d_z=3))


def test_the_third_term_of_formula_3_fits_only_if_four_numbers_are_one():
    net = models.mlp(
        (2, 2, 2), activation="tanh", loss="squared", inputs=[[1, 2]], targets=[[0, 1]], bias=False, theta=np.ones(8)
    )
    with pytest.raises(
        paper.DimensionError, match=r"theta_z1, theta_y\]: T\[y;h1,theta\] .* is \(2, 2\), the block \(4, 4\)"
    ):
        paper.formula_3(net)
    assert set(paper.formula_3(net, misfit="omit")) == {("z1", "z1"), ("y", "y")}
    with pytest.raises(
        paper.DimensionError, match=r"Algorithm 2, .*theta_y, theta_z1\].* is \(2, 2\), the block \(4, 4\)"
    ):
        paper.algorithm_2(net)
    wide = models.mlp(
        (2, 3, 1), activation="tanh", loss="squared", inputs=[[1, 2]], targets=[[0]], bias=False, theta=np.ones(9)
    )
    with pytest.raises(
        paper.DimensionError, match=r"\(3, 3\) \(D\[z1<-h1\] D_z1\)\^T .* does not fit|times .* does not fit"
    ):
        paper.formula_3(wide)
    with pytest.raises(paper.DimensionError):
        paper.section_4(wide)
    with pytest.raises(paper.DimensionError, match="Algorithm 2"):
        paper.algorithm_3(wide)


def test_section_4_stops_at_an_input_block_that_does_not_fit():
    """v -> u -> z -> w, all four read by out, so that v and w have a child in common; v reads t, w reads s."""
    rng = np.random.default_rng(0)
    net = Network()
    net.input("x", [1.0, 2.0])
    net.parameter("t", [3.0, -1.0])
    net.parameter("s", [1.0, 1.0])
    for name, size, parents in (("v", 2, "xt"), ("u", 2, "v"), ("z", 3, "u"), ("w", 2, "zs"), ("out", 1, "vuzw")):
        node(rng, net, name, size, "tanh", *parents)
    net.loss(quadratic, "out")
    with pytest.raises(paper.DimensionError, match=r"formula \(1\), H\[v, w\]"):
        paper.section_4(net)
    omitted = set(paper.section_4(net, misfit="repair")) - set(paper.section_4(net, misfit="omit"))
    assert omitted == {("t", "s")}  # the fifth term, of (s, t), fits


# ---------------------------------------------------------------- what is refused


def test_an_active_kink_is_named():
    net = chain(0, (1, 2, 1), "affine")
    net.node("h", partial(shifted_relu, by=net.value("n1").copy()), "n1")
    net.loss(quadratic, "h")
    with pytest.raises(KinkError, match=r"2 kinks are active: h\[0\], h\[1\]; .* move the point") as raised:
        paths.path_report(net)
    assert [kink.name for kink in raised.value.kinks] == ["h[0]", "h[1]"]


def shifted_relu(a, by):
    return anp.maximum(a - by, 0.0)


def test_a_kink_in_a_node_that_no_loss_reads_is_named_too():
    net = chain(0, (1, 2, 1), "affine")
    net.node("h", partial(shifted_relu, by=net.value("n1").copy()), "n1")
    with pytest.raises(KinkError, match=r"h\[0\], h\[1\]"):
        notation.notation(net)


def test_many_kinks_are_cut_short():
    net = Network()
    net.input("x", np.zeros(9))
    net.node("h", layers.relu, "x")
    net.loss(quadratic, "h")
    with pytest.raises(KinkError, match=r"9 kinks are active: .*h\[7\], \.\.\.;"):
        paper.formula_1(net)


def test_large_networks_are_refused_before_anything_is_differentiated():
    net = Network()
    net.input("x", np.ones(5000))
    net.loss(quadratic, "x")
    with pytest.raises(MemoryError, match=r"5000 entries.*hessian_blocks\(network\)\.operator"):
        notation.notation(net)


def test_bad_questions_are_refused():
    net = chain(0, (1, 1, 1), "affine")
    with pytest.raises(ValueError, match='misfit is "raise", "omit" or "repair"; got \'skip\''):
        paper.formula_1(net, misfit="skip")
    lossless = Network()
    lossless.parameter("t", 1.0)
    with pytest.raises(ValueError, match="declares no loss"):
        notation.notation(lossless)


def test_a_node_that_ignores_its_parents_has_derivative_zero():
    net = chain(0, (1, 1, 1), "affine")
    net.node("still", constantly, "n1")
    net.loss(quadratic, "still")
    n = notation.notation(net)
    assert not n.D("still", "n1").any()
    assert close(n.total.T @ (n.loss_part + n.tensor_part) @ n.total, brute_force(net, list(net.dag)), 10)


def constantly(a):
    return np.ones(2)
