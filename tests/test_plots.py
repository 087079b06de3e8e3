"""What is drawn: regions tile the square, each under its own pattern, and the hull is the hull."""

import autograd.numpy as anp
import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.figure import Figure

from clarke import layers, plots, slices
from clarke.blocks import hessian_blocks
from clarke.graph import from_function
from clarke.limiting import limiting_gradients
from clarke.models import digits, mlp
from clarke.network import Network
from clarke.report import study


def hat(x):
    return anp.maximum(0, 1 - anp.sum(anp.abs(x)))


def parabola(x):
    return anp.maximum(x[1] - x[0] ** 2, 0)


def largest(x):
    return anp.max(anp.array([x[0], x[1], -x[0] - x[1], -1.0]))


def weighted_order(x):
    return anp.dot(anp.sort(x), anp.array([1.0, 2.0, 4.0]))


def distance(x):
    return anp.sum(anp.abs(x))


@pytest.fixture
def ax():
    return Figure().subplots()


@pytest.fixture(scope="module")
def digits_study():
    network = digits()
    return study(network.function(wrt="x"), network.point("x"), name="digits")


def area(corners):
    (s, t), (u, v) = corners.T, np.roll(corners, -1, axis=0).T
    return float(np.sum(s * v - t * u)) / 2


def interior_points(polygon, rng, count=5):
    weights = rng.dirichlet(np.ones(len(polygon)), size=count)
    return weights @ polygon


CASES = {
    "hat on the line": (hat, [0.0], 4),
    "hat in the plane": (hat, [0.0, 0.0], 8),
    "hat beside its top": (hat, [0.25, 0.0], 6),
    "hat on its ridge": (hat, [0.5, 0.0], 6),
    "hat in space": (hat, [0.0, 0.0, 0.0], 8),
    "largest of four": (largest, [0.0, 0.0], 3),
    "two equal members of a max": (lambda x: anp.max(anp.array([x[0], x[1], x[0]])), [0.0, 0.0], 2),
    "least of three": (lambda x: anp.min(anp.array([x[0], x[1], -x[0] - x[1]])), [0.0, 0.0], 3),
    "two orders": (lambda x: anp.dot(anp.sort(x), anp.array([1.0, 2.0])), [1.0, 1.0], 2),
    "the max of one entry": (lambda x: anp.max(x[:1]) + anp.abs(x[1]), [0.0, 0.0], 2),
    "a mask": (lambda x: anp.abs(anp.where(np.array([True, False]), x, 2 * x))[1], [0.0, 0.0], 4),
    "no kink": (lambda x: anp.sum(x**2), [1.0, 2.0, 3.0], 1),
    "a mute kink": (lambda x: anp.abs(anp.maximum(x[0], 0)), [0.0, 0.0], 2),
}


@pytest.mark.parametrize(("f", "x", "count"), CASES.values(), ids=CASES)
def test_affine_guards_give_one_convex_polygon_a_region_and_they_tile_the_square(f, x, count):
    piece = plots.slice_polygons(f, x)
    assert piece.exact
    assert len(set(piece.patterns)) == len(piece.polygons)
    assert len(piece.polygons) == count
    areas = [area(polygon) for polygon in piece.polygons]
    assert min(areas) > 0
    assert sum(areas) == pytest.approx(4 * piece.radius**2, rel=1e-9)
    for polygon in piece.polygons:
        side, turn = np.roll(polygon, -1, axis=0) - polygon, np.roll(polygon, -2, axis=0) - np.roll(polygon, -1, axis=0)
        assert np.all(side[:, 0] * turn[:, 1] - side[:, 1] * turn[:, 0] >= -1e-12 * piece.radius**2)


def test_all_orders_of_three_numbers_meet_in_a_plane_across_the_diagonal():
    basis = plots.principal_plane(limiting_gradients(weighted_order, np.ones(3)).vectors)
    piece = plots.slice_polygons(weighted_order, np.ones(3), basis=basis)
    assert len(set(piece.patterns)) == len(piece.polygons) == 6


