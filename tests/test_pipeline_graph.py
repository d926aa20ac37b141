"""The flow, the stage registry and dvc.yaml state the same pipeline."""

import ast
import re
from pathlib import Path
from typing import Any

import networkx
import pytest
import yaml
from dvc.repo import Repo

from blip.config import IMMATERIAL, CapFilt, Training, load_settings, watched
from blip.config.dvc_yaml import settings_read
from blip.config.graph import STAGES
from blip.config.watched import CAPFILT_IMMATERIAL
from blip.errors import BadArguments
from blip.stages import STAGES as RUNNABLE
from flows.graph import TRAINING, parents, up_to, upstream, with_downstream
from flows.pipeline import one_at_a_time
from flows.project import SETTINGS
from flows.schedule import chosen

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def dvc_graph() -> networkx.DiGraph:
    """Stage to stage, an edge from each to those it depends on, as DVC derives it from dvc.yaml.

    Without that which notes the settings, on which all others depend.
    """
    graph = Repo(str(ROOT)).index.graph
    graph = networkx.relabel_nodes(graph, {stage: stage.addressing for stage in graph})
    assert set(graph.predecessors(SETTINGS)) == set(graph) - {SETTINGS}
    return graph.subgraph(set(graph) - {SETTINGS})


def test_the_edges_of_the_flow_are_those_of_dvc_yaml_without_the_implied_ones(dvc_graph):
    needed = set(networkx.transitive_reduction(dvc_graph).edges)

    assert {(name, parent) for name, parents in STAGES.items() for parent in parents} == needed


def test_the_flow_implies_every_edge_of_dvc_yaml(dvc_graph):
    assert {name: set(upstream(name)) for name in STAGES} == {
        name: networkx.descendants(dvc_graph, name) for name in dvc_graph
    }


def test_every_stage_of_dvc_yaml_can_be_run(dvc_graph):
    assert {name for name, stage in RUNNABLE.items() if not stage.by_hand} == set(dvc_graph)


def test_a_training_stage_depends_on_every_dataset_it_reads():
    settings = load_settings(ROOT / "params.yaml")
    runs = {name.replace(".", "@"): run for name, run in settings.runs.items()}
    needs = {
        stage.addressing: {Path(d.def_path) for d in stage.deps} for stage in Repo(str(ROOT)).index.stages
    }
    assert set(runs) == {name for name in STAGES if RUNNABLE[name].trains} - {"rounds"}
    for name, run in runs.items():
        assert {Path("data/datasets", dataset) for dataset in run.data} <= needs[name], name


def test_a_stage_depends_on_what_validation_found_of_its_own_datasets_alone():
    """And not on the folder of all lists: another evaluation set would train everything again."""
    validated = Path("data/datasets/validated")
    needs = {s.addressing: {Path(d.def_path) for d in s.deps} for s in Repo(str(ROOT)).index.stages}
    checked = needs["validate"]
    for name in needs.keys() - {"validate", "report"}:  # the report counts what others have read
        own = {
            validated / f"{path.name}.parquet"
            for path in needs[name] & checked
            if path.parent == validated.parent
        }
        assert {path for path in needs[name] if path.is_relative_to(validated)} == own, name


def test_later_rounds_depend_on_all_that_the_first_one_reads():
    names = ("captioner", "filter", "capfilt", "pretrain_bootstrapped")
    specs = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    own = {f"blip/stages/{name}.py" for name in names} | {f"models/{name}" for name in (*names, "pretrain")}
    own |= {"blip/stages/pretrain.py"}
    read = set().union(*(specs[name]["deps"] for name in names)) - own
    named = tuple(f"{dep}/" for dep in specs["rounds"]["deps"])
    assert [dep for dep in read if not f"{dep}/".startswith(named)] == []
    params = {param for name in names for param in settings_read(name)}
    scores = {param for param in params if param.startswith("validation.")}
    assert {param.partition(".")[0] for param in params - scores} | scores == set(settings_read("rounds"))


def test_a_training_stage_depends_on_every_setting_that_its_scores_read_and_on_none_of_evaluate():
    scores = {"pretrain": "retrieval", "captioner": "captioning", "filter": "matching"}
    scores |= {name: name.partition("@")[2] for name in STAGES if name.startswith("finetune@")}
    for stage, score in scores.items():
        named = settings_read(stage)
        assert not any(name.startswith("evaluate") for name in named)
        for setting in scoring_settings(ROOT / f"blip/stages/scores/{score}.py"):
            assert any(f"{setting}.".startswith(f"{name}.") for name in named), (stage, setting)
    assert settings_read("pretrain_bootstrapped")[-1:] == settings_read("pretrain")[-1:]


