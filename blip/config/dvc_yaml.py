"""What dvc.yaml says of its stages, and of `ingest` what it makes, to hold the datasets of the settings against.

stage_spec("finetune@vqa")["deps"]     # ["data/datasets/vqa_train", ...], with ${key} and ${item.*} filled in
settings_read("evaluate@vqa")          # ["seed", "compute", "evaluate.batch_size", "evaluate.vqa"]
has_stage("finetune@vqa")              # True
dependencies("finetune@vqa")           # [data/datasets/vqa_train, ...]
unmade(settings.ingest)                # ["video"]: later stages wait for it and no source is named
outputs("finetune@vqa")                # ["models/vqa", "metrics/curves/finetune_vqa.csv"]
cached_outputs("finetune@vqa")         # ["models/vqa"]
maker(Path("models/vqa"))              # "finetune@vqa"
way_to(Path("models/vqa"))             # "`dvc repro finetune@vqa` makes it, or `dvc pull` brings it"
unwatched(settings.ingest.datasets)    # ["/data/mine/noisy"]: DVC will not see when it changes
unwatched_files(settings)              # {"bert.safetensors": ("pretrain", ...)}: nor when this does
unkept(settings.ingest)                # ["extra"]: `ingest` makes it, and DVC does not know
"""

import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from blip.config.data import Ingest, Source
from blip.config.places import DATASETS, VALIDATED, VOCABULARY
from blip.config.sections import Settings
from blip.config.yaml_text import read_yaml

PIPELINE = Path("dvc.yaml")


def has_stage(name: str) -> bool:
    """Whether there is a dvc.yaml here that has the stage, as `pretrain` or `finetune@vqa`."""
    base, _, key = name.partition("@")
    stage = _stages().get(base)
    return stage is not None and (key in stage["foreach"] if "foreach" in stage else not key)


def is_taken_out(name: str) -> bool:
    """Whether the dvc.yaml here has no such stage; where there is none at all, nothing was taken out."""
    return bool(_stages()) and not has_stage(name)


def stage_spec(stage: str) -> dict[str, Any]:
    """The stage's part of dvc.yaml, with ${key} and ${item.*} of a foreach filled in; {} if it has none."""
    base, _, key = stage.partition("@")
    spec = _stages().get(base, {})
    if "foreach" not in spec:
        return spec
    each = spec["foreach"]
    item = each.get(key, {}) if isinstance(each, dict) else key
    return {name: _fill(value, key, item) for name, value in spec["do"].items()}


def settings_read(stage: str) -> list[str]:
    """The dotted names of the settings that dvc.yaml names for a stage, as `pretrain` or `evaluate.batch_size`."""
    names: list[str] = []
    for entry in stage_spec(stage).get("params", []):  # a name in params.yaml, or a file with names in it
        names += (
            [entry] if isinstance(entry, str) else [name for some in entry.values() for name in some or ()]
        )
    return names


def outputs(stage: str) -> list[Path]:
    """What dvc.yaml says that a stage makes, its metrics apart."""
    spec = stage_spec(stage)
    return [Path(_path_of(out)) for out in (*spec.get("outs", ()), *spec.get("plots", ()))]


def cached_outputs(stage: str) -> list[Path]:
    """Those of `outs` that DVC keeps in its cache, too: all without `cache: false`."""
    outs = stage_spec(stage).get("outs", ())
    return [
        Path(_path_of(out)) for out in outs if isinstance(out, str) or out[_path_of(out)].get("cache", True)
    ]


def maker(path: Path) -> str:
    """The stage that dvc.yaml has make what lies there, as `finetune@vqa`; "" if none does."""
    for base, spec in _stages().items():
        for stage in [f"{base}@{key}" for key in spec["foreach"]] if "foreach" in spec else [base]:
            if path.absolute() in [out.absolute() for out in outputs(stage)]:
                return stage
    return ""


def way_to(path: Path) -> str:
    """How to have what is not there, for a message."""
    stage = maker(path)
    return f"`dvc repro {stage}` makes it, or `dvc pull` brings it" if stage else "run what writes it"


def dependencies(stage: str) -> list[Path]:
    """What dvc.yaml says that a stage reads, addresses apart."""
    return [Path(dep) for dep in map(_path_of, stage_spec(stage).get("deps", ())) if "://" not in dep]


def unmade(ingest: Ingest) -> list[str]:
    """Datasets that dvc.yaml has `ingest` make and the settings neither name a source for nor leave out."""
    names = [out.name for out in outputs("ingest") if out.parent == DATASETS and out != VOCABULARY]
    return [name for name in names if name not in (*ingest.datasets, *ingest.without)]


