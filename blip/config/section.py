"""What all settings are: frozen, and refusing names that they do not know, infinity and what is no number."""

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A frozen part of the settings that refuses names it does not know, infinity and what is no number."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
