"""The store: what is added is kept as it was, found again, and never of the wrong nodule."""

from __future__ import annotations

import math
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

import pytest

from resmtnet.errors import ReadingError, StoreError
from resmtnet.readings.nodule_index import NoduleIndex
from resmtnet.readings.record import Answered, MaskReference, Reading
from resmtnet.readings.store import ReadingStore

Made = Callable[..., Reading]


def test_a_reading_with_every_field_comes_back_as_it_was(
    store: ReadingStore, made: Made, tmp_path: Path
) -> None:
    drawn = tmp_path / "drawn.nii.gz"
    drawn.write_bytes(b"voxels")
    given = made(
        centre_lps_mm=(1.25, -2.0, 3.0),
        class_name="malignant",
        malignancy=4,
        sizes={"long_axis_mm": 12.5, "volume_mm3": 600.0},
        characteristics={"texture": 5},
        evidence="histology",
        acceptance="bulk",
        excluded=True,
        comment='"Grüße", said\nthe reader',
        source="markups",
        mask=replace(store.keep_mask(drawn), value=2),
        answered=Answered("2", "ab", {"class": {"name": "benign"}}, seen=False),
        study_patient="p1",
        made_at=datetime(2026, 1, 31, 12, tzinfo=timezone.utc),
    )
    kept = store.add(given)
    assert kept == replace(given, nodule=kept.nodule)
    assert store.readings() == [kept]


def test_a_store_that_is_opened_again_holds_what_was_added(path: Path, made: Made) -> None:
    with ReadingStore.open(path) as store:
        kept = store.add(made())
    with ReadingStore.open(path) as store:
        assert store.readings() == [kept]
        assert store.count() == store.revision() == 1


def test_a_new_store_is_empty(store: ReadingStore) -> None:
    assert store.readings() == []
    assert store.images() == set()
    assert store.count() == store.revision() == 0


@pytest.mark.parametrize(("away_mm", "same"), [(5.9, True), (6.1, False)])
def test_a_point_within_6_mm_of_a_nodule_is_of_it(
    store: ReadingStore, made: Made, away_mm: float, same: bool
) -> None:
    first = store.add(made())
    second = store.add(made(reader="bob", centre_lps_mm=(0, 0, away_mm)))
    assert (second.nodule == first.nodule) is same


@pytest.mark.parametrize(("away_mm", "same"), [(14.9, True), (15.1, False)])
def test_a_point_within_the_radius_read_of_a_nodule_is_of_it(
    store: ReadingStore, made: Made, away_mm: float, same: bool
) -> None:
    first = store.add(made(sizes={"long_axis_mm": 30.0}))
    second = store.add(made(reader="bob", centre_lps_mm=(0, 0, away_mm)))
    assert (second.nodule == first.nodule) is same


def test_of_two_near_nodules_the_nearest_is_taken(store: ReadingStore, made: Made) -> None:
    left = store.add(made(sizes={"long_axis_mm": 40.0}))
    right = store.add(made(centre_lps_mm=(15, 0, 0)), new_nodule=True)
    assert left.nodule != right.nodule
    assert store.add(made(reader="bob", centre_lps_mm=(10, 0, 0))).nodule == right.nodule


def test_a_nodule_of_another_image_is_never_the_same(store: ReadingStore, made: Made) -> None:
    assert store.add(made()).nodule != store.add(made(image="other")).nodule
    assert store.images() == {"ct", "other"}


def test_a_size_that_was_corrected_no_longer_captures_what_lies_near(
    store: ReadingStore, made: Made
) -> None:
    mistyped = store.add(made(sizes={"long_axis_mm": 120.0}))
    corrected = store.add(made(sizes={"long_axis_mm": 12.0}))
    assert corrected.nodule == mistyped.nodule
    next_one = store.add(made(centre_lps_mm=(0, 0, 6.5)))
    assert next_one.nodule != mistyped.nodule
    assert len(store.readings()) == 2


