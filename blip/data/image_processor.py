"""How a model of `transformers` wants its pictures: what its preprocessor_config.json says, and doing it.

processor = ImageProcessor.read(Path("models/clip"))
tensor = processor(["cat.jpg"])   # float32 [1, 3, 224, 224]
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from blip.data.images import MEAN, STD, ImageInput, to_pil
from blip.errors import BlipError

CONFIG, PROCESSOR = "preprocessor_config.json", "processor_config.json"
Values = dict[str, Any]


@dataclass(frozen=True)
class ImageProcessor:
    """Resize, crop the centre, scale, normalise.

    Attributes:
        resize: the shortest edge in pixels, or (height, width) to squash to, or None to leave the size.
        crop: (height, width) of the centre to keep; what a smaller picture lacks is black. None keeps all.
        resample: Pillow's number of the filter.
        scale: factor that pixels are multiplied by before the mean is subtracted.
    """

    resize: int | tuple[int, int] | None
    crop: tuple[int, int] | None
    resample: int
    scale: float
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def read(cls, directory: Path) -> "ImageProcessor":
        """The image processor of a model directory.

        Raises:
            BlipError: there is none, or it has a size that is not understood.
        """
        values = _read(directory)
        normalise, rescale = values.get("do_normalize", True), values.get("do_rescale", True)
        blip = values.get("image_processor_type", "").startswith("Blip")  # squashes and does not crop
        return cls(
            resize=_resize(values, blip, directory) if values.get("do_resize", True) else None,
            crop=_crop(values, directory) if values.get("do_center_crop", not blip) else None,
            resample=values.get("resample", Image.Resampling.BICUBIC),
            scale=values.get("rescale_factor", 1 / 255) if rescale else 1.0,
            mean=tuple(values.get("image_mean", MEAN)) if normalise else (0.0, 0.0, 0.0),
            std=tuple(values.get("image_std", STD)) if normalise else (1.0, 1.0, 1.0),
        )

    def __call__(self, images: Sequence[ImageInput]) -> Tensor:
        """Pictures, all of one size afterwards, to float32 ``[B, 3, H, W]``.

        Raises:
            BadImage: a picture cannot be decoded. BlipError: a path does not exist.
        """
        pixels = np.stack([np.asarray(self._fit(to_pil(image))) for image in images])
        tensor = torch.from_numpy(pixels).permute(0, 3, 1, 2).float().mul(self.scale)
        mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (self.mean, self.std))
        return tensor.sub(mean).div(std).contiguous()

    def _fit(self, picture: Image.Image) -> Image.Image:
        filter_ = Image.Resampling(self.resample)
        if isinstance(self.resize, int):
            picture = picture.resize(_shortest_to(self.resize, *picture.size), filter_)
        elif self.resize:
            height, width = self.resize
            picture = picture.resize((width, height), filter_)
        if self.crop:
            height, width = self.crop
            left, top = (picture.width - width) // 2, (picture.height - height) // 2
            picture = picture.crop((left, top, left + width, top + height))
        return picture


def check_blip_processor(directory: Path) -> None:
    """Refuse a BLIP directory whose pictures are prepared otherwise than `blip.data.images.preprocess` does.

    The size is not compared: pictures are squashed to the size of the network.

    Raises:
        BlipError: they are cropped, resized by another filter or normalised by other numbers.
    """
    if not any((directory / name).is_file() for name in (CONFIG, PROCESSOR)):
        return
    processor = ImageProcessor.read(directory)
    expected = {
        "do_resize": (isinstance(processor.resize, tuple), True),
        "do_center_crop": (processor.crop is not None, False),
        "resample": (processor.resample, int(Image.Resampling.BICUBIC)),
        "rescale_factor": (round(processor.scale, 7), round(1 / 255, 7)),
        "image_mean": (processor.mean, MEAN),
        "image_std": (processor.std, STD),
    }
    for name, (found, ours) in expected.items():
        if found != ours:
            raise BlipError(
                f"{directory}: the image processor has {name} {found}; BLIP's pictures are prepared with {ours}"
            )


def _read(directory: Path) -> Values:
    for name in (CONFIG, PROCESSOR):
        path = directory / name
        if path.is_file():
            try:
                values = json.loads(path.read_text(encoding="utf-8"))
            except ValueError as error:
                raise BlipError(f"{path} is no JSON: {error}") from None
            if name == CONFIG or "image_processor" in values:
                return values if name == CONFIG else values["image_processor"]
    raise BlipError(
        f"{directory} does not say how pictures are prepared: it has no {CONFIG}; save the processor beside the "
        "model (processor.save_pretrained)"
    )


def _resize(values: Values, squash: bool, directory: Path) -> int | tuple[int, int]:
    size = values.get("size", 384 if squash else 224)
    if isinstance(size, int):
        return (size, size) if squash else size
    if set(size) == {"shortest_edge"}:
        return size["shortest_edge"]
    return _height_width(size, "size", directory)


def _crop(values: Values, directory: Path) -> tuple[int, int]:
    size = values.get("crop_size", 224)
    return (size, size) if isinstance(size, int) else _height_width(size, "crop_size", directory)


def _height_width(size: Values, name: str, directory: Path) -> tuple[int, int]:
    if not {"height", "width"} <= set(size):
        raise BlipError(
            f"{directory}: {name} of the image processor is {size}; a number, shortest_edge or height and width are "
            "understood"
        )
    return size["height"], size["width"]


def _shortest_to(edge: int, width: int, height: int) -> tuple[int, int]:
    """Width and height with the shorter one at `edge` and the longer one in proportion, rounded down."""
    longest = int(edge * max(width, height) / min(width, height))
    return (edge, longest) if width <= height else (longest, edge)
