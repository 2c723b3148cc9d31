"""Out-of-fold answers: of every nodule once, kept by group, never by a model that saw it."""

import hashlib
from dataclasses import replace

import pytest
import torch

from resmtnet.config import NetworkConfig, PatchConfig, TrainingConfig
from resmtnet.errors import ConfigError, InputError
from resmtnet.evaluation.records import read_predictions
from resmtnet.inference.model_folder import read_model
from resmtnet.training.cross_validation import HELD, cross_validate, fold_groups, load_answers
from resmtnet.training.earlier_networks import starting_networks
from resmtnet.training.run import of_other_patients, run_experiment

CONFIG = TrainingConfig(
    epochs=45,
    mask_epochs=0,
    learning_rate=1e-2,
    ema_decay=0.9,
    batch_size=8,
    context_variants=1,
    mask_share=1.0,
    network=NetworkConfig(widths=(8, 8, 8), hidden=8),
    patch=PatchConfig(size_px=24, mask_size_px=24, offsets_mm=(-2.0, 0.0, 2.0)),
)
NO_MASK = NetworkConfig(widths=(4, 4, 4), hidden=8, mask=False)


@pytest.fixture(scope="module")
def answered(small_archive, tmp_path_factory):
    out = tmp_path_factory.mktemp("cross-validation")
    return out, cross_validate(small_archive, CONFIG, out, group_size=2)


def test_every_nodule_of_the_split_is_answered_once(answered, small_archive):
    out, files = answered
    assert files == [out / f"folds-{name}.csv" for name in ("0-1", "2-3", "4")]
    cases = [case for file in files for case, _ in read_predictions(file)]
    expected = {nodule.id for nodule in small_archive.nodules if nodule.split == "train"}
    assert len(cases) == len(expected)
    assert {case.id for case in cases} == expected


def test_a_group_answers_its_own_folds_alone(answered):
    for file, folds in zip(answered[1], ({0, 1}, {2, 3}, {4}), strict=True):
        assert {case.fold for case, _ in read_predictions(file)} == folds


def test_a_group_that_is_done_is_not_trained_again(answered, small_archive):
    out, files = answered
    kept = [(out / file.stem / HELD).stat().st_mtime_ns for file in files]
    text = [file.read_text() for file in files]
    for file in files:
        file.unlink()
    cross_validate(small_archive, CONFIG, out, group_size=2, resume=True)
    assert [file.read_text() for file in files] == text
    assert [(out / file.stem / HELD).stat().st_mtime_ns for file in files] == kept


def test_its_records_are_read_for_the_calibration_of_one_model(answered, small_archive, tmp_path):
    out, files = answered
    records = load_answers(out)
    assert len(records) == sum(len(read_predictions(file)) for file in files)
    with pytest.raises(InputError, match="--cross-validate"):
        load_answers(tmp_path)


def test_records_of_patients_kept_apart_do_not_widen_a_calibration(answered, small_archive):
    records = load_answers(answered[0])
    apart = [nodule for nodule in small_archive.nodules if nodule.fold == 0]
    kept = of_other_patients(records, apart)
    assert 0 < len(kept) < len(records)
    assert not {one.case.patient_id for one in kept} & {nodule.patient_id for nodule in apart}


def test_runs_are_not_mixed(answered, small_archive):
    with pytest.raises(InputError, match="--resume"):
        cross_validate(small_archive, CONFIG, answered[0], group_size=2)


def test_one_group_is_refused(small_archive):
    with pytest.raises(ConfigError, match="at least two groups"):
        fold_groups(small_archive, CONFIG, 5)


def test_splits_that_take_part_are_configured(small_archive):
    both = replace(CONFIG, splits=("train", "val"))
    assert fold_groups(small_archive, both, 1) == fold_groups(small_archive, CONFIG, 1)


def test_reference_folds_are_in_no_group_and_answered_by_the_first(small_archive, tmp_path):
    config = replace(CONFIG, epochs=1, reference_folds=(1, 2), network=NO_MASK)
    assert fold_groups(small_archive, config, 2) == [(0, 3), (4,)]
    files = cross_validate(small_archive, config, tmp_path, group_size=2)
    folds = [{case.fold for case, _ in read_predictions(file)} for file in files]
    assert folds == [{0, 1, 2, 3}, {4}]
    for group in ("folds-0-3", "folds-4"):
        checkpoint = tmp_path / group / "member-0" / "checkpoint.pt"
        kept = torch.load(checkpoint, weights_only=True)["config"]
        assert kept["reference_folds"] == [1, 2]


