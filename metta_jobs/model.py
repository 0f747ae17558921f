"""What all configurations are made of."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Model(BaseModel):
    """Immutable, and deaf to fields that do not exist and to infinite numbers, which JSON cannot store."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
