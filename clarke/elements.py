"""Which element is meant at a kink: the linearizations of a network under a pattern, a mixture, or all that agree."""

import numbers
from collections.abc import Mapping
from typing import Any

import numpy as np

from . import selections
from .fan import MAX_CHAMBERS, fan_of, generic_direction, pattern_along
from .halfspaces import strict_direction
from .kinks import germ, require_tolerance, signs_of, text
from .linearization import Layout, hessian_product, linearize
from .local import carried
from .network import Network
from .restriction import TooManyChambers
from .skeleton import skeleton

FEW = 256  # pieces listed at once before a few are compared
ROUNDING = 1e-12  # a negative weight this small is one of 0
AGREE = 1e-9  # derivatives that differ by less than this, relative to their largest entry, are one


class KinkError(ValueError):
    """Derivatives were asked for at a kink without saying which piece. kinks: the active ones."""

    def __init__(self, message: str, kinks: tuple[Any, ...] = ()) -> None:
        super().__init__(message)
        self.kinks: tuple[Any, ...] = tuple(kinks)


def elements_at(
    network: Network, pattern: str | None, weights: Mapping[str, float] | None, kinks: Any, tol: float
) -> tuple[dict[str, float], tuple[tuple[Any, ...], ...], bool, str]:
    """(pattern -> weight, ((weight, linearization), ...), were they required to agree?, a doubt or "") at the point.

    pattern: one string; weights: a dict pattern -> weight; with neither, all pieces, which must agree in gradient and
    Hessian over inputs and parameters, else `KinkError`. kinks: those the letters belong to, where they are fewer than
    all (a fan over fewer inputs and parameters), by name; the letters of the others are completed. No recording is made
    where the closed forms of the nodes exclude a tie.
    """
    if pattern is not None and weights is not None:
        raise ValueError("pass pattern or weights, not both")
    require_tolerance(tol)
    asked = _asked(pattern, weights)
    if not asked and not _may_tie(network, tol):
        return {"": 1.0}, ((1.0, linearize(network)),), False, ""
    every = network.inputs + network.parameters
    here = germ(network.function(wrt=every), network.point(every), tol=tol)
    theirs = here.kinks if kinks is None else _among(kinks, here.kinks)
    for letters in asked:
        _require_letters(letters, theirs)
    if not here.kinks:
        return {"": 1.0}, ((1.0, linearize(network)),), False, ""
    skel = skeleton(here)
    if asked:
        asked, doubt = _realized(skel, asked, theirs, kinks is not None)
        return (
            asked,
            tuple((weight, _element(network, here, letters)) for letters, weight in asked.items()),
            False,
            doubt,
        )
    found = _agreeing(network, here, skel, every)
    return dict.fromkeys(found, 1.0 / len(found)), tuple((1.0 / len(found), lin) for lin in found.values()), True, ""


def _asked(pattern, weights):
    if pattern is not None:
        if not isinstance(pattern, str):
            raise ValueError(f"pattern must be a string over +-0, one letter a kink; got {pattern!r}")
        return {pattern: 1.0}
    if weights is None:
        return {}
    if not isinstance(weights, Mapping) or not weights or not all(isinstance(letters, str) for letters in weights):
        raise ValueError(f"weights must be a dict pattern -> weight; got {weights!r:.80}")
    for letters, weight in weights.items():
        if not isinstance(weight, numbers.Real) or not float(weight) >= -ROUNDING:
            raise ValueError(f"weights must be nonnegative numbers; got {weight!r} for {letters!r:.60}")
    total = float(sum(weights.values()))
    if not abs(total - 1) <= 1e-9:
        raise ValueError(f"weights must have sum 1; got sum {total:.6g}")
    return {letters: float(w) for letters, w in weights.items() if w > 0}


def _may_tie(network, tol):
    """False only if no guard can be within tol of its scale: closed forms bound the scale from above."""
    nodes = network.dag.nodes
    calls = [(name, nodes[name]["fun"], nodes[name]["parents"]) for name in network.nodes]
    unknown = [fun for _, fun, _ in [*calls, *network.losses] if carried(fun, "derivatives") is None]
    if unknown:
        return True
    if all(carried(fun, "guards") is None for _, fun, _ in calls):
        return False
    sizes = {name: np.abs(network.value(name)) for name in network.inputs + network.parameters}
    for name, fun, parents in calls:
        around, values = [sizes[p] for p in parents], [network.value(p) for p in parents]
        guards_of = carried(fun, "guards")
        if guards_of is not None:
            guards, scales = guards_of(values, around)
            if np.any(np.abs(guards) <= 4.0 * tol * scales):  # 4: the bound may round below the scale itself
                return True
        magnitude = carried(fun, "magnitude")
        if magnitude is None:
            return True
        sizes[name] = magnitude(values, around)
    return False


def _require_letters(letters, kinks):
    if len(letters) != len(kinks) or set(letters) - set("+-0"):
        names = ", ".join(kink.name for kink in kinks[:6]) + (", ..." if len(kinks) > 6 else "")
        raise ValueError(
            f"a pattern has one letter over +-0 for each of the {len(kinks)} active kinks"
            f"{f' ({names})' if kinks else ''}; got {letters!r:.60} of length {len(letters)}"
        )


def _among(given, kinks):
    """The active kinks with the given names, in the order given."""
    by_name = {kink.name: kink for kink in kinks}
    names = [getattr(kink, "name", kink) for kink in given]
    if unknown := [name for name in names if name not in by_name]:
        raise ValueError(f"kinks names {unknown[0]!r}, no active kink of this network: {', '.join(by_name) or 'none'}")
    return tuple(by_name[name] for name in names)


