"""Limits on the size of an upload, and the errors that refuse a larger one."""

from dataclasses import dataclass

from app.errors import TooLargeError


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Limits of the readers; each error names the setting of the limit.

    Attributes:
        max_body_bytes: bytes of one uploaded file.
        max_atoms: atoms of one image, or sites of a crystal's cell.
        max_images: images of a band.
        max_files: files in a zip or tar.
        max_unpacked_bytes: bytes of an archive or a packed file once unpacked, together.
    """

    max_body_bytes: int = 20_000_000
    max_atoms: int = 2_000
    max_images: int = 99
    max_files: int = 400
    max_unpacked_bytes: int = 100_000_000

    def check_bytes(self, count: int, where: str) -> None:
        """Refuse a file with too many bytes."""
        if count > self.max_body_bytes:
            raise _too_large(
                "bytes", f"{where} has {count:,} bytes", self.max_body_bytes, "IONPATH_MAX_BODY_BYTES", where
            )

    def check_atoms(self, count: int, where: str) -> None:
        """Refuse a cell with too many atoms."""
        if count > self.max_atoms:
            raise _too_large(
                "atoms", f"{where} has {count:,} atoms in one cell", self.max_atoms, "IONPATH_MAX_ATOMS", where
            )

    def check_images(self, count: int, where: str) -> None:
        """Refuse a band with too many images."""
        if count > self.max_images:
            raise _too_large("images", f"{where} has {count:,} images", self.max_images, "IONPATH_MAX_IMAGES", where)

    def check_files(self, count: int, where: str) -> None:
        """Refuse an archive with too many files."""
        if count > self.max_files:
            raise _too_large("files", f"{where} has {count:,} files", self.max_files, "IONPATH_MAX_FILES", where)

    def check_unpacked_bytes(self, count: int, where: str) -> None:
        """Refuse an archive or packed file that unpacks to too many bytes."""
        if count > self.max_unpacked_bytes:
            raise _too_large(
                "unpacked-bytes",
                f"{where} unpacks to more than {self.max_unpacked_bytes:,} bytes",
                self.max_unpacked_bytes,
                "IONPATH_MAX_UNPACKED_BYTES",
                where,
            )


def _too_large(what: str, found: str, limit: int, setting: str, where: str) -> TooLargeError:
    return TooLargeError(
        f"{found}; at most {limit:,} are accepted here ({setting}).",
        kind=f"too-many-{what}",
        where=where,
        expected=f"at most {limit:,} {what.replace('-', ' ')}",
    )
