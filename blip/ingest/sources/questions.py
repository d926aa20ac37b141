"""Questions about a picture or clip, as readers gather them."""

from collections import Counter
from collections.abc import Iterable

from blip.data.sample import Question, Sample
from blip.ingest.sources.cells import words
from blip.ingest.sources.files import Folder
from blip.ingest.sources.refused import Refused

GENOME_WEIGHT = 0.2  # of an answer of Visual Genome's beside VQA v2's ten, in BLIP's recipe

# Text, share of each answer, whether it is open, and the number that a server knows it by
Asked = tuple[str, dict[str, float], bool, int | None]


def shares(answers: Iterable[str], whole: float = 1.0) -> dict[str, float]:
    """Each answer's share of the people who answered, times `whole`; empty answers do not count."""
    counts = Counter(text for answer in answers if (text := words(answer)))
    return {answer: whole * count / counts.total() for answer, count in counts.items()}


def sample_of(folder: Folder, name: str, asked: Iterable[Asked]) -> Sample | Refused:
    """The sample of a picture or clip with its questions."""
    found = folder.find(name)
    if isinstance(found, Refused):
        return found
    questions = tuple(Question(text, answers, open_, id=number) for text, answers, open_, number in asked)
    return Sample(found.key, found.data, found.extension, questions=questions, name=found.renamed)
