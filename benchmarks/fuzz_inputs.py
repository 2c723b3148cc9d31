"""Mutated input files: no crash, no hang, no foreign exception, bounded memory, valid geometry.

    python benchmarks/fuzz_inputs.py [--inputs 100000] [--seed 0] [--kinds dicom,...] [--json FILE]

Small valid files of every kind that the package reads are mutated at random (bits, bytes, numbers,
blocks, header fields, truncation) and read the way the package reads them: a CT is opened, read
whole and cut around a point; a mask, a markups document and a reading become readings. A worker
process with a limit of memory reads them, so that a crash or a hang is counted and not fatal.

Counted as a defect:
    crash      the worker dies
    hang       one input takes more than 10 s
    foreign    an exception that is no ResMTNetError
    memory     the worker asks for more than 1.5 GiB of address space beyond its start
    geometry   a grid is accepted that is not finite and orthonormal

Defects are written with their seeds; `--only KIND:SEED` reads one of them again.
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import json
import multiprocessing
import os
import random
import re
import resource
import struct
import sys
import tempfile
import time
import traceback
import zlib
from collections import Counter
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

HANG_S = 10.0
MEMORY_BYTES = 1_610_612_736
"""Beyond what the worker has when it starts."""
_BATCH = 50
"""Inputs that the worker is handed at a time."""
_SIZE = (9, 8, 7)
"""Voxels of the valid files, i j k."""

Files = dict[str, bytes]
"""Content by file name; the first is the one that is opened."""


# -- valid files -----------------------------------------------------------------------------------


def hu() -> np.ndarray:
    """int16 [k, j, i], HU of lung with a ball."""
    k, j, i = np.indices(_SIZE[::-1])
    ball = (i - 4) ** 2 + (j - 4) ** 2 + (k - 3) ** 2 <= 5
    return np.where(ball, 30, -850).astype(np.int16)


def dicom_files(syntax: str) -> Files:
    """A series of four slices; one of them is compressed for the syntaxes that are."""
    import pydicom
    from pydicom.dataset import FileDataset, FileMetaDataset

    files: Files = {}
    for k in range(4):
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
        meta.MediaStorageSOPInstanceUID = f"1.2.3.4.{k + 1}"
        meta.TransferSyntaxUID = syntax
        ds = FileDataset("", {}, file_meta=meta, preamble=bytes(128))
        ds.SOPClassUID, ds.SOPInstanceUID = (
            meta.MediaStorageSOPClassUID,
            meta.MediaStorageSOPInstanceUID,
        )
        ds.Modality, ds.SeriesInstanceUID = "CT", "1.2.3"
        ds.AcquisitionNumber, ds.InstanceNumber = 1, k + 1
        ds.AcquisitionTime, ds.ConvolutionKernel = f"12000{k}", "B30f"
        ds.ImagePositionPatient = [10, 20, 30 + 2 * k]
        ds.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        ds.PixelSpacing = ["0.7", "0.8"]
        ds.Rows, ds.Columns, ds.SamplesPerPixel = _SIZE[1], _SIZE[0], 1
        ds.PhotometricInterpretation = "MONOCHROME2"
        ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
        ds.add_new(0x00280120, "US", 0)
        ds.RescaleSlope, ds.RescaleIntercept = 1, -1024
        big = syntax == pydicom.uid.ExplicitVRBigEndian
        ds.PixelData = (hu()[k] + 1024).astype(">u2" if big else "<u2").tobytes()
        ds["PixelData"].VR = "OW"
        ds.is_little_endian = not big
        ds.is_implicit_VR = syntax == pydicom.uid.ImplicitVRLittleEndian
        if syntax == pydicom.uid.RLELossless:
            ds.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
            ds.compress(syntax, encoding_plugin="pydicom", generate_instance_uid=False)
        stream = pydicom.filebase.DicomBytesIO()
        pydicom.dcmwrite(stream, ds, write_like_original=False)
        files[f"{k}.dcm"] = stream.getvalue()
    return files


def nifti_files(suffix: str, version: int = 1) -> Files:
    """One NIfTI file."""
    import nibabel as nib

    affine = np.array([[-0.7, 0, 0, 5], [0, -0.8, 0, 6], [0, 0, 2, 7], [0, 0, 0, 1]])
    image = (nib.Nifti1Image if version == 1 else nib.Nifti2Image)(hu().T, affine)
    image.set_qform(affine, 1)
    data = image.to_bytes()
    return {f"ct{suffix}": gzip.compress(data, mtime=0) if suffix == ".nii.gz" else data}


def nrrd_files(encoding: str, voxels: np.ndarray, name: str, extra: str = "") -> Files:
    """One NRRD file of int16 or uint8 voxels [k, j, i]."""
    kind = "short" if voxels.dtype == np.int16 else "unsigned char"
    head = (
        f"NRRD0004\ntype: {kind}\ndimension: 3\nspace: left-posterior-superior\n"
        f"sizes: {_SIZE[0]} {_SIZE[1]} {_SIZE[2]}\nspace directions: (0.7,0,0) (0,0.8,0) (0,0,2)\n"
        f"kinds: domain domain domain\nendian: little\nencoding: {encoding}\n"
        f"space origin: (-5,-6,7)\n{extra}\n"
    )
    data = voxels.tobytes()
    return {name: head.encode() + (gzip.compress(data, mtime=0) if encoding == "gzip" else data)}


def meta_files(name: str, compressed: bool = False) -> Files:
    """One MetaImage, or a .mhd with its .raw."""
    data = hu().astype("<i2").tobytes()
    packed = zlib.compress(data) if compressed else data
    head = "ObjectType = Image\nNDims = 3\nBinaryData = True\nBinaryDataByteOrderMSB = False\n"
    if compressed:
        head += f"CompressedData = True\nCompressedDataSize = {len(packed)}\n"
    head += "TransformMatrix = 1 0 0 0 1 0 0 0 1\nOffset = -5 -6 7\nElementSpacing = 0.7 0.8 2\n"
    head += f"DimSize = {_SIZE[0]} {_SIZE[1]} {_SIZE[2]}\nElementType = MET_SHORT\n"
    if name.endswith(".mhd"):
        return {name: (head + "ElementDataFile = ct.raw\n").encode(), "ct.raw": packed}
    return {name: (head + "ElementDataFile = LOCAL\n").encode() + packed}


def seg_files() -> Files:
    """A .seg.nrrd with two segments."""
    mask = (hu() > 0).astype(np.uint8)
    mask[0, 0, :3] = 2
    extra = "".join(
        f"Segment{n}_ID:=S{n}\nSegment{n}_Name:={name}\nSegment{n}_LabelValue:={n + 1}\n"
        f"Segment{n}_Layer:=0\nSegment{n}_Extent:=0 8 0 7 0 6\n"
        for n, name in enumerate(("malignant", "benign"))
    )
    return nrrd_files("gzip", mask, "m.seg.nrrd", extra)


def layered_files() -> Files:
    """A .seg.nrrd with two layers, which overlap."""
    mask = (hu() > 0).astype(np.uint8)
    head = (
        "NRRD0004\ntype: unsigned char\ndimension: 4\nspace: left-posterior-superior\n"
        f"sizes: 2 {_SIZE[0]} {_SIZE[1]} {_SIZE[2]}\n"
        "space directions: none (0.7,0,0) (0,0.8,0) (0,0,2)\nkinds: list domain domain domain\n"
        "encoding: gzip\nspace origin: (-5,-6,7)\nSegment0_ID:=a\nSegment0_Name:=malignant\n"
        "Segment0_LabelValue:=1\nSegment0_Layer:=0\nSegment1_ID:=b\nSegment1_Name:=benign\n"
        "Segment1_LabelValue:=1\nSegment1_Layer:=1\n\n"
    )
    data = np.stack([mask, np.roll(mask, 1, 2)], -1).tobytes()
    return {"m.seg.nrrd": head.encode() + gzip.compress(data, mtime=0)}


def nifti_mask_files() -> Files:
    """A mask as .nii.gz."""
    import nibabel as nib

    affine = np.array([[-0.7, 0, 0, 5], [0, -0.8, 0, 6], [0, 0, 2, 7], [0, 0, 0, 1]])
    image = nib.Nifti1Image((hu() > 0).astype(np.uint16).T, affine)
    return {"m.nii.gz": gzip.compress(image.to_bytes(), mtime=0)}


def markups_files() -> Files:
    """A Markups document of Slicer: points, a line and a box."""
    point = {"id": "1", "label": "N1 malignant", "position": [1.0, 2.0, 3.0], "selected": True}
    markups = [
        {"type": "Fiducial", "coordinateSystem": "LPS", "controlPoints": [point]},
        {
            "type": "Line",
            "coordinateSystem": "LPS",
            "controlPoints": [point, {**point, "id": "2", "position": [9.0, 2.0, 3.0]}],
        },
        {
            "type": "ROI",
            "coordinateSystem": "RAS",
            "roiType": "Box",
            "center": [1.0, 2.0, 3.0],
            "orientation": [1, 0, 0, 0, 1, 0, 0, 0, 1],
            "size": [6.0, 7.0, 8.0],
            "controlPoints": [point],
        },
    ]
    return {"m.mrk.json": json.dumps({"markups": markups}, indent=1).encode()}


def reading_files() -> Files:
    """A list of one reading document."""
    reading = {
        "schema": "resmtnet.reading/1",
        "image": "ct",
        "reader": "A",
        "centre_lps_mm": [1.0, 2.0, 3.0],
        "class": "malignant",
        "malignancy": 4,
        "size": {"mean_diameter_mm": 8.5},
        "characteristics": {"texture": 5},
        "comment": "seen \u00e4",
    }
    return {"r.json": json.dumps([reading], indent=1).encode()}


# -- what reads them -------------------------------------------------------------------------------


def check_grid(grid: Any) -> None:
    """Raise an AssertionError for a grid that no reader may accept."""
    numbers = [*grid.spacing_mm, *grid.origin_lps_mm, *np.ravel(grid.direction)]
    assert np.isfinite(numbers).all(), f"geometry: not finite: {numbers}"
    assert min(grid.spacing_mm) > 0, f"geometry: spacing {grid.spacing_mm}"
    apart = np.abs(grid.direction.T @ grid.direction - np.eye(3)).max()
    assert apart < 0.01, f"geometry: not orthonormal by {apart}"


def read_ct(path: Path) -> None:
    """Open a CT, read it whole, and cut a box out of it."""
    from resmtnet import CTVolume

    ct = CTVolume.open(path)
    check_grid(ct.geometry)
    ct.crop(ct.geometry.ijk_to_lps((4, 4, 2)), 5.0)
    if np.prod([float(n) for n in ct.geometry.size_ijk]) < 2**26:
        ct.array()


def read_series(path: Path) -> None:
    """Open a folder of DICOM files."""
    read_ct(path.parent)


def read_mask(path: Path) -> None:
    """Make readings of a mask."""
    from resmtnet.readings.formats.label_map import read_label_map
    from resmtnet.readings.formats.mask_label import read_mask as parse

    check_grid(read_label_map(path).geometry)
    parse(path, {"label_info": [{"name": "malignant", "idx": 1}]}, [])


def read_markups(path: Path) -> None:
    """Make readings of a Markups document."""
    from resmtnet.readings.formats.from_markups import from_markups
    from resmtnet.readings.inbox import _read_json

    document = _read_json(path)
    if isinstance(document, dict):
        for draft in from_markups(document).drafts:
            draft.reading("ct", "A", "markups", mask=None)


def read_reading(path: Path) -> None:
    """Make readings of a list of reading documents."""
    from resmtnet.readings.inbox import SavedLabel, _read_documents, _read_json

    _read_documents(_read_json(path), SavedLabel("ct", path, "A"))


Reader = Callable[[Path], None]


def kinds() -> dict[str, tuple[Files, Reader]]:
    """The valid files of each kind, and what reads them."""
    jpeg = "1.2.840.10008.1.2"
    return {
        "dicom": (dicom_files(f"{jpeg}.1"), read_series),
        "dicom-implicit": (dicom_files(jpeg), read_series),
        "dicom-big": (dicom_files(f"{jpeg}.2"), read_series),
        "dicom-deflated": (dicom_files(f"{jpeg}.1.99"), read_series),
        "dicom-rle": (dicom_files(f"{jpeg}.5"), read_series),
        "nifti": (nifti_files(".nii"), read_ct),
        "nifti-gz": (nifti_files(".nii.gz"), read_ct),
        "nifti-2": (nifti_files(".nii", 2), read_ct),
        "nrrd": (nrrd_files("raw", hu(), "ct.nrrd"), read_ct),
        "nrrd-gz": (nrrd_files("gzip", hu(), "ct.nrrd"), read_ct),
        "mha": (meta_files("ct.mha"), read_ct),
        "mha-zlib": (meta_files("ct.mha", compressed=True), read_ct),
        "mhd": (meta_files("ct.mhd"), read_ct),
        "seg": (seg_files(), read_mask),
        "seg-layers": (layered_files(), read_mask),
        "mask-nifti": (nifti_mask_files(), read_mask),
        "markups": (markups_files(), read_markups),
        "reading": (reading_files(), read_reading),
    }


# -- mutation --------------------------------------------------------------------------------------

_NUMBERS = (
    0,
    1,
    -1,
    2,
    127,
    128,
    255,
    256,
    32767,
    32768,
    65535,
    65536,
    2**31 - 1,
    2**31,
    2**32 - 1,
)
_TEXTS = (
    *(b"0", b"-1", b"1e308", b"-1e-300", b"nan", b"inf", b"-inf", b"99999999999999999999", b""),
    *(
        b"9" * 400,
        b"\xff\xfe",
        b"0.7\\0.7",
        b"null",
        b"[]",
        b"{}",
        b"true",
        b'"x"',
        b"1e-9",
        b"none",
    ),
)
_NUMBER_TEXT = re.compile(rb"-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?")
_WORD = re.compile(rb"[A-Za-z_]{3,}")


def mutated(files: Files, draw: random.Random) -> Files:
    """The files with one to four random changes, most of them in the header."""
    changed = dict(files)
    for _ in range(draw.choice((1, 1, 1, 2, 2, 3, 4))):
        name = draw.choice(list(changed))
        changed[name] = _change(changed[name], draw)
    if len(changed) > 1 and draw.random() < 0.02:
        del changed[draw.choice(list(changed)[1:])]
    return changed


def _change(data: bytes, draw: random.Random) -> bytes:
    if not data:
        return bytes(draw.randrange(256) for _ in range(draw.randrange(200)))
    packed = data[:2] == b"\x1f\x8b" and draw.random() < 0.8
    if packed:
        # What lies under the compression is where the header is.
        with contextlib.suppress(OSError, EOFError, zlib.error):
            return gzip.compress(_change(gzip.decompress(data), draw), mtime=0)
    end = len(data) if draw.random() < 0.25 else min(len(data), 1200)
    at = draw.randrange(end)
    kind = draw.randrange(9)
    out = bytearray(data)
    if kind == 0:
        out[at] ^= 1 << draw.randrange(8)
    elif kind == 1:
        out[at] = draw.randrange(256)
    elif kind == 2:
        form = draw.choice(("<H", ">H", "<I", ">I", "<f", "<d", "<q"))
        size = struct.calcsize(form)
        if "f" in form or "d" in form:
            value = struct.pack(form, draw.choice((0.0, -1.0, 1e30, float("nan"), float("inf"))))
        else:
            number = draw.choice(_NUMBERS) % 2 ** (8 * size - (form[1] == "q"))
            value = struct.pack(form, number)
        out[at : at + size] = value
    elif kind == 3:
        return data[: draw.randrange(len(data))]
    elif kind == 4:
        length = draw.randrange(1, 64)
        start = draw.randrange(len(data))
        out[at:at] = data[start : start + length]
    elif kind == 5:
        del out[at : at + draw.randrange(1, 64)]
    elif kind in (6, 7):
        found = list(_NUMBER_TEXT.finditer(data, 0, min(len(data), 3000)))
        if found:
            match = draw.choice(found)
            out[match.start() : match.end()] = draw.choice(_TEXTS)
    else:
        found = list(_WORD.finditer(data, 0, min(len(data), 3000)))
        if found:
            match = draw.choice(found)
            out[match.start() : match.end()] = draw.choice(found)[0]
    return bytes(out)


# -- the worker ------------------------------------------------------------------------------------


def one(kind: str, seed: int, files: Files, reader: Reader, folder: Path) -> tuple[str, str]:
    """The outcome of one input, and what is to be told of it."""
    from resmtnet.errors import ResMTNetError

    inputs = mutated(files, random.Random(f"{kind}:{seed}"))
    for old in folder.iterdir():
        old.unlink()
    for name, data in inputs.items():
        (folder / name).write_bytes(data)
    try:
        reader(folder / next(iter(inputs)))
    except ResMTNetError as error:
        return ("refused", "") if len(str(error)) < 5000 else ("foreign", "a message too long")
    except MemoryError as error:
        return "memory", _told(error)
    except AssertionError as error:
        text = str(error)
        return ("geometry" if text.startswith("geometry") else "foreign"), _told(error)
    except BaseException as error:
        return "foreign", _told(error)
    return "read", ""


def _told(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    where = " < ".join(f"{Path(f.filename).name}:{f.lineno}" for f in reversed(frames[-5:]))
    return f"{type(error).__name__}: {str(error)[:200]} at {where}"


def work(pipe: Connection, cache: str) -> None:
    """Read the inputs that the pipe names, and send back the outcome of each."""
    os.environ["RESMTNET_CACHE_DIR"] = cache
    os.environ["RESMTNET_CACHE_BYTES"] = "10000000"
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # what C++ readers print
    import logging
    import warnings

    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    table = kinds()
    for name, (files, reader) in table.items():  # imports, before the limit is set
        with tempfile.TemporaryDirectory() as made:
            for file, data in files.items():
                (Path(made) / file).write_bytes(data)
            reader(Path(made) / next(iter(files)))
            pipe.send(("valid", name, "", 0))
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY_BYTES,) * 2)
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        while True:
            kind, seeds = pipe.recv()
            for seed in seeds:
                outcome, told = one(kind, seed, *table[kind], folder)
                pipe.send((kind, seed, outcome, told))


class Worker:
    """A process that reads inputs, and is started anew when it dies or hangs."""

    def __init__(self, cache: str) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, other = context.Pipe()
        self.process = context.Process(target=work, args=(other, cache), daemon=True)
        self.process.start()
        other.close()
        for _ in kinds():
            if not self.pipe.poll(300):
                raise RuntimeError("the worker cannot read the valid files")
            self.pipe.recv()

    def read(self, kind: str, seeds: list[int]) -> list[tuple[int, str, str]]:
        """Outcomes of some inputs; fewer than asked for if one of them crashes or hangs."""
        self.pipe.send((kind, seeds))
        found: list[tuple[int, str, str]] = []
        for seed in seeds:
            if not self.pipe.poll(HANG_S):
                return [*found, (seed, "hang", f"more than {HANG_S} s")]
            try:
                _, _, outcome, told = self.pipe.recv()
            except (EOFError, ConnectionResetError):
                self.process.join()
                return [*found, (seed, "crash", f"exit code {self.process.exitcode}")]
            found.append((seed, outcome, told))
        return found

    def stop(self) -> None:
        """End the process."""
        self.process.kill()
        self.process.join()


def run(names: list[str], inputs: int, seed: int) -> dict[str, Any]:
    """Read so many mutated inputs, evenly of all kinds."""
    started = time.perf_counter()
    outcomes: dict[str, Counter[str]] = {name: Counter() for name in names}
    defects: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as cache:
        worker = Worker(cache)
        for name in names:
            waiting = [seed * 10_000_000 + n for n in range(-(-inputs // len(names)))]
            while waiting:
                asked = waiting[:_BATCH]
                found = worker.read(name, asked)
                waiting = waiting[len(found) :]
                for one_seed, outcome, told in found:
                    outcomes[name][outcome] += 1
                    if outcome not in ("read", "refused"):
                        defects.append({"input": f"{name}:{one_seed}", "as": outcome, "told": told})
                        print(f"  {outcome} {name}:{one_seed} {told}", flush=True)
                if found[-1][1] in ("crash", "hang"):
                    worker.stop()
                    worker = Worker(cache)
            print(f"{name:16} {dict(outcomes[name])}", flush=True)
        worker.stop()
    total = sum(outcomes.values(), Counter())
    return {
        "inputs": total.total(),
        "outcomes": dict(total),
        "by_kind": {name: dict(counter) for name, counter in outcomes.items()},
        "defects": defects,
        "seed": seed,
        "seconds": round(time.perf_counter() - started),
    }


def main() -> int:
    """Run, print and write the figures; 1 if there are defects."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", help="comma-separated; default: all")
    parser.add_argument("--only", help="KIND:SEED, one input in this process")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if options.only:
        kind, _, number = options.only.partition(":")
        with tempfile.TemporaryDirectory() as folder:
            os.environ["RESMTNET_CACHE_DIR"] = folder + "-cache"
            print(one(kind, int(number), *kinds()[kind], Path(folder)))
        return 0
    names = options.kinds.split(",") if options.kinds else list(kinds())
    found = run(names, options.inputs, options.seed)
    print(json.dumps({k: v for k, v in found.items() if k != "by_kind"}, indent=1))
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")
    return 1 if found["defects"] else 0


if __name__ == "__main__":
    sys.exit(main())
