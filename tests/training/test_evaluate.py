import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from resmtnet.characteristics import LIDC_RATINGS
from resmtnet.ct.volume import CTVolume
from resmtnet.data.archive import Archive, Nodule, write
from resmtnet.errors import InputError
from resmtnet.evaluation.bootstrap import BootstrapConfig
from resmtnet.evaluation.occlusion import centres_mm
from resmtnet.evaluation.records import read_predictions, write_predictions
from resmtnet.findings import Characteristic, Finding, Malignancy, ModelInfo, Size, Uncertainty
from resmtnet.inference.model_folder import default_model_dir
from resmtnet.training.cases import case_of
from resmtnet.training.evaluate import answer, evaluate, evaluate_predictions, mask_dice
from resmtnet.training.report_pictures import Pictures, consensus, draw_nodules
from resmtnet.types import Point

CONFIG = BootstrapConfig(resamples=20)
NONE = Pictures(worst=0, saliency=0)
SPACING_KJI_MM = (2.0, 1.0, 0.8)


class Ruler:
    """Stands in for a Characterizer: measures what is denser than lung, and rates by size."""

    info = ModelInfo("ruler", "1", "0" * 64)

    def __init__(self) -> None:
        self.asked: list[tuple[CTVolume, Point]] = []

    def __call__(self, ct: CTVolume, centres_mm: Sequence[Point]) -> list[Finding]:
        self.asked += [(ct, centre) for centre in centres_mm]
        return [self._finding(ct, centre) for centre in centres_mm]

    def _finding(self, ct: CTVolume, centre: Point) -> Finding:
        volume = float((ct.array() > -300).sum() * np.prod(ct.geometry.spacing_mm))
        diameter = (6 * volume / np.pi) ** (1 / 3)
        malignant = float(np.clip(diameter / 20, 0, 1))
        ball = ct.array() == 30
        corners = np.argwhere(ball)
        first, last = (corners.min(0), corners.max(0) + 1) if len(corners) else ((0,) * 3, (1,) * 3)
        return Finding(
            id="N1",
            source="point",
            centre_lps_mm=centre,
            centre_ijk=(0.0, 0.0, 0.0),
            class_name="malignant" if malignant > 0.5 else "benign",
            probability_malignant=malignant,
            malignancy=Malignancy(1 + 4 * malignant, (1.0, 5.0), (0.2,) * 5),
            size=Size(
                equivalent_diameter_mm=diameter,
                volume_mm3=volume,
                interval_90={"equivalent_diameter_mm": (diameter - 1, diameter + 1)},
            ),
            characteristics={"texture": Characteristic("solid", 5.0, {"solid": 1.0})},
            uncertainty=Uncertainty(0.1, 0.0, 0.2),
            guidelines={},
            warnings=("one", "two"),
            mask=ball[tuple(map(slice, first, last))].astype(np.uint8),
            start_ijk=tuple(int(n) for n in reversed(first)),
        )


def ball(n: int, radius_mm: float, context: str = "full", split: str = "val"):
    """A ball of soft tissue in lung, and its nodule."""
    shape = (21, 41, 41)
    centre = (10.0, 19.0, 22.0)
    grid = np.stack(np.meshgrid(*[np.arange(size) for size in shape], indexing="ij"), -1)
    inside = (((grid - centre) * SPACING_KJI_MM) ** 2).sum(-1) <= radius_mm**2
    if context == "none":
        levels = inside.any((1, 2))
        inside, centre = inside[levels], (centre[0] - float(np.argmax(levels)), *centre[1:])
    rating = 5 if radius_mm > 5 else 1
    nodule = Nodule(
        id=f"nodule-{n}",
        patient_id=f"patient-{n}",
        split=split,
        fold=n % 3,
        context=context,
        shape_kji=inside.shape,
        spacing_kji_mm=SPACING_KJI_MM,
        centre_kji=centre,
        slice_thickness_mm=2.5,
        volume_mm3=float(inside.sum() * np.prod(SPACING_KJI_MM)),
        long_axis_mm=2 * radius_mm,
        ratings={task.name: (rating,) * 3 for task in LIDC_RATINGS},
        reader_volumes_mm3=(500.0, 520.0, 540.0),
        reader_long_axes_mm=(radius_mm, 2 * radius_mm, 3 * radius_mm),
        reader_short_axes_mm=(radius_mm,) * 3,
        reader_dice=0.7,
        mask_readers=3,
    )
    hu = np.where(inside, 30, -850).astype(np.int16)
    return nodule, hu, (inside * 255).astype(np.uint8)


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Archive:
    path = tmp_path_factory.mktemp("archive") / "balls"
    crops = [ball(n, 3.0 + n) for n in range(6)]
    crops += [ball(6, 6.0, context="none"), ball(7, 4.0, split="train")]
    write(path, crops, {"licence": "CC0"})
    return Archive.open(path)


