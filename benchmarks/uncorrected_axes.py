"""Version 3.1 of the shipped model from version 3: axes as the mask has them, intervals refitted.

    python benchmarks/uncorrected_axes.py revise OLD NEW --version 3.1     # OLD: version 3
    python benchmarks/uncorrected_axes.py bias MODEL [--cubes ARCHIVE]

Version 3 told axes times fitted factors; see axis_intervals.py. Only the intervals
of the three axes and the answers for the reference set change; weights and all other constants are
those of OLD. NEW may be OLD, and keeps files of its own such as MODEL_CARD.md. `bias` prints how
far the axes lie from the readers' means, and how often the intervals hold them.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from axis_intervals import uncorrect_axes
from resmtnet import Characterizer
from resmtnet.ct.measure import MEASURED
from resmtnet.data.archive import Archive
from resmtnet.data.volumes import nodule_ct
from resmtnet.errors import InputError
from resmtnet.findings import Size
from resmtnet.inference.model_folder import CALIBRATION, MANIFEST, read_model, revise_model
from resmtnet.training.cached_nodule import finding_of
from resmtnet.training.carried_sets import (
    REFERENCE,
    read_calibration_set,
    read_reference,
    reference_files,
)
from resmtnet.training.cases import case_of

FACTORS = "size_scales"
"""What version 3 has in calibration.json."""


def revise(old: Path, new: Path, version: str, without: list[str]) -> None:
    """Write NEW, and print what its manifest says."""
    factors = json.loads((old / CALIBRATION).read_text()).get(FACTORS)
    if factors is None:
        raise InputError(f"{old}: no {FACTORS} in {CALIBRATION}: its axes are not corrected")
    calibration = read_model(old).calibration
    revised = uncorrect_axes(read_calibration_set(old), calibration, factors)
    with tempfile.TemporaryDirectory() as folder:
        draft = Path(folder) / "model"
        answers = reference_files(read_reference(old), revised)[f"{REFERENCE}.csv"]
        info = revise_model(
            old, draft, version, revised, {f"{REFERENCE}.csv": answers}, without, note(factors)
        )
        new.mkdir(parents=True, exist_ok=True)
        for path in draft.iterdir():
            shutil.copyfile(path, new / path.name)
    for name in without:
        (new / name).unlink(missing_ok=True)
    print(f"{new / MANIFEST}: version {info.version}, sha256 {info.sha256}")


def note(factors: Mapping[str, float]) -> str:
    """Return what the model card says of the change."""
    return (
        "The axes are those of the mask as it is, where the older version multiplied the long axis "
        f"by {factors['long_axis_mm']:.3f} and the short axis by {factors['short_axis_mm']:.3f}. "
        "Their intervals were moved to that on the calibration set; weights and all other "
        "constants are the same. A cross-validation made before this change has the older axes."
    )


def print_bias(told: Iterable[tuple[Size, dict[str, float]]], where: str) -> None:
    """Print the median error, the standard error of the log and the coverage of each size."""
    rows: dict[str, list[tuple[float, bool]]] = {name: [] for name in MEASURED}
    for size, truth in told:
        if size.volume_mm3 is None:
            continue
        for name, mm in truth.items():
            low, high = size.interval_90[name]
            rows[name].append((float(np.log(getattr(size, name) / mm)), low <= mm <= high))
    print(f"{where}:")
    for name, found in rows.items():
        error, inside = np.array(found).T
        print(
            f"  {name:24s} median {100 * np.expm1(np.median(error)):+5.1f}%   spread of the log "
            f"{error.std():.3f}   90% interval holds {100 * inside.mean():.1f}%   of {len(found)}"
        )


def bias(model: Path, cubes: Path | None) -> None:
    """Print the figures of the reference set and of an archive of cubes."""
    calibration = read_model(model).calibration
    print_bias(
        ((finding_of(one, calibration).size, dict(one.truth)) for one in read_reference(model)),
        "reference set",
    )
    if cubes is None:
        return
    archive, characterizer = Archive.open(cubes), Characterizer.load(model, "cpu")

    def answered() -> Iterable[tuple[Size, dict[str, float]]]:
        for nodule in archive.nodules:
            ct, centre_lps_mm = nodule_ct(archive, nodule)
            case = case_of(nodule)
            truth = {name: getattr(nodule, name) for name in MEASURED} | {
                "short_axis_mm": case.short_axis_mm,
                "mean_diameter_mm": case.mean_axis_mm,
            }
            known = {name: mm for name, mm in truth.items() if np.isfinite(mm)}
            yield characterizer(ct, [centre_lps_mm])[0].size, known

    print_bias(answered(), f"{len(archive.nodules)} cubes")


def main() -> int:
    """Run a command of the module docstring."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("revise")
    one.add_argument("old", type=Path)
    one.add_argument("new", type=Path)
    one.add_argument("--version", required=True)
    one.add_argument("--without", action="append", default=[], help="file that NEW does not have")
    two = commands.add_parser("bias")
    two.add_argument("model", type=Path)
    two.add_argument("--cubes", type=Path)
    given = parser.parse_args()
    if given.command == "revise":
        revise(given.old, given.new, given.version, given.without)
    else:
        bias(given.model, given.cubes)
    return 0


if __name__ == "__main__":
    sys.exit(main())
