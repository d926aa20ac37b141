"""Datasets, starting weights, vocabulary and disk of a run."""

import shutil
from functools import partial
from pathlib import Path

from blip.config import Model, Settings, Source
from blip.config.places import DATASETS, RUNS, VOCABULARY
from blip.credentials import shown
from blip.data.pairs import PairsDataset
from blip.doctor.finding import GIB, Finding, found_of
from blip.doctor.numbers import samples_of_epoch
from blip.doctor.plan import Plan
from blip.doctor.sources import listed_in
from blip.errors import BlipError
from blip.model.starting import check_starting_vision
from blip.stages.training import whole_start
from blip.tracking.registry import CHECKPOINT, resolve

FLOAT = 4


def datasets(plan: Plan) -> list[Finding]:
    """One for each dataset that the run reads, and one for their shards and samples together."""
    names = [*dict(plan.run.mixture), *plan.run.distractors]
    found = [found_of(f"data {name}", partial(_dataset, plan, name)) for name in names]
    here = [name for name, _ in plan.run.mixture if (DATASETS / name / "manifest.json").is_file()]
    if len(here) == len(plan.run.mixture):
        found.append(found_of("shards", partial(_enough, plan)))
    return found


def _dataset(plan: Plan, name: str) -> Finding:
    """What there is of one: the dataset itself, or what it will be made of."""
    subject, folder = f"data {name}", DATASETS / name
    source = plan.settings.ingest.datasets.get(name)
    if (folder / "manifest.json").is_file():
        dataset = PairsDataset.open(folder)
        shards = dataset.manifest.shards
        missing = [shard.url for shard in shards if not (folder / shard.url).is_file()]
        if missing:
            return Finding(
                subject, "bad", f"{len(missing)} of {len(shards)} shards are missing, {missing[0]} first"
            )
        return _made(subject, dataset, source)
    if source is None:
        return Finding(subject, "note", f"not there; an earlier stage makes {folder}")
    if source.is_remote:
        return Finding(subject, "note", f"not ingested yet; {listed_in(source, plan.settings.ingest)}")
    there, where = _reachable(source)
    if there:
        return Finding(subject, "note", f"not ingested yet; its source {where} is there")
    return Finding(
        subject, "bad", f"neither {folder} nor its source {where} is there; see the head of the recipe"
    )


def _made(subject: str, dataset: PairsDataset, source: Source | None) -> Finding:
    """What there is in a dataset that has all its shards, and whether it is of the source that the settings name."""
    shards, size = dataset.manifest.shards, dataset.manifest.bytes
    figures = {"samples": float(len(dataset)), "shards": float(len(shards)), "bytes": float(size)}
    text = f"{len(dataset):,} samples in {len(shards):,} shards, {size / GIB:.1f} GiB"
    made_of = dataset.manifest.parameters.get("source")
    if source is None or made_of in (None, source.source):
        return Finding(subject, "good", text, figures)
    there = source.is_remote or _reachable(source)[0]
    now = f"the settings now name {source.source}" + ("" if there else ", which is not there")
    return Finding(
        subject,
        "note" if there else "bad",
        f"{text}, made of {shown(str(made_of))}; {now}: ingest again",
        figures,
    )


def _reachable(source: Source) -> tuple[bool, str]:
    """Whether a source is on this disk, and what of it is meant."""
    gone = [place for place in (source.source, source.images) if place and not Path(place).exists()]
    return not gone, shown(gone[0] if gone else source.source)


def _enough(plan: Plan) -> Finding:
    """Shards for all ranks and workers, samples for a step. The loader asks for the same, after ranks have started."""
    training = plan.run.training
    shards = sum(len(PairsDataset.open(DATASETS / name).manifest.shards) for name, _ in plan.run.mixture)
    samples = samples_of_epoch(plan, None) or 0.0
    wanted = training.ranks * max(training.workers, 1)
    text = f"{shards:,} shards for {training.ranks} x {max(training.workers, 1)} readers"
    figures = {"shards": float(shards), "readers": float(wanted), "samples": samples}
    if shards < wanted:
        way = "lower ingest.samples_per_shard and ingest again, or take fewer training.workers"
        return Finding("shards", "bad", f"{text}: {way}", figures)
    if samples < plan.batch:
        return Finding(
            "shards", "bad", f"{samples:,.0f} samples do not fill a step of {plan.batch:,} pairs", figures
        )
    return Finding("shards", "good", f"{text}, {samples:,.0f} samples an epoch", figures)


