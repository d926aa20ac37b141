"""What `import blip` gives by name."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import blip
from tests import tiny

ROOT = Path(__file__).parents[1]


def test_what_load_gives_can_be_named(tmp_path: Path) -> None:
    assert isinstance(blip.load(str(tiny.save(tmp_path / "made", 0))), blip.Blip)
    assert {name for name in blip.__all__ if not hasattr(blip, name)} == set()


def test_a_name_that_is_not_there_is_told() -> None:
    with pytest.raises(AttributeError, match="module 'blip' has no attribute 'Blib'"):
        _ = blip.Blib


def test_the_import_alone_takes_nothing_that_is_slow() -> None:
    code = "import sys, blip; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_an_installed_package_says_that_it_has_types() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    packed = settings["tool"]["setuptools"]["package-data"]["blip"]
    assert [file for name in packed for file in (ROOT / "blip").glob(name)] == [ROOT / "blip/py.typed"]
