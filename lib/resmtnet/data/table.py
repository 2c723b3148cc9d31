"""CSV tables that a user gives; an error names the file, the row and the column."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from resmtnet.errors import ArchiveError

T = TypeVar("T")


@dataclass(frozen=True)
class TableRow:
    """One row of a table, read cell by cell."""

    path: Path
    """Of the table."""
    row: int
    """As a spreadsheet counts: the head of the table is row 1."""
    cells: Mapping[str, str]
    """By name, without surrounding blanks; "" where a cell is empty."""
    columns: Mapping[str, str] = field(default_factory=dict)
    """Title in the file by name, where the two differ."""

    def get(self, name: str) -> str:
        """Return the text of a cell, "" where it is empty or the table has no such column."""
        return self.cells.get(name, "")

    def text(self, name: str) -> str:
        """Return the text of a cell.

        Raises:
            ArchiveError: it is empty.
        """
        text = self.get(name)
        if not text:
            raise self.error(name, "the cell is empty; fill it in, or remove the row")
        return text

    def number(self, name: str) -> float:
        """Return the finite number of a cell.

        Raises:
            ArchiveError: it is empty, or no finite number.
        """
        value = self._parsed(name, self.text(name), float, "a number")
        if not math.isfinite(value):
            raise self.error(name, f"{self.get(name)!r} is not finite; a number is needed")
        return value

    def number_or_nan(self, name: str) -> float:
        """Return the number of a cell, NaN where it is empty.

        Raises:
            ArchiveError: it is no number.
        """
        return self._parsed(name, self.get(name) or "nan", float, "a number, or nothing,")

    def whole(self, name: str) -> int:
        """Return the whole number of a cell.

        Raises:
            ArchiveError: it is empty, or no whole number.
        """
        return self._parsed(name, self.text(name), _whole, "a whole number")

    def wholes(self, name: str) -> list[int]:
        """Return the whole numbers of a cell, which blanks separate; at least one.

        Raises:
            ArchiveError: it is empty, or one is no whole number.
        """
        parts = self.text(name).split()
        return [self._parsed(name, part, _whole, "a whole number") for part in parts]

    def check_filled(self, names: Sequence[str]) -> None:
        """Refuse a row in which one of these cells is empty.

        Raises:
            ArchiveError: it names the first such cell.
        """
        for name in names:
            self.text(name)

    def error(self, name: str, told: str) -> ArchiveError:
        """Return the error that says where in the table something is wrong."""
        return ArchiveError(
            f"{self.path}, row {self.row}, column {self.columns.get(name, name)}: {told}"
        )

    def _parsed(self, name: str, text: str, parse: Callable[[str], T], needed: str) -> T:
        try:
            return parse(text)
        except ValueError:
            raise self.error(name, f"got {text!r}; {needed} is needed") from None


def read_table(
    path: Path, needed: Sequence[str], names: Mapping[str, str] | None = None, advice: str = ""
) -> list[TableRow]:
    """Read a CSV.

    Args:
        path: of the file, UTF-8, with or without byte order mark.
        needed: titles of the columns that it must have.
        names: name of a cell by the title of its column; None: the titles are the names.
        advice: what to do about a missing column, for the error.

    Raises:
        ArchiveError: a column is missing, or the file is no CSV in UTF-8.
    """
    with _open(path) as reader:
        titles = [title.strip() for title in reader.fieldnames or ()]
        reader.fieldnames = titles
        lacking = [title for title in needed if title not in titles]
        if lacking:
            raise ArchiveError(
                f"{path} has no column {', '.join(lacking)}; it has {', '.join(titles)}{advice}"
            )
        names = names or {title: title for title in titles}
        columns = {name: title for title, name in names.items() if name != title}
        return [
            TableRow(
                path,
                reader.line_num,
                {name: (row[title] or "").strip() for title, name in names.items()},
                columns,
            )
            for row in reader
        ]


def read_titles(path: Path) -> list[str]:
    """Return the titles of the columns of a CSV.

    Raises:
        ArchiveError: the file is no CSV in UTF-8.
    """
    with _open(path) as reader:
        return [title.strip() for title in reader.fieldnames or ()]


@contextmanager
def _open(path: Path) -> Iterator[csv.DictReader[str]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            yield csv.DictReader(file, skipinitialspace=True)
    except (UnicodeDecodeError, csv.Error) as error:
        raise ArchiveError(
            f"{path} is no CSV with commas in UTF-8 ({error}): save it again as one"
        ) from error


def _whole(text: str) -> int:
    value = float(text)
    if not value.is_integer():
        raise ValueError(text)
    return int(value)
