"""Compiles a transplant to a plan, from headers and tokenizer files alone; read `plan_transplant`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from mergecore.errors import Collector, ConfigError, InputError
from mergecore.models.opener import Opener
from mergecore.planning.embedding_rows import Common
from mergecore.planning.matching import Match, Models
from mergecore.planning.side_files.write import output_files
from mergecore.planning.toolkit import lay_out, versions
from mergecore.tokenizers.chat_template import chosen_template, own_template, with_template
from mergecore.tokenizers.files import is_tokenizer_file
from mergecore.tokenizers.read import VocabularyReader
from mergecore.types import (
    Checkpoint,
    Dropped,
    Json,
    ModelReference,
    OpenOptions,
    OutputWriter,
    Plan,
    Recipe,
    Step,
    TokenTable,
    Vocabulary,
)
from mergecore_plugins.transplant.methods import BY_DONOR
from mergecore_plugins.transplant.settings import Transplant, TransplantDocument, read_settings
from mergecore_plugins.transplant.steps import Pair, Surgery
from mergecore_plugins.transplant.tokens.counterparts import Texts, counterparts, texts_of
from mergecore_plugins.transplant.tokens.pieces import Cutter

if TYPE_CHECKING:
    from mergecore.files.yaml_document import Document
    from mergecore.plugins.registry import Registry
    from mergecore.types.plans import PlanOptions


def plan_transplant(document: Document, registry: Registry, options: PlanOptions) -> Plan:
    """The plan of a transplant.

    Raises:
        MergecoreError: what is wrong with the settings or the models; several as `Problems`.
    """
    doubts: list[ConfigError] = []
    settings = read_settings(document, registry, doubts)
    opener = Opener(registry, OpenOptions(options.offline), document.place)
    pair = _opened(settings, opener)
    surgery = _surgery(settings, pair)
    steps = surgery.steps()

    vocabulary = _vocabulary(settings, pair, surgery)
    common = Common(vocabulary, multiple=settings.transplant.pad_to_multiple_of or 1)
    effective = _effective(document.data, options)
    models = Models((pair.model, pair.donor), (pair.description, pair.donor_description), donor=0)
    method = f"transplant ({settings.transplant.method})"
    files, notes = output_files(
        settings.name or "", method, models, Match(), steps, common, effective, opener.fit, strict=True
    )
    writer, size, written = settings.output.writer, options.shard_size, settings.output.params
    return Plan(
        models=models.checkpoints,
        donor=0,
        steps=tuple(steps),
        layout=lay_out(registry, writer, steps, written, shard_size=size, config=pair.model.config),
        side_files=files,
        seed=settings.seed if options.seed is None else options.seed,
        executor="threads",
        document=effective,
        descriptions=models.descriptions,
        dropped=tuple(_unused(pair.donor, steps)),
        warnings=(*map(str, doubts), *surgery.warnings(), *vocabulary.warnings, *notes),
        plugins=versions(registry, [(Recipe, "transplant"), (OutputWriter, writer)]),
        title=settings.name or "",
        recipe="transplant",
    )


def _opened(settings: TransplantDocument, opener: Opener) -> Pair:
    """Both models; the donor needs no weights unless the method reads its embeddings."""
    asked = settings.transplant
    weights = asked.method in BY_DONOR
    lenient = replace(opener, options=replace(opener.options, weights=weights))
    problems = Collector()
    found = []
    for one, reference, path in (
        (opener, asked.model, ("transplant", "model")),
        (lenient, asked.donor, ("transplant", "donor")),
    ):
        with problems.collecting(), _telling_why(asked, reference):
            found.append(one.open(reference, path))
    problems.raise_any()
    model, donor = found
    return Pair(model, donor, opener.describe(model), opener.describe(donor))


@contextmanager
def _telling_why(asked: Transplant, reference: ModelReference) -> Iterator[None]:
    """Say of a donor without weights why they are needed."""
    try:
        yield
    except InputError as error:
        if error.code != "E201" or reference != asked.donor:
            raise
        hint = f"{asked.method} compares embeddings; subword needs only the tokenizer of the donor"
        raise InputError(error.code, error.what, place=error.place, hint=hint) from error


def _surgery(settings: TransplantDocument, pair: Pair) -> Surgery:
    """What becomes of the rows of both."""
    asked = settings.transplant
    read = VocabularyReader().read
    problems = Collector()
    tables = []
    for one, why in (
        (pair.model, "so nobody knows which of its rows is which token"),
        (pair.donor, "to give"),
    ):
        with problems.collecting():
            tables.append(_needed(read(one), one, why))
    problems.raise_any()
    mine, theirs = texts_of(pair.model, tables[0]), texts_of(pair.donor, tables[1])
    found = counterparts(mine, theirs, pair.stored)
    if asked.method in BY_DONOR and not found.shared:
        what = f"{pair.model.name} and {pair.donor.name} have no token in common, by which rows could be compared"
        raise InputError("E240", what, hint="use the method subword, or mean")
    cutter = Cutter(pair.model, mine) if asked.method == "subword" else None
    return Surgery(pair, asked, mine, theirs, found, cutter)


def _needed(table: TokenTable | None, model: Checkpoint, why: str) -> TokenTable:
    if table is None or not table.ids:
        hint = "put its tokenizer files there (tokenizer.json, or vocab.json and the like), or name another model"
        raise InputError("E240", f"it has no tokenizer {why}", place=model.name, hint=hint)
    return table


def _vocabulary(settings: TransplantDocument, pair: Pair, surgery: Surgery) -> Vocabulary:
    """The donor's vocabulary with its files, and the chat template that is asked for."""
    files: Mapping[str, Path | bytes] = {
        name: path for name, path in pair.donor.side_files.items() if is_tokenizer_file(name)
    }
    warnings: tuple[str, ...] = ()
    if settings.chat_template:
        template = chosen_template(settings.chat_template, (pair.model, pair.donor))
        files = with_template(files, template) if template else files
    elif own_template(pair.model) and not own_template(pair.donor):
        warnings = (
            f"the output has no chat template: {pair.donor.name} has none; 'chat_template: auto' keeps that "
            f"of {pair.model.name}",
        )
    ids, roles = surgery.theirs.table.ids, surgery.theirs.roles
    return Vocabulary(
        files=files,
        rows=(surgery.found.rows,),
        ids=ids,
        size=len(surgery.found.rows),
        source=pair.donor,
        warnings=(*warnings, *_ends(pair.donor.name, surgery.theirs)),
        roles={role: ids[token] for role, token in roles.items()},
    )


