"""Laws of what comes from torch: the module's values, its derivatives, its names; and that it stays as it was."""

import copy
import pickle
import subprocess
import sys
from functools import partial

import numpy as np
import pytest

import clarke
from clarke import importers, layers
from clarke.importers.torch import from_torch

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore:Using padding=.same. with even kernel:UserWarning")


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)
    torch.set_num_threads(1)


class Of(nn.Module):
    """forward(x) = fun(x, *layers), the layers held under the names a, b, c, ..."""

    def __init__(self, fun, *held):
        super().__init__()
        self.fun, self.held = fun, [*map(chr, range(97, 97 + len(held)))]
        for name, module in zip(self.held, held, strict=True):
            self.add_module(name, module)

    def forward(self, *x):
        return self.fun(*x, *(getattr(self, name) for name in self.held))


def normalized(C, kind):
    """Batch normalization whose moments are not 0 and 1."""
    module = kind(C)
    with torch.no_grad():
        for array in (module.running_mean, module.weight, module.bias):
            array.copy_(torch.randn(C))
        module.running_var.copy_(0.5 + torch.rand(C))
    return module


def encoder():
    return nn.TransformerEncoderLayer(8, 2, 16, dropout=0.3, activation="gelu", batch_first=True)


def attended(x, attention, **keywords):
    return attention(x, x, x, **keywords)[0]


