"""What may stand in params.yaml: a frozen, validated class for each section, documented at its fields' names."""

from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Discriminator, Field, Tag, model_validator

from blip.config.data import Ingest, Validate
from blip.config.places import BOOTSTRAPPED, ROUNDS
from blip.config.reads import refuse_role, refuse_unknown
from blip.config.section import PathText, Section
from blip.config.training import Filter, Model, Run
from blip.errors import BadArguments

Precision = Literal["auto", "float32", "bfloat16", "float16"]
FilterHead = Literal["itm", "itc", "both"]  # explained in blip.capfilt.judge
RerankBy = Literal["published", "log_odds"]  # explained in blip.tasks.retrieval
View = Annotated[float, Field(ge=0.1, le=1)]
Probability = Annotated[float, Field(ge=0, le=1)]


VALIDATION = "validation"  # the dataset by which a filter is judged
CHOSEN_BY = {"pretrain": "retrieval", "pretrain_bootstrapped": "retrieval", "captioner": "captioning"}
"""The task on whose validation data the candidates of a run are judged, where it is not the run's own."""
VALIDATED = {"validation.retrieval": "pretrain", "validation.captioning": "captioner"}
"""The first stage that reads the data of a task's validation."""
HEADS = {
    "filter": ("pretrain", ("itc", "itm")),
    "captioner": ("pretrain", ("lm",)),
    "finetune.retrieval": ("pretrain_bootstrapped", ("itc", "itm")),
    "finetune.captioning": ("pretrain_bootstrapped", ("lm",)),
}
"""Of runs whose models are asked for something: the run that they go on from, and the losses that one must have."""


ANSWERING = ("finetune.vqa", "finetune.nlvr", "finetune.visdial")
"""Runs with a loss of their own, of which the three weights say nothing."""
BY_HAND = ("nlvr", "visdial")
"""Tasks whose runs have settings here and data in a recipe of their own, which evaluates them too."""


COMPARED = ("pretrain", "pretrain_bootstrapped")
"""Runs whose models stage `compare` compares by their embeddings."""


POSITIONS = 512
"""Tokens of the longest text that the text transformer has positions for."""


def check_lengths(shortest: int, longest: int) -> None:
    """Raises ValueError if a caption cannot end, or is longer than any text.

    Up to its shortest length it may not end, at its longest it has to.
    """
    if longest > POSITIONS:
        raise ValueError(f"max_tokens {longest} is above the {POSITIONS} positions of the text transformer")
    if shortest >= longest:
        raise ValueError(f"min_tokens {shortest} is not below max_tokens {longest}: no caption could end")


class Compute(Section):
    """`dtype` is that of matrix products; weights are float32. float16 trains with a dynamic loss scale, which needs
    training.zero_stage 1 to 3; it is for GPUs without bfloat16.
    """

    device: Literal["auto", "cpu", "cuda"] = "auto"
    dtype: Precision = "auto"
    threads: int = Field(default=1, ge=1)


class Launch(Section):
    """How the ranks of a training run are started, found by each other and watched; explained in blip.training.launch.

    `launcher` is who starts the nodes: `auto` looks at the environment and `hostfile`; without any sign all ranks are
    local. `node_rank` is the number of this node where somebody starts the stage on every node of the hostfile by
    hand; without it node 0 starts the others through `remote_shell`. `master_port` is where they meet on node 0.
    `start_timeout` is how long (seconds) nodes wait for each other and a rank may need to its first step's end,
    `hang_timeout` how long any other step may take, `stop_timeout` how long a checkpoint may take when the run is to
    stop. They are no part of a stage: DVC runs nothing again for them, and a checkpoint is resumed with others.
    """

    launcher: Literal["auto", "local", "hostfile", "slurm", "kubernetes", "environment"] = "auto"
    hostfile: PathText | None = None
    node_rank: int | None = Field(None, ge=0)
    remote_shell: str = Field("ssh -o BatchMode=yes", min_length=1)
    master_port: int = Field(29400, ge=1024, le=65535)
    start_timeout: float = Field(1800.0, gt=0)
    hang_timeout: float = Field(600.0, gt=0)
    stop_timeout: float = Field(100.0, gt=0)


