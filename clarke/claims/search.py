"""Looking for a counterexample: a seeded sample of a domain, and the simplest case that still violates.

A domain draws what it needs from an `rng` that is asked like numpy's Generator; either will do. Every draw of `Draws`
comes down to whole numbers, so that a case found once can be drawn again from simpler numbers: the sequence is
shortened and its numbers brought towards 0 as long as the violation stays, as property testers do [MacIver, Donaldson,
ECOOP 2020].
"""

import math
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from .statements import HOLDS, Case, Claim, OutsideHypothesis, case_text
from .statements import claim as declare

GRID = 16  # real numbers are drawn as multiples of 1 / GRID
SEEDS = 2**31  # seeds of numpy's own generators, for what whole numbers do not draw one by one
SHRINKS = 2000  # cases tried to simplify one


class Draws:
    """A numpy Generator as a domain sees it, from a source of whole numbers.

    source(low, high) returns an int in [low, high). Real numbers are multiples of 1/16: `uniform` and `random` evenly,
    `normal` as the sum of two, so that kinks are exact and cases readable. What else a Generator has (`exponential`,
    `shuffle`, `choice` with p, ...) comes from numpy's own, seeded by one whole number.
    """

    def __init__(self, source: Callable[[int, int], int]) -> None:
        self._source = source

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        getattr(np.random.Generator, name)  # AttributeError before a number is spent
        return getattr(self._seeded(), name)

    def _seeded(self):
        return np.random.default_rng(self._source(0, SEEDS))

    def _filled(self, size, draw, dtype):
        if size is None:
            return draw()
        return np.array([draw() for _ in range(_count(size))], dtype=dtype).reshape(size)

    def integers(
        self, low: Any, high: Any = None, size: Any = None, dtype: Any = np.int64, endpoint: bool = False
    ) -> Any:
        """Whole numbers in [low, high), or [0, low)."""
        if np.ndim(low) or np.ndim(high):
            return self._seeded().integers(low, high, size, dtype, endpoint)
        low, high = (0, low) if high is None else (low, high)
        low, high = int(low), int(high) + bool(endpoint)
        if low >= high:
            raise ValueError(f"integers needs low < high; got {low} and {high}")
        return self._filled(size, lambda: self._source(low, high), dtype)

    def choice(
        self, a: Any, size: Any = None, replace: bool = True, p: Any = None, axis: int = 0, shuffle: bool = True
    ) -> Any:
        """Entries of a sequence, or of 0..a-1; the first is the simplest. With replace=False each at most once."""
        if p is not None or axis != 0:
            return self._seeded().choice(a, size, replace, p, axis, shuffle)
        a = range(a) if isinstance(a, int | np.integer) else a
        left, wanted = list(range(len(a))), 1 if size is None else _count(size)
        if wanted and len(left) < (1 if replace else wanted):
            once = "" if replace else ", each at most once"
            raise ValueError(f"choice of {wanted} from {len(left)} entries{once}: there are too few")
        if size is None:
            found = a[self._source(0, len(left))]
            return np.array(found) if np.ndim(found) else found
        take = left.__getitem__ if replace else left.pop
        places = [take(self._source(0, len(left))) for _ in range(wanted)]
        return np.array(np.array(a)[np.array(places, dtype=int).reshape(size)])

    def permutation(self, x: Any, axis: int = 0) -> Any:
        """The numbers 0..x-1, or the entries of a sequence, in some order."""
        if axis != 0:
            return self._seeded().permutation(x, axis)
        return self.choice(x, size=x if isinstance(x, int | np.integer) else len(x), replace=False)

    def uniform(self, low: Any = 0.0, high: Any = 1.0, size: Any = None) -> Any:
        """Multiples of 1/16 in [low, high); of 1/32, 1/64, ... where low or high is none and fewer than 16 lie between.

        Of arrays low and high: low + (high - low) u, u as `random` gives it.
        """
        if np.ndim(low) or np.ndim(high):
            low, high = np.asarray(low, dtype=float), np.asarray(high, dtype=float)
            return low + (high - low) * self.random(
                np.broadcast_shapes(low.shape, high.shape) if size is None else size
            )
        if not (math.isfinite(low) and math.isfinite(high) and low <= high):
            raise ValueError(f"uniform needs finite low <= high; got {low} and {high}")
        grid = GRID
        whole = float(low * grid).is_integer() and float(high * grid).is_integer()
        while not whole and low < high and math.ceil(high * grid) - math.ceil(low * grid) < GRID:
            grid *= 2
        first, last = math.ceil(low * grid), math.ceil(high * grid)
        return self._filled(size, lambda: self._source(first, last) / grid if low < high else float(low), float)

    def random(self, size: Any = None, dtype: Any = np.float64) -> Any:
        """Multiples of 1/16 in [0, 1)."""
        return self._filled(size, lambda: self._source(0, GRID) / GRID, dtype)

    def normal(self, loc: Any = 0.0, scale: Any = 1.0, size: Any = None) -> Any:
        """Roughly normal: loc + scale z, z a multiple of 1/16 in [-3, 3], small ones oftener."""
        if size is None:
            size = np.broadcast_shapes(np.shape(loc), np.shape(scale)) or None
        loc, scale = (np.asarray(term, dtype=float) if np.ndim(term) else term for term in (loc, scale))
        found = loc + scale * self.standard_normal(size)
        return found if size is None else np.asarray(found)

    def standard_normal(self, size: Any = None, dtype: Any = np.float64) -> Any:
        """normal(size=size)."""
        return self._filled(size, lambda: (self._source(-24, 25) + self._source(-24, 25)) / GRID, dtype)


