"""A Study as one self-contained HTML page: the report, tables, and a slice whose regions answer when pointed at.

Nothing is fetched: styles, the picture (SVG) and the data (JSON) are in the page. What a region shows is computed at a
point inside it: the gradient (or Jacobian) and, where f is scalar and n is at most `SPECTRUM`, the eigenvalues of the
Hessian of its piece there.
"""

import json
import math
from html import escape
from typing import Any

import numpy as np

from .limiting import limiting_gradient, limiting_hessian, limiting_jacobians
from .primitives import NotPiecewiseSmooth
from .slices import FILLS, fills, inside, plane_of, slice_polygons

ROWS = 200  # of a table; the page says how many there are
ENTRIES = 12  # of a vector
SPECTRUM = 400  # largest n whose Hessians are decomposed
SIDE = 480  # of the picture, in its own units


def page(study: Any) -> str:
    """The page of a Study, as text.

    The slice is that of `Study.plot`: through x, along the plane in which the limiting derivatives differ most.
    """
    n = study.x.size
    piece = slice_polygons(study.graph, study.x, basis=plane_of(study), tol=study.tol)
    names = sorted(set(piece.patterns))
    color = dict(zip(names, fills(piece, names, len(FILLS)), strict=True))
    facts = [_facts(study, piece, name) for name in names]
    number = {name: k for k, name in enumerate(names)}
    plane = "" if n <= 2 else f" on a plane through x in R<sup>{n}</sup>"
    return _PAGE.format(
        title=escape(study.title),
        report=escape(str(study)),
        plane=f"{len(names)} region{'s' * (len(names) != 1)}{plane}",
        picture=_picture(piece, number, color),
        kinks=_kinks(study),
        patterns=_patterns(study),
        data=_json(facts),
    )


def _json(value):
    """JSON that cannot end the script it stands in."""
    return json.dumps(value, allow_nan=False).replace("<", "\\u003c")


# ---------------------------------------------------------------- what a region shows


def _facts(study, piece, name):
    """Lines of text about the piece in force in a region, at a point inside it."""
    x = piece.x + inside(piece, name) @ piece.basis
    letters = piece.letters(name)
    lines = [f"pattern {letters}" if letters else "no kink of x is open here", f"at {_vector(x)}"]
    try:
        if study.gradients is None:
            matrix = limiting_jacobians(study.graph, x, tol=study.tol).matrices[0]
            return [*lines, *(f"row {k}: {_vector(row)}" for k, row in enumerate(matrix[:ENTRIES]))]
        lines.append(f"gradient {_vector(limiting_gradient(study.graph, x, tol=study.tol))}")
        if study.x.size <= SPECTRUM:
            values = np.linalg.eigvalsh(limiting_hessian(study.graph, x, tol=study.tol))
            lines.append(f"Hessian eigenvalues {_vector(values[::-1])}")
        else:
            lines.append(f"no Hessian: n = {study.x.size} is above {SPECTRUM}")
    except NotPiecewiseSmooth as error:
        lines.append(f"not piecewise smooth here: {error}")
    return lines


def _vector(array):
    text = ", ".join(f"{entry + 0.0:.4g}" for entry in array[:ENTRIES])
    return f"({text}{f', ... {len(array)} entries' if len(array) > ENTRIES else ''})"


# ---------------------------------------------------------------- picture and tables


def _picture(piece, number, color):
    """SVG: one polygon a convex part of a region, the walls, x."""
    scale = SIDE / (2 * piece.radius)

    def place(corner):
        return f"{(corner[0] + piece.radius) * scale:.2f},{(piece.radius - corner[1]) * scale:.2f}"

    parts, paint = [], [f"rgb({', '.join(f'{255 * part:.0f}' for part in fill)})" for fill in FILLS]
    for polygon, name in zip(piece.polygons, piece.patterns, strict=True):
        corners = " ".join(map(place, polygon))
        parts.append(
            f'<polygon class="region" tabindex="0" data-k="{number[name]}" points="{corners}" '
            f'fill="{paint[color[name]]}" stroke="{paint[color[name]]}"/>'
        )
    for (a, b), through in zip(piece.walls, piece.through, strict=True):
        (s, t), (u, v) = (place(corner).split(",") for corner in (a, b))
        kind = "through" if through else "elsewhere"
        parts.append(f'<line class="{kind}" x1="{s}" y1="{t}" x2="{u}" y2="{v}"/>')
    parts.append(f'<circle cx="{SIDE / 2}" cy="{SIDE / 2}" r="5"><title>x</title></circle>')
    return f'<svg viewBox="0 0 {SIDE} {SIDE}" role="img" aria-label="regions around x">{"".join(parts)}</svg>'


