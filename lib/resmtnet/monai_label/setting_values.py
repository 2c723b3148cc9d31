"""Reads the values of settings: each function takes the name, for the message, and the text."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from resmtnet.errors import ConfigError
from resmtnet.guidelines import check_context
from resmtnet.inference.device import check_device
from resmtnet.monai_label.dicom_node import DicomNode

Value = TypeVar("Value")
Parse = Callable[[str, str], Value]

_HOST = re.compile(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?|\[[0-9a-f:]+\]")
_ORIGIN = re.compile(rf"https?://({_HOST.pattern})(:[0-9]{{1,5}})?")


def parse_context(value: object, name: str) -> str | None:
    """Return the guideline context that a setting or a request names.

    Args:
        value: one of CONTEXTS; None, "" or "none" for no guideline.
        name: of the setting or the field, for the message.

    Raises:
        ConfigError: it is something else.

    >>> parse_context("incidental", "context"), parse_context("none", "context")
    ('incidental', None)
    """
    if value in (None, "", "none"):
        return None
    return check_context(str(value), name)


def parse_count(value: object, name: str, least: int, most: int) -> int:
    """Return a whole number that a setting or a request gives, as a number or as text.

    Raises:
        ConfigError: it is no whole number, or out of its range.

    >>> parse_count("7", "max_candidates", 1, 200)
    7
    """
    try:
        number = int(str(value))
    except ValueError:
        number = least - 1
    if isinstance(value, bool) or not least <= number <= most:
        raise ConfigError(f"{name} {value!r}: a whole number from {least} to {most} is needed.")
    return number


def some_of(*allowed: str) -> Parse[tuple[str, ...]]:
    """Return what reads names of a list, or "all"; their order is that of the list."""

    def parse(name: str, text: str) -> tuple[str, ...]:
        names = listed(text)
        if names == ("all",):
            return allowed
        if not names or set(names) - set(allowed):
            raise ConfigError(f"{name} {text!r}: allowed are {', '.join(allowed)} or all.")
        return tuple(one for one in allowed if one in names)

    return parse


def folder(name: str, text: str) -> Path | None:
    """Read a folder that exists; nothing is None."""
    if not text:
        return None
    path = Path(text).expanduser()
    if not path.is_dir():
        raise ConfigError(f"{name} {text!r}: there is no such folder.")
    return path


def database(name: str, text: str) -> Path | None:
    """Read the path of a database; nothing is None."""
    if not text:
        return None
    path = Path(text).expanduser().absolute()
    if path.is_dir() or path.suffix not in (".sqlite", ".db"):
        raise ConfigError(
            f"{name} {text!r}: a file ending in .sqlite is needed; it is created if it does not "
            "exist."
        )
    return path


def device(name: str, text: str) -> str | None:
    """Read a device; auto and nothing are None."""
    if not text or text.lower() == "auto":
        return None
    return check_device(text, name)


def whole_number(least: int, most: int) -> Parse[int]:
    """Return what reads a whole number of a range."""
    return lambda name, text: parse_count(text, name, least, most)


def share(name: str, text: str) -> float:
    """Read a number from 0 to 1."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise ConfigError(f"{name} {text!r}: a number from 0 to 1 is needed.")
    return value


def switch(name: str, text: str) -> bool:
    """Read true or false."""
    values = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
    if text.lower() not in values:
        raise ConfigError(f"{name} {text!r}: allowed are true and false.")
    return values[text.lower()]


def dicom_node(name: str, text: str) -> str:
    """Read AET@HOST:PORT, or nothing."""
    if text:
        DicomNode.parse(text, name)
    return text


def hosts(name: str, text: str) -> tuple[str, ...]:
    """Read host names without port."""
    hosts = listed(text.lower())
    wrong = [host for host in hosts if not _HOST.fullmatch(host)]
    if wrong:
        raise ConfigError(f"{name} {wrong[0]!r}: host names without port are needed.")
    return hosts


def origins(name: str, text: str) -> tuple[str, ...]:
    """Read addresses of web servers."""
    origins = listed(text.lower().replace("/,", ",").removesuffix("/"))
    wrong = [origin for origin in origins if not _ORIGIN.fullmatch(origin)]
    if wrong:
        raise ConfigError(
            f"{name} {wrong[0]!r}: http:// or https:// and a host, with its port if it is not the "
            "usual one, are needed."
        )
    return origins


def listed(text: str) -> tuple[str, ...]:
    """Return the parts between commas."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def one_of(*allowed: str) -> Parse[str]:
    """Return what reads one of some words."""

    def parse(name: str, text: str) -> str:
        if text not in allowed:
            raise ConfigError(f"{name} {text!r}: allowed are {', '.join(allowed)}.")
        return text

    return parse


def file(name: str, text: str) -> Path | None:
    """Read the path of a file, which need not exist; nothing is None."""
    if not text:
        return None
    path = Path(text).expanduser().absolute()
    if path.is_dir():
        raise ConfigError(f"{name} {text!r}: this is a folder; a file is needed.")
    return path
