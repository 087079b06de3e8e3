"""Sphinx settings, and how our docstrings, which are plain text, become reStructuredText."""

import re
import sys
import textwrap
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import clarke

project, author, release = "clarke", "the clarke developers", clarke.__version__
extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "numpydoc",
    "myst_parser",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["_build"]
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
autosummary_generate = True
autodoc_typehints = "none"
numpydoc_show_class_members = False
html_theme = "pydata_sphinx_theme"
html_theme_options = {"show_toc_level": 2, "navigation_with_keys": False}
html_static_path: list[str] = []
sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "gallery",
    "filename_pattern": r"/plot_",
    "download_all_examples": False,
    "remove_config_comments": True,
    "show_signature": False,
    "plot_gallery": True,
    "abort_on_example_error": True,
    "image_scrapers": ("figures",),
}

_FIELD = re.compile(r"[A-Za-z_][\w, ()]*: ")


def _escaped(text):
    """Text in which only `names` are markup."""
    parts = re.split(r"(`[^`\n]+`)", text)
    return "".join(
        f"\\ ``{part[1:-1]}``\\ " if k % 2 else re.sub(r"([\\*|`]|_(?=\W|$))", r"\\\1", part)
        for k, part in enumerate(parts)
    )


def _paragraph(lines):
    """One paragraph: a display if indented, a list if each line names a field, else running text."""
    if all(line.startswith(" ") for line in lines):
        return [".. code-block:: text", "", *("    " + line for line in textwrap.dedent("\n".join(lines)).split("\n"))]
    starts = [k for k, line in enumerate(lines) if _FIELD.match(line)]
    if starts and starts[0] == 0 and (len(starts) > 1 or any(line.startswith(" ") for line in lines)):
        ends = [*starts[1:], len(lines)]
        items = [" ".join(line.strip() for line in lines[a:b]) for a, b in zip(starts, ends, strict=True)]
        return ["- " + _escaped(item) for item in items]
    return [_escaped(" ".join(line.strip() for line in lines))]


def _plain_docstring(app, what, name, obj, options, lines):
    if any(line.lstrip().startswith(">>>") for line in lines) or not name.startswith("clarke"):
        return
    found, paragraph = [], []
    for line in [*lines, ""]:
        if line.strip():
            paragraph.append(line.rstrip())
        elif paragraph:
            found += [*_paragraph(paragraph), ""]
            paragraph = []
    lines[:] = found


def setup(app):
    app.connect("autodoc-process-docstring", _plain_docstring, priority=100)
