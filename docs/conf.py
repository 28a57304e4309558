"""Sphinx's settings; ``make docs`` builds the pages into ``site/``."""

import sys
from importlib.metadata import metadata
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

project = "aioresult"
author = copyright = "aioresult contributors"  # noqa: A001  (Sphinx's name)
version = release = metadata("aioresult-backend")["Version"]

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "sphinx_llm.txt",
    "notfound.extension",
    "repositorylinks",
    "markdownpages",
]
myst_enable_extensions = ["colon_fence", "attrs_block"]
myst_heading_anchors = 4

html_theme = "furo"
html_title = "aioresult"
html_static_path = ["static"]
html_css_files = ["pages.css"]
html_theme_options = {
    "source_repository": "https://github.com/aioresult/aioresult/",
    "source_branch": "main",
    "source_directory": "docs/",
}
# Beside each page.html there is page.html.md; llms.txt lists them.
llms_txt_description = metadata("aioresult-backend")["Summary"]
llms_txt_suffix_mode = "append"
llms_txt_nested_enabled = False
llms_txt_exclude = ["404"]
notfound_urls_prefix = "/"
copybutton_prompt_text = "$ "  # commands are copied without the prompt, and without their output
copybutton_line_continuation_character = "\\"

autodoc_default_options = {"members": True, "member-order": "bysource", "show-inheritance": True}
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
python_maximum_signature_line_length = 80  # longer ones have a line for each parameter
suppress_warnings = ["ref.python"]  # names of attributes in docstrings, which several classes have
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
