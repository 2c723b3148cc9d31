"""`resmtnet serve`: starts the MONAI Label server with this app."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from resmtnet.cli.output import JsonOption, echo
from resmtnet.errors import ConfigError


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command(epilog="Example: resmtnet serve --studies studies/ --conf context=incidental")(
        serve
    )
    app.command(epilog="Example: resmtnet doctor --studies studies/")(doctor)


def doctor(
    studies: Annotated[
        str, typer.Option(help="Folder with CTs, or the URL of a DICOMweb service.")
    ] = ".",
    port: Annotated[int, typer.Option(help="TCP port that the server would use.")] = 8000,
    model: Annotated[
        Path | None, typer.Option(help="Model folder; default: the shipped one.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show what is installed and works here: one page for a mail to whoever helps."""
    from resmtnet.server.doctor import check_all_good, examine, summary

    checks = examine(studies, port, model)
    echo(json.dumps([asdict(c) for c in checks], indent=2) if as_json else summary(checks))
    check_all_good(checks)


def serve(
    studies: Annotated[
        str, typer.Option(help="Folder with CTs, or the URL of a DICOMweb service.")
    ],
    host: Annotated[
        str,
        typer.Option(help="Other than loopback needs --tls-cert, --behind-proxy or --insecure."),
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="TCP port.")] = 8000,
    token_file: Annotated[
        Path | None,
        typer.Option(
            help="File with the tokens, made if there is none; then all need one. Default: "
            "RESMTNET_TOKEN, else a file in your configuration folder."
        ),
    ] = None,
    login: Annotated[
        str,
        typer.Option(help="auto: clients of other machines need a token; always: all do."),
    ] = "auto",
    tls_cert: Annotated[Path | None, typer.Option(help="Certificate (PEM) for https.")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="Private key of the certificate.")] = None,
    behind_proxy: Annotated[
        bool,
        typer.Option("--behind-proxy", help="A proxy or tunnel leads here: all need a token."),
    ] = False,
    insecure: Annotated[
        bool,
        typer.Option("--insecure", help="Other machines may ask without encryption."),
    ] = False,
    open_page: Annotated[
        bool, typer.Option("--open", help="Open the review page in a browser.")
    ] = False,
    conf: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=VALUE", help="Setting of the app, see docs/server.md; may be repeated."
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Serve the review page, 3D Slicer and OHIF until it is stopped (Ctrl-C)."""
    from resmtnet.monai_label.settings import AppSettings
    from resmtnet.page.address import ROOT as PAGE
    from resmtnet.server.launch import ServerOptions, open_when_ready
    from resmtnet.server.launch import serve as serve_app
    from resmtnet.server.tokens import find_tokens

    settings = dict(parse_setting(text) for text in conf or ())
    named = {"login": login if login != "auto" else "", "token_file": str(token_file or "")}
    switches = {"behind_proxy": behind_proxy, "insecure": insecure}
    settings |= {name: text for name, text in named.items() if text}
    settings |= {name: "true" for name, on in switches.items() if on}
    parsed = AppSettings.from_conf(settings)  # refuses wrong settings before the slow start
    options = ServerOptions(studies, host, port, settings, tls_cert=tls_cert, tls_key=tls_key)
    tokens = find_tokens(parsed.token_file)
    first = "admin" if "admin" in tokens.by_role else next(iter(tokens.by_role))
    address = f"{options.url}{PAGE}/?token={tokens.by_role[first]}"
    if as_json:
        told = {"url": options.url, "studies": options.studies, "address": address}
        echo(json.dumps({**told, "tokens": tokens.source}))
    else:
        echo(f"Serving {options.studies} at {options.url} (Ctrl-C stops)", err=True)
        echo(f"In a browser: {address}", err=True)
        echo(f"Tokens of the roles {', '.join(tokens.by_role)}: {tokens.source}", err=True)
    if open_page:
        open_when_ready(options, address)
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
