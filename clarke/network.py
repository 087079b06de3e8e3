"""A network: a directed acyclic graph of named arrays and of the functions between them.

Inputs and parameters hold arrays, nodes are computed from their parents, losses are summed.
`Network.function` records the loss, or a node, as a Graph of whichever inputs and parameters are
free to move; from there on every question is one about a function of one flat array.
"""

import pickle
import re
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import networkx as nx
import numpy as np
from numpy.typing import ArrayLike, NDArray

from clarke import graph
from clarke.layers import constant

if TYPE_CHECKING:
    from .graph import Graph


class Network:
    """A DAG built name by name; networkx underneath, read it at `dag`.

    `input`, `parameter`, `node` and `loss` add to this network; nothing is ever changed or removed,
    and `at` returns another network. The parents of a node must exist when it is declared, so that
    no cycle can be written. A parent may be named twice, a parameter shared, a node left unused.
    Arrays inside are read-only copies; node values are computed when first asked for.

    Pickles when the functions of its nodes do, otherwise pickle.PicklingError names the node;
    copies share arrays and functions.
    """

    def __init__(self) -> None:
        self._dag = nx.DiGraph()
        self._names = {"input": [], "parameter": [], "node": []}
        self._shared = False  # with a copy: the next declaration writes to a dag of its own
        self._losses = []  # (label, fun, parents), in order of declaration
        self._values = {}  # name -> read-only array: inputs, parameters, nodes computed so far

    # ---- building

    def input(self, name: str, value: ArrayLike) -> None:
        """Declare data `value`, any shape."""
        self._declare(name, "input", value)

    def parameter(self, name: str, value: ArrayLike) -> None:
        """Declare a parameter at `value`, any shape; flat vectors follow the order of calls."""
        self._declare(name, "parameter", value)

    def node(self, name: str, fun: Callable[..., Any], *parents: str) -> None:
        """Declare the node fun(*arrays of the parents), fun an autograd.numpy function.

        ValueError for a name taken, a parent not yet declared, or a fun that cannot be called;
        what fun does to its arrays shows when the node is first evaluated.
        """
        self._check_name(name)
        self._check_call(f"node {name!r}", fun, parents)
        self._enter(name, "node", fun, parents)

    def loss(self, fun: Callable[..., Any], *parents: str) -> None:
        """Add the scalar fun(*arrays of the parents) to the loss; several calls add up."""
        label = f"loss {len(self._losses) + 1}"
        self._check_call(label, fun, parents)
        self._losses.append((label, fun, parents))

    def _declare(self, name, kind, value):
        self._check_name(name)
        self._values[name] = constant(f"{kind} {name!r}", value)
        self._enter(name, kind, None, ())

    def _enter(self, name, kind, fun, parents):
        if self._shared:
            self._dag, self._shared = self._dag.copy(), False
        self._dag.add_node(name, kind=kind, fun=fun, parents=parents)
        self._dag.add_edges_from((parent, name) for parent in parents)
        self._names[kind].append(name)

    def _check_name(self, name):
        if not isinstance(name, str) or not name.strip():
            raise ValueError(f"a name is a nonempty string; got {name!r}")
        if re.search(r"\]$|^loss \d+$", name):  # a kink's name must say whose it is
            raise ValueError(f"{name!r} reads as a unit of a node or as a loss; rename it")
        if name in self._dag:
            raise ValueError(f"{name!r} is taken: names of inputs, parameters and nodes are unique")

    def _check_call(self, owner, fun, parents):
        if not callable(fun):
            raise ValueError(f"the function of {owner} is not callable: {fun!r:.60}")
        if nested := [parent for parent in parents if not isinstance(parent, str)]:
            raise ValueError(f"{owner}: parents are names, one argument each; got {nested[0]!r:.60}")
        if not parents:
            raise ValueError(f"{owner} has no parents; declare a constant as an input")
        unknown = [parent for parent in parents if parent not in self._dag]
        if unknown:
            raise ValueError(f"{owner} has undeclared parents {unknown}; parents come first")

    # ---- reading

    @property
    def dag(self) -> Any:
        """A read-only networkx DiGraph; node data: kind, fun and parents (fun None if a leaf)."""
        return self._dag.copy(as_view=True)

    @property
    def losses(self) -> tuple[Any, ...]:
        """The losses as a tuple of (label, fun, parents)."""
        return tuple(self._losses)

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the inputs, in order of declaration."""
        return tuple(self._names["input"])

    @property
    def parameters(self) -> tuple[str, ...]:
        """Names of the parameters, in order of declaration."""
        return tuple(self._names["parameter"])

    @property
    def nodes(self) -> tuple[str, ...]:
        """Names of the computed nodes, in order of declaration."""
        return tuple(self._names["node"])

    @property
    def size(self) -> int:
        """The number of parameters, counted by entry."""
        return sum(self._values[name].size for name in self.parameters)

    def __repr__(self) -> str:
        leaves = f"{len(self.inputs)} inputs, {len(self.parameters)} parameters of size {self.size}"
        return f"Network({leaves}, {len(self.nodes)} nodes, {len(self._losses)} losses)"

    # ---- evaluating

    def value(self, node: str) -> NDArray[np.float64]:
        """The array of an input, parameter or node, read-only; only its ancestors are evaluated.

        ValueError naming the node whose function fails, with its parents' shapes, or does not
        return a finite real array.
        """
        if not isinstance(node, str):
            raise ValueError(f"a node is asked for by its name; got {node!r:.60}")
        todo = [node]
        while todo:  # depth first, so that only what is missing is touched
            name = todo[-1]
            if name in self._values:
                todo.pop()
                continue
            if name not in self._dag:
                raise ValueError(f"no node {name!r}; the network has {', '.join(self._dag)}")
            data = self._dag.nodes[name]
            missing = [parent for parent in data["parents"] if parent not in self._values]
            if missing:
                todo += missing
            else:
                self._values[name] = self._apply(f"node {name!r}", data["fun"], data["parents"])
        return self._values[node]

    def point(self, wrt: Iterable[str] | None = None) -> NDArray[np.float64]:
        """The flat (n,) concatenation, in C order, of the chosen inputs and parameters.

        wrt: a name or a sequence of names; by default all parameters.
        """
        return np.concatenate([self._values[name].ravel() for name in self._leaves(wrt)])

    def at(self, point: ArrayLike, wrt: Iterable[str] | None = None) -> "Network":
        """The same network with the chosen inputs and parameters at `point` (n,); self stays."""
        names = self._leaves(wrt)
        point = constant("point", point)
        if point.shape != (n := sum(self._values[name].size for name in names),):
            raise ValueError(f"a point of {', '.join(names)} has shape ({n},); got {point.shape}")
        moved = self.__copy__()
        leaves = {name: self._values[name] for name in self.inputs + self.parameters}
        moved._values = leaves | self._split(point, names)
        return moved

    def function(self, wrt: Iterable[str] | None = None, output: str | None = None) -> "Graph":
        """The loss, or the node `output`, as a Graph of the flat concatenation of `wrt`.

        wrt: a name or a sequence of names of inputs and parameters, by default all parameters.
        Recorded at `point(wrt)`; everything else stays where it is. A kink is named after its node.
        ValueError for unknown names, a network that declares no loss, or a loss that is no scalar.
        """
        names = self._leaves(wrt)
        heads = self.losses if output is None else ()
        if output is None and not heads:
            raise ValueError("the network declares no loss: add one with .loss, or pass output")
        # a wrong shape is reported here, by name, before anything is traced
        parents_of_heads = [parent for _, _, parents in heads for parent in parents]
        ancestry = self._evaluate(parents_of_heads if output is None else [output])
        for label, fun, parents in heads:
            if shape := self._apply(label, fun, parents).shape:
                raise ValueError(f"{label} must be a scalar; got shape {shape}")
        moving, steps = set(names), []
        for name in ancestry:
            data = self._dag.nodes[name]
            if not moving.isdisjoint(data["parents"]):
                moving.add(name)
                steps.append((name, data["fun"], data["parents"]))
        steps.extend(heads)
        still = {name: self._values[name] for name in ancestry if name not in moving}

        def run(x):
            values = still | self._split(x, names)
            for name, fun, parents in steps:
                try:
                    with graph.label(x, name):
                        values[name] = fun(*(values[parent] for parent in parents))
                except Exception as error:  # what the recorder refuses keeps its own type
                    error.add_note(f"in {name!r}")
                    raise
            if output is not None:
                return values[output]
            first, *rest = (values[label] for label, _, _ in heads)
            return sum(rest, first)

        return graph.from_function(run, self.point(names))

    def _leaves(self, wrt):
        names = self.parameters if wrt is None else (wrt,) if isinstance(wrt, str) else tuple(wrt)
        free = self.inputs + self.parameters
        if not names:
            raise ValueError(f"nothing to move: name some of {', '.join(free) or '(no inputs)'}")
        if unknown := [name for name in names if name not in free]:
            raise ValueError(f"wrt names {unknown}, no input or parameter of {', '.join(free)}")
        if len(set(names)) < len(names):
            raise ValueError(f"wrt names an array twice: {', '.join(names)}")
        return names

    def _evaluate(self, targets):
        """Compute the values of `targets`; returns them and their ancestors, parents first."""
        for name in targets:
            self.value(name)
        needed, declared = set(targets), list(self._dag)
        for name in reversed(declared):  # parents were declared first
            if name in needed:
                needed.update(self._dag.nodes[name]["parents"])
        return [name for name in declared if name in needed]

    def _apply(self, owner, fun, parents):
        arrays = [self._values[parent] for parent in parents]

        def shapes():
            return ", ".join(f"{p} {a.shape}" for p, a in zip(parents, arrays, strict=True))

        try:
            with np.errstate(all="ignore"):  # an overflow is reported below, as a value
                value = fun(*arrays)
        except Exception as error:
            kind = type(error).__name__
            raise ValueError(f"{owner} failed on {shapes()}: {kind}: {error}") from error
        if isinstance(value, np.ndarray) and value.dtype == float and value.size and np.isfinite(value).all():
            value = value.copy()
            value.flags.writeable = False
            return value
        return constant(f"{owner}, computed from {shapes()},", value)

    def _split(self, x, names):
        """The pieces of x (n,) by name, in their own shapes; x may be traced."""
        pieces, start = {}, 0
        for name in names:
            shape, size = self._values[name].shape, self._values[name].size
            pieces[name] = x[start : start + size].reshape(shape)
            start += size
        return pieces

    # ---- copying

    def __copy__(self) -> "Network":
        other = Network()
        other._dag, other._losses = self._dag, list(self._losses)
        other._names = {kind: list(names) for kind, names in self._names.items()}
        other._values = dict(self._values)
        self._shared = other._shared = True
        return other

    def __deepcopy__(self, memo: Mapping[Any, Any]) -> "Network":
        return self.__copy__()  # what a copy shares cannot be written to

    def __getstate__(self) -> dict[str, Any]:
        calls = [(f"node {name!r}", self._dag.nodes[name]["fun"]) for name in self.nodes]
        for owner, fun in calls + [(label, fun) for label, fun, _ in self._losses]:
            try:
                pickle.dumps(fun)
            except Exception as error:
                advice = "define it at the top of a module, and hold data with functools.partial"
                problem = f"the function of {owner} does not pickle ({error})"
                raise pickle.PicklingError(f"{problem}; {advice}") from error
        leaves = {name: self._values[name] for name in self.inputs + self.parameters}
        return {"_dag": self._dag, "_names": self._names, "_losses": self._losses, "_values": leaves, "_shared": False}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        self.__dict__.update(state)
        for array in self._values.values():  # numpy's pickles forget the flag
            array.flags.writeable = False
