"""PyTorch modules: exported as a graph of aten operations in evaluation mode, in double precision.

The graph is torch.export's, or, of a module that it refuses, that of torch.fx's make_fx. Parameters keep their names
and order, so that a flat point is `torch.nn.utils.parameters_to_vector`; tied parameters are one, under the first of
their names; buffers are constants. Nodes are named after the module that computes them, the output is "y".
"""

import copy
import operator
import warnings
from functools import partial
from typing import Any

import numpy as np

from clarke import layers
from clarke.network import Network

from .tensors import Comparison, Translation, require_same, rescaled


def from_torch(module: Any, example: Any) -> Network:
    """The network that a torch.nn.Module is in evaluation mode, at a tensor or a tuple of tensors.

    Axis 0 of the example counts samples; its floating tensors become inputs under the names that `forward` gives them,
    others stay fixed. A tuple of results is y0, y1, ...; no loss. The module is not changed: a copy is.
    `UnsupportedOperations` lists all operations that have no node function, batch statistics and random dropout among
    them; ValueError for an example that the module does not take, or values that come out different.
    """
    import torch

    if not isinstance(module, torch.nn.Module):
        raise ValueError(f"module must be a torch.nn.Module; got {type(module).__name__}")
    arguments = tuple(example) if isinstance(example, tuple | list) else (example,)
    if not arguments or not all(isinstance(a, torch.Tensor) for a in arguments):
        raise ValueError(f"example must be a tensor or a tuple of tensors; got {example!r:.80}")
    arguments = tuple(_double(a.detach().cpu().clone()) for a in arguments)
    usual = torch.get_default_dtype()
    torch.set_default_dtype(torch.double)  # also of tensors that the module makes as it runs
    try:
        return _imported(module, arguments)
    finally:
        torch.set_default_dtype(usual)


def _imported(module, arguments):
    import torch

    label = type(module).__name__
    try:
        held = copy.deepcopy(module).cpu().double().eval()
    except Exception as error:
        raise ValueError(f"{label} cannot be copied: {type(error).__name__}: {error}") from error
    try:
        with torch.no_grad():
            copy.deepcopy(held)(*(a.clone() for a in arguments))  # it may write to them
    except Exception as error:
        shapes = ", ".join(str(tuple(a.shape)) for a in arguments)
        advice = "; all floating tensors are double here: leave out casts to another type"
        advice = advice if "dtype" in str(error) else ""
        raise ValueError(f"{label} fails on the example {shapes}: {type(error).__name__}: {error}{advice}") from error
    graph, leaves, names = _graph(held, arguments)
    translation, declared, env = Translation(), {}, {}
    for name, tensor in held.named_parameters():  # each once, tied ones too
        declared[id(tensor)] = name = translation.unique(name)
        translation.network.parameter(name, _array(tensor))
    for node, (kind, what) in leaves.items():
        if kind == "parameter":
            env[node] = declared[id(what)]
        elif kind == "input" and arguments[what].is_floating_point():
            env[node] = translation.named(_array(arguments[what]), names[node])
    inputs = {node: env[node] for node in leaves if leaves[node][0] == "input" and node in env}
    values = _run(graph, leaves, arguments)
    outputs = _translate(translation, graph, values, env)
    network = translation.finish(label)
    rng = np.random.default_rng(0)
    for step in (0.0, 0.1):  # the example, and a point near it: what is constant at one point only would show
        moved, at = list(arguments), network
        for node, name in inputs.items():
            which = leaves[node][1]
            shaken = _array(arguments[which])
            shaken = np.asarray(shaken + step * rng.standard_normal(shaken.shape))
            moved[which] = torch.from_numpy(shaken)
            at = at.at(shaken.ravel(), name)
        try:
            values = _run(graph, leaves, tuple(moved))
        except Exception:  # the module may check its input
            if not step:
                raise
            continue
        theirs = [_array(value) for value in values[_output(graph)]]
        if step and not all(np.isfinite(value).all() for value in theirs):
            continue
        largest = max(float(np.max(np.abs(v), initial=0.0)) for v in values.values() if isinstance(v, np.ndarray))
        require_same(label, outputs, [at.value(name) for name in outputs], theirs, largest)
    return network


