"""What a node function's closed forms are judged against: autograd's derivatives of the function itself, dense.

Each law takes a function, the arrays of its parents at a smooth point, and how far two entries may differ relative to
the largest: 0 on small integers, where every sum is exact in floating point.
"""

import autograd
import autograd.numpy as anp
import numpy as np

from clarke import graph
from clarke.kinks import germ
from clarke.local import carried
from clarke.selections import PIECEWISE


def joined(values):
    return np.concatenate([np.ravel(value) for value in values])


def split(x, values):
    """x (n,), traced or not, in pieces of the shapes of `values`."""
    ends = np.cumsum([np.size(value) for value in values])
    return [anp.reshape(x[e - np.size(v) : e], np.shape(v)) for e, v in zip(ends, values, strict=True)]


def flat(fun, values):
    """fun as a function of one flat array."""
    return lambda x: fun(*split(x, values))


def local_of(fun, values, pieces=None):
    return carried(fun, "derivatives")(tuple(values), np.asarray(fun(*values)), pieces)


def jacobians(fun, values):
    """(size of y, size of p_i), one for each parent."""
    ends = np.cumsum([np.size(value) for value in values])[:-1]
    dense = autograd.jacobian(flat(fun, values))(joined(values)).reshape(-1, joined(values).size)
    return np.split(dense, ends, axis=1)


def hessians(fun, values, delta):
    """(i, j) -> (size of p_i, size of p_j): the second derivatives of <delta, fun>."""
    ends = np.cumsum([np.size(value) for value in values])[:-1]
    # 0 * x @ x keeps autograd from warning about a gradient that is constant
    dense = autograd.hessian(lambda x: anp.sum(delta * flat(fun, values)(x)) + 0.0 * anp.dot(x, x))(joined(values))
    rows = [np.split(row, ends, axis=1) for row in np.split(dense, ends, axis=0)]
    return {(i, j): block for i, row in enumerate(rows) for j, block in enumerate(row)}


def units(shape):
    """All directions of one array: (size, *shape)."""
    return np.eye(int(np.prod(shape))).reshape(-1, *shape)


def differ(a, b, slack):
    """Some entry of a and b differs by more than slack times the largest; shapes count."""
    a, b = np.asarray(a), np.asarray(b)
    return a.shape != b.shape or np.abs(a - b).max(initial=0) > slack * max(np.abs(b).max(initial=0), 1.0)


def first_derivatives(fun, values, slack):
    """push and pull of all unit directions are the columns and rows of the Jacobian."""
    local, y = local_of(fun, values), fun(*values)
    for i, dense in enumerate(jacobians(fun, values)):
        assert not differ(local.push(i, units(np.shape(values[i]))).reshape(-1, y.size).T, dense, slack), i
        assert not differ(local.pull(i, units(y.shape)).reshape(y.size, -1), dense, slack), i


def second_derivatives(fun, values, delta, slack):
    """second of all unit directions are the blocks of the Hessian, symmetric, and zero where they are not curved."""
    local, blocks = local_of(fun, values), {}
    for (i, j), dense in hessians(fun, values, delta).items():
        if (i, j) not in local.curved:
            assert not np.any(dense), (i, j)
            continue
        found = local.second(i, j, delta, units(np.shape(values[j])))
        assert found.shape == (np.size(values[j]), *np.shape(values[i]))
        blocks[i, j] = found.reshape(len(found), -1).T
        assert not differ(blocks[i, j], dense, slack), (i, j)
    for i, j in blocks:
        assert not differ(blocks[i, j], blocks[j, i].T, slack), (i, j)


def directions_at_once(fun, values, rng, slack, count=3):
    """R directions give what R calls give."""
    local, y = local_of(fun, values), fun(*values)
    delta = integers(rng, y.shape)
    products = [(lambda t, i=i: local.pull(i, t), y.shape) for i in range(len(values))]
    products += [(lambda t, i=i: local.push(i, t), np.shape(v)) for i, v in enumerate(values)]
    products += [(lambda t, p=p: local.second(*p, delta, t), np.shape(values[p[1]])) for p in local.curved]
    for product, shape in products:
        t = integers(rng, (count, *shape))
        assert not differ(product(t), np.concatenate([product(t[k : k + 1]) for k in range(count)]), slack)


def factors(fun, values, rng, slack):
    """y = theta B channel by channel: the basis gives push and pull, the tangents give second; returns which."""
    local, y = local_of(fun, values), np.asarray(fun(*values))
    delta = integers(rng, y.shape)
    for i, factor in local.factors.items():
        N, L, G, Q = factor.basis.shape
        theta = np.asarray(values[i])
        C = theta.size // (G * Q)
        t, c = integers(rng, (3, *theta.shape)), integers(rng, (3, *y.shape))
        y_dot = np.einsum("rgcq,nlgq->rnlgc", t.reshape(3, G, C, Q), factor.basis)
        assert not differ(factor.view(local.push(i, t)), y_dot, slack), i
        gradient = np.einsum("rnlgc,nlgq->rgcq", factor.view(c), factor.basis)
        assert not differ(local.pull(i, c), gradient.reshape(3, *theta.shape), slack), i
        assert N == len(y)
        assert set(factor.tangents) == {j for k, j in local.curved if k == i}
        for j, tangent in factor.tangents.items():
            s = integers(rng, (3, *np.shape(values[j])))
            assert tangent(s).shape == (3, N, L, G, Q)
            found = np.einsum("nlgc,rnlgq->rgcq", factor.view(delta[None])[0], tangent(s))
            assert not differ(local.second(i, j, delta, s), found.reshape(3, *theta.shape), slack), (i, j)
    return set(local.factors)


def samplewise(fun, values, delta):
    """No entry of the dense Jacobian or Hessian joins two samples of the parents claimed; returns the claim."""
    claimed = local_of(fun, values).samplewise
    y = fun(*values)
    for i in claimed:
        jacobian = jacobians(fun, values)[i].reshape(len(y), y[0].size, len(values[i]), -1)
        assert not np.any(jacobian[~np.eye(len(y), dtype=bool)[:, None].repeat(y[0].size, 1)]), i
    for (i, j), dense in hessians(fun, values, delta).items():
        if i in claimed and j in claimed:
            blocks = dense.reshape(len(y), values[i][0].size, len(y), -1).swapaxes(1, 2)
            assert not np.any(blocks[~np.eye(len(y), dtype=bool)]), (i, j)
    return claimed


def magnitudes(fun, values, slack=0.0):
    """The size of the terms bounds the output, and is the recording's; a bound of it where pieces are chosen."""
    y = np.abs(fun(*values))
    sizes = carried(fun, "magnitude")(tuple(values), tuple(np.abs(value) for value in values))
    recorded = recording(fun, values)
    scale = germ(recorded, joined(values)).tape.magnitudes[recorded.program.output]
    assert sizes.shape == y.shape
    assert (sizes >= y * (1 - slack)).all()
    assert (sizes >= scale * (1 - slack)).all()
    if not {op.name for op in recorded.program.operations} & PIECEWISE:
        assert not differ(sizes, scale, slack)


def recording(fun, values):
    """The recorded graph at the point."""
    return graph.from_function(flat(fun, values), joined(values))


def integers(rng, shape):
    """Small integers: sums and products of a few hundred of them are exact."""
    return rng.integers(-4, 5, shape).astype(float)
