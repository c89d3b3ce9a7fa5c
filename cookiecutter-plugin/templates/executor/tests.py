"""What is logged, and what every executor has to keep."""

from pathlib import Path

from mergecore import Executor, Registry
from mergecore.testing import check_executor

EXECUTOR = Registry.discover().get(Executor, "{{ cookiecutter.name }}")


def test_the_executor_keeps_the_contract_and_logs_every_tensor(tmp_path: Path) -> None:
    log = tmp_path / "seconds.txt"
    check_executor(EXECUTOR, params={"log": str(log)})
    seconds, name = log.read_text().splitlines()[0].split()
    assert float(seconds) >= 0
    assert name.endswith(".weight")


def test_without_a_log_nothing_is_logged() -> None:
    check_executor(EXECUTOR)
