"""What all settings are: frozen, and refusing names that they do not know, infinity and what is no number.

And what a path among them is.
"""

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict


class Section(BaseModel):
    """A frozen part of the settings that refuses names it does not know, infinity and what is no number."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def _written_out(place: str) -> str:
    if not place:
        raise ValueError("it is empty; name a file or folder, or null where there may be none")
    if place.startswith("~"):
        raise ValueError(f"{place!r}: only a shell reads ~ as your home folder; write out the path")
    return place


PathText = Annotated[str, AfterValidator(_written_out)]
"""A path or an address as text, as it can be opened."""
