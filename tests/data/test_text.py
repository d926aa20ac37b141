import json
import unicodedata
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer, BertTokenizer, BertTokenizerFast

from blip.data.text import (
    Tokenizer,
    clean_caption,
    clean_question,
    clean_statement,
    says_something,
    train_tokenizer,
)
from blip.errors import BlipError

TEXTS = [
    "a red apple on a white background",
    "a woman's t-shirt, size 38",
    "one o'clock",
    "rock 'n' roll",
    "what colour is the triangle?",
    "a café in the old town",
] * 3


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer(TEXTS, 200)


def test_captions_are_cleaned_as_blip_cleans_them() -> None:
    assert clean_caption('  A "Red" apple!!  (fruit): #1; ~50*\n') == "a red apple fruit 1 50"
    assert clean_caption("well-known, isn't it?") == "well-known, isn't it?"
    assert clean_caption("word " * 40) == " ".join(["word"] * 30)


def test_a_text_of_which_cleaning_leaves_nothing_says_nothing() -> None:
    for character in map(chr, range(0x3100)):
        text = f"..{character} *"
        assert says_something(text) == bool(clean_caption(text)), text


def test_questions_lose_punctuation_without_a_gap() -> None:
    assert clean_statement("There are two dogs;one is brown.") == "there are two dogs one is brown"
    assert len(clean_statement("dog " * 50).split()) == 40
    assert clean_question("What's the U.S. flag's colour?") == "what's the us flag's colour?"


def test_the_vocabulary_begins_with_the_special_tokens_and_keeps_its_size() -> None:
    vocabulary = train_tokenizer(TEXTS, 120).vocabulary
    assert vocabulary[:5] == ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    assert len(vocabulary) == len(set(vocabulary)) <= 120
    assert "[DEC]" not in vocabulary
    assert "[ENC]" not in vocabulary


def test_training_the_vocabulary_again_gives_the_same() -> None:
    assert train_tokenizer(TEXTS, 150).vocabulary == train_tokenizer(iter(TEXTS), 150).vocabulary


def test_words_never_seen_are_spelled_and_not_unknown(tokenizer: Tokenizer) -> None:
    ids, _ = tokenizer.encode(["xylophone quiz 907"], 40)
    assert tokenizer.unk not in ids.tolist()[0]
    assert tokenizer.decode(ids) == ["xylophone quiz 907"]


def test_dec_and_enc_follow_the_vocabulary(tokenizer: Tokenizer) -> None:
    size = len(tokenizer.vocabulary)
    assert (tokenizer.bos, tokenizer.enc, len(tokenizer)) == (size, size + 1, size + 2)
    assert (tokenizer.pad, tokenizer.unk, tokenizer.cls, tokenizer.sep, tokenizer.mask) == (0, 1, 2, 3, 4)


