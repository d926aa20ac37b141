"""Distil EfficientNet-lite0 into the tiny plain ViT: ``data/sample/weights/vision.*``.

    OMP_NUM_THREADS=2 python data/sample/build/make_starting_weights.py

Learns from pictures alone: no caption or name is read for training, and neither the validation style
(EmojiOne) nor the test style (Noto) is among the pictures. The student's CLS token is matched to the
teacher's pooled features (contrastively within the batch, and by cosine), its 36 patch tokens to the
teacher's maps at the same places. The heads that do the matching are thrown away. Needs the project
installed.
"""

import argparse
import json
import math
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import starting_teacher
import torch
import torch.nn.functional as F
from packages import SAMPLE, version_of
from safetensors.torch import save_file
from starting_muon import Muon
from starting_pictures import CLIP_ART, OTHER_STYLES, STYLES, load_pictures
from starting_probe import probe, references
from starting_views import VIEWS, Views, load_views
from torch import Tensor, nn

from blip.model.vision import VisionConfig, VisionTransformer
from blip.training.memory import keep_freed_memory
from blip.training.precision import has_fast_bfloat16

STUDENT = VisionConfig(image_size=48, patch_size=8, width=128, layers=4, heads=4)
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
LEFT_OUT = (
    "all captions, names and tags; EmojiOne (the validation style), Noto (the test style), what derives from "
    "them and what a perceptual hash takes for theirs; the Fluent 3D pictures of concepts that have an "
    "animation; flags, keycaps and skin tones"
)


@dataclass(frozen=True)
class Settings:
    """How long and how the student trains."""

    steps: int = 3000
    batch: int = 256
    seed: int = 0
    muon_lr: float = 0.02
    muon_momentum: float = 0.95
    muon_weight_decay: float = 0.01
    adamw_lr: float = 1.5e-3
    adamw_betas: tuple[float, float] = (0.9, 0.98)
    adamw_weight_decay: float = 0.05
    warm_up: float = 0.05
    clip: float = 1.0
    temperature: float = 0.07


