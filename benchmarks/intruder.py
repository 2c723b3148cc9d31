"""What a client without a password can do to a running server: each hole, open or closed.

    python benchmarks/intruder.py URL [--only WORD] [--skip WORD] [--json FILE]

Give it a server that you can lose, with a memory limit (`ulimit -v`), on this machine: the last
requests of the list kill or block a server that is open. They are sent in the order of the list,
and the table ends with the first one after which the server no longer answers. Holes of the PACS
are tried where the server has one.

Only the standard library is used, so any version of the server can be asked.
"""

from __future__ import annotations

import argparse
import gzip
import http.client
import io
import json
import struct
import sys
import tempfile
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import quote, urlsplit

PATIENCE_S = 20.0
"""A request without an answer after this time is a hole too."""

MARKER_S = 60.0
"""How long a training process may take until it runs a client's code."""

EVIL = "http://evil.example"
Attack = Callable[["Client"], "Result"]


@dataclass(frozen=True)
class Answer:
    """What the server said."""

    status: int
    """0: no answer."""
    headers: dict[str, str]
    body: bytes
    seconds: float

    @property
    def refused(self) -> bool:
        """Whether the server said no, as JSON."""
        return 400 <= self.status < 500 and self.is_json

    @property
    def is_json(self) -> bool:
        """Whether the body is JSON, or there is none (HEAD)."""
        return not self.body or self.headers.get("content-type", "").startswith("application/json")

    def __str__(self) -> str:
        if not self.status:
            return f"no answer in {self.seconds:.0f} s"
        shown = self.body[:60].decode(errors="replace")
        return f"{self.status} {''.join(c if c.isprintable() else ' ' for c in shown)}"


@dataclass(frozen=True)
class Result:
    """Whether a hole is open."""

    state: str
    """open, closed or not tried."""
    told: str


class Client:
    """Sends single requests, each over a connection of its own."""

    def __init__(self, url: str, folder: Path) -> None:
        self.host, self.port = urlsplit(url).hostname or "127.0.0.1", urlsplit(url).port or 80
        self.folder = folder
        """For files that a request names; only this program writes there."""

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        kind: str | None = None,
        patience_s: float = PATIENCE_S,
        **headers: str,
    ) -> Answer:
        """Send a request; names of headers have _ for -."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        sent |= {"Content-Type": kind} if kind else {}
        began_s = time.monotonic()
        connection = http.client.HTTPConnection(self.host, self.port, timeout=patience_s)
        try:
            connection.request(method, path, body, sent)
            reply = connection.getresponse()
            content = reply.read(100_000)
            told = {name.lower(): value for name, value in reply.getheaders()}
            return Answer(reply.status, told, content, time.monotonic() - began_s)
        except (OSError, http.client.HTTPException):
            return Answer(0, {}, b"", time.monotonic() - began_s)
        finally:
            connection.close()

    def send_json(self, path: str, document: object, kind: str = "application/json") -> Answer:
        """POST a JSON document."""
        return self.ask("POST", path, json.dumps(document).encode(), kind)

    def form(
        self, method: str, path: str, fields: dict[str, str], **files: tuple[str, bytes]
    ) -> Answer:
        """Send a form with files, (name, content) by field."""
        edge, body = "----intruder", b""
        for name, value in fields.items():
            body += f'--{edge}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n'.encode()
            body += value.encode("utf-8", "surrogatepass") + b"\r\n"
        for name, (file, content) in files.items():
            head = f'name="{name}"; filename="{file}"'
            body += f"--{edge}\r\nContent-Disposition: form-data; {head}\r\n\r\n".encode()
            body += content + b"\r\n"
        body += f"--{edge}--\r\n".encode()
        return self.ask(method, path, body, f"multipart/form-data; boundary={edge}")

    def lives(self) -> bool:
        """Whether the server still answers."""
        return self.ask("GET", "/info/").status == 200

    def has_pacs(self) -> bool:
        """Whether its studies are in a PACS."""
        return self.ask("GET", "/proxy/dicom/qido/studies").status == 200


def judged(answer: Answer) -> Result:
    """A request that must be refused."""
    return Result("closed" if answer.refused else "open", str(answer))


def refused(*request: object, **more: str) -> Attack:
    """One request that must be refused."""
    return lambda client: judged(client.ask(*request, **more))  # type: ignore[arg-type]


def as_json(path: str, document: object, kind: str = "application/json") -> Attack:
    """One JSON document that must be refused."""
    return lambda client: judged(client.send_json(path, document, kind))


def as_form(method: str, path: str, fields: dict[str, str], **files: tuple[str, bytes]) -> Attack:
    """One form that must be refused."""
    return lambda client: judged(client.form(method, path, fields, **files))


# -- code ----------------------------------------------------------------------------------------


def code_in_training(client: Client) -> Result:
    """A folder of the client on the search path of a training: its sitecustomize runs."""
    marker = client.folder / "executed"
    (client.folder / "sitecustomize.py").write_text(f"open({str(marker)!r}, 'w').close()\n")
    answer = client.send_json("/train/resmtnet", {"bundle_path": str(client.folder)})
    if answer.refused:
        return Result("closed", str(answer))
    end_s = time.monotonic() + MARKER_S
    while not marker.exists() and time.monotonic() < end_s:
        time.sleep(0.5)
    client.ask("DELETE", "/train/")
    if marker.exists():
        return Result("open", "the client's code was executed")
    return Result("open", f"{answer}; no code ran in {MARKER_S:.0f} s")


def session_archive(client: Client) -> Result:
    """An archive that is unpacked where a member says."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("ct.nii.gz", b"no image")
    file = ("ct.zip", packed.getvalue())
    return judged(client.form("PUT", "/session/?uncompress=true", {}, files=file))


