"""The DeepSpeed engine around an objective: ZeRO stage, accumulation, clipping and the process group."""

import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta
from functools import wraps
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from blip.config import Optimiser, Training
from blip.errors import BlipError
from blip.model.compilation import switch_off
from blip.model.device import device_of
from blip.model.ranks import whole
from blip.training.launch.store import rank_and_world, ranks_store
from blip.training.one_rank import leave_gradients, zero_settings
from blip.training.optimiser import build_optimiser, clip_adam_alone, deepspeed_clips
from blip.training.switches import apply_switches

if TYPE_CHECKING:
    from deepspeed import DeepSpeedEngine


def build_engine(
    objective: nn.Module, training: Training, optimiser: Optimiser, wait: timedelta | None = None
) -> "DeepSpeedEngine":
    """Wrap an objective in DeepSpeed. Starts a process group of one when no launcher has started ranks.

    Args:
        wait: how long ranks wait for each other; None: as long as the backend does by itself.
    """
    if not training.compile:
        switch_off()  # or DeepSpeed's Muon compiles itself at every start
    apply_switches(objective, training)
    with quiet():
        import deepspeed

        # The shared-memory all-reduce is compiled at the first start (a minute, and a C++ compiler): gloo instead.
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
        if not torch.distributed.is_initialized():
            start_process_group(wait)
        os.environ.setdefault("LOCAL_RANK", "0")  # DeepSpeed asks for it, of a group of one too
        client = build_optimiser(objective, optimiser)
        engine, *_ = deepspeed.initialize(
            model=objective, optimizer=client, config=deepspeed_config(training, optimiser)
        )
        leave_gradients(engine)
        if wait is not None:
            _wait_as_long(wait)
    if optimiser.clip and not deepspeed_clips(optimiser):
        clip_adam_alone(engine, optimiser.clip)
    return engine


def deepspeed_config(training: Training, optimiser: Optimiser) -> dict[str, object]:
    """DeepSpeed's own settings. Weights stay float32: bfloat16 is autocast around the network alone."""
    return {
        "train_micro_batch_size_per_gpu": training.batch_size,
        "gradient_accumulation_steps": training.accumulate,
        "gradient_clipping": optimiser.clip if deepspeed_clips(optimiser) else 0.0,
        "zero_optimization": zero_config(training.zero_stage, optimiser.name),
        "zero_allow_untested_optimizer": True,
        "steps_per_print": 2**31,
        "wall_clock_breakdown": False,
    }


def zero_config(stage: int, optimiser: str) -> dict[str, object]:
    """Stage 3 as exact as the others: without a linear layer of its own, and Muon on whole gradients.

    All weights are divided, however small: those that DeepSpeed would keep whole stop a resumed run in its second step.
    """
    if stage < 3:
        return zero_settings(stage)
    exact = {"memory_efficient_linear": False, "reduce_scatter": optimiser != "muon"}
    return {"stage": stage, "stage3_param_persistence_threshold": 0, **exact}


def make_whole(engine: "DeepSpeedEngine", objective: nn.Module) -> None:
    """End a run whose parameters ZeRO 3 has divided: every rank has all of them again. Nothing to do for the others."""
    if engine.zero_optimization_stage() < 3:
        return
    from deepspeed.runtime.zero.partition_parameters import ZeroParamStatus

    parameters = list(objective.parameters())
    with whole(parameters):
        values = [parameter.detach().clone() for parameter in parameters]
    engine.destroy()
    for parameter, value in zip(parameters, values, strict=True):
        parameter.data = value
        parameter.ds_status = ZeroParamStatus.AVAILABLE  # type: ignore[attr-defined]


def compute_within(objective: nn.Module, region: Callable[[], AbstractContextManager[Any]]) -> None:
    """Have the objective's forwards run in `region`, autocast's, until `let_go`.

    On a GPU DeepSpeed's engine switches an autocast off that it is called in and did not open itself; its own would
    reduce gradients in 16 bits.
    """
    forward = objective.forward

    @wraps(forward)
    def within(*args: object, **kwargs: object) -> object:
        with region():
            return forward(*args, **kwargs)

    objective.forward = within


def let_go(engine: "DeepSpeedEngine", objective: nn.Module) -> None:
    """Take off DeepSpeed's hooks: they keep the optimiser with the objective, and the weights with the process."""
    vars(objective).pop("forward", None)  # that of `compute_within`
    if engine.zero_optimization_stage() == 3:
        return  # `make_whole` has done what can be done
    for hook in (engine.module_forward_pre_hook, engine.module_forward_post_hook):
        if hook is not None:
            hook.remove()
    engine.destroy()
    for parameter in objective.parameters():
        for name, value in list(vars(parameter).items()):
            if getattr(value, "__self__", None) is parameter:
                delattr(parameter, name)


def start_process_group(wait: timedelta | None = None) -> None:
    """The launcher's environment, or a group of one on loopback with a port the system picks."""
    backend = "nccl" if _accelerator() == "cuda" else "gloo"
    rank, world = rank_and_world()
    store = ranks_store(wait)  # of the agent that started this rank; without one, as the environment says
    if store or world > 1:
        named = {"store": store, "rank": rank, "world_size": world} if store else {}
        torch.distributed.init_process_group(backend, timeout=wait, **named)
        return
    os.environ.update(RANK="0", LOCAL_RANK="0", WORLD_SIZE="1")
    from torch.distributed import TCPStore  # pyright: ignore[reportPrivateImportUsage, reportAttributeAccessIssue]

    store = TCPStore("127.0.0.1", 0, world_size=1, is_master=True)
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(store.port))
    torch.distributed.init_process_group(backend, timeout=wait, store=store, rank=0, world_size=1)


def _wait_as_long(wait: timedelta) -> None:
    """In every group of this process: DeepSpeed reduces in its own, which it starts with the backend's time-out."""
    from torch.distributed import distributed_c10d

    for group in distributed_c10d._world.pg_map:
        distributed_c10d._set_pg_timeout(wait, group)


def choose_device(wanted: str) -> None:
    """Have DeepSpeed compute on ``cpu`` or ``cuda``, or on a GPU where there is one (``auto``); before it is imported.

    Raises:
        BlipError: there is no GPU that torch can use.
    """
    if wanted == "cuda" and not torch.cuda.is_available():
        raise BlipError(
            f"compute.device is cuda and torch {torch.__version__} finds no GPU it can use here; `nvidia-smi` tells "
            "whether the driver does. Set compute.device to cpu to train without one"
        )
    if wanted != "auto":
        os.environ["DS_ACCELERATOR"] = wanted


def _accelerator() -> str:
    return device_of(os.environ.get("DS_ACCELERATOR") or "auto")


@contextmanager
def quiet() -> Iterator[None]:
    """DeepSpeed and torch.distributed warn about themselves at start; none of it is for the user."""
    import logging

    os.environ["DS_ACCELERATOR"] = _accelerator()
    logging.getLogger("DeepSpeed").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
