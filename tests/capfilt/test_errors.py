"""What CapFilt is given and cannot use is said before a shard is worked on; models that differ work together."""

import os
import shutil
import string
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from transformers import BlipConfig, BlipForQuestionAnswering, CLIPConfig, CLIPModel

from blip.capfilt.bootstrap import AUDIT_FILE, bootstrap
from blip.capfilt.inputs import Models, Order, Pairs, open_model
from blip.config import CapFilt
from blip.data.jobs import HERE, Pool, open_pool
from blip.data.pairs import PairsDataset
from blip.data.text import SPECIALS, Tokenizer
from blip.errors import BlipError
from blip.model.blip import BlipNetwork
from blip.model.checkpoints import ModelCard, save_model
from tests import tiny

from .conftest import files_of, save, write

SETTINGS = CapFilt.model_validate({"min_tokens": 3, "max_tokens": 10, "batch_size": 3, "threshold": 0.0})


def run(web: Path, target: Path, models: Models, pool: Pool = HERE) -> None:
    bootstrap(Order(Pairs(web), None, models, SETTINGS, 5), target, pool)


def save_with(folder: Path, tokenizer: Tokenizer, network: BlipNetwork, card: ModelCard) -> Path:
    save_model(network, tokenizer, folder, card)
    return folder


def question_model(folder: Path) -> Path:
    """A small BlipForQuestionAnswering as transformers saves it."""
    side = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    tokenizer = tiny.tokenizer()
    text = side | {"vocab_size": len(tokenizer), "encoder_hidden_size": 32, "max_position_embeddings": 32}
    text |= {"bos_token_id": tokenizer.bos, "sep_token_id": tokenizer.sep, "pad_token_id": tokenizer.pad}
    vision = side | {"image_size": 32, "patch_size": 16, "hidden_act": "gelu"}
    BlipForQuestionAnswering(BlipConfig(text_config=text, vision_config=vision)).save_pretrained(folder)
    tokenizer.save(folder)
    return folder


def clip_model(folder: Path) -> Path:
    side = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    text, vision = side | {"vocab_size": 50}, side | {"image_size": 32, "patch_size": 16}
    CLIPModel(CLIPConfig(text_config=text, vision_config=vision)).save_pretrained(folder)
    return folder


def empty(folder: Path) -> Path:
    folder.mkdir()
    return folder


def without(*parts: str):
    return lambda folder: save_with(folder, tiny.tokenizer(), tiny.network(), ModelCard(missing=parts))


def answering(task: str):
    return lambda folder: save_with(folder, tiny.tokenizer(), tiny.network(), ModelCard(task=task))


@pytest.mark.parametrize(
    ("role", "made", "why"),
    [
        ("captioner", empty, "no config.json"),
        ("filter", empty, "no config.json"),
        ("captioner", clip_model, "model_type is 'clip'"),
        ("captioner", without("text_decoder", "lm_head"), "cannot caption: its weights have no text_decoder"),
        ("filter", without("text_encoder", "itm_head"), "cannot match: its weights have no text_encoder"),
        ("captioner", answering("vqa"), "answers questions"),
        ("captioner", answering("finetune@vqa"), "answers questions"),
        ("captioner", question_model, "answers questions"),
        ("filter", question_model, "cannot match: its weights have no itm_head"),
    ],
)
def test_a_model_that_has_no_such_part_is_named_before_a_shard_is_worked_on(
    models: Models, tmp_path: Path, role: str, made, why: str
) -> None:
    web = write(tmp_path / "web", "web", ["red apple"] * 8, "web")
    for shard in web.manifest.shards:  # with a damaged shard the model is still what is said
        (web.path / shard.url).write_bytes(b"")
    wrong = made(tmp_path / "wrong")
    chosen = replace(models, captioner=wrong) if role == "captioner" else replace(models, filters=(wrong,))
    with pytest.raises(BlipError, match=why) as raised:
        run(web.path, tmp_path / "out", chosen)
    assert str(raised.value).startswith(f"{role}: ") and str(wrong) in str(raised.value)
    assert not (tmp_path / ".out.partial").exists() and not (tmp_path / "out").exists()


def test_captioner_and_filter_may_have_other_vocabularies(web: PairsDataset, tmp_path: Path) -> None:
    words = ["green", "dog", *reversed(string.ascii_lowercase)]
    other = Tokenizer([*SPECIALS, *words, *(f"##{letter}" for letter in string.ascii_lowercase)])
    config = tiny.network().config
    torch.manual_seed(3)
    network = BlipNetwork(replace(config, text=replace(config.text, vocabulary=len(other))))
    captioner = save_with(tmp_path / "captioner", other, network, ModelCard())
    run(web.path, tmp_path / "out", Models(captioner, (save(tmp_path / "filter", 2),)))
    judged = {row["key"]: row for row in pq.read_table(tmp_path / "out" / AUDIT_FILE).to_pylist()}
    judge = tiny.blip(2)
    for sample in web.samples():
        row = judged[sample.key]
        expected = judge.match([sample.media], row["synthetic_texts"])[0].tolist()
        assert row["synthetic_itm"] == pytest.approx(expected, abs=1e-5)


