"""What blip has made is a source, too."""

from pathlib import Path

from blip.config import Ingest, Source
from blip.data.pairs import Caption, PairsDataset, PairsWriter
from blip.ingest.ingestion import ingest_dataset
from blip.ingest.sources.guess import kind_of
from blip.ingest.sources.pairs import is_dataset
from tests.data.conftest import sample

from .reading import write


def test_a_dataset_is_known_and_its_captions_keep_their_origins(tmp_path: Path) -> None:
    texts = (Caption("a dog", "web"), Caption("a brown dog", "synthetic"))
    with PairsWriter(tmp_path / "first", samples_per_shard=3, parents=[], parameters={}) as writer:
        for number in range(7):
            writer.add(sample(number, captions=texts, truth={"label": f"{number}"} if number % 2 else None))
    assert kind_of(tmp_path / "first") == "pairs"
    source = Source(source=str(tmp_path / "first"), kind="pairs", origin="human", role="train")
    again = ingest_dataset(source, tmp_path / "second", Ingest(samples_per_shard=4, datasets={}))
    first = PairsDataset.open(tmp_path / "first")
    assert [*again.samples()] == [*first.samples()]
    assert again.metadata().drop_columns(["shard"]) == first.metadata().drop_columns(["shard"])


def test_another_manifest_is_none(tmp_path: Path) -> None:
    for text in ('{"name": "site"}', '{"schema": "another/1"}', "no JSON"):
        write(tmp_path / "manifest.json", text)
        assert not is_dataset(tmp_path)
    assert not is_dataset(tmp_path / "nowhere")
