"""NiiVue, which draws the CT in the browser: fetched from the npm registry once, at set-up.

`python -m resmtnet.page.niivue` fetches it into the environment; the page itself fetches nothing.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import urllib.request
from pathlib import Path

from resmtnet.errors import ConfigError
from resmtnet.files import atomic_file

PACKAGE = "@niivue/niivue@0.69.0"
SHA256 = "d6c2be4feb1ad53b2ac76b4196da8d8fd2263b662b511c55ca0fd127eb6a6532"
"""Of the file that is taken out of the package."""

_ADDRESS = "https://registry.npmjs.org/@niivue/niivue/-/niivue-0.69.0.tgz"
_MEMBER = "package/dist/index.js"
VARIABLE = "RESMTNET_NIIVUE"
"""Names the file (gzip) where it is kept elsewhere."""

MISSING = (
    "NiiVue, which draws the CT, is not installed: run `python -m resmtnet.page.niivue` once, on "
    "this machine or on one with a network, and copy the file that it names."
)


def niivue_file() -> Path:
    """Return where NiiVue is kept, compressed; it may not be there."""
    named = os.environ.get(VARIABLE)
    if named:
        return Path(named).expanduser()
    name = PACKAGE.removeprefix("@").replace("/", "-").replace("@", "-")
    return Path(sys.prefix) / "share" / "resmtnet" / f"{name}.js.gz"


def fetch_niivue() -> Path:
    """Fetch NiiVue, unless it is there: with npm, which knows a site's mirror, else directly.

    Raises:
        ConfigError: the registry does not answer, or the file is another.
    """
    kept = niivue_file()
    if kept.is_file():
        return kept
    with tempfile.TemporaryDirectory(prefix="resmtnet-") as folder:
        archive = _download(Path(folder))
        with tarfile.open(archive) as packed:
            member = packed.extractfile(_MEMBER)
            content = member.read() if member else b""
    found = hashlib.sha256(content).hexdigest()
    if found != SHA256:
        raise ConfigError(f"{PACKAGE}: {_MEMBER} has SHA-256 {found}, not {SHA256}")
    kept.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(kept) as draft:
        draft.write_bytes(gzip.compress(content, mtime=0))
    return kept


def _download(folder: Path) -> Path:
    npm = shutil.which("npm")
    if npm is None:
        try:
            with urllib.request.urlopen(_ADDRESS, timeout=60) as reply:
                (folder / "niivue.tgz").write_bytes(reply.read())
        except OSError as error:
            raise ConfigError(f"{_ADDRESS} cannot be fetched: {error}") from error
        return folder / "niivue.tgz"
    command = [npm, "pack", "--silent", PACKAGE]
    told = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if told.returncode:
        raise ConfigError(f"npm pack {PACKAGE} failed: {told.stderr.strip()[-500:]}")
    return folder / told.stdout.strip().splitlines()[-1]


if __name__ == "__main__":
    print(fetch_niivue())