class Wish(Section):
    """A threshold by what it is to give: the share of the web texts to keep, or the precision on held-out pairs."""

    keep: float | None = Field(None, gt=0, lt=1)
    precision: float | None = Field(None, gt=0, lt=1)

    @model_validator(mode="after")
    def _one_wish(self) -> "Wish":
        if (self.keep is None) == (self.precision is None):
            raise ValueError("give either keep or precision")
        return self


def _kind_of(threshold: object) -> str:
    """By which of its two kinds a threshold is judged, so that a mistake is named as one of that kind alone."""
    return "wish" if isinstance(threshold, dict | Wish) else "probability"


Threshold = Annotated[
    Annotated[Probability, Tag("probability")] | Annotated[Wish, Tag("wish")], Discriminator(_kind_of)
]


class CapFilt(Section):
    """How captions are written, and which texts are kept: those whose probability of matching is `threshold` or more.

    `rounds` is how often all of CapFilt is done, each time from the model that the time before made. `web` and `human`
    name datasets of the pipeline; 0.5 is the argmax of the ITM head, as published. How well
    all that decides tells texts apart is measured on the dataset `held_out`, and for a wished precision the threshold,
    with a share `noise` of the texts assumed wrong. Synthetic captions
    have to reach `synthetic_threshold`, where that is given: a captioner's mistakes are plausible ones, and what is low
    enough for web texts lets too many of them pass; with `drop_repeats` none that repeats itself is kept, whatever the
    filter says (blip.capfilt.rules). The filter sees each picture in some `views`, shares of both sides
    about the middle, and their mean decides; to their log-odds are added, `likelihood` times, how likely the captioner
    finds the text (blip.capfilt.judge) and, `neighbours` times, how much likelier it is among similar pictures of the
    pool than among any (blip.capfilt.neighbours). `dtype` is what captioner and filter multiply in, and `compile`
    whether their layers are compiled first. It stops where more than `max_bad_fraction` of the samples are in damaged
    shards or have a picture that cannot be decoded. `ranks` processes share the shards, each on a GPU of its own,
    started and watched as those of a training run (`launch`, to which a batch is a step); one alone has as many workers
    on a CPU as there are cores.
    """

    rounds: int = Field(1, ge=1)
    ranks: int = Field(1, ge=1)
    web: str = "web"
    human: str = "human"
    decoding: Literal["nucleus", "beam"] = "nucleus"
    captions_per_image: int = Field(1, ge=1)
    top_p: float = Field(0.9, gt=0, le=1)
    max_tokens: int = Field(20, ge=2)
    min_tokens: int = Field(5, ge=1)
    repetition_penalty: float = Field(1.0, gt=0)
    drop_repeats: bool = True
    head: FilterHead = "itm"
    views: Annotated[tuple[View, ...], Field(min_length=1)] = (1.0,)
    likelihood: float = Field(0.0, ge=0)
    neighbours: float = Field(0.0, ge=0)
    threshold: Threshold = 0.5
    synthetic_threshold: Probability | None = None
    held_out: str = "validation"
    noise: float = Field(0.5, ge=0, lt=1)
    dtype: Literal["float32", "bfloat16"] = "float32"
    compile: bool = False
    batch_size: int = Field(64, ge=1)
    max_bad_fraction: float = Field(0.02, ge=0, le=1)

    @model_validator(mode="after")
    def _one_of_a_beam(self) -> "CapFilt":
        if self.decoding == "beam" and self.captions_per_image > 1:
            raise ValueError(
                "beam search writes one caption an image; use nucleus for captions_per_image > 1"
            )
        return self

    @model_validator(mode="after")
    def _room_for_a_caption(self) -> "CapFilt":
        check_lengths(self.min_tokens, self.max_tokens)
        return self


class Finetune(Section):
    """The runs of the tasks; those that are null are left out, as are all for which the sample has no data."""

    retrieval: Run
    captioning: Run
    vqa: Run | None = None
    nlvr: Run | None = None
    visdial: Run | None = None

    @model_validator(mode="after")
    def _answers_have_no_distractors(self) -> "Finetune":
        for task, run in (("vqa", self.vqa), ("nlvr", self.nlvr), ("visdial", self.visdial)):
            if run and run.distractors:
                raise ValueError(
                    f"{task} learns answers, which are matched with nothing; it takes no distractors"
                )
        return self


