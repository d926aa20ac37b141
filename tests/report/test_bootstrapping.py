"""The page of a bootstrapped dataset, of a pool that real (random) models have judged."""

import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from blip.capfilt.bootstrap import bootstrap
from blip.capfilt.inputs import Models, Order, Pairs
from blip.commands.inspecting import counts
from blip.config import CapFilt
from blip.data.pairs import Caption, PairsDataset, PairsWriter, Sample
from blip.errors import BlipError
from blip.inspection.contents import inspect_dataset
from blip.report.bootstrapping import Bootstrapping
from blip.report.decision import log_odds
from tests.report.conftest import draw
from tests.report.test_page import Reader
from tests.tiny import save

TEXTS = (["red apple"], ["the dog", "<b>apple</b>"], [""], [], ["green | table"], ["x"])


def write(folder: Path, sources: bool = True) -> Path:
    """A pool whose samples have one text, two, an empty one, or none."""
    with PairsWriter(folder, samples_per_shard=4, parents=[], parameters={}) as writer:
        for number, texts in enumerate(TEXTS):
            captions = tuple(Caption(text, "web") for text in texts)
            url = f"https://host{number % 2}.example/{number}" if sources else None
            sample = Sample(f"web-{number}", draw(number), "webp", captions, (), 48, 48, url=url)
            writer.add(sample, phash=number)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pool and what CapFilt made of it at a threshold that half of the texts reach."""
    folder = tmp_path_factory.mktemp("gallery")
    web = Pairs(write(folder / "web"))
    models = Models(save(folder / "captioner", 1), (save(folder / "filter", 2),))
    how = CapFilt.model_validate(
        {"threshold": 0.5, "min_tokens": 1, "captions_per_image": 2, "batch_size": 4}
    )
    bootstrap(Order(web, None, models, how), folder / "made")
    return folder


@pytest.fixture(scope="module")
def made(folder: Path) -> Bootstrapping:
    return Bootstrapping.open(folder / "web", folder / "made", seed=0, shown=12)


@pytest.fixture(scope="module")
def page(made: Bootstrapping) -> Reader:
    return Reader(made.html())


def test_the_page_needs_nothing_but_itself_and_is_well_formed(made: Bootstrapping, page: Reader) -> None:
    assert "script" not in page.tags
    assert not [one for one in page.references if not one.startswith(("data:", "#"))]
    assert not re.search(r"url\((?!#)|@import", made.html())
    assert page.unbalanced == []
    assert {one[1:] for one in page.references if one.startswith("#")} <= set(page.ids)


def test_every_picture_has_all_its_texts_with_origin_score_and_reason(made: Bootstrapping) -> None:
    html = made.html()
    cards = re.findall(r'<li class="card">.*?</li>', html[html.index('id="decisions"') :], re.DOTALL)
    assert len(cards) == len(TEXTS)
    audit = made.audit
    assert sum(card.count('class="text web"') for card in cards) == audit.judged("web") == 6
    assert sum(card.count('class="text synthetic"') for card in cards) == 2 * len(TEXTS)
    assert sum(card.count("<del") for card in cards) == sum(card.count('class="why"') for card in cards)
    assert sum(card.count("<del") for card in cards) == 18 - audit.kept("web") - audit.kept("synthetic")
    assert all('src="data:image/webp' in card for card in cards)
    assert "without a word" in html


def test_every_card_shows_the_key_by_which_its_decision_is_found_in_the_audit(made: Bootstrapping) -> None:
    html = made.html()
    for place in ('id="before"', 'id="decisions"'):
        cards = re.findall(r'<li class="card">.*?</li>', html[html.index(place) :], re.DOTALL)[: len(TEXTS)]
        keys = [key for card in cards for key in re.findall(r'class="which"[^>]*>([^<]+)<', card)]
        assert sorted(keys) == [f"web-{number}" for number in range(len(TEXTS))]


def test_it_says_who_decided_where_the_filter_was_not_alone(folder: Path, made: Bootstrapping) -> None:
    models = Models(folder / "captioner", (folder / "filter",))
    how = CapFilt(threshold=0.1, min_tokens=1, neighbours=0.5, likelihood=0.2)
    bootstrap(Order(Pairs(folder / "web"), None, models, how), folder / "asked")
    asked = Bootstrapping.open(folder / "web", folder / "asked", seed=0, shown=12)
    html = asked.html()
    voices = re.findall(r'<p class="voices".*?</p>', html)
    judged = [text for group in asked.audit.chosen.values() for one in group for text in one.texts]
    assert len(voices) == len(judged) > 6
    for text in judged:
        assert sum(text.voices.values()) == pytest.approx(log_odds(text.score), abs=1e-6)
    assert "captioner −" in html and "similar pictures" in html
    assert 'class="voices"' not in made.html()


def test_the_probability_is_said_to_be_that_of_all_who_decided(folder: Path, tmp_path: Path) -> None:
    """It is another one than the filter's: several filters and views, captioner and similar pictures are in it."""
    models = Models(folder / "captioner", (folder / "filter", folder / "captioner"))
    how = CapFilt(threshold=0.1, min_tokens=1, views=(1.0, 0.85), neighbours=2.0, likelihood=0.2)
    bootstrap(Order(Pairs(folder / "web"), None, models, how), tmp_path / "made")
    made = Bootstrapping.open(folder / "web", tmp_path / "made", seed=0, shown=1)
    assert made.facts["Filters"] == "2, head itm"
    assert made.facts["Views of a picture"] == "1, 0.85"
    assert (made.facts["Weight of the captioner"], made.facts["Weight of similar pictures"]) == ("0.2", "2")
    assert "the probability of matching by which CapFilt decided" in made.html()
    assert "filter's probability" not in made.html()


