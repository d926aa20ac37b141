"""The training run that the doctor looks at, and what it is planned to run on.

plan = make_plan(settings, "pretrain", Devices(gpu="h100", per_node=8, nodes=4))
plan.footprint.peak, plan.work.flops
"""

import importlib
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import torch

from blip.config import Model, Run, Settings
from blip.config.places import MODELS, VOCABULARY
from blip.data.text import SpecialTokens, Tokenizer
from blip.doctor.activations import Texts
from blip.doctor.footprint import Footprint, footprint
from blip.doctor.scaling import GPUS, LOADER, Hardware, Work
from blip.doctor.work import ASKED_WORK, pair_work
from blip.errors import BadArguments, BlipError
from blip.machine import usable_cores, usable_memory
from blip.model.blip import BlipConfig, BlipNetwork
from blip.model.nlvr import NlvrConfig, NlvrNetwork
from blip.model.vqa import untie
from blip.stages import STAGES
from blip.stages.training import Job, Objectives, network_config, objective_of, threads_of, whole_start
from blip.training.peak import device_peak
from blip.training.precision import autocast_dtype

# Of the others' runs
TRAINED = tuple(name for name, stage in STAGES.items() if stage.trains and name != "rounds")
MEAN_TOKENS = 13.0  # of a caption with its two special tokens
MEAN_DIALOG = 65.0  # of half of a dialog's ten rounds, with an answer
BERT = 30524  # entries of its vocabulary with [DEC] and [ENC]
CPU_EFFICIENCY, CPU_BANDWIDTH, CPU_RING = 0.6, 6e9, 0.7e9  # measured by benchmarks/scaling.py on an EPYC
ASSUMED = "h100"


@dataclass(frozen=True)
class Devices:
    """What a user says of them; None where this machine's are meant."""

    gpu: str | None = None
    per_node: int | None = None
    nodes: int = 1


@dataclass(frozen=True)
class Whole:
    """What a run takes from the whole BLIP that it starts from, and not from the settings."""

    vocabulary: int
    tied: bool