class Reranking(Section):
    rerank: int = Field(256, ge=1)
    rerank_by: RerankBy = "published"


class RetrievalEvaluation(Reranking):
    data: str


class RetrievalValidation(Reranking):
    data: str = "validation"


class Captioning(Section):
    beams: int = Field(3, ge=1)
    min_tokens: int = Field(5, ge=1)
    max_tokens: int = Field(20, ge=2)
    repetition_penalty: float = Field(1.0, gt=0)
    normalise: Literal["generated", "whole"] = "generated"  # explained in blip.model.generation

    @model_validator(mode="after")
    def _room_for_a_caption(self) -> "Captioning":
        check_lengths(self.min_tokens, self.max_tokens)
        return self

    @property
    def decoding(self) -> dict[str, Any]:
        """How `Blip.caption` is to write."""
        return {
            "decoding": "beam" if self.beams > 1 else "greedy",
            "beams": self.beams,
            "min_length": self.min_tokens,
            "max_length": self.max_tokens,
            "repetition_penalty": self.repetition_penalty,
            "normalise": self.normalise,
        }


class CaptioningEvaluation(Captioning):
    data: str


class CaptioningValidation(Captioning):
    data: str = "validation"


class Answering(Section):
    """`train` is the dataset whose answers are counted, of which the `candidates` likeliest are ranked."""

    train: str = "vqa_train"
    candidates: int = Field(128, ge=1)


class VqaEvaluation(Answering):
    data: str


class VqaScoring(VqaEvaluation):
    """What `blip evaluate` takes beside: `answers` names a JSON list of what may be answered, as BLIP has one.

    With it there need be no `train`: what is answered without looking at pictures is not told then. Of clips so many
    `frames` are looked at.
    """

    train: str = ""
    answers: str | None = None
    frames: int = Field(16, ge=1)


class VqaValidation(Answering):
    data: str = "vqa_validation"


def _with_a_place(template: str) -> str:
    if "{}" not in template:
        raise ValueError(f"{template!r} has no {{}} for the class name")
    return template


class ClassificationEvaluation(Section):
    """`templates` are the texts made of a class name, which goes where {} is."""

    data: str
    templates: list[Annotated[str, AfterValidator(_with_a_place)]] = Field(["{}"], min_length=1)


class VideoEvaluation(Section):
    data: str
    frames: int = Field(8, ge=1)
    rerank: int = Field(128, ge=1)
    rerank_by: RerankBy = "published"


class Evaluation(Section):
    """The dataset of a task that has no other setting."""

    data: str


class HeldOut(Evaluation):
    """Datasets of a task for which the sample has no data: to evaluate on, and to validate training.

    Where both are the same, figures of validation are those of the test, and no setting may be chosen by them.
    """

    validation: str


class Validation(Section):
    """How a training stage measures what it made, on the validation style.

    Apart from `evaluate`: these figures are the training stage's own, which DVC runs again when they would be others.
    `data` names another dataset than that of dvc.yaml, for a stage that is run by hand.
    """

    retrieval: RetrievalValidation = RetrievalValidation.model_validate({})
    captioning: CaptioningValidation = CaptioningValidation.model_validate({})
    vqa: VqaValidation = VqaValidation.model_validate({})


class Evaluate(Section):
    """What is asked of the models on test data; tasks that are null are left out."""

    batch_size: int = Field(64, ge=1)
    retrieval: RetrievalEvaluation
    captioning: CaptioningEvaluation
    vqa: VqaEvaluation | None = None
    classification: ClassificationEvaluation | None = None
    video: VideoEvaluation | None = None
    nlvr: HeldOut | None = None
    visdial: HeldOut | None = None


class Register(Section):
    """Which figures a model must reach to be its name's champion, and how far below the best of them it may fall.

    `tolerances` has those of other figures than shares, by their names or the ends of these: ``cider: 0.1``.
    Without `promote` what reaches the minimums is registered, and no alias changes.
    """

    experiment: str = "blip"
    promote: bool = True
    gate: dict[str, dict[str, float]]
    tolerance: float = Field(0.02, ge=0)
    tolerances: dict[str, Annotated[float, Field(ge=0)]] = Field(default_factory=dict)

    def tolerance_of(self, figure: str) -> float:
        """How far a candidate may fall below the best champion by this figure."""
        ends = (name for name in self.tolerances if f".{figure}".endswith(f".{name}"))
        return self.tolerances.get(max(ends, key=len, default=""), self.tolerance)


