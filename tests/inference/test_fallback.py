"""A GPU without memory: the CPU answers the same, says so, and the GPU is tried again later."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from resmtnet.ct import CTVolume
from resmtnet.inference import fallback
from resmtnet.inference.characterizer import Characterizer
from resmtnet.inference.ensemble import Ensemble
from resmtnet.inference.fallback import TOLD, Place


class Gpu:
    """Stands for a GPU, since tests need none: work on it fails as it does without memory."""

    name = "cuda:0"

    def __init__(self, error: RuntimeError | None) -> None:
        self.error, self.tried = error, 0

    def work(self, _members: Any, device: str) -> str:
        if device == self.name:
            self.tried += 1
            if self.error is not None:
                raise self.error
        return device


FULL = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")


@pytest.mark.parametrize(
    "error",
    [FULL, RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate")],
)
def test_the_cpu_does_the_work_of_a_full_gpu_for_a_while(
    bright: Ensemble, error: RuntimeError, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s = [1000.0]
    monkeypatch.setattr(fallback.time, "monotonic", lambda: now_s[0])
    gpu, place = Gpu(error), Place(bright.members, Gpu.name)
    assert [place.run(gpu.work) for _ in range(3)] == ["cpu"] * 3
    assert (gpu.tried, place.is_replaced) == (1, True)
    now_s[0] += fallback.AGAIN_S + 1
    gpu.error = None
    assert place.run(gpu.work) == Gpu.name
    assert not place.is_replaced


def test_another_error_of_the_gpu_is_not_hidden(bright: Ensemble) -> None:
    gpu = Gpu(RuntimeError("CUDA error: an illegal memory access was encountered"))
    with pytest.raises(RuntimeError, match="illegal"):
        Place(bright.members, Gpu.name).run(gpu.work)


def test_the_copies_on_the_cpu_are_equal_and_share_nothing(bright: Ensemble) -> None:
    place = Place(bright.members, Gpu.name)
    copies: list[Any] = []

    def work(members: Any, device: str) -> None:
        if device != "cpu":
            raise FULL
        copies.extend(members)

    place.run(work)
    for member, made in zip(bright.members, copies, strict=True):
        for name, values in member.state_dict().items():
            again = made.state_dict()[name]
            assert torch.equal(values, again)
            assert values.data_ptr() != again.data_ptr()
        assert not made.training


def test_answers_of_the_cpu_are_those_of_the_gpu_and_say_so(
    monkeypatch: pytest.MonkeyPatch, phantom: Any
) -> None:
    model = Characterizer.load(device="cpu")
    ct = CTVolume.from_array(phantom.hu.astype(np.int16), spacing_mm=(1.0, 1.0, 1.0))
    centre = ct.geometry.ijk_to_lps([s / 2 for s in ct.geometry.size_ijk])
    (before,) = model(ct, [centre])
    assert TOLD not in model.document(ct, [before])["warnings"]

    heads = Ensemble._heads

    def without_memory(self: Any, samplers: Any, views: Any, members: Any, device: str) -> Any:
        if device != "cpu":
            raise FULL
        return heads(self, samplers, views, members, device)

    monkeypatch.setattr(Ensemble, "_heads", without_memory)
    model.inference.place = Place(model.inference.members, Gpu.name)
    (after,) = model(ct, [centre])
    assert after.probability_malignant == pytest.approx(before.probability_malignant, abs=1e-4)
    assert after.size.volume_mm3 == pytest.approx(before.size.volume_mm3, rel=1e-3)
    assert TOLD in model.document(ct, [after])["warnings"]
