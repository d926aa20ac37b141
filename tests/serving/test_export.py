"""`blip export`: a directory to give away, and the card that says where it comes from."""

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import transformers

from blip import load
from blip.config import load_settings
from blip.model.checkpoints import ModelCard, save_model
from blip.model.nlvr import load_nlvr
from blip.tracking import registry
from blip.tracking.measured import Measured, Scores, as_json
from blip.tracking.runs import stage_run
from tests import public_files, tiny
from tests.model import theirs

PARAMS = Path(__file__).parents[2] / "params.yaml"
TEXTS = ["red apple", "the dog on the table", "a"]
COMMIT = "4f0c" * 10


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with a retrieval model, which its registry has as champion and its metrics have figures of."""
    folder = tmp_path_factory.mktemp("project")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        directory = folder / "models/retrieval"
        save_model(tiny.network(1), tiny.tokenizer(), directory, ModelCard("finetune@retrieval"))
        how = Measured(
            (registry.weights_digest(directory),), "da7a" * 16, (("evaluate.retrieval.data", "test"),)
        )
        other = Measured(("0" * 64,), "da7a" * 16, ())
        scores = Scores.of({"retrieval.i2t_r1": 0.625, "retrieval.texts": 25010}, how)
        scores |= Scores.of({"vqa.accuracy": 0.875}, other)
        (folder / "metrics").mkdir()
        (folder / "metrics/evaluate_retrieval.json").write_text(json.dumps(as_json(scores)))
        with stage_run("register", load_settings(PARAMS)) as run:
            registry.register(
                "blip-retrieval",
                directory,
                run_id=run.run_id,
                figures={"retrieval.i2t_r1": 0.625, "retrieval.t2i_r1": 0.5},
                how={"retrieval.i2t_r1": how.how, "retrieval.t2i_r1": "beef" * 16},
                tags={"blip.git_commit": COMMIT, "blip.input.data/datasets/human": "sha256:fed"},
                task="match",
            )
        registry.promote("blip-retrieval", 1)
    return folder


@pytest.fixture
def project(store: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(store)
    return store


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model directory in a folder that is no project."""
    monkeypatch.chdir(tmp_path)
    return tiny.save(tmp_path / "tiny", 3)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@torch.no_grad()
def test_half_as_large_it_opens_in_transformers_and_here_with_the_outputs_of_the_original(
    blip: Callable, model: Path, tmp_path: Path, dtype: str
):
    transformers.logging.set_verbosity_error()
    ended = blip("export", model, tmp_path / "out", "--dtype", dtype)
    assert ended.code == 0 and f"in {dtype};" in ended.out and "fewer than in float32" in ended.out
    sizes = [(tmp_path / name / "model.safetensors").stat().st_size for name in ("tiny", "out")]
    assert 0.5 < sizes[1] / sizes[0] < 0.6
    assert len({path.stat().st_mode for path in (tmp_path / "out").iterdir()}) == 1
    for name in ("BlipForConditionalGeneration", "BlipForImageTextRetrieval", "BlipForQuestionAnswering"):
        opened, info = getattr(transformers, name).from_pretrained(tmp_path / "out", output_loading_info=True)
        assert opened.dtype == getattr(torch, dtype) and not info["missing_keys"]
    before, after = load(str(model)), load(str(tmp_path / "out"))
    theirs = transformers.BlipForImageTextRetrieval.from_pretrained(tmp_path / "out", dtype="float32").eval()
    images, (ids, mask) = tiny.images(4), before.tokenizer.encode(TEXTS, 30)
    cosine = theirs(input_ids=ids, pixel_values=images, attention_mask=mask, use_itm_head=False).itm_score
    expected = before.match(images, TEXTS, head="itc")
    near = {"atol": 4 * torch.finfo(getattr(torch, dtype)).eps, "rtol": 0}
    torch.testing.assert_close(after.match(images, TEXTS, head="itc"), expected, **near)
    torch.testing.assert_close(cosine, expected, **near)
    assert not torch.equal(cosine, expected)
    assert after.temperature == before.temperature


def test_in_float32_the_weights_are_the_very_same(blip: Callable, model: Path, tmp_path: Path):
    assert blip("export", model, tmp_path / "out").code == 0
    for name in ("model.safetensors", "config.json", "vocab.txt"):
        assert (tmp_path / "out" / name).read_bytes() == (model / name).read_bytes()


def test_the_card_of_a_registered_model_says_where_it_comes_from_and_what_it_reaches(
    blip: Callable, project: Path, tmp_path: Path
):
    ended = blip("export", "models:/blip-retrieval@champion", tmp_path / "out", "--json")
    assert ended.code == 0
    card = (tmp_path / "out/README.md").read_text()
    assert "`models:/blip-retrieval@champion`, version 1 of `blip-retrieval` in the registry" in card
    assert f"| `blip.git_commit` | `{COMMIT}` |" in card
    assert "| `blip.input.data/datasets/human` | `sha256:fed` |" in card
    assert registry.weights_digest(project / "models/retrieval") in card
    measured, registered = card.split("On test (digest `da7ada7ada7a`):")[1].split("As the registry has it")
    assert "| `retrieval.i2t_r1` | 0.625 |" in measured and "t2i" not in measured
    assert "| `retrieval.texts` | 25,010 |" in measured
    assert (
        "the digest `beefbeefbeef`:\n\n| figure | value |\n|-|-|\n| `retrieval.t2i_r1` | 0.5 |" in registered
    )
    assert "vqa.accuracy" not in card and "To be filled in" in card


