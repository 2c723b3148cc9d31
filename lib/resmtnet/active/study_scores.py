"""What the model says of the candidates of each study: kept on disk, once per model version.

    <folder>/<study>/candidates.npz     places found in the CT, of no model
    <folder>/<study>/<model>.npz        what one version says of them
    <folder>/<study>/patient            pseudonym of its patient, empty if that is not known

The folder may be deleted at any time: studies are then scored anew.
"""

from __future__ import annotations

import hashlib
import logging
import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import BinaryIO

import numpy as np

from resmtnet.characteristics import TEXTURE
from resmtnet.ct import CTVolume
from resmtnet.files import atomic_file
from resmtnet.findings import Finding
from resmtnet.inference.protocol import NoduleModel
from resmtnet.types import Array, Point

logger = logging.getLogger(__name__)


MOST_CANDIDATES = 10
_DIGITS = 20
_PATIENT = "patient"
_FORMAT = 1


@dataclass(frozen=True, eq=False)
class ScoredStudy:
    """The candidates [C] of one study, as one version of the model sees them; C may be 0."""

    centres_lps_mm: Array
    """[C, 3]"""
    candidate_score: Array
    """How much each looks like a nodule, 0..1."""
    probability_malignant: Array
    score: Array
    """Malignancy score, 1..5."""
    score_width: Array
    """Width of its 90% interval."""
    diameter_mm: Array
    """Equivalent diameter; NaN where it was not measured."""
    diameter_width: Array
    """Width of the 90% interval of its logarithm; NaN without one."""
    texture: Array
    """Rating, 1 (non-solid) to 5 (solid)."""
    texture_entropy: Array
    """Nats."""
    class_entropy: Array
    """Nats."""
    out_of_distribution: Array
    """Above 1: unlike what the model was trained on."""
    embeddings: Array
    """[C, D]"""

    @classmethod
    def of(cls, findings: Sequence[Finding], candidate_scores: Sequence[float]) -> ScoredStudy:
        """Take from findings what choosing needs."""
        textures = [finding.characteristics.get(TEXTURE.name) for finding in findings]
        size = [finding.size for finding in findings]
        log_widths = [_log_width(one.interval_90.get("equivalent_diameter_mm")) for one in size]
        empty = np.zeros((len(findings), 0))
        embeddings = [finding.embedding for finding in findings if finding.embedding is not None]
        return cls(
            np.array([finding.centre_lps_mm for finding in findings], float).reshape(-1, 3),
            np.array(candidate_scores, float),
            np.array([finding.probability_malignant for finding in findings], float),
            np.array([finding.malignancy.score for finding in findings], float),
            np.array([np.ptp(finding.malignancy.interval_90) for finding in findings], float),
            np.array([one.equivalent_diameter_mm or np.nan for one in size], float),
            np.array(log_widths, float),
            np.array([_rating(texture) for texture in textures], float),
            np.array([_entropy(texture) for texture in textures], float),
            np.array([finding.uncertainty.entropy for finding in findings], float),
            np.array([finding.uncertainty.out_of_distribution for finding in findings], float),
            np.array(embeddings, float) if len(embeddings) == len(findings) > 0 else empty,
        )

    def __len__(self) -> int:
        """Number of candidates."""
        return len(self.centres_lps_mm)


