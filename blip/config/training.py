"""Settings of the network and of a training run, documented at their fields' names."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from blip.config.data import Origin
from blip.config.section import PathText, Section

Weight = Annotated[float, Field(gt=0)]
Memory = Annotated[float, Field(ge=0, lt=1)]  # the share of a running mean that a step leaves as it was
Area = Annotated[float, Field(gt=0, le=1)]
IMMATERIAL = frozenset(
    (
        *("workers", "threads", "log_every", "max_skipped"),
        *("checkpoint_every", "keep_checkpoints", "keep_best", "async_checkpoint"),
    )
)
"""Of `Training`: what changes neither the weights nor what is measured of them."""


class TowerSize(Section):
    width: int = Field(ge=1)
    layers: int = Field(ge=1)
    heads: int = Field(ge=1)

    @model_validator(mode="after")
    def _heads_share_the_width(self) -> Self:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is not a multiple of {self.heads} heads")
        return self


class VisionSize(TowerSize):
    drop_path: float = Field(0.0, ge=0, lt=1)
    patch_dropout: float = Field(0.0, ge=0, lt=1)  # explained in blip.model.vision


class TextSize(TowerSize):
    max_tokens: int = Field(30, ge=3)  # both special tokens and one more, as config.json is read
    dropout: float = Field(0.1, ge=0, lt=1)


class Model(Section):
    """Sizes of the network, and what a new one starts from.

    `start` is an image encoder's weights (a ``.safetensors`` file), and `text_start` BERT's for the texts; or `start`
    is a whole BLIP (a model directory, a published ``.pth``, an id of the hub, ``models:/NAME/VERSION``), whose sizes
    these have to be and whose vocabulary stays.
    """

    image_size: int = Field(ge=1)
    patch_size: int = Field(ge=1)
    vision: VisionSize
    text: TextSize
    projection: int = Field(256, ge=1)
    start: PathText | None = None
    text_start: PathText | None = None

    @model_validator(mode="after")
    def _patches_fill_the_image(self) -> "Model":
        if self.image_size % self.patch_size:
            raise ValueError(f"image_size {self.image_size} is no multiple of patch_size {self.patch_size}")
        return self

    @model_validator(mode="after")
    def _texts_start_once(self) -> "Model":
        if self.starts_whole and self.text_start:
            raise ValueError(
                f"start: {self.start} is no .safetensors file, so a whole BLIP, which has its texts' weights already; "
                "text_start has to be null"
            )
        return self

    @model_validator(mode="after")
    def _starts_from_what_stays(self) -> "Model":
        if self.starts_whole and "@" in str(self.start):
            raise ValueError(
                f"start: {self.start} is another model after each promotion, this pipeline's own among them, so that a "
                "run would go on from what it made itself; give a version, as models:/blip-base/3"
            )
        return self

    @property
    def starts_whole(self) -> bool:
        """Whether `start` is a whole BLIP, and not an image encoder."""
        return self.start is not None and not self.start.endswith(".safetensors")


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
    lr: float = Field(gt=0)
    adam_lr: float = Field(gt=0)
    vision_lr: float = Field(1.0, ge=0)
    momentum: Memory = 0.95
    betas: tuple[Memory, Memory] = (0.9, 0.999)
    weight_decay: float = Field(0.05, ge=0)
    decay_all: bool = False
    layer_decay: float = Field(1.0, gt=0, le=1)
    clip: float = Field(0.0, ge=0)
    clip_muon: bool = False
    warmup: float = Field(0.0, ge=0)
    warmup_lr: float = Field(0.0, ge=0)
    schedule: Literal["cosine", "epoch_decay", "epoch_cosine"] = "cosine"
    final_lr: float = Field(0.0, ge=0)
    decay: float = Field(0.9, gt=0, le=1)

    @model_validator(mode="after")
    def _no_rate_above_the_peak(self) -> "Optimiser":
        name, peak = ("lr", self.lr) if self.name == "muon" else ("adam_lr", self.adam_lr)
        for other, rate in (("warmup_lr", self.warmup_lr), ("final_lr", self.final_lr)):
            if rate > peak:
                raise ValueError(
                    f"{other} {rate:g} is above {name} {peak:g}, the peak that it leads to or comes from"
                )
        return self


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
    the lowest smoothed loss if `keep_best` says so: a run goes on from the newest, and from that one if those after it
    are removed. All go when the stage is done; which step's model it keeps, `candidates` says. With `async_checkpoint`
    a thread writes it while training goes on, from a copy in the host's memory. Explained in blip.training.checkpoint.
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
    crop_scale: tuple[Area, Area] = (0.2, 1.0)
    flip: bool = True
    randaugment: bool = True
    shuffle_buffer: int = Field(1000, ge=1)
    checkpoint_every: int = Field(1000, ge=1)
    keep_checkpoints: int = Field(2, ge=1)
    keep_best: Literal["loss"] | None = None
    async_checkpoint: bool = False
    log_every: int = Field(50, ge=1)

    @model_validator(mode="after")
    def _crops_from_the_least(self) -> "Training":
        least, most = self.crop_scale
        if least > most:
            raise ValueError(
                f"crop_scale: [{least:g}, {most:g}] is the wrong way round; give the least share of the area first"
            )
        return self

    @model_validator(mode="after")
    def _features_are_of_whole_weights(self) -> "Training":
        if self.accumulate_features and self.zero_stage == 3:
            raise ValueError("accumulate_features embeds outside of a forward; it needs zero_stage 0, 1 or 2")
        return self


class Objective(Section):
    """Losses and what goes into them; explained in blip.model.objectives and blip.training.collate.

    `temperature` is what similarities are divided by at the start; null: what the model has learnt that a run goes on
    from. `caption_weights` are those of an image's captions in the draw, by origin; 1 where none is given.
    """

    itc: float = Field(1.0, ge=0)
    itm: float = Field(1.0, ge=0)
    lm: float = Field(1.0, ge=0)
    queue: int = Field(57600, ge=0)
    momentum: float = Field(0.995, ge=0, lt=1)
    alpha: float = Field(0.4, ge=0, le=1)
    alpha_ramp: float = Field(0.1, ge=0, le=1)
    queue_from: float = Field(0.0, ge=0, le=1)
    temperature: float | None = Field(0.07, gt=0)
    label_smoothing: float = Field(0.1, ge=0, lt=1)
    negative_floor: float = Field(1e-4, ge=0)
    random_negatives: float = Field(0.0, ge=0, le=1)
    distractor_share: float = Field(0.5, ge=0, le=1)
    itc_keys: Literal["local", "global"] = "local"
    itm_negatives: Literal["local", "global"] = "local"
    negatives_by: Literal["keys", "features"] = "keys"
    lm_mean: Literal["local", "global"] = "local"
    contrast: Literal["softmax", "sigmoid"] = "softmax"
    sigmoid_bias: float = -10.0
    positives: Literal["pair", "image", "text"] = "pair"
    captions: Literal["any", "shortest"] = "any"
    caption_weights: dict[Origin, Annotated[float, Field(ge=0)]] = Field(default_factory=dict)
    captions_per_image: int = Field(1, ge=1)
    questions_per_image: int = Field(1, ge=1)
    prompt: str = ""

    @model_validator(mode="after")
    def _weights_are_of_a_draw(self) -> "Objective":
        if self.caption_weights and self.captions == "shortest":
            raise ValueError("caption_weights are of a draw; with captions: shortest nothing is drawn")
        return self


class Run(Section):
    """One training run: its data, length, optimiser and objective.

    `data` names datasets, each taken once an epoch; or maps them to how often (`{human: 2.0, web: 0.2}`: every human
    sample twice, and a fifth of the web's, another one each epoch). `distractors` names datasets whose texts are shown
    as texts that match no image: a noisy pool's, to a filter that is to tell them from captions. Of `candidates`
    models, saved at as many evenly spaced steps, the one that does best on the validation data is kept; with 1 that of
    the last step (blip.stages.choosing).
    """

    data: Annotated[list[str], Field(min_length=1)] | Annotated[dict[str, Weight], Field(min_length=1)]
    distractors: list[str] = Field(default_factory=list)
    steps: int | None = Field(None, ge=1)
    epochs: float | None = Field(None, gt=0)
    candidates: int = Field(1, ge=1)
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

    @model_validator(mode="after")
    def _a_step_for_each_candidate(self) -> "Run":
        if self.steps is not None and self.candidates > self.steps:
            raise ValueError(f"candidates: {self.candidates} models of {self.steps} steps")
        return self

    @property
    def mixture(self) -> list[tuple[str, float]]:
        """The datasets in their order, each with its weight."""
        return list(self.data.items()) if isinstance(self.data, dict) else [(name, 1.0) for name in self.data]


class Filter(Run):
    """The filter's training. `members` of it, trained alike with other seeds, decide together."""

    members: int = Field(1, ge=1)

    @property
    def of_member(self) -> Run:
        """The training of one of the members."""
        return Run.model_validate(self.model_dump(exclude={"members"}))
