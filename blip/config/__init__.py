"""Settings: params.yaml, with a recipe laid over it, checked once and frozen.

settings = load_settings()                                   # params.yaml of the current directory
settings = load_settings(recipe="base-14m")                  # infra/recipes/base-14m.yaml over it
settings = load_settings(overrides={"pretrain.steps": 10})
"""

from blip.config.data import Columns, Download, Ingest, Source, SourceKind, Validate, Vocabulary, is_address
from blip.config.loading import (
    NO_RECIPE,
    PARAMS,
    WRITTEN,
    load_settings,
    overruled,
    read_override,
    read_section,
    read_written,
)
from blip.config.sections import CapFilt, Compute, FilterHead, Launch, Precision, RerankBy, Settings, Wish
from blip.config.training import IMMATERIAL, Model, Objective, Optimiser, Run, SpikeRule, Training
from blip.config.watched import watched

__all__ = [
    "IMMATERIAL",
    "NO_RECIPE",
    "PARAMS",
    "WRITTEN",
    "CapFilt",
    "Columns",
    "Compute",
    "Download",
    "FilterHead",
    "Ingest",
    "Launch",
    "Model",
    "Objective",
    "Optimiser",
    "Precision",
    "RerankBy",
    "Run",
    "Settings",
    "Source",
    "SourceKind",
    "SpikeRule",
    "Training",
    "Validate",
    "Vocabulary",
    "Wish",
    "is_address",
    "load_settings",
    "overruled",
    "read_override",
    "read_section",
    "read_written",
    "watched",
]
