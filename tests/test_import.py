"""`blip import`: a public checkpoint becomes a model directory, with a report of what was in it."""

import json
from pathlib import Path

import pytest
import torch

from blip import load
from blip.errors import BlipError
from blip.model.nlvr import load_nlvr
from blip.tracking.registry import resolve
from tests import public_files, tiny


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A hub that does not answer and an empty cache."""
    import huggingface_hub
    from huggingface_hub.errors import LocalEntryNotFoundError

    def refuse(*_arguments: object, **_options: object) -> str:
        raise LocalEntryNotFoundError("no connection and nothing in the cache")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)


@pytest.fixture
def vocabulary(tmp_path: Path) -> Path:
    """A vocab.txt away from the checkpoints."""
    tiny.tokenizer().save(tmp_path / "bert")
    return tmp_path / "bert" / "vocab.txt"


def checkpoint(folder: Path, kind: str) -> Path:
    return public_files.write(folder / f"{kind}.pth", public_files.state_of(kind))


# What files of a kind never have; a class of transformers that needs it says so and begins anew with it.
HEADS = {"vision_proj", "text_proj", "itm_head"}
NEVER_THERE = {
    "pretrain": set(),
    "retrieval": {"text_decoder"},
    "captioning": {"text_encoder", *HEADS},
    "vqa": HEADS,
}


@pytest.mark.parametrize("kind", ["pretrain", "retrieval", "captioning", "vqa"])
def test_a_converted_directory_opens_here_and_in_three_classes_of_transformers(
    blip, tmp_path: Path, vocabulary: Path, kind: str
) -> None:
    import transformers

    transformers.logging.set_verbosity_error()
    out = tmp_path / "out"
    assert blip("import", checkpoint(tmp_path, kind), out, "--tokenizer", vocabulary)[0] == 0
    for name in ("BlipForConditionalGeneration", "BlipForImageTextRetrieval", "BlipForQuestionAnswering"):
        opened, loading = getattr(transformers, name).from_pretrained(out, output_loading_info=True)
        assert {key.partition(".")[0] for key in loading["missing_keys"]} <= NEVER_THERE[kind]
        assert opened.config.vision_config.image_size == 32
    assert (
        transformers.BertTokenizer.from_pretrained(out)("a red apple")["input_ids"][0] == tiny.tokenizer().cls
    )
    model = load(str(out))
    assert model.card.task == kind
    if "itm_head" in NEVER_THERE[kind]:
        with pytest.raises(BlipError, match="itm_head"):
            model.match(tiny.images(2), ["red apple"])
    else:
        assert torch.isfinite(model.match(tiny.images(2), ["red apple"])).all()


def test_the_report_is_readable(blip, tmp_path: Path, vocabulary: Path) -> None:
    state = {**public_files.state_of("captioning"), "extra.weight": torch.ones(1)}
    file, out = public_files.write(tmp_path / "captioning.pth", state), tmp_path / "out"
    _, shown, _ = blip("import", file, out, "--tokenizer", vocabulary.parent, "--image-size", 48)
    lines = [" ".join(line.split()) for line in shown.splitlines()]
    assert lines[0] == f"{file} -> {out}"
    assert "kind captioning" in lines
    assert "vision tower 2 layers, 64 wide, patches of 8 px" in lines
    assert "images 48 px, positions interpolated from 32 px" in lines
    assert "not in it, initial values itm_head (2)" in lines
    assert "not in it, initial values text_encoder.encoder.layer.*.attention (20)" in lines
    assert "unexpected, not used extra (1)" in lines
    assert "dropped on purpose position counters (1)" in lines
    assert load(str(out)).image_size == 48


def test_the_report_is_json_for_programs(blip, tmp_path: Path, vocabulary: Path) -> None:
    file = checkpoint(tmp_path, "retrieval")
    shown = json.loads(blip("import", file, tmp_path / "out", "--tokenizer", vocabulary, "--json")[1])
    parameters = sum(p.numel() for p in load(str(tmp_path / "out")).network.parameters())
    assert (shown["kind"], shown["parameters"], shown["unexpected"]) == ("retrieval", parameters, [])
    assert shown["dropped"] == {"momentum twins": 91, "queues and their pointers": 4, "position counters": 1}
    assert all(name.startswith("text_decoder.") for name in shown["missing"])


def test_an_nlvr_checkpoint_becomes_a_directory_of_its_own_kind(
    blip, tmp_path: Path, vocabulary: Path
) -> None:
    out = tmp_path / "out"
    code, shown, _ = blip("import", checkpoint(tmp_path, "nlvr"), out, "--tokenizer", vocabulary)
    assert (code, "nlvr" in shown) == (0, True)
    assert load_nlvr(out)[0].config.merged_from == 1


def test_an_existing_directory_is_left_alone(blip, tmp_path: Path, vocabulary: Path) -> None:
    code, _, said = blip("import", checkpoint(tmp_path, "vqa"), vocabulary.parent, "--tokenizer", vocabulary)
    assert (code, "exists already" in said) == (2, True)


def test_a_refused_file_leaves_nothing_behind(blip, tmp_path: Path, vocabulary: Path) -> None:
    state = public_files.state_of("vqa")
    del state["visual_encoder.norm.bias"]
    file, out = public_files.write(tmp_path / "vqa.pth", state), tmp_path / "models" / "out"
    code, _, said = blip("import", file, out, "--tokenizer", vocabulary)
    assert (code, "1 missing: visual_encoder.norm.bias" in said) == (1, True)
    assert not out.parent.exists()


def test_without_a_vocabulary_and_offline_the_way_out_is_told(blip, tmp_path: Path, offline: None) -> None:
    file = checkpoint(tmp_path, "retrieval")
    code, _, said = blip("import", file, tmp_path / "out")
    assert code == 1
    assert f"put its vocab.txt into {tmp_path}" in said
    assert "--tokenizer" in said


def test_a_tokenizer_that_is_not_there_is_named(blip, tmp_path: Path) -> None:
    file, missing = checkpoint(tmp_path, "retrieval"), tmp_path / "none.txt"
    assert (
        f"tokenizer {missing}: no such file"
        in blip("import", file, tmp_path / "out", "--tokenizer", missing)[2]
    )


def test_the_vocabulary_comes_from_the_hub_or_its_cache(
    blip, tmp_path: Path, vocabulary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub
    from huggingface_hub.errors import LocalEntryNotFoundError

    asked: list[tuple[str, bool]] = []

    def download(name: str, *, allow_patterns: list[str], local_files_only: bool) -> str:
        asked.append((name, local_files_only))
        if local_files_only:
            raise LocalEntryNotFoundError("not cached")
        assert allow_patterns == ["vocab.txt", "tokenizer.json"]
        return str(vocabulary.parent)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert blip("import", checkpoint(tmp_path, "retrieval"), tmp_path / "out")[0] == 0
    assert asked[-1] == ("google-bert/bert-base-uncased", False)


def test_a_hub_model_is_fetched_without_pickles(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import huggingface_hub

    asked: dict[str, list[str]] = {}

    def download(name: str, allow_patterns: list[str]) -> str:
        asked[name] = allow_patterns
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert resolve("Salesforce/blip-itm-base-coco") == tmp_path
    assert asked == {"Salesforce/blip-itm-base-coco": ["*.json", "*.txt", "*.safetensors"]}


def test_a_hub_model_without_safetensors_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import huggingface_hub

    (tmp_path / "config.json").write_text("{}")
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *_a, **_o: str(tmp_path))
    with pytest.raises(
        BlipError, match=r"owner/model has no \*.safetensors on the hub.*pickles are not opened"
    ):
        load("owner/model")


def test_a_hub_model_offline_says_so(offline: None) -> None:
    with pytest.raises(BlipError, match=r"Salesforce/blip-vqa-base: .*hub.*give its model directory"):
        load("Salesforce/blip-vqa-base")
