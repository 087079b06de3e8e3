"""Does an autodiff framework return an element of the set at x?

At a kink a framework answers by convention. `check_ad` asks it, computes the hull of the true limiting derivatives,
and measures how far outside the answer lies.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import autograd
import numpy as np
from numpy.typing import ArrayLike

from . import primitives
from .fan import MAX_CHAMBERS
from .graph import Graph, from_function, point
from .kinks import TOL
from .limiting import LimitingGradients, LimitingHessians, limiting_gradients, limiting_hessians
from .projection import MinNormElement, nearest_element

SLACK = 1e-9  # relative: frameworks and this library round differently


@dataclass(frozen=True, eq=False, repr=False)
class Audit:
    """What a framework returned at x, held against the truth.

    value: its gradient (n,) or Hessian (n, n). inside: True if it lies in the hull of `elements` to within SLACK of the
    largest norm, False if not; None if it lies outside the elements known but those may be incomplete.
    is_element: whether it is one of the elements themselves. distance: Frobenius distance to the hull, in units of the
    derivative. elements: LimitingGradients or LimitingHessians. nearest: the projection, with its certificate.
    asymmetry: |value - value^T| of a Hessian, 0 for a gradient.
    """

    value: np.ndarray
    inside: bool | None
    is_element: bool
    distance: float
    elements: LimitingGradients | LimitingHessians
    nearest: MinNormElement
    asymmetry: float
    backend: str
    derivative: str

    def __repr__(self) -> str:
        return f"Audit({self})"

    def __str__(self) -> str:
        m = len(self.elements)
        verdict = {
            True: "inside the hull of",
            False: f"outside, at distance {self.distance:.6g} from the hull of",
            None: f"at distance {self.distance:.6g} from the hull of the known",
        }[self.inside]
        if self.is_element:
            verdict = "one of"
        return f"{self.backend}'s {self.derivative} is {verdict} {m} limiting {self.derivative}{'s' * (m != 1)}"


def check_ad(
    f: Callable[..., Any] | Graph,
    x: ArrayLike,
    *,
    derivative: str = "hessian",
    backend: str = "autograd",
    function: Any = None,
    elements: Any = None,
    tol: float = TOL,
    max_chambers: int = MAX_CHAMBERS,
) -> Audit:
    """Compare a framework's gradient or Hessian of f at x with the limiting ones.

    f: autograd.numpy function (n,) -> scalar, or a Graph; x (n,). derivative: "gradient" or "hessian". backend:
    "autograd", "torch" or "jax" (the last two imported here; ImportError names the extra). The framework
    differentiates the operations of f as recorded, in float64; `function` replaces that by a function of your own
    written in the framework (one flat float64 tensor -> scalar), whose value at x must agree with f's. elements: the
    LimitingGradients or LimitingHessians of f at x where they are already at hand; tol and max_chambers, which are for
    finding them, are then not used.
    Raises ValueError for an unknown derivative or backend, and what `limiting_hessians` raises.
    """
    if derivative not in ("gradient", "hessian"):
        raise ValueError(f"derivative must be 'gradient' or 'hessian'; got {derivative!r}")
    if backend not in _BACKENDS:
        raise ValueError(f"backend must be one of {', '.join(map(repr, _BACKENDS))}; got {backend!r}")
    graph = from_function(f, x)
    x = point(x, graph.size)
    kind, limiting = _LIMITING[derivative]
    if elements is None:
        elements = limiting(graph, x, tol=tol, max_chambers=max_chambers)
    elif not isinstance(elements, kind):
        raise ValueError(f"elements: a {derivative} is held against {kind.__name__}; got {type(elements).__name__}")
    corners = elements.vectors if isinstance(elements, LimitingGradients) else elements.matrices
    if corners.shape[-1] != x.size:
        raise ValueError(f"elements: of a function of {corners.shape[-1]} variables; x has {x.size}")
    ignores_x = graph.output is None and function is None  # autograd would warn about it
    written = graph if backend != "autograd" or ignores_x else f
    answer = _BACKENDS[backend](function or written, x, derivative)
    expected, value = float(np.reshape(graph(x), ())), float(np.reshape(answer[0], ()))
    if abs(value - expected) > 1e-6 * (abs(value) + abs(expected)) + 1e-12:
        raise ValueError(
            f"function: {backend} evaluates it to {value!r} at x, f is {expected!r}; pass the same function"
        )
    derived = np.array(answer[1], dtype=float).reshape(corners.shape[1:])
    if not np.all(np.isfinite(derived)):
        raise ValueError(f"{backend}'s {derivative} is not finite at x: {derived.ravel()[:4]}")
    nearest = nearest_element(elements, derived)
    distance = float(nearest.distance)
    scale = float(max(np.abs(corners).max(), np.abs(derived).max())) * np.sqrt(derived.size) or 1.0
    inside = True if distance <= SLACK * scale else False if elements.complete else None
    gaps = np.abs(corners - derived).reshape(len(corners), -1).max(axis=1)
    asymmetry = float(np.abs(derived - derived.T).max()) if derivative == "hessian" else 0.0
    derived.flags.writeable = False
    is_element = bool(gaps.min() <= SLACK * scale)
    return Audit(derived, inside, is_element, distance, elements, nearest, asymmetry, backend, derivative)


def _autograd(f, x, derivative):
    x = np.array(x)
    operator = primitives.grad if derivative == "gradient" else primitives.hessian
    with np.errstate(all="ignore"):
        if isinstance(f, Graph) and f.output is None:
            return f(x), np.zeros((x.size,) * (1 if derivative == "gradient" else 2))
        return f(x), operator(lambda y: autograd.numpy.reshape(f(y), ()))(x)


def _jax(f, x, derivative):
    try:
        import jax
        import jax.numpy as jnp
    except ImportError as error:
        raise ImportError("backend 'jax' needs jax: pip install 'clarke[jax]'") from error
    run = _translated(f, _jax_operations(jnp)) if isinstance(f, Graph) else f
    with jax.enable_x64(True):
        y = jnp.asarray(np.array(x))
        operator = jax.grad if derivative == "gradient" else jax.hessian
        return np.asarray(run(y)), np.asarray(operator(lambda z: jnp.reshape(run(z), ()))(y))


def _torch(f, x, derivative):
    try:
        import torch
    except ImportError as error:
        raise ImportError("backend 'torch' needs torch: pip install 'clarke[torch]'") from error
    run = _translated(f, _torch_operations(torch)) if isinstance(f, Graph) else f
    y = torch.tensor(np.array(x), dtype=torch.float64, requires_grad=True)
    value = run(y).reshape(())
    if derivative == "gradient":
        found = torch.autograd.grad(value, y)[0]
    else:
        found = torch.autograd.functional.hessian(lambda z: run(z).reshape(()), y.detach())
    return value.detach().numpy(), found.detach().numpy()


_LIMITING = {
    "gradient": (LimitingGradients, limiting_gradients),
    "hessian": (LimitingHessians, limiting_hessians),
}
_BACKENDS = {"autograd": _autograd, "torch": _torch, "jax": _jax}


# ---------------------------------------------------------------- a recorded graph in another framework


def _translated(graph, operation):
    """The recorded operations as a function in the framework; `operation(name)` is its namesake there."""

    def run(y):
        if graph.output is None:
            return y.sum() * 0 + float(graph.constant)
        values = [y]
        for op in graph.operations:
            values.append(operation(op.name)(*op.fill(values), **op.kwargs))
        return values[graph.output]

    return run


def _jax_operations(jnp):
    import jax

    special = {
        "getitem": lambda a, index: a[index],
        "container_take": lambda a, index: a[index],
        "concatenate_args": lambda axis, *parts: jnp.concatenate(parts, axis),
        "array_from_args": lambda args, kwargs, *parts: jnp.array(parts),
        "_array_from_scalar_or_array": lambda args, kwargs, a: jnp.array(a),
        "clarke.where": lambda guard, a, b: jnp.where(guard >= 0, a, b),
        "linalg.norm": jnp.linalg.norm,
        "logsumexp": jax.scipy.special.logsumexp,
    }

    def operation(name):
        name = name.removeprefix("numpy.")
        if name in special:
            return special[name]
        for module in (jnp, jnp.linalg, jax.scipy.special):
            found = getattr(module, name, None)
            if found is not None:
                return found
        raise primitives.UnsupportedPrimitive(f"{name} has no counterpart in jax; pass function= written in jax")

    return operation


def _torch_operations(torch):
    """Namesakes in torch, for the operations that networks and their losses are made of."""

    def tensor(a):
        return a if isinstance(a, torch.Tensor) else torch.as_tensor(np.array(a, dtype=float))

    def extremum(name):
        def reduce(a, axis=None, out=None, keepdims=False):
            if axis is None:
                return getattr(torch, name)(a)
            return getattr(torch, f"a{name}")(a, dim=axis, keepdim=bool(keepdims))

        return reduce

    def reduction(name):
        def reduce(a, axis=None, dtype=None, out=None, keepdims=False):
            over = {} if axis is None else {"dim": axis, "keepdim": bool(keepdims)}
            return getattr(torch, name)(a, **over)

        return reduce

    def clip(a, a_min=None, a_max=None, **names):
        low, high = names.get("min", a_min), names.get("max", a_max)
        return torch.clamp(a, None if low is None else tensor(low), None if high is None else tensor(high))

    def norm(a, ord=None, axis=None, keepdims=False):
        return torch.linalg.norm(a, ord=ord, dim=axis, keepdim=bool(keepdims))

    def dot(a, b):
        return tensor(a) @ tensor(b) if min(np.ndim(a), np.ndim(b)) else tensor(a) * tensor(b)

    def writable(index):  # torch warns of arrays that are not, as those of a recording
        parts = index if isinstance(index, tuple) else (index,)
        copied = tuple(np.array(part) if isinstance(part, np.ndarray) else part for part in parts)
        return copied if isinstance(index, tuple) else copied[0]

    special = {
        "getitem": lambda a, index: a[writable(index)],
        "concatenate_args": lambda axis, *parts: torch.cat([tensor(p) for p in parts], dim=axis),
        "array_from_args": lambda args, kwargs, *parts: torch.stack([tensor(p) for p in parts]),
        "_array_from_scalar_or_array": lambda args, kwargs, a: tensor(a),
        "clarke.where": lambda guard, a, b: torch.where(guard >= 0, tensor(a), tensor(b)),
        "where": lambda condition, a, b: torch.where(torch.as_tensor(np.array(condition)), tensor(a), tensor(b)),
        "max": extremum("max"),
        "amax": extremum("max"),
        "min": extremum("min"),
        "amin": extremum("min"),
        "sum": reduction("sum"),
        "mean": reduction("mean"),
        "clip": clip,
        "linalg.norm": norm,
        "sort": lambda a, axis=-1: torch.sort(a, dim=axis).values,
        "dot": dot,
        "reshape": lambda a, shape, *rest: a.reshape((shape, *rest) if np.ndim(shape) == 0 else tuple(shape)),
        "ravel": lambda a: a.reshape(-1),
        "transpose": lambda a, axes=None: a.permute(tuple(axes) if axes is not None else tuple(range(a.ndim))[::-1]),
        "power": lambda a, b: torch.pow(tensor(a), tensor(b)),
        "expit": torch.sigmoid,
        "logsumexp": lambda a, axis=None, b=1.0, keepdims=False: torch.logsumexp(
            a, dim=tuple(range(a.ndim)) if axis is None else axis, keepdim=keepdims
        ),
        "einsum": lambda subscripts, *parts: torch.einsum(subscripts, *(tensor(p) for p in parts)),
        "squeeze": lambda a, axis=None: a.squeeze() if axis is None else a.squeeze(axis),
        "expand_dims": lambda a, axis: a.unsqueeze(axis),
    }
    elementwise = """maximum minimum fmax fmin abs add subtract multiply divide true_divide negative matmul exp log
        log1p expm1 sqrt square sin cos tan tanh sinh cosh arctan logaddexp reciprocal erf""".split()

    def operation(name):
        name = name.removeprefix("numpy.")
        if name in special:
            return special[name]
        if name in elementwise:
            function = getattr(torch, name)
            return lambda *args: function(*(tensor(a) for a in args))
        raise primitives.UnsupportedPrimitive(f"{name} has no counterpart in torch; pass function= written in torch")

    return operation
