"""`clarke claims`: what it lists, shows, checks and writes, and how it answers mistakes."""

import json
import re
from pathlib import Path

import pytest

import clarke.__main__
from clarke import claims
from clarke.__main__ import main
from clarke.claims.pages import bib_entries, claim_text, claims_page, what_holds_page
from clarke.claims.papers import Ledger

ROOT = Path(__file__).resolve().parents[1]
LEDGER = claims.ledger()


def printed(capsys, *argv):
    """What a successful command prints; nothing goes to standard error."""
    assert main(["claims", *argv]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return out


def refused(capsys, *argv):
    """What a mistake is answered with: one line, and exit code 2."""
    assert main(["claims", *argv]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    return err


# ---------------------------------------------------------------- five claims of no paper


def whole(rng):
    return {"n": int(rng.integers(0, 50))}


def declared(id, verdict, measure, **options):
    options = {"paper": "clarke", "place": "here", "statement": f"what {id} says", "domain": whole} | options
    return claims.claim(id, verdict=verdict, **options)(measure)


FIVE = Ledger(
    (
        declared("even", claims.HOLDS, lambda case: case["n"] * (case["n"] + 1) % 2),
        declared(
            "prime",
            claims.FAILS,
            lambda case: claims.equal(
                least_divisor=min(d for d in range(2, 2000) if (case["n"] ** 2 + case["n"] + 41) % d == 0),
                number=case["n"] ** 2 + case["n"] + 41,
            ),
            counterexample={"n": 40},
            corrected="n^2 + n + 41 is odd",
            amended=lambda case: (case["n"] ** 2 + case["n"]) % 2,
            paper="rahimi2025",
        ),
        declared(
            "shapes",
            claims.AMENDED,
            lambda case: claims.equal(row=[case["n"]], number=case["n"]),
            counterexample={"n": 1},
            corrected="the row holds the number",
            amended=lambda case: claims.equal(entry=[case["n"]][0], number=case["n"]),
        ),
        declared("taste", claims.UNTESTABLE, lambda case: 0, domain=None, reason="beauty has no number"),
        declared("small", claims.HOLDS, lambda case: case["n"] - 40),
    )
)  # fmt: skip


@pytest.fixture
def five(monkeypatch):
    monkeypatch.setattr(clarke.__main__, "ledger", lambda: FIVE)


# ---------------------------------------------------------------- listing


def test_every_claim_is_listed_with_its_verdict_and_the_counts_come_last(capsys):
    *lines, counts = printed(capsys).splitlines()
    assert [line.split()[:3] for line in lines] == [[c.id, c.verdict, c.paper] for c in LEDGER]
    assert all(c.statement in line for c, line in zip(LEDGER, lines, strict=True))
    assert sum(int(n) for n in re.findall(r"\d+", counts)) == len(LEDGER)
    assert counts == ", ".join(f"{n} {verdict}" for verdict, n in LEDGER.counts().items())


def test_filters_meet(five, capsys):
    def listed(*argv):
        return [line.split()[0] for line in printed(capsys, *argv).splitlines()[:-1]]

    assert listed("--verdict", "HOLDS") == listed("--verdict", "holds") == ["even", "small"]
    assert listed("--paper", "rahimi2025") == ["prime"]
    assert listed("--paper", "clarke", "--verdict", "amended") == ["shapes"]
    assert listed("--id", "taste") == ["taste"]
    assert printed(capsys, "--paper", "kornilov") == "no claims\n"
    assert "1 FAILS" in printed(capsys, "--verdict", "FAILS")


def test_the_json_holds_every_field_and_what_a_counterexample_gives(five, capsys):
    found = {entry["id"]: entry for entry in json.loads(printed(capsys, "--json"))}
    assert list(found) == ["even", "prime", "shapes", "taste", "small"]
    assert found["even"] == {
        "id": "even",
        "paper": "clarke",
        "place": "here",
        "statement": "what even says",
        "verdict": "HOLDS",
        "corrected": "",
        "reason": "",
        "counterexample": None,
        "violation": None,
    }
    assert found["prime"]["counterexample"] == {"n": 40}
    assert found["prime"]["violation"] == pytest.approx(1 - 41 / 1681)
    assert found["shapes"]["violation"] == "inf"  # JSON has no infinity
    assert found["taste"]["reason"] == "beauty has no number"
    assert [entry["id"] for entry in json.loads(printed(capsys, "show", "prime", "--json"))] == ["prime"]


def test_the_json_of_the_ledger_is_the_ledger(capsys):
    found = json.loads(printed(capsys, "--json"))
    assert [entry["id"] for entry in found] == [c.id for c in LEDGER]
    for entry, claim in zip(found, LEDGER, strict=True):
        assert entry["statement"] == claim.statement
        assert (entry["violation"] is None) == (claim.counterexample is None)
        assert entry["violation"] is None or entry["violation"] == "inf" or entry["violation"] > 0


# ---------------------------------------------------------------- showing


def test_a_claim_is_worked_out_with_numbers(five, capsys):
    said = printed(capsys, "show", "prime")
    assert said.splitlines()[0] == "prime  FAILS  rahimi2025, here"
    for line in ("printed: what prime says", "holds: n^2 + n + 41 is odd", "counterexample: n = 40"):
        assert line in said
    assert "least_divisor = 41" in said
    assert "number = 1681" in said
    assert "violated by 0.976; tolerance 1e-09" in said
    assert "the sides do not fit: a dimension error" in printed(capsys, "show", "shapes")
    assert "untestable: beauty has no number" in printed(capsys, "show", "taste")


def test_several_claims_are_shown_in_the_order_of_the_ledger(five, capsys):
    assert printed(capsys, "show", "small", "even") == f"{claim_text(FIVE['even'])}\n\n{claim_text(FIVE['small'])}\n"
    assert printed(capsys, "show", "small", "--verdict", "HOLDS") == f"{claim_text(FIVE['small'])}\n"


# ---------------------------------------------------------------- checking


def test_a_check_names_what_it_cannot_confirm_and_counts_the_rest(five, capsys):
    said = printed(capsys, "--check", "--cases", "200").splitlines()
    assert said[-1] == "4 of 5 verdicts confirmed"
    assert len(said) == 2
    assert re.match(r"small: HOLDS, violated by 1 at n = 41 \(\d+ of \d+ cases met the hypothesis\)", said[0])
    assert printed(capsys, "--check", "--id", "even") == "1 of 1 verdicts confirmed\n"
    assert printed(capsys, "--check", "--verdict", "UNTESTABLE") == "1 of 1 verdicts confirmed\n"


def test_a_check_as_json_says_what_was_drawn(five, capsys):
    found = {each["id"]: each for each in json.loads(printed(capsys, "--check", "--cases", "7", "--json"))}
    assert found["even"] == {
        "id": "even",
        "verdict": "HOLDS",
        "confirmed": True,
        "reasons": [],
        "drawn": 7,
        "met": 7,
    }
    assert found["taste"]["drawn"] == 0
    assert found["taste"]["confirmed"] is True


def test_a_counterexample_that_is_none_is_told(capsys, monkeypatch):
    tame = declared("tame", claims.FAILS, lambda case: 0.0, counterexample={"n": 1})
    both = declared(
        "both", claims.AMENDED, lambda case: 1.0, counterexample={"n": 1}, corrected="less", amended=lambda case: 1.0
    )
    monkeypatch.setattr(clarke.__main__, "ledger", lambda: Ledger((tame, both)))
    said = printed(capsys, "--check")
    assert "tame: FAILS, the counterexample violates by -1e-09 only" in said
    assert "both: AMENDED, the counterexample violates the corrected statement too; violated by 1 at n = 0" in said
    assert said.endswith("0 of 2 verdicts confirmed\n")


def test_the_corrected_form_of_what_holds_is_checked_beside_the_printed_one(capsys, monkeypatch):
    def sharper(printed, corrected):
        options = {"corrected": "less", "amended": lambda case: corrected}
        return declared("bound", claims.HOLDS, lambda case: printed, **options)

    for printed_measure, corrected_measure, confirmed in ((0.0, 0.0, 1), (1.0, 0.0, 0), (0.0, 1.0, 0)):
        claim = sharper(printed_measure, corrected_measure)
        monkeypatch.setattr(clarke.__main__, "ledger", lambda claim=claim: Ledger((claim,)))
        assert printed(capsys, "--check").endswith(f"{confirmed} of 1 verdicts confirmed\n")


def test_progress_is_shown_to_people_only(five, capsys, monkeypatch):
    asked = []

    def bar(chosen, **options):
        asked.append((len(chosen), options))
        return chosen

    monkeypatch.setattr(clarke.__main__, "tqdm", bar)
    printed(capsys, "--check", "--id", "even")
    printed(capsys, "--check", "--id", "even", "--json")
    assert asked == [(1, {"unit": "claim", "disable": None}), (1, {"unit": "claim", "disable": True})]  # None: if a tty


# ---------------------------------------------------------------- pages


def test_the_pages_are_written_beside_the_bibliography(five, capsys, tmp_path):
    bibliography = (ROOT / "docs" / "references.bib").read_text()
    (tmp_path / "references.bib").write_text(bibliography)
    assert printed(capsys, "--pages", str(tmp_path)) == ""
    assert sorted(path.name for path in tmp_path.iterdir()) == ["claims.md", "references.bib", "what-holds.md"]
    page, beside = ((tmp_path / name).read_text() for name in ("claims.md", "what-holds.md"))
    assert page == claims_page(FIVE, bibliography)
    assert beside == what_holds_page(FIVE)
    assert "| HOLDS | 2 |" in page
    assert "### prime · FAILS" in page
    assert "Counterexample (violation 0.98): `n = 40`" in page
    assert "Counterexample (a dimension error): `n = 1`" in page
    assert bib_entries(bibliography)["rahimi2025"]["title"] in page
    assert "| prime, here | what prime says | n^2 + n + 41 is odd |" in beside
    assert "taste" not in beside
    assert "even" not in beside


# ---------------------------------------------------------------- mistakes


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["what"], "clarke claims show ID, and one ID or more; got what"),
        (["show"], "clarke claims show ID, and one ID or more; got show"),
        (["prime", "even"], "clarke claims show ID, and one ID or more; got prime even"),
        (["show", "odd", "even", "PRIME"], "no claim odd, PRIME among the 5 chosen; clarke claims lists them"),
        (["--id", "odd"], "no claim odd among the 5 chosen"),
        (["--id", "prime", "--paper", "clarke"], "no claim prime among the 4 chosen"),
        (["show", "prime", "--id", "even"], "show ID and --id both name claims; leave one out"),
        (["--pages", ".", "--id", "even"], "--pages writes every claim, and prints nothing; leave the other"),
        (["--pages", ".", "--check"], "--pages writes every claim, and prints nothing; leave the other"),
    ],
)
def test_a_mistake_is_one_line_that_says_what_to_do(five, capsys, argv, said):
    assert refused(capsys, *argv).startswith(f"clarke: {said}")


