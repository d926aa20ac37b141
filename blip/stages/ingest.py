"""Stage `ingest`: the sources of params.yaml become pairs datasets, and their texts a vocabulary.

What is finished and would come out the same stays, whether this ended halfway or a recipe adds a dataset; what would
not is put aside before anything is made in its place, and goes when that is there. So dvc.yaml leaves these outs where
they are (`persist`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from itertools import islice
from typing import TYPE_CHECKING

from blip.atomic import take_away
from blip.config import Ingest, Settings, Source
from blip.config.dvc_yaml import left_out, unmade, unwatched
from blip.config.places import DATASETS, VOCABULARY
from blip.data.jobs import Pool, open_pool
from blip.data.kept import code_digest, is_kept, keep, put_aside, take_back
from blip.data.pairs import PairsDataset
from blip.data.quarantine import NEAR_DUPLICATE, by_reason
from blip.data.text import Tokenizer
from blip.errors import BlipError
from blip.ingest.ingestion import ingest_dataset, write_vocabulary
from blip.ingest.origins import is_as_made, note_of, said_of
from blip.ingest.references import References
from blip.ingest.sources import read
from blip.ingest.sources.refused import UNFETCHED

if TYPE_CHECKING:
    from blip.tracking.runs import StageRun

Refused = tuple[Counter[str], Counter[str]]  # how many samples, and how many texts alone, by reason
TRIED, TOKENS = (
    10_000,
    512,
)  # captions of each dataset, and tokens of each, that are looked at for unknown ones


def run(settings: Settings, run: StageRun, variant: str | None) -> dict[str, float]:
    """Ingest evaluation data first, so that training data can be kept away from it.

    Raises:
        BlipError: a dataset that the later stages wait for has no source, a source cannot be read, or too much of it
            is broken.
    """
    ingest = settings.ingest
    _check_pipeline(ingest)
    for source in ingest.datasets.values():
        _look_into(source, ingest)
    for name in left_out(ingest):
        _leave_out(name)
    refused: dict[str, Refused] = {}
    with open_pool() as pool:
        evaluation = _ingest("evaluation", ingest, {}, pool, refused)
        train = _ingest("train", ingest, evaluation, pool, refused)
    metrics = {"ingest.vocabulary": float(_vocabulary(ingest, train))}
    for name in ingest.datasets:
        metrics |= _metrics(name, (evaluation | train)[name], *refused[name])
    return metrics


def _look_into(source: Source, ingest: Ingest) -> None:
    """List a store, or read the first sample of what lies here, for what is wrong to be said before work begins."""
    if source.is_remote:
        from blip.ingest.remote.store import Store

        Store.open(source, ingest.download).names()
    else:
        next(read([source], ingest.max_caption_chars), None)


def _leave_out(name: str) -> None:
    """Put an empty folder in a dataset's place: for DVC there has to be something."""
    put_aside(DATASETS / name)
    (DATASETS / name).mkdir(parents=True)
    take_back(DATASETS / name)  # the one before goes
    print(f"{name}: left out", flush=True)


def _ingest(
    role: str,
    ingest: Ingest,
    evaluation: dict[str, PairsDataset],
    pool: Pool,
    refused: dict[str, Refused],
) -> dict[str, PairsDataset]:
    """The datasets of a role: those that would come out the same as they are, all others made anew.

    What each has refused is counted into `refused`, once, since a large quarantine is long to read.
    """
    sources = {name: source for name, source in ingest.datasets.items() if source.role == role}
    for name in sources:
        take_back(DATASETS / name)
    known: dict[tuple[str, ...], References] = {}
    references = {name: _references(ingest.kept_from(name), evaluation, ingest, known) for name in sources}
    missing = [
        name for name in sources if not is_as_made(DATASETS / name, sources[name], ingest, references[name])
    ]
    again = [
        name for name in sources if name not in missing and _lacks_what_may_come(name, sources[name], ingest)
    ]
    for name in missing:
        put_aside(DATASETS / name)
    if missing:
        take_away(VOCABULARY)
    datasets = {}
    for name, source in sources.items():
        if name in (*missing, *again):
            note = note_of(source, ingest, references[name])
            said = said_of(source, ingest, references[name])
            before = DATASETS / name if name in again else None
            ingest_dataset(source, DATASETS / name, ingest, references[name], pool, said, before)
            note(DATASETS / name)
            take_back(DATASETS / name)  # the one before goes
        datasets[name] = PairsDataset.open(DATASETS / name)
        refused[name] = by_reason(DATASETS / name, datasets[name].manifest.quarantined)
        print(
            _line(name, datasets[name], *refused[name])
            + ("" if name in (*missing, *again) else "; kept as it was"),
            flush=True,
        )
    return datasets