IMAGE, SIGNAL, ROWS, TOKENS = (2, 4, 6, 6), (2, 4, 7), (3, 4), (2, 3, 8)
CASES = {
    "linear": (lambda: nn.Linear(4, 3), ROWS),
    "linear of tokens": (lambda: nn.Linear(8, 3, bias=False), TOKENS),
    "linear of one sample": (lambda: nn.Linear(4, 3), (4,)),
    "perceptron": (lambda: nn.Sequential(nn.Linear(4, 5), nn.ReLU(inplace=True), nn.Linear(5, 2)), ROWS),
    **{
        f"conv2d {k}": (partial(nn.Conv2d, 4, 6, **keywords), IMAGE)
        for k, keywords in enumerate(
            (
                {"kernel_size": 3, "padding": 1},
                {"kernel_size": (3, 2), "stride": (2, 1), "padding": (0, 1)},
                {"kernel_size": 2, "dilation": (2, 3), "bias": False},
                {"kernel_size": 3, "groups": 2},
                {"kernel_size": 4, "padding": "same"},
                {"kernel_size": 2, "padding": "valid"},
            )
        )
    },
    "conv1d": (lambda: nn.Conv1d(4, 2, 3, padding=2, dilation=2), SIGNAL),
    "depthwise": (lambda: nn.Conv1d(4, 4, 3, groups=4), SIGNAL),
    "max_pool": (lambda: nn.MaxPool2d(3, 2, padding=1), IMAGE),
    "max_pool1d": (lambda: nn.MaxPool1d(2), SIGNAL),
    "avg_pool": (lambda: nn.AvgPool2d(3, 1, padding=1), IMAGE),
    "avg_pool of real entries": (lambda: nn.AvgPool2d((3, 2), padding=1, count_include_pad=False), IMAGE),
    "avg_pool1d": (lambda: nn.AvgPool1d(3, 2), SIGNAL),
    "adaptive average": (lambda: nn.AdaptiveAvgPool2d((3, 1)), IMAGE),
    "adaptive average of a signal": (lambda: nn.AdaptiveAvgPool1d(1), SIGNAL),
    "adaptive maximum": (lambda: nn.AdaptiveMaxPool2d(2), IMAGE),
    "batch_norm": (lambda: normalized(4, nn.BatchNorm2d), IMAGE),
    "batch_norm1d": (lambda: normalized(4, nn.BatchNorm1d), ROWS),
    "batch_norm, bare": (lambda: nn.BatchNorm2d(4, affine=False), IMAGE),
    "batch_norm of the batch": (lambda: nn.BatchNorm1d(4, track_running_stats=False), ROWS),
    "layer_norm": (lambda: nn.LayerNorm(8), TOKENS),
    "layer_norm of two axes": (lambda: nn.LayerNorm((3, 8)), TOKENS),
    "layer_norm, bare": (lambda: nn.LayerNorm(8, elementwise_affine=False), TOKENS),
    "group_norm": (lambda: nn.GroupNorm(2, 4), IMAGE),
    "group_norm, bare": (lambda: nn.GroupNorm(2, 4, affine=False), IMAGE),
    **{
        kind.__name__: (kind, ROWS)
        for kind in (nn.ReLU, nn.LeakyReLU, nn.ReLU6, nn.Hardtanh, nn.GELU, nn.Tanh, nn.Sigmoid, nn.SiLU, nn.Softplus)
    },
    "Softmax": (lambda: nn.Softmax(1), ROWS),
    "softmax along the tokens": (lambda: nn.Softmax(1), TOKENS),
    "LogSoftmax": (lambda: nn.LogSoftmax(-1), ROWS),
    "gelu by tanh": (lambda: nn.GELU("tanh"), ROWS),
    "steep softplus": (lambda: nn.Softplus(beta=3.0), ROWS),
    "hard": (lambda: Of(lambda x: F.hardswish(2 * x) + F.hardsigmoid(x), *()), ROWS),
    "threshold": (lambda: nn.Threshold(0.25, 0.25), ROWS),
    "dropout": (lambda: nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5)), ROWS),
    "identity": (lambda: nn.Identity(), ROWS),
    "arithmetic": (
        lambda: Of(lambda x, a: 1 - 2 * a(x) / 3 + x * a(x) - torch.sub(x, a(x), alpha=2) - (-x), nn.Linear(4, 4)),
        ROWS,
    ),
    "quotients": (lambda: Of(lambda x: x / (1 + x**2) + 2 / torch.exp(x) + (x * x + 1).sqrt().reciprocal()), ROWS),
    "powers": (lambda: Of(lambda x: x.square() + x.pow(3) + torch.rsqrt(x * x + 1) + torch.erf(x)), ROWS),
    "broadcasting": (lambda: Of(lambda x, a: x + a.weight + a.bias[:, None], nn.Linear(4, 3)), ROWS),
    "extrema": (
        lambda: Of(
            lambda x, a: torch.maximum(a(x), x) - torch.min(x, torch.zeros(())) + x.clamp(-0.5, 0.2), nn.Linear(4, 4)
        ),
        ROWS,
    ),
    "clamps": (lambda: Of(lambda x: x.clamp(min=-0.1) * x.clamp(max=0.3) + torch.clamp(x, min=-x)), ROWS),
    "absolute value": (lambda: Of(lambda x: (x + x.abs()) / 2), ROWS),
    "joined": (lambda: Of(lambda x: torch.cat([x, -x, x], 1) + torch.stack([x, 2 * x, x * x], 1).flatten(1)), ROWS),
    "split": (lambda: Of(lambda x: x.chunk(2, -1)[1] * x.split([2, 2], 1)[0] + x.unbind(1)[3][:, None]), ROWS),
    "sliced": (
        lambda: Of(lambda x: x[:, 1:4:2] - x[..., :2] + x.select(1, -1)[:, None] + x.narrow(0, 0, 3)[:, 2:]),
        ROWS,
    ),
    "gathered": (
        lambda: Of(lambda x: x[:, torch.tensor([3, 0, 0])] + x.index_select(1, torch.tensor([1, 2, 2]))),
        ROWS,
    ),
    "means": (
        lambda: Of(lambda x: x.mean((2, 3)) + x.sum((0, 3), keepdim=True).mean(-1)[0, :, :1].T + x.mean()),
        IMAGE,
    ),
    "shapes": (
        lambda: Of(lambda x: x.permute(0, 2, 1).reshape(8, 6).T.unsqueeze(0).expand(2, -1, -1).transpose(1, 2)),
        TOKENS,
    ),
    "samples merged": (lambda: Of(lambda x, a: a(x.view(-1, 8)).view(2, 3, 5).squeeze(), nn.Linear(8, 5)), TOKENS),
    "products": (lambda: Of(lambda x: x @ x.mT @ x + torch.bmm(x, torch.ones(2, 8, 8, dtype=x.dtype))), TOKENS),
    "product with vectors": (
        lambda: Of(
            lambda x, a: x @ a.weight[0] + torch.addmm(a.bias, x[0], a.weight.t())[:, 0] + a.weight[1] @ x.mT,
            nn.Linear(8, 3),
        ),
        TOKENS,
    ),
    "padded": (lambda: Of(lambda x: F.pad(x, (1, 2, 0, 1))), IMAGE),
    "where": (
        lambda: Of(
            lambda x: (
                torch.where(x > 0, x, 0.1 * x)
                + torch.where(x < 1, 2 - x, x)
                + torch.where(~(x.abs() < 1), 0, 1 - x.abs())
            )
        ),
        ROWS,
    ),
    "attention": (lambda: Of(attended, nn.MultiheadAttention(8, 2, batch_first=True)), TOKENS),
    "attention with weights": (lambda: Of(partial(attended, need_weights=False), nn.MultiheadAttention(8, 4)), TOKENS),
    "causal": (
        lambda: Of(lambda x: F.scaled_dot_product_attention(*(x[:, None],) * 3, is_causal=True, scale=0.7)),
        TOKENS,
    ),
    "masked": (
        lambda: Of(lambda x: F.scaled_dot_product_attention(x, 2 * x, x, attn_mask=torch.ones(3, 3).tril())),
        TOKENS,
    ),
    "causal by a mask": (
        lambda: Of(
            lambda x: F.scaled_dot_product_attention(*(x[:, None],) * 3, attn_mask=torch.ones(3, 3).tril().bool())
        ),
        TOKENS,
    ),
    "transformer": (encoder, TOKENS),
}


