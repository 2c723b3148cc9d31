"""`make demo-pacs`: all three start, answer, hold a result, and stop without leaving anything."""

from __future__ import annotations

import re
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from resmtnet.cli.demo_pacs.command import main
from resmtnet.cli.demo_pacs.ohif_site import app_config
from resmtnet.cli.demo_pacs.orthanc import HOW_TO_INSTALL, orthanc_program

PAGES = Path("build", "ohif")


@pytest.mark.viewers
def test_the_demo_stores_a_result_prints_addresses_and_stops(checkout: Path) -> None:
    if orthanc_program() is None:
        pytest.skip(f"no Orthanc: {HOW_TO_INSTALL}")
    command = [sys.executable, "-m", "resmtnet.cli.demo_pacs", "--cache", str(checkout / PAGES)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if "Ctrl-C" in line:
            break
        if "npm" in line:
            process.wait()
            pytest.skip(line)
    told = "".join(lines)
    addresses = re.findall(r"http://127\.0\.0\.1:\d+\S*", told)
    assert len(addresses) == 4
    assert "SEG and SR" in told
    for address in addresses:
        with urllib.request.urlopen(address, timeout=60) as reply:
            assert reply.status == 200
    process.terminate()
    assert process.wait(60) == 0
    assert "Stopped." in process.stdout.read()
    process.stdout.close()
    for address in addresses:
        with pytest.raises(OSError, match=r"refused"):
            urllib.request.urlopen(address, timeout=5)


def test_a_folder_that_is_missing_is_told_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if orthanc_program() is None:
        pytest.skip(f"no Orthanc: {HOW_TO_INSTALL}")
    (tmp_path / "ohif-app-3.13.2").mkdir()
    (tmp_path / "ohif-app-3.13.2" / "index.html").write_text("<html>")
    asked = ["--studies", str(tmp_path / "none"), "--cache", str(tmp_path), "--once"]
    assert main(asked) == 1
    assert "there is no such folder" in capsys.readouterr().out


def test_ohif_is_told_where_the_pacs_is_and_asks_no_questions() -> None:
    text = app_config()
    assert text.startswith("window.config = {")
    assert '"wadoRoot": "/dicom-web"' in text
    assert '"disableConfirmationPrompts": true' in text
