"""One rank of CapFilt, started by the launcher: `python -m blip.stages.capfilt_rank FOLDER`."""

import sys
from pathlib import Path

from blip.errors import exit_code_of
from blip.stages.bootstrapping import bootstrap_as_rank
from blip.training.launch.ranks import tie_to_parent


def main() -> int:
    """Bootstrap as one rank; the exit code is that of `blip stage`."""
    tie_to_parent()
    return exit_code_of(lambda: bootstrap_as_rank(Path(sys.argv[1])))


if __name__ == "__main__":
    sys.exit(main())