def example_of(shape):
    return torch.randn(*shape, dtype=torch.double)


@pytest.mark.parametrize("case", CASES)
def test_a_module_and_its_network_have_the_same_values(case):
    """Here and elsewhere: the sum of a few hundred products of numbers near 1 is right to about 1e-13."""
    make, shape = CASES[case]
    module = make().eval()
    network = from_torch(module, example_of(shape).float())
    held = copy.deepcopy(module).double()
    name = network.inputs[0]
    assert network.parameters == tuple(name for name, _ in module.named_parameters())
    for x in (example_of(shape), 3 * example_of(shape)):
        y = held(x).detach().numpy()
        assert network.at(x.numpy().ravel(), name).value("y") == pytest.approx(y, rel=1e-12, abs=1e-12 * abs(y).max())
    assert network.nodes[-1] == "y"
    assert pickle.loads(pickle.dumps(network)).value("y").shape == y.shape


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.hidden = nn.Linear(3, 5, bias=False), nn.Linear(5, 5)
        self.out = nn.Linear(5, 5)
        self.out.weight = self.hidden.weight

    def forward(self, x):
        return torch.tanh(self.out(F.relu(self.hidden(self.embed(x))))) @ self.embed.weight


class Convolutional(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, 3, 3),
            nn.ReLU(),
            normalized(3, nn.BatchNorm2d),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(12, 4),
        )
        self.head = nn.Linear(4, 2)

    def forward(self, image):
        h = self.body(image)
        return self.head(h + F.gelu(h))


SMOOTH = {
    "tied": (Tied, (4, 3)),
    "convolutional": (Convolutional, (2, 1, 6, 6)),
    "attention": (lambda: Of(attended, nn.MultiheadAttention(4, 2, batch_first=True)), (2, 3, 4)),
    "normalized": (lambda: nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.SiLU(), nn.Linear(4, 2)), (3, 3)),
    "grouped": (
        lambda: nn.Sequential(nn.Conv1d(2, 4, 2, groups=2, dilation=2), nn.Softplus(), nn.AvgPool1d(2)),
        (2, 2, 6),
    ),
}


