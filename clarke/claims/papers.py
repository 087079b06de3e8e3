"""The claims paper by paper, in one ledger."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib import import_module

from .statements import VERDICTS, Claim

PAPERS = {
    "bolshim2025interlayer": "Interlayer Hessian as a tool for analyzing neural networks",
    "bolshim2026dag": "Inter-layer Hessian analysis of neural networks with DAG architectures",
    "bolshim2026trace": "Stochastic estimation of the layer-wise Hessian trace",
    "bolshim2025local": "Local properties of neural networks through layer-wise Hessians",
    "rahimi2025": "The Hessian of tall-skinny networks is easy to invert",
    "meshkov2025": "Convergence of the optimization landscape of convolutional networks",
    "kornilov": "Matrix calculus, a seminar",
    "maslov2025": "Wasserstein regression through the Bernstein basis",
    "clarke": "What this library claims itself",
}
"""Key in docs/references.bib -> what the paper is called here."""
_ROOMS = {
    "bolshim2025interlayer": tuple(
        f"bolshim2025interlayer.{part}" for part in ("sets", "formulas", "costs", "optimization")
    ),
    "clarke": ("library",),
}


@dataclass(frozen=True)
class Ledger:
    """Claims in the order of their papers: a sequence, and by id `ledger["F1"]`."""

    claims: tuple[Claim, ...]

    def __len__(self) -> int:
        return len(self.claims)

    def __iter__(self) -> Iterator[Claim]:
        return iter(self.claims)

    def __getitem__(self, key: int | str) -> Claim:
        """By place or by id; KeyError names the ids that begin alike."""
        if not isinstance(key, str):
            return self.claims[key]
        for claim in self.claims:
            if claim.id == key:
                return claim
        near = [claim.id for claim in self.claims if claim.id.lower().startswith(key[:1].lower())]
        raise KeyError(f"no claim {key!r}" + (f"; there are {', '.join(near)}" if near else ""))

    def select(self, *, paper: str | None = None, verdict: str | None = None) -> "Ledger":
        """The claims of one paper, of one verdict, or both. ValueError for one that is unknown."""
        if paper is not None and paper not in PAPERS:
            raise ValueError(f"paper must be one of {', '.join(PAPERS)}; got {paper!r}")
        if verdict is not None and verdict not in VERDICTS:
            raise ValueError(f"verdict must be one of {', '.join(VERDICTS)}; got {verdict!r}")
        wanted = (c for c in self.claims if paper in (None, c.paper) and verdict in (None, c.verdict))
        return Ledger(tuple(wanted))

    def counts(self) -> dict[str, int]:
        """verdict -> how many."""
        found = Counter(claim.verdict for claim in self.claims)
        return {verdict: found[verdict] for verdict in VERDICTS if found[verdict]}


@cache
def ledger() -> Ledger:
    """Every claim of the papers and of this library."""
    claims: list[Claim] = []
    for paper in PAPERS:
        for room in _ROOMS.get(paper, (paper,)):
            claims += [c for c in vars(import_module(f".{room}", __package__)).values() if isinstance(c, Claim)]
    ids = [claim.id for claim in claims]
    if twice := {name for name in ids if ids.count(name) > 1}:
        raise ValueError(f"claims declared twice: {', '.join(sorted(twice))}")
    return Ledger(tuple(claims))