# -- browser -------------------------------------------------------------------------------------


def origin_echoed(client: Client) -> Result:
    """A page of another site reads answers."""
    answer = client.ask("GET", "/info/", Origin=EVIL)
    allowed = answer.headers.get("access-control-allow-origin")
    return Result("open" if allowed in (EVIL, "*") else judged(answer).state, str(answer))


def changed_from_elsewhere(client: Client) -> Result:
    """A form that a page of another site sends, which the browser does not ask about first."""
    edge, field = "----intruder", 'Content-Disposition: form-data; name="info"'
    body = f"--{edge}\r\n{field}\r\n\r\n{{}}\r\n--{edge}--\r\n".encode()
    kind = f"multipart/form-data; boundary={edge}"
    answer = client.ask("PUT", "/datastore/image/info?image=phantom", body, kind, Origin=EVIL)
    return Result("closed" if answer.status == 403 else "open", str(answer))


def preflight(client: Client) -> Result:
    """A page of another site may send JSON."""
    answer = client.ask(
        "OPTIONS",
        "/train/resmtnet",
        Origin=EVIL,
        Access_Control_Request_Method="POST",
        Access_Control_Request_Headers="content-type",
    )
    return judged(answer)


def pages_from_elsewhere(path: str) -> Attack:
    """A page that loads scripts of another site."""

    def ask(client: Client) -> Result:
        answer = client.ask("GET", path)
        bad = any(word in answer.body for word in (b"https://cdn", b"ajax.googleapis", b"cdnjs"))
        return Result("open" if bad else "closed", f"{answer.status}, scripts of others: {bad}")

    return ask


# -- login ---------------------------------------------------------------------------------------

GUESS = "wrong-token-of-an-intruder"
FORWARDED = {"X_Forwarded_For": "203.0.113.7"}


def needs_login(*request: object, **headers: str) -> Attack:
    """A request that must not be answered without a token."""

    def ask(client: Client) -> Result:
        answer = client.ask(*request, **headers)  # type: ignore[arg-type]
        return Result("closed" if answer.status in (401, 403) else "open", str(answer))

    return ask


def cookie_guessed(client: Client) -> Result:
    """A cookie that holds the role instead of a proof of it."""
    cookies = "; ".join(f"resmtnet-{client.port}={value}" for value in ("admin", "", GUESS))
    return needs_login("GET", "/info/", Cookie=cookies, **FORWARDED)(client)


