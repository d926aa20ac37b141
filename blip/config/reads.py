"""What settings read: datasets that there are, none for evaluation to train on, and none for training to evaluate on.

refuse_role({"pretrain": ["human", "test"]}, "evaluation", settings.ingest)     # ValueError: pretrain learns from test
refuse_unknown({"capfilt": ["wbe"]}, ["human", "web"])      # BadArguments: ... did you mean 'web'?
"""

import difflib
from collections.abc import Collection, Mapping
from typing import Literal

from blip.config.data import Ingest
from blip.config.places import DATASETS
from blip.errors import BadArguments

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


def refuse_unknown(reads: Mapping[str, list[str]], known: Collection[str]) -> None:
    """Raises BadArguments with the first of these settings that reads what is not known and not on this disk."""
    for name, read in reads.items():
        for dataset in read:
            if dataset not in known and not (DATASETS / dataset / "manifest.json").is_file():
                close = difflib.get_close_matches(dataset, known, n=1)
                way = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(known)}"
                raise BadArguments(
                    f"{name} reads {dataset!r}, which ingest.datasets does not have, no stage makes and "
                    f"{DATASETS} has not; {way}"
                )