def _ends(donor: str, theirs: Texts) -> Iterator[str]:
    """What to say of a donor whose tokenizer does not end texts of its own accord."""
    if "eos" not in theirs.roles:
        yield (
            f"no token of {donor} ends a text, so generation stops at its longest: set eos_token_id by hand, in "
            f"config.json and generation_config.json"
        )
    for role in sorted(theirs.lent):
        what = "begin" if role == "bos" else "end"
        yield f"no token of {donor} is said to {what} texts: '{theirs.roles[role]}' does it, and is {role}_token_id"


def _effective(data: Mapping[str, Json], options: PlanOptions) -> dict[str, Json]:
    """The document with what the command line changes of the result."""
    given = {"seed": options.seed, "shard_size": options.shard_size}
    changes: dict[str, Json] = {key: value for key, value in given.items() if value is not None}
    return {**data, **({"command_line": changes} if changes else {})}


def _unused(donor: Checkpoint, steps: Sequence[Step]) -> Iterator[Dropped]:
    """The tensors of the donor that no step reads."""
    used = {name for step in steps for one in step.extra for model, name in one.reads if model == 1}
    if rest := tuple(name for name in donor.tensors if name not in used):
        yield Dropped(1, rest, "the donor gives its tokenizer, and its embeddings to compare")
