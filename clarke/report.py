"""Everything about one point of one function, in one value that prints, plots and serializes.

`study` walks the house once: kinks, fan, limiting derivatives, the hulls and their least elements, and what autograd
returns there. What cannot be had at a point (Hessians too large to form, a framework that fails) is left None and said
in `notes`; what was computed from an incomplete list says so.
"""

import re
import textwrap
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from math import isfinite
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from .audit import Audit, check_ad
from .fan import MAX_CHAMBERS, Fan
from .graph import Graph, from_function, point
from .kinks import TOL, Kink, germ
from .limiting import (
    LimitingGradients,
    LimitingHessians,
    LimitingJacobians,
    distinct_elements,
    limiting_hessians,
    limiting_jacobians,
)
from .page import page
from .projection import MinNormElement, eigenvalue_interval, min_norm_element

WIDTH = 80  # columns of the printed report
INDENT = 16  # columns of its labels
SMALL = 64  # entries of an element, and elements, that to_dict still lists
ZERO = 1e-9  # a least gradient below this part of the largest entry counts as zero


@dataclass(frozen=True, eq=False, repr=False)
class Study:
    """One point of one function.

    name, graph, x (n,), tol: the question; value: f(x), an array of f's shape. kinks, fan: what ties, and the patterns.
    Of a scalar f: gradients, hessians, c11, eigenvalue_interval of the hull of the Hessians, min_norm its element of
    least norm, min_norm_gradient that of the gradients, audits: autograd's gradient and Hessian. jacobians: of a
    vector-valued f, else of `output`, with its own patterns; or None. notes: what is missing or incomplete, and why.
    A field that does not apply, or whose matrices would be too large, is None.
    """

    name: str
    graph: Graph = field(repr=False)
    x: np.ndarray
    tol: float
    value: np.ndarray
    fan: Fan = field(repr=False)
    gradients: LimitingGradients | None = field(default=None, repr=False)
    jacobians: LimitingJacobians | None = field(default=None, repr=False)
    hessians: LimitingHessians | None = field(default=None, repr=False)
    c11: bool | None = None
    eigenvalue_interval: tuple[float, float] | None = None
    min_norm: MinNormElement | None = field(default=None, repr=False)
    min_norm_gradient: MinNormElement | None = field(default=None, repr=False)
    audits: tuple[Audit, ...] = field(default=(), repr=False)
    notes: tuple[str, ...] = ()

    @property
    def kinks(self) -> tuple[Kink, ...]:
        return self.fan.kinks

    @property
    def title(self) -> str:
        """One line: the name, the number of kinks and of patterns."""
        k, m = len(self.kinks), len(self.fan.patterns)
        if not k:
            return f"{self.name}: no active kink at x"
        return f"{self.name}: {k} {_plural(k, 'kink')}, {m} {_plural(m, 'pattern')} at x"

    @property
    def stationary(self) -> bool | None:
        """Whether 0 is in the hull of the limiting gradients, to 1e-9 of their largest entry; None if undecided."""
        if self.gradients is None or self.min_norm_gradient is None:
            return None
        largest = float(np.abs(self.gradients.vectors).max())
        if self.min_norm_gradient.distance <= ZERO * largest:
            return True
        return False if self.fan.complete else None

    def __str__(self) -> str:
        return "\n".join(_lines(self))

    __repr__ = __str__  # what a notebook shows

    def to_dict(self) -> dict[str, Any]:
        """The study as JSON has it: dicts with string keys, lists, strings, numbers, booleans and None.

        Derivatives are listed under "values" where there are at most 64 distinct ones of at most 64 entries; otherwise
        "norms_only" holds the least and the largest Frobenius norm. Infinity (no inactive guard) is None.
        """
        return _as_dict(self)

    def plot(self, ax: Any = None) -> Any:
        """With no Axes a Figure, regions beside hull; else the regions, drawn on ax, which is returned.

        ImportError names the extra where matplotlib is missing.
        """
        from . import plots  # matplotlib is an extra

        return plots.study_figure(self) if ax is None else plots.regions(self, ax)

    def to_html(self, path: str | PathLike[str]) -> None:
        """Write one self-contained HTML page: the report, tables, a slice whose regions answer when pointed at."""
        Path(path).write_text(page(self), encoding="utf-8")


