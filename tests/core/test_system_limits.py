"""What the system does not give or does not do any more: each has an error of its own, and is no bug."""

from __future__ import annotations

import errno
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from fixture_types import Cli, WritePlugin
from small_output import FACTS, SIDE_FILES, interrupted, make, merged, opened, staging
from tiny import write_checkpoint, write_llama

from mergecore.errors import MergecoreError, OutputError
from mergecore.files import durable
from mergecore.files.exhaustion import check_memory, exhausted
from mergecore.files.folders import Folder
from mergecore.output.journal import Journal, Record
from mergecore.pipeline import plan
from mergecore.types import StepResult, Written

COMMAND = [sys.executable, "-m", "mergecore"]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A merge of two small models."""
    for seed, name in enumerate("ab"):
        write_llama(tmp_path / name, 2, seed=seed)
    models = [{"model": str(tmp_path / name), "parameters": {"weight": 0.5}} for name in "ab"]
    path = tmp_path / "config.yml"
    path.write_text(json.dumps({"merge_method": "linear", "models": models}))
    return path


def run(*words: str | Path, **options: object) -> subprocess.CompletedProcess[str]:
    command = [*COMMAND, *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False, **options)  # type: ignore[call-overload, no-any-return]


# ---- memory and files --------------------------------------------------------------------------------------


@pytest.mark.parametrize("megabytes", [150, 310, 500, 760, 900])
def test_too_little_address_space_is_told_with_what_the_limit_is(
    megabytes: int, config: Path, tmp_path: Path
) -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (megabytes * 10**6, megabytes * 10**6))

    done = run("merge", config, tmp_path / "out", preexec_fn=limit)
    assert done.returncode == 5, done.stderr
    assert f"this process may use {megabytes} MB (`ulimit -v`)" in done.stderr
    assert "mergecore: error E406: not enough memory" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("files", [4, 5, 6, 7, 8, 9, 10])
def test_too_few_open_files_are_told_at_whatever_moment(files: int, config: Path, tmp_path: Path) -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))

    bare = subprocess.run([sys.executable, "-c", ""], preexec_fn=limit, capture_output=True, check=False)
    if bare.returncode:
        pytest.skip("Python itself cannot start here with so few files")
    done = run("merge", config, tmp_path / "out", preexec_fn=limit)
    assert done.returncode == 5, done.stderr
    told = f"mergecore: error E407: the system allows too few open files ({files} for this process)."
    assert f"{told} Hint: allow more, such as with `ulimit -n 1024`, and run again" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (MemoryError(), "E406"),
        (OSError(errno.ENOMEM, "x"), "E406"),
        (RuntimeError("can't start new thread"), "E406"),
        (
            RuntimeError(
                "[enforce fail at alloc_cpu.cpp:1] . DefaultCPUAllocator: can't allocate memory: 4 bytes"
            ),
            "E406",
        ),
        (ImportError("libtorch_cpu.so: failed to map segment from shared object"), "E406"),
        (OSError(errno.EMFILE, "x"), "E407"),
        (OSError(errno.ENFILE, "x"), "E407"),
        (ImportError("libx.so: cannot open shared object file: Too many open files"), "E407"),
        (RuntimeError("shapes differ"), None),
        (OSError(errno.EIO, "x"), None),
        (ImportError("no module named x"), None),
    ],
)
def test_what_ran_out_is_known_in_the_words_of_every_library(error: Exception, code: str | None) -> None:
    found = exhausted(error)
    assert (found and found.code) == code
    outer = KeyError("further")
    outer.__cause__ = error
    found = exhausted(outer)
    assert (found and found.code) == code


def test_what_a_process_may_not_use_is_told_before_libraries_end_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (250_000_000, resource.RLIM_INFINITY))
    check_memory(250_000_000)
    told = (
        "not enough memory: this process may use 250 MB (`ulimit -v`), and needs about 300 MB. "
        "Hint: allow more memory, and run again"
    )
    with pytest.raises(MergecoreError, match=f"^{re.escape(told)}$") as caught:
        check_memory(300_000_000)
    assert caught.value.code == "E406"


def test_a_plugin_is_not_blamed_for_what_the_system_lacks(
    config: Path, cli: Cli, write_plugin: WritePlugin, tmp_path: Path
) -> None:
    code = "raise MemoryError('no more')"
    write_plugin("big", code)
    done = cli("plugins", "list")
    assert done.code == 5
    assert "error E406: not enough memory" in done.err
    assert "Hint: allow more memory, or take less of it with --threads 1 and --max-memory" in done.err


def test_a_run_that_ran_out_of_memory_can_be_taken_up(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mergecore
    from mergecore.engine import step

    original = step.Runner.__call__

    def scarce(self: object, step: object, crew: object) -> object:
        if getattr(step, "name", "") == "model.norm.weight":
            raise MemoryError("no more")
        return original(self, step, crew)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(step.Runner, "__call__", scarce)
        with pytest.raises(MergecoreError, match="not enough memory; this merge needs about") as caught:
            mergecore.merge(config, tmp_path / "out", run_options=mergecore.RunOptions(threads=1))
    assert caught.value.code == "E406"
    assert staging(tmp_path / "out").exists()
    mergecore.merge(config, tmp_path / "out", run_options=mergecore.RunOptions(mode="resume"))


def test_a_disk_that_is_short_of_files_is_not_called_broken() -> None:
    error = durable.failure(Path("x"), "saving", OSError(errno.EMFILE, "Too many open files"))
    assert error.code == "E407"


# ---- the disk ----------------------------------------------------------------------------------------------


def test_an_input_that_cannot_be_read_for_its_sample_is_told(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cli: Cli
) -> None:
    write_checkpoint(tmp_path / "a", {"large": torch.zeros(300_000)})
    config.write_text(json.dumps({"merge_method": "passthrough", "models": [{"model": str(tmp_path / "a")}]}))
    original = os.pread

    def broken(file: int, count: int, offset: int) -> bytes:
        if offset > 100_000:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return original(file, count, offset)

    monkeypatch.setattr(os, "pread", broken)
    failed = cli("merge", config, tmp_path / "out")
    assert failed.code == 3
    assert f"error E236: {tmp_path}/a/model.safetensors: cannot be read: input/output error" in failed.err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("length", [232, 233, 236, 237, 250, 255])
@pytest.mark.parametrize("letter", ["x", "é"])
def test_every_name_that_the_disk_takes_is_taken(length: int, letter: str, tmp_path: Path) -> None:
    out = tmp_path / (letter * (length // len(letter.encode())))
    files = merged(out.with_name("short"))
    with opened(out) as output:
        output.write("a", 0, b"aaaa")
        output.finish(StepResult("a", (Written("a", "0" * 64, 4),)))
    assert merged(out, mode="restart") == files
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["short", out.name])


def test_two_long_names_have_two_staging_folders(tmp_path: Path) -> None:
    with opened(tmp_path / ("x" * 250)), opened(tmp_path / ("x" * 249 + "y")):
        assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("name", ["x" * 256, "é" * 128, f"{'x' * 300}/out"])
def test_a_name_that_no_disk_takes_is_told(name: str, config: Path, tmp_path: Path, cli: Cli) -> None:
    failed = cli("merge", config, tmp_path / name)
    assert failed.code == 6
    assert "error E510: " in failed.err
    assert "the name of the output folder is too long for this disk (" in failed.err
    assert " bytes). Hint: choose a shorter name; most disks take 255 bytes" in failed.err


@pytest.mark.parametrize(
    "command", [("merge", "config.yml", "out"), ("plan", "config.yml"), ("verify", "out")]
)
def test_a_deleted_working_folder_is_told(command: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "gone").mkdir()
    script = f"cd {tmp_path}/gone && rmdir {tmp_path}/gone && exec {sys.executable} -m mergecore {' '.join(command)}"
    done = subprocess.run(["/bin/sh", "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode in (2, 6), done.stderr
    assert "Traceback" not in done.stderr
    if command[0] == "merge":
        assert (
            "error E116: the folder that the command runs in was deleted. Hint: change to a folder"
            in done.stderr
        )


def test_a_staging_folder_that_is_deleted_during_the_run_is_told(tmp_path: Path) -> None:
    out = tmp_path / "out"

    def work() -> None:
        with opened(out) as output:
            make(output, "a", "b", "c")
            shutil.rmtree(staging(out))
            output.seal(SIDE_FILES, FACTS)

    with pytest.raises(MergecoreError) as caught:
        work()
    assert caught.value.exit_code == 6


def test_a_journal_of_tensors_that_the_plan_does_not_have_is_refused(tmp_path: Path) -> None:
    out = tmp_path / "out"
    interrupted(out, "a")
    work = Folder.at(staging(out) / ".work")
    journal = Journal(work)
    journal.append([Record("stranger", "0" * 64)])
    journal.close()
    work.close()
    with pytest.raises(OutputError) as caught:
        opened(out, mode="resume")
    assert caught.value.code == "E507"
    assert str(caught.value) == (
        f"{out}: the journal of the partial run holds a tensor that the plan does not have: 'stranger'. "
        "Hint: --restart to throw it away, or choose another output folder"
    )
    assert "config.json" in merged(out, mode="restart")


# ---- signals -----------------------------------------------------------------------------------------------

SLOW = """
import sys, time
from mergecore.pipeline import folders
from mergecore.cli.app import main
original = folders.Run.steps
def steps(self, stage):
    print("merging", flush=True)
    time.sleep(20)
    original(self, stage)