def test_a_directory_with_registered_weights_has_the_same_card(blip: Callable, project: Path, tmp_path: Path):
    assert blip("export", "models/retrieval", tmp_path / "out", "--dtype", "bfloat16").code == 0
    card = (tmp_path / "out/README.md").read_text()
    assert "of `models/retrieval`, version 1 of `blip-retrieval`" in card and COMMIT in card
    assert "Measured before the weights were stored in bfloat16." in card


def test_of_a_model_of_elsewhere_nothing_is_made_up(blip: Callable, model: Path, tmp_path: Path):
    assert blip("export", model, tmp_path / "out").code == 0
    card = (tmp_path / "out/README.md").read_text()
    assert "no registry of this project has these weights" in card
    assert "No figures of these weights are known here" in card
    assert not (tmp_path / ".blip").exists() and not (tmp_path / "mlflow.db").exists()


def test_the_card_has_the_sums_of_the_files(blip: Callable, model: Path, tmp_path: Path):
    out = tmp_path / "out"
    told = json.loads(blip("export", model, out, "--json").out)
    assert set(told["files"]) == {path.name for path in out.iterdir()} - {"README.md"}
    check = ["sha256sum", "--check", "README.md"]
    assert subprocess.run(check, cwd=out, capture_output=True, check=False).returncode == 0
    (out / "vocab.txt").write_text("[PAD]\n")
    assert subprocess.run(check, cwd=out, capture_output=True, check=False).returncode == 1


def test_the_members_of_a_filter_go_along(blip: Callable, model: Path, tmp_path: Path):
    for number in (2, 3):
        tiny.save(model / "members" / str(number), number)
    told = json.loads(blip("export", model, tmp_path / "out", "--dtype", "bfloat16", "--json").out)
    assert {"members/2/model.safetensors", "members/3/config.json"} <= set(told["files"])
    assert told["bytes"] == sum(path.stat().st_size for path in (tmp_path / "out").rglob("*.safetensors"))
    assert "with 2 more models in `members/`" in (tmp_path / "out/README.md").read_text()
    images = tiny.images(2)
    expected = load(str(model / "members/3")).embed_images(images)
    torch.testing.assert_close(
        load(str(tmp_path / "out/members/3")).embed_images(images), expected, atol=0.03, rtol=0
    )


@pytest.mark.parametrize("kind", ["captioning", "nlvr"])
def test_a_public_checkpoint_is_exported_too(blip: Callable, tmp_path: Path, kind: str):
    tiny.tokenizer().save(tmp_path)
    file = public_files.write(tmp_path / f"{kind}.pth", public_files.state_of(kind))
    assert blip("export", file, tmp_path / "out", "--dtype", "bfloat16").code == 0
    if kind == "nlvr":
        assert load_nlvr(tmp_path / "out")[0].config.merged_from == 1
    else:
        assert load(str(tmp_path / "out")).card.prompt == "a picture of "
    card = (tmp_path / "out/README.md").read_text()
    assert ("TwoImages.open" in card) == (kind == "nlvr")
    assert ("model.caption(" in card) == (kind == "captioning")


def test_a_card_counts_the_parameters_that_the_model_has(blip: Callable, tmp_path: Path):
    model = theirs.make("BlipForConditionalGeneration", "even")
    assert blip("export", theirs.save(model, tmp_path / "theirs"), tmp_path / "out").code == 0
    count = sum(parameter.numel() for parameter in model.parameters())
    assert f"{count:,} parameters in float32" in (tmp_path / "out/README.md").read_text()


def test_a_weight_that_float16_cannot_hold_is_named_and_nothing_is_written(
    blip: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    network = tiny.network()
    with torch.no_grad():
        network.vision.norm.bias[0] = 1e5
    save_model(network, tiny.tokenizer(), tmp_path / "tiny", ModelCard())
    ended = blip("export", tmp_path / "tiny", tmp_path / "out", "--dtype", "float16")
    assert ended.code == 1
    assert "vision_model.post_layernorm.bias has a weight of 1e+05, more than float16 can hold" in ended.err
    assert [path.name for path in tmp_path.iterdir()] == ["tiny"]


def test_an_existing_directory_is_left_alone(blip: Callable, model: Path, tmp_path: Path):
    (tmp_path / "out").mkdir()
    ended = blip("export", model, tmp_path / "out")
    assert ended.code == 2 and "exists already" in ended.err
    assert not list((tmp_path / "out").iterdir())


def test_a_damaged_member_leaves_nothing_behind(blip: Callable, model: Path, tmp_path: Path):
    shutil.copytree(tiny.save(tmp_path / "other", 2), model / "members/2")
    (model / "members/2/config.json").unlink()
    ended = blip("export", model, tmp_path / "out")
    assert ended.code == 1 and "members/2 is not a model directory" in ended.err
    assert not (tmp_path / "out").exists()
