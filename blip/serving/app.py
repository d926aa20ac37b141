"""The page of `blip app`: a tab for each thing that a model at hand can do with a picture.

    build(Page(service, captioned, asked))      # gradio's Blocks, which blip/serving/server.py serves

Inputs arrive as the browser sent them (`preprocess=False`): gradio would open a picture before anybody checks its size.
"""

from collections.abc import Callable, Sequence
from functools import cache, wraps
from html import escape
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import gradio as gr
from gradio.helpers import Examples
from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image

from blip.errors import BadArguments, BlipError
from blip.serving.examples import Example
from blip.serving.heatmaps import panels
from blip.serving.service import MAX_BYTES, MOST_CAPTIONS, MOST_FOUND, Found, Role, Service
from blip.spelling import plain

DECODINGS = [
    ("beam: the likeliest of three", "beam"),
    ("greedy: word by word", "greedy"),
    ("nucleus: sampled, several", "nucleus"),
]
ONE_AT_A_TIME: dict[str, Any] = {"concurrency_limit": 1, "concurrency_id": "models", "preprocess": False}
HEIGHT = 300  # pixels, of a picture that is given
NO_PICTURE = "there is no picture: drop one into its place, paste it, or choose an example"


class Page(NamedTuple):
    """What the tabs are made of: the models, and pictures with texts and with questions to begin with."""

    service: Service
    captioned: Sequence[Example] = ()
    asked: Sequence[Example] = ()


def build(page: Page) -> gr.Blocks:
    """The page with the tabs that there are models for."""
    with gr.Blocks(title="blip", analytics_enabled=False, delete_cache=(600, 3600)) as blocks:
        gr.HTML(_html("head", page.service.models, page.service.collection))
        for title, role, tab in TABS:
            if role in page.service.models and (tab is not _search or page.service.collection):
                with gr.Tab(title), gr.Row(equal_height=False):
                    tab(page)
    return blocks


def _caption(page: Page) -> None:
    @_told
    def caption(picture: Any, decoding: Any = "beam", count: Any = 1, seed: Any = 0) -> str:
        """Captions of a picture, each with how likely the model finds its words."""
        return _html("captions", page.service.caption(_read(picture), decoding, count, seed))

    with gr.Column():
        picture = _picture()
        decoding = gr.Radio(DECODINGS, value="beam", label="How to write")
        with gr.Row(visible=False) as sampling:
            count = gr.Slider(1, MOST_CAPTIONS, 4, step=1, label="Captions to sample")
            seed = gr.Number(0, precision=0, minimum=0, label="Seed")
        button = gr.Button("Write", variant="primary")
        examples = _examples([[one.picture] for one in page.captioned], [picture])
    with gr.Column():
        shown = _answer("What the model writes stands here.")
    decoding.change(
        lambda chosen: gr.Row(visible=chosen == "nucleus"), decoding, sampling, api_visibility="private"
    )
    _connect(button, examples, caption, [picture, decoding, count, seed], [shown])


def _match(page: Page) -> None:
    @_told
    def match(picture: Any, texts: Any) -> str:
        """Probability by the matching head, and cosine of the embeddings, of each line."""
        return _html("matches", page.service.match(_read(picture), texts))

    own = [one.text for one in page.captioned]
    rows = [
        [one.picture, "\n".join([one.text, own[at - 1], own[at - 2]])]
        for at, one in enumerate(page.captioned)
    ]
    with gr.Column():
        picture = _picture()
        texts = gr.Textbox(label="Texts, a line each", lines=4, placeholder="a red apple\na dog on a sofa")
        button = gr.Button("Match", variant="primary")
        examples = _examples(rows, [picture, texts])
    with gr.Column():
        shown = _answer("How well each text fits the picture stands here.")
    _connect(button, examples, match, [picture, texts], [shown])


def _ask(page: Page) -> None:
    @_told
    def answer(picture: Any, question: Any, candidates: Any = "") -> str:
        """The model's own answer, or one of the candidates, which stand a line each."""
        return _html("answer", page.service.answer(_read(picture), question, candidates))

    with gr.Column():
        picture = _picture()
        question = gr.Textbox(label="Question", placeholder="what color is the circle?")
        candidates = gr.Textbox(
            label="Answers to choose from, a line each", info="Without any the model writes its own.", lines=3
        )
        button = gr.Button("Ask", variant="primary")
        examples = _examples([[one.picture, one.text] for one in page.asked], [picture, question])
    with gr.Column():
        shown = _answer("The answer stands here.")
    _connect(button, examples, answer, [picture, question, candidates], [shown])


def _explain(page: Page) -> None:
    @_told
    def explain(picture: Any, text: Any) -> tuple[Image.Image, str]:
        """A heat map for every word in one picture, and what was left out."""
        seen, explanation = page.service.explain(_read(picture), text)
        return Image.open(BytesIO(panels(seen, explanation))), _html("explained", explanation)

    with gr.Column():
        picture = _picture()
        text = gr.Textbox(label="Text", placeholder="a cat on a sofa")
        button = gr.Button("Explain", variant="primary")
        examples = _examples([[one.picture, one.text] for one in page.captioned], [picture, text])
    with gr.Column():
        heat = gr.Image(
            label="Where each word is seen",
            show_label=False,
            format="png",
            interactive=False,
            buttons=["download"],
        )
        shown = _answer("")
    _connect(button, examples, explain, [picture, text], [heat, shown])


