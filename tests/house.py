"""The project as files: its packages, also those in `contrib` that are distributions of their own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path


def packages(project: Path) -> list[Path]:
    """The folders that are imported by their names."""
    found = [*project.glob("*/mergecore*"), *project.glob("contrib/*/mergecore*")]
    return sorted(one for one in found if one.is_dir() and one.name.isidentifier())


def distributions(project: Path) -> list[Path]:
    """The folders of what is built and installed beside mergecore."""
    return sorted(path.parent for path in project.glob("contrib/*/pyproject.toml"))


def sources(project: Path) -> Iterator[tuple[str, Path]]:
    """Every module of the packages, by its dotted name; the face of a package has the name of the package."""
    for package in packages(project):
        for path in sorted(package.rglob("*.py")):
            parts = path.relative_to(package.parent).with_suffix("").parts
            yield ".".join(part for part in parts if part != "__init__"), path


def folders_of_tests(project: Path) -> list[Path]:
    """The folders of the tests."""
    return [project / "tests", *(folder / "tests" for folder in distributions(project))]
