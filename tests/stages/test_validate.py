"""The validate stage: the gate, the pages and the figures of a project's datasets."""

import io
from pathlib import Path
from typing import cast

import numpy as np
import pytest
from PIL import Image

from blip.config import Settings, Source, load_settings
from blip.data.pairs import Caption, PairsWriter, Sample, excluded_keys
from blip.errors import BlipError
from blip.stages import validate
from blip.tracking.runs import StageRun

PARAMS = Path(__file__).parents[2] / "params.yaml"


class Keeps:
    """Stands for the MLflow run: keeps what it is told."""

    def __init__(self) -> None:
        self.folders: dict[str, list[str]] = {}
        self.tags: dict[str, object] = {}

    def log_artifact(self, path: Path, folder: str) -> None:
        self.folders[folder] = sorted(file.name for file in path.iterdir())

    def set_tags(self, tags: dict[str, object]) -> None:
        self.tags |= tags


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings that know one dataset, `human`."""
    monkeypatch.chdir(tmp_path)
    loaded = load_settings(PARAMS)
    human = Source(source="human", kind="table", origin="human", role="train")
    return loaded.model_copy(
        update={"ingest": loaded.ingest.model_copy(update={"datasets": {"human": human}})}
    )


def write_human(count: int, opening: str = "picture") -> None:
    with PairsWriter(Path("data/datasets/human"), samples_per_shard=64, parents=[], parameters={}) as writer:
        for number in range(count):
            pixels = np.random.default_rng(number).integers(0, 256, (40, 40, 3), dtype=np.uint8)
            buffer = io.BytesIO()
            Image.fromarray(pixels).save(buffer, "PNG")
            caption = Caption(f"{opening} {number}", "human")
            writer.add(Sample(f"key-{number}", buffer.getvalue(), "png", (caption,), width=40, height=40))


def run(settings: Settings) -> dict[str, float]:
    return validate.run(settings, cast(StageRun, Keeps()), None)


def test_how_many_captions_are_not_read_to_their_end_is_said(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    loose = settings.validate_.model_copy(update={"caption_words": (1, 200)})
    write_human(20, "word " * 30)
    run(settings.model_copy(update={"validate_": loose}))
    assert (
        "note: human: 20 of 20 samples have a caption of more than 30 words, of which the first 30 are read; 19 "
        "captions differ from another only behind these\n"
    ) in capsys.readouterr().out


def test_the_gate_opens_for_good_data(settings: Settings) -> None:
    write_human(20)
    metrics = run(settings)
    assert (metrics["validate.human.samples"], metrics["validate.human.set_aside"]) == (20.0, 0.0)
    assert Path("data/datasets/validated/gate.json").is_file()
    assert Path("reports/data_docs/human.html").is_file()


def test_the_run_keeps_the_pages_and_says_where_they_are(settings: Settings) -> None:
    write_human(20)
    kept = Keeps()
    validate.run(settings, cast(StageRun, kept), None)
    assert kept.folders == {"data_docs": ["human.html", "index.html"]}
    assert kept.tags == {"blip.data_docs": "data_docs/index.html"}


def test_the_table_says_by_which_rule_samples_were_set_aside(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    write_human(20)
    strict = settings.validate_.model_copy(update={"caption_words": (1, 1), "max_excluded_share": 1.0})
    run(settings.model_copy(update={"validate_": strict}))
    assert "human │ 20 │ 20 │ 20 caption_words_max │ passed, 1 warning(s)" in " ".join(
        capsys.readouterr().out.replace("│", " │ ").split()
    )


def test_a_bad_dataset_stops_with_pages_that_say_why(settings: Settings) -> None:
    write_human(3)
    with pytest.raises(BlipError, match="dataset human does not pass") as error:
        run(settings)
    assert "min_samples: there are at least 16 samples; observed 3 samples. Way out: add samples" in str(
        error.value
    )
    assert "Every finding: reports/data_docs/index.html" in str(error.value)
    assert "observed 3 samples" in Path("reports/data_docs/human.html").read_text()
    with pytest.raises(BlipError, match="did not pass validation"):
        excluded_keys("data/datasets/validated", "human")


def test_a_dataset_that_was_not_ingested_is_named(settings: Settings) -> None:
    with pytest.raises(BlipError, match="data/datasets/human"):
        run(settings)