def _count(size):
    return math.prod((size,) if np.ndim(size) == 0 else size)


@dataclass(frozen=True, eq=False)
class Check:
    """What a search found. counterexample: the simplest violating case found, or None.

    cases: drawn; met: of them, meeting the hypothesis; violation: of the counterexample, else the largest met with
    (at most 0); draws: the whole numbers the counterexample was drawn from; shrinks: cases tried to simplify it.
    """

    id: str
    cases: int
    met: int
    violation: float
    counterexample: Case | None
    draws: tuple[int, ...]
    shrinks: int

    def __str__(self) -> str:
        if self.counterexample is None:
            drawn = f"no violation found in {self.met} cases"
            return f"{self.id}: {drawn}" + (f" ({self.cases} drawn)" if self.met < self.cases else "")
        return f"{self.id}: violated by {self.violation:.3g} at {case_text(self.counterexample)}"


def check(
    claim: Any,
    domain: Callable[[Any], Case] | None = None,
    *,
    cases: int = 100,
    rng: np.random.Generator | None = None,
    amended: bool = False,
) -> Check:
    """Draw cases of a domain until one violates the claim, then simplify it.

    claim: a `Claim`, or a function case -> measure, as under the decorator `claim`. domain: rng -> case; the claim's
    own unless told.
    cases: how many to draw. rng: numpy Generator, default_rng(0) unless told: the same cases at every call.
    amended: the corrected statement instead of the printed one. ValueError without a domain, or where no case drawn
    meets the hypothesis: nothing would have been learnt.
    """
    if not isinstance(cases, int | np.integer) or cases < 1:
        raise ValueError(f"cases must be a whole number, at least 1; got {cases!r}")
    if not isinstance(claim, Claim):
        if not callable(claim):
            raise ValueError(f"claim must be a clarke.claims.Claim or a function of a case; got {type(claim).__name__}")
        claim = declare(statement=getattr(claim, "__name__", "claim"))(claim)
    name, violation = claim.id, claim.amended_violation if amended else claim.violation
    domain = domain or (claim.domain if amended else claim.printed_domain)
    if domain is None:
        raise ValueError(f"{name} has no domain; pass one, a function rng -> case")
    if not callable(domain):
        raise ValueError(f"domain must be a function rng -> case; got {type(domain).__name__}")
    if rng is not None and not hasattr(rng, "integers"):
        raise ValueError(f"rng must be a numpy Generator or None; got {type(rng).__name__}")
    rng, met, worst = np.random.default_rng(0) if rng is None else rng, 0, -math.inf
    for k in range(cases):
        found, record = _violation(violation, domain, lambda low, high: int(rng.integers(low, high)))
        if found is None:
            continue
        met, worst = met + 1, max(worst, found)
        if found > 0:
            simplest, shrinks = _simplest(violation, domain, record)
            case = domain(Draws(_replaying(simplest)))
            return Check(name, k + 1, met, violation(case), case, tuple(simplest), shrinks)
    if not met:
        raise ValueError(f"none of {cases} cases of the domain met the hypothesis of {name}; widen the domain")
    return Check(name, cases, met, worst, None, (), 0)


