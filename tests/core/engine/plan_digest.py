"""Prints a digest of everything that a plan decides.

python plan_digest.py CONFIG
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

from mergecore import plan
from mergecore.cli.show_plan import plan_as_json
from mergecore.engine.memory import Estimate
from mergecore.output.manifest import facts, identity

made = plan(Path(sys.argv[1]))
values = [plan_as_json(made, Estimate(1, 0, 0)), identity(made), facts(made, {})]
digest = hashlib.sha256(json.dumps(values).encode())
for name, content in made.side_files.items():
    digest.update(name.encode() + (content if isinstance(content, bytes) else content.read_bytes()))
for file in made.layout.files:
    digest.update(file.header)
sys.stdout.write(digest.hexdigest())