def test_a_network_of_a_group_is_a_member_of_a_model_as_it_is(answered, small_archive, tmp_path):
    checkpoint = answered[0] / "folds-2-3" / "member-0" / "checkpoint.pt"
    config = replace(CONFIG, calibration_folds=(2, 3))
    further = load_answers(answered[0])
    run_experiment(
        small_archive, config, tmp_path, version="1", given=[checkpoint], further=further
    )
    (network,) = read_model(tmp_path / "model").networks
    averaged = torch.load(checkpoint, weights_only=True)["averaged"]
    for name, value in network.state_dict().items():
        assert torch.equal(value.float(), averaged[name].half().float()), name
    assert not list(tmp_path.rglob("checkpoint.pt"))  # nothing was trained


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"calibration_folds": (0,)}, r"trained on folds \[0\]"),
        ({"network": NetworkConfig(widths=(4, 4, 4), hidden=8)}, "its network is"),
    ],
)
def test_a_network_that_does_not_fit_is_no_member(answered, small_archive, tmp_path, change, said):
    checkpoint = answered[0] / "folds-2-3" / "member-0" / "checkpoint.pt"
    config = replace(CONFIG, **{"calibration_folds": (3,), **change})
    with pytest.raises(ConfigError, match=said):
        run_experiment(small_archive, config, tmp_path, version="1", given=[checkpoint])
    with pytest.raises(InputError, match="no such checkpoint"):
        run_experiment(small_archive, CONFIG, tmp_path, version="1", given=[tmp_path / "none.pt"])


def test_each_group_begins_with_the_network_that_did_not_see_it(answered, small_archive, tmp_path):
    kept = {
        name: answered[0] / f"folds-{name}" / "member-0" / "checkpoint.pt"
        for name in ("0-1", "2-3", "4")
    }
    standing = replace(CONFIG, epochs=1, learning_rate=0.0)
    cross_validate(small_archive, standing, tmp_path, group_size=2, start=list(kept.values()))
    for name, path in kept.items():
        before, after = (
            torch.load(one, weights_only=True)["averaged"]
            for one in (path, tmp_path / f"folds-{name}" / "member-0" / "checkpoint.pt")
        )
        parameters = [key for key in before if "running" not in key and "batches" not in key]
        assert len(parameters) > 20
        for key in parameters:
            assert torch.equal(before[key], after[key]), (name, key)


def test_training_begins_with_no_network_that_saw_the_folds_kept_apart(
    answered, small_archive, tmp_path
):
    checkpoint = answered[0] / "folds-2-3" / "member-0" / "checkpoint.pt"
    config = replace(CONFIG, calibration_folds=(0,))
    with pytest.raises(ConfigError, match=r"no network to start from fits.*folds \[0\]"):
        run_experiment(small_archive, config, tmp_path, version="1", start=[checkpoint])


def test_members_begin_with_networks_in_turn_and_the_manifest_names_them(
    answered, small_archive, tmp_path
):
    paths = [
        answered[0] / f"folds-{n}" / "member-0" / "checkpoint.pt" for n in ("2-3", "0-1", "2-3")
    ]
    config = replace(CONFIG, epochs=1, learning_rate=0.0, members=2, calibration_folds=(2, 3))
    further = load_answers(answered[0])
    run_experiment(small_archive, config, tmp_path, version="1", start=paths, further=further)
    begun = read_model(tmp_path / "model").provenance["began_with"]
    assert [one["folds_apart"] for one in begun] == [[2, 3], [2, 3]]
    assert begun[0]["sha256"] == hashlib.sha256(paths[0].read_bytes()).hexdigest()
    with pytest.raises(ConfigError, match="began with other weights"):
        run_experiment(small_archive, config, tmp_path, version="1", resume=True)


def test_folds_on_which_a_training_is_watched_were_not_trained_on(answered, small_archive):
    checkpoint = answered[0] / "folds-2-3" / "member-0" / "checkpoint.pt"
    watched = replace(CONFIG, calibration_folds=(2,), stopping_folds=(0,), patience=3)
    with pytest.raises(ConfigError, match=r"folds \[0\]"):
        starting_networks([checkpoint], watched)
    assert starting_networks([checkpoint], replace(watched, stopping_folds=(3,)))
    with pytest.raises(ConfigError, match="its network is"):
        starting_networks([checkpoint], replace(CONFIG, network=NO_MASK))
