"""The stages by phase, and what each waits for: the graph of dvc.yaml, without the edges that others imply.

A test compares it with dvc.yaml. When several stages could start, the one listed first does.
"""

PHASES: dict[str, dict[str, tuple[str, ...]]] = {
    "data": {
        "ingest": (),
        "validate": ("ingest",),
    },
    "pretraining": {
        "pretrain": ("validate",),
    },
    "capfilt": {
        "captioner": ("pretrain",),
        "filter": ("pretrain",),
        "capfilt": ("captioner", "filter"),
        "pretrain_bootstrapped": ("capfilt",),
        "rounds": ("pretrain_bootstrapped",),
    },
    "finetuning": {
        "finetune@vqa": ("rounds",),
        "finetune@retrieval": ("rounds",),
        "finetune@captioning": ("rounds",),
    },
    "evaluation": {
        "evaluate@retrieval": ("finetune@retrieval",),
        "compare": ("finetune@retrieval",),
        "evaluate@classification": ("finetune@retrieval",),
        "evaluate@video": ("finetune@retrieval",),
        "evaluate@captioning": ("finetune@captioning",),
        "evaluate@vqa": ("finetune@vqa",),
    },
    "release": {
        "register": (
            "compare",
            "evaluate@retrieval",
            "evaluate@captioning",
            "evaluate@vqa",
            "evaluate@classification",
            "evaluate@video",
        ),
        "report": ("register",),
    },
}

STAGES = {name: waits_for for stages in PHASES.values() for name, waits_for in stages.items()}
