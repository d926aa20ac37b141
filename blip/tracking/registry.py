"""The MLflow model registry: versions, their lineage and figures, and the champion among them.

    version, is_new = registry.register("blip-vqa", Path("models/vqa"), ...)
    registry.promote("blip-vqa", version)
    registry.resolve("models:/blip-vqa@champion")     # a local model directory

A version carries what it came from, what it scored and how that was measured as tags. Identical weights are one
version, however often they are registered, as long as they are served alike: with other code, configuration or
tokenizer they are another. The `champion` alias is what `models:/NAME@champion` opens; a version that reached the
gate's minimums but not the champion's figures is the `challenger`. Who promotes a version by hand sets back the
champion before: it is so until it is promoted by hand itself.
"""

import hashlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING
from urllib.parse import unquote

from blip.atomic import atomic_path
from blip.config.dvc_yaml import way_to
from blip.config.places import MODELS
from blip.digest import file_sha256
from blip.errors import BlipError
from blip.tracking import packaging, store

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel
    from mlflow.entities.model_registry import ModelVersion

CHAMPION, CHALLENGER = "champion", "challenger"
DIGEST, SERVED = "blip.digest", "blip.served"
SET_BACK = "blip.set_back"  # of a champion that lost its place to a version that was promoted by hand
FIGURE, BEST, HOW = "figure.", "best.", "measured."
LINEAGE = "blip."  # begins the tags of a version that say what it came from, and those above
WEIGHTS = "*.safetensors"
READY, PENDING = "READY", "PENDING"  # how MLflow calls a model that is stored, and one that is being
SCHEME = "models:/"
CHECKPOINT = ".pth"
# How MLflow says: no such model, no such alias
NO_SUCH = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")


@dataclass(frozen=True)
class Version:
    """A version of a registered model: its number, weights' digest and figures.

    Attributes:
        best: of every figure the best that it and the champions before it reached, as long as the gate promoted them.
            Later candidates are held against these: against the figures of the champion alone, each could fall behind
            the one before it.
        how: of every figure a digest of the data and settings that it was measured with; its best was measured alike.
        lineage: what it came from, as `blip.tracking.lineage` names it.
        set_back: whether these weights were the champion until another version was promoted by hand.
        judged: whether the gate or a person has given it a place, or refused it one.
    """

    name: str
    number: int
    digest: str
    figures: dict[str, float]
    best: dict[str, float]
    how: dict[str, str]
    lineage: dict[str, str] = field(default_factory=dict)
    set_back: bool = False
    judged: bool = False

    def best_alike(self, how: Mapping[str, str]) -> dict[str, float]:
        """Its best of the figures that others, which were measured so, may be compared with."""
        return {name: value for name, value in self.best.items() if self.how.get(name, "") == how.get(name)}


def champion(name: str) -> Version | None:
    """The version that models:/NAME@champion opens, or None."""
    found = _by_alias(store.client(), name, CHAMPION)
    return _version(found) if found else None


def find(name: str, digest: str, served: str | None = None) -> Version | None:
    """The newest version with these weights, or None; of those that are served like this, where it is said."""
    for found in _versions(store.client(), name):
        if found.tags.get(DIGEST) == digest and served in (None, found.tags.get(SERVED)):
            return _version(found)
    return None


def with_same_weights(name: str, digest: str) -> list[Version]:
    """The versions with these weights, newest first."""
    return [_version(found) for found in _versions(store.client(), name) if found.tags.get(DIGEST) == digest]


def named(uri: str) -> Version:
    """The version that models:/NAME@ALIAS or models:/NAME/VERSION names.

    Raises:
        BlipError: there is no registry here, or no such model, alias or version (the message lists what there is).
    """
    return _version(_find_uri(_client_for(uri), uri))


def with_weights(digest: str) -> Version | None:
    """The newest version of any model that has these weights; None where there is none, or no registry."""
    if not is_here():
        return None
    found = store.client().search_model_versions(f"tags.`{DIGEST}` = '{digest}'")
    return _version(max(found, key=lambda one: one.creation_timestamp)) if found else None


def is_here() -> bool:
    """Whether there is a registry: the project's own, or a server's."""
    return bool(os.environ.get("MLFLOW_TRACKING_URI")) or store.in_project(store.DATABASE).is_file()


