"""What settings read: no training on data for evaluation, and no evaluation on data for training.

refuse_role({"pretrain": ["human", "test"]}, "evaluation", settings.ingest)     # ValueError: pretrain learns from test
"""

from collections.abc import Mapping
from typing import Literal

from blip.config.data import Ingest

WRONG = {
    "evaluation": "{name} learns from {names}, {which}: what is measured on it would be known by heart",
    "train": "{name} measures on {names}, {which}: what was learnt by heart would pass for known",
}
"""What is wrong with data of a role where those of the other are read."""


def refuse_role(reads: Mapping[str, list[str]], role: Literal["train", "evaluation"], ingest: Ingest) -> None:
    """Raises ValueError with the first of these settings that reads datasets of that role."""
    for name, read in reads.items():
        wrong = [one for one in dict.fromkeys(read) if ingest.role_of(one) == role]
        if wrong:
            which = f"role: {role} in ingest.datasets"
            told = WRONG[role].format(name=name, names=", ".join(wrong), which=which)
            raise ValueError(f"{told}; name other data, or mend the role")
