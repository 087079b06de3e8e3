"""What the gallery shows: the matplotlib Figures an example holds in its variables, without pyplot."""

from matplotlib.figure import Figure
from sphinx_gallery.scrapers import figure_rst

DPI = 200


def scrape(block, block_vars, gallery_conf):
    """Save each Figure that no earlier block of the example has shown."""
    example, saved = block_vars["example_globals"], []
    shown = example.setdefault("__shown__", [])
    for value in [value for value in example.values() if isinstance(value, Figure) and value not in shown]:
        saved.append(next(block_vars["image_path_iterator"]))
        value.savefig(saved[-1], dpi=DPI)
        shown.append(value)
    return figure_rst(saved, gallery_conf["src_dir"])


def _get_sg_image_scraper():
    return scrape