def weights_digest(directory: Path) -> str:
    """sha256 of a model directory's safetensors files, with the names of those that are not at its top.

    Raises:
        BlipError: it has none.
    """
    files = sorted(directory.rglob(WEIGHTS))
    if not files:
        raise BlipError(f"{directory}: no model there (no {WEIGHTS}); {way_to(directory)}")
    digest = hashlib.sha256()
    for file in files:
        if file.parent != directory:  # a member of a filter of several
            digest.update(file.relative_to(directory).as_posix().encode())
        digest.update(bytes.fromhex(file_sha256(file)))
    return digest.hexdigest()


def register(
    name: str,
    directory: Path,
    *,
    run_id: str,
    figures: Mapping[str, float],
    how: Mapping[str, str],
    tags: Mapping[str, str],
    task: str,
) -> tuple[Version, bool]:
    """Make a model directory a version of the registered model NAME, servable by MLflow.

    Args:
        run_id: the MLflow run that registers it.
        figures: what it scored.
        how: of every figure a digest of how it was measured.
        tags: its lineage.
        task: what the served model does unless told otherwise: caption, match, answer or embed.

    Returns:
        The version, and whether it is new: weights that the registry has already, served alike, keep their version and
        its lineage, and get the new figures.
    """
    client = store.client()
    digest, served = weights_digest(directory), packaging.digest(directory, task)
    scored = {FIGURE + metric: repr(value) for metric, value in figures.items()}
    scored |= {HOW + metric: value for metric, value in how.items()}
    notes = {**tags, DIGEST: digest, SERVED: served, **scored}
    known = find(name, digest, served)
    if known is not None:
        otherwise = [metric for metric, value in how.items() if known.how.get(metric) != value]
        otherwise = otherwise if known.judged else []  # what says that it was
        scored |= {BEST + metric: repr(figures[metric]) for metric in otherwise}  # no more the best of before
        return _tag(client, known, scored), False
    served_otherwise = find(name, digest)
    set_back = served_otherwise is not None and served_otherwise.set_back
    if set_back:
        notes[SET_BACK] = "true"
    model_id = _stored(client, name, run_id, notes)
    model_id = model_id or _log_model(client, name, directory, run_id=run_id, tags=notes, task=task)
    _create(client, name, f"BLIP, served for the task `{task}` unless told otherwise")
    created = client.create_model_version(name, f"{SCHEME}{model_id}", run_id, notes, model_id=model_id)
    scores = dict(figures), dict(figures), dict(how)
    return Version(name, int(created.version), digest, *scores, set_back=set_back), True


def promote(
    name: str, version: int | str, alias: str = CHAMPION, best: Mapping[str, float] | None = None
) -> Version:
    """Give a version the champion alias; the version that had it loses it.

    Args:
        best: what later candidates are held against; None: its own figures, as after a promotion by hand.

    Raises:
        BlipError: there is no registry here, or no such model or version; the message lists what there is.
    """
    client = _client_for(name)
    versions = _versions(client, name)
    wanted = next((found for found in versions if str(found.version) == str(version)), None)
    if wanted is None:
        raise BlipError(_unknown(client, name, f"version {version}", versions))
    chosen = _version(wanted)
    promoted = replace(chosen, best=chosen.figures if best is None else dict(best))
    for metric, value in promoted.best.items():
        client.set_model_version_tag(name, str(wanted.version), BEST + metric, repr(value))
    if best is None and alias == CHAMPION:
        _set_back(client, name, wanted)
    client.set_registered_model_alias(name, alias, str(wanted.version))
    challenger = _by_alias(client, name, CHALLENGER)
    if alias == CHAMPION and challenger is not None and str(challenger.version) == str(wanted.version):
        client.delete_registered_model_alias(name, CHALLENGER)
    return replace(promoted, set_back=False) if best is None else promoted


def _set_back(client: "MlflowClient", name: str, wanted: "ModelVersion") -> None:
    """Note that the champion loses its place to a version by hand, which is itself set back no more."""
    before = _by_alias(client, name, CHAMPION)
    if before is not None and str(before.version) != str(wanted.version):
        client.set_model_version_tag(name, str(before.version), SET_BACK, "true")
    if SET_BACK in wanted.tags:
        client.delete_model_version_tag(name, str(wanted.version), SET_BACK)


