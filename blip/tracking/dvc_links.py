"""Links that lead out of the git repository: DVC refuses an output behind one, and only when it is made.

see_that_dvc_takes("pretrain")     # BlipError: models is a link to /disk/models, ...
"""

from pathlib import Path

from blip.config.dvc_yaml import cached_outputs
from blip.errors import BlipError


def see_that_dvc_takes(*stages: str) -> None:
    """See that what stages make lies where DVC can have git ignore it, as it does with all that it keeps.

    Raises:
        BlipError: a folder with such an output is a link, or lies behind one, that leads out of the repository.
    """
    here = Path.cwd().resolve()
    for output in (output for stage in stages for output in cached_outputs(stage)):
        leads_to = output.parent.resolve()
        if leads_to.is_relative_to(here) or not (root := _repository()) or leads_to.is_relative_to(root):
            continue
        link = next((folder for folder in output.parents if folder.is_symlink()), output.parent)
        raise BlipError(
            f"{link} is a link to {link.resolve()}, outside the git repository {root}: DVC would refuse {output} once "
            "it is made, and nothing of the work would be saved. Take the link away, and put the whole clone on that "
            "disk"
        )


def _repository() -> Path | None:
    """The git repository in which DVC works here; None where it works without."""
    from dvc.repo import Repo  # slow to import, and most often nothing leads out
    from dvc.scm import Git

    with Repo() as project:
        return Path(project.scm.root_dir).resolve() if isinstance(project.scm, Git) else None
