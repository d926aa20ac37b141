"""Texts: cleaning, a WordPiece vocabulary trained on captions, and the tokenizer of BLIP's text side.

tokenizer = train_tokenizer(captions, size=3000)
ids_BT, mask_BT = tokenizer.encode(["a red apple"], max_tokens=30)
tokenizer.decode(ids_BT)                # ["a red apple"]
tokenizer.save(Path("models/mine"))     # opens as transformers.BertTokenizer
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import tokenizers
import torch
from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers, processors
from torch import Tensor

from blip.atomic import write_json, write_text
from blip.data.wordpiece import learn_pieces
from blip.errors import BlipError

PAD, UNK, CLS, SEP, MASK = SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
CAPTION_WORDS, STATEMENT_WORDS, QUESTION_WORDS = 30, 40, 50  # that BLIP reads of a text
EVERY_WORD = 10_000  # more than any has: where a text is not cut
ACCENTED = 0.01  # share of the words with accents from which on they are kept; English has fewer
VOCABULARY, CONFIGURATION = "vocab.txt", "tokenizer_config.json"
DEC, ENC = "[DEC]", "[ENC]"  # begin of a caption to write; place of the ITM output (BLIP section 3.1)

_MARKS = r".!\"()*#:;~"
_DROPPED, _LEFT = re.compile(rf"[{_MARKS}]"), re.compile(rf"[^\s{_MARKS}]")
_OF_EMOJI = dict.fromkeys(range(0xFE00, 0xFE10))  # variation selectors, which are marks as accents are
_ALPHABET = "abcdefghijklmnopqrstuvwxyz0123456789"
_TIGHT = re.compile(r"\s*([-/'’_])\s*")
_CLOSING = re.compile(r"\s+([,?%])")
_HAN, _BESIDE = r"\u3400-\u9fff\uf900-\ufaff\U00020000-\U0002fa1f", r"\u3000-\u30ff\uff00-\uffef"
_SPACED_OUT = re.compile(rf"(?<=[{_HAN}])\s+(?=[{_HAN}{_BESIDE}])|(?<=[{_BESIDE}])\s+(?=[{_HAN}])")


def clean_caption(text: str, max_words: int = CAPTION_WORDS) -> str:
    """Lower-case, `.!"()*#:;~` to spaces, spaces collapsed, at most `max_words` words (as BLIP does)."""
    return _composed(_DROPPED.sub(" ", text.lower()).split()[:max_words])


def says_something(text: str) -> bool:
    """Whether `clean_caption` leaves anything of a text, which "..." does not; found without cleaning it."""
    return _LEFT.search(text) is not None


def clean_question(text: str, max_words: int = QUESTION_WORDS) -> str:
    """As `clean_caption` with the characters left out, not replaced, as BLIP's question answering does."""
    return _composed(_DROPPED.sub("", text.lower()).split()[:max_words])


def clean_statement(text: str) -> str:
    """As `clean_caption`, of more words: a statement about two pictures, as BLIP's NLVR2 reads it."""
    return clean_caption(text, max_words=STATEMENT_WORDS)


def clean_answer(text: str) -> str:
    """In lower case, with the marks that it has: 10:30 is no 1030."""
    return _composed(text.lower().split())


def train_tokenizer(texts: Iterable[str], size: int) -> Tokenizer:
    """Train a lower-case WordPiece vocabulary of at most `size` entries, the special tokens first.

    Every letter and digit is in it both as a word's begin and inside, so a word of these is never unknown.
    Accents are kept where the language of the texts has them: where ACCENTED of the words would be others without.
    """
    whole, bare = (_pipeline(models.WordPiece({UNK: 0}, unk_token=UNK), keeps) for keeps in (True, False))
    words: Counter[str] = Counter()
    for text in texts:
        words.update(_words(whole, text))
    without = {word: _words(bare, word) for word in words}
    accented = sum(
        count for word, count in words.items() if "".join(without[word]) != word.translate(_OF_EMOJI)
    )
    keeps_accents = accented > ACCENTED * words.total()
    if not keeps_accents:
        words = _recounted(words, without)
    return Tokenizer([*SPECIALS, *learn_pieces(words, size - len(SPECIALS), _ALPHABET)], keeps_accents)


class SpecialTokens(NamedTuple):
    """Ids of padding, of the end, and of what takes the place of [CLS]: [DEC] to write a text, [ENC] to match it."""

    pad: int
    sep: int
    decode: int
    encode: int