class StudyScores:
    """The scored studies of a server; from any thread and process."""

    def __init__(self, folder: Path, most_candidates: int = MOST_CANDIDATES) -> None:
        """Look at a folder; it is made by the first study.

        Args:
            folder: of the scores.
            most_candidates: of a study, the best first.
        """
        self._folder, self._most = folder, most_candidates
        self._memory: dict[tuple[str, str], ScoredStudy] = {}
        self._patients: dict[str, str | None] = {}

    def get(self, image: str, model_sha256: str) -> ScoredStudy | None:
        """Return a study as one version sees it; None where it was not scored."""
        key = image, model_sha256
        if key not in self._memory:
            arrays = _read(self._file(image, model_sha256))
            try:
                study = ScoredStudy(**arrays) if arrays else None
            except TypeError:  # of an older format
                study = None
            if study is None:
                return None
            self._memory[key] = study
        return self._memory[key]

    def score(self, image: str, ct: CTVolume, model: NoduleModel) -> ScoredStudy:
        """Score a study and keep it; candidates that a former version used are not sought again.

        Args:
            image: id of the study.
            ct: its CT.
            model: the version.

        Raises:
            InputError: the CT cannot be read.
        """
        centres, values = self._candidates(image, ct)
        findings = model(ct, centres) if centres else []
        study = ScoredStudy.of(findings, values)
        _write(self._file(image, model.info.sha256), _arrays(study))
        self._memory[image, model.info.sha256] = study
        return study

    def patient(self, image: str) -> str | None:
        """Return the pseudonym of the patient of a scored study; None where it is not known."""
        if image not in self._patients:
            try:
                self._patients[image] = (self._study(image) / _PATIENT).read_text("ascii") or None
            except (OSError, ValueError):
                return None
        return self._patients[image]

    def keep_patient(self, image: str, patient: str | None) -> None:
        """Keep of whom a study is, before it is scored.

        Args:
            image: id of the study.
            patient: pseudonym; None if that is not known.
        """
        self._patients[image] = patient
        _replace(self._study(image) / _PATIENT, lambda file: file.write((patient or "").encode()))

    def forget_other_models(self, model_sha256: str) -> None:
        """Drop from memory what other versions said; on disk it stays for a rollback."""
        for key in [key for key in list(self._memory) if key[1] != model_sha256]:
            self._memory.pop(key, None)

    def _candidates(self, image: str, ct: CTVolume) -> tuple[list[Point], list[float]]:
        file = self._study(image) / "candidates.npz"
        kept = _read(file)
        if kept is None or set(kept) != {"centres_lps_mm", "scores"}:
            from resmtnet.inference.candidates import find_candidates

            found = find_candidates(ct, maximum=self._most)
            # at the edge of a CT a centre can lie half a voxel outside, where no one can click
            found = [one for one in found if ct.geometry.contains(one.centre_lps_mm)]
            kept = {
                "centres_lps_mm": np.array([c.centre_lps_mm for c in found]).reshape(-1, 3),
                "scores": np.array([c.score for c in found], float),
            }
            _write(file, kept)
        centres: list[Point] = [(x, y, z) for x, y, z in kept["centres_lps_mm"].tolist()]
        return centres, kept["scores"].tolist()

    def _study(self, image: str) -> Path:
        return self._folder / hashlib.sha256(image.encode()).hexdigest()[:_DIGITS]

    def _file(self, image: str, model_sha256: str) -> Path:
        return self._study(image) / f"{model_sha256[:_DIGITS] or 'model'}-{_FORMAT}.npz"


def _arrays(study: ScoredStudy) -> dict[str, Array]:
    return {field.name: getattr(study, field.name) for field in fields(study)}


def _read(file: Path) -> dict[str, Array] | None:
    """What _write wrote; None for a file that is missing or damaged, which is made anew."""
    try:
        with np.load(file, allow_pickle=False) as stored:
            return {name: stored[name].astype(float) for name in stored.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error):
        return None


def _write(file: Path, arrays: dict[str, Array]) -> None:
    single = {key: value.astype(np.float32) for key, value in arrays.items()}
    _replace(file, lambda draft: np.savez(draft, **single))


def _replace(file: Path, write: Callable[[BinaryIO], object]) -> None:
    """Write a file that appears only when it is whole; a full disk costs the cache, not more."""
    try:
        with atomic_file(file) as draft, draft.open("wb") as target:
            write(target)
    except OSError as error:
        logger.warning("%s is not kept (%s): the study will be scored again", file, error)


def _log_width(interval: tuple[float, float] | None) -> float:
    if interval is None or not min(interval) > 0:
        return np.nan
    return float(np.log(interval[1] / interval[0]))


def _rating(texture: object) -> float:
    rating = getattr(texture, "rating", None)
    return np.nan if rating is None else float(rating)


def _entropy(texture: object) -> float:
    shares = np.array(list(getattr(texture, "probabilities", {}).values()), float)
    return float(-(shares * np.log(np.clip(shares, 1e-12, 1))).sum()) if len(shares) else np.nan
