"""A file that crashes, freezes or inflates what reads it ends a worker, and nothing else."""

import os
import signal
import time
from pathlib import Path

import itk
import numpy as np
import pytest

from resmtnet.ct import apart
from resmtnet.errors import SeveralSeriesError, VolumeError
from resmtnet.readings.formats.label_map import read_label_map
from resmtnet.readings.formats.label_map_apart import read_label_map_apart

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="workers are forked")
HERE = f"{__name__}:"


@pytest.fixture(autouse=True)
def tests_can_be_imported(monkeypatch):
    """The helper finds these functions, which stand for what a library does with a file."""
    folder = str(Path(__file__).parent)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([folder, os.environ.get("PYTHONPATH", "")]))
    helper = apart._Helper()
    monkeypatch.setattr(apart, "_HELPER", helper)
    yield
    helper.stop()


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "ct.mha"
    path.write_text("whatever")
    return path


def crash(path, folder):
    os.kill(os.getpid(), signal.SIGSEGV)


def freeze(path, folder):
    while True:
        time.sleep(1)


def inflate(path, folder):
    np.ones(10**9).sum()


def refuse(path, folder):
    raise SeveralSeriesError("there are two")


def write(path, folder):
    (folder / "text").write_text(path.read_text().upper())


@pytest.mark.parametrize("harm", ["crash", "freeze", "inflate"])
def test_harm_ends_the_worker_and_the_next_file_is_read(file, monkeypatch, harm):
    monkeypatch.setattr(apart, "TIME_S", 1.0 if harm == "freeze" else 60.0)
    with pytest.raises(VolumeError, match=r"ct\.mha|memory"):
        apart.read_apart(HERE + harm, file).__enter__()
    monkeypatch.setattr(apart, "TIME_S", 60.0)
    with apart.read_apart(HERE + "write", file) as folder:
        assert (folder / "text").read_text() == "WHATEVER"
    assert not folder.exists()


def test_refusal_comes_as_the_function_raised_it(file):
    with pytest.raises(SeveralSeriesError, match="there are two"):
        apart.read_apart(HERE + "refuse", file).__enter__()


def test_helper_that_was_killed_is_started_again(file):
    apart.start()
    apart._HELPER.process().kill()
    apart._HELPER.process().wait()
    with apart.read_apart(HERE + "write", file) as folder:
        assert (folder / "text").exists()


def test_label_map_read_apart_is_the_same(tmp_path):
    image = itk.image_from_array(np.arange(24, dtype=np.uint8).reshape(2, 3, 4))
    image.SetSpacing((0.7, 0.8, 2.5))
    image.SetOrigin((1.0, -2.0, 3.0))
    itk.imwrite(image, str(tmp_path / "mask.nrrd"))
    here, there = (read(tmp_path / "mask.nrrd") for read in (read_label_map, read_label_map_apart))
    assert np.array_equal(here.mask, there.mask)
    assert here.mask.dtype == there.mask.dtype
    assert here.geometry.spacing_mm == there.geometry.spacing_mm
    assert here.geometry.origin_lps_mm == there.geometry.origin_lps_mm
    assert np.array_equal(here.geometry.direction, there.geometry.direction)
    assert (here.segments, here.warnings) == (there.segments, there.warnings)
