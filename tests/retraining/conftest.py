"""A small world whose truth is known: latent nodules, heads that read them, their readers."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from resmtnet.characteristics import LIDC_RATINGS, NODULE, TASKS
from resmtnet.config import LossConfig, NetworkConfig, PatchConfig, TrainingConfig
from resmtnet.ct.measure import MEASURED, Measurement
from resmtnet.ct.phantom import Phantom
from resmtnet.ct.volume import CTVolume
from resmtnet.data.nodule import Nodule
from resmtnet.data.targets import targets_of
from resmtnet.inference.calibration import Calibration
from resmtnet.inference.ensemble import RawOutputs
from resmtnet.inference.mask_threshold import LEVELS
from resmtnet.inference.model_folder import Model, read_model, write_model
from resmtnet.network.resmtnet import ResMTNet
from resmtnet.readings.record import Reading
from resmtnet.retraining.fit_heads import Data, train_members
from resmtnet.retraining.linear_heads import LinearHeads
from resmtnet.retraining.samples import Sample, gather, sample_of
from resmtnet.training.cached_nodule import CachedNodule, MeasuredMask
from resmtnet.training.calibrate import fit_calibration
from resmtnet.training.carried_sets import (
    Replay,
    calibration_set_files,
    reference_files,
    replay_files,
)
from resmtnet.training.cases import case_of

CONFIG = TrainingConfig(
    members=2,
    negative_share=0.25,
    patch=PatchConfig(size_px=16, mask_size_px=32, offsets_mm=(-2.0, 0.0, 2.0)),
    network=NetworkConfig(widths=(4, 4, 4), hidden=8, nodule_task=True),
)
MEMBERS, WIDTH = 2, 16
NODULES_OF_A_PATIENT = 2
SPHERE = math.pi / 6


@dataclass(frozen=True, eq=False)
class World:
    """The shipped model and the nodules that it never trained on."""

    model: Model
    site: list[CachedNodule]
    """Of 60 patients."""
    reference: list[CachedNodule]
    """Of 80 patients."""

    def samples(
        self, rule: Callable[[CachedNodule], list[Reading]] | None = None, count: int | None = None
    ) -> list[Sample]:
        """What readers say of the site's nodules, by default what its own readers said."""
        chosen = self.site[:count]
        by_id = {one.case.id: one for one in chosen}
        said = gather(r for one in chosen for r in (rule or own_readers)(one))
        return [sample_of(one, by_id[one.nodule]) for one in said]


def reading(one: CachedNodule, reader: str, **said: object) -> Reading:
    return Reading(
        image=one.case.patient_id,
        reader=reader,
        nodule=one.case.id,
        centre_lps_mm=(0.0, 0.0, 0.0),
        study_patient=one.case.patient_id,
        **said,  # type: ignore[arg-type]
    )


def own_readers(one: CachedNodule) -> list[Reading]:
    case = one.case
    sizes = zip(case.reader_volumes_mm3, case.reader_long_axes_mm, strict=True)
    return [
        reading(
            one,
            "ABC"[n],
            malignancy=rating,
            sizes={"volume_mm3": volume, "long_axis_mm": axis, "short_axis_mm": 0.9 * axis},
        )
        for n, (rating, (volume, axis)) in enumerate(zip(case.malignancy, sizes, strict=True))
    ]


def latent_nodule(n: int, name: str, rng: np.random.Generator) -> tuple[Nodule, np.ndarray]:
    """A nodule, and embeddings [members, D] that tell of its malignancy and size."""
    suspicion, log_mm = rng.normal(0, 1.2), rng.normal(math.log(9), 0.4)
    ratings = np.clip(np.round(3 + suspicion + rng.normal(0, 0.5, 3)), 1, 5).astype(int)
    mm = np.exp(log_mm + rng.normal(0, 0.06, 3))
    texture = int(np.clip(round(4.5 + rng.normal(0, 1)), 1, 5))
    look = np.clip(np.round(2.5 + 0.4 * suspicion + rng.normal(0, 1, (len(LIDC_RATINGS), 3))), 1, 4)
    others = {t.name: tuple(int(r) for r in look[n]) for n, t in enumerate(LIDC_RATINGS)}
    nodule = Nodule(
        id=f"{name}{n}",
        patient_id=f"{name}-patient-{n // NODULES_OF_A_PATIENT}",
        split="train",
        fold=0,
        context="full",
        shape_kji=(0, 0, 0),
        spacing_kji_mm=(1.0, 1.0, 1.0),
        centre_kji=(0.0, 0.0, 0.0),
        slice_thickness_mm=1.0,
        volume_mm3=float(np.mean(SPHERE * mm**3)),
        long_axis_mm=float(np.mean(1.1 * mm)),
        ratings={
            **others,
            "malignancy": tuple(int(r) for r in ratings),
            "texture": (texture,) * 3,
        },
        reader_volumes_mm3=tuple(float(v) for v in SPHERE * mm**3),
        reader_long_axes_mm=tuple(float(v) for v in 1.1 * mm),
        reader_short_axes_mm=tuple(float(v) for v in 0.99 * mm),
        mask_readers=3,
    )
    told = np.array([suspicion, -suspicion, log_mm - 2.2, 2.2 - log_mm, texture - 4, 4 - texture])
    noise = rng.normal(0, 0.7, (MEMBERS, 2, len(told)))
    half = np.maximum(np.concatenate([told + noise, np.ones((MEMBERS, 2, 2))], 2), 0)
    return nodule, half.reshape(MEMBERS, WIDTH).astype(np.float32)


