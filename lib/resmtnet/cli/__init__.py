"""The command line `resmtnet`; every command has --json, and --help with an example.

Exit codes: 0 done; 1 a failure; 2 a user's mistake, with one line on stderr.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Annotated

import typer
from typer.exceptions import TyperException

from resmtnet import __version__
from resmtnet.cli import (
    active,
    cohorts,
    data,
    dicom,
    evaluation,
    exports,
    followup,
    models,
    nodules,
    purge,
    readings,
    serving,
    training,
)
from resmtnet.cli.output import echo
from resmtnet.errors import InputError, ResMTNetError

MISTAKE, FAILURE, INTERRUPTED = 2, 1, 130

_EXTRAS = {
    "monailabel": "app",
    "monai": "app",
    "highdicom": "app",
    "dicomweb_client": "app",
    "matplotlib": "train",
    "sklearn": "train",
    "PIL": "train",
    "pyarrow": "cohort",
    "ray": "cohort",
    "onnx": "onnx",
    "onnxscript": "onnx",
    "onnxruntime": "onnx",
}
"""The extra of the package that installs a module."""

app = typer.Typer(
    name="resmtnet",
    help="Lung nodules in chest CT: class, malignancy score, size and mask, as readers would "
    "rate them. Not a medical device.",
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
nodules.register(app)
data.register(app)
training.register(app)
models.register(app)
evaluation.register(app)
serving.register(app)
readings.register(app)
dicom.register(app, readings.export_app)
purge.register(app)
exports.register(app)
followup.register(app)
cohorts.register(app)
active.register(app)


def _show_version(wanted: bool) -> None:
    if wanted:
        echo(f"resmtnet {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="And exit.")
    ] = False,
) -> None:
    pass


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; a user's mistake is one line on stderr.

    Args:
        arguments: without the program's name; None: those of the process.
    """
    given = sys.argv[1:] if arguments is None else list(arguments)
    try:
        result = app(args=given or ["--help"], prog_name="resmtnet", standalone_mode=False)
    except (InputError, TyperException) as error:
        return _tell(error, getattr(error, "exit_code", MISTAKE))
    except (ResMTNetError, OSError) as error:
        return _tell(error, FAILURE)
    except ModuleNotFoundError as error:
        if error.name not in _EXTRAS:
            raise
        need = f"pip install 'resmtnet[{_EXTRAS[error.name]}]'"
        return _tell(f"{error.name} is not installed, which this command needs: {need}", FAILURE)
    except (KeyboardInterrupt, typer.Abort):
        return _tell("stopped", INTERRUPTED)
    return int(result or 0)


def main() -> None:
    """Entry point `resmtnet`."""
    # OpenMP's threads wait by spinning, which makes PyTorch ten times slower wherever another
    # process wants a core; it reads this when PyTorch is loaded, which no command has done yet.
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    try:
        code = run()
        sys.stdout.flush()
    except BrokenPipeError:  # the reader of a pipe went away, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = FAILURE
    sys.exit(code)


def _tell(error: object, code: int) -> int:
    text = error.format_message() if isinstance(error, TyperException) else str(error)
    context = getattr(error, "ctx", None)
    if context is not None:
        text = f"{text.rstrip('.')}. Try '{context.command_path} --help'."
    echo(f"resmtnet: {' '.join(text.split())}", err=True)
    return code
