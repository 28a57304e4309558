"""A part of Sphinx's settings: what the builder of Markdown pages does not know, the ``*`` and ``/`` of signatures."""

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxTranslator


def _keep_the_text(translator: SphinxTranslator, node: nodes.abbreviation) -> None:
    """Write what is within, without what it stands for."""


def _leave_out(_translator: SphinxTranslator, _node: nodes.meta) -> None:
    """Write nothing: what search engines are told is for the page in HTML."""
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, bool]:
    """Have Sphinx apply what this file adds."""
    app.add_node(nodes.abbreviation, override=True, markdown=(_keep_the_text, _keep_the_text))
    app.add_node(nodes.meta, override=True, markdown=(_leave_out, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
