"""Laws of what comes from ONNX files: their values, their names; and that nothing else is one."""

import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import clarke
from clarke import importers, layers
from clarke.importers.onnx import from_onnx

onnx = pytest.importorskip("onnx")
from onnx import TensorProto, helper, numpy_helper, shape_inference  # noqa: E402

ACAS = Path(__file__).resolve().parents[2] / "shared" / "data" / "acasxu"
rng = np.random.default_rng(0)


def node(kind, inputs="x", outputs="y", name="", **attributes):
    return helper.make_node(kind, inputs.split(), outputs.split(), name=name, **attributes)


def written(folder, nodes, shape, arrays=None, opset=17, outputs=("y",), name="model.onnx"):
    """The file of a graph of x (shape); arrays: the initializers."""
    held = [numpy_helper.from_array(np.asarray(a), n) for n, a in (arrays or {}).items()]
    x = [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)]
    y = [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in outputs]
    graph = helper.make_graph(nodes, "graph", x, y, held)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    inferred = shape_inference.infer_shapes(model, data_prop=True)
    for info, known in zip(model.graph.output, inferred.graph.output, strict=True):  # a file must declare them
        info.type.tensor_type.shape.CopyFrom(known.type.tensor_type.shape)
        info.type.tensor_type.elem_type = known.type.tensor_type.elem_type
    path = folder / name
    path.write_bytes(model.SerializeToString())
    return path


def single(*shape):
    """An array of single precision whose double is itself."""
    return rng.normal(size=shape).astype(np.float32)


def integers(*values):
    return np.array(values, dtype=np.int64)


def computed(path, x):
    """What another implementation makes of the file, in single precision."""
    try:
        import onnxruntime
    except ImportError:
        from onnx.reference import ReferenceEvaluator

        return ReferenceEvaluator(str(path)).run(None, {"x": x.astype(np.float32)})
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 4, 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x.astype(np.float32)})


