"""Tables of structures: Parquet, JSON lines, OPTIMADE pages and lists of pymatgen's structures."""

import io
import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import IO, Any, Literal, cast

import orjson
import pyarrow as pa
from pyarrow import fs, parquet

from app.crystals.readers.archive import BROKEN
from app.crystals.readers.packing import opened, packing_of
from app.screening.errors import ScreeningError
from app.screening.sources.items import Item, Part, Selection, SourceLimits, selected

#: Where a row or record has its name, the first of these that is there.
ID_FIELDS = ("id", "material_id", "structure_id", "task_id", "_id", "name")
#: Where a row of a Parquet file has its structure: a text (JSON, CIF, POSCAR), or pymatgen's fields as columns.
STRUCTURE_FIELDS = ("structure", "cif", "poscar", "atoms", "crystal")
_ROWS_AT_ONCE = 64

Kind = Literal["parquet", "json-lines", "json"]


@dataclass(frozen=True, kw_only=True)
class Table:
    """A file of many structures.

    Attributes:
        name: as it was named.
        filesystem, path: where it is.
        kind: `json` is one document: an OPTIMADE page or a list.
        prefix: before each name, where a folder of tables was named.
    """

    name: str
    filesystem: fs.FileSystem
    path: str
    kind: Kind
    limits: SourceLimits
    prefix: str = ""

    def inputs(self) -> Iterator[str]:
        """See Source."""
        return (item.input for item in self._checked(with_content=False))

    def parts(self, selection: Selection, first: int | None) -> list[Part]:
        """See Source: a table is one part."""
        return [_TablePart(table=self, selection=selection, first=first)]

    def items(self) -> Iterator[Item]:
        """Every structure of it."""
        return self._checked(with_content=True)

    def _checked(self, *, with_content: bool) -> Iterator[Item]:
        rows = {"parquet": self._parquet_rows, "json-lines": self._lines, "json": self._document}[self.kind]
        try:
            for count, item in enumerate(rows(with_content), start=1):
                self.limits.check(self.name, entries=count, unpacked_bytes=0, packed_bytes=0)
                yield item
        except (pa.ArrowException, *BROKEN) as error:
            raise ScreeningError(f"{self.name} cannot be read: {error}.") from error

    # Parquet

    def _parquet_rows(self, with_content: bool) -> Iterator[Item]:
        with self.filesystem.open_input_file(self.path) as stream:
            file = parquet.ParquetFile(stream)
            names = file.schema_arrow.names
            id_field = next((name for name in ID_FIELDS if name in names), None)
            field = next((name for name in STRUCTURE_FIELDS if name in names), None)
            plain = {"lattice", "sites"} <= set(names)
            if field is None and not plain:
                raise ScreeningError(
                    f"{self.name} has no column with structures. Wanted is one of {', '.join(STRUCTURE_FIELDS)} "
                    f"(pymatgen's dictionary or its JSON, or the text of a CIF), or lattice and sites. "
                    f"It has {', '.join(names[:20])}."
                )
            wanted = [id_field] if id_field else []
            if with_content or not wanted:
                wanted += [field] if field else ["lattice", "sites"]
            number = 0
            for batch in file.iter_batches(batch_size=_ROWS_AT_ONCE, columns=wanted):
                for row in batch.to_pylist():
                    number += 1
                    label = str(row[id_field]) if id_field and _is_name(row[id_field]) else f"row-{number}"
                    if not with_content:
                        yield self._item(label, b"")
                        continue
                    try:
                        yield self._item(label, _content(row[field] if field else row))
                    except orjson.JSONEncodeError as error:  # bytes or decimal numbers within a structure
                        why = f"row {number} holds something that JSON does not have: {error}."
                        yield Item(input=self.prefix + label, name=label, content=b"", problem=why)

    # JSON

    def _lines(self, with_content: bool) -> Iterator[Item]:
        with self.filesystem.open_input_file(self.path) as packed, self._unpacked(packed) as stream:
            for number, line in enumerate(_bounded_lines(stream, self.limits.max_entry_bytes), start=1):
                if not line.strip():
                    continue
                try:
                    record = orjson.loads(line)
                except orjson.JSONDecodeError as error:
                    why = f"line {number} is not JSON: {error}."
                    yield Item(input=f"{self.prefix}line-{number}", name=f"line-{number}", content=b"", problem=why)
                    continue
                yield self._item(_label(record, f"line-{number}"), line if with_content else b"")

    def _document(self, with_content: bool) -> Iterator[Item]:
        with self.filesystem.open_input_file(self.path) as packed, self._unpacked(packed) as stream:
            content = stream.read(10 * self.limits.max_entry_bytes + 1)
        if len(content) > 10 * self.limits.max_entry_bytes:
            raise ScreeningError(
                f"{self.name} is one JSON document of more than {10 * self.limits.max_entry_bytes / 1e6:g} MB, which "
                "must be held whole: write it as JSON lines, one structure a line."
            )
        document = orjson.loads(content)
        for number, record in enumerate(records_of(document), start=1):
            yield self._item(_label(record, f"entry-{number}"), orjson.dumps(record) if with_content else b"")

    def _unpacked(self, packed: IO[bytes]) -> IO[bytes]:
        packing = packing_of(packed.read(8))
        packed.seek(0)
        if packing is None:
            return io.BufferedReader(cast("io.RawIOBase", packed))  # pyarrow's files have no lines
        return opened(packed, packing)

    def _item(self, label: str, content: bytes) -> Item:
        return Item(input=self.prefix + label, name=label, content=content)


@dataclass(frozen=True, kw_only=True)
class _TablePart:
    table: Table
    selection: Selection
    first: int | None

    @property
    def count(self) -> int:
        return self.first or 1

    def read(self) -> Iterator[Item]:
        return selected(self.table.items(), self.selection, self.first)


def records_of(document: object) -> list[object]:
    """The records of a JSON document: an OPTIMADE page's entries, a list's members; none of anything else."""
    if isinstance(document, dict) and isinstance(document.get("data"), list):
        return list(document["data"])
    return list(document) if isinstance(document, list) else []


def _label(record: object, otherwise: str) -> str:
    if not isinstance(record, Mapping):
        return otherwise
    values = (record.get(name) for name in ID_FIELDS)
    return next((str(value) for value in values if isinstance(value, str | int) and _is_name(value)), otherwise)


def _is_name(value: object) -> bool:
    """Whether a row can be named so: not where it is true, false, null or empty."""
    return value is not None and not isinstance(value, bool) and str(value).strip() != ""


def _content(value: object) -> bytes:
    """What a reader takes: a text as it is, a dictionary as JSON without the fields that a table fills with null."""
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        return value.encode()
    return orjson.dumps(_without_nulls(value))


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_nulls(one) for name, one in value.items() if one is not None}
    return [_without_nulls(one) for one in value] if isinstance(value, list) else value


def _bounded_lines(stream: IO[bytes], most: int) -> Iterator[bytes]:
    """Lines, of which none is longer than so many bytes."""
    for number in itertools.count(1):
        line = stream.readline(most + 1)
        if not line:
            return
        if len(line) > most:
            raise ScreeningError(f"Line {number} has more than {most:,} bytes: no structure a line.")
        yield line


def is_table_of_folder(paths: list[str]) -> bool:
    """Whether a folder is a Parquet data set: nothing but Parquet files beside hidden ones."""
    seen = [path for path in paths if not PurePosixPath(path).name.startswith((".", "_"))]
    return bool(seen) and all(path.endswith(".parquet") for path in seen)
