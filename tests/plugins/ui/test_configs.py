"""Configs on the page: checked, edited, composed, opened and saved, and never written elsewhere."""

from __future__ import annotations

import os
import re
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
from fixture_types import WritePlugin
from starlette.testclient import TestClient
from ui_server import CONFIG

import mergecore
from mergecore_plugins.ui.configs.finding import configs_below, models_below
from mergecore_plugins.ui.server.requests import MAX_BODY

BROKEN = CONFIG.replace("weight: 1", "wieght: 1", 1)


def check(page: TestClient, text: str) -> dict[str, Any]:
    answer: dict[str, Any] = page.post("/check", json={"text": text, "name": "mine.yml"}).json()
    return answer


# ---- checks and plans ----


def test_errors_of_the_command_line_come_with_their_lines(page: TestClient) -> None:
    (fault,) = check(page, BROKEN)["faults"]
    assert (fault["code"], fault["line"], fault["column"]) == ("E109", 5, 18)
    assert fault["message"] == "linear has no parameter 'wieght'; did you mean 'weight'?"


def test_a_text_that_parses_comes_as_data_too(page: TestClient) -> None:
    assert check(page, CONFIG)["data"][0]["models"][0]["model"] == "a"
    assert check(page, "merge_method: [")["data"] is None


def test_a_check_takes_less_than_a_tenth_of_a_second(page: TestClient) -> None:
    check(page, CONFIG)
    times = []
    for number in range(20):
        begin = time.process_time()
        check(page, f"{BROKEN}# {number}\n")
        times.append(time.process_time() - begin)
    assert sorted(times)[10] < 0.1  # some 5 ms


def test_a_plan_is_that_of_the_command_line(page: TestClient) -> None:
    made = page.post("/plan", json={"text": CONFIG}).json()
    assert made["ok"]
    plan = mergecore.plan("mean.yml")
    assert [one["name"] for one in made["plan"]["tensors"]] == [step.name for step in plan.steps]
    assert made["plan"]["bytes"] == plan.layout.size
    assert f"{len(plan.steps)}</span> merged by linear" in made["html"]


def test_what_is_wrong_with_models_stands_at_its_line(page: TestClient) -> None:
    made = page.post("/plan", json={"text": CONFIG.replace("model: b", "model: ./c"), "name": "x.yml"}).json()
    assert not made["ok"]
    (fault,) = made["faults"]
    assert (fault["code"], fault["line"]) == ("E701", 6)
    assert "config.yml" not in str(fault)


def test_every_tensor_is_accounted_for(page: TestClient, folder: Path) -> None:
    """Some are merged, and the one that is excluded is copied from the base."""
    names = [one.name for one in mergecore.plan("mean.yml").steps]
    text = f"{CONFIG}base_model: a\nexclude: {names[0]}\n"
    html = page.post("/plan", json={"text": text}).json()["html"]
    assert f"{len(names) - 1}</span> merged by linear" in html
    assert "1</span> copied" in html
    assert all(name in html for name in names)


# ---- edits ----


def test_an_edit_keeps_comments(page: TestClient) -> None:
    edits = [{"op": "set", "path": ["dtype"], "value": "bfloat16"}]
    text = page.post("/edit", json={"text": CONFIG, "edits": edits}).json()["text"]
    assert text == CONFIG + "dtype: bfloat16\n"


@pytest.mark.parametrize(
    "edits", [None, [{"op": "run"}], "x", [{"op": "set", "path": ["a"], "value": 1, "x": 2}]]
)
def test_what_is_no_edit_is_refused(page: TestClient, edits: object) -> None:
    assert page.post("/edit", json={"text": CONFIG, "edits": edits}).status_code == 400


def test_an_edit_of_a_text_that_does_not_parse_says_why(page: TestClient) -> None:
    edits = [{"op": "set", "path": ["dtype"], "value": "bfloat16"}]
    answer = page.post("/edit", json={"text": "a: [", "edits": edits})
    assert answer.status_code == 422
    assert "not valid YAML" in answer.json()["message"]


