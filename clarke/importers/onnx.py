"""ONNX files: the operators of the standard, in double precision.

A network has the names of the file: its inputs, its initializers of floating numbers as parameters, the results of
its operations as nodes. What no gradient is meant to reach is constant: bounds, moments, numbers without axes, shapes,
results of `Constant`. The right factor of a product that is used only so is kept as W (out, in), its transpose; the
sum of such a product and a vector is one affine node.

A file is never trusted: whatever is wrong with it is a ValueError that begins with its name.
"""

from functools import partial
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from clarke import layers
from clarke.network import Network

from .tensors import FLOATS, Comparison, Translation, UnsupportedOperations, require_same, rescaled

SINGLE = 2.0**-23  # the standard's own constants, in gelu and elsewhere, are single numbers


def from_onnx(path: Any, example: np.ndarray | None = None) -> Network:
    """The network of an ONNX file, no loss; values are checked against onnx.reference.

    example: the array of its input, or a dict of arrays by name; by default zeros of the shapes that the file
    declares, an undeclared first axis being 1. Inputs of integers stay fixed. `UnsupportedOperations` lists all
    operations that have no node function; ValueError naming the file for what is no ONNX file, an example that does
    not fit, or values that come out different.
    """
    try:
        model = _read(path)
        file = _File(model)
        values = file.run(_example(file, example))
        translation = Translation()
        outputs = _translate(translation, file, values)
        network = translation.finish(str(path))
        _verify(file, network, values, outputs)
    except UnsupportedOperations:
        raise
    except Exception as error:  # a file that passes onnx's checks can still mean anything
        said = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
        raise ValueError(said if said.startswith(str(path)) else f"{path}: {said}") from error
    return network


# ---------------------------------------------------------------- reading


def _read(path):
    """The ModelProto, checked, its local functions inlined."""
    import onnx
    from onnx import checker, inliner, shape_inference

    try:
        if not Path(path).is_file():
            raise FileNotFoundError("no such file")
        model = onnx.load(path)
        if not model.graph.node and not model.graph.output:
            raise ValueError("it holds no graph")
        for tensor in model.graph.initializer:
            if prod(tensor.dims) > FLOATS or min(tensor.dims, default=0) < 0:
                raise ValueError(f"initializer {tensor.name!r} declares the shape {list(tensor.dims)}")
        checker.check_model(model)
        if model.functions:
            model = inliner.inline_local_functions(model)
        inferred = shape_inference.infer_shapes(model, data_prop=True)
    except Exception as error:  # protobuf, the checker and the file system raise many kinds
        raise ValueError(f"{path}: cannot be read as ONNX: {type(error).__name__}: {error}") from error
    for info in inferred.graph.value_info:
        dims = [d.dim_value for d in info.type.tensor_type.shape.dim]
        if prod(n for n in dims if n > 0) > FLOATS:
            raise ValueError(f"{path}: {info.name!r} has the shape {dims}, more than 1 GiB")
    return model


class _File:
    """The graph of a model: constants, parameters, inputs and nodes, numbers as doubles."""

    def __init__(self, model):
        from onnx import numpy_helper

        graph = model.graph
        self.opsets = {entry.domain: entry.version for entry in model.opset_import}
        self.version = self.opsets.get("", self.opsets.get("ai.onnx", 1))
        self.constants, self.parameters = {}, {}
        for tensor in graph.initializer:
            array = _double(numpy_helper.to_array(tensor))
            where = self.parameters if array.dtype == float and array.ndim else self.constants
            where[tensor.name] = array
        if graph.sparse_initializer:
            raise ValueError("sparse initializers are not supported")
        held = self.constants.keys() | self.parameters.keys()
        self.inputs = [info for info in graph.input if info.name not in held]
        self.outputs = [info.name for info in graph.output]
        self.nodes = [_Node(node, k, self) for k, node in enumerate(graph.node)]
        for node in self.nodes:
            for place in _CONSTANT_INPUTS.get(node.kind, ()):  # moments, bounds, exponents
                name = node.inputs[place] if place < len(node.inputs) else ""
                if name in self.parameters:
                    self.constants[name] = self.parameters.pop(name)

    def run(self, inputs):
        """name -> value of everything that onnx.reference computes; what it cannot is left out."""
        values = {**self.constants, **self.parameters, **inputs}
        for node in self.nodes:
            if node.kind not in _HANDLERS and node.kind not in _FOLDED:
                continue
            if not all(name in values for name in node.inputs if name):
                continue
            try:
                found = node.evaluated(values, self.opsets)
            except Exception as error:  # of a node that does not fit its inputs
                node.failed = f"{type(error).__name__}: {error}"
                continue
            for name, value in zip(filter(None, node.outputs), found, strict=True):
                values[name] = _double(value)
        return values