@pytest.mark.parametrize("case", SMOOTH)
def test_off_the_kinks_gradient_and_hessian_are_those_of_torch(case):
    make, shape = SMOOTH[case]
    module, x = make().double().eval(), example_of(shape)
    network = from_torch(module, x)
    target = np.asarray(np.random.default_rng(0).normal(size=network.value("y").shape))
    network.loss(layers.squared_error(target), "y")
    names = [name for name, _ in module.named_parameters()]
    shapes = [p.shape for p in module.parameters()]

    def loss(theta):
        pieces = torch.split(theta, [s.numel() for s in shapes])
        held = {name: piece.view(s) for name, piece, s in zip(names, pieces, shapes, strict=True)}
        y = torch.func.functional_call(module, held, x, tie_weights=True)
        return ((y - torch.from_numpy(target)) ** 2).sum() / (2 * len(target))

    theta = torch.nn.utils.parameters_to_vector(module.parameters()).detach()
    assert (network.point() == theta.numpy()).all()
    blocks = clarke.hessian_blocks(network)
    gradient = torch.func.grad(loss)(theta).numpy()
    assert np.concatenate([blocks.gradient[name].ravel() for name in names]) == pytest.approx(gradient, abs=1e-10)
    hessian = torch.autograd.functional.hessian(loss, theta).numpy()
    assert np.abs(blocks.dense(names) - hessian).max() < 1e-8 * max(1.0, np.abs(hessian).max())


def test_a_tied_tensor_is_one_parameter_with_several_children():
    network = from_torch(Tied(), torch.randn(2, 3))
    assert network.parameters == ("embed.weight", "hidden.weight", "hidden.bias", "out.bias")
    assert set(network.dag.successors("hidden.weight")) == {"hidden", "out"}
    assert len(list(network.dag.successors("embed.weight"))) == 2


def test_nodes_are_named_after_modules_and_functions():
    network = from_torch(Convolutional().eval(), torch.randn(2, 1, 6, 6))
    assert network.inputs == ("image",)
    assert network.nodes == (
        *("body.0", "body.1", "body.2.normalized", "body.2", "body.3", "body.4", "body.5", "gelu", "add", "y"),
    )


def test_several_inputs_and_results_have_a_name_each():
    module = Of(lambda x, other, a: (a(x) * other, {"sum": x + other, "same": other}), nn.Linear(3, 3))
    x, other = torch.randn(2, 3), torch.randn(2, 3)
    network = from_torch(module, (x, other))
    assert len(network.inputs) == 2
    assert network.value(network.inputs[1]) == pytest.approx(other.numpy())
    assert network.nodes[-1].startswith("y")
    assert network.value("y2") == pytest.approx(other.numpy())


def test_indices_in_the_example_stay_fixed():
    module = nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 2))
    indices = torch.tensor([[0, 3, 3], [1, 0, 4]])
    network = from_torch(module, indices)
    assert network.inputs == ()
    assert network.value("y") == pytest.approx(module(indices).detach().numpy(), abs=1e-6)
    network.loss(layers.squared_error(np.zeros((2, 3, 2))), "y")
    y = module(indices)
    ((y**2).sum() / 4).backward()
    gradient = clarke.hessian_blocks(network).gradient["0.weight"]
    assert gradient == pytest.approx(module[0].weight.grad.numpy().ravel(), abs=1e-6)


def test_tensors_that_a_module_makes_as_it_runs_are_doubles_too():
    module, x = Of(lambda x, a: a(x) @ torch.linspace(0, 1, 12).reshape(3, 4), nn.Linear(4, 3)), torch.randn(2, 4)
    network = from_torch(module, x)
    assert torch.get_default_dtype() == torch.float32
    assert network.value("y") == pytest.approx(module(x).detach().numpy(), abs=1e-5)


