"""How a model directory becomes an MLflow model: code, signature, requirements travel with the weights.

A request is a table with the columns `image` (bytes, base64 or data URI), `text` and `question`, each optional,
and the parameters `task`, `head`, `decoding`; blip/serving/pyfunc.py answers it.
"""

import hashlib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

import blip

if TYPE_CHECKING:
    from mlflow.models import ModelSignature
    from pandas import DataFrame

PACKAGE = Path(blip.__file__).parent
# Of the package: what a served model answers with
ANSWERS = ("__init__.py", "serving/pyfunc.py", "model", "data")
WEIGHTS = ".safetensors"
WHITE_PIXEL = (  # a PNG of one pixel
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGP4DwABAQEAsTj2FAAAAABJRU5ErkJggg=="
)
SERVING_CODE = PACKAGE / "serving" / "pyfunc.py"
REQUIREMENTS = (
    "mlflow",
    "torch",
    "transformers",
    "tokenizers",
    "safetensors",
    "numpy",
    "pandas",
    "pillow",
    "opencv-python-headless",
    "simplejpeg",
    "pyarrow",
    "pydantic",
    "pyyaml",
    "av",
)


def save(directory: Path, target: Path, task: str, *, run_id: str, model_id: str) -> None:
    """Write the MLflow model `target`: the model directory, the package's code, and their description."""
    from mlflow import pyfunc
    from mlflow.models import Model

    pyfunc.save_model(
        target,
        mlflow_model=Model(run_id=run_id, model_id=model_id, model_uuid=model_id),
        python_model=str(SERVING_CODE),
        artifacts={"model": str(directory.resolve())},
        code_paths=[str(PACKAGE)],
        model_config={"task": task, "device": "cpu", "images_root": None},
        signature=signature(task),
        input_example=example(task),
        pip_requirements=requirements(),
    )


def digest(directory: Path, task: str) -> str:
    """sha256 of what a served model's answers depend on besides its weights: task, configuration, tokenizer, code."""
    found = hashlib.sha256(task.encode())
    beside = [(directory, file) for file in directory.rglob("*") if file.is_file() and file.suffix != WEIGHTS]
    code = [
        (PACKAGE, file)
        for file in PACKAGE.rglob("*.py")
        if any(file.is_relative_to(PACKAGE / part) for part in ANSWERS)
    ]
    for folder, file in (*sorted(beside), *sorted(code)):
        found.update(f"\0{file.relative_to(folder).as_posix()}\0".encode())
        found.update(hashlib.sha256(file.read_bytes()).digest())
    return found.hexdigest()


def example(task: str) -> tuple["DataFrame", dict[str, str]]:
    """A request as one sends it: a white picture in base64, the text or question, the parameters."""
    from pandas import DataFrame

    row = {"image": WHITE_PIXEL}
    row |= {"match": {"text": "a white square"}, "answer": {"question": "what colour is it?"}}.get(task, {})
    return DataFrame([row]), {"task": task}


def signature(task: str) -> "ModelSignature":
    """What the served model takes and returns."""
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema, TensorSpec
    from mlflow.types.schema import AnyType

    kinds = {"image": AnyType(), "text": "string", "question": "string"}
    columns: list[ColSpec | TensorSpec] = [
        ColSpec(kind, name, required=False) for name, kind in kinds.items()
    ]
    choices = {"task": task, "head": "itm", "decoding": "beam"}
    params = ParamSchema([ParamSpec(name, "string", default) for name, default in choices.items()])
    return ModelSignature(Schema(columns), Schema([ColSpec(AnyType(), "prediction")]), params)


def requirements() -> list[str]:
    """The installed versions of what the model needs to run, without local parts such as +cpu."""
    found = []
    for name in REQUIREMENTS:
        try:
            found.append(f"{name}=={version(name).partition('+')[0]}")
        except PackageNotFoundError:
            continue
    return found