def _double(value):
    array = np.asarray(value)
    return array.astype(float) if array.dtype.kind == "f" else array


class _Node:
    """One operation: kind, inputs and outputs by name ("" where left out), attributes, and what to call it."""

    def __init__(self, proto, position, file):
        from onnx import helper

        self.kind = proto.op_type if proto.domain in ("", "ai.onnx") else f"{proto.domain}.{proto.op_type}"
        self.inputs, self.outputs = list(proto.input), list(proto.output)
        self.attributes = {}
        for attribute in proto.attribute:
            value = helper.get_attribute_value(attribute)
            self.attributes[attribute.name] = value.decode(errors="replace") if isinstance(value, bytes) else value
        self.label = proto.name or next(filter(None, self.outputs), f"operation {position}")
        self.proto, self.version, self.failed = proto, file.version, ""

    def get(self, key, default=None):
        return self.attributes.get(key, default)

    def evaluated(self, values, opsets):
        """The results, by onnx.reference; of old a softmax was over all axes from one on, which that does not know."""
        from onnx.reference import ReferenceEvaluator

        self.require_small(values)
        given, shape = {name: values[name] for name in self.inputs if name}, None
        if self.kind in ("Softmax", "LogSoftmax") and self.version < 13:
            (name, x) = next(iter(given.items()))
            axis, shape = int(self.get("axis", 1)) % x.ndim, x.shape
            given[name] = x.reshape(prod(shape[:axis]), -1)
        with np.errstate(all="ignore"):
            found = ReferenceEvaluator(self.graph(flat=shape is not None), opsets=opsets).run(None, given)
        return found if shape is None else [np.reshape(value, shape) for value in found]

    def graph(self, flat=False):
        """A graph of this node alone; tensors and casts inside it in double precision."""
        from onnx import NodeProto, TensorProto, helper, numpy_helper

        proto = NodeProto()
        proto.CopyFrom(self.proto)
        for attribute in proto.attribute:
            if flat and attribute.name == "axis":
                attribute.i = 1
            if attribute.name == "to" and attribute.i in (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16):
                attribute.i = TensorProto.DOUBLE
            if attribute.HasField("t"):
                attribute.t.CopyFrom(numpy_helper.from_array(_double(numpy_helper.to_array(attribute.t))))
            if proto.op_type == "Constant" and attribute.name in ("value_float", "value_floats"):
                value = np.array(helper.get_attribute_value(attribute), dtype=float)
                attribute.Clear()
                attribute.name, attribute.type = "value", 4
                attribute.t.CopyFrom(numpy_helper.from_array(value))
        inputs, outputs = (
            [helper.make_tensor_value_info(n, 11, None) for n in names if n] for names in (proto.input, proto.output)
        )
        return helper.make_graph([proto], "node", inputs, outputs)

    def require_small(self, values):
        """ValueError where a shape given as data would take too much memory."""
        if self.kind in ("ConstantOfShape", "Expand", "Tile", "Pad", "Range", "Reshape", "OneHot"):
            size = 1.0
            for name in self.inputs:
                if name and values[name].dtype.kind in "iu":
                    size *= float(np.prod(np.maximum(np.abs(values[name].astype(float)), 1.0)))
            if size * max(1, np.size(values.get(self.inputs[0], 1)) if self.kind in ("Tile", "Pad") else 1) > FLOATS:
                raise ValueError("its result takes more than 1 GiB")
        for name in ("pads", "strides", "dilations", "kernel_shape", "output_padding"):
            if any(abs(n) > 1 << 20 for n in self.get(name, ())):
                raise ValueError(f"{name} {self.get(name)}")