def test_model_is_asked_on_the_nodule_with_the_archives_spacing_and_orientation(archive):
    model = Ruler()
    answer(archive, archive.nodules[:1], model)
    ct, centre_lps_mm = model.asked[0]
    assert ct.geometry.spacing_mm == pytest.approx(SPACING_KJI_MM[::-1])
    assert ct.geometry.lps_to_ijk(centre_lps_mm) == pytest.approx([22, 19, 10], abs=1e-4)
    assert ct.image_id == "nodule-0"


def test_stack_is_continued_beyond_its_ends_alike_every_time(archive):
    model, again = Ruler(), Ruler()
    stack = archive.nodules[6]
    answer(archive, [stack], model)
    answer(archive, [stack], again)
    ct, centre_lps_mm = model.asked[0]
    assert ct.geometry.size_ijk[2] > stack.shape_kji[0]
    k = ct.geometry.lps_to_ijk(centre_lps_mm)[2]
    assert ct.array()[round(float(k)), 19, 22] == 30
    assert (ct.array() == again.asked[0][0].array()).all()


def test_answers_keep_the_order_and_what_the_evaluation_needs(archive):
    answered = answer(archive, archive.nodules[:3], Ruler())
    assert [case.id for case, _ in answered] == ["nodule-0", "nodule-1", "nodule-2"]
    case, prediction = answered[2]
    assert prediction.equivalent_diameter_mm == pytest.approx(case.equivalent_diameter_mm)
    assert prediction.equivalent_diameter_interval_mm is not None
    assert prediction.texture_class == "solid"
    assert prediction.warnings == 2
    assert prediction.long_axis_mm is None


def test_case_keeps_the_readers_ratings_and_sizes(archive):
    case = case_of(archive.nodules[5])
    assert case.malignancy == (5, 5, 5)
    assert case.texture_rating == 5.0
    assert case.long_axis_mm == 16.0
    assert (case.slice_thickness_mm, case.split, case.fold) == (2.5, "val", 2)
    assert case.texture_ratings == (5, 5, 5)
    assert case.reader_long_axes_mm == (8.0, 16.0, 24.0)
    assert (case.short_axis_mm, case.reader_dice) == (8.0, 0.7)


def test_mask_is_held_to_what_half_of_the_readers_marked(archive):
    (_, found), *_ = answer(archive, archive.nodules[:1], Ruler())
    assert found.mask_dice == 1.0


def test_slices_that_are_synthesised_do_not_shift_the_readers_mask(archive):
    stack = archive.nodules[6]
    model = Ruler()
    ((_, found),) = answer(archive, [stack], model)
    ct, centre = model.asked[0]
    share = consensus(archive, stack, ct, centre)
    assert share.shape == ct.shape_kji
    assert (share.any((1, 2)).sum(), share.sum()) == (
        stack.shape_kji[0],
        pytest.approx((archive.mask(stack) / 255).sum()),
    )
    assert (ct.array()[share >= 0.5] == 30).all()
    assert found.mask_dice > 0.9


def test_overlap_of_a_known_shift_is_known(archive):
    model = Ruler()
    answer(archive, archive.nodules[:1], model)
    finding = model(*model.asked[0][:1], [model.asked[0][1]])[0]
    share = np.zeros((4, 4, 4))
    share[1, 1, :] = 0.5
    share[2, 1, :] = 0.49
    row = replace(finding, mask=np.ones((1, 1, 2), np.uint8), start_ijk=(2, 1, 1))
    assert mask_dice(share, row) == pytest.approx(2 * 2 / (4 + 2))
    assert mask_dice(share, replace(row, mask=None)) == 0.0
    assert mask_dice(share * 0.9, row) is None


def test_mask_of_one_reader_is_no_consensus(archive):
    alone = [replace(archive.nodules[0], mask_readers=1)]
    assert answer(archive, alone, Ruler())[0][1].mask_dice is None


def test_evaluation_writes_three_files_that_agree(archive, tmp_path):
    told: list[tuple[str, int, int]] = []
    document = evaluate(
        archive,
        Ruler(),
        tmp_path / "out",
        config=CONFIG,
        pictures=NONE,
        tell=lambda *step: told.append(step),
    )
    kept = json.loads((tmp_path / "out" / "metrics.json").read_text(encoding="utf-8"))
    answered = read_predictions(tmp_path / "out" / "predictions.csv")
    assert kept == document
    assert kept["schema"] == "resmtnet.metrics/3"
    assert kept["data"]["nodules"] == len(answered) == len(archive.nodules)
    assert kept["figures"]["auc"]["model"]["value"] == 1.0
    assert kept["bootstrap"]["resamples"] == 20
    assert "<html" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert told[-1] == ("nodules", 8, 8)
    assert any("synthesised context: 1 of 8" in warning for warning in kept["warnings"])