def login_leads_away(client: Client) -> Result:
    """An address of the login page that leads to another server."""
    body, kind = f"token={GUESS}".encode(), "application/x-www-form-urlencoded"
    answer = client.ask("POST", f"/login?next={quote(EVIL + '/', safe='')}", body, kind)
    away = EVIL in answer.headers.get("location", "") or EVIL.encode() in answer.body
    return Result("open" if away or answer.status < 400 else "closed", str(answer))


def figures_name_nobody(client: Client) -> Result:
    """Paths that a client asks for as labels of /metrics: names of patients, or without bound."""
    client.ask("GET", "/smith-john-19500101")
    answer = client.ask("GET", "/metrics")
    if answer.status == 404:
        return Result("not tried", "this server has no such route")
    found = b"smith" in answer.body
    return Result("open" if found else "closed", f"{answer.status}, path shown: {found}")


# -- PACS ----------------------------------------------------------------------------------------


def pacs(attack: Attack) -> Attack:
    """Try it where there is a PACS."""

    def ask(client: Client) -> Result:
        if not client.has_pacs():
            return Result("not tried", "the studies are in a folder")
        return attack(client)

    return ask


def image_as_path(client: Client) -> Result:
    """An image stored under a path: outside the cache of the PACS."""
    target = client.folder / "written"
    answer = client.form(
        "PUT", f"/datastore/image?image={quote(str(target), safe='')}", {}, file=("x.nrrd", b"x")
    )
    written = [path.name for path in client.folder.glob("written*")]
    return Result("open" if written or not answer.refused else "closed", f"{written} {answer}")


def reading(kind: str = "application/json", **changes: object) -> Attack:
    """A reading of an odd kind or with an odd field; it must be refused where the route exists."""

    def ask(client: Client) -> Result:
        if client.ask("GET", "/resmtnet/readings").status == 404:
            return Result("not tried", "this server has no such route")
        place = {"image": "phantom", "reader": "a", "centre_lps_mm": [-75.0, 0.0, 20.0]}
        return judged(client.send_json("/resmtnet/readings", place | changes, kind))

    return ask


def empty_dataset(client: Client) -> Result:
    """A download of all labels where there is none."""
    answer = client.ask("GET", "/datastore/dataset")
    if answer.status == 200:
        return Result("not tried", "the studies have labels")
    return judged(answer)


# -- load and files ------------------------------------------------------------------------------


def many_batches(client: Client) -> Result:
    """45 batch inferences that are waited for: does /info still answer?"""
    client.ask("DELETE", "/batch/infer")  # one of the holes above
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
    return Result("closed" if info.status == 200 and info.seconds < 2.5 else "open", told)


def claim() -> bytes:
    """A .nii.gz of 67 bytes or so whose header claims 2048 x 2048 x 1280 voxels."""
    header = bytearray(352)
    struct.pack_into("<i", header, 0, 348)
    struct.pack_into("<8h", header, 40, 3, 2048, 2048, 1280, 1, 1, 1, 1)
    struct.pack_into("<2h", header, 70, 4, 16)
    struct.pack_into("<8f", header, 76, 1, 0.7, 0.7, 1, 0, 0, 0, 0)
    struct.pack_into("<f", header, 108, 352)
    header[344:348] = b"n+1\0"
    return gzip.compress(bytes(header))


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


DEEP = '{"a":' * 5000 + "1" + "}" * 5000
LONG = "x" * 300

