import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from resmtnet.characteristics import LIDC_RATINGS
from resmtnet.ct.volume import CTVolume
from resmtnet.data.archive import Archive, Nodule, write
from resmtnet.errors import InputError
from resmtnet.evaluation.bootstrap import BootstrapConfig
from resmtnet.evaluation.records import read_predictions
from resmtnet.evaluator import answer, case_of, evaluate
from resmtnet.findings import (
    Characteristic,
    Finding,
    Malignancy,
    ModelInfo,
    Point,
    Size,
    Uncertainty,
)
from resmtnet.model_store import default_model_dir

CONFIG = BootstrapConfig(resamples=20)
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


def test_evaluation_writes_three_files_that_agree(archive, tmp_path):
    told: list[tuple[int, int]] = []
    document = evaluate(
        archive, Ruler(), tmp_path / "out", config=CONFIG, tell=lambda *step: told.append(step)
    )
    kept = json.loads((tmp_path / "out" / "metrics.json").read_text())
    answered = read_predictions(tmp_path / "out" / "predictions.csv")
    assert kept == document
    assert kept["schema"] == "resmtnet.metrics/1"
    assert kept["data"]["nodules"] == len(answered) == len(archive.nodules)
    assert kept["figures"]["auc"]["model"]["value"] == 1.0
    assert kept["bootstrap"]["resamples"] == 20
    assert "<html" in (tmp_path / "out" / "report.html").read_text()
    assert told[-1] == (8, 8)
    assert any("synthesised context: 1 of 8" in warning for warning in kept["warnings"])


def test_split_chooses_the_nodules(archive, tmp_path):
    document = evaluate(archive, Ruler(), tmp_path, split="val", config=CONFIG)
    assert document["data"]["split"] == {"val": 7}


def test_split_without_nodules_is_refused_with_those_there_are(archive, tmp_path):
    with pytest.raises(InputError, match="it has train, val"):
        evaluate(archive, Ruler(), tmp_path, split="test")


def test_shipped_model_is_evaluated_by_the_path_that_users_take(archive, tmp_path: Path):
    if not (default_model_dir() / "manifest.json").is_file():
        pytest.skip("no model is shipped in this checkout")
    from resmtnet.characterizer import Characterizer
    from resmtnet.evaluation.baselines import Baselines

    model = Characterizer.load(device="cpu")
    baselines = Baselines.from_json(model.model.calibration.baselines)
    document = evaluate(archive, model, tmp_path, baselines, config=CONFIG)
    assert document["model"]["sha256"] == model.info.sha256
    size = document["figures"]["diameter_mae_mm"]
    assert size["n"] == len(archive.nodules)
    assert size["model"]["value"] < size["constant"]["value"]