def test_pictures_are_of_the_worst_nodules_and_of_answers_spread_over_their_range(archive):
    model = Ruler()
    answered = answer(archive, archive.nodules, model)
    document = {"worst_cases": {"class": [{"id": "nodule-3"}, {"id": "nodule-6"}]}}
    asked = len(model.asked)
    drawn = draw_nodules(archive, answered, document, model, Pictures(worst=2, saliency=3))
    assert [picture.id for picture in drawn[:2]] == ["nodule-3", "nodule-6"]
    by_probability = sorted(answered, key=lambda pair: pair[1].probability_malignant)
    spread = {picture.id for picture in drawn[2:]}
    assert len(spread) == 3
    assert {by_probability[0][0].id, by_probability[-1][0].id} < spread
    assert len(model.asked) - asked == 5 + 3 * (len(centres_mm()) ** 2 + 1)
    assert [picture.added is None for picture in drawn] == [True, True, False, False, False]


def test_picture_shows_the_central_slice_with_both_outlines(archive):
    model = Ruler()
    answered = answer(archive, archive.nodules[:1], model)
    document = {"worst_cases": {"class": [{"id": "nodule-0"}]}}
    (picture,) = draw_nodules(archive, answered, document, model, Pictures(1, 0))
    row, column = (round(n) for n in picture.centre_px)
    assert picture.pixel_mm == pytest.approx(SPACING_KJI_MM[1:])
    assert picture.hu[row, column] == 30
    assert (picture.model == (picture.readers >= 0.5)).all()
    assert 0 < picture.model.mean() < 0.2
    assert "readers 1 1 1" in picture.caption


def test_report_of_an_archive_holds_its_pictures(archive, tmp_path):
    shown = Pictures(worst=2, saliency=1)
    evaluate(archive, Ruler(), tmp_path, config=CONFIG, pictures=shown)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "The worst cases as pictures" in page
    assert "What the model looks at" in page


@pytest.fixture
def folds(archive, tmp_path) -> list[Path]:
    """Out-of-fold predictions of a cross-validation of three folds, every nodule five times."""
    answered = [
        (replace(case, id=f"{case.id}-{n}", patient_id=f"{case.patient_id}-{n}"), prediction)
        for n in range(5)
        for case, prediction in answer(archive, archive.nodules, Ruler())
    ]
    paths = []
    for fold in range(3):
        paths.append(tmp_path / f"fold{fold}" / "predictions.csv")
        paths[-1].parent.mkdir()
        write_predictions(paths[-1], [pair for pair in answered if pair[0].fold == fold])
    return paths


def test_cross_validation_is_evaluated_from_its_files(folds, tmp_path):
    document = evaluate_predictions(folds, tmp_path / "out", CONFIG)
    assert json.loads((tmp_path / "out" / "metrics.json").read_text(encoding="utf-8")) == document
    assert document["model"] is None
    assert [entry["file"] for entry in document["predictions"]] == [
        f"fold{n}/predictions.csv" for n in range(3)
    ]
    assert sum(entry["nodules"] for entry in document["predictions"]) == 40
    assert document["data"]["nodules"] == 40
    assert document["baselines"]["source"] == "fitted on the other files"
    assert document["figures"]["mask_dice"]["model"]["value"] > 0.95
    assert "<html" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")


def test_patient_in_two_files_is_refused(folds, tmp_path):
    double = folds[2].with_name("again.csv")
    double.write_text(folds[2].read_text(encoding="utf-8"))
    with pytest.raises(InputError, match=r"is in predictions\.csv and in again\.csv"):
        evaluate_predictions([folds[2], double], tmp_path / "out", CONFIG)


def test_file_that_is_given_twice_is_refused(folds, tmp_path):
    with pytest.raises(InputError, match="given twice"):
        evaluate_predictions([folds[0], folds[0]], tmp_path / "out", CONFIG)


def test_split_chooses_the_nodules(archive, tmp_path):
    document = evaluate(archive, Ruler(), tmp_path, split="val", config=CONFIG, pictures=NONE)
    assert document["data"]["split"] == {"val": 7}


def test_split_without_nodules_is_refused_with_those_there_are(archive, tmp_path):
    with pytest.raises(InputError, match="it has train, val"):
        evaluate(archive, Ruler(), tmp_path, split="test")


def test_shipped_model_is_evaluated_by_the_path_that_users_take(archive, tmp_path: Path):
    if not (default_model_dir() / "manifest.json").is_file():
        pytest.skip("no model is shipped in this checkout")
    from resmtnet.evaluation.baselines import Baselines
    from resmtnet.inference.characterizer import Characterizer

    model = Characterizer.load(device="cpu")
    baselines = Baselines.from_json(model.model.calibration.baselines)
    document = evaluate(archive, model, tmp_path, baselines, config=CONFIG, pictures=NONE)
    assert document["model"]["sha256"] == model.info.sha256
    size = document["figures"]["diameter_mae_mm"]
    assert size["n"] == len(archive.nodules)
    assert size["model"]["value"] < size["beside"]["constant"]["value"]
