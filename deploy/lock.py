"""Makes and checks requirements.lock: every package of the tested environment, with its hashes.

    python deploy/lock.py --make UV      # needs the network and uv; see `make lock`
    python deploy/lock.py                # checks, without the network; part of `make check`

`pip install --require-hashes -r requirements.lock` then installs those files and no others. The
hashes of torch are those of the public index: a wheel from elsewhere (CPU only, or built by your
site) has another hash and another version, such as 2.13.0+cpu. Install it first, leave torch and
the packages that begin with nvidia- and triton out of the lock, and add --no-deps.
sam2, which monailabel needs, has no wheel: pip builds it, and what it builds it with is not locked.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import subprocess
import sys
import sysconfig
import tempfile
from importlib.metadata import distributions
from pathlib import Path

from packaging.markers import Marker

CHECKOUT = Path(__file__).resolve().parents[1]
REQUIREMENTS, LOCK = CHECKOUT / "requirements.txt", CHECKOUT / "requirements.lock"
INDEX = "https://pypi.org/simple"
PYTHON, PLATFORM = "3.11.7", "x86_64-manylinux_2_28"
HEAD = """# Every package of the tested environment, with its hashes on the public index.
# For CPython {python} or a later 3.11 on Linux, x86-64.
# Made by `make lock`, checked by `make check`.
# About torch: see deploy/lock.py.
# requirements.txt: sha256 {sha256}
"""
ENTRY = re.compile(r"^([a-z0-9][\w.-]*)==([^\s;\\]+)(?: ; ([^\\\n]+?))? \\$", re.MULTILINE)


def pins() -> str:
    """Return requirements.txt without the project itself."""
    lines = REQUIREMENTS.read_text("utf-8").splitlines()
    return "\n".join(line for line in lines if not line.startswith("-e")) + "\n"


def digest() -> str:
    """Return the checksum of what the lock is made from."""
    return hashlib.sha256(pins().encode()).hexdigest()


def installed() -> dict[str, str]:
    """Return the version of each package of this environment, without a local part (+cpu)."""
    where = [sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]
    found = distributions(path=where)  # not those that setuptools brings and may put on sys.path
    return {_plain(d.metadata["Name"]): d.version.split("+")[0] for d in found}


def make(uv: str) -> None:
    """Write the lock: what requirements.txt needs, in the versions that are installed here."""
    with tempfile.TemporaryDirectory() as folder:
        wanted, kept, out = (Path(folder) / name for name in ("in.txt", "kept.txt", "out.txt"))
        wanted.write_text(pins())
        here = [(n, v) for n, v in installed().items() if n not in ("resmtnet", "pip")]
        kept.write_text("".join(f"{name}=={version}\n" for name, version in sorted(here)))
        command = [uv, "pip", "compile", "--no-config", "--no-header", "--no-annotate"]
        command += ["--python-platform", PLATFORM, "--python-version", PYTHON]
        command += ["--python", sys.executable]
        # sam2 (of monailabel) asks torch for its version when it is built: use the one here.
        command += ["--no-build-isolation", "--generate-hashes", "--default-index", INDEX]
        command += ["--quiet", "-c", str(kept), str(wanted), "-o", str(out)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        LOCK.write_text(HEAD.format(python=PYTHON, sha256=digest()) + out.read_text())


def problems() -> list[str]:
    """Return what is wrong with the lock; nothing is fetched."""
    if not LOCK.is_file():
        return ["there is no requirements.lock"]
    text = LOCK.read_text("utf-8")
    found = []
    if f"sha256 {digest()}" not in text:
        found.append("it was made from another requirements.txt")
    entries = [m for m in ENTRY.finditer(text) if not m[3] or Marker(m[3]).evaluate()]
    if len(ENTRY.findall(text)) != len(re.findall(r"^[a-z0-9]", text, re.MULTILINE)):
        found.append("an entry has no exact version or no hash")
    blocks = re.split(r"^(?=[a-z0-9])", text, flags=re.MULTILINE)[1:]
    found += [
        f"{block.split('=')[0]} has no hash" for block in blocks if "--hash=sha256" not in block
    ]
    here = installed()
    found += [
        f"{m[1]} is {m[2]} in the lock, but {here[_plain(m[1])]} here"
        for m in entries
        if _plain(m[1]) in here and here[_plain(m[1])] != m[2].split("+")[0]
    ]
    return found


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def main() -> int:
    """Make or check; 1 with what is wrong."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--make", metavar="UV", help="write the lock with this uv")
    asked = parser.parse_args()
    if asked.make:
        make(asked.make)
    wrong = problems()
    for line in wrong:
        print(f"requirements.lock: {line}; make it anew: make lock", file=sys.stderr)
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
