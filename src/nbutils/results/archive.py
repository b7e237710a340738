"""Archives: what the runs of one pairing measured, with their manifests, as data of a stranger.

An archive is JSON, compressed by gzip. It holds neither weights nor sampled text.
"""

import gzip
import zlib
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from nbutils.config.notebook_parameters import ReportNotebook
from nbutils.errors import UserError
from nbutils.results.measurements import MEASURED, TABLES, InStore
from nbutils.results.rows import VERSION
from nbutils.runs.identity import identity
from nbutils.runs.store import Store
from nbutils.runs.types import SCHEMA, Manifest, Run

LIMIT = 16 * 2**20  # bytes of an archive, compressed and decompressed


class ArchiveError(UserError):
    """A file is no archive of a pairing, is damaged, or was made by another version."""


class Contents(BaseModel):
    """An archive's contents: the pairing, and by their keys its runs and what they measured."""

    model_config = ConfigDict(extra="forbid")

    version: int
    pairing: ReportNotebook
    manifests: list[Manifest]
    measured: dict[str, dict[str, Any]]

    @model_validator(mode="after")
    def _agrees(self) -> "Contents":
        if self.version != VERSION:
            raise ValueError(
                f"its rows are of version {self.version}, those of this checkout of {VERSION}: "
                "update both to one commit and contribute it again"
            )
        for m in self.manifests:
            inputs = {role: given.model_dump() for role, given in m.inputs.items()}
            key = identity(m.stage, m.parameters, inputs, m.version)
            if (m.schema_version, m.key) != (SCHEMA, key):
                raise ValueError(
                    f"key {m.key!r} of {m.stage}, schema version {m.schema_version}, does not "
                    "follow from parameters, inputs and version of the run: they give "
                    f"{key}, schema version {SCHEMA}"
                )
        stages = {m.key: m.stage for m in self.manifests if m.stage in MEASURED}
        if stages.keys() != self.measured.keys():
            keys = ", ".join(sorted(stages.keys() ^ self.measured.keys()))
            raise ValueError(f"rows without a manifest, or a manifest without rows: {keys}")
        for key, stage in stages.items():
            try:
                MEASURED[stage].model_validate(self.measured[key])
            except ValidationError as error:
                raise ValueError(f"{stage} {key}: {_first(error)}") from None
        return self

    @property
    def trained(self) -> Manifest:
        """The manifest of the pairing's fine-tune."""
        return next(m for m in self.manifests if m.stage == "self_train")

    @property
    def file(self) -> str:
        """The archive's file name."""
        return f"{self.pairing.tier}-{self.trained.key}.json.gz"

    def data(self) -> bytes:
        """The archive as a file: the same bytes for the same contents."""
        return gzip.compress(self.model_dump_json(indent=1).encode(), mtime=0)


def contents(pairing: ReportNotebook, runs: list[Run], store: Store) -> Contents:
    """The contents of an archive of finished runs."""
    measurements = InStore(store, runs)
    measured: dict[str, dict[str, Any]] = {}
    for run in (run for run in runs if run.stage in MEASURED):
        if run.stage in TABLES:
            frame = measurements.frame(run, TABLES[run.stage])[[*MEASURED[run.stage].model_fields]]
            frame = frame.astype(object).where(frame.notna(), None)
            values = {str(name): list(column) for name, column in frame.items()}
        else:
            values = measurements.facts(run)
        measured[measurements.key_of(run)] = values
    manifests = [m for m in map(store.finished, runs) if m is not None]
    return Contents(version=VERSION, pairing=pairing, manifests=manifests, measured=measured)


def read(path: Path) -> Contents:
    """Read an archive and check its contents as far as they can be checked alone.

    Raises:
        ArchiveError: It is not a whole archive, a part of it is wrong, or another version made it.
    """
    try:
        with gzip.open(path) as file:
            data = file.read(LIMIT + 1)
        if len(data) > LIMIT:
            raise ArchiveError(f"it decompresses to more than {LIMIT // 2**20} MiB")
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error
        raise ArchiveError(f"it cannot be read as a whole archive: {reason}") from None
    try:
        found = Contents.model_validate_json(data)
        # it must be readable once it is written again, which NaN in a manifest is not
        return Contents.model_validate_json(found.model_dump_json())
    except ValidationError as error:
        raise ArchiveError(f"it is not an archive of a pairing: {_first(error)}") from None


def _first(error: ValidationError) -> str:
    problem = error.errors()[0]
    place = ".".join(map(str, problem["loc"]))
    return (f"{place}: " if place else "") + problem["msg"].removeprefix("Value error, ")