def test_pages_need_a_bibliography_that_has_what_is_cited(capsys, tmp_path, monkeypatch):
    citing = declared("citing", claims.HOLDS, lambda case: 0, cites=("nobody1900",))
    monkeypatch.setattr(clarke.__main__, "ledger", lambda: Ledger((citing,)))
    assert "references.bib" in refused(capsys, "--pages", str(tmp_path))
    (tmp_path / "references.bib").write_text("@misc{other,\n  author = {Nobody, N.},\n}\n")
    assert refused(capsys, "--pages", str(tmp_path)) == "clarke: references.bib: other has no title\n"
    (tmp_path / "references.bib").write_text("@misc{other,\n  title = {Other},\n}\n")
    said = "clarke: citing cites nobody1900; references.bib has no such entry\n"
    assert refused(capsys, "--pages", str(tmp_path)) == said
    assert [path.name for path in tmp_path.iterdir()] == ["references.bib"]  # nothing half written


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--paper", "newton1687"], "invalid choice: 'newton1687'"),
        (["--verdict", "maybe"], "invalid choice: 'MAYBE'"),
        (["--check", "--cases", "1"], "a whole number, at least 2, is needed; got '1'"),
    ],
)
def test_options_are_checked_before_anything_runs(capsys, argv, said):
    with pytest.raises(SystemExit) as stopped:
        main(["claims", *argv])
    assert stopped.value.code == 2
    assert said in capsys.readouterr().err