# ---------------------------------------------------------------- the graph and its values


def _double(tensor):
    return tensor.double() if tensor.is_floating_point() else tensor


def _array(value):
    """A copy of a tensor as numpy has it."""
    return np.array(value.detach().cpu().numpy()) if hasattr(value, "detach") else np.asarray(value)


def _graph(module, arguments):
    """(graph module, {placeholder: (kind, what it stands for)}, {placeholder: name}).

    Kinds: "input" and its position, "parameter" or "constant" and the tensor.
    """
    import torch

    tensors = dict(module.named_parameters(remove_duplicate=False))
    tensors |= dict(module.named_buffers(remove_duplicate=False))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # torch's, about torch
            program = torch.export.export(module, arguments, strict=False)
            if any(map(_writes, program.graph.nodes)):
                program = program.run_decompositions({})  # writing through views becomes values of their own
                _keep_results(program)
    except Exception:
        return _traced(module, arguments, tensors)
    signature, leaves, names, position = program.graph_signature, {}, {}, 0
    held = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
    constants = getattr(program, "constants", {})
    for node in program.graph_module.graph.nodes:
        if node.op != "placeholder":
            continue
        names[node] = node.name
        if node.name in held:
            tensor = tensors.get(held[node.name], constants.get(held[node.name]))
            leaves[node] = _leaf(tensor)
        elif node.name in getattr(signature, "inputs_to_lifted_tensor_constants", {}):
            leaves[node] = "constant", _double(constants[signature.inputs_to_lifted_tensor_constants[node.name]])
        else:
            leaves[node] = "input", position
            position += 1
    return program.graph_module, leaves, names


def _leaf(tensor):
    import torch

    return ("parameter" if isinstance(tensor, torch.nn.Parameter) else "constant"), tensor


def _traced(module, arguments, tensors):
    """By torch.fx alone: make_fx of the module as a function of its tensors."""
    import inspect

    import torch
    from torch.fx.experimental.proxy_tensor import make_fx

    def call(held, *arguments):
        return torch.func.functional_call(module, held, arguments)

    try:
        graph = make_fx(call, pre_dispatch=True)(tensors, *(a.clone() for a in arguments))
    except Exception as error:
        raise ValueError(
            f"{type(module).__name__} can be recorded neither by torch.export nor by torch.fx: "
            f"{type(error).__name__}: {error}\nA choice that depends on values is recorded as torch.where, not as an if"
        ) from error
    flat = [_leaf(tensor) for tensor in tensors.values()] + [("input", k) for k in range(len(arguments))]
    nodes = [node for node in graph.graph.nodes if node.op == "placeholder"]
    signature = list(inspect.signature(module.forward).parameters)
    given = [*tensors, *(signature + [f"x{k}" for k in range(len(arguments))])[: len(arguments)]]
    return graph, dict(zip(nodes, flat, strict=True)), dict(zip(nodes, given, strict=True))


def _keep_results(program):
    """Leave out what a program returns beside its results: inputs and buffers that it has changed."""
    output = _output(program.graph_module)
    specs = program.graph_signature.output_specs
    results = [r for r, spec in zip(output.args[0], specs, strict=True) if spec.kind.name == "USER_OUTPUT"]
    output.args = (tuple(results),)


def _writes(node):
    """The operation changes one of its arguments in place."""
    schema = getattr(node.target, "_schema", None)
    return schema is not None and schema.is_mutable


def _output(graph):
    return next(node for node in graph.graph.nodes if node.op == "output")


