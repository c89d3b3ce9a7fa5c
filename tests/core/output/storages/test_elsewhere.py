"""An output as a process opens that did not begin it: the same folder, or an error."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
from small_output import DATA, make, opened

from mergecore.errors import OutputError
from mergecore.output.storages.elsewhere import Elsewhere


@pytest.fixture
def elsewhere(tmp_path: Path) -> Elsewhere:
    """The places of an output that is begun, after a journey."""
    with opened(tmp_path / "out") as output:
        make(output, "a")
        found = pickle.loads(pickle.dumps(output.elsewhere()))  # noqa: S301 - written here
        assert isinstance(found, Elsewhere)
        return found


def test_the_same_tensors_are_there(elsewhere: Elsewhere) -> None:
    into = bytearray(4)
    with elsewhere.open() as places:
        places.read("a", 0, memoryview(into))
    assert bytes(into) == DATA["a"]


def test_a_folder_that_is_gone_or_another_one_is_not_written_to(elsewhere: Elsewhere) -> None:
    folder = elsewhere.folder
    folder.rename(folder.with_name("moved"))
    told = rf"^{folder}: cannot be opened: No such file or directory$"
    with pytest.raises(OutputError, match=told) as caught, elsewhere.open():
        pass
    assert caught.value.code == "E505"
    folder.mkdir()
    told = rf"^{folder}: another folder has taken the place of the output$"
    with pytest.raises(OutputError, match=told), elsewhere.open():
        pass