ROWS, IMAGE, SIGNAL, TOKENS = (3, 4), (2, 4, 6, 6), (2, 4, 7), (2, 3, 8)
W, K, K1 = single(4, 5), single(6, 4, 3, 2), single(4, 2, 3)
NORMALIZED = {"g": single(4), "b": single(4), "m": single(4), "v": np.exp(single(4))}
CASES = {
    "Gemm": ([node("Gemm", "x W b", alpha=1.0)], ROWS, {"W": W, "b": single(5)}),
    "Gemm, W (out, in)": ([node("Gemm", "x W b", transB=1)], ROWS, {"W": single(5, 4), "b": single(5)}),
    "Gemm, scaled": ([node("Gemm", "x W c", alpha=2.0, beta=0.5)], ROWS, {"W": W, "c": single(3, 5)}),
    "Gemm, x transposed": ([node("Gemm", "x W", transA=1)], (4, 3), {"W": W}),
    "MatMul and Add": ([node("MatMul", "x W", "z"), node("Add", "b z")], ROWS, {"W": W, "b": single(5)}),
    "MatMul twice": (
        [node("MatMul", "x W", "z"), node("Add", "z b", "u"), node("Mul", "u z")],
        ROWS,
        {"W": W, "b": single(5)},
    ),
    "MatMul of tokens": ([node("MatMul", "x W")], TOKENS, {"W": single(8, 3)}),
    "MatMul from the left": ([node("MatMul", "W x")], ROWS, {"W": single(2, 3)}),
    "arithmetic": (
        [
            node("Mul", "x a", "u"),
            node("Sub", "c u", "v"),
            node("Div", "v d", "w"),
            node("Neg", "w", "n"),
            node("Sum", "n x u"),
        ],
        ROWS,
        {"a": single(4), "c": np.float32(2), "d": np.float32(3)},
    ),
    "activations": (
        [
            node("Relu", "x", "a"),
            node("LeakyRelu", "x", "b", alpha=0.2),
            node("Abs", "x", "c"),
            node("Tanh", "x", "d"),
            node("Sigmoid", "x", "e"),
            node("Softplus", "x", "f"),
            node("Erf", "x", "g"),
            node("HardSigmoid", "x", "h"),
            node("HardSwish", "x", "i"),
            node("Sum", "a b c d e f g h i"),
        ],
        ROWS,
    ),
    "powers": (
        [
            node("Mul", "x x", "s"),
            node("Add", "s one", "p"),
            node("Sqrt", "p", "a"),
            node("Reciprocal", "p", "b"),
            node("Pow", "x three", "c"),
            node("Exp", "x", "d"),
            node("Sum", "a b c d"),
        ],
        ROWS,
        {"one": np.float32(1), "three": np.float32(3)},
    ),
    "Clip": ([node("Clip", "x low high")], ROWS, {"low": np.float32(-0.5), "high": np.float32(0.3)}),
    "Clip above": ([node("Clip", "x  high")], ROWS, {"high": np.float32(0.3)}),
    "Max and Min": (
        [node("Max", "x a zero", "u"), node("Min", "u x2")],
        ROWS,
        {"a": single(4), "zero": np.float32(0), "x2": single(3, 4)},
    ),
    "Conv": ([node("Conv", "x K b", pads=[1, 0, 1, 0], strides=[2, 1])], IMAGE, {"K": K, "b": single(6)}),
    "Conv, padded on one side": ([node("Conv", "x K", pads=[0, 1, 2, 0], dilations=[2, 1])], IMAGE, {"K": K}),
    "Conv, same": ([node("Conv", "x K", auto_pad="SAME_UPPER", strides=[2, 2])], IMAGE, {"K": K}),
    "Conv, same below": ([node("Conv", "x K", auto_pad="SAME_LOWER")], IMAGE, {"K": K}),
    "Conv, valid": ([node("Conv", "x K", auto_pad="VALID")], IMAGE, {"K": K}),
    "Conv of groups": ([node("Conv", "x K b", group=2)], SIGNAL, {"K": K1, "b": single(4)}),
    "MaxPool": ([node("MaxPool", kernel_shape=[3, 2], strides=[2, 1], pads=[1, 0, 1, 0])], IMAGE),
    "AveragePool": ([node("AveragePool", kernel_shape=[3, 3], pads=[1, 1, 1, 1])], IMAGE),
    "AveragePool on one side": ([node("AveragePool", kernel_shape=[2], pads=[1, 0], count_include_pad=1)], SIGNAL),
    "GlobalAveragePool": ([node("GlobalAveragePool", "x", "z"), node("Flatten", "z")], IMAGE),
    "GlobalMaxPool": ([node("GlobalMaxPool", "x", "z"), node("Squeeze", "z axes")], IMAGE, {"axes": integers(2, 3)}),
    "BatchNormalization": ([node("BatchNormalization", "x g b m v", epsilon=1e-3)], IMAGE, NORMALIZED),
    "LayerNormalization": ([node("LayerNormalization", "x g b")], TOKENS, {"g": single(8), "b": single(8)}),
    "LayerNormalization of two axes": ([node("LayerNormalization", "x g", axis=1)], TOKENS, {"g": single(3, 8)}),
    "shapes": (
        [
            node("Transpose", "x", "t", perm=[2, 0, 1]),
            node("Reshape", "t to", "r"),
            node("Unsqueeze", "r at", "u"),
            node("Flatten", "u", axis=3),
        ],
        TOKENS,
        {"to": integers(4, -1, 3), "at": integers(0)},
    ),
    "shapes that are computed": (
        [
            node("Shape", "x", "s"),
            node("Gather", "s k", "n"),
            node("Unsqueeze", "n at", "v"),
            node("Concat", "v rest", "to", axis=0),
            node("Reshape", "x to"),
        ],
        TOKENS,
        {"k": np.array(0), "at": integers(0), "rest": integers(-1)},
    ),
    "Concat": ([node("Relu", "x", "r"), node("Concat", "x r c x", axis=1)], ROWS, {"c": single(3, 2)}),
    "Slice": (
        [node("Slice", "x from to along by")],
        ROWS,
        {"from": integers(0, -1), "to": integers(2, -9), "along": integers(0, 1), "by": integers(1, -2)},
    ),
    "Split": (
        [node("Split", "x n", "a b", axis=1), node("Tanh", "a", "t"), node("Concat", "t b a", axis=1)],
        ROWS,
        {"n": integers(1, 3)},
    ),
    "Gather": ([node("Gather", "x k", axis=1)], ROWS, {"k": np.array([[0, 3], [3, 1]])}),
    "Pad": ([node("Pad", "x to")], ROWS, {"to": integers(0, 1, 2, 0)}),
    "Expand": ([node("Expand", "x to")], (3, 1), {"to": integers(2, 1, 4)}),
    "means": (
        [node("ReduceMean", "x", "m", axes=[1, 2]), node("ReduceSum", "x at", "s"), node("Mul", "m s")],
        TOKENS,
        {"at": integers(0)},
    ),
    "softmaxes": ([node("Softmax", "x", "a", axis=1), node("LogSoftmax", "x", "b"), node("Mul", "a b")], TOKENS),
    "constants": (
        [
            node("Constant", "", "c", value_floats=[1.0, 2.0, 3.0, 4.0]),
            node("Constant", "", "d", value_float=0.5),
            node("Mul", "c d", "e"),
            node("Add", "x e"),
        ],
        ROWS,
    ),
    "Where": (
        [
            node("Greater", "x zero", "c"),
            node("Mul", "x zero", "z"),
            node("Where", "c x z", "a"),
            node("LessOrEqual", "x one", "d"),
            node("Where", "d one x", "b"),
            node("Add", "a b"),
        ],
        ROWS,
        {"zero": np.float32(0), "one": np.float32(1)},
    ),
    "identities": (
        [node("Identity", "x", "a"), node("Dropout", "a", "b"), node("Cast", "b", to=TensorProto.FLOAT)],
        ROWS,
    ),
    "attention": (
        [
            node("MatMul", "x Q", "q"),
            node("MatMul", "x V", "v"),
            node("Transpose", "x", "t", perm=[0, 2, 1]),
            node("MatMul", "q t", "s"),
            node("Div", "s root", "d"),
            node("Softmax", "d", "p"),
            node("MatMul", "p v"),
        ],
        TOKENS,
        {"Q": single(8, 8), "V": single(8, 4), "root": np.float32(8**0.5)},
    ),
}
OLD = {
    "Gelu": ([node("Gelu", "x", "a"), node("Gelu", "x", "b", approximate="tanh"), node("Add", "a b")], ROWS, None, 20),
    "Softmax of all axes": ([node("Softmax", axis=1)], TOKENS, None, 11),
    "Softmax of one axis": ([node("Softmax", axis=2)], TOKENS, None, 9),
    "Clip by attributes": ([node("Clip", min=-0.5)], ROWS, None, 8),
    "Slice by attributes": ([node("Slice", starts=[1], ends=[3], axes=[1])], ROWS, None, 9),
    "Pad by attributes": ([node("Pad", pads=[0, 1, 0, 0])], ROWS, None, 8),
    "ReduceSum by attributes": ([node("ReduceSum", axes=[0], keepdims=0)], ROWS, None, 9),
    "ReduceMean of inputs": ([node("ReduceMean", "x at")], ROWS, {"at": integers(1)}, 18),
}