def _run(graph, leaves, arguments):
    """node -> its value, arrays for tensors; that of the output is a flat list of tensors.

    Own tensors are copied first: an operation in place must not change the module or the example. A cast to any
    floating type is one to double.
    """
    import torch
    from torch.utils._pytree import tree_leaves, tree_map

    env, kept = {}, {}
    with torch.no_grad():
        for node in graph.graph.nodes:
            if node.op == "placeholder":
                kind, what = leaves[node]
                value = (arguments[what] if kind == "input" else what.detach()).clone()
            elif node.op == "get_attr":
                value = graph
                for part in node.target.split("."):
                    value = getattr(value, part)
            elif node.op == "output":
                kept[node] = [v for v in tree_leaves(node.args) if isinstance(v, torch.fx.Node)]
                kept[node] = [env[v] for v in kept[node]]
                continue
            else:
                args, kwargs = tree_map(_doubled, (node.args, node.kwargs))
                args = torch.fx.node.map_arg(args, env.__getitem__)
                kwargs = torch.fx.node.map_arg(kwargs, env.__getitem__)
                value = node.target(*args, **kwargs)
            env[node] = value
            kept[node] = _kept(value)
    return kept


def _doubled(argument):
    import torch

    return torch.double if isinstance(argument, torch.dtype) and argument.is_floating_point else argument


def _kept(value):
    if isinstance(value, list | tuple):
        return [_kept(v) for v in value]
    return _array(value) if hasattr(value, "detach") else value


# ---------------------------------------------------------------- translation


def _translate(translation, graph, values, env):
    """Declare the nodes on the way to the outputs; returns the names of these."""
    import torch
    from torch.fx import Node
    from torch.utils._pytree import tree_leaves

    results = [node for node in tree_leaves(_output(graph).args) if isinstance(node, Node)]
    needed = set(results)
    for node in reversed(list(graph.graph.nodes)):
        if node in needed or _writes(node):
            needed.update((node, *node.all_input_nodes))
    outputs = ["y"] if len(results) == 1 else [f"y{k}" for k in range(len(results))]
    wanted = dict(zip(results, outputs, strict=True)) if len(set(results)) == len(results) else {}
    for node in graph.graph.nodes:
        if node in env or node not in needed or node.op == "output":
            continue
        name = wanted.get(node) or _name(node)
        if node.op in ("placeholder", "get_attr") or not any(_follows(env[n]) for n in node.all_input_nodes):
            env[node] = values[node]
            if torch.Tag.nondeterministic_seeded in getattr(node.target, "tags", ()):
                translation.refuse(_name(node), str(node.target), "random; draw it once and pass it as an input")
            continue
        try:
            env[node] = _node(translation, name, node, values, env)
        except (ValueError, TypeError, KeyError, IndexError) as error:
            reason = "no node function" if isinstance(error, _Unknown) else str(error) or type(error).__name__
            translation.refuse(_name(node), str(node.target), reason)
            env[node] = _stand_in(translation, name, values[node])
    found = []
    for node, name in zip(results, outputs, strict=True):
        value = env[node]
        if not isinstance(value, str | np.ndarray):
            translation.refuse(_name(node), str(node.target), "its result is no array of real numbers")
        elif value != name if isinstance(value, str) else True:
            value = translation.emit(name, layers.linear, translation.named(value, f"{name}.constant"))
        found.append(value)
    return found


def _follows(value):
    """It moves with an input or a parameter."""
    return any(map(_follows, value)) if isinstance(value, list) else isinstance(value, str | Comparison)


def _name(node):
    """The module that computes the node, if it is one of torch's own; else its path and the operation."""
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    path, kind = (stack[-1] if stack else ("", ""))[:2]
    path = path.removeprefix("L['self'].").removeprefix("L['self']")
    kind = kind if isinstance(kind, str) else f"{kind.__module__}.{kind.__qualname__}"
    leaf = kind.startswith("torch.nn.modules.") and not kind.startswith(("torch.nn.modules.transformer",))
    if not path:
        return node.name
    return path if leaf and "MultiheadAttention" not in kind else f"{path}.{node.name}"


def _stand_in(translation, name, value):
    if isinstance(value, list):
        return [_stand_in(translation, f"{name}.{k}", v) for k, v in enumerate(value)]
    if isinstance(value, np.ndarray) and value.dtype.kind == "f" and value.size:
        return translation.stand_in(name, value)
    return value