def _example(file, example):
    """name -> array of every input."""
    if not file.inputs:
        raise ValueError("the graph has no input")
    names = [info.name for info in file.inputs]
    given = example if isinstance(example, dict) else {} if example is None else {names[0]: example}
    unknown = [name for name in given if name not in names]
    if unknown:
        raise ValueError(f"the example names {unknown}; inputs are {', '.join(names)}")
    found = {}
    for info in file.inputs:
        tensor = info.type.tensor_type
        floating = tensor.elem_type in (1, 10, 11, 16)
        dims = [d.dim_value if d.HasField("dim_value") else 0 for d in tensor.shape.dim]
        if info.name in given:
            array = np.asarray(given[info.name])
            if floating:
                array = layers.constant(f"example {info.name!r}", array)
            if tensor.HasField("shape") and not (
                len(dims) == array.ndim and all(n in (0, m) for n, m in zip(dims, array.shape, strict=True))
            ):
                raise ValueError(f"input {info.name!r} has the shape {dims}; the example has {array.shape}")
        else:
            if not dims or 0 in dims[1:]:
                raise ValueError(f"input {info.name!r} declares the shape {dims}; pass an example")
            shape = [n or 1 for n in dims]
            if prod(shape) > FLOATS:
                raise ValueError(f"input {info.name!r} declares the shape {dims}, more than 1 GiB")
            array = np.zeros(shape, dtype=float if floating else np.int64)
        found[info.name] = array if not floating else np.array(array, dtype=float)
    return found


def _verify(file, network, values, outputs):
    """At the example, and at a point near it."""
    rng = np.random.default_rng(0)
    for step in (0.0, 0.1):
        inputs, at = {info.name: values[info.name] for info in file.inputs}, network
        for name, array in inputs.items():
            if array.dtype == float:
                inputs[name] = array + step * rng.standard_normal(array.shape)
                at = at.at(inputs[name].ravel(), outputs[name])
        found = file.run(inputs)
        if step and not all(np.isfinite(found[name]).all() for name in file.outputs):
            continue
        floats = (v for v in found.values() if v.dtype == float and v.size)
        largest = max(float(np.max(np.abs(v))) for v in floats)
        ours = [at.value(outputs[name]) for name in file.outputs]
        theirs = [found[name] for name in file.outputs]
        require_same("onnx.reference", file.outputs, ours, theirs, largest, SINGLE)


# ---------------------------------------------------------------- translation


