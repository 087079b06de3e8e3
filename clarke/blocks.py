"""The Hessian of a network by node: H = S^T K S, block by block.

For any inputs, parameters and nodes v, w, with eps_v added to the value of v,

    H_{v,w} = d2 L / d eps_v d eps_w,        H = S^T K S = S^T K^loss S + S^T K^tensor S,

the Gauss-Newton part and the tensor part; both are relative to what is declared as the loss, since K^loss is the
second derivative of the loss functions alone. Blocks are computed when they are asked for: a pair of parameters of
dense layers by products of matrices contracted over samples (`assembly`), any other by the two passes of
`linearization` with as many columns as the smaller of the two has entries.
"""

from collections.abc import Callable, Iterable, Mapping
from copy import copy
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse.linalg import LinearOperator

from .assembly import assemble, contractible, level, mirror, samplewise_names
from .elements import AGREE, KinkError, elements_at
from .kinks import TOL
from .linearization import Layout, Linearization, curvature, hessian_product, tangents
from .network import Network

COLUMNS = 1 << 19  # numbers of tangents carried at a time, in all nodes together


@dataclass(frozen=True, eq=False, repr=False)
class HessianBlocks:
    """H[v, w], of shape (v.size, w.size) in C order, for names of inputs, parameters and nodes.

    gauss_newton, tensor: the same value restricted to one part, H = gauss_newton + tensor. gradient[v]: dL/d(value of
    v), flat. dense(names): the blocks of all pairs side by side, by default of all parameters. operator(names): the
    same matrix as a scipy LinearOperator, two passes a product and nothing stored. diagonal(names): name -> H[v, v].
    weights: pattern -> weight of the element that was asked for ({'': 1} where no kink is active). complete: False, and
    reason says why, where a pattern that was asked for is neither shown to be realized nor excluded.

    A kink whose guard is identically zero near the point ('0') is none of the network's: its pieces are one. Under a
    perturbation of a node above it it may be one; blocks of such a node are those of one side.
    """

    network: Network
    weights: Mapping[str, float]
    complete: bool = True
    reason: str = ""
    part: str = "hessian"
    tol: float = TOL
    _elements: tuple[tuple[float, Linearization], ...] = field(default=(), repr=False)
    _agreeing: bool = False
    _known: dict = field(default_factory=dict, repr=False)

    def __repr__(self) -> str:
        n = len(self._elements)
        what = {"hessian": "", "gauss_newton": ", Gauss-Newton part", "tensor": ", tensor part"}[self.part]
        return f"HessianBlocks({self.network!r}{what}{f', {n} patterns' if n > 1 else ''})"

    @property
    def gauss_newton(self) -> "HessianBlocks":
        """S^T K^loss S: the second derivatives of the losses alone."""
        return self._restricted("gauss_newton")

    @property
    def tensor(self) -> "HessianBlocks":
        """S^T K^tensor S: the second derivatives of the nodes, weighted by the adjoints."""
        return self._restricted("tensor")

    @property
    def mixture(self) -> tuple[tuple[float, Linearization], ...]:
        """The linearizations with their weights: one where all pieces agree."""
        return ((1.0, self._elements[0][1]),) if self._agreeing else self._elements

    def _restricted(self, part):
        if self.part not in ("hessian", part):
            raise ValueError(f"the {self.part} part has no {part} part; take it from the whole Hessian")
        if part == self.part:
            return self
        if part not in self._known:
            self._known[part] = replace(self, part=part, _known={})
        return self._known[part]

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return _again, (self.network, dict(self.weights), self._agreeing, self.part, self.tol)

    __iter__ = None  # pairs of names are no indices

    def __contains__(self, pair: str | tuple[str, str]) -> bool:
        return isinstance(pair, tuple) and len(pair) == 2 and all(name in self.network.dag for name in pair)

    @property
    def gradient(self) -> "BlockGradient":
        """name -> dL/d(value of the name), flat; `.dense(names)` joins them."""
        return BlockGradient(self)

    def __getitem__(self, pair: tuple[str, str]) -> NDArray[np.float64]:
        if not (isinstance(pair, tuple) and len(pair) == 2):
            raise ValueError(f"a block is named by two names, as H['W1', 'W2'] or H['W1', 'W1']; got {pair!r}")
        v, w = pair
        self._require_names(pair)
        if (v, w) not in self._known:
            block = self._mean(lambda lin: _block(lin, v, w, self.part), f"block {v!r}, {w!r}")
            if v == w:
                level(block)
            self._known[v, w] = _frozen(block)
            self._known[w, v] = self._known[v, w].T
        return self._known[v, w]

    def dense(self, names: Iterable[str] | None = None) -> NDArray[np.float64]:
        """The Hessian over the names, in their order; (n, n), n the number of their entries."""
        names = self.names(names)
        return _frozen(self._mean(lambda lin: _dense(lin, names, self.part), f"Hessian over {', '.join(names)}"))

    def diagonal(self, names: Iterable[str] | None = None) -> dict[str, NDArray[np.float64]]:
        """name -> H[name, name], all in one go."""
        names = self.names(names)
        sizes = [self.network.value(name).size for name in names]
        flat = self._mean(lambda lin: _diagonal(lin, names, self.part), "diagonal blocks")
        ends = np.cumsum([0, *(s * s for s in sizes)])
        return {
            name: _frozen(flat[a:b].reshape(s, s))
            for name, s, a, b in zip(names, sizes, ends[:-1], ends[1:], strict=True)
        }

    def operator(self, names: Iterable[str] | None = None) -> LinearOperator:
        """dense(names) as a LinearOperator; a product costs about two gradients, and several are done at once."""
        names = self.names(names)
        layout = Layout(self.network, names)
        n = layout.size

        def matmat(V):
            if np.iscomplexobj(V):
                return matmat(V.real) + 1j * matmat(V.imag)
            V = np.asarray(V, dtype=float)
            if not V.shape[1]:
                return np.zeros((n, 0))
            return self._mean(lambda lin: hessian_product(lin, layout, V.T, self.part).T, "product")

        def matvec(v):
            return matmat(np.reshape(v, (n, 1)))[:, 0]

        products: dict[str, Any] = {"matvec": matvec, "rmatvec": matvec, "matmat": matmat, "rmatmat": matmat}
        return LinearOperator(dtype=np.dtype(float), shape=(n, n), **products)

    def names(self, names: Iterable[str] | None = None) -> tuple[str, ...]:
        """The names as a tuple, by default all parameters; ValueError unless they are known and differ."""
        names = self.network.parameters if names is None else (names,) if isinstance(names, str) else tuple(names)
        if not names:
            raise ValueError("names is empty (the network may have no parameters): name inputs, parameters or nodes")
        self._require_names(names)
        if len(set(names)) < len(names):
            raise ValueError(f"names holds a name twice: {', '.join(names)}")
        return names

    def _require_names(self, names):
        known = self.network.dag.nodes
        for name in names:
            if not isinstance(name, str) or name not in known:
                raise ValueError(f"no input, parameter or node {name!r}; the network has {', '.join(known)}")

    def _mean(self, compute, what):
        """The weighted sum over the elements; where no weights were given they must agree."""
        (weight, lin), *rest = self._elements
        first = compute(lin)
        if not rest:
            return first
        if self._agreeing:
            for _, other in rest:
                found = compute(other)
                if np.abs(found - first).max(initial=0) > AGREE * np.abs(first).max(initial=0):
                    raise KinkError(
                        f"the {what} differs between the pieces that meet at this point; pass pattern or weights",
                    )
            return first
        return weight * first + sum(weight * compute(other) for weight, other in rest)


