"""Every page of the documentation does what it says: its blocks run, and print what it shows."""

from __future__ import annotations

import ast
import codeop
import os
from pathlib import Path

import pytest

from tests import commands
from tests.preloaded import preloaded
from tests.project.pages.parsing import BadPage, blocks
from tests.project.pages.places import needed

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/*/README.md")]
)
FIXTURES = {"redis": "redis_url", "postgresql": "postgres_url", "mongodb": "mongo_url", "mysql": "mariadb_url"}


def run(page: Path, *places: str) -> tuple[int, str]:
    """Run a page in a process of its own and return its exit code and what it has printed, errors included."""
    origin = preloaded("tests.project.pages.imports")
    variables = {**os.environ, commands.ADDRESS: origin.address}
    code, out, err = origin.run("tests.project.pages", [str(page), *places], variables, 110)
    return code, out + err


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_blocks_of_a_page_run_and_print_what_it_shows(page: Path, request: pytest.FixtureRequest) -> None:
    if any(block.kind not in ("skipped", "shown") for block in blocks(page)):
        places = [f"{name}={request.getfixturevalue(FIXTURES[name])}" for name in needed(page.read_text())]
        code, printed = run(page, *places)
        assert code == 0, printed


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_awaits_outside_of_functions_can_be_typed_line_by_line(page: Path) -> None:
    for block in blocks(page):
        if block.kind == "python" and not is_program(block.text):
            assert can_be_typed(block.text), (
                f"{page}:{block.line}: an indented part has an empty line within, or none behind"
            )


def is_program(text: str) -> bool:
    """Return whether it could be saved and run as it is."""
    try:
        compile(text, "program.py", "exec", dont_inherit=True)
    except SyntaxError:
        return False
    return True


def can_be_typed(text: str) -> bool:
    """Return whether ``python -m asyncio`` takes the lines one by one, as it does before Python 3.13."""
    understand = codeop.CommandCompiler()
    understand.compiler.flags |= ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    pending: list[str] = []
    for line in [*text.splitlines(), ""]:
        pending.append(line)
        try:
            complete = understand("\n".join(pending)) is not None
        except SyntaxError:
            return False
        if complete:
            pending = []
    return not pending


def written(tmp_path: Path, text: str) -> Path:
    page = tmp_path / "page.md"
    page.write_text(text)
    return page


@pytest.mark.parametrize(
    "text",
    [
        "```python\n1 / 0\n```",
        "```python\nprint(1)  # 2\n```",
        "```python\nprint(1)\n```\n\n```text\n2\n```",
        "```console\n$ false\n```",
        "```console\n$ echo 1\n2\n```",
        "```console\n$ echo 1; echo 2\n1\n```",
        "<!-- keeps running -->\n```console\n$ echo no\nyes\n```",
        "<!-- run\nassert False\n-->",
        "```python\nimport asyncio\nawait asyncio.sleep(0)\nprint(3)\n```\n```text\n4\n```",
    ],
)
def test_a_block_that_does_something_else_fails(text: str, tmp_path: Path) -> None:
    code, printed = run(written(tmp_path, f"One.\n\n{text}\n"))
    assert code == 1
    assert "page.md:" in printed


def test_a_page_is_one_program(tmp_path: Path) -> None:
    page = written(
        tmp_path,
        """
<!-- file: steps.py -->
```python
first = 1
```

```python
from steps import first

assert first == 1
print("took 3.25 ms at 2026-01-01T10:00:00+00:00")
```

```text
took 1 ms at ...
```

```console
$ export NAME=value; mkdir inner; cd inner
$ echo "$NAME" in "$(basename "$PWD")"; echo more
... in inner
...
```
""",
    )
    code, printed = run(page)
    assert code == 0, printed


@pytest.mark.parametrize(
    "text",
    [
        "<!-- no test: -->\n```python\n```",
        "<!-- no test: because -->\n```python\n```",
        "<!-- no test: it needs a cluster -->\n\nText.\n\n```python\n```",
        "<!-- keeps running -->\n```python\n```",
        "```sh\n$ ls\n```",
        "```\n$ ls\n```",
        "```{code-block} python\n```",
        "```python\n",
    ],
)
def test_what_nobody_knows_how_to_run_is_refused(text: str, tmp_path: Path) -> None:
    with pytest.raises(BadPage, match=r"page\.md:"):
        blocks(written(tmp_path, text))