HOLES: list[tuple[str, str, Attack]] = [
    ("code", "bundle_path in a training: code runs", code_in_training),
    ("code", "bundle_path, all trainers", as_json("/train/", {"bundle_path": "/tmp"})),
    (
        "code",
        "bundle_path, options of a trainer",
        as_json("/train/", {"resmtnet": {"bundle_path": "/tmp"}}),
    ),
    ("code", "bundle_path in batch", as_json("/batch/infer/resmtnet", {"bundle_path": "/tmp"})),
    ("code", "bundle_path in scoring", as_json("/scoring/", {"bundle_path": "/tmp"})),
    (
        "code",
        "unlisted parameter of a model",
        as_form("POST", "/infer/resmtnet?image=phantom", {"params": '{"bundle_path": "/tmp"}'}),
    ),
    ("archives", "session with an archive", session_archive),
    ("archives", "session at all", as_form("PUT", "/session/", {}, files=("ct.nii.gz", b"x"))),
    (
        "archives",
        "session id that is a path",
        as_form("POST", "/infer/resmtnet?session_id=..%2F..%2Fx", {"params": "{}"}),
    ),
    ("pacs", "PUT image under a path", pacs(image_as_path)),
    ("pacs", "DELETE image by a path", pacs(refused("DELETE", "/datastore/image?id=%2Ftmp%2Fx"))),
    (
        "pacs",
        "proxy: ..%2f.. to other routes",
        pacs(refused("GET", "/proxy/dicom/wado/..%2f..%2fsystem")),
    ),
    (
        "pacs",
        "proxy: encoded twice",
        pacs(refused("GET", "/proxy/dicom/wado/..%252f..%252fsystem")),
    ),
    ("pacs", "proxy: a route that is no DICOMweb", pacs(refused("GET", "/proxy/dicom/system"))),
    (
        "pacs",
        "proxy: POST",
        pacs(refused("POST", "/proxy/dicom/stow/studies", b"x", "application/dicom")),
    ),
    ("browser", "answers for a page of another site", origin_echoed),
    ("browser", "preflight of another site", preflight),
    ("browser", "change by a page of another site", changed_from_elsewhere),
    ("browser", "image of another site", refused("GET", "/info/", Sec_Fetch_Site="cross-site")),
    ("browser", "another Host (rebinding)", refused("GET", "/info/", Host="evil.example")),
    ("browser", "text/plain as JSON, readings", reading("text/plain")),
    (
        "browser",
        "text/plain as JSON, next study",
        refused("POST", "/activelearning/random", b'{"client_id": "x"}', "text/plain"),
    ),
    (
        "browser",
        "PUT weights",
        as_form("PUT", "/model/resmtnet", {}, file=("model.pt", b"x")),
    ),
    ("browser", "scripts of others in /", pages_from_elsewhere("/")),
    ("browser", "scripts of others in /docs", pages_from_elsewhere("/docs")),
    ("browser", "scripts of others in /logs/", pages_from_elsewhere("/logs/")),
    ("login", "forwarded request without a token", needs_login("GET", "/info/", **FORWARDED)),
    (
        "login",
        "forwarded request that claims this machine",
        needs_login("GET", "/datastore/", Forwarded="for=127.0.0.1"),
    ),
    (
        "login",
        "training by a forwarded request",
        needs_login("POST", "/train/resmtnet", b"{}", "application/json", **FORWARDED),
    ),
    (
        "login",
        "guessed bearer",
        needs_login("GET", "/info/", Authorization=f"Bearer {GUESS}", **FORWARDED),
    ),
    (
        "login",
        "basic login",
        needs_login("GET", "/info/", Authorization="Basic YWRtaW46YWRtaW4=", **FORWARDED),
    ),
    ("login", "guessed cookie", cookie_guessed),
    ("login", "guessed token in the address", needs_login("GET", f"/?token={GUESS}")),
    (
        "login",
        "guessed password, MONAI Label's clients",
        needs_login(
            "POST",
            "/auth/token",
            f"username=admin&password={GUESS}".encode(),
            "application/x-www-form-urlencoded",
        ),
    ),
    ("login", "/auth/token/valid without a token", needs_login("GET", "/auth/token/valid")),
    ("login", "login page that leads elsewhere", login_leads_away),
    ("login", "figures by paths of clients", figures_name_nobody),
    (
        "errors",
        "params that are no object",
        as_form("POST", "/infer/resmtnet?image=phantom", {"params": "[1]"}),
    ),
    (
        "errors",
        "params too deep",
        as_form("POST", "/infer/resmtnet?image=phantom", {"params": DEEP}),
    ),
    (
        "errors",
        "params that are no JSON",
        as_form("PUT", "/datastore/label?image=phantom", {"params": "{"}, label=("a.nrrd", b"x")),
    ),
    (
        "errors",
        "info that is no object",
        as_form("PUT", "/datastore/image/info?image=phantom", {"info": "3"}),
    ),
    ("errors", "unknown strategy", as_json("/activelearning/none", {})),
    ("errors", "empty dataset", empty_dataset),
    (
        "errors",
        "checksum algorithm",
        refused("HEAD", "/datastore/image?image=phantom&check_sum=CRC:1"),
    ),
    ("errors", "NUL in an id", refused("GET", "/datastore/image?image=a%00b")),
    ("errors", "long id", refused("GET", f"/datastore/image?image={LONG * 10}")),
    (
        "errors",
        "long name of a file",
        as_form("PUT", "/datastore/image", {}, file=(f"a.{LONG}.nrrd", b"x")),
    ),
    (
        "errors",
        ".bin as a label of a model",
        as_form("POST", "/infer/resmtnet?image=phantom", {"params": "{}"}, label=("a.bin", b"x")),
    ),
    ("errors", "/proxy without a PACS", refused("GET", "/proxy/dicom/nothing")),
    ("errors", "/logs?lines=huge", refused("GET", f"/logs/?lines={10**20}&text=true")),
    ("errors", "/logs/gpu", refused("GET", "/logs/gpu")),
    ("errors", "/ohif/..", refused("GET", "/ohif/%2e%2e")),
    ("errors", "whole slide outside the studies", as_json("/infer/wsi/resmtnet?image=/x.svs", {})),
    (
        "errors",
        "neither image nor file",
        as_form("POST", "/infer/resmtnet", {"params": "{}"}),
    ),
    ("errors", "scoring that does not exist", as_json("/scoring/none?run_sync=true", {})),
    ("errors", "surrogates in a reading", reading(reader="\ud800")),
    (
        "errors",
        "mask name of 5,000 letters in a reading",
        reading(mask={"file": "m" * 5000, "sha256": "m" * 64}),
    ),
    (
        "load",
        "upload of 100 GB announced",
        refused(
            "PUT",
            "/datastore/image",
            None,
            "multipart/form-data; boundary=x",
            5.0,
            Content_Length=str(10**11),
        ),
    ),
    ("load", "/reload", refused("POST", "/reload")),
    ("load", "45 batch inferences at once", many_batches),
    *(("files", *one) for one in upload("claim.nii.gz", claim)),
    *(("files", *one) for one in upload("hang.mha", lambda: meta_image(-1))),
    *(("files", *one) for one in upload("segv.mha", long_header)),
]


