"""Nodules observed once, kept, and answered later as the Characterizer would."""

from dataclasses import replace

import numpy as np
import pytest

from alike import assert_alike
from resmtnet.config import NetworkConfig, TrainingConfig
from resmtnet.data.volumes import nodule_ct
from resmtnet.errors import InputError
from resmtnet.findings import ModelInfo
from resmtnet.inference.calibration import Calibration
from resmtnet.inference.characterizer import Characterizer
from resmtnet.inference.conformal import Bands, LogInterval
from resmtnet.inference.mask_threshold import LEVELS
from resmtnet.inference.model_folder import Model
from resmtnet.network.resmtnet import ResMTNet
from resmtnet.training.cached_nodule import finding_of, observe, predict, raw_prediction
from resmtnet.training.cached_store import load_cached, save_cached
from resmtnet.training.evaluate import answer


@pytest.fixture(scope="module")
def calibration() -> Calibration:
    bands = Bands((), (2.0,))
    interval = LogInterval(0.0, 1.0, 0.3, bands)
    names = ("equivalent_diameter_mm", "long_axis_mm")
    return Calibration(
        class_slopes={"margin": 1.3, "score": 0.4},
        mask_thresholds=Bands((), (0.5,)),
        score_widths=bands,
        size_intervals=dict.fromkeys((*names, "volume_mm3"), interval),
        regressed_intervals=dict.fromkeys(names, interval),
    )


@pytest.fixture(scope="module")
def characterizer(bright, calibration, tmp_path_factory) -> Characterizer:
    config = TrainingConfig(patch=bright.config, network=NetworkConfig(widths=(4, 4, 4), hidden=8))
    folder = tmp_path_factory.mktemp("none")
    networks = (ResMTNet(config.network),)  # replaced below
    model = Model(ModelInfo("m", "1", ""), config, networks, calibration, folder)
    made = Characterizer(model)
    made.inference = bright
    return made


def test_held_nodule_is_answered_as_the_characterizer_answers(
    held, calibration, characterizer, small_archive
):
    for one in held[:3]:
        nodule = next(n for n in small_archive.nodules if n.id == one.case.id)
        ct, centre = nodule_ct(small_archive, nodule)
        found = characterizer(ct, [centre])[0].to_json()
        kept = finding_of(one, calibration).to_json()
        found["size"]["solid_component_mm"] = None  # it is measured in the image, which is not kept
        found["size"]["interval_90"].pop("solid_component_mm", None)
        for name in ("class", "malignancy", "size", "characteristics", "uncertainty", "warnings"):
            assert_alike(kept[name], found[name])


def test_prediction_is_that_of_the_evaluation(held, calibration, characterizer, small_archive):
    nodules = [n for n in small_archive.nodules if n.split == "train"][:2]
    for one, (case, expected) in zip(
        held, answer(small_archive, nodules, characterizer), strict=False
    ):
        assert one.case == case
        assert_alike(predict(one, calibration), expected)


def test_ball_is_measured_at_every_threshold_and_shrinks(held):
    sizes = [held[3].masks[t].measured.volume_mm3 for t in LEVELS]
    assert sizes == sorted(sizes, reverse=True)
    assert max(drawn.dice for drawn in held[3].masks.values()) > 0.8


def test_truth_has_every_size_of_a_mask(held):
    truth = held[0].truth
    assert set(truth) == {
        "long_axis_mm", "short_axis_mm", "mean_diameter_mm", "equivalent_diameter_mm",
        "volume_mm3",
    }  # fmt: skip
    assert truth["short_axis_mm"] == pytest.approx(truth["long_axis_mm"], rel=0.35)


def test_size_that_no_reader_gave_is_no_truth(bright, small_archive):
    nodule = replace(small_archive.nodules[0], volume_mm3=np.nan, mask_readers=1)
    found = observe(bright, small_archive, nodule)
    assert "volume_mm3" not in found.truth
    assert all(drawn.dice is None for drawn in found.masks.values())


def test_threshold_follows_the_regressed_diameter(held, calibration):
    regressed = np.exp(held[0].observation.outputs["equivalent_diameter_mm"][0])
    small, large = (
        raw_prediction(
            held[0], replace(calibration, mask_thresholds=Bands((edge,), (0.1, 0.6)))
        ).measured
        for edge in (regressed - 1, regressed + 1)
    )
    assert small.volume_mm3 < large.volume_mm3


def test_threshold_that_was_not_measured_is_refused_with_those_known(held):
    with pytest.raises(InputError, match=r"0\.33.*known are 0\.05, 0\.075"):
        held[0].seen(0.33)


def test_held_nodules_survive_their_file(held, calibration, tmp_path):
    save_cached(tmp_path / "held", held)
    kept = load_cached(tmp_path / "held")
    assert [one.case for one in kept] == [one.case for one in held]
    assert [one.truth for one in kept] == [one.truth for one in held]
    for one, other in zip(kept, held, strict=True):
        told, expected = predict(one, calibration), predict(other, calibration)
        assert told.probability_malignant == pytest.approx(expected.probability_malignant, abs=1e-6)
        assert told.volume_mm3 == pytest.approx(expected.volume_mm3)
        assert told.mask_dice == pytest.approx(expected.mask_dice)
        assert one.masks[0.2].cut == other.masks[0.2].cut


def test_nothing_is_not_written(tmp_path):
    with pytest.raises(InputError, match="no nodule to write"):
        save_cached(tmp_path / "held", [])


def test_other_files_are_refused(tmp_path):
    from safetensors.numpy import save_file

    (tmp_path / "text").write_text("held")
    save_file({"a": np.zeros(1)}, tmp_path / "other")
    with pytest.raises(InputError, match="not a file of cached nodules"):
        load_cached(tmp_path / "text")
    with pytest.raises(InputError, match="schema None"):
        load_cached(tmp_path / "other")
