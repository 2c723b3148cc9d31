"""What the gate lets through, what it keeps back, and why."""

from __future__ import annotations

import copy
import json
from dataclasses import replace

import numpy as np
import pytest

from resmtnet.errors import InputError
from resmtnet.evaluation.bootstrap import BootstrapConfig
from resmtnet.inference.site_habit import SiteHabit
from resmtnet.retraining.candidate import FineTuned, recalibrate
from resmtnet.retraining.compared_nodules import Predictions
from resmtnet.retraining.cross_fit import cross_fitted
from resmtnet.retraining.finetune import FineTuneConfig, fine_tune
from resmtnet.retraining.gate import (
    Reference,
    Site,
    check_readings,
    judge,
    reference_seen_by_shipped,
)
from resmtnet.retraining.linear_heads import LinearHeads, move_biases
from resmtnet.retraining.margins import Margins
from resmtnet.retraining.noninferiority import DICE, KNOWLEDGE, MEASURES, SCORE_MAE, Loss
from resmtnet.retraining.reading_check import Check, Limits
from resmtnet.retraining.reading_checks import complaints
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


def train(world, parent=None, config=SHORT):
    """Makes versions from samples."""

    def make(samples) -> FineTuned:
        return recalibrate(fine_tune(parent or world.model, samples, config))

    return make


@pytest.fixture(scope="module")
def known(world) -> Reference:
    return Reference.of(world.model, world.model, world.reference)


@pytest.fixture(scope="module")
def right(world) -> tuple[FineTuned, Predictions, Site]:
    """A candidate trained on right readings, and what others like it say of the readings."""
    site, make = Site.of(world.samples(), world.model, world.model), train(world, config=QUICK)
    return make(site.samples), cross_fitted(train(world), site.samples, site.nodules, 2), site


@pytest.fixture(scope="module")
def published(known, right) -> Verdict:
    return judge(*right, known, MARGINS)


@pytest.fixture(scope="module")
def complaints_of(world, rightly, known):
    """Checks what readers say by a rule that changes right readings; None: right ones."""

    def checked(change=None, margins=MARGINS, count=None) -> str:
        rng, rule = np.random.default_rng(0), change or (lambda _, readings: readings)
        samples = world.samples(lambda one: rule(rng, rightly(one)), count)
        site = Site.of(samples, world.model, world.model)
        return "; ".join(complaints(check_readings(site, known, set(), margins)))

    return checked


def test_right_corrections_are_published(published):
    assert published.published
    assert not published.insufficient


def test_right_corrections_are_not_complained_of(complaints_of):
    assert complaints_of() == ""


def test_flipped_labels_are_kept_back(complaints_of):
    told = complaints_of(lambda _, said: [replace(r, malignancy=6 - r.malignancy) for r in said])
    assert "labels swapped" in told


def test_labels_of_which_a_quarter_is_flipped_are_kept_back(complaints_of):
    """All readers of a nodule swap its class, so that they agree with one another."""

    def change(rng, said):
        wrong = rng.random() < 0.25
        return [replace(r, malignancy=6 - r.malignancy) if wrong else r for r in said]

    assert "swapped now and then" in complaints_of(change)


def test_classes_at_random_of_the_only_reader_are_kept_back(complaints_of):
    def change(rng, said):
        name = ("benign", "malignant")[int(rng.integers(2))]
        return [replace(said[0], malignancy=None, class_name=name)]

    assert "reader A are unrelated" in complaints_of(change)


@pytest.mark.parametrize("by", [1, -1], ids=["severe", "lenient"])
def test_a_habit_is_not_complained_of(complaints_of, by):
    def change(_, said):
        return [replace(r, malignancy=int(np.clip(r.malignancy + by, 1, 5))) for r in said]

    assert complaints_of(change) == ""


def test_a_severe_and_a_lenient_reader_of_the_same_nodules_are_not_complained_of(complaints_of):
    by = {"A": 1, "B": -1}

    def change(_, said):
        return [
            replace(r, malignancy=int(np.clip(r.malignancy + by.get(r.reader, 0), 1, 5)))
            for r in said
        ]

    assert complaints_of(change) == ""


def test_a_habit_of_size_is_not_complained_of(complaints_of):
    assert complaints_of(lambda _, said: [scaled(r, 1.15) for r in said]) == ""


