"""Where the path formulas of Bolshim & Kugaevskikh (2025), as printed, agree with the Hessian, and where not.

`path_report` compares every formula of `printed` with `blocks`, block by block, and states for each the condition under
which they agree, computed from the graph and the local derivatives, not from the difference.
"""

import textwrap
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.linalg import solve_triangular

from .blocks import hessian_blocks
from .notation import input_hessian, mixed_term, notation, parameter_pairs
from .printed import (
    algorithm_1,
    algorithm_2,
    algorithm_3,
    by_name,
    formula_1,
    formula_3,
    lemma_1,
    one_edge,
    proposition_2,
    proposition_3,
    readers_of,
    section_4,
    tied,
)

if TYPE_CHECKING:
    from .network import Network

AGREE = 1e-9  # relative to the size of the terms that are summed


_ONE_CHILD = "every node has at most one child that leads to a loss, no loss couples two nodes"
_MIXED = "sum_i delta[v,i] T[v;u,theta]_i^T S[u,w] D_w over all u in Pa(v), u = w included"
CONDITIONS = {
    "(1)": f"{_ONE_CHILD}, and v = w or v and w have a child in common",
    "(2)": "v = w = out; or (Hessian of L) S[out,v] = 0, as for a loss affine in out",
    "Prop. 2": "(K S)[v,w] = 0, as for piecewise-linear nodes, the loss on out alone, v != out",
    "Lemma 1": "the condition of its repair holds, and D[w<-z] is symmetric",
    "Lemma 1 repaired": "K[z,.] = 0 (w affine in z, no cross term, no loss reads z), w the only child of z and u the "
    "only child of v that lead to a loss, D[w<-z] of full row rank, (K S)[v,w] = 0",
    "Alg. 1": f"v or w has no child that leads to a loss; or {_ONE_CHILD}, v = w or siblings, and no pure second "
    "derivative downstream (it is counted twice)",
    "(3) first term": "the tensor part of H[v,w] vanishes between D_v^T and D_w (the term is called Gauss-Newton)",
    "(3)": f"no loss reads a parameter; {_MIXED}, vanishes, and so does its mirror",
    "(3) repaired": "no loss reads a parameter; the mixed terms with u = w, and with S[u,w] - D[u<-w] where w is "
    "farther from u than one edge, vanish",
    "Prop. 3": "no loss reads the parameter itself",
    "Alg. 2": f"no loss reads a parameter; {_MIXED}, vanishes, and so does its mirror",
    "Alg. 2 repaired": "the condition of (3) repaired holds, and the whole mirror term vanishes: it is not printed",
    "Alg. 3": "Alg. 1 and Alg. 2 right at the blocks used, no loss node with children, no parameter shared",
    "sec. 4": "(1) and (3) right at the blocks used, those without a common child zero, no shared cross blocks",
}
"""formula -> when it is right. "(1) repaired" is held to the condition of "(1)", and so are "Alg. 3", "sec. 4"."""


@dataclass(frozen=True, eq=False)
class PathEntry:
    """One formula at one block: `printed` None where it is undefined (a misfit, or never assembled), `true` the block.

    pair: the block's names, two nodes or two parameters; path: the nodes of a path (Lemma 1), else (). distance:
    |printed - true| in the Frobenius norm, inf for None. agrees: it is within tol of the size of the terms. met:
    whether `condition`, which is sufficient, is met here; None where it is not evaluated.
    """

    formula: str
    pair: tuple[str, str]
    path: tuple[str, ...]
    printed: np.ndarray | None
    true: np.ndarray
    distance: float
    agrees: bool
    condition: str
    met: bool | None