@pytest.mark.parametrize("case", [*CASES, *OLD])
def test_a_file_and_its_network_have_the_same_values(case, tmp_path):
    """The other implementation computes in single precision: a few hundred products keep four digits and more."""
    nodes, shape, arrays, opset = (*(CASES | OLD)[case], None, None)[:4] if case in CASES else OLD[case]
    if case == "Softmax of all axes":  # onnx.reference takes it for the newer one
        pytest.importorskip("onnxruntime")
    path = written(tmp_path, nodes, shape, arrays, opset or 17)
    network = from_onnx(path)
    assert network.inputs[0] == "x"
    assert network.value("x").tolist() == np.zeros(shape).tolist()
    for x in (single(*shape), 2 * single(*shape)):
        (y,) = computed(path, x)
        assert network.at(x.ravel(), "x").value("y") == pytest.approx(
            y, rel=1e-4, abs=2e-5 * max(1.0, float(np.abs(y).max()))
        )
        assert (from_onnx(path, x).value("y") == network.at(x.ravel(), "x").value("y")).all()
    assert network.nodes[-1] == "y"
    with pytest.raises(ValueError, match="declares no loss"):
        network.function("x")
    assert pickle.loads(pickle.dumps(network)).value("y").shape == network.value("y").shape


def test_parameters_have_the_names_of_the_file_and_right_factors_are_out_in(tmp_path):
    arrays = {"layer.0.weight": single(4, 5), "0.bias": single(5), "tied": single(5, 4), "once": single(5, 2)}
    nodes = [
        *(node("MatMul", "x layer.0.weight", "p"), node("Add", "p 0.bias", "h"), node("MatMul", "h tied", "u")),
        *(node("Gemm", "u tied", "v", transB=1), node("MatMul", "v once")),
    ]
    network = from_onnx(written(tmp_path, nodes, ROWS, arrays))
    assert network.parameters == tuple(arrays)
    assert (network.value("layer.0.weight") == arrays["layer.0.weight"].T).all()
    assert (network.value("once") == arrays["once"].T).all()
    assert (network.value("tied") == arrays["tied"]).all()
    assert len(list(network.dag.successors("tied"))) == 2
    assert network.nodes == ("h", "u.transpose", "u", "v", "y")
    assert network.dag.nodes["h"]["parents"] == ("x", "layer.0.weight", "0.bias")