def _lacks_what_may_come(name: str, source: Source, ingest: Ingest) -> bool:
    """Whether it is to be asked once more for what a finished dataset of a list of URLs, or of a store, lacks."""
    if not ingest.download.again or not (source.is_remote or source.kind == "urls"):
        return False
    lacking = PairsDataset.open(DATASETS / name).manifest.quarantined
    if source.is_remote:
        return UNFETCHED in lacking
    from blip.ingest.download.lost import PASSING

    return not PASSING.isdisjoint(lacking)


def _references(
    names: tuple[str, ...],
    evaluation: dict[str, PairsDataset],
    ingest: Ingest,
    known: dict[tuple[str, ...], References],
) -> References | None:
    """How the pictures of some evaluation datasets look; read once for all that keep away from the same."""
    if names and names not in known:
        known[names] = References.of({name: evaluation[name] for name in names}, ingest.near_duplicate_bits)
    return known.get(names)


def _vocabulary(ingest: Ingest, train: dict[str, PairsDataset]) -> int:
    """Write the vocabulary of the training texts, unless it is there; its size."""
    file = ingest.vocabulary.file
    given = Tokenizer.from_vocabulary(file) if file else None
    origins = {
        "size": ingest.vocabulary.size,
        "given": [given.vocabulary, given.keeps_accents] if given else None,
        "datasets": [dataset.digest for dataset in train.values()],
        "code": code_digest("ingest", "data"),
    }
    if not is_kept(VOCABULARY, origins):
        write_vocabulary(VOCABULARY, ingest.vocabulary, train.values())
        keep(VOCABULARY, origins)
    tokenizer = Tokenizer.from_vocabulary(VOCABULARY / "vocab.txt")
    size, unknown = len(tokenizer.vocabulary), _unknown_share(tokenizer, train.values())
    print(
        f"vocabulary: {size:,} entries; {unknown:.1%} of the captions' tokens are unknown to it", flush=True
    )
    return size


def _unknown_share(tokenizer: Tokenizer, datasets: Iterable[PairsDataset]) -> float:
    """The share of [UNK] among the tokens of the first captions of some datasets."""
    tokens = unknown = 0
    for dataset in datasets:
        texts = islice(dataset.texts(), TRIED)
        while batch := list(islice(texts, 256)):
            ids_BT, mask_BT = tokenizer.encode(batch, TOKENS)
            tokens += int(mask_BT.sum()) - 2 * len(batch)  # [CLS] and [SEP]
            unknown += int((ids_BT == tokenizer.unk).sum())
    return unknown / max(tokens, 1)


def _check_pipeline(ingest: Ingest) -> None:
    if missing := unmade(ingest):
        raise BlipError(
            f"ingest.datasets has no {', '.join(missing)}, and dvc.yaml has stages that read such datasets; leave "
            "those lines of params.yaml as they are (they read the sample), or make them null and with them what reads "
            "them, as the recipe own-data does"
        )
    if ignored := unwatched(ingest.datasets):
        change, them = ("change", "them") if len(ignored) > 1 else ("changes", "it")
        print(
            f"note: DVC does not see when {', '.join(ignored)} {change}: add {them} to the deps of `ingest` in "
            "dvc.yaml, or run `dvc repro --force --single-item ingest` then",
            flush=True,
        )


def _line(name: str, dataset: PairsDataset, samples: Counter[str], texts: Counter[str]) -> str:
    shards = len(dataset.manifest.shards)
    line = f"{name}: {len(dataset):,} samples in {shards} shard(s); left out: {_listed(samples) or 'none'}"
    return f"{line}; texts left out: {_listed(texts)}" if texts else line


def _listed(reasons: Counter[str]) -> str:
    return ", ".join(f"{count:,} {reason}" for reason, count in reasons.items())


def _metrics(
    name: str, dataset: PairsDataset, samples: Counter[str], texts: Counter[str]
) -> dict[str, float]:
    """Samples, refused ones and near duplicates; and, where there are any, refused texts of samples that are kept."""
    near = samples[NEAR_DUPLICATE]
    metrics = {
        f"ingest.{name}.samples": float(len(dataset)),
        f"ingest.{name}.quarantined": float(samples.total() - near),
        f"ingest.{name}.near_duplicates": float(near),
    }
    return metrics | ({f"ingest.{name}.refused_texts": float(texts.total())} if texts else {})
