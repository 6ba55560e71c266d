"""How a client wishes to be answered (RFC 7240)."""

from starlette.requests import Request


def wants_async(request: Request) -> bool:
    """Whether `Prefer: respond-async` was sent."""
    preferences = ",".join(request.headers.getlist("prefer")).split(",")
    return any(preference.split(";")[0].strip().lower() == "respond-async" for preference in preferences)
