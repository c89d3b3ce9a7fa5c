"""Compiles an extraction to a plan, from headers alone; read `plan_extraction`."""

from __future__ import annotations

from collections.abc import Iterator

from mergecore.config import HUB
from mergecore.errors import Collector
from mergecore.types import Checkpoint, Json, Plan, Planner, PluginChoice, SideFiles
from mergecore_plugins.lora.extract_lora.adapter_config import NAME, adapter_config
from mergecore_plugins.lora.extract_lora.choosing import Choice, choose, task_of
from mergecore_plugins.lora.extract_lora.pairs import Pairs, find_pairs
from mergecore_plugins.lora.extract_lora.settings import Extraction, ExtractionDocument
from mergecore_plugins.lora.extract_lora.steps import steps_of
from mergecore_plugins.lora.making.targets import card_of


def plan_extraction(planner: Planner) -> Plan:
    """The plan of an extraction.

    Raises:
        MergecoreError: what is wrong with the settings or the models; several as `Problems`.
    """
    asked = planner.read_document(ExtractionDocument).extract_lora
    now, before = _opened(asked, planner)
    found = find_pairs(now, before, planner)
    choice = choose(asked, found)
    steps = steps_of(choice, found, asked)
    models = (now, before)
    files = SideFiles()
    if not asked.only_facts:
        files = planner.side_files(
            models,
            steps,
            made_by="extract_lora",
            config=None,
            keep=lambda name: False,
            more={NAME: adapter_config(choice, found, before, asked.base_name)},
            card=_card(asked, before, task_of(now.config)),
            title="LoRA adapter",
            summary="mergecore extracted this LoRA adapter from {0}: it is the difference to its base {1}.",
        )
    reason = "the adapter has nothing of it"
    return planner.plan(
        models,
        steps,
        files,
        unused={0: reason, 1: "the fine-tune has no such tensor, or another one that is stored whole"},
        warnings=[*choice.notes, *_warnings(choice, found, now, before)],
        output=PluginChoice("peft"),
        doing="looking at singular values" if asked.only_facts else "extracting an adapter",
    )


def _opened(asked: Extraction, planner: Planner) -> tuple[Checkpoint, Checkpoint]:
    problems = Collector()
    opened = []
    for key in ("finetuned", "base"):
        with problems.collecting():
            opened.append(planner.open(getattr(asked, key), ("extract_lora", key)))
    problems.raise_any()
    return opened[0], opened[1]


def _card(asked: Extraction, base: Checkpoint, task: str | None) -> dict[str, Json]:
    """The metadata that the hub knows adapters by."""
    named = asked.base_name or (base.reference.path.removeprefix(HUB) if base.revision is not None else "")
    return card_of(named, task)


def _warnings(choice: Choice, found: Pairs, now: Checkpoint, base: Checkpoint) -> Iterator[str]:
    """What the user should know before the adapter is used."""
    if found.resized:
        rows, wanted = found.resized
        yield (
            f"{now.name} has {wanted} rows for tokens and {base.name} has {rows}: they are stored whole, and PEFT "
            f"loads the adapter after base.resize_token_embeddings({wanted}) only"
        )
    if any(one.tied for one in choice.layers):
        yield (
            "embeddings and head are one weight: PEFT applies the adapter correctly, but its merge_and_unload adds the "
            "change once for each of them; `mergecore merge-lora` does not"
        )
