"""Archives: the tables and manifests of one pairing in one file, which is not trusted.

An archive is a zip file without folders: tables as text, manifests, digests. Nothing is unpacked
onto the disk. Tables are text because a small Parquet file can expand to any size.
"""

import io
import re
import stat
import struct
import zipfile
import zlib
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pandas.api.types import is_bool_dtype, is_numeric_dtype
from pydantic import ValidationError

from nbutils.analysis.gains import NORM, typed
from nbutils.config.design import LABELS
from nbutils.errors import UserError
from nbutils.escaping import visible
from nbutils.files import sums
from nbutils.protocol.stages import STAGES
from nbutils.results.collect import ordered
from nbutils.results.rows import VERSION
from nbutils.results.tables import COLUMNS, MANIFESTS, SUMS
from nbutils.runs.identity import identity
from nbutils.runs.types import SCHEMA, Manifest

LIMIT = 16 * 2**20  # bytes of an archive, packed and unpacked
HEADER = 4096  # bytes of a table's first line
TABLES = ("states", "utility", "extraction", "curves", "proxies", "corpora", "models")
"""All tables except the summaries, which are computed from these."""
TABLES_VERSION = "tables.version"
FILES = (*(f"{name}.csv" for name in TABLES), MANIFESTS, TABLES_VERSION, SUMS)

TEXT = (
    *("state", "extraction_run", "run", "experiment", "student", "source", "relation", "method"),
    *("task", "item", "document", "split", "kind", "proxy"),
    *("model", "family", "domain", "architecture", "size"),
)
FLAGS = (("extraction", "exact"), ("models", "student"))
OPTIONAL = (
    *(*LABELS, "seed", "task", "domain"),
    *("training_tokens", "planted_share", "exposures", "fidelity", "passage_hits"),
)
"""Columns in which a value may be missing."""
STATE = f"[0-9a-f]{{16}}({NORM})?"  # name of a state's column: its key, with NORM for acc_norm
PLAIN = r"[^<>&\n\t]{1,200}"  # in addition, all characters must be visible
DAMAGED = (
    *(zipfile.BadZipFile, zlib.error, struct.error),
    *(EOFError, OSError, RuntimeError, ValueError),
)
"""What zipfile raises for a damaged file."""


class ArchiveError(UserError):
    """A file is not an archive of a pairing, is damaged, or was made by another version."""


@dataclass(frozen=True)
class Archive:
    """The manifests and tables of an archive, each of them checked, and the archive repacked."""

    manifests: list[Manifest]
    tables: dict[str, pd.DataFrame]
    data: bytes = field(repr=False)


def pack(tables: dict[str, pd.DataFrame], manifests: list[Manifest]) -> bytes:
    """The bytes of an archive; equal content gives equal bytes.

    ``tables`` has at least the tables named in ``TABLES``.
    """
    files = {f"{name}.csv": _csv(ordered(name, tables[name])) for name in TABLES}
    files[MANIFESTS] = "".join(m.model_dump_json() + "\n" for m in manifests).encode()
    files[TABLES_VERSION] = f"{VERSION}\n".encode()
    return zipped(files | {SUMS: sums(files).encode()})


def zipped(files: dict[str, bytes]) -> bytes:
    """A zip archive of files, sorted by name, all with the same date."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in sorted(files.items()):
            archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def _csv(frame: pd.DataFrame) -> bytes:
    return frame.to_csv(index=False, lineterminator="\n").encode()


def read(path: Path) -> Archive:
    """Read an archive and check each of its files.

    Raises:
        ArchiveError: The archive is damaged or lacks an expected file, a digest, manifest or table
            is wrong, or another version made it.
    """
    try:
        with path.open("rb") as file:
            data = file.read(LIMIT + 1)
    except OSError as error:
        raise ArchiveError(f"it cannot be read: {error.strerror}") from None
    if len(data) > LIMIT:
        raise ArchiveError(f"it is larger than the {LIMIT // 2**20} MiB that are allowed")
    files = _entries(data)
    listed = sums({name: files[name] for name in FILES if name != SUMS}).encode()
    if listed != files[SUMS]:
        differing = set(listed.splitlines()) - set(files[SUMS].splitlines())
        names = ", ".join(sorted(line.decode().partition("  ")[2] for line in differing)) or SUMS
        raise ArchiveError(f"{names} differs from its digest in {SUMS}: ask for the file again")
    if files[TABLES_VERSION] != f"{VERSION}\n".encode():
        given = files[TABLES_VERSION][:9].decode("ascii", "replace").strip()
        raise ArchiveError(
            f"its tables are of version {given!r}, and this checkout writes version {VERSION}: "
            "bring both checkouts to one commit and contribute it again"
        )
    tables = {name: _table(name, files[f"{name}.csv"]) for name in TABLES}
    # repacked, so that the stored archive holds only what was checked
    return Archive(read_manifests(files[MANIFESTS]), tables, zipped(files))


def _entries(data: bytes) -> dict[str, bytes]:
    """Maps file names to contents.

    Raises:
        ArchiveError: The archive is damaged, has other files than expected, or is too large.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = archive.infolist()
            names = [entry.filename for entry in entries]
            if sorted(names) != sorted(FILES):
                wrong = [n for n, times in Counter(names).items() if n not in FILES or times > 1]
                missing = sorted(set(FILES) - set(names))
                raise ArchiveError(
                    f"it must hold {', '.join(FILES)}, each once; missing: "
                    f"{', '.join(missing) or 'none'}; not allowed: {str(wrong)[:200]}"
                )
            methods = {e.compress_type for e in entries}
            methods -= {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}
            if methods:  # unpacking these may take any amount of memory
                raise ArchiveError(f"it is packed by method {min(methods)}; allowed are 0 and 8")
            links = [e.filename for e in entries if stat.S_ISLNK(e.external_attr >> 16)]
            if links:
                raise ArchiveError(f"{', '.join(links)} is a link; only plain files are allowed")
            # zipfile never reads more of an entry than the size stated here
            size = sum(entry.file_size for entry in entries)
            if size > LIMIT:
                raise ArchiveError(
                    f"it unpacks to {size / 2**20:.0f} MiB; allowed are {LIMIT // 2**20} MiB"
                )
            return {entry.filename: archive.read(entry) for entry in entries}
    except DAMAGED as error:
        raise ArchiveError(f"it is no whole zip archive ({error}): ask for it again") from None