def test_a_vector_of_one_entry_is_a_parameter_and_a_number_without_axes_is_not(tmp_path):
    arrays = {"W": single(1, 4), "b": single(1), "half": np.float32(0.5)}
    nodes = [node("Gemm", "x W b", "z", transB=1), node("Mul", "z half")]
    assert from_onnx(written(tmp_path, nodes, ROWS, arrays)).parameters == ("W", "b")


def test_the_hessian_of_a_file_is_that_of_the_same_network_built_by_hand(tmp_path):
    arrays = {"W1": single(4, 5), "b1": single(5), "W2": single(5, 2)}
    nodes = [node("Gemm", "x W1 b1", "z"), node("Relu", "z", "h"), node("MatMul", "h W2")]
    x, targets = single(*ROWS), np.ones((3, 2))
    network = from_onnx(written(tmp_path, nodes, ROWS, arrays), x)
    network.loss(layers.squared_error(targets), "y")
    theta = [arrays["W1"].T, arrays["b1"], arrays["W2"].T, np.zeros(2)]
    theta = np.concatenate([a.ravel() for a in theta])
    by_hand = clarke.mlp([4, 5, 2], activation="relu", loss="squared", inputs=x, targets=targets, theta=theta)
    names = ["W1", "b1", "W2"]
    found, meant = (clarke.hessian_blocks(net).dense(names) for net in (network, by_hand))
    assert np.abs(found - meant).max() < 1e-12 * np.abs(meant).max()


def acas(name):
    path = ACAS / f"ACASXU_experimental_v2a_{name}"
    if not path.with_name(path.name + ".onnx").exists():
        pytest.skip(f"the ACAS Xu networks are not at {ACAS}")
    return path


