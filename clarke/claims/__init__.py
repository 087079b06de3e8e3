"""The claims of the papers this library implements, executable, each with a verdict and the evidence for it.

    from clarke import claims
    print(claims.ledger()["F1"])                      # statement, correction, counterexample
    print(claims.check(claims.ledger()["R3"]))        # no violation found in 100 cases

and a way to state one's own:

    @claims.claim(statement="a limiting gradient of |x1| + |x2| has entries 1 or -1", domain=draw)
    def conjecture(case):
        ...
    print(claims.check(conjecture))
"""

from .papers import Ledger, ledger
from .search import Check, Draws, Verification, check, verify
from .statements import (
    AMENDED,
    FAILS,
    HOLDS,
    OPEN,
    UNTESTABLE,
    VERDICTS,
    Claim,
    Evidence,
    OutsideHypothesis,
    assume,
    at_most,
    case_text,
    claim,
    equal,
    worst,
)

__all__ = [
    "AMENDED",
    "FAILS",
    "HOLDS",
    "OPEN",
    "UNTESTABLE",
    "VERDICTS",
    "Check",
    "Claim",
    "Draws",
    "Evidence",
    "Ledger",
    "OutsideHypothesis",
    "Verification",
    "assume",
    "at_most",
    "case_text",
    "check",
    "claim",
    "equal",
    "ledger",
    "verify",
    "worst",
]
