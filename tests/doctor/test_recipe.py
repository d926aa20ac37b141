"""The doctor says what stands in the way of a training stage before it starts."""

import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from blip.config import Settings, load_settings
from blip.doctor.finding import Finding
from blip.doctor.plan import Devices, make_plan
from blip.doctor.recipe import examine_others, examine_recipe
from blip.errors import BadArguments
from blip.model.blip import BlipNetwork
from blip.model.checkpoints import save_model
from blip.model.config_json import ModelCard
from blip.training.precision import autocast_dtype
from tests import tiny
from tests.training.tiny_run import write_dataset

PARAMS = Path(__file__).parents[2] / "params.yaml"
FOUR_NODES = Devices("h100", per_node=8, nodes=4)


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    with _server(200) as address:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        yield tmp_path  # type: ignore[misc]


@contextmanager
def _server(code: int) -> Iterator[str]:
    """A server on loopback that answers everything with a code."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(code)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def settings(recipe: str | None = "base-14m", **changes: Any) -> Settings:
    overrides = {name.replace("__", "."): value for name, value in changes.items()}
    return load_settings(PARAMS, recipe or "none", overrides)


def examined(
    of: Settings, stage: str = "pretrain", devices: Devices = FOUR_NODES, **more: float
) -> dict[str, Finding]:
    return {finding.subject: finding for finding in examine_recipe(of, stage, devices, **more)}


def test_what_a_run_has_and_what_it_lacks(empty_folder: Path):
    found = examined(settings(), samples=15.3e6)
    assert {name for name, finding in found.items() if finding.state == "bad"} == {
        "sources", "data human", "data regions", "data web", "start", "vocabulary",
    }  # fmt: skip
    assert "deit_base" in found["start"].text
    (empty_folder / "vit.safetensors").touch()
    vision = settings(model__start="vit.safetensors")
    assert (
        "bert-base-uncased/model.safetensors is not there (model.text_start)"
        in examined(vision)["start"].text
    )
    assert found["devices"].text == "32 ranks on 32 x H100"
    assert found["batch"].figures == {"pairs_per_step": 2880}
    assert found["steps"].figures == {"steps": 106240, "pairs": 106240 * 2880}
    assert "data/full/coco/coco_karpathy_train.json" in found["data human"].text


def test_a_whole_blip_is_opened_and_held_against_the_sizes(empty_folder: Path) -> None:
    start = tiny.save(empty_folder / "mine", seed=0)
    whole = {"model__start": str(start), "model__text_start": None}
    found = examined(settings(**whole))
    assert (found["start"].state, found["vocabulary"].state) == ("bad", "good")
    assert "write there patch_size: 8, vision.width: 64" in found["start"].text
    like_it = whole | {
        "model__patch_size": 8,
        "model__vision": {"width": 64, "layers": 2, "heads": 4},
        "model__text": {"width": 64, "layers": 2, "heads": 4},
        "model__projection": 32,
    }
    found = examined(settings(**like_it))
    assert (found["start"].state, found["start"].text) == ("good", f"the whole of {start}")
    assert found["vocabulary"].text == f"that of {start}, {len(tiny.tokenizer()):,} entries"


@pytest.mark.parametrize("tied", [True, False])
def test_text_transformers_that_share_nothing_are_counted_each(empty_folder: Path, tied: bool) -> None:
    save_model(tiny.network(tied=tied), tiny.tokenizer(), empty_folder / "mine", ModelCard())
    sizes = {"width": 64, "layers": 2, "heads": 4}
    like_it = {"model__patch_size": 8, "model__projection": 32, "model__vision": sizes, "model__text": sizes}
    planned = settings(**like_it, model__start=str(empty_folder / "mine"), model__text_start=None)
    network = make_plan(planned, "pretrain", FOUR_NODES).objective.network
    assert isinstance(network, BlipNetwork) and network.config.tied is tied


def test_a_start_that_the_stage_refuses_is_bad(empty_folder: Path) -> None:
    weights = tiny.save(empty_folder / "mine", seed=0) / "model.safetensors"
    found = examined(settings(model__start=str(weights), model__text_start=None))["start"]
    assert (found.state, found.text) == (
        "bad", f"{weights} is a whole BLIP, of which model.start names the directory: {weights.parent}"
    )  # fmt: skip


def test_the_vocabulary_of_a_published_file_that_is_not_there_is_not_good(empty_folder: Path) -> None:
    start = empty_folder / "blip/model_base.pth"
    found = examined(settings(model__start=str(start), model__text_start=None))
    assert (found["start"].state, found["vocabulary"].state) == ("bad", "note")
    assert found["vocabulary"].text == (
        f"that of {start}, which is not there: {empty_folder}/blip/vocab.txt, BERT's, or the hub's"
    )


def test_too_few_devices_are_told_with_what_keeps_the_step():
    short = examined(settings(), devices=Devices("h100", per_node=8))["devices"]
    assert short.state == "bad"
    assert (
        "pretrain.training.ranks=8 --set pretrain.training.accumulate=4 keeps a step of 2,880" in short.text
    )
    kept = settings(pretrain__training__ranks=8, pretrain__training__accumulate=4)
    found = examined(kept, devices=Devices("h100", per_node=8))
    assert (found["devices"].state, found["batch"].figures["pairs_per_step"]) == ("good", 2880)


def test_idle_devices_are_noted():
    assert examined(settings(), devices=Devices("h100", 8, 5))["devices"].state == "note"


def test_speed_is_that_of_the_type_and_of_the_machines():
    half, whole = (
        examined(settings("base-14m", compute__dtype=dtype), devices=FOUR_NODES, samples=15.3e6)[
            "speed"
        ].figures
        for dtype in ("bfloat16", "float32")
    )
    assert whole["pairs_per_second"] < half["pairs_per_second"] / 4
    apart = make_plan(settings("base-14m"), "pretrain", Devices("h100", per_node=1, nodes=8)).hardware
    assert apart.per_node == 1, "all of its messages go between nodes"


def test_memory_is_that_of_the_type_that_the_run_computes_in():
    """This machine's GPU is none or may have no bfloat16; those that can be named have it."""
    named = make_plan(settings(compute__dtype="auto"), "pretrain", Devices("h100"))
    assert (
        named.dtype
        == make_plan(settings(compute__dtype="auto"), "pretrain", Devices()).dtype
        == torch.bfloat16
    )
    own = replace(named, elsewhere=False)
    assert own.dtype == autocast_dtype("auto", "cuda")
    if own.dtype == torch.float32:
        assert own.footprint.peak > 1.3 * named.footprint.peak