def test_an_acas_network_is_the_same_from_both_of_its_files():
    """The weights of the .nnet file are decimals of six digits, those of the .onnx file singles."""
    path = acas("1_1")
    ours, nnet = (importers.load(f"{path}{suffix}") for suffix in (".onnx", ".nnet"))
    assert ours.parameters[0] == "input_AvgImg"
    assert [ours.value(name).shape for name in ours.parameters[1:]] == [nnet.value(p).shape for p in nnet.parameters]
    for mine, theirs in zip(ours.parameters[1:], nnet.parameters, strict=True):
        assert ours.value(mine).ravel() == pytest.approx(nnet.value(theirs).ravel(), rel=1e-6, abs=1e-6)
    for x in rng.uniform(-0.5, 0.5, size=(20, 5)):
        y = nnet.at(x, "x").value("y")
        assert ours.at(x, ours.inputs[0]).value(ours.nodes[-1]) == pytest.approx(y, rel=1e-4, abs=1e-5)


def test_the_example_gives_what_the_file_leaves_open(tmp_path):
    path = written(tmp_path, [node("Relu")], ["batch", "width"])
    with pytest.raises(ValueError, match=r"model.onnx: input 'x' declares the shape \[0, 0\]; pass an example"):
        from_onnx(path)
    assert from_onnx(path, np.ones((2, 3))).value("y").shape == (2, 3)
    assert from_onnx(path, {"x": np.ones((2, 3))}).value("y").shape == (2, 3)
    path = written(tmp_path, [node("Relu")], ["batch", 3])
    assert from_onnx(path).value("y").shape == (1, 3)
    for example, message in (
        (np.ones((2, 4)), r"input 'x' has the shape \[0, 3\]; the example has \(2, 4\)"),
        ({"z": 1.0}, r"the example names \['z'\]; inputs are x"),
        (np.full((1, 3), np.nan), "example 'x' must be finite"),
    ):
        with pytest.raises(ValueError, match=f"model.onnx: {message}"):
            from_onnx(path, example)


def test_several_results_keep_their_names(tmp_path):
    nodes = [node("Split", "x", "a b", axis=1, num_outputs=2), node("Identity", "a", "c")]
    network = from_onnx(written(tmp_path, nodes, ROWS, opset=18, outputs=("a", "c", "b")), single(*ROWS))
    assert (np.concatenate([network.value("c"), network.value("b")], axis=1) == network.value("x")).all()


def test_all_unsupported_operations_are_listed_at_once(tmp_path):
    nodes = [
        node("Floor", "x", "a", name="first floor"),
        node("MaxPool", "s", "p", kernel_shape=[3], ceil_mode=1, strides=[2]),
        *(node("Relu", "x", "r"), node("CumSum", "r k", "c"), node("ArgMax", "c", "d", name="argmax")),
        *(node("Greater", "x r", "g"), node("Where", "g x one", "w", name="jumping"), node("Cast", "d", "e", to=1)),
        *(node("ReduceMean", "p", "q", axes=[1, 2]), node("Sum", "a q w", "t"), node("Add", "t e")),
    ]
    nodes.insert(1, node("Unsqueeze", "x k", "s"))
    path = written(tmp_path, nodes, ROWS, {"k": integers(1), "one": np.float32(1)})
    with pytest.raises(
        importers.UnsupportedOperations, match=r"model.onnx: \d operations cannot be imported"
    ) as caught:
        from_onnx(path)
    listed = {(name, kind) for name, kind, _ in caught.value.operations}
    assert listed == {
        ("first floor", "Floor"),
        ("p", "MaxPool"),
        ("c", "CumSum"),
        ("argmax", "ArgMax"),
        ("jumping", "Where"),
    }
    said = str(caught.value)
    assert "\n  p (MaxPool): pooling with sizes rounded up (ceil_mode)" in said
    assert "\n  first floor (Floor): no node function" in said


