"""Versions: published whole, chosen in one step, rolled back, and whole after a kill -9."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import shutil
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from resmtnet.errors import InputError, ModelError
from resmtnet.findings import ModelInfo
from resmtnet.inference.model_folder import FILES, MANIFEST, SCHEMA
from resmtnet.retraining.registry import ModelRegistry
from resmtnet.retraining.registry_files import POINTER, check_model

FORK = multiprocessing.get_context("fork")


def write_files(folder: Path, version: str, content: str = "") -> ModelInfo:
    """Files and a manifest that belong together, without weights that could be loaded."""
    folder.mkdir()
    for name in FILES:
        (folder / name).write_text(f"{name} of {version} {content}")
    files = {n: hashlib.sha256((folder / n).read_bytes()).hexdigest() for n in FILES}
    table = "".join(f"{name}:{files[name]}\n" for name in sorted(files))
    sha256 = hashlib.sha256(table.encode()).hexdigest()
    manifest = {"schema": SCHEMA, "name": "resmtnet", "version": version, "sha256": sha256}
    (folder / MANIFEST).write_text(json.dumps({**manifest, "files": files}))
    return ModelInfo("resmtnet", version, sha256)


@pytest.fixture
def versions(tmp_path: Path) -> ModelRegistry:
    write_files(tmp_path / "shipped", "2")
    return ModelRegistry(tmp_path / "site" / "models", tmp_path / "shipped")


def writer(versions: ModelRegistry) -> Callable[[Path], ModelInfo]:
    return lambda folder: write_files(folder, versions.next_version())


def publish(versions: ModelRegistry, count: int = 1) -> list[str]:
    return [versions.publish(writer(versions)).name for _ in range(count)]


def served(versions: ModelRegistry) -> str:
    """Name of the served version, which has to be whole."""
    check_model(versions.current())
    return versions.served().name


def drafts(versions: ModelRegistry) -> list[str]:
    return [path.name for path in versions.folder.iterdir() if path.name.startswith(".draft")]


# -- publish ---------------------------------------------------------------------------------


def test_without_a_folder_the_shipped_model_is_served_and_nothing_is_made(
    versions: ModelRegistry,
) -> None:
    assert versions.current() == versions.shipped
    assert [version.name for version in versions.list()] == ["shipped"]
    assert versions.stamp() is None
    assert not versions.folder.exists()


def test_what_is_published_is_served_under_its_number_and_checksum(versions: ModelRegistry) -> None:
    details = {"readings": 25, "verdict": {"published": True}}
    version = versions.publish(writer(versions), details=details)
    assert version.info is not None
    assert version.name == f"1-{version.info.sha256[:8]}"
    assert versions.current() == versions.folder / version.name
    assert version.info.version == "2+site.1"
    shipped, listed = versions.list()
    assert (shipped.served, listed.served) == (False, True)
    assert (listed.parent, listed.readings, listed.details) == ("shipped", 25, details)
    assert listed.made_at is not None
    assert listed.to_json()["sha256"] == version.info.sha256
    json.dumps(listed.to_json())


def test_version_strings_count_on_from_the_shipped_one(versions: ModelRegistry) -> None:
    publish(versions, 2)
    assert versions.next_version() == "2+site.3"
    shutil.rmtree(versions.shipped)
    write_files(versions.shipped, "2+local")
    assert versions.next_version() == "2+local.site.3"


def test_the_stamp_changes_with_the_choice_only(versions: ModelRegistry) -> None:
    publish(versions)
    stamp = versions.stamp()
    versions.list()
    assert versions.stamp() == stamp
    publish(versions)
    assert versions.stamp() != stamp


def test_a_writer_that_fails_leaves_what_was_served(versions: ModelRegistry) -> None:
    (name,) = publish(versions)

    def fail(folder: Path) -> ModelInfo:
        write_files(folder, "half")
        raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        versions.publish(fail)
    assert served(versions) == name
    assert drafts(versions) == []


def test_a_full_disk_leaves_what_was_served(versions: ModelRegistry) -> None:
    (name,) = publish(versions)

    def full(folder: Path) -> ModelInfo:
        raise OSError(28, "No space left on device")

    with pytest.raises(ModelError, match=r"No space left.*unchanged"):
        versions.publish(full)
    assert served(versions) == name


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder_is_served_from_and_not_published_to(versions: ModelRegistry) -> None:
    (name,) = publish(versions)
    versions.folder.chmod(0o555)
    try:
        with pytest.raises(ModelError, match="cannot be written"):
            publish(versions)
        assert served(versions) == name
    finally:
        versions.folder.chmod(0o755)


def test_a_model_that_is_damaged_when_written_is_not_published(versions: ModelRegistry) -> None:
    def damaged(folder: Path) -> ModelInfo:
        info = write_files(folder, "x")
        (folder / FILES[0]).write_text("other")
        return info

    with pytest.raises(ModelError, match=FILES[0]):
        versions.publish(damaged)
    assert versions.current() == versions.shipped


def test_a_version_string_is_given_once(versions: ModelRegistry) -> None:
    publish(versions)
    with pytest.raises(ModelError, match=r"already has version 2\+site.1"):
        versions.publish(lambda folder: write_files(folder, "2+site.1", "other weights"))


def test_a_model_compared_with_another_than_the_served_is_not_published(
    versions: ModelRegistry,
) -> None:
    first, second = publish(versions, 2)
    with pytest.raises(InputError, match=f"compared with {first}, but {second}"):
        versions.publish(writer(versions), parent=first)
    assert served(versions) == second
    versions.publish(writer(versions), parent=second)


# -- rollback --------------------------------------------------------------------------------


def test_rollback_goes_back_step_by_step_to_the_shipped_model(versions: ModelRegistry) -> None:
    first, second = publish(versions, 2)
    assert versions.rollback().name == first
    assert served(versions) == first
    assert versions.rollback().name == "shipped"
    with pytest.raises(InputError, match="No version was served before shipped"):
        versions.rollback()
    assert {v.name for v in versions.list()} == {"shipped", first, second}


@pytest.mark.parametrize("name", ["name", "number", "version"])
def test_a_version_is_served_by_its_name_number_or_version_string(
    versions: ModelRegistry, name: str
) -> None:
    first, *_ = publish(versions, 3)
    to = {"name": first, "number": "1", "version": "2+site.1"}[name]
    assert versions.rollback(to).name == first
    assert served(versions) == first


def test_later_versions_can_be_named_again_after_a_rollback(versions: ModelRegistry) -> None:
    _, second = publish(versions, 2)
    versions.rollback("shipped")
    versions.rollback(second)
    assert served(versions) == second
    assert versions.rollback().name == "shipped"


def test_unknown_and_served_versions_are_refused_with_those_allowed(
    versions: ModelRegistry,
) -> None:
    first, second = publish(versions, 2)
    with pytest.raises(InputError, match=f"no version '9'; allowed are shipped, {first}, {second}"):
        versions.rollback("9")
    with pytest.raises(InputError, match=f"already served; allowed are shipped, {first}$"):
        versions.rollback(second)
    with pytest.raises(InputError, match="no version"):
        versions.rollback("../shipped")


def test_a_damaged_version_is_not_rolled_back_to(versions: ModelRegistry) -> None:
    first, second, third = publish(versions, 3)
    (versions.folder / second / FILES[0]).write_text("other")
    with pytest.raises(ModelError, match=FILES[0]):
        versions.rollback(second)
    assert served(versions) == third
    assert versions.rollback().name == first


def test_a_publish_after_a_rollback_takes_a_new_number(versions: ModelRegistry) -> None:
    publish(versions, 2)
    versions.rollback("shipped")
    version = versions.publish(writer(versions))
    assert version.name.startswith("3-")
    assert version.parent == "shipped"


# -- damage ----------------------------------------------------------------------------------


def test_a_damaged_version_gives_way_to_the_shipped_model_with_a_warning(
    versions: ModelRegistry,
) -> None:
    (name,) = publish(versions)
    (versions.folder / name / FILES[0]).write_text("other")
    sha256, now = versions.load(check_model)
    assert sha256 == check_model(versions.shipped)
    assert now.name == "shipped"
    assert now.warning is not None
    assert FILES[0] in now.warning
    assert "resmtnet model list" in now.warning
    later = versions.publish(writer(versions))
    assert later.parent == "shipped"
    assert versions.rollback().name == "shipped"


@pytest.mark.parametrize("text", ["", "{", "[]", '{"schema": "resmtnet.versions/1"}', "null"])
def test_a_damaged_pointer_gives_way_to_the_shipped_model(
    versions: ModelRegistry, text: str
) -> None:
    (name,) = publish(versions)
    (versions.folder / POINTER).write_text(text)
    now = versions.served()
    assert now.name == "shipped"
    assert now.warning is not None
    assert "damaged" in now.warning
    assert versions.rollback(name).name == name
    assert served(versions) == name


def test_a_pointer_out_of_the_folder_is_not_followed(
    versions: ModelRegistry, tmp_path: Path
) -> None:
    publish(versions)
    write_files(tmp_path / "elsewhere", "9")
    pointer = json.loads((versions.folder / POINTER).read_text())
    pointer["served"] = "../../elsewhere"
    (versions.folder / POINTER).write_text(json.dumps(pointer))
    assert versions.current() == versions.shipped


def test_a_pointer_of_a_newer_package_is_left_alone(versions: ModelRegistry) -> None:
    publish(versions)
    (versions.folder / POINTER).write_text('{"schema": "resmtnet.versions/2"}')
    with pytest.raises(ModelError, match="schema"):
        publish(versions)
    assert "versions/2" in (versions.folder / POINTER).read_text()
    assert versions.current() == versions.shipped


@pytest.mark.parametrize("text", ["", "[]", '{"name": 1}'])
def test_a_damaged_manifest_is_listed_and_not_served(versions: ModelRegistry, text: str) -> None:
    (name,) = publish(versions)
    (versions.folder / name / MANIFEST).write_text(text)
    assert versions.current() == versions.shipped
    assert versions.list()[1].damage


def test_a_version_removed_by_hand_gives_way_to_the_shipped_model(versions: ModelRegistry) -> None:
    (name,) = publish(versions)
    shutil.rmtree(versions.folder / name)
    assert versions.current() == versions.shipped
    assert versions.served().warning


def test_a_newer_shipped_model_is_told_but_not_forced(versions: ModelRegistry) -> None:
    (name,) = publish(versions)
    assert versions.served().warning is None
    shutil.rmtree(versions.shipped)
    write_files(versions.shipped, "3")
    now = versions.served()
    assert now.name == name
    assert now.warning is not None
    assert "the shipped version is now 3" in now.warning


# -- retention -------------------------------------------------------------------------------


def test_old_versions_are_removed_but_not_numbers(versions: ModelRegistry) -> None:
    few = ModelRegistry(versions.folder, versions.shipped, keep=3)
    names = publish(few, 6)
    assert [v.name for v in few.list()] == ["shipped", *names[-3:]]
    assert few.next_version() == "2+site.7"


def test_the_served_version_and_its_parent_are_never_removed(versions: ModelRegistry) -> None:
    few = ModelRegistry(versions.folder, versions.shipped, keep=1)
    first = publish(few)[0]
    second = few.publish(writer(few))
    assert second.parent == first
    assert [v.name for v in few.list()] == ["shipped", first, second.name]
    assert few.rollback().name == first


def test_at_least_one_version_is_kept(versions: ModelRegistry) -> None:
    with pytest.raises(InputError, match="keep is 0"):
        ModelRegistry(versions.folder, versions.shipped, keep=0)


# -- several at once, and kill -9 ------------------------------------------------------------


def test_threads_and_processes_publish_one_after_the_other(versions: ModelRegistry) -> None:
    processes = [FORK.Process(target=publish, args=(versions, 5)) for _ in range(2)]
    for process in processes:
        process.start()
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda _: publish(versions, 2), range(3)))
    for process in processes:
        process.join(30)
        assert process.exitcode == 0
    assert versions.next_version() == "2+site.17"
    published = versions.list()[1:]
    assert len({v.info.version for v in published if v.info}) == len(published) == 10
    for version in published:
        check_model(version.folder)
    for earlier, later in pairwise(published):
        assert later.parent == earlier.name
    assert drafts(versions) == []


def test_readers_see_a_whole_model_at_every_moment(versions: ModelRegistry) -> None:
    few = ModelRegistry(versions.folder, versions.shipped, keep=1)
    process = FORK.Process(target=publish, args=(few, 60))
    process.start()
    read = 0
    while process.is_alive():
        _, now = few.load(check_model)
        assert now.warning is None
        read += 1
    process.join()
    assert process.exitcode == 0
    assert read > 10


def test_a_kill_at_any_moment_leaves_a_whole_model_and_work_goes_on(
    versions: ModelRegistry,
) -> None:
    began = FORK.Event()

    def work() -> None:
        began.set()
        while True:
            publish(versions, 2)
            versions.rollback()

    start_s = time.perf_counter()
    publish(versions)
    publish_s = time.perf_counter() - start_s
    generator = np.random.default_rng(0)
    seen = set()
    for _ in range(30):
        began.clear()
        process = FORK.Process(target=work)
        process.start()
        assert began.wait(30)
        time.sleep(float(generator.uniform(0, 4 * publish_s)))
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        now = versions.load(check_model)[1]
        assert now.warning is None
        seen.add(now.name)
        assert served(versions) == now.name
    assert len(seen) > 3
    (name,) = publish(versions)
    assert served(versions) == name
    assert drafts(versions) == []