def test_a_recipe_for_gpus_on_a_machine_without_asks_which_are_meant():
    found = examined(settings(), devices=Devices())
    assert found["devices"].state == "bad"
    assert "--gpu h100 --gpus 8 --nodes 4" in found["devices"].text
    assert found["speed"].figures["pairs_per_second"] > 0


def test_a_batch_that_does_not_fit_is_told_with_one_that_does():
    wide = settings("one-gpu-14m")
    memory = examined(wide, devices=Devices("l40s"))["memory"]
    assert memory.state == "bad"
    assert "batch_size 360 with accumulate 8 fits" in memory.text
    narrow = settings("one-gpu-14m", pretrain__training__batch_size=360, pretrain__training__accumulate=8)
    assert examined(narrow, devices=Devices("l40s"))["memory"].state != "bad"
    recomputed = settings("one-gpu-14m", pretrain__training__activation_checkpointing=True)
    assert examined(recomputed, devices=Devices("l40s"))["memory"].state == "good"


@pytest.mark.parametrize("gpu", ["h100", "h200", "a100"])
def test_one_gpu_14m_fits_the_gpus_that_it_is_for(gpu: str):
    assert examined(settings("one-gpu-14m"), devices=Devices(gpu))["memory"].state == "good"


@pytest.mark.parametrize(
    "stage", ["pretrain", "captioner", "filter", "pretrain_bootstrapped", "finetune@vqa"]
)
@pytest.mark.parametrize("recipe", ["base-14m", "base-129m", "capfilt-large"])
def test_the_papers_recipes_fit_gpus_of_40_gigabytes(recipe: str, stage: str):
    found = examined(settings(recipe), stage, Devices("a100-40", 8, 4))
    assert (found["network"].state, found["memory"].state, found["batch"].state) == ("good", "good", "good")


