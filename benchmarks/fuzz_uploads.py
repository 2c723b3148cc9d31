"""Damaged files through every way on which a client can send one: does the server live through it?

    python benchmarks/fuzz_uploads.py [--files 2500] [--seconds 240] [--resume FILE] [--real-model]

Small valid files of every kind are damaged at random (benchmarks/damaged_files.py) and sent as an
image, with a request to a model, as a label of an image (whose mask, markups or documents become
readings), as a reading, as the image of a session, and to the proxy of the PACS. An image that is
taken is clicked as well. With `--resume` the figures of FILE are added to, and the files that come
next are sent.

Counted as a defect: the server ends; an answer 500, or one that is an error and no JSON; none
within 10 s. `--only NUMBER` sends one file again and prints the answers.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

from damaged_files import Files, mutated, nifti_files, seg_files
from fuzz_inputs import kinds
from light_server import Server, one_server
from memory import files_left

LONGEST_S = 10.0
IMAGE = "ct"
CLICK = {"params": json.dumps({"foreground": [[4, 4, 2]], "client_id": "fuzz"})}
CONF = {"sessions": "true", "warm_up": "false"}

Answers = list[httpx.Response]
Way = Callable[[httpx.Client, str, bytes, int], Answers]


def as_image(http: httpx.Client, name: str, content: bytes, number: int) -> Answers:
    """Store it; if it is taken, click into it and delete it. Every second has a viewer's name."""
    image = f"made-{number}"
    params = {"params": json.dumps({"client_id": "fuzz"} if number % 2 else {})}
    sent = {"file": (name, content)}
    answers = [http.put("/datastore/image", params={"image": image}, data=params, files=sent)]
    if answers[0].status_code == 200:
        image = answers[0].json()["image"]
        answers.append(http.post("/infer/resmtnet_click", params={"image": image}, data=CLICK))
        answers.append(http.get("/datastore/image/info", params={"image": image}))
        answers.append(http.delete("/datastore/image", params={"id": image}))
    return answers


def to_model(http: httpx.Client, name: str, content: bytes, number: int) -> Answers:
    """Ask a model about it; every second time the mask is asked for as well."""
    asked = {"output": "json"} if number % 2 else {}
    return [
        http.post(
            "/infer/resmtnet_click", params=asked, data=CLICK, files={"file": (name, content)}
        )
    ]


def as_label(http: httpx.Client, name: str, content: bytes, number: int) -> Answers:
    """Save it; every second time the label is deleted, so that the next one replaces none."""
    named = [{"name": "malignant", "idx": 1}, {"name": "benign", "idx": 2}]
    params = {"params": json.dumps({"client_id": "fuzz", "label_info": named})}
    place, sent = {"image": IMAGE}, {"label": (name, content)}
    answers = [http.put("/datastore/label", params=place, data=params, files=sent)]
    if number % 2 and answers[0].status_code == 200:
        answers.append(http.delete("/datastore/label", params={"id": IMAGE, "tag": "final"}))
    return answers


def as_reading(http: httpx.Client, name: str, content: bytes, number: int) -> Answers:
    """Send it as the body of a reading."""
    del name, number
    headers = {"Content-Type": "application/json"}
    return [http.post("/resmtnet/readings", content=content, headers=headers)]


def as_session(http: httpx.Client, name: str, content: bytes, number: int) -> Answers:
    """Keep it as the image of a session, and click into that."""
    del number
    answers = [http.put("/session/", files={"files": (name, content)})]
    if answers[0].status_code == 200:
        session = answers[0].json()["session_id"]
        asked = {"session_id": session}
        answers.append(http.post("/infer/resmtnet_click", params=asked, data=CLICK))
        answers.append(http.delete(f"/session/{session}"))
    return answers


def to_pacs(http: httpx.Client, name: str, content: bytes, number: int) -> Answers:
    """Store it in the PACS behind the server, which no client may."""
    del name, number
    edge = b"--x\r\nContent-Type: application/dicom\r\n\r\n"
    headers = {"Content-Type": 'multipart/related; type="application/dicom"; boundary=x'}
    body = edge + content + b"\r\n--x--\r\n"
    return [http.post("/proxy/dicom/stow/studies", content=body, headers=headers)]


def one_reading() -> Files:
    """A reading that names a mask."""
    return {
        "r.json": json.dumps(
            {
                "schema": "resmtnet.reading/1",
                "image": IMAGE,
                "reader": "A",
                "centre_lps_mm": [-2.2, -3.2, 13.0],
                "class": "malignant",
                "malignancy": 4,
                "size": {"mean_diameter_mm": 8.5},
                "characteristics": {"texture": 5},
                "mask": {"file": f"{'0' * 64}.nrrd", "sha256": "0" * 64},
                "comment": "seen \u00e4",
            },
            indent=1,
        ).encode()
    }


