"""Workers of a Dask cluster for the stages that make shards.

    with dask_workers("tcp://scheduler:8786"): ...      # or "local": workers of this machine, for as long as it lasts

A stage that is started inside finds the scheduler's address in BLIP_DASK.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from blip.errors import BlipError

LOCAL = "local"


@contextmanager
def dask_workers(address: str | None) -> Iterator[None]:
    """Connect to a cluster, or start one, and tell the stages; without an address nothing happens.

    Raises:
        BlipError: no scheduler answers at the address.
    """
    if address is None:
        yield
        return
    from prefect_dask.task_runners import DaskTaskRunner

    own = {"threads_per_worker": 1, "dashboard_address": None}  # as many workers as there are usable cores
    runner = DaskTaskRunner(cluster_kwargs=own) if address == LOCAL else DaskTaskRunner(address=address)
    with runner:
        try:
            scheduler = runner.client.scheduler_info()["address"]
        except (OSError, ValueError) as error:
            raise BlipError(f"dask {address}: {error}; give a scheduler's address, or 'local'") from None
        before = os.environ.get("BLIP_DASK")
        os.environ["BLIP_DASK"] = scheduler
        try:
            yield
        finally:
            os.environ.pop("BLIP_DASK")
            if before is not None:
                os.environ["BLIP_DASK"] = before
