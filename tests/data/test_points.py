"""Images and a CSV of points, as LUNA16 and LUNA25 are handed out."""

import json
import math

import numpy as np
import pytest

from resmtnet import cli
from resmtnet.ct.phantom import write_nifti
from resmtnet.data.archive import Archive
from resmtnet.data.points import LUNA16, parse_columns, read_points
from resmtnet.data.splits import Splits
from resmtnet.errors import ArchiveError

CENTRE = (-75.0, 0.0, 20.0)


@pytest.fixture(autouse=True)
def cache_folder(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("RESMTNET_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))


def itk_image(phantom):
    import itk

    image = itk.image_from_array(phantom.hu)
    image.SetSpacing([float(mm) for mm in phantom.geometry.spacing_mm])
    image.SetOrigin([float(mm) for mm in phantom.geometry.origin_lps_mm])
    return image


@pytest.fixture(scope="module")
def folder(phantom, tmp_path_factory):
    """The same phantom as .mhd, as .nii.gz, and as .mha whose grid is turned upside down."""
    import itk

    root = tmp_path_factory.mktemp("luna")
    (root / "subset0").mkdir()
    itk.imwrite(itk_image(phantom), str(root / "subset0" / "1.2.mhd"))
    write_nifti(phantom, root / "subset0" / "1.3.nii.gz")
    turned = itk.image_from_array(np.ascontiguousarray(phantom.hu[::-1, ::-1]))
    turned.SetSpacing([float(mm) for mm in phantom.geometry.spacing_mm])
    _, j, k = phantom.geometry.size_ijk
    turned.SetOrigin([float(mm) for mm in phantom.geometry.ijk_to_lps((0, j - 1, k - 1))])
    turned.SetDirection(np.diag([1.0, -1.0, -1.0]))
    itk.imwrite(turned, str(root / "1.4.mha"))
    return root


def table(folder, text, name="points.csv"):
    path = folder / name
    path.write_text(text)
    return path


def luna16(tmp_path, images=("1.2", "1.3", "1.4")):
    x, y, z = CENTRE
    rows = "".join(f"{image},{x},{y},{z},9.4\n" for image in images)
    return table(tmp_path, "seriesuid,coordX,coordY,coordZ,diameter_mm\n" + rows)


def test_points_give_crops_of_every_format_and_orientation(folder, tmp_path, phantom):
    crops = list(read_points(folder, luna16(tmp_path), edge_mm=24))
    assert [n.series_uid for n, _, _ in crops] == ["1.2", "1.3", "1.4"]
    first = crops[0][1]
    middle = tuple(np.rint(crops[0][0].centre_kji).astype(int))
    assert first[middle] > -200
    for nodule, hu, mask in crops:
        np.testing.assert_array_equal(hu, first)
        assert nodule.centre_kji == pytest.approx(crops[0][0].centre_kji, abs=1e-3)
        assert nodule.context == "full"
        assert not mask.any()
        assert (np.array(hu.shape) * nodule.spacing_kji_mm >= 24).all()


def test_an_oblique_grid_is_interpolated_along_the_patient(phantom, tmp_path):
    import itk

    image = itk_image(phantom)
    a = np.radians(20)
    turn = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    image.SetDirection(turn)
    image.SetOrigin(turn @ np.array(phantom.geometry.origin_lps_mm))
    itk.imwrite(image, str(tmp_path / "1.2.mha"))
    x, y, z = turn @ np.array(CENTRE)
    points = table(tmp_path, f"seriesuid,coordX,coordY,coordZ\n1.2,{x},{y},{z}\n")
    told = []
    ((nodule, hu, _),) = read_points(tmp_path, points, LUNA16, edge_mm=24, warn=told.append)
    assert any("oblique" in text for text in told)
    k, j, i = np.rint(nodule.centre_kji).astype(int)
    for offset in (-3, 3):  # a ball of 10 mm, whichever way it is turned
        assert hu[k, j + offset, i] > -200
        assert hu[k, j, i + offset] > -200
    outside = [hu[k, j, i + 8], hu[k, j, i - 8], hu[k, j + 8, i], hu[k, j - 8, i]]
    assert np.median(outside) < -500


def test_what_the_table_does_not_tell_is_unknown(folder, tmp_path):
    nodule, _, _ = next(read_points(folder, luna16(tmp_path), edge_mm=24))
    assert math.isnan(nodule.volume_mm3)
    assert math.isnan(nodule.long_axis_mm)
    assert nodule.ratings == {}
    assert (nodule.malignancy, nodule.mask_readers, nodule.malignant_label) == ((), 0, None)
    assert (nodule.split, nodule.fold) == ("train", -1)


@pytest.mark.parametrize(
    ("meaning", "volume", "long"),
    [
        ("equivalent_diameter_mm", math.pi / 6 * 9.4**3, math.nan),
        ("long_axis_mm", math.nan, 9.4),
    ],
)
def test_a_diameter_is_what_the_mapping_says(folder, tmp_path, meaning, volume, long):
    columns = LUNA16 | {"diameter_mm": meaning}
    nodule, _, _ = next(read_points(folder, luna16(tmp_path), columns, edge_mm=24))
    assert nodule.volume_mm3 == pytest.approx(volume, nan_ok=True)
    assert nodule.long_axis_mm == pytest.approx(long, nan_ok=True)


LUNA25 = (
    "PatientID=patient,SeriesInstanceUID=image,CoordX=x,CoordY=y,CoordZ=z,"
    "AnnotationID=id,label=malignant_label,texture=texture"
)


def luna25(tmp_path, extra=""):
    x, y, z = CENTRE
    return table(
        tmp_path,
        "PatientID,SeriesInstanceUID,CoordX,CoordY,CoordZ,AnnotationID,label,texture\n"
        f"p1,1.2,{x},{y},{z},p1_a,1,5 4 6\n"
        f"p1,1.2,{x + 4},{y},{z},p1_b,0,\n"
        f"p2,1.3,{x},{y},{z},p2_a,,1\n" + extra,
    )


def test_prepare_points_writes_an_archive_with_the_label_apart(folder, tmp_path, capsys):
    arguments = ["--images", folder, "--points", luna25(tmp_path), "--columns", LUNA25]
    arguments += ["--out", tmp_path / "a", "--edge-mm", 24, "--folds", 2, "--json"]
    arguments += ["--label-evidence", "follow-up", "--data", "phantom, CC0"]
    assert cli.run(["prepare", "points", *map(str, arguments)]) == 0
    assert json.loads(capsys.readouterr().out)["nodules"] == 3
    archive = Archive.open(tmp_path / "a", verify=True)
    one, two, three = archive.nodules
    assert [n.id for n in archive.nodules] == ["p1_a", "p1_b", "p2_a"]
    assert [n.malignant_label for n in archive.nodules] == [1, 0, None]
    assert one.ratings["texture"] == (5, 4, 0)
    assert one.malignancy == ()
    assert one.fold == two.fold != three.fold
    assert archive.provenance["label_evidence"] == "follow-up"
    assert archive.provenance["data"] == "phantom, CC0"
    assert Splits.read(tmp_path / "a" / "splits.json").places.keys() == {"p1", "p2"}


def test_what_cannot_be_used_is_left_out_and_told(folder, tmp_path, capsys):
    extra = "p3,9.9,0,0,0,p3_a,1,\np2,1.3,400,0,0,p2_b,1,\n"
    Splits({"p2": ("val", 1), "p3": ("train", 0)}).save(tmp_path / "splits.json")
    arguments = ["--images", folder, "--points", luna25(tmp_path, extra), "--columns", LUNA25]
    arguments += ["--out", tmp_path / "a", "--edge-mm", 24, "--splits", tmp_path / "splits.json"]
    assert cli.run(["prepare", "points", *map(str, arguments)]) == 0
    told = capsys.readouterr().err
    assert "1.2: 2 points of patients that the splits lack are left out" in told
    assert "holds no image 9.9: 1 points are left out" in told
    assert "p2_b: the point (400.0, 0.0, 0.0) (LPS mm) lies outside 1.3" in told
    (nodule,) = Archive.open(tmp_path / "a").nodules
    assert (nodule.id, nodule.split, nodule.fold) == ("p2_a", "val", 1)


def test_split_and_fold_of_the_table_are_kept(folder, tmp_path):
    x, y, z = CENTRE
    points = table(tmp_path, f"i,x,y,z,part,fold\n1.2,{x},{y},{z},val,3\n")
    columns = "i=image,x=x,y=y,z=z,part=split,fold=fold"
    arguments = ["--images", folder, "--points", points, "--columns", columns]
    arguments += ["--out", tmp_path / "a", "--edge-mm", 24]
    assert cli.run(["prepare", "points", *map(str, arguments)]) == 0
    (nodule,) = Archive.open(tmp_path / "a").nodules
    assert (nodule.split, nodule.fold) == ("val", 3)


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ("seriesuid=image,coordX=x,coordY=y", r"mapping lacks z: "),
        ("a=image,b=x,c=x,d=y,e=z", r"mapping names x twice: "),
        ("seriesuid=image,coordX=x,coordY=y,coordZ=z,diameter_mm=diameter", "theirs=ours"),
        ("seriesuid", "theirs=ours is needed"),
    ],
)
def test_a_mapping_that_makes_no_sense_is_refused(columns, said):
    with pytest.raises(ArchiveError, match=said):
        parse_columns(columns)


def test_a_table_that_does_not_fit_says_what_it_has(folder, tmp_path):
    points = table(tmp_path, "a,b\n1,2\n")
    with pytest.raises(ArchiveError, match=r"no column seriesuid, .*; it has a, b"):
        next(read_points(folder, points))
    with pytest.raises(ArchiveError, match=r"row 2, column coordX: got 'left'; a number is"):
        next(read_points(folder, table(tmp_path, "seriesuid,coordX,coordY,coordZ\n1.2,left,0,0\n")))
    bad = luna25(tmp_path).read_text().replace("p1_a,1,", "p1_a,7,")
    with pytest.raises(ArchiveError, match="malignant_label is '7'; allowed: 0, 1"):
        next(read_points(folder, table(tmp_path, bad), parse_columns(LUNA25), edge_mm=24))
    with pytest.raises(ArchiveError, match="is missing"):
        next(read_points(folder, tmp_path / "none.csv"))
