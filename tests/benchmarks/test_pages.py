"""Tables, and the pages that hold them."""

from __future__ import annotations

import pytest
from benchmarks.checkpoints import DELTA_RMS
from benchmarks.pages import END, begin, table, with_tables
from benchmarks.runner import PAGE, main, page_with
from click.testing import CliRunner


def test_the_tables_replace_what_stands_between_the_marks_only() -> None:
    page = f"above\n\n{begin('make it')}\n\nold\n\n{END}\n\nbelow\n"
    wanted = f"above\n\n{begin('make it')}\n\nnew\n\n{END}\n\nbelow\n"
    assert with_tables(page, "make it", "new") == wanted
    with pytest.raises(ValueError, match=r"the page lacks the line '<!-- The tables below"):
        with_tables(f"{END} {begin('make it')}", "make it", "new")


def test_cells_stay_cells() -> None:
    assert table(["a"], [["x|y\nz"]]) == "| a |\n| --- |\n| x\\|y z |"


@pytest.mark.parametrize(("size", "delta_rms"), [("0.1B", DELTA_RMS), ("1.2B", DELTA_RMS), ("1.2B", 0.03)])
def test_the_page_about_speed_has_a_place_for_each_size(size: str, delta_rms: float) -> None:
    made = page_with("new table", [size], delta_rms)
    assert made.count("new table") == 1
    assert made.count(END) == PAGE.read_text(encoding="utf8").count(END)


def test_where_the_page_has_no_place_nothing_is_measured() -> None:
    done = CliRunner().invoke(main, ["--write-docs", "--parameters", "0.1B,1.2B"])
    assert done.exit_code == 2
    assert "the page lacks the line" in done.output
