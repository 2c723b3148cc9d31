"""The store: what is added is kept as it was, found again, and never of the wrong nodule."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

import pytest

from resmtnet.errors import ReadingError
from resmtnet.reading import Answered, MaskReference, Reading
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


def test_a_nodule_named_wins_over_the_distance_and_gives_its_centre(
    store: ReadingStore, made: Made
) -> None:
    first = store.add(made(centre_lps_mm=(1, 2, 3)))
    far = store.add(made(nodule=first.nodule, centre_lps_mm=(90, 0, 0), reader="bob"))
    bare = store.add(made(nodule=first.nodule, centre_lps_mm=None, reader="cleo"))
    assert far.nodule == bare.nodule == first.nodule
    assert far.centre_lps_mm == (90, 0, 0)
    assert bare.centre_lps_mm == (1, 2, 3)


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


def test_readings_that_are_added_together_are_all_refused_if_one_is(
    store: ReadingStore, made: Made
) -> None:
    with pytest.raises(ReadingError):
        store.add_all([made(), made(nodule="unknown")])
    assert store.count() == 0


def test_a_later_reading_of_the_same_reader_supersedes_the_earlier(
    store: ReadingStore, made: Made
) -> None:
    earlier = store.add(made(malignancy=2))
    of_another = store.add(made(reader="bob", malignancy=5))
    later = store.add(made(malignancy=4))
    assert store.readings() == [of_another, later]
    assert store.readings(every=True) == [earlier, of_another, later]
    assert [kept.superseded for kept in store.kept(every=True)] == [True, False, False]


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


@pytest.mark.parametrize("file", ["missing.nrrd", "../readings.sqlite", "/etc/hostname"])
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