@pytest.mark.parametrize(("away_mm", "same"), [(19.9, True), (20.1, False)])
def test_no_size_reaches_further_than_20_mm(
    store: ReadingStore, made: Made, away_mm: float, same: bool
) -> None:
    first = store.add(made(sizes={"long_axis_mm": 400.0}))
    assert (store.add(made(centre_lps_mm=(away_mm, 0, 0))).nodule == first.nodule) is same


def test_one_reader_among_several_does_not_decide_how_far_a_nodule_reaches(
    store: ReadingStore, made: Made
) -> None:
    for reader, mm in (("ann", 14.0), ("bob", 16.0), ("cleo", 36.0)):
        store.add(made(reader=reader, sizes={"mean_diameter_mm": mm}))
    store.add(made(reader="dee", sizes={"mean_diameter_mm": 38.0}, excluded=True))
    nodules = [store.add(made(reader="eve", centre_lps_mm=(mm, 0, 0))).nodule for mm in (7.9, 8.1)]
    assert nodules[0] == store.readings()[0].nodule != nodules[1]


def test_a_nodule_named_wins_over_the_distance_and_gives_its_centre(
    store: ReadingStore, made: Made
) -> None:
    first = store.add(made(centre_lps_mm=(1, 2, 3)))
    store.add(made(centre_lps_mm=(6, 2, 3)), new_nodule=True)
    near_another = store.add(made(nodule=first.nodule, centre_lps_mm=(5, 2, 3), reader="bob"))
    bare = store.add(made(nodule=first.nodule, centre_lps_mm=None, reader="cleo"))
    assert near_another.nodule == bare.nodule == first.nodule
    assert near_another.centre_lps_mm == (5, 2, 3)
    assert bare.centre_lps_mm == (1, 2, 3)


def test_a_centre_far_from_the_nodule_that_is_named_is_refused(
    store: ReadingStore, made: Made
) -> None:
    first = store.add(made(sizes={"long_axis_mm": 30.0}))
    far = made(nodule=first.nodule, centre_lps_mm=(0, 200, 0), reader="bob")
    with pytest.raises(
        ReadingError, match=r"200\.0 mm .* 15\.0 mm: leave the centre out"
    ) as refused:
        store.add(far)
    assert refused.value.field == "centre_lps_mm"
    assert store.count() == 1
    store.add(replace(far, centre_lps_mm=(0, 14, 0)))


def test_a_nodule_that_is_not_of_the_image_is_refused(store: ReadingStore, made: Made) -> None:
    elsewhere = store.add(made(image="other"))
    with pytest.raises(ReadingError, match="has none yet: leave it out") as refused:
        store.add(made(nodule=elsewhere.nodule))
    assert refused.value.field == "nodule"
    assert store.count() == 1


def test_parts_of_one_nodule_that_a_reader_split_are_nodules_of_their_own(
    store: ReadingStore, made: Made
) -> None:
    whole = store.add(made(sizes={"long_axis_mm": 20.0}))
    parts = store.add_all([made(), made(centre_lps_mm=(4, 0, 0))])
    assert parts[0].nodule == whole.nodule
    assert parts[1].nodule != whole.nodule


def test_of_two_parts_the_nearer_one_is_of_the_nodule_whichever_is_listed_first(
    store: ReadingStore, made: Made
) -> None:
    whole = store.add(made(reader="bob", sizes={"long_axis_mm": 20.0}))
    parts = [made(centre_lps_mm=(5, 0, 0)), made(centre_lps_mm=(0.5, 0, 0))]
    far, near = store.add_all(parts)
    assert isinstance(far, Reading)
    assert isinstance(near, Reading)
    assert (far.id, near.id) == (parts[0].id, parts[1].id)
    assert near.nodule == whole.nodule != far.nodule


def test_a_part_whose_nodule_is_taken_waits_for_what_is_nearer_to_the_next_one(
    store: ReadingStore, made: Made
) -> None:
    left = store.add(made(reader="bob"))
    right = store.add(made(reader="bob", centre_lps_mm=(7, 0, 0)))
    added = store.add_all([made(centre_lps_mm=(x, 0, 0)) for x in (2.0, 1.0, 10.0)])
    between, at_left, at_right = (part.nodule for part in added if isinstance(part, Reading))
    assert (at_left, at_right) == (left.nodule, right.nodule)
    assert between not in (at_left, at_right)