REFUSED = {
    "rounding a moving value": ([node("Cast", "x", "k", to=7), node("Cast", "k", to=1)], ROWS),
    "padding other than with zeros": (
        [node("Pad", "x to one")],
        ROWS,
        {"to": integers(0, 1, 2, 0), "one": np.float32(1)},
    ),
    "batch normalization in training mode": (
        [node("BatchNormalization", "x g b m v", "y", training_mode=1)],
        IMAGE,
        NORMALIZED,
    ),
    "it jumps": (
        [node("Greater", "x zero", "g"), node("Where", "g x one")],
        ROWS,
        {"zero": np.float32(0), "one": np.float32(1)},
    ),
    "a power takes a fixed number": ([node("Pow", "two x")], ROWS, {"two": np.float32(2)}),
    "max pooling padded on one side": ([node("MaxPool", kernel_shape=[3], strides=[2], pads=[1, 0])], (1, 1, 6)),
    "dilated max pooling": ([node("MaxPool", kernel_shape=[2], dilations=[2])], SIGNAL),
    "its result is no array of real numbers": ([node("Shape", "x", "y")], ROWS),
}


@pytest.mark.parametrize("message", REFUSED)
def test_what_is_supported_in_part_says_which_part_is_not(message, tmp_path):
    nodes, shape, arrays = (*REFUSED[message], None)[:3]
    with pytest.raises(importers.UnsupportedOperations) as caught:
        from_onnx(written(tmp_path, nodes, shape, arrays), single(*shape))
    assert message in str(caught.value)
    assert str(caught.value).startswith(str(tmp_path / "model.onnx"))


def test_what_is_no_onnx_file_is_refused_with_its_path(tmp_path):
    for path in (tmp_path / "missing.onnx", tmp_path, "/dev/zero", "a\0b.onnx"):
        with pytest.raises(ValueError, match="cannot be read as ONNX: "):
            from_onnx(path)
    for data in (b"", b"\x08", b"no protobuf", b"\0" * 100):
        (tmp_path / "bad.onnx").write_bytes(data)
        with pytest.raises(ValueError, match=r"bad\.onnx: cannot be read as ONNX: "):
            from_onnx(tmp_path / "bad.onnx")


def test_a_file_that_asks_for_too_much_memory_is_refused(tmp_path):
    huge = integers(1 << 40)
    for nodes, arrays in (
        ([node("ConstantOfShape", "n", "c"), node("Add", "x c")], {"n": huge}),
        ([node("Expand", "x n")], {"n": integers(1 << 20, 1 << 20, 3, 4)}),
        ([node("Pad", "x n")], {"n": integers(0, 0, 1 << 40, 0)}),
        ([node("Tile", "c n", "d"), node("Add", "x d")], {"n": integers(1 << 20, 1 << 20), "c": single(1, 1)}),
    ):
        with pytest.raises(ValueError, match=r"model\.onnx"):
            from_onnx(written(tmp_path, nodes, ROWS, arrays))
    path = written(tmp_path, [node("Relu")], [1 << 20, 1 << 20])
    with pytest.raises(ValueError, match="more than 1 GiB"):
        from_onnx(path)


SMALL = [node("Gemm", "x W b", "z"), node("Relu", "z", "h"), node("Reshape", "h to")]
CHANGES = st.lists(
    st.tuples(st.floats(0, 1), st.integers(0, 8), st.binary(max_size=4)),
    min_size=1,
    max_size=4,
)


@given(CHANGES)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_mutated_bytes_are_a_network_or_a_value_error_naming_the_file(tmp_path, changes):
    arrays = {"W": np.ones((2, 3), np.float32), "b": np.zeros(3, np.float32), "to": integers(3, -1)}
    path = written(tmp_path, SMALL, (1, 2), arrays)
    data = path.read_bytes()
    for place, length, insertion in changes:
        start = int(place * len(data))
        data = data[:start] + insertion + data[start + length :]
    path.write_bytes(data)
    try:
        network = from_onnx(path)
    except ValueError as error:
        assert str(error).startswith(str(path))
    else:
        assert all(np.isfinite(network.value(name)).all() for name in network.nodes)


def test_load_reads_onnx_files_by_suffix(tmp_path):
    path = written(tmp_path, [node("Relu")], ROWS, name="MODEL.ONNX")
    assert importers.load(path, -np.ones(ROWS)).value("y").tolist() == np.zeros(ROWS).tolist()
    assert importers.load(str(path)).nodes == ("y",)