def test_a_vocabulary_of_berts_size_gives_blips_ids() -> None:
    entries = ["[PAD]", *(f"[unused{n}]" for n in range(99)), "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer = Tokenizer([*entries, *(f"word{n}" for n in range(30_522 - len(entries)))])
    assert (tokenizer.cls, tokenizer.sep, tokenizer.bos, tokenizer.enc) == (101, 102, 30522, 30523)


def test_encoding_pads_to_the_longest_and_masks(tokenizer: Tokenizer) -> None:
    ids, mask = tokenizer.encode(["a", "a red apple"], 30)
    assert ids.dtype == mask.dtype == torch.int64
    assert ids.shape == mask.shape
    assert ids[0, 0] == tokenizer.cls
    assert ids[0, 2] == tokenizer.sep
    assert mask[0].tolist() == [1, 1, 1] + [0] * (ids.shape[1] - 3)
    assert (ids[0, 3:] == tokenizer.pad).all()


def test_long_texts_are_cut_before_sep(tokenizer: Tokenizer) -> None:
    ids, mask = tokenizer.encode(["a red apple on a white background"], 5)
    assert ids.shape == (1, 5)
    assert ids[0, -1] == tokenizer.sep
    assert mask.all()
    assert tokenizer.encode(["a red apple on a white background"], 30)[0].shape[1] > 5


def test_no_texts_give_empty_tensors(tokenizer: Tokenizer) -> None:
    ids, mask = tokenizer.encode([], 30)
    assert ids.shape == mask.shape == (0, 0)


@pytest.mark.parametrize(
    "text", ["a woman's t-shirt, size 38", "one o'clock", "what colour is the triangle?"]
)
def test_decoding_gives_the_text_back(tokenizer: Tokenizer, text: str) -> None:
    ids, _ = tokenizer.encode([text], 40)
    assert tokenizer.decode(ids) == [text]
    assert tokenizer.decode([[tokenizer.bos, *ids[0, 1:].tolist(), tokenizer.pad]]) == [text]


@pytest.mark.parametrize(
    "text", ["红苹果", "一只黑狗，很安静。", "赤いリンゴがテーブルの上にある", "3 张 abc"]
)
def test_chinese_and_japanese_are_decoded_without_spaces(text: str) -> None:
    tokenizer = train_tokenizer([text] * 3, 400)
    ids, _ = tokenizer.encode([text], 40)
    assert tokenizer.decode(ids) == [text]


GERMAN = ["ein mädchen läuft über die straße", "ein großer hund schläft"] * 3


def test_accents_are_kept_where_the_language_has_them() -> None:
    german = train_tokenizer(GERMAN, 200)
    assert german.keeps_accents
    ids, _ = german.encode([clean_caption(unicodedata.normalize("NFD", GERMAN[0]))], 40)
    assert german.decode(ids) == [GERMAN[0]]
    assert german.normal("Über") == "über"


def test_emoji_are_no_accents_and_korean_is_kept_in_syllables() -> None:
    assert not train_tokenizer(["so nice ❤️ dog", "we love❤️ it", "1️⃣ ☀️"] * 20, 200).keeps_accents
    assert train_tokenizer(["빨간 사과가 책상 위에 있다"] * 20, 200).keeps_accents


def test_a_stray_accent_is_no_other_language() -> None:
    texts = ["a red apple on a white background"] * 60
    english = train_tokenizer([*texts, "a café"], 200)
    assert not english.keeps_accents
    assert english.vocabulary == train_tokenizer([*texts, "a cafe"], 200).vocabulary
    assert english.encode(["a café"], 9)[0].tolist() == english.encode(["a cafe"], 9)[0].tolist()


def test_that_accents_are_kept_is_saved_and_read_by_transformers_too(tmp_path: Path) -> None:
    german = train_tokenizer(GERMAN, 200)
    german.save(tmp_path / "model")
    german.save_vocabulary(tmp_path / "vocabulary")
    AutoTokenizer.from_pretrained(tmp_path / "model").save_pretrained(tmp_path / "theirs")
    ids, _ = german.encode(GERMAN, 30)
    for found in (
        Tokenizer.from_directory(tmp_path / "model"),
        Tokenizer.from_directory(tmp_path / "theirs"),
        Tokenizer.from_vocabulary(tmp_path / "vocabulary/vocab.txt"),
    ):
        assert found.keeps_accents
        assert torch.equal(found.encode(GERMAN, 30)[0], ids)
    for folder in ("model", "theirs", "vocabulary"):
        theirs = BertTokenizer.from_pretrained(tmp_path / folder)
        assert torch.equal(theirs(GERMAN, padding=True, return_tensors="pt")["input_ids"], ids)


def test_what_says_nothing_of_accents_loses_them_as_before(tmp_path: Path) -> None:
    Tokenizer(train_tokenizer(GERMAN, 200).vocabulary).save(tmp_path / "before")
    assert json.loads((tmp_path / "before/tokenizer_config.json").read_text())["strip_accents"] is None
    assert not Tokenizer.from_directory(tmp_path / "before").keeps_accents
    (tmp_path / "before/tokenizer_config.json").write_text('{"do_lower_case": true}')
    assert not Tokenizer.from_directory(tmp_path / "before").keeps_accents
    (tmp_path / "before/tokenizer_config.json").write_text("{")
    with pytest.raises(BlipError, match=r"tokenizer_config\.json is no JSON"):
        Tokenizer.from_directory(tmp_path / "before")


@pytest.mark.parametrize("opener", [BertTokenizer, BertTokenizerFast, AutoTokenizer])
def test_transformers_opens_it_with_the_same_ids(tokenizer: Tokenizer, opener: type, tmp_path: Path) -> None:
    tokenizer.encode(["cut this text to a few tokens"], 4)
    tokenizer.save(tmp_path)
    theirs = opener.from_pretrained(tmp_path)
    assert len(theirs) == len(tokenizer)
    ids, mask = tokenizer.encode(TEXTS, 30)
    encoded = theirs(TEXTS, padding=True, return_tensors="pt")
    assert torch.equal(encoded["input_ids"], ids)
    assert torch.equal(encoded["attention_mask"], mask)
    assert set(encoded) == {"input_ids", "attention_mask"}
    assert theirs.convert_tokens_to_ids(["[DEC]", "[ENC]"]) == [tokenizer.bos, tokenizer.enc]
    assert (theirs.bos_token_id, theirs.pad_token_id) == (tokenizer.bos, tokenizer.pad)


def test_a_directory_of_ours_and_of_transformers_is_read_back(tokenizer: Tokenizer, tmp_path: Path) -> None:
    tokenizer.save(tmp_path / "ours")
    BertTokenizer.from_pretrained(tmp_path / "ours").save_pretrained(tmp_path / "theirs")
    assert not (tmp_path / "theirs/vocab.txt").exists()
    for name in ("ours", "theirs"):
        assert Tokenizer.from_directory(tmp_path / name).vocabulary == tokenizer.vocabulary


def test_missing_and_damaged_vocabularies_are_named(tmp_path: Path) -> None:
    with pytest.raises(BlipError, match="no such file"):
        Tokenizer.from_vocabulary(tmp_path / "vocab.txt")
    with pytest.raises(BlipError, match="has no tokenizer"):
        Tokenizer.from_directory(tmp_path)
    (tmp_path / "vocab.txt").write_text("a\nb\n")
    with pytest.raises(BlipError, match=r"lacks \[PAD\]"):
        Tokenizer.from_vocabulary(tmp_path / "vocab.txt")
