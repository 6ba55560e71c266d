"""The error that stops a screening or a report; its text is for whoever typed the command."""


class ScreeningError(Exception):
    """A screening or report cannot start or go on; the text says why and what to do."""
