"""Whole transplants: each method against what it must give, what is copied, what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from fixture_types import Cli
from tiny import read_config, read_tensors
from tiny_transplant import EMBED, HEAD, MINE, SHARED, THEIRS, Transplanted, as_donor, rows, write
from torch import Tensor

import mergecore
from mergecore.errors import InputError, MergeError
from mergecore.output.storages.folder import Stage
from mergecore.types import Json, StepResult
from mergecore.types.execution import RunOptions
from mergecore_plugins.transplant.methods import METHODS

Pair = tuple[Tensor, Tensor]


def document(**asked: Json) -> dict[str, Json]:
    return {"transplant": {"model": "a", "donor": "b", **asked}}


# ---- what every method keeps -------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_shared_tokens_keep_their_rows_and_all_else_is_copied(
    method: str, transplanted: Transplanted, pair: Pair
) -> None:
    made, before = transplanted(method=method, k=3), read_tensors(Path("a"))
    assert made.keys() == before.keys()
    for name, own in zip((EMBED, HEAD), pair, strict=True):
        assert made[name].shape == (18, 4)
        assert torch.isfinite(made[name]).all()
        for theirs, mine in SHARED.items():
            assert torch.equal(made[name][THEIRS[theirs]], own[MINE[mine]])
    assert all(torch.equal(made[name], one) for name, one in before.items() if name not in (EMBED, HEAD))


@pytest.mark.parametrize("method", METHODS)
def test_the_bytes_depend_on_nothing_but_the_document(method: str, pair: Pair) -> None:
    plan = mergecore.plan(document(method=method))
    folders = [
        mergecore.execute(plan, f"out{threads}", options=RunOptions(threads=threads)) for threads in (1, 4)
    ]
    assert len({(folder / "model.safetensors").read_bytes() for folder in folders}) == 1


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_shared_rows_are_exact_in_any_dtype(dtype: torch.dtype, pair: Pair) -> None:
    embed = rows(18, seed=5).to(dtype)
    write(Path("c"), "BPE", embed, None)
    merged = mergecore.merge({"transplant": {"model": "c", "donor": "b"}}, "out")
    made = read_tensors(merged)[EMBED]
    assert made.dtype == dtype
    assert torch.equal(made[THEIRS["▁the"]], embed[MINE["Ġthe"]])


def test_a_tied_model_stays_tied_and_takes_a_donor_that_is_not(pair: Pair, rotation: Tensor) -> None:
    write(Path("c"), "BPE", pair[0], None)
    merged = mergecore.merge({"transplant": {"model": "c", "donor": "b", "k": 4}}, "out")
    assert HEAD not in read_tensors(merged)
    assert read_config(merged)["tie_word_embeddings"] is True
    torch.testing.assert_close(read_tensors(merged)[EMBED], as_donor(pair[0]))


def test_a_head_is_compared_by_the_embeddings_of_a_donor_without_one(pair: Pair, rotation: Tensor) -> None:
    write(Path("d"), "Unigram", as_donor(pair[1]) @ rotation, None)
    merged = mergecore.merge({"transplant": {"model": "a", "donor": "d", "k": 4}}, "out")
    torch.testing.assert_close(read_tensors(merged)[HEAD], as_donor(pair[1]))


def test_donors_of_another_width_will_do(pair: Pair) -> None:
    wide = torch.cat([as_donor(pair[0]), torch.zeros(18, 3)], dim=1)
    write(Path("d"), "Unigram", as_donor(pair[0]), None)
    tensors = read_tensors(Path("d")) | {EMBED: wide}
    from safetensors.torch import save_file

    save_file(tensors, "d/model.safetensors")
    write(Path("c"), "BPE", pair[0], None)
    merged = mergecore.merge({"transplant": {"model": "c", "donor": "d", "k": 4}}, "out")
    torch.testing.assert_close(read_tensors(merged)[EMBED], as_donor(pair[0]))


# ---- each method -------------------------------------------------------------------------------------------


def test_omp_with_as_many_tokens_as_columns_follows_a_rotation_exactly(
    transplanted: Transplanted, pair: Pair
) -> None:
    made = transplanted(method="omp", k=64)
    torch.testing.assert_close(made[EMBED], as_donor(pair[0]))
    torch.testing.assert_close(made[HEAD], as_donor(pair[1]))


def test_landmark_pca_turns_the_space_of_the_donor_back(pair: Pair, rotation: Tensor) -> None:
    moved = 3 * as_donor(pair[0]) @ rotation + torch.tensor([1.0, 2.0, 3.0, 4.0])
    write(Path("d"), "Unigram", moved, None)
    write(Path("c"), "BPE", pair[0], None)
    asked: dict[str, Json] = {"model": "c", "donor": "d", "method": "landmark_pca"}
    made = read_tensors(mergecore.merge({"transplant": asked}, "out"))[EMBED]
    torch.testing.assert_close(made, as_donor(pair[0]), atol=1e-5, rtol=1e-5)


def test_common_interpolation_with_one_token_takes_the_row_of_the_nearest(
    transplanted: Transplanted, pair: Pair
) -> None:
    made = transplanted(method="common_interpolation", k=1, metric="euclidean")[EMBED]
    wanted = as_donor(pair[0])
    shared = {theirs: wanted[THEIRS[theirs]] for theirs in SHARED}
    nearest = min(shared, key=lambda one: float((shared[one] - wanted[THEIRS["▁is"]]).norm()))
    torch.testing.assert_close(made[THEIRS["▁is"]], shared[nearest])


def test_subword_puts_the_pieces_of_the_text_together(transplanted: Transplanted, pair: Pair) -> None:
    embed, head = pair
    number, space, rest = THEIRS["▁is"], MINE["Ġ"], MINE["is"]
    made = transplanted(method="subword")
    torch.testing.assert_close(made[EMBED][number], (embed[space] + embed[rest]) / 2)
    made = transplanted("ends", method="subword", pieces="first_last")
    assert torch.equal(made[EMBED][number], embed[rest])
    assert torch.equal(made[HEAD][number], head[space])


def test_subword_gives_the_mean_row_to_what_has_no_pieces(transplanted: Transplanted, pair: Pair) -> None:
    made = transplanted(method="subword")[EMBED]
    known = [
        MINE[one] for one in "un" if one in MINE
    ]  # the rest of <unk> is nothing that the model can write
    torch.testing.assert_close(made[THEIRS["<unk>"]], pair[0][known].mean(0) if known else pair[0].mean(0))


def test_mean_and_zero(transplanted: Transplanted, pair: Pair) -> None:
    made = transplanted(method="mean")
    torch.testing.assert_close(made[EMBED][THEIRS["▁is"]], pair[0].mean(0))
    torch.testing.assert_close(made[HEAD][THEIRS["▁is"]], pair[1].mean(0))
    assert not transplanted("zero", method="zero")[EMBED][THEIRS["▁is"]].any()


@pytest.mark.parametrize("method", ["random", "john_hewitt"])
def test_what_is_drawn_follows_the_seed(method: str, transplanted: Transplanted) -> None:
    new = [THEIRS["▁is"], THEIRS["<unk>"]]
    first = transplanted("1", method=method, seed=1)[EMBED][new]
    again = transplanted("2", method=method, seed=1)[EMBED][new]
    other = transplanted("3", method=method, seed=2)[EMBED][new]
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert not torch.equal(first[0], first[1])


def test_what_is_drawn_has_the_mean_and_covariance_of_the_rows(tmp_path: Path, pair: Pair) -> None:
    flat = rows(18, seed=1) * torch.tensor([1.0, 1e-3, 0.0, 2.0]) + 5.0
    write(Path("c"), "BPE", flat, None)
    asked: dict[str, Json] = {
        "model": "c",
        "donor": "b",
        "method": "john_hewitt",
        "pad_to_multiple_of": 4000,
    }
    drawn = read_tensors(mergecore.merge({"transplant": asked}, "out"))[EMBED][18:]
    torch.testing.assert_close(drawn.mean(0), flat.mean(0), atol=0.1, rtol=0.01)
    torch.testing.assert_close(drawn.T.cov(), flat.T.cov(correction=0), atol=0.2, rtol=0.1)


# ---- the rest of the model ---------------------------------------------------------------------------------


def test_padding_and_ids_without_a_token_are_the_mean_row(transplanted: Transplanted, pair: Pair) -> None:
    made = transplanted(pad_to_multiple_of=16)[EMBED]
    assert made.shape == (32, 4)
    torch.testing.assert_close(made[18:], pair[0].mean(0).expand(14, 4))


def test_ids_go_there_and_back_and_transformers_loads_the_result(
    transplanted: Transplanted, pair: Pair
) -> None:
    from tokenizers import Tokenizer
    from transformers import AutoModelForCausalLM

    transplanted()
    assert Path("out/tokenizer.json").read_bytes() == Path("b/tokenizer.json").read_bytes()
    ids = Tokenizer.from_file("out/tokenizer.json").encode("the hat", add_special_tokens=False).ids
    assert ids == [THEIRS["▁the"], THEIRS["▁hat"]]
    model = AutoModelForCausalLM.from_pretrained("out")
    embed = model.state_dict()[EMBED]
    assert torch.equal(embed[ids], pair[0][[MINE["Ġthe"], MINE["Ġhat"]]])
    assert read_config(Path("out"))["vocab_size"] == 18


def test_special_ids_are_those_of_the_donor(transplanted: Transplanted) -> None:
    for folder, ids in (("a", {"bos_token_id": MINE["e"], "eos_token_id": 5}), ("b", {"eos_token_id": 0})):
        config = json.loads(Path(folder, "config.json").read_text())
        Path(folder, "config.json").write_text(json.dumps(config | ids))
    transplanted()
    config = read_config(Path("out"))
    assert config["eos_token_id"] == 0
    assert config["bos_token_id"] == THEIRS["e"]  # the donor does not say, so it stays the same token


def test_a_bias_of_the_head_follows_with_zero_for_new_tokens(pair: Pair) -> None:
    from safetensors.torch import save_file

    tensors = read_tensors(Path("a")) | {"lm_head.bias": torch.arange(1.0, 19.0)}
    save_file(tensors, "a/model.safetensors")
    made = read_tensors(mergecore.merge(document(), "out"))["lm_head.bias"]
    assert made[THEIRS["▁the"]] == 1 + MINE["Ġthe"]
    assert made[THEIRS["▁is"]] == 0


def test_an_interrupted_run_goes_on_to_the_same_bytes(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = mergecore.plan(document(k=3))
    whole = mergecore.execute(plan, "whole")
    finish = Stage.finish
    finished: list[str] = []

    def stop(self: Stage, result: StepResult) -> None:
        if len(finished) == len(plan.steps) - 1:  # only one of the filled matrices is missing
            raise KeyboardInterrupt
        finished.append(result.name)
        finish(self, result)

    monkeypatch.setattr(Stage, "finish", stop)
    with pytest.raises(KeyboardInterrupt):
        mergecore.execute(plan, "out", options=RunOptions(threads=1))
    monkeypatch.setattr(Stage, "finish", finish)
    assert not Path("out").exists()
    again = mergecore.execute(mergecore.plan(document(k=3)), "out", options=RunOptions(mode="resume"))
    assert (again / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()


def test_the_memory_is_planned_for(pair: Pair) -> None:
    plan = mergecore.plan(document())
    with pytest.raises(
        MergeError,
        match=r"the merge needs about .* with one worker, .*allow more, or merge fewer models at once",
    ):
        mergecore.execute(plan, "out", options=RunOptions(max_memory=250_000_000))


# ---- the command -------------------------------------------------------------------------------------------


def test_the_command_writes_a_model_that_can_be_verified(pair: Pair, cli: Cli) -> None:
    assert cli("transplant", "a", "b", "out", "-k", "4", "--pad-to-multiple-of", "4", "-q").code == 0
    assert read_tensors(Path("out"))[EMBED].shape == (20, 4)
    assert cli("verify", "out").code == 0
    card = Path("out/README.md").read_text()
    assert "mergecore gave `a` the vocabulary of `b`, by the method `omp`." in card


def test_a_document_is_merged_like_a_config(pair: Pair, cli: Cli) -> None:
    Path("t.yml").write_text("transplant:\n  model: ./a\n  donor: ./b\n  method: mean\n")
    assert cli("merge", "t.yml", "out").code == 0
    assert cli("transplant", "./a", "./b", "other", "--method", "mean").code == 0
    assert Path("out/model.safetensors").read_bytes() == Path("other/model.safetensors").read_bytes()


def test_a_plan_counts_the_tokens_and_writes_nothing(pair: Pair, cli: Cli) -> None:
    done = cli("transplant", "a", "b", "out", "--plan")
    told = "16 of 18 tokens keep their rows (12 are spelled the same, 4 have the same text, 0 the same part)"
    assert f"  {EMBED} [18, 4]: {told}; the others by omp" in done.out
    assert "2 omp, " in done.out
    assert "k is 4 and not 64: there are no more shared tokens, or no more columns in the donor" in done.out
    assert not Path("out").exists()
    facts = json.loads(cli("transplant", "a", "b", "out", "--plan", "--json").out)
    assert facts["tensors"][0]["note"] == f"{told}; the others by omp"


# ---- what is refused ---------------------------------------------------------------------------------------


def refused(**asked: Json) -> str:
    with pytest.raises(mergecore.MergecoreError) as caught:
        mergecore.plan(document(**asked))
    return f"{caught.value.code} {caught.value}"


def test_a_model_without_a_tokenizer_is_refused(pair: Pair) -> None:
    for folder, why in (("a", "so it is not known which of its rows is which token"), ("b", "to give")):
        text = Path(folder, "tokenizer.json").read_text()
        Path(folder, "tokenizer.json").unlink()
        told = refused()
        assert told.startswith(f"E240 {folder}: it has no tokenizer {why}")
        assert (
            "Hint: put its tokenizer files there (tokenizer.json, or vocab.json and the like), or name"
            in told
        )
        Path(folder, "tokenizer.json").write_text(text)


def test_a_donor_needs_weights_only_where_they_are_compared(pair: Pair) -> None:
    Path("b/model.safetensors").unlink()
    assert "omp compares embeddings; subword needs only the tokenizer of the donor" in refused()
    assert mergecore.plan(document(method="subword")).steps
    Path("a/model.safetensors").unlink()
    assert "E201" in refused(method="subword")


def test_vocabularies_without_a_common_token_are_refused(pair: Pair) -> None:
    from tiny_tokenizers import tokenizer_json

    Path("b/tokenizer.json").write_text(json.dumps(tokenizer_json("BPE", ["x", "y", "Ġz"])))
    told = "a and b have no token in common to compare rows by"
    assert f"{told}. Hint: use the method subword, or mean" in refused()
    assert any(
        "only 0 of the 3 tokens of b are in a" in one
        for one in mergecore.plan(document(method="mean")).warnings
    )


def test_a_donor_whose_matrix_is_too_short_is_told(pair: Pair) -> None:
    write(Path("b"), "Unigram", rows(17, seed=4), None)
    plan = mergecore.plan(document())
    assert f"1 token of b without a row in '{EMBED}' gets the mean row" in plan.warnings
    made = read_tensors(mergecore.execute(plan, "out"))[EMBED]
    torch.testing.assert_close(made[17], pair[0].mean(0))


def test_settings_that_do_not_exist_are_refused_with_their_place(pair: Pair, cli: Cli) -> None:
    Path("t.yml").write_text("transplant:\n  model: ./a\n  donor: ./b\n  methd: omp\n")
    assert cli("plan", "t.yml").err.startswith(
        "mergecore: error E103: t.yml:4:3: unknown key 'methd' in a transplant; did you mean 'method'?"
    )
    Path("t.yml").write_text("transplant:\n  model: ./a\n  donor: ./b\n  k: 0\n")
    assert (
        "error E105: t.yml:4:6: 'transplant.k' is 0; a number of at least 1 is expected"
        in cli("plan", "t.yml").err
    )
    Path("t.yml").write_text("transplant: {model: ./a}\n")
    assert "error E104: t.yml:1:13: 'donor' is missing from a transplant" in cli("plan", "t.yml").err


def test_numbers_that_are_not_finite_are_blamed_on_the_model_that_has_them(pair: Pair) -> None:
    embed = rows(18, seed=4)
    embed[5] = float("nan")
    write(Path("b"), "Unigram", embed, None)
    with pytest.raises(InputError, match=f"b: tensor '{EMBED}': 4 values are not finite") as caught:
        mergecore.merge(document(), "out")
    assert caught.value.code == "E234"


def test_a_tokenizer_that_cannot_cut_is_refused(pair: Pair) -> None:
    vocabulary = json.loads(Path("a/tokenizer.json").read_text())["model"]["vocab"]
    Path("a/tokenizer.json").unlink()
    Path("a/vocab.json").write_text(json.dumps(vocabulary))
    told = refused(method="subword")
    assert "E240 a: tokens are cut into pieces by a tokenizer.json" in told
    assert told.endswith("transformers writes one when it loads and saves the tokenizer, or use omp")


def test_a_tokenizer_that_the_library_cannot_read_is_refused(pair: Pair) -> None:
    document = json.loads(Path("a/tokenizer.json").read_text())
    document["model"]["merges"] = ["no merge of these"]
    Path("a/tokenizer.json").write_text(json.dumps(document))
    told = refused(method="subword")
    assert "E240 a/tokenizer.json: the library 'tokenizers' cannot read it: " in told
    assert "Hint: put a tokenizer.json there: transformers writes one" in told


def test_what_stands_for_the_unknown_is_no_piece(pair: Pair) -> None:
    embed = pair[0]
    write(Path("c"), "Unigram", embed, None)
    write(Path("d"), "WordPiece", rows(24, seed=4), None, {"unk_token": None})  # it is text like any other
    asked: dict[str, Json] = {"model": "c", "donor": "d", "method": "subword"}
    plan = mergecore.plan({"transplant": asked})
    made = read_tensors(mergecore.execute(plan, "out"))[EMBED]
    number = json.loads(Path("d/tokenizer.json").read_text())["model"]["vocab"]["[UNK]"]
    torch.testing.assert_close(made[number], embed[THEIRS["▁"]])  # which begins a word; no letter is known


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--resume", "--restart"], "E115: --resume and --restart exclude each other"),
        (["--recheck"], "E115: --recheck has no effect without --resume"),
        (["--chat-template", "chat_ml"], "'chat_ml' is not a known chat template; did you mean 'chatml'?"),
    ],
)
def test_options_that_say_nothing_are_refused(options: list[str], text: str, cli: Cli) -> None:
    failed = cli("transplant", "m", "d", "out", *options)
    assert failed.code == 2
    assert text in failed.err
