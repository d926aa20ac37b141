"""The stages and what each waits for: the graph of dvc.yaml, without the edges that others imply.

A test compares it with dvc.yaml. When several stages could start, the one listed first does.
"""

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