def test_a_polygon_of_the_digits_network_has_one_pattern_inside():
    network = digits()
    x, rng = network.point("x"), np.random.default_rng(0)
    W1, W2 = (np.array(network.value(name)) for name in ("W1", "W2"))
    basis = np.linalg.qr(rng.standard_normal((3, 2)))[0].T
    piece = plots.slice_polygons(network.function(wrt="x"), x, basis=basis)
    assert sum(map(area, piece.polygons)) == pytest.approx(4 * piece.radius**2, rel=1e-9)
    assert len(set(piece.patterns)) == len(piece.polygons) > 20
    for polygon, pattern in zip(piece.polygons, piece.patterns, strict=True):
        for point in interior_points(polygon, rng):
            first = W1 @ (x + point @ basis)
            guards = np.concatenate([first, W2 @ np.maximum(first, 0)])
            clear = np.abs(guards) > 1e-9 * piece.radius
            letters = np.array(["-0+"[int(s) + 1] for s in np.sign(guards)])
            assert list(letters[clear]) == [c for c, told in zip(pattern, clear, strict=True) if told]


def test_random_points_of_the_square_lie_in_a_polygon_of_their_pattern():
    """The other way round: two layers with biases, so that not every kink passes through x."""
    rng = np.random.default_rng(3)
    W, b, V, c = (rng.standard_normal(shape) for shape in ((6, 3), 6, (4, 6), 4))
    x = np.linalg.lstsq(W[:2], -b[:2], rcond=None)[0]  # two units of the first layer vanish
    piece = plots.slice_polygons(lambda z: anp.sum(anp.abs(V @ anp.maximum(W @ z + b, 0) + c)), x, radius=2.0)
    assert piece.active.tolist() == [True, True] + 8 * [False]
    assert sum(map(area, piece.polygons)) == pytest.approx(16, rel=1e-9)
    for point in rng.uniform(-2, 2, (300, 2)):
        first = W @ (x + point @ piece.basis) + b
        signs = np.concatenate([first, V @ np.maximum(first, 0) + c])
        pattern = "".join("+" if s > 0 else "-" for s in signs)
        holders = [
            own
            for polygon, own in zip(piece.polygons, piece.patterns, strict=True)
            if np.all(_left_of_all_sides(polygon, point))
        ]
        assert holders == [pattern]


def _left_of_all_sides(polygon, point):
    side, to = np.roll(polygon, -1, axis=0) - polygon, point - polygon
    return side[:, 0] * to[:, 1] - side[:, 1] * to[:, 0] >= 0


def test_walls_lie_where_guards_vanish_and_know_whether_they_pass_through_x():
    piece = plots.slice_polygons(hat, [0.0, 0.0], radius=1.5)
    for (start, end), through in zip(piece.walls, piece.through, strict=True):
        for point in (start, (start + end) / 2, end):
            on_axes, on_rim = np.abs(point).min() < 1e-12, abs(np.abs(point).sum() - 1) < 1e-12
            assert on_axes if through else on_rim
    length = np.linalg.norm(piece.walls[:, 1] - piece.walls[:, 0], axis=1)
    assert length[piece.through].sum() == pytest.approx(2 * 3)
    assert length[~piece.through].sum() == pytest.approx(4 * np.sqrt(2))


def test_two_members_of_a_max_that_tie_below_the_winner_are_no_wall():
    piece = plots.slice_polygons(lambda x: anp.max(anp.array([x[0], -x[0], 1 + 0 * x[1]])), [0.0, 0.0], radius=0.5)
    assert len(piece.polygons) == 1
    wide = plots.slice_polygons(lambda x: anp.max(anp.array([x[0], -x[0], 1 + 0 * x[1]])), [0.0, 0.0], radius=2.0)
    assert len(wide.polygons) == 3
    assert not wide.through.any()


def test_a_curved_guard_is_followed_to_second_order_of_the_grid():
    piece = plots.slice_polygons(parabola, [0.0, 0.0], radius=1.0)
    assert not piece.exact
    assert sum(map(area, piece.polygons)) == pytest.approx(4, rel=1e-9)
    above = sum(area(p) for p, own in zip(piece.polygons, piece.patterns, strict=True) if own == "+")
    cell = 2 / slices.GRID
    assert above == pytest.approx(2 - 2 / 3, abs=cell**2)
    ends = piece.walls.reshape(-1, 2)
    assert np.abs(ends[:, 1] - ends[:, 0] ** 2).max() <= cell**2 / 4
    assert piece.through.all()


