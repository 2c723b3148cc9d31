"""Where the readings database lies, and file systems that cannot hold it."""

from __future__ import annotations

from pathlib import Path

DATABASE = Path("resmtnet", "readings.sqlite")
"""The database within a folder of studies, or within that of the app."""

UPLOAD_NAMES = "upload_names.json"
"""Beside the database: the names under which viewers upload images."""

BESIDE = (
    *("answers", "audit.jsonl", "crops", "labels-*", "models", "observations", "offers.sqlite*"),
    *("pacs-results", "repeats.sqlite*", "scores", "training", UPLOAD_NAMES),
)
"""What lies beside the database, as patterns of names."""

NETWORK = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "lustre", "gpfs", "beegfs"}
    | {"fuse.sshfs", "fuse.glusterfs", "fuse.s3fs", "fuse.rclone", "fuse.gcsfuse", "davfs"}
)
"""File systems that do not share memory maps between machines, as a write-ahead log needs."""
MOUNTS = Path("/proc/self/mountinfo")


def database_in(folder: Path) -> Path:
    """Return the readings database of a folder of studies.

    >>> database_in(Path("studies")).as_posix()
    'studies/resmtnet/readings.sqlite'
    """
    return folder / DATABASE


def own_files(database: Path) -> list[Path]:
    """Return what this package writes beside a readings database, as far as it is there.

    In its usual place that is the whole folder; elsewhere the folder may hold files of others.
    """
    folder = database.parent
    if folder.name == DATABASE.parts[0]:
        return [folder]
    names = (f"{database.stem}*", *BESIDE)
    return [path for name in names for path in folder.glob(name)]


def network_file_system(folder: Path, mounts: Path = MOUNTS) -> str | None:
    """Return the kind of a network file system; None for a local one, or where it is not known.

    Args:
        folder: that exists.
        mounts: table of mounts as Linux gives it, see proc(5).
    """
    try:
        lines = mounts.read_text("utf-8", "replace").splitlines()
    except OSError:  # no Linux
        return None
    inside, kind = Path(), ""
    for line in lines:
        before, _, after = line.partition(" - ")
        point = Path(before.split(" ")[4].replace("\\040", " "))
        if folder.resolve().is_relative_to(point) and len(point.parts) >= len(inside.parts):
            inside, kind = point, after.split(" ")[0]
    return kind if kind in NETWORK else None
