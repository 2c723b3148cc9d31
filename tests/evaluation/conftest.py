from collections.abc import Callable

import numpy as np
import pytest

from resmtnet.evaluation.baselines import Baselines, fit_baselines
from resmtnet.evaluation.records import Answered, Case, Prediction
from resmtnet.findings import ModelInfo

Simulate = Callable[..., list[Answered]]


@pytest.fixture(scope="session")
def simulate() -> Simulate:
    """Nodules whose malignancy follows size and something else; a model that sees both."""

    def make(count: int = 80, seed: int = 0, error_mm: float = 0.0) -> list[Answered]:
        rng = np.random.default_rng(seed)
        answered = []
        for n in range(count):
            mm = float(np.exp(rng.normal(2.1, 0.5)))
            latent = 3 + 2 * (np.log(mm) - 2.1) + rng.normal(0, 1)
            rated = np.clip(np.round(latent + rng.normal(0, 0.4, 4)), 1, 5).astype(int)
            readers = tuple(int(rating) for rating in rated)
            case = Case(
                id=f"n{n}",
                patient_id=f"p{n // 2}",
                malignancy=readers if n % 10 else readers[:1],
                equivalent_diameter_mm=mm,
                long_axis_mm=1.3 * mm,
                texture_rating=float(rng.integers(1, 6)),
                slice_thickness_mm=1.25,
            )
            probability = float(1 / (1 + np.exp(-2 * (latent - 3))))
            score = float(np.clip(latent, 1, 5))
            given_mm = mm + error_mm
            answered.append(
                (
                    case,
                    Prediction(
                        probability_malignant=probability,
                        class_name="malignant" if probability > 0.5 else "benign",
                        score=score,
                        score_interval=(score - 0.5, score + 0.5),
                        equivalent_diameter_mm=given_mm,
                        equivalent_diameter_interval_mm=(given_mm - 1, given_mm + 1),
                        volume_mm3=np.pi / 6 * given_mm**3,
                        long_axis_mm=1.3 * given_mm,
                        out_of_distribution=0.5,
                        texture_class=case.texture_class,
                    ),
                )
            )
        return answered

    return make


@pytest.fixture(scope="session")
def baselines(simulate: Simulate) -> Baselines:
    return fit_baselines([case for case, _ in simulate(400, seed=1)])


@pytest.fixture(scope="session")
def info() -> ModelInfo:
    return ModelInfo("resmtnet", "1.2.3", "ab" * 32)
