"""A part of Sphinx's settings: links to files of the repository, as they are read where the repository is."""

from pathlib import Path
from urllib.parse import urlsplit

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.transforms.post_transforms import SphinxPostTransform

ROOT = Path(__file__).parent.parent
REPOSITORY = "https://github.com/aioresult/aioresult/blob/main"
PAGES = {ROOT / "README.md": "index", ROOT / "CONTRIBUTING.md": "contributing", ROOT / "CHANGELOG.md": "changelog"}
"""Files that a page here includes."""


class RepositoryLinks(SphinxPostTransform):
    """Link a file of the repository to the page that shows it, or else to where the repository is.

    It comes before MyST's own search for targets, which fails the build for what is neither.
    """

    default_priority = 5

    def run(self, **kwargs: object) -> None:
        """Replace the links of one page."""
        here = Path(self.env.doc2path(self.env.docname)).parent
        for node in list(self.document.findall(pending_xref)):
            path = urlsplit(str(node.get("reftarget", ""))).path
            if node["reftype"] != "myst" or not path:
                continue
            if node["refdomain"] == "doc":  # MyST takes any .md for a page
                if path in self.env.found_docs:
                    continue
                path += ".md"
            for found in ((folder / path).resolve() for folder in (ROOT, here)):
                if page := self._page(found):
                    fragment = urlsplit(str(node["reftarget"])).fragment
                    node.attributes |= {"refdomain": "doc", "reftarget": page}
                    node.attributes.setdefault("reftargetid", fragment or None)
                    break
                if found.exists() and found.is_relative_to(ROOT):
                    link = nodes.reference("", "", *node.children, refuri=f"{REPOSITORY}/{found.relative_to(ROOT)}")
                    node.replace_self(link)
                    break

    def _page(self, found: Path) -> str | None:
        """Return the name of the page that shows a file."""
        if found.is_relative_to(ROOT / "docs"):
            name = found.relative_to(ROOT / "docs").with_suffix("").as_posix()
            return name if name in self.env.found_docs else None
        return PAGES.get(found)


def setup(app: Sphinx) -> dict[str, bool]:
    """Have Sphinx apply what this file adds."""
    app.add_post_transform(RepositoryLinks)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
