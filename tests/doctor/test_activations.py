"""What the formulas say that a forward keeps is what autograd saves here, within 2%."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Literal

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as processes

from blip.data.text import SpecialTokens
from blip.doctor.activations import (
    Machine,
    Texts,
    activation_bytes,
    answer_bytes,
    dialog_bytes,
    statement_bytes,
    vision_bytes,
)
from blip.model.batch import PairBatch
from blip.model.blip import BlipConfig, BlipNetwork
from blip.model.dialogs import CAPTION_TOKENS, DialogBatch, DialogObjective
from blip.model.nlvr import pre_trained
from blip.model.objectives import ObjectiveConfig, PairObjective
from blip.model.precision import autocast
from blip.model.statements import StatementBatch, StatementObjective
from blip.model.text import TextConfig
from blip.model.vision import VisionConfig

TOKENS = SpecialTokens(pad=0, sep=2, decode=3, encode=4)
LENGTH, QUEUE, RANKS = 14, 500, 2
Losses = tuple[bool, bool, bool]
ALL = (True, True, True)


def config(width: int, pixels: int) -> BlipConfig:
    text = TextConfig(vocabulary=2000, width=width, layers=2, heads=4, context_width=width)
    return BlipConfig(VisionConfig(pixels, 16, width, 2, 4), text)


def saved_bytes(
    config: BlipConfig,
    batch: int,
    dtype: torch.dtype,
    losses: Losses = ALL,
    locked: bool = False,
    negatives: Literal["local", "global"] = "local",
    distractors: bool = False,
) -> int:
    """Bytes that a forward pass over pairs keeps."""
    itc, itm, lm = map(float, losses)
    network = BlipNetwork(config)
    network.vision.requires_grad_(not locked)
    settings = ObjectiveConfig(itc, itm, lm, queue=QUEUE, itm_negatives=negatives)
    objective = PairObjective(network, settings, TOKENS).train()
    ids = torch.randint(10, 2000, (batch, LENGTH))
    group = torch.arange(batch)[:, None].expand(-1, 2)
    side = config.vision.image_size
    pairs = PairBatch(torch.randn(batch, 3, side, side), ids, torch.ones_like(ids), group)
    if distractors:
        pairs = replace(pairs, distractor_ids=ids.flip(0), distractor_mask=pairs.mask)
    return kept_bytes(objective, pairs, dtype)


def kept_bytes(objective: torch.nn.Module, batch: object, dtype: torch.dtype) -> int:
    """Bytes of the distinct storages that autograd saves, parameters and buffers apart."""
    own = {t.untyped_storage().data_ptr() for t in (*objective.parameters(), *objective.buffers())}
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(saved: torch.Tensor) -> torch.Tensor:
        storage = saved.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage
        return saved

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x), autocast("cpu", dtype):
        objective(batch)
    return sum(storage.nbytes() for storage in kept.values())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ("width", "pixels", "losses"),
    [
        (128, 96, ALL),
        (128, 96, (True, False, False)),
        (128, 96, (False, True, False)),
        (128, 96, (False, False, True)),
        (128, 272, ALL),  # more keys than plain attention is for
        (512, 64, ALL),  # texts without padding in bfloat16 too
    ],
)
def test_a_pair_keeps_what_the_formulas_say(dtype: torch.dtype, width: int, pixels: int, losses: Losses):
    made = config(width, pixels)
    a_pair = (saved_bytes(made, 4, dtype, losses) - saved_bytes(made, 2, dtype, losses)) / 2
    reckoned = activation_bytes(
        made, Texts(LENGTH, LENGTH), "cpu", dtype, pairs=3, queue=QUEUE, losses=losses
    )
    assert reckoned.total == pytest.approx(a_pair, rel=0.02)


def saved_by_a_rank(rank: int, folder: str) -> None:
    """Entry of a process: what a pair keeps whose negatives are of both ranks, by the numbers of pixels and bytes."""
    dist.init_process_group(
        "gloo", f"file://{folder}/meet", timedelta(seconds=60), world_size=RANKS, rank=rank
    )
    found = {
        (pixels, dtype): (
            saved_bytes(config(128, pixels), 4, dtype, negatives="global")
            - saved_bytes(config(128, pixels), 2, dtype, negatives="global")
        )
        / 2
        for pixels in (96, 272)
        for dtype in (torch.float32, torch.bfloat16)
    }
    if rank == 0:
        torch.save(found, Path(folder) / "kept.pt")
    dist.barrier()
    dist.destroy_process_group()


def test_negatives_of_all_ranks_keep_their_own_keys_and_values(tmp_path: Path):
    processes.start_processes(saved_by_a_rank, (str(tmp_path),), nprocs=RANKS, start_method="spawn")
    for (pixels, dtype), a_pair in torch.load(tmp_path / "kept.pt").items():
        made = config(128, pixels)
        texts, gathered = Texts(LENGTH, LENGTH), RANKS * made.vision.tokens * 128 * 4
        reckoned = activation_bytes(made, texts, "cpu", dtype, pairs=3, queue=QUEUE, sharing=RANKS)
        assert reckoned.total - gathered == pytest.approx(a_pair, rel=0.02), (
            "the gathered go with the forward"
        )


def test_a_gpu_pads_texts_that_look_at_images_of_other_ranks():
    made, texts = config(512, 96), Texts(LENGTH, LENGTH)
    alone, two = (
        activation_bytes(made, texts, "cuda", torch.bfloat16, pairs=3, sharing=ranks) for ranks in (1, RANKS)
    )
    seen, layers = made.vision.tokens, made.text.layers
    again = seen * 512 * 2 + layers * 2 * seen * 512 * 2 + RANKS * seen * 512 * 4
    queries = 3 * ((layers - 1) * LENGTH + 1)
    assert two.cross - alone.cross == again + queries * (512 * 2 + 4 * 4)  # copies of queries, and log-sums
    assert two.text > alone.text
    assert activation_bytes(made, texts, "cuda", torch.float32, pairs=3).text == pytest.approx(
        activation_bytes(made, texts, "cuda", torch.float32, pairs=3, sharing=RANKS).text
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("locked", [False, True])
def test_text_layers_look_at_the_patches_that_dropout_leaves(dtype: torch.dtype, locked: bool):
    made = config(128, 272)
    made = replace(made, vision=replace(made.vision, patch_dropout=0.5))
    four, two = (saved_bytes(made, batch, dtype, locked=locked) for batch in (4, 2))
    texts = Texts(LENGTH, LENGTH)
    reckoned = activation_bytes(made, texts, "cpu", dtype, pairs=3, queue=QUEUE, locked_vision=locked)
    assert reckoned.total == pytest.approx((four - two) / 2, rel=0.02)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("losses", [ALL, (True, False, False)])
def test_a_distractor_is_one_more_text_that_is_embedded(dtype: torch.dtype, losses: Losses):
    made, texts = config(128, 96), Texts(LENGTH, LENGTH)
    four, two = (saved_bytes(made, batch, dtype, losses, distractors=True) for batch in (4, 2))
    reckoned = activation_bytes(
        made, texts, "cpu", dtype, pairs=3, queue=QUEUE, losses=losses, distractors=True
    )
    assert reckoned.total == pytest.approx((four - two) / 2, rel=0.02)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_locked_image_encoder_keeps_what_it_has_made_alone(dtype: torch.dtype):
    made = config(128, 96)
    a_pair = (saved_bytes(made, 4, dtype, locked=True) - saved_bytes(made, 2, dtype, locked=True)) / 2
    texts = Texts(LENGTH, LENGTH)
    reckoned = activation_bytes(made, texts, "cpu", dtype, pairs=3, queue=QUEUE, locked_vision=True)
    assert reckoned.total == pytest.approx(a_pair, rel=0.02)
    whole = answer_bytes(made, texts, "cpu", dtype, 1, False)
    assert whole - answer_bytes(made, texts, "cpu", dtype, 1, False, True) > 0.3 * whole


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("statements", "locked"), [(1, False), (3, False), (3, True)])
def test_two_images_and_their_statements_keep_what_the_formulas_say(
    dtype: torch.dtype, statements: int, locked: bool
):
    made = config(128, 96)

    def saved(images: int) -> int:
        objective = StatementObjective(pre_trained(BlipNetwork(made))).train()
        objective.network.vision.requires_grad_(not locked)
        pair = torch.arange(images).repeat_interleave(statements)
        ids = torch.randint(10, 2000, (len(pair), LENGTH))
        batch = StatementBatch(
            torch.randn(2 * images, 3, 96, 96), pair, ids, torch.ones_like(ids), pair.fmod(2)
        )
        return kept_bytes(objective, batch, dtype)

    reckoned = statement_bytes(made, Texts(LENGTH, LENGTH), "cpu", dtype, statements, False, locked)
    assert reckoned == pytest.approx((saved(8) - saved(4)) / 4, rel=0.025 if locked else 0.02)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ("questions", "length", "locked"), [(1, LENGTH, False), (2, 50, False), (1, LENGTH, True)]
)
def test_an_image_and_its_dialogs_keep_what_the_formulas_say(
    dtype: torch.dtype, questions: int, length: int, locked: bool
):
    made = config(128, 96)

    def saved(images: int) -> int:
        image = torch.arange(images).repeat_interleave(2 * questions)
        captions = torch.randint(10, 2000, (images, min(length, CAPTION_TOKENS)))
        dialogs = torch.randint(10, 2000, (len(image), length))
        masks = torch.ones_like(captions), torch.ones_like(dialogs)
        batch = DialogBatch(
            torch.randn(images, 3, 96, 96), captions, masks[0], image, dialogs, masks[1], image.fmod(2)
        )
        objective = DialogObjective(BlipNetwork(made)).train()
        objective.network.vision.requires_grad_(not locked)
        return kept_bytes(objective, batch, dtype)

    reckoned = dialog_bytes(made, Texts(length, length), "cpu", dtype, questions, False, locked)
    assert reckoned == pytest.approx((saved(8) - saved(4)) / 4, rel=0.02)


def test_a_checkpointed_image_encoder_keeps_little_more_than_its_layers_inputs():
    vision = VisionConfig()
    whole, little = (vision_bytes(vision, Machine(True, 2), checkpointing) for checkpointing in (False, True))
    inputs = vision.layers * vision.tokens * vision.width * 2
    assert inputs < little < inputs + 0.15 * whole
    assert little < whole / 4


def test_a_gpu_keeps_no_attention_weights_and_norms_in_float32():
    vision = VisionConfig()
    n, d = vision.tokens, vision.width
    # Norms, q k v, result, MLP, log-sums
    a_layer = n * (2 * (4 + 2) + 3 * 2 + 2 + 4 * 2) * d + n * vision.heads * 4
    ends = n * (4 + 2) * d + (n - 1) * 768 * 2
    assert vision_bytes(vision, Machine(True, 2)) == vision.layers * a_layer + ends
