import io
import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from blip.data.video import BadVideo, _in_order, _middles, frames, middle_frame


def clip(count: int, side: int = 64, kind: str = "mp4") -> bytes:
    """A clip whose frame n is grey at 10 + 8 n, with one key frame only."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=kind) as container:
        stream = container.add_stream("libx264", rate=10, options={"g": "1000", "crf": "10"})
        stream.width = stream.height = side
        stream.pix_fmt = "yuv420p"
        for number in range(count):
            grey = np.full((side, side, 3), 10 + 8 * number, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(grey, format="rgb24")))
        container.mux(stream.encode())
    return buffer.getvalue()


def numbers(pictures: list[np.ndarray]) -> list[int]:
    return [round((float(picture.mean()) - 10) / 8) for picture in pictures]


def test_frames_are_spread_evenly() -> None:
    pictures = frames(clip(24), 8)
    assert numbers(pictures) == [1, 4, 7, 10, 13, 16, 19, 22]
    assert all(picture.shape == (64, 64, 3) and picture.dtype == np.uint8 for picture in pictures)


def test_short_clips_repeat_frames() -> None:
    assert numbers(frames(clip(2), 4)) == [0, 0, 1, 1]
    assert numbers(frames(clip(1), 3)) == [0, 0, 0]


def shown_for(lengths: list[int], kind: str = "mp4") -> bytes:
    """A clip whose frame n is grey at 10 + 8 n and seen for so many hundredths of a second."""
    buffer, begin = io.BytesIO(), 0
    with av.open(buffer, "w", format=kind) as container:
        stream = container.add_stream("mpeg4", rate=100)
        stream.width = stream.height = 64
        stream.pix_fmt, stream.time_base = "yuv420p", Fraction(1, 100)
        packets = []
        for number, length in enumerate(lengths):
            grey = av.VideoFrame.from_ndarray(np.full((64, 64, 3), 10 + 8 * number, np.uint8), format="rgb24")
            grey.pts, grey.time_base = begin, Fraction(1, 100)
            begin += length
            packets += stream.encode(grey)
        packets += stream.encode()
        for packet, length in zip(packets, lengths, strict=True):
            packet.duration = length
            container.mux(packet)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["mp4", "matroska"])
def test_frames_are_spread_over_the_time_and_not_over_the_frames(kind: str) -> None:
    assert numbers(frames(shown_for([4] * 10 + [980, 980], kind), 8)) == [10, 10, 10, 10, 11, 11, 11, 11]
    assert numbers(frames(shown_for([100, 10, 10, 10, 270], kind), 4)) == [0, 4, 4, 4]
    assert numbers(frames(shown_for([10] * 8, kind), 4)) == [1, 3, 5, 7]


@pytest.mark.parametrize("rate", [24, 30, 60, Fraction(30000, 1001)])
def test_times_that_a_format_rounds_are_of_an_even_rate(rate: int | Fraction) -> None:
    begins = [round(1000 * number / rate) for number in range(40)]
    shown = [(begin, round(1000 / rate)) for begin in begins]
    assert _middles(_in_order(shown, Fraction(1, 1000)), 20) == list(range(1, 40, 2))


def test_the_middle_frame_is_in_the_middle(tmp_path: Path) -> None:
    (tmp_path / "clip.mp4").write_bytes(clip(9))
    assert numbers([middle_frame(tmp_path / "clip.mp4")]) == [4]


@pytest.mark.parametrize(
    ("matrix", "shape", "corner"),
    [
        ((1, 0, 0, 0, 1, 0, 0, 0), (32, 64), (0, 0)),
        ((0, 1, 0, -1, 0, 0, 32, 0), (64, 32), (0, -1)),  # a phone's portrait: a quarter turn clockwise
        ((0, -1, 0, 1, 0, 0, 0, 64), (64, 32), (-1, 0)),
        ((-1, 0, 0, 0, -1, 0, 64, 32), (32, 64), (-1, -1)),
    ],
)
def test_a_clip_that_lies_on_its_side_is_turned(
    matrix: tuple[int, ...], shape: tuple[int, int], corner: tuple[int, int]
) -> None:
    picture = np.zeros((32, 64, 3), np.uint8)
    picture[:16, :16] = 255
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mov") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 32, "yuv420p"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    data = buffer.getvalue()
    place = data.index(b"tkhd") + 44
    turn = struct.pack(">9i", *(value << 16 for value in matrix), 1 << 30)
    found = middle_frame(data[:place] + turn + data[place + len(turn) :])
    assert found.shape == (*shape, 3) and found.flags.c_contiguous
    assert [tuple(at) for at in ((0, 0), (0, -1), (-1, 0), (-1, -1)) if found[at].mean() > 128] == [corner]


STREAM = b"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b"no clip at all", "not_a_video"),
        (STREAM + b"a=rtpmap:96 H264/90000\n", "not_a_video"),
    ],
)
def test_what_is_no_clip_has_a_reason(data: bytes, reason: str) -> None:
    with pytest.raises(BadVideo) as caught:
        frames(data, 2)
    assert caught.value.reason == reason


@pytest.mark.parametrize("kind", ["mp4", "mov", "matroska", "avi"])
def test_every_format_of_a_clip_is_read(kind: str) -> None:
    assert numbers(frames(clip(4, kind=kind), 4)) == [0, 1, 2, 3]


def test_a_playlist_leads_to_no_file_of_this_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "clip.mp4").write_bytes(clip(4))
    monkeypatch.chdir(tmp_path)
    for playlist in (
        b"ffconcat version 1.0\nfile clip.mp4\n",
        b"#EXTM3U\n#EXTINF:5,\nclip.mp4\n#EXT-X-ENDLIST\n",
    ):
        with pytest.raises(BadVideo, match="not_a_video"):
            frames(playlist, 2)


def test_a_truncated_clip_is_refused() -> None:
    with pytest.raises(BadVideo):
        frames(clip(24)[:-300], 8)


def test_a_clip_of_no_known_codec_is_refused() -> None:
    with pytest.raises(BadVideo, match="codec") as caught:
        frames(clip(4).replace(b"avc1", b"xvc9"), 2)
    assert caught.value.reason == "not_a_video"


def test_a_clip_of_huge_frames_is_refused_before_decoding() -> None:
    with pytest.raises(BadVideo, match="64 x 64"):
        frames(clip(2), 2, max_pixels=64 * 64 - 1)


def test_a_clip_whose_title_is_no_utf_8_is_read() -> None:
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="avi") as container:
        stream = container.add_stream("mpeg4", rate=5)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        container.metadata["title"] = "caf_ du nord"
        for number in range(4):
            grey = np.full((64, 64, 3), 10 + 8 * number, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(grey, format="rgb24")))
        container.mux(stream.encode())
    data = buffer.getvalue().replace(b"caf_ du nord", b"caf\xe9 du nord")
    assert data != buffer.getvalue()
    assert numbers(frames(data, 4)) == [0, 1, 2, 3]