def test_few_readings_must_show_that_they_are_not_swapped(complaints_of):
    """With fewer patients more evidence is asked for, and it says so."""
    strict = replace(MARGINS, limits=Limits(backwards_evidence_of_few=-1000.0))
    assert "read nodules of more patients" in complaints_of(margins=strict, count=30)
    assert complaints_of(margins=strict) == ""


def test_sizes_of_another_unit_are_kept_back(complaints_of):
    told = complaints_of(lambda _, said: [scaled(r, 3.0) for r in said])
    assert "differ too much from the masks" in told


@pytest.mark.parametrize("named", ["long_axis_mm", "mean_diameter_mm"])
def test_axes_of_another_unit_are_kept_back_though_volumes_are_right(complaints_of, named):
    def change(_, said):
        axes = [{named: 3.0 * r.sizes["long_axis_mm"]} for r in said]
        volumes = [{"volume_mm3": r.sizes["volume_mm3"]} for r in said]
        return [replace(r, sizes=v | a) for r, v, a in zip(said, volumes, axes, strict=True)]

    told = complaints_of(change)
    assert "differ too much from the masks" in told


def test_sizes_of_other_nodules_are_kept_back(complaints_of):
    told = complaints_of(lambda rng, said: [scaled(r, rng.lognormal(0, 0.8)) for r in said])
    assert "are unrelated to the masks" in told


def test_reader_who_oversizes_among_others_is_named(complaints_of):
    told = complaints_of(lambda _, said: [scaled(said[0], 1.2), *said[1:]])
    assert "reader A measures other sizes" in told
    assert "reader B" not in told


def test_careless_reader_among_others_is_named(complaints_of):
    def careless(rng, said):
        return [replace(said[0], malignancy=int(rng.integers(1, 6))), *said[1:]]

    told = complaints_of(careless)
    assert "the malignancy ratings of reader A are unrelated" in told


def test_reader_who_says_the_same_of_all_is_named(complaints_of):
    told = complaints_of(lambda _, said: [replace(said[0], malignancy=3), *said[1:]])
    assert "the malignancy ratings of reader A are unrelated" in told


def test_small_reference_set_is_insufficient_evidence(known, right):
    verdict = judge(*right, known, replace(MARGINS, least_reference_patients=500))
    assert verdict.insufficient
    assert "80 patients, 500 are needed" in verdict.reason


@pytest.fixture(scope="module")
def worse(right) -> tuple[FineTuned, Predictions, Site]:
    """A candidate whose scores are too high by nearly a level, without any habit."""
    found, crossed, site = right
    moved = found.heads.moved({"malignancy": 0.8 * np.arange(-2, 3)})
    return replace(found, heads=moved), crossed, site


def test_candidate_that_lost_on_the_reference_set_is_kept_back(known, worse):
    verdict = judge(*worse, known, MARGINS)
    assert not verdict.published
    assert "error of the malignancy score" in verdict.reason
    assert "allowed 0.06" in verdict.reason


def test_candidate_that_ranks_nodules_worse_is_kept_back(world, known, right):
    candidate, crossed, site = right
    rng = np.random.default_rng(0)
    layer = candidate.heads.layers["malignancy"]
    noisy = replace(layer, weight=layer.weight + rng.normal(0, 0.5, layer.weight.shape))
    heads = replace(candidate.heads, layers={**candidate.heads.layers, "malignancy": noisy})
    verdict = judge(replace(candidate, heads=heads), crossed, site, known, MARGINS)
    assert "concordance of the malignancy score" in verdict.reason


def test_a_habit_alone_changes_no_ranking_and_is_judged_on_the_sites_readings(known, right):
    """However far from the readers of the reference set it is."""
    candidate, crossed, site = right
    habit = SiteHabit(score_tilt=1.0, class_shift=2.0, size_shift=0.1, nodules=9, patients=9)
    moved = replace(candidate, calibration=replace(candidate.calibration, habit=habit))
    assert judge(moved, crossed, site, known, MARGINS).published
    held = moved.answer_all(known.held)
    usual, said = (
        Predictions.of(known.nodules, held, calibration)
        for calibration in (moved.calibration.without_habit(), moved.calibration)
    )
    assert said.score.mean() > usual.score.mean() + 0.5
    between = (usual.probability > 0.002) & (usual.probability < 0.998)  # ends are clipped
    order = usual.probability[between].argsort()
    assert np.diff(said.probability[between][order]).min() >= 0
    wrong = judge(moved, said_of(moved, site), site, known, MARGINS)
    assert not wrong.published
    assert "on the site's readings of other patients" in wrong.reason


