"""Room for DVC's cache, which has every dataset a second time where files cannot share blocks."""

import fcntl
import shutil
from configparser import ConfigParser
from pathlib import Path
from tempfile import TemporaryFile

from blip.config.dvc_yaml import cached_outputs
from blip.config.places import DATASETS
from blip.data.manifest import MANIFEST
from blip.data.pairs import PairsDataset
from blip.doctor.finding import GIB, Finding
from blip.doctor.plan import Plan
from blip.tracking.dvc_lock import stages_in, whole_text

CONFIGS = (Path(".dvc/config"), Path(".dvc/config.local"))  # the second has its way
FICLONE = 0x40049409  # Linux: have a file share the blocks of another one
BLOCK = 4096


def cache(plan: Plan) -> Finding:
    """What DVC will copy of the datasets here, and of the one that CapFilt makes, beside that itself."""
    web = plan.settings.capfilt.web
    stored = _stored()
    waiting = [out for stage in ("ingest", "capfilt") for out in cached_outputs(stage) if out not in stored]
    copies = sum(map(_bytes, waiting))
    made = DATASETS / "bootstrapped"
    more = 0 if made.exists() else _bytes(DATASETS / web)  # at most
    copies += more if made in waiting else 0
    here, place = _there(DATASETS), _place()
    if copies and shares_blocks(here, place):
        return Finding("cache", "good", "DVC's cache shares the blocks of the datasets (reflinks)")
    free, figures = shutil.disk_usage(place).free, {"copies_gib": copies / GIB, "made_gib": more / GIB}
    text = f"DVC copies {copies / GIB:,.1f} GiB of datasets"
    text += f", and CapFilt makes up to {more / GIB:,.1f}" if more else ""
    text += f"; {free / GIB:.1f} GiB free"
    beside = more if here.stat().st_dev == place.stat().st_dev else 0
    if not copies or copies + beside <= free:
        return Finding("cache", "good", text, figures)
    way = "give these outs of dvc.yaml `cache: false`, or take a file system with reflinks (XFS, Btrfs)"
    return Finding("cache", "bad", f"{text}: {way}; see docs/data.md", figures)


def shares_blocks(folder: Path, other: Path) -> bool:
    """Whether a file in one folder can share its blocks with one in the other; two small ones are tried."""
    try:
        with TemporaryFile(dir=folder) as file, TemporaryFile(dir=other) as copy:
            file.write(bytes(BLOCK))
            file.flush()
            fcntl.ioctl(copy, FICLONE, file.fileno())
    except OSError:
        return False
    return True


def _bytes(folder: Path) -> int:
    return PairsDataset.open(folder).manifest.bytes if (folder / MANIFEST).is_file() else 0


def _stored() -> set[Path]:
    """What DVC has stored already, as dvc.lock says."""
    stages = stages_in(whole_text())
    return {Path(out["path"]) for stage in stages.values() for out in stage.get("outs", ())}


def _place() -> Path:
    """Where DVC's cache is, or will be."""
    config = ConfigParser(interpolation=None, strict=False)
    config.read(CONFIGS, encoding="utf-8")
    return _there(CONFIGS[0].parent / config.get("cache", "dir", fallback="cache"))


def _there(path: Path) -> Path:
    return next(place for place in (path, *path.parents, Path()) if place.is_dir())