folders.Run.steps = steps
main()
"""


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGHUP, 129), (signal.SIGINT, 130), (signal.SIGTERM, 143)]
)
def test_a_signal_to_stop_ends_a_merge_in_order(
    number: signal.Signals, code: int, config: Path, tmp_path: Path
) -> None:
    listening = "import signal\n" + "".join(  # even where the tests themselves were started by nohup
        f"signal.signal(signal.{one}, signal.{how})\n"
        for one, how in (("SIGHUP", "SIG_DFL"), ("SIGINT", "default_int_handler"), ("SIGTERM", "SIG_DFL"))
    )
    command = [sys.executable, "-c", listening + SLOW, "merge", str(config), str(tmp_path / "out")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "merging\n"
        process.send_signal(number)
        _, said = process.communicate(timeout=15)
    assert process.returncode == code
    assert "mergecore: interrupted; run again with --resume to go on" in said
    assert not staging(tmp_path / "out").exists()  # no tensor was done


def test_nohup_is_honoured(config: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", SLOW.replace("20", "1"), "merge", str(config), str(tmp_path / "out")]

    def ignore() -> None:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        preexec_fn=ignore,
    ) as process:
        assert process.stdout
        assert process.stdout.readline() == "merging\n"
        process.send_signal(signal.SIGHUP)
        time.sleep(0.1)
        process.communicate(timeout=30)
    assert process.returncode == 0
    assert (tmp_path / "out" / "config.json").exists()


def test_a_plan_needs_no_file_beyond_those_it_reads(config: Path) -> None:
    assert plan(config).side_digests.keys() == {"config.json", "README.md"}


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="there is no /proc here")
def test_a_place_where_nothing_can_be_made_is_told_and_not_tried_for_ever(config: Path) -> None:
    done = run("merge", config, "/proc/merged")

    assert done.returncode == 6
    assert "mergecore: error E505: " in done.stderr
    assert "Traceback" not in done.stderr
