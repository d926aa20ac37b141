"""Everything that can be known of a training stage before a GPU-hour is spent.

for finding in examine_recipe(settings, "pretrain", Devices(gpu="h100", per_node=8, nodes=4), price=2.5):
    print(finding.subject, finding.state, finding.text)
"""

from collections.abc import Callable, Iterator
from functools import partial, update_wrapper

from blip.config import Settings
from blip.doctor import cache, devices, inputs, numbers, services, speed
from blip.doctor.finding import Finding, found
from blip.doctor.plan import Devices, Plan, make_plan
from blip.doctor.sources import sources_of

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


def _of(plan: Plan, *checks: Check) -> Iterator[Finding]:
    """The checks of a plan, each safe from the others."""
    return found([update_wrapper(partial(check, plan), check) for check in checks])
