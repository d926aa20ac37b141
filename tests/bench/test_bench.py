"""Both sides of a measurement do the same work, and the figures are what they say."""

import json
import time
from collections.abc import Callable
from dataclasses import replace
from types import ModuleType

import pytest
import torch

from blip.bench import caption, judging, rerank, step
from blip.bench.inputs import CLS, TOKENS, random_texts
from blip.bench.measure import by_turns, counted_flops, median_ratio, peak_bytes
from blip.bench.run import Comparison, Side
from blip.bench.workload import Setup

TINY = Setup("tiny", batch=2, image_size=32, dropout=0.0, texts=5)
CPU = torch.device("cpu")


def test_the_step_has_the_losses_of_the_composed_step_before_and_after_its_update() -> None:
    ours, theirs = step.ours(TINY), step.theirs(TINY)  # of two pairs each has one negative: nothing to draw
    first, second = [(ours(), theirs()) for _ in range(2)]
    for name in ("itc", "itm", "lm", "loss"):
        assert first[0][name].item() == pytest.approx(first[1][name].item(), abs=1e-5), name
    for name in (
        "itm",
        "lm",
    ):  # not ITC: ours knows the batch's images in the queue again, the published step does not
        assert second[0][name].item() == pytest.approx(second[1][name].item(), abs=1e-5), name
        assert second[0][name] < first[0][name]


@pytest.mark.parametrize("beams", [1, 3])
def test_captions_are_token_for_token_those_of_generate(beams: int) -> None:
    setup = Setup("tiny", batch=3, image_size=32, beams=beams)
    found, expected = caption.ours(setup)(), caption.theirs(setup)()
    for ids, other in zip(found, expected.tolist(), strict=True):
        written = other[len(caption.PROMPT) :]
        assert ids == written[: len(ids)]
        assert set(written[len(ids) :]) <= {TOKENS.sep, TOKENS.pad}


def test_sampled_captions_of_both_sides_are_equally_many_and_equally_long() -> None:
    setup = Setup("tiny", batch=3, image_size=32, decoding="nucleus", captions=2)
    found, expected = caption.ours(setup)(), caption.theirs(setup)()
    assert len(found) == len(expected) == 6
    assert (
        caption.tokens_in(found) == caption.tokens_in(expected) == 6 * (caption.LONGEST - len(caption.PROMPT))
    )
    assert found[0] != found[1] and found[::2] != found[1::2]


@pytest.mark.slow
@pytest.mark.parametrize("side", [caption.ours, caption.theirs])
def test_sampled_captions_of_free_lengths_have_about_six_tokens(side: Callable[[Setup], Callable]) -> None:
    """Of 256 the mean has a standard deviation of a third of a token."""
    setup = Setup("tiny", batch=64, image_size=32, decoding="nucleus", captions=4, free_lengths=True)
    torch.manual_seed(0)
    assert caption.tokens_in(side(setup)()) / 256 == pytest.approx(6, rel=0.2)


def test_a_nucleus_to_sample_from_is_as_small_as_a_captioner_has_it() -> None:
    network = caption._network(Setup("tiny", image_size=32, decoding="nucleus"))
    states = torch.randn(50, 128, generator=torch.Generator().manual_seed(0))
    logits = network.lm_head(states, network.word_embedding)
    reached = logits.softmax(-1).sort(descending=True).values.cumsum(1) < caption.TOP_P
    assert 10 < reached.sum(1).double().mean() < 1000


@pytest.mark.parametrize("module", [rerank, judging])
def test_scores_are_those_of_pair_by_pair(module: ModuleType) -> None:
    assert torch.allclose(module.ours(TINY)(), module.theirs(TINY)(), atol=1e-4)


@pytest.mark.parametrize("module", [rerank, judging])
def test_scores_in_bfloat16_are_nearly_those_of_pair_by_pair(module: ModuleType) -> None:
    half = replace(TINY, dtype="bfloat16")
    found, expected, whole = module.ours(half)(), module.theirs(half)(), module.ours(TINY)()
    assert torch.allclose(found, whole, atol=0.05)
    assert torch.allclose(expected, whole, atol=0.05)


def test_captions_in_bfloat16_are_as_long_on_both_sides() -> None:
    setup = Setup("tiny", batch=3, image_size=32, decoding="nucleus", captions=2, dtype="bfloat16")
    assert caption.tokens_in(caption.ours(setup)()) == caption.tokens_in(caption.theirs(setup)())


def test_texts_are_as_long_as_captions_are() -> None:
    texts = random_texts(2000)
    lengths = texts.mask.sum(1)
    assert 11.5 < lengths.double().mean() < 12.5
    assert lengths.min() >= 7 and lengths.max() <= 30
    assert (texts.ids[:, 0] == CLS).all()
    assert (texts.ids[torch.arange(2000), lengths - 1] == TOKENS.sep).all()


