"""Numbers beside the weights: replayed training nodules, and the reference set."""

import numpy as np
import pytest

from resmtnet.errors import ModelError
from resmtnet.evaluation.records import read_predictions
from resmtnet.inference.calibration import Calibration
from resmtnet.inference.conformal import Bands
from resmtnet.training.cached_nodule import predict
from resmtnet.training.carried_sets import (
    embed,
    read_reference,
    read_reference_answers,
    read_replay,
    reference_files,
    replay_files,
)

CALIBRATION = Calibration(mask_thresholds=Bands((), (0.5,)))


def write(folder, files) -> None:
    for name, writer in files.items():
        writer(folder / name)


def test_embeddings_are_those_of_a_click_at_each_centre(bright, held, small_archive):
    told = []
    nodules = small_archive.nodules[:9]
    replay = embed(bright, small_archive, nodules, lambda done, of: told.append((done, of)))
    assert replay.nodules == nodules
    assert replay.flat.shape == (9, 2 * 16)
    np.testing.assert_allclose(replay.embeddings[4], held[4].observation.embeddings, atol=1e-5)
    assert told[-1] == (9, 9)


def test_replay_survives_its_files_in_half_precision(bright, small_archive, tmp_path):
    replay = embed(bright, small_archive, small_archive.nodules[:3])
    write(tmp_path, replay_files(replay))
    kept = read_replay(tmp_path)
    assert kept.nodules == replay.nodules
    np.testing.assert_allclose(kept.embeddings, replay.embeddings, rtol=2e-3, atol=1e-4)
    size = (tmp_path / "replay.safetensors").stat().st_size
    assert size < 3 * 32 * 2 + 400


def test_replay_names_the_layer_that_its_embeddings_enter(bright, small_archive, tmp_path):
    from safetensors import safe_open

    write(tmp_path, replay_files(embed(bright, small_archive, small_archive.nodules[:1])))
    with safe_open(tmp_path / "replay.safetensors", "numpy") as stored:
        assert stored.metadata()["layer"] == "heads.<branch>.outputs"


def test_reference_holds_the_answers_and_what_they_were_made_from(held, tmp_path):
    write(tmp_path, reference_files(held, CALIBRATION))
    answered = read_predictions(tmp_path / "reference.csv")
    kept = read_reference(tmp_path)
    assert [case.id for case, _ in answered] == [one.case.id for one in kept]
    for one, (_, told) in zip(kept, answered, strict=True):
        again = predict(one, CALIBRATION)
        assert again.probability_malignant == pytest.approx(told.probability_malignant, abs=1e-6)
        assert again.volume_mm3 == pytest.approx(told.volume_mm3)


def test_model_without_these_sets_is_told(tmp_path):
    with pytest.raises(ModelError, match=r"replay\.csv is missing"):
        read_replay(tmp_path)
    with pytest.raises(ModelError, match=r"reference\.safetensors is missing"):
        read_reference(tmp_path)
    with pytest.raises(ModelError, match=r"reference\.csv is missing"):
        read_reference_answers(tmp_path)


def test_files_of_two_replays_are_not_mixed(bright, small_archive, tmp_path):
    files = [replay_files(embed(bright, small_archive, small_archive.nodules[:n])) for n in (2, 3)]
    files[0]["replay.csv"](tmp_path / "replay.csv")
    files[1]["replay.safetensors"](tmp_path / "replay.safetensors")
    with pytest.raises(ModelError, match="2 nodules"):
        read_replay(tmp_path)
