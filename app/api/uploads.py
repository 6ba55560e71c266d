"""The upload in a request's body: a JSON band, a band file, two end points, or a crystal."""

import re
from collections.abc import Mapping
from dataclasses import replace

from fastapi import Request
from python_multipart.multipart import parse_options_header
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException

from app.api.queries import PredictQuery
from app.crystals.readers.given_cell import parse_cell
from app.crystals.readers.reading import File
from app.errors import FormatError, InputError, TooLargeError, UnsupportedError
from app.serving.reading.uploads import (
    BandFileUpload,
    BulkUpload,
    CrystalUpload,
    EndPointsUpload,
    JsonBandUpload,
    Upload,
)
from app.settings import Settings

WAYS = (
    "A JSON band (Content-Type: application/json); or multipart/form-data with `band` (one file), "
    "with `initial` and `final`, or with `structure` and `ion`."
)
BULK_WAY = "multipart/form-data with `structure`: one ordered crystal (CIF, POSCAR, pymatgen JSON)."
_FILES_OF_WAYS = (frozenset({"band"}), frozenset({"initial", "final"}), frozenset({"structure"}))
_FILE_FIELDS = frozenset().union(*_FILES_OF_WAYS)
KNOWN_FIELDS = _FILE_FIELDS | {"ion", "offset", "cell"}
_TEXT_FIELDS = {"band": ("cell",), "initial": ("ion", "offset", "cell"), "structure": ("ion", "cell")}
_BULK_FIELDS = frozenset({"structure", "cell"})
#: What the form of a call may hold, by the call's path; other calls take none.
FORM_FIELDS: Mapping[str, frozenset[str]] = {
    "/predict/barrier": KNOWN_FIELDS,
    "/classify/good-conductor": KNOWN_FIELDS,
    "/predict/conductivity": frozenset({"structure", *_TEXT_FIELDS["structure"]}),
    "/predict/properties": _BULK_FIELDS,
}
_FARTHEST_OFFSET = 3
_MOST_FILES, _MOST_FIELDS, _MOST_TEXT = 8, 8, 300
_UTF8 = frozenset({"utf-8", "utf8"})


async def receive_upload(request: Request) -> Upload:
    """Read the body by its content type.

    Raises:
        UnsupportedError: another content type, or text that is not UTF-8.
        TooLargeError: a form of too many parts.
        InputError: the fields of the form are not a valid combination.
    """
    content_type = _media_type(request.headers.get("content-type", ""))
    if content_type == "application/json":
        return JsonBandUpload(payload=await request.body())
    if content_type == "multipart/form-data":
        form = await _form(request)
        try:
            return await _read_form(form)
        finally:
            await form.close()
    raise _unsupported(content_type, WAYS)


async def read_bulk_upload(request: Request) -> BulkUpload:
    """Read the body as a form with one crystal, for its bulk properties.

    Raises:
        UnsupportedError: not a form, or text that is not UTF-8.
        TooLargeError: a form of too many parts.
        InputError: a form without a crystal, or with more than one.
    """
    content_type = _media_type(request.headers.get("content-type", ""))
    if content_type != "multipart/form-data":
        raise _unsupported(content_type, BULK_WAY)
    form = await _form(request, BULK_WAY)
    try:
        files, texts = await _fields(form)
    finally:
        await form.close()
    unknown = sorted({*files, *texts} - _BULK_FIELDS)
    if unknown:
        raise InputError(
            f"The form field {unknown[0]!r} is not accepted here.",
            kind="unknown-field",
            where=f"form field {unknown[0]}",
            expected=BULK_WAY,
        )
    if not files:
        raise InputError("The form has no crystal.", kind="no-file", where="form field structure", expected=BULK_WAY)
    return BulkUpload(file=_with_cell(files, texts)["structure"])


def _unsupported(content_type: str, ways: str) -> UnsupportedError:
    return UnsupportedError(
        f"A body of type {content_type!r} is not supported." if content_type else "The body has no Content-Type.",
        where="Content-Type header",
        expected=ways,
    )


def _media_type(header: str) -> str:
    """The media type; parsed by the same function as the form, so that both see the same parameters."""
    content_type, parameters = parse_options_header(header)
    charset = parameters.get(b"charset", b"utf-8").decode("latin-1")
    if charset.lower() not in _UTF8:  # a form's charset could be any of Python's codecs, some of which are not for text
        raise UnsupportedError(
            f"Text in {charset[:40]!r} is not supported.",
            kind="unsupported-charset",
            where="Content-Type header",
            expected="UTF-8: charset=utf-8, or no charset.",
        )
    return content_type.decode("latin-1")


async def _form(request: Request, ways: str = WAYS) -> FormData:
    settings: Settings = request.state.settings
    try:
        # A text field may be a whole band (`curl -F band=TEXT`), so it may be as large as the body; BodyLimit limits
        # it.
        return await request.form(max_files=_MOST_FILES, max_fields=_MOST_FIELDS, max_part_size=settings.max_body_bytes)
    except HTTPException as error:
        if str(error.detail).startswith("Too many"):
            raise TooLargeError(
                f"The form has more than {_MOST_FILES} files or {_MOST_FIELDS} texts.",
                kind="too-many-parts",
                where="form",
                expected=f"{ways} Send the files of one band as one zip.",
            ) from error
        raise FormatError(
            f"The form cannot be read: {error.detail}", kind="broken-form", where="form", expected=ways
        ) from error


