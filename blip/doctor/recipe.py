"""Everything that can be known of a training stage before a GPU-hour is spent.

for finding in examine_recipe(settings, "pretrain", Devices(gpu="h100", per_node=8, nodes=4), price=2.5):
    print(finding.subject, finding.state, finding.text)
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial, update_wrapper

from blip.config import Settings
from blip.doctor import cache, devices, inputs, numbers, services, speed
from blip.doctor.finding import Finding, found
from blip.doctor.plan import TRAINED, Devices, Plan, job_of, make_plan
from blip.doctor.sources import sources_of
from blip.stages import STAGES, is_left_out

Check = Callable[[Plan], Finding]


def examine_recipe(
    settings: Settings,
    stage: str,
    wanted: Devices,
    samples: float | None = None,
    price: float | None = None,
) -> Iterator[Finding]:
    """Check one training stage; nothing is written but MLflow's store, and nothing is trained.

    Args:
        settings: with the recipe and what is laid over it.
        wanted: the devices that are meant, where they are not this machine's.
        samples: of an epoch, where the data are not here.
        price: of a device for an hour.

    Raises:
        BadArguments: the stage does not train, or the GPU is not known.
    """
    plan = make_plan(settings, stage, wanted)
    network = numbers.network(plan)
    yield from (devices.devices(plan), network)
    if network.state != "bad":
        yield from _of(plan, devices.memory, numbers.batch, numbers.length(samples))
    yield from found([update_wrapper(partial(sources_of, settings), sources_of)])
    yield from inputs.datasets(plan)
    yield from _of(plan, inputs.start, inputs.vocabulary)
    if network.state != "bad":
        yield from _of(plan, inputs.disk)
    yield from _of(plan, cache.cache)
    yield from found((services.tracking, services.prefect))
    if network.state != "bad":
        yield from _of(plan, speed.speed, speed.cost(samples, price))


def examine_others(settings: Settings, stage: str, wanted: Devices) -> Iterator[Finding]:
    """What stops the other training stages of a pipeline: sizes, ranks and batches that do not fit, each by its stage.

    Raises:
        BadArguments: the stage does not train, or the GPU is not known.
    """
    plan = make_plan(settings, stage, wanted)
    for other in (name for name in TRAINED if name != stage and not _is_idle(name, settings)):
        its = replace(plan, stage=other, job=job_of(settings, other))
        checks = [numbers.network, numbers.batch, numbers.length(None)]
        for finding in _of(its, *checks if plan.assumed else (devices.devices, *checks)):
            if finding.state == "bad":
                yield replace(finding, subject=f"{other} {finding.subject}")


def _is_idle(stage: str, settings: Settings) -> bool:
    """Whether the settings leave a stage out, or have no data for one that is run by hand."""
    task = stage.rpartition("@")[2]
    return is_left_out(stage, settings) or (
        STAGES[stage].by_hand and None in (getattr(settings.finetune, task), getattr(settings.evaluate, task))
    )


def _of(plan: Plan, *checks: Check) -> Iterator[Finding]:
    """The checks of a plan, each safe from the others."""
    return found([update_wrapper(partial(check, plan), check) for check in checks])
