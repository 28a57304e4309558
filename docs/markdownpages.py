"""A part of Sphinx's settings: what the builder of Markdown pages does not know, as the ``*`` of signatures."""

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxTranslator


def _keep_the_text(translator: SphinxTranslator, node: nodes.Element) -> None:
    """Write what is within, without what it stands for."""


def setup(app: Sphinx) -> dict[str, bool]:
    """Have Sphinx apply what this file adds."""
    for kind in (nodes.abbreviation, nodes.meta):
        app.add_node(kind, override=True, markdown=(_keep_the_text, _keep_the_text))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