def test_a_saddle_inside_one_cell_is_cut_without_overlap():
    piece = plots.slice_polygons(lambda x: anp.abs(x[0] * x[1]), [0.013, 0.017], radius=1.0)
    assert sum(map(area, piece.polygons)) == pytest.approx(4, rel=1e-9)
    plus = sum(area(p) for p, own in zip(piece.polygons, piece.patterns, strict=True) if own == "+")
    assert plus == pytest.approx(2 + 2 * 0.013 * 0.017, abs=2 * (2 / slices.GRID) ** 2)


def test_walls_along_the_grid_of_curved_guards_are_drawn_like_any_other():
    """The parabola t = s^2 is cut out of cells, s = 0 runs between them; sqrt 5 + asinh(2) / 2 is its arc."""

    def f(x):
        return anp.maximum(x[0], 0) * x[1] + anp.abs(x[1] - x[0] ** 2) + anp.maximum(2 * x[1] - 1, 0)

    piece = plots.slice_polygons(f, [0.0, 0.0], radius=1.0)
    length = np.linalg.norm(piece.walls[:, 1] - piece.walls[:, 0], axis=1)
    assert length[piece.through].sum() == pytest.approx(2 + np.sqrt(5) + np.arcsinh(2) / 2, rel=1e-3)
    assert length[~piece.through].sum() == pytest.approx(2)
    cross = plots.slice_polygons(lambda x: anp.abs(x[0] * x[1]), [0.0, 0.0], radius=1.0)
    assert cross.through.all()
    assert np.linalg.norm(cross.walls[:, 1] - cross.walls[:, 0], axis=1).sum() == pytest.approx(4)
    touched = plots.slice_polygons(lambda x: anp.maximum(x[0] ** 2, 0), [0.0, 0.0], radius=1.0)
    assert not len(touched.walls)


def test_two_members_of_a_max_are_open_on_the_grid_where_both_tie_at_x():
    def f(x):
        return anp.max(anp.array([x[0], -x[0], x[1] ** 3 - 8]))

    for shift, is_open in ((0.0, True), (1.0, False)):
        piece = plots.slice_polygons(lambda x, shift=shift: f(x - shift), [0.0, 0.0], radius=2.0)
        on_line = np.abs(piece.walls[:, :, 0] - shift).max(axis=1) < 1e-12
        assert on_line.any()
        assert (piece.through[on_line] == is_open).all()


@pytest.mark.parametrize("far", [1e-3, 1.0, 40.0])
def test_the_default_radius_shows_the_nearest_kink_elsewhere(far):
    def f(x):
        return anp.abs(x[0]) + anp.abs(x[1]) + anp.maximum(x[0] + x[1] - far, 0)

    piece = plots.slice_polygons(f, [0.0, 0.0])
    distance = far / np.sqrt(2)
    assert 1.4 * distance <= piece.radius <= 1.7 * distance
    assert len(piece.polygons) > 4
    assert np.sum(~piece.through) > 0


def test_without_kinks_elsewhere_the_radius_is_the_size_of_x():
    assert plots.slice_polygons(distance, [0.0, 0.0]).radius == 1
    assert plots.slice_polygons(lambda x: anp.abs(x[0] - 8), [8.0, 1.0]).radius == 8


def test_the_square_stays_where_the_function_is_defined():
    piece = plots.slice_polygons(lambda x: anp.log(x[0]) * anp.abs(x[1]), [0.5, 0.0])
    assert 0.1 < piece.radius < 0.5
    assert len(piece.polygons) == 2


@pytest.mark.parametrize("basis", [[[1, 0, 0]], [[1, 0, 0], [1, 0, 0]], [[2, 0, 0], [0, 1, 0]], np.eye(2)])
def test_a_basis_that_is_not_orthonormal_is_refused(basis):
    with pytest.raises(ValueError, match="basis must be two orthonormal rows of 3 entries"):
        plots.slice_polygons(distance, np.zeros(3), basis=basis)


@pytest.mark.parametrize("radius", [0, -1.0, np.inf, np.nan, [1.0]])
def test_a_radius_that_is_no_length_is_refused(radius):
    with pytest.raises(ValueError, match="radius must be a positive finite number"):
        plots.slice_polygons(distance, np.zeros(2), radius=radius)


# ---------------------------------------------------------------- planes and hulls


