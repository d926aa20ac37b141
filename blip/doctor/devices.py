"""Are there as many devices as ranks, and does a rank fit into one?"""

from blip.doctor.finding import GIB, Finding
from blip.doctor.footprint import OTHER_BATCHES
from blip.doctor.plan import Plan

FULL = 0.9  # of a GPU's memory, of which its allocator's holes and other programs have the rest
HOLES = 1.4  # times what is reckoned, on a CPU where freed memory is kept: benchmarks/memory.py, at most


def devices(plan: Plan) -> Finding:
    """Devices against ranks."""
    ranks, count, name = plan.run.training.ranks, plan.count, plan.hardware.name
    if plan.assumed:
        way = f"--gpu h100 --gpus {min(ranks, 8)} --nodes {-(-ranks // 8)}"
        text = f"compute.device is cuda and no GPU is here; say what is meant ({way})"
        return Finding(
            "devices", "bad", f"{text}; figures below are an {name}'s", {"ranks": ranks, "devices": 0}
        )
    figures = {"ranks": float(ranks), "devices": float(count)}
    text = f"{ranks} rank{'s' * (ranks != 1)} on {count} x {name}"
    if plan.device == "cpu":
        fits = ranks <= count
        return Finding(
            "devices", "good" if fits else "note", text if fits else f"{text}: ranks share them", figures
        )
    if ranks > count:
        return Finding("devices", "bad", f"{text}: {_fewer(plan)}", figures)
    if ranks < count:
        return Finding("devices", "note", f"{text}: {count - ranks} would stand idle", figures)
    return Finding("devices", "good", text, figures)


def _fewer(plan: Plan) -> str:
    """How the same step is done by fewer devices."""
    training, count = plan.run.training, plan.count
    times, left = divmod(training.ranks * training.accumulate, max(count, 1))
    if left:
        return f"lower training.ranks to {count}"
    name = plan.stage.replace("@", ".")
    kept = f"--set {name}.training.ranks={count} --set {name}.training.accumulate={times}"
    return f"too few; {kept} keeps a step of {plan.batch:,} pairs"


def memory(plan: Plan) -> Finding:
    """The peak of a rank against the memory of its device."""
    cpu, ranks = plan.device == "cpu", plan.run.training.ranks
    need, have = plan.footprint.peak, plan.hardware.capacity / (ranks if cpu else 1)
    parts = sorted(plan.footprint.parts.items(), key=lambda part: -part[1])
    shown = ", ".join(f"{name} {size / GIB:.1f}" for name, size in parts if size >= 0.05 * need)
    text = f"{need / GIB:.1f} of {have / GIB:.0f} GiB a rank ({shown})"
    figures = {"peak_gib": need / GIB, "capacity_gib": have / GIB}
    figures |= {f"{name.replace(' ', '_')}_gib": size / GIB for name, size in parts}
    if need > have:
        return Finding("memory", "bad", f"{text}: {_smaller(plan, have)}", figures)
    if need * HOLES > have and cpu:
        return Finding(
            "memory", "note", f"{text}; freed memory is kept, which may take half as much again", figures
        )
    if need > FULL * have and not cpu:
        return Finding(
            "memory", "note", f"{text}: more than {FULL:.0%} is full; {_smaller(plan, FULL * have)}", figures
        )
    return Finding("memory", "good", text, figures)


def _smaller(plan: Plan, have: float) -> str:
    """A batch that fits, or what else there is."""
    training, parts = plan.run.training, plan.footprint
    stays = sum(parts.forward.get(name, 0.0) for name in ("copies of weights", "gradients", OTHER_BATCHES))
    fixed, grows = sum(parts.state.values()) + stays, sum(parts.forward.values()) - stays
    fits = int(training.batch_size * (have - fixed) / grows) if grows else 0
    if fits >= 1 and fits < training.batch_size:
        better = next(
            size for size in range(fits, 0, -1) if training.batch_size * training.accumulate % size == 0
        )
        times = training.batch_size * training.accumulate // better
        return f"batch_size {better} with accumulate {times} fits, or turn activation_checkpointing on"
    return "raise zero_stage with more ranks, or take a larger device"
