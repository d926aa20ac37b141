"""What tests of several folders use: the command line in this process."""

import sys
from collections.abc import Callable
from typing import NamedTuple

import pytest

from blip import cli


class Ended(NamedTuple):
    """How a command ended: exit code, what it said on either stream."""

    code: int
    out: str
    err: str


@pytest.fixture
def blip(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Ended]:
    """Run the command in this process, as the console script does."""

    def run(*arguments: object) -> Ended:
        monkeypatch.setattr(sys, "argv", ["blip", *map(str, arguments)])
        capsys.readouterr()
        try:
            cli.main()
            code = 0
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else 0
        said = capsys.readouterr()
        return Ended(code, said.out, said.err)

    return run
