"""Where DICOM objects are sent by C-STORE: AET@HOST:PORT."""

from __future__ import annotations

import re
from dataclasses import dataclass

from resmtnet.errors import ConfigError

_NODE = re.compile(r"(?P<aet>[^@:\s]{1,16})@(?P<host>[A-Za-z0-9.\-]+):(?P<port>[0-9]{1,5})")


@dataclass(frozen=True)
class DicomNode:
    """Where objects are sent by C-STORE."""

    aet: str
    host: str
    port: int

    @classmethod
    def parse(cls, text: str, name: str) -> DicomNode:
        """Read AET@HOST:PORT.

        Raises:
            ConfigError: it is something else.

        >>> DicomNode.parse("ARCHIVE@pacs.example:104", "results_node")
        DicomNode(aet='ARCHIVE', host='pacs.example', port=104)
        """
        found = _NODE.fullmatch(text)
        if not found or not 0 < int(found["port"]) < 65_536:
            raise ConfigError(
                f"{name} {text!r}: AET@HOST:PORT is needed, such as PACS@10.0.0.5:104."
            )
        return cls(found["aet"], found["host"], int(found["port"]))