def read_manifests(content: bytes) -> list[Manifest]:
    """The manifests, one per line, each with a key that follows from its content.

    Raises:
        ArchiveError: A line is not a manifest, is of another version, or has another key.
    """
    manifests: dict[tuple[str, str], Manifest] = {}
    for number, line in enumerate(content.splitlines(), 1):
        where = f"line {number} of {MANIFESTS}"
        try:
            manifest = Manifest.model_validate_json(line)
            Manifest.model_validate_json(manifest.model_dump_json())  # a NaN would not come back
        except ValidationError as error:
            first = error.errors()[0]
            raise ArchiveError(
                f"{where} is no manifest of schema version {SCHEMA}: "
                f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
            ) from None
        if manifest.schema_version != SCHEMA:
            raise ArchiveError(
                f"{where} has schema version {manifest.schema_version}, and this checkout reads "
                f"{SCHEMA}: bring both checkouts to one commit and contribute it again"
            )
        inputs = {role: given.model_dump() for role, given in manifest.inputs.items()}
        key = identity(manifest.stage, manifest.parameters, inputs, manifest.version)
        if manifest.key != key or manifest.stage not in STAGES:
            raise ArchiveError(
                f"{where}: key {manifest.key!r} of stage {manifest.stage!r} does not follow from "
                f"its parameters, inputs and version, which give {key}: compute the run again"
            )
        manifests[manifest.stage, key] = manifest
    return list(manifests.values())


def _table(name: str, content: bytes) -> pd.DataFrame:
    """A table with the columns of ``tables.COLUMNS``, in their types.

    Raises:
        ArchiveError: A column or a value is wrong.
    """
    columns = COLUMNS[name]
    kinds = {c: "text" if c in TEXT else "numbers" for c in columns}
    kinds |= {column: "True or False" for table, column in FLAGS if table == name}
    strings: dict[Any, Any] = {c: "str" for c, kind in kinds.items() if kind == "text"}
    header = content.partition(b"\n")[0]
    if len(header) > HEADER:  # pandas needs time and memory for every column
        raise ArchiveError(f"table {name}: its first line is longer than {HEADER} bytes")
    try:
        frame = pd.read_csv(
            io.BytesIO(content), dtype=strings, keep_default_na=False, na_values=[""],
            float_precision="round_trip",
        )  # fmt: skip
        states = [c for c in map(str, frame) if c not in columns] if name == "utility" else []
        if [*columns, *states] != list(frame) or not all(re.fullmatch(STATE, s) for s in states):
            raise ArchiveError(
                f"table {name} has the columns {', '.join(map(str, frame))[:300]}; allowed are "
                f"{', '.join(columns)}" + (", and keys of states" if name == "utility" else "")
            )
        frame = frame.astype(dict.fromkeys(states, "boolean"))
        frame = typed(frame) if "relation" in frame else frame
    except (ValueError, TypeError, OverflowError) as error:
        raise ArchiveError(f"table {name} cannot be read: {str(error)[:200]}") from None
    kinds |= dict.fromkeys(states, "True or False")
    for column, kind in kinds.items():
        whole = column not in OPTIONAL and not column.endswith(NORM)
        if not _are(kind, frame[column]) or (whole and frame[column].isna().any()):
            raise ArchiveError(
                f"table {name}: column {column!r} must hold {kind}, without markup and gaps"
            )
    if _csv(frame) != content:
        raise ArchiveError(f"table {name} is not written as `nbutils contribute` writes it")
    return frame


def _are(kind: str, values: pd.Series) -> bool:
    """Whether all values are of a kind: ``text``, ``numbers`` or ``True or False``."""
    if kind == "text":
        texts = values.dropna().astype(str)
        return bool(texts.str.fullmatch(PLAIN).all() and texts.map(visible).eq(texts).all())
    if kind == "numbers":
        return is_numeric_dtype(values) and not values.isin([np.inf, -np.inf]).any()
    return is_bool_dtype(values)
