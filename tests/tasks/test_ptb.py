"""Our tokens against those that the COCO evaluation's own program gave."""

import csv
from pathlib import Path

import pytest

from blip.tasks.ptb import tokenise

# Written by edu.stanford.nlp.process.PTBTokenizer -preserveLines -lowerCase (pycocoevalcap's jar, 3.4.1), less the
# punctuation that pycocoevalcap drops.
with (Path(__file__).parent / "ptb.tsv").open(newline="", encoding="utf-8") as handle:
    RECORDED = list(csv.DictReader(handle, delimiter="\t", quoting=csv.QUOTE_NONE))


@pytest.mark.parametrize("row", RECORDED, ids=lambda row: row["caption"])
def test_a_caption_has_the_tokens_of_the_official_evaluation(row: dict[str, str]) -> None:
    assert tokenise(row["caption"]) == row["tokens"]
