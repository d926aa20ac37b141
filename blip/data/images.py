"""The preprocessing of every evaluation and every exported model, and how pictures arrive at the network.

tensor = preprocess([image, "cat.jpg"], size=384)  # float32 [2, 3, 384, 384]
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from blip.data.decode import BadImage, decode, to_rgb
from blip.errors import BlipError

MEAN = (0.48145466, 0.4578275, 0.40821073)  # CLIP's, as BLIP uses them
STD = (0.26862954, 0.26130258, 0.27577711)

ImageInput = Image.Image | NDArray[np.uint8] | Path | str | bytes


def preprocess(images: Sequence[ImageInput], size: int) -> Tensor:
    """Squash to `size` (bicubic, as Pillow does it) and normalise: float32 `[B, 3, size, size]`.

    Equal to the `BlipImageProcessorPil` of transformers.

    Raises:
        BadImage: a picture cannot be decoded. BlipError: a path does not exist.
    """
    pixels_BSSC = np.empty((len(images), size, size, 3), np.uint8)
    for index, image in enumerate(images):
        pixels_BSSC[index] = squash(to_pil(image), size)
    return normalise(torch.from_numpy(pixels_BSSC).permute(0, 3, 1, 2))


def squash(picture: Image.Image, size: int, share: float = 1.0) -> NDArray[np.uint8]:
    """`[size, size, 3]` of an RGB picture, or of a share of both of its sides about the middle; bicubic."""
    box = _middle(picture.size, share) if share < 1 else None
    return np.asarray(picture.resize((size, size), Image.Resampling.BICUBIC, box))


def _middle(sides: tuple[int, int], share: float) -> tuple[float, float, float, float]:
    """The box with a share of both sides about the middle, as Pillow takes it."""
    (left, right), (top, bottom) = (((1 - share) / 2 * side, (1 + share) / 2 * side) for side in sides)
    return left, top, right, bottom


def normalise(images: Tensor) -> Tensor:
    """`uint8 [B, 3, S, S]` to float32 with CLIP's mean and deviation, on the tensor's device."""
    mean = send(torch.tensor(MEAN).mul_(255), images.device).view(1, 3, 1, 1)
    scale = send(torch.tensor(STD).mul_(255).reciprocal_(), images.device).view(1, 3, 1, 1)
    return images.to(torch.float32).sub(mean).mul_(scale).contiguous()


def arrive(images: Tensor, device: torch.device | str) -> Tensor:
    """Images as the network takes them, on its device: bytes travel as bytes and are normalised there."""
    moved = send(images, device)
    return normalise(moved) if moved.dtype == torch.uint8 else moved.float()


def send(tensor: Tensor, device: torch.device | str) -> Tensor:
    """To a device. A GPU fetches it from pinned memory while the host goes on: from other memory the host waits."""
    if tensor.device.type == "cpu" and torch.device(device).type == "cuda":
        # Of an expanded one, whose elements share memory, pinning raises
        tensor = tensor.contiguous().pin_memory()
    return tensor.to(device, non_blocking=True)


def to_pil(image: ImageInput) -> Image.Image:
    """A picture in any of the accepted forms as RGB; arrays are uint8, `[H, W]` or `[H, W, 1, 3 or 4]`."""
    if isinstance(image, Image.Image):
        return to_rgb(image)
    if isinstance(image, np.ndarray):
        if image.ndim == 3 and image.shape[2] == 1:
            image = image[:, :, 0]
        if image.dtype != np.uint8 or not (image.ndim == 2 or (image.ndim == 3 and image.shape[2] in (3, 4))):
            raise BadImage(
                "not_an_image", f"an array of {image.dtype} {list(image.shape)}, not uint8 [H, W, 3]"
            )
        return to_rgb(Image.fromarray(image))
    return Image.fromarray(decode(image if isinstance(image, bytes) else _read(Path(image))))


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise BlipError(f"picture {path} cannot be read: {error.strerror}") from None