def said_of(candidate: FineTuned, site: Site) -> Predictions:
    held = candidate.answer_all([s.held for s in site.samples])
    return Predictions.of(site.nodules, held, candidate.calibration)


def test_candidate_that_says_nothing_any_more_is_kept_back(world, known, worse):
    candidate, crossed, site = worse
    silent = {
        h.case.id: replace(h, masks={}, no_nodule="nothing there") for h in world.reference[::8]
    }

    class Silent(type(candidate)):
        def answer_all(self, held):
            return [silent.get(h.case.id, h) for h in super().answer_all(held)]

    quiet = Silent(**{**vars(candidate), "heads": LinearHeads.of(world.model.networks)})
    verdict = judge(quiet, crossed, site, known, MARGINS)
    assert not verdict.published
    count = f"{len(silent)} of {len(world.reference)} reference nodules"
    assert verdict.reason.startswith(f"Not published: {count} no longer get a size; ")
    assert verdict.reason.count("no longer get a size") == 1


def test_another_reference_set_than_the_shipped_one_is_refused_in_one_line(world, worse, tmp_path):
    worse[0].write(tmp_path / "parent", "2")
    other = replace(world.reference[0], case=replace(world.reference[0].case, id="another"))
    with pytest.raises(InputError, match="nodule another of the reference set is missing"):
        reference_seen_by_shipped(replace(world.model, folder=tmp_path / "parent"), [other])


def test_candidate_no_worse_than_its_parent_but_than_the_shipped_version_is_kept_back(world, worse):
    candidate, crossed, site = worse
    biases = {"malignancy": 0.8 * np.arange(-2, 3)}
    parent = replace(
        world.model,
        networks=tuple(_moved(n, biases) for n in world.model.networks),
        info=replace(world.model.info, version="2"),
    )
    own, calibration = LinearHeads.of(parent.networks), world.model.calibration
    candidate = replace(candidate, heads=own, calibration=calibration)
    reference = Reference.of(parent, world.model, world.reference)
    verdict = judge(candidate, crossed, site, reference, MARGINS)
    assert not verdict.published
    assert "against the shipped model" in verdict.reason
    assert "against the current model" not in verdict.reason


def _moved(network, biases):
    other = copy.deepcopy(network)
    other.load_state_dict(move_biases(network.state_dict(), biases))
    return other


@pytest.mark.parametrize(
    "measure", [m for m in KNOWLEDGE if m is not DICE], ids=lambda measure: measure.name
)
def test_every_measure_has_a_margin_that_decides(published, measure):
    named = {
        "axis_error": "size_error",
        "axis_coverage": "size_coverage",
        "axis_spread": "size_spread",
    }
    tight = replace(MARGINS, **{named.get(measure.name, measure.name): -1.0})

    def refused(margins: Margins) -> set[str]:
        pairs = ((c, loss) for c in published.comparisons for loss in c.losses)
        return {loss.measure.name for c, loss in pairs if c.refuses(loss, margins)}

    assert refused(MARGINS) == set()
    assert measure.name in refused(tight)
    assert tight.by_measure[measure] == -1.0


def test_every_measure_has_a_margin():
    assert set(MARGINS.by_measure) == set(MEASURES)


def test_a_margin_that_is_exceeded_keeps_a_candidate_back(known, right):
    verdict = judge(*right, known, replace(MARGINS, axis_bias=-1.0))
    assert not verdict.published
    assert "bias of the log long axis" in verdict.reason


def loss_of(value: float, low: float, high: float) -> Loss:
    return Loss(SCORE_MAE, 100, 0.5 + value, 0.5, value, low, high)


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