def _table(head, rows, total):
    cells = "".join(f"<tr>{''.join(f'<td>{escape(str(cell))}</td>' for cell in row)}</tr>" for row in rows)
    rest = f"<p>The first {len(rows)} of {total}.</p>" if len(rows) < total else ""
    return (
        f"<table><thead><tr>{''.join(f'<th>{h}</th>' for h in head)}</tr></thead><tbody>{cells}</tbody></table>{rest}"
    )


def _kinks(study):
    if not study.kinks:
        margin = study.fan.margin
        near = f" The nearest guard is {margin:.3g} of its scale." if math.isfinite(margin) else ""
        return f"<p>No kink is active at x.{near}</p>"
    rows = [(k.name, k.operation, f"{k.guard:.3g}", f"{k.scale:.3g}") for k in study.kinks[:ROWS]]
    return _table(("kink", "operation", "guard", "scale"), rows, len(study.kinks))


def _patterns(study):
    """One row a pattern: its gradient, its eigenvalues, the weight in the least gradient."""
    patterns = study.fan.patterns
    if study.gradients is None:
        norms = np.linalg.norm(study.jacobians.matrices, axis=(1, 2))
        rows = [(p, f"{norm:.6g}") for p, norm in zip(patterns[:ROWS], norms, strict=False)]
        return _table(("pattern", "norm of the Jacobian"), rows, len(patterns))
    rows = []
    for k, pattern in enumerate(patterns[:ROWS]):
        row = [pattern, _vector(study.gradients.vectors[k])]
        if study.hessians is not None:
            values = np.linalg.eigvalsh(study.hessians.matrices[k])
            row.append(f"[{values[0] + 0.0:.4g}, {values[-1] + 0.0:.4g}]")
        rows.append([*row, f"{study.min_norm_gradient.weights[k]:.4g}"])
    middle = () if study.hessians is None else ("Hessian eigenvalues",)
    return _table(("pattern", "limiting gradient", *middle, "weight in the least gradient"), rows, len(patterns))


_PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
body {{ font: 15px/1.45 Georgia, serif; color: #222; margin: 2em auto; max-width: 66em; padding: 0 1em }}
h1 {{ font-size: 1.3em }} h2 {{ font-size: 1.05em; margin-top: 2em }}
pre {{ font: 13px/1.4 ui-monospace, monospace; overflow-x: auto }}
.slice {{ display: flex; gap: 2em; flex-wrap: wrap }} svg {{ width: 30em; max-width: 100%; border: 1px solid #222 }}
.region {{ cursor: crosshair; outline: none }} .region.shown {{ stroke: #222; stroke-width: 2 }}
.through {{ stroke: #222; stroke-width: 1.6; pointer-events: none }}
.elsewhere {{ stroke: #8a8a8a; stroke-width: 0.8; pointer-events: none }}
circle {{ fill: #222; stroke: #fff; stroke-width: 1.5 }}
#facts {{ flex: 1 1 18em; font: 13px/1.5 ui-monospace, monospace; overflow-wrap: anywhere; min-height: 12em }}
table {{ border-collapse: collapse; font-size: 13px }} td, th {{ padding: 2px 12px 2px 0; text-align: left;
vertical-align: top; border-bottom: 1px solid #ddd }} td {{ font-family: ui-monospace, monospace }}
</style></head><body>
<h1>{title}</h1>
<pre id="report">{report}</pre>
<h2>{plane}</h2>
<div class="slice">{picture}<div id="facts" aria-live="polite">Point at a region, or step through them with the tab
key: its pattern, its gradient and the spectrum of its Hessian stand here. Dark lines are kinks through x (the dot),
grey ones elsewhere.</div></div>
<h2>Kinks</h2>
{kinks}
<h2>Patterns that meet at x</h2>
{patterns}
<script id="data" type="application/json">{data}</script>
<script>
const facts = JSON.parse(document.getElementById("data").textContent);
const regions = document.querySelectorAll(".region");
function show(event) {{
  const k = event.currentTarget.dataset.k;
  regions.forEach(region => region.classList.toggle("shown", region.dataset.k === k));
  const panel = document.getElementById("facts");
  panel.replaceChildren(...facts[k].map(line => {{
    const row = document.createElement("div");
    row.textContent = line;
    return row;
  }}));
}}
regions.forEach(region => ["mouseenter", "focus", "click"].forEach(kind => region.addEventListener(kind, show)));
</script>
</body></html>
"""