# ---- new configs ----


def test_a_method_of_a_stranger_appears_by_itself(
    write_plugin: WritePlugin, folder: Path, serve: Any
) -> None:
    source = """
from typing import Annotated
from mergecore import Field, MergeMethod, Params, PerModel, hookimpl
class P(Params):
    pull: PerModel[Annotated[float, Field(ge=0, le=4)]] = Field(1.0, description="how hard <b>it</b> pulls")
def merge(group, params):
    return group.map(lambda block: block.x[0])
@hookimpl
def mergecore_merge_methods():
    yield MergeMethod(name="tug", merge=merge, params=P, summary="a <script>tug</script> of war", family="Odd & new")
"""
    write_plugin("tug", source)
    page = serve()
    text = page.get("/").text
    assert "Odd &amp; new" in text
    assert "a &lt;script&gt;tug&lt;/script&gt; of war" in text
    form = page.get("/methods/tug").text
    assert "[0, 4]" in form
    assert "how hard &lt;b&gt;it&lt;/b&gt; pulls" in form
    made = page.post("/new", json={"method": "tug", "models": ["a"], "values": {"pull": "2"}}).json()
    assert "merge_method: tug" in made["text"]
    assert check(page, made["text"])["faults"] == []


@pytest.mark.parametrize(
    "method", [one.name for one in mergecore.Registry.discover().all(mergecore.MergeMethod)]
)
def test_a_config_is_composed_of_every_method(page: TestClient, method: str) -> None:
    """What the form proposes is a config without a fault."""
    form = page.get(f"/methods/{method}")
    assert form.status_code == 200
    from mergecore.cli import method_as_json
    from mergecore_plugins.ui.configs.composing import fields

    known = method_as_json(mergecore.Registry.discover().get(mergecore.MergeMethod, method))
    values = {one.name: one.proposed for one in fields(known)}
    models = ["a", "b"][: known["models"][1] or 2]  # type: ignore[index]
    base = "" if known["base"] == "unused" else "c"
    answer = page.post("/new", json={"method": method, "base": base, "models": models, "values": values})
    assert answer.status_code == 200
    assert check(page, answer.json()["text"])["faults"] == []


def test_names_are_written_so_that_they_stay_names(page: TestClient) -> None:
    odd = ["a: b # c", "yes", "- x", '"quoted"', "../up", "*star", "{brace}", "1e3"]
    text = page.post("/new", json={"method": "linear", "models": odd, "values": {"weight": "1"}}).json()[
        "text"
    ]
    data = check(page, text)["data"]
    assert [one["model"] for one in data[0]["models"]] == odd


def test_a_method_that_is_not_installed_is_refused(page: TestClient) -> None:
    assert page.get("/methods/nothing").status_code == 404
    assert page.post("/new", json={"method": "nothing", "models": ["a"], "values": {}}).status_code == 422


# ---- files ----


def test_a_config_is_opened_and_saved(page: TestClient, folder: Path) -> None:
    opened = page.get("/file", params={"name": "mean.yml"}).json()
    assert opened["text"] == CONFIG
    asked = {"name": "mean.yml", "text": CONFIG + "# more\n", "opened": opened["opened"]}
    assert page.post("/file", json=asked).status_code == 200
    assert (folder / "mean.yml").read_text() == CONFIG + "# more\n"


def test_a_file_that_changed_meanwhile_is_not_overwritten_at_once(page: TestClient, folder: Path) -> None:
    opened = page.get("/file", params={"name": "mean.yml"}).json()["opened"]
    (folder / "mean.yml").write_text("# of somebody else\n")
    answer = page.post("/file", json={"name": "mean.yml", "text": CONFIG, "opened": opened})
    assert answer.status_code == 409
    assert answer.json()["message"] == (
        "mean.yml was written by something else: Save again replaces it, Open… shows it"
    )
    assert (folder / "mean.yml").read_text() == "# of somebody else\n"
    again = page.post("/file", json={"name": "mean.yml", "text": CONFIG, "opened": answer.json()["opened"]})
    assert again.status_code == 200


