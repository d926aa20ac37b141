"""Caption scores against values worked out by hand, and evaluation with a real network."""

import math
import unicodedata
from functools import partial

import pytest

from blip.data.text import SPECIALS, Tokenizer, clean_caption, train_tokenizer
from blip.errors import BlipError
from blip.tasks.captioning import (
    caption_metrics,
    comparable,
    evaluate,
    exact_match,
    is_exact,
    reference_figures,
)


@pytest.mark.parametrize(
    ("caption", "references"),
    [
        ("a red apple", ["Red apple."]),
        ("the red apple", ["a pear", "an red  apple!"]),
        ("snow-capped mountain", ["snow-capped mountain"]),
    ],
)
def test_an_exact_match_ignores_case_punctuation_and_the_leading_article(caption, references):
    assert is_exact(caption, references)


@pytest.mark.parametrize(
    ("caption", "references"),
    [("red", ["red apple"]), ("", [""]), ("apple a red", ["apple red"]), ("...", ["."])],
)
def test_what_differs_or_is_empty_is_no_match(caption, references):
    assert not is_exact(caption, references)


def test_exact_match_is_a_share():
    assert exact_match(["a cat", "dog", "bird"], [["cat"], ["a dog"], ["fish"]]) == pytest.approx(2 / 3)


def test_perfect_captions_get_full_marks():
    texts = ["a man rides a brown horse", "two dogs play in the snow", "the tall tower of an old church"]
    found = caption_metrics(texts, [[text] for text in texts])
    assert found["exact_match"] == found["rouge_l"] == 1.0
    assert found["bleu4"] == pytest.approx(1.0)
    assert found["cider"] == pytest.approx(10.0)


def test_the_scores_of_a_partial_match_are_those_of_the_formulas(capsys):
    found = caption_metrics(["a dog runs", "a cat sits"], [["a dog sleeps"], ["a cat sits"]])
    assert found["rouge_l"] == pytest.approx((2 / 3 + 1) / 2)
    precisions = [5 / 6, 3 / 4, 1 / 2, 1e-15 / 1e-9]  # no 4-grams: the scorer's constants
    assert found["bleu4"] == pytest.approx(math.prod(precisions) ** 0.25, rel=1e-3)
    dog = (1 / 2 + 1 / 2 + 0 + 0) / 4  # "a" is in both references and weighs nothing; no 4-grams
    cat = (1 + 1 + 1 + 0) / 4
    assert found["cider"] == pytest.approx(10 * (dog + cat) / 2)
    assert found["exact_match"] == 0.5
    assert capsys.readouterr().out == ""


def test_the_best_of_several_references_counts():
    found = caption_metrics(["two cats"], [["a dog", "two cats"]])
    assert found["exact_match"] == found["rouge_l"] == 1.0


def test_one_picture_has_no_cider(painted):
    """It would be 0 for a caption that is the reference."""
    assert caption_metrics(["a red apple"], [["red apple"]]).keys() == {"exact_match", "bleu4", "rouge_l"}
    outcome = evaluate(lambda images: ["red"], [painted("r", "red", ["red"])], batch_size=4, seed=1)
    assert "captioning.cider" not in outcome.metrics


def test_empty_captions_score_nothing():
    found = caption_metrics(["", "a"], [["a red apple"], ["two blue birds"]])
    assert found["exact_match"] == found["cider"] == found["rouge_l"] == 0.0


def test_right_and_wrong_captions_are_told_apart(painted):
    samples = [painted("r", "red", ["a red one"]), painted("b", "blue", ["blue"]), painted("bare", "red")]
    outcome = evaluate(lambda images: ["red one", "green"][: len(images)], samples, batch_size=4, seed=1)
    assert outcome.metrics["captioning.exact_match"] == 0.5
    names = ("always_commonest", "bleu4", "cider", "exact_match", "reference_words", "rouge_l")
    assert sorted(outcome.metrics) == [f"captioning.{n}" for n in names]
    assert {row["key"]: row["correct"] for row in outcome.predictions} == {"r": True, "b": False}
    assert (outcome.selection.right, outcome.selection.wrong) == (1, 1)
    shown = {example["image"]: example for example in outcome.examples["examples"]}
    assert shown["images/b.webp"] == {
        "image": "images/b.webp", "reference": "blue", "caption": "green", "correct": False,
    }  # fmt: skip


def test_what_always_the_commonest_reaches_counts_every_reference_as_exact_match_does():
    references = [["a dog", "Red apple."], ["the red apple", "red apple"], ["A cat sits"], ["..."]]
    found = reference_figures(references)
    assert found["always_commonest"] == exact_match(["red apple"] * 4, references) == 0.5
    assert found["reference_words"] == (1 + 2 + 2 + 2) / 4


