"""The DeepSpeed engine around an objective: ZeRO stage, optimiser and its parameter groups."""

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from blip.config import Optimiser, Training
from blip.model.vision import VisionTransformer
from blip.training.one_rank import leave_gradients, zero_settings
from blip.training.precision import has_fast_bfloat16

if TYPE_CHECKING:
    from deepspeed import DeepSpeedEngine

NOT_HIDDEN = ("embedding", "lm_head", "itm_head", "vision_projection", "text_projection")


def build_engine(objective: nn.Module, training: Training, optimiser: Optimiser) -> "DeepSpeedEngine":
    """Wrap an objective in DeepSpeed. Starts a process group of one when no launcher has started ranks."""
    if not training.compile:
        os.environ.setdefault(
            "TORCHDYNAMO_DISABLE", "1"
        )  # or DeepSpeed's Muon compiles itself at every start
    apply_switches(objective, training)
    with quiet():
        import deepspeed

        # The shared-memory all-reduce is compiled at the first start (a minute, and a C++ compiler): gloo instead.
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
        if not torch.distributed.is_initialized():
            start_process_group()
        client = build_optimiser(objective, optimiser)
        engine, *_ = deepspeed.initialize(
            model=objective, optimizer=client, config=deepspeed_config(training, optimiser)
        )
        leave_gradients(engine)
    return engine


def apply_switches(objective: nn.Module, training: Training) -> None:
    """Activation checkpointing of the image encoder, compilation of its blocks."""
    for module in objective.modules():
        if isinstance(module, VisionTransformer):
            module.activation_checkpointing = training.activation_checkpointing
            if training.compile:
                for block in module.blocks:
                    block.compile()


def deepspeed_config(training: Training, optimiser: Optimiser) -> dict[str, object]:
    """DeepSpeed's own settings. Weights stay float32: bfloat16 is autocast around the network alone."""
    return {
        "train_micro_batch_size_per_gpu": training.batch_size,
        "gradient_accumulation_steps": training.accumulate,
        "gradient_clipping": optimiser.clip,
        "zero_optimization": zero_settings(training.zero_stage),
        "zero_allow_untested_optimizer": True,
        "steps_per_print": 2**31,
        "wall_clock_breakdown": False,
    }


def start_process_group() -> None:
    """The launcher's environment, or a group of one on loopback with a port the system picks."""
    backend = "nccl" if torch.cuda.is_available() else "gloo"
    if "RANK" in os.environ:
        torch.distributed.init_process_group(backend)
        return
    os.environ.update(RANK="0", LOCAL_RANK="0", WORLD_SIZE="1")
    from torch.distributed import TCPStore  # pyright: ignore[reportPrivateImportUsage, reportAttributeAccessIssue]

    store = TCPStore("127.0.0.1", 0, world_size=1, is_master=True)
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(store.port))
    torch.distributed.init_process_group(backend, store=store, rank=0, world_size=1)


def build_optimiser(objective: nn.Module, settings: Optimiser) -> torch.optim.Optimizer:
    """AdamW, or DeepSpeed's Muon for the hidden matrices with AdamW for everything else."""
    groups = parameter_groups(objective, settings)
    if settings.name == "adamw":
        return torch.optim.AdamW(groups, fused=torch.cuda.is_available())
    from deepspeed.runtime.zero.muon import original_muon
    from deepspeed.runtime.zero.muon.muon_optimizer import MuonWithAuxAdam

    if not (torch.cuda.is_available() or has_fast_bfloat16("cpu")):
        # DeepSpeed orthogonalises in bfloat16 even where the CPU emulates it: 0.9 s a step of the demo, not 0.1.
        original_muon.ns_compute_dtype = lambda ns_method="gram": torch.float32
    return MuonWithAuxAdam(groups, adam_optimizer=torch.optim.AdamW)


def parameter_groups(objective: nn.Module, settings: Optimiser) -> list[dict[str, Any]]:
    """Parameters by rule (Muon, AdamW with and without decay) and by tower: the vision tower may learn slower."""
    groups: dict[tuple[str, bool], dict[str, Any]] = {}
    for name, parameter in trainable(objective):
        muon = settings.name == "muon" and is_hidden_matrix(name, parameter)
        parameter.use_muon = muon  # type: ignore[attr-defined]
        rule = "muon" if muon else "undecayed" if is_undecayed(name, parameter) else "decayed"
        in_vision = ".vision." in f".{name}"
        group = groups.setdefault((rule, in_vision), _group(rule, settings, in_vision))
        group["params"].append(parameter)
    return [groups[key] for key in sorted(groups, reverse=True)]


def _group(rule: str, settings: Optimiser, in_vision: bool) -> dict[str, Any]:
    scale = settings.vision_lr if in_vision else 1.0
    if rule == "muon":
        own: dict[str, Any] = {"lr": settings.lr, "momentum": settings.momentum, "weight_decay": 0.0}
        own |= {"use_muon": True, "ns_method": "standard"}
    else:
        decay = settings.weight_decay if rule == "decayed" else 0.0
        own = {"lr": settings.adam_lr, "betas": settings.betas, "eps": 1e-8, "weight_decay": decay}
        own |= {"use_muon": False} if settings.name == "muon" else {}
    return {"params": [], **own, "lr": own["lr"] * scale}


def trainable(objective: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Parameters that are trained, each once however often it is shared."""
    for name, parameter in objective.named_parameters():
        if parameter.requires_grad:
            yield name, parameter


def is_hidden_matrix(name: str, parameter: Tensor) -> bool:
    """Muon's share: 2-D weights inside the towers; embeddings, positions and heads are not."""
    return parameter.ndim == 2 and not any(word in name for word in NOT_HIDDEN)


def is_undecayed(name: str, parameter: Tensor) -> bool:
    """Norms, biases, positions, CLS and the temperature keep their scale."""
    return parameter.ndim < 2 or "position" in name or "class_embedding" in name


@contextmanager
def quiet() -> Iterator[None]:
    """DeepSpeed and torch.distributed warn about themselves at start; none of it is for the user."""
    import logging

    os.environ.setdefault("DS_ACCELERATOR", "cuda" if torch.cuda.is_available() else "cpu")
    logging.getLogger("DeepSpeed").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
