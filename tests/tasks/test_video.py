"""Text-video retrieval over real clips of plain colours."""

import io
from dataclasses import replace

import av
import numpy as np
import pytest
import torch

from blip.data.sample import Caption, Sample
from blip.tasks.video import encode_clips, evaluate


def clip(colours: list[tuple[int, int, int]]) -> bytes:
    """An MP4 with four frames of each colour."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("mpeg4", rate=8)
        stream.width = stream.height = 32
        stream.pix_fmt = "yuv420p"
        for colour in colours:
            frame = av.VideoFrame.from_ndarray(np.full((32, 32, 3), colour, np.uint8), format="rgb24")
            for _ in range(4):
                frame.pts = None
                container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return file.getvalue()


@pytest.fixture(scope="module")
def clips():
    names = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255), "yellow": (255, 255, 0)}
    return [Sample(f"c-{n}", clip([c] * 2), "mp4", (Caption(f"all {n}", "human"),)) for n, c in names.items()]


def test_every_clip_is_found_by_its_text_and_every_text_by_its_clip(colour_model, clips):
    outcome = evaluate(colour_model, clips, frame_count=4, batch_size=8, rerank_size=2, seed=1)
    recalls = [f"{way}_r{k}" for way in ("v2t", "t2v") for k in (1, 5, 10)]
    assert {outcome.metrics[f"video.{name}"] for name in recalls} == {1.0}
    at_random = [f"video.chance.{name}" for name in recalls]
    assert list(outcome.metrics) == [
        *(f"video.{name}" for name in recalls),
        *at_random,
        "video.clips",
        "video.texts",
    ]
    assert outcome.metrics["video.chance.t2v_r1"] == 1 / outcome.metrics["video.clips"] == 1 / 4


def test_chance_of_a_text_goes_by_the_clips_and_not_by_the_texts(colour_model, clips):
    twice = [
        replace(clip, captions=(*clip.captions, Caption(f"only {clip.key[2:]}", "human"))) for clip in clips
    ]
    found = evaluate(colour_model, twice, frame_count=2, batch_size=8, rerank_size=8, seed=1).metrics
    assert (found["video.clips"], found["video.texts"]) == (4.0, 8.0)
    assert found["video.chance.t2v_r1"] == 1 / 4


def test_an_example_names_the_frames_of_its_clips(colour_model, clips):
    outcome = evaluate(colour_model, clips, frame_count=4, batch_size=8, rerank_size=9, seed=1)
    example = next(e for e in outcome.examples["examples"] if e["query"] == "all blue")
    best = example["clips"][0]
    assert best["frames"] == [f"images/c-blue-{number}.webp" for number in range(4)]
    assert best["correct"] and best["label"] == "all blue"
    assert outcome.pictures == {sample.key for sample in clips}


def test_the_tokens_of_the_frames_follow_one_another_and_their_projections_are_averaged(tiny_blip):
    sample = Sample("c", clip([(255, 0, 0), (0, 0, 255)]), "mp4")
    tokens, embeddings = encode_clips(tiny_blip, [sample, sample], 2)
    frames = tiny_blip.network.config.vision.tokens
    assert tokens.shape == (2, 2 * frames, 32)
    halves = tokens[0].unflatten(0, (2, frames))
    with torch.inference_mode():
        mean = tiny_blip.network.vision_projection(halves[:, 0]).mean(0)
    torch.testing.assert_close(embeddings[0], mean / mean.norm(), atol=1e-5, rtol=1e-5)
    assert not torch.equal(halves[0], halves[1])
    units = tiny_blip.project_images(halves).mean(0)
    assert (embeddings[0] - units / units.norm()).abs().max() > 1e-3  # the longer projection weighs more


def test_a_real_network_runs_through(tiny_blip, clips):
    outcome = evaluate(tiny_blip, clips, frame_count=3, batch_size=4, rerank_size=8, seed=1)
    assert outcome.metrics["video.t2v_r5"] == 1.0  # four clips