def test_vqa_with_the_large_encoder_is_refused_and_the_rest_is_looked_at_all_the_same():
    found = examined(settings("large-129m"), "finetune@vqa", Devices("h100", 8))
    assert found["network"].state == "bad"
    assert "width 768 must be the image tokens' 1024" in found["network"].text
    assert "memory" not in found
    assert found["data vqa_train"].state == "bad"


def test_a_fine_tuning_has_the_sizes_of_the_model_that_it_goes_on_from_and_its_own_pixels():
    """That of VisDial names ViT-B's in every recipe, for its pixels."""
    dialogs = examined(settings("large-129m"), "finetune@visdial", Devices("h100", 8))["network"]
    assert dialogs.state == "bad"
    assert "their width 768 must be the image tokens' 1024; go on from a model whose" in dialogs.text
    longer = settings("base-14m", model__vision__layers=13)
    found = examined(longer, "finetune@retrieval", Devices("h100", 8))["network"]
    assert "384 px" in found.text and "image encoder 768 x 13" in found.text


def test_negatives_of_all_ranks_cost_work_and_memory_where_there_are_several():
    name = "finetune__retrieval__objective__itm_negatives"
    for ranks in (1, 8):
        more = {"finetune__retrieval__training__ranks": ranks}
        local, everyones = (
            make_plan(settings("base-14m", **{name: value}, **more), "finetune@retrieval", Devices("h100", 8))
            for value in ("local", "global")
        )
        assert (everyones.work.flops > local.work.flops) == (ranks > 1)
        assert (everyones.footprint.peak > local.footprint.peak) == (ranks > 1)


@pytest.mark.parametrize("task", ["vqa", "nlvr", "visdial", "retrieval"])
def test_a_locked_image_encoder_takes_no_gradients_and_no_activations(task: str):
    whole, locked = (
        make_plan(settings("base-14m", **rate), f"finetune@{task}", Devices("h100", 8))
        for rate in ({}, {f"finetune__{task}__optimiser__vision_lr": 0.0})
    )
    encoder = 4 * sum(p.numel() for p in whole.objective.network.vision.parameters())
    assert whole.work.weights - locked.work.weights == encoder
    kept = [plan.footprint.forward["activations"] for plan in (whole, locked)]
    assert kept[1] < 0.7 * kept[0]


def test_float16_is_refused_where_the_run_would_refuse_it():
    half = settings(compute__dtype="float16", pretrain__training__zero_stage=0)
    batch = examined(half)["batch"]
    assert batch.state == "bad"
    assert "float16 needs training.zero_stage 1, 2 or 3" in batch.text
    assert examined(half, "captioner")["batch"].state == "good"


def test_texts_longer_than_there_are_positions_are_named():
    network = examined(settings(model__text__max_tokens=600))["network"]
    assert network.state == "bad"
    assert "above 512 positions" in network.text


def test_what_does_not_fit_in_a_later_run_is_named_with_its_stage():
    def of(recipe: str, **changes: Any) -> dict[str, str]:
        found = examine_others(settings(recipe, **changes), "pretrain", FOUR_NODES)
        return {finding.subject: finding.text for finding in found}

    assert of("base-14m") == of("own-data") == of("visdial") == {}
    wide = of("large-129m")
    assert (
        list(wide) == ["finetune@vqa network"]
        and "must be the image tokens' 1024" in wide["finetune@vqa network"]
    )
    wrong = {
        "captioner__training__lanes": 50,
        "filter__training__ranks": 64,
        "finetune__nlvr__training__lanes": 50,
    }
    assert list(of("base-14m", **wrong)) == ["captioner batch", "filter devices"]
    write_dataset(Path("data/datasets/human"), samples=40)
    few = of("none", captioner__training__batch_size=50, compute__device="cpu")
    assert few["captioner steps"] == "40 samples do not fill one step of 50 pairs"


