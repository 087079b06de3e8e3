"""What a claim is: a statement, where it stands, and a function that measures how far a case contradicts it.

A claim is written once, as the function `case -> measure` under the decorator `claim`. A case is a dict of plain
values (numbers, strings, lists, arrays) that its domain draws; the measure is at most 0 where the case bears the
statement out exactly, and `violation` = measure - tolerance forgives rounding. A verdict is evidence about finitely
many cases in floating point, never a proof.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from inspect import cleandoc
from typing import Any

import numpy as np

HOLDS, AMENDED, FAILS, UNTESTABLE, OPEN = "HOLDS", "AMENDED", "FAILS", "UNTESTABLE", "OPEN"
VERDICTS = {
    HOLDS: "as printed; no violation found",
    AMENDED: "not as printed; no violation found of the corrected statement",
    FAILS: "as printed, with a counterexample",
    UNTESTABLE: "nothing a case could contradict",
    OPEN: "not judged",
}

Case = Mapping[str, Any]


class OutsideHypothesis(Exception):
    """The case does not meet the hypothesis of the claim; `assume` raises it, and searches count it."""


def assume(condition: Any) -> None:
    """Leave the case out unless the hypothesis of the claim holds."""
    if not condition:
        raise OutsideHypothesis


@dataclass(frozen=True, eq=False)
class Evidence:
    """measure: how far the case contradicts the statement; inf where sides do not even fit (a dimension error).

    values: name -> array or text, the two sides and what leads to them, for a reader.
    """

    measure: float
    values: dict[str, Any] = field(default_factory=dict)


def equal(*, scale: float = 1.0, **sides: Any) -> Evidence:
    """Two named sides that should be equal: max |a - b| / max(scale, |b|), b the second; inf if their shapes differ."""
    if len(sides) != 2:
        raise ValueError(f"equal compares two named sides; got {', '.join(sides) or 'none'}")
    a, b = (np.asarray(side, dtype=float) for side in sides.values())
    if a.shape != b.shape:
        return Evidence(math.inf, {name: f"an array {np.shape(side)}" for name, side in sides.items()})
    return Evidence(float(np.abs(a - b).max(initial=0.0) / max(scale, np.abs(b).max(initial=0.0))), sides)


def _broadcast(*shapes):
    try:
        return np.broadcast_shapes(*shapes)
    except ValueError:
        return None


def at_most(*, scale: float = 1.0, **sides: Any) -> Evidence:
    """Two named sides, the first at most the second, entry by entry: max (a - b) / max(scale, |b|).

    One side may be repeated along the other, a number along an array, as numpy does. inf if the shapes do not fit; 0
    if there is no entry.
    """
    if len(sides) != 2:
        raise ValueError(f"at_most compares two named sides; got {', '.join(sides) or 'none'}")
    a, b = (np.asarray(side, dtype=float) for side in sides.values())
    shape = _broadcast(a.shape, b.shape)
    if shape not in (a.shape, b.shape):
        return Evidence(math.inf, {name: f"an array {np.shape(side)}" for name, side in sides.items()})
    if 0 in shape:
        return Evidence(0.0, sides)
    return Evidence(float(np.max((a - b) / np.maximum(scale, np.abs(b)))), sides)


def worst(*evidences: Evidence) -> Evidence:
    """Several comparisons at once: the largest measure, and the values of all, the last under a name that repeats."""
    values = {name: value for evidence in evidences for name, value in evidence.values.items()}
    return Evidence(max(evidence.measure for evidence in evidences), values)


@dataclass(frozen=True, eq=False, repr=False)
class Claim:
    """One statement of a paper, and the evidence for its verdict.

    id, paper, place: the paper by its key in docs/references.bib, and where in it the statement stands.
    statement: in the source's words, translated. corrected: what holds instead; "" where nothing needs correction.
    verdict: one of `VERDICTS`.
    measured: case -> a number or `Evidence`; the printed statement. amended: the same for the corrected one, or None.
    domain: rng -> case, on which the verdict was earned; the corrected statement's where there is one.
    printed_domain: where a violation of the printed statement is searched; `domain` unless it is told.
    counterexample: the smallest case known that violates the printed statement, or None.
    tolerance: of rounding, in the units of the measure; a counterexample exceeds it 100 times or is structural.
    share: at least this share of the domain's cases meets the hypothesis.
    reason: why it is UNTESTABLE; or why a blind search does not find the counterexample again.
    cites: further keys of docs/references.bib.
    """

    id: str
    paper: str
    place: str
    statement: str
    verdict: str
    corrected: str
    measured: Callable[[Case], Any] | None
    amended: Callable[[Case], Any] | None
    domain: Callable[[Any], Case] | None
    printed_domain: Callable[[Any], Case] | None
    counterexample: Case | None
    tolerance: float
    share: float
    reason: str
    cites: tuple[str, ...]
    about: str

    def __repr__(self) -> str:
        return f"Claim({self.id!r}, {self.verdict})"

    def violation(self, case: Case) -> float:
        """At most 0 iff the case bears the printed statement out; inf where its sides do not fit together."""
        return self.evidence(case).measure - self.tolerance

    def amended_violation(self, case: Case) -> float:
        """At most 0 iff the case bears the corrected statement out."""
        return self.evidence(case, amended=True).measure - self.tolerance

    def evidence(self, case: Case, *, amended: bool = False) -> Evidence:
        """Both sides of the statement, or of the corrected one, at a case. OutsideHypothesis where it says nothing."""
        measure = self.amended if amended else self.measured
        if measure is None:
            raise ValueError(f"{self.id} has no {'corrected form' if amended else 'measure'} to evaluate")
        found = measure(case)
        if not isinstance(found, Evidence) and (isinstance(found, bool | np.bool_ | None) or np.size(found) != 1):
            came = found if isinstance(found, bool | np.bool_ | None) else f"an array {np.shape(found)}"
            raise TypeError(
                f"the measure of {self.id} returned {came}; return a number, at most 0 where the case agrees"
            )
        evidence = found if isinstance(found, Evidence) else Evidence(float(np.reshape(found, ())))
        if math.isnan(evidence.measure):
            raise ValueError(f"the measure of {self.id} is nan at the case {case_text(case)}")
        return evidence

    @property
    def structural(self) -> bool:
        """Whether the counterexample is a dimension error: no number measures it."""
        return self.counterexample is not None and math.isinf(self.violation(self.counterexample))


def claim(
    id: str = "",
    *,
    statement: str,
    paper: str = "",
    place: str = "",
    verdict: str = OPEN,
    corrected: str = "",
    amended: Callable[[Case], Any] | None = None,
    domain: Callable[[Any], Case] | None = None,
    printed_domain: Callable[[Any], Case] | None = None,
    counterexample: Case | None = None,
    tolerance: float = 1e-9,
    share: float = 0.5,
    reason: str = "",
    cites: tuple[str, ...] = (),
) -> Callable[[Callable[[Case], Any]], Claim]:
    """Decorate `case -> measure` to a `Claim`; the function's docstring, if any, becomes its proof or derivation.

    A conjecture needs a statement and a domain; `check` then looks for a counterexample. The fields are those of
    `Claim`. ValueError where the fields contradict the verdict.
    """
    if verdict not in VERDICTS:
        raise ValueError(f"verdict must be one of {', '.join(VERDICTS)}; got {verdict!r}")
    if not statement.strip():
        raise ValueError("statement is empty; say what is claimed")

    def declare(measured) -> Claim:
        name = id or getattr(measured, "__name__", "claim")
        wanting = _wanting(verdict, amended, domain, counterexample, corrected, reason)
        if wanting:
            raise ValueError(f"{name} is {verdict} and needs {wanting}")
        return Claim(
            id=name,
            paper=paper,
            place=place,
            statement=statement,
            verdict=verdict,
            corrected=corrected,
            measured=None if verdict == UNTESTABLE else measured,
            amended=amended,
            domain=domain,
            printed_domain=printed_domain or domain,
            counterexample=counterexample,
            tolerance=tolerance,
            share=share,
            reason=reason,
            cites=cites,
            about=cleandoc(measured.__doc__ or ""),
        )

    return declare


def _wanting(verdict, amended, domain, counterexample, corrected, reason):
    """What the verdict needs and is not there, or ""."""
    if verdict == UNTESTABLE:
        return "" if reason else "a reason"
    if verdict in (FAILS, AMENDED) and counterexample is None:
        return "a counterexample to the printed statement"
    if verdict == AMENDED and amended is None:
        return "the corrected statement, as amended"
    if (amended is not None or verdict == AMENDED) and not corrected:
        return "the corrected statement in words"
    if verdict in (HOLDS, AMENDED) and domain is None:
        return "a domain"
    return ""


# ---------------------------------------------------------------- cases as text


def plain(value: Any) -> Any:
    """The value in lists, numbers and strings, as JSON has them."""
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def value_text(value: Any) -> str:
    """A value as one writes it: arrays as nested lists, 6 digits, whole numbers without a point."""
    found = plain(value)
    if isinstance(found, list):
        return f"[{', '.join(map(value_text, found))}]"
    if isinstance(found, dict):
        return "{" + ", ".join(f"{key}: {value_text(inner)}" for key, inner in found.items()) + "}"
    return f"{found:.6g}" if isinstance(found, float) else str(found)


def case_text(case: Case) -> str:
    """A case in one line: name = value, ...; the value alone where a domain draws no dict."""
    if not isinstance(case, Mapping):
        return value_text(case)
    return ", ".join(f"{name} = {value_text(value)}" for name, value in case.items())