class _Unknown(ValueError):
    """There is no handler for an operation."""


def _node(translation, name, node, values, env):
    """What env holds for a node: a name, a list of names, or a Comparison."""
    if node.target is operator.getitem:
        return env[node.args[0]][node.args[1]]
    schema = getattr(node.target, "_schema", None)
    if schema is None or not schema.name.startswith("aten::"):
        raise _Unknown

    def resolved(value):
        import torch

        if isinstance(value, torch.fx.Node):
            return env[value]
        return [resolved(v) for v in value] if isinstance(value, list | tuple) else value

    given = dict(node.kwargs)
    for argument, value in zip(schema.arguments, node.args, strict=False):
        given[argument.name] = value
    arguments = {
        a.name: resolved(given[a.name]) if a.name in given else a.default_value if a.has_default_value() else None
        for a in schema.arguments
    }
    operation = schema.name.removeprefix("aten::")
    in_place = operation.endswith("_") and not operation.endswith("__")
    operation = operation.rstrip("_") if in_place else operation
    handler = _HANDLERS.get(operation.removeprefix("_")) or _HANDLERS.get(operation)
    if handler is None:
        raise _Unknown
    if not in_place:
        return handler(translation, name, _Arguments(arguments), values[node])
    same = [n for n in node.graph.nodes if _written_to(n) is _written_to(node)]
    if any(map(_views, [same[0], *(user for n in same for user in n.users)])):
        raise ValueError("an operation in place on what has views; write it as an expression")
    found = handler(translation, name, _Arguments(arguments), values[node])
    env.update((n, found) for n in same if n in env)
    return found


def _written_to(node):
    """The node whose array a chain of operations in place returns."""
    while _writes(node):
        node = node.args[0]
    return node


def _views(node):
    """The operation returns an array that may share memory with an argument, which it does not change."""
    schema = getattr(node.target, "_schema", None)
    return schema is not None and not schema.is_mutable and any(r.alias_info is not None for r in schema.returns)


class _Arguments(dict):
    """The arguments of an operation by name, readable as attributes."""

    __getattr__ = dict.__getitem__


# ---------------------------------------------------------------- aten operations


def _unary(fun):
    return lambda t, name, a, value: t.emit(name, fun, a.self)


def _scaled(operand, alpha, t, name):
    """alpha times an operand, a name or a constant."""
    if alpha in (None, 1):
        return operand
    return t.chain(f"{name}.alpha", operand, ("", rescaled(alpha))) if isinstance(operand, str) else operand * alpha


def _sum(t, name, a, value, kind="add"):
    return t.binary(name, kind, a.self, _scaled(a.other, a.get("alpha"), t, name))


def _reverse_difference(t, name, a, value):
    return t.binary(name, "subtract", a.other, _scaled(a.self, a.get("alpha"), t, name))


def _divided(t, name, a, value):
    if a.get("rounding_mode") is not None:
        raise ValueError("division that rounds jumps")
    return t.binary(name, "divide", a.self, a.other)


def _two(kind):
    def handler(t, name, a, value):
        if "other" not in a:
            raise ValueError("extrema over axes; write them with maximum and minimum of two arrays")
        return t.binary(name, kind, a.self, a.other)

    return handler


def _powered(t, name, a, value):
    base, exponent = a.self, a.exponent
    if not isinstance(base, str) or isinstance(exponent, str) or np.size(exponent) > 1:
        raise ValueError("a power takes a fixed number as exponent")
    return t.power(name, base, exponent)


def _addmm(t, name, a, value):
    """beta self + alpha mat1 mat2."""
    beta, alpha = a.get("beta"), a.get("alpha")
    left, right = (a[k] for k in (("mat1", "mat2") if "mat1" in a else ("batch1", "batch2")))
    plain = beta in (None, 1) and alpha in (None, 1) and "mat1" in a
    if plain and t.shape(a.self) == t.shape(right)[1:]:
        W = t.permute(f"{name}.transpose", t.named(right, f"{name}.right"), (1, 0))
        return t.linear(name, left, W, a.self)
    product = _scaled(t.matmul(f"{name}.product", left, right), alpha, t, name)
    return t.binary(name, "add", product, _scaled(a.self, beta, t, f"{name}.beta"))


