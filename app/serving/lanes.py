"""The lanes of work: what waits in one does not wait behind another."""

from enum import StrEnum


class Lane(StrEnum):
    """Work that does not wait for work of another lane.

    BAND is bands of their own, MAIN crystals and all else that a quick model answers: they take turns.
    """

    BAND = "band"
    MAIN = "main"
    SLOW_MODEL = "slow-model"
    SECOND_OPINION = "second-opinion"