@dataclass(frozen=True)
class Verification:
    """Whether the evidence of a claim is found again. reasons: what contradicts its verdict; () where none does.

    drawn, met: cases of the domain, and of them those that met the hypothesis.
    """

    id: str
    verdict: str
    confirmed: bool
    reasons: tuple[str, ...]
    drawn: int
    met: int

    def __str__(self) -> str:
        state = "confirmed" if self.confirmed else "; ".join(self.reasons)
        return f"{self.id}: {self.verdict}, {state} ({self.met} of {self.drawn} cases met the hypothesis)"


def verify(claim: Claim, *, cases: int = 20, rng: np.random.Generator | None = None) -> Verification:
    """Evaluate the stored counterexample again, and a seeded sample of the domain.

    HOLDS: no case violates the statement, nor its corrected form where it has one. AMENDED, and FAILS with a corrected
    form: the counterexample violates the printed statement by more than 100 tolerances, no case violates the corrected
    one, nor does the counterexample where it meets its hypothesis. UNTESTABLE and OPEN have nothing to evaluate. rng:
    default_rng(0) unless told.
    """
    reasons, drawn, met = [], 0, 0
    case = claim.counterexample
    try:
        if case is not None and claim.violation(case) <= 100 * claim.tolerance:
            reasons.append(f"the counterexample violates by {claim.violation(case):.3g} only")
    except OutsideHypothesis:
        reasons.append("the counterexample does not meet the hypothesis of the printed statement")
    amended = claim.amended is not None
    if amended and case is not None:
        with suppress(OutsideHypothesis):
            if claim.amended_violation(case) > 0:
                reasons.append("the counterexample violates the corrected statement too")
    forms = [form for form, stands in ((False, claim.verdict == HOLDS), (True, amended)) if stands]
    for form in forms if claim.domain is not None else ():
        found = check(claim, claim.domain, cases=cases, rng=rng, amended=form)
        drawn, met = found.cases, found.met
        if found.counterexample is not None:
            reasons.append(f"violated by {found.violation:.3g} at {case_text(found.counterexample)}")
    return Verification(claim.id, claim.verdict, not reasons, tuple(reasons), drawn, met)


def _violation(violation, domain, source):
    """(the violation at the case drawn, or None outside the hypothesis; the whole numbers it was drawn from)."""
    record = []

    def recording(low, high):
        record.append(source(low, high))
        return record[-1]

    try:
        return violation(domain(Draws(recording))), record
    except OutsideHypothesis:
        return None, record


def _replaying(numbers):
    """A source that gives the numbers again, brought into range; 0, or what is nearest, once they are used up."""
    left = iter(numbers)
    return lambda low, high: min(max(next(left, 0), low), high - 1)


def _order(numbers):
    return len(numbers), [(abs(number), number < 0) for number in numbers]


def _simplest(violation, domain, numbers):
    """(the numbers of a simplest violating case that no single step simplifies, cases tried; at most `SHRINKS`)."""
    tried, best = 0, list(numbers)

    def simpler(candidate):
        nonlocal best, tried
        if tried >= SHRINKS or _order(candidate) >= _order(best):
            return False
        tried += 1
        found, record = _violation(violation, domain, _replaying(candidate))
        if found is None or found <= 0 or _order(record) >= _order(best):
            return False
        best = record
        return True

    progress = True
    while progress and tried < SHRINKS:
        progress = False
        for length in (16, 8, 4, 2, 1):
            k = len(best)
            while (k := k - 1) >= 0:
                if k < len(best):
                    progress |= simpler(best[:k] + best[k + length :])
                    progress |= simpler([*best[:k], *[0] * len(best[k : k + length]), *best[k + length :]])
        for k in range(len(best)):
            if k < len(best):
                for value in _towards_zero(best[k]):
                    if simpler([*best[:k], value, *best[k + 1 :]]):
                        progress = True
                        break
    return best, tried


def _towards_zero(number):
    """Simpler whole numbers, the simplest first: 0, 1, powers of two, and what a half, a quarter, ... or 1 less leaves.

    So the least number of an upper set is found in a number of cases that grows with the square of its logarithm.
    """
    size, sign = abs(number), 1 if number >= 0 else -1
    candidates = {1, GRID} | {2**j for j in range(size.bit_length())} | {size - (size >> j) for j in range(1, 64)}
    smaller = sorted({c for c in candidates if 0 < c < size} | ({size - 1} if size > 1 else set()))
    return [0, *(s * c for c in smaller for s in (1, sign))] + ([size] if sign < 0 else [])