def unkept(ingest: Ingest) -> list[str]:
    """Datasets that the settings have `ingest` make and dvc.yaml does not name among what it makes."""
    outs = outputs("ingest")
    return [name for name in ingest.datasets if outs and DATASETS / name not in outs]


def left_out(ingest: Ingest) -> list[str]:
    """Datasets that dvc.yaml has `ingest` make and the settings leave out."""
    return [out.name for out in outputs("ingest") if out.parent == DATASETS and out.name in ingest.without]


def unwatched(datasets: Mapping[str, Source]) -> list[str]:
    """Sources, in stores or on this disk, that are not, and lie in nothing that is, among the deps of `ingest`."""
    named = [_path_of(dep) for dep in stage_spec("ingest").get("deps", ())]
    deps = [Path(dep).resolve() for dep in named]
    if not deps:
        return []
    remote = [source.source for source in datasets.values() if source.is_remote]
    unseen = [place for place in dict.fromkeys(remote) if not _lies_in(place, named)]
    places = dict.fromkeys(
        place for source in datasets.values() for place in (source.source, source.images) if place
    )
    there = {place: Path(place).resolve() for place in places if Path(place).exists()}
    return unseen + [
        place for place, path in there.items() if not any(path.is_relative_to(dep) for dep in deps)
    ]


def _lies_in(address: str, deps: list[str]) -> bool:
    return any(f"{address.rstrip('/')}/".startswith(f"{dep.rstrip('/')}/") for dep in deps)


def pick(values: Any, path: list[str]) -> Any:
    """What lies in nested tables on a path of names; None where there is nothing."""
    for part in path:
        values = values.get(part) if isinstance(values, dict) else None
    return values


def unwatched_files(settings: Settings) -> dict[str, tuple[str, ...]]:
    """What settings name that is not, and lies in nothing that is, among the deps of the stages they list."""
    starts = ("pretrain", "pretrain_bootstrapped", "rounds")
    read = {
        settings.model.start: starts,
        settings.model.text_start: starts,
        settings.ingest.vocabulary.file: ("ingest",),
        settings.recipe: ("settings",),
    }
    read = {
        file: stages
        for file, stages in read.items()
        if file and (Path(file).is_file() or (file == settings.model.start and Path(file).is_dir()))
    }
    found = {
        file: tuple(stage for stage in stages if has_stage(stage) and not _lies_in_deps(Path(file), stage))
        for file, stages in (read | _data_read(settings)).items()
    }
    return {file: stages for file, stages in found.items() if stages}


def _data_read(settings: Settings) -> dict[str, tuple[str, ...]]:
    """The datasets that are validated, trained on and evaluated on, and the lists of validation, with their stages."""
    made, readers = settings.ingest.datasets, dict[str, list[str]]()
    for name, datasets in settings.datasets_read.items():
        for dataset in dict.fromkeys(datasets):
            readers.setdefault(dataset, []).append(name.replace(".", "@"))
    read = {
        str(DATASETS / name): ("validate", *readers.get(name, ())) if name in made else tuple(readers[name])
        for name in dict.fromkeys((*made, *readers))
    }
    return read | {
        str(VALIDATED / f"{name}.parquet"): tuple(readers[name]) for name in readers if name in made
    }


def _lies_in_deps(path: Path, stage: str) -> bool:
    deps = (Path(_path_of(dep)).resolve() for dep in stage_spec(stage).get("deps", ()))
    return any(path.resolve().is_relative_to(dep) for dep in deps)


def _stages() -> dict[str, Any]:
    path = PIPELINE.resolve()
    return _read(path, path.stat().st_mtime_ns) if path.is_file() else {}


@lru_cache(maxsize=1)
def _read(path: Path, changed: int) -> dict[str, Any]:
    """The stages of a file; `changed` is when it was written."""
    return read_yaml(path.read_text(encoding="utf-8"), PIPELINE).get("stages", {})


def _fill(value: Any, key: str, item: Any) -> Any:
    if isinstance(value, list):
        return [_fill(entry, key, item) for entry in value]
    if isinstance(value, dict):
        return {_fill(name, key, item): _fill(entry, key, item) for name, entry in value.items()}
    if not isinstance(value, str):
        return value

    def replace(match: re.Match[str]) -> str:
        name = match[1]
        return key if name in ("key", "item") else str(pick(item, name.split(".")[1:]))

    return re.sub(r"\$\{([\w.]+)\}", replace, value)


def _path_of(entry: str | dict[str, Any]) -> str:
    """Of ``path`` or ``{path: {cache: false}}``."""
    return entry if isinstance(entry, str) else next(iter(entry))