@dataclass(frozen=True, eq=False)
class PathReport:
    """Every formula at every block it speaks of; `str` is a table. `report[v, w]` and `of(formula)` select entries."""

    entries: tuple[PathEntry, ...]

    def of(self, formula: Any) -> tuple[PathEntry, ...]:
        """The entries of one formula, named as in `CONDITIONS`, with " repaired" where dimensions were."""
        known = {entry.formula: None for entry in self.entries}
        if formula not in known:
            raise ValueError(f"no entries of {formula!r}; there are {', '.join(known)}")
        return tuple(entry for entry in self.entries if entry.formula == formula)

    def __getitem__(self, pair: tuple[str, str]) -> tuple[PathEntry, ...]:
        """The entries of one block."""
        found = tuple(entry for entry in self.entries if entry.pair == pair)
        if not found:
            raise KeyError(f"no formula speaks of the block {pair!r}")
        return found

    def __str__(self) -> str:
        lines = ["block: |printed|, |true|, |printed - true|; * where the condition is met"]
        for formula in dict.fromkeys(entry.formula for entry in self.entries):
            entries = self.of(formula)
            agreeing, undefined = sum(e.agrees for e in entries), sum(e.printed is None for e in entries)
            tail = f", undefined in {undefined}" if undefined else ""
            lines += ["", f"{formula}: agrees in {agreeing} of {len(entries)} blocks{tail}"]
            lines += textwrap.wrap(f"if {entries[0].condition}", 100, initial_indent="  ", subsequent_indent="     ")
            for e in entries:
                block = " -> ".join(e.path) if e.path else ", ".join(e.pair)
                size = "undefined" if e.printed is None else f"{np.linalg.norm(e.printed):.3g}"
                gap = "" if e.printed is None else f"{e.distance:.1e}"
                verdict = "agrees" if e.agrees else "differs"
                mark = "*" if e.met else " "
                true = f"{np.linalg.norm(e.true):.3g}"
                lines.append(f"  {mark} {block:<28} {size:>10} {true:>10} {gap:>9}  {verdict}")
        return "\n".join(lines)


def path_report(network: "Network", *, tol: float = AGREE) -> PathReport:
    """Printed value, true value and condition of agreement, block by block: pairs of nodes, pairs of parameters.

    True values are those of `hessian_blocks`. Each formula is judged on its own: Prop. 2, Lemma 1, formula (3), Prop. 3
    and Algorithm 2 are given the right blocks they start from; formula (1), Algorithms 1 and 3 and sec. 4 recur on
    what they print. A shared parameter is judged by A^T H A for formula (3) and Algorithm 2. Raises what `notation`
    raises. Meant for small networks: the work grows with the square of their arrays, and the table with it.
    """
    n, truth = notation(network), hessian_blocks(network)
    H, users = input_hessian(n), readers_of(n)
    pairs = [(v, w) for v in n.nodes for w in n.nodes]
    named = [(a, b) for a in users for b in users]
    around = solve_triangular(np.eye(len(n.local)) - np.abs(n.local), np.eye(len(n.local)), lower=True)
    terms = around.T @ (np.abs(n.loss_part) + np.abs(n.tensor_part)) @ around  # sizes of what is summed
    entries = []

    def small(matrix, v, w):
        return bool(np.linalg.norm(matrix) <= tol * np.linalg.norm(terms[n.at[v], n.at[w]]))

    def enter(formula, keys, printed, met, true=truth):
        for key in keys:
            pair = (key[0], key[-1])
            value, block = printed.get(key), true[pair]
            distance, agrees = np.inf, False
            if value is not None:
                value.flags.writeable = False
                distance = float(np.linalg.norm(value - block))
                agrees = small(distance, *pair) or distance <= tol * max(np.linalg.norm(value), np.linalg.norm(block))
            text = CONDITIONS.get(formula) or CONDITIONS[formula.removesuffix(" repaired")]
            path = key if len(key) > 2 else ()
            entries.append(PathEntry(formula, pair, path, value, block, distance, bool(agrees), text, met(*key)))

    def nothing_lacks(formula, blocks, lacking):
        """Whether `lacking`, by pairs of nodes, adds up to nothing, and a printed block is there at all."""
        missing = {pair: tied(n, lacking, *pair) for pair in named}
        printed = {pair: tied(n, blocks, *pair) for pair in named}

        def met(a, b):
            return printed[a, b] is not None and not n.read.intersection((a, b)) and small(missing[a, b], a, b)

        return formula, named, printed, met

    def base_holds(v, w):
        out, other = (v, w) if v == n.out else (w, v)
        return v == w or small(n.loss_part[n.at[out]] @ n.total[:, n.at[other]], out, other)

    tree = _is_tree(n)
    for suffix, misfit in _WAYS:
        printed = formula_1(n, misfit=misfit)
        enter("(1)" + suffix, [pair for pair in pairs if n.out not in pair], printed, partial(_siblings, n, tree))
    base = {pair: printed[pair] for pair in pairs if n.out in pair}
    enter("(2)", base, base, base_holds)
    printed, KS = proposition_2(n, blocks=H), (n.loss_part + n.tensor_part) @ n.total
    enter("Prop. 2", printed, printed, lambda v, w: small(KS[n.at[v], n.at[w]], v, w))

    def lemma(v, u, z, w):
        return _only_way(n, v, u, z, w) and small(KS[n.at[v], n.at[w]], v, w)

    paths = lemma_1(n, blocks=H, misfit="repair")
    enter("Lemma 1", paths, lemma_1(n, blocks=H, misfit="omit"), lambda *p: lemma(*p) and _symmetric(n.D(p[3], p[2])))
    enter("Lemma 1 repaired", paths, paths, lemma)
    enter("Alg. 1", pairs, algorithm_1(n), partial(_algorithm_1_is_right, n, tree))

    both = parameter_pairs(n)
    tensor = n.total.T @ n.tensor_part @ n.total
    through = {(v, w): n.D_theta(v).T @ H[v, w] @ n.D_theta(w) for v, w in both}
    lacking = {(v, w): n.D_theta(v).T @ tensor[n.at[v], n.at[w]] @ n.D_theta(w) for v, w in both}
    enter(*nothing_lacks("(3) first term", through, lacking), truth.gauss_newton)
    whole = {(v, w): mixed_term(n, v, w) for v, w in both}
    rest = {(v, w): whole[v, w] - one_edge(n, v, w) for v, w in both}
    for (suffix, misfit), left in zip(_WAYS, (whole, rest), strict=True):
        lacking = {(v, w): left[v, w] + left[w, v].T for v, w in both}
        enter(*nothing_lacks("(3)" + suffix, formula_3(n, blocks=H, misfit=misfit), lacking))
    printed = proposition_3(n)
    enter("Prop. 3", printed, printed, lambda a, b: a not in n.read)
    for (suffix, misfit), left in zip(_WAYS, (whole, rest), strict=True):
        lacking = {(v, w): left[v, w] + whole[w, v].T for v, w in both}
        enter(*nothing_lacks("Alg. 2" + suffix, algorithm_2(n, blocks=H, misfit=misfit), lacking))
    for formula, algorithm in (("Alg. 3", _algorithm_3_by_name), ("sec. 4", section_4)):
        for suffix, misfit in _WAYS:
            enter(formula + suffix, named, algorithm(n, misfit=misfit), lambda *_: None)
    return PathReport(tuple(entries))