def test_products_and_attention_are_counted() -> None:
    a, b = torch.randn(3, 5), torch.randn(5, 7)
    assert counted_flops(lambda: a @ b) == 2 * 3 * 5 * 7
    q, k = torch.randn(1, 2, 70, 8), torch.randn(1, 2, 90, 8)
    attend = torch.nn.functional.scaled_dot_product_attention
    assert counted_flops(lambda: attend(q, k, k)) == 2 * (2 * 2 * 70 * 90 * 8)
    q.requires_grad_()
    product = 2 * 2 * 70 * 90 * 8
    # One of them the scores again
    assert counted_flops(lambda: attend(q, k, k).sum().backward()) == 7 * product


def test_the_sides_take_turns_and_the_ratio_is_of_neighbours() -> None:
    calls: list[str] = []
    seconds = by_turns({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, 3, CPU)
    assert calls == ["a", "b", "b", "a", "a", "b"]
    assert [len(times) for times in seconds.values()] == [3, 3]
    assert median_ratio({"a": [1.0, 2.0, 5.0], "b": [2.0, 6.0, 5.0]}, "a", "b") == 2.0


def allocate(count: int) -> None:
    """Touch that many bytes, then let them go."""
    torch.ones(count, dtype=torch.uint8)


def test_peak_memory_is_that_of_a_process_of_its_own() -> None:
    nothing, much = peak_bytes(allocate, 1), peak_bytes(allocate, 300 << 20)
    assert 280 << 20 < much - nothing < 330 << 20


def fail() -> None:
    raise RuntimeError("no")


def test_a_process_that_ends_early_is_named() -> None:
    with pytest.raises(RuntimeError, match="ended with code 1"):
        peak_bytes(fail)


def test_the_memory_ratio_needs_both_sides() -> None:
    sides = {"ours": Side([1.0], 1, 30), "transformers": Side([2.0], 1, 40)}
    found = Comparison("step", TINY, 2, sides, 1.0, 2.0, "", "")  # type: ignore[arg-type]
    assert found.memory_ratio == 0.75
    alone = Comparison("step", TINY, 2, {"ours": sides["ours"]}, 1.0, None, "", "")  # type: ignore[arg-type]
    assert alone.memory_ratio is None


def test_the_command_measures_both_sides(blip) -> None:
    options = ("--size", "tiny", "--batch", "2", "--image-size", "32", "--texts", "4", "--repeats", "2")
    start = time.perf_counter()
    result = json.loads(blip("bench", "rerank", *options, "--device", "cpu", "--json").out)
    spent = time.perf_counter() - start
    assert result["items"] == 8
    for side in result["sides"].values():
        assert len(side["seconds"]) == 2 and 0 < side["median_seconds"] < spent
        assert side["peak_bytes"] > 50 << 20
    ours, theirs = result["sides"]["ours"], result["sides"]["transformers"]
    assert ours["flops"] < theirs["flops"]
    assert result["ratio"] > 0


def test_the_table_has_both_sides_and_the_ratio(blip) -> None:
    options = ("--size", "tiny", "--batch", "2", "--image-size", "32", "--repeats", "1", "--no-memory")
    shown = blip("bench", "step", *options, "--device", "cpu").out.splitlines()
    assert shown[0].startswith("step, tiny, batch 2, 32 px, float32")
    assert any(line.startswith("ours ") for line in shown) and any(
        line.startswith("transformers ") for line in shown
    )
    assert "as fast as transformers" in shown[-1]


def test_the_command_counts_tokens_of_sampled_captions(blip) -> None:
    options = (
        "--size",
        "tiny",
        "--batch",
        "2",
        "--image-size",
        "32",
        "--repeats",
        "2",
        "--no-memory",
        "--cpu-time",
    )
    sampled = ("--decoding", "nucleus", "--captions", "3")
    result = json.loads(blip("bench", "caption", *options, *sampled, "--device", "cpu", "--json").out)
    assert result["items"] == 6
    for side in result["sides"].values():
        assert side["tokens"] == 2 * 6 * 16
        assert side["tokens_per_second"] == pytest.approx(side["tokens"] / sum(side["seconds"]))


@pytest.mark.parametrize("options", [("--captions", "2"), ("--decoding", "nucleus", "--beams", "3")])
def test_options_that_do_not_go_together_are_refused(blip, options: tuple[str, ...]) -> None:
    refused = blip("bench", "caption", *options)
    assert refused.code == 2 and options[-2] in refused.err
