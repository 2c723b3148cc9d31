"""`resmtnet evaluate`: figures and a report of a model or of a cross-validation."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from resmtnet.cli.output import DeviceOption, JsonOption, ModelOption, echo, print_json, progress
from resmtnet.errors import InputError

if TYPE_CHECKING:
    from resmtnet.evaluation.bootstrap import BootstrapConfig

EXAMPLE = (
    "Example: resmtnet evaluate --data cubes/ --model runs/first/model --out report/\n\n"
    "Example: resmtnet evaluate --reference --out report/\n\n"
    "Example: resmtnet evaluate --predictions fold0.csv --predictions fold1.csv --out report/"
)


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command(epilog=EXAMPLE)(evaluate)


def evaluate(
    out: Annotated[Path, typer.Option(help="Folder to write.")],
    data: Annotated[
        Path | None, typer.Option(help="Archive made by `resmtnet prepare`: asks a model.")
    ] = None,
    predictions: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE",
            help="predictions.csv of one fold of a cross-validation; repeat for each fold.",
        ),
    ] = None,
    reference: Annotated[
        bool,
        typer.Option(help="The model's own reference set: patients it never trained on."),
    ] = False,
    model: ModelOption = None,
    split: Annotated[
        str | None, typer.Option(help="With --data: train or val, only the nodules of that split.")
    ] = None,
    diagnoses: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="CSV with patient_id and diagnosis (1 benign, 2 primary cancer, 3 metastasis, or "
            "benign and malignant): also how well the class tells them.",
        ),
    ] = None,
    saliency: Annotated[
        int, typer.Option(min=0, help="With --data: nodules shown with what the model looks at.")
    ] = 6,
    clicks: Annotated[
        int,
        typer.Option(min=0, help="With --data: more clicks on each nodule, to compare the masks."),
    ] = 0,
    confidence: Annotated[
        float,
        typer.Option(min=0.5, max=0.999, help="Of the intervals: share of the draws of patients."),
    ] = 0.95,
    card: Annotated[
        Path | None, typer.Option(help="Also write the model card to this file.")
    ] = None,
    quote: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="With --card: a further metrics.json that it quotes."),
    ] = None,
    device: DeviceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Evaluate a model or a cross-validation; write metrics.json and report.html."""
    from resmtnet.evaluation.bootstrap import BootstrapConfig
    from resmtnet.evaluation.diagnoses import read_diagnoses

    if [data is not None, bool(predictions), reference].count(True) != 1:
        raise InputError(
            "give one of --data ARCHIVE, --predictions FILE (repeated for each fold) "
            "and --reference"
        )
    if quote and card is None:
        raise InputError("--quote is for a model card: give --card FILE as well")
    known = read_diagnoses(diagnoses) if diagnoses else {}
    written = [out / "metrics.json", out / "report.html"]
    manifest, documents = _card_sources(model, quote or (), written[0]) if card else ({}, {})
    config = BootstrapConfig(confidence=confidence)
    if data is not None:
        document = _ask(data, out, model, split, saliency, known, clicks, device, config)
    elif split is not None:
        raise InputError("--split chooses nodules of an archive: give it with --data")
    elif reference:
        from resmtnet.inference.model_folder import default_model_dir
        from resmtnet.training.evaluate import evaluate_reference

        document = evaluate_reference(model or default_model_dir(), out, config, known)
    else:
        from resmtnet.training.evaluate import evaluate_predictions

        document = evaluate_predictions(predictions or (), out, config, known)
    if card:
        from resmtnet.evaluation.card import model_card

        quoted = {name: given or document for name, given in documents.items()}
        card.write_text(model_card(manifest, quoted), encoding="utf-8")
        written.append(card)
    if as_json:
        print_json(document)
        return
    from resmtnet.evaluation.card import figures_section

    echo(figures_section(document))
    echo("\n".join(str(path) for path in written))


def _ask(
    data: Path,
    out: Path,
    model: Path | None,
    split: str | None,
    saliency: int,
    diagnoses: dict[str, str],
    clicks: int,
    device: str | None,
    config: BootstrapConfig,
) -> dict[str, Any]:
    from resmtnet.data.archive import Archive
    from resmtnet.evaluation.baselines import Baselines
    from resmtnet.inference.characterizer import Characterizer
    from resmtnet.training.evaluate import evaluate as evaluate_model
    from resmtnet.training.report_pictures import Pictures

    archive = Archive.open(data)
    characterizer = Characterizer.load(model, device)
    kept = characterizer.model.calibration.baselines
    with progress() as tell:
        return evaluate_model(
            archive,
            characterizer,
            out,
            Baselines.from_json(kept) if kept else None,
            split=split,
            config=config,
            pictures=Pictures(saliency=saliency),
            diagnoses=diagnoses,
            clicks=clicks,
            tell=lambda what, done, of: tell(what, done, of, ""),
        )


def _card_sources(
    model: Path | None, quoted: Sequence[Path], own: Path
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read what a card needs before the long work: the manifest and the documents to quote.

    This run's own document, which will be written to `own`, stands last, as None.
    """
    from resmtnet.evaluation.summary import SCHEMA
    from resmtnet.inference.model_folder import default_model_dir, verify

    documents: dict[str, Any] = {}
    for path in quoted:
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise InputError(f"--quote {path}: not a readable metrics.json ({error})") from error
        if not isinstance(document, dict) or document.get("schema") != SCHEMA:
            raise InputError(f"--quote {path}: not a document of schema {SCHEMA}")
        documents = _with(documents, path, document)
    return verify(model or default_model_dir()), _with(documents, own, None)


def _with(documents: dict[str, Any], path: Path, document: Any) -> dict[str, Any]:
    """Add a document by a name that is no path of this machine: below here, or folder and file."""
    whole, here = path.resolve(), Path.cwd()
    below = whole.relative_to(here) if whole.is_relative_to(here) else Path(*whole.parts[-2:])
    name = below.as_posix()
    if name in documents:
        raise InputError(
            f"the model card would quote two documents under the name {name}; rename a folder"
        )
    return {**documents, name: document}
