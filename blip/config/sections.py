"""What may stand in params.yaml: a frozen, validated class for each section, documented at its fields' names."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Precision = Literal["auto", "float32", "bfloat16", "float16"]
FilterHead = Literal["itm", "itc", "both"]  # explained in blip.capfilt.judge
SourceKind = Literal[  # one file each in blip.data.sources
    "table", "folder", "imagefolder", "webdataset", "hf", "urls", "coco", "karpathy", "nocaps",
    "vqa", "vqav2", "visual_genome", "visdial", "nlvr2", "video", "msrvtt", "msvd",
]  # fmt: skip
RerankBy = Literal["published", "log_odds"]  # explained in blip.tasks.retrieval
Origin = Literal["human", "web", "synthetic"]  # who wrote a text
Weight = Annotated[float, Field(gt=0)]
View = Annotated[float, Field(ge=0.1, le=1)]


class Section(BaseModel):
    """A frozen part of the settings that refuses names it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid")


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
    hostfile: str | None = None
    node_rank: int | None = Field(None, ge=0)
    remote_shell: str = Field("ssh -o BatchMode=yes", min_length=1)
    master_port: int = Field(29400, ge=1024, le=65535)
    start_timeout: float = Field(1800.0, gt=0)
    hang_timeout: float = Field(600.0, gt=0)
    stop_timeout: float = Field(100.0, gt=0)


class Columns(Section):
    """What the columns of a table are called, where their names do not tell."""

    image: str | None = None
    caption: str | None = None


class Source(Section):
    """Where a dataset comes from: a file or folder, its format, who wrote the texts and what they are for.

    `images` is the folder of the pictures that an annotation file names, where they are not beside it; `split`
    the part to read of a file or folder that holds several.
    """

    source: str
    kind: SourceKind
    origin: Origin
    role: Literal["train", "evaluation"]
    images: str | None = None
    split: str | None = None
    columns: Columns | None = None


class Vocabulary(Section):
    size: int = Field(default=3000, ge=64)
    file: str | None = None