def test_who_names_a_nodule_has_it_before_those_that_are_placed(
    store: ReadingStore, made: Made
) -> None:
    known = store.add(made(reader="bob"))
    placed, named = store.add_all([made(), made(nodule=known.nodule, centre_lps_mm=(5, 0, 0))])
    assert isinstance(placed, Reading)
    assert isinstance(named, Reading)
    assert named.nodule == known.nodule != placed.nodule


def test_the_nodules_of_an_image_are_read_once_for_all_that_is_sent_together(
    store: ReadingStore, made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    made_for: list[str] = []

    class Counted(NoduleIndex):
        def __init__(self, connection: sqlite3.Connection, image: str) -> None:
            made_for.append(image)
            super().__init__(connection, image)

    monkeypatch.setattr("resmtnet.readings.store.NoduleIndex", Counted)
    added = store.add_all([made(centre_lps_mm=(20.0 * n, 0, 0)) for n in range(30)])
    assert made_for == ["ct"]
    assert len({each.nodule for each in added if isinstance(each, Reading)}) == 30


def test_of_readings_that_are_added_together_the_right_ones_are_kept_and_the_wrong_ones_told(
    store: ReadingStore, made: Made
) -> None:
    wrong = [made(nodule="unknown"), made(mask=MaskReference("none.nrrd", "0"))]
    right = [made(malignancy=2), made(malignancy=3, centre_lps_mm=(3, 0, 0))]
    added = store.add_all([wrong[0], right[0], wrong[1], right[1]])
    assert [type(each) for each in added] == [ReadingError, Reading, ReadingError, Reading]
    assert [str(added[0])[:6], str(added[2])[:4]] == ["nodule", "mask"]
    kept = store.readings(every=True)
    assert kept == [added[1], added[3]]
    assert kept[0].nodule != kept[1].nodule  # sent together, they are of different nodules


def test_an_interrupted_write_keeps_none_of_the_readings_that_were_sent_together(
    store: ReadingStore, made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []

    def fail_at_the_second(sizes: object) -> float:
        asked.append(sizes)
        if len(asked) == 2:
            raise OSError("no space left on device")
        return 0.0

    monkeypatch.setattr("resmtnet.readings.store.radius_mm", fail_at_the_second)
    with pytest.raises(StoreError, match="free disk space"):
        store.add_all([made(malignancy=1), made(malignancy=2)])
    assert store.count() == 0


def test_a_reading_is_found_by_its_id_as_it_was_sent(store: ReadingStore, made: Made) -> None:
    sized = store.add(made(sizes={"long_axis_mm": 8.0}))
    rated = store.add(made(malignancy=4))
    assert (store.get(sized.id), store.get(rated.id)) == (sized, rated)
    assert store.get("none") is None


def test_an_id_is_looked_up_in_an_index(store: ReadingStore, made: Made, path: Path) -> None:
    store.add(made())
    with closing(sqlite3.connect(path)) as connection:
        query = "EXPLAIN QUERY PLAN SELECT document FROM readings WHERE id = 'x'"
        (plan,) = connection.execute(query).fetchall()
    assert "USING INDEX" in plan[-1]


def test_a_later_reading_of_the_same_reader_supersedes_the_earlier(
    store: ReadingStore, made: Made
) -> None:
    earlier = store.add(made(malignancy=2))
    of_another = store.add(made(reader="bob", malignancy=5))
    later = store.add(made(malignancy=4))
    assert store.readings() == [of_another, later]
    assert store.readings(every=True) == [earlier, of_another, later]
    assert [kept.superseded for kept in store.kept(every=True)] == [True, False, False]


def test_what_a_later_reading_says_nothing_of_goes_on_holding(
    store: ReadingStore, made: Made
) -> None:
    sized = store.add(made(sizes={"long_axis_mm": 8.0}, characteristics={"texture": 5}))
    rated = store.add(made(malignancy=4, characteristics={"margin": 2}))
    (standing,) = store.readings()
    assert (standing.id, standing.malignancy, standing.sizes) == (rated.id, 4, {"long_axis_mm": 8})
    assert standing.characteristics == {"texture": 5, "margin": 2}
    (kept,) = store.kept()
    assert (kept.reading, kept.sequence, kept.superseded) == (standing, 2, False)
    assert store.readings("ct", sized.nodule) == [standing]
    assert store.readings(every=True) == [sized, rated]


def test_an_impression_does_not_supersede_histology(store: ReadingStore, made: Made) -> None:
    proven = store.add(made(class_name="malignant", evidence="histology"))
    guessed = store.add(made(class_name="benign"))
    assert store.readings() == [proven, guessed]


def test_readings_are_found_by_image_and_nodule(store: ReadingStore, made: Made) -> None:
    here, there = store.add(made()), store.add(made(image="other"))
    far = store.add(made(centre_lps_mm=(50, 0, 0)))
    assert store.readings("ct") == [here, far]
    assert store.readings(nodule=far.nodule) == [far]
    assert store.readings("other", here.nodule) == []
    assert store.readings("other") == [there]


def test_an_id_that_comes_again_is_the_same_record(store: ReadingStore, made: Made) -> None:
    given = made(id="once", malignancy=3)
    kept = store.add(given)
    again = replace(given, made_at=datetime.now(timezone.utc))
    assert store.add(given) == store.add(again) == store.add(kept) == kept
    assert store.count() == 1


def test_an_id_that_comes_again_with_other_words_is_refused(
    store: ReadingStore, made: Made
) -> None:
    store.add(made(id="once", malignancy=3))
    with pytest.raises(ReadingError) as refused:
        store.add(made(id="once", malignancy=4))
    assert refused.value.field == "id"
    assert [kept.malignancy for kept in store.readings(every=True)] == [3]


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"answered": Answered("2", "", {"score": math.nan})}, "answered"),
        ({"comment": "half of a \ud83d smile"}, "comment"),
        ({"image": "half \ud83d"}, "image"),
    ],
)
def test_what_a_file_cannot_hold_is_refused_by_its_field(
    store: ReadingStore, made: Made, fields: dict[str, object], named: str
) -> None:
    with pytest.raises(ReadingError) as refused:
        store.add(made(**fields))
    assert refused.value.field == named
    assert store.count() == 0


