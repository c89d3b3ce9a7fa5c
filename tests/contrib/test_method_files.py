"""Files of merge methods that were written for mergekit or sd-mecha, next to mergekit and to numpy."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from fixture_types import Cli
from tiny import llama, llama_config, read_tensors, write_checkpoint
from torch import Tensor
from written_methods import ONE, write

import mergecore
from mergecore import ConfigError, MergeMethod, PluginError, Registry
from mergecore.testing import run_method
from mergecore_contrib.method_files import VARIABLE, methods_of

FILES = Path(__file__).parent / "files"


@pytest.fixture(autouse=True)
def _no_stand_ins_stay() -> Iterator[None]:
    yield
    assert not [name for name in sys.modules if name.partition(".")[0] in ("mergekit", "sd_mecha")]


def method(file: str, name: str) -> MergeMethod[Any]:
    return next(one for one in methods_of(FILES / f"{file}.py") if one.name == name)


def tensor(k: int) -> Tensor:
    """Eighths from -6/8 to 6/8, other ones for each k."""
    rows = [[((7 * i + 3 * j + 11 * k + i * j * k) % 13 - 6) / 8 for j in range(4)] for i in range(3)]
    return torch.tensor(rows)


BASE, MODELS = tensor(0), [tensor(k) for k in (1, 2, 3)]


def made(file: str, name: str, models: list[Tensor], base: Tensor | None = BASE, **parameters: Any) -> Any:
    one = method(file, name)
    return run_method(one, one.params(**parameters), models, base).numpy()


# ---- what mergekit 0.1.5 makes of the same files and tensors -----------------------------------------------


@pytest.mark.parametrize(
    ("file", "name", "base", "parameters", "wanted"),
    [
        (
            "boosting",
            "boosting",
            BASE,
            {"weight": (0.5, 0.25, 1.0), "beta": 0.7, "scale": 0.5},
            [
                [-0.237501, 0.758648, -1.093765, -0.063849],
                [-0.666496, -0.238283, -2.029566, -0.017361],
                [0.634626, -1.282778, -0.180195, 0.063776],
            ],
        ),
        (
            "cabs",
            "cabs",
            BASE,
            {"weight": (0.5, 0.25, 1.0), "n": 1, "m": 3},
            [[-0.0625, -0.09375, -0.75, 0.25], [0.0, 0.125, -0.75, -0.3125], [0.0625, -0.25, 0.25, -0.0625]],
        ),
        (
            "rms",
            "rms_mean",
            None,
            {"weight": (0.5, 0.25, 1.0), "strength": 0.5},
            [
                [0.34595, 0.2442, -0.6512, -0.22385],
                [-0.50875, 0.2442, -0.8547, -0.10175],
                [0.4884, -0.2849, -0.26455, 0.02035],
            ],
        ),
    ],
)
def test_kernels_of_groups_and_batches_give_what_mergekit_gives(
    file: str, name: str, base: Tensor | None, parameters: dict[str, Any], wanted: Any
) -> None:
    assert np.abs(made(file, name, MODELS, base, **parameters) - wanted).max() < 2e-6


# ---- the other styles, next to their formulas in numpy -----------------------------------------------------


def test_a_function_of_tensors_of_mergekit_014() -> None:
    """arXiv:2412.19819: slerp of a/|a| and b/|b|, times |a|^l |b|^(1-l)."""
    a, b = (one.double().numpy() for one in MODELS[:2])
    na, nb = np.linalg.norm(a), np.linalg.norm(b)
    angle = np.arccos((a * b).sum() / na / nb)
    wanted = na**0.3 * nb**0.7 * (np.sin(0.3 * angle) * a / na + np.sin(0.7 * angle) * b / nb) / np.sin(angle)
    assert np.abs(made("chipalign", "chipalign", MODELS[:2], None, lam=0.3) - wanted).max() < 1e-6


def test_a_function_with_base_tensor_and_a_list_of_weights() -> None:
    deltas = [w * (one - BASE).double().numpy() for w, one in zip((1, 0.5, 2), MODELS, strict=True)]
    sign = np.sign(sum(deltas))
    wanted = np.max([np.where(np.sign(one) == sign, np.abs(one), 0) for one in deltas], axis=0)
    found = made("emr", "emr", MODELS, weight=(1, 0.5, 2), scale=0.5)
    assert np.abs(found - (BASE.numpy() + 0.5 * sign * wanted)).max() < 1e-6


def test_a_class_that_makes_tasks() -> None:
    """arXiv:2406.11385: each task vector times its share of the squared norms; a parameter may be called lambda."""
    deltas = [w * (one - BASE).double().numpy() for w, one in zip((1, 0.5, 2), MODELS, strict=True)]
    squares = [np.square(one).sum() for one in deltas]
    wanted = sum(square / sum(squares) * one for square, one in zip(squares, deltas, strict=True))
    parameters: dict[str, Any] = {"weight": (1, 0.5, 2), "lambda": 0.5}
    found = made("metagpt", "metagpt", MODELS, **parameters)
    assert np.abs(found - (BASE.numpy() + 0.5 * wanted)).max() < 1e-6


def test_functions_of_sd_mecha() -> None:
    a, b = MODELS[0].double().numpy(), (MODELS[1] - BASE).double().numpy()
    wanted = a + 0.5 * (b - (a * b).sum() / np.square(a).sum() * a)
    found = made("mecha", "add_orthogonal", MODELS[:2], alpha=0.5)
    assert np.abs(found - wanted).max() < 1e-6
    mean = sum(one.double().numpy() for one in MODELS) / 3
    assert np.abs(made("mecha", "running_mean", MODELS, None) - mean).max() < 1e-6
    half = (BASE + MODELS[0]).double().numpy() / 2
    assert np.abs(made("mecha", "halved_delta", MODELS[:1]) - half).max() < 1e-6


def test_a_function_of_sd_mecha_that_needs_other_tensors_says_so() -> None:
    with pytest.raises(PluginError, match="only functions that make a tensor from those of its own name"):
        made("mecha", "other_tensor", MODELS[:1], None)


def test_signs_are_elected_by_sum_or_by_count(tmp_path: Path) -> None:
    """Of 3, -1, -1 the sum elects plus, the count minus; 0 counts as plus."""
    write(
        tmp_path,
        "from mergekit.merge_methods.generalized_task_arithmetic import get_mask\n"
        "@merge_method(name='masked')\n"
        "def masked(tensors: List[torch.Tensor], count: bool = False) -> torch.Tensor:\n"
        "    x = torch.stack(tensors)\n"
        "    return (x * get_mask(x, 'count' if count else 'sum')).sum(0)\n",
    )
    [one] = methods_of(tmp_path / "own.py")
    models = [torch.tensor([3.0, 1.0]), torch.tensor([-1.0, -1.0]), torch.tensor([-1.0, 0.0])]
    assert run_method(one, one.params(), models).tolist() == [3, 1]
    assert run_method(one, one.params(count=True), models).tolist() == [-2, 1]


# ---- in merges ---------------------------------------------------------------------------------------------


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for seed, name in enumerate(("base", "a", "b")):
        write_checkpoint(Path(name), llama(2, seed=seed), llama_config(2))
    monkeypatch.setenv(VARIABLE, os.pathsep.join(str(FILES / f"{one}.py") for one in ("emr", "metagpt")))
    return tmp_path


EMR = """
merge_method: emr
base_model: ./base
models:
  - model: ./a
    parameters: {weight: [1, 0]}
  - model: ./b
    parameters:
      weight:
        - {filter: mlp, value: 0}
        - {value: 1}
