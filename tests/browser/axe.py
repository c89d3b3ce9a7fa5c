"""What axe-core finds on a page, as a reader with a screen reader or a keyboard would meet it."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from browser.driver import Browser

PACKAGE = "axe_playwright_python"  # it carries the script; nothing of it is imported
SERIOUS = ("serious", "critical")


def violations(shown: Browser, impacts: tuple[str, ...] = SERIOUS) -> list[str]:
    """A line for each element of the shown page that breaks a rule: impact, rule, where.

    impacts: which are asked for, of `minor`, `moderate`, `serious` and `critical`.
    """
    if not shown.value("typeof axe == 'object'"):
        shown.value(_script())
    found = shown.value("axe.run(document, {resultTypes: ['violations']}).then(found => found.violations)")
    return [
        f"{rule['impact']}: {rule['id']}: {' '.join(map(str, node['target']))}: {node['html'][:120]}"
        for rule in found
        if rule["impact"] in impacts
        for node in rule["nodes"]
    ]


def _script() -> str:
    """axe-core; the test that asks is skipped where it is not installed."""
    import pytest

    spec = find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        pytest.skip("axe-core comes with `pip install '.[dev]'`")
    text = Path(spec.origin).with_name("axe.min.js").read_text(encoding="utf8")
    return f"(() => {{ {text}\n; return 0 }})()"
