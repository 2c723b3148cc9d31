"""What the gate lets through, what it keeps back, and why."""

from __future__ import annotations

import copy
import json
import re
from dataclasses import replace

import numpy as np
import pytest

from resmtnet.errors import InputError
from resmtnet.evaluation.bootstrap import BootstrapConfig
from resmtnet.retraining.candidate import FineTuned, recalibrate
from resmtnet.retraining.finetune import FineTuneConfig, fine_tune
from resmtnet.retraining.gate import judge, reference_seen_by_shipped
from resmtnet.retraining.linear_heads import LinearHeads, move_biases
from resmtnet.retraining.margins import Margins
from resmtnet.retraining.noninferiority import MEASURES, Loss
from resmtnet.retraining.reading_check import Limits
from resmtnet.retraining.samples import Sample, split_by_patient
from resmtnet.retraining.verdict import Comparison, JudgedOn, Rule, Verdict, describe_loss

QUICK = FineTuneConfig(epochs=25)
MARGINS = Margins(
    bootstrap=BootstrapConfig(resamples=300, confidence=0.9),
    strict=BootstrapConfig(resamples=300, confidence=0.99),
)
SHORT = FineTuneConfig(epochs=5)
"""Where the readings decide, and not what was learnt from them."""


def scaled(reading, factor):
    sizes = {k: v * factor ** (3 if k.endswith("mm3") else 1) for k, v in reading.sizes.items()}
    return replace(reading, sizes=sizes)


def candidate_of(world, samples, config=SHORT) -> tuple[FineTuned, list[Sample]]:
    """A candidate trained on most of the samples, and those held out."""
    train, out = split_by_patient(samples, 0.3)
    return recalibrate(fine_tune(world.model, train, config)), out


@pytest.fixture(scope="module")
def right(world) -> tuple[FineTuned, list[Sample]]:
    """A candidate trained on right readings, and the samples held out."""
    return candidate_of(world, world.samples(), QUICK)


@pytest.fixture(scope="module")
def published(world, right) -> Verdict:
    return judge(right[0], world.model, world.model, world.reference, right[1], MARGINS)


@pytest.fixture(scope="module")
def verdict_on(world, rightly, right):
    """Judges what readers say by a rule that changes right readings; None: right ones."""

    def judged(change=None, margins=MARGINS, count=None) -> Verdict:
        rng = np.random.default_rng(0)
        candidate, out = right
        if change is not None or count is not None:
            rule = change or (lambda _, readings: readings)
            samples = world.samples(lambda one: rule(rng, rightly(one)), count)
            candidate, out = candidate_of(world, samples)
        return judge(candidate, world.model, world.model, world.reference, out, margins)

    return judged


def test_right_corrections_are_published(published):
    assert published.published
    assert not published.insufficient
    assert published.reason.startswith(
        "Published: not worse than the current and the shipped model on the reference set."
    )


def test_flipped_labels_are_kept_back(verdict_on):
    verdict = verdict_on(lambda _, said: [replace(r, malignancy=6 - r.malignancy) for r in said])
    assert not verdict.published
    assert "labels swapped" in verdict.reason


def test_sizes_of_another_unit_are_kept_back(verdict_on):
    verdict = verdict_on(lambda _, said: [scaled(r, 3.0) for r in said])
    assert not verdict.published
    assert "differ too much from the masks" in verdict.reason


@pytest.mark.parametrize("named", ["long_axis_mm", "mean_diameter_mm"])
def test_axes_of_another_unit_are_kept_back_though_volumes_are_right(verdict_on, named):
    def change(_, said):
        axes = [{named: 3.0 * r.sizes["long_axis_mm"]} for r in said]
        volumes = [{"volume_mm3": r.sizes["volume_mm3"]} for r in said]
        return [replace(r, sizes=v | a) for r, v, a in zip(said, volumes, axes, strict=True)]

    verdict = verdict_on(change)
    assert not verdict.published
    assert "differ too much from the masks" in verdict.reason


def test_sizes_of_other_nodules_are_kept_back(verdict_on):
    verdict = verdict_on(lambda rng, said: [scaled(r, rng.lognormal(0, 0.8)) for r in said])
    assert not verdict.published
    assert "are unrelated to the masks" in verdict.reason


def test_reader_who_oversizes_among_others_is_named(verdict_on):
    verdict = verdict_on(lambda _, said: [scaled(said[0], 1.2), *said[1:]])
    assert not verdict.published
    assert "reader A measures other sizes" in verdict.reason
    assert "reader B" not in verdict.reason


def test_careless_reader_among_others_is_named(verdict_on):
    def careless(rng, said):
        return [replace(said[0], malignancy=int(rng.integers(1, 6))), *said[1:]]

    verdict = verdict_on(careless)
    assert not verdict.published
    assert "the malignancy ratings of reader A are unrelated" in verdict.reason


