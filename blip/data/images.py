"""Pictures: strict decoding to RGB, and the preprocessing of every evaluation and every exported model.

image = decode(data, max_pixels=100_000_000)      # uint8 [H, W, 3]
tensor = preprocess([image, "cat.jpg"], size=384)  # float32 [2, 3, 384, 384]
"""

import io
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError
from torch import Tensor

from blip.errors import BlipError

MAX_PIXELS = 178_956_970  # what Pillow refuses whatever it is told
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")  # not EPS, for which Pillow would run Ghostscript
MEAN = (0.48145466, 0.4578275, 0.40821073)  # CLIP's, as BLIP uses them
STD = (0.26862954, 0.26130258, 0.27577711)

warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # `decode` checks the size itself

ImageInput = Image.Image | NDArray[np.uint8] | Path | str | bytes


class BadMedia(BlipError):
    """A picture or clip that cannot be used.

    Attributes:
        reason: a code: `empty`, `not_an_image`, `too_large`, `truncated`, `corrupt`, `not_a_video`.
        detail: what was found, for a person.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class BadImage(BadMedia):
    """A picture that cannot be used."""


def decode(data: bytes, max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
    """Decode a picture to RGB, `uint8 [H, W, 3]`: first frame, upright (EXIF), transparency on white.

    The size is read from the header and checked before any pixel is decoded.

    Raises:
        BadImage: empty, of no known format, larger than `max_pixels`, truncated or damaged.
    """
    if not data:
        raise BadImage("empty", "0 bytes")
    image = _open(data)
    width, height = image.size
    if width * height > max_pixels:
        raise BadImage("too_large", f"{width} x {height} pixels, more than the {max_pixels:,} allowed")
    try:
        image.load()
        return np.array(to_rgb(image))
    except Exception as error:  # each of Pillow's decoders raises errors of its own
        raise _broken(data, f"{image.format} of {width} x {height}", error) from None


def to_rgb(image: Image.Image) -> Image.Image:
    """Bring a picture of any mode to upright RGB; what is transparent becomes white."""
    image = ImageOps.exif_transpose(image)
    if image.mode == "RGB":
        return image
    if image.mode.startswith("I"):  # 16 bits a pixel, which convert() would clip
        grey = np.asarray(image).astype(np.int64)
        return Image.fromarray((grey >> 8).clip(0, 255).astype(np.uint8)).convert("RGB")
    if "A" in image.getbands() or "transparency" in image.info:
        layer = image.convert("RGBA")
        white = Image.new("RGBA", layer.size, "white")
        return Image.alpha_composite(white, layer).convert("RGB")
    return image.convert("RGB")


def preprocess(images: Sequence[ImageInput], size: int) -> Tensor:
    """Squash to `size` (bicubic, as Pillow does it) and normalise: float32 `[B, 3, size, size]`.

    Equal to the `BlipImageProcessorPil` of transformers.

    Raises:
        BadImage: a picture cannot be decoded. BlipError: a path does not exist.
    """
    pixels_BSSC = np.empty((len(images), size, size, 3), np.uint8)
    for index, image in enumerate(images):
        picture = to_pil(image)
        pixels_BSSC[index] = np.asarray(picture.resize((size, size), Image.Resampling.BICUBIC))
    return normalise(torch.from_numpy(pixels_BSSC).permute(0, 3, 1, 2))


def normalise(images: Tensor) -> Tensor:
    """`uint8 [B, 3, S, S]` to float32 with CLIP's mean and deviation, on the tensor's device."""
    mean = torch.tensor(MEAN, device=images.device).mul_(255).view(1, 3, 1, 1)
    scale = torch.tensor(STD, device=images.device).mul_(255).reciprocal_().view(1, 3, 1, 1)
    return images.to(torch.float32).sub(mean).mul_(scale).contiguous()


def arrive(images: Tensor, device: torch.device | str) -> Tensor:
    """Images as the network takes them, on its device: bytes travel as bytes and are normalised there."""
    moved = images.to(device, non_blocking=True)
    return normalise(moved) if moved.dtype == torch.uint8 else moved


def to_pil(image: ImageInput) -> Image.Image:
    """A picture in any of the accepted forms as RGB; arrays are uint8, `[H, W]` or `[H, W, 3 or 4]`."""
    if isinstance(image, Image.Image):
        return to_rgb(image)
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or image.ndim not in (2, 3):
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


def _open(data: bytes) -> ImageFile.ImageFile:
    try:
        return Image.open(io.BytesIO(data), formats=FORMATS)
    except UnidentifiedImageError:
        raise BadImage("not_an_image", f"{len(data)} bytes that begin with {data[:8]!r}") from None
    except Image.DecompressionBombError as error:
        raise BadImage("too_large", str(error)) from None
    except Exception as error:  # a damaged header, which some formats report in their own way
        raise _broken(data, "header", error) from None


def _broken(data: bytes, what: str, error: Exception) -> BadImage:
    """Truncated if the decoder says so, or if a WebP announces more bytes than there are."""
    announced = int.from_bytes(data[4:8], "little") + 8 if data[:4] == b"RIFF" else 0
    cut = "truncated" in str(error).lower() or isinstance(error, EOFError) or announced > len(data)
    return BadImage("truncated" if cut else "corrupt", f"{what} in {len(data)} bytes: {error}")
