"""What all settings are: frozen, and refusing names that they do not know."""

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A frozen part of the settings that refuses names it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid")