def intrude(url: str, only: str = "", skip: str = "") -> Iterator[tuple[str, str, Result]]:
    """Try each hole; the server is asked for a sign of life after each."""
    with tempfile.TemporaryDirectory(prefix="intruder-") as folder:
        client, gone = Client(url, Path(folder)), False
        for group, name, attack in HOLES:
            if (only and only not in f"{group} {name}") or (skip and skip in f"{group} {name}"):
                continue
            if gone:
                yield group, name, Result("not tried", "the server is gone")
                continue
            result = attack(client)
            if not client.lives():
                gone, result = True, Result("open", f"the server no longer answers; {result.told}")
            yield group, name, result


def main() -> int:
    """Print the table; 1 if a hole is open."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("url", help="of a server that you can lose")
    parser.add_argument("--only", default="", help="holes with this word in group or name")
    parser.add_argument("--skip", default="", help="leave out holes with this word")
    parser.add_argument("--json", type=Path, help="write the table to this file as well")
    asked = parser.parse_args()
    if not Client(asked.url, Path()).lives():
        parser.error(f"{asked.url} does not answer /info/")
    rows = []
    for group, name, result in intrude(asked.url, asked.only, asked.skip):
        print(f"{group:9} {name:42} {result.state:9} {result.told[:90]}", flush=True)
        rows.append({"group": group, "hole": name, **asdict(result)})
    states = [str(row["state"]) for row in rows]
    print(", ".join(f"{states.count(s)} {s}" for s in ("open", "closed", "not tried")))
    if asked.json:
        asked.json.write_text(json.dumps(rows, indent=1) + "\n")
    return int("open" in states)


if __name__ == "__main__":
    sys.exit(main())
