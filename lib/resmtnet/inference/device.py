"""Where a network runs: the CPU, or one of the GPUs."""

from __future__ import annotations

from resmtnet.errors import ConfigError


def check_device(name: str, what: str = "device") -> str:
    """Return the name of a device, in lower case, whether or not it exists here.

    Args:
        name: "cpu", "cuda" or "cuda:N".
        what: how the message calls it.

    Raises:
        ConfigError: it is something else.

    >>> check_device("CUDA:1")
    'cuda:1'
    """
    kind, colon, number = name.lower().partition(":")
    if kind not in ("cpu", "cuda") or (colon and (kind == "cpu" or not number.isdigit())):
        raise ConfigError(f"{what} {name!r}: allowed are cpu, cuda and cuda:N, such as cuda:0")
    return name.lower()


def choose_device(device: str | None) -> str:
    """Return the device asked for, or a GPU if there is one.

    Args:
        device: "cpu", "cuda" or "cuda:N"; None or "auto": a GPU if there is one.

    Raises:
        ConfigError: the device does not exist on this machine.
    """
    import torch

    if device is None or device.lower() == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    kind, _, number = check_device(device).partition(":")
    count = torch.cuda.device_count()
    if kind == "cuda" and int(number or 0) >= count:
        raise ConfigError(f"device {device!r}: this PyTorch finds {count} CUDA devices; use cpu")
    return device.lower()
