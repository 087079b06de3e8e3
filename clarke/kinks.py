"""The guards that vanish at x.

A kink is active iff |guard| <= tol * scale, where scale is the guard's forward evaluation in absolute values: the
size of the terms that cancel. The tolerance is part of the question, so `Germ` carries it, with the smallest
|guard| / scale among the guards that were decided.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from . import selections
from .graph import Graph, Tape, from_function, point, run

if TYPE_CHECKING:
    from .selections import Branch

TOL = 1e-9


@dataclass(frozen=True)
class Kink:
    """One letter of a pattern.

    name: "h1[0, 3]" in a network (node and index), "maximum1[3]" elsewhere (operation, its number, index), with the
    competing entry appended for max, min and sort. operation: as written by the user. entry: index in the output of
    that operation. guard: its value at x (units of the operation's argument); scale: what it was compared with.
    """

    name: str
    operation: str
    entry: tuple[int, ...]
    guard: float
    scale: float


@dataclass(frozen=True, eq=False)
class Stage:
    """The ties of one operation that are decided together: letters first..first + ties.letters of the pattern."""

    position: int
    first: int
    ties: object

    @property
    def letters(self) -> slice:
        return slice(self.first, self.first + self.ties.letters)


@dataclass(frozen=True, eq=False)
class Germ:
    """f near x: the recorded graph, its values at x, the pieces decided there, and the ties left open.

    tape: the values at x (a tie resolved any way: its pieces agree there). decided: operation -> the wires of its
    decided entries; `branches(signs)` completes them. margin: the smallest |guard| / scale of a decided guard (inf
    if there is none).
    """

    graph: Graph
    x: np.ndarray
    tol: float
    tape: Tape
    decided: dict[Any, Any]
    stages: tuple[Stage, ...]
    kinks: tuple[Kink, ...]
    margin: float

    def branches(self, signs: Any) -> "dict[int, Branch]":
        """The Branch of every piecewise operation under the signs (one int a kink)."""
        complete = dict(self.decided)
        for stage in self.stages:
            complete[stage.position] = selections.extend(
                complete[stage.position], list(stage.ties.pieces(signs[stage.letters]))
            )
        return complete


def active_kinks(f: Callable[..., Any] | Graph, x: ArrayLike, *, tol: float = TOL) -> tuple[Kink, ...]:
    """The kinks of f active at x, in order of execution, then C order: one `Kink` a letter of a pattern.

    f: an autograd.numpy function of one flat array (n,), or a Graph; x: (n,); tol: relative to each guard's scale.
    Raises what `from_function` raises.
    """
    return germ(f, x, tol=tol).kinks


def require_tolerance(tol: float) -> None:
    """ValueError unless tol may be compared with |guard| / scale."""
    if not (isinstance(tol, (float, int, np.floating)) and 0 <= tol < 1):
        raise ValueError(f"tol is relative to the scale of a guard, so 0 <= tol < 1; got {tol!r}")


def germ(f: Callable[..., Any] | Graph, x: ArrayLike, *, tol: float = TOL) -> Germ:
    """Record f at x (unless it is a Graph) and separate what is decided there from what ties."""
    require_tolerance(tol)
    graph = from_function(f, x)
    x = point(x, graph.size)
    decided, stages, kinks, nearest = {}, [], [], [np.inf]
    names = operation_names(graph)

    def branch_of(i, op, args, magnitudes):
        branch, ties, ratio = selections.decide(op.name, args, op.kwargs, magnitudes, tol)
        decided[i] = branch
        nearest.append(ratio)
        provisional = []
        for tie in ties:
            stages.append(Stage(i, len(kinks), tie))
            provisional += tie.pieces(np.zeros(tie.letters))
            for (out, suffix), guard, scale in zip(tie.entries, tie.guards.tolist(), tie.scales.tolist(), strict=True):
                entry = ()
                for length in reversed(op.shape):
                    out, place = divmod(out, length)
                    entry = (place, *entry)
                where = f"[{', '.join(map(str, entry))}]" if entry else ""
                kinks.append(Kink(names[i] + where + suffix, op.source, entry, guard, scale))
        return selections.extend(branch, provisional) if ties else branch

    with np.errstate(all="ignore"):
        tape = run(graph, x, branch_of, magnitudes=True)
    return Germ(graph, x, float(tol), tape, decided, tuple(stages), tuple(kinks), min(nearest))


def operation_names(graph: Graph) -> dict[int, str]:
    """position of a piecewise operation -> a name that is unique in the graph."""
    names, written = {}, {}
    piecewise = [(i, op) for i, op in enumerate(graph.program.operations, 1) if op.name in selections.PIECEWISE]
    taken = {op.label for _, op in piecewise}
    for i, op in piecewise:
        base = op.label or op.source
        count = written[base] = written.get(base, 0) + 1
        name = base if op.label and count == 1 else f"{base}.{count}" if op.label else f"{base}{count}"
        while name in taken and name != op.label:  # a node of the user's may be called so
            name += "'"
        taken.add(name)
        names[i] = name
    return names


def text(signs: Iterable[Any]) -> str:
    """Signs as letters."""
    return "".join("-0+"[int(s) + 1] for s in signs)


def signs_of(pattern: str) -> np.ndarray:
    """Letters as signs."""
    return np.array([{"-": -1, "0": 0, "+": 1}[letter] for letter in pattern], dtype=int)