@dataclass(frozen=True)
class Plan:
    """A run and its devices.

    Attributes:
        device: ``cpu`` or ``cuda``.
        count: devices that there are, on all nodes.
        assumed: the settings want a GPU, there is none and none was named; figures are those of an H100.
        elsewhere: the GPU is not this machine's, but named or assumed.
    """

    stage: str
    job: Job
    settings: Settings
    device: str
    hardware: Hardware
    count: int
    assumed: bool = False
    elsewhere: bool = False

    @property
    def loaded(self) -> Hardware:
        """The devices with workers that make pictures of this size: measured, 224 px take 54% of the time of 384."""
        return replace(self.hardware, loader=LOADER * min(224 / self.model.image_size, 1.0))

    @property
    def run(self) -> Run:
        """The training run."""
        return self.job.run

    @property
    def model(self) -> Model:
        """Sizes of the network: those of the model that the run goes on from, with its own pixels, texts and rates."""
        own = self.run.model or self.settings.model
        if self.job.start is None:
            return own
        first = self.job.start == MODELS / "pretrain"
        before = self.settings.pretrain if first else self.settings.pretrain_bootstrapped
        made = before.model or self.settings.model
        vision, text = own.vision, own.text
        rates = {"drop_path": vision.drop_path, "patch_dropout": vision.patch_dropout}
        texts = {"dropout": text.dropout, "max_tokens": text.max_tokens}
        return made.model_copy(
            update={
                "image_size": own.image_size,
                "vision": made.vision.model_copy(update=rates),
                "text": made.text.model_copy(update=texts),
            }
        )

    @property
    def dtype(self) -> torch.dtype:
        """Of products."""
        wanted = self.settings.compute.dtype
        if wanted == "auto" and self.elsewhere:
            return torch.bfloat16  # which all GPUs have that can be named
        return autocast_dtype(wanted, self.device)

    @property
    def texts(self) -> Texts:
        """How long the texts are taken to be."""
        longest = self.model.text.max_tokens
        return Texts(min(MEAN_DIALOG if self.job.task == "dialogs" else MEAN_TOKENS, longest), longest)

    @property
    def batch(self) -> int:
        """Pairs of a step."""
        training = self.run.training
        return training.ranks * training.batch_size * training.accumulate

    @cached_property
    def vocabulary(self) -> int:
        """Entries of the vocabulary, or what it will have: BERT's where a file or a published model is named."""
        if self._whole:
            return self._whole.vocabulary
        wanted = self.settings.ingest.vocabulary
        path = Path(wanted.file or VOCABULARY / "vocab.txt")
        if path.is_file():
            return len(Tokenizer.from_vocabulary(path))
        return BERT if wanted.file else wanted.size

    @cached_property
    def _whole(self) -> Whole | None:
        """What the whole BLIP that the settings name has of its own; None where they name none."""
        return _whole_of(self.settings) if self.settings.model.starts_whole else None

    @cached_property
    def objective(self) -> Objectives:
        """Network, twin and queue without memory of their own.

        Raises:
            ValueError: the sizes do not fit each other.
            BlipError: they do not fit the task.
        """
        config, tokens = network_config(self.model, self.vocabulary), SpecialTokens(0, 1, 2, 3)
        with torch.device("meta"):
            network = self._network(config)
            if not self.run.optimiser.vision_lr:
                network.vision.requires_grad_(False)
            return objective_of(self.job, network, tokens)

    def _network(self, config: BlipConfig) -> BlipNetwork | NlvrNetwork:
        """The task's."""
        if self.job.task == "statements":
            return NlvrNetwork(NlvrConfig(config.vision, config.text, config.text.layers // 2))
        network = BlipNetwork(replace(config, tied=self._whole.tied) if self._whole else config)
        return untie(network) if self.job.task == "questions" else network

    @cached_property
    def footprint(self) -> Footprint:
        """Memory of a rank."""
        return footprint(self.objective, self.run, self.texts, self.device, self.dtype)

    @cached_property
    def work(self) -> Work:
        """A step of a rank."""
        wanted, training = self.run.objective, self.run.training
        config, locked = network_config(self.model, self.vocabulary), not self.run.optimiser.vision_lr
        again, asked = training.activation_checkpointing, wanted.questions_per_image
        if self.job.task == "pairs":
            parts = pair_work(
                config,
                self.texts,
                losses=(bool(wanted.itc), bool(wanted.itm), bool(wanted.lm)),
                queue=wanted.queue,
                momentum=wanted.contrast == "softmax",
                locked_vision=locked,
                captions=wanted.captions_per_image,
                checkpointing=again,
                cached=training.accumulate_features,
                abroad=wanted.itm_negatives == "global" and training.ranks > 1,
                distractors=bool(self.run.distractors),
            )
        else:
            asking = ASKED_WORK[self.job.task]
            parts = asking(config, self.texts, asked=asked, locked_vision=locked, checkpointing=again)
        weights = sum(p.numel() * 4 for p in self.objective.parameters() if p.requires_grad)
        twin = sum(b.numel() * 4 for b in self.objective.buffers() if b.is_floating_point())
        width = config.vision.seen(locked) * config.vision.width * 4
        # Image tokens go there, and their gradient comes back.
        tokens = 3 * width if wanted.itm and wanted.itm_negatives == "global" else 0
        gathered = 2 * (config.projection * 4 + 16) + tokens
        pairs = training.batch_size * training.accumulate
        return Work(
            sum(parts.values()),
            pairs,
            weights,
            twin,
            gathered,
            collectives=8 * training.accumulate,
            zero_stage=training.zero_stage,
            workers=max(training.workers, 1),
        )


def make_plan(settings: Settings, stage: str, devices: Devices) -> Plan:
    """What is looked at.

    Raises:
        BadArguments: there is no such stage, it does not train, or no such GPU is known.
    """
    if stage not in TRAINED:
        raise BadArguments(f"{stage!r} does not train; stages that do: {', '.join(TRAINED)}")
    job = job_of(settings, stage)
    if devices.gpu:
        named = _named(devices, settings)
        return Plan(stage, job, settings, "cuda", named, _count(devices, 1), elsewhere=True)
    if settings.compute.device != "cpu" and torch.cuda.is_available():
        return Plan(
            stage, job, settings, "cuda", _own_gpu(settings), _count(devices, torch.cuda.device_count())
        )
    if settings.compute.device == "cuda":
        count = _count(devices, 0)
        return Plan(stage, job, settings, "cuda", GPUS[ASSUMED], count, assumed=True, elsewhere=True)
    threads = threads_of(job.run, settings)
    cores = usable_cores()
    return Plan(stage, job, settings, "cpu", _own_cpu(settings, threads, cores), max(cores // threads, 1))


def job_of(settings: Settings, stage: str) -> Job:
    """The training run of a stage that trains."""
    where = STAGES[stage]
    return importlib.import_module(where.module).job(settings, where.variant)


def _whole_of(settings: Settings) -> Whole:
    """That of the starting model; with BERT's vocabulary if the check of the start is going to refuse it."""
    try:
        opened = whole_start(settings.model, settings)
    except BlipError:
        return Whole(BERT, tied=True)
    return Whole(len(opened.tokenizer), opened.network.config.tied)


def _count(devices: Devices, here: int) -> int:
    """Devices on all nodes; of a named GPU there are as many as is said, or one a node."""
    return (devices.per_node or here) * devices.nodes


def _named(devices: Devices, settings: Settings) -> Hardware:
    known = GPUS.get(str(devices.gpu).lower())
    if known is None:
        raise BadArguments(
            f"--gpu {devices.gpu}: no figures of it here; there are those of {', '.join(GPUS)}"
        )
    exact = known.flops_float32 if settings.compute.dtype == "float32" else None
    return replace(known, flops=exact or known.flops, per_node=devices.per_node or known.per_node)


def _own_gpu(settings: Settings) -> Hardware:
    """This machine's, with the data sheet that its name is found in, or its measured peak."""
    properties = torch.cuda.get_device_properties(0)
    known = [key for key in GPUS if key.upper() in properties.name.upper()]
    peak = device_peak(torch.device("cuda"), autocast_dtype(settings.compute.dtype, "cuda"))
    own = replace(GPUS[known[0] if known else "a100"], name=properties.name, flops=peak.flops)
    return replace(own, capacity=float(properties.total_memory), per_node=torch.cuda.device_count())


def _own_cpu(settings: Settings, threads: int, cores: int) -> Hardware:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    dtype = autocast_dtype(settings.compute.dtype, "cpu")
    peak = device_peak(torch.device("cpu"), dtype)
    torch.set_num_threads(before)
    return Hardware(
        f"{threads} core(s) of this CPU", peak.flops, CPU_EFFICIENCY, CPU_BANDWIDTH, CPU_RING, CPU_RING,
        per_node=cores, latency=1e-3, capacity=float(usable_memory()[0]), cores=cores / threads,
    )  # fmt: skip
