"""A version is believed if this site's key has signed it, not if its manifest fits."""

import hashlib
import json
import shutil
import stat

import pytest

from resmtnet.errors import ModelError
from resmtnet.findings import ModelInfo
from resmtnet.inference.model_folder import FILES, MANIFEST, SCHEMA
from resmtnet.retraining.registry import ModelRegistry
from resmtnet.retraining.registry_files import POINTER, Pointer, write_pointer
from resmtnet.retraining.signatures import SIGNATURE, SiteKey


def write_files(folder, version, content=""):
    """Files and a manifest that fits them, without weights that could be loaded."""
    folder.mkdir()
    for name in FILES:
        (folder / name).write_text(f"{name} of {version} {content}")
    files = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in FILES}
    table = "".join(f"{name}:{files[name]}\n" for name in sorted(files))
    sha256 = hashlib.sha256(table.encode()).hexdigest()
    manifest = {"schema": SCHEMA, "name": "resmtnet", "version": version, "sha256": sha256}
    (folder / MANIFEST).write_text(json.dumps({**manifest, "files": files}))
    return ModelInfo("resmtnet", version, sha256)


def writer(versions):
    return lambda folder: write_files(folder, versions.next_version())


def publish(versions, count=1):
    return [versions.publish(writer(versions)).name for _ in range(count)]


@pytest.fixture
def key(tmp_path):
    return SiteKey(tmp_path / "keys" / "key.pem")


@pytest.fixture
def versions(tmp_path, key):
    write_files(tmp_path / "shipped", "2")
    return ModelRegistry(tmp_path / "site" / "models", tmp_path / "shipped", key=key)


def forge(versions, name=None):
    """Put a version with a manifest that fits beside the others, and choose it."""
    draft = versions.folder / "forged"
    versions.folder.mkdir(parents=True, exist_ok=True)
    info = write_files(draft, "2+site.7", "by somebody else")
    record = {"parent": "shipped", "shipped": "2", "made_at": "2024-01-01", "details": {}}
    (draft / "published.json").write_text(json.dumps(record))
    name = name or f"7-{info.sha256[:8]}"
    draft.rename(versions.folder / name)
    write_pointer(versions.folder, Pointer(name, (), 7))
    return name


def test_key_is_made_outside_of_the_versions_and_for_its_owner_alone(versions, key):
    publish(versions)
    assert stat.S_IMODE(key.file.stat().st_mode) == 0o600
    assert versions.served().name != "shipped"
    again = key.file.read_bytes()
    key.make()
    assert key.file.read_bytes() == again


def test_forged_version_is_not_served_nor_chosen_and_is_told(versions):
    publish(versions)
    name = forge(versions)
    served = versions.served()
    assert served.name == "shipped"
    assert f"{name} is chosen but not trusted: it is not signed" in served.warning
    assert "resmtnet model trust" in served.warning
    (forged,) = [version for version in versions.list() if version.name == name]
    assert forged.is_forged
    versions.rollback("shipped")
    with pytest.raises(ModelError, match="not trusted"):
        versions.rollback(name)


@pytest.mark.parametrize("stolen", ["signature", "weights", "record", "name", "extra file"])
def test_signature_of_one_version_does_not_serve_for_another(versions, stolen):
    first, second = publish(versions, 2)
    folder = versions.folder / second
    if stolen == "signature":
        name = forge(versions)
        shutil.copy(folder / SIGNATURE, versions.folder / name / SIGNATURE)
    elif stolen == "weights":
        signature = (folder / SIGNATURE).read_bytes()
        shutil.rmtree(folder)
        forge(versions, second)
        (folder / SIGNATURE).write_bytes(signature)
    elif stolen == "record":
        text = (folder / "published.json").read_text()
        (folder / "published.json").write_text(text.replace("shipped", "chipped"))
    elif stolen == "name":
        shutil.copytree(versions.folder / first, versions.folder / "9-aaaaaaaa")
        write_pointer(versions.folder, Pointer("9-aaaaaaaa", (), 9))
    else:
        (folder / "reference.npz").write_text("not named by the manifest")
    assert versions.served().name == "shipped"
    assert "not trusted" in versions.served().warning


@pytest.mark.parametrize("lost", ["deleted", "replaced", "damaged"])
def test_after_the_key_was_lost_the_shipped_model_serves_until_versions_are_trusted_again(
    versions, key, lost
):
    (name,) = publish(versions)
    kept = key.file.read_bytes()
    key.file.unlink()
    if lost == "replaced":
        key.make()
    elif lost == "damaged":
        key.file.write_text("no key")
    assert versions.served().name == "shipped"
    assert str(key.file) in versions.served().warning
    if lost == "damaged":
        with pytest.raises(ModelError, match="cannot be read"):
            versions.trust(name)
        key.file.write_bytes(kept)
    else:
        versions.trust(name)
    assert versions.served().name == name
    assert versions.served().warning is None


def test_version_that_is_damaged_cannot_be_trusted(versions):
    (name,) = publish(versions)
    (versions.folder / name / FILES[0]).write_text("other")
    (versions.folder / name / SIGNATURE).unlink()
    with pytest.raises(ModelError, match="differs from the manifest"):
        versions.trust(name)


def test_publishing_without_a_place_for_the_key_is_refused_and_says_what_to_do(
    versions, key, tmp_path
):
    key.file.parent.write_text("a file where the folder should be")
    with pytest.raises(ModelError, match="RESMTNET_SIGNING_KEY"):
        versions.publish(writer(versions))
    assert not (versions.folder / POINTER).exists()
