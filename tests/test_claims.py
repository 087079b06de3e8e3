"""Every claim of the ledger against its domain and its counterexample."""

import json
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, find, given, settings
from hypothesis import strategies as st
from hypothesis.errors import NoSuchExample

from clarke import claims
from clarke.claims import pages
from clarke.claims.statements import FAILS, HOLDS, UNTESTABLE, OutsideHypothesis

ROOT = Path(__file__).resolve().parents[1]
LEDGER = claims.ledger()
SHARED = ROOT.parent / "shared" / "claims" / "ledger.json"
EXAMPLES = 25


@st.composite
def cases(draw, domain):
    """The domain, its whole numbers drawn by hypothesis: a failure shrinks to the simplest case."""
    return domain(claims.Draws(lambda low, high: draw(st.integers(low, high - 1))))


def survives(claim, violation):
    """No case of the domain violates it, and enough of them meet the hypothesis."""
    counts: Counter[bool] = Counter()

    @settings(max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(cases(claim.domain))
    def holds(case):
        try:
            found = violation(case)
        except OutsideHypothesis:
            counts[False] += 1
            return
        counts[True] += 1
        assert found <= 0, claims.case_text(case)

    holds()
    assert counts[True] >= claim.share * counts.total(), counts


SURVIVORS = [pytest.param(c, c.violation, id=c.id) for c in LEDGER if c.verdict == HOLDS] + [
    pytest.param(c, c.amended_violation, id=f"{c.id} corrected") for c in LEDGER if c.amended and c.domain
]


@pytest.mark.parametrize(("claim", "violation"), SURVIVORS)
def test_no_violation_is_found_of_what_holds(claim, violation):
    survives(claim, violation)


REFUTED = [c for c in LEDGER if c.counterexample is not None]


@pytest.mark.parametrize("claim", REFUTED, ids=lambda claim: claim.id)
def test_a_counterexample_violates_what_is_printed_and_not_what_holds(claim):
    assert claim.violation(claim.counterexample) > 100 * claim.tolerance
    if claim.amended is not None:
        with suppress(OutsideHypothesis):
            assert claim.amended_violation(claim.counterexample) <= 0
    json.dumps(claims.statements.plain(claim.counterexample))  # numbers, strings and lists


@pytest.mark.parametrize("claim", [c for c in REFUTED if not c.reason], ids=lambda claim: claim.id)
def test_a_blind_search_finds_a_violation_again(claim):
    def violates(case):
        try:
            return claim.violation(case) > 100 * claim.tolerance
        except OutsideHypothesis:
            return False

    quiet = settings(
        max_examples=2000,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    try:
        find(cases(claim.printed_domain), violates, settings=quiet)
    except NoSuchExample:
        pytest.fail(f"no violation of {claim.id} found; give a domain that holds one, or say in reason why not")


def test_what_cannot_be_tested_says_why():
    for claim in LEDGER:
        assert (claim.verdict != UNTESTABLE) or claim.reason, claim.id
        if claim.verdict == FAILS and claim.domain is None:
            assert claim.reason, claim.id


def test_the_claims_are_those_of_the_papers():
    if not SHARED.exists():
        pytest.skip("the list of claims is not beside the project")
    listed = {entry["id"]: entry for entry in json.loads(SHARED.read_text())}
    ours = {claim.id: claim for claim in LEDGER if claim.paper != "clarke"}
    assert ours.keys() == listed.keys()
    for name, claim in ours.items():
        assert (claim.paper, claim.place) == (listed[name]["paper"], listed[name]["place"]), name


def test_the_counts_by_verdict_add_up(capsys):
    counts = LEDGER.counts()
    assert sum(counts.values()) == len(LEDGER)
    with capsys.disabled():
        print(", ".join(f"{count} {verdict}" for verdict, count in counts.items()), end=" ")


def test_the_pages_are_rendered_from_the_ledger():
    """After a change: clarke claims --pages docs."""
    docs = ROOT / "docs"
    assert (docs / "claims.md").read_text() == pages.claims_page(LEDGER, (docs / "references.bib").read_text())
    assert (docs / "what-holds.md").read_text() == pages.what_holds_page(LEDGER)
