"""The file of the readings: what is refused, and that it is then left as it was."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

import pytest
from filelock import FileLock

from resmtnet.errors import StoreError
from resmtnet.readings import database, migrations
from resmtnet.readings.location import network_file_system
from resmtnet.readings.record import Reading
from resmtnet.readings.store import ReadingStore

Made = Callable[..., Reading]
TABLES = "SELECT sql FROM sqlite_schema WHERE type = 'table' AND name IN ('readings', 'nodules')"


@pytest.fixture
def written(path: Path, made: Made) -> Path:
    """A closed database of 50 readings."""
    with ReadingStore.open(path) as store:
        store.add_all([made(centre_lps_mm=(20.0 * n, 0, 0)) for n in range(50)])
    return path


def change(path: Path, statement: str) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(statement)
        connection.commit()


def refused(path: Path) -> str:
    """Open a file that must be refused, and must be left as it was; return what was said."""
    before = path.read_bytes() if path.exists() else None
    with pytest.raises(StoreError) as error:
        ReadingStore.open(path)
    assert (path.read_bytes() if path.exists() else None) == before
    return str(error.value)


def test_a_file_that_is_no_database_is_refused_and_kept(path: Path) -> None:
    path.parent.mkdir(parents=True)
    path.write_bytes(b"dictated by Dr A.\n" * 500)
    assert "copy a backup" in refused(path)


def test_a_truncated_database_is_refused_and_kept(written: Path) -> None:
    content = written.read_bytes()
    written.write_bytes(content[: len(content) // 2])
    assert "copy a backup" in refused(written)


def test_a_database_with_a_damaged_page_is_refused_and_kept(written: Path) -> None:
    content = bytearray(written.read_bytes())
    content[8192:12288] = bytes(range(256)) * 16
    written.write_bytes(content)
    assert "copy a backup" in refused(written)


@pytest.mark.parametrize("left", ["readings-masks/1.nrrd", "readings.sqlite-wal"])
@pytest.mark.parametrize("emptied", [True, False])
def test_a_database_that_vanished_from_beside_its_files_is_not_begun_anew(
    path: Path, left: str, emptied: bool
) -> None:
    (path.parent / left).parent.mkdir(parents=True)
    (path.parent / left).write_bytes(b"something")
    if emptied:
        path.touch()
    assert "missing or empty" in refused(path)


def test_a_newer_schema_is_refused_and_kept(written: Path) -> None:
    change(written, f"PRAGMA user_version = {len(migrations.MIGRATIONS) + 1}")
    assert "newer version" in refused(written)


def test_a_database_of_something_else_is_refused_and_kept(path: Path) -> None:
    path.parent.mkdir(parents=True)
    change(path, "CREATE TABLE patients (name TEXT)")
    assert "something else" in refused(path)


def test_an_older_schema_is_migrated_with_its_readings(
    written: Path, made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    newer = (*migrations.MIGRATIONS, ("CREATE TABLE worklist (image TEXT) STRICT",))
    monkeypatch.setattr(database, "MIGRATIONS", newer)
    with ReadingStore.open(written) as store:
        assert store.count() == 50
        store.add(made())
    with closing(sqlite3.connect(written)) as connection:
        assert connection.execute("SELECT count(*) FROM worklist").fetchone() == (0,)
        assert connection.execute("PRAGMA user_version").fetchone() == (len(newer),)


def test_a_migration_that_fails_leaves_the_schema_as_it_was(
    written: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing = ("CREATE TABLE worklist (image TEXT)", "CREATE TABLE readings (image TEXT)")
    with monkeypatch.context() as patched:
        patched.setattr(database, "MIGRATIONS", (*migrations.MIGRATIONS, failing))
        with pytest.raises(StoreError):
            ReadingStore.open(written)
    with ReadingStore.open(written) as store:
        assert store.count() == 50


def test_a_database_of_the_first_release_opens_unchanged(path: Path, made: Made) -> None:
    path.parent.mkdir(parents=True)
    released = Path(__file__).with_name("schema_1.sql").read_text("utf-8")
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(released)
        connection.execute(f"PRAGMA application_id = {migrations.APPLICATION_ID}")
        connection.execute("PRAGMA user_version = 1")
        before = connection.execute(TABLES).fetchall()
    with ReadingStore.open(path) as store:
        first, second, third = store.readings(every=True)
        assert (first.reader, first.malignancy, first.sizes) == ("ann", 4, {"long_axis_mm": 12.5})
        assert first.comment == '"Grüße", said\nthe reader'
        assert first.answered is not None
        assert first.answered.seen is False
        assert (second.nodule, third.evidence) == (first.nodule, "histology")
        assert [kept.superseded for kept in store.kept(every=True)] == [True, False, False]
        assert store.add(made(centre_lps_mm=(62, 0, 0))).nodule == third.nodule
        assert store.revision() == 4
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute(TABLES).fetchall() == before


def test_a_write_that_fails_is_undone_and_its_connection_is_used_again(
    store: ReadingStore, made: Made
) -> None:
    def insert(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO nodules VALUES ('n', 'ct', 0, 0, 0)")

    for error in (KeyError, KeyboardInterrupt):
        with suppress(error), store._database.writing() as connection:
            insert(connection)
            raise error
    with store._database.writing() as again:
        assert again is connection
        assert again.execute("SELECT count(*) FROM nodules").fetchone() == (0,)


def test_a_reader_that_ends_leaves_the_log_to_the_writers(store: ReadingStore, made: Made) -> None:
    """To close the last connection writes the log back, while another process may commit."""
    store.add(made())
    log = Path(f"{store.path}-wal")
    size = log.stat().st_size
    assert size > 0
    assert store.count() == 1
    assert log.stat().st_size == size


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE readings SET reader = 'eve'",
        "DELETE FROM readings",
        "UPDATE nodules SET x_lps_mm = 1",
        "DELETE FROM nodules",
        "INSERT OR REPLACE INTO readings SELECT * FROM readings",
        "INSERT OR REPLACE INTO nodules SELECT * FROM nodules",
    ],
)
def test_nothing_that_was_kept_can_be_changed(written: Path, statement: str) -> None:
    with pytest.raises(sqlite3.IntegrityError, match="append-only"):
        change(written, statement)


def test_every_commit_is_on_the_disk_and_foreign_keys_hold(store: ReadingStore) -> None:
    """2 is FULL; kills and threads cannot show what a power cut would."""
    with store._database.writing() as connection:
        values = [
            connection.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("journal_mode", "synchronous", "foreign_keys")
        ]
    assert values == ["wal", 2, 1]


def test_a_writer_that_never_ends_is_told_of(
    store: ReadingStore, made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "BUSY_S", 0.1)
    with FileLock(f"{store.path}.lock"), pytest.raises(StoreError, match="another process"):
        store.add(made())
    assert store.count() == 0


def test_a_fork_uses_the_store_of_its_parent(store: ReadingStore, made: Made) -> None:
    store.add(made())
    child = os.fork()
    if not child:
        try:
            store.add(made(reader="child"))
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    store.add(made(reader="parent"))
    assert [kept.reader for kept in store.readings()] == ["ann", "child", "parent"]


def test_a_place_that_is_no_folder_is_told_of(tmp_path: Path) -> None:
    (tmp_path / "resmtnet").write_text("a file")
    with pytest.raises(StoreError, match="resmtnet"):
        ReadingStore.open(tmp_path / "resmtnet" / "readings.sqlite")


def test_a_file_system_without_a_log_is_refused(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "network_file_system", lambda folder: "nfs4")
    with pytest.raises(StoreError, match=r"nfs4.*local disk"):
        ReadingStore.open(path)
    assert not path.exists()


def test_the_file_system_of_a_folder_is_that_of_the_nearest_mount(tmp_path: Path) -> None:
    share, local = tmp_path / "the share", tmp_path / "the share" / "local"
    local.mkdir(parents=True)
    mounts = tmp_path / "mountinfo"
    escaped = str(share).replace(" ", "\\040")
    mounts.write_text(
        "22 1 0:20 / / rw - ext4 /dev/vda rw\n"
        f"23 22 0:21 / {escaped} rw,relatime shared:1 - nfs4 server:/export rw\n"
        f"24 23 0:22 / {escaped}/local rw - ext4 /dev/vdb rw\n"
    )
    assert network_file_system(share, mounts) == "nfs4"
    assert network_file_system(local, mounts) is None
    assert network_file_system(tmp_path, mounts) is None
    assert network_file_system(share, tmp_path / "missing") is None


@pytest.mark.parametrize("left", ["models/1-aaaaaaaa/manifest.json", "answers/ab/1.npz"])
@pytest.mark.parametrize("gone", ["deleted", "emptied"])
def test_lost_database_is_not_begun_anew_where_models_or_answers_were_made_from_it(
    tmp_path, left, gone
):
    path = tmp_path / "readings.sqlite"
    ReadingStore.open(path).close()
    (tmp_path / left).parent.mkdir(parents=True)
    (tmp_path / left).touch()
    path.unlink()
    if gone == "emptied":
        path.touch()
    with pytest.raises(StoreError, match=r"missing or empty.*copy a backup.*begin anew"):
        ReadingStore.open(path)
    assert not path.exists() or not path.stat().st_size


def test_database_that_is_deleted_or_replaced_while_it_is_open_takes_no_more_readings(tmp_path):
    path = tmp_path / "readings.sqlite"
    store = ReadingStore.open(path)
    path.rename(tmp_path / "away")
    with pytest.raises(StoreError, match="has disappeared or was replaced"):
        store.count()
    path.write_bytes((tmp_path / "away").read_bytes())
    with pytest.raises(StoreError, match="has disappeared or was replaced"):
        store.count()
