"""`resmtnet export onnx|bundle`: the model for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from resmtnet.cli.output import JsonOption, ModelOption, echo, print_json
from resmtnet.cli.readings import export_app


def register(_app: typer.Typer) -> None:
    """Add the commands of this module to `resmtnet export`."""
    export_app.command("onnx", epilog="Example: resmtnet export onnx --out onnx/")(export_onnx)
    export_app.command("bundle", epilog="Example: resmtnet export bundle --out bundle/")(
        export_bundle
    )


def export_onnx(
    out: Annotated[Path, typer.Option(help="Folder to write.")],
    model: ModelOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write the networks of the model as ONNX files, which are checked against PyTorch."""
    from resmtnet.inference.model_folder import read_model
    from resmtnet.inference.onnx_export import export_onnx as write

    description = write(read_model(model), out)
    if as_json:
        print_json(description)
        return
    for name in description["files"]:
        echo(str(out / name))
    echo(
        f"opset {description['opset']}; greatest difference to PyTorch "
        f"{description['parity']['greatest_difference']:.1e}"
    )


def export_bundle(
    out: Annotated[Path, typer.Option(help="Folder to write.")],
    model: ModelOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write the model as a MONAI bundle, which `python -m monai.bundle run` runs."""
    from resmtnet.inference.bundle import INFERENCE, METADATA
    from resmtnet.inference.bundle import export_bundle as write
    from resmtnet.inference.model_folder import read_model

    metadata = write(read_model(model), out)
    if as_json:
        print_json(metadata)
        return
    typer.echo(
        f"python -m monai.bundle run --bundle_root {out} --meta_file {out / METADATA} "
        f"--config_file {out / INFERENCE} --image CT --output findings.json"
    )
