"""Whether a chat template compiles, found out in a process of its own with little time and memory; read `check`."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from mergecore.errors import InputError, PolicyError
from mergecore.tokenizers import MAX_TEMPLATE, template_of

SECONDS = 10
MEMORY = 1 << 30

_PROGRAM = """
import sys
try:
    import resource
    resource.setrlimit(resource.RLIMIT_AS, ({memory}, {memory}))
    resource.setrlimit(resource.RLIMIT_CPU, ({seconds}, {seconds}))
except (ImportError, ValueError, OSError):
    pass
from jinja2.exceptions import TemplateSyntaxError
from jinja2.ext import Extension
from jinja2.sandbox import ImmutableSandboxedEnvironment

class Generation(Extension):
    tags = {{"generation"}}

    def parse(self, parser):
        next(parser.stream)
        return parser.parse_statements(["name:endgeneration"], drop_needle=True)

environment = ImmutableSandboxedEnvironment(
    trim_blocks=True, lstrip_blocks=True, extensions=[Generation, "jinja2.ext.loopcontrols"]
)
try:
    environment.compile(sys.stdin.buffer.read().decode())
except TemplateSyntaxError as error:
    sys.exit(f"line {{error.lineno}}: {{error.message}}")
except (RecursionError, MemoryError, SyntaxError) as error:
    sys.exit(f"too deeply nested or too large ({{type(error).__name__}})")
"""


def template_in(place: Path) -> tuple[str, str]:
    """What to call it, and the chat template: of a folder the model's own, else the text of the file.

    Raises:
        MergecoreError: E240 when there is none, or it cannot be read.
    """
    if place.is_dir():
        sides = {path.name: path for path in sorted(place.iterdir())}
        text = template_of(sides, str(place))
        if text is None:
            raise InputError("E240", "the model has no chat template", place=str(place))
        return str(place), text
    return str(place), template_of({"chat_template.jinja": place}, str(place)) or ""


def check(text: str, name: str) -> None:
    """Compile a chat template, and forget it.

    Raises:
        MergecoreError: E240 when it does not compile, or jinja2 is missing; E308 when it is too large or
            takes too long.
    """
    if find_spec("jinja2") is None:
        raise InputError("E240", "jinja2 is not installed", place=name, hint="pip install jinja2")
    if len(text) > MAX_TEMPLATE:
        raise PolicyError(
            "E308", f"a chat template of {len(text)} characters, limit {MAX_TEMPLATE}", place=name
        )
    program = _PROGRAM.format(memory=MEMORY, seconds=SECONDS)
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-c", program],
            input=text.encode(),
            capture_output=True,
            timeout=SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise PolicyError("E308", f"compiling takes more than {SECONDS} s", place=name) from None
    if done.returncode < 0:
        raise PolicyError("E308", "compiling takes more time or memory than it may", place=name)
    if done.returncode:
        lines = done.stderr.decode(errors="replace").strip().splitlines()
        raise InputError(
            "E240",
            f"the chat template does not compile: {lines[-1] if lines else 'no reason given'}",
            place=name,
        )