def test_captioner_and_filter_may_see_images_in_other_sizes(
    web: PairsDataset, models: Models, tmp_path: Path
) -> None:
    config = tiny.network().config
    torch.manual_seed(4)
    network = BlipNetwork(replace(config, vision=replace(config.vision, image_size=48)))
    captioner = save_with(tmp_path / "captioner", tiny.tokenizer(), network, ModelCard())
    run(web.path, tmp_path / "alike", models)
    run(web.path, tmp_path / "out", replace(models, captioner=captioner))
    for row, alike in zip(
        *(pq.read_table(tmp_path / name / AUDIT_FILE).to_pylist() for name in ("out", "alike")), strict=True
    ):
        assert row["web_itm"] == pytest.approx(alike["web_itm"], abs=1e-6)
        assert row["synthetic_texts"] != alike["synthetic_texts"]


def test_images_without_any_text_are_captioned(models: Models, tmp_path: Path) -> None:
    web = write(tmp_path / "web", "web", [[], [], [], [], []], "web")
    run(web.path, tmp_path / "out", models)
    samples = list(PairsDataset.open(tmp_path / "out").samples())
    assert [sample.key for sample in samples] == [f"web-{n}" for n in range(5)]
    assert all(caption.origin == "synthetic" for sample in samples for caption in sample.captions)


def test_a_dataset_without_a_sample_is_refused(models: Models, tmp_path: Path) -> None:
    write(tmp_path / "web", "web", [], "web")
    with pytest.raises(BlipError, match="has no sample to caption"):
        run(tmp_path / "web", tmp_path / "out", models)
    assert not (tmp_path / ".out.partial").exists()


def test_keys_that_pool_and_human_pairs_share_are_said_before_a_shard_is_worked_on(
    web: PairsDataset, models: Models, tmp_path: Path
) -> None:
    human = write(tmp_path / "human", "web", ["red apple", "the dog"], "human")
    order = Order(Pairs(web.path), Pairs(human.path), models, SETTINGS, 5)
    with pytest.raises(BlipError, match=r"have 2 sample key\(s\) in common, .* another file name"):
        bootstrap(order, tmp_path / "out")
    assert not (tmp_path / ".out.partial").exists() and not (tmp_path / "out").exists()


def test_metadata_of_other_shards_are_refused(models: Models, tmp_path: Path) -> None:
    web = write(tmp_path / "web", "web", ["red apple"] * 12, "web")
    table = pq.read_table(web.path / "metadata.parquet")
    pq.write_table(table.slice(4), web.path / "metadata.parquet")
    with pytest.raises(BlipError, match=r"has shards/00001\.tar where manifest\.json has shards/00000\.tar"):
        run(web.path, tmp_path / "out", models)


def test_where_workers_do_the_shards_this_process_keeps_no_model(
    web: PairsDataset, models: Models, tmp_path: Path
) -> None:
    with open_pool(workers=2) as pool:
        run(web.path, tmp_path / "out", models, pool)
    assert open_model.cache_info().currsize == 0


FULL = """
cd "$0"; out="$1"; shift
mount -t tmpfs -o size=300k tmpfs small
"$@"; echo "code $? parts $(ls small/.out.partial/parts/*.json | wc -l) ready $(ls -d small/out 2>/dev/null)"
mount -o remount,size=10m small
"$@" && cp -r small/out "$out"
"""


@pytest.mark.skipif(
    not shutil.which("unshare") or subprocess.run(["unshare", "-rm", "true"], check=False).returncode != 0,
    reason="no mount namespaces here",
)
def test_a_full_disk_is_said_and_with_room_the_same_command_goes_on(models: Models, tmp_path: Path) -> None:
    texts = [("red apple", "the dog", "green table", "DSC_0001.JPG")[n % 4] for n in range(60)]
    web = write(tmp_path / "web", "web", texts, "web")
    (tmp_path / "small").mkdir()
    command = [
        sys.executable, "-m", "blip", "capfilt", web.path, "small/out", "--captioner", models.captioner,
        "--filter", models.filters[0], "--min-tokens", "3", "--max-tokens", "10", "--batch-size", "3",
        "--seed", "5", "--threshold", "0", "--device", "cpu", "--workers", "1",
    ]  # fmt: skip
    shell = ["unshare", "-rm", "bash", "-c", FULL, tmp_path, tmp_path / "out", *command]
    environment = os.environ | {"PYTHONPATH": str(Path.cwd())}
    ended = subprocess.run(
        list(map(str, shell)), capture_output=True, text=True, check=False, env=environment
    )
    said = next(line for line in ended.stdout.splitlines() if line.startswith("code "))
    code, parts, ready = said.split()[1], int(said.split()[3]), said.split()[5:]
    assert code == "1" and 0 < parts < 15 and not ready
    assert "no space left on the device" in ended.stderr and "Traceback" not in ended.stderr
    assert f"{parts} of 15 shards are finished already" in ended.stdout
    run(web.path, tmp_path / "undisturbed", models)
    assert files_of(tmp_path / "out") == files_of(tmp_path / "undisturbed")


def test_a_score_that_is_no_number_stops_it_and_is_named(
    web: PairsDataset, models: Models, tmp_path: Path
) -> None:
    network = tiny.network(2)
    with torch.no_grad():
        network.itm_head.bias.fill_(torch.nan)
    broken = save_with(tmp_path / "broken", tiny.tokenizer(), network, ModelCard())
    with pytest.raises(
        BlipError, match=r"sample web-0 of shards/00000\.tar, web text 'red apple': itm nan"
    ) as raised:
        run(web.path, tmp_path / "out", replace(models, filters=(broken,)))
    assert str(broken) in str(raised.value)
