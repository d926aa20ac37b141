"""Do the settings name the sources that the pipeline needs, are they there, and does DVC see when they change?"""

from pathlib import Path

from blip.config import Ingest, Settings, Source, load_settings
from blip.config.dvc_yaml import unmade, unwatched, unwatched_files
from blip.doctor.finding import Finding
from blip.errors import BadArguments


def sources() -> Finding:
    """Those of params.yaml, held against dvc.yaml, this disk, the stores. Raises BlipError if one cannot be listed."""
    try:
        settings = load_settings()
    except BadArguments:  # said at `settings`
        return Finding("sources", "note", "not looked at: the settings cannot be read")
    return sources_of(settings)


def sources_of(settings: Settings) -> Finding:
    """The same of settings that a recipe is laid over."""
    datasets = settings.ingest.datasets
    if missing := unmade(settings.ingest):
        text = f"ingest.datasets has no {', '.join(missing)}, which stages of dvc.yaml read"
        return Finding(
            "sources", "bad", f"{text}; leave these lines of params.yaml as they are, or make them null"
        )
    gone = [
        source.source
        for source in datasets.values()
        if not source.is_remote and not Path(source.source).exists()
    ]
    if gone:
        return Finding("sources", "bad", f"not there: {', '.join(gone)} (ingest.datasets)")
    listed = "".join(
        f"; {listed_in(source, settings.ingest)}" for source in datasets.values() if source.is_remote
    )
    if ignored := unwatched(datasets):
        text = (
            f"{', '.join(ignored)}: not among the deps of `ingest` in dvc.yaml, so DVC does not see a change"
        )
        return Finding("sources", "note", text + listed)
    if unseen := unwatched_files(settings):
        text = "; ".join(f"{file} among those of {', '.join(stages)}" for file, stages in unseen.items())
        return Finding(
            "sources", "note", f"not among the deps in dvc.yaml, so DVC does not see a change: {text}"
        )
    text = f"{len(datasets)} datasets have their sources, and DVC watches them"
    return Finding("sources", "good", text + listed)


def listed_in(source: Source, settings: Ingest) -> str:
    """How many shards a store has of a source. Raises BlipError if it cannot be listed."""
    from blip.ingest.remote.store import Store

    return f"{source.source} has {len(Store.open(source, settings.download).names()):,} shard(s)"
