"""Settings: params.yaml, with a recipe laid over it, checked once and frozen.

settings = load_settings()                                   # params.yaml of the current directory
settings = load_settings(recipe="base-14m")                  # infra/recipes/base-14m.yaml over it
settings = load_settings(overrides={"pretrain.steps": 10})
"""

from blip.config.data import Columns, Download, Ingest, Origin, Source, SourceKind, Validate, Vocabulary
from blip.config.loading import (
    NO_RECIPE,
    PARAMS,
    RECIPES,
    load_settings,
    read_override,
    read_section,
)
from blip.config.section import Section
from blip.config.sections import (
    CapFilt,
    CaptioningEvaluation,
    ClassificationEvaluation,
    Compute,
    Evaluate,
    FilterHead,
    Finetune,
    Launch,
    Precision,
    Register,
    RerankBy,
    RetrievalEvaluation,
    Settings,
    VideoEvaluation,
    VqaEvaluation,
    Wish,
)
from blip.config.training import (
    Filter,
    Model,
    Objective,
    Optimiser,
    Run,
    SpikeRule,
    TextSize,
    Training,
    VisionSize,
)

__all__ = [
    "NO_RECIPE",
    "PARAMS",
    "RECIPES",
    "CapFilt",
    "CaptioningEvaluation",
    "ClassificationEvaluation",
    "Columns",
    "Compute",
    "Download",
    "Evaluate",
    "Filter",
    "FilterHead",
    "Finetune",
    "Ingest",
    "Launch",
    "Model",
    "Objective",
    "Optimiser",
    "Origin",
    "Precision",
    "Register",
    "RerankBy",
    "RetrievalEvaluation",
    "Run",
    "Section",
    "Settings",
    "Source",
    "SourceKind",
    "SpikeRule",
    "TextSize",
    "Training",
    "Validate",
    "VideoEvaluation",
    "VisionSize",
    "Vocabulary",
    "VqaEvaluation",
    "Wish",
    "load_settings",
    "read_override",
    "read_section",
]
