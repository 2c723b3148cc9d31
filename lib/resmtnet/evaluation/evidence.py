"""The input of an evaluation: predictions, and baselines that were fitted on other nodules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from resmtnet.errors import InputError
from resmtnet.evaluation.baselines import BaselineAnswers, Baselines, fit_baselines, joined
from resmtnet.evaluation.records import Answered

KEPT, CROSS_FITTED = "kept with the model", "fitted on the other files"


@dataclass(frozen=True, eq=False)
class Evidence:
    """Nodules with a model's answers and those of the baselines."""

    answered: Sequence[Answered]
    baseline: BaselineAnswers | None = None
    """In the order of the nodules; None: nothing to compare with."""
    fits: tuple[Baselines, ...] = ()
    """The constants behind them, one for each part of the nodules."""
    source: str = KEPT
    """Where the baselines come from: KEPT or CROSS_FITTED."""
    held_out: bool = False
    """The nodules were held out of the training of the models that answered, whatever their
    split says."""


def of_model(
    answered: Sequence[Answered], baselines: Baselines | None, *, held_out: bool = False
) -> Evidence:
    """Return the evidence of one model, with the baselines that it keeps of its training nodules.

    Args:
        answered: nodules with the model's answers.
        baselines: None leaves nothing to compare with.
        held_out: see Evidence.
    """
    if baselines is None:
        return Evidence(answered, held_out=held_out)
    answers = baselines.predict([case for case, _ in answered])
    return Evidence(answered, answers, (baselines,), held_out=held_out)


def out_of_fold(groups: Mapping[str, Sequence[Answered]]) -> Evidence:
    """Return the evidence of a cross-validation, with baselines fitted on the other groups.

    Args:
        groups: by name (of its file), the answers for each group of patients that was held out.

    Raises:
        InputError: a group is empty, a patient stands in two groups, or a nodule stands twice;
            or the other groups cannot be fitted.
    """
    _check_apart(groups)
    everything = [pair for answered in groups.values() for pair in answered]
    if len(groups) < 2:
        return Evidence(everything, source=CROSS_FITTED, held_out=True)
    fits, parts = [], []
    for name, answered in groups.items():
        others = [case for other in groups if other != name for case, _ in groups[other]]
        fits.append(fit_baselines(others))
        parts.append(fits[-1].predict([case for case, _ in answered]))
    return Evidence(everything, joined(parts), tuple(fits), CROSS_FITTED, held_out=True)


def _check_apart(groups: Mapping[str, Sequence[Answered]]) -> None:
    home: dict[str, str] = {}
    seen: set[str] = set()
    for name, answered in groups.items():
        if not answered:
            raise InputError(f"{name} holds no nodule; leave it out")
        for case, _ in answered:
            if home.setdefault(case.patient_id, name) != name:
                raise InputError(
                    f"patient {case.patient_id} is in {home[case.patient_id]} and in {name}: "
                    "a file must hold only the patients held out of its own training"
                )
            if case.id in seen:
                raise InputError(f"nodule {case.id} is in {name} twice; keep one of its rows")
            seen.add(case.id)
