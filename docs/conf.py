"""Sphinx's settings; ``make docs`` builds the pages into ``site/``."""

from importlib.metadata import version as installed_version

project = "aioresult"
author = "aioresult contributors"
version = release = installed_version("aioresult-backend")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
# The README also links to files of the repository that are no pages here.
suppress_warnings = ["myst.xref_missing"]
html_theme = "furo"
html_title = f"aioresult {release}"

autodoc_default_options = {"members": True, "member-order": "bysource", "show-inheritance": True}
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
