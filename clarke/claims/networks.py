"""Small networks as one writes them down, and their derivatives of second order, independent of every other room.

A case is {"inputs": {"x": 1}, "parameters": {"t": 2}, "nodes": {"h": "x * t"}, "losses": ["square(h)"]}. A formula is a
sum or a product of terms, entry by entry, under one function: `h + [[1, 2]] x`, `-1 x * t`, `tanh(2 h)`; a term is a
name after a number or a matrix, square(z) = z^2 / 2 and cube(z) = z^3 / 3. A loss is the sum of the entries of its
formula. Every array is a vector. Keys without content may be left out.

`truth` differentiates such a case forward, value, slope and curvature at once, in the perturbations of all arrays.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import autograd.numpy as anp
import numpy as np
from numpy.typing import NDArray

from ..network import Network
from .statements import Case, Evidence, assume, equal

CLEAR = 1e-6  # of the kink of relu, so that no tolerance makes one active
LARGE = 170.0  # for tanh: its second derivative by autograd divides by cosh^4, which overflows beyond 178

SHAPES = {
    "": lambda z: (z, 1.0 + 0 * z, 0 * z),
    "tanh": lambda z: (np.tanh(z), 1 - np.tanh(z) ** 2, -2 * np.tanh(z) * (1 - np.tanh(z) ** 2)),
    "square": lambda z: (z**2 / 2, z, 1.0 + 0 * z),
    "cube": lambda z: (z**3 / 3, z**2, 2 * z),
    "relu": lambda z: (np.maximum(z, 0), (z > 0) + 0.0, 0 * z),
}
"""name -> z -> (value, first, second derivative), entry by entry."""


# ---------------------------------------------------------------- formulas


def parsed(text: str) -> tuple[str, str, tuple[tuple[Any, ...], ...]]:
    """(name of the function, " + " or " * ", ((coefficient, array name), ...)); a coefficient is 1.0 or as written."""
    under = re.fullmatch(r"(\w+)\((.*)\)", text)
    shape, body = under.groups() if under else ("", text)
    joint = " * " if " * " in body else " + "
    terms = (term.rpartition(" ") for term in body.split(joint))
    return shape, joint, tuple((np.array(json.loads(A or "1.0"), dtype=float), name) for A, _, name in terms)


def readers(text: str) -> tuple[str, ...]:
    """The names a formula reads, each once."""
    return tuple(dict.fromkeys(name for _, name in parsed(text)[2]))


def _times(A, z):
    return anp.dot(A, z) if A.ndim == 2 else A * z


def evaluated(*arrays: np.ndarray, formula: tuple[str, str, tuple[tuple[Any, ...], ...]]) -> NDArray[Any]:
    """A formula at arrays, in the order of its terms: a node function for `clarke.Network`."""
    shape, joint, terms = formula
    found = [_times(A, z) for (A, _), z in zip(terms, arrays, strict=True)]
    total = found[0]
    for other in found[1:]:
        total = total * other if joint == " * " else total + other
    if shape in ("square", "cube"):
        return total**2 / 2 if shape == "square" else total**3 / 3
    return {"": lambda z: z, "tanh": anp.tanh, "relu": lambda z: anp.maximum(z, 0.0)}[shape](total)


def summed(*arrays: np.ndarray, formula: tuple[str, str, tuple[tuple[Any, ...], ...]]) -> NDArray[Any] | float:
    """The sum of the entries of a formula: a loss."""
    return anp.sum(evaluated(*arrays, formula=formula))


def build(case: Case) -> Network:
    """The case as a `clarke.Network`."""
    network = Network()
    for name, value in case.get("inputs", {}).items():
        network.input(name, np.atleast_1d(np.array(value, dtype=float)))
    for name, value in case.get("parameters", {}).items():
        network.parameter(name, np.atleast_1d(np.array(value, dtype=float)))
    for name, text in case["nodes"].items():
        formula = parsed(text)
        network.node(name, partial(evaluated, formula=formula), *(read for _, read in formula[2]))
    for text in case["losses"]:
        formula = parsed(text)
        network.loss(partial(summed, formula=formula), *(read for _, read in formula[2]))
    return network


def untied(case: Case) -> dict[str, Any]:
    """The case with a copy of its own, t_a, of every parameter t for every node a that reads it."""
    copies, nodes = {}, {}
    for node, text in case["nodes"].items():
        for name, value in case.get("parameters", {}).items():
            if name in readers(text):
                copies[f"{name}_{node}"] = value
                text = re.sub(rf"\b{name}\b", f"{name}_{node}", text)
        nodes[node] = text
    return {**case, "parameters": copies, "nodes": nodes}


# ---------------------------------------------------------------- derivatives, forward


@dataclass(frozen=True, eq=False)
class Jet:
    """value (d,), slope (d, N), curvature (d, N, N) in N variables."""

    value: np.ndarray
    slope: np.ndarray
    curvature: np.ndarray


def _term(A, jet):
    """Value, slope and curvature of A times a jet."""
    parts = (jet.value, jet.slope, jet.curvature)
    return tuple(np.tensordot(A, part, 1) if A.ndim == 2 else A * part for part in parts)


def _jet(formula, jets):
    """The formula of jets. OutsideHypothesis where a relu is at its kink, or a tanh at a number beyond LARGE."""
    shape, joint, terms = formula
    (v, J, T), *others = (_term(A, jets[name]) for A, name in terms)
    for w, G, R in others:
        if joint == " + ":
            v, J, T = v + w, J + G, T + R
        else:
            crossed = J[:, :, None] * G[:, None, :]
            T = v[:, None, None] * R + w[:, None, None] * T + crossed + crossed.swapaxes(1, 2)
            v, J = v * w, v[:, None] * G + w[:, None] * J
    if shape == "relu":
        assume((np.abs(v) > CLEAR).all())
    if shape == "tanh":
        assume((np.abs(v) < LARGE).all())
    value, first, second = SHAPES[shape](v)
    bent = second[:, None, None] * J[:, :, None] * J[:, None, :]
    return Jet(value, first[:, None] * J, first[:, None, None] * T + bent)


@dataclass(frozen=True, eq=False)
class Truth:
    """The derivatives of a case, dense over `names`; `at[name]` the entries of a name.

    hessian: d^2 L / d eps^2; gradient: dL / d eps; total[at[u]]: d f_u / d eps; local: d g_u / d f_v, one edge.
    loss_part, tensor_part: K, the direct second derivatives of the losses and, weighted by the gradient, of the nodes.
    """

    names: tuple[str, ...]
    at: dict[str, slice]
    hessian: np.ndarray
    gradient: np.ndarray
    total: np.ndarray
    local: np.ndarray
    loss_part: np.ndarray
    tensor_part: np.ndarray

    @property
    def K(self) -> NDArray[np.float64]:
        """loss_part + tensor_part."""
        return self.loss_part + self.tensor_part

    @property
    def gauss_newton(self) -> NDArray[np.float64]:
        """S^T K^loss S."""
        return self.total.T @ self.loss_part @ self.total

    def block(self, matrix: np.ndarray, v: str, w: str) -> NDArray[np.float64]:
        """What a matrix over `names` has for v and w."""
        return matrix[self.at[v], self.at[w]]

    def over(self, matrix: np.ndarray, names: Iterable[str]) -> NDArray[np.float64]:
        """What it has for several names, side by side."""
        rows = np.concatenate([np.r_[self.at[name]] for name in names])
        return matrix[np.ix_(rows, rows)]


def truth(case: Case) -> Truth:
    """Everything of first and second order of a case. OutsideHypothesis as `_jet`."""
    leaves = {**case.get("inputs", {}), **case.get("parameters", {})}
    values = {name: np.atleast_1d(np.array(value, dtype=float)) for name, value in leaves.items()}
    formulas = {name: parsed(text) for name, text in case["nodes"].items()}
    for name, formula in formulas.items():
        values[name] = evaluated(*(values[read] for _, read in formula[2]), formula=formula)
    ends = np.cumsum([value.size for value in values.values()])
    at = {name: slice(int(end) - value.size, int(end)) for (name, value), end in zip(values.items(), ends, strict=True)}
    n, units = int(ends[-1]), np.eye(ends[-1])
    free = {name: Jet(value, units[at[name]], np.zeros((value.size, n, n))) for name, value in values.items()}
    jets = {name: free[name] for name in leaves}
    for name, formula in formulas.items():
        jet = _jet(formula, jets)
        jets[name] = Jet(jet.value, jet.slope + units[at[name]], jet.curvature)
    whole = [_jet(parsed(text), jets) for text in case["losses"]]
    direct = [_jet(parsed(text), free) for text in case["losses"]]
    gradient = np.sum([jet.slope.sum(0) for jet in whole], axis=0)
    local, tensor_part = np.zeros((n, n)), np.zeros((n, n))
    for name, formula in formulas.items():
        jet = _jet(formula, free)
        local[at[name]] = jet.slope
        tensor_part += np.tensordot(gradient[at[name]], jet.curvature, 1)
    return Truth(
        names=tuple(values),
        at=at,
        hessian=np.sum([jet.curvature.sum(0) for jet in whole], axis=0),
        gradient=gradient,
        total=np.concatenate([jets[name].slope for name in values]),
        local=local,
        loss_part=np.sum([jet.curvature.sum(0) for jet in direct], axis=0),
        tensor_part=tensor_part,
    )


def vertices(case: Case) -> tuple[str, ...]:
    """Inputs and nodes: what the paper calls nodes."""
    return (*case.get("inputs", {}), *case["nodes"])


def pairs(names: Mapping[str, Any] | Sequence[str] | tuple[str, ...]) -> list[tuple[str, str]]:
    """All ordered pairs."""
    return [(v, w) for v in names for w in names]


def worst(
    blocks: Mapping[tuple[str, str], Any],
    true: Mapping[tuple[str, str], Any],
    *,
    name: str = "H",
    found: str = "printed",
) -> Evidence:
    """The block that differs most from the true one, {pair: matrix} both; a block that is not there counts as inf.

    Differences are relative to the largest true entry of all blocks, or to 1: sums of large terms may be small blocks.
    name, found: how the values are called, printed_H and true_H unless told.
    """
    most, scale = Evidence(0.0), max([1.0, *(np.abs(block).max(initial=0.0) for block in true.values())])
    for pair, block in true.items():
        if pair not in blocks:
            evidence = Evidence(np.inf, {f"{found}_{name}": "undefined", f"true_{name}": block})
        else:
            evidence = equal(scale=scale, **{f"{found}_{name}": blocks[pair], f"true_{name}": block})
        if evidence.measure > most.measure or not most.values:
            most = Evidence(evidence.measure, {"block": f"{name}[{', '.join(pair)}]", **evidence.values})
    return most


# ---------------------------------------------------------------- draws

VALUES = (1, -1, 2, 0.5)
ENTRIES = (1, -1, 0, 2, 0.5)


def drawn_value(rng: np.random.Generator, size: int) -> float | list[float]:
    """A number, or a list of `size` of them."""
    return float(rng.choice(VALUES)) if size == 1 else [float(rng.choice(VALUES)) for _ in range(size)]


def drawn_term(rng: np.random.Generator, name: str, columns: int, rows: int) -> str:
    """A term for an array of so many columns: a number where it is 1 to 1, else a matrix."""
    if rows == columns == 1:
        weight = float(rng.choice(VALUES))
        return name if weight == 1 else f"{weight:g} {name}"
    matrix = [[float(rng.choice(ENTRIES)) for _ in range(columns)] for _ in range(rows)]
    return f"{json.dumps(matrix).replace('.0', '')} {name}"


def under(shape: str, body: str) -> str:
    """The formula of a body under a function."""
    return f"{shape}({body})" if shape else body


def drawn(
    rng: np.random.Generator,
    *,
    least: int = 1,
    nodes: int = 4,
    size: int = 2,
    parameters: bool = False,
    shared: bool = False,
    losses: int = 1,
    shapes: Any = ("", "square", "tanh", "relu"),
    product: bool = True,
) -> dict[str, Any]:
    """A network of `least` to `nodes` nodes a, b, ..., up to two parents each, vectors of 1 to `size` entries.

    parameters: each node may read one, of its own or, with `shared`, one that others read too. losses: the first reads
    the last node alone, each further one up to two arrays of any kind but parameters. shapes: functions of nodes;
    product: whether terms may be multiplied.
    """
    sizes = {"x": int(rng.integers(1, size + 1))}
    case = {"inputs": {"x": drawn_value(rng, sizes["x"])}, "parameters": {}, "nodes": {}, "losses": []}

    def formula(parents, rows, functions):
        terms = [drawn_term(rng, parent, sizes[parent], rows) for parent in parents]
        body = (" * " if product and len(terms) > 1 and rng.integers(0, 3) == 2 else " + ").join(terms)
        return under(str(rng.choice(functions)), body)

    above = ["x"]
    for k in range(int(rng.integers(least, nodes + 1))):
        name, rows = "abcdef"[k], int(rng.integers(1, size + 1))
        parents = [above[-1 - int(rng.integers(0, len(above)))]]
        if len(above) > 1 and rng.integers(0, 2):
            parents.append(str(rng.choice([other for other in above if other != parents[0]])))
        if parameters and rng.integers(0, 4) < 3:
            known = list(case["parameters"])
            if shared and known and rng.integers(0, 4) < 3:
                parents.append(str(rng.choice(known)))
            else:
                parents.append("stuvwz"[len(known)])
                sizes[parents[-1]] = int(rng.integers(1, size + 1))
                case["parameters"][parents[-1]] = drawn_value(rng, sizes[parents[-1]])
        case["nodes"][name] = formula(parents, rows, shapes)
        sizes[name] = rows
        above.append(name)
    case["losses"].append(under(str(rng.choice(("square", "", "cube"))), above[-1]))
    for _ in range(int(rng.integers(0, losses))):
        several = above if len(above) < 3 else [str(name) for name in rng.choice(above, size=2, replace=False)]
        case["losses"].append(formula(several, 1, ("square", "", "cube")))
    return {key: value for key, value in case.items() if value}
