"""What dvc.yaml says: which stages it has, and of `ingest` what it makes, to hold the datasets of the settings against.

has_stage("finetune@vqa")              # True
unmade(settings.ingest.datasets)       # ["video"]: later stages wait for it and no source is named
unwatched(settings.ingest.datasets)    # ["/data/mine/noisy"]: DVC will not see when it changes
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from blip.config.data import Source

PIPELINE = Path("dvc.yaml")
DATASETS = Path("data/datasets")
VOCABULARY = "vocabulary"


def has_stage(name: str) -> bool:
    """Whether there is a dvc.yaml here that has the stage, as `pretrain` or `finetune@vqa`."""
    base, _, key = name.partition("@")
    stage = _stages().get(base)
    return stage is not None and (key in stage["foreach"] if "foreach" in stage else not key)


def unmade(datasets: Mapping[str, Source]) -> list[str]:
    """Datasets that dvc.yaml has `ingest` make and the settings name no source for."""
    outs = [Path(_path_of(out)) for out in _ingest().get("outs", ())]
    names = [out.name for out in outs if out.parent == DATASETS and out.name != VOCABULARY]
    return [name for name in names if name not in datasets]


def unwatched(datasets: Mapping[str, Source]) -> list[str]:
    """Sources on this disk that are not, and lie in nothing that is, among the deps of `ingest`."""
    deps = [Path(_path_of(dep)).resolve() for dep in _ingest().get("deps", ())]
    if not deps:
        return []
    places = dict.fromkeys(
        place for source in datasets.values() for place in (source.source, source.images) if place
    )
    there = {place: Path(place).resolve() for place in places if Path(place).exists()}
    return [place for place, path in there.items() if not any(path.is_relative_to(dep) for dep in deps)]


def _ingest() -> dict[str, Any]:
    return _stages().get("ingest", {})


def _stages() -> dict[str, Any]:
    if not PIPELINE.is_file():
        return {}
    return (yaml.safe_load(PIPELINE.read_text(encoding="utf-8")) or {}).get("stages", {})


def _path_of(entry: str | dict[str, Any]) -> str:
    """Of ``path`` or ``{path: {cache: false}}``."""
    return entry if isinstance(entry, str) else next(iter(entry))
