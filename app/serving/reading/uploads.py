"""The ways of sending something to predict."""

from dataclasses import dataclass

from app.crystals.readers.reading import File


@dataclass(frozen=True, kw_only=True)
class JsonBandUpload:
    """A band as JSON text with the data set's field names."""

    payload: bytes


@dataclass(frozen=True, kw_only=True)
class BandFileUpload:
    """A band in one file: extended XYZ, a zipped NEB folder, or JSON."""

    file: File


@dataclass(frozen=True, kw_only=True)
class EndPointsUpload:
    """Two crystals that differ by where one ion is, and, where given, which ion and by which periodic offset."""

    initial: File
    final: File
    ion: str | None = None
    offset: tuple[int, int, int] | None = None


@dataclass(frozen=True, kw_only=True)
class CrystalUpload:
    """One crystal and the element that hops through it.

    Attributes:
        must_hold_ion: refuse a crystal without the ion; else it hops between interstitial sites.
    """

    file: File
    ion: str | None
    must_hold_ion: bool = False


@dataclass(frozen=True, kw_only=True)
class BulkUpload:
    """One crystal whose bulk properties are asked for; nothing hops in it."""

    file: File


@dataclass(frozen=True, kw_only=True)
class StoredUpload:
    """The canonical input of an earlier prediction, as the log keeps it (`app.storage.rows.pack_input`)."""

    packed: bytes


FileUpload = BandFileUpload | EndPointsUpload | CrystalUpload
Upload = JsonBandUpload | FileUpload | StoredUpload


def upload_files(upload: FileUpload | BulkUpload) -> tuple[File, ...]:
    """The files of an upload."""
    return tuple(value for value in vars(upload).values() if isinstance(value, File))


def upload_size_bytes(upload: Upload | BulkUpload) -> int:
    """How many bytes were sent."""
    if isinstance(upload, JsonBandUpload):
        return len(upload.payload)
    if isinstance(upload, StoredUpload):
        return len(upload.packed)
    return sum(len(file.content) for file in upload_files(upload))