parameters: {scale: 0.5}
"""


def test_a_config_names_a_method_of_a_file(models: Path, cli: Cli) -> None:
    """With gradients and filters: in the last layer a is left out, b in all MLPs."""
    Path("emr.yml").write_text(EMR)
    outcome = cli("merge", "emr.yml", "out")
    assert outcome.code == 0, outcome.err
    out, base, a, b = (read_tensors(Path(one)) for one in ("out", "base", "a", "b"))
    up, q = "model.layers.{}.mlp.up_proj.weight", "model.layers.{}.self_attn.q_proj.weight"
    half = [(base[up.format(0)] + a[up.format(0)]) / 2, base[up.format(1)]]
    assert (out[up.format(0)] - half[0]).abs().max() < 1e-6
    assert torch.equal(out[up.format(1)], half[1])
    assert (out[q.format(1)] - (base[q.format(1)] + b[q.format(1)]) / 2).abs().max() < 1e-6
    assert cli("verify", "out").code == 0


def test_the_same_bytes_with_any_number_of_threads_and_processes(models: Path, cli: Cli) -> None:
    Path("emr.yml").write_text(EMR)
    for i, words in enumerate((("-j", "1"), ("-j", "3"), ("--executor", "processes", "-j", "2"))):
        outcome = cli("merge", "emr.yml", f"out-{i}", *words)
        assert outcome.code == 0, outcome.err
    assert len({Path(f"out-{i}/model.safetensors").read_bytes() for i in range(3)}) == 1


DRAWS = """
import torch
from mergekit.merge_methods.easy_define import merge_method

