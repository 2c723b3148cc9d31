"""Signs the versions that a site publishes, so that one that was put there by others is told.

A manifest beside the weights shows damage, not where they come from: whoever can write to the
studies folder can write a manifest too. Each version is therefore signed with a key that lies
outside of that folder. Ed25519 (RFC 8032) rather than a keyed hash, because checking then needs
the public half only; by the package `cryptography`.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from contextlib import suppress
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from resmtnet.errors import ModelError
from resmtnet.files import atomic_file, make_folder, sync
from resmtnet.inference.model_folder import MANIFEST

SIGNATURE, RECORD = "signature.json", "published.json"
SCHEMA = "resmtnet.signature/1"
KEY_VARIABLE = "RESMTNET_SIGNING_KEY"
ADVICE = (
    "If you know that it is yours (it was published before versions were signed, or the key was "
    "lost), trust it again: `resmtnet model trust --studies DIR VERSION`; otherwise delete it"
)


def default_key_file() -> Path:
    """Return where the key of this user is kept: RESMTNET_SIGNING_KEY, else in ~/.config."""
    named = os.environ.get(KEY_VARIABLE)
    if named:
        return Path(named).expanduser()
    base = os.environ.get("XDG_CONFIG_HOME")
    return (Path(base) if base else Path.home() / ".config") / "resmtnet" / "signing-key.pem"


class SiteKey:
    """The key of a site; its file is made when it is first needed to sign."""

    def __init__(self, file: Path | None = None) -> None:
        """Name a key.

        Args:
            file: PEM, readable by its owner alone; default: default_key_file().
        """
        self.file = file or default_key_file()

    def make(self) -> None:
        """Make the key if there is none.

        Raises:
            ModelError: its folder cannot be written.
        """
        if self.file.exists():
            return
        key = Ed25519PrivateKey.generate()
        text = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        draft = self.file.with_name(f".{self.file.name}.{secrets.token_hex(4)}.tmp")
        try:
            make_folder(self.file.parent)
            handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(handle, "wb") as file:
                file.write(text)
            sync(draft)
            with suppress(FileExistsError):  # of two processes, the first one's key stays
                os.link(draft, self.file)
            sync(self.file.parent)
        except OSError as error:
            raise ModelError(
                f"the signing key {self.file} cannot be made ({error}): set {KEY_VARIABLE} to a "
                "file in a folder that can be written, outside of the studies"
            ) from error
        finally:
            with suppress(OSError):
                draft.unlink(missing_ok=True)

    def sign(self, folder: Path, name: str) -> None:
        """Write the signature of a version beside its manifest.

        Args:
            folder: of the version, as long as it may have another name.
            name: that it will have.

        Raises:
            ModelError: there is no key, and none can be made.
        """
        self.make()
        key = self._private()
        written = {
            "schema": SCHEMA,
            "algorithm": "Ed25519",
            "key": key.public_key().public_bytes_raw().hex(),
            "signature": key.sign(_signed(folder, name)).hex(),
        }
        with atomic_file(folder / SIGNATURE) as draft:
            draft.write_text(json.dumps(written, indent=1) + "\n")

    def distrust(self, folder: Path) -> str | None:
        """Return why a published version is not trusted; None if this key has signed it.

        The files that the manifest names are not read: `model_folder.verify` compares them.
        """
        try:
            found = json.loads((folder / SIGNATURE).read_text())
            signature, key = bytes.fromhex(found["signature"]), str(found["key"])
            message = _signed(folder, folder.name)
            extra = _extra(folder)
        except FileNotFoundError:
            return f"it is not signed. {ADVICE}"
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            return f"its signature cannot be read ({error}). {ADVICE}"
        if extra:
            return f"it holds {extra}, which its manifest does not name. {ADVICE}"
        try:
            mine = self._private().public_key()
        except ModelError as error:
            return f"{error}. Put back the key from a backup. {ADVICE}"
        if key != mine.public_bytes_raw().hex():
            return (
                f"it is signed with another key ({key[:8]}) than that of this site, {self.file} "
                f"({mine.public_bytes_raw().hex()[:8]}). {ADVICE}"
            )
        if not _fits(mine, signature, message):
            return f"its signature does not fit: it was changed after it was published. {ADVICE}"
        return None

    def _private(self) -> Ed25519PrivateKey:
        try:
            key = load_pem_private_key(self.file.read_bytes(), None)
        except FileNotFoundError:
            raise ModelError(f"the signing key {self.file} is missing") from None
        except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise ModelError(f"the signing key {self.file} cannot be read ({error})") from error
        if not isinstance(key, Ed25519PrivateKey):
            raise ModelError(f"the signing key {self.file} is no Ed25519 key")
        return key


def _fits(key: Ed25519PublicKey, signature: bytes, message: bytes) -> bool:
    try:
        key.verify(signature, message)
    except InvalidSignature:
        return False
    return True


def _signed(folder: Path, name: str) -> bytes:
    """What is signed: the name, the manifest with the checksums of all files, and the record."""
    parts = [SCHEMA, name]
    for file in (MANIFEST, RECORD):
        parts.append(hashlib.sha256((folder / file).read_bytes()).hexdigest())
    return "\n".join(parts).encode()


def _extra(folder: Path) -> str | None:
    """Return the name of a file that is neither the manifest's nor ours."""
    named = {*json.loads((folder / MANIFEST).read_text())["files"], MANIFEST, RECORD, SIGNATURE}
    return next((p.name for p in sorted(folder.iterdir()) if p.name not in named), None)