def test_reader_who_says_the_same_of_all_is_named(verdict_on):
    verdict = verdict_on(lambda _, said: [replace(said[0], malignancy=3), *said[1:]])
    assert "the malignancy ratings of reader A are unrelated" in verdict.reason


def test_few_held_out_patients_are_insufficient_evidence(verdict_on):
    verdict = verdict_on(count=24)
    assert verdict.insufficient
    assert not verdict.published
    assert re.fullmatch(
        r"Not published: \d held-out patients have readings, 10 are needed\. "
        r"The current model stays\. Read nodules of more patients; a fifth of the patients is "
        r"held out\.",
        verdict.reason,
    )


def test_small_reference_set_is_insufficient_evidence(verdict_on):
    verdict = verdict_on(margins=replace(MARGINS, least_reference_patients=500))
    assert verdict.insufficient
    assert "80 patients, 500 are needed" in verdict.reason


@pytest.fixture(scope="module")
def worse(right):
    """A candidate whose scores are too high by nearly a level."""
    found, out = right
    moved = found.heads.moved({"malignancy": 0.8 * np.arange(-2, 3)})
    return replace(found, heads=moved), out


def test_candidate_that_lost_on_the_reference_set_is_kept_back(world, worse):
    candidate, out = worse
    verdict = judge(candidate, world.model, world.model, world.reference, out, MARGINS)
    assert not verdict.published
    assert "error of the malignancy score" in verdict.reason
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
    count = f"{len(silent)} of {len(world.reference)} reference nodules"
    assert verdict.reason.startswith(f"Not published: {count} no longer get a size; ")
    assert verdict.reason.count("no longer get a size") == 1


def test_another_reference_set_than_the_shipped_one_is_refused_in_one_line(world, worse, tmp_path):
    candidate, _ = worse
    candidate.write(tmp_path / "parent", "2")
    other = replace(world.reference[0], case=replace(world.reference[0].case, id="another"))
    with pytest.raises(InputError, match="nodule another of the reference set is missing"):
        reference_seen_by_shipped(replace(world.model, folder=tmp_path / "parent"), [other])


def test_candidate_no_worse_than_its_parent_but_than_the_shipped_version_is_kept_back(world, worse):
    candidate, out = worse
    biases = {"malignancy": 0.8 * np.arange(-2, 3)}
    parent = replace(world.model, networks=tuple(_moved(n, biases) for n in world.model.networks))
    own, calibration = LinearHeads.of(parent.networks), world.model.calibration
    candidate = replace(candidate, heads=own, calibration=calibration)
    verdict = judge(candidate, parent, world.model, world.reference, out, MARGINS)
    assert not verdict.published
    assert "against the shipped model" in verdict.reason
    assert "against the current model" not in verdict.reason


def _moved(network, biases):
    other = copy.deepcopy(network)
    other.load_state_dict(move_biases(network.state_dict(), biases))
    return other


@pytest.mark.parametrize("measure", MEASURES, ids=lambda measure: measure.name)
def test_every_measure_has_a_margin_that_decides(published, measure):
    named = {"axis_error": "size_error", "axis_coverage": "size_coverage"}
    tight = replace(MARGINS, **{named.get(measure.name, measure.name): -1.0})

    def refused(margins: Margins) -> set[str]:
        pairs = ((c, loss) for c in published.comparisons for loss in c.losses)
        return {loss.measure.name for c, loss in pairs if c.refuses(loss, margins)}

    assert refused(MARGINS) == set()
    assert measure.name in refused(tight)
    assert tight.by_measure[measure] == -1.0


def test_a_margin_that_is_exceeded_keeps_a_candidate_back(verdict_on):
    verdict = verdict_on(margins=replace(MARGINS, axis_bias=-1.0))
    assert not verdict.published
    assert "bias of the log long axis" in verdict.reason


def loss_of(value: float, low: float, high: float) -> Loss:
    return Loss(MEASURES[2], 100, 0.5 + value, 0.5, value, low, high)


@pytest.mark.parametrize(
    ("rule", "interval", "refused"),
    [
        (Rule.NON_INFERIOR, (0.00, -0.02, 0.02), False),
        (Rule.NON_INFERIOR, (0.00, -0.04, 0.04), True),
        (Rule.NON_INFERIOR, (0.00, np.nan, np.nan), True),
        (Rule.NO_SHOWN_LOSS, (0.05, -0.40, 0.40), False),
        (Rule.NO_SHOWN_LOSS, (0.05, 0.04, 0.06), False),
        (Rule.NO_SHOWN_LOSS, (0.07, 0.04, 0.10), True),
        (Rule.NO_SHOWN_LOSS, (0.07, np.nan, np.nan), False),
    ],
)
@pytest.mark.parametrize("population", list(JudgedOn))
def test_the_rule_of_a_comparison_decides_and_not_its_name(rule, interval, refused, population):
    loss = loss_of(*interval)  # of the malignancy score, whose margin is 0.03
    comparison = Comparison(population, None, "parent", rule, (loss,))
    assert comparison.refuses(loss, Margins()) == refused


