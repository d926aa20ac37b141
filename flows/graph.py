"""The stages and what each waits for: the graph of dvc.yaml, without the edges that others imply.

A test compares it with dvc.yaml. When several stages could start, the one listed first does.
"""

from collections.abc import Iterable

from blip.errors import BadArguments

STAGES: dict[str, tuple[str, ...]] = {
    "ingest": (),
    "validate": ("ingest",),
    "pretrain": ("validate",),
    "captioner": ("pretrain",),
    "filter": ("pretrain",),
    "capfilt": ("captioner", "filter"),
    "pretrain_bootstrapped": ("capfilt",),
    "rounds": ("pretrain_bootstrapped",),
    "finetune@vqa": ("rounds",),
    "finetune@retrieval": ("rounds",),
    "finetune@captioning": ("rounds",),
    "evaluate@retrieval": ("finetune@retrieval",),
    "compare": ("finetune@retrieval",),
    "evaluate@classification": ("finetune@retrieval",),
    "evaluate@video": ("finetune@retrieval",),
    "evaluate@captioning": ("finetune@captioning",),
    "evaluate@vqa": ("finetune@vqa",),
    "register": (
        "compare",
        "evaluate@retrieval",
        "evaluate@captioning",
        "evaluate@vqa",
        "evaluate@classification",
        "evaluate@video",
    ),
    "report": ("register",),
}

PHASES: dict[str, tuple[str, ...]] = {
    "data": ("ingest", "validate"),
    "pretraining": ("pretrain",),
    "capfilt": ("captioner", "filter", "capfilt", "pretrain_bootstrapped", "rounds"),
    "finetuning": ("finetune@vqa", "finetune@retrieval", "finetune@captioning"),
    "evaluation": (
        "evaluate@retrieval",
        "compare",
        "evaluate@classification",
        "evaluate@video",
        "evaluate@captioning",
        "evaluate@vqa",
    ),
    "release": ("register", "report"),
}


def upstream(name: str) -> frozenset[str]:
    """Every stage that `name` needs, directly or not, without itself."""
    return frozenset(STAGES[name]).union(*(upstream(parent) for parent in STAGES[name]))


def up_to(name: str | None) -> tuple[str, ...]:
    """The stages that `name` needs, and itself, in order; all of them for None. Raises BadArguments."""
    if name is None:
        return tuple(STAGES)
    if name not in STAGES:
        raise BadArguments(f"there is no stage {name!r}; the stages are: {', '.join(STAGES)}")
    return tuple(stage for stage in STAGES if stage == name or stage in upstream(name))


def with_downstream(names: Iterable[str]) -> frozenset[str]:
    """The stages named and every stage that depends on one of them."""
    changed = frozenset(names)
    return frozenset(stage for stage in STAGES if stage in changed or upstream(stage) & changed)
