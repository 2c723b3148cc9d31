"""`resmtnet serve`: starts the MONAI Label server with this app."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from resmtnet.cli.output import JsonOption
from resmtnet.errors import ConfigError


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command(epilog="Example: resmtnet serve --studies studies/ --conf context=incidental")(
        serve
    )


def serve(
    studies: Annotated[
        str, typer.Option(help="Folder with CTs, or the URL of a DICOMweb service.")
    ],
    host: Annotated[
        str, typer.Option(help="Loopback only: there is no authentication yet.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="TCP port.")] = 8000,
    conf: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=VALUE", help="Setting of the app, see docs/server.md; may be repeated."
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Serve the app to 3D Slicer and OHIF until it is stopped (Ctrl-C)."""
    from resmtnet.monai_label.settings import AppSettings
    from resmtnet.server.launch import ServerOptions
    from resmtnet.server.launch import serve as serve_app

    settings = dict(parse_setting(text) for text in conf or ())
    AppSettings.from_conf(settings)  # refuses wrong settings before the slow start
    options = ServerOptions(studies, host, port, settings)
    if as_json:
        typer.echo(json.dumps({"url": options.url, "studies": options.studies}))
    else:
        typer.echo(f"Serving {options.studies} at {options.url} (Ctrl-C stops)", err=True)
    raise typer.Exit(serve_app(options))


def parse_setting(text: str) -> tuple[str, str]:
    """Read "KEY=VALUE".

    Raises:
        ConfigError: there is no "=" or no key.

    >>> parse_setting("context=incidental")
    ('context', 'incidental')
    """
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise ConfigError(f"--conf {text!r}: KEY=VALUE is needed, as in --conf context=incidental")
    return key.strip(), value.strip()
