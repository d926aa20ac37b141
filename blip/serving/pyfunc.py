"""The model that MLflow serves (models-from-code: MLflow runs this file when it loads a version).

    served = mlflow.pyfunc.load_model("models:/blip-captioning@champion")
    served.predict(pandas.DataFrame({"image": ["cat.jpg"]}))                                   # captions
    served.predict(pandas.DataFrame({"image": [data], "text": ["a cat"]}), {"task": "match"})  # probabilities

On a GPU: ``load_model(..., model_config={"device": "cuda"})``. A row is an image (path, bytes, base64 or data URI)
and, by task, a text or a question:

| task | columns | prediction |
|---|---|---|
| caption | image | the caption; `decoding`: greedy, beam or nucleus |
| match | image, text | `head` itm: probability that they match; itc: cosine |
| answer | image, question | the answer |
| embed | image, or text | an L2-normalised vector |
"""

import base64
import binascii
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel, PythonModelContext

from blip.errors import BlipError

TASKS = ("caption", "match", "answer", "embed")


class BlipModel(PythonModel):
    """A BLIP model directory behind MLflow's predict."""

    def load_context(self, context: PythonModelContext) -> None:
        """Open the model directory that travels with the version."""
        import blip

        config = context.model_config or {}
        self._task = config.get("task", "caption")
        self._model = blip.load(context.artifacts["model"], config.get("device", "cpu"))

    def predict(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """One prediction a row, in a column `prediction`.

        Raises:
            MlflowException: an unknown task, a missing column, or an image that is none.
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
        except BlipError as error:
            raise _invalid(str(error)) from None
        return pd.DataFrame({"prediction": predictions}, index=model_input.index)

    def _caption(self, table: pd.DataFrame, options: dict[str, Any]) -> list[str]:
        return self._model.caption(_images(table, "caption"), decoding=options.get("decoding") or "beam")

    def _match(self, table: pd.DataFrame, options: dict[str, Any]) -> list[float]:
        import torch

        tokens = self._model.encode_images(_images(table, "match"))
        texts = _texts(table, "text", "match")
        head = options.get("head") or "itm"
        if head not in ("itm", "itc"):
            raise _invalid(f"unknown head {head!r}: it is itm or itc")
        if head == "itc":
            return (self._model.project_images(tokens) * self._model.embed_texts(texts)).sum(dim=1).tolist()
        row = torch.arange(len(texts))
        return self._model.score_pairs(tokens, row, texts, row).sigmoid().tolist()

    def _answer(self, table: pd.DataFrame, options: dict[str, Any]) -> list[str]:
        return self._model.answer(_images(table, "answer"), _texts(table, "question", "answer"))

    def _embed(self, table: pd.DataFrame, options: dict[str, Any]) -> list[list[float]]:
        if "image" in table.columns:
            return self._model.embed_images(_images(table, "embed")).tolist()
        return self._model.embed_texts(_texts(table, "text", "embed")).tolist()


def _images(table: pd.DataFrame, task: str) -> list[bytes | Path]:
    return [_image(value, row) for row, value in enumerate(_column(table, "image", task))]


def _image(value: Any, row: int) -> bytes | Path:
    """A path or the bytes of one image."""
    if isinstance(value, bytes):
        return value
    if not isinstance(value, str):
        raise _invalid(f"row {row}: image is {type(value).__name__}, not a path, bytes or base64")
    with suppress(OSError, ValueError):  # base64 of a small picture is no name that a file could have
        if Path(value).is_file():
            return Path(value)
    try:
        return base64.b64decode(value.partition("base64,")[2] or value, validate=True)
    except (binascii.Error, ValueError):
        raise _invalid(f"row {row}: image {value[:80]!r} is neither a file here nor base64") from None


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