def study(
    f: Callable[..., Any] | Graph,
    x: ArrayLike,
    *,
    output: Callable[..., Any] | Graph | None = None,
    tol: float = TOL,
    name: str | None = None,
    max_chambers: int = MAX_CHAMBERS,
    mapper: Callable[..., Any] = map,
) -> Study:
    """Everything about f at x, as a value that prints as a report.

    f: an autograd.numpy function of one flat array (n,), or a Graph; scalar, or vector-valued, of which only the
    limiting Jacobians are computed. output: beside a scalar f, a second such function whose limiting Jacobians are
    reported too, say the logits beside the loss. tol: a guard ties iff |guard| <= tol * its scale. name: what the
    report calls f. mapper: as in `local_fan`. Raises what `local_fan` raises, and ValueError for an output beside a
    vector-valued f.
    """
    options = {"tol": tol, "max_chambers": max_chambers, "mapper": mapper}
    graph = from_function(f, x)
    x = point(x, graph.size)
    scalar = int(np.prod(graph.shape)) == 1
    if output is not None and not scalar:
        raise ValueError(f"output goes with a scalar f; f has shape {graph.shape}, so study the output by itself")
    found = limiting_hessians(graph, x, **options) if scalar else limiting_jacobians(graph, x, **options)
    here = germ(graph, x, tol=tol)
    listed = found.complete, found.reason, found.undecided
    fan = Fan(here.kinks, found.patterns, found.witnesses, *listed, here.margin)
    notes = [] if fan.complete else ["the list of patterns is incomplete; every hull below may be too small"]
    name = name or getattr(f, "__name__", "f").replace("<lambda>", "f")
    value = np.array(graph(x), dtype=float)
    value.flags.writeable = False
    common = {"name": name, "graph": graph, "x": x, "tol": here.tol, "value": value, "fan": fan}
    if isinstance(found, LimitingJacobians):
        return Study(**common, jacobians=found, notes=tuple(notes))

    gradients = LimitingGradients(found.patterns, found.gradients, found.witnesses, *listed)
    second = _second_order(found, notes)
    jacobians = None if output is None else limiting_jacobians(output, x, **options)
    if jacobians is not None and not jacobians.complete:
        notes.append(f"the limiting Jacobians of the output are incomplete: {jacobians.reason}")
    audits = [_audit(f, x, gradients, notes)]
    if second:
        audits.append(_audit(f, x, found, notes))
    return Study(
        **common,
        gradients=gradients,
        jacobians=jacobians,
        **second,
        min_norm_gradient=min_norm_element(gradients),
        audits=tuple(audit for audit in audits if audit is not None),
        notes=tuple(notes),
    )


def _second_order(found, notes):
    """The fields that need the matrices, or none of them where the matrices would not fit."""
    try:
        return {
            "hessians": found,
            "eigenvalue_interval": eigenvalue_interval(found),
            "min_norm": min_norm_element(found),
            "c11": found.c11,
        }
    except MemoryError as error:
        notes.append(f"no Hessians: {error}")
        return {}


def _audit(f, x, elements, notes):
    derivative = "gradient" if isinstance(elements, LimitingGradients) else "hessian"
    try:
        with warnings.catch_warnings():  # autograd warns where f is linear, or constant
            warnings.filterwarnings("ignore", "Output seems independent of input", UserWarning)
            return check_ad(f, x, derivative=derivative, elements=elements)
    except Exception as error:  # however a framework fails at a kink, that is a finding
        notes.append(f"autograd's {derivative} could not be had: {type(error).__name__}: {error}")
        return None


# ---------------------------------------------------------------- as text


