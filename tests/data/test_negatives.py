"""Places without a nodule: what they are, how far from every mark, and that they train."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from resmtnet.config import NetworkConfig, PatchConfig, TrainingConfig
from resmtnet.data import archive
from resmtnet.data.archive import Archive
from resmtnet.data.contours import Annotation, Contour
from resmtnet.data.crops import load_block
from resmtnet.data.dataset import TrainingSet, mirrored
from resmtnet.data.negatives import _marks_mm, _of_stack, places_of, with_cut_copies
from resmtnet.data.table import TableRow
from resmtnet.data.targets import targets_of

PIXEL_MM = 0.7
CELLS = {
    "nodule": "P_nodule-0",
    "patient_id": "P",
    "series_uid": "1.2",
    "split": "train",
    "fold": "3",
    "z_spacing": "2.0",
    "pixel_spacing": str(PIXEL_MM),
    "slice_thickness": "2.0",
    "x0": "100",
    "y0": "200",
    "z_pos0": "-50",
}
CONFIG = TrainingConfig(
    batch_size=8,
    context_variants=1,
    negative_share=0.5,
    network=NetworkConfig(widths=(4, 6, 8), hidden=8, nodule_task=True),
    patch=PatchConfig(size_px=24),
)


@pytest.fixture
def row(tmp_path) -> TableRow:
    return TableRow(tmp_path / "nodules.csv", 2, CELLS, {})


def lung(levels: int) -> np.ndarray:
    """Lung with a wall on one side, dots of vessels across, and a nodule in the middle."""
    hu = np.full((levels, 96, 96), -860.0)
    hu[:, :, :14] = 40
    for column in range(22, 90, 8):
        for line in range(16, 90, 8):
            hu[:, line - 1 : line + 2, column - 1 : column + 2] = 0
    hu[:, 43:53, 43:53] = 30
    return (hu + np.random.default_rng(0).normal(0, 8, hu.shape)).astype(np.int16)


@pytest.fixture
def outline() -> Annotation:
    square = np.array([[143, 243], [152, 243], [152, 252], [143, 252]], float)
    return Annotation(tuple(Contour(z, square) for z in (-50.0, -48.0, -46.0)), {})


def negatives(row: TableRow, levels: int, marks: list[np.ndarray]) -> list:
    found = []
    for seed in range(6):
        found += _of_stack(row, lung(levels), marks, np.random.default_rng(seed))
    return found


def test_kinds_are_found_where_they_are():
    found = places_of(lung(1)[0], PIXEL_MM)
    assert len(found["vessel"]) > 20
    assert len(found["pleura"])
    assert found["pleura"][:, 1].max() < 20
    assert all(place.min() >= 12 and place.max() < 84 for place in found.values() if len(place))


def test_outlines_are_placed_in_the_stack(row, outline):
    (marks,) = _marks_mm(row, (outline,))
    assert marks.shape == (12, 3)
    assert marks[0] == pytest.approx([0, 43 * PIXEL_MM, 43 * PIXEL_MM])
    far = replace(outline, contours=tuple(replace(c, z_mm=900.0) for c in outline.contours))
    assert _marks_mm(row, (far,)) == []


def test_no_place_is_near_a_mark(row, outline):
    marks = _marks_mm(row, (outline,))
    found = negatives(row, 9, marks)
    assert len(found) > 10
    middle_mm = (marks[0].min(0) + marks[0].max(0)) / 2
    for nodule, _, _ in found:
        if nodule.context == "none":  # the whole stack, so that heights count from its first slice
            k, j, i = nodule.centre_kji
            place_mm = np.array([k, j - 16, i - 16]) * nodule.spacing_kji_mm
            assert np.linalg.norm(place_mm - middle_mm) >= 15 - 1e-6


def test_a_short_stack_gives_cut_places_only_and_a_tall_one_both(row):
    short, tall = negatives(row, 4, []), negatives(row, 9, [])
    assert {nodule.context for nodule, _, _ in short} == {"none"}
    assert {nodule.context for nodule, _, _ in tall} == {"none", "full"}
    assert all(not mask.any() for nodule, _, mask in tall if nodule.context == "full")
    assert any(mask.any() for _, _, mask in short)
    assert not all(mask.any() for _, _, mask in short)


def test_nothing_but_its_absence_is_known_of_a_place(row):
    nodules = [nodule for nodule, _, _ in negatives(row, 9, [])]
    targets = targets_of(nodules, with_negatives=True)
    assert targets["nodule"].tolist() == [[1, 0]] * len(nodules)
    told = {k: v for k, v in targets.items() if k.endswith("_weight") and k != "nodule_weight"}
    assert all(not weight.any() for weight in told.values())


def test_places_of_whole_cts_get_copies_that_are_cut(row):
    full = [crop for crop in negatives(row, 9, []) if crop[0].context == "full"]
    found = list(with_cut_copies(full, 2))
    assert len(found) == 3 * len(full)
    for nodule, hu, painted in found:
        assert nodule.shape_kji == hu.shape == painted.shape
    place, cut = found[0], found[1]
    assert (place[0].context, cut[0].context) == ("full", "none")
    assert len(cut[1]) <= len(place[1])
    assert cut[0].centre_kji[1:] == place[0].centre_kji[1:]
    assert any(painted.any() for nodule, _, painted in found if nodule.context == "none")


def test_nodules_get_no_such_copies(small_archive):
    crops = [(n, small_archive.voxels_hu(n), small_archive.mask(n)) for n in small_archive.nodules]
    assert len(list(with_cut_copies(crops, 2))) == len(crops)


@pytest.fixture
def places(row, tmp_path) -> Archive:
    archive.write(tmp_path / "places", iter(negatives(row, 9, [])), {"data": "synthetic"})
    return Archive.open(tmp_path / "places")


def test_an_archive_keeps_that_there_is_no_nodule(places, small_archive):
    assert {nodule.nodule_label for nodule in places.nodules} == {0}
    assert {nodule.nodule_label for nodule in small_archive.nodules} == {None}


@pytest.fixture
def both(places, small_archive) -> TrainingSet:
    others = TrainingSet(
        load_block(places, 1, 0), places.nodules, range(len(places.nodules)), CONFIG
    )
    block = load_block(small_archive, 1, 0)
    return TrainingSet(block, small_archive.nodules, range(16), CONFIG, negatives=[others])


def test_every_batch_holds_negatives_that_train_this_task_alone(both):
    batch = next(both.epoch(torch.Generator().manual_seed(0)))
    assert batch.slices.shape[0] == batch.slices_mask.shape[0] == 12
    assert batch.targets["nodule"][:, 1].tolist() == [1] * 8 + [0] * 4
    assert batch.targets["nodule_weight"].tolist() == [1] * 12
    assert not batch.targets["class_weight"][8:].any()
    assert not batch.targets["mask_weight"][8:].any()
    assert batch.total == 8


def test_several_sets_of_negatives_share_a_batch(both, small_archive):
    (others,) = both.negatives
    pair = TrainingSet(
        both.block, small_archive.nodules, range(16), CONFIG, negatives=[others, others]
    )
    assert next(pair.epoch(torch.Generator().manual_seed(0))).slices.shape[0] == 12


def test_without_negatives_the_task_is_not_asked(small_archive):
    assert not targets_of(small_archive.nodules)["nodule_weight"].any()


def test_what_lies_beyond_a_border_is_its_mirror_image():
    offset = torch.tensor([[-9.0, 5.0], [2.0, -1.0]])
    border = torch.tensor([[[8.0, 8.0], [3.0, 4.0]], [[8.0, 8.0], [3.0, 4.0]]])
    assert mirrored(offset, border).tolist() == [[-7.0, 3.0], [2.0, -1.0]]


def test_nodules_are_mirrored_like_negatives_only_beside_them(both, small_archive, monkeypatch):
    plain = TrainingSet(both.block, small_archive.nodules, range(16), CONFIG)
    monkeypatch.setattr(plain, "_border", lambda *_: pytest.fail("no negatives, no border"))
    next(plain.epoch(torch.Generator().manual_seed(0)))
    border = both._border(400, torch.Generator().manual_seed(0))
    assert border.shape == (400, 2, 2)
    assert border.min() >= 14 - 1e-3
    assert 0.7 < float((border[:, 0] != border[:, 1]).any(1).float().mean()) < 0.9
