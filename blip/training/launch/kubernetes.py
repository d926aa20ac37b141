"""The place of a pod of an indexed Job (infra/k8s/pretrain.yaml)."""

from collections.abc import Mapping

from blip.config import Launch
from blip.training.launch.place import Place


def find_place(launch: Launch, environment: Mapping[str, str]) -> Place:
    """From JOB_COMPLETION_INDEX, which Kubernetes sets, and BLIP_NODES and BLIP_MASTER of the manifest.

    BLIP_MASTER is the name of pod 0 in the headless service, as pretrain-0.pretrain.

    Raises:
        KeyError: this is no such pod.
    """
    return Place(
        int(environment["JOB_COMPLETION_INDEX"]),
        int(environment["BLIP_NODES"]),
        environment["BLIP_MASTER"],
        launch.master_port,
    )