class Settings(Section):
    """Everything params.yaml says."""

    recipe: str | None = None
    seed: int = 0
    compute: Compute = Compute()
    launch: Launch = Launch.model_validate({})
    ingest: Ingest
    validate_: Validate = Field(alias="validate")
    model: Model
    pretrain: Run
    captioner: Run
    filter: Filter
    capfilt: CapFilt
    pretrain_bootstrapped: Run
    finetune: Finetune
    validation: Validation = Validation()
    evaluate: Evaluate
    register_: Register = Field(alias="register")

    @model_validator(mode="after")
    def _what_is_left_out_is_not_read(self) -> "Settings":
        if self.evaluate.vqa and not self.finetune.vqa:
            raise ValueError(
                "evaluate.vqa: finetune.vqa is null, so no model would answer; make this null too"
            )
        for name, read in self._reads().items():
            if gone := [dataset for dataset in dict.fromkeys(read) if dataset in self.ingest.without]:
                way = (
                    f"give it a source, or make {name} null"
                    if self._may_be_null(name)
                    else "give it a source"
                )
                raise ValueError(f"{name} reads {', '.join(gone)}, null in ingest.datasets; {way}")
        return self

    @model_validator(mode="after")
    def _what_is_learnt_is_not_measured_on(self) -> "Settings":
        learnt = {name: [*dict(run.mixture), *run.distractors] for name, run in self.runs.items()}
        refuse_role(learnt | {"capfilt": [self.capfilt.web, self.capfilt.human]}, "evaluation", self.ingest)
        measured = {
            f"evaluate.{name}": [getattr(task, key) for key in ("data", "validation") if hasattr(task, key)]
            for name, task in self._evaluations().items()
        }
        measured |= {f"validation.{name}": [task.data] for name, task in self.validation}
        refuse_role(measured | {"capfilt.held_out": [self.capfilt.held_out]}, "train", self.ingest)
        return self

    @model_validator(mode="after")
    def _test_data_choose_nothing(self) -> "Settings":
        for name, run in self.runs.items():
            task = CHOSEN_BY.get(name, name.removeprefix("finetune."))
            tested = getattr(self.evaluate, task, None)
            if tested and run.candidates > 1 and tested.data == self._validated_on(task):
                raise ValueError(
                    f"{name}.candidates: the best of {run.candidates} would be chosen on {tested.data}, the test data; "
                    "give it validation data of its own, or 1"
                )
        return self

    @model_validator(mode="after")
    def _test_data_choose_no_filter(self) -> "Settings":
        tested, wish = {task.data for task in self._evaluations().values()}, self.capfilt.threshold
        if self.filter.candidates > 1 and VALIDATION in tested:
            raise ValueError(
                f"filter.candidates: the best of {self.filter.candidates} would be chosen on {VALIDATION}, which "
                "evaluate names as test data; evaluate on other data, or give it 1"
            )
        if isinstance(wish, Wish) and wish.precision is not None and self.capfilt.held_out in tested:
            raise ValueError(
                f"capfilt.held_out: the threshold for a precision of {wish.precision} would be chosen on "
                f"{self.capfilt.held_out}, the test data; name validation data, or give a probability as threshold"
            )
        return self

    @model_validator(mode="after")
    def _heads_are_trained(self) -> "Settings":
        if not self.model.starts_whole:  # of which only its file says what was trained before
            for name, start, loss in self.untrained():
                raise ValueError(
                    f"{name}.objective.{loss} is 0, and {start}.objective.{loss} too: nothing would train the head "
                    "that the model is then asked for; give one of the two a weight"
                )
        return self

    @model_validator(mode="after")
    def _a_run_has_a_loss(self) -> "Settings":
        for name, run in self.runs.items():
            learns = run.objective
            if name not in ANSWERING and not (learns.itc or learns.itm or learns.lm):
                raise ValueError(
                    f"{name}.objective: itc, itm and lm are 0, so there is nothing to learn; give one a weight"
                )
        return self

    def untrained(self) -> list[tuple[str, str, str]]:
        """Runs asked for what neither they nor the run that they go on from train, with that run and the loss."""
        runs = self.runs
        return [
            (name, start, loss)
            for name, (start, losses) in HEADS.items()
            for loss in losses
            if not getattr(runs[name].objective, loss) and not getattr(runs[start].objective, loss)
        ]

    def require_embeddings(self) -> None:
        """Raise BadArguments with the first run that trains none: stage `compare`, near the end, would ask for them."""
        for name in COMPARED:
            if not self.runs[name].objective.itc and not self.model.starts_whole:
                raise BadArguments(
                    f"{name}.objective.itc is 0: stage `compare` compares the models of both pre-trainings by their "
                    "embeddings, which only this loss trains; give it a weight, or take `compare` out of dvc.yaml"
                )

    def require_data(self, runs: Callable[[str], bool] = lambda stage: True) -> None:
        """Raise BadArguments with the first setting that names a dataset that is not there and that nothing makes.

        Args:
            runs: whether a stage is among those that are to run; what the others read is not asked.
        """
        made = (BOOTSTRAPPED, *(f"{ROUNDS}/{number}" for number in range(2, self.capfilt.rounds + 1)))
        idle = {f"finetune.{task}" for task in BY_HAND if getattr(self.evaluate, task) is None}
        reads = {
            name: read
            for name, read in self._reads().items()
            if name not in idle and runs(VALIDATED.get(name, name.replace(".", "@")))
        }
        refuse_unknown(reads, (*self.ingest.datasets, *made))

    def _may_be_null(self, name: str) -> bool:
        section, _, task = name.partition(".")
        fields = {"finetune": Finetune.model_fields, "evaluate": Evaluate.model_fields}.get(section, {})
        return task in fields and not fields[task].is_required()

    def _reads(self) -> dict[str, list[str]]:
        """The datasets that runs and evaluations name, by the setting that may be null."""
        reads = self.datasets_read
        reads["filter"].append(VALIDATION)
        for name, how in self.validation:
            read = [getattr(how, key) for key in ("data", "train") if hasattr(how, key)]
            if f"validation.{name}" in VALIDATED:
                reads[f"validation.{name}"] = read
            elif f"finetune.{name}" in reads:  # which is the first that reads them
                reads[f"finetune.{name}"] += read
        return reads | {"capfilt": [self.capfilt.web, self.capfilt.human, self.capfilt.held_out]}

    @property
    def datasets_read(self) -> dict[str, list[str]]:
        """The datasets that training runs and evaluations name, by what they are called here."""
        reads = {name: [*dict(run.mixture), *run.distractors] for name, run in self.runs.items()}
        return reads | {
            f"evaluate.{name}": [
                getattr(task, key) for key in ("data", "train", "validation") if hasattr(task, key)
            ]
            for name, task in self._evaluations().items()
        }

    def _evaluations(self) -> dict[str, Any]:
        """The tasks of `evaluate` that are not left out, by their names."""
        tasks = {name: getattr(self.evaluate, name) for name in Evaluate.model_fields if name != "batch_size"}
        return {name: task for name, task in tasks.items() if task}

    def _validated_on(self, task: str) -> str:
        held_out = getattr(self.evaluate, task)
        return held_out.validation if isinstance(held_out, HeldOut) else getattr(self.validation, task).data

    @property
    def gate(self) -> dict[str, dict[str, float]]:
        """The minimums of `register.gate` for the models that are made: of a task that is left out there is none."""
        left_out = tuple(f"finetune.{name}." for name, run in self.finetune if run is None)
        minimums = self.register_.gate
        return {
            model: of
            for model, of in minimums.items()
            if not any(figure.startswith(left_out) for figure in of)
        }

    @property
    def runs(self) -> dict[str, Run]:
        """The training runs by their names here, as `pretrain` and `finetune.vqa`."""
        tasks = {f"finetune.{name}": getattr(self.finetune, name) for name in Finetune.model_fields}
        runs = {
            name: getattr(self, name) for name in ("pretrain", "captioner", "filter", "pretrain_bootstrapped")
        }
        return runs | {name: run for name, run in tasks.items() if run}