def test_lanes_that_cannot_be_shared_out_are_named():
    assert examined(settings(pretrain__training__lanes=96))["batch"].state == "good"
    batch = examined(settings(pretrain__training__lanes=50))["batch"]
    assert batch.state == "bad"
    assert "lanes 50 must be a multiple of 32 rank(s) and divide 2880" in batch.text


def small(**changes: Any) -> Settings:
    """The demo's settings on the CPU, reading one dataset."""
    return settings(None, compute__device="cpu", pretrain__data=["human"], **changes)


def test_datasets_are_counted_against_readers_and_a_step():
    write_dataset(Path("data/datasets/human"), samples=40)
    found = examined(small(pretrain__training__batch_size=8), devices=Devices())
    assert found["data human"].figures["samples"] == 40
    assert found["shards"].state == "good"
    assert examined(small(), devices=Devices())["shards"].text == "40 samples do not fill a step of 64 pairs"
    Path("data/datasets/validated").mkdir()
    left_out = pa.table({"key": [f"s{number:03d}" for number in range(34)]})
    pq.write_table(left_out, "data/datasets/validated/human.parquet")
    left = examined(small(pretrain__training__batch_size=8), devices=Devices())["shards"]
    assert left.text == "6 samples do not fill a step of 8 pairs"
    Path("data/datasets/validated/human.parquet").unlink()
    readers = examined(
        small(pretrain__training__batch_size=8, pretrain__training__workers=5), devices=Devices()
    )
    assert readers["shards"].state == "bad"
    assert "4 shards for 1 x 5 readers" in readers["shards"].text


def test_a_lost_shard_is_named():
    write_dataset(Path("data/datasets/human"), samples=40)
    lost = sorted(Path("data/datasets/human/shards").iterdir())[1]
    lost.unlink()
    data = examined(small(), devices=Devices())["data human"]
    assert data.state == "bad"
    assert "1 of 4 shards are missing" in data.text
    assert lost.name in data.text


def test_a_damaged_manifest_is_a_finding_among_the_others():
    write_dataset(Path("data/datasets/human"), samples=40)
    Path("data/datasets/human/manifest.json").write_text('{"format": 1, ')
    found = examined(small(), devices=Devices())
    assert found["data human"].state == "bad"
    assert "data/datasets/human/manifest.json" in found["data human"].text
    assert {"vocabulary", "disk", "tracking", "speed"} <= found.keys()


def test_a_source_that_ingest_does_not_read_is_told_and_not_fatal():
    changes = {"ingest.datasets.human.source": "s3://bucket/human"}
    found = examined(load_settings(PARAMS, "base-14m", changes))
    assert found["data human"].state == "bad"
    assert "s3://bucket/human: of a store only tars are read" in found["data human"].text


def test_the_disk_has_to_hold_the_checkpoints_and_one_more():
    two = examined(settings())["disk"].figures
    many = examined(settings(pretrain__training__keep_checkpoints=1_000_000))["disk"]
    assert many.state == "bad"
    each = two["checkpoint_gib"]
    assert 3.55 < each < 3.85  # 252M weights and their moments in float32; the twin's 195M, the queue
    assert many.figures["needed_gib"] - two["needed_gib"] == pytest.approx(999_998 * each)


def test_servers_that_answer_are_good(monkeypatch: pytest.MonkeyPatch):
    with _server(200) as address:
        monkeypatch.setenv("PREFECT_API_URL", f"{address}/api")
        found = examined(settings())
    assert (found["tracking"].state, found["prefect"].state) == ("good", "good")


def test_servers_that_do_not_are_told_within_seconds(monkeypatch: pytest.MonkeyPatch):
    with _server(500) as broken:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", broken)
        monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
        start = time.monotonic()
        found = examined(settings())
    assert time.monotonic() - start < 20
    assert found["tracking"].state == found["prefect"].state == "bad"
    assert "answers 500" in found["tracking"].text
    assert "unset PREFECT_API_URL" in found["prefect"].text


