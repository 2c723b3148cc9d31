"""What is finished of a cohort: one JSON for each study, written whole or not at all."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from resmtnet.cohort.studies import Study
from resmtnet.errors import ResMTNetError
from resmtnet.files import atomic_file
from resmtnet.types import Json

FINDINGS = "findings"
OK, NO_NODULE, FAILED = "ok", "no_nodule", "failed"


class Ledger:
    """The records of a results folder; writing one twice leaves one."""

    def __init__(self, out: Path) -> None:
        """Open a results folder, which need not exist."""
        self._folder = out / FINDINGS

    def keep(self, study: Study, record: Json) -> None:
        """Write the record of a study, in place of an earlier one."""
        with self._writing(), atomic_file(self._file(study)) as draft:
            draft.write_text(json.dumps(record, indent=1, allow_nan=False))

    def begin(self, study: Study) -> int:
        """Note that this process scores a study now, and return how many have died of it before.

        Only for work in this process: see `ended`.
        """
        mark = self._mark(study)
        died = mark.stat().st_size if mark.is_file() else 0
        with self._writing():
            mark.parent.mkdir(parents=True, exist_ok=True)
            with mark.open("ab") as file:
                file.write(b".")
        return died

    def ended(self, study: Study) -> None:
        """Note that this process has lived through a study."""
        self._mark(study).unlink(missing_ok=True)

    def finished_key(self, study: Study, ask: Json) -> str | None:
        """Return the key of the image that a study was scored from, None where it is to be scored.

        Args:
            study: of the cohort.
            ask: model and options of this run; a record of others does not count, nor does that
                of a study that failed.
        """
        try:
            kept = json.loads(self._file(study).read_text())
            fits = kept["status"] != FAILED and all(kept[name] == ask[name] for name in ask)
            return str(kept["content_key"]) if fits else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def records(self, studies: Sequence[Study]) -> Iterator[Json]:
        """Give the records of studies that are all finished, one at a time."""
        for study in studies:
            yield json.loads(self._file(study).read_text())

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise ResMTNetError(
                f"{self._folder} cannot be written: {error.strerror or error}; what is finished "
                "is kept: mend that, and start the same command again"
            ) from error

    def _mark(self, study: Study) -> Path:
        """Return a file with a byte for each process that began a study and did not end it."""
        return self._file(study).with_suffix(".begun")

    def _file(self, study: Study) -> Path:
        """Return where a study's JSON is: ids may hold what no file name can."""
        return self._folder / f"{hashlib.sha256(study.id.encode()).hexdigest()[:20]}.json"
