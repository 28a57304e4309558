"""Sphinx's settings; ``make docs`` builds the pages into ``site/``."""

from importlib.metadata import version as installed_version
from pathlib import Path
from urllib.parse import urlsplit

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.transforms.post_transforms import SphinxPostTransform

project = "aioresult"
author = "aioresult contributors"
version = release = installed_version("aioresult-backend")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
html_theme = "furo"
html_title = f"aioresult {release}"

autodoc_default_options = {"members": True, "member-order": "bysource", "show-inheritance": True}
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True

ROOT = Path(__file__).parent.parent
REPOSITORY = "https://github.com/aioresult/aioresult/blob/main"


class RepositoryLinks(SphinxPostTransform):
    """Link what is no page here, but a file of the repository, to where the repository is.

    It comes before MyST's own search for targets, which fails the build for what is neither.
    """

    default_priority = 5

    def run(self, **kwargs: object) -> None:
        """Replace the links of one page."""
        for node in list(self.document.findall(pending_xref)):
            path = urlsplit(str(node.get("reftarget", ""))).path
            if node["reftype"] != "myst" or node["refdomain"] == "doc" or not path:
                continue
            for found in (
                (folder / path).resolve() for folder in (ROOT, Path(self.env.doc2path(self.env.docname)).parent)
            ):
                if found.exists() and found.is_relative_to(ROOT):
                    link = nodes.reference("", "", *node.children, refuri=f"{REPOSITORY}/{found.relative_to(ROOT)}")
                    node.replace_self(link)
                    break


def setup(app: Sphinx) -> None:
    """Have Sphinx apply what this file adds."""
    app.add_post_transform(RepositoryLinks)
