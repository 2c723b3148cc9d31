"""What the gate lets through, what it keeps back, and why."""

from __future__ import annotations

import copy
import json
from dataclasses import replace

import numpy as np
import pytest

from resmtnet.errors import InputError
from resmtnet.retraining.finetune import FineTuneConfig, fine_tune
from resmtnet.retraining.gate import Margins, Verdict, judge, shipped_sight
from resmtnet.retraining.linear_heads import LinearHeads, move_biases
from resmtnet.retraining.reading_checks import Limits
from resmtnet.retraining.samples import split_by_patient

QUICK = FineTuneConfig(epochs=25)
MARGINS = Margins(limits=Limits(least_nodules=10))


def scaled(reading, factor):
    sizes = {k: v * factor ** (3 if k.endswith("mm3") else 1) for k, v in reading.sizes.items()}
    return replace(reading, sizes=sizes)


@pytest.fixture(scope="module")
def verdict_on(world, rightly):
    """Judges what readers say by a rule that changes right readings."""

    def judged(change=lambda one, readings: readings, margins=MARGINS, count=None) -> Verdict:
        rng = np.random.default_rng(0)
        samples = world.samples(lambda one: change(rng, rightly(one)), count)
        train, out = split_by_patient(samples, 0.3)
        candidate = fine_tune(world.model, train, QUICK)
        assert candidate
        return judge(candidate, world.model, world.model, world.reference, out, margins)

    return judged


def test_right_corrections_are_published(verdict_on):
    verdict = verdict_on()
    assert verdict.published
    assert not verdict.insufficient
    assert "not worse on the reference set" in verdict.reason


def test_flipped_labels_are_kept_back(verdict_on):
    verdict = verdict_on(lambda _, said: [replace(r, malignancy=6 - r.malignancy) for r in said])
    assert not verdict.published
    assert "labels swapped" in verdict.reason


def test_sizes_of_another_unit_are_kept_back(verdict_on):
    verdict = verdict_on(lambda _, said: [scaled(r, 3.0) for r in said])
    assert not verdict.published
    assert "another order" in verdict.reason


@pytest.mark.parametrize("named", ["long_axis_mm", "mean_diameter_mm"])
def test_axes_of_another_unit_are_kept_back_though_volumes_are_right(verdict_on, named):
    def change(_, said):
        axes = [{named: 3.0 * r.sizes["long_axis_mm"]} for r in said]
        volumes = [{"volume_mm3": r.sizes["volume_mm3"]} for r in said]
        return [replace(r, sizes=v | a) for r, v, a in zip(said, volumes, axes, strict=True)]

    verdict = verdict_on(change)
    assert not verdict.published
    assert "another order" in verdict.reason


def test_sizes_of_other_nodules_are_kept_back(verdict_on):
    verdict = verdict_on(lambda rng, said: [scaled(r, rng.lognormal(0, 0.8)) for r in said])
    assert not verdict.published
    assert "little to do with the masks" in verdict.reason


def test_reader_who_oversizes_among_others_is_named(verdict_on):
    verdict = verdict_on(lambda _, said: [scaled(said[0], 1.2), *said[1:]])
    assert not verdict.published
    assert "the sizes of reader A differ" in verdict.reason
    assert "reader B" not in verdict.reason


def test_careless_reader_among_others_is_named(verdict_on):
    def careless(rng, said):
        return [replace(said[0], malignancy=int(rng.integers(1, 6))), *said[1:]]

    verdict = verdict_on(careless)
    assert not verdict.published
    assert "the malignancy of reader A has nothing to do" in verdict.reason


def test_reader_who_says_the_same_of_all_is_named(verdict_on):
    verdict = verdict_on(lambda _, said: [replace(said[0], malignancy=3), *said[1:]])
    assert "the malignancy of reader A has nothing to do" in verdict.reason


def test_few_held_out_patients_are_insufficient_evidence(verdict_on):
    verdict = verdict_on(count=24)
    assert verdict.insufficient
    assert not verdict.published
    assert verdict.reason.startswith("insufficient evidence, kept: readings of")


def test_small_reference_set_is_insufficient_evidence(verdict_on):
    verdict = verdict_on(margins=replace(MARGINS, least_reference_patients=500))
    assert verdict.insufficient
    assert "80 patients, 500 are needed" in verdict.reason


@pytest.fixture(scope="module")
def worse(world):
    """A candidate whose scores are too high by nearly a level."""
    train, out = split_by_patient(world.samples(), 0.3)
    found = fine_tune(world.model, train, QUICK)
    assert found
    moved = found.heads.moved({"malignancy": 0.8 * np.arange(-2, 3)})
    return replace(found, heads=moved), out


def test_candidate_that_lost_on_the_reference_set_is_kept_back(world, worse):
    candidate, out = worse
    verdict = judge(candidate, world.model, world.model, world.reference, out, MARGINS)
    assert not verdict.published
    assert "score_mae" in verdict.reason
    assert "allowed 0.03" in verdict.reason


