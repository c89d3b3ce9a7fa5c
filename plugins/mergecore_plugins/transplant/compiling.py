"""Compiles a transplant to a plan, from headers and tokenizer files alone; read `plan_transplant`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from mergecore.errors import Collector, InputError
from mergecore.tokenizers import template_of
from mergecore.types import Checkpoint, ModelReference, Plan, Planner, TokenTable, Vocabulary
from mergecore_plugins.transplant.document import Transplant, TransplantDocument
from mergecore_plugins.transplant.methods import BY_DONOR
from mergecore_plugins.transplant.steps import Pair, Surgery
from mergecore_plugins.transplant.tokens.counterparts import Texts, counterparts, texts_of
from mergecore_plugins.transplant.tokens.pieces import Cutter


def plan_transplant(planner: Planner) -> Plan:
    """The plan of a transplant.

    Raises:
        MergecoreError: what is wrong with the settings or the models; several as `Problems`.
    """
    settings = planner.read_document(TransplantDocument)
    asked = settings.transplant
    pair = _opened(asked, planner)
    surgery = _surgery(asked, pair, planner)
    steps = surgery.steps()
    models = (pair.model, pair.donor)
    side_files = planner.side_files(
        models,
        steps,
        made_by=f"transplant ({asked.method})",
        title="Model with another vocabulary",
        summary=f"mergecore gave {{0}} the vocabulary of {{1}}, by the method `{asked.method}`.",
        vocabulary=_vocabulary(settings, pair, surgery, planner),
        pad_to_multiple_of=asked.pad_to_multiple_of or 1,
    )
    unused = {1: "the donor gives its tokenizer, and its embeddings to compare"}
    return planner.plan(
        models,
        steps,
        side_files,
        unused=unused,
        warnings=[*surgery.warnings()],
        doing="transplanting a tokenizer",
    )


def _opened(asked: Transplant, planner: Planner) -> Pair:
    """Both models; the donor needs no weights unless the method reads its embeddings."""
    problems = Collector()
    found = []
    for reference, key, weights in (
        (asked.model, "model", True),
        (asked.donor, "donor", asked.method in BY_DONOR),
    ):
        with problems.collecting(), _telling_why(asked, reference):
            found.append(planner.open(reference, ("transplant", key), weights=weights))
    problems.raise_any()
    model, donor = found
    return Pair(model, donor, planner.describe(model), planner.describe(donor))


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


def _surgery(asked: Transplant, pair: Pair, planner: Planner) -> Surgery:
    """What becomes of the rows of both."""
    problems = Collector()
    tables = []
    for one, why in (
        (pair.model, "so it is not known which of its rows is which token"),
        (pair.donor, "to give"),
    ):
        with problems.collecting():
            tables.append(_needed(planner.vocabulary(one), one, why))
    problems.raise_any()
    mine, theirs = texts_of(pair.model, tables[0]), texts_of(pair.donor, tables[1])
    found = counterparts(mine, theirs, pair.stored)
    if asked.method in BY_DONOR and not found.shared:
        what = f"{pair.model.name} and {pair.donor.name} have no token in common to compare rows by"
        raise InputError("E240", what, hint="use the method subword, or mean")
    cutter = Cutter(pair.model, mine) if asked.method == "subword" else None
    return Surgery(pair, asked, mine, theirs, found, cutter)


def _needed(table: TokenTable | None, model: Checkpoint, why: str) -> TokenTable:
    if table is None or not table.ids:
        hint = "put its tokenizer files there (tokenizer.json, or vocab.json and the like), or name another model"
        raise InputError("E240", f"it has no tokenizer {why}", place=model.name, hint=hint)
    return table


def _vocabulary(settings: TransplantDocument, pair: Pair, surgery: Surgery, planner: Planner) -> Vocabulary:
    """The donor's vocabulary with its files, and the chat template that is asked for."""
    wanted, models = settings.chat_template, (pair.model, pair.donor)
    theirs, rows = surgery.theirs, surgery.found.rows
    files = planner.tokenizer(pair.donor, chat_template=wanted, templates_of=models)
    told = [*files.warnings, *_ends(pair.donor.name, theirs)]
    if not wanted and _template(pair.model) and not _template(pair.donor):
        told.insert(
            0,
            f"the output has no chat template: {pair.donor.name} has none; 'chat_template: auto' keeps that "
            f"of {pair.model.name}",
        )
    ids = theirs.table.ids
    return replace(
        files,
        rows=(rows,),
        ids=ids,
        size=len(rows),
        source=pair.donor,
        warnings=tuple(told),
        roles={role: ids[token] for role, token in theirs.roles.items()},
    )


def _template(model: Checkpoint) -> str | None:
    return template_of(model.side_files, model.name)


def _ends(donor: str, theirs: Texts) -> Iterator[str]:
    """What to say about a donor whose tokenizer does not end texts of its own accord."""
    if "eos" not in theirs.roles:
        yield (
            f"no token of {donor} ends a text, so generation stops at its longest: set eos_token_id by hand, in "
            f"config.json and generation_config.json"
        )
    for role in sorted(theirs.lent):
        what = "begin" if role == "bos" else "end"
        yield f"no token of {donor} is said to {what} texts: '{theirs.roles[role]}' does it, and is {role}_token_id"