async def _read_form(form: FormData) -> Upload:
    files, texts = await _fields(form)
    way = frozenset(files)
    if way not in _FILES_OF_WAYS:
        raise _wrong_files(files)
    _refuse_unknown_texts(texts, _TEXT_FIELDS[min(way & _TEXT_FIELDS.keys())])
    ion = texts.get("ion", "").strip() or None
    files = _with_cell(files, texts)
    if "band" in files:
        return BandFileUpload(file=files["band"])
    if "structure" in files:
        return CrystalUpload(file=files["structure"], ion=ion)
    offset = _offset(texts["offset"]) if texts.get("offset", "").strip() else None
    return EndPointsUpload(initial=files["initial"], final=files["final"], ion=ion, offset=offset)


def _with_cell(files: dict[str, File], texts: Mapping[str, str]) -> dict[str, File]:
    """The files with the cell that was sent beside them, if one was."""
    text = texts.get("cell", "").strip()
    if not text:
        return files
    cell = parse_cell(text, "form field cell")
    return {name: replace(file, cell_angstrom=cell) for name, file in files.items()}


async def _fields(form: FormData) -> tuple[dict[str, File], dict[str, str]]:
    files: dict[str, File] = {}
    texts: dict[str, str] = {}
    for name, value in form.multi_items():
        if name in KNOWN_FIELDS and _is_left_empty(value):
            continue
        if name in files or name in texts:
            raise InputError(
                f"The form field {name!r} was sent more than once.",
                kind="repeated-field",
                where=f"form field {name}",
                expected="One file or value per field; send several images of a band as one file or one zip.",
            )
        if isinstance(value, UploadFile):
            # The end of a name shows the format; the rest is only for messages.
            files[name] = File(name=(value.filename or name)[-_MOST_TEXT:], content=await value.read())
        elif name in _FILE_FIELDS and _names_a_file(value):
            raise InputError(
                f"The form field {name!r} holds the text {value[:80]!r} and no file.",
                kind="no-file",
                where=f"form field {name}",
                expected=f"The file itself; with curl: -F {name}=@{value[:80]}",
            )
        elif name in _FILE_FIELDS:  # `curl -F band=text` instead of `-F band=@file` is a file as well
            files[name] = File(name=name, content=value.encode())
        elif len(value) > _MOST_TEXT:
            raise TooLargeError(
                f"The form field {name[:40]!r} has {len(value):,} characters.",
                kind="text-too-long",
                where=f"form field {name[:40]}",
                expected=f"At most {_MOST_TEXT} characters; a file goes in {', '.join(sorted(_FILE_FIELDS))}.",
            )
        else:
            texts[name] = value
    return files, texts


def _names_a_file(text: str) -> bool:
    """Whether a text looks like a file name, of which the `@` was forgotten, and not like the content of a file."""
    return len(text) <= _MOST_TEXT and re.fullmatch(r"\S+\.\w{1,8}", text.strip()) is not None


def _is_left_empty(value: UploadFile | str) -> bool:
    """Whether a field of a browser's form was left empty."""
    return not value.strip() if isinstance(value, str) else not (value.filename or value.size)


def _wrong_files(files: Mapping[str, File]) -> InputError:
    if not files:
        return InputError("The form has no file.", kind="no-file", where="form", expected=WAYS)
    if len(files) == 1 and not files.keys().isdisjoint({"initial", "final"}):
        missing = "final" if "initial" in files else "initial"
        return InputError(
            f"Two end points are needed and the form has no {missing!r}.",
            kind="one-end-point",
            where=f"form field {missing}",
            expected=WAYS,
        )
    names = ", ".join(repr(name) for name in sorted(files))
    unknown = sorted(files.keys() - _FILE_FIELDS)
    return InputError(
        f"There is no file field {unknown[0]!r}." if unknown else f"The files {names} cannot be combined.",
        kind="unknown-field" if unknown else "mixed-ways",
        where=f"form field {unknown[0]}" if unknown else "form",
        expected=WAYS,
    )


def _refuse_unknown_texts(texts: Mapping[str, str], known: tuple[str, ...]) -> None:
    unknown = sorted(texts.keys() - set(known))
    if not unknown:
        return
    raise InputError(
        f"The form field {unknown[0]!r} is not accepted with these files.",
        kind="unknown-field",
        where=f"form field {unknown[0]}",
        expected=f"Besides the files: {', '.join(known) or 'nothing'}. "
        f"The query parameters are {', '.join(PredictQuery.model_fields)}.",
    )


def _offset(text: str) -> tuple[int, int, int]:
    try:
        first, second, third = (int(part) for part in text.strip(" []()").replace(",", " ").split())
    except ValueError:
        raise InputError(
            f"The offset {text[:40]!r} cannot be read.",
            kind="invalid-offset",
            where="form field offset",
            expected="Three whole numbers of lattice vectors, such as 1,0,0.",
        ) from None
    if max(abs(first), abs(second), abs(third)) > _FARTHEST_OFFSET:
        raise InputError(
            f"The offset {first},{second},{third} is too large.",
            kind="invalid-offset",
            where="form field offset",
            expected=f"Each of the three numbers is between -{_FARTHEST_OFFSET} and {_FARTHEST_OFFSET}.",
        )
    return first, second, third