def test_cider_is_told_apart_by_domain_and_the_server_knows_pictures_by_number(painted):
    samples = [
        painted("r", "red", ["a red one"]),
        painted("b", "blue", ["a blue one"]),
        painted("g", "green", ["x"]),
    ]
    outcome = evaluate(
        lambda images: ["a red one", "a sky", "x"][: len(images)],
        samples,
        batch_size=4,
        seed=1,
        domains={"r": "in-domain", "b": "out-domain", "g": "in-domain"},
        numbers={"r": 7, "b": 8},
    )
    found = outcome.metrics
    assert (
        found["captioning.in-domain.cider"] > found["captioning.cider"] > found["captioning.out-domain.cider"]
    )
    apart = 2 * found["captioning.in-domain.cider"] + found["captioning.out-domain.cider"]
    assert found["captioning.cider"] == pytest.approx(apart / 3)
    assert outcome.answers == [{"image_id": 7, "caption": "a red one"}, {"image_id": 8, "caption": "a sky"}]


FOREIGN = {
    "de": ["ein Mädchen läuft über die Straße", "ein großer Hund schläft im Schnee"],
    "fr": ["une forêt brûlée près de la côte", "un garçon mange une pêche"],
    "ru": ["большой чёрный кот лежит на скамейке", "ёлка стоит во дворе"],
    "vi": ["một con mèo nằm trên ghế", "quả táo đỏ ở trên bàn"],
    "ar": ["أسد كبير ينام تحت الشجرة", "قطة سوداء على الأريكة"],
    "hi": ["लाल सेब मेज पर है", "एक काला कुत्ता सोता है"],
    "ko": ["빨간 사과가 책상 위에 있다", "검은 개가 눈밭에서 잔다"],
    "ja": ["赤いリンゴがテーブルの上にある", "黒い犬が、雪の中でねている"],
    "zh": ["红苹果放在木桌上", "一只黑狗在雪地里睡觉，很安静"],
}


@pytest.mark.parametrize("keeps_accents", [True, False])
@pytest.mark.parametrize("language", FOREIGN)
def test_the_references_as_the_tokenizer_writes_them_get_full_marks_in_every_language(
    painted, language, keeps_accents
):
    texts = FOREIGN[language]
    bare = [unicodedata.normalize("NFD", Tokenizer(SPECIALS).normal(text)) for text in texts]
    vocabulary = train_tokenizer((texts if keeps_accents else bare) * 3, 400).vocabulary
    tokenizer = Tokenizer(vocabulary, keeps_accents)
    written = tokenizer.decode(tokenizer.encode([clean_caption(text) for text in texts], 60)[0])
    samples = [painted(f"k{n}", "red", [text]) for n, text in enumerate(texts)]
    found = evaluate(lambda _: written, samples, batch_size=2, seed=1, normal=tokenizer.normal).metrics
    assert found["captioning.exact_match"] == found["captioning.rouge_l"] == 1.0
    assert found["captioning.bleu4"] == pytest.approx(1.0)
    assert found["captioning.cider"] == pytest.approx(10.0)


def test_long_chinese_is_compared_to_its_end():
    begun = "红苹果放在木桌上" * 4
    assert is_exact(comparable(f"{begun}左", str), [comparable(f"{begun}左", str)])
    assert not is_exact(comparable(f"{begun}左", str), [comparable(f"{begun}右", str)])


def test_chinese_is_compared_by_characters(painted):
    sample = painted("k", "red", ["红苹果放在木桌上"])
    found = evaluate(lambda _: ["红苹果在木桌上"], [sample], batch_size=1, seed=1).metrics
    assert 0.8 < found["captioning.rouge_l"] < 1.0
    assert found["captioning.reference_words"] == 8


def test_references_are_required(painted):
    with pytest.raises(BlipError, match="reference captions"):
        evaluate(lambda images: [], [painted("bare", "red")], batch_size=2, seed=1)


def test_a_real_network_writes_a_caption_for_every_picture(tiny_blip, painted, colours):
    samples = [painted(f"k{n}", colour, [f"a {colour}"]) for n, colour in enumerate(colours)]
    caption = partial(tiny_blip.caption, decoding="beam", beams=2, max_length=8, min_length=2)
    outcome = evaluate(caption, samples, batch_size=3, seed=1)
    expected = tiny_blip.caption([s.media for s in samples], "beam", beams=2, max_length=8, min_length=2)
    assert [row["caption"] for row in outcome.predictions] == expected
