"""The Brock risk of a finding: from what the user tells, and from nothing else."""

from dataclasses import replace

import pytest

from made_findings import make_finding, small_grid
from resmtnet.errors import InputError
from resmtnet.findings import Characteristic, Finding, Size, Uncertainty
from resmtnet.inference.brock import BrockInputs, with_brock
from resmtnet.inference.postprocessing import PROBABLY_NOT

MAN = {
    "age": 62,
    "sex": "male",
    "family_history": False,
    "emphysema": False,
    "nodule_count": 1,
    "upper_lobe": False,
}


@pytest.fixture
def finding() -> Finding:
    solid = Characteristic("solid", 4.9, {"non-solid": 0.0, "part-solid": 0.1, "solid": 0.9})
    return make_finding(
        small_grid(),
        (12, 10, 6),
        size=Size(long_axis_mm=10.0, interval_90={"long_axis_mm": (8.0, 12.0)}),
        characteristics={"texture": solid},
    )


def brock(finding: Finding, **told):
    (found,) = with_brock([finding], BrockInputs.parse(told))
    return found.to_json()["risk"]["brock"]


def test_without_what_the_user_tells_there_is_no_risk(finding):
    (found,) = with_brock([finding], None)
    assert found.to_json()["risk"] is None


def test_the_risk_of_the_model_with_spiculation_needs_the_users_word(finding):
    assert brock(finding, **MAN)["with_spiculation"] is None
    told = brock(finding, **MAN, spiculation=False)
    assert told["with_spiculation"]["probability"] == pytest.approx(0.032, abs=5e-4)
    assert told["without_spiculation"] == brock(finding, **MAN)["without_spiculation"]


def test_the_interval_is_that_of_the_size(finding):
    told = brock(finding, **MAN)["without_spiculation"]
    low, high = told["interval_90_of_size"]
    smaller = replace(finding, size=Size(long_axis_mm=8.0))
    assert brock(smaller, **MAN)["without_spiculation"]["probability"] == low
    assert low < told["probability"] < high


@pytest.mark.parametrize("name", list(MAN))
def test_a_missing_input_gives_null_and_is_named(finding, name):
    told = brock(finding, **{**MAN, name: None})
    assert told["without_spiculation"] is None
    assert told["notes"] == [f"not told: {name}"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"source": "candidate"}, "candidate"),
        ({"warnings": (PROBABLY_NOT,)}, "not a nodule"),
        ({"uncertainty": Uncertainty(0.1, 0.1, 1.2)}, "unlike"),
        ({"size": Size()}, "size or the texture"),
        ({"characteristics": {}}, "size or the texture"),
    ],
)
def test_what_may_be_no_nodule_gets_no_risk(finding, change, reason):
    told = brock(replace(finding, **change), **MAN)
    assert told["without_spiculation"] is None
    assert reason in told["notes"][0]


def test_the_risk_changes_nothing_of_what_readers_would_say(finding):
    plain, told = finding.to_json(), with_brock([finding], BrockInputs.parse(MAN))[0].to_json()
    assert {**told, "risk": None} == plain


def test_each_nodule_has_its_own_lobe(finding):
    inputs = BrockInputs.parse({**MAN, "upper_lobe": [True, False]})
    upper, lower = (f.risk["brock"] for f in with_brock([finding, finding], inputs))
    assert upper["without_spiculation"]["probability"] > lower["without_spiculation"]["probability"]
    with pytest.raises(InputError, match="2 entries for 1 nodules"):
        with_brock([finding], inputs)


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ({"age": 7}, "age is 7"),
        ({"age": "62"}, "age is '62'"),
        ({"age": True}, "age is True"),
        ({"sex": "m"}, "allowed: female, male"),
        ({"emphysema": 1}, "emphysema is 1"),
        ({"nodule_count": 1.5}, "nodule_count is 1.5"),
        ({"upper_lobe": ["yes"]}, "upper_lobe"),
        ({"smoker": True}, "no field 'smoker'"),
    ],
)
def test_a_wrong_input_is_refused_by_name(told, message):
    with pytest.raises(InputError, match=message):
        BrockInputs.parse(told)
