from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from blip.data.decode import BadImage
from blip.data.images import normalise, preprocess, send, squash
from blip.errors import BlipError

from .conftest import draw, encoded


def test_preprocessing_takes_pictures_arrays_paths_and_bytes(tmp_path: Path) -> None:
    pixels, data = draw(6), encoded(draw(6))
    (tmp_path / "picture.png").write_bytes(data)
    inputs = [Image.fromarray(pixels), pixels, tmp_path / "picture.png", str(tmp_path / "picture.png"), data]
    tensor = preprocess(inputs, 16)
    assert tensor.shape == (5, 3, 16, 16)
    assert tensor.dtype == torch.float32
    assert all(torch.equal(tensor[0], other) for other in tensor[1:])


def test_a_missing_path_is_named() -> None:
    with pytest.raises(BlipError, match=r"nowhere\.png cannot be read"):
        preprocess(["nowhere.png"], 16)


def test_an_array_of_floats_is_refused() -> None:
    with pytest.raises(BadImage, match="float64"):
        preprocess([np.zeros((4, 4, 3))], 16)  # pyright: ignore[reportArgumentType]


def test_normalising_uses_clips_mean_and_deviation() -> None:
    white = normalise(torch.full((1, 3, 2, 2), 255, dtype=torch.uint8))
    assert white[0, :, 0, 0].tolist() == pytest.approx([1.9303, 2.0749, 2.1459], abs=1e-4)


def test_a_share_of_a_picture_is_its_middle() -> None:
    picture = np.zeros((80, 40, 3), np.uint8)
    picture[20:60, 10:30] = 255
    whole, middle = (squash(Image.fromarray(picture), 20, share) for share in (1.0, 0.5))
    assert (middle[2:-2, 2:-2] == 255).all()
    assert (whole[7:13, 7:13] == 255).all()
    assert not (whole[:3] == 255).any()


def test_what_is_sent_to_a_gpu_can_be_pinned(monkeypatch: pytest.MonkeyPatch) -> None:
    """As torch pins: memory of the same strides, which is copied into. Here nothing is really sent."""

    def pin_memory(tensor: torch.Tensor) -> torch.Tensor:
        storage = torch.UntypedStorage(tensor.numel() * tensor.element_size())
        return tensor.new_empty(0).set_(storage, 0, tensor.shape, tensor.stride()).copy_(tensor)

    monkeypatch.setattr(torch.Tensor, "pin_memory", pin_memory)
    monkeypatch.setattr(torch.Tensor, "to", lambda tensor, *_, **__: tensor)
    pairs = torch.arange(6).view(2, 3)
    for tensor in (pairs, pairs.T, pairs[:1].expand(4, -1), pairs[:, :1].expand(-1, 5), pairs[0, 0]):
        assert torch.equal(send(tensor, "cuda"), tensor)