def test_stratum_alone_can_keep_a_candidate_back(known, worse):
    wide = {
        name: 9.0
        for name in vars(MARGINS)
        if isinstance(getattr(MARGINS, name), float) and name != "stratum_factor"
    }
    verdict = judge(*worse, known, replace(MARGINS, **wide, stratum_factor=0.001))
    assert not verdict.published
    assert "solid" in verdict.reason
    relaxed = replace(MARGINS, **wide, stratum_factor=2.0)
    pairs = ((c, loss) for c in verdict.comparisons for loss in c.losses)
    assert not any(comparison.refuses(loss, relaxed) for comparison, loss in pairs)


@pytest.mark.parametrize(
    "limits",
    [
        {"auc_drop": -1.0},
        {"size_ratio": 0.5},
        {"size_spread": 0.0},
        {"unrelated": -1e4},
        {"backwards_evidence": -1e4},
    ],
    ids=lambda limits: next(iter(limits)),
)
def test_every_limit_decides(complaints_of, limits):
    assert complaints_of(margins=replace(MARGINS, limits=Limits(**limits)))


@pytest.mark.parametrize("name", ["reader_size_ratio", "reader_rating"])
def test_limits_of_readers_decide(complaints_of, name):
    def change(_, said):
        first, *others = said
        return [replace(scaled(first, 1.06), malignancy=min(5, first.malignancy + 1)), *others]

    loose = Limits(reader_size_ratio=2.0, reader_rating=4.0)
    tight = replace(loose, **{name: {"reader_size_ratio": 1.01, "reader_rating": 0.3}[name]})
    assert "reader A" not in complaints_of(change, replace(MARGINS, limits=loose))
    assert "reader A" in complaints_of(change, replace(MARGINS, limits=tight))


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
    info = replace(world.model.info, version="2")
    parent = replace(world.model, info=info, networks=tuple(networks), calibration=calibration)
    samples = world.samples(
        lambda one: [replace(r, malignancy=6 - r.malignancy) for r in rightly(one)]
    )
    with pytest.raises(InputError, match="The shipped model saw 0 of"):
        Site.of(samples, parent, world.model)
    site = Site.of(samples, parent, world.model, [s.held for s in samples])
    reference = Reference.of(parent, world.model, world.reference)
    found = complaints(check_readings(site, reference, set(), MARGINS))
    assert any("labels swapped" in told for told in found)


def test_new_readings_are_looked_at_by_themselves(world, rightly, known):
    """A few flipped ones hide among many right ones that the parent was trained on."""
    flipped = {h.case.id for h in world.site[-24:]}

    def rule(one):
        wrong = one.case.id in flipped
        return [replace(r, malignancy=6 - r.malignancy) if wrong else r for r in rightly(one)]

    samples = world.samples(rule)
    site = Site.of(samples, world.model, world.model)
    right = {
        i for s in samples if s.consensus.nodule not in flipped for i in s.consensus.reading_ids
    }
    limits = Limits(auc_drop=0.3, backwards_evidence=1e4)

    def checked(ids: set[str]) -> list[Check]:
        return check_readings(site, known, ids, replace(MARGINS, limits=limits))

    assert not any("labels swapped" in c.complaint for c in checked(set()))
    found = checked(right)
    assert any("labels swapped" in c.complaint for c in found)
    assert any(check.what.startswith("new readings, ") for check in found)


def test_few_new_readings_of_a_site_with_many_need_not_show_that_they_are_right(
    world, rightly, known
):
    """They are refused only if they are shown to be wrong."""
    few = {h.case.id for h in world.site[-24:]}

    def complaints_with(rule, **limits) -> str:
        samples = world.samples(rule)
        site = Site.of(samples, world.model, world.model)
        old = {i for s in samples if s.consensus.nodule not in few for i in s.consensus.reading_ids}
        margins = replace(MARGINS, limits=Limits(backwards_evidence_of_few=-1e4, **limits))
        return "; ".join(complaints(check_readings(site, known, old, margins)))

    assert complaints_with(rightly) == ""
    assert "swapped" in complaints_with(rightly, backwards_evidence_of_new=-1e4)


def test_verdict_is_plain_json(published):
    document = json.loads(json.dumps(published.to_json()))
    assert document["outcome"] == "published"
    assert set(document["compared"]["reference, against parent"]["class_auc"]) >= {
        "candidate", "other", "value", "low", "high", "nodules",
    }  # fmt: skip
