"""The table [stores] of experiments.toml: where a study keeps what is large. No number depends on it."""

from typing import Annotated

from pydantic import Field, field_validator

from flowlab.core.stores import place_of
from flowlab.study.recipe import Frozen

Url = Annotated[str, Field(min_length=1)]


class StoreSettings(Frozen):
    """Where a study keeps what is large, if not in its own folder: URLs of folders, s3://, gs:// or file://.

    `caches`: the caches themselves. `runs`: a second copy of each run, of one study alone: its journal, policies and
    draws, and while it is trained what it goes on from.
    """

    caches: Url | None = None
    runs: Url | None = None

    @field_validator("caches", "runs")
    @classmethod
    def _names_a_place(cls, url: str | None) -> str | None:
        if url is not None:
            place_of(url)
        return url
