"""Refuses answers that would make a project that does not work, before anything is written."""

import keyword
import re
import sys

METHOD = {{ cookiecutter.method | tojson }}
PROJECT = {{ cookiecutter.project | tojson }}
MODULE = {{ cookiecutter.module | tojson }}
SUMMARY = {{ cookiecutter.summary | tojson }}


def faults() -> list[str]:
    """What is wrong with the answers."""
    found = []
    if not re.fullmatch(r"[a-z][a-z0-9_]*", METHOD):
        found.append(f"method '{METHOD}': small letters, digits and _ are expected, a letter first")
    elif keyword.iskeyword(METHOD) or METHOD == "hookimpl":
        found.append(f"method '{METHOD}': a Python function cannot be called so")
    if not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?", PROJECT):
        found.append(f"project '{PROJECT}': letters, digits, '-', '_' and '.' are expected")
    if not MODULE.isidentifier() or keyword.iskeyword(MODULE):
        found.append(f"module '{MODULE}': a Python name is expected")
    elif MODULE in sys.stdlib_module_names or MODULE in ("mergecore", "tests", METHOD):
        found.append(f"module '{MODULE}': this name is taken; 'mergecore_{METHOD}' would do")
    if not SUMMARY.isprintable() or '"' in SUMMARY or "\\" in SUMMARY:
        found.append("summary: one line without quotation marks and backslashes is expected")
    return found


for fault in faults():
    print(fault, file=sys.stderr)
sys.exit(1 if faults() else 0)