def test_a_file_with_other_line_ends_is_known_again(page: TestClient, folder: Path) -> None:
    (folder / "dos.yml").write_bytes(CONFIG.replace("\n", "\r\n").encode())
    opened = page.get("/file", params={"name": "dos.yml"}).json()
    asked = {"name": "dos.yml", "text": CONFIG, "opened": opened["opened"]}
    assert page.post("/file", json=asked).status_code == 200


@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_line_ends_and_a_byte_order_mark_stay_as_they_were(page: TestClient, folder: Path, mark: str) -> None:
    """A browser's editor has neither, so what it sends must get them back."""
    held = (mark + CONFIG.replace("\n", "\r\n")).encode()
    (folder / "dos.yml").write_bytes(held)
    opened = page.get("/file", params={"name": "dos.yml"}).json()["opened"]
    said = page.post("/file", json={"name": "dos.yml", "text": CONFIG, "opened": opened})
    assert (folder / "dos.yml").read_bytes() == held
    asked = {"name": "dos.yml", "text": CONFIG + "# more\n", "opened": said.json()["opened"]}
    assert page.post("/file", json=asked).status_code == 200
    assert (folder / "dos.yml").read_bytes() == held + b"# more\r\n"


def test_merges_of_ours_stand_behind_the_models_that_one_has(page: TestClient, folder: Path) -> None:
    shutil.copytree(folder / "b", folder / "0-merged")
    (folder / "0-merged" / "mergecore-manifest.json").write_text("{}")
    html = page.get("/methods/linear").text
    assert re.findall(r'name="models" value="([^"]+)"', html) == ["a", "b", "0-merged"]


OUTSIDE = [
    "",
    ".",
    "..",
    "../x.yml",
    "a/../../x.yml",
    "/x.yml",
    "x",
    "x.txt",
    ".x.yml",
    ".git/x.yml",
    "x.yml\0",
    "x\ny.yml",
    "x\u202ey.yml",
    "..\\x.yml",
]
OUTSIDE += ["link.yml", "linked/x.yml", "x.yml/", "a//../../x.yml", "n" * 300 + ".yml"]


@pytest.mark.parametrize("name", OUTSIDE)
def test_nothing_is_written_or_read_outside_of_the_folder(page: TestClient, folder: Path, name: str) -> None:
    outside = folder.parent / "outside"
    outside.mkdir()
    (outside / "target.yml").write_text("secret: 1\n")
    (folder / "link.yml").symlink_to(outside / "target.yml")
    (folder / "linked").symlink_to(outside)
    (folder.parent / "x.yml").write_text("secret: 1\n")
    before = sorted(folder.parent.rglob("*"))
    opened = page.get("/file", params={"name": name})
    assert opened.status_code == 422
    assert "secret" not in opened.text
    saved = page.post("/file", json={"name": name, "text": "x: 1\n", "opened": ""})
    assert saved.status_code == 422, saved.text
    assert sorted(folder.parent.rglob("*")) == before
    assert (outside / "target.yml").read_text() == "secret: 1\n"


def test_a_state_folder_that_is_a_link_is_not_followed(folder: Path, serve: Any) -> None:
    outside = folder.parent / "outside"
    outside.mkdir()
    (folder / ".mergecore-ui").symlink_to(outside)
    with pytest.raises(ValueError, match="'\\.mergecore-ui' is a link; remove it"):
        serve()
    assert not any(outside.iterdir())