def _realized(skel, asked, theirs, fewer):
    """The asked patterns with the letters of all kinks, and '' or why one of them might not be realized.

    A direction shows a pattern; only what none shows is looked up in the list of all. fewer: the letters are those of
    a fan over fewer arrays, so that any pattern will do that has them, and a mute kink on either side fits any letter.
    """
    kinks, full, doubt, fan = skel.germ.kinks, {}, "", None
    for letters, weight in asked.items():
        known = dict(zip((kinks.index(kink) for kink in theirs), letters, strict=True))
        whole = _along_a_direction(skel, known, fewer)
        if whole is None:
            fan = fan or fan_of(skel, max_chambers=MAX_CHAMBERS)
            fitting = (found for found in fan.patterns if (_fits(found, known) if fewer else found == letters))
            whole = next(fitting, None)
            if whole is None and not fewer and letters.startswith(fan.undecided):
                whole, doubt = letters, f"pattern {letters!r:.60} may not be realized: {fan.reason}"
            if whole is None:
                raise ValueError(
                    f"pattern {letters!r:.60} is not realized near the point: no element belongs to it; "
                    f"local_fan lists the {len(fan)} that are"
                )
        full[whole] = full.get(whole, 0.0) + weight
    return full, doubt


def _fits(found, known):
    return all(found[k] == letter or "0" in (found[k], letter) for k, letter in known.items())


def _along_a_direction(skel, known, fewer):
    """A pattern with the known letters (kink -> letter) that a direction shows to first order, or None.

    Of two-way kinks only; those that are free take the sign they have along the direction found so far.
    """
    n = skel.germ.x.size
    slots, rows, signs = np.zeros((skel.size, n)), np.zeros((0, n)), np.zeros(len(skel.germ.kinks), dtype=int)
    for stage in skel.germ.stages:
        if not isinstance(stage.ties, selections.TwoWayTies):
            return None
        here = range(stage.letters.start, stage.letters.stop)
        given = signs_of("".join(known.get(k, "0") for k in here))
        guards = skel.cleaned(skel.rows(stage.position, stage.ties.guard_terms), slots)
        live = guards.any(axis=1)
        if not fewer and np.any((given != 0) != live):
            return None
        given = np.where(live, given, 0)
        rows = np.vstack([rows, (given[:, None] * guards)[given != 0]])
        if (free := live & (given == 0)).any():
            inside, margin, _ = strict_direction(rows)
            if inside is None:
                return None
            along = guards @ (inside + 0.5 * min(margin, 1.0) * generic_direction(n))  # generic, and still inside
            given = np.where(free, np.sign(along), given).astype(int)
            rows = np.vstack([rows, (given[:, None] * guards)[free]])
        signs[stage.letters] = given
        slots = skel.advance(stage, given, slots)
    return text(signs) if strict_direction(rows)[0] is not None else None


def _agreeing(network, here, skel, names):
    """pattern -> linearization of every piece, all with the same derivatives; `KinkError` at the first that differs."""
    rng = np.random.default_rng(0)
    n = here.x.size
    probes = rng.standard_normal((4, n))  # matrices that agree there are equal with probability 1
    layout, found, first = Layout(network, names), {}, []

    def compare(patterns):
        for letters in patterns:
            if letters not in found:
                found[letters] = _element(network, here, letters)
                first.append(_derivatives(found[letters], layout, probes))
                if len(first) > 1:
                    _require_same(first[0], first.pop(), here.kinks)

    try:
        fan = fan_of(skel, max_chambers=FEW)
    except TooManyChambers:  # at most kinks some differ, and comparing a few saves listing all
        compare(text(pattern_along(skel, direction)) for direction in (None, *rng.standard_normal((3, n))))
        try:
            fan = fan_of(skel, max_chambers=MAX_CHAMBERS)
        except TooManyChambers as error:
            raise _kink_error(here.kinks, f"where {error.count} pieces meet, or more") from error
    if not fan.complete:
        raise _kink_error(here.kinks, f"and the list of pieces is not complete ({fan.reason})")
    compare(fan.patterns)
    return {letters: found[letters] for letters in fan.patterns}


def _derivatives(lin, layout, probes):
    """The gradient over the names, and the Hessian's products with the probes."""
    gradient = layout.join({name: lin.adjoint(name) for name in layout.names})
    return gradient, hessian_product(lin, layout, probes)


def _require_same(first, second, kinks):
    for a, b in zip(first, second, strict=True):
        if np.abs(a - b).max(initial=0) > AGREE * np.abs(a).max(initial=0):
            raise _kink_error(kinks, "and the pieces that meet there have different derivatives")


def _kink_error(kinks, why):
    names = ", ".join(kink.name for kink in kinks[:12]) + (f" and {len(kinks) - 12} more" if len(kinks) > 12 else "")
    return KinkError(
        f"{len(kinks)} kink{'s are' if len(kinks) != 1 else ' is'} active at this point ({names}), {why}; "
        "pass pattern=, a string with one letter a kink, or weights=, a dict pattern -> weight; the patterns are those "
        "of local_fan(network.function(every), network.point(every)) for every = network.inputs + network.parameters",
        kinks,
    )


def _element(network, here, letters):
    """The linearization with every piecewise operation set by the letters."""
    branches, pieces = here.branches(signs_of(letters)), {}
    for position, op in enumerate(here.graph.program.operations, 1):
        if op.name in selections.PIECEWISE:
            pieces.setdefault(op.label, []).append(branches[position])
    return linearize(network, {label: tuple(found) for label, found in pieces.items()})