IMAGES = ("nifti", "nifti-gz", "nifti-2", "nrrd", "nrrd-gz", "mha", "mha-zlib", "mhd", "dicom")
LABELS = ("seg", "seg-layers", "mask-nifti", "markups", "reading", "nrrd-gz", "mha-zlib", "nifti")
TURNS: list[tuple[str, Way, str]] = [
    *(("image", as_image, kind) for kind in IMAGES),
    *(("model", to_model, kind) for kind in IMAGES),
    *(("label", as_label, kind) for kind in (*LABELS, "seg", "seg-layers", "mask-nifti")),
    *(("reading", as_reading, kind) for kind in ("rest", "rest", "markups")),
    *(("session", as_session, kind) for kind in ("nifti-gz", "nrrd", "mha", "dicom")),
    ("pacs", to_pacs, "dicom"),
]
"""The ways and kinds, one after the other."""


class Found:
    """What the server answered."""

    def __init__(self, longest_s: float = LONGEST_S) -> None:
        """Take an answer that comes after so long for a hang."""
        self._longest_s = longest_s
        self.next = 0
        """Number of the next file, which is the seed of its damage."""
        self.answers: Counter[str] = Counter()
        self.defects: list[dict[str, Any]] = []
        self._valid = {name: files for name, (files, _) in kinds().items()} | {
            "rest": one_reading()
        }

    def send(self, http: httpx.Client) -> Answers:
        """Send the next file, and look at the answers."""
        number, self.next = self.next, self.next + 1
        way, send, kind = TURNS[number % len(TURNS)]
        inputs = mutated(self._valid[kind], random.Random(f"{kind}:{number}"))
        name, content = next(iter(inputs.items()))
        began_s = time.monotonic()
        try:
            answers = send(http, name, content, number)
        except httpx.TimeoutException:
            self._note(number, f"no answer within {self._longest_s:.0f} s")
            return []
        except httpx.HTTPError as error:
            self._note(number, f"{type(error).__name__}: {error}")
            return []
        self.answers[f"{way} {answers[0].status_code}"] += 1
        for answer in answers:
            is_json = answer.headers.get("content-type", "").startswith("application/json")
            if answer.status_code == 500 or (answer.status_code > 399 and not is_json):
                self._note(number, f"{answer.request.url.path}: {answer.status_code} {answer.text}")
        if time.monotonic() - began_s > self._longest_s:
            self._note(number, f"answered after {time.monotonic() - began_s:.0f} s")
        return answers

    def _note(self, number: int, told: str) -> None:
        way, _, kind = TURNS[number % len(TURNS)]
        self.defects.append({"file": number, "way": way, "kind": kind, "told": told[:300]})
        print(self.defects[-1], flush=True)

    def to_json(self) -> dict[str, Any]:
        """Return the figures."""
        return {
            "files": self.next,
            "answers": dict(sorted(self.answers.items())),
            "defects": self.defects,
        }


def fuzz(server: Server, found: Found, most: int, seconds: float) -> None:
    """Send files until there are so many, or the time is over, or the server has ended."""
    end_s = time.monotonic() + seconds
    with httpx.Client(base_url=server.url, timeout=300) as http:  # the first one waits for ITK
        as_label(http, *next(iter(seg_files().items())), 1)
    with httpx.Client(base_url=server.url, timeout=LONGEST_S) as http:
        while found.next < most and time.monotonic() < end_s:
            found.send(http)
            if not server.lives():
                found.defects.append({"file": found.next - 1, "told": f"ended: {server.code}"})
                return


def main() -> int:
    """Print the figures; 1 if there is a defect."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--files", type=int, default=2500, help="in all, earlier ones included")
    parser.add_argument("--seconds", type=float, default=240.0)
    parser.add_argument("--resume", type=Path, help="file of the figures, to read and to write")
    parser.add_argument("--real-model", action="store_true")
    parser.add_argument("--only", type=int, help="number of one file")
    asked = parser.parse_args()
    found = Found()
    if asked.resume and asked.resume.exists():
        before = json.loads(asked.resume.read_text())
        found.next, found.defects = before["files"], before["defects"]
        found.answers.update(before["answers"])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        studies = folder / "studies"
        studies.mkdir()
        (studies / f"{IMAGE}.nii.gz").write_bytes(nifti_files(".nii.gz")["ct.nii.gz"])
        with one_server(studies, folder, CONF, not asked.real_model) as server:
            if asked.only is not None:
                found.next = asked.only
                with httpx.Client(base_url=server.url, timeout=None) as http:
                    for answer in found.send(http):
                        print(answer.status_code, answer.text[:1000])
            else:
                fuzz(server, found, asked.files, asked.seconds)
            time.sleep(2)  # files are deleted after their answer was sent
            left = files_left(folder / "temporary")
            log = server.log.read_text(errors="replace")
    document = found.to_json() | {"temporary files left": left}
    print(json.dumps(document, indent=1))
    if asked.resume and asked.only is None:
        asked.resume.write_text(json.dumps(document, indent=1) + "\n")
        if found.defects:
            asked.resume.with_suffix(".log").write_text(log)
    return int(bool(found.defects or left))


if __name__ == "__main__":
    raise SystemExit(main())