@merge_method(name="drop")
def drop(tensors: list[torch.Tensor]) -> torch.Tensor:
    \"\"\"Chance, drawn in four ways.\"\"\"
    total = sum(tensors)
    own = torch.rand(total.shape, generator=torch.Generator().manual_seed(1))
    mask = torch.bernoulli(torch.full_like(total, 0.5)) + torch.rand(total.shape) + torch.randn_like(total)
    return total * mask.index_select(0, torch.randperm(len(mask))) + own
"""


def test_random_numbers_of_torch_depend_on_the_seed_alone(
    models: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    (models / "drop.py").write_text(DRAWS)
    monkeypatch.setenv(VARIABLE, "drop.py")
    (models / "drop.yml").write_text("merge_method: drop\nmodels: [{model: a}, {model: b}]\n")
    state = torch.random.get_rng_state()
    for name, words in {"one": ["-j", "1"], "four": ["-j", "4"], "seven": ["--seed", "7"]}.items():
        assert (done := cli("merge", "drop.yml", name, *words)).code == 0, done.err
        torch.rand(3)
    assert torch.equal(torch.random.get_rng_state()[:8], state[:8])
    one, four, seven = (
        (models / name / "model.safetensors").read_bytes() for name in ("one", "four", "seven")
    )
    assert one == four != seven
    made = read_tensors(models / "one")
    same = [name for name in made if "q_proj" in name]
    assert not torch.equal(made[same[0]], made[same[1]])


def test_its_parameters_are_shown_and_checked(models: Path, cli: Cli) -> None:
    shown = cli("methods", "show", "metagpt").out
    assert "metagpt: Task vectors weighted by their squared norms." in shown
    assert " lambda " in shown
    assert "comes with" in shown
    assert "metagpt.py\n" in shown.partition("comes with")[2]
    assert "built-in" not in shown
    Path("emr.yml").write_text(EMR.replace("scale", "scael"))
    assert "emr has no parameter 'scael'; did you mean 'scale'?" in cli("plan", "emr.yml").err


def test_methods_of_a_file_are_used_from_python(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE)
    registry = Registry.discover().with_methods(*methods_of(FILES / "chipalign.py"))
    document = {"merge_method": "chipalign", "models": [{"model": "./a"}, {"model": "./b"}]}
    assert read_tensors(mergecore.merge(document, "out", registry=registry)).keys() == llama(2).keys()


# ---- what cannot be used -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", r"own.py: it defines no merge method for mergekit or sd-mecha"),
        ("1 / 0\n", r"own.py:4: ZeroDivisionError: division by zero"),
        (
            "@merge_method(name='one')\n" + ONE.format(", k"),
            r"own.py:4: TypeError: parameter 'k' has no type",
        ),
        (
            "@merge_method(name='one')\n" + ONE.format(", k: torch.Tensor"),
            r"parameter 'k' is a tensor; only 'tensors' and 'base_tensor' can be",
        ),
        (
            "@merge_method(name='one')\n" + ONE.format(", **k: int"),
            r"parameter 'k' stands for any number of arguments",
        ),
        ("@merge_method(name='ties')\n" + ONE.format(""), r"a built-in merge method is called 'ties' too"),
        (
            "from mergekit.config import MergeConfiguration\n",
            r"own.py:4: No module named 'mergekit.config': mergecore stands in for the parts that define merge "
            "methods only",
        ),
        ("from mergekit.graph import Executor\n", r"own.py:4: cannot import name 'Executor'"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(text: str, what: str, tmp_path: Path) -> None:
    hints = ("decorate a function with @merge_method", "correct the file", "give it another name in the file")
    with pytest.raises(ConfigError, match=what) as caught:
        methods_of(write(tmp_path, text))
    assert caught.value.hint in (*hints, "put what it needs from there into the file")


MECHA = "from sd_mecha import Parameter, Return, StateDict, merge_method\nfrom torch import Tensor\n@merge_method\n"


@pytest.mark.parametrize(
    ("signature", "what"),
    [
        ("(a: Parameter(Tensor), k)", "parameter 'k' has no type"),
        ("(k: Parameter(float) = 1.0)", "no argument is a tensor of a model"),
        ("(a: Parameter(Tensor, 'weight') = None)", "an argument that is a model has a default"),
        ("(a: Parameter(Tensor), k: Parameter(StateDict[Tensor]) = None)", "parameter 'k' is a whole model"),
    ],
)
def test_what_is_no_function_of_tensors_is_refused(signature: str, what: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=what):
        methods_of(write(tmp_path, f"{MECHA}def one{signature}: return a\n"))
    with pytest.raises(ConfigError, match="'One' is not a plain function of tensors"):
        methods_of(write(tmp_path, f"{MECHA}class One: pass\n"))


def test_a_parameter_of_each_input_needs_a_method_without_base(tmp_path: Path) -> None:
    text = (FILES / "boosting.py").read_text().replace("PerNonBase", "PerInput")
    (tmp_path / "own.py").write_text(text)
    with pytest.raises(ConfigError, match="has a value for each input, the base included; use PerNonBase"):
        methods_of(tmp_path / "own.py")


def test_a_file_that_is_not_there_is_told_with_the_plugin(
    monkeypatch: pytest.MonkeyPatch, cli: Cli, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(VARIABLE, "nowhere.py")
    Path("notes.txt").write_text("")
    with pytest.raises(ConfigError, match=r"'notes.txt' is not a Python file"):
        methods_of("notes.txt")
    with pytest.raises(ConfigError, match=r"'nowhere.py' is not a Python file") as caught:
        methods_of("nowhere.py")
    assert caught.value.hint == "name a file that ends with .py"
    listed = cli("plugins", "list").out
    assert "why   MERGECORE_METHOD_FILES: 'nowhere.py' is not a Python file\n" in listed
    assert "cure  name a file that ends with .py\n" in listed


def test_a_result_of_another_shape_is_the_fault_of_the_method(tmp_path: Path) -> None:
    [one] = methods_of(
        write(tmp_path, "@merge_method(name='one')\n" + ONE.format("").replace("[0]\n", "[0][0]\n"))
    )
    with pytest.raises(PluginError, match=r"it returned \[4\]; a tensor of \[3, 4\] is expected"):
        run_method(one, one.params(), [tensor(1)])


def test_an_installed_mergekit_stays_what_it_is(tmp_path: Path) -> None:
    real = ModuleType("mergekit")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "mergekit", real)
        assert [one.name for one in methods_of(FILES / "emr.py")] == ["emr"]
        assert sys.modules["mergekit"] is real
        assert "mergekit.merge_methods" not in sys.modules


def test_a_mergekit_that_is_imported_later_is_the_real_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    methods_of(FILES / "emr.py")
    with pytest.raises(ModuleNotFoundError):
        import_module("mergekit")
    (tmp_path / "mergekit.py").write_text("real = True\n")
    monkeypatch.syspath_prepend(tmp_path)
    methods_of(FILES / "emr.py")
    assert import_module("mergekit").real
    del sys.modules["mergekit"]


def test_an_import_within_a_function_is_to_be_moved(tmp_path: Path) -> None:
    text = ONE.format("").replace("    return", "    from mergekit.common import ModelReference\n    return")
    [one] = methods_of(write(tmp_path, "@merge_method(name='one')\n" + text))
    what = "it imports from mergekit while it runs: No module named 'mergekit'"
    with pytest.raises(PluginError, match=what) as caught:
        run_method(one, one.params(), [tensor(1)])
    assert caught.value.hint == "put the import at the top of the file, where mergecore stands in for it"
    [one] = methods_of(write(tmp_path, "@merge_method(name='one')\n" + text.replace("mergekit", "nowhere")))
    with pytest.raises(
        PluginError, match=r"own.py:6: 'one' failed on tensor 'tensor': ModuleNotFoundError.*nowhere"
    ):
        run_method(one, one.params(), [tensor(1)])
