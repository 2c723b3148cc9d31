"""The tokens that a client logs in with: one for each role, made when the server starts first."""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from resmtnet.errors import ConfigError
from resmtnet.files import atomic_file
from resmtnet.server.guesses import Guesses

ROLES = ("reader", "trainer", "admin")
"""Each may do what those before it may do as well; docs/security.md says what."""

VARIABLE, FILE_VARIABLE = "RESMTNET_TOKEN", "RESMTNET_TOKEN_FILE"
"""The token of role admin; the path of a token file."""

NAMED = frozenset({VARIABLE, FILE_VARIABLE})
"""Environment variables by which a user asks for a login."""

LEAST_LETTERS = 16
"""Of a token: a shorter one could be guessed."""

_TOKEN = re.compile(r"[A-Za-z0-9._~+/=-]+")
_ADVICE = (
    f"Allowed are one token of at least {LEAST_LETTERS} characters (letters, digits, ._~+/=-), "
    f"which is that of role admin, or lines of a role ({', '.join(ROLES)}) and its token."
)


@dataclass(frozen=True)
class Tokens:
    """The token of each role."""

    by_role: Mapping[str, str] = field(repr=False)
    source: str
    """Where they are from, for the message at the start."""
    chosen: bool = False
    """Whether the user named a file or a token, so that a token is to be asked for."""
    guesses: Guesses = field(default_factory=Guesses, repr=False, compare=False)
    """What each client has tried."""

    def role_of(self, token: str) -> str | None:
        """Return the role of a token, or None; takes as long for a wrong one as for a right one."""
        return self._match(token, self.by_role)

    def role_of_cookie(self, cookie: str) -> str | None:
        """Return the role of a browser's cookie, or None."""
        return self._match(cookie, {role: self.cookie(role) for role in self.by_role})

    def cookie(self, role: str) -> str:
        """Return what a browser keeps for a role: not the token, which would open other ways."""
        token = self.by_role[role].encode()
        return hmac.new(token, b"resmtnet cookie " + role.encode(), hashlib.sha256).hexdigest()

    @staticmethod
    def _match(given: str, known: Mapping[str, str]) -> str | None:
        found = None
        for role, secret in known.items():  # all are compared, so that the time tells nothing
            if hmac.compare_digest(given.encode("utf-8", "replace"), secret.encode()):
                found = role
        return found


def default_file() -> Path:
    """Return where tokens are kept: outside the studies and the app, of this user alone.

    `resmtnet/tokens` in XDG_CONFIG_HOME, else in `.config` of the home folder.
    """
    base = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(base) / "resmtnet" / "tokens"


def find_tokens(file: Path | None = None) -> Tokens:
    """Return the tokens of this server; they are made where there are none yet.

    Args:
        file: a token file; None: RESMTNET_TOKEN, else the file that RESMTNET_TOKEN_FILE names,
            else `default_file`.

    Raises:
        ConfigError: a token is too short, or the file cannot be read or made, or others can read
            it.
    """
    given = os.environ.get(VARIABLE, "").strip()
    if file is None and given:
        return Tokens(_parse(given, VARIABLE), VARIABLE, chosen=True)
    named = file or (Path(os.environ[FILE_VARIABLE]) if os.environ.get(FILE_VARIABLE) else None)
    path = (named or default_file()).expanduser()
    try:
        if not path.exists():
            _make(path)
        text = path.read_text("utf-8")
        mode = stat.S_IMODE(path.stat().st_mode)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise ConfigError(
            f"The token file {path} cannot be read or made ({reason}). Name another one with "
            f"--token-file, or set {VARIABLE}."
        ) from error
    if os.name == "posix" and mode & 0o007:
        raise ConfigError(
            f"The token file {path} has mode {mode:04o}: every user of this machine could read it. "
            f"Do: chmod 600 {path}"
        )
    return Tokens(_parse(text, str(path)), str(path), chosen=named is not None)


def _parse(text: str, where: str) -> dict[str, str]:
    """Return the token of each role.

    Raises:
        ConfigError: it is no list of tokens; the message does not tell them.

    >>> _parse("reader aaaaaaaaaaaaaaaaa", "here")
    {'reader': 'aaaaaaaaaaaaaaaaa'}
    """
    lines = [line.split() for line in text.splitlines() if line.strip() and line[0] != "#"]
    if len(lines) == 1 and len(lines[0]) == 1:
        lines = [["admin", lines[0][0]]]
    good = [
        line
        for line in lines
        if len(line) == 2
        and line[0] in ROLES
        and len(line[1]) >= LEAST_LETTERS
        and _TOKEN.fullmatch(line[1])
    ]
    found = {line[0]: line[1] for line in good}
    if not lines or len(good) < len(lines) or len(set(found.values())) < len(lines):
        raise ConfigError(f"{where}: these are no tokens. {_ADVICE}")
    return found


def _make(path: Path) -> None:
    """Write a file with a new token for each role, readable by this user alone."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    lines = ["# Tokens of the Res-MTNet server. Whoever has one can log in: keep them to yourself."]
    lines += [f"{role} {secrets.token_urlsafe(32)}" for role in ROLES]
    with atomic_file(path, durable=True) as draft:
        draft.chmod(0o600)
        draft.write_text("\n".join([*lines, ""]), "utf-8")