def test_what_validation_had_set_aside_is_counted_in_the_manifest_and_told(
    folder: Path, made: Bootstrapping, tmp_path: Path
) -> None:
    pq.write_table(pa.table({"key": ["web-1", "web-3"]}), tmp_path / "list.parquet")
    models = Models(folder / "captioner", (folder / "filter",))
    web = Pairs(folder / "web", tmp_path / "list.parquet")
    bootstrap(Order(web, None, models, CapFilt(min_tokens=1)), tmp_path / "made")
    without = Bootstrapping.open(folder / "web", tmp_path / "made", seed=0, shown=1)
    assert without.parameters["set_aside"] == {"web": 2}
    assert without.counts["images"] + without.counts["set_aside"] == len(TEXTS)
    assert without.facts["Set aside by validation before"] == "2"
    assert "2 more pictures of the pool were set aside by validation before" in without.html()
    assert "2 more were set aside by validation before." in without.markdown()
    assert counts(inspect_dataset(tmp_path / "made"))["validation before"] == {"web": 2}
    assert "set_aside" not in made.parameters and "set aside by validation" not in made.html()
    assert "validation before" not in counts(inspect_dataset(folder / "made"))


def test_texts_from_the_web_stay_texts(made: Bootstrapping) -> None:
    assert "&lt;b&gt;apple&lt;/b&gt;" in made.html()
    assert "<b>apple" not in made.html()


def test_the_counts_are_those_of_the_dataset(folder: Path, made: Bootstrapping, page: Reader) -> None:
    found = made.counts
    assert found["images"] == len(TEXTS)
    assert sum(found["outcomes"].values()) == len(TEXTS)
    assert found["outcomes"]["dropped"] == len(TEXTS) - made.samples
    assert sum(found["reasons"].values()) == found["outcomes"]["dropped"]
    for texts in found["texts"].values():
        assert texts["judged"] == texts["kept"] + sum(texts["dropped"].values())
    assert f"{made.samples} of 6 pictures stay" in page.text


def test_the_headline_counts_the_texts_that_the_dataset_has(folder: Path, tmp_path: Path) -> None:
    """Of four captions of a picture that are written without chance three are the first one again."""
    copied = Models(folder / "captioner", (folder / "filter",))
    how = CapFilt.model_validate(
        {"threshold": 0.0, "min_tokens": 1, "max_tokens": 2, "captions_per_image": 4, "top_p": 0.01}
    )
    bootstrap(Order(Pairs(folder / "web"), None, copied, how), tmp_path / "made")
    made = Bootstrapping.open(folder / "web", tmp_path / "made", seed=0, shown=1)

    origins = [
        one.origin for sample in PairsDataset.open(tmp_path / "made").samples() for one in sample.captions
    ]

    web, synthetic = origins.count("web"), origins.count("synthetic")
    assert (made.counts["texts"]["web"]["once"], made.counts["texts"]["synthetic"]["once"]) == (
        web,
        synthetic,
    )
    assert f"{web} web texts and {synthetic} synthetic captions" in made.headline
    assert made.audit.repeated == made.audit.kept("web") + made.audit.kept("synthetic") - len(origins) > 0
    assert f"in the dataset once: {made.audit.repeated}." in made.markdown()


def test_sources_are_in_the_page_and_in_the_tables(made: Bootstrapping, page: Reader) -> None:
    assert [(source["name"], source["pictures"]) for source in made.counts["sources"]] == [
        ("host0.example", 3),
        ("host1.example", 3),
    ]
    assert "The source of a picture is told by the host of its URL" in page.text
    assert "| host1.example | 3 |" in made.markdown()
    assert made.charts[-1].name == "kept-by-source"


def test_markdown_tables_have_as_many_cells_in_every_line(made: Bootstrapping) -> None:
    tables = [part for part in made.markdown().split("\n\n") if part.startswith("|")]
    assert len(tables) == 3
    for table in tables:
        assert len({line.count("|") for line in table.splitlines()}) == 1


def test_a_pool_without_sources_says_so(folder: Path, tmp_path: Path) -> None:
    web = write(tmp_path / "web", sources=False)
    models = Models(folder / "captioner", (folder / "filter",))
    bootstrap(Order(Pairs(web), None, models, CapFilt(min_tokens=1)), tmp_path / "made")

    alone = Bootstrapping.open(web, tmp_path / "made", seed=0, shown=1)

    assert "The pool does not know where its pictures come from" in Reader(alone.html()).text
    assert "Source" not in alone.markdown()
    assert len(alone.audit.sample) == 1


def test_a_dataset_that_was_made_of_another_is_refused(folder: Path, tmp_path: Path) -> None:
    other = write(tmp_path / "web", sources=False)
    with pytest.raises(BlipError, match="was not made of"):
        Bootstrapping.open(other, folder / "made", seed=0, shown=1)
    with pytest.raises(BlipError, match=r"web has no audit\.parquet"):
        Bootstrapping.open(other, other, seed=0, shown=1)
