"""Clips: frames spread evenly over the length, turned as a player shows them.

eight = frames(Path("clip.mp4").read_bytes(), 8)      # list of uint8 [H, W, 3]
"""

import io
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import pairwise
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
ROUNDING = Fraction(2, 1000)  # seconds by which frames of an even rate differ, as formats round them


class BadVideo(BadMedia):
    """A clip that cannot be used."""


def frames(data: bytes | Path, count: int, max_pixels: int = MAX_PIXELS) -> list[NDArray[np.uint8]]:
    """`count` RGB frames, those seen in the middles of `count` equal parts of the clip's time; short clips repeat some.

    Decodes forward from the start: a seek would land on key frames only.

    Raises:
        BadVideo: empty, of no known format or codec, larger than `max_pixels` a frame, or damaged.
    """
    data = data.read_bytes() if isinstance(data, Path) else data
    if not data:
        raise BadVideo("empty", "0 bytes")
    times = _times(data, max_pixels)
    wanted = _middles(times, count)
    decoded: dict[int, NDArray[np.uint8]] = {}
    for index, frame in enumerate(_decode(data)):
        if index in wanted:
            decoded[index] = _upright(frame)
        if index >= wanted[-1]:
            break
    if wanted[-1] not in decoded:
        raise BadVideo("truncated", f"{len(data)} bytes: fewer frames than the {len(times) - 1} announced")
    return [decoded[index] for index in wanted]


def middle_frame(data: bytes | Path, max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
    """The frame in the middle of a clip, `uint8 [H, W, 3]`."""
    return frames(data, 1, max_pixels)[0]


def _upright(frame: VideoFrame) -> NDArray[np.uint8]:
    """The picture, turned as the clip says: phones write portraits lying on their side."""
    picture = np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)
    return np.ascontiguousarray(np.rot90(picture, round(frame.rotation / 90)))


def _middles(times: Sequence[int], count: int) -> list[int]:
    """The frames that are seen in the middles of `count` equal parts of the time."""
    first, length = times[0], times[-1] - times[0]
    return [bisect_right(times, first + (2 * part + 1) * length // (2 * count)) - 1 for part in range(count)]


def _times(data: bytes, max_pixels: int) -> Sequence[int]:
    """When each frame of the first video stream begins and the last one ends, read without decoding them.

    In the stream's units, or in frames where all are seen equally long.
    """
    try:
        with _open(data) as container:
            if not container.streams.video:
                raise BadVideo("not_a_video", f"{len(data)} bytes without a video stream")
            stream = container.streams.video[0]
            if stream.codec_context is None:
                raise BadVideo("not_a_video", f"{len(data)} bytes whose video stream is of no known codec")
            if stream.width * stream.height > max_pixels:
                raise BadVideo("too_large", f"frames of {stream.width} x {stream.height} pixels")
            shown = [(packet.pts, packet.duration or 0) for packet in container.demux(stream) if packet.size]
            tick = stream.time_base or Fraction(1)
    except FFmpegError as error:
        raise BadVideo("not_a_video", f"{len(data)} bytes that begin with {data[:8]!r}: {error}") from None
    if not shown:
        raise BadVideo("empty", f"{len(data)} bytes without a frame")
    return _in_order(shown, tick)


def _in_order(shown: list[tuple[int | None, int]], tick: Fraction) -> Sequence[int]:
    """The times of frames that are told as (beginning, duration), in units of `tick` seconds."""
    even = range(len(shown) + 1)
    told = sorted((begin, duration) for begin, duration in shown if begin is not None)
    if len(told) < len(shown):
        return even
    begins = [begin for begin, _ in told]
    step = begins[-1] - begins[-2] if len(begins) > 1 else 1
    times = [*begins, begins[-1] + (told[-1][1] or step)]
    steps = [after - before for before, after in pairwise(times)]
    return even if (max(steps) - min(steps)) * tick <= ROUNDING else times


def _open(data: bytes) -> InputContainer:
    return av.open(io.BytesIO(data), "r", metadata_errors="replace", options={"format_whitelist": FORMATS})


def _decode(data: bytes) -> Iterator[VideoFrame]:
    try:
        with _open(data) as container:
            yield from container.decode(video=0)
    except FFmpegError as error:
        raise BadVideo("corrupt", f"{len(data)} bytes: {error}") from None
