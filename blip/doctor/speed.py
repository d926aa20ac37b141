"""Pairs a second, hours, GPU-hours and cost, from the scaling model."""

import math
from collections.abc import Callable

from blip.doctor.finding import Finding
from blip.doctor.numbers import samples_of_epoch
from blip.doctor.plan import Plan
from blip.doctor.scaling import Prediction, predict

HOUR = 3600.0


def speed(plan: Plan) -> Finding:
    """Pairs a second, and what bounds them."""
    ranks, hardware = plan.run.training.ranks, plan.hardware
    said = predict(plan.work, plan.loaded, ranks)
    rate = said.pairs_per_second
    parts = {"compute": said.compute, "update": said.update, "all-reduce": said.reduce, "gather": said.gather}
    loading = {"loader": said.load} if said.bound == "loader" else {}
    shown = ", ".join(
        f"{name} {_time(seconds)}"
        for name, seconds in (loading | parts).items()
        if seconds >= 0.01 * said.step
    )
    text = f"{_number(rate)} pairs/s, {_number(rate / ranks)} a rank, bound by {said.bound}: "
    text += f"a step takes {_time(said.step)} ({shown}), at {hardware.efficiency:.0%} of "
    text += f"{_number(hardware.flops / 1e12)} TFLOP/s"
    figures = {"pairs_per_second": rate, "step_seconds": said.step, "load_seconds": said.load}
    figures |= {f"{name.replace('-', '_')}_seconds": seconds for name, seconds in parts.items()}
    figures |= {"flops_per_pair": plan.work.flops, "efficiency": hardware.efficiency}
    if said.bound == "loader":
        return Finding("speed", "note", f"{text}; {_more_workers(plan, said)}", figures)
    return Finding("speed", "good", text, figures)


def cost(given: float | None, price: float | None) -> Callable[[Plan], Finding]:
    """The check of hours and cost.

    Args:
        given: samples of an epoch, where the data are not here.
        price: of a device for an hour.
    """

    def hours(plan: Plan) -> Finding:
        ranks = plan.run.training.ranks
        rate = predict(plan.work, plan.loaded, ranks).pairs_per_second
        device = "GPU-hours" if plan.device == "cuda" else "rank-hours"
        million = 1e6 / rate * ranks / HOUR
        text, figures = f"{_number(million)} {device} a million pairs", {"device_hours_per_million": million}
        if price is not None:
            text += f", {million * price:.2f} in money"
            figures["cost_per_million"] = million * price
        pairs = _pairs(plan, given)
        if pairs is None:
            return Finding("cost", "good", text, figures)
        whole = pairs / rate / HOUR
        figures |= {"hours": whole, "device_hours": whole * ranks, "pairs": pairs}
        text = (
            f"{_hours(whole)} for {_number(pairs / 1e6)} M pairs, {_number(whole * ranks)} {device}; {text}"
        )
        if price is not None:
            figures["cost"] = whole * ranks * price
            text += f", {whole * ranks * price:,.0f} in all"
        return Finding("cost", "good", text, figures)

    return hours


def _pairs(plan: Plan, given: float | None) -> float | None:
    """Pairs of the whole run."""
    if plan.run.steps:
        return float(plan.run.steps * plan.batch)
    samples = samples_of_epoch(plan, given)
    return None if samples is None else samples * (plan.run.epochs or 0)


def _more_workers(plan: Plan, said: Prediction) -> str:
    """How many processes would prepare pictures as fast as the rest of a step goes."""
    busy = said.compute + said.update + said.reduce + said.gather
    wanted = math.ceil(said.pairs / (plan.loaded.loader * busy))
    return f"training.workers {wanted} would keep up at {plan.loaded.loader:.0f} pictures/s each"


def _number(value: float) -> str:
    """Three figures that count, without powers of ten."""
    return f"{float(f'{value:.3g}'):,.0f}" if value >= 100 else f"{value:.3g}"


def _time(seconds: float) -> str:
    """Seconds, or thousandths of them."""
    return f"{seconds:.3g} s" if seconds >= 1 else f"{seconds * 1e3:.3g} ms"


def _hours(hours: float) -> str:
    """Hours, or what is short in minutes."""
    return f"{_number(hours)} hours" if hours >= 1 else f"{hours * 60:.2g} minutes"