def _lines(study):
    n = study.x.size
    title = textwrap.wrap(study.name, WIDTH) or ["f"]
    yield from (*title, "=" * max(map(len, title)))
    yield from _row("point", f"x in R^{n}: {_vector(study.x)}")
    yield from _row("value", _vector(study.value.ravel()) if study.value.size > 1 else f"{study.value.item():.10g}")
    yield ""
    yield from _kink_lines(study)
    yield ""
    yield from _pattern_lines(study.fan)
    yield ""
    yield from _derivative_lines(study)
    if study.audits:
        yield ""
        yield "autograd"
        for audit in study.audits:
            yield from _row(f"  {_title(audit.derivative)}", _verdict(audit))
    for note in study.notes:
        yield ""
        yield from _row("note", note)


def _row(label, text):
    """A label and its text, wrapped under itself."""
    return textwrap.wrap(
        text,
        WIDTH,
        initial_indent=label.ljust(INDENT),
        subsequent_indent=" " * INDENT,
        break_on_hyphens=False,
    )


def _kink_lines(study):
    kinks = study.kinks
    yield from _row("kinks", f"{len(kinks)} active, |guard| <= {study.tol:g} of its scale" if kinks else "none active")
    for (unit, operation), names in by_unit(kinks).items():
        yield from _row(f"  {unit}", f"{len(names):>4}  {operation:<8} {_some(names)}")
    margin = study.fan.margin
    yield from _row("  next", f"|guard| = {margin:.3g} of its scale" if isfinite(margin) else "no other guard")


def by_unit(kinks: Iterable[Kink]) -> dict[Any, Any]:
    """(node or operation of the graph, operation as written) -> names of its kinks, in order."""
    groups = {}
    for kink in kinks:
        unit = re.sub(r"(\[[\d, ]+\])?((<>\d+)?#\d+)?$", "", kink.name)
        groups.setdefault((unit, kink.operation), []).append(kink.name)
    return groups


def _some(names, room=WIDTH - INDENT - 16):
    """As many names as fit in the room, and how many more there are."""
    for shown in range(len(names), 0, -1):
        rest = len(names) - shown
        text = ", ".join(names[:shown]) + (f", ... and {rest} more" if rest else "")
        if len(text) <= room:
            return text
    return text


def _pattern_lines(fan):
    k, m = len(fan.kinks), len(fan.patterns)
    possible = f"2^{k} = {2**k:,}" if k < 54 else f"2^{k}, about 10^{round(k * np.log10(2))}"
    yield from _row("patterns", f"{m} of {possible}" if k else "1: f is smooth near x")
    yield from _row("  complete", f"{'yes' if fan.complete else 'no'}: {fan.reason}")
    if fan.undecided:
        yield from _row("  undecided", f"{len(fan.undecided)}: {_some(fan.undecided)}")
    mute = [pattern.count("0") for pattern in fan.patterns if "0" in pattern]
    if mute:
        letters = f"{sum(mute)} {_plural(sum(mute), 'letter')} in {len(mute)} {_plural(len(mute), 'pattern')}"
        yield from _row("  mute", f"{letters}: the guard is zero on the chamber")


def _derivative_lines(study):
    if study.gradients is not None:
        yield from _row("gradients", f"{_distinct_of(study.gradients.vectors)} in R^{study.x.size}")
        least = study.min_norm_gradient
        verdict = {True: "0 is in the hull: x is stationary", False: "x is not stationary", None: "undecided"}
        yield from _row("  least norm", f"{_least(least)}: {verdict[study.stationary]}")
        yield from _row("  C^{1,1}", _C11[study.c11] if study.hessians is not None else "not looked at")
    if study.hessians is not None:
        n, (low, high) = study.x.size, study.eigenvalue_interval
        yield from _row("Hessians", f"{_distinct_of(study.hessians.matrices)}, {n} x {n}")
        yield from _row("  eigenvalues", f"of the hull in [{low:.6g}, {high:.6g}]")
        yield from _row("  least norm", _least(study.min_norm))
    if study.jacobians is not None:
        _, p, n = study.jacobians.matrices.shape
        of = "" if study.gradients is None else " of the output"
        yield from _row("Jacobians", f"{_distinct_of(study.jacobians.matrices)}{of}, {p} x {n}")