def resolve(model: str) -> Path:
    """The local path behind models:/NAME@ALIAS or models:/NAME/VERSION, a directory, a .pth file, or a hub id.

    A ~ is the home folder, also where no shell has read it, as in `--model ours=~/blip`.

    Raises:
        BlipError: there is none: no registry here, no such model, alias or version (the message lists what
            there is), no such directory, or the hub does not answer.
    """
    if not model:
        raise BlipError("the name of the model is empty; give a model directory, or models:/NAME@champion")
    if model.startswith(SCHEME):
        return _registered(model)
    if model.startswith("~/"):
        model = str(Path(model).expanduser())
    if Path(model).is_dir() or Path(model).is_file():
        return Path(model)
    if model.endswith(CHECKPOINT):
        raise BlipError(
            f"{model}: no such file; public checkpoints are listed in the README of salesforce/BLIP"
        )
    named = re.fullmatch(r"[\w.-]+/[\w.-]+", model) and not Path(model).parent.is_dir()
    if named and not Path(model).is_relative_to(MODELS):
        return _from_hub(model)
    raise BlipError(f"{model}: no such model directory; {way_to(Path(model))}, or name models:/NAME@champion")


def _client_for(name: str) -> "MlflowClient":
    """A client of the registry that has what is named. Raises BlipError where there is none."""
    if is_here():
        return store.client()
    otherwise = ", or give a model directory" if name.startswith(SCHEME) else ""
    raise BlipError(
        f"{name}: no model registry here ({store.in_project(store.DATABASE)} does not exist); run in the "
        f"project's folder, or set MLFLOW_TRACKING_URI{otherwise}"
    )


def _registered(uri: str) -> Path:
    client = _client_for(uri)
    found = _find_uri(client, uri)
    folder = _fetch(client, found)
    weights = sorted(folder.rglob(f"artifacts/*/{WEIGHTS}"))
    if not weights:
        raise BlipError(f"{uri}: version {found.version} holds no BLIP model directory ({folder})")
    return weights[0].parent


def _fetch(client: "MlflowClient", found: "ModelVersion") -> Path:
    """The MLflow model on this disk: where the local store has it, or downloaded once to .blip/models.

    Outside a project that is a folder of the user's cache.
    """
    source = client.get_model_version_download_uri(found.name, found.version)
    path = Path(unquote(source.removeprefix("file://")) if source.startswith("file://") else source)
    if path.is_absolute():
        return path
    kept = store.state() / "models"
    target = kept / f"{found.name}-{found.version}-{found.tags.get(DIGEST, '')[:12]}"
    with store.locked("models"), _as_default_store():
        from mlflow.artifacts import download_artifacts
        from mlflow.exceptions import MlflowException

        try:
            if not target.is_dir():
                with atomic_path(target) as temporary:
                    temporary.mkdir()
                    download_artifacts(artifact_uri=source, dst_path=str(temporary))
        except (MlflowException, OSError) as error:
            raise BlipError(
                f"{found.name} version {found.version} cannot be fetched: {str(error)[:200]}"
            ) from None
    return target