def test_the_principal_plane_is_spanned_by_what_differs_then_the_mean_then_axes():
    rng = np.random.default_rng(0)
    u, v, mean = np.linalg.qr(rng.standard_normal((6, 3)))[0].T
    apart = [a * u + b * v + mean for a in (-3, 3) for b in (-1, 1)]
    for elements, spanned in (
        (apart, (u, v)),
        ([mean + u, mean - u], (u, mean)),
        ([mean, mean], (mean,)),
        (np.zeros((2, 6)), np.eye(6)[:2]),
        (np.array(apart)[:, None, :], (u, v)),
    ):
        plane = plots.principal_plane(elements)
        np.testing.assert_allclose(plane @ plane.T, np.eye(2), atol=1e-12)
        for direction in spanned:
            assert np.linalg.norm(plane @ direction) == pytest.approx(1, abs=1e-12)
    np.testing.assert_array_equal(plots.principal_plane([[1.0], [2.0]]), [[1], [0]])
    np.testing.assert_array_equal(plots.principal_plane([[1.0, 5.0], [2.0, 5.0]]), np.eye(2))


def test_hull_vertices_of_a_polygon_a_segment_and_a_point():
    square = np.array([[0, 0], [2, 0], [2, 2], [0, 2]], dtype=float)
    inner = np.array([[1, 1], [0.5, 1.5], [1.9, 0.1]])
    found = plots.hull_vertices(np.vstack([inner, square]))
    assert sorted(map(tuple, found)) == sorted(map(tuple, square))
    assert area(found) == pytest.approx(4)
    segment = np.outer([0.5, -1, 3, 2], [1.0, 2.0])
    assert sorted(map(tuple, plots.hull_vertices(segment))) == [(-1, -2), (3, 6)]
    np.testing.assert_array_equal(plots.hull_vertices([[1.0, 2.0]] * 3), [[1, 2]])
    np.testing.assert_array_equal(plots.hull_vertices(np.zeros((2, 2))), [[0, 0]])
    flat = np.column_stack([np.arange(4.0), 1e-10 * np.array([0, 1, 1, 0])])
    assert len(plots.hull_vertices(flat)) == 2
    tiny = 1e-200 * square
    assert len(plots.hull_vertices(tiny)) == 4


# ---------------------------------------------------------------- drawing


def test_regions_are_drawn_as_they_are_sliced(ax):
    assert plots.regions(hat, ax, x=[0.0, 0.0]) is ax
    piece = plots.slice_polygons(hat, [0.0, 0.0])
    (fills,) = (c for c in ax.collections if isinstance(c, PolyCollection))
    for path, polygon in zip(fills.get_paths(), piece.polygons, strict=True):
        np.testing.assert_allclose(path.vertices[:-1], polygon)
    assert sum(len(c.get_segments()) for c in ax.collections if isinstance(c, LineCollection)) == len(piece.walls)
    labels = sorted(text.get_text().replace("\N{MINUS SIGN}", "-") for text in ax.texts)
    assert labels == sorted(2 * ["++", "+-", "-+", "--"])  # only the letters of what vanishes at x


def test_coordinates_are_those_of_x_in_the_plane_and_displacements_beyond(ax):
    plots.regions(distance, ax, x=[0.0, 3.0])
    assert np.mean(ax.get_ylim()) == pytest.approx(3)
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("$x_1$", "$x_2$")
    other = Figure().subplots()
    plots.regions(distance, other, x=[0.0, 0.0, 3.0], basis=np.eye(3)[1:])
    assert np.mean(other.get_ylim()) == pytest.approx(0)
    assert "displacement" in other.get_xlabel()
    line = Figure().subplots()
    plots.regions(distance, line, x=[0.0])
    assert not len(line.get_yticks())


def test_many_regions_are_not_labeled_and_neighbors_differ_in_color(digits_study, ax):
    digits_study.plot(ax)
    assert not ax.texts
    piece = plots.slice_polygons(digits_study.graph, digits_study.x, basis=slices.plane_of(digits_study))
    (fills,) = (c for c in ax.collections if isinstance(c, PolyCollection))
    colors = fills.get_facecolors()
    for start, end in piece.walls:
        normal = np.array([start[1] - end[1], end[0] - start[0]]) / np.linalg.norm(end - start)
        sides = [(start + end) / 2 + side * 1e-6 * normal for side in (1, -1)]
        two = [[k for k, p in enumerate(piece.polygons) if np.all(_left_of_all_sides(p, z))] for z in sides]
        if all(two) and two[0] != two[1]:
            assert not np.allclose(colors[two[0][0]], colors[two[1][0]])