def _translate(translation, file, values):
    """Declare the network; returns name in the file -> name in the network, or constant."""
    needed = set(file.outputs)
    for node in reversed(file.nodes):
        if needed.intersection(filter(None, node.outputs)):
            needed.update(node.inputs)
    steps = [node for node in file.nodes if needed.intersection(filter(None, node.outputs))]
    flips, env = _flipped(file, steps), dict(file.constants)
    for info in file.inputs:
        value = values[info.name]
        env[info.name] = translation.named(value, info.name) if value.dtype == float else value
    for name, value in file.parameters.items():
        env[name] = translation.unique(name)
        translation.network.parameter(env[name], value.T if name in flips else value)
    biased = _biased(file, steps, flips)
    for node in steps:
        if node.outputs[0] in biased:
            continue  # its bias makes it a node
        inputs = [env.get(name) if name else None for name in node.inputs]
        missing = [name for name in node.inputs if name and name not in env]
        name = next(filter(None, node.outputs))
        try:
            moving = any(isinstance(value, str | Comparison) for value in inputs)
            static = not moving or node.kind in ("Shape", "Size")
            if node.kind not in _HANDLERS and (node.kind not in _FOLDED or (moving and not static)):
                raise ValueError("no node function")
            if node.failed and not missing:
                raise ValueError(node.failed)
            if static and not missing and name in values:
                found = [values[output] for output in filter(None, node.outputs)]
            elif node.outputs[0] not in values or (missing and not set(missing) <= set(biased)):
                continue  # what it depends on has been refused already
            elif set(missing) & set(biased):
                product, bias = (k for k in ((0, 1) if missing[0] == node.inputs[0] else (1, 0)))
                x, W = biased[node.inputs[product]]
                found = translation.linear(name, env[x], env[W], inputs[bias])
            else:
                found = _HANDLERS[node.kind](translation, name, node, _Inputs(inputs), values, flips)
        except (ValueError, TypeError, KeyError, IndexError, AttributeError, ZeroDivisionError, OverflowError) as error:
            translation.refuse(node.label, node.kind, " ".join(str(error).split()) or type(error).__name__)
            found = [_stand_in(translation, out, values.get(out)) for out in filter(None, node.outputs)]
        found = found if isinstance(found, list) else [found]
        env.update(
            (out, value) for out, value in zip(filter(None, node.outputs), found, strict=False) if value is not None
        )
    for name in file.outputs:
        value = env.get(name)
        if value is None:
            continue  # refused already
        if isinstance(value, Comparison) or (not isinstance(value, str) and value.dtype != float):
            translation.refuse(name, "output", "its result is no array of real numbers")
        elif value != name if isinstance(value, str) else True:
            env[name] = translation.emit(name, layers.linear, translation.named(value, f"{name}.constant"))
    return env


class _Inputs(list):
    """The inputs of a node; those left out at the end are None."""

    def __getitem__(self, place):
        return super().__getitem__(place) if isinstance(place, slice) or place < len(self) else None


def _stand_in(translation, name, value):
    if value is None or value.dtype != float or not value.size:
        return value
    return translation.stand_in(name, value)


def _is_right_factor(node, place):
    return place == 1 and (node.kind == "MatMul" or (node.kind == "Gemm" and not node.get("transB", 0)))


def _flipped(file, steps):
    """The matrices that are used as right factors only."""
    used = {}
    for node in steps:
        for place, name in enumerate(node.inputs):
            used.setdefault(name, []).append(_is_right_factor(node, place))
    return {name for name, value in file.parameters.items() if value.ndim == 2 and used.get(name) and all(used[name])}


def _biased(file, steps, flips):
    """product -> (x, W) of the products x W whose only use is the addition of a vector of parameters."""
    uses, found = {}, {}
    for node in steps:
        for name in node.inputs:
            uses.setdefault(name, []).append(node)
    for node in steps:
        later = uses.get(node.outputs[0], [])
        if node.kind != "MatMul" or node.inputs[1] not in flips or len(later) != 1 or node.outputs[0] in file.outputs:
            continue
        rest = [name for name in later[0].inputs if name != node.outputs[0]]
        if later[0].kind != "Add" or len(rest) != 1 or rest[0] not in file.parameters or node.failed:
            continue
        if file.parameters[rest[0]].shape == file.parameters[node.inputs[1]].shape[1:]:
            found[node.outputs[0]] = node.inputs[0], node.inputs[1]
    return found


# ---------------------------------------------------------------- operators


def _numbers(value) -> list[int]:
    """A constant input, or an attribute, as a list of ints; empty where it is left out."""
    if isinstance(value, str | Comparison):
        raise ValueError("a shape or an axis that moves")
    return [] if value is None else [int(n) for n in np.atleast_1d(value)]


def _number(value, default=None):
    if isinstance(value, str | Comparison):
        return value
    return default if value is None else float(np.reshape(value, ()))


def _unary(fun):
    return lambda t, name, node, x, values, flips: t.emit(name, fun, x[0])


def _shaped(t, name, node, x, values, flips):
    return t.reshape(name, x[0], values[node.outputs[0]].shape)


def _identity(t, name, node, x, values, flips):
    if not isinstance(x[0], str):
        raise ValueError("it is applied to a comparison")
    if values[node.outputs[0]].dtype != float:
        raise ValueError("rounding a moving value")
    return x[0]


def _dropout(t, name, node, x, values, flips):
    if x[2] is not None and np.any(x[2]):
        raise ValueError("dropout in training mode")
    return [x[0]]