@dataclass(frozen=True, repr=False)
class BlockGradient:
    """gradient[name]: dL/d(value of the name), flat; dense(names): of several, one after the other."""

    blocks: HessianBlocks

    def __repr__(self) -> str:
        return f"BlockGradient({self.blocks.network!r})"

    def __getitem__(self, name: str) -> NDArray[np.float64]:
        self.blocks._require_names((name,))
        return _frozen(self.blocks._mean(lambda lin: lin.adjoint(name).reshape(-1), f"gradient in {name!r}"))

    def dense(self, names: Iterable[str] | None = None) -> NDArray[np.float64]:
        """Flat over the names, by default all parameters."""
        return _frozen(np.concatenate([self[name] for name in self.blocks.names(names)]))


def _again(network, weights, agreeing, part, tol):
    """A pickled HessianBlocks."""
    found = hessian_blocks(network, weights=None if agreeing or list(weights) == [""] else weights, tol=tol)
    return found if part == "hessian" else found._restricted(part)


def _frozen(array):
    array = np.array(array) if not array.flags.owndata else array
    array.flags.writeable = False
    return array


# ---------------------------------------------------------------- at a point, smooth or not


def hessian_blocks(
    network: Network,
    *,
    pattern: str | None = None,
    weights: Mapping[str, float] | None = None,
    kinks: Iterable[Any] | None = None,
    tol: float = TOL,
) -> HessianBlocks:
    """The Hessian of the network's loss by input, parameter and node.

    At a kink say which element is meant: `pattern`, one letter for each active kink of
    `network.function(wrt=every input and parameter)`, or `weights`, a dict pattern -> weight (nonnegative, of sum 1:
    those of a `MinNormElement`, say). kinks: `fan.kinks` of a fan over fewer inputs and parameters, if the letters are
    its; they are matched by name. tol: a guard ties iff |guard| <= tol * its scale.

    Raises `KinkError`, naming units, where kinks are active, neither is given and the elements differ; ValueError for a
    network without a loss, for a pattern of another length or one that is not realized near the point.
    """
    if not isinstance(network, Network):
        raise ValueError(f"network must be a clarke.Network; got {type(network).__name__}")
    if not network.losses:
        raise ValueError("the network declares no loss: add one with .loss")
    for _, _, parents in network.losses:
        for parent in parents:
            network.value(parent)  # here, so that the next call finds it
    network = copy(network)  # what is declared later is no part of this
    asked, elements, agreeing, doubt = elements_at(network, pattern, weights, kinks, tol)
    return HessianBlocks(network, asked, not doubt, doubt, tol=tol, _elements=elements, _agreeing=agreeing)


