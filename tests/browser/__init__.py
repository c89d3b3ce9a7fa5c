"""Pages looked at in a headless Chromium, through the DevTools protocol and without a network.

`started` gives a `Browser`, `served` a folder as pages of a server, `violations` what axe-core says about the page that
is shown.  `needed` is the program, or the test is skipped.
"""

from __future__ import annotations

from browser.axe import violations
from browser.driver import DESK, PHONE, WIDE, Browser, chromium, needed, started
from browser.serving import served

__all__ = [
    "DESK",
    "PHONE",
    "WIDE",
    "Browser",
    "chromium",
    "needed",
    "served",
    "started",
    "violations",
]
