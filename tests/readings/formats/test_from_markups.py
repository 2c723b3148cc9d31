"""Markups as Slicer saves them: renamed points, edited words, new lines and boxes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from resmtnet.errors import ReadingError
from resmtnet.readings.formats.draft import AnsweredNodule
from resmtnet.readings.formats.from_markups import from_markups
from resmtnet.readings.formats.markups_json import MOST_POINTS, Markup, parse_markups

CENTRES = {"N1": (10.0, -20.0, 30.0), "N2": (60.0, -20.0, 30.0)}
CLASSES = {"N1": "malignant", "N2": "benign"}
LABELS = {"N1": "N1 malignant 83%", "N2": "N2 benign 90%"}
TOLD = "score=4.1; diameter_mm=12.4"


def known_nodule(name: str, **more: Any) -> AnsweredNodule:
    finding = {
        "id": name,
        "centre_lps_mm": list(CENTRES[name]),
        "centroid_lps_mm": list(CENTRES[name]),
        "class": {"name": CLASSES[name]},
        "size": {"long_axis_mm": 14.0, "mean_diameter_mm": 12.43},
    }
    return AnsweredNodule(finding, "2", "ab", **{"seen": True, "expected": True, **more})


@pytest.fixture
def known() -> list[AnsweredNodule]:
    return [known_nodule("N1"), known_nodule("N2")]


def point(place: Any, label: str = "", text: str = "", **more: Any) -> dict[str, Any]:
    return {"label": label, "description": text, "position": list(place), **more}


def points(*placed: dict[str, Any], frame: str = "LPS") -> dict[str, Any]:
    return {"type": "Fiducial", "coordinateSystem": frame, "controlPoints": list(placed)}


def line(centre: Any, along: Any, name: str = "L", frame: str = "LPS") -> dict[str, Any]:
    """Of the length of `along`."""
    ends = [point(np.add(centre, np.multiply(along, s)).tolist()) for s in (-0.5, 0.5)]
    return {"type": "Line", "name": name, "coordinateSystem": frame, "controlPoints": ends}


def box(centre: Any, size: Any, name: str = "R", axes: Any = None) -> dict[str, Any]:
    axes = np.eye(3) if axes is None else axes
    return {
        "type": "ROI",
        "name": name,
        "coordinateSystem": "LPS",
        "center": list(centre),
        "size": list(size),
        "orientation": np.ravel(axes).tolist(),
        "controlPoints": [point(centre)],
    }


def sent(*nodes: dict[str, Any]) -> dict[str, Any]:
    return {"markups": list(nodes)}


def drawn(*nodes: dict[str, Any]) -> list[Markup]:
    return parse_markups(sent(*nodes))[0]


def as_answered() -> dict[str, Any]:
    return points(*(point(CENTRES[n], LABELS[n], TOLD) for n in CENTRES))


def test_points_sent_as_they_were_are_unchanged(known: list[AnsweredNodule]) -> None:
    said = from_markups(sent(as_answered()), known)
    assert [(d.name, d.class_name, d.unchanged) for d in said.drafts] == [
        ("N1", "malignant", True),
        ("N2", "benign", True),
    ]
    assert not any(draft.sizes or draft.malignancy for draft in said.drafts)
    assert said.not_understood == ()


def test_a_renamed_point_and_edited_words_are_a_correction(known: list[AnsweredNodule]) -> None:
    document = sent(
        points(
            point(CENTRES["N1"], "N1 benign", f"{TOLD}; malignancy=2 texture=solid; scar"),
            point(CENTRES["N2"], LABELS["N2"], TOLD),
        )
    )
    first, second = from_markups(document, known).drafts
    assert (first.class_name, first.malignancy) == ("benign", 2)
    assert first.characteristics == {"texture": 5}
    assert first.comment == "scar"
    assert first.known is known[0]
    assert first.acceptance == second.acceptance == "single"
    assert not first.sizes


def test_the_numbers_of_the_model_become_the_readers_when_they_are_edited(
    known: list[AnsweredNodule],
) -> None:
    edited = points(point(CENTRES["N1"], LABELS["N1"], "score=5; diameter_mm=14"))
    (draft,) = from_markups(sent(edited), known[:1]).drafts
    assert draft.malignancy == 5
    assert draft.sizes == {"mean_diameter_mm": 14.0}


def test_without_an_answer_the_numbers_of_a_description_are_left_out() -> None:
    said = from_markups(sent(points(point(CENTRES["N1"], "benign", TOLD))))
    (draft,) = said.drafts
    assert not draft.sizes
    assert "mean_diameter_mm" in said.warnings[0]


@pytest.mark.parametrize(
    ("frame", "signs"), [("LPS", (1, 1, 1)), ("RAS", (-1, -1, 1)), (0, (-1, -1, 1)), (1, (1, 1, 1))]
)
def test_the_frame_is_that_of_the_file(frame: Any, signs: Any) -> None:
    place = np.multiply(CENTRES["N1"], signs).tolist()
    (draft,) = from_markups(sent(points(point(place, "benign"), frame=frame))).drafts
    assert draft.centre_lps_mm == CENTRES["N1"]


def test_a_line_is_the_long_axis_of_the_nodule_it_runs_through(known: list[AnsweredNodule]) -> None:
    document = sent(as_answered(), line(CENTRES["N2"], (0, 16, 0)))
    first, second = from_markups(document, known).drafts
    assert not first.sizes
    assert second.sizes == pytest.approx({"long_axis_mm": 16.0})
    assert not second.unchanged


def test_two_lines_across_one_another_are_both_axes(known: list[AnsweredNodule]) -> None:
    lines = [line(CENTRES["N1"], (0, 9, 0)), line(CENTRES["N1"], (15, 1, 0))]
    (draft,) = from_markups(sent(*lines), known[:1]).drafts
    assert draft.sizes == pytest.approx(
        {"long_axis_mm": 15.03, "short_axis_mm": 9.0, "mean_diameter_mm": 12.02}, abs=0.01
    )
    askew = [line(CENTRES["N1"], (12, 9, 0)), line(CENTRES["N1"], (14, 1, 0))]
    said = from_markups(sent(*askew), known[:1])
    assert set(said.drafts[0].sizes) == {"long_axis_mm"}
    assert "right angle" in said.warnings[0]


def test_the_line_and_the_box_of_the_model_are_no_size_reading(known: list[AnsweredNodule]) -> None:
    nodes = [line(CENTRES["N1"], (14, 0, 0), "N1 long axis"), box(CENTRES["N1"], (14, 12, 9))]
    turned = {**nodes[0], "controlPoints": nodes[0]["controlPoints"][::-1]}
    said = from_markups(sent(as_answered(), turned, nodes[1]), known, drawn(*nodes))
    assert all(draft.unchanged for draft in said.drafts)
    assert len(said.drafts) == 2
    moved = line(CENTRES["N1"], (15, 0, 0), "N1 long axis")
    said = from_markups(sent(as_answered(), moved, nodes[1]), known, drawn(*nodes))
    assert said.drafts[0].sizes == {"long_axis_mm": 15.0}


def test_a_resized_box_gives_the_mean_of_its_axial_sides(known: list[AnsweredNodule]) -> None:
    given = box(CENTRES["N1"], (14, 12, 9))
    resized = box(CENTRES["N1"], (20, 16, 30), "malignant")
    said = from_markups(sent(resized), known[:1], drawn(given))
    (draft,) = said.drafts
    assert draft.sizes == {"mean_diameter_mm": 18.0}
    assert draft.class_name == "malignant"
    assert "line" in said.warnings[0]
    upright_x = np.array([[0, 0, 1], [0, 1, 0], [-1, 0, 0]])
    turned = box(CENTRES["N1"], (30, 16, 20), axes=upright_x)
    assert from_markups(sent(turned)).drafts[0].sizes == {"mean_diameter_mm": 18.0}


def test_a_new_point_is_a_new_nodule(known: list[AnsweredNodule]) -> None:
    document = sent(as_answered(), points(point((0, 50, 0), "malignant")))
    added = from_markups(document, known).drafts[2]
    assert added.known is None
    assert added.class_name == "malignant"
    assert added.centre_lps_mm == (0.0, 50.0, 0.0)


def test_a_point_that_says_nothing_is_told(known: list[AnsweredNodule]) -> None:
    said = from_markups(sent(as_answered(), points(point((0, 50, 0), "F-1"))), known)
    assert len(said.drafts) == 2
    assert "says nothing" in said.not_understood[0].why


def test_a_removed_point_is_told_and_nothing_is_invented(known: list[AnsweredNodule]) -> None:
    said = from_markups(sent(points(point(CENTRES["N1"], LABELS["N1"], TOLD))), known)
    assert [draft.name for draft in said.drafts] == ["N1"]
    assert [problem.what for problem in said.not_understood] == ["N2"]


def test_a_point_named_not_a_nodule_is_read_as_that(known: list[AnsweredNodule]) -> None:
    document = sent(
        points(point(CENTRES["N1"], "N1 not a nodule", TOLD)), line(CENTRES["N1"], (9, 0, 0))
    )
    (draft,) = from_markups(document, known[:1]).drafts
    assert draft.class_name == "not_a_nodule"
    assert not draft.sizes


def test_a_point_carried_far_away_is_a_new_nodule(known: list[AnsweredNodule]) -> None:
    said = from_markups(sent(points(point((0, 90, 0), "N1 malignant"))), known)
    (draft,) = said.drafts
    assert draft.known is None
    assert "N1" in said.warnings[0]


def test_the_latest_of_two_answers_is_corrected() -> None:
    older, newer = known_nodule("N1", answer=1, expected=False), known_nodule("N1")
    document = sent(points(point(CENTRES["N1"], "N1 benign")))
    assert from_markups(document, [older, newer]).drafts[0].known is newer


def test_an_answer_that_was_given_to_the_reader_goes_before_a_later_one() -> None:
    mine = known_nodule("N1", answer=1)
    others = known_nodule("N1", seen=None, expected=False)
    document = sent(points(point(CENTRES["N1"], "N1 benign")))
    assert from_markups(document, [others, mine]).drafts[0].known is mine


@pytest.mark.parametrize(
    ("node", "told"),
    [
        ({"type": "Angle"}, "type.*points, lines and ROIs"),
        ({"type": "Line", "controlPoints": []}, "two ends"),
        ({"type": "Fiducial", "coordinateSystem": "XYZ"}, "LPS and RAS"),
        ({"type": "Fiducial", "coordinateUnits": "cm"}, "mm is needed"),
        ({"type": "Fiducial", "controlPoints": [{"position": [1, 2]}]}, "3 finite numbers"),
        ({"type": "Fiducial", "controlPoints": [{"position": [1, 2, None]}]}, "3 finite"),
        ({"type": "ROI", "center": [0, 0, 0], "size": [1, 2, 0]}, "above 0"),
        ({"type": "ROI", "center": [0, 0, 0]}, "size"),
        (7, "object"),
    ],
)
def test_a_markup_that_cannot_be_read_does_not_hide_the_others(node: Any, told: str) -> None:
    said = from_markups(sent(node, points(point(CENTRES["N1"], "benign"))))
    assert len(said.drafts) == 1
    with pytest.raises(AssertionError, match=told):
        raise AssertionError(said.not_understood[0].why)


def test_points_that_are_not_placed_yet_are_left_out() -> None:
    preview = point((0, 0, 0), "benign", positionStatus="preview")
    assert from_markups(sent(points(preview))).drafts == ()


@pytest.mark.parametrize("document", [{}, {"markups": "none"}, {"markups": {}}])
def test_what_is_no_markups_document_is_refused(document: Any) -> None:
    with pytest.raises(ReadingError, match="markups"):
        from_markups(document)


def test_a_document_of_too_many_points_is_refused_however_they_are_shared_out() -> None:
    half = points(*(point((n, 0, 0), "benign") for n in range(MOST_POINTS // 2)))
    assert len(parse_markups(sent(half, half))[0]) == 2
    with pytest.raises(ReadingError, match=f"{MOST_POINTS + 1} in all; at most {MOST_POINTS}"):
        parse_markups(sent(half, half, points(point((0, 0, 0)))))


@pytest.mark.parametrize("place", [[10**400, 0, 0], [1e300, 0, 0], [0, float("nan"), 0]])
def test_a_coordinate_that_no_patient_has_is_told_and_not_read(place: list[Any]) -> None:
    document = {"markups": [{"type": "Fiducial", "controlPoints": [point(place, "benign")]}]}
    parsed = from_markups(document)
    assert parsed.drafts == ()
    assert "3 finite numbers are needed" in parsed.not_understood[0].why


@pytest.mark.parametrize(
    "orientation", [[0] * 9, [1, 0, 0, 1, 0, 0, 0, 0, 1], [2, 0, 0, 0, 1, 0, 0, 0, 1]]
)
def test_a_box_whose_axes_are_no_orthogonal_unit_vectors_is_told(orientation: list[int]) -> None:
    box = {"type": "ROI", "name": "benign", "center": [0, 0, 0], "size": [5, 5, 5]}
    parsed = from_markups({"markups": [{**box, "orientation": orientation}]})
    assert parsed.drafts == ()
    assert "orthogonal unit vectors" in parsed.not_understood[0].why


def plugin_box(name: str, label: str, number: int = 0) -> dict[str, Any]:
    """A box as the plugin sends it: a name of its own, the label of the control point kept."""
    made = box(CENTRES[name], (6.0, 6.0, 6.0), f"Detection ROI - {number}")
    return {**made, "controlPoints": [point(CENTRES[name], label, TOLD)]}


def test_boxes_of_the_plugin_are_known_by_the_label_of_their_point(
    known: list[AnsweredNodule],
) -> None:
    boxes = plugin_box("N1", LABELS["N1"]), plugin_box("N2", "N2 malignant", 1)
    said = from_markups(sent(*boxes), known, drawn(*boxes))
    first, second = said.drafts
    assert (first.name, first.class_name, first.unchanged) == ("N1", "malignant", True)
    assert (second.name, second.class_name, second.unchanged) == ("N2", "malignant", False)
    assert said.not_understood == ()


@pytest.mark.parametrize("renamed", ["point", "box"])
def test_the_label_that_was_renamed_is_the_readers(
    known: list[AnsweredNodule], renamed: str
) -> None:
    labels = {"point": LABELS["N1"], "box": LABELS["N1"], renamed: "N1 benign"}
    made = plugin_box("N1", labels["box"])
    document = sent(points(point(CENTRES["N1"], labels["point"], TOLD)), made)
    (draft,) = from_markups(document, known[:1], drawn(made)).drafts
    assert (draft.class_name, draft.unchanged) == ("benign", False)


def test_a_box_that_was_never_placed_is_no_mistake(known: list[AnsweredNodule]) -> None:
    empty = {**box((0, 0, 0), (0.0, 0.0, 0.0), "SAM2 ROI"), "controlPoints": []}
    said = from_markups(sent(empty, plugin_box("N1", "N1 benign")), known[:1])
    assert [draft.class_name for draft in said.drafts] == ["benign"]
    assert said.not_understood == ()


def test_what_the_model_has_told_in_brackets_is_no_comment(known: list[AnsweredNodule]) -> None:
    told = f"{TOLD} [Res-MTNet: score 90% 3.3 to 4.8; Lung-RADS 4A; not malignant, or benign]"
    document = sent(points(point(CENTRES["N1"], "N1 benign", f"{told}; scar")))
    (draft,) = from_markups(document, known[:1]).drafts
    assert (draft.class_name, draft.comment) == ("benign", "scar")


def test_a_nodule_is_accepted_by_a_word_in_its_label(known: list[AnsweredNodule]) -> None:
    document = sent(points(*(point(CENTRES[n], f"{LABELS[n]} accept", TOLD) for n in CENTRES)))
    said = from_markups(document, known)
    assert [(d.class_name, d.agreed, d.acceptance) for d in said.drafts] == [
        ("malignant", True, "single"),
        ("benign", True, "single"),
    ]