class Download(Section):
    """How pictures of URL lists are fetched; explained in blip.data.download.

    `connections` and `connections_per_host` are those of a whole run, shared out among its workers (which have one at
    least); `seconds_between` is what lies at least between two requests to a host. A URL may take `total_seconds`
    with all its tries, each `connect_seconds` to find the host and connect, and `read_seconds` without a byte.
    `networks` are private ones to allow, as 10.1.0.0/16, for a mirror; `opt_outs` the X-Robots-Tag directives to
    respect; `agent` who we are, as `blip/1.0 (+mailto:...)`: a robots.txt or tag calls us by what is before the `/`.
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
    networks: tuple[str, ...] = ()


class Ingest(Section):
    samples_per_shard: int = Field(1000, ge=1)
    max_bad_fraction: float = Field(0.02, ge=0, le=1)
    max_pixels: int = Field(100_000_000, ge=1)
    max_caption_chars: int = Field(10_000, ge=1)
    near_duplicate_bits: int = Field(4, ge=0, le=64)
    vocabulary: Vocabulary = Vocabulary()
    download: Download = Download.model_validate({})
    datasets: dict[str, Source]


class Validate(Section):
    """Thresholds of the rules of blip.data.validation.rules; explained in params.yaml."""

    min_side: int = Field(ge=1)
    max_aspect_ratio: float = Field(ge=1)
    caption_words: tuple[int, int]
    max_non_ascii_share: float = Field(ge=0, le=1)
    min_letter_share: float = Field(0.1, ge=0, le=1)
    max_control_characters: int = Field(0, ge=0)
    max_caption_repeats: float = Field(ge=0, le=1)
    max_duplicate_share: float = Field(ge=0, le=1)
    near_duplicate_bits: int = Field(4, ge=0, le=64)
    max_near_duplicate_share: float | None = Field(None, ge=0, le=1)
    near_duplicates: Literal["report", "set_aside"] = "report"
    max_missing_share: float = Field(0.0, ge=0, le=1)
    max_bad_share: float = Field(0.02, ge=0, le=1)
    min_samples: int = Field(ge=1)
    max_excluded_share: float = Field(ge=0, le=1)


class VisionSize(Section):
    width: int
    layers: int
    heads: int
    drop_path: float = 0.0
    patch_dropout: float = Field(0.0, ge=0, lt=1)  # explained in blip.model.vision


class TextSize(Section):
    width: int
    layers: int
    heads: int
    max_tokens: int = 30
    dropout: float = 0.1


class Model(Section):
    image_size: int
    patch_size: int
    vision: VisionSize
    text: TextSize
    projection: int = 256
    start: str | None = None


class Optimiser(Section):
    """How weights are moved; `lr` is that of Muon's matrices, `adam_lr` of all others (of all, under adamw).

    Norms, biases, positions and the temperature have no weight decay; with `decay_all` they have, as published.
    `layer_decay` multiplies the rate once for every layer that lies between a weight and the heads (BEiT, Bao et al.
    2022), in each tower for itself; 1 leaves all as they are. `clip` is the greatest norm of the gradient, 0 for none.
    Beside Muon it is that of AdamW's weights alone, as an orthogonal step has no scale to clip; with `clip_muon` it is
    DeepSpeed's, which counts and shrinks the orthogonal steps too (of the demo 85 times) and is a lower rate in fact.
    Explained in blip.training.schedule: `warmup` (a share of the steps, or their number when above 1), `warmup_lr`,
    `schedule`, `decay` and `final_lr`.
    """

    name: Literal["muon", "adamw"] = "adamw"
    lr: float
    adam_lr: float
    vision_lr: float = Field(1.0, ge=0)
    momentum: float = 0.95
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.05
    decay_all: bool = False
    layer_decay: float = Field(1.0, gt=0, le=1)
    clip: float = Field(0.0, ge=0)
    clip_muon: bool = False
    warmup: float = 0.0
    warmup_lr: float = 0.0
    schedule: Literal["cosine", "epoch_decay", "epoch_cosine"] = "cosine"
    final_lr: float = 0.0
    decay: float = 0.9


class SpikeRule(Section):
    """What a loss spike is: `threshold` robust deviations above the median of the last `window` steps' losses.

    Not before step `after`, and at most `max_rollbacks` times in a run; explained in blip.training.spikes.
    """

    threshold: float = Field(8.0, gt=0)
    window: int = Field(100, ge=8)
    after: int = Field(0, ge=0)
    max_rollbacks: int = Field(3, ge=0)


class Training(Section):
    """How a run is computed, fed and saved.

    `batch_size` is that of one rank; a step takes `ranks * batch_size * accumulate` samples. With `lanes`, a multiple
    of the ranks by which the batch of all ranks can be divided, a run may go on with other ranks, batch size and
    accumulation, as long as a step has as many samples; explained in blip.data.loader, as `shuffle_buffer` is.

        With `accumulate` above 1 ITC compares a batch with its own keys and the queue, into which every batch of a step
    goes; ITM draws negatives from the batch. The momentum twin moves once a step. With `accumulate_features` ITC
    compares all batches of a step, as if they were one (GradCache, Gao et al. 2021); each is then embedded twice, and
    ITM and LM stay as they are. `average` above 0 is the decay of an average of the weights, which is saved in place
    of the last step's (blip.training.average). `zero_stage` divides among the ranks 1 the optimiser's state, 2 the
    gradients too, 3 the weights too, with the same losses. A step without a finite gradient is left out on all ranks;
    more than `max_skipped` in a row end the run. After one of the `spikes`, if there is a rule for them, the run goes
    back to its last checkpoint.

    Every `checkpoint_every` steps a checkpoint is saved, of which the newest `keep_checkpoints` stay, and the one with
    the lowest smoothed loss if `keep_best` says so. With `async_checkpoint` a thread writes it while training goes on,
    from a copy in the host's memory. Explained in blip.training.checkpoint.
    """

    ranks: int = Field(1, ge=1)
    threads: int | None = Field(None, ge=1)
    workers: int = Field(0, ge=0)  # processes of each rank that prepare pictures; 0: its loading thread does
    batch_size: int = Field(64, ge=1)
    accumulate: int = Field(1, ge=1)
    lanes: int | None = Field(None, ge=1)
    accumulate_features: bool = False
    average: float = Field(0.0, ge=0, lt=1)
    zero_stage: Literal[0, 1, 2, 3] = 1
    activation_checkpointing: bool = False
    compile: bool = False
    max_skipped: int = Field(5, ge=0)
    spikes: SpikeRule | None = None
    crop_scale: tuple[float, float] = (0.2, 1.0)
    flip: bool = True
    randaugment: bool = True
    shuffle_buffer: int = Field(1000, ge=1)
    checkpoint_every: int = Field(1000, ge=1)
    keep_checkpoints: int = Field(2, ge=1)
    keep_best: Literal["loss"] | None = None
    async_checkpoint: bool = False
    log_every: int = Field(50, ge=1)

    @model_validator(mode="after")
    def _features_are_of_whole_weights(self) -> "Training":
        if self.accumulate_features and self.zero_stage == 3:
            raise ValueError("accumulate_features embeds outside of a forward; it needs zero_stage 0, 1 or 2")
        return self


class Objective(Section):
    """Losses and what goes into them; explained in blip.model.objectives and blip.training.batches.

    `caption_weights` are those of an image's captions in the draw, by origin; 1 where none is given.
    """

    itc: float = Field(1.0, ge=0)
    itm: float = Field(1.0, ge=0)
    lm: float = Field(1.0, ge=0)
    queue: int = Field(57600, ge=0)
    momentum: float = Field(0.995, ge=0, lt=1)
    alpha: float = Field(0.4, ge=0, le=1)
    alpha_ramp: float = Field(0.1, ge=0, le=1)
    queue_from: float = Field(0.0, ge=0, le=1)
    temperature: float = Field(0.07, gt=0)
    label_smoothing: float = Field(0.1, ge=0, lt=1)
    negative_floor: float = Field(1e-4, ge=0)
    random_negatives: float = Field(0.0, ge=0, le=1)
    distractor_share: float = Field(0.5, ge=0, le=1)
    itc_keys: Literal["local", "global"] = "local"
    itm_negatives: Literal["local", "global"] = "local"
    lm_mean: Literal["local", "global"] = "local"
    contrast: Literal["softmax", "sigmoid"] = "softmax"
    sigmoid_bias: float = -10.0
    positives: Literal["pair", "image", "text"] = "pair"
    captions: Literal["any", "shortest"] = "any"
    caption_weights: dict[Origin, Annotated[float, Field(ge=0)]] = {}
    captions_per_image: int = Field(1, ge=1)
    questions_per_image: int = Field(1, ge=1)
    prompt: str = ""

    @model_validator(mode="after")
    def _weights_are_of_a_draw(self) -> "Objective":
        if self.caption_weights and self.captions == "shortest":
            raise ValueError("caption_weights are of a draw; with captions: shortest nothing is drawn")
        return self


Half = Literal[0, 1]


class Run(Section):
    """One training run: its data, length, optimiser and objective.

    `data` names datasets, each taken once an epoch; or maps them to how often (`{human: 2.0, web: 0.2}`: every human
    sample twice, and a fifth of the web's, another one each epoch). `distractors` names datasets whose texts are shown
    as texts that match no image: a noisy pool's, to a filter that is to tell them from captions. Of those that `halves`
    names only the samples of half 0 or 1 are taken, by their keys (blip.data.halves).
    """

    data: Annotated[list[str], Field(min_length=1)] | Annotated[dict[str, Weight], Field(min_length=1)]
    distractors: list[str] = []
    halves: dict[str, Half] = {}
    steps: int | None = Field(None, ge=1)
    epochs: float | None = Field(None, gt=0)
    model: Model | None = None
    training: Training
    optimiser: Optimiser
    objective: Objective

    @model_validator(mode="after")
    def _one_length(self) -> "Run":
        if (self.steps is None) == (self.epochs is None):
            raise ValueError("give either steps or epochs")
        return self

    @model_validator(mode="after")
    def _distractors_are_of_the_rank(self) -> "Run":
        if self.distractors and self.objective.itm_negatives == "global":
            raise ValueError("distractors are drawn by each rank for itself; they need itm_negatives: local")
        return self

    @property
    def mixture(self) -> list[tuple[str, float]]:
        """The datasets in their order, each with its weight."""
        return list(self.data.items()) if isinstance(self.data, dict) else [(name, 1.0) for name in self.data]


class Filter(Run):
    """The filter's training. `members` of it, trained alike with other seeds, decide together.

    Beside them decide `crossed` pairs of members that learn from the web pool as it is, too: each from one half of it,
    and it judges the pictures of the other. What people never wrote, but the web writes often under like pictures, a
    filter that has learnt from human captions alone holds to be wrong.
    """

    members: int = Field(1, ge=1)
    crossed: int = Field(0, ge=0)

    @property
    def others(self) -> list[Half | None]:
        """All that decide beside the first member, by the half of the web pool that they learn from, if they do."""
        alike: list[Half | None] = [None] * (self.members - 1)
        pair: list[Half | None] = [0, 1]
        return alike + self.crossed * pair

    @property
    def of_member(self) -> Run:
        """The training of one of the members."""
        return Run.model_validate(self.model_dump(exclude={"members", "crossed"}))

    def of_crossed(self, web: str, half: Half) -> Run:
        """The training of one that learns from a half of the web pool."""
        run = self.of_member
        return run.model_copy(update={"data": {**dict(run.mixture), web: 1.0}, "halves": {web: half}})


class Wish(Section):
    """A threshold by what it is to give: the share of the web texts to keep, or the precision on held-out pairs."""

    keep: float | None = Field(None, gt=0, lt=1)
    precision: float | None = Field(None, gt=0, lt=1)

    @model_validator(mode="after")
    def _one_wish(self) -> "Wish":
        if (self.keep is None) == (self.precision is None):
            raise ValueError("give either keep or precision")
        return self


class CapFilt(Section):
    """How captions are written, and which texts are kept: those whose probability of matching is `threshold` or more.

    `rounds` is how often all of CapFilt is done, each time from the model that the time before made. `web` and `human`
    name datasets of the pipeline; 0.5 is the argmax of the ITM head, as published. For a wished precision the
    threshold is measured on the dataset `held_out`, with a share `noise` of the texts assumed wrong. Synthetic captions
    have to reach `synthetic_threshold`, where that is given: a captioner's mistakes are plausible ones, and what is low
    enough for web texts lets too many of them pass. The filter sees each picture in some `views`, shares of both sides
    about the middle, and their mean decides; to their log-odds is added, `likelihood` times, how likely the captioner
    finds the text (blip.capfilt.judge).
    """

    rounds: int = Field(1, ge=1)
    web: str = "web"
    human: str = "human"
    decoding: Literal["nucleus", "beam"] = "nucleus"
    captions_per_image: int = Field(1, ge=1)
    top_p: float = Field(0.9, gt=0, le=1)
    max_tokens: int = 20
    min_tokens: int = 5
    head: FilterHead = "itm"
    views: Annotated[tuple[View, ...], Field(min_length=1)] = (1.0,)
    likelihood: float = Field(0.0, ge=0)
    threshold: Annotated[float, Field(ge=0, le=1)] | Wish = 0.5
    synthetic_threshold: Annotated[float, Field(ge=0, le=1)] | None = None
    held_out: str = "validation"
    noise: float = Field(0.5, ge=0, lt=1)
    batch_size: int = Field(64, ge=1)

    @model_validator(mode="after")
    def _one_of_a_beam(self) -> "CapFilt":
        if self.decoding == "beam" and self.captions_per_image > 1:
            raise ValueError(
                "beam search writes one caption an image; use nucleus for captions_per_image > 1"
            )
        return self


class Finetune(Section):
    retrieval: Run
    captioning: Run
    vqa: Run

    @model_validator(mode="after")
    def _questions_have_no_distractors(self) -> "Finetune":
        if self.vqa.distractors:
            raise ValueError("vqa learns answers, which are matched with nothing; it takes no distractors")
        return self


class RetrievalEvaluation(Section):
    data: str
    rerank: int = Field(256, ge=1)
    rerank_by: RerankBy = "published"


class CaptioningEvaluation(Section):
    data: str
    beams: int = Field(3, ge=1)
    min_tokens: int = 5
    max_tokens: int = 20


class VqaEvaluation(Section):
    data: str
    train: str
    candidates: int = Field(128, ge=1)


class ClassificationEvaluation(Section):
    data: str
    templates: list[str] = Field(min_length=1)


class VideoEvaluation(Section):
    data: str
    frames: int = Field(8, ge=1)
    rerank: int = Field(128, ge=1)
    rerank_by: RerankBy = "published"


class Evaluate(Section):
    batch_size: int = 64
    retrieval: RetrievalEvaluation
    captioning: CaptioningEvaluation
    vqa: VqaEvaluation
    classification: ClassificationEvaluation
    video: VideoEvaluation


class Register(Section):
    experiment: str = "blip"
    gate: dict[str, dict[str, float]]
    tolerance: float = Field(0.02, ge=0)


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
    evaluate: Evaluate
    register_: Register = Field(alias="register")
