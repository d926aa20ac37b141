"""The datasets are those of the tests of blip.data."""

from tests.data.conftest import make_dataset

__all__ = ["make_dataset"]
