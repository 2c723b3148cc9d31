"""Sessions: images that a viewer uploads for a while, without adding them to the studies."""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

from monailabel.utils.sessions import SessionInfo, Sessions

from resmtnet.monai_label.refusals import Refusal

_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_META = "meta.info"


class CheckedSessions(Sessions):  # type: ignore[misc]
    """MONAI Label's sessions, confined to their folder.

    MONAI Label takes a path as the id of a session, believes what the file `meta.info` in it says
    of the image, unpacks archives wherever their members say, and never removes a session: it
    asks whether there is a dict of sessions, and an empty dict is false.
    """

    def __bool__(self) -> bool:
        """Sessions are on, even while there is none."""
        return True

    def get_session(
        self, session_id: str, update_ts: bool = True, fetch_cache: bool = True
    ) -> SessionInfo | None:
        """Return a session, or None if there is none; 400 if the id is none of ours."""
        folder = self._folder(session_id)
        if not (folder / _META).is_file():
            return None
        try:
            found: SessionInfo | None = super().get_session(session_id, update_ts, fetch_cache)
        except (ValueError, TypeError, AttributeError):  # a damaged meta.info
            return None
        if found is None or folder not in Path(str(found.image)).resolve().parents:
            return None
        return found

    def remove_session(self, session_id: str) -> None:
        """Delete a session and its files; 400 if the id is none of ours."""
        self._folder(session_id)
        super().remove_session(session_id)

    def add_session(
        self,
        data_file: str,
        expiry: int = 0,
        uncompress: bool = False,
        session_id: str | None = None,
    ) -> Any:
        """Keep an uploaded image; 400 for an archive that is to be unpacked."""
        try:
            return self._add(data_file, expiry, uncompress, session_id)
        except BaseException:
            _delete_received(Path(data_file))
            raise

    def _add(self, data_file: str, expiry: int, uncompress: bool, session_id: str | None) -> Any:
        if uncompress:
            raise Refusal(400, "uncompress: archives are not unpacked; upload the image itself.")
        if os.path.basename(data_file) == _META:
            raise Refusal(400, f"A file named {_META} is no image.")
        if session_id is not None:
            self._folder(session_id)
        return super().add_session(data_file, expiry, False, session_id)

    def remove_expired(self) -> int:
        """Delete the sessions whose time is over and those that cannot be read."""
        count = 0
        for folder in Path(self.store_path).glob("*/"):
            if _ID.fullmatch(folder.name) and self._is_over(folder):
                super().remove_session(folder.name)
                count += 1
        return count

    def _is_over(self, folder: Path) -> bool:
        try:
            info = SessionInfo(json.loads((folder / _META).read_text("utf-8")))
            ends_s = int(info.last_access_ts) + min(int(info.expiry) or self.expiry, self.expiry)
        except FileNotFoundError:  # it may be in the making
            ends_s = int(folder.stat().st_mtime) + self.expiry
        except (OSError, ValueError, TypeError, AttributeError):
            return True
        return bool(ends_s < time.time())

    def _folder(self, session_id: str) -> Path:
        if not _ID.fullmatch(str(session_id)):
            raise Refusal(400, "session_id: the id that PUT /session answered is needed.")
        return Path(self.store_path, session_id).resolve()


def _delete_received(file: Path) -> None:
    """Delete an upload that is not kept: MONAI Label does so only if it is."""
    temporary = Path(tempfile.gettempdir())
    received = file if file.is_dir() else file.parent
    if received.parent == temporary:
        shutil.rmtree(received, ignore_errors=True)
    elif received == temporary:
        file.unlink(missing_ok=True)
