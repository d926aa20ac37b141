"""Which number type is chosen where."""

from pathlib import Path

import pytest
import torch

from blip.errors import BlipError
from blip.training import precision
from blip.training.precision import FIRST_SCALE, STEPS_TO_GROW, LossScale, autocast_dtype, has_fast_bfloat16


@pytest.mark.parametrize(("fast", "chosen"), [(True, torch.bfloat16), (False, torch.float32)])
def test_auto_is_bfloat16_only_where_the_hardware_has_it(
    monkeypatch: pytest.MonkeyPatch, fast: bool, chosen: torch.dtype
):
    monkeypatch.setattr(precision, "has_fast_bfloat16", lambda device: fast)

    assert autocast_dtype("auto", "cpu") is chosen


def test_a_type_asked_for_by_name_is_taken():
    assert autocast_dtype("bfloat16", "cpu") is torch.bfloat16
    assert autocast_dtype("float32", "cpu") is torch.float32


def test_the_processor_is_asked():
    flags = set(Path("/proc/cpuinfo").read_text(encoding="utf-8").split())

    assert has_fast_bfloat16("cpu") == bool(flags & {"amx_tile", "avx512_bf16"})


def test_the_loss_scale_is_halved_on_overflow_and_doubled_after_many_good_steps():
    scale = LossScale()
    scale.update(overflow=True)
    assert scale.scale == FIRST_SCALE / 2
    for _ in range(STEPS_TO_GROW):
        scale.update(overflow=False)
    assert scale.scale == FIRST_SCALE


def test_gradients_that_are_never_finite_end_the_run():
    scale = LossScale()
    with pytest.raises(BlipError, match="even without a loss scale"):
        for _ in range(20):
            scale.update(overflow=True)


def test_a_checkpoint_holds_the_loss_scale():
    scale, resumed = LossScale(), LossScale()
    scale.update(overflow=True)
    resumed.load_state_dict(scale.state_dict())
    assert (resumed.scale, resumed.good_steps) == (FIRST_SCALE / 2, 0)
