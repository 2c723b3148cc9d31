"""The LIDC XML files, as the readers' workstations wrote them."""

import numpy as np
import pytest

from resmtnet.data.lidc_xml import LidcXml
from resmtnet.errors import ArchiveError

HEAD = """<?xml version="1.0" encoding="UTF-8"?>
<{root} xmlns="http://www.nih.gov" uid="1.3.6.1.4.1.14519.5.2.1.6279.6001.1307390687803.0">
<ResponseHeader><Version>1.8.1</Version>
<SeriesInstanceUid>{uid}</SeriesInstanceUid></ResponseHeader>
"""
RATINGS = (
    "<characteristics><subtlety>5</subtlety><internalStructure>1</internalStructure>"
    "<calcification>6</calcification><sphericity>3</sphericity><margin>4</margin>"
    "<lobulation>3</lobulation><spiculation></spiculation><texture>5</texture>"
    "<malignancy>4</malignancy></characteristics>"
)


def roi(z, points, inclusion="TRUE"):
    edges = "".join(
        f"<edgeMap><xCoord>{x}</xCoord><yCoord>{y}</yCoord></edgeMap>" for x, y in points
    )
    return (
        f"<roi><imageZposition>{z} </imageZposition><imageSOP_UID>1.2</imageSOP_UID>"
        f"<inclusion>{inclusion}</inclusion>{edges}</roi>"
    )


SQUARE = [(10, 20), (14, 20), (14, 24), (10, 24), (10, 20)]


def write(folder, nodules, uid="1.2.3", root="LidcReadMessage", name="069.xml"):
    sessions = "".join(
        f"<readingSession><servicingRadiologistID>anon</servicingRadiologistID>{nodule}"
        "<nonNodule><nonNoduleID>9</nonNoduleID></nonNodule></readingSession>"
        for nodule in nodules
    )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(HEAD.format(root=root, uid=uid) + sessions + f"</{root}>")


def nodule(*parts):
    return f"<unblindedReadNodule><noduleID>7</noduleID>{''.join(parts)}</unblindedReadNodule>"


def test_ratings_and_contours_of_a_reader_are_read(tmp_path):
    hole = [(11, 21), (12, 21), (12, 22)]
    write(tmp_path / "157", [nodule(RATINGS, roi(-125.0, SQUARE), roi(-125.0, hole, "FALSE"))])
    xml = LidcXml(tmp_path)
    assert "1.2.3" in xml
    scan = xml.scan("1.2.3")
    (annotation,) = scan.annotations
    assert annotation.ratings["internal_structure"] == 1
    assert annotation.ratings["malignancy"] == 4
    assert annotation.ratings["spiculation"] is None
    outer, inner = annotation.contours
    np.testing.assert_array_equal(outer.points_xy, SQUARE)
    assert (outer.z_mm, outer.inclusion, inner.inclusion) == (-125.0, True, False)
    assert (scan.patient_id, scan.initial_release) == (None, None)


def test_small_nodules_and_single_points_are_left_out(tmp_path):
    write(
        tmp_path,
        [
            nodule(roi(-10, [(5, 5)])),
            nodule("<characteristics><malignancy>0</malignancy></characteristics>", roi(1, SQUARE)),
            nodule(RATINGS, roi(-10, [(5, 5)])),
            nodule(RATINGS, roi(-10, [(5, 5)]), roi(-8, SQUARE)),
        ],
    )
    (annotation,) = LidcXml(tmp_path).scan("1.2.3").annotations
    assert [contour.z_mm for contour in annotation.contours] == [-8]


def test_radiographs_are_passed_over(tmp_path):
    write(tmp_path, [nodule(RATINGS, roi(0, SQUARE))])
    write(tmp_path, [], uid="9.9", root="IdriReadMessage", name="cxr.xml")
    assert "9.9" not in LidcXml(tmp_path)


def test_two_files_of_one_series_are_refused(tmp_path):
    write(tmp_path / "a", [])
    write(tmp_path / "b", [])
    with pytest.raises(ArchiveError, match=r"both annotate the series 1\.2\.3; keep one"):
        LidcXml(tmp_path)


def test_a_folder_without_lidc_files_is_refused(tmp_path):
    with pytest.raises(ArchiveError, match="no XML file of LIDC"):
        LidcXml(tmp_path)
    with pytest.raises(ArchiveError, match="is no folder"):
        LidcXml(tmp_path / "nowhere")


def test_a_damaged_file_is_named(tmp_path):
    write(tmp_path, [nodule(RATINGS, roi("high", SQUARE))])
    with pytest.raises(ArchiveError, match=r"069\.xml cannot be read"):
        LidcXml(tmp_path).scan("1.2.3")
