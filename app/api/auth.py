"""Authentication: the API key's id, or None where no key is needed."""

import ipaddress
import re
from dataclasses import dataclass

from fastapi import Request
from starlette.datastructures import Headers

from app.api.context import context_of
from app.api.keys import ApiKeys
from app.api.rates import open_rates
from app.errors import ForbiddenError, UnauthorizedError
from app.settings import Settings

#: A Host header as RFC 9110 writes it, without what only a URL's authority may hold: a name or address, and a port.
_HOST = re.compile(r"(?P<name>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]+)(?::[0-9]{1,5})?")


@dataclass(frozen=True, kw_only=True)
class Caller:
    """Who asks, None where the service runs without keys."""

    key_id: str | None


class Gate:
    """Authenticates callers.

    With keys, a request needs one. Without, it must come over the loopback, under a loopback name: otherwise a web
    page elsewhere could have its own name point here (DNS rebinding) and read what was predicted. With
    `allow_anonymous` everybody may predict, and listing is off.

    Args:
        settings: which of the three it is, and how often each caller may ask.

    Attributes:
        rates: how often each caller may ask for predictions.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._keys = ApiKeys.load(settings.api_keys_file) if settings.api_keys_file else None
        self.rates = open_rates(settings)

    async def caller(self, request: Request) -> Caller:
        """Identify the caller.

        Raises:
            UnauthorizedError: a key is needed and none that is known was given.
            ForbiddenError: no keys are set and the request does not come over the loopback.
        """
        if self._keys is not None:
            caller = Caller(key_id=_key_id(self._keys, request.headers))
            context_of(request).key_id = caller.key_id
            return caller
        if not self._settings.allow_anonymous:
            _demand_loopback(request)
        return Caller(key_id=None)

    async def demand_rate(self, request: Request, caller: Caller) -> None:
        """Count a request for a prediction, by its key, or by its address where there are no keys.

        Raises:
            RateExceededError: the caller asks too often.
        """
        if not self._settings.rate_per_minute:
            return
        address = request.client.host if request.client else ""
        await self.rates.take(address if caller.key_id is None else caller.key_id)

    def demand_listing(self) -> None:
        """Refuse to list where callers cannot be distinguished."""
        if self._keys is None and self._settings.allow_anonymous:
            raise ForbiddenError(
                "Listing is off, since this service cannot distinguish its callers.",
                kind="listing-off",
                expected="GET /predictions/{id} with an id that you were given; or IONPATH_API_KEYS_FILE.",
            )

    def demand_metrics(self) -> None:
        """Refuse metrics to the public: they need a key, or an address of their own."""
        if self._keys is None and self._settings.allow_anonymous:
            raise ForbiddenError(
                "Metrics are not shown here without a key.",
                kind="metrics-off",
                expected="IONPATH_METRICS_PORT, an address of their own; or IONPATH_API_KEYS_FILE.",
            )


def _key_id(keys: ApiKeys, headers: Headers) -> str:
    secret = _secret(headers)
    if secret is None:
        raise UnauthorizedError(
            "This service needs an API key.",
            kind="key-missing",
            expected="X-API-Key: KEY, or Authorization: Bearer KEY",
        )
    key_id = keys.identify(secret)
    if key_id is None:
        raise UnauthorizedError(
            "The API key is not known here.", kind="key-unknown", expected="A key whose hash is in the service's file."
        )
    return key_id


def _secret(headers: Headers) -> str | None:
    given = headers.get("x-api-key")
    if given:
        return given.strip()
    scheme, _, credentials = headers.get("authorization", "").partition(" ")
    return credentials.strip() or None if scheme.lower() == "bearer" else None


def is_loopback(host: str) -> bool:
    """Whether an address or name is this machine's loopback; an empty one, which binds every address, is not."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.removeprefix("[").removesuffix("]")).is_loopback
    except ValueError:
        return False


def _demand_loopback(request: Request) -> None:
    near = request.client is None or is_loopback(request.client.host)  # one on a Unix socket has no address
    if near and is_loopback(_asked_host(request.headers)):
        return
    raise ForbiddenError(
        "No API keys are configured: only requests from this machine are accepted.",
        kind="not-loopback",
        where="Host header" if near else "client address",
        expected="http://127.0.0.1; or, for everybody, IONPATH_API_KEYS_FILE or IONPATH_ALLOW_ANONYMOUS=1.",
    )


def _asked_host(headers: Headers) -> str:
    """The name that the client asked for; empty where the Host header is not exactly one.

    The header itself is judged: `request.url` puts the server's own address in the place of a Host that it cannot
    read, and a browser may be made to send such a one.
    """
    given = headers.getlist("host")
    match = _HOST.fullmatch(given[0]) if len(given) == 1 else None
    return match["name"] if match else ""


async def caller(request: Request) -> Caller:
    """Depend on the caller."""
    gate: Gate = request.state.gate
    return await gate.caller(request)