@pytest.mark.parametrize(
    ("rule", "told"), [(Rule.NON_INFERIOR, "allowed 0.03)"), (Rule.NO_SHOWN_LOSS, "allowed 0.06)")]
)
def test_the_reason_names_the_limit_that_was_exceeded(rule, told):
    loss = loss_of(0.07, 0.04, 0.10)
    comparison = Comparison(JudgedOn.REFERENCE, "solid", "parent", rule, (loss,))
    assert told in describe_loss(comparison, loss, Margins())


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
    pairs = ((c, loss) for c in verdict.comparisons for loss in c.losses)
    assert not any(comparison.refuses(loss, relaxed) for comparison, loss in pairs)


@pytest.mark.parametrize(
    "limits",
    [{"auc_drop": -1.0}, {"size_ratio": 0.5}, {"size_spread": 0.0}, {"reader_agreement": 1.1}],
    ids=lambda limits: next(iter(limits)),
)
def test_every_limit_decides(verdict_on, limits):
    assert not verdict_on(margins=replace(MARGINS, limits=Limits(**limits))).published


@pytest.fixture(scope="module")
def with_another_reader(world, rightly) -> tuple[FineTuned, list[Sample]]:
    """Reader A measures a little larger than the others, and rates a level higher."""

    def rule(one):
        first, *others = rightly(one)
        return [replace(scaled(first, 1.06), malignancy=min(5, first.malignancy + 1)), *others]

    return candidate_of(world, world.samples(rule))


@pytest.mark.parametrize("name", ["reader_size_ratio", "reader_rating"])
def test_limits_of_readers_decide(world, with_another_reader, name):
    candidate, out = with_another_reader
    loose = Limits(reader_size_ratio=2.0, reader_rating=4.0)
    tight = replace(loose, **{name: {"reader_size_ratio": 1.01, "reader_rating": 0.3}[name]})

    def reason(limits: Limits) -> str:
        margins = replace(MARGINS, score_mae=1, limits=limits)
        return judge(candidate, world.model, world.model, world.reference, out, margins).reason

    assert "reader A" not in reason(loose)
    assert "reader A" in reason(tight)


def test_the_shipped_version_judges_readings_that_the_parent_was_trained_on(world, rightly):
    """The parent has another feature extractor, and has learnt from flipped labels."""
    networks = []
    for network in world.model.networks:
        other, state = copy.deepcopy(network), network.state_dict()
        other.load_state_dict({**state, "stem.0.weight": state["stem.0.weight"] + 1.0})
        networks.append(other)
    assert LinearHeads.of(networks).trunk != LinearHeads.of(world.model.networks).trunk
    usual = world.model.calibration
    swapped = {name: -slope for name, slope in usual.class_slopes.items()}
    calibration = replace(usual, class_slopes=swapped, class_intercept=-usual.class_intercept)
    parent = replace(world.model, networks=tuple(networks), calibration=calibration)
    train, out = split_by_patient(
        world.samples(lambda one: [replace(r, malignancy=6 - r.malignancy) for r in rightly(one)]),
        0.3,
    )
    candidate = recalibrate(fine_tune(parent, train, SHORT))
    shipped_saw = [s.held for s in (*train, *out)]
    verdict = judge(candidate, parent, world.model, world.reference, out, MARGINS, shipped_saw)
    assert "labels swapped" in verdict.reason


def test_new_readings_are_looked_at_by_themselves(world, rightly):
    """A few flipped ones hide among many right ones that the parent was trained on."""
    flipped = {h.case.id for h in world.site[-24:]}

    def rule(one):
        wrong = one.case.id in flipped
        return [replace(r, malignancy=6 - r.malignancy) if wrong else r for r in rightly(one)]

    samples = world.samples(rule)
    candidate, out = candidate_of(world, samples)
    right = [
        i for s in samples if s.consensus.nodule not in flipped for i in s.consensus.reading_ids
    ]
    wide = replace(MARGINS, limits=Limits(auc_drop=0.3), class_auc=1, class_log_loss=9, score_mae=9)

    def judged(known: list[str]) -> Verdict:
        parent = replace(world.model, provenance={"readings": known})
        return judge(candidate, parent, world.model, world.reference, out, wide)

    assert "labels swapped" not in judged([]).reason
    verdict = judged(right)
    assert "labels swapped" in verdict.reason
    assert any(check.what.startswith("new readings, ") for check in verdict.readings)


def test_verdict_is_plain_json(published):
    document = json.loads(json.dumps(published.to_json()))
    assert document["outcome"] == "published"
    assert set(document["compared"]["reference, against shipped"]["class_auc"]) >= {
        "candidate", "other", "value", "low", "high", "nodules",
    }  # fmt: skip
    assert any(row["what"].startswith("reader A") for row in document["readings"])