def scoring_settings(score: Path) -> set[str]:
    """What a score notes, and reads of `settings.validation`, also by another name that it gives a part of it."""
    function = ast.parse(score.read_text(encoding="utf-8"))
    texts = {ast.unparse(node) for node in ast.walk(function) if isinstance(node, ast.Attribute)}
    renamed = {
        f"{ast.unparse(node.targets[0])}.": f"{ast.unparse(node.value)}."
        for node in ast.walk(function)
        if isinstance(node, ast.Assign) and ast.unparse(node.value).startswith("settings.validation.")
    }
    for short, long in renamed.items():
        texts = {long + text.removeprefix(short) if text.startswith(short) else text for text in texts}
    parts = {text.rstrip(".") for text in renamed.values()} | {"settings.validation"}
    strings = {node.value for node in ast.walk(function) if isinstance(node, ast.Constant)}
    noted = {
        s for s in strings if isinstance(s, str) and re.fullmatch(r"seed|(validation|capfilt)\.[\w.]+", s)
    }
    return noted | {
        t.removeprefix("settings.") for t in texts - parts if t.startswith("settings.validation.")
    }


def test_dvc_finds_every_setting_that_a_stage_names():
    values = watched(load_settings(ROOT / "params.yaml"))
    for stage, names in {stage: settings_read(stage) for stage in STAGES}.items():
        for name in names:
            found: Any = values
            for part in name.split("."):
                assert part in found, (stage, name)
                found = found[part]


def test_what_changes_no_result_is_a_setting_of_training():
    assert Training.model_fields.keys() >= IMMATERIAL


def test_the_first_round_depends_on_every_setting_of_capfilt_that_changes_its_result():
    named = {name.removeprefix("capfilt.") for name in settings_read("capfilt") if "." in name}
    assert named == set(CapFilt.model_fields) - {"rounds"} - CAPFILT_IMMATERIAL
    written = yaml.safe_load((ROOT / "params.yaml").read_text())["capfilt"]
    assert set(written) == set(CapFilt.model_fields), "DVC cannot follow a setting that is not written down"


def test_stages_are_listed_after_those_they_wait_for():
    names = list(STAGES)

    assert all(names.index(parent) < names.index(name) for name in names for parent in STAGES[name])


def test_up_to_a_stage_are_it_and_all_it_needs():
    assert up_to("captioner") == ("ingest", "validate", "pretrain", "captioner")
    assert up_to(None) == tuple(STAGES)


def test_up_to_an_unknown_stage_lists_those_there_are():
    with pytest.raises(BadArguments, match=r"no stage 'pretain'.*pretrain_bootstrapped"):
        up_to("pretain")


def test_what_depends_on_a_change_has_to_run_too():
    assert with_downstream(["evaluate@video"]) == {"evaluate@video", "register", "report"}
    assert with_downstream(["ingest"]) == set(STAGES)
    assert with_downstream([]) == set()


def test_the_stages_that_train_are_known():
    assert {name for name, stage in RUNNABLE.items() if stage.trains and not stage.by_hand} == TRAINING


def test_of_those_that_train_on_the_same_nodes_one_is_started():
    ready, alone = ["captioner", "filter", "evaluate@vqa"], frozenset({"captioner", "filter", "rounds"})
    assert chosen(ready, [], 2, frozenset()) == ["captioner", "filter"]
    assert chosen(ready, [], 2, alone) == ["captioner", "evaluate@vqa"]
    assert chosen(ready, ["rounds"], 2, alone) == ["evaluate@vqa"]
    assert chosen(ready, ["rounds", "report"], 2, alone) == []


def test_training_stages_take_turns_on_gpus_and_on_the_nodes_of_a_hostfile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    for changes, alone in (
        ({}, frozenset()),
        ({"launch": {"hostfile": "hosts"}}, TRAINING),
        ({"compute": {"device": "cuda"}}, TRAINING),
    ):
        Path("params.yaml").write_text(yaml.safe_dump(params | changes))
        assert one_at_a_time() == alone


def test_what_a_stage_waits_for_is_found_through_stages_that_are_not_there():
    assert parents("capfilt", STAGES) == {"captioner", "filter"}
    assert parents("capfilt", ("ingest", "pretrain", "captioner")) == {"captioner", "pretrain"}
    assert parents("report", ("rounds", "compare")) == {"compare", "rounds"}
