"""Several ranks, as real processes: what each compares with, and that global settings make their number invisible."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.multiprocessing as processes

from tests.model.ranks_run import (
    CASES,
    PAIRS,
    QUEUE,
    STEPS,
    mean_gradient,
    objective,
    run,
    seed,
    share,
    step_of,
)

PUBLISHED = "as published"


@pytest.fixture(scope="module", params=PAIRS)
def ranks(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """The results of each rank: 2 x 8 pairs, 4 x 4, 3 x 2."""
    world, folder = request.param, tmp_path_factory.mktemp("ranks")
    processes.start_processes(run, (world, str(folder)), nprocs=world, start_method="spawn")
    return [torch.load(Path(folder) / f"{world}-{rank}.pt") for rank in range(world)]


def test_rows_and_their_gradients_find_their_rank(ranks: list[dict[str, Any]]) -> None:
    world = len(ranks)
    for rank, found in enumerate(result["exchanged"] for result in ranks):
        assert found["gathered"] == [part for r in range(world) for part in (r, 10 + r)]
        assert found["everyones"] == list(range(world))
        assert found["gradient"] == [sum(range(1, world + 1))] * 2
        assert (found["first"], found["own"]) == (7, rank)


@pytest.mark.parametrize("case", CASES)
def test_the_queue_is_the_same_on_every_rank(ranks: list[dict[str, Any]], case: str) -> None:
    for step in range(STEPS):
        first, *others = (result[case][step]["queue"] for result in ranks)
        assert all(torch.equal(first[name], other[name]) for other in others for name in first)


def test_as_published_a_rank_has_the_loss_of_its_own_pairs_and_everyones_queue(
    ranks: list[dict[str, Any]],
) -> None:
    """Each rank beside one process with the rank's pairs and, from the second step on, all ranks' features queued."""
    world = len(ranks)
    alone = [objective(PUBLISHED) for _ in ranks]
    for step in range(STEPS):
        for rank, made in enumerate(alone):
            expected = step_of(made, share(PUBLISHED, step, rank, world, PAIRS[world]), seed(step, rank))
            found = ranks[rank][PUBLISHED][step]
            assert found["losses"] == pytest.approx(expected["losses"], abs=1e-5)
            assert_close(found["gradients"], expected["gradients"])
        for made in alone:
            assert made.queue is not None
            made.queue.load_state_dict(ranks[0][PUBLISHED][step]["queue"])


def test_the_queue_has_the_features_of_all_ranks_in_their_order(ranks: list[dict[str, Any]]) -> None:
    world, found = len(ranks), ranks[0][PUBLISHED]
    alone = [objective(PUBLISHED) for _ in ranks]
    for rank, made in enumerate(alone):
        step_of(made, share(PUBLISHED, 0, rank, world, PAIRS[world]), seed(0, rank))
    for name in ("image", "text", "group"):
        own = torch.cat([getattr(made.queue, name)[: PAIRS[world] // world] for made in alone])
        assert torch.allclose(found[0]["queue"][name][: PAIRS[world]], own, atol=1e-6)
    assert found[-1]["queue"]["position"] == PAIRS[world] * STEPS % QUEUE, "16 pairs a step wrap around"


@pytest.mark.parametrize("case", [case for case in CASES if case != PUBLISHED])
def test_with_global_keys_and_negatives_it_does_not_matter_how_many_ranks_there_are(
    ranks: list[dict[str, Any]], case: str
) -> None:
    one = objective(case)
    for step in range(STEPS):
        expected = step_of(one, share(case, step, 0, 1, PAIRS[len(ranks)]), seed(step, 0))
        found = [result[case][step] for result in ranks]
        for name, loss in expected["losses"].items():
            mean = sum(rank["losses"][name] for rank in found) / len(found)
            assert mean == pytest.approx(loss, abs=1e-5), (step, name)
        assert_close(mean_gradient(found), expected["gradients"])
        for name, queued in expected["queue"].items():
            assert torch.allclose(found[0]["queue"][name], queued, atol=1e-6), (step, name)


def test_with_local_keys_it_does(ranks: list[dict[str, Any]]) -> None:
    """The comparison above can fail."""
    expected = step_of(objective(PUBLISHED), share(PUBLISHED, 0, 0, 1, PAIRS[len(ranks)]), seed(0, 0))
    mean = sum(rank[PUBLISHED][0]["losses"]["itc"] for rank in ranks) / len(ranks)
    assert abs(mean - expected["losses"]["itc"]) > 1e-3


def assert_close(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        # The temperature's is some 200, where float32 has five digits
        largest = max(gradient.abs().max().item(), 1.0)
        assert (found[name] - gradient).abs().max().item() <= 1e-4 * largest, name
