"""The list of holes, in the order in which they are tried."""

from __future__ import annotations

from intrusion.attacks import (
    FORWARDED,
    GUESS,
    changed_from_elsewhere,
    code_in_training,
    cookie_guessed,
    empty_dataset,
    figures_name_nobody,
    image_as_path,
    login_leads_away,
    needs_login,
    origin_echoed,
    pacs,
    pages_from_elsewhere,
    preflight,
    reading,
    session_archive,
)
from intrusion.client import Attack, as_form, as_json, refused
from intrusion.files import bomb, claim, long_header, many_batches, meta_image, upload

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
    *(("files", *one) for one in upload("bomb.nii.gz", bomb)),
    *(("files", *one) for one in upload("hdf5.nrrd", lambda: b"\x89HDF\r\n\x1a\n" + bytes(4000))),
    *(("files", *one) for one in upload("hang.mha", lambda: meta_image(-1))),
    *(("files", *one) for one in upload("segv.mha", long_header)),
]
