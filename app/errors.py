"""The errors that a caller may see: each carries its own HTTP status, kind and title.

IonpathError
├── InputError (422)         the input can be read but is invalid
│   ├── FormatError (400)    the bytes are not what they claim to be
│   ├── UnsupportedError (415)
│   └── TooLargeError (413)  a limit on bytes, atoms, images, files or edges
├── TooSlowError (408)        the body did not arrive in time
├── NotFoundError (404)
├── UnauthorizedError (401), ForbiddenError (403)
├── NotDoneError (409)        the answer is not ready, or the prediction failed
├── BusyError (429)          carries retry_after_s
│   └── RateExceededError     one caller asks more often than its rate allows
└── NotReadyError (503)
"""

from typing import ClassVar


class IonpathError(Exception):
    """The base class of problems that are reported to the caller (RFC 9457).

    Args:
        detail: what is wrong, in the field's terms.
        kind: an identifier of the kind of problem, stable across releases ("mixed-sites").
        where: the file, line or field ("image_frac_coords[3]", "POSCAR, line 7").
        expected: what would be valid instead.
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
        self.cpu_s = 0.0

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        """Keep all fields when a worker process sends the error."""
        return _rebuild, (type(self), dict(self.__dict__))


def _printable(text: str) -> str:
    """Escape control characters and lone surrogates: messages quote input, and are shown in terminals."""
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
    """The input can be read but is invalid."""

    status = 422
    title = "Invalid input"
    default_kind = "invalid-input"


class FormatError(InputError):
    """The bytes are not what they claim to be."""

    status = 400
    title = "Unreadable input"
    default_kind = "unreadable-input"


class UnsupportedError(InputError):
    """A kind of file or content that is not supported."""

    status = 415
    title = "Unsupported input"
    default_kind = "unsupported-input"


class TooLargeError(InputError):
    """A limit was exceeded; the detail names the limit and its setting."""

    status = 413
    title = "Input too large"
    default_kind = "too-large"


class TooSlowError(IonpathError):
    """The request's body did not arrive in time."""

    status = 408
    title = "Request timeout"
    default_kind = "body-too-slow"


class NotFoundError(IonpathError):
    """The resource does not exist, or belongs to another key."""

    status = 404
    title = "Not found"
    default_kind = "not-found"


class UnauthorizedError(IonpathError):
    """The request has no valid API key."""

    status = 401
    title = "API key required"
    default_kind = "unauthorized"


class ForbiddenError(IonpathError):
    """The request is not allowed here, with any key."""

    status = 403
    title = "Not allowed"
    default_kind = "forbidden"


class NotDoneError(IonpathError):
    """The prediction exists but has no answer: it is queued, running or failed."""

    status = 409
    title = "No answer available"
    default_kind = "not-done"


class BusyError(IonpathError):
    """The service is at capacity.

    Args:
        detail: what is full.
        retry_after_s: expected time until there is capacity, seconds.
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
    """The service is starting or stopping, or a component that it needs is unavailable."""

    status = 503
    title = "Not ready"
    default_kind = "not-ready"
