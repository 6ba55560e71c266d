"""The errors that a caller may see: each carries its own HTTP status, kind and title.

IonpathError
├── InputError (422)         what was sent cannot be read or makes no sense
│   ├── FormatError (400)    the bytes are not what they claim to be
│   ├── UnsupportedError (415)
│   └── TooLargeError (413)  a limit of bytes, atoms, images, files or edges
├── TooSlowError (408)        a body that does not arrive in time
├── NotFoundError (404)
├── UnauthorizedError (401), ForbiddenError (403)
├── NotDoneError (409)        there is no answer yet, or none will come
├── BusyError (429)          carries retry_after_s
│   └── RateExceededError     one caller asks more often than its rate allows
└── NotReadyError (503)
"""

from typing import ClassVar


class IonpathError(Exception):
    """A problem that is told to the caller (RFC 9457).

    Args:
        detail: what was wrong, in a chemist's words.
        kind: a slug that names this very problem, stable across releases ("mixed-sites").
        where: the file, line or field ("image_frac_coords[3]", "POSCAR, line 7").
        expected: what would be right.
    """

    status: ClassVar[int] = 500
    title: ClassVar[str] = "Something went wrong"
    default_kind: ClassVar[str] = "internal"

    def __init__(
        self, detail: str, *, kind: str | None = None, where: str | None = None, expected: str | None = None
    ) -> None:
        self.detail = _printable(detail)
        super().__init__(self.detail)
        self.kind = kind or self.default_kind
        self.where = None if where is None else _printable(where)
        self.expected = None if expected is None else _printable(expected)

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        """Keep every field when a worker process hands the error back."""
        return _rebuild, (type(self), dict(self.__dict__))


def _printable(text: str) -> str:
    """Text with control characters and lone surrogates written out: it quotes what was sent, and ends in terminals."""
    if text.isprintable():
        return text
    return "".join(
        sign if sign.isprintable() or sign == "\n" else sign.encode("unicode_escape").decode() for sign in text
    )


def _rebuild(cls: type[IonpathError], state: dict[str, object]) -> IonpathError:
    error = cls.__new__(cls)
    Exception.__init__(error, state["detail"])
    error.__dict__.update(state)
    return error


class InputError(IonpathError):
    """What was sent can be read but makes no sense."""

    status = 422
    title = "The input makes no sense"
    default_kind = "invalid-input"


class FormatError(InputError):
    """The bytes are not what they claim to be."""

    status = 400
    title = "The input cannot be read"
    default_kind = "unreadable-input"


class UnsupportedError(InputError):
    """A kind of file or content that is not taken here."""

    status = 415
    title = "This kind of input is not taken"
    default_kind = "unsupported-input"


class TooLargeError(InputError):
    """A limit was passed; the detail names the limit and the setting that holds it."""

    status = 413
    title = "The input is too large"
    default_kind = "too-large"


class TooSlowError(IonpathError):
    """The request's body did not arrive in time."""

    status = 408
    title = "The request took too long to arrive"
    default_kind = "body-too-slow"


class NotFoundError(IonpathError):
    """There is no such thing, or it is another key's."""

    status = 404
    title = "Not found"
    default_kind = "not-found"


class UnauthorizedError(IonpathError):
    """A key is needed and none that is known was given."""

    status = 401
    title = "An API key is needed"
    default_kind = "unauthorized"


class ForbiddenError(IonpathError):
    """What was asked for is not allowed here, whatever the key."""

    status = 403
    title = "Not allowed"
    default_kind = "forbidden"


class NotDoneError(IonpathError):
    """The prediction is there and its answer is not: it waits, it runs, or it failed."""

    status = 409
    title = "There is no answer"
    default_kind = "not-done"


class BusyError(IonpathError):
    """Too much is waiting already.

    Args:
        detail: what is full.
        retry_after_s: when room is expected, in seconds.
    """

    status = 429
    title = "Too busy"
    default_kind = "busy"

    def __init__(self, detail: str, *, retry_after_s: float, kind: str | None = None) -> None:
        super().__init__(detail, kind=kind)
        self.retry_after_s = retry_after_s


class RateExceededError(BusyError):
    """A caller asks more often than its rate allows, however busy the service is."""

    title = "Rate exceeded"
    default_kind = "rate-exceeded"


class NotReadyError(IonpathError):
    """The service is starting, stopping, or a part that it needs is away."""

    status = 503
    title = "Not ready"
    default_kind = "not-ready"
