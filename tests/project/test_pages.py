"""Every page of the documentation does what it says: its blocks run, and print what it shows."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.project.pages.parsing import BadPage, blocks
from tests.project.pages.places import needed

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/*/README.md")]
)
FIXTURES = {"redis": "redis_url", "postgresql": "postgres_url", "mongodb": "mongo_url", "mysql": "mariadb_url"}


def run(page: Path, *places: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "tests.project.pages", str(page), *places],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_blocks_of_a_page_run_and_print_what_it_shows(page: Path, request: pytest.FixtureRequest) -> None:
    if any(block.kind not in ("skipped", "shown") for block in blocks(page)):
        places = [f"{name}={request.getfixturevalue(FIXTURES[name])}" for name in needed(page.read_text())]
        done = run(page, *places)
        assert done.returncode == 0, done.stderr + done.stdout


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
    done = run(written(tmp_path, f"One.\n\n{text}\n"))
    assert done.returncode == 1
    assert "page.md:" in done.stderr


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
    done = run(page)
    assert done.returncode == 0, done.stderr


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
