"""Calls to the MLflow store whose failure costs a warning, and no work of the stage.

if not sent(client.log_batch, run_id, metrics=waiting):
    ...                                                     # kept for the next time
stored(client.log_artifact, run_id, "params.yaml")
"""

import os
import sys
from collections.abc import Callable
from functools import cache

from blip.credentials import shown

RETRIES = "MLFLOW_HTTP_REQUEST_MAX_RETRIES"  # which MLflow reads before each call


def sent(call: Callable[..., object], *arguments: object, **named: object) -> bool:
    """Whether the store took a call. Its silence is no reason to lose a stage's work; a bad value is one.

    With all retries a server that is down takes a minute to say so. It is asked once from then on, until it answers:
    what a stage has to say at its end would take it many minutes.
    """
    from mlflow.exceptions import MlflowException

    return _taken((MlflowException, OSError), call, *arguments, **named)


def stored(call: Callable[..., object], *arguments: object) -> bool:
    """The same of a call that stores files: what they go to has exceptions of its own, as boto3 has, or no library."""
    return _taken((Exception,), call, *arguments)


def _taken(
    refusals: tuple[type[Exception], ...],
    call: Callable[..., object],
    *arguments: object,
    **named: object,
) -> bool:
    retries = _usual_retries()
    try:
        call(*arguments, **named)
    except refusals as error:
        if getattr(error, "error_code", "") == "INVALID_PARAMETER_VALUE":
            raise
        print(
            f"warning: MLflow did not take it ({call.__name__}): {shown(str(error))}"[:300], file=sys.stderr
        )
        os.environ[RETRIES] = "0"
        return False
    os.environ[RETRIES] = retries
    return True


@cache
def _usual_retries() -> str:
    return os.environ.get(RETRIES, "5")
