"""Parameter groups: which weight is moved by which rule, at which rate, with or without weight decay.

torch.optim.AdamW(parameter_groups(objective, run.optimiser))
"""

import re
from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn

from blip.config import Optimiser

NOT_HIDDEN = ("embedding", "lm_head", "itm_head", "cls_head", "vision_projection", "text_projection")
LAYER = re.compile(r"\.(?:blocks|layers)\.(\d+)\.")
EMBEDDINGS = ("embedding",)  # of patches, CLS, words, positions: below the first layer


def parameter_groups(objective: nn.Module, settings: Optimiser) -> list[dict[str, Any]]:
    """Parameters by rule (Muon, AdamW with and without decay), by tower, whose rate may differ, and by depth."""
    named = list(trainable(objective))
    layers = {tower: _layers(named, tower) for tower in (False, True)}
    groups: dict[tuple[str, bool, int], dict[str, Any]] = {}
    for name, parameter in named:
        muon = settings.name == "muon" and is_hidden_matrix(name, parameter)
        parameter.use_muon = muon  # type: ignore[attr-defined]
        decayed = settings.decay_all or not is_undecayed(name, parameter)
        rule = "muon" if muon else "decayed" if decayed else "undecayed"
        in_vision = ".vision." in f".{name}"
        depth = below_the_heads(name, layers[in_vision]) if settings.layer_decay < 1 else 0
        key = (rule, in_vision, -depth)
        group = groups.setdefault(key, _group(rule, settings, in_vision, depth))
        group["params"].append(parameter)
    return [groups[key] for key in sorted(groups, reverse=True)]


def _group(rule: str, settings: Optimiser, in_vision: bool, depth: int) -> dict[str, Any]:
    scale = (settings.vision_lr if in_vision else 1.0) * settings.layer_decay**depth
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


def below_the_heads(name: str, layers: int) -> int:
    """How many steps of layer decay a weight of a tower with that many layers is away from the heads (BEiT's rule).

    0 for heads and what follows the last layer, 1 for the last layer, ``layers + 1`` for the embeddings.
    """
    found = LAYER.search(f".{name}")
    if found:
        return layers - int(found[1])
    return layers + 1 if any(word in name for word in EMBEDDINGS) else 0


def _layers(named: list[tuple[str, Tensor]], in_vision: bool) -> int:
    """How many layers a tower has; encoder and decoder of the texts have equally many."""
    found = [LAYER.search(f".{name}") for name, _ in named if (".vision." in f".{name}") == in_vision]
    return max((int(one[1]) + 1 for one in found if one), default=0)
