"""The scaling model: what a step is made of, and how it changes with the number of ranks."""

from dataclasses import replace

import pytest

from blip.doctor.scaling import ADAM_PASSES, GPUS, REDUCE_PASSES, TWIN_PASSES, Hardware, Work, predict

WORK = Work(flops=2e9, pairs=10, weights=1e8, twin=5e7, collectives=0, gathered=0.0)
GPU = Hardware("gpu", 1e12, 0.5, bandwidth=1e11, near=1e10, far=1e9, per_node=4, latency=0.0, loader=1e6)
CPU = replace(GPU, cores=2.0, per_node=64)


def test_one_rank_computes_and_moves_its_weights():
    said = predict(WORK, GPU, 1)
    assert said.compute == pytest.approx(10 * 2e9 / 5e11)
    assert said.update == pytest.approx((TWIN_PASSES * 5e7 + ADAM_PASSES * 1e8) / 1e11)
    assert (said.reduce, said.gather) == (0, 0)
    assert said.pairs_per_second == pytest.approx(10 / (said.compute + said.update))
    assert said.bound == "compute"


def test_ranks_divide_the_optimiser_and_send_their_gradients_and_weights():
    said = predict(WORK, GPU, 4)
    assert said.update == pytest.approx((TWIN_PASSES * 5e7 + (ADAM_PASSES / 4 + REDUCE_PASSES) * 1e8) / 1e11)
    assert said.reduce == pytest.approx(3 * 0.75 * 1e8 / 1e10)
    assert predict(replace(WORK, zero_stage=0), GPU, 4).reduce == pytest.approx(2 * 0.75 * 1e8 / 1e10)


def test_beyond_a_node_the_network_between_nodes_counts():
    within, beyond = predict(WORK, GPU, 4), predict(WORK, GPU, 8)
    assert beyond.reduce / within.reduce == pytest.approx(10 * (7 / 8) / (3 / 4))
    assert beyond.bound == "all-reduce"


def test_ranks_beyond_the_cores_share_them():
    two, four = predict(WORK, CPU, 2), predict(WORK, CPU, 4)
    assert four.compute == 2 * two.compute
    assert two.compute == predict(WORK, CPU, 1).compute
    assert four.reduce == pytest.approx(2 * two.reduce * (3 / 4) / (1 / 2))


def test_a_loader_that_is_slower_than_the_rest_bounds_the_step():
    said = predict(replace(WORK, workers=2), replace(GPU, loader=20.0), 1)
    assert (said.step, said.bound) == (pytest.approx(10 / 40), "loader")
    assert said.pairs_per_second == pytest.approx(40)


def test_image_tokens_of_all_ranks_cost_a_gather():
    said = predict(replace(WORK, gathered=1e6, collectives=3), replace(GPU, latency=1e-3), 4)
    assert said.gather == pytest.approx(1e6 * 10 * 3 / 1e10 + 3 * 2 * 1e-3)


@pytest.mark.parametrize("name", GPUS)
def test_more_gpus_are_faster_in_all_and_slower_each(name: str):
    rates = [
        predict(Work(200e9, 90, 1.01e9, 0.78e9, workers=8), GPUS[name], n).pairs_per_second
        for n in (1, 8, 64, 1024)
    ]
    each = [rate / n for rate, n in zip(rates, (1, 8, 64, 1024), strict=True)]
    assert rates == sorted(rates)
    assert each == sorted(each, reverse=True)