@pytest.mark.parametrize("training", [True, False])
def test_a_module_is_not_changed(training):
    module = nn.Sequential(Convolutional(), nn.Dropout(0.5), nn.ReLU(inplace=True)).train(training)
    module[0].head.eval()
    x = torch.randn(2, 1, 6, 6)
    before, given = copy.deepcopy(module.state_dict()), x.clone()
    modes = [part.training for part in module.modules()]
    network = from_torch(module, x)
    network.at(network.point() + 1.0).value("y")
    assert [part.training for part in module.modules()] == modes
    assert all(p.dtype == torch.float32 and p.grad is None and p.requires_grad for p in module.parameters())
    after = module.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[key], before[key]) for key in before)
    assert torch.equal(x, given)


RELUS = {
    "relu": F.relu,
    "clamp": lambda x: x.clamp(min=0),
    "maximum": lambda x: torch.maximum(x, torch.zeros_like(x)),
    "where >": lambda x: torch.where(x > 0, x, 0.0),
    "where >=": lambda x: torch.where(x >= 0, x, torch.zeros_like(x)),
    "where <": lambda x: torch.where(x < 0, 0 * x, x),
    "abs": lambda x: (x + x.abs()) / 2,
    "hardtanh": lambda x: F.hardtanh(x, 0.0, 1e9),
}


@pytest.mark.parametrize("case", RELUS)
def test_however_relu_is_written_the_limiting_hessians_at_its_kink_are_the_same(case):
    def network_of(relu):
        made = Of(lambda x, a: relu(a(x)), nn.Linear(2, 1))
        with torch.no_grad():
            made.a.weight.copy_(torch.tensor([[1.0, 2.0]]))
            made.a.bias.zero_()
        network = from_torch(made, torch.tensor([[2.0, -1.0]]))
        network.loss(layers.squared_error(np.ones((1, 1))), "y")
        return network

    found = []
    for relu in (F.relu, RELUS[case]):
        network = network_of(relu)
        limiting = clarke.limiting_hessians(network.function(), network.point())
        assert limiting.complete
        found.append({tuple(np.round(m.ravel(), 12) + 0.0) for m in limiting.matrices})
    assert found[0] == found[1]
    assert len(found[0]) == 2


def assigned(x, a):
    z = a(x)
    z[:, 0] = 0.0
    z[0, 1:3] = x[1, :2] * x[0, 0]
    return z


def spread(x, a):
    z = torch.zeros(3, 8, dtype=x.dtype)
    z[:, ::2] = a(x)
    return z


def rectified(x, a):
    z = a(x)
    z[:, 1].relu_()
    z.view(-1).mul_(2.0)
    return z


def viewed(x, a):
    z = a(x)
    v = z.view(-1)
    z.add_(1.0).mul_(x)
    return v


def overwritten(x, a):
    x.mul_(2.0)
    return a(x)


WRITES = {fun.__name__: fun for fun in (assigned, spread, rectified, viewed, overwritten)}


@pytest.mark.parametrize("case", WRITES)
def test_what_is_written_through_a_view_is_seen_wherever_the_array_is_read(case):
    module, x = Of(WRITES[case], nn.Linear(4, 4)).double(), example_of(ROWS)
    given = x.clone()
    network = from_torch(module, x)
    assert torch.equal(x, given)
    assert network.nodes[-1] == "y"
    for at in (x, example_of(ROWS)):
        meant = module(at.clone()).detach().numpy()
        found = network.at(at.numpy().ravel(), network.inputs[0]).value("y")
        assert found == pytest.approx(meant, rel=1e-12, abs=1e-12)


def test_without_torch_export_what_is_written_in_place_is_seen_or_refused(monkeypatch):
    def refused(*args, **keywords):
        raise RuntimeError("not exportable")

    def chained(x, a):
        z = a(x)
        w = z.add_(1.0)
        z.mul_(2.0).tanh_()
        return z * w

    monkeypatch.setattr(torch.export, "export", refused)
    for fun in (chained, overwritten):
        module, x = Of(fun, nn.Linear(4, 4)).double(), example_of(ROWS)
        network = from_torch(module, x)
        for at in (x, example_of(ROWS)):
            meant = module(at.clone()).detach().numpy()
            found = network.at(at.numpy().ravel(), network.inputs[0]).value("y")
            assert found == pytest.approx(meant, rel=1e-12, abs=1e-12)
    for fun in (rectified, viewed):
        with pytest.raises(importers.UnsupportedOperations, match="an operation in place on what has views"):
            from_torch(Of(fun, nn.Linear(4, 4)), example_of(ROWS))