def test_a_mask_is_kept_once_under_its_content(store: ReadingStore, tmp_path: Path) -> None:
    files = [tmp_path / "a.nii.gz", tmp_path / "b.nii.gz"]
    for file in files:
        file.write_bytes(b"the same voxels")
    references = {store.keep_mask(file) for file in files}
    assert len(references) == 1
    kept = references.pop()
    assert (store.masks / kept.file).read_bytes() == b"the same voxels"
    assert kept.file == f"{kept.sha256}.nii.gz"
    assert [file.name for file in store.masks.iterdir()] == [kept.file]
    assert store.masks == store.path.parent / "readings-masks"


@pytest.mark.parametrize(
    "file", ["missing.nrrd", "../readings.sqlite", "/etc/hostname", "m" * 5000]
)
def test_a_reading_names_only_masks_that_were_kept(
    store: ReadingStore, made: Made, file: str
) -> None:
    store.masks.mkdir()
    with pytest.raises(ReadingError, match="mask"):
        store.add(made(mask=MaskReference(file, "0" * 64)))
    assert store.count() == 0


def test_threads_share_a_store(store: ReadingStore, made: Made) -> None:
    def write(name: str) -> None:
        for _ in range(5):
            store.add(made(reader=name))
            store.readings()

    threads = [threading.Thread(target=write, args=(f"r{n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert store.count() == 20
    assert len({kept.nodule for kept in store.readings(every=True)}) == 1