# ---------------------------------------------------------------- blocks


def _columns(lin, names, wanted, part):
    """Columns of the names, a few at a time: ([(name, its entries, their columns)], rows of wanted(first name))."""
    carried_along = sum(array.size for array in lin.adjoints.values())
    few, run, held = max(1, COLUMNS // carried_along), [], 0
    for name in names:
        start, size = 0, lin.network.value(name).size
        while start < size:
            stop = min(size, start + few - held)
            run.append((name, slice(start, stop), slice(held, held + stop - start)))
            start, held = stop, held + stop - start
            if held == few:
                yield run, _rows_of_run(lin, run, held, wanted, part)
                run, held = [], 0
    if run:
        yield run, _rows_of_run(lin, run, held, wanted, part)


def _rows_of_run(lin, run, held, wanted, part):
    seeds = {}
    for name, entries, columns in run:
        value = lin.network.value(name)
        seed = seeds.setdefault(name, np.zeros((held, *value.shape))).reshape(held, -1)
        seed[np.arange(columns.start, columns.stop), np.arange(entries.start, entries.stop)] = 1.0
    return curvature(lin, tangents(lin, seeds), wanted(run[0][0]), part)


def _block(lin, v, w, part):
    first, second = lin.network.value(v), lin.network.value(w)
    both = tuple(dict.fromkeys((v, w)))
    if contractible(lin, both) == both:
        block = np.zeros((first.size, second.size))
        assemble(lin, both, lambda a, b: block if (a, b) == (v, w) else block.T, part, lambda a, b: {a, b} == {v, w})
        return block
    aligned = samplewise_names(lin)
    if v in aligned and w in aligned:
        return _aligned_block(lin, v, w, part)
    if first.size < second.size:
        return _block(lin, w, v, part).T
    block = np.zeros((first.size, second.size))
    for ((_, entries, _),), rows in _columns(lin, [w], lambda name: {v}, part):
        if v in rows:
            block[:, entries] = rows[v].reshape(len(rows[v]), -1).T
    return block


def _aligned_block(lin, v, w, part):
    """One column an entry of one sample; the block is block-diagonal in the samples."""
    first, second = lin.network.value(v), lin.network.value(w)
    N, d = len(second), second[0].size
    seed = np.broadcast_to(np.eye(d).reshape(d, 1, *second.shape[1:]), (d, *second.shape))
    rows = curvature(lin, tangents(lin, {w: seed}), {v}, part)
    block = np.zeros((first.size, second.size))
    if v in rows:  # then v has the samples of w
        every = np.arange(N)
        block.reshape(N, -1, N, d)[every, :, every] = rows[v].reshape(d, N, -1).transpose(1, 2, 0)
    return block


def _dense(lin, names, part):
    layout = Layout(lin.network, names)
    spans, n = layout.spans, layout.size
    out = np.zeros((n, n))

    def block(v, w):
        return out[spans[v], spans[w]]

    quick = contractible(lin, [name for name in names if name in lin.network.parameters])
    if quick:
        mirror(block, assemble(lin, quick, block, part))
    others = [name for name in names if name not in quick]
    place = {name: k for k, name in enumerate(others)}
    for run, rows in _columns(lin, others, lambda first: {*quick, *others[place[first] :]}, part):
        for name, entries, columns in run:
            here = slice(spans[name].start + entries.start, spans[name].start + entries.stop)
            for other in {*quick, *others[place[name] :]} & rows.keys():
                found = rows[other][columns]
                out[here, spans[other]] = found.reshape(len(found), -1)
                out[spans[other], here] = out[here, spans[other]].T
    for name in names:
        level(block(name, name))
    return out


def _diagonal(lin, names, part):
    """The diagonal blocks one after the other, flat."""
    sizes = {name: lin.network.value(name).size for name in names}
    blocks: dict[str, Any] = {name: np.zeros((size, size)) for name, size in sizes.items()}
    quick = contractible(lin, [name for name in names if name in lin.network.parameters])
    if quick:
        assemble(lin, quick, lambda v, w: blocks[v], part, lambda v, w: v == w)
    for name in names:
        if name not in quick:
            blocks[name] = _block(lin, name, name, part)
        level(blocks[name])
    return np.concatenate([block.ravel() for block in blocks.values()])
