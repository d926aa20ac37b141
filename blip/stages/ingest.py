"""Stage `ingest`: the sources of params.yaml become pairs datasets, and their texts a vocabulary."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from blip.config import Ingest, Settings
from blip.config.dvc_yaml import unmade, unwatched
from blip.data.ingestion import ingest_dataset, write_vocabulary
from blip.data.jobs import Pool, open_pool
from blip.data.pairs import PairsDataset
from blip.data.quarantine import NEAR_DUPLICATE
from blip.data.references import References
from blip.errors import BlipError

if TYPE_CHECKING:
    from blip.tracking.runs import StageRun

DATASETS = Path("data/datasets")


def run(settings: Settings, run: StageRun, variant: str | None) -> dict[str, float]:
    """Ingest evaluation data first, so that training data can be kept away from it.

    Raises:
        BlipError: a dataset that the later stages wait for has no source, a source cannot be read, or too much of it
            is broken.
    """
    ingest = settings.ingest
    _check_pipeline(ingest)
    with open_pool() as pool:
        evaluation = _ingest("evaluation", ingest, None, pool)
        references = References.of(evaluation, ingest.near_duplicate_bits)
        train = _ingest("train", ingest, references, pool)
    size = write_vocabulary(DATASETS / "vocabulary", ingest.vocabulary, train.values())
    print(f"vocabulary: {size:,} entries", flush=True)
    metrics = {"ingest.vocabulary": float(size)}
    for name in ingest.datasets:
        metrics |= _metrics(name, (evaluation | train)[name])
    return metrics


def _ingest(role: str, ingest: Ingest, references: References | None, pool: Pool) -> dict[str, PairsDataset]:
    datasets = {}
    for name, source in ingest.datasets.items():
        if source.role == role:
            datasets[name] = ingest_dataset(source, DATASETS / name, ingest, references, pool)
            print(_line(name, datasets[name]), flush=True)
    return datasets


def _check_pipeline(ingest: Ingest) -> None:
    if left_out := unmade(ingest.datasets):
        raise BlipError(
            f"ingest.datasets has no {', '.join(left_out)}, and dvc.yaml has stages that read such datasets; leave "
            "those lines of params.yaml as they are (they read the sample), or take these datasets and what reads them "
            "out of dvc.yaml"
        )
    if ignored := unwatched(ingest.datasets):
        print(
            f"note: DVC does not see when {', '.join(ignored)} changes: add it to the deps of `ingest` in dvc.yaml, or "
            "run `dvc repro --force --single-item ingest` then",
            flush=True,
        )


def _line(name: str, dataset: PairsDataset) -> str:
    refused = ", ".join(f"{count:,} {reason}" for reason, count in dataset.manifest.quarantined.items())
    shards = len(dataset.manifest.shards)
    return f"{name}: {len(dataset):,} samples in {shards} shard(s); set aside: {refused or 'none'}"


def _metrics(name: str, dataset: PairsDataset) -> dict[str, float]:
    quarantined = dataset.manifest.quarantined
    near = quarantined.get(NEAR_DUPLICATE, 0)
    return {
        f"ingest.{name}.samples": float(len(dataset)),
        f"ingest.{name}.quarantined": float(sum(quarantined.values()) - near),
        f"ingest.{name}.near_duplicates": float(near),
    }
