"""The chat template of the output: which one it is, and the files that hold it.  None is ever rendered here.

Read `chosen_template`, then `with_template`.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from mergecore.errors import InputError
from mergecore.files.small_files import read_small
from mergecore.files.strict_json import parse_mapping
from mergecore.types import Checkpoint, Json

FILE = "chat_template.jinja"
CONFIG = "tokenizer_config.json"
MAX_TEMPLATE = 1_000_000


def is_template_text(wanted: str) -> bool:
    """Whether what a config asks for is the text of a template, rather than the name of one."""
    return any(mark in wanted for mark in ("{{", "{%", "{#"))


def chosen_template(
    wanted: str, models: Sequence[Checkpoint], named: Callable[[str], Path | bytes]
) -> str | None:
    """The template that `wanted` asks for; None when no model has one.

    named: the file that a template of that name consists of.

    Raises:
        MergecoreError: E240 when a model's own template cannot be read.
    """
    if wanted == "auto":
        return _most_frequent([template for model in models if (template := own_template(model))])
    return (
        wanted
        if is_template_text(wanted)
        else template_of({FILE: named(wanted)}, f"the chat template '{wanted}'")
    )


def own_template(model: Checkpoint) -> str | None:
    """The template that a model has, if any; of several with names, the default one.

    Raises:
        MergecoreError: E240 when it cannot be read.
    """
    return template_of(model.side_files, model.name)


def template_of(files: Mapping[str, Path | bytes], place: str) -> str | None:
    """The template in these files of the model `place`, if any; of several with names, the default one.

    Raises:
        MergecoreError: E240 when a file cannot be read.
    """
    if FILE in files:
        try:
            return _data(files[FILE]).decode()
        except UnicodeDecodeError as error:
            raise InputError("E240", f"not UTF-8 at byte {error.start}", place=f"{place}/{FILE}") from None
    for name in (CONFIG, "chat_template.json"):
        template = _default(_mapping(files, name, place).get("chat_template"))
        if template:
            return template
    return None


def with_template(files: Mapping[str, Path | bytes], template: str) -> dict[str, Path | bytes]:
    """Tokenizer files with that template, where new and old readers find it, and no other one.

    Raises:
        MergecoreError: E240 when tokenizer_config.json cannot be read.
    """
    if (template_of(files, "the output") or "").strip() == template.strip():
        return dict(files)
    kept = {
        name: content for name, content in files.items() if not name.startswith("additional_chat_templates/")
    }
    kept.pop("chat_template.json", None)
    kept[FILE] = template.encode()
    if files:
        config = {**_mapping(files, CONFIG, "the output"), "chat_template": template}
        kept[CONFIG] = (json.dumps(config, indent=2, ensure_ascii=False) + "\n").encode()
    return kept


def _most_frequent(templates: Sequence[str]) -> str | None:
    """The one that most models have; of several such, the first.  White space around it does not count."""
    counts = Counter(template.strip() for template in templates)
    return max(templates, key=lambda template: counts[template.strip()], default=None)


def _default(template: Json) -> str | None:
    """A template, or the default one of several: a list of {name, template}, or a mapping."""
    if isinstance(template, list):
        named = {str(one.get("name")): one.get("template") for one in template if isinstance(one, dict)}
        template = named.get("default")
    elif isinstance(template, dict):
        template = template.get("default")
    return template if isinstance(template, str) else None


def _mapping(files: Mapping[str, Path | bytes], name: str, place: str) -> dict[str, Json]:
    if name not in files:
        return {}
    return parse_mapping(_data(files[name]), code="E240", place=f"{place}/{name}")


def _data(content: Path | bytes) -> bytes:
    if isinstance(content, bytes):
        return content
    return read_small(content, code="E240", max_bytes=64 * MAX_TEMPLATE)