def _folded(kind):
    """a, b, c, ... joined two at a time."""

    def handler(t, name, node, x, values, flips):
        total = x[0]
        for k, operand in enumerate(x[1:], 1):
            here = name if k == len(x) - 1 else f"{name}.{k}"
            if isinstance(total, str) or isinstance(operand, str):
                total = t.binary(here, kind, total, operand)
            else:
                total = {"add": np.add, "maximum": np.maximum, "minimum": np.minimum}[kind](total, operand)
        return total

    return handler


def _binary(kind):
    return lambda t, name, node, x, values, flips: t.binary(name, kind, x[0], x[1])


def _comparison(swapped):
    def handler(t, name, node, x, values, flips):
        found = Comparison(x[0], x[1])
        return found.swapped() if swapped else found

    return handler


def _negation(t, name, node, x, values, flips):
    if not isinstance(x[0], Comparison):
        raise ValueError("a logical operation on no comparison")
    return x[0].swapped()


def _matmul(t, name, node, x, values, flips):
    if node.inputs[1] in flips:
        return t.linear(name, x[0], x[1])
    return t.matmul(name, x[0], x[1])


def _gemm(t, name, node, x, values, flips):
    """alpha A' B' + beta C."""
    alpha, beta, C = float(node.get("alpha", 1.0)), float(node.get("beta", 1.0)), x[2]
    a = t.named(x[0], f"{name}.A")
    a = t.permute(f"{name}.A", a, (1, 0)) if node.get("transA", 0) else a
    W = t.named(x[1], f"{name}.B")
    if not node.get("transB", 0) and node.inputs[1] not in flips:
        W = t.permute(f"{name}.B", W, (1, 0))
    if C is None or beta == 0:
        return t.chain(name, t.linear(f"{name}.product" if alpha != 1 else name, a, W), ("alpha", rescaled(alpha)))
    if alpha == beta == 1 and t.shape(C) == t.shape(W)[:1]:
        return t.linear(name, a, W, C)
    product = t.chain(f"{name}.alpha", t.linear(f"{name}.product", a, W), ("", rescaled(alpha)))
    if isinstance(C, str):
        C = t.chain(f"{name}.beta", C, ("", rescaled(beta)))
    return t.binary(name, "add", product, C if isinstance(C, str) else beta * C)


