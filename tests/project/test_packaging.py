"""What is declared about the package, and what is put into its archives."""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.servers import missing

ROOT = Path(__file__).parents[2]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
DECLARED = {
    text
    for name, extra in {"": PROJECT["dependencies"], **PROJECT["optional-dependencies"]}.items()
    if name not in ("all", "testing", "docs", "suite", "dev")
    for text in extra
}


def lowest() -> dict[str, str]:
    """Return the versions of ``tests/lowest.txt``."""
    lines = (ROOT / "tests" / "lowest.txt").read_text().splitlines()
    return dict(line.split("==") for line in lines if line and not line.startswith("#"))


@pytest.mark.parametrize("declared", sorted(DECLARED))
def test_the_lowest_version_that_is_tested_is_the_lowest_that_is_declared(declared: str) -> None:
    requirement = Requirement(declared)
    tested = lowest()[canonicalize_name(requirement.name)]
    (bound,) = [spec.version for spec in requirement.specifier if spec.operator == ">="]
    assert requirement.specifier.contains(tested)
    assert tested.split(".")[: bound.count(".") + 1] == bound.split(".")
    assert not any(int(part) for part in tested.split(".")[bound.count(".") + 1 :])


def test_kombu_finds_the_packaging_that_its_redis_transport_needs() -> None:
    assert "packaging" in {Requirement(text).name for text in PROJECT["optional-dependencies"]["celery"]}


def test_the_makefile_explains_each_of_its_targets() -> None:
    makefile = (ROOT / "Makefile").read_text()
    phony = re.search(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)
    assert phony is not None
    assert set(phony[1].split()) == set(re.findall(r"^([a-z-]+):.*## \S", makefile, re.MULTILINE))


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the wheel and the source archive of this tree."""
    if any(find_spec(name) is None for name in ("build", "hatchling", "hatch_fancy_pypi_readme")):
        raise missing("the extra dev, which builds the package, is not installed")
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT)],
        check=True,
        capture_output=True,
    )
    return folder


@pytest.mark.once
def test_the_wheel_has_the_package_and_nothing_else(archives: Path) -> None:
    (wheel,) = archives.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    ours = {str(path.relative_to(ROOT)) for path in (ROOT / "aioresult").rglob("*.py")} | {"aioresult/py.typed"}
    assert {name for name in names if ".dist-info/" not in name} == ours


@pytest.mark.once
def test_the_source_archive_can_be_tested(archives: Path) -> None:
    (archive,) = archives.glob("*.tar.gz")
    with tarfile.open(archive) as content:
        names = {name.partition("/")[2] for name in content.getnames()}
    assert {"aioresult/py.typed", "tests/lowest.txt", "Makefile", "scripts/find-python", "README.md"} <= names


@pytest.mark.once
def test_links_and_pictures_work_outside_of_the_repository(archives: Path) -> None:
    (wheel,) = archives.glob("*.whl")
    content = zipfile.ZipFile(wheel)
    (metadata,) = [name for name in content.namelist() if name.endswith("/METADATA")]
    text = content.read(metadata).decode()
    ours = re.findall(r"\]\(([^)]+)\)", (ROOT / "README.md").read_text())
    shown = re.findall(r"\]\(([^)]+)\)", text)
    assert len(shown) == len(ours) > 5
    assert all(target.startswith("https://") for target in shown)
    pictures = re.findall(r"!\[[^\]]*\]\(([^)]+)\)", text)
    assert len(pictures) == text.count("![") > 0
    assert all(target.startswith("https://raw.githubusercontent.com/") for target in pictures)
