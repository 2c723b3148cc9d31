"""The CSV of readings: one row each, and every column documented."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from pathlib import Path

from resmtnet.readings.export import COLUMNS, write_csv
from resmtnet.readings.record import Answered, Reading
from resmtnet.readings.store import ReadingStore

Made = Callable[..., Reading]

FINDING = {
    "class": {"name": "benign", "probabilities": {"benign": 0.75, "malignant": 0.25}},
    "malignancy": {"score": 2.5},
    "size": {"long_axis_mm": 7.5, "volume_mm3": 180.0, "solid_component_mm": None},
}


def rows(store: ReadingStore, *, every: bool = False) -> list[dict[str, str]]:
    target = io.StringIO(newline="")
    assert write_csv(target, store.kept(every=every)) == len(store.readings(every=every))
    return list(csv.DictReader(io.StringIO(target.getvalue(), newline="")))


def test_a_row_says_what_was_read_and_what_was_answered(
    store: ReadingStore, made: Made, tmp_path: Path
) -> None:
    mask = tmp_path / "m.nrrd"
    mask.write_bytes(b"voxels")
    kept = store.add(
        made(
            centre_lps_mm=(1.5, -2.0, 3.0),
            class_name="malignant",
            malignancy=4,
            sizes={"long_axis_mm": 9.0},
            characteristics={"texture": 5},
            comment='one\n"two"; three, four',
            study_patient="p1",
            mask=store.keep_mask(mask),
            answered=Answered("2", "ab", FINDING, seen=False),
        )
    )
    (row,) = rows(store)
    assert kept.mask is not None
    expected = {
        "sequence": "1",
        "id": kept.id,
        "image": "ct",
        "patient": "p1",
        "nodule": kept.nodule,
        "x_lps_mm": "1.5",
        "y_lps_mm": "-2.0",
        "z_lps_mm": "3.0",
        "reader": "ann",
        "made_at": kept.made_at.isoformat(),
        "source": "rest",
        "evidence": "impression",
        "acceptance": "single",
        "excluded": "False",
        "superseded": "False",
        "class": "malignant",
        "malignancy": "4",
        "long_axis_mm": "9.0",
        "texture": "5",
        "mask_file": kept.mask.file,
        "mask_sha256": kept.mask.sha256,
        "mask_value": "1",
        "model_version": "2",
        "model_sha256": "ab",
        "answer_seen": "False",
        "model_class": "benign",
        "model_probability_malignant": "0.25",
        "model_malignancy_score": "2.5",
        "model_long_axis_mm": "7.5",
        "model_volume_mm3": "180.0",
        "comment": 'one\n"two"; three, four',
    }
    assert {name: text for name, text in row.items() if text} == {
        **expected,
        "arrived_at": row["arrived_at"],
    }


def test_superseded_readings_are_left_out_unless_asked_for(store: ReadingStore, made: Made) -> None:
    for rating in (2, 4):
        store.add(made(malignancy=rating))
    assert [row["malignancy"] for row in rows(store)] == ["4"]
    assert [row["superseded"] for row in rows(store, every=True)] == ["True", "False"]


def test_an_export_of_nothing_is_a_head(store: ReadingStore) -> None:
    target = io.StringIO(newline="")
    assert write_csv(target, store.kept()) == 0
    assert target.getvalue().strip().split(",") == [column.name for column in COLUMNS]


def test_an_answer_that_is_cut_short_leaves_cells_empty(store: ReadingStore, made: Made) -> None:
    store.add(made(answered=Answered("2", "ab", {"class": "odd"})))
    (row,) = rows(store)
    assert row["model_class"] == row["model_long_axis_mm"] == row["answer_seen"] == ""


def test_every_column_is_documented(checkout: Path) -> None:
    text = (checkout / "docs" / "readings-database.md").read_text("utf-8")
    missing = [c.name for c in COLUMNS if f"| `{c.name}` | {c.meaning} |" not in text]
    assert missing == []