def _from_hub(name: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        folder = Path(snapshot_download(name, allow_patterns=["*.json", "*.txt", WEIGHTS]))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise BlipError(
            f"{name}: no such directory here, and the hub gives no model of that name ({str(error)[:200]}); where "
            "there is no connection, download it elsewhere and give its model directory"
        ) from None
    if (folder / "config.json").is_file() and not any(folder.glob(WEIGHTS)):
        raise BlipError(f"{name} has no {WEIGHTS} on the hub, and pickles are not opened: convert it there")
    return folder


def _find_uri(client: "MlflowClient", uri: str) -> "ModelVersion":
    path = uri.removeprefix(SCHEME).strip("/")
    name, separator, alias = path.partition("@")
    if separator:
        found = _by_alias(client, name, alias)
        what = f"alias {alias!r}"
    else:
        name, _, number = path.partition("/")
        found = next((v for v in _versions(client, name) if str(v.version) == number), None)
        what = f"version {number or '(none given)'}"
    if found is None:
        raise BlipError(f"{uri}: " + _unknown(client, name, what, _versions(client, name)))
    return found


def _unknown(client: "MlflowClient", name: str, what: str, versions: "list[ModelVersion]") -> str:
    if versions:
        numbers = ", ".join(
            str(version.version) for version in sorted(versions, key=lambda v: int(v.version))
        )
        aliases = client.get_registered_model(name).aliases
        named = "".join(f"; {alias} is version {number}" for alias, number in sorted(aliases.items()))
        return f"{name} has no {what}; it has version {numbers}{named}"
    models = ", ".join(sorted(model.name for model in client.search_registered_models()))
    known = models or "none yet (`dvc repro --force --single-item register` fills it)"
    return f"no registered model {name!r}; the registry has: {known}"


def _by_alias(client: "MlflowClient", name: str, alias: str) -> "ModelVersion | None":
    from mlflow.exceptions import MlflowException

    try:
        return client.get_model_version_by_alias(name, alias)
    except MlflowException as error:
        if error.error_code in NO_SUCH:
            return None
        raise BlipError(f"the registry does not say which version of {name} is {alias}: {error}") from None


def _versions(client: "MlflowClient", name: str) -> "list[ModelVersion]":
    """Newest first."""
    quoted = name.replace("'", "")
    return sorted(client.search_model_versions(f"name = '{quoted}'"), key=lambda v: -int(v.version))


def _version(found: "ModelVersion") -> Version:
    figures, best = _numbers(found, FIGURE), _numbers(found, BEST)
    digest, how = found.tags.get(DIGEST, ""), _tags(found, HOW)
    lineage = {
        tag: value
        for tag, value in sorted(found.tags.items())
        if tag.startswith(LINEAGE) and tag not in (DIGEST, SERVED, SET_BACK)
    }
    scores = figures, figures | best, how
    return Version(
        found.name, int(found.version), digest, *scores, lineage, SET_BACK in found.tags, bool(best)
    )


def _numbers(found: "ModelVersion", kind: str) -> dict[str, float]:
    return {metric: float(value) for metric, value in _tags(found, kind).items()}


def _tags(found: "ModelVersion", kind: str) -> dict[str, str]:
    return {tag.removeprefix(kind): value for tag, value in found.tags.items() if tag.startswith(kind)}


def _tag(client: "MlflowClient", known: Version, tags: Mapping[str, str]) -> Version:
    """The version, with these tags in place of those that it had."""
    for tag, value in tags.items():
        client.set_model_version_tag(known.name, str(known.number), tag, value)
    return _version(client.get_model_version(known.name, str(known.number)))


def _create(client: "MlflowClient", name: str, description: str) -> None:
    """Have a registered model of that name, which others may create at the same time."""
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name, description=description)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _stored(client: "MlflowClient", name: str, run_id: str, tags: Mapping[str, str]) -> str | None:
    """The same model, stored as a whole by a process that was ended before it became a version."""
    logged = _logged(client, name, run_id, tags)
    return next((model.model_id for model in logged if model.status == READY), None)


def _begun(client: "MlflowClient", name: str, run_id: str, tags: Mapping[str, str]) -> str | None:
    """The same model, which this run was storing when it was ended: it is stored there again, over what there is."""
    logged = [model for model in _logged(client, name, run_id, tags) if model.source_run_id == run_id]
    return next((model.model_id for model in logged if model.status == PENDING), None)


def _logged(
    client: "MlflowClient", name: str, run_id: str, tags: Mapping[str, str]
) -> "Sequence[LoggedModel]":
    """MLflow's logged models with these weights, served alike."""
    experiment = client.get_run(run_id).info.experiment_id
    same = [f"tags.`{tag}` = '{tags[tag]}'" for tag in (DIGEST, SERVED)]
    return client.search_logged_models([experiment], " AND ".join([f"name = '{name}'", *same]))


def _log_model(
    client: "MlflowClient", name: str, directory: Path, *, run_id: str, tags: Mapping[str, str], task: str
) -> str:
    """Store the model with the run that registers it; the id of MLflow's logged model."""
    from mlflow.entities import LoggedModelOutput

    model_id = _begun(client, name, run_id, tags)
    if model_id is None:
        experiment = client.get_run(run_id).info.experiment_id
        logged = client.create_logged_model(experiment, name, run_id, dict(tags), model_type="BLIP")
        model_id = logged.model_id
    with TemporaryDirectory() as folder:
        target = Path(folder) / "model"
        packaging.save(directory, target, task, run_id=run_id, model_id=model_id)
        client.log_model_artifacts(model_id, str(target))
    client.finalize_logged_model(model_id, READY)
    client.log_outputs(run_id, [LoggedModelOutput(model_id, step=0)])
    return model_id


@contextmanager
def _as_default_store() -> Iterator[None]:
    """MLflow's module-level functions read the store from the environment."""
    before = os.environ.get("MLFLOW_TRACKING_URI")
    os.environ["MLFLOW_TRACKING_URI"] = store.tracking_uri()
    try:
        yield
    finally:
        if before is None:
            del os.environ["MLFLOW_TRACKING_URI"]