class Distiller(nn.Module):
    """The student with the two heads that speak the teacher's language."""

    def __init__(self, pooled_width: int, spatial_width: int) -> None:
        super().__init__()
        self.vision = VisionTransformer(STUDENT)
        self.pooled_head = nn.Linear(STUDENT.width, pooled_width)
        self.spatial_head = nn.Linear(STUDENT.width, spatial_width)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Predicted pooled ``[B, P]`` and spatial ``[B, 36, S]`` features."""
        tokens_BND = self.vision(images)
        return self.pooled_head(tokens_BND[:, 0]), self.spatial_head(tokens_BND[:, 1:])


def losses(pooled: Tensor, spatial: Tensor, batch: Views, temperature: float) -> dict[str, Tensor]:
    """Contrastive, pooled cosine and spatial cosine loss; they are summed with weight one each."""
    student, teacher = (F.normalize(x.float(), dim=-1) for x in (pooled, batch.pooled[:, 0]))
    logits_BB = student @ teacher.T / temperature
    own = torch.arange(len(logits_BB))
    contrastive = (F.cross_entropy(logits_BB, own) + F.cross_entropy(logits_BB.T, own)) / 2
    places = F.cosine_similarity(spatial.float(), batch.spatial[:, 0].float(), dim=-1)
    return {
        "contrastive": contrastive,
        "pooled": (1 - (student * teacher).sum(-1)).mean(),
        "spatial": (1 - places).mean(),
    }


def draw_batch(views: Views, size: int, random: torch.Generator) -> Views:
    """``size`` different pictures, one view of each."""
    pictures = torch.randperm(len(views.names), generator=random)[:size]
    view = torch.randint(VIEWS, (size,), generator=random)
    pick = (pictures, view)
    return Views([], *(x[pick].unsqueeze(1) for x in (views.pixels, views.pooled, views.spatial)))


def augment(batch: Views, random: torch.Generator) -> tuple[Tensor, Views]:
    """Flip half of the images with their maps, move them by up to 2 pixels, jitter colours, normalise."""
    images = batch.pixels[:, 0].float() / 255
    flip = torch.rand(len(images), generator=random) < 0.5
    images = torch.where(flip[:, None, None, None], images.flip(-1), images)
    side = math.isqrt(batch.spatial.shape[2])
    mirrored = batch.spatial.unflatten(2, (side, side)).flip(3).flatten(2, 3)
    spatial = torch.where(flip[:, None, None, None], mirrored, batch.spatial)
    down, right = torch.randint(5, (2,), generator=random).tolist()
    size = images.shape[-1]
    images = F.pad(images, (2, 2, 2, 2), mode="replicate")[:, :, down : down + size, right : right + size]
    images = starting_teacher.normalise(jitter(images, random), MEAN, STD)
    return images, Views([], batch.pixels, batch.pooled, spatial)


def jitter(images: Tensor, random: torch.Generator) -> Tensor:
    """Light brightness, contrast and saturation; one image in ten becomes grey."""
    brightness, contrast, saturation = (
        1 + (torch.rand(len(images), 1, 1, 1, generator=random) * 2 - 1) * width for width in (0.2, 0.3, 0.5)
    )
    saturation = saturation * (torch.rand(len(images), 1, 1, 1, generator=random) > 0.1)
    grey = images.mean(1, keepdim=True)
    images = grey + (images - grey) * saturation
    middle = grey.mean((2, 3), keepdim=True)
    return ((images - middle) * contrast + middle).mul(brightness).clamp(0, 1)


def optimisers(model: Distiller, settings: Settings) -> list[torch.optim.Optimizer]:
    """Muon on the matrices of the blocks, AdamW on the rest; no decay on norms, biases, positions, CLS."""
    matrices = [p for p in model.vision.blocks.parameters() if p.ndim == 2]
    chosen = {id(p) for p in matrices}
    rest = [(name, p) for name, p in model.named_parameters() if id(p) not in chosen]
    decayed = [p for name, p in rest if p.ndim > 1 and "_embedding" not in name]
    plain = [p for name, p in rest if p.ndim <= 1 or "_embedding" in name]
    groups = [
        {"params": decayed, "weight_decay": settings.adamw_weight_decay},
        {"params": plain, "weight_decay": 0.0},
    ]
    return [
        Muon(matrices, settings.muon_lr, settings.muon_momentum, settings.muon_weight_decay),
        torch.optim.AdamW(groups, lr=settings.adamw_lr, betas=settings.adamw_betas),
    ]


def schedule(step: int, settings: Settings) -> float:
    """Linear warm-up, then a cosine to zero."""
    warm = max(1, round(settings.steps * settings.warm_up))
    if step < warm:
        return (step + 1) / warm
    return 0.5 + 0.5 * math.cos(math.pi * (step - warm) / max(1, settings.steps - warm))


def train(views: Views, settings: Settings) -> tuple[VisionTransformer, dict[str, float]]:
    """Train the student; returns it with the mean losses of the last hundred steps."""
    torch.manual_seed(settings.seed)
    random = torch.Generator().manual_seed(settings.seed)
    model = Distiller(views.pooled.shape[-1], views.spatial.shape[-1]).train()
    optims = optimisers(model, settings)
    rates = [torch.optim.lr_scheduler.LambdaLR(o, lambda step: schedule(step, settings)) for o in optims]
    recent: list[dict[str, float]] = []
    started = time.monotonic()
    for step in range(1, settings.steps + 1):
        images, batch = augment(draw_batch(views, settings.batch, random), random)
        with torch.autocast("cpu", torch.bfloat16, enabled=has_fast_bfloat16("cpu")):
            pooled, spatial = model(images)
        parts = losses(pooled, spatial, batch, settings.temperature)
        torch.stack(list(parts.values())).sum().backward()
        nn.utils.clip_grad_norm_(model.parameters(), settings.clip)
        for optim, rate in zip(optims, rates, strict=True):
            optim.step()
            rate.step()
            optim.zero_grad(set_to_none=True)
        recent = [*recent[-99:], {name: part.item() for name, part in parts.items()}]
        if step % 100 == 0 or step == settings.steps:
            print(f"step {step}: {_text(_mean(recent))}, {time.monotonic() - started:.0f} s", flush=True)
    return model.vision.eval(), _mean(recent)


def _mean(rows: list[dict[str, float]]) -> dict[str, float]:
    return {name: round(sum(row[name] for row in rows) / len(rows), 4) for name in rows[0]}


def _text(values: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.3f}" for name, value in values.items())


def provenance(counts: dict[str, int], settings: Settings, results: dict[str, object]) -> dict[str, object]:
    """What ``vision.json`` says about where the weights come from."""
    packages = {**{style: f"@iconify-json/{style}" for style in (*STYLES, *OTHER_STYLES)}, CLIP_ART: CLIP_ART}
    return {
        "teacher": {
            "network": "EfficientNet-lite0, ImageNet-1k",
            "package": starting_teacher.PACKAGE,
            "version": version_of(starting_teacher.PACKAGE),
            "licence": "Apache-2.0",
        },
        "student": asdict(STUDENT),
        "normalisation": {"mean": MEAN, "std": STD},
        "pictures": [
            {"package": package, "version": version_of(package), "pictures": counts[source]}
            for source, package in packages.items()
        ],
        "views_a_picture": VIEWS,
        "left_out": LEFT_OUT,
        "settings": asdict(settings),
        **results,
        "made": datetime.now(UTC).date().isoformat(),
        "command": f"OMP_NUM_THREADS={torch.get_num_threads()} python data/sample/build/make_starting_weights.py",
    }


def save(vision: VisionTransformer, record: dict[str, object], folder: Path) -> None:
    """Write the weights in bf16 and their provenance."""
    folder.mkdir(parents=True, exist_ok=True)
    state = {
        name: weight.detach().to(torch.bfloat16).contiguous() for name, weight in vision.state_dict().items()
    }
    partial = folder / "vision.safetensors.partial"
    save_file(state, partial, metadata={"format": "pt"})
    partial.chmod(0o644)  # safetensors writes 0o600
    partial.rename(folder / "vision.safetensors")
    (folder / "vision.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--steps", type=int, default=Settings.steps)
    parser.add_argument("--out", type=Path, default=SAMPLE / "weights")
    arguments = parser.parse_args()
    torch.set_flush_denormal(True)
    keep_freed_memory()
    settings = Settings(steps=arguments.steps)
    pictures = load_pictures()
    views = load_views(pictures)
    vision, final = train(views, settings)
    torch.manual_seed(settings.seed)
    results: dict[str, object] = {
        "final_losses": final,
        "probe_twemoji_to_flat_recall_at_1": {
            "these_weights": probe(vision, views),
            "random_initialisation": probe(VisionTransformer(STUDENT).eval(), views),
            **references(views),
        },
    }
    print(json.dumps(results, indent=2))
    save(vision, provenance(pictures.counts(), settings, results), arguments.out)


if __name__ == "__main__":
    main()