_C11 = {
    True: "yes: the hull of the Hessians is the Clarke Hessian",
    False: "no: the gradient jumps, at x or near it; no Hessian shows that",
    None: "undecided: the hull of the Hessians may leave a jump out",
}


def _distinct_of(elements):
    return f"{len(distinct_elements([elements], ZERO))} distinct of {len(elements)}"


def _least(element):
    return f"{element.distance:.6g} (gap {element.gap:.1g})"


def _verdict(audit):
    whole = _title(audit.derivative)
    if audit.is_element:
        return f"one of the limiting {whole}s"
    if audit.inside:
        return f"inside the hull, but none of the limiting {whole}s"
    known = "" if audit.inside is False else "; but that list is incomplete"
    return f"outside the hull of the limiting {whole}s, {audit.distance:.6g} away{known}"


def _title(derivative):
    return {"hessian": "Hessian"}.get(derivative, derivative)


def _plural(count, noun):
    return noun if count == 1 else f"{noun}s"


def _vector(array, shown=6):
    text = ", ".join(f"{entry:.6g}" for entry in array[:shown])
    return f"({text}{', ...' if len(array) > shown else ''})"


# ---------------------------------------------------------------- as data


def _as_dict(study):
    fan = study.fan
    kinks = [
        {"name": k.name, "operation": k.operation, "entry": list(k.entry), "guard": k.guard, "scale": k.scale}
        for k in fan.kinks
    ]
    units = {}
    for (unit, _), names in by_unit(fan.kinks).items():
        units[unit] = units.get(unit, 0) + len(names)
    gradients = None if study.gradients is None else study.gradients.vectors
    return {
        "name": study.name,
        "x": study.x.tolist(),
        "tol": study.tol,
        "value": study.value.tolist(),
        "kinks": kinks,
        "kinks_by_unit": units,
        "margin": fan.margin if isfinite(fan.margin) else None,
        "patterns": {
            "count": len(fan.patterns),
            "list": list(fan.patterns),
            "complete": fan.complete,
            "reason": fan.reason,
            "undecided": list(fan.undecided),
        },
        "gradients": _elements(gradients),
        "stationary": study.stationary,
        "min_norm_gradient": _element(study.min_norm_gradient),
        "c11": study.c11,
        "hessians": _elements(None if study.hessians is None else study.hessians.matrices),
        "eigenvalue_interval": None if study.eigenvalue_interval is None else list(study.eigenvalue_interval),
        "min_norm_hessian": _element(study.min_norm),
        "jacobians": _elements(None if study.jacobians is None else study.jacobians.matrices),
        "audits": [audit_dict(audit) for audit in study.audits],
        "notes": list(study.notes),
    }


def audit_dict(audit: Audit) -> dict[str, Any]:
    """An Audit as JSON has it."""
    return {
        "backend": audit.backend,
        "derivative": audit.derivative,
        "inside": audit.inside,
        "is_element": audit.is_element,
        "distance": audit.distance,
        "elements": len(audit.elements),
        "complete": audit.elements.complete,
        **_array(audit.value),
    }


def _elements(array):
    if array is None:
        return None
    distinct = array[distinct_elements([array], ZERO)]
    head = {"count": len(array), "distinct": len(distinct), "shape": list(array.shape[1:])}
    if len(distinct) <= SMALL and distinct[0].size <= SMALL:
        return head | {"values": distinct.tolist()}
    norms = np.linalg.norm(distinct.reshape(len(distinct), -1), axis=1)
    return head | {"norms_only": [float(norms.min()), float(norms.max())]}


def _element(element):
    if element is None:
        return None
    return {"norm": element.distance, "gap": element.gap, "method": element.method, **_array(element.element)}


def _array(array):
    return {"value": array.tolist()} if array.size <= SMALL else {"shape": list(array.shape)}
