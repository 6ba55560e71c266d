"""The error that stops a screening or a report; its text is for the user of the command line."""


class ScreeningError(Exception):
    """A screening or report cannot start or go on; the text says why and what to do."""


def lines_of(error: BaseException) -> list[str]:
    """The lines of an error's text, at least one; its type where it has none."""
    return (str(error).strip() or type(error).__name__).splitlines()
