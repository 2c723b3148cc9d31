"""Where the readings of a site lie: of a folder of studies, or of a PACS."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from resmtnet.errors import InputError

StudiesOption = Annotated[
    str | None,
    typer.Option(
        metavar="DIR|URL",
        help="Folder of the studies, in which the readings lie; or the URL of a DICOMweb service, "
        "whose readings lie in the folder of the app.",
    ),
]
DatabaseOption = Annotated[
    Path | None,
    typer.Option(
        "--readings",
        metavar="FILE",
        help="The database itself, if it is not at its usual place, or for a backup.",
    ),
]


def database_of(studies: str | None, database: Path | None) -> Path:
    """Return the readings database that a user means, whether or not it exists.

    Args:
        studies: a folder, or the URL of a DICOMweb service.
        database: the file itself; one of the two is needed.

    Raises:
        InputError: neither or both are given, or there is no such folder.
        ConfigError: of a URL: the folder of the app is not found.
    """
    from resmtnet.readings.location import database_in
    from resmtnet.server.launch import default_app_dir

    if (studies is None) == (database is None):
        raise InputError(
            "give either --studies (the folder, or the URL of the PACS) or --readings (the "
            "database file)"
        )
    if database is not None:
        return database
    assert studies is not None
    if studies.startswith(("http://", "https://")):
        return database_in(default_app_dir())
    if not Path(studies).expanduser().is_dir():
        raise InputError(f"--studies {studies}: no such folder")
    return database_in(Path(studies).expanduser())
