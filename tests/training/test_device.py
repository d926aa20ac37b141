"""`compute.device` is obeyed, or it is said that it cannot be."""

import os

import pytest
import torch

from blip.errors import BlipError
from blip.training.engine import choose_device


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_no_reason_to_train_on_the_cpu() -> None:
    with pytest.raises(BlipError, match=r"compute\.device is cuda and torch .* finds no GPU"):
        choose_device("cuda")


@pytest.mark.parametrize(("wanted", "chosen"), [("cpu", "cpu"), ("auto", None)])
def test_deepspeed_is_told_what_is_wanted(
    monkeypatch: pytest.MonkeyPatch, wanted: str, chosen: str | None
) -> None:
    monkeypatch.delenv("DS_ACCELERATOR", raising=False)
    choose_device(wanted)
    assert os.environ.get("DS_ACCELERATOR") == chosen
    monkeypatch.delenv("DS_ACCELERATOR", raising=False)
