"""Keeps the license that was chosen."""

from pathlib import Path

LICENSE = "{{ cookiecutter.license }}"

for path in Path().glob("LICENSE-*"):
    if path.name == f"LICENSE-{LICENSE}":
        path.rename("LICENSE")
    else:
        path.unlink()
