"""Stage capfilt: bootstrap the web pairs with the captioner and the filter (BLIP paper, section 3.3).

Data in: data/datasets/web and human, models/captioner and filter.
Out: data/datasets/bootstrapped with audit.parquet; how the filter did against the pool's known truth.
"""

from blip.capfilt.bootstrap import AUDIT_FILE
from blip.config import Settings
from blip.stages.bootstrapping import bootstrapped_figures, write_bootstrapped
from blip.stages.training import DATASETS
from blip.tasks.inputs import model_directory
from blip.tracking.runs import StageRun

TARGET = DATASETS / "bootstrapped"


def run(settings: Settings, run: StageRun, variant: str | None) -> dict[str, float]:
    """Bootstrap and compare with the truth."""
    write_bootstrapped(TARGET, model_directory("captioner"), model_directory("filter"), settings)
    run.log_artifact(TARGET / AUDIT_FILE)
    return bootstrapped_figures(TARGET, settings)
