"""The formats of `GET /predictions/{id}`, and content negotiation."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from app.api.problems import NotAcceptableError
from app.serving.history.exports import ExportForm


@dataclass(frozen=True, kw_only=True)
class Form:
    """A format of a prediction.

    Attributes:
        name: as a value of `?format=`.
        media_type: as in the Accept header.
        export: its name in app.serving.history.exports; None for JSON, the default.
        ending: of the file name.
        description: for the OpenAPI page.
        schema: of its content, for the OpenAPI page.
    """

    name: str
    media_type: str
    export: ExportForm | None
    ending: str
    description: str
    schema: dict[str, str] = field(default_factory=dict)

    @property
    def bare_type(self) -> str:
        """Its media type without parameters."""
        return self.media_type.partition(";")[0]

    def headers(self, prediction_id: UUID) -> dict[str, str]:
        """The headers of a reply in this format."""
        headers = {"Content-Type": self.media_type, "Vary": "Accept"}
        if self.export is not None:
            headers["Content-Disposition"] = f'attachment; filename="ionpath-{prediction_id}.{self.ending}"'
        return headers


JSON = Form(name="json", media_type="application/json", export=None, ending="json", description="Everything.")
FORMS = (
    JSON,
    Form(
        name="csv",
        media_type="text/csv; charset=utf-8",
        export="csv",
        ending="csv",
        description="One row per hop of a crystal, or one row for a band.",
        schema={"type": "string"},
    ),
    Form(
        name="zip",
        media_type="application/zip",
        export="zip",
        ending="zip",
        description="One folder per hop with `00/POSCAR` to `NN/POSCAR`, ready to start a DFT-NEB, and a README.",
        schema={"type": "string", "format": "binary"},
    ),
    Form(
        name="neb-json",
        media_type="application/vnd.ionpath.neb+json",
        export="neb-json",
        ending="neb.json",
        description="Every image as a row of an ASE JSON database: `ase gui FILE@:` shows it.",
        schema={"type": "object"},
    ),
)

OPENAPI: dict[str, Any] = {
    "description": "The prediction in the requested format. "
    + " ".join(f"`{form.name}`: {form.description}" for form in FORMS),
    "content": {form.bare_type: {"schema": form.schema} for form in FORMS if form is not JSON},
}


def asked_form(name: str | None, accept: Sequence[str]) -> Form:
    """The requested format: by `?format=`, otherwise by the Accept header (RFC 9110), otherwise JSON.

    Args:
        name: from the query; None without one.
        accept: the Accept headers.

    Raises:
        NotAcceptableError: no such format is available.
    """
    if name is not None:
        found = next((form for form in FORMS if form.name == name), None)
        if found is None:
            raise _not_available(f"There is no format {name[:80]!r}.", "query parameter format")
        return found
    ranges = list(_ranges(",".join(accept)))
    if not ranges:
        return JSON
    best, quality = max(((form, _quality(form, ranges)) for form in FORMS), key=lambda pair: pair[1])
    if quality <= 0:
        raise _not_available(f"None of {', '.join(accept)[:200]!r} is available.", "Accept header")
    return best


def _not_available(detail: str, where: str) -> NotAcceptableError:
    known = ", ".join(f"{form.name} ({form.bare_type})" for form in FORMS)
    return NotAcceptableError(detail, where=where, expected=f"One of {known}.")


def _ranges(header: str) -> Iterator[tuple[str, float]]:
    """All media ranges with their quality; 0 for a quality that cannot be read."""
    for part in header.split(","):
        kind, *parameters = (word.strip().lower() for word in part.split(";"))
        if not kind:
            continue
        given = next((word[2:] for word in parameters if word.startswith("q=")), "1")
        try:
            yield kind, min(max(float(given), 0.0), 1.0)
        except ValueError:
            yield kind, 0.0


def _quality(form: Form, ranges: Sequence[tuple[str, float]]) -> float:
    """The quality of a format: that of the most specific range that matches it."""
    for wanted in (form.bare_type, f"{form.bare_type.partition('/')[0]}/*", "*/*"):
        qualities = [quality for kind, quality in ranges if kind == wanted]
        if qualities:
            return max(qualities)
    return 0.0
