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
            texture = int(rng.integers(1, 6))
            case = Case(
                id=f"n{n}",
                patient_id=f"p{n // 2}",
                malignancy=readers if n % 10 else readers[:1],
                equivalent_diameter_mm=mm,
                long_axis_mm=1.3 * mm,
                texture_rating=float(texture),
                slice_thickness_mm=(1.25, 1.8, 2.5)[n % 3],
                texture_ratings=(texture,) * 4,
                reader_volumes_mm3=tuple(np.pi / 6 * (mm + d) ** 3 for d in (-1, 0, 0, 1)),
                reader_long_axes_mm=tuple(1.3 * mm + d for d in (-2.0, 0.0, 0.0, 2.0)),
                reader_short_axes_mm=(1.1 * mm,) * 4,
                reader_dice=0.75,
            )
            answered.append((case, _answer(case, float(latent), error_mm)))
        return answered

    return make


def _answer(case: Case, latent: float, error_mm: float) -> Prediction:
    probability = float(1 / (1 + np.exp(-2 * (latent - 3))))
    score = float(np.clip(latent, 1, 5))
    mm = case.equivalent_diameter_mm + error_mm
    return Prediction(
        probability_malignant=probability,
        class_name="malignant" if probability > 0.5 else "benign",
        score=score,
        score_interval=(score - 0.5, score + 0.5),
        equivalent_diameter_mm=mm,
        equivalent_diameter_interval_mm=(mm - 1, mm + 1),
        volume_mm3=np.pi / 6 * mm**3,
        long_axis_mm=1.3 * mm,
        mean_diameter_mm=1.2 * mm,
        entropy=float(-probability * np.log(probability)),
        out_of_distribution=0.5,
        texture_class=case.texture_class,
        short_axis_mm=1.1 * mm,
        long_axis_interval_mm=(1.3 * mm - 1, 1.3 * mm + 1),
        mutual_information=0.1,
        mask_dice=0.8,
    )


@pytest.fixture(scope="session")
def baselines(simulate: Simulate) -> Baselines:
    return fit_baselines([case for case, _ in simulate(400, seed=1)])


@pytest.fixture(scope="session")
def info() -> ModelInfo:
    return ModelInfo("resmtnet", "1.2.3", "ab" * 32)
