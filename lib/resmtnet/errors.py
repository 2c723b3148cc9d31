"""The exceptions of the package: one tree, so that a caller can catch all of it.

ResMTNetError
+-- InputError            what the user gave cannot be used (CLI exit code 2)
|   +-- VolumeError       a CT that cannot be read, or is not a CT
|   |   +-- SeveralSeriesError   a folder holds more than one series
|   +-- PointError        a centre that is not a point of this CT
|   +-- ConfigError       an unknown or impossible setting
|   +-- ArchiveError      training data that is missing, damaged or of another version
|   +-- ReadingError      a reading with a field that is unknown, missing or out of range
|   +-- StoreError        a readings database that cannot be opened or written
+-- PacsError             a PACS that refused something, or did not answer
+-- ModelError            weights that are missing, damaged or of another version
"""

from __future__ import annotations


class ResMTNetError(Exception):
    """Base of every error the package raises on purpose."""


class InputError(ResMTNetError):
    """What the user gave cannot be used; the message says what was got and what is allowed."""


class VolumeError(InputError):
    """The image cannot be read, or is not a CT volume."""


class SeveralSeriesError(VolumeError):
    """A folder holds more than one DICOM series; the message lists them."""


class PointError(InputError):
    """A centre that is not a finite point, or lies outside the CT."""


class ConfigError(InputError):
    """An unknown key or an impossible value in a configuration."""


class ArchiveError(InputError):
    """Training data that is missing, damaged or of another version."""


class ReadingError(InputError):
    """A field of a reading is unknown, missing or out of range."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field} {message}")
        self.field = field


class StoreError(InputError):
    """The readings database cannot be opened or written; nothing was changed."""


class PacsError(ResMTNetError):
    """The PACS refused something, or did not answer; the message says what and why."""


class ModelError(ResMTNetError):
    """Weights that are missing, damaged or of another version."""
