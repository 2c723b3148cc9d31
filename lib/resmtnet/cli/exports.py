"""`resmtnet export onnx`: the model for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from resmtnet.cli.output import JsonOption, ModelOption, echo, print_json
from resmtnet.cli.readings import export_app


def register(_app: typer.Typer) -> None:
    """Add the commands of this module to `resmtnet export`."""
    export_app.command("onnx", epilog="Example: resmtnet export onnx --out onnx/")(export_onnx)


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
