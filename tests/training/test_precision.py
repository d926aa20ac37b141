"""Which number type is chosen where."""

import pytest
import torch

from blip.training import precision
from blip.training.precision import autocast_dtype, has_fast_bfloat16


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
    flags = torch.cpu.get_capabilities()

    assert has_fast_bfloat16("cpu") == bool(flags.get("amx_tile") or flags.get("avx512_bf16"))
