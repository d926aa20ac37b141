"""What a device computes at best is looked up or measured, and measuring changes nothing of a run."""

import json
import time
from pathlib import Path

import pytest
import torch

from blip.training.peak import Peak, data_sheet, device_peak, matmul_peak

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("name", "teraflops"),
    [
        ("NVIDIA H200", 989),
        ("NVIDIA H100 80GB HBM3", 989),
        ("NVIDIA H100 PCIe", 756),
        ("NVIDIA A100-SXM4-80GB", 312),
        ("NVIDIA A10G", 70),
        ("NVIDIA L4", 121),
    ],
)
def test_a_known_gpu_has_the_figure_of_its_data_sheet(name: str, teraflops: float) -> None:
    assert data_sheet(name, torch.bfloat16) == teraflops * 1e12


def test_a_peak_is_told_in_three_digits_without_powers_of_ten() -> None:
    told = [str(Peak(teraflops * 1e12, "here")) for teraflops in (2250, 989, 0.08765)]
    assert told == [f"{said} TFLOP/s, here" for said in ("2,250", "989", "0.0877")]


def test_what_no_data_sheet_promises_is_measured() -> None:
    assert data_sheet("NVIDIA RTX A4000", torch.bfloat16) is None, "it is no A40"
    assert data_sheet("Tesla V100-SXM2-32GB", torch.bfloat16) is None, "it has float16 only"
    assert data_sheet("NVIDIA H200", torch.float32) is None, "true float32 products, as long as TF32 is off"


def test_the_peak_of_products_counts_two_operations_for_each_pair_of_numbers() -> None:
    a, b = torch.ones(1536, 1536), torch.ones(1536, 1536)
    taken = []
    for _ in range(8):
        start = time.perf_counter()
        torch.mm(a, b)
        taken.append(time.perf_counter() - start)
    assert 1 / 3 < matmul_peak(torch.float32, CPU) / (2 * 1536**3 / min(taken)) < 3


def test_measuring_the_cpu_draws_no_number_that_training_would_draw() -> None:
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    peak = device_peak(CPU, torch.float32)
    assert torch.rand(1) == expected
    assert "measured on" in str(peak)


def test_the_best_of_all_measurements_is_kept(tmp_path: Path) -> None:
    kept = tmp_path / "peaks.json"
    first = device_peak(CPU, torch.float32, kept)
    ((setting, flops),) = json.loads(kept.read_text()).items()
    assert flops == first.flops and not str(first).endswith(" before")
    assert setting.endswith(f", float32, {torch.get_num_threads()} threads")
    kept.write_text(json.dumps({setting: 1e18, "another": 1.0}))
    again = device_peak(CPU, torch.float32, kept)
    assert again.flops == 1e18 and str(again).endswith(" before")
    kept.write_text(json.dumps({setting: 1.0, "another": 1.0}))
    better = device_peak(CPU, torch.float32, kept)
    assert json.loads(kept.read_text()) == {setting: better.flops, "another": 1.0}


def test_a_damaged_file_of_peaks_is_written_anew_and_none_where_there_is_no_project(tmp_path: Path) -> None:
    (tmp_path / "peaks.json").write_text("{")
    found = device_peak(CPU, torch.float32, tmp_path / "peaks.json")
    assert list(json.loads((tmp_path / "peaks.json").read_text()).values()) == [found.flops]
    device_peak(CPU, torch.float32, tmp_path / "none/peaks.json")
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("written", ["[]", "null", "3", '{"AMD": null}', "{"])
def test_what_somebody_has_written_into_the_file_ends_no_training(tmp_path: Path, written: str) -> None:
    kept = tmp_path / "peaks.json"
    kept.write_text(written)
    measured = device_peak(CPU, torch.float32, kept)
    assert list(json.loads(kept.read_text()).values()) == [measured.flops]


def test_a_file_that_cannot_be_written_ends_no_training(tmp_path: Path) -> None:
    kept = tmp_path / "peaks.json"
    kept.mkdir()
    (kept / "in the way").touch()
    assert device_peak(CPU, torch.float32, kept).flops > 0
