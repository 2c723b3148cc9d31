"""What the app sets for the whole process when it is made."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from resmtnet.monai_label.restricted_app import configure_platform, private_folders
from resmtnet.monai_label.settings import AppSettings


@pytest.fixture(autouse=True)
def umask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.mark.parametrize(("setting", "mask"), [("077", 0o077), ("027", 0o027)])
def test_new_files_have_the_permissions_of_the_setting(setting: str, mask: int) -> None:
    configure_platform(AppSettings(umask=setting))
    assert os.umask(0o022) == mask


def test_mlflow_tells_its_makers_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    client = pytest.importorskip("mlflow.telemetry.client")
    monkeypatch.delenv("MLFLOW_DISABLE_TELEMETRY", raising=False)
    monkeypatch.setattr(client, "_MLFLOW_TELEMETRY_CLIENT", object())
    configure_platform(AppSettings())
    assert client.get_telemetry_client() is None
    assert os.environ.pop("MLFLOW_DISABLE_TELEMETRY") == "true"


def test_folders_of_the_server_are_named_for_the_errors(tmp_path: os.PathLike[str]) -> None:
    found = [str(path) for path in private_folders(AppSettings(), "/app", str(tmp_path))]
    assert {str(tmp_path), "/app", os.path.expanduser("~")} <= set(found)
    assert "http:" not in "".join(
        map(str, private_folders(AppSettings(), "/app", "http://pacs/dicom-web"))
    )