def test_a_module_that_counts_its_calls_has_one_result():
    class Counting(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Linear(3, 2)
            self.register_buffer("calls", torch.zeros(()))

        def forward(self, x):
            self.calls += 1
            return self.body(x) * self.calls

    module, x = Counting(), torch.randn(2, 3)
    network = from_torch(module, x)
    assert module.calls == 0
    assert network.value("y") == pytest.approx(module(x).detach().numpy(), abs=1e-6)


def test_casts_between_floating_types_keep_double_precision():
    single, x = torch.ones(4, dtype=torch.float32), example_of(ROWS)
    module = Of(lambda x, a: (a(x).float().half() / 3).to(x.dtype) * single, nn.Linear(4, 4))
    network = from_torch(module, x)
    meant = module.double().a(x).detach().numpy() / 3
    assert network.value("y") == pytest.approx(meant, rel=1e-14, abs=1e-14)
    module = Of(lambda x, a: a(x.float()), nn.Linear(4, 4))
    with pytest.raises(ValueError, match="all floating tensors are double here: leave out casts to another type"):
        from_torch(module, x)


def test_the_example_may_be_a_number():
    network = from_torch(Of(lambda x: torch.tanh(x) * x), torch.tensor(2.0))
    assert network.value("y") == pytest.approx(2 * np.tanh(2.0), rel=1e-15)


def test_a_selection_that_jumps_is_refused_by_name():
    module = Of(lambda x, a: torch.where(a(x) > 0, x, x + 1), nn.Linear(3, 3))
    with pytest.raises(importers.UnsupportedOperations, match=r"y \(where\): it jumps: where its guard is 0"):
        from_torch(module, torch.randn(4, 3))
    module = Of(lambda x: x * (x > 0))
    with pytest.raises(importers.UnsupportedOperations, match=r"mul \(aten.mul.Tensor\)"):
        from_torch(module, torch.randn(4, 3))


def test_all_unsupported_operations_are_listed_at_once():
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.up = nn.Linear(4, 4), nn.ConvTranspose1d(4, 4, 2)
            self.pool, self.noise = nn.MaxPool1d(2, ceil_mode=True), nn.PReLU()

        def forward(self, x):
            h = torch.cumsum(self.first(x), 1).detach()
            z = F.dropout(h, 0.5, training=True)[..., None]
            return self.noise(self.pool(self.up(z.expand(-1, -1, 2)))) + torch.floor(h[..., None])

    with pytest.raises(importers.UnsupportedOperations, match=r"Odd: 7 operations cannot be imported") as caught:
        from_torch(Odd(), torch.randn(3, 4))
    listed = {node: (operation, reason) for node, operation, reason in caught.value.operations}
    assert set(listed) == {"cumsum", "detach", "dropout", "up", "pool", "noise", "floor"}
    assert listed["pool"][1] == "pooling with sizes rounded up (ceil_mode)"
    assert listed["dropout"][1] == "random dropout; pass training=self.training"
    assert listed["cumsum"] == ("aten.cumsum.default", "no node function")
    assert all(
        f"\n  {node} ({operation}): {reason}" in str(caught.value) for node, (operation, reason) in listed.items()
    )


REFUSED = {
    "adaptive pooling from (6, 6) to (4, 4), windows": (nn.AdaptiveAvgPool2d(4), IMAGE),
    "dilated max pooling": (nn.MaxPool2d(2, dilation=2), IMAGE),
    "divisor_override": (nn.AvgPool2d(2, divisor_override=3), IMAGE),
    "padding other than with zeros": (Of(lambda x: F.pad(x, (1, 1), value=2.0)), ROWS),
    "division that rounds jumps": (Of(lambda x: torch.div(x, 2, rounding_mode="floor")), ROWS),
    "extrema over axes": (Of(lambda x: x.max()), ROWS),
    "a threshold whose value differs": (nn.Threshold(0.5, 0.0), ROWS),
    "its condition is no comparison": (Of(lambda x: torch.where(torch.ones(3, 4) > 0, x, 2 * x)), ROWS),
    "a comparison used as a number jumps; write the selection with where": (Of(lambda x: (x > 0).double() * x), ROWS),
    "a cast to int64 jumps": (Of(lambda x: x * x.long()), ROWS),
    "random; draw it once and pass it as an input": (Of(lambda x: x + torch.rand(4)), ROWS),
    "a power takes a fixed number": (Of(lambda x: 2.0**x), ROWS),
    "neither finite nor causal": (
        Of(lambda x: F.scaled_dot_product_attention(x, x, x, attn_mask=torch.eye(3) > 0)),
        TOKENS,
    ),
}


@pytest.mark.parametrize("message", REFUSED)
def test_what_is_supported_in_part_says_which_part_is_not(message):
    module, shape = REFUSED[message]
    with pytest.raises(importers.UnsupportedOperations) as caught:
        from_torch(module, example_of(shape))
    assert message in str(caught.value)


def test_what_is_no_module_or_does_not_take_the_example_is_refused():
    with pytest.raises(ValueError, match=r"module must be a torch\.nn\.Module; got int"):
        from_torch(3, torch.ones(2))
    with pytest.raises(ValueError, match="example must be a tensor or a tuple of tensors; got"):
        from_torch(nn.Linear(2, 2), np.ones((1, 2)))
    with pytest.raises(ValueError, match=r"Linear fails on the example \(1, 3\): RuntimeError: "):
        from_torch(nn.Linear(2, 2), torch.ones(1, 3))
    module = Remembering()
    module(torch.ones(1, 3))
    with pytest.raises(ValueError, match="Remembering cannot be copied: RuntimeError: "):
        from_torch(module, torch.ones(1, 3))


class Remembering(nn.Module):
    """torch.export refuses it: it keeps a tensor."""

    def __init__(self):
        super().__init__()
        self.body, self.out = nn.Sequential(nn.Linear(3, 4), nn.ReLU()), nn.Linear(4, 2)
        self.seen = []

    def forward(self, x):
        h = self.body(x)
        self.seen.append(h)
        return self.out(h)


def test_without_torch_export_the_graph_is_that_of_torch_fx(monkeypatch):
    def refused(*args, **keywords):
        raise RuntimeError("not exportable")

    for module, x in ((Remembering(), torch.randn(2, 3)), (Convolutional().eval(), torch.randn(2, 1, 6, 6))):
        with torch.no_grad():
            meant = module(x).numpy()
        with monkeypatch.context() as patch:
            patch.setattr(torch.export, "export", refused)
            network = from_torch(module, x)
        assert network.value("y") == pytest.approx(meant, abs=1e-5)
        assert network.parameters == tuple(name for name, _ in module.named_parameters())


def test_a_module_that_depends_on_its_values_is_refused():
    module = Of(lambda x: x if x.sum() > 0 else -x)
    with pytest.raises(ValueError, match=r"neither by torch.export nor by torch.fx|differs from that of the source"):
        from_torch(module, torch.full((2, 2), 0.01))


def test_a_branch_that_neither_recorder_takes_is_answered_with_what_to_write(monkeypatch):
    def refused(*args, **keywords):
        raise RuntimeError("not exportable")

    monkeypatch.setattr(torch.export, "export", refused)
    module = Of(lambda x: x if x.sum() > 0 else -x)
    with pytest.raises(ValueError, match=r"neither by torch\.export nor by torch\.fx(.|\n)*as torch\.where"):
        from_torch(module, torch.full((2, 2), 0.01))


def test_load_takes_a_module_and_an_example():
    module, x = nn.Linear(3, 2), torch.randn(2, 3)
    assert (importers.load(module, x).value("y") == from_torch(module, x).value("y")).all()


def test_importing_the_importers_imports_no_framework():
    code = "import sys, clarke.importers; print({'torch', 'onnx', 'sklearn'} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"
