from __future__ import annotations

import random
import warnings
from pathlib import Path

import pytest

import damaged_files
import fuzz_inputs

KINDS = fuzz_inputs.kinds()


@pytest.mark.parametrize("kind", KINDS)
def test_the_valid_files_are_read_and_damaged_ones_are_read_or_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setenv("RESMTNET_CACHE_DIR", str(tmp_path / "cache"))
    files, reader = KINDS[kind]
    folder = tmp_path / "files"
    folder.mkdir()
    for name, data in files.items():
        (folder / name).write_bytes(data)
    reader(folder / next(iter(files)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for seed in range(6):
            outcome, told = fuzz_inputs.one(kind, seed, files, reader, folder)
            assert outcome in ("read", "refused"), told


def test_a_seed_gives_the_same_damage_again() -> None:
    files = KINDS["nrrd"][0]
    first, again, other = (damaged_files.mutated(files, random.Random(n)) for n in (1, 1, 2))
    assert first == again
    assert first != other


def test_an_exception_that_is_not_ours_is_a_defect(tmp_path: Path) -> None:
    def reader(_: Path) -> None:
        raise KeyError("x")

    outcome, told = fuzz_inputs.one("nrrd", 0, KINDS["nrrd"][0], reader, tmp_path)
    assert outcome == "foreign"
    assert "KeyError" in told
