"""Where the stages read and write, below the project's folder; dvc.yaml names the same."""

from pathlib import Path

DATASETS = Path("data/datasets")
VALIDATED = DATASETS / "validated"  # what validation set aside, a list a dataset
BOOTSTRAPPED = (
    "bootstrapped"  # the dataset that CapFilt makes, and below ROUNDS those of its rounds after the first
)
ROUNDS = "rounds"
VOCABULARY = DATASETS / "vocabulary"
MODELS = Path("models")
RUNS = Path("runs")  # a folder a training run: its curve, its checkpoints
METRICS = Path("metrics")
CURVES = METRICS / "curves"
SUMMARY = METRICS / "summary.json"
REPORTS = Path("reports")
DATA_DOCS = REPORTS / "data_docs"
GALLERY = REPORTS / "capfilt"
EVALUATED = REPORTS / "evaluate"
REPORT = REPORTS / "pipeline"
