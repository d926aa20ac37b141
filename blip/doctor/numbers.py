"""What must divide what, and what a step and the run come to."""

from collections.abc import Callable

from blip.config.places import DATASETS
from blip.doctor.finding import Finding
from blip.doctor.plan import Plan
from blip.errors import BlipError
from blip.stages.training import open_dataset
from blip.training.loop import schedule_of
from blip.training.precision import NEEDS_ZERO


def network(plan: Plan) -> Finding:
    """Sizes that fit each other; a network of them can be built."""
    model = plan.model
    try:
        count = sum(p.numel() for p in plan.objective.network.parameters())
    except (ValueError, BlipError) as error:
        return Finding("network", "bad", str(error))
    positions = plan.objective.network.config.text.max_positions
    if model.text.max_tokens > positions:
        return Finding(
            "network", "bad", f"text.max_tokens {model.text.max_tokens} is above {positions} positions"
        )
    side, vision = model.image_size, model.vision
    text = f"{count / 1e6:.0f}M weights, {side} px in patches of {model.patch_size}, "
    text += f"image encoder {vision.width} x {vision.layers}, text {model.text.width} x {model.text.layers}"
    return Finding("network", "good", text, {"weights": float(count)})


def batch(plan: Plan) -> Finding:
    """Ranks, batch, accumulation and lanes; and whether such a step can be taken in float16."""
    training = plan.run.training
    text = f"{training.ranks} x {training.batch_size} x {training.accumulate} = {plan.batch:,} pairs a step"
    at_once = training.ranks * training.batch_size
    lanes = training.lanes
    if lanes and (lanes % training.ranks or at_once % lanes):
        text += f"; lanes {lanes} must be a multiple of {training.ranks} rank(s) and divide {at_once}"
        return Finding("batch", "bad", text)
    if plan.settings.compute.dtype == "float16" and not training.zero_stage:
        return Finding("batch", "bad", f"{text}; {NEEDS_ZERO}")
    if training.batch_size == 1 and plan.run.objective.itm:
        return Finding("batch", "note", f"{text}; a batch of one pair has no negatives for ITM")
    return Finding("batch", "good", text, {"pairs_per_step": float(plan.batch)})


def samples_of_epoch(plan: Plan, given: float | None) -> float | None:
    """What an epoch takes: what the user says, or what is there and validation has left, where all datasets are."""
    if given:
        return given
    total = 0.0
    for name, weight in plan.run.mixture:
        if not (DATASETS / name / "manifest.json").is_file():
            return None
        dataset, excluded = open_dataset(name)
        total += weight * (len(dataset) - len(excluded))
    return total


def length(given: float | None) -> Callable[[Plan], Finding]:
    """The check of steps and warm-up; `given`: samples of an epoch, where the data are not here."""

    def schedule(plan: Plan) -> Finding:
        run, training = plan.run, plan.run.training
        samples = samples_of_epoch(plan, given)
        if samples is None and run.steps is None:
            return Finding(
                "steps",
                "note",
                f"{run.epochs:g} epochs of data that are not here; say how many (--samples 15.3e6)",
            )
        if samples is None:
            figures = {"steps": float(run.steps or 0), "pairs": float((run.steps or 0) * plan.batch)}
            return Finding("steps", "good", f"{run.steps:,} steps", figures)
        batches = int(samples // (training.ranks * training.batch_size))
        if not batches // training.accumulate:
            return Finding(
                "steps", "bad", f"{samples:,.0f} samples do not fill one step of {plan.batch:,} pairs"
            )
        made = schedule_of(run, batches)
        text = f"{made.steps:,} steps, {made.steps_per_epoch:,} an epoch, {made.warmup_steps:,} to warm up"
        if made.warmup_steps > made.steps / 2:
            return Finding("steps", "note", f"{text}: more than half of them; lower optimiser.warmup")
        return Finding(
            "steps", "good", text, {"steps": float(made.steps), "pairs": float(made.steps * plan.batch)}
        )

    return schedule