def seen(nodule: Nodule, embeddings: np.ndarray, rng: np.random.Generator) -> CachedNodule:
    """The nodule as some heads saw it; their answers are nothing until others answer."""
    views = {t.name: np.zeros((MEMBERS, 1, t.outputs)) for t in (*TASKS, NODULE)}
    mm = float(nodule.equivalent_diameter_mm * np.exp(rng.normal(0, 0.08)))
    masks = {}
    for level in LEVELS:
        at_mm = mm * (1.06 - 0.15 * level)
        ends = ((0.0, 0.0, 0.0), (at_mm, 0.0, 0.0))
        measured = Measurement(SPHERE * at_mm**3, 1.05 * at_mm, 0.95 * at_mm, (0.0, 0.0, 0.0), ends)
        masks[level] = MeasuredMask(measured, cut=False, dice=None)
    truth = {name: float(getattr(nodule, name)) for name in MEASURED}
    return CachedNodule(case_of(nodule), truth, RawOutputs(views, embeddings), 0.8, None, (), masks)


def make(count: int, name: str, seed: int) -> list[tuple[Nodule, CachedNodule]]:
    rng = np.random.default_rng(seed)
    pairs = [latent_nodule(n, name, rng) for n in range(count)]
    return [(nodule, seen(nodule, embeddings, rng)) for nodule, embeddings in pairs]


def trained_states(networks: list[ResMTNet], replay: Replay) -> list[dict[str, torch.Tensor]]:
    targets = targets_of(replay.nodules)
    part = (torch.from_numpy(replay.embeddings), targets)
    pairs = [(network, network) for network in networks]
    data = Data.mixed(part, part, 0.5)
    return train_members(pairs, data, LossConfig(), pull=1e-4, steps=80)


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A model whose heads were trained on 200 latent nodules, calibrated on 120 others."""
    torch.manual_seed(1)
    networks = [ResMTNet(CONFIG.network) for _ in range(MEMBERS)]
    training = make(200, "train", 1)
    embeddings = np.array([held.observation.embeddings for _, held in training])
    replay = Replay(tuple(nodule for nodule, _ in training), embeddings)
    states = trained_states(networks, replay)
    heads = LinearHeads.of_states(states, networks[0].names)
    kept, reference, site = (
        heads.answer_all([held for _, held in make(count, name, seed)])
        for seed, (count, name) in enumerate(
            ((120, "calibration"), (160, "reference"), (120, "site")), start=2
        )
    )
    calibration: Calibration = fit_calibration(kept, replay.flat, {})
    further = replay_files(replay) | reference_files(reference, calibration)
    folder: Path = tmp_path_factory.mktemp("world") / "model"
    further |= calibration_set_files(kept)
    write_model(folder, "1", states, CONFIG, calibration, {"data": "latent"}, further)
    model = read_model(folder)
    stored = LinearHeads.of(model.networks)
    return World(model, stored.answer_all(site), stored.answer_all(reference))


@pytest.fixture(scope="session")
def say() -> Callable[..., Reading]:
    """Makes a reading of a nodule: say(held, reader, malignancy=4, ...)."""
    return reading


@pytest.fixture(scope="session")
def rightly() -> Callable[[CachedNodule], list[Reading]]:
    """What a nodule's own readers said."""
    return own_readers


@pytest.fixture(scope="session")
def seeing_model(world: World) -> Model:
    """The world's model with one network that can look at an image."""
    config = TrainingConfig(
        patch=PatchConfig(size_px=16, mask_size_px=16, offsets_mm=(-2.0, 0.0, 2.0)),
        network=NetworkConfig(widths=(4, 4, 4), hidden=8),
    )
    networks = (ResMTNet(config.network).eval().requires_grad_(False),)
    return replace(world.model, config=config, networks=networks)


@pytest.fixture(scope="session")
def ct(phantom: Phantom) -> CTVolume:
    """The phantom as a CT."""
    grid = phantom.geometry
    spacing_kji_mm = grid.spacing_mm[::-1]
    return CTVolume.from_array(phantom.hu, spacing_kji_mm, grid.origin_lps_mm, grid.direction)
