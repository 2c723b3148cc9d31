"""Sensitivity and false positives of the search of whole CTs in which every nodule is marked.

    python benchmarks/froc.py --ct NAME=FILE [--ct ...] --marks marks.csv
        [--model DIR] [--model NAME=DIR ...] [--maximum 200] [--json FILE] [--csv FILE] [--out DIR]

marks.csv has one row for each mark: ct (NAME), mark ("nodule" or another word), x_lps_mm, y_lps_mm,
z_lps_mm, readers, diameter_equiv_mm. A nodule counts if at least three readers marked it and it is
at least 6 mm wide ("well read"), and, in a second column, if any reader did. A candidate hits a
nodule if it lies within the nodule's radius of its centre. What lies within the radius of a nodule
that does not count, or within 5 mm of any other mark, counts neither way; so do further candidates
on a nodule that was hit. All others are false positives.

Candidates are ranked by the model's nodule probability if it has that task, else by the search's
own score. "search" is the list of up to --maximum places before the model's judgement; "nodule
probability" is what the product does: it judges PROPOSED places and keeps the best of each nodule.
The operating point of a CT is chosen on the others: the threshold with the most hits at 2 false
positives a CT or fewer. CTs without any mark are counted at the threshold of all the marked ones.

A model may have seen other places of a CT. --model NAME=DIR gives the CT of that name a model of
its own, which never did; the others take --model DIR. Instead of a folder, the checkpoint.pt of a
cross-validation's network is taken with the shipped calibration. The table tells every nodule.
--out gets a PNG of the candidates shown of each CT; it shows patients, so keep it out of the
repository.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from one_network import characterizer
from resmtnet import Characterizer, CTVolume
from resmtnet.cli.display import save_overlay
from resmtnet.inference.candidates import find_candidates
from resmtnet.inference.search import PROPOSED
from resmtnet.inference.search import judge as judge_places
from resmtnet.types import Point

RATES = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
"""False positives a CT at which the sensitivity is told."""
WELL_READ, WIDE_MM = 3, 6.0
NEAR_MM = 5.0
JUDGED = "nodule probability"
MOST_DRAWN = 30
OPERATING_RATE = 2.0
CSV_HEAD = "ranking ct x_lps_mm y_lps_mm z_lps_mm readers diameter_equiv_mm rank".split()  # noqa: SIM905


@dataclass(frozen=True)
class Mark:
    """One mark of the readers."""

    centre_lps_mm: Point
    radius_mm: float
    readers: int
    is_nodule: bool

    @property
    def well_read(self) -> bool:
        """At least three readers marked it, and it is wide enough."""
        return self.is_nodule and self.readers >= WELL_READ and 2 * self.radius_mm >= WIDE_MM


@dataclass(frozen=True)
class Ranked:
    """A candidate and what it is."""

    centre_lps_mm: Point
    score: float
    hit: int | None
    """Number of the nodule that it hits first, None for a false positive."""


def read_marks(path: Path) -> dict[str, list[Mark]]:
    """Return the marks by CT."""
    marks: dict[str, list[Mark]] = {}
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            centre = float(row["x_lps_mm"]), float(row["y_lps_mm"]), float(row["z_lps_mm"])
            is_nodule = row["mark"] == "nodule"
            radius_mm = float(row["diameter_equiv_mm"]) / 2 if is_nodule else NEAR_MM
            mark = Mark(centre, radius_mm, int(row["readers"]), is_nodule)
            marks.setdefault(row["ct"], []).append(mark)
    return marks


def judge(
    candidates: Sequence[tuple[Point, float]], counted: Sequence[Mark], ignored: Sequence[Mark]
) -> list[Ranked]:
    """Return hits and false positives, the best first.

    Args:
        candidates: centre, LPS mm, and score.
        counted: nodules to be found.
        ignored: marks on which a candidate is neither right nor wrong.
    """
    judged: list[Ranked] = []
    found: set[int] = set()
    for centre, score in sorted(candidates, key=lambda one: -one[1]):
        on = [n for n, m in enumerate(counted) if math.dist(centre, m.centre_lps_mm) <= m.radius_mm]
        new = [n for n in on if n not in found]
        if new:
            found.add(new[0])
            judged.append(Ranked(centre, score, new[0]))
        elif not on and not any(math.dist(centre, m.centre_lps_mm) <= m.radius_mm for m in ignored):
            judged.append(Ranked(centre, score, None))
    return judged


def sensitivity_at(judged: Sequence[Sequence[Ranked]], nodules: int, rate: float) -> float:
    """Return the share of nodules found where at most `rate` false positives a CT are shown.

    Args:
        judged: the candidates of each CT.
        nodules: in all CTs.
        rate: false positives a CT, over all CTs together.
    """
    hits = false_positives = 0
    for one in sorted((r for part in judged for r in part), key=lambda r: -r.score):
        if one.hit is None:
            false_positives += 1
            if false_positives > rate * len(judged):
                break
        else:
            hits += 1
    return hits / nodules if nodules else math.nan


def threshold_at(judged: Sequence[Sequence[Ranked]], rate: float) -> float:
    """Return the least score at which at most `rate` false positives a CT are shown."""
    scores = sorted((r.score for part in judged for r in part if r.hit is None), reverse=True)
    allowed = math.floor(rate * len(judged))
    return float(np.nextafter(scores[allowed], math.inf)) if len(scores) > allowed else -math.inf


def rankings(
    model: Characterizer, ct: CTVolume, maximum: int
) -> dict[str, list[tuple[Point, float]]]:
    """Return the candidates of a CT with the score of each ranking."""
    found = find_candidates(ct, maximum=maximum)
    places = [candidate.centre_lps_mm for candidate in found]
    ranked = {"search": [(c.centre_lps_mm, c.score) for c in found]}
    presence = model.model.calibration.nodule
    if presence is not None:
        places = [candidate.centre_lps_mm for candidate in find_candidates(ct, maximum=PROPOSED)]
        judged = judge_places(model.inference, presence, ct, places, threshold=0.0)
        ranked[JUDGED] = [(places[one.number], one.probability) for one in judged]
    return ranked


def models_of(texts: Sequence[str], names: Sequence[str]) -> dict[str, Path | None]:
    """Return the model folder of each CT, None for the shipped one.

    Args:
        texts: of --model, DIR or NAME=DIR.
        names: of the CTs.

    >>> models_of(["all", "two=other"], ["one", "two"])
    {'one': PosixPath('all'), 'two': PosixPath('other')}
    """
    own = dict(text.split("=", 1) for text in texts if "=" in text)
    if unknown := own.keys() - set(names):
        raise SystemExit(f"--model names {sorted(unknown)}, which is not among {list(names)}")
    common = [text for text in texts if "=" not in text]
    found = {name: own.get(name, common[-1] if common else None) for name in names}
    return {name: Path(text) if text else None for name, text in found.items()}


def shown_without_marks(
    ranked: Mapping[str, list[tuple[Point, float]]], marks: Mapping[str, list[Mark]]
) -> dict[str, Any]:
    """Return how many candidates are shown of CTs that nobody marked, and the threshold."""
    judged = [
        judge(
            candidates,
            [mark for mark in marks[name] if mark.well_read],
            [mark for mark in marks[name] if not mark.well_read],
        )
        for name, candidates in ranked.items()
        if marks[name]
    ]
    threshold = threshold_at(judged, OPERATING_RATE) if judged else -math.inf
    return {
        "threshold": threshold,
        "shown": {
            name: sum(score >= threshold for _, score in candidates)
            for name, candidates in ranked.items()
            if not marks[name]
        },
    }


def draw_shown(path: Path, model: Characterizer, ct: CTVolume, threshold: float) -> None:
    """Write a PNG of what the product shows of a CT at a threshold."""
    findings = model.find(
        ct, max_candidates=MOST_DRAWN, candidate_threshold=min(max(threshold, 0.0), 1.0)
    )
    mask = np.zeros(ct.geometry.shape_kji, np.uint8)
    for finding in findings:
        if finding.mask is not None and finding.start_ijk is not None:
            spans = zip(finding.start_ijk[::-1], finding.mask.shape, strict=True)
            mask[tuple(slice(first, first + count) for first, count in spans)] |= finding.mask
    axes = {f.id: f.long_axis_lps_mm for f in findings if f.long_axis_lps_mm}
    save_overlay(path, ct, model.document(ct, findings), mask, axes)


def figures(
    ranked: Mapping[str, list[tuple[Point, float]]], marks: Mapping[str, list[Mark]]
) -> dict[str, Any]:
    """Return the figures of one ranking over all CTs that have marks."""
    document: dict[str, Any] = {}
    ranked = {name: candidates for name, candidates in ranked.items() if marks[name]}
    for name, counts in (("well read", "well_read"), ("any reader", "is_nodule")):
        judged, nodules = {}, 0
        for ct, candidates in ranked.items():
            counted = [mark for mark in marks[ct] if getattr(mark, counts)]
            ignored = [mark for mark in marks[ct] if not getattr(mark, counts)]
            judged[ct] = judge(candidates, counted, ignored)
            nodules += len(counted)
        every = list(judged.values())
        document[name] = {
            "nodules": nodules,
            "recall_of_all_candidates": sensitivity_at(every, nodules, math.inf),
            "sensitivity": {str(rate): sensitivity_at(every, nodules, rate) for rate in RATES},
            "leave_one_ct_out": {
                ct: operating_point(judged, ct, sum(getattr(m, counts) for m in marks[ct]))
                for ct in judged
            },
        }
    return document


def operating_point(judged: Mapping[str, list[Ranked]], ct: str, nodules: int) -> dict[str, Any]:
    """Return what is shown of a CT at the threshold chosen on the others."""
    threshold = threshold_at([v for k, v in judged.items() if k != ct], OPERATING_RATE)
    shown = [one for one in judged[ct] if one.score >= threshold]
    return {
        "threshold": threshold,
        "found": sum(one.hit is not None for one in shown),
        "nodules": nodules,
        "false_positives": sum(one.hit is None for one in shown),
    }


def ranks(
    candidates: list[tuple[Point, float]], marks: Sequence[Mark]
) -> list[tuple[Mark, int | None]]:
    """Return every nodule with the rank at which it is hit, from 1; None where it is not."""
    ordered = [centre for centre, _ in sorted(candidates, key=lambda one: -one[1])]
    found = []
    for mark in (mark for mark in marks if mark.is_nodule):
        hits = (
            n
            for n, centre in enumerate(ordered, start=1)
            if math.dist(centre, mark.centre_lps_mm) <= mark.radius_mm
        )
        found.append((mark, next(hits, None)))
    return found


def main() -> None:
    """Search every CT and print the tables."""
    arguments = _arguments()
    files = dict(text.split("=", 1) for text in arguments.ct)
    folders = models_of(arguments.model, list(files))
    models = {folder: characterizer(folder) for folder in dict.fromkeys(folders.values())}
    marks = read_marks(arguments.marks)
    ranked: dict[str, dict[str, list[tuple[Point, float]]]] = {}
    for name, path in files.items():
        marks.setdefault(name, [])
        ct = CTVolume.open(Path(path))
        for kind, candidates in rankings(models[folders[name]], ct, arguments.maximum).items():
            ranked.setdefault(kind, {})[name] = candidates
    document: dict[str, Any] = {
        "models": {name: models[folder].info.sha256 for name, folder in folders.items()},
        **{kind: figures(of_cts, marks) for kind, of_cts in ranked.items()},
        "without marks": shown_without_marks(ranked.get(JUDGED, ranked["search"]), marks),
    }
    rows = [
        (kind, name, *mark.centre_lps_mm, mark.readers, round(2 * mark.radius_mm, 1), rank or "")
        for kind, of_cts in ranked.items()
        for name, candidates in of_cts.items()
        for mark, rank in ranks(candidates, marks[name])
    ]
    print(json.dumps(document, indent=1))
    for row in rows:
        print(*row, sep="\t")
    if arguments.json:
        arguments.json.write_text(json.dumps(document, indent=1) + "\n")
    if arguments.csv:
        with arguments.csv.open("w", newline="") as file:
            csv.writer(file).writerows([CSV_HEAD, *rows])
    if arguments.out:
        arguments.out.mkdir(parents=True, exist_ok=True)
        for name, path in files.items():
            threshold = _threshold_of(document, name)
            picture = arguments.out / f"{name}.png"
            draw_shown(picture, models[folders[name]], CTVolume.open(Path(path)), threshold)


def _threshold_of(document: Mapping[str, Any], ct: str) -> float:
    """Return the threshold at which a CT is shown: that of the others, or of all marked ones."""
    judged = document.get(JUDGED, {}).get("well read", {}).get("leave_one_ct_out", {})
    chosen: dict[str, float] = judged.get(ct, document["without marks"])
    return chosen["threshold"]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--ct", action="append", required=True, metavar="NAME=FILE")
    parser.add_argument("--marks", type=Path, required=True)
    parser.add_argument("--model", action="append", default=[], metavar="DIR|NAME=DIR")
    parser.add_argument("--maximum", type=int, default=200)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--csv", type=Path)
    parser.add_argument("--out", type=Path, help="Folder for pictures of what is shown.")
    return parser.parse_args()


if __name__ == "__main__":
    main()