def _windows(t, node, x, size):
    """(size, stride, before, after, dilation), padding chosen by auto_pad where it says so."""
    dims = len(t.shape(x)) - 2
    stride, dilation = (list(node.get(key, [1] * dims)) for key in ("strides", "dilations"))
    pads, auto = list(node.get("pads", [0] * 2 * dims)), node.get("auto_pad", "NOTSET")
    if auto in ("SAME_UPPER", "SAME_LOWER"):
        pads = [0] * 2 * dims
        for k, n in enumerate(t.shape(x)[2:]):
            total = max(0, (-(-n // stride[k]) - 1) * stride[k] + (size[k] - 1) * dilation[k] + 1 - n)
            less, more = total // 2, total - total // 2
            pads[k], pads[k + dims] = (less, more) if auto == "SAME_UPPER" else (more, less)
    elif auto == "VALID":
        pads = [0] * 2 * dims
    elif auto != "NOTSET":
        raise ValueError(f"auto_pad {auto!r}")
    return size, stride, pads[:dims], pads[dims:], dilation


def _convolution(t, name, node, x, values, flips):
    size = list(t.shape(x[1])[2:])
    _, stride, before, after, dilation = _windows(t, node, x[0], size)
    data = t.named(x[0], f"{name}.x")
    return t.convolution(name, data, x[1], x[2], stride, before, after, dilation, int(node.get("group", 1)))


def _max_pool(t, name, node, x, values, flips):
    return [t.max_pool(name, x[0], *_windows(t, node, x[0], list(node.get("kernel_shape"))), values[name].shape)]


def _average_pool(t, name, node, x, values, flips):
    *sides, dilation = _windows(t, node, x[0], list(node.get("kernel_shape")))
    if any(d > 1 for d in dilation):
        raise ValueError("dilated average pooling")
    return t.average_pool(name, x[0], *sides, values[name].shape, padding_counts=bool(node.get("count_include_pad", 0)))


def _global(maximum):
    def handler(t, name, node, x, values, flips):
        ndim = len(t.shape(x[0]))
        if maximum:
            return t.adaptive(name, x[0], (1,) * (ndim - 2), maximum=True)
        return t.mean(name, x[0], range(2, ndim), keepdims=True)

    return handler


def _batch_norm(t, name, node, x, values, flips):
    if node.get("training_mode", 0) or len([out for out in node.outputs if out]) > 1:
        raise ValueError("batch normalization in training mode")
    if any(isinstance(moment, str) for moment in x[3:5]):
        raise ValueError("moments that move")
    return t.batch_norm(name, x[0], x[1], x[2], x[3], x[4], float(node.get("epsilon", 1e-5)))


def _layer_norm(t, name, node, x, values, flips):
    ndim = len(t.shape(x[0]))
    return [
        t.layer_norm(name, x[0], x[1], x[2], float(node.get("epsilon", 1e-5)), ndim - int(node.get("axis", -1)) % ndim)
    ]


def _softmax(log):
    def handler(t, name, node, x, values, flips):
        shape = t.shape(x[0])
        if node.version >= 13:
            return t.softmax(name, x[0], int(node.get("axis", -1)), log)
        axis = int(node.get("axis", 1)) % len(shape)  # all axes from this one on at once
        if axis == len(shape) - 1:
            return t.softmax(name, x[0], -1, log)
        flat = t.reshape(f"{name}.flat", x[0], (prod(shape[:axis]), prod(shape[axis:])))
        return t.reshape(name, t.softmax(f"{name}.softmax", flat, -1, log), shape)

    return handler


def _clip(t, name, node, x, values, flips):
    low, high = (node.get("min"), node.get("max")) if node.version < 11 else (_number(x[1]), _number(x[2]))
    return t.clip(name, x[0], low, high)


def _hard_sigmoid(t, name, node, x, values, flips):
    swish = node.kind == "HardSwish"
    step = rescaled(float(node.get("alpha", 1 / 6 if swish else 0.2)), float(node.get("beta", 0.5)))
    gate = t.clip(f"{name}.gate" if swish else name, t.chain(f"{name}.scaled", x[0], ("", step)), 0.0, 1.0)
    return t.binary(name, "multiply", x[0], gate) if swish else gate


def _gelu(t, name, node, x, values, flips):
    return t.emit(name, layers.gelu_tanh if node.get("approximate", "none") == "tanh" else layers.gelu, x[0])


def _power(t, name, node, x, values, flips):
    if not isinstance(x[0], str) or isinstance(x[1], str) or np.size(x[1]) > 1:
        raise ValueError("a power takes a fixed number as exponent")
    return t.power(name, x[0], x[1])


def _transpose(t, name, node, x, values, flips):
    return t.permute(name, x[0], node.get("perm") or range(len(t.shape(x[0])))[::-1])


def _slice(t, name, node, x, values, flips):
    shape, given = t.shape(x[0]), (node.get("starts"), node.get("ends"), node.get("axes"), None)
    starts, ends, axes, steps = map(_numbers, given if node.version < 10 else (x[1], x[2], x[3], x[4]))
    axes, steps = axes or range(len(starts)), steps or [1] * len(starts)
    index = [slice(None)] * len(shape)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        first, last, step = slice(start, end, step).indices(shape[axis])
        index[axis % len(shape)] = slice(first, None if last < 0 else last, step)
    return t.part(name, x[0], index)


def _split(t, name, node, x, values, flips):
    axis = int(node.get("axis", 0)) % len(t.shape(x[0]))
    return t.split(name, x[0], axis, [values[out].shape[axis] for out in node.outputs], node.outputs)


def _gather(t, name, node, x, values, flips):
    if isinstance(x[1], str):
        raise ValueError("indices that move")
    axis = int(node.get("axis", 0)) % len(t.shape(x[0]))
    at = int(x[1]) if np.ndim(x[1]) == 0 else np.asarray(x[1])
    return t.part(name, t.named(x[0], f"{name}.data"), (slice(None),) * axis + (at,))


def _pad(t, name, node, x, values, flips):
    pads = _numbers(node.get("pads") if node.version < 11 else x[1])
    constant = node.get("value", 0.0) if node.version < 11 else _number(x[2], 0.0)
    if node.get("mode", "constant") != "constant" or constant != 0:
        raise ValueError("padding other than with zeros")
    dims = len(t.shape(x[0]))
    if len(pads) != 2 * dims:
        raise ValueError("padding of some axes only")
    return t.padded(name, x[0], pads[:dims], pads[dims:])


def _reduced(total):
    def handler(t, name, node, x, values, flips):
        axes = _numbers(node.get("axes") if x[1] is None else x[1])
        if not axes and node.get("noop_with_empty_axes", 0):
            return x[0]
        return t.mean(name, x[0], axes or None, bool(node.get("keepdims", 1)), total)

    return handler


_HANDLERS = {
    "Abs": _unary(layers.absolute),
    "Add": _binary("add"),
    "AveragePool": _average_pool,
    "BatchNormalization": _batch_norm,
    "Cast": _identity,
    "Clip": _clip,
    "Concat": lambda t, name, node, x, values, flips: t.concatenate(name, x, int(node.get("axis"))),
    "Conv": _convolution,
    "Div": _binary("divide"),
    "Dropout": _dropout,
    "Erf": _unary(layers.error_function),
    "Exp": _unary(layers.exponential),
    "Expand": lambda t, name, node, x, values, flips: t.broadcast(name, x[0], values[name].shape),
    "Flatten": _shaped,
    "Gather": _gather,
    "Gelu": _gelu,
    "Gemm": _gemm,
    "GlobalAveragePool": _global(False),
    "GlobalMaxPool": _global(True),
    "Greater": _comparison(False),
    "GreaterOrEqual": _comparison(False),
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": _hard_sigmoid,
    "Identity": _identity,
    "LayerNormalization": _layer_norm,
    "LeakyRelu": lambda t, name, node, x, values, flips: t.leaky(name, x[0], float(node.get("alpha", 0.01))),
    "Less": _comparison(True),
    "LessOrEqual": _comparison(True),
    "LogSoftmax": _softmax(True),
    "MatMul": _matmul,
    "Max": _folded("maximum"),
    "MaxPool": _max_pool,
    "Min": _folded("minimum"),
    "Mul": _binary("multiply"),
    "Neg": _unary(partial(layers.rescale, scale=-1.0)),
    "Not": _negation,
    "Pad": _pad,
    "Pow": _power,
    "Reciprocal": lambda t, name, node, x, values, flips: t.power(name, x[0], -1.0),
    "ReduceMean": _reduced(False),
    "ReduceSum": _reduced(True),
    "Relu": _unary(layers.relu),
    "Reshape": _shaped,
    "Sigmoid": _unary(layers.sigmoid),
    "Slice": _slice,
    "Softmax": _softmax(False),
    "Softplus": _unary(layers.softplus),
    "Split": _split,
    "Sqrt": lambda t, name, node, x, values, flips: t.power(name, x[0], 0.5),
    "Squeeze": _shaped,
    "Sub": _binary("subtract"),
    "Sum": _folded("add"),
    "Tanh": _unary(layers.tanh),
    "Transpose": _transpose,
    "Unsqueeze": _shaped,
    "Where": lambda t, name, node, x, values, flips: t.where(name, x[0], x[1], x[2]),
}
_FOLDED = frozenset(
    "And Ceil Constant ConstantOfShape Cos Equal Floor Mod Or Range ReduceProd Shape Sign Sin Size Tile Trilu".split()
)  # evaluated where nothing moves; of what moves `Shape` and `Size` still do not
_CONSTANT_INPUTS = {"BatchNormalization": (3, 4), "Clip": (1, 2), "Pad": (2,), "Pow": (1,)}