def _search(page: Page) -> None:
    @_told
    def search(text: Any, count: Any = 12) -> list[tuple[Image.Image, str]]:
        """The pictures that fit a text best, re-ranked by the matching head."""
        return _gallery(page.service.search(text, count))

    @_told
    def similar(picture: Any, count: Any = 12) -> list[tuple[Image.Image, str]]:
        """The pictures that are nearest to one."""
        return _gallery(page.service.similar(_read(picture), count))

    with gr.Column():
        text = gr.Textbox(label="What to look for", placeholder="a red bicycle")
        by_text = gr.Button("Search", variant="primary")
        texts = _examples([[one.text] for one in page.captioned], [text])
        picture = _picture("Or a picture, for similar ones")
        by_picture = gr.Button("Search by picture")
        pictures = _examples([[one.picture] for one in page.captioned], [picture])
        count = gr.Slider(1, MOST_FOUND, 12, step=1, label="Pictures to show")
    with gr.Column():
        found = gr.Gallery(
            label="Found, the best first",
            show_label=False,
            columns=3,
            object_fit="contain",
            height="auto",
            buttons=[],
            elem_classes="blip-found",
        )
    _connect(by_text, texts, search, [text, count], [found])
    _connect(by_picture, pictures, similar, [picture, count], [found])


def _classify(page: Page) -> None:
    @_told
    def classify(picture: Any, names: Any, template: Any = "{}") -> dict[str, float]:
        """The share of each name, of which a line each is given."""
        return dict(page.service.classify(_read(picture), names, template))

    with gr.Column():
        picture = _picture()
        names = gr.Textbox(
            "\n".join(one.text for one in page.captioned), label="Names to choose from, a line each", lines=6
        )
        template = gr.Textbox(
            "{}", label="Template", info="The text that is made of a name, which stands for {}."
        )
        button = gr.Button("Classify", variant="primary")
        examples = _examples([[one.picture] for one in page.captioned], [picture])
    with gr.Column():
        shown = gr.Label(label="Shares", num_top_classes=10, elem_classes="blip-shares")
    _connect(button, examples, classify, [picture, names, template], [shown])


TABS: tuple[tuple[str, Role, Callable[[Page], None]], ...] = (
    ("Caption", "caption", _caption),
    ("Match", "match", _match),
    ("Ask", "answer", _ask),
    ("Explain", "match", _explain),
    ("Search", "match", _search),
    ("Classify", "match", _classify),
)


def _picture(label: str = "Picture") -> gr.Image:
    return gr.Image(
        label=label,
        type="filepath",
        image_mode=None,
        sources=["upload", "clipboard"],
        height=HEIGHT,
        elem_classes="blip-picture",
        buttons=[],
    )


def _answer(waiting: str) -> gr.HTML:
    return gr.HTML(_html("waiting", waiting) if waiting else "")


def _examples(rows: list[list[Any]], inputs: list[Any]) -> Examples | None:
    if not rows:
        return None
    cells = [[str(cell) for cell in row] for row in rows]
    return gr.Examples(cells, inputs, visible_columns=[0], api_visibility="private")


def _connect(
    button: gr.Button,
    examples: Examples | None,
    answer: Callable[..., Any],
    inputs: list[Any],
    outputs: list[Any],
) -> None:
    """Have an answer when the button or an example is clicked."""
    button.click(answer, inputs, outputs, **ONE_AT_A_TIME)
    if examples:
        examples.load_input_event.success(answer, inputs, outputs, api_visibility="private", **ONE_AT_A_TIME)


def _read(picture: Any) -> bytes:
    """The bytes of a picture that was uploaded; gradio has seen that the file is in its own folder."""
    path = picture.get("path") if isinstance(picture, dict) else None
    if not path:
        raise BadArguments(NO_PICTURE)
    try:
        with Path(path).open("rb") as file:
            return file.read(MAX_BYTES + 1)
    except OSError:
        raise BadArguments("the picture is gone, an hour after it came: choose it again") from None


def _told(answer: Callable[..., Any]) -> Callable[..., Any]:
    """An answer whose errors are shown on the page, where they are for its visitor."""

    @wraps(answer)
    def telling(*arguments: Any) -> Any:
        try:
            return answer(*arguments)
        except BlipError as error:
            raise gr.Error(escape(plain(str(error))), print_exception=False) from None

    return telling


def _gallery(found: list[Found]) -> list[tuple[Image.Image, str]]:
    """Pictures with their scores and what is said of them."""
    return [(one.picture, f"{plain(one.place.text or one.place.name)} · {_scores(one)}") for one in found]


def _scores(found: Found) -> str:
    match = "" if found.probability is None else f"match {found.probability:.2f}, "
    return f"{match}cosine {found.cosine:.2f}"


@cache
def _templates() -> Environment:
    return Environment(
        loader=PackageLoader("blip.serving"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _html(macro: str, *values: Any) -> str:
    """A part of the page; whatever it is given is escaped."""
    return plain(str(getattr(_templates().get_template("app.html.j2").module, macro)(*values)))
