"""Clips: frames spread evenly over the length, turned as a player shows them.

eight = frames(Path("clip.mp4").read_bytes(), 8)      # list of uint8 [H, W, 3]
"""

import io
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from av.error import FFmpegError
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from blip.data.decode import MAX_PIXELS, BadMedia

# No playlists, which lead to other files, and no descriptions of streams, whose packets would be waited for.
FORMATS = "mov,mp4,matroska,webm,avi"


class BadVideo(BadMedia):
    """A clip that cannot be used."""


def frames(data: bytes | Path, count: int, max_pixels: int = MAX_PIXELS) -> list[NDArray[np.uint8]]:
    """`count` RGB frames, the middles of `count` equal parts of the clip; short clips repeat frames.

    Decodes forward from the start: a seek would land on key frames only.

    Raises:
        BadVideo: empty, of no known format or codec, larger than `max_pixels` a frame, or damaged.
    """
    data = data.read_bytes() if isinstance(data, Path) else data
    if not data:
        raise BadVideo("empty", "0 bytes")
    total = _count_frames(data, max_pixels)
    wanted = [min(total - 1, int((part + 0.5) * total / count)) for part in range(count)]
    decoded: dict[int, NDArray[np.uint8]] = {}
    for index, frame in enumerate(_decode(data)):
        if index in wanted:
            decoded[index] = _upright(frame)
        if index >= wanted[-1]:
            break
    if wanted[-1] not in decoded:
        raise BadVideo("truncated", f"{len(data)} bytes: fewer frames than the {total} announced")
    return [decoded[index] for index in wanted]


def middle_frame(data: bytes | Path, max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
    """The frame in the middle of a clip, `uint8 [H, W, 3]`."""
    return frames(data, 1, max_pixels)[0]


def _upright(frame: VideoFrame) -> NDArray[np.uint8]:
    """The picture, turned as the clip says: phones write portraits lying on their side."""
    picture = np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)
    return np.ascontiguousarray(np.rot90(picture, round(frame.rotation / 90)))


def _count_frames(data: bytes, max_pixels: int) -> int:
    """Packets of the first video stream, read without decoding them."""
    try:
        with _open(data) as container:
            if not container.streams.video:
                raise BadVideo("not_a_video", f"{len(data)} bytes without a video stream")
            stream = container.streams.video[0]
            if stream.codec_context is None:
                raise BadVideo("not_a_video", f"{len(data)} bytes whose video stream is of no known codec")
            if stream.width * stream.height > max_pixels:
                raise BadVideo("too_large", f"frames of {stream.width} x {stream.height} pixels")
            total = sum(1 for packet in container.demux(stream) if packet.size)
    except FFmpegError as error:
        raise BadVideo("not_a_video", f"{len(data)} bytes that begin with {data[:8]!r}: {error}") from None
    if not total:
        raise BadVideo("empty", f"{len(data)} bytes without a frame")
    return total


def _open(data: bytes) -> InputContainer:
    return av.open(io.BytesIO(data), "r", metadata_errors="replace", options={"format_whitelist": FORMATS})


def _decode(data: bytes) -> Iterator[VideoFrame]:
    try:
        with _open(data) as container:
            yield from container.decode(video=0)
    except FFmpegError as error:
        raise BadVideo("corrupt", f"{len(data)} bytes: {error}") from None
