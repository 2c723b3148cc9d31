"""Keeps on disk what each version of the model says of the candidates of each study.

    <folder>/<image>/<content>/candidates.npz     places found in the CT; the same for any model
    <folder>/<image>/<content>/patient            pseudonym of the patient, empty if not known
    <folder>/<image>/<content>/<model>.npz        what one version says of the candidates

An image that is replaced under its id has another content key (`ct.content_key`), and is scored
anew. The folder may be deleted at any time.
"""

from __future__ import annotations

import hashlib
import logging
import shutil
import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
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
SCORES = "scores"
"""Folder of the scores, beside the readings database."""
_DIGITS = 20
_PATIENT = "patient"
_ANY_CONTENT = "any"
"""Folder for images of a datastore that gives no content keys."""
_FORMAT = 2
_ARRAYS = (
    "centres_lps_mm",
    "candidate_score",
    "probability_malignant",
    "score",
    "score_width",
    "diameter_mm",
    "diameter_width",
    "texture",
    "texture_entropy",
    "out_of_distribution",
    "embeddings",
)
"""Fields of a ScoredStudy that are kept in a file."""


@dataclass(frozen=True, eq=False)
class ScoredStudy:
    """A study and its candidates [C] as one version of the model sees them; C may be 0."""

    image: str
    """Id of the image."""
    patient: str | None
    """Pseudonym; None if it is not known: the study then counts as a patient of its own."""
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
    out_of_distribution: Array
    """Above 1: unlike what the model was trained on."""
    embeddings: Array
    """[C, D]"""

    @classmethod
    def of(
        cls,
        image: str,
        patient: str | None,
        findings: Sequence[Finding],
        candidate_scores: Sequence[float],
    ) -> ScoredStudy:
        """Take from findings what the choice of the next study needs.

        Args:
            image: id of the image.
            patient: pseudonym; None if it is not known.
            findings: one for each candidate.
            candidate_scores: of the same candidates, 0..1.
        """
        textures = [finding.characteristics.get(TEXTURE.name) for finding in findings]
        size = [finding.size for finding in findings]
        log_widths = [_log_width(one.interval_90.get("equivalent_diameter_mm")) for one in size]
        empty = np.zeros((len(findings), 0))
        embeddings = [finding.embedding for finding in findings if finding.embedding is not None]
        complete = len(embeddings) == len(findings) > 0
        return cls(
            image,
            patient,
            np.array([finding.centre_lps_mm for finding in findings], float).reshape(-1, 3),
            np.array(candidate_scores, float),
            np.array([finding.probability_malignant for finding in findings], float),
            np.array([finding.malignancy.score for finding in findings], float),
            np.array([np.ptp(finding.malignancy.interval_90) for finding in findings], float),
            np.array([one.equivalent_diameter_mm or np.nan for one in size], float),
            np.array(log_widths, float),
            np.array([_rating(texture) for texture in textures], float),
            np.array([_entropy(texture) for texture in textures], float),
            np.array([finding.uncertainty.out_of_distribution for finding in findings], float),
            np.array(embeddings, float) if complete else empty,
        )

    def __len__(self) -> int:
        """Number of candidates."""
        return len(self.centres_lps_mm)


class StudyScores:
    """The scored studies of a server; safe to use from any thread and process."""

    def __init__(self, folder: Path, most_candidates: int = MOST_CANDIDATES) -> None:
        """Look at a folder; the first study makes it.

        Args:
            folder: holds the scores.
            most_candidates: of a study, the best first.
        """
        self._folder, self._most = folder, most_candidates
        self._memory: dict[tuple[str, str, str], ScoredStudy] = {}

    def get(self, image: str, content: str | None, model_sha256: str) -> ScoredStudy | None:
        """Return a study as one version sees it; None where it was not scored.

        Args:
            image: id of the study.
            content: key of what the image holds now; None if the image is not on this machine: the
                content that was scored last is then taken.
            model_sha256: of the version.
        """
        content = self._latest(image) if content is None else content
        if content is None:
            return None
        key = image, content, model_sha256
        if key not in self._memory:
            arrays = _read(self._file(image, content, model_sha256))
            if arrays is None or set(arrays) != set(_ARRAYS):
                return None
            self._memory[key] = ScoredStudy(image, self.patient(image, content), **arrays)
        return self._memory[key]

    def score(
        self, image: str, content: str, patient: str | None, ct: CTVolume, model: NoduleModel
    ) -> ScoredStudy:
        """Score a study and keep it; candidates found for another version are used again.

        Args:
            image: id of the study.
            content: key of what the image holds.
            patient: pseudonym; None if it is not known.
            ct: its CT.
            model: the version.

        Raises:
            InputError: the CT cannot be read.
        """
        centres, values = self._candidates(image, content, ct)
        findings = model(ct, centres) if centres else []
        study = ScoredStudy.of(image, patient, findings, values)
        name = (patient or "").encode()
        _replace(self._study(image, content) / _PATIENT, lambda file: file.write(name))
        sha256 = model.info.sha256
        _write(self._file(image, content, sha256), {key: getattr(study, key) for key in _ARRAYS})
        self._memory[image, content, sha256] = study
        return study

    def patient(self, image: str, content: str | None = None) -> str | None:
        """Return the pseudonym of the patient of a scored study; None where it is not known."""
        content = self._latest(image) if content is None else content
        if content is None:
            return None
        try:
            return (self._study(image, content) / _PATIENT).read_text("ascii") or None
        except (OSError, ValueError):
            return None

    def forget_other_models(self, model_sha256: str) -> None:
        """Drop what other versions said from memory; it stays on disk for a rollback."""
        for key in [key for key in list(self._memory) if key[2] != model_sha256]:
            self._memory.pop(key, None)

    def _candidates(
        self, image: str, content: str, ct: CTVolume
    ) -> tuple[list[Point], list[float]]:
        file = self._study(image, content) / "candidates.npz"
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

    def _latest(self, image: str) -> str | None:
        """Return the content of an image that was scored last."""
        folders = [path for path in self._image(image).glob("*") if path.is_dir()]
        return max(folders, key=lambda path: path.stat().st_mtime_ns).name if folders else None

    def forget(self, image: str) -> None:
        """Delete what is kept of an image."""
        shutil.rmtree(self._image(image), ignore_errors=True)

    def _image(self, image: str) -> Path:
        return self._folder / hashlib.sha256(image.encode()).hexdigest()[:_DIGITS]

    def _study(self, image: str, content: str) -> Path:
        return self._image(image) / (content or _ANY_CONTENT)

    def _file(self, image: str, content: str, model_sha256: str) -> Path:
        name = f"{model_sha256[:_DIGITS] or 'model'}-{_FORMAT}.npz"
        return self._study(image, content) / name


def _read(file: Path) -> dict[str, Array] | None:
    """Read what `_write` wrote; None for a file that is missing or damaged."""
    try:
        with np.load(file, allow_pickle=False) as stored:
            return {name: stored[name].astype(float) for name in stored.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error):
        return None


def _write(file: Path, arrays: dict[str, Array]) -> None:
    single = {key: value.astype(np.float32) for key, value in arrays.items()}
    _replace(file, lambda draft: np.savez(draft, **single))


def _replace(file: Path, write: Callable[[BinaryIO], object]) -> None:
    """Write a file that appears only when it is complete; where that fails, only log it."""
    try:
        site = file.parents[3]  # above the folder of scores, an image and a content
        with (
            atomic_file(file, durable=False, within=site) as draft,
            draft.open("wb") as target,
        ):
            write(target)
    except OSError as error:
        logger.warning("%s was not written (%s): the study will be scored again", file, error)


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
