"""The ionpath service: from the bytes of a crystal to a migration barrier with an interval."""

from importlib.metadata import version

__version__ = version("ionpath")
