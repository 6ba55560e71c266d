"""Checks before anything is loaded that the service is not exposed by accident."""

from app.api.auth import is_loopback
from app.api.keys import ApiKeys, KeysFileError
from app.settings import Settings


class CannotServeError(Exception):
    """What is set does not allow to serve; the message says what would."""


def check_exposure(settings: Settings) -> None:
    """Refuse settings that would admit everybody, or nobody.

    Raises:
        CannotServeError: no keys, an address that others reach, and IONPATH_ALLOW_ANONYMOUS is not set; or a
            keys file that cannot be read.
    """
    if not (settings.api_keys_file or settings.allow_anonymous or is_loopback(settings.host)):
        message = (
            f"{settings.host or 'An empty IONPATH_HOST, which is every address,'} can be reached by others and no API "
            "keys are set. Set IONPATH_API_KEYS_FILE "
            "(`ionpath keys new NAME --file FILE` makes one), or IONPATH_ALLOW_ANONYMOUS=1 to admit everybody."
        )
        raise CannotServeError(message)
    if settings.api_keys_file:
        try:
            ApiKeys.load(settings.api_keys_file)
        except KeysFileError as error:
            raise CannotServeError(str(error)) from error