def test_candidate_that_says_nothing_any_more_is_kept_back(world, worse):
    candidate, out = worse
    silent = {
        h.case.id: replace(h, masks={}, no_nodule="nothing there") for h in world.reference[::8]
    }

    class Silent(type(candidate)):
        def answer_all(self, held):
            return [silent.get(h.case.id, h) for h in super().answer_all(held)]

    quiet = Silent(**{**vars(candidate), "heads": LinearHeads.of(world.model.networks)})
    verdict = judge(quiet, world.model, world.model, world.reference, out, MARGINS)
    assert not verdict.published
    assert f"size_error: {len(silent)} of {len(world.reference)} nodules get none" in verdict.reason


def test_another_reference_set_than_the_shipped_one_is_refused_in_one_line(world, worse, tmp_path):
    candidate, _ = worse
    candidate.write(tmp_path / "parent", "2")
    other = replace(world.reference[0], case=replace(world.reference[0].case, id="another"))
    with pytest.raises(InputError, match="another is not in it"):
        shipped_sight(replace(world.model, folder=tmp_path / "parent"), [other])


def test_candidate_no_worse_than_its_parent_but_than_the_shipped_version_is_kept_back(world, worse):
    candidate, out = worse
    biases = {"malignancy": 0.8 * np.arange(-2, 3)}
    parent = replace(world.model, networks=tuple(_moved(n, biases) for n in world.model.networks))
    own, calibration = LinearHeads.of(parent.networks), world.model.calibration
    candidate = replace(candidate, heads=own, calibration=calibration)
    verdict = judge(candidate, parent, world.model, world.reference, out, MARGINS)
    assert not verdict.published
    assert "against shipped" in verdict.reason
    assert "against parent" not in verdict.reason


def _moved(network, biases):
    other = copy.deepcopy(network)
    other.load_state_dict(move_biases(network.state_dict(), biases))
    return other


@pytest.mark.parametrize(
    "name",
    ["class_auc", "class_log_loss", "score_mae", "score_coverage", "size_error", "size_bias",
     "size_coverage", "axis_bias"],
)  # fmt: skip
def test_every_margin_decides(verdict_on, name):
    assert verdict_on().published
    verdict = verdict_on(margins=replace(MARGINS, **{name: -1.0}))
    assert not verdict.published
    assert name in verdict.reason


def test_stratum_alone_can_keep_a_candidate_back(world, worse):
    candidate, out = worse
    wide = replace(
        MARGINS, class_auc=1, class_log_loss=9, score_mae=1, score_coverage=1, size_error=1,
        size_bias=1, size_coverage=1, axis_bias=1, stratum_factor=0.01,
    )  # fmt: skip
    verdict = judge(candidate, world.model, world.model, world.reference, out, wide)
    assert not verdict.published
    assert "solid" in verdict.reason
    relaxed = replace(wide, stratum_factor=2.0)
    assert judge(candidate, world.model, world.model, world.reference, out, relaxed).published


@pytest.mark.parametrize(
    "limits",
    [{"auc_drop": -1.0}, {"size_ratio": 0.5}, {"size_spread": 0.0}, {"reader_agreement": 1.1}],
    ids=lambda limits: next(iter(limits)),
)
def test_every_limit_decides(verdict_on, limits):
    assert not verdict_on(margins=replace(MARGINS, limits=Limits(**limits))).published


@pytest.mark.parametrize("name", ["reader_size_ratio", "reader_rating"])
def test_limits_of_readers_decide(verdict_on, name):
    def change(_, said):
        first = scaled(said[0], 1.06)
        return [replace(first, malignancy=min(5, first.malignancy + 1)), *said[1:]]

    tight = {"reader_size_ratio": 1.01, "reader_rating": 0.3}[name]
    loose = Limits(reader_size_ratio=2.0, reader_rating=4.0)
    tightened = replace(loose, **{name: tight})
    wide = replace(MARGINS, score_mae=1, limits=loose)
    assert "reader A" not in verdict_on(change, wide).reason
    assert "reader A" in verdict_on(change, replace(wide, limits=tightened)).reason


def test_new_readings_are_looked_at_by_themselves(world, rightly):
    """A few flipped ones hide among many right ones that the parent was trained on."""
    flipped = {h.case.id for h in world.site[-24:]}

    def rule(one):
        wrong = one.case.id in flipped
        return [replace(r, malignancy=6 - r.malignancy) if wrong else r for r in rightly(one)]

    samples = world.samples(rule)
    train, out = split_by_patient(samples, 0.3)
    candidate = fine_tune(world.model, train, QUICK)
    assert candidate
    right = [i for s in samples if s.said.nodule not in flipped for i in s.said.reading_ids]
    wide = replace(MARGINS, limits=Limits(auc_drop=0.3), class_auc=1, class_log_loss=9, score_mae=9)

    def judged(known: list[str]) -> Verdict:
        parent = replace(world.model, provenance={"readings": known})
        return judge(candidate, parent, world.model, world.reference, out, wide)

    assert "labels swapped" not in judged([]).reason
    verdict = judged(right)
    assert "labels swapped" in verdict.reason
    assert any(check.what.startswith("new readings, ") for check in verdict.readings)


def test_verdict_is_plain_json(verdict_on):
    document = json.loads(json.dumps(verdict_on().to_json()))
    assert document["outcome"] == "published"
    assert set(document["compared"]["reference, against shipped"]["class_auc"]) >= {
        "candidate", "other", "value", "low", "high", "nodules",
    }  # fmt: skip
    assert any(row["what"].startswith("reader A") for row in document["readings"])
