"""Label maps of strangers: read in a worker process, and compared with the CT before that."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np

from resmtnet.ct.apart import read_apart
from resmtnet.ct.geometry import Geometry
from resmtnet.ct.image_file import image_suffix, read_geometry
from resmtnet.ct.text_header import read_text_header
from resmtnet.errors import VolumeError
from resmtnet.readings.formats.label_map import LabelMap, read_label_map

_MOST_PER_VOXEL = 4
"""Of the CT: a mask on finer voxels has more than it, but not many times more."""
_SMALL = 2**26
"""So many voxels are read of any mask."""


def read_label_map_apart(path: Path, ct: Geometry | None = None) -> LabelMap:
    """Read a label map of a stranger, see `ct.apart`; otherwise as read_label_map.

    Args:
        path: the file.
        ct: the grid that it was drawn on, if it is known.

    Raises:
        VolumeError: see read_label_map; reading it takes too much memory or time; or its header
            claims far more voxels than the CT has.
    """
    if ct is not None:
        _check_claim(path, math.prod(ct.size_ijk))
    with read_apart(f"{__name__}:_read_to", path) as folder:
        said = json.loads((folder / "map.json").read_text())
        mask = np.load(folder / "mask.npy", allow_pickle=False)
    grid = said["grid"]
    geometry = Geometry(tuple(grid[0]), tuple(grid[1]), tuple(grid[2]), np.array(grid[3]))
    return LabelMap(mask, geometry, tuple(said["segments"]), tuple(said["warnings"]))


def check_label_map(path: Path) -> None:
    """Let a worker read a label map of a stranger, of which nothing is needed here.

    Raises:
        VolumeError: it cannot be read; see read_label_map_apart.
    """
    with read_apart(f"{__name__}:_try", path):
        pass


def _try(path: Path, folder: Path) -> None:
    """Read a label map; nothing is written."""
    read_label_map(path)


def _read_to(path: Path, folder: Path) -> None:
    """Read a label map into files that read_label_map_apart takes."""
    found = read_label_map(path)
    grid = found.geometry
    said = {
        "grid": [grid.size_ijk, grid.spacing_mm, grid.origin_lps_mm, grid.direction.tolist()],
        "segments": found.segments,
        "warnings": found.warnings,
    }
    np.save(folder / "mask.npy", np.asarray(found.mask), allow_pickle=False)
    (folder / "map.json").write_text(json.dumps(said))


def _check_claim(path: Path, n_ct: int) -> None:
    """Compare what the header of a label map says with the CT, without reading its voxels."""
    with read_apart(f"{__name__}:_claim_to", path) as folder:
        claimed = int((folder / "voxels.txt").read_text())
    most = max(_MOST_PER_VOXEL * n_ct, _SMALL)
    if claimed > most:
        raise VolumeError(
            f"{path.name} has {claimed:,} voxels and the CT {n_ct:,}; at most {most:,} are read. "
            "Save the mask on the voxels of the CT"
        )


def _claim_to(path: Path, folder: Path) -> None:
    """Write how many voxels the header of a label map claims, all layers together."""
    suffix = (image_suffix(path) or "").lower()
    if suffix in (".nii", ".nii.gz"):
        claimed = math.prod(read_geometry(path).size_ijk)
    elif suffix in (".nrrd", ".mha"):
        fields = read_text_header(path, suffix).fields
        claimed = math.prod(
            int(text) for text in fields["sizes" if suffix == ".nrrd" else "DimSize"].split()
        )
    else:
        claimed = 0  # read_label_map says what is allowed
    (folder / "voxels.txt").write_text(str(claimed))