_WAYS = (("", "omit"), (" repaired", "repair"))


def _algorithm_3_by_name(n, *, misfit):
    return by_name(n, algorithm_3(n, misfit=misfit), sharing=False)


def _live(n, v):
    """The children of v that lead to a loss."""
    return [u for u in n.children[v] if u in n.leading]


def _is_tree(n):
    """At most one child that leads to a loss, and no loss that couples two nodes."""
    alone = not any(n.loss_part[n.at[v], n.at[w]].any() for v in n.nodes for w in n.nodes if v != w)
    return alone and all(len(_live(n, v)) <= 1 for v in n.nodes if v in n.leading)


def _siblings(n, tree, v, w):
    """The condition of (1)."""
    return tree and (v == w or any(u in _live(n, w) for u in _live(n, v)))


def _only_way(n, v, u, z, w):
    """The conditions of Lemma 1 repaired, but for (K S)_{v,w} = 0."""
    D = n.D(w, z)
    alone = set(_live(n, z)) <= {w} and set(_live(n, v)) <= {u}
    affine = not any(n.K(z, y).any() for y in n.nodes)
    return alone and affine and bool(np.linalg.matrix_rank(D) == len(D))


def _symmetric(D):
    return D.shape[0] == D.shape[1] and np.allclose(D, D.T, rtol=0, atol=AGREE * np.abs(D).max())


def _algorithm_1_is_right(n, tree, v, w):
    """The condition of Algorithm 1."""
    if not _live(n, v) or not _live(n, w):
        return True
    if not _siblings(n, tree, v, w):
        return False
    here = v if v == w else _live(n, v)[0]
    while below := _live(n, here):
        if n.T(below[0], here, here).any():
            return False
        here = below[0]
    return True
