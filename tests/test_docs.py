"""The documentation: its examples give what they show, and it names every public function."""

import doctest
import re
from pathlib import Path

import pytest

import clarke

DOCS = Path(__file__).resolve().parents[1] / "docs"
PAGES = sorted(DOCS.rglob("*.md"))


def session(page):
    """What is typed and shown in the pycon blocks of a page, as one doctest."""
    blocks = re.findall(r"^```pycon\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
    return doctest.DocTestParser().get_doctest("\n".join(blocks), {}, page.name, str(page), 0)


TYPED = [page for page in PAGES if session(page).examples]


@pytest.mark.parametrize("page", TYPED, ids=lambda page: page.name)
def test_what_a_page_types_gives_what_it_shows(page):
    if page.name == "import-a-model.md":
        pytest.importorskip("sklearn")
    said = []
    doctest.DocTestRunner().run(session(page), out=said.append)
    assert not said, "".join(said)


def test_the_docstring_of_the_package_gives_what_it_shows():
    assert doctest.testmod(clarke).failed == 0


def test_the_api_page_lists_every_public_name_once():
    listed = re.findall(r"^   (\w+)$", (DOCS / "api.rst").read_text(), re.MULTILINE)
    assert sorted(listed) == clarke.__all__


def test_every_howto_is_in_the_index():
    listed = re.search(r"```\{toctree\}\n.*?\n\n(.*?)```", (DOCS / "howto" / "index.md").read_text(), re.DOTALL)
    assert sorted(listed.group(1).split()) == sorted(p.stem for p in (DOCS / "howto").glob("*.md") if p.stem != "index")


def test_links_between_pages_lead_somewhere():
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#:]+\.(?:md|png|rst))", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
