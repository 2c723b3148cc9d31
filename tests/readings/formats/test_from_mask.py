"""Masks as Slicer submits them: renamed, removed, split, added and edited segments."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import ndimage

from resmtnet.ct.geometry import Geometry
from resmtnet.ct.measure import measure
from resmtnet.readings.formats.draft import AnsweredNodule, DraftReading
from resmtnet.readings.formats.from_mask import from_mask, possible_names
from resmtnet.readings.formats.regions import MOST_REGIONS

SIZE_IJK = (60, 50, 30)
AT = {"N1": (14, 15, 10), "N2": (40, 30, 18)}
VALUES = {"benign": 1, "malignant": 2, "indeterminate": 3}
LABEL_INFO = [{"name": name, "idx": value} for name, value in VALUES.items()]


@pytest.fixture
def grid() -> Geometry:
    """k runs downwards and the axes are turned, so that no frame is right by chance."""
    axes = [[np.cos(0.3), np.sin(0.3), 0], [np.sin(0.3), -np.cos(0.3), 0], [0, 0, -1]]
    return Geometry(SIZE_IJK, (0.7, 0.8, 1.5), (20.0, -30.0, 50.0), np.array(axes))


def ball(grid: Geometry, centre_ijk: Any, radius_mm: float) -> np.ndarray:
    """uint8 [k, j, i] on the whole grid."""
    index = np.stack(np.indices(grid.size_ijk), axis=-1)
    inside = np.linalg.norm((index - centre_ijk) * grid.spacing_mm, axis=-1) <= radius_mm
    return inside.transpose(2, 1, 0).astype(np.uint8)


def make_known(
    grid: Geometry, mask: np.ndarray, name: str, cls: str, **more: Any
) -> AnsweredNodule:
    """A nodule as a model had answered it."""
    measured = measure(mask, grid)
    assert measured is not None
    filled = np.argwhere(mask)
    low, high = filled.min(axis=0), filled.max(axis=0) + 1
    box = tuple(slice(*ends) for ends in zip(low, high, strict=True))
    finding = {
        "id": name,
        "centre_lps_mm": list(measured.centroid_lps_mm),
        "centroid_lps_mm": list(measured.centroid_lps_mm),
        "class": {"name": cls},
        "size": {"long_axis_mm": measured.long_axis_mm, "mean_diameter_mm": 8.0},
    }
    sub = grid.sub(low[::-1].tolist(), (high - low)[::-1].tolist())
    return AnsweredNodule(
        finding, "2", "ab", mask[box], sub, **{"seen": True, "expected": True, **more}
    )


@pytest.fixture
def first(grid: Geometry) -> np.ndarray:
    return ball(grid, AT["N1"], 4.5)


@pytest.fixture
def second(grid: Geometry) -> np.ndarray:
    return ball(grid, AT["N2"], 5.0)


@pytest.fixture
def known(grid: Geometry, first: np.ndarray, second: np.ndarray) -> list[AnsweredNodule]:
    """Two nodules of one answer: N1 malignant, N2 benign."""
    return [
        make_known(grid, first, "N1", "malignant"),
        make_known(grid, second, "N2", "benign"),
    ]


def by_name(drafts: tuple[DraftReading, ...]) -> dict[str, DraftReading]:
    assert len({draft.name for draft in drafts}) == len(drafts)
    return {draft.name: draft for draft in drafts}


def test_a_mask_sent_as_it_was_is_unchanged_and_gives_no_size(
    grid: Geometry, first: np.ndarray, second: np.ndarray, known: list[AnsweredNodule]
) -> None:
    said = from_mask(2 * first + second, grid, LABEL_INFO, known)
    drafts = by_name(said.drafts)
    assert {name: draft.class_name for name, draft in drafts.items()} == {
        "N1": "malignant",
        "N2": "benign",
    }
    for draft in drafts.values():
        assert not draft.sizes
        assert draft.mask is None
        assert (draft.unchanged, draft.agreed) == (True, False)
    assert said.not_understood == ()
    assert said.warnings == ()


@pytest.mark.parametrize("name", ["accept", "malignant accept", "N1 Malignant 83% accepted"])
def test_agreement_is_a_word_in_the_name(
    grid: Geometry, first: np.ndarray, known: list[AnsweredNodule], name: str
) -> None:
    info = [{"name": name, "idx": 1}]
    (draft,) = from_mask(first, grid, info, known[:1]).drafts
    assert (draft.class_name, draft.agreed, draft.unchanged) == ("malignant", True, True)
    assert (draft.acceptance, draft.comment, draft.sizes) == ("single", "", {})


def test_one_word_for_several_nodules_is_acceptance_in_bulk(
    grid: Geometry, first: np.ndarray, second: np.ndarray, known: list[AnsweredNodule]
) -> None:
    info = [{"name": "accept", "idx": 1}]
    drafts = by_name(from_mask(first | second, grid, info, known).drafts)
    assert {n: (d.class_name, d.acceptance) for n, d in drafts.items()} == {
        "N1": ("malignant", "bulk"),
        "N2": ("benign", "bulk"),
    }


def test_there_is_nothing_to_accept_where_the_model_has_no_nodule(
    grid: Geometry, first: np.ndarray
) -> None:
    said = from_mask(first, grid, [{"name": "accept", "idx": 1}], [])
    assert said.drafts == ()
    assert "nothing to accept" in said.not_understood[0].why


def test_a_renamed_segment_carries_the_corrected_class(
    grid: Geometry, first: np.ndarray, second: np.ndarray, known: list[AnsweredNodule]
) -> None:
    info = [LABEL_INFO[0], {"name": "Benign_2", "idx": 2}, LABEL_INFO[2]]
    drafts = by_name(from_mask(2 * first + second, grid, info, known).drafts)
    assert drafts["N1"].class_name == "benign"
    assert drafts["N1"].acceptance == "single"
    assert not drafts["N1"].sizes
    assert drafts["N1"].known is known[0]


def test_idx_counts_segments_that_slicer_left_out(
    grid: Geometry, first: np.ndarray, second: np.ndarray, known: list[AnsweredNodule]
) -> None:
    """Scribbles are first in the segmentation: the voxels still begin with 1."""
    info = [{"name": name, "idx": value + 2} for name, value in VALUES.items()]
    drafts = by_name(from_mask(2 * first + second, grid, info, known).drafts)
    assert drafts["N1"].class_name == "malignant"
    assert drafts["N2"].class_name == "benign"


def test_idx_may_be_the_voxel_value(
    grid: Geometry, first: np.ndarray, known: list[AnsweredNodule]
) -> None:
    (draft,) = from_mask(7 * first, grid, [{"name": "benign", "idx": 7}], known[:1]).drafts
    assert draft.class_name == "benign"


def test_what_two_numberings_allow_the_overlap_decides(
    grid: Geometry, first: np.ndarray, known: list[AnsweredNodule]
) -> None:
    """Value 2 is the second of the list, or the entry whose idx is 2."""
    info = [{"name": "malignant", "idx": 2}, {"name": "benign", "idx": 3}]
    said = from_mask(2 * first, grid, info, known[:1])
    assert [draft.class_name for draft in said.drafts] == ["malignant"]
    assert not said.warnings
    unsure = from_mask(2 * first, grid, info)
    assert [draft.class_name for draft in unsure.drafts] == ["benign"]
    assert "label_info" in unsure.warnings[0]


def test_an_edited_mask_gives_the_sizes_of_the_mask(
    grid: Geometry, second: np.ndarray, known: list[AnsweredNodule]
) -> None:
    larger = ball(grid, AT["N1"], 7.0)
    drafts = by_name(from_mask(2 * larger + second, grid, LABEL_INFO, known).drafts)
    measured = measure(larger, grid)
    assert measured is not None
    assert drafts["N1"].sizes == pytest.approx(
        {
            "long_axis_mm": measured.long_axis_mm,
            "short_axis_mm": measured.short_axis_mm,
            "mean_diameter_mm": measured.mean_diameter_mm,
            "equivalent_diameter_mm": measured.equivalent_diameter_mm,
            "volume_mm3": measured.volume_mm3,
        }
    )
    assert drafts["N1"].sizes["equivalent_diameter_mm"] == pytest.approx(14.0, rel=0.03)
    assert drafts["N1"].mask is not None
    assert drafts["N1"].mask.sum() == larger.sum()
    assert not drafts["N2"].sizes


def test_one_voxel_more_is_an_edit(
    grid: Geometry, first: np.ndarray, known: list[AnsweredNodule]
) -> None:
    edited = first.copy()
    k, j, i = np.argwhere(first)[-1]
    edited[k + 1, j, i] = 1
    (draft,) = from_mask(2 * edited, grid, LABEL_INFO, known[:1]).drafts
    assert draft.sizes
    assert not draft.unchanged


def smeared(mask: np.ndarray, share: float) -> np.ndarray:
    """A share of the voxels at the border changed, as many more as less."""
    rng = np.random.default_rng(0)
    around = np.ones((3, 3, 3))
    outer = ndimage.binary_dilation(mask, around) & (mask == 0)
    inner = (mask > 0) & ~ndimage.binary_erosion(mask, around)
    drawn = mask.copy()
    drawn[outer & (rng.random(mask.shape) < share / 2)] = 1
    drawn[inner & (rng.random(mask.shape) < share / 2)] = 0
    return drawn


def test_of_a_resampled_mask_some_voxels_at_the_border_are_no_edit_and_told(
    grid: Geometry, known: list[AnsweredNodule]
) -> None:
    mask = ball(grid, AT["N1"], 4.5)
    drawn = 2 * smeared(mask, 0.2)
    said = from_mask(drawn, grid, LABEL_INFO, known[:1], resampled=True)
    assert [draft.unchanged for draft in said.drafts] == [True]
    assert said.warnings[0].startswith("N1: the border differs in some voxels")
    exact = from_mask(drawn, grid, LABEL_INFO, known[:1])
    assert not exact.drafts[0].unchanged
    assert exact.drafts[0].sizes
    assert exact.warnings == ()


def test_an_exact_mask_in_a_file_that_may_be_resampled_needs_no_word(
    grid: Geometry, first: np.ndarray, known: list[AnsweredNodule]
) -> None:
    said = from_mask(2 * first, grid, LABEL_INFO, known[:1], resampled=True)
    assert [draft.unchanged for draft in said.drafts] == [True]
    assert said.warnings == ()


@pytest.mark.parametrize("edit", ["grown", "shrunk", "half"])
def test_of_a_resampled_mask_a_border_drawn_anew_is_an_edit(
    grid: Geometry, first: np.ndarray, known: list[AnsweredNodule], edit: str
) -> None:
    around = np.ones((3, 3, 3))
    grown = ndimage.binary_dilation(first, around).astype(np.uint8)
    half = grown.copy()
    half[..., : round(AT["N1"][0])] = first[..., : round(AT["N1"][0])]
    shrunk = ndimage.binary_erosion(first, around).astype(np.uint8)
    edited = {"grown": grown, "shrunk": shrunk, "half": half}[edit]
    (draft,) = from_mask(2 * edited, grid, LABEL_INFO, known[:1], resampled=True).drafts
    assert draft.sizes["volume_mm3"] == pytest.approx(measure(edited, grid).volume_mm3)
    assert not draft.unchanged


def finer(grid: Geometry) -> Geometry:
    """Twice as many voxels along each axis, over the same box."""
    spacing = tuple(mm / 2 for mm in grid.spacing_mm)
    x, y, z = grid.ijk_to_lps((-0.25, -0.25, -0.25))
    size = tuple(2 * n for n in grid.size_ijk)
    return Geometry(size, spacing, (x, y, z), grid.direction)  # type: ignore[arg-type]


def test_on_another_grid_the_same_mask_is_no_edit_and_a_few_voxels_are_one(
    grid: Geometry, first: np.ndarray, known: list[AnsweredNodule]
) -> None:
    def twice(mask: np.ndarray) -> np.ndarray:
        return mask.repeat(2, 0).repeat(2, 1).repeat(2, 2)

    said = from_mask(2 * twice(first), finer(grid), LABEL_INFO, known[:1])
    assert [draft.unchanged for draft in said.drafts] == [True]
    assert said.warnings == ()
    edited = first.copy()
    k, j, i = np.argwhere(first)[-1]
    edited[k + 1, j, i] = 1
    (draft,) = from_mask(2 * twice(edited), finer(grid), LABEL_INFO, known[:1]).drafts
    assert draft.sizes


def test_the_same_mask_on_a_flipped_grid_is_no_edit(
    grid: Geometry, first: np.ndarray, known: list[AnsweredNodule]
) -> None:
    i, _, k = grid.size_ijk
    x, y, z = grid.ijk_to_lps((i - 1, 0, k - 1))
    axes = grid.direction * (-1, 1, -1)
    flipped = Geometry(grid.size_ijk, grid.spacing_mm, (x, y, z), axes)
    (draft,) = from_mask((2 * first)[::-1, :, ::-1], flipped, LABEL_INFO, known[:1]).drafts
    assert draft.unchanged


def test_a_removed_nodule_is_told_and_nothing_is_invented(
    grid: Geometry, second: np.ndarray, known: list[AnsweredNodule]
) -> None:
    said = from_mask(second, grid, LABEL_INFO, known)
    assert [draft.name for draft in said.drafts] == ["N2"]
    (problem,) = said.not_understood
    assert problem.what == "N1"
    assert "not a nodule" in problem.why


def test_a_nodule_that_the_reader_was_not_given_is_not_missed(
    grid: Geometry, first: np.ndarray, second: np.ndarray
) -> None:
    other = make_known(grid, first, "N1", "malignant", expected=False)
    assert from_mask(second, grid, LABEL_INFO, [other]).not_understood == ()


def test_a_removed_nodule_whose_name_says_so_is_not_a_nodule(
    grid: Geometry, second: np.ndarray, known: list[AnsweredNodule]
) -> None:
    info = [*LABEL_INFO, {"name": "N1 not a nodule", "idx": 4}]
    said = from_mask(second, grid, info, known)
    drafts = by_name(said.drafts)
    assert drafts["N1"].class_name == "not_a_nodule"
    assert drafts["N1"].known is known[0]
    assert said.not_understood == ()


def test_a_region_of_a_segment_named_not_a_nodule_gives_no_size(
    grid: Geometry, known: list[AnsweredNodule]
) -> None:
    larger = ball(grid, AT["N1"], 7.0)
    (draft,) = from_mask(larger, grid, [{"name": "not a nodule", "idx": 1}], known[:1]).drafts
    assert draft.class_name == "not_a_nodule"
    assert not draft.sizes
    assert draft.mask is None


def test_segments_split_by_islands_are_matched_by_place(
    grid: Geometry, first: np.ndarray, second: np.ndarray, known: list[AnsweredNodule]
) -> None:
    info = [{"name": "malignant", "idx": 1}, {"name": "malignant -1", "idx": 2}]
    drafts = by_name(from_mask(first + 2 * second, grid, info, known).drafts)
    assert drafts["N1"].known is known[0]
    assert drafts["N2"].known is known[1]
    assert drafts["N2"].class_name == "malignant"


def test_a_nodule_cut_in_two_segments_gives_two_nodules(
    grid: Geometry, first: np.ndarray, known: list[AnsweredNodule]
) -> None:
    halves = first.copy()
    halves[:, :, AT["N1"][0] :] *= 2
    info = [{"name": "malignant", "idx": 1}, {"name": "benign", "idx": 2}]
    said = from_mask(halves, grid, info, known[:1])
    assert sorted((d.name, d.class_name) for d in said.drafts) == [
        ("N1", "benign"),
        ("a new nodule", "malignant"),
    ]
    assert all(draft.sizes for draft in said.drafts)
    assert "part of a nodule" in said.warnings[0]


def test_pieces_of_one_segment_over_one_nodule_are_one(
    grid: Geometry, first: np.ndarray, known: list[AnsweredNodule]
) -> None:
    gap = first.copy()
    gap[:, :, AT["N1"][0]] = 0
    (draft,) = from_mask(2 * gap, grid, LABEL_INFO, known[:1]).drafts
    assert draft.sizes["volume_mm3"] == pytest.approx(gap.sum() * np.prod(grid.spacing_mm))


def test_an_added_nodule_is_read_with_its_class_and_sizes(
    grid: Geometry, first: np.ndarray, second: np.ndarray, known: list[AnsweredNodule]
) -> None:
    said = from_mask(2 * first + 3 * second, grid, LABEL_INFO, known[:1])
    added = by_name(said.drafts)["a new nodule"]
    assert added.class_name == "indeterminate"
    assert added.known is None
    assert added.sizes["equivalent_diameter_mm"] == pytest.approx(10.0, rel=0.03)
    assert grid.lps_to_ijk(added.centre_lps_mm) == pytest.approx(AT["N2"], abs=0.6)


def test_an_added_segment_without_a_class_gives_sizes_only(
    grid: Geometry, second: np.ndarray
) -> None:
    (draft,) = from_mask(second, grid, [{"name": "Segment_1", "idx": 1}]).drafts
    assert draft.class_name is None
    assert draft.sizes


def test_a_segment_of_something_else_is_told_and_not_read(
    grid: Geometry, second: np.ndarray
) -> None:
    said = from_mask(second, grid, [{"name": "pleural effusion", "idx": 1}])
    assert said.drafts == ()
    assert "pleural effusion" in said.not_understood[0].what


def test_scribbles_are_left_out_without_a_word(grid: Geometry, second: np.ndarray) -> None:
    info = [{"name": "foreground_scribbles", "idx": 1}]
    said = from_mask(second, grid, info, exact=True)
    assert said.drafts == said.not_understood == ()


def test_two_nodules_that_touch_are_told_apart_by_the_answer(grid: Geometry) -> None:
    one, two = ball(grid, (20, 20, 12), 4.0), ball(grid, (30, 20, 12), 4.0)
    two[one > 0] = 0
    known = [make_known(grid, one, "N1", "benign"), make_known(grid, two, "N2", "benign")]
    assert len(from_mask(one | two, grid, LABEL_INFO).drafts) == 1
    drafts = by_name(from_mask(one | two, grid, LABEL_INFO, known).drafts)
    assert all(draft.unchanged for draft in drafts.values())
    assert set(drafts) == {"N1", "N2"}


def test_nodules_that_the_reader_joined_are_read_as_one(grid: Geometry) -> None:
    one, two = ball(grid, (20, 20, 12), 4.0), ball(grid, (34, 20, 12), 3.0)
    known = [make_known(grid, one, "N1", "benign"), make_known(grid, two, "N2", "benign")]
    bridged = one | two
    bridged[11:14, 19:22, 20:34] = 1
    said = from_mask(bridged, grid, LABEL_INFO, known)
    (draft,) = said.drafts
    assert draft.name == "N1"
    assert "N2" in said.warnings[0]
    assert said.not_understood == ()


def test_of_two_answers_the_one_that_fits_is_corrected(grid: Geometry, first: np.ndarray) -> None:
    older = make_known(grid, first, "N1", "malignant", answer=1, expected=False)
    newer = make_known(grid, ball(grid, AT["N1"], 6.0), "N1", "malignant")
    (draft,) = from_mask(2 * first, grid, LABEL_INFO, [newer, older]).drafts
    assert draft.known is older
    assert draft.unchanged


def test_the_name_gives_way_to_the_place(
    grid: Geometry, second: np.ndarray, known: list[AnsweredNodule]
) -> None:
    said = from_mask(second, grid, [{"name": "N1 benign", "idx": 1}], known[1:])
    assert [draft.name for draft in said.drafts] == ["N2"]
    assert "N1" in said.warnings[0]


def test_slips_and_whole_organs_are_no_nodules(grid: Geometry) -> None:
    slip = np.zeros(grid.shape_kji, np.uint8)
    slip[3, 3, 3] = 1
    said = from_mask(slip, grid, LABEL_INFO)
    assert said.drafts == ()
    assert "slip" in said.not_understood[0].why
    wide = Geometry(grid.size_ijk, (7.0, 8.0, 15.0), grid.origin_lps_mm, grid.direction)
    said = from_mask(np.ones(grid.shape_kji, np.uint8), wide, LABEL_INFO)
    assert said.drafts == ()
    assert "450 mm" in said.not_understood[0].why


def test_a_mask_of_speckles_is_not_read(grid: Geometry) -> None:
    speckles = np.zeros(grid.shape_kji, np.uint8)
    speckles[::3, ::3, ::3] = 1
    said = from_mask(speckles, grid, LABEL_INFO)
    assert said.drafts == ()
    assert str(MOST_REGIONS) in said.not_understood[0].why


def test_of_a_mask_of_very_many_values_no_region_is_looked_for(
    grid: Geometry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "resmtnet.readings.formats.from_mask.regions_of", lambda *of: pytest.fail("looked")
    )
    values = np.arange(np.prod(grid.shape_kji)).reshape(grid.shape_kji)
    said = from_mask(values % (MOST_REGIONS + 2), grid, LABEL_INFO)
    assert said.drafts == ()
    assert str(MOST_REGIONS) in said.not_understood[0].why


def test_an_empty_mask_tells_of_every_nodule(grid: Geometry, known: list[AnsweredNodule]) -> None:
    said = from_mask(np.zeros(grid.shape_kji, np.uint8), grid, LABEL_INFO, known)
    assert said.drafts == ()
    assert [problem.what for problem in said.not_understood] == ["N1", "N2"]


def test_an_answer_without_a_mask_is_matched_by_its_point(
    grid: Geometry, first: np.ndarray, known: list[AnsweredNodule]
) -> None:
    unmasked = AnsweredNodule(known[0].finding, "2", "ab", expected=True)
    (draft,) = from_mask(2 * first, grid, LABEL_INFO, [unmasked]).drafts
    assert draft.known is unmasked
    assert draft.sizes


def test_values_without_any_name_are_not_given_one() -> None:
    assert possible_names([5], LABEL_INFO) == [{5: ""}]
    assert possible_names([5], [{"name": "benign", "idx": 1}]) == [{5: "benign"}]
    assert possible_names([], []) == [{}]
