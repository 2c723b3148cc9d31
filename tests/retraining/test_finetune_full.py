"""Training of everything, on images: what it needs, what it leaves, that it goes on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from resmtnet.config import AugmentConfig, NetworkConfig, PatchConfig, TrainingConfig
from resmtnet.data import archive as archives
from resmtnet.data.archive import Archive
from resmtnet.errors import InputError
from resmtnet.inference.ensemble import Ensemble
from resmtnet.inference.model_folder import Model, read_model
from resmtnet.readings.record import Reading
from resmtnet.retraining.candidate import FineTuned, recalibrate
from resmtnet.retraining.finetune import FineTuneConfig, fine_tune
from resmtnet.retraining.finetune_full import Images
from resmtnet.retraining.gate import Reference, Site, compare_knowledge, judge, knowledge
from resmtnet.retraining.linear_heads import LinearHeads
from resmtnet.retraining.margins import Margins
from resmtnet.retraining.samples import Sample, gather, sample_of
from resmtnet.training.cached_nodule import observe
from resmtnet.training.carried_sets import read_reference, read_replay
from resmtnet.training.run import run_experiment

CONFIG = TrainingConfig(
    epochs=1,
    batch_size=4,
    calibration_folds=(0, 1),
    reference_folds=(2,),
    context_variants=1,
    network=NetworkConfig(widths=(4, 4, 4), hidden=8, mask=False),
    patch=PatchConfig(size_px=16, mask_size_px=16, offsets_mm=(-2.0, 0.0, 2.0)),
    augment=AugmentConfig(thickness_share=0.0),
)
FULL = FineTuneConfig(depth="full", epochs=2, learning_rate=1e-3)


@pytest.fixture(scope="module")
def model(small_archive, tmp_path_factory) -> Model:
    out = tmp_path_factory.mktemp("experiment")
    run_experiment(small_archive, CONFIG, out, version="1")
    return read_model(out / "model")


@pytest.fixture(scope="module")
def samples(model, small_archive) -> list[Sample]:
    """The balls of split val, which the model never saw, read by one reader."""
    inference = Ensemble(list(model.networks), model.config.patch)
    found = []
    for nodule in (n for n in small_archive.nodules if n.split == "val"):
        reading = Reading(
            image=nodule.id,
            nodule="1",
            reader="A",
            centre_lps_mm=(0.0, 0.0, 0.0),
            class_name="malignant",
            sizes={"long_axis_mm": nodule.long_axis_mm},
        )
        held = observe(inference, small_archive, nodule)
        found += [sample_of(said, held) for said in gather([reading])]
    return found


@pytest.fixture(scope="module")
def images(samples, small_archive, tmp_path_factory) -> Images:
    tmp_path = tmp_path_factory.mktemp("images")

    def crop(sample: Sample):
        nodule = next(n for n in small_archive.nodules if n.id == sample.consensus.image)
        hu = small_archive.voxels_hu(nodule)
        kept = replace(nodule, id=sample.consensus.id, ratings={}, mask_readers=0, volume_mm3=500.0)
        return kept, hu, (small_archive.mask(nodule) * 0)

    archives.write(tmp_path / "site", (crop(s) for s in samples), {})
    return Images(small_archive, Archive.open(tmp_path / "site"), tmp_path / "work")


@pytest.fixture(scope="module")
def first(model, samples, images) -> FineTuned:
    """A candidate of depth full."""
    return recalibrate(fine_tune(model, samples[:3], FULL, images=images))


def test_trunk_is_trained_and_all_that_was_stored_is_seen_again(model, samples, first, tmp_path):
    candidate = first
    assert candidate.heads.trunk != LinearHeads.of(model.networks).trunk
    site, reference = (
        Site.of(samples, model, model),
        Reference.of(model, model, read_reference(model.folder)),
    )
    assert judge(candidate, site.parent, site, reference).insufficient
    candidate.write(tmp_path / "model", "2")
    written = read_model(tmp_path / "model")
    replay = read_replay(tmp_path / "model")
    assert replay.nodules == read_replay(model.folder).nodules
    assert not torch.equal(
        torch.from_numpy(replay.embeddings), torch.from_numpy(read_replay(model.folder).embeddings)
    )
    heads = LinearHeads.of(written.networks)
    for one in read_reference(tmp_path / "model"):
        told = heads.answer(one).observation.outputs["class"]
        assert told == pytest.approx(one.observation.outputs["class"], abs=0.01)


def test_version_of_another_trunk_is_judged_against_the_shipped_one(
    model, samples, first, tmp_path
):
    first.write(tmp_path / "model", "2")
    parent = read_model(tmp_path / "model")
    site = [replace(s, held=first.answer_all([s.held])[0]) for s in samples]
    second = recalibrate(fine_tune(parent, site[:3], FineTuneConfig(epochs=2)))
    with pytest.raises(InputError, match=r"saw 0 of 4 nodules .* judges their readings"):
        Site.of(site, parent, model)
    assert len(Site.of(site, parent, model, [s.held for s in samples]).samples) == 4
    reference = Reference.of(parent, model, read_reference(parent.folder))
    before = Reference.of(model, model, read_reference(model.folder))
    np.testing.assert_allclose(reference.shipped.score, before.shipped.score, atol=1e-3)
    said = knowledge(second, reference.held, reference.nodules)
    compared = compare_knowledge(said, reference, Margins())
    assert {c.other for c in compared} == {"parent", "shipped"}


def test_archive_that_lacks_the_training_nodules_is_refused(model, samples, images):
    other = replace(images, archive=images.site)
    with pytest.raises(InputError, match="give the archive that the model was trained on"):
        fine_tune(model, samples, FULL, images=other)


def test_stopped_training_goes_on_from_its_checkpoint(model, samples, images, tmp_path):
    class StoppedError(Exception):
        pass

    images, told = replace(images, work=tmp_path / "work"), list[int]()

    def stop(epoch: int, epochs: int) -> None:
        told.append(epoch)
        if epoch == 2:
            raise StoppedError

    with pytest.raises(StoppedError):
        fine_tune(model, samples, FULL, images=images, tell=stop)
    assert set(told) == {1, 2}
    again: list[int] = []
    fine_tune(model, samples, FULL, images=images, tell=lambda epoch, _: again.append(epoch))
    assert set(again) == {2}
