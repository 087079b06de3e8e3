"""Many small equal steps in a row, z_l = g(z_{l-1}, leaves of its own), carried as one.

Their derivatives are formed together, by closed forms that broadcast over nodes, and the recursions along them are
solved as banded unit triangular systems: what a chain of thousands of narrow layers costs is then LAPACK's.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import lapack

from .local import Local, broadcasts, local

if TYPE_CHECKING:
    from .network import Network

SHORTEST = 8  # steps that make a run
NARROW = 16  # entries of the state of a run, a sample: with more, each step is work enough by itself


@dataclass(frozen=True, eq=False)
class Run:
    """Steps start, ..., stop - 1, m of them, of one function; each reads the one before as its argument `chain`, and
    leaves as the others.

    names: of the steps; before: what the first one reads as `chain`; leaves: argument -> the leaf of each step; local:
    the derivatives of all steps at once, arrays (R, m, ...); links (m, n, d, d): dz_l / dz_{l-1} of n samples apart.
    """

    start: int
    stop: int
    chain: int
    names: tuple[str, ...]
    before: str
    leaves: Mapping[int, tuple[str, ...]]
    local: Local
    links: np.ndarray

    @cached_property
    def bands(self) -> NDArray[np.float64]:
        """I - (links below the diagonal) of each sample, as LAPACK stores unit lower triangles with a band."""
        m, n, d, _ = self.links.shape
        found = np.zeros((n, m, d, 2 * d))
        rows, columns = np.indices((d, d))
        found[:, :-1, columns, d + rows - columns] = -self.links[1:].swapaxes(0, 1)
        return found.reshape(n, m * d, 2 * d)

    def along(self, given: Any, transposed: bool = False) -> NDArray[np.float64]:
        """dz with dz_l = links_l dz_{l-1} + given_l, dz_0 = 0; or c with c_l = links_{l+1}^T c_{l+1} + given_l.
        given (R, m, *shape).
        """
        m, n, d, _ = self.links.shape
        columns = given.reshape(len(given), m, n, d).transpose(2, 1, 3, 0).reshape(n, m * d, len(given))
        found = np.empty_like(columns)
        for k, band in enumerate(self.bands):
            found[k] = lapack.dtbtrs(band.T, columns[k], uplo="L", trans="T" if transposed else "N", diag="U")[0]
        return found.reshape(n, m, d, -1).transpose(3, 1, 0, 2).reshape(given.shape)

    def gathered(self, known: Mapping[str, np.ndarray], names: Iterable[str]) -> NDArray[np.float64] | None:
        """The arrays (R, ...) of the names as one (R, m, ...), zero where absent; None if all are absent."""
        found = [known.get(name) for name in names]
        sample = next((array for array in found if array is not None), None)
        if sample is None:
            return None
        nothing = np.zeros(sample.shape)
        return _stacked([nothing if array is None else array for array in found]).swapaxes(0, 1)

    def adjoints(self, lin: Any) -> NDArray[np.float64]:
        """Those of the nodes, (m, *shape)."""
        return _stacked([lin.adjoints[name] for name in self.names])


def runs_among(network: "Network", steps: Sequence[Any], leaves: Mapping[str, str]) -> tuple[Any, ...]:
    """The runs among the steps."""
    found, start = [], 0
    for k in range(1, len(steps) + 1):
        if k < len(steps) and steps[k].fun is steps[k - 1].fun and steps[k - 1].name in steps[k].parents:
            continue
        if k - start >= SHORTEST and broadcasts(steps[start].fun):
            run = _run(network, steps, start, k, leaves)
            found += [run] if run else []
        start = k
    return tuple(found)


def _run(network, steps, start, stop, leaves):
    """The run of steps[start:stop], None if it is none or its state is not narrow."""
    members = steps[start:stop]
    chain = members[1].parents.index(members[0].name)
    own = [i for i in range(len(members[1].parents)) if i != chain]
    names = tuple(step.name for step in members)
    if any(step.pieces is not None for step in members) or len(members[0].parents) != len(own) + 1:
        return None
    if any(step.parents[chain] != name for step, name in zip(members[1:], names[:-1], strict=True)):
        return None
    apart = {i: tuple(step.parents[i] for step in members) for i in own}
    every = {name for each in apart.values() for name in each}
    if len(every) < len(own) * len(members) or not every <= leaves.keys() or members[0].parents[chain] in every:
        return None
    value = network.value
    arguments = [[value(step.parents[i]) for step in members] for i in range(len(own) + 1)]
    if any(len({array.shape for array in each}) > 1 for each in arguments):
        return None
    output = [*arguments[chain][1:], value(names[-1])]
    shape = output[0].shape
    if output[-1].shape != shape:
        return None
    together = local(members[0].fun, tuple(_stacked(each) for each in arguments), _stacked(output))
    n = shape[0] if shape and chain in together.samplewise else 1
    d = output[0].size // n
    if d > NARROW:
        return None
    seed = np.broadcast_to(np.eye(d)[:, None, None], (d, len(members), n, d)).reshape(d, len(members), *shape)
    links = together.push(chain, seed).reshape(d, len(members), n, d).transpose(1, 2, 3, 0)
    return Run(start, stop, chain, names, members[0].parents[chain], apart, together, links)


def _stacked(arrays):
    return np.concatenate(arrays, axis=None).reshape(len(arrays), *arrays[0].shape)


def adjoints_along(run: Run, adjoints: Any) -> None:
    given = {name: adjoints[name][None] for name in run.names if name in adjoints}
    c = run.along(run.gathered(given, run.names), transposed=True)
    adjoints.update(zip(run.names, c[0], strict=True))
    rows: dict[str, np.ndarray] = {}
    _handed_down(run, c, rows)
    for name, row in rows.items():
        adjoints[name] = row[0] if name not in adjoints else adjoints[name] + row[0]


def _handed_down(run, c, rows, wanted=None, bent=None):
    """Add to rows what the leaves of the run, and what stands before it, get from c (R, m, *shape), its own rows; and
    bent, argument -> (R, m, ...).
    """
    bent = bent or {}
    if wanted is None or run.before in wanted:
        first = np.zeros_like(c)
        first[:, 0] = c[:, 0]
        rows[run.before] = joined(rows.get(run.before), run.local.pull(run.chain, first)[:, 0])
    for i, names in run.leaves.items():
        if wanted is not None and wanted.isdisjoint(names):
            continue
        whole = run.local.pull(i, c) + bent.get(i, 0.0)
        for name, row in zip(names, whole.swapaxes(0, 1), strict=True):
            if wanted is None or name in wanted:
                rows[name] = row if name not in rows else rows[name] + row


def tangents_along(run: Run, moving: Mapping[str, np.ndarray]) -> None:
    given = run.gathered(moving, run.names)
    for i, names in run.leaves.items():
        t = run.gathered(moving, names)
        if t is not None:
            pushed = run.local.push(i, t)
            given = pushed if given is None else given + pushed
    if run.before in moving:
        t = moving[run.before]
        whole = np.zeros((len(t), len(run.names), *t.shape[1:]))
        whole[:, 0] = t
        pushed = run.local.push(run.chain, whole)
        given = pushed if given is None else given + pushed
    if given is not None:
        moving.update(zip(run.names, run.along(given).swapaxes(0, 1), strict=True))


def curvature_along(
    lin: Any, run: Any, moving: Mapping[str, np.ndarray], rows: Any, above: set[str], wanted: set[str]
) -> None:
    read = {run.chain: (run.before, *run.names[:-1]), **run.leaves}
    t = {i: run.gathered(moving, names) for i, names in read.items()}
    delta = run.adjoints(lin)
    c, bent = run.gathered(rows, run.names), {}
    for i, j in run.local.curved:
        if t[j] is not None:
            found = run.local.second(i, j, delta, t[j])
            bent[i] = found if i not in bent else bent[i] + found
    down = bent.pop(run.chain, None)
    if down is not None:
        if run.before in above:
            rows[run.before] = joined(rows.get(run.before), down[:, 0])
        down = np.concatenate([down[:, 1:], np.zeros_like(down[:, :1])], axis=1)
        c = down if c is None else c + down
    if c is None and bent:
        c = np.zeros((len(next(iter(bent.values()))), *delta.shape))
    if c is not None:
        c = run.along(c, transposed=True)
        _handed_down(run, c, rows, above, bent)
        for name in rows.keys() & set(run.names):
            del rows[name]
        if not wanted.isdisjoint(run.names):
            rows.update({name: row for name, row in zip(run.names, c.swapaxes(0, 1), strict=True) if name in wanted})


def joined(total: np.ndarray | None, part: np.ndarray) -> Any:
    """total + part, the shorter one padded with zero columns; total may be None. Neither is changed."""
    if total is None:
        return part
    if len(total) == len(part):
        return total + part
    longer, shorter = (total, part) if len(total) > len(part) else (part, total)
    whole = np.array(longer)
    whole[: len(shorter)] += shorter
    return whole
