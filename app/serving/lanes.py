"""The lanes of work: what waits in one does not wait behind another."""

from enum import StrEnum


class Lane(StrEnum):
    """Work that does not wait for work of another lane."""

    MAIN = "main"
    SLOW_MODEL = "slow-model"
    SECOND_OPINION = "second-opinion"