def test_the_hull_is_drawn_with_arrows_and_its_element_of_least_norm(ax):
    gradients = np.array([[1.0, -1.0], [1.0, 2.0], [3.0, 0.0]])
    assert plots.hull(gradients, ax) is ax
    lines = {line.get_label(): line.get_xydata() for line in ax.lines}
    np.testing.assert_allclose(lines["least norm: 1"], [[1, 0]], atol=1e-12)
    np.testing.assert_allclose(lines["element"], gradients)
    assert {tuple(v) for v in lines["hull"]} == {tuple(v) for v in gradients}
    assert sorted(text.xy for text in ax.texts) == sorted(map(tuple, gradients))
    (left, right), (bottom, top) = ax.get_xlim(), ax.get_ylim()
    assert left < 0 < 3 < right
    assert bottom < -1 < 2 < top


def test_a_hull_around_zero_says_so_and_a_single_gradient_has_no_outline(ax):
    plots.hull(limiting_gradients(distance, np.zeros(2)), ax)
    assert "least norm: 0" in [line.get_label() for line in ax.lines]
    single = Figure().subplots()
    plots.hull([[2.0]], single)
    labels = [line.get_label() for line in single.lines]
    assert "least norm: 2" in labels
    assert "hull" not in labels


def test_of_many_gradients_only_the_corners_of_the_hull_have_arrows(digits_study, ax):
    plots.hull(digits_study.gradients, ax)
    vectors = digits_study.gradients.distinct().vectors
    corners = plots.hull_vertices(vectors @ plots.principal_plane(vectors).T)
    assert sorted(text.xy for text in ax.texts) == sorted(map(tuple, corners))
    assert 3 <= len(ax.texts) < len(vectors)


def test_the_figure_of_a_study_has_two_panels_and_leaves_pyplot_alone(digits_study, tmp_path):
    before = plt.get_fignums()
    figure = digits_study.plot()
    assert isinstance(figure, Figure)
    assert len(figure.axes) == 2
    np.testing.assert_allclose(figure.get_size_inches(), [6.9, 3.3])
    assert "24 kinks, 560 patterns" in figure.get_suptitle()
    assert "limiting gradients" in figure.axes[1].get_title()
    assert plt.get_fignums() == before
    for name in ("study.png", "study.pdf"):
        figure.savefig(tmp_path / name)
        assert (tmp_path / name).stat().st_size > 10_000


@pytest.mark.parametrize(
    ("f", "x", "title"),
    [
        (lambda x: anp.abs(x), [0.0, 0.0, 0.0], "8 limiting Jacobians"),
        (lambda x: anp.abs(x), [0.0], "2 limiting gradients"),
        (lambda x: anp.abs(x[0] * anp.ones(2)), [0.0], "2 limiting Jacobians"),
        (lambda x: anp.sum(x**2), [1.0, 1.0, 1.0], "1 limiting gradient and"),
        (lambda x: 3.0, [1.0, 1.0], "1 limiting gradient and"),
    ],
)
def test_a_figure_comes_of_vector_valued_of_smooth_and_of_constant_functions(f, x, title):
    assert figure_title(study(f, x).plot()).startswith(title)


def figure_title(figure):
    return figure.axes[1].get_title()


def test_a_function_without_its_point_is_refused(ax):
    with pytest.raises(ValueError, match="x is missing"):
        plots.regions(from_function(hat, np.zeros(2)), ax)


# ---------------------------------------------------------------- blocks


def smooth_mlp(sizes=(3, 4, 2)):
    rng = np.random.default_rng(0)
    inputs, targets = rng.standard_normal((5, sizes[0])), rng.standard_normal((5, sizes[-1]))
    return mlp(sizes, activation="tanh", loss="squared", inputs=inputs, targets=targets, rng=rng)


def panels():
    return Figure().subplots(1, 3)