class Tokenizer:
    """BERT's WordPiece with [DEC] and [ENC] behind the vocabulary.

    Attributes:
        vocabulary: the entries in the order of their ids, without [DEC] and [ENC].
        keeps_accents: ü is no u, as BERT's uncased vocabulary has it; `strip_accents: false` in tokenizer_config.json.
        pad, unk, cls, sep, mask, bos, enc: ids; `bos` is [DEC].
    """

    def __init__(self, vocabulary: Sequence[str], keeps_accents: bool = False) -> None:
        self.vocabulary, self.keeps_accents = list(vocabulary), keeps_accents
        ids = {token: index for index, token in enumerate(self.vocabulary)}
        _check(self.vocabulary, ids)
        self.pad, self.unk, self.cls, self.sep, self.mask = (ids[token] for token in SPECIALS)
        self.bos, self.enc = len(ids), len(ids) + 1
        self._tokenizer = _pipeline(models.WordPiece(ids, unk_token=UNK), keeps_accents)
        self._tokenizer.add_special_tokens(
            [AddedToken(token, special=True) for token in (*SPECIALS, DEC, ENC)]
        )
        self._tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{CLS}:0 $A:0 {SEP}:0",
            pair=f"{CLS}:0 $A:0 {SEP}:0 $B:1 {SEP}:1",
            special_tokens=[(CLS, self.cls), (SEP, self.sep)],
        )
        self._max_tokens = 0

    @property
    def special_tokens(self) -> SpecialTokens:
        """The ids that a network is built and saved with."""
        return SpecialTokens(self.pad, self.sep, self.bos, self.enc)

    @classmethod
    def from_vocabulary(cls, path: Path | str) -> Tokenizer:
        """Read a vocab.txt, one entry a line; a tokenizer_config.json beside it says whether accents are kept.

        Raises:
            BlipError: no such file, or an entry is missing or there twice.
        """
        path = Path(path)
        if not path.is_file():
            raise BlipError(
                f"vocabulary {path}: no such file; `blip stage ingest` makes data/datasets/vocabulary"
            )
        entries = path.read_text(encoding="utf-8").split("\n")
        return cls([entry.rstrip("\r") for entry in entries if entry.strip()], _keeps_accents(path.parent))

    @classmethod
    def from_directory(cls, directory: Path | str) -> Tokenizer:
        """Read the tokenizer of a model directory, ours or one that transformers saved.

        Raises:
            BlipError: it has neither vocab.txt nor tokenizer.json, or the latter is no WordPiece one.
        """
        directory = Path(directory)
        if (directory / VOCABULARY).is_file():
            found = cls.from_vocabulary(directory / VOCABULARY).vocabulary
        elif (directory / "tokenizer.json").is_file():
            found = _wordpieces(directory / "tokenizer.json")
        else:
            raise BlipError(
                f"model {directory} has no tokenizer: neither vocab.txt nor tokenizer.json is there"
            )
        return cls([token for token in found if token not in (DEC, ENC)], _keeps_accents(directory))

    def save(self, directory: Path | str) -> None:
        """Write what `transformers.BertTokenizer.from_pretrained(directory)` opens, with the same ids."""
        directory = Path(directory)
        self.save_vocabulary(directory)
        plain = tokenizers.Tokenizer.from_str(self._tokenizer.to_str())
        plain.no_truncation()
        plain.no_padding()
        write_text(directory / "tokenizer.json", plain.to_str(pretty=True) + "\n")
        write_json(directory / CONFIGURATION, self._configuration())

    def save_vocabulary(self, directory: Path) -> None:
        """Write what `from_vocabulary` reads: vocab.txt, and beside it, where accents are kept, that they are."""
        directory.mkdir(parents=True, exist_ok=True)
        write_text(directory / VOCABULARY, "\n".join(self.vocabulary) + "\n")
        if self.keeps_accents:
            write_json(directory / CONFIGURATION, self._configuration())

    def __len__(self) -> int:
        return len(self.vocabulary) + 2

    def encode(self, texts: Sequence[str], max_tokens: int) -> tuple[Tensor, Tensor]:
        """Encode texts as `[CLS] ... [SEP]`.

        Args:
            texts: B texts, as `clean_caption` or `clean_question` leave them.
            max_tokens: longest row, [CLS] and [SEP] included; what is longer is cut before [SEP].

        Returns:
            ids and mask, int64 `[B, T]`, padded to the longest of the batch; the mask is 1 on tokens.
        """
        if max_tokens != self._max_tokens:
            self._tokenizer.enable_truncation(max_tokens)
            self._max_tokens = max_tokens
        rows = [encoding.ids for encoding in self._tokenizer.encode_batch_fast(list(texts))]
        longest = max(map(len, rows), default=0)
        ids_BT = torch.tensor([row + [self.pad] * (longest - len(row)) for row in rows], dtype=torch.int64)
        ids_BT = ids_BT.reshape(len(rows), longest)
        lengths_B1 = torch.tensor([[len(row)] for row in rows], dtype=torch.int64).reshape(-1, 1)
        return ids_BT, (torch.arange(longest) < lengths_B1).long()

    def decode(self, ids: Tensor | Sequence[Sequence[int]]) -> list[str]:
        """Texts of id rows `[B, T]` without special tokens; pieces are joined and punctuation set tight."""
        rows = ids.tolist() if isinstance(ids, Tensor) else [list(row) for row in ids]
        return [_tighten(text) for text in self._tokenizer.decode_batch(rows, skip_special_tokens=True)]

    def normal(self, text: str) -> str:
        """A text as the vocabulary can spell it, so that what is decoded can be compared with it."""
        return unicodedata.normalize("NFC", self._tokenizer.normalizer.normalize_str(text))

    def _configuration(self) -> dict[str, object]:
        numbers = dict(enumerate(SPECIALS)) | {self.bos: DEC, self.enc: ENC}
        numbers = {self._tokenizer.token_to_id(token): token for token in numbers.values()}
        return {
            "tokenizer_class": "BertTokenizer",
            "do_lower_case": True,
            "strip_accents": False if self.keeps_accents else None,
            "tokenize_chinese_chars": True,
            "model_max_length": 512,
            "model_input_names": ["input_ids", "attention_mask"],
            "pad_token": PAD,
            "unk_token": UNK,
            "cls_token": CLS,
            "sep_token": SEP,
            "mask_token": MASK,
            "bos_token": DEC,
            "additional_special_tokens": [ENC],
            "added_tokens_decoder": {str(number): _added(token) for number, token in sorted(numbers.items())},
        }