def start(plan: Plan) -> Finding:
    """The weights that the run starts from."""
    if plan.job.start is not None:
        if (plan.job.start / "model.safetensors").is_file():
            return Finding("start", "good", f"{plan.job.start}")
        return Finding("start", "note", f"{plan.job.start} is not there; an earlier stage makes it")
    return _new_start(plan.model, plan.settings)


def _new_start(model: Model, settings: Settings) -> Finding:
    """What a new model, or its towers, start from."""
    if model.starts_whole:
        try:
            opened = whole_start(model, settings)
        except BlipError as error:
            return Finding("start", "bad", str(error))
        lacking = f", without {', '.join(opened.card.missing)}" if opened.card.missing else ""
        return Finding("start", "good", f"the whole of {model.start}{lacking}")
    named = {"start": model.start, "text_start": model.text_start}
    for setting, path in named.items():
        if path and not Path(path).is_file():
            return Finding(
                "start", "bad", f"{path} is not there (model.{setting}); put it there, or give null"
            )
    texts = (
        f"texts from {model.text_start}"
        if model.text_start
        else "texts from random weights (the paper: BERT's)"
    )
    if model.start is None:
        return Finding(
            "start", "note", f"images from random weights; the paper starts from ImageNet's; {texts}"
        )
    try:
        check_starting_vision(Path(model.start))
    except BlipError as error:
        return Finding("start", "bad", str(error))
    return Finding("start", "good", f"image encoder from {model.start}, {texts}")


def vocabulary(plan: Plan) -> Finding:
    """The vocabulary of a run that starts a new model."""
    start = plan.settings.model.start
    if plan.settings.model.starts_whole:
        try:
            resolve(str(start))
        except BlipError:
            beside = f": {Path(str(start)).parent / 'vocab.txt'}, BERT's, or the hub's"
            told = f"that of {start}, which is not there"
            return Finding("vocabulary", "note", told + (beside if str(start).endswith(CHECKPOINT) else ""))
        return Finding("vocabulary", "good", f"that of {start}, {plan.vocabulary:,} entries")
    named = plan.settings.ingest.vocabulary.file
    path = Path(named or VOCABULARY / "vocab.txt")
    if path.is_file():
        return Finding("vocabulary", "good", f"{plan.vocabulary:,} entries, {path}")
    if named:
        return Finding("vocabulary", "bad", f"{path} is not there (ingest.vocabulary.file)")
    return Finding("vocabulary", "note", f"{path} is not there; the stage ingest makes it")


def disk(plan: Plan) -> Finding:
    """Room for the checkpoints, one more than are kept while it is written, and for the models."""
    state, training = plan.footprint.state, plan.run.training
    weights = FLOAT * sum(p.numel() for p in plan.objective.parameters())
    each = weights + _moments(plan) + state["twin and queue"] + state.get("average", 0.0)
    count = training.keep_checkpoints + 1 + (training.keep_best is not None)
    models = plan.run.candidates + (plan.run.candidates > 1)  # the one that is kept is a copy
    need = count * each + models * weights
    place = next(path for path in (RUNS, Path.cwd()) if path.exists())
    free = shutil.disk_usage(place).free
    saved = f"{models} models" if models > 1 else "the model"
    text = f"{need / GIB:.1f} of {free / GIB:.1f} GiB free, for {count} checkpoints of {each / GIB:.1f} and {saved}"
    figures = {"needed_gib": need / GIB, "free_gib": free / GIB, "checkpoint_gib": each / GIB}
    if need > free:
        return Finding("disk", "bad", f"{text}; make room or lower keep_checkpoints", figures)
    return Finding("disk", "good", text, figures)


def _moments(plan: Plan) -> float:
    """Of the optimiser, on all ranks; of ZeRO's own copy of the weights there is none beside them."""
    optimiser, training = plan.footprint.state["optimiser"], plan.run.training
    if not training.zero_stage:
        return optimiser
    copy = FLOAT * sum(p.numel() for p in plan.objective.parameters() if p.requires_grad)
    return training.ranks * optimiser - copy
