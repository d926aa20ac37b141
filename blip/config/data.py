"""Settings of ingestion and validation, documented at their fields' names."""

import re
from collections.abc import Iterable
from ipaddress import ip_network
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    Field,
    FiniteFloat,
    ModelWrapValidatorHandler,
    PrivateAttr,
    model_validator,
)

from blip.config.section import PathText, Section
from blip.credentials import plain

SourceKind = Literal[  # one file each in blip.ingest.sources
    "table", "folder", "imagefolder", "webdataset", "hf", "urls", "coco", "karpathy", "nocaps",
    "vqa", "vqav2", "visual_genome", "visdial", "nlvr2", "video", "msrvtt", "msvd", "pairs",
]  # fmt: skip
Origin = Literal["human", "web", "synthetic"]  # who wrote a text
NAME = re.compile(r"\w[\w.\- :]*")  # of a dataset: what MLflow, DVC and file systems take
ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*(::[^/]*)*://")  # what the address of a store begins with


class Columns(Section):
    """What the columns of a table are called, where their names do not tell."""

    image: str | None = None
    caption: str | None = None


def _of_black_and_white(ends: tuple[float, float]) -> tuple[float, float]:
    if ends[0] >= ends[1]:
        raise ValueError(
            f"{list(ends)} has to be the value of black and a higher one of white, as [0, 4095]; where white is 0 the "
            "file says so (TIFF)"
        )
    return ends


GreyRange = Annotated[tuple[FiniteFloat, FiniteFloat], AfterValidator(_of_black_and_white)]


class Source(Section):
    """Where a dataset comes from: a file, folder or store, its format, who wrote the texts and what they are for.

    `images` is the folder of the pictures that an annotation file names, where they are not beside it; `split`
    the part to read of a file or folder that holds several; `apart_from` the evaluation datasets of which a training
    dataset must have no picture, all of them if it is null. `grey_range` are the values that are black and white in
    grey pictures of more than 8 bits, as `[0, 4095]`: these are kept in 8 bits then; without it those are refused of
    which most would come out black or clipped. Of an address `source` has what may be written down; the rest of it, a
    password or a signature, `address` alone knows.
    """

    source: PathText
    kind: SourceKind
    origin: Origin
    role: Literal["train", "evaluation"]
    images: PathText | None = None
    split: str | None = None
    apart_from: list[str] | None = None
    columns: Columns | None = None
    # left out where it is null: what was made before there was one stays as made
    grey_range: GreyRange | None = Field(default=None, exclude_if=lambda ends: ends is None)
    _address: str = PrivateAttr("")

    @model_validator(mode="wrap")
    @classmethod
    def _hide_secrets(cls, values: Any, handler: ModelWrapValidatorHandler["Source"]) -> "Source":
        given = values.get("source") if isinstance(values, dict) else None
        if not isinstance(given, str) or not is_address(given):
            return handler(values)
        source = handler(values | {"source": plain(given)})
        if source.source != given:
            source._address = given
        return source

    @property
    def is_remote(self) -> bool:
        """Whether it lies in a store or on another host."""
        return is_address(self.source)

    @property
    def address(self) -> str:
        """`source` as it was given, with the password and the query that it may have: for asking, not for writing."""
        return self._address or self.source

    def kept_from(self, evaluation: Iterable[str]) -> tuple[str, ...]:
        """Of these evaluation datasets those of which it must have no picture."""
        if self.role == "evaluation":
            return ()
        return tuple(name for name in evaluation if self.apart_from is None or name in self.apart_from)


def is_address(source: str) -> bool:
    """Whether a source is the address of a store, as `s3://bucket/laion`, and no path."""
    return ADDRESS.match(source) is not None


class Vocabulary(Section):
    size: int = Field(default=3000, ge=64)
    file: PathText | None = None


def _of_a_network(text: str) -> str:
    try:
        ip_network(text)
    except ValueError as error:
        raise ValueError(f"{error}; write 10.1.0.0/16 or 127.0.0.1") from None
    return text


class Download(Section):
    """How pictures of URL lists are fetched; explained in blip.ingest.download.

    `connections` and `connections_per_host` are those of a whole run, shared out among its workers (which have one at
    least); `seconds_between` is what lies at least between two requests to a host. A URL may take `total_seconds`
    with all its tries, each `connect_seconds` to find the host and connect, and `read_seconds` without a byte.
    `networks` are private ones to allow, as 10.1.0.0/16, for a mirror; `opt_outs` the X-Robots-Tag directives to
    respect; `agent` who we are, as `blip/1.0 (+mailto:...)`: a robots.txt or tag calls us by what is before the `/`.
    With `again` the stage ingest asks once more for what a finished dataset lacks because no server could be reached
    (`dns`, `connect`, `timeout`), one was busy or broken (`http_429`, `http_503` and their like), or a tar in a store
    did not come (`not_fetched`), for which all its tars are fetched.
    """

    connections: int = Field(128, ge=1)
    connections_per_host: int = Field(8, ge=1)
    seconds_between: float = Field(0.0, ge=0)
    connect_seconds: float = Field(5.0, gt=0)
    read_seconds: float = Field(10.0, gt=0)
    total_seconds: float = Field(60.0, gt=0)
    retries: int = Field(2, ge=0)
    backoff_seconds: float = Field(0.5, ge=0)
    max_wait_seconds: float = Field(30.0, ge=0)
    max_bytes: int = Field(20_000_000, ge=1)
    max_redirects: int = Field(5, ge=0)
    agent: str = Field("blip", pattern=r"^[\x21-\x7e][\x20-\x7e]*$")
    opt_outs: tuple[str, ...] = ("noai", "noimageai", "noindex", "noimageindex")
    robots_txt: bool = False
    networks: tuple[Annotated[str, AfterValidator(_of_a_network)], ...] = ()
    again: bool = False


