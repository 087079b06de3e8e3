"""The page of a study: it parses, fetches nothing, and shows what the study knows."""

import json
import shutil
import subprocess
from html.parser import HTMLParser

import autograd.numpy as anp
import numpy as np
import pytest

import clarke
from clarke.page import page
from clarke.slices import inside, plane_of, slice_polygons

VOID = {"meta", "br"}


class Reader(HTMLParser):
    """Elements with their attributes, text by element id or tag; refuses tags that do not nest."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.elements, self.text, self.open = [], {}, []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.elements.append((tag, attrs))
        if tag not in VOID:
            self.open.append((tag, attrs.get("id", tag)))

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop()[0] == tag

    def handle_data(self, data):
        if self.open:
            key = self.open[-1][1]
            self.text[key] = self.text.get(key, "") + data

    def of(self, kind):
        return [attrs for tag, attrs in self.elements if kind in (tag, attrs.get("class"))]


def loss(w):
    return (anp.maximum(w[0], 0) * w[1] - 1) ** 2


def hat(x):
    return anp.abs(x[0] - 1) + anp.maximum(x[1], x[0]) + x[2] ** 2


@pytest.fixture(scope="module")
def found():
    return clarke.study(hat, [1.0, 1.0, 0.5], name="<hat> & co")


def test_every_region_of_the_slice_is_there_with_its_facts(found):
    read = Reader(page(found))
    piece = slice_polygons(found.graph, found.x, basis=plane_of(found))
    facts = json.loads(read.text["data"])
    names = sorted(set(piece.patterns))
    assert len(facts) == len(names)
    regions = read.of("region")
    assert [names[int(region["data-k"])] for region in regions] == list(piece.patterns)
    for name, lines in zip(names, facts, strict=True):
        x = found.x + inside(piece, name) @ piece.basis
        gradient = clarke.limiting_gradient(hat, x)
        assert lines[0] == f"pattern {piece.letters(name)}"
        assert lines[2] == f"gradient ({', '.join(f'{g + 0.0:.4g}' for g in gradient)})"
        assert lines[3] == "Hessian eigenvalues (2, 0, 0)"


def test_the_polygons_tile_the_picture(found):
    def area(points):
        corners = np.array([pair.split(",") for pair in points.split()], float)
        s, t = corners.T
        return abs(s @ np.roll(t, -1) - t @ np.roll(s, -1)) / 2

    regions = Reader(page(found)).of("region")
    assert sum(area(region["points"]) for region in regions) == pytest.approx(480**2, rel=1e-3)


def test_report_and_names_are_escaped(found):
    read = Reader(page(found))
    assert read.text["report"] == str(found)
    assert read.text["title"].startswith("<hat> & co")


def test_nothing_is_fetched(found):
    text = page(found)
    assert "http" not in text
    assert not [attrs for _, attrs in Reader(text).elements if {"src", "href"} & attrs.keys()]


def test_data_cannot_end_its_script():
    import clarke.page as room

    assert "</script" not in room._json(["</script><b>"])
    assert json.loads(room._json(["</script>"])) == ["</script>"]


def test_tables_name_kinks_and_patterns(found):
    text = page(found)
    read = Reader(text)
    cells = read.text["td"]
    for kink in found.kinks:
        assert kink.name in cells
    for pattern in found.fan.patterns:
        assert pattern in cells
    assert "The first" not in text


def test_a_long_table_says_that_it_is_cut():
    W = np.array([[np.cos(a), np.sin(a)] for a in np.linspace(0, 3, 101)])
    study = clarke.study(lambda x: anp.sum(anp.maximum(anp.dot(W, x), 0)), [0.0, 0.0])
    assert f"The first 200 of {len(study.fan.patterns)}." in page(study)


@pytest.mark.parametrize(
    ("f", "x", "said"),
    [
        (lambda x: x[0] ** 2, [1.0], "No kink is active at x."),
        (lambda x: anp.abs(x[0]), [0.0], "pattern +"),
        (lambda x: anp.maximum(x, 0), [0.0, 1.0], "row 0: (1, 0)"),
    ],
)
def test_smooth_points_one_variable_and_vectors_have_pages(f, x, said):
    text = page(clarke.study(f, x))
    Reader(text)
    assert said in text


def test_the_page_is_written_where_it_was_asked_for(found, tmp_path):
    found.to_html(tmp_path / "page.html")
    assert (tmp_path / "page.html").read_text(encoding="utf-8") == page(found)


STUB = """
const make = k => ({dataset: {k: String(k)}, shown: false, handlers: {},
  classList: {toggle(name, on) { this.owner.shown = on; }},
  addEventListener(kind, f) { this.handlers[kind] = f; }});
const regions = KS.map(make);
regions.forEach(r => { r.classList.owner = r; });
const panel = {rows: [], replaceChildren(...rows) { this.rows = rows.map(r => r.textContent); }};
const document = {
  getElementById: id => id === "data" ? {textContent: DATA} : panel,
  querySelectorAll: () => regions, createElement: () => ({}) };
"""


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
def test_pointing_at_a_region_shows_its_facts_and_marks_it(found):
    text = page(found)
    read = Reader(text)
    script = text[text.rindex("<script>") + 8 : text.rindex("</script>")]
    ks = [int(region["data-k"]) for region in read.of("region")]
    head = STUB.replace("KS", json.dumps(ks)).replace("DATA", json.dumps(read.text["data"]))
    tail = "regions[2].handlers.mouseenter({currentTarget: regions[2]});\
console.log(JSON.stringify([panel.rows, regions.map(r => r.shown), Object.keys(regions[0].handlers)]));"
    done = subprocess.run(
        ["node", "-e", f"{head}{{{script}}}{tail}"], capture_output=True, text=True, check=True, timeout=60
    )
    rows, shown, kinds = json.loads(done.stdout)
    assert rows == json.loads(read.text["data"])[ks[2]]
    assert shown == [k == ks[2] for k in ks]
    assert kinds == ["mouseenter", "focus", "click"]


BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.mark.skipif(BROWSER is None, reason="no chromium is installed")
def test_a_browser_builds_the_page(found, tmp_path):
    found.to_html(tmp_path / "page.html")
    text = page(found).replace("</body>", "<script>regions[0].dispatchEvent(new Event('click'))</script></body>")
    (tmp_path / "page.html").write_text(text, encoding="utf-8")
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom", str(tmp_path / "page.html")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    read = Reader(done.stdout)
    assert [attrs for attrs in read.of("polygon") if "shown" in attrs["class"]]
