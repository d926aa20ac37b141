"""Pre-training that goes on from a whole BLIP, as it was published or as a project has made it."""

from pathlib import Path

import pytest
import torch

from blip.config import load_settings
from blip.errors import BadArguments, BlipError
from blip.model.api import Blip
from blip.model.starting import open_start
from blip.stages.training import whole_start
from tests import public_files, tiny
from tests.model import theirs

from .captioner_run import make_project
from .conftest import ROOT, TOY_MODEL, train_apart

SIZES = public_files.Sizes(vision=128)
LIKE_IT = TOY_MODEL | {
    "model.patch_size": SIZES.patch,
    "model.vision": {"width": SIZES.vision, "layers": SIZES.layers, "heads": 2},
    "model.text": {"width": SIZES.text, "layers": SIZES.layers, "heads": 2, "max_tokens": 16, "dropout": 0.0},
    "model.projection": SIZES.projection,
}
STILL = {f"pretrain.optimiser.{rate}": 1e-12 for rate in ("lr", "adam_lr")} | {
    "pretrain.optimiser.vision_lr": 1.0
}
FEW = {"pretrain.steps": 1, "pretrain.training.batch_size": 4, "pretrain.data": ["human"]}


def published(folder: Path, kind: str) -> Path:
    """A file as the reference code leaves it, its vocabulary beside it."""
    folder.mkdir()
    (folder / "vocab.txt").write_text("\n".join(tiny.tokenizer().vocabulary), encoding="utf-8")
    return public_files.write(folder / "model_base.pth", public_files.state_of(kind, SIZES))


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    make_project(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def pretrained(start: Path, **more: object) -> tuple[dict[str, float], Blip]:
    """A step of pre-training that moves nothing to speak of; its figures and the model that it saves."""
    figures = train_apart(
        "pretrain",
        LIKE_IT | STILL | FEW | {"validation.retrieval.rerank": 4, "model.start": str(start)} | more,
    )
    return figures, Blip.open("models/pretrain", learns=True)


def test_weights_and_vocabulary_are_those_of_the_published_file(project: Path) -> None:
    start = published(project / "published", "pretrain")
    figures, made = pretrained(start)
    given = Blip.open(start, learns=True)
    assert made.tokenizer.vocabulary == given.tokenizer.vocabulary
    expected, found = given.network.state_dict(), made.network.state_dict()
    for name, weights in expected.items():
        if name != "temperature":  # which the objective sets
            torch.testing.assert_close(found[name], weights, atol=1e-7, rtol=0, msg=name)
    assert "pretrain.validation.i2t_r1" in figures


def test_a_part_that_the_file_lacks_is_missing_until_it_is_trained(project: Path) -> None:
    start = published(project / "published", "retrieval")
    _, made = pretrained(start, **{"pretrain.objective.lm": 0.0})
    assert any("lm_head" in part for part in made.card.missing)
    _, made = pretrained(start)
    assert made.card.missing == ()


@pytest.mark.parametrize("kind", ["retrieval", "captioning"])
def test_of_a_model_of_one_task_both_text_transformers_begin_as_the_one_it_has(
    tmp_path: Path, kind: str
) -> None:
    start = published(tmp_path / "published", kind)
    config, missing = Blip.open(start, learns=True).network.config, Blip.open(start, learns=True).card.missing
    opened = open_start(start, config)
    assert {"text_encoder", "text_decoder"} & set(missing) and opened.network.config.tied
    assert not {"text_encoder", "text_decoder"} & set(opened.card.missing)
    encoder, decoder = opened.network.text_encoder.state_dict(), opened.network.text_decoder.state_dict()
    assert encoder and all(torch.equal(decoder[name], weights) for name, weights in encoder.items())
    network = opened.network
    assert network.text_encoder.layers[0].cross_attention is network.text_decoder.layers[0].cross_attention


@pytest.mark.parametrize("kind", ["BlipForImageTextRetrieval", "BlipForConditionalGeneration"])
@pytest.mark.parametrize("size", ["even", "widths apart"])
def test_so_does_one_of_transformers(tmp_path: Path, kind: str, size: str) -> None:
    given = Blip.open(theirs.save(theirs.make(kind, size), tmp_path / "theirs"), learns=True)
    opened = open_start(tmp_path / "theirs", given.network.config)
    assert opened.network.config.tied
    assert set(opened.card.missing) == set(given.card.missing) - {"text_encoder", "text_decoder"}
    there = "text_decoder" if "text_encoder" in given.card.missing else "text_encoder"
    expected = getattr(given.network, there).state_dict()
    for tower in (opened.network.text_encoder, opened.network.text_decoder):
        found = tower.state_dict()
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[name], weights) for name, weights in expected.items())


def test_a_start_without_a_head_that_nothing_trains_is_refused(tmp_path: Path) -> None:
    start = published(tmp_path / "published", "captioning")
    never = {"pretrain.objective.itm": 0.0, "filter.objective.itm": 0.0, "model.start": str(start)}
    settings = load_settings(ROOT / "params.yaml", overrides=LIKE_IT | never | {"model.projection": 256})
    with pytest.raises(
        BlipError, match=r"has no itm_head, and filter\.objective\.itm and pretrain\.objective\.itm"
    ):
        whole_start(settings.model, settings)


def test_an_alias_which_moves_is_no_start() -> None:
    with pytest.raises(BadArguments, match=r"another model after each promotion.*give a version"):
        load_settings(ROOT / "params.yaml", overrides={"model.start": "models:/blip-base@champion"})
    load_settings(ROOT / "params.yaml", overrides={"model.start": "models:/blip-base/3"})


def test_other_pixels_are_taken_and_other_sizes_are_told(project: Path) -> None:
    start = published(project / "published", "pretrain")
    _, made = pretrained(start, **{"model.image_size": 48})
    assert made.image_size == 48
    config = tiny.network().config
    with pytest.raises(
        BlipError, match=r"has other sizes than model; write there vision\.width: 128, vision"
    ):
        open_start(start, config)
    nowhere = load_settings(ROOT / "params.yaml", overrides={"model.start": "none.pth"})
    with pytest.raises(
        BlipError, match=r"model\.start: none\.pth: no such file; public checkpoints are listed"
    ):
        whole_start(nowhere.model, nowhere)


def test_a_whole_blip_and_berts_texts_are_one_too_many() -> None:
    both = {"model.start": "model_base.pth", "model.text_start": "bert/model.safetensors"}
    with pytest.raises(BadArguments, match=r"a whole BLIP.*text_start has to be null"):
        load_settings(ROOT / "params.yaml", overrides=both)