def _composed(words: Sequence[str]) -> str:
    """Words in one text, an accent and its letter as one character, which file names of macOS part."""
    return unicodedata.normalize("NFC", " ".join(words))


def _words(tokenizer: tokenizers.Tokenizer, text: str) -> list[str]:
    normal = tokenizer.normalizer.normalize_str(text)
    return [word for word, _ in tokenizer.pre_tokenizer.pre_tokenize_str(normal)]


def _recounted(words: Counter[str], without: dict[str, list[str]]) -> Counter[str]:
    """How often each word occurs that is left of others."""
    found: Counter[str] = Counter()
    for word, count in words.items():
        for part in without[word]:
            found[part] += count
    return found


def _pipeline(model: models.Model, keeps_accents: bool) -> tokenizers.Tokenizer:
    """BERT's uncased normalisation, splitting and joining around a model."""
    tokenizer = tokenizers.Tokenizer(model)
    tokenizer.normalizer = normalizers.BertNormalizer(
        lowercase=True, strip_accents=False if keeps_accents else None
    )
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece(prefix="##", cleanup=False)
    return tokenizer


def _keeps_accents(directory: Path) -> bool:
    """Whether the tokenizer_config.json of a directory says so; without one, or a word of it, BERT's way holds."""
    path = directory / CONFIGURATION
    if not path.is_file():
        return False
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise BlipError(f"{path} is no JSON: {error}; save the tokenizer again") from None
    return isinstance(found, dict) and found.get("strip_accents") is False


def _wordpieces(path: Path) -> list[str]:
    """The vocabulary of a tokenizer.json, in the order of its ids."""
    model = json.loads(path.read_text(encoding="utf-8"))["model"]
    kind = model.get("type", "WordPiece")
    if kind != "WordPiece":
        raise BlipError(f"{path} is of type {kind}; BLIP's is WordPiece, the one of bert-base-uncased")
    ids = model["vocab"]
    if sorted(ids.values()) != list(range(len(ids))):
        raise BlipError(
            f"{path}: the ids of the vocabulary have gaps, so the tokens cannot be numbered again"
        )
    return sorted(ids, key=ids.__getitem__)


def _check(vocabulary: list[str], ids: dict[str, int]) -> None:
    missing = [token for token in SPECIALS if token not in ids]
    if missing:
        raise BlipError(
            f"the vocabulary lacks {', '.join(missing)}; BERT's vocab.txt and the trained one have them"
        )
    if len(ids) != len(vocabulary):
        raise BlipError(
            f"the vocabulary has {len(vocabulary) - len(ids)} entries twice; each must be there once"
        )
    if DEC in ids or ENC in ids:
        raise BlipError(f"the vocabulary has {DEC} or {ENC}, which are added behind it; take them out")


def _tighten(text: str) -> str:
    """`t - shirt , o ' clock ?` to `t-shirt, o'clock?`, `红 苹 果` to `红苹果`: BERT splits and keeps no spaces."""
    return _SPACED_OUT.sub("", _CLOSING.sub(r"\1", _TIGHT.sub(r"\1", text))).strip()


def _added(token: str) -> dict[str, object]:
    flags = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False}
    return {"content": token, **flags, "special": True}
