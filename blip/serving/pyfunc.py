"""The model that MLflow serves (models-from-code: MLflow runs this file when it loads a version).

    served = mlflow.pyfunc.load_model("models:/blip-captioning@champion")
    served.predict(pandas.DataFrame({"image": [data]}))                                        # captions
    served.predict(pandas.DataFrame({"image": [data], "text": ["a cat"]}), {"task": "match"})  # probabilities

On a GPU: ``load_model(..., model_config={"device": "cuda"})``. A row is an image (bytes, base64 or data URI) and, by
task, a text or a question:

| task | columns | prediction |
|---|---|---|
| caption | image | the caption; `decoding`: greedy, beam or nucleus |
| match | image, text | `head` itm: probability that they match; itc: cosine |
| answer | image, question | the answer |
| embed | image, or text | an L2-normalised vector |

Whoever may ask a server is not one who may read its files, so an image is no path, unless a folder is named whose
pictures may be asked for: ``load_model(..., model_config={"images_root": "."})``. A path is then one below that folder,
and no answer says what is in a file, or whether there is one outside.
"""

import base64
import binascii
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from mlflow.exceptions import MlflowException
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel, PythonModelContext

from blip.data.decode import BadMedia
from blip.data.images import squash, to_pil
from blip.errors import BlipError

TASKS = ("caption", "match", "answer", "embed")
LOG = logging.getLogger(__name__)


class BlipModel(PythonModel):
    """A BLIP model directory behind MLflow's predict."""

    def load_context(self, context: PythonModelContext) -> None:
        """Open the model directory that travels with the version."""
        import blip
        from blip.model.device import use_own_cores

        use_own_cores()
        config = context.model_config or {}
        self._task = config.get("task", "caption")
        self._model = blip.load(context.artifacts["model"], config.get("device", "cpu"))
        root = config.get("images_root")
        self._root = Path(root).resolve() if root else None

    def predict(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """One prediction a row, in a column `prediction`.

        Raises:
            MlflowException: an unknown task, a missing column, or an image that is none. Of what nobody foresaw
                it has the kind alone: MLflow would send the stack, with the server's paths.
        """
        options = params or {}
        task = options.get("task") or self._task
        tasks: dict[str, Callable[[pd.DataFrame, dict[str, Any]], list[Any]]] = {
            "caption": self._caption,
            "match": self._match,
            "answer": self._answer,
            "embed": self._embed,
        }
        if task not in tasks:
            raise _invalid(f"unknown task {task!r}; this model does: {', '.join(TASKS)}")
        try:
            predictions = tasks[task](model_input, options)
        except MlflowException:
            raise
        except BlipError as error:
            raise _invalid(str(error)) from None
        except Exception as error:
            LOG.exception("task %s failed", task)
            raise MlflowException(
                f"{type(error).__name__} in task {task!r}; the server's log has more"
            ) from None
        return pd.DataFrame({"prediction": predictions}, index=model_input.index)

    def _caption(self, table: pd.DataFrame, options: dict[str, Any]) -> list[str]:
        return self._model.caption(self._images(table, "caption"), decoding=options.get("decoding") or "beam")

    def _match(self, table: pd.DataFrame, options: dict[str, Any]) -> list[float]:
        images, texts = self._images(table, "match"), _texts(table, "text", "match")
        head = options.get("head") or "itm"
        if head not in ("itm", "itc"):
            raise _invalid(f"unknown head {head!r}: it is itm or itc")
        if head == "itc":
            return (self._model.embed_images(images) * self._model.embed_texts(texts)).sum(dim=1).tolist()
        row = torch.arange(len(texts))
        return self._model.score_pairs(self._model.encode_images(images), row, texts, row).sigmoid().tolist()

    def _answer(self, table: pd.DataFrame, options: dict[str, Any]) -> list[str]:
        return self._model.answer(self._images(table, "answer"), _texts(table, "question", "answer"))

    def _embed(self, table: pd.DataFrame, options: dict[str, Any]) -> list[list[float]]:
        if "image" in table.columns:
            return self._model.embed_images(self._images(table, "embed")).tolist()
        return self._model.embed_texts(_texts(table, "text", "embed")).tolist()

    def _images(self, table: pd.DataFrame, task: str) -> torch.Tensor:
        """The pictures of all rows as the model takes them, uint8 ``[N, 3, S, S]``."""
        size = self._model.image_size
        pictures = [
            self._picture(value, row, size) for row, value in enumerate(_column(table, "image", task))
        ]
        pixels_NSSC = np.stack(pictures) if pictures else np.empty((0, size, size, 3), np.uint8)
        return torch.from_numpy(pixels_NSSC).permute(0, 3, 1, 2)

    def _picture(self, value: Any, row: int, size: int) -> np.ndarray:
        path = self._path(value) if isinstance(value, str) else None
        data = path.read_bytes() if path else _data(value, row, self._root is not None)
        try:
            return squash(to_pil(data), size)
        except BadMedia as error:  # whose detail has the first bytes, which may be the server's
            told = f"{value[:80]!r} is no usable picture: {error.reason}" if path else f"is unusable: {error}"
            raise _invalid(f"row {row}: image {told}") from None

    def _path(self, value: str) -> Path | None:
        """The file below the root that is meant, links followed, if there is one."""
        if self._root is None:
            return None
        try:
            path = self._root / value
            return path if path.is_file() and path.resolve().is_relative_to(self._root) else None
        except (OSError, ValueError):  # base64 of a small picture is no name that a file could have
            return None


def _data(value: Any, row: int, paths: bool) -> bytes:
    """The bytes that a row carries."""
    if isinstance(value, bytes):
        return value
    if not isinstance(value, str):
        raise _invalid(f"row {row}: image is {type(value).__name__}, not bytes or base64")
    try:
        return base64.b64decode(value.partition("base64,")[2] or value, validate=True)
    except (binascii.Error, ValueError):
        way = (
            "nor a picture below images_root"
            if paths
            else "(paths are taken only by a model that is loaded with images_root in model_config)"
        )
        raise _invalid(f"row {row}: image {value[:80]!r} is not base64 {way}") from None


def _texts(table: pd.DataFrame, column: str, task: str) -> list[str]:
    texts = _column(table, column, task)
    for row, text in enumerate(texts):
        if not isinstance(text, str):
            raise _invalid(f"row {row}: {column} is {type(text).__name__}, not text")
    return texts


def _column(table: pd.DataFrame, name: str, task: str) -> list[Any]:
    if name not in table.columns:
        raise _invalid(f"task {task!r} needs the column {name!r}; the table has: {', '.join(table.columns)}")
    return table[name].tolist()


def _invalid(message: str) -> MlflowException:
    return MlflowException.invalid_parameter_value(message)


set_model(BlipModel())
