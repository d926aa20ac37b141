"""The vocabulary of public checkpoints: their files hold none, it is that of bert-base-uncased.

tokenizer = find_tokenizer(entries=30524, given=None, beside=Path("checkpoints"))
"""

from pathlib import Path

from blip.data.text import Tokenizer
from blip.errors import BlipError

HUB_NAMES = ("google-bert/bert-base-uncased", "bert-base-uncased")  # the second in caches of former years
FILES = ["vocab.txt", "tokenizer.json"]
BERT_SIZE, BERT_PLACES = 30522, (0, 100, 101, 102, 103)  # of [PAD] [UNK] [CLS] [SEP] [MASK]


def find_tokenizer(entries: int, given: Path | None, beside: Path) -> Tokenizer:
    """The tokenizer of a network with `entries` word embeddings, [DEC] and [ENC] included.

    Args:
        given: a vocab.txt or a tokenizer's directory, as the user named it.
        beside: a folder that may have a vocab.txt; otherwise the hub's cache, then the hub are asked.

    Raises:
        BlipError: there is none, or it is another network's.
    """
    if given is None and (beside / FILES[0]).is_file():
        given = beside / FILES[0]
    place = _from_hub(beside) if given is None else given
    if not place.exists():
        raise BlipError(
            f"tokenizer {place}: no such file or directory; name a vocab.txt or a tokenizer's folder"
        )
    tokenizer = Tokenizer.from_directory(place) if place.is_dir() else Tokenizer.from_vocabulary(place)
    size = len(tokenizer.vocabulary)
    if size != entries - 2:
        raise BlipError(
            f"vocabulary {place} has {size:,} entries; the network's {entries:,} word embeddings ask for "
            f"{entries - 2:,} and [DEC], [ENC] behind them. bert-base-uncased has {BERT_SIZE:,}"
        )
    places = (tokenizer.pad, tokenizer.unk, tokenizer.cls, tokenizer.sep, tokenizer.mask)
    if size == BERT_SIZE and places != BERT_PLACES:
        raise BlipError(
            f"vocabulary {place} is not that of bert-base-uncased: [PAD] [UNK] [CLS] [SEP] [MASK] are entries "
            f"{places} instead of {BERT_PLACES}"
        )
    return tokenizer


def _from_hub(beside: Path) -> Path:
    """The cached or downloaded tokenizer files of bert-base-uncased."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    for name, local in [*((name, True) for name in HUB_NAMES), (HUB_NAMES[0], False)]:
        try:
            folder = Path(snapshot_download(name, allow_patterns=FILES, local_files_only=local))
        except (HfHubHTTPError, LocalEntryNotFoundError, OSError):
            continue
        if any((folder / file).is_file() for file in FILES):
            return folder
    raise BlipError(
        "public checkpoints have no vocabulary, and that of bert-base-uncased is neither in the hub's cache nor can "
        f"it be downloaded: put its vocab.txt into {beside}, or name it with `blip import --tokenizer vocab.txt`"
    )