def test_a_password_in_an_address_is_used_and_not_told(monkeypatch: pytest.MonkeyPatch):
    with _server(200) as address:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address.replace("://", "://user:S3cret@"))
        monkeypatch.setenv("PREFECT_API_URL", "http://user:S3cret@127.0.0.1:1/api")
        found = examined(settings())
    assert found["tracking"].state == "good"
    assert found["tracking"].text.startswith("http://***@127.0.0.1:")
    assert found["prefect"].text.startswith("http://***@127.0.0.1:1/api does not answer")


def test_what_is_no_address_is_told(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PREFECT_API_URL", "http://user:S3cret@host:x/api")
    assert "does not answer" in examined(settings())["prefect"].text


def test_without_a_prefect_server_a_stage_runs_all_the_same():
    assert examined(settings())["prefect"].state == "note"


def test_hours_and_cost_follow_from_the_speed():
    found = examined(settings("one-gpu-14m"), devices=Devices("h200"), samples=15.3e6, price=3.0)
    rate, cost = found["speed"].figures["pairs_per_second"], found["cost"].figures
    assert cost["pairs"] == 20 * 15.3e6
    assert cost["hours"] == pytest.approx(cost["pairs"] / rate / 3600)
    assert cost["device_hours"] == cost["hours"]
    assert cost["cost_per_million"] == pytest.approx(3.0 * 1e6 / rate / 3600)
    assert cost["cost"] == pytest.approx(3.0 * cost["hours"])


def test_a_run_that_waits_for_its_loader_is_told_how_many_workers_keep_up():
    starved = examined(settings("one-gpu-14m", pretrain__training__workers=1), devices=Devices("h200"))[
        "speed"
    ]
    assert starved.state == "note"
    assert "training.workers 2 would keep up" in starved.text


def test_the_speed_is_told_with_its_parts_and_without_powers_of_ten():
    """Also where the loader takes a hundred times as long as all else."""
    narrow = {"image_size": 32, "patch_size": 16} | {
        tower: {"width": 64, "layers": 2, "heads": 4} for tower in ("vision", "text")
    }
    changes = {f"model__{name}": value for name, value in narrow.items()}
    told = examined(settings("one-gpu-14m", **changes), devices=Devices("b200"))["speed"].text
    assert re.search(r"bound by loader: a step takes ([\d.]+ m?s) \(loader \1[,)]", told)
    assert told.split(";")[0].endswith("of 2,250 TFLOP/s")


@pytest.mark.parametrize(
    ("stage", "gpu", "message"),
    [("ingest", "h100", "'ingest' does not train"), ("pretrain", "h1000", "--gpu h1000: no figures of it")],
)
def test_what_cannot_be_planned_is_refused(stage: str, gpu: str, message: str):
    with pytest.raises(BadArguments, match=message):
        examined(settings(), stage, Devices(gpu))


def test_the_command_shows_the_table_and_fails_when_something_is_bad(blip: Any, tmp_path: Path):
    (tmp_path / "params.yaml").write_text(PARAMS.read_text())
    ended = blip("doctor", "--stage", "captioner", "--gpu", "h100", "--price-per-gpu-hour", 2, "--json")
    rows = {row["subject"]: row for row in json.loads(ended.out)}
    assert ended.code == 1
    assert rows["data human"]["state"] == "bad"
    assert rows["cost"]["figures"]["cost"] > 0
    shown = blip("doctor", "--stage", "captioner", "--gpu", "h100")
    assert "note  start" in shown.out


@pytest.mark.parametrize("option", ["--samples", "--price-per-gpu-hour"])
def test_what_cannot_be_reckoned_with_is_refused(blip: Any, option: str):
    ended = blip("doctor", "--gpu", "h100", option, "1e400")
    assert ended.code == 2 and f"{option} inf: give a finite number" in ended.err
