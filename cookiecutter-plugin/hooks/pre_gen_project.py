"""What answers make a plugin that works; `mergecore new-plugin` asks `faults` too.  Needs nothing but Python."""

import json
import re
import sys
from importlib.metadata import entry_points

COMMANDS = ("merge", "methods", "plan", "plugins", "schema", "verify")
OWN = ("architectures", "contrib", "plugins", "spectral")
KEYS = (
    "architecture base_model chat_template dtype exclude executor experts include keep_f32 "
    "merge_method models modules name out_dtype output parameters pick_experts recipe seed side_files "
    "slices tokenizer tokenizer_source"
).split()
NO_TEXT = ("false", "no", "null", "off", "on", "true", "yes")
LONGEST = 60


def faults(answers: dict[str, str]) -> list[str]:
    """A sentence for each answer that would make a plugin that does not work."""
    found = _faults_of_name(answers["name"], answers["kind"], answers["__project"])
    author = answers["author"]
    if not author.strip():
        found.append("author: the name of a person or a group is expected, got nothing")
    elif not author.isprintable():
        found.append("author: one line without control characters is expected")
    return found


def _faults_of_name(name: str, kind: str, project: str) -> list[str]:
    if not re.fullmatch(r"[a-z][a-z0-9]*([_-][a-z0-9]+)*", name):
        near = re.sub(r"[^a-z0-9]+", "-", name.lower()).lstrip("-0123456789").rstrip("-")
        hint = f"; '{near}' would do" if near else ""
        return [f"name '{name}': small letters and digits are expected, a letter first, - or _ between them{hint}"]
    bare = re.sub(r"^mergecore[_-]", "", name)
    if bare != name:
        return [f"name '{name}': the package gets 'mergecore-' before its name; '{bare}' would do"]
    if len(name) > LONGEST:
        return [f"name '{name}': {len(name)} letters are too many; {LONGEST} at most"]
    if name in NO_TEXT:
        return [f"name '{name}': YAML does not take this for a text, so no config could say it"]
    if plain(name) in OWN:
        return [f"name '{name}': 'mergecore_{plain(name).replace('-', '_')}' is a package of mergecore itself"]
    if kind == "command" and name in COMMANDS:
        return [f"name '{name}': this is a command of mergecore itself"]
    if kind == "recipe" and name in KEYS:
        return [f"name '{name}': this is a key of other configs, which the recipe would take away"]
    return [f"name '{name}': {owner} has a plugin called '{other}'" for other, owner in _taken(name, project)]


def _taken(name: str, project: str) -> list[tuple[str, str]]:
    """The installed plugins of that name, and their packages; what was made of the same answers does not count."""
    found = []
    for point in entry_points(group="mergecore"):
        owner = point.dist.name if point.dist else "another package"
        if plain(point.name) == plain(name) and plain(owner) != plain(project):
            found.append((point.name, owner))
    return found


def plain(name: str) -> str:
    """A name as package tools compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


if __name__ == "__main__":
    FAULTS = faults(json.loads({{ cookiecutter | tojson | tojson }}))
    for fault in FAULTS:
        print(fault, file=sys.stderr)
    sys.exit(1 if FAULTS else 0)
