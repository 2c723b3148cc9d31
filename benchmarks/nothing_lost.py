"""Is every acknowledged reading still there? Writers are killed, crowded, and run out of disk.

    python benchmarks/nothing_lost.py [--kills 200] [--each 250] [--out FILE]
    python benchmarks/nothing_lost.py --only-kills --kills 1000 --seconds 300 --resume FILE

A writer prints the id of a reading, and the SHA-256 of its JSON, once the store has returned it;
that is what "acknowledged" means. Afterwards the store is opened anew and must hold each of them,
word for word. `--only-kills` leaves the rest out, stops after so many seconds, and goes on the next
time where FILE says that it stopped. A kill shows what a process may lose, not what a power cut
may: for that the store relies on SQLite's synchronous=FULL.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from resmtnet.errors import StoreError
from resmtnet.readings.record import Answered, Reading
from resmtnet.readings.store import ReadingStore
from resmtnet.types import Json

STARTED, REFUSED = "started", "refused"
LONGEST_S = 0.5
"""A writer is killed at a uniformly random moment up to so long after it started."""
REOPENED_EVERY = 5
NOBODY = 65534


def reading(name: str, number: int) -> Reading:
    """Make the reading `number` of a writer; every writer reads the same three nodules."""
    answered = Answered("2", "0" * 64, {"id": "N1", "note": "x" * 2000}, seen=number % 2 == 0)
    return Reading(
        image="ct",
        reader=name,
        centre_lps_mm=(50.0 * (number % 3), 1.0, 2.0),
        malignancy=1 + number % 5,
        sizes={"long_axis_mm": 5 + number % 20},
        answered=answered,
        id=f"{name}-{number}",
    )


def fingerprint(kept: Reading) -> str:
    return hashlib.sha256(json.dumps(kept.to_json(), sort_keys=True).encode()).hexdigest()


def write(path: Path, name: str, count: int, largest_bytes: int | None, user: int | None) -> None:
    """Write readings until there are enough, or the store refuses one."""
    if largest_bytes:
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest_bytes, largest_bytes))
    if user:
        with tempfile.TemporaryDirectory() as folder:  # what is imported late, this user cannot
            ReadingStore.open(Path(folder, "readings.sqlite")).close()
        os.seteuid(user)
    print(STARTED, flush=True)
    try:
        store = ReadingStore.open(path)
        for number in range(count):
            kept = store.add(reading(name, number))
            print(kept.id, fingerprint(kept), flush=True)
            if number % REOPENED_EVERY == REOPENED_EVERY - 1:  # the log goes into the database
                store.close()
                store = ReadingStore.open(path)
    except StoreError as error:
        print(REFUSED, error, flush=True)


def writer(path: Path, name: str, count: int, *options: str) -> subprocess.Popen[str]:
    command = [sys.executable, __file__, "--write", str(path), "--name", name, "--each", str(count)]
    return subprocess.Popen([*command, *options], stdout=subprocess.PIPE, text=True)


def started(process: subprocess.Popen[str]) -> subprocess.Popen[str]:
    assert process.stdout is not None
    assert process.stdout.readline().strip() == STARTED
    return process


def ended(process: subprocess.Popen[str]) -> tuple[dict[str, str], str]:
    """Wait for a writer; see acknowledged_in for what is returned."""
    return acknowledged_in(process.communicate()[0])


def acknowledged_in(told: str) -> tuple[dict[str, str], str]:
    """Return what a writer acknowledged, by id, and why it stopped if it was refused.

    A line that the kill cut short is no acknowledgement.
    """
    lines = told[: told.rfind("\n") + 1].splitlines()
    refused = [line for line in lines if line.startswith(REFUSED)]
    pairs = (line.split() for line in lines if line != STARTED and line not in refused)
    return dict(pairs), "".join(refused)


def compare(path: Path, acknowledged: dict[str, str]) -> Json:
    """Return how many of the acknowledged readings are there, word for word."""
    with ReadingStore.open(path) as store:
        kept = {each.id: each for each in store.readings(every=True)}
        nodules = {each.nodule for each in kept.values()}
        again = store.count()
    present = sum(
        id_ in kept and fingerprint(kept[id_]) == digest for id_, digest in acknowledged.items()
    )
    return {
        "acknowledged": len(acknowledged),
        "present": present,
        "kept": again,
        "nodules": len(nodules),
    }


def killed(path: Path, name: str, after_s: float) -> tuple[dict[str, str], int]:
    """Kill a writer some time after it started; return what it acknowledged, and its exit code."""
    process = started(writer(path, name, 10**6))
    time.sleep(after_s)
    process.send_signal(signal.SIGKILL)
    return ended(process)[0], process.returncode


def killed_fork(path: Path, name: str, after_s: float) -> tuple[dict[str, str], int]:
    """The same with a fork of this process, which may have no threads; it begins at once."""
    out, into = os.pipe()
    pid = os.fork()
    if not pid:
        os.dup2(into, 1)
        sys.stdout = os.fdopen(1, "w")
        write(path, name, 10**6, None, None)
        os._exit(0)
    os.close(into)
    with os.fdopen(out) as told:
        assert told.readline().strip() == STARTED
        time.sleep(after_s)
        os.kill(pid, signal.SIGKILL)
        acknowledged = acknowledged_in(told.read())[0]
    return acknowledged, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def kills(
    folder: Path,
    count: int,
    seed: int = 0,
    fresh_every: int = 10,
    first: int = 0,
    end_s: float = float("inf"),
    kill: Callable[[Path, str, float], tuple[dict[str, str], int]] = killed,
) -> Json:
    """Kill a writer at random moments; every tenth time it begins a new database.

    Args:
        folder: for the databases.
        count: kills in all.
        seed: of the moments.
        fresh_every: kills of one database.
        first: number of the first kill, where an earlier run has stopped.
        end_s: of time.monotonic(), after which the run stops with the database at hand.
        kill: starts a writer and kills it.
    """
    total = {"kills": 0, "acknowledged": 0, "present": 0, "kept": 0}
    acknowledged: dict[str, str] = {}
    for number in range(first, count):
        if number % fresh_every == 0:
            acknowledged = {}
            if time.monotonic() > end_s:
                break
        path = folder / f"kills-{number // fresh_every}" / "readings.sqlite"
        after_s = random.Random(f"{seed}:{number}").uniform(0, LONGEST_S)
        told, code = kill(path, f"w{number}", after_s)
        acknowledged.update(told)
        total["kills"] += code == -signal.SIGKILL
        found = compare(path, acknowledged)
        if found["present"] < found["acknowledged"]:
            raise SystemExit(f"lost after kill {number}: {found}")
        if number % fresh_every == fresh_every - 1 or number == count - 1:
            for name in ("acknowledged", "present", "kept"):
                total[name] += found[name]
    return total


def kills_in_slices(file: Path, count: int, seconds: float, seed: int) -> Json:
    """Go on with the kills of a file for some seconds; return the sum."""
    before = json.loads(file.read_text()) if file.exists() else {"kills": 0}
    with tempfile.TemporaryDirectory() as folder:
        end_s = time.monotonic() + seconds
        found = kills(
            Path(folder), count, seed, first=before["kills"], end_s=end_s, kill=killed_fork
        )
    document = {name: number + before.get(name, 0) for name, number in found.items()}
    file.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    return document


def crowd(folder: Path, each: int, writers: int = 4, killed: int = 0, seed: int = 0) -> Json:
    """Let several writers write at once; `killed` times all are killed and others take over."""
    path, moments = folder / f"crowd-{killed}" / "readings.sqlite", random.Random(seed)
    acknowledged: dict[str, str] = {}
    for number in range(killed):
        crowded = [started(writer(path, f"k{number}-{n}", 10**6)) for n in range(writers)]
        for process in crowded:
            time.sleep(moments.uniform(0, LONGEST_S / writers))
            process.send_signal(signal.SIGKILL)
        for process in crowded:
            acknowledged.update(ended(process)[0])
    crowded = [writer(path, f"w{n}", each) for n in range(writers)]
    begun = time.perf_counter()
    for process in crowded:
        told, refused = ended(process)
        acknowledged.update(told)
        if refused or len(told) != each:
            raise SystemExit(f"a writer kept {len(told)} of {each} readings: {refused}")
    found = compare(path, acknowledged)
    return {**found, "writers": writers, "seconds": round(time.perf_counter() - begun, 1)}


def full_disk(folder: Path, bytes_: int = 300_000) -> Json:
    """Let files grow to a limit only, which SQLite meets as it meets a full disk."""
    path = folder / "full" / "readings.sqlite"
    told, refused = ended(writer(path, "full", 10**6, "--largest", str(bytes_)))
    return {**compare(path, told), "refused": refused}


@contextmanager
def small_disk(folder: Path, size: str = "1m") -> Iterator[Path]:
    """Give a real file system of a megabyte; OSError where none can be mounted."""
    place = folder / "small"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        raise OSError("no tmpfs can be mounted here: that needs root")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=False)


def really_full_disk(folder: Path) -> Json:
    """Fill a file system, free some of it, and go on."""
    with small_disk(folder) as disk:
        path, filling = disk / "resmtnet" / "readings.sqlite", disk / "filling"
        filling.write_bytes(bytes(300_000))
        told, refused = ended(writer(path, "before", 10**6))
        filling.unlink()
        found = compare(path, told)
        more, _ = ended(writer(path, "after", 10))
        return {**found, "refused": refused, "after_space_was_freed": len(more)}


def read_only(folder: Path) -> Json:
    """Make the folder read-only, for a user who is not root."""
    path = folder / "read-only" / "readings.sqlite"
    told, _ = ended(writer(path, "before", 20))
    other_user = ("--user", str(NOBODY)) if os.geteuid() == 0 else ()
    for place, mode in ((folder, 0o755), (path, 0o444), (path.parent, 0o555)):
        place.chmod(mode)
    more, refused = ended(writer(path, "after", 20, *other_user))
    for place, mode in ((path.parent, 0o755), (path, 0o644)):
        place.chmod(mode)
    return {**compare(path, {**told, **more}), "refused": refused, "then_acknowledged": len(more)}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--each", type=int, default=250, help="readings of each writer")
    parser.add_argument("--out", type=Path, help="JSON to write")
    parser.add_argument("--only-kills", action="store_true")
    parser.add_argument("--seconds", type=float, default=300.0, help="of a slice of --only-kills")
    parser.add_argument("--resume", type=Path, default=Path("kills.json"), help="of --only-kills")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--write", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--name", help=argparse.SUPPRESS)
    parser.add_argument("--user", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--largest", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.write:
        write(given.write, given.name, given.each, given.largest, given.user)
        return
    if given.only_kills:
        print(json.dumps(kills_in_slices(given.resume, given.kills, given.seconds, given.seed)))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        document = {
            "kill -9": kills(folder, given.kills),
            "4 writers": crowd(folder, given.each),
            "4 writers, killed": crowd(folder, given.each, killed=max(1, given.kills // 10)),
            "file size limit": full_disk(folder),
            "full tmpfs": really_full_disk(folder) if os.geteuid() == 0 else "needs root",
            "read-only folder": read_only(folder),
        }
    text = json.dumps(document, indent=1)
    print(text)
    if given.out:
        given.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
