"""The flows: the whole pipeline and each phase. They decide what runs and when; the stages do the work.

    python -m flows.demo                                       # end_to_end in this process
    prefect deployment run end-to-end/default --param parallel=1  # the same, deployed (infra/prefect.yaml)

Parameters of every flow:
    recipe: a file of infra/recipes laid over params.yaml, by name; "none" for none, None for what params.yaml
        names.
    overrides: dotted settings to values, as {"pretrain.steps": 500}. Both are written into params.yaml, where
        DVC sees them and the next run finds them.
    parallel: how many stages may run at once; of those that train on GPUs or on the nodes of a hostfile, one.
"""

from collections.abc import Collection, Sequence
from typing import Annotated, Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed
from pydantic import Field

from blip.config.dvc_yaml import has_stage
from blip.config.graph import PHASES, STAGES
from blip.errors import BlipError
from blip.machine import has_gpu
from blip.room import lacks_room, no_room
from flows.cluster import dask_workers
from flows.graph import TRAINING, up_to, upstream, with_downstream
from flows.parameters import parameters_on_trial
from flows.project import SETTINGS, changed_stages, one_run_at_a_time, settings_in_use
from flows.results import publish_capfilt, publish_results
from flows.schedule import run_in_order
from flows.stage import allow_attempts

Recipe = str | None
Overrides = dict[str, Any] | None
Parallel = Annotated[int, Field(ge=1)]


@flow(name="end-to-end")
def end_to_end(
    recipe: Recipe = None, overrides: Overrides = None, parallel: Parallel = 2, until: str | None = None
) -> State:
    """Sources to champions in the registry and a report; `until` names the last stage wanted."""
    try:
        names = up_to(until)
        if until and not has_stage(until):
            raise BlipError(f"dvc.yaml has no stage {until} any more; name one that it has")
    except BlipError as error:
        return refused(error)
    state = bring_up_to_date(names, recipe, overrides, parallel)
    if state.is_completed() and "capfilt" in names:
        publish_capfilt()
    if state.is_completed() and until is None:
        publish_results()
    return state


@flow(name="data")
def data(
    recipe: Recipe = None, overrides: Overrides = None, parallel: Parallel = 2, dask: str | None = None
) -> State:
    """Sources to validated pairs datasets; `dask` is the address of a scheduler whose workers make the shards."""
    try:
        with dask_workers(dask):
            return bring_up_to_date(PHASES["data"], recipe, overrides, parallel)
    except BlipError as error:
        return refused(error)


@flow(name="pretraining")
def pretraining(recipe: Recipe = None, overrides: Overrides = None, parallel: Parallel = 2) -> State:
    """BLIP on the human and the noisy web pairs."""
    return bring_up_to_date(PHASES["pretraining"], recipe, overrides, parallel)


@flow(name="capfilt")
def capfilt(recipe: Recipe = None, overrides: Overrides = None, parallel: Parallel = 2) -> State:
    """Captioner and filter, the bootstrapped dataset, and a new BLIP pre-trained on it."""
    state = bring_up_to_date(PHASES["capfilt"], recipe, overrides, parallel)
    if state.is_completed():
        publish_capfilt()
    return state


@flow(name="finetuning")
def finetuning(recipe: Recipe = None, overrides: Overrides = None, parallel: Parallel = 2) -> State:
    """One model a task, from the bootstrapped one."""
    return bring_up_to_date(PHASES["finetuning"], recipe, overrides, parallel)


@flow(name="evaluation")
def evaluation(recipe: Recipe = None, overrides: Overrides = None, parallel: Parallel = 2) -> State:
    """Every task on held-out data, and the bootstrapped model against the noisy one."""
    return bring_up_to_date(PHASES["evaluation"], recipe, overrides, parallel)


@flow(name="release")
def release(recipe: Recipe = None, overrides: Overrides = None, parallel: Parallel = 2) -> State:
    """Models that pass the gate into the registry, and the report."""
    state = bring_up_to_date(PHASES["release"], recipe, overrides, parallel)
    if state.is_completed():
        publish_results()
    return state


def bring_up_to_date(names: Collection[str], recipe: Recipe, overrides: Overrides, parallel: int) -> State:
    """Run those of `names` that are out of date; gives the state for the flow to end with."""
    allow_attempts()
    try:
        with one_run_at_a_time():
            with parameters_on_trial(recipe, overrides or {}):
                names, stale = in_pipeline(names), stale_stages()
                require_inputs(names, stale)
            return summary(names, run_in_order(names, stale, parallel, one_at_a_time()))
    except BlipError as error:
        return refused(error)
    except OSError as error:
        if not lacks_room(error):
            raise
        return Failed(message=no_room(error))


def in_pipeline(names: Collection[str]) -> list[str]:
    """Those of the stages that dvc.yaml has, which may be without a task. Raises BlipError if it has none of them."""
    there = [name for name in names if has_stage(name)]
    if not there:
        raise BlipError(f"dvc.yaml has none of these stages: {', '.join(names)}")
    return there


def stale_stages() -> frozenset[str]:
    """The stages to run: those that have changed, and all that depend on one.

    Raises:
        BlipError: a stage that this does not know has changed, so that nothing says what waits for it.
    """
    changed = changed_stages()
    if unknown := sorted(name for name in changed - STAGES.keys() - {SETTINGS} if has_stage(name)):
        raise BlipError(
            f"dvc.yaml has stages that the flow does not know: {', '.join(unknown)}; bring them up to date with "
            "`dvc repro`, or enter them in blip/config/graph.py"
        )
    return frozenset(filter(has_stage, with_downstream(changed)))


def one_at_a_time() -> frozenset[str]:
    """Those of the stages that would take each other's GPUs, or meet at the same port of the first node."""
    settings = settings_in_use()
    on_gpus = settings.compute.device == "cuda" or (settings.compute.device == "auto" and has_gpu())
    return TRAINING if on_gpus or settings.launch.hostfile else frozenset()


def require_inputs(names: Sequence[str], stale: frozenset[str]) -> None:
    """Raise BlipError if a stage outside `names` has to run first."""
    inputs = frozenset().union(*(upstream(name) for name in names)) - frozenset(names)
    if needed := [stage for stage in STAGES if stage in inputs & stale]:
        raise BlipError(
            f"{names[0]} needs stages that are not up to date: {', '.join(needed)}; "
            f"run the flow of their phase first, or end-to-end with until={names[-1]}"
        )


def summary(names: Sequence[str], ended: dict[str, State]) -> State:
    """Completed with how many stages ran, or Failed with each failure's message and what it held up."""
    failures = [
        state.message or f"{name}: {state.name}" for name, state in ended.items() if not state.is_completed()
    ]
    if not failures:
        cached = sum(state.name == "Cached" for state in ended.values())
        return Completed(message=f"{len(ended) - cached} stages ran, {cached} were up to date")
    held_up = [name for name in names if name not in ended]
    after = f"\nnot run because of it: {', '.join(held_up)}" if held_up else ""
    return Failed(message="\n".join(failures) + after)


def refused(error: BlipError) -> State:
    """The end of a run that cannot start."""
    return Failed(message=str(error))