def test_the_block_map_draws_the_norms_of_the_blocks_of_the_hessian_and_of_its_parts():
    blocks = hessian_blocks(smooth_mlp())
    for names in (None, ["b1", "W2"], ("x", "W1", "h1", "y"), "W2"):
        given = panels()
        axes = plots.block_map(blocks, names, given)
        assert list(axes) == list(given)
        names = ("W1", "b1", "W2", "b2") if names is None else [names] if isinstance(names, str) else names
        for ax, part in zip(axes, (blocks, blocks.gauss_newton, blocks.tensor), strict=True):
            drawn = ax.images[0].get_array()
            norms = np.array([[np.linalg.norm(part[v, w]) for w in names] for v in names])
            np.testing.assert_allclose(drawn.filled(0.0), norms, rtol=1e-9, atol=1e-14 * norms.max())
            assert [label.get_text() for label in ax.get_xticklabels()] == list(names)
        assert [label.get_text() for label in axes[0].get_yticklabels()] == list(names)
        assert not any(label.get_text() for label in axes[1].get_yticklabels())


def test_zero_blocks_are_empty_and_all_panels_share_one_logarithmic_scale():
    axes = plots.block_map(hessian_blocks(smooth_mlp()), ax=panels())
    masks = [np.ma.getmaskarray(ax.images[0].get_array()) for ax in axes]
    assert not masks[0].any()
    assert not masks[1].any()
    empty = [[v, w] for v in range(4) for w in range(4) if masks[2][v, w]]
    assert empty == [[0, 3], [1, 3], [2, 2], [2, 3], [3, 0], [3, 1], [3, 2], [3, 3]]  # the last layer is linear
    (scale,) = {ax.images[0].norm for ax in axes}
    drawn = np.ma.concatenate([ax.images[0].get_array() for ax in axes]).compressed()
    assert scale(drawn.max()) == 1
    assert scale(drawn.min()) == 0
    assert scale(np.sqrt(drawn.max() * drawn.min())) == pytest.approx(0.5)


def test_norms_far_below_the_largest_have_the_lowest_color_and_the_bar_says_so():
    network = Network()
    network.input("x", np.ones((1, 1)))
    network.parameter("large", [[1.0]])
    network.parameter("small", [[1.0]])
    network.node("a", layers.affine, "x", "large")
    network.node("b", layers.affine, "x", "small")
    network.loss(layers.squared_error(np.zeros((1, 1))), "a")
    network.loss(layers.weight_decay(1e-9), "b")
    axes = plots.block_map(hessian_blocks(network))
    image = axes[0].images[0]
    assert (image.norm.vmin, image.norm.vmax) == (10.0**-plots.DECADES, 1)
    np.testing.assert_array_equal(np.ma.getmaskarray(image.get_array()), [[False, True], [True, False]])
    assert image.colorbar is None
    (bar,) = [ax for ax in axes[0].figure.axes if ax not in set(axes)]
    assert bar.get_ylabel() == r"$\Vert H_{vw}\Vert_F$"
    assert axes[2].images[0].get_array().mask.all()


def test_the_block_map_makes_a_figure_of_its_own_that_prints(tmp_path):
    before = plt.get_fignums()
    axes = plots.block_map(hessian_blocks(smooth_mlp((2, *10 * (2,), 2))))
    figure = axes[0].figure
    np.testing.assert_allclose(figure.get_size_inches(), [6.9, 2.5])
    assert plt.get_fignums() == before
    labels = [label.get_text() for label in axes[0].get_xticklabels()]
    assert labels == [f"W{layer}" for layer in range(1, 12)]  # every second of 22
    figure.savefig(tmp_path / "map.pdf")
    assert (tmp_path / "map.pdf").stat().st_size > 5_000


def test_a_linear_function_has_an_empty_map():
    network = Network()
    network.parameter("w", [1.0, 2.0])
    network.loss(np.sum, "w")
    for ax in plots.block_map(hessian_blocks(network)):
        assert ax.images[0].get_array().mask.all()


def test_a_block_map_takes_three_axes_and_the_whole_hessian(ax):
    blocks = hessian_blocks(smooth_mlp())
    with pytest.raises(ValueError, match=r"ax is three Axes, for Hessian, .*; got 1"):
        plots.block_map(blocks, ax=ax)
    with pytest.raises(ValueError, match="take it from the whole Hessian"):
        plots.block_map(blocks.tensor, ax=panels())
