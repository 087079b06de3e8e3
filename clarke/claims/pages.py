"""The ledger as pages: docs/claims.md, every claim; docs/what-holds.md, what holds beside what is printed."""

import math
import re
import textwrap

from .papers import PAPERS, Ledger
from .statements import AMENDED, FAILS, UNTESTABLE, VERDICTS, Claim, Evidence, case_text, value_text

WIDTH = 110
LONG = 400  # characters of one value that are shown


def claims_page(ledger: Ledger, bibliography: str) -> str:
    """Markdown: how many claims have which verdict, then each with its correction and its counterexample.

    bibliography: the text of references.bib; ValueError where a claim cites a key it does not have.
    """
    entries = bib_entries(bibliography)
    lines = [
        "# Claims",
        "",
        "Every claim of the papers this library implements, as an executable statement. A verdict is evidence about",
        "finitely many cases in floating point: *no violation found*, never *true*. `clarke claims show ID` works a",
        "counterexample out; `clarke claims --check` evaluates all of them again.",
        "",
        "| verdict | claims | meaning |",
        "|---|---|---|",
    ]
    lines += [f"| {verdict} | {count} | {VERDICTS[verdict]} |" for verdict, count in ledger.counts().items()]
    for paper, title in PAPERS.items():
        if chosen := ledger.select(paper=paper):
            lines += ["", f"## {title}", ""]
            if paper in entries:
                lines += [_reference(entries[paper]), ""]
            counts = ", ".join(f"{count} {verdict}" for verdict, count in chosen.counts().items())
            lines += [f"{len(chosen)} claims: {counts}."]
            for claim in chosen:
                lines += ["", *_section(claim, entries)]
    return "\n".join(lines) + "\n"


def what_holds_page(ledger: Ledger) -> str:
    """Markdown: for every claim that does not hold as printed, what is printed and what holds, side by side."""
    lines = [
        "# What holds",
        "",
        "The claims that do not hold as printed, each beside what does. Where the right column is empty nothing of",
        "the kind holds. Rendered from the same objects as the list of claims.",
    ]
    for paper, title in PAPERS.items():
        chosen = [claim for claim in ledger.select(paper=paper) if claim.verdict in (FAILS, AMENDED)]
        if chosen:
            lines += ["", f"## {title}", "", "| | printed | holds |", "|---|---|---|"]
            lines += [f"| {c.id}, {_cell(c.place)} | {_cell(c.statement)} | {_cell(c.corrected)} |" for c in chosen]
    return "\n".join(lines) + "\n"


def claim_text(claim: Claim) -> str:
    """One claim for a terminal: statement, verdict, correction, and its counterexample worked out with numbers."""
    lines = [f"{claim.id}  {claim.verdict}  {claim.paper}, {claim.place}", ""]
    lines += _wrapped("printed", claim.statement)
    if claim.corrected:
        lines += _wrapped("holds", claim.corrected)
    if claim.about:
        lines += ["", *claim.about.splitlines()]
    if claim.reason:
        lines += ["", *_wrapped("untestable" if claim.verdict == UNTESTABLE else "search", claim.reason)]
    if claim.counterexample is not None:
        lines += ["", *_wrapped("counterexample", case_text(claim.counterexample))]
        lines += worked(claim.evidence(claim.counterexample))
        if claim.structural:
            lines.append("  the sides do not fit: a dimension error")
        else:
            found, limit = claim.violation(claim.counterexample), claim.tolerance
            lines.append(f"  violated by {found:.3g}; tolerance {limit:.0e}")
    return "\n".join(lines)


def worked(evidence: Evidence) -> list[str]:
    """The values of an evidence, one a line, cut where they are long."""
    lines = []
    for name, value in evidence.values.items():
        text = value_text(value)
        lines.append(f"  {name} = {text if len(text) <= LONG else text[:LONG] + ' ...'}")
    return lines


def bib_entries(text: str) -> dict[str, dict[str, str]]:
    """key -> fields of the entries of a .bib file, braces removed. ValueError for an entry without a title."""
    found = {}
    for key, body in re.findall(r"^@\w+\{(\w+),\n(.*?)^\}", text, re.MULTILINE | re.DOTALL):
        fields = dict(re.findall(r"^\s*(\w+)\s*=\s*\{(.*)\},?$", body, re.MULTILINE))
        if "title" not in fields:
            raise ValueError(f"references.bib: {key} has no title")
        found[key] = {name: re.sub(r"[{}$^]", "", value) for name, value in fields.items()}
    return found


def _reference(entry):
    people = " and ".join(" ".join(reversed(person.split(", "))) for person in entry.get("author", "").split(" and "))
    source = ", ".join(entry[f] for f in ("journal", "publisher", "school", "note") if f in entry)
    year = entry.get("year", "")
    tail = ", ".join(part for part in (source, "" if year in source else year) if part)
    return f"{people}. *{entry['title']}*." + (f" {tail}." if tail else "")


def _section(claim, entries):
    if missing := [key for key in claim.cites if key not in entries]:
        raise ValueError(f"{claim.id} cites {', '.join(missing)}; references.bib has no such entry")
    lines = [f"### {claim.id} · {claim.verdict}", "", f"*{_marked(claim.place)}.* {_marked(claim.statement)}"]
    if claim.corrected:
        lines += ["", f"**Holds:** {_marked(claim.corrected)}"]
    if claim.reason:
        lines += ["", f"{'Untestable' if claim.verdict == UNTESTABLE else 'Search'}: {_marked(claim.reason)}"]
    if claim.counterexample is not None:
        size = (
            "a dimension error" if claim.structural else f"violation {_rounded(claim.violation(claim.counterexample))}"
        )
        lines += ["", f"Counterexample ({size}): `{case_text(claim.counterexample)}`"]
    if claim.cites:
        lines += ["", " ".join(_reference(entries[key]) for key in claim.cites)]
    return lines


def _rounded(violation):
    """Two digits: the same on every machine."""
    return f"{violation:.2g}" if math.isfinite(violation) else "infinite"


def _wrapped(title, text):
    return textwrap.wrap(f"{title}: {text}", WIDTH, subsequent_indent="  ") or [f"{title}:"]


def _cell(text):
    return _marked(text).replace("|", "\\|")


def _marked(text):
    """Text in which no character is markup."""
    return re.sub(r"([\\*_<`\[])", r"\\\1", " ".join(text.split()))