class Ingest(Section):
    """`datasets` that are null are left out: `without` has their names, and what reads them has to be left out too."""

    samples_per_shard: int = Field(1000, ge=1)
    max_bad_fraction: float = Field(0.02, ge=0, le=1)
    max_pixels: int = Field(100_000_000, ge=1, le=178_956_970)  # what Pillow refuses whatever it is told
    max_caption_chars: int = Field(10_000, ge=1)
    near_duplicate_bits: int = Field(4, ge=0, le=64)
    vocabulary: Vocabulary = Vocabulary()
    download: Download = Download.model_validate({})
    datasets: dict[str, Source]
    without: tuple[str, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _set_nulls_aside(cls, values: Any) -> Any:
        datasets = values.get("datasets") if isinstance(values, dict) else None
        if not isinstance(datasets, dict):
            return values
        null = [name for name, source in datasets.items() if source is None]
        kept = {name: source for name, source in datasets.items() if source is not None}
        return values | {"datasets": kept, "without": (*values.get("without", ()), *null)}

    @model_validator(mode="after")
    def _names_are_taken_everywhere(self) -> "Ingest":
        if wrong := [name for name in self.datasets if not NAME.fullmatch(name)]:
            raise ValueError(
                f"datasets: {', '.join(map(repr, wrong))} cannot be the name of a dataset, as a folder and MLflow's "
                "parameters have it too: give it one of letters, digits, _, -, ., : and spaces"
            )
        return self

    @model_validator(mode="after")
    def _without_secrets(self) -> "Ingest":
        for name, source in self.datasets.items():
            if source.address != source.source:
                raise ValueError(
                    f"datasets.{name}.source: {source.source} has a password, a query or a fragment, and settings are "
                    "copied to dvc.lock and MLflow; leave it out: the store's own environment has credentials"
                )
        return self

    @model_validator(mode="after")
    def _apart_from_what_there_is(self) -> "Ingest":
        for name, source in self.datasets.items():
            unknown = [other for other in source.apart_from or () if self.role_of(other) != "evaluation"]
            if unknown or (source.apart_from is not None and source.role != "train"):
                what = (
                    f"{', '.join(unknown)} is no evaluation dataset"
                    if unknown
                    else "it is no training dataset"
                )
                raise ValueError(f"datasets.{name}.apart_from: {what}")
        return self

    def role_of(self, name: str) -> str | None:
        """What a dataset is for; None where it is none of these, as what other stages make."""
        return self.datasets[name].role if name in self.datasets else None

    def kept_from(self, name: str) -> tuple[str, ...]:
        """The evaluation datasets of which this one must have no picture."""
        evaluation = [other for other in self.datasets if self.role_of(other) == "evaluation"]
        return self.datasets[name].kept_from(evaluation)


class Validate(Section):
    """Thresholds of the rules of blip.validation.rules; explained in params.yaml."""

    min_side: int = Field(ge=1)
    max_aspect_ratio: float = Field(ge=1)
    caption_words: tuple[Annotated[int, Field(ge=0)], Annotated[int, Field(ge=0)]]
    max_non_ascii_share: float = Field(ge=0, le=1)
    min_letter_share: float = Field(0.1, ge=0, le=1)
    max_control_characters: int = Field(0, ge=0)
    max_caption_repeats: float = Field(ge=0, le=1)
    max_duplicate_share: float = Field(ge=0, le=1)
    near_duplicate_bits: int = Field(4, ge=0, le=64)
    max_near_duplicate_share: float | None = Field(None, ge=0, le=1)
    near_duplicates: Literal["report", "set_aside"] = "report"
    max_missing_share: float = Field(0.0, ge=0, le=1)
    max_bad_share: float | None = Field(None, ge=0, le=1)
    min_samples: int = Field(ge=1)
    max_excluded_share: float = Field(ge=0, le=1)

    @model_validator(mode="after")
    def _fewest_words_first(self) -> "Validate":
        fewest, most = self.caption_words
        if fewest > most:
            raise ValueError(
                f"caption_words: [{fewest}, {most}] is the wrong way round, so that no caption would do; give the "
                "fewest first"
            )
        return self
