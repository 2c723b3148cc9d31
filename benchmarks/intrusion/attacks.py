"""Attacks that take more than one request which has to be refused."""

from __future__ import annotations

import io
import time
import zipfile
from urllib.parse import quote

from intrusion.client import EVIL, MARKER_S, Attack, Client, Result, judged

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