def _comparison(swapped):
    def handler(t, name, a, value):
        found = Comparison(a.self, a.other)
        return found.swapped() if swapped else found

    return handler


def _negation(t, name, a, value):
    if not isinstance(a.self, Comparison):
        raise ValueError("a logical operation on no comparison")
    return a.self.swapped()


def _pair(value, dims):
    value = list(value) if isinstance(value, list | tuple) else [value]
    return tuple(int(n) for n in (value * dims if len(value) == 1 else value))


def _convolution(t, name, a, value):
    dims = len(t.shape(a.weight)) - 2
    if a.get("transposed"):
        raise ValueError("a transposed convolution")
    stride, dilation = _pair(a.stride, dims), _pair(a.dilation, dims)
    if a.padding == "valid":
        before = after = (0,) * dims
    elif a.padding == "same":
        total = [d * (k - 1) for d, k in zip(dilation, t.shape(a.weight)[2:], strict=True)]
        before = tuple(n // 2 for n in total)
        after = tuple(n - n // 2 for n in total)
    else:
        before = after = _pair(a.padding, dims)
    batched = len(t.shape(a.input)) == dims + 2
    x = t.named(a.input, f"{name}.x")
    x = x if batched else t.reshape(f"{name}.sample", x, (1, *t.shape(x)))
    y = t.convolution(
        name if batched else f"{name}.row", x, a.weight, a.bias, stride, before, after, dilation, a.groups
    )
    return y if batched else t.reshape(name, y, value.shape)


def _max_pool(t, name, a, value):
    value = value[0] if isinstance(value, list) else value
    dims = len(value.shape) - 2
    size, pad = _pair(a.kernel_size, dims), _pair(a.padding, dims)
    found = t.max_pool(
        name, a.self, size, _pair(a.stride or size, dims), pad, pad, _pair(a.dilation, dims), value.shape
    )
    return found


def _max_pool_and_places(t, name, a, value):
    return [_max_pool(t, name, a, value), value[1]]


def _average_pool(t, name, a, value):
    dims = len(value.shape) - 2
    if a.get("divisor_override") is not None:
        raise ValueError("divisor_override")
    size, pad = _pair(a.kernel_size, dims), _pair(a.padding, dims)
    stride, counts = _pair(a.stride or size, dims), bool(a.count_include_pad)
    return t.average_pool(name, a.self, size, stride, pad, pad, value.shape, padding_counts=counts)


def _batch_norm(t, name, a, value):
    if a.get("training") or a.running_mean is None:  # moments of the batch, in evaluation too
        if a.running_mean is not None:
            raise ValueError("batch normalization in training mode; call eval() where the module calls train()")
        parents = [t.named(p, f"{name}.{k}") for k, p in enumerate((a.weight, a.bias)) if p is not None]
        return t.emit(name, partial(layers.batch_norm, eps=a.eps), a.input, *parents)
    return t.batch_norm(name, a.input, a.weight, a.bias, a.running_mean, a.running_var, a.eps)


def _batch_norm_fixed(t, name, a, value):
    return [t.batch_norm(name, a.input, a.weight, a.bias, a.running_mean, a.running_var, a.eps), None, None]


def _layer_norm(t, name, a, value):
    return t.layer_norm(name, a.input, a.weight, a.bias, a.eps, len(a.normalized_shape))


def _gelu(t, name, a, value):
    return t.emit(name, layers.gelu_tanh if a.approximate == "tanh" else layers.gelu, a.self)


def _softplus(t, name, a, value):
    """Smooth everywhere: torch goes over to x above its threshold, exp(-threshold) away."""
    beta = float(a.get("beta") or 1.0)
    steps = ("beta", rescaled(beta)), ("softplus", layers.softplus), ("scaled", rescaled(1 / beta))
    return t.chain(name, a.self, *steps)


def _leaky(t, name, a, value):
    return t.leaky(name, a.self, a.negative_slope)


def _hard_sigmoid(t, name, a, value):
    scaled = t.emit(f"{name}.scaled", rescaled(1 / 6, 0.5), a.self)
    return t.clip(name, scaled, 0.0, 1.0)


def _hard_swish(t, name, a, value):
    return t.binary(name, "multiply", a.self, _hard_sigmoid(t, f"{name}.gate", a, value))


def _softmax(t, name, a, value, log=False):
    return t.softmax(name, a.self, a.dim, log)


def _attention(t, name, a, value):
    causal, shift = bool(a.is_causal), None
    if a.attn_mask is not None:
        if isinstance(a.attn_mask, str):
            raise ValueError("attention with a mask that moves")
        mask = np.asarray(a.attn_mask)
        allowed = mask if mask.dtype == bool else ~np.isneginf(mask)
        if mask.dtype != bool and np.isfinite(mask).all():
            shift = mask if mask.any() else None
        elif np.array_equal(
            np.broadcast_to(allowed, mask.shape), np.broadcast_to(np.tri(*mask.shape[-2:]) > 0, mask.shape)
        ):
            causal = True
            if mask.dtype != bool and np.any(mask[allowed]):
                raise ValueError("a mask that is neither finite nor causal")
        elif not allowed.all():
            raise ValueError("a mask that is neither finite nor causal")
    if a.dropout_p:
        raise ValueError("attention with random dropout")
    if a.get("enable_gqa"):
        raise ValueError("attention with grouped queries")
    return t.attention(name, a.query, a.key, a.value, causal=causal, scale=a.scale, shift=shift)


def _identity(t, name, a, value):
    operand = a.self if "self" in a else a.input
    if isinstance(operand, str) and value.dtype.kind != "f":
        raise ValueError(f"a cast to {value.dtype} jumps")
    return operand


def _dropout(t, name, a, value):
    if a.get("train") or a.get("training"):
        raise ValueError("random dropout; pass training=self.training")
    return a.input


def _shaped(t, name, a, value):
    return t.reshape(name, a.self, value.shape)


def _flipped(t, name, a, value):
    ndim = len(t.shape(a.self))
    one, two = (a.dim0, a.dim1) if "dim0" in a else (0, 1)
    order = list(range(ndim))
    if ndim > 1:
        order[one], order[two] = order[two], order[one]
    return t.permute(name, a.self, order)


def _matrices_flipped(t, name, a, value):
    ndim = len(t.shape(a.self))
    return t.permute(name, a.self, (*range(ndim - 2), ndim - 1, ndim - 2))


def _at(t, name, a, value, key):
    axis = a.dim % len(t.shape(a.self))
    return t.part(name, a.self, (slice(None),) * axis + (key,))


def _slice(t, name, a, value):
    length = t.shape(a.self)[a.dim]
    start, stop, step = slice(a.start, a.end, a.step).indices(length)
    return _at(t, name, a, value, slice(start, max(start, stop), step))


def _narrow(t, name, a, value):
    start = a.start % t.shape(a.self)[a.dim]
    return _at(t, name, a, value, slice(start, start + a.length, 1))


def _written(t, name, a, value, key):
    """self with src in place of its entries at `key` of an axis."""
    index = (slice(None),) * (a.dim % value.ndim) + (key,)
    kept, src = np.ones(value.shape), np.zeros(value.shape)
    kept[index] = 0.0
    if isinstance(a.src, str):
        src = t.broadcast(f"{name}.src", a.src, kept[index].shape)
        src = t.emit(f"{name}.written", partial(layers.spread, shape=value.shape, index=index), src)
    else:
        src[index] = a.src
    rest = a.self * kept if not isinstance(a.self, str) else t.binary(f"{name}.kept", "multiply", a.self, kept)
    return t.binary(name, "add", rest, src)


def _filled(t, name, a, value):
    """A number, or a scalar, in every entry."""
    return t.broadcast(name, a.value, value.shape) if isinstance(a.value, str) else value


def _index(t, name, a, value):
    keys = tuple(slice(None) if key is None else np.asarray(key) for key in a.indices)
    if any(isinstance(key, np.ndarray) and key.dtype.kind not in "iu" for key in keys):
        raise ValueError("an index that is no array of integers")
    return t.part(name, a.self, keys)


def _embedding(t, name, a, value):
    if isinstance(a.indices, str):
        raise ValueError("indices that move")
    return t.emit(name, partial(layers.part, index=(np.asarray(a.indices),)), a.weight)


def _runs(t, name, a, value):
    axis = a.get("dim") or 0
    return t.split(name, a.self, axis, [v.shape[axis] for v in value])


def _unbind(t, name, a, value):
    return [_at(t, f"{name}.{k}", a, v, k) for k, v in enumerate(value)]


def _cat(t, name, a, value):
    return t.concatenate(name, a.tensors, a.dim)


def _stack(t, name, a, value):
    axis = a.dim % value.ndim
    parts = []
    for k, operand in enumerate(a.tensors):
        operand = t.named(operand, f"{name}.{k}")
        shape = t.shape(operand)
        parts.append(t.reshape(f"{name}.{k}", operand, (*shape[:axis], 1, *shape[axis:])))
    return t.concatenate(name, parts, axis)


def _mean(t, name, a, value, total=False):
    axes = a.get("dim")
    axes = None if axes is None or axes == [] else axes
    return t.mean(name, a.self, axes, bool(a.get("keepdim")), total)


def _constant(t, name, a, value):
    return value


_HANDLERS = {
    **dict.fromkeys("dropout feature_dropout alpha_dropout feature_alpha_dropout native_dropout".split(), _dropout),
    **dict.fromkeys("contiguous clone alias positive lift_fresh_copy to to_copy identity".split(), _identity),
    **dict.fromkeys(
        "view reshape unsafe_view flatten unflatten squeeze unsqueeze ravel view_as reshape_as".split(), _shaped
    ),
    **dict.fromkeys("transpose t swapaxes swapdims numpy_T".split(), _flipped),
    **dict.fromkeys("mT adjoint".split(), _matrices_flipped),
    **dict.fromkeys("zeros_like ones_like full_like new_zeros new_ones new_full sym_size sym_numel".split(), _constant),
    **dict.fromkeys("chunk split split_with_sizes tensor_split".split(), _runs),
    **dict.fromkeys("matmul mm bmm mv dot".split(), lambda t, n, a, v: t.matmul(n, a.self, _right(a))),
    **dict.fromkeys("copy".split(), lambda t, n, a, v: t.broadcast(n, t.named(a.src, n), v.shape)),
    **dict.fromkeys("gt ge".split(), _comparison(False)),
    **dict.fromkeys("lt le".split(), _comparison(True)),
    **dict.fromkeys("addmm baddbmm".split(), _addmm),
    **dict.fromkeys("conv1d conv2d convolution".split(), _convolution),
    **dict.fromkeys("max_pool1d max_pool2d".split(), _max_pool),
    **dict.fromkeys("avg_pool1d avg_pool2d".split(), _average_pool),
    **dict.fromkeys("max_pool1d_with_indices max_pool2d_with_indices".split(), _max_pool_and_places),
    **dict.fromkeys(
        "adaptive_avg_pool1d adaptive_avg_pool2d".split(),
        lambda t, n, a, v: t.adaptive(n, a.self, _pair(a.output_size, v.ndim - 2)),
    ),
    **dict.fromkeys(
        "adaptive_max_pool1d adaptive_max_pool2d".split(),
        lambda t, n, a, v: [t.adaptive(n, a.self, _pair(a.output_size, v[0].ndim - 2), maximum=True), v[1]],
    ),
    "linear": lambda t, n, a, v: t.linear(n, a.input, a.weight, a.bias),
    "batch_norm": _batch_norm,
    "native_batch_norm_legit_no_training": _batch_norm_fixed,
    "layer_norm": _layer_norm,
    "native_layer_norm": lambda t, n, a, v: [_layer_norm(t, n, a, v), None, None],
    "group_norm": lambda t, n, a, v: t.group_norm(n, a.input, a.weight, a.bias, a.eps, a.num_groups),
    "relu": _unary(layers.relu),
    "relu6": _unary(layers.relu6),
    "abs": _unary(layers.absolute),
    "tanh": _unary(layers.tanh),
    "sigmoid": _unary(layers.sigmoid),
    "silu": _unary(layers.silu),
    "exp": _unary(layers.exponential),
    "erf": _unary(layers.error_function),
    "neg": lambda t, n, a, v: t.emit(n, rescaled(-1.0), a.self),
    "square": lambda t, n, a, v: t.power(n, a.self, 2.0),
    "sqrt": lambda t, n, a, v: t.power(n, a.self, 0.5),
    "rsqrt": lambda t, n, a, v: t.power(n, a.self, -0.5),
    "reciprocal": lambda t, n, a, v: t.power(n, a.self, -1.0),
    "pow": _powered,
    "gelu": _gelu,
    "softplus": _softplus,
    "leaky_relu": _leaky,
    "hardsigmoid": _hard_sigmoid,
    "hardswish": _hard_swish,
    "hardtanh": lambda t, n, a, v: t.clip(n, a.self, a.min_val, a.max_val),
    "clamp": lambda t, n, a, v: t.clip(n, a.self, a.min, a.max),
    "clamp_min": lambda t, n, a, v: t.clip(n, a.self, a.min),
    "clamp_max": lambda t, n, a, v: t.clip(n, a.self, None, a.max),
    "threshold": lambda t, n, a, v: t.clip(n, a.self, _threshold(a)),
    "softmax": _softmax,
    "log_softmax": partial(_softmax, log=True),
    "scaled_dot_product_attention": _attention,
    "add": _sum,
    "sub": partial(_sum, kind="subtract"),
    "rsub": _reverse_difference,
    "mul": partial(_sum, kind="multiply"),
    "div": _divided,
    "maximum": _two("maximum"),
    "minimum": _two("minimum"),
    "max": _two("maximum"),
    "min": _two("minimum"),
    "where": lambda t, n, a, v: t.where(n, a.condition, a.self, a.other),
    "logical_not": _negation,
    "bitwise_not": _negation,
    "permute": lambda t, n, a, v: t.permute(n, a.self, a.dims),
    "expand": lambda t, n, a, v: t.broadcast(n, a.self, v.shape),
    "expand_as": lambda t, n, a, v: t.broadcast(n, a.self, v.shape),
    "broadcast_to": lambda t, n, a, v: t.broadcast(n, a.self, v.shape),
    "select": lambda t, n, a, v: _at(t, n, a, v, int(a.index)),
    "slice": _slice,
    "narrow": _narrow,
    "index": _index,
    "fill": _filled,
    "select_scatter": lambda t, n, a, v: _written(t, n, a, v, int(a.index)),
    "slice_scatter": lambda t, n, a, v: _written(t, n, a, v, slice(a.start, a.end, a.step)),
    "index_select": lambda t, n, a, v: _at(t, n, a, v, np.asarray(a.index)),
    "embedding": _embedding,
    "unbind": _unbind,
    "cat": _cat,
    "stack": _stack,
    "mean": _mean,
    "sum": partial(_mean, total=True),
    "pad": lambda t, n, a, v: _padded(t, n, a),
    "constant_pad_nd": lambda t, n, a, v: _padded(t, n, a),
}


def _right(a):
    """The right factor, which every product calls something else."""
    return next(a[key] for key in ("other", "mat2", "vec", "tensor") if key in a)


def _threshold(a):
    if a.threshold != a.value:
        raise ValueError("a threshold whose value differs from it jumps")
    return a.value


def _padded(t, name, a):
    if a.get("mode") not in (None, "constant") or a.value not in (None, 0):
        raise ValueError("padding other than with zeros")
    return t.padded(name, a.self, a.pad[-2::-2], a.pad[::-2])
