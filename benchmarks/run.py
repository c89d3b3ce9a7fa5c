"""Starts the benchmark from a checkout: `python benchmarks/run.py`. Read runner.py."""

import sys
from pathlib import Path


def main() -> None:
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    from benchmarks.runner import main as run

    run()


if __name__ == "__main__":
    main()