def test_a_draft_survives(serve: Any) -> None:
    draft = {"text": "\n# a draft with </textarea><b>\n", "name": "d.yml", "out": "merged/d", "opened": ""}
    assert serve().post("/draft", json=draft).status_code == 204
    text = serve().get("/").text
    assert "\n\n# a draft with &lt;/textarea&gt;&lt;b&gt;\n</textarea>" in text
    assert 'value="d.yml"' in text
    assert 'value="merged/d"' in text


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"[" * 100_000, b'{"text": 1}', b'{"text": "\\ud800"}'])
def test_what_is_no_request_is_refused(page: TestClient, body: bytes) -> None:
    for path in ("/check", "/plan", "/draft", "/edit", "/file", "/runs"):
        assert page.post(path, content=body).status_code in (400, 422), path


def test_a_request_without_end_is_refused(page: TestClient) -> None:
    assert page.post("/check", content=b" " * (MAX_BODY + 1)).status_code == 413


# ---- what is below the folder ----


def test_models_and_configs_are_found(folder: Path) -> None:
    assert [one.path for one in models_below(folder)] == ["a", "b"]
    assert [(one.path, one.about) for one in configs_below(folder)] == [("mean.yml", "the mean of two")]


def test_links_and_hidden_folders_are_not_followed(folder: Path) -> None:
    (folder / "loop").symlink_to(folder)
    (folder / ".hidden").mkdir()
    (folder / ".hidden" / "x.yml").write_text(CONFIG)
    assert [one.path for one in configs_below(folder)] == ["mean.yml"]


def test_other_yaml_files_are_no_configs(folder: Path) -> None:
    (folder / "other.yml").write_text("services:\n  db: 1\n")
    (folder / "bytes.yml").write_bytes(b"\xff\xfe")
    assert [one.path for one in configs_below(folder)] == ["mean.yml"]


def test_names_with_html_in_them_are_text(page: TestClient, folder: Path, write_model: Any) -> None:
    name = "<img src=x onerror=alert(1)>"
    write_model(folder / name, 1.0)
    (folder / f"{name}.yml").write_text(f"# {name}\n{CONFIG}")
    for path in ("/", "/methods/linear"):
        text = page.get(path).text
        assert "&lt;img src=x" in text
        assert "<img src=x" not in text
    text = CONFIG.replace("model: a", f"model: {name!r}")
    assert "<img src=x" not in page.post("/plan", json={"text": text}).json()["html"]


def test_names_that_no_config_could_hold_are_left_out(page: TestClient, folder: Path) -> None:
    for name in (b"\xff.yml", b"new\nline.yml"):
        Path(os.fsdecode(os.fsencode(folder) + b"/" + name)).write_text(CONFIG)
    assert page.get("/").status_code == 200
    assert [one.path for one in configs_below(folder)] == ["mean.yml"]


def test_numbers_that_json_lacks_are_none(page: TestClient) -> None:
    assert check(page, "a: .nan\nb: [.inf, 1]\n")["data"] == [{"a": None, "b": [None, 1]}]


def test_a_pipe_in_place_of_a_file_holds_nothing_up(page: TestClient, folder: Path) -> None:
    os.mkfifo(folder / "pipe.yml")
    assert page.get("/file", params={"name": "pipe.yml"}).status_code == 422
    answer = page.post("/file", json={"name": "pipe.yml", "text": CONFIG, "opened": ""})
    assert (answer.status_code, answer.json()["message"]) == (422, "pipe.yml is no file")


def test_modules_in_the_folder_are_not_imported(page: TestClient, folder: Path) -> None:
    """`python -m` would take them for those of Python."""
    for name in ("json", "yaml", "torch", "mergecore"):
        (folder / f"{name}.py").write_text("raise SystemExit('taken')\n")
    assert page.post("/plan", json={"text": CONFIG}).json()["ok"]


@pytest.mark.parametrize("method", ["ties", "dare_ties", "sce"])
def test_a_parameter_that_does_nothing_is_not_asked_for(page: TestClient, method: str) -> None:
    shown = page.get(f"/methods/{method}").text
    assert 'name="p-' in shown
    assert "int8_mask" not in shown
