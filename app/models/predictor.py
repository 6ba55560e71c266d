"""A loaded checkpoint that answers for bands: prepared inputs in, predictions out."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import torch

from app.crystals.band import Band
from app.models.cards import Card
from app.models.lanes import Lanes
from app.models.prediction import Prediction
from app.models.preparation import Preparation, PreparedBand

# On a CPU, larger pieces are no faster and hold memory (40 MB a tensor); smaller ones ask for the interpreter more
# often, behind the threads that read and answer: pieces a quarter as large gave the service four fifths of this
# throughput (measured while nothing was looked up, and ten thousand edges were a third of a band of the default's).
_CPU_PIECE_COST = 160_000
#: How much wider a distribution becomes at least where something beside the band is doubtful. No fitted band is of that
#: kind, so no calibration can tell; for what the trained network had not seen its own came to this (`model-3`'s card).
_DOUBTED_FACTOR = 2.0
#: Below it a barrier with its offset is no number to take the logarithm of, eV.
_LEAST_EV = 1e-6


class OutOfMemoryError(Exception):
    """The device has no room for a batch; a smaller one may fit."""


@dataclass(frozen=True, kw_only=True)
class Output:
    """What a model says of one band.

    Attributes:
        value: the transformed barrier (app.models.cards.TargetTransform).
        distance: to the nearest fitted band, in the card's unit.
        difficulty: the scale of the residuals to be expected, relative to the calibration's.
    """

    value: float
    distance: float
    difficulty: float = 1.0


class Predictor(ABC):
    """Answers with one checkpoint on one device.

    Args:
        card: of the checkpoint.
        device: where the model runs.
        lanes: where the pieces of a batch run side by side, on a CPU; None runs a batch whole.
    """

    def __init__(self, card: Card, *, device: torch.device, lanes: Lanes | None = None) -> None:
        self.card = card
        self.name = card.name
        self.version = card.version
        self.digest = card.digest
        self._device = device
        self._lanes = lanes
        self._residuals = np.asarray(card.calibration.residual_quantiles)

    @property
    def device(self) -> str:
        """The device's name, such as "cpu" or "cuda:0"."""
        return str(self._device)

    @property
    def preparation(self) -> Preparation | None:
        """What prepares a band as `graph` does and can be sent to another process; None where only `graph` does."""
        return None

    @abstractmethod
    def graph(self, band: Band) -> PreparedBand:
        """Prepares a band of any number of images; safe to call from several threads.

        Raises:
            InputError: no host atom is near the ion's path, so there is no crystal to predict from.
        """

    @abstractmethod
    def _outputs(self, piece: Sequence[PreparedBand]) -> list[Output]:
        """Runs the model on some bands at once, at least one."""

    def cost(self, prepared: PreparedBand) -> int:
        """What a forward pass of this band costs on this device, in edges of the line graph."""
        return prepared.cost

    def predict(self, prepared: Sequence[PreparedBand], *, ways: int | None = None) -> list[Prediction]:
        """Predicts all bands; each gets the answer that it would get alone.

        Args:
            prepared: the bands.
            ways: most cores to use, on a CPU; None uses all that it was given.

        Raises:
            OutOfMemoryError: the device has no room for so many at once.
        """
        if self._lanes is None:
            return self._predict_piece(prepared)
        ways = min(ways or self._lanes.threads, self._lanes.threads)
        predicted = self._lanes.map(self._predict_piece, _split(prepared, ways), ways=ways)
        return [prediction for piece in predicted for prediction in piece]

    def warm_up(self) -> None:
        """Runs bands of a few sizes, so that the first caller does not wait for kernels to be chosen."""
        lattice = np.eye(3) * 8.4
        corners = np.stack(np.meshgrid(*[np.arange(4) / 4] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
        band = Band(
            lattice_angstrom=lattice,
            host_species=("Mg", "O") * (len(corners) // 2),
            host_frac_coords=corners,
            ion="Li",
            image_frac_coords=np.array([[0.125, 0.125, 0.125], [0.375, 0.125, 0.125]]),
        )
        prepared = self.graph(band)
        for count in (1, 2, 4):
            self.predict([prepared] * count)

    def _predict_piece(self, piece: Sequence[PreparedBand]) -> list[Prediction]:
        if not piece:
            return []
        with torch.inference_mode(), memory_told():
            outputs = self._outputs(piece)
        return [self._prediction(output, item.reasons_outside) for output, item in zip(outputs, piece, strict=True)]

    def _prediction(self, output: Output, reasons: tuple[str, ...]) -> Prediction:
        threshold = self.card.domain.vector_distance
        if output.distance > threshold:
            unlike = (
                f"the surroundings of the path are unlike any fitted band's (distance {output.distance:.2f}, "
                f"fitted bands lie within {threshold:.2f} of another)"
            )
            reasons = (*reasons, unlike)
        factor = output.difficulty * (self.card.calibration.outside_factor if reasons else 1.0)
        quantiles = self.card.target.to_barriers_ev(output.value + factor * self._residuals)
        return Prediction(
            barrier_ev=float(self.card.target.to_barriers_ev(np.array([output.value]))[0]),
            quantiles_ev=tuple(float(value) for value in quantiles),
            in_domain=not reasons,
            domain_reasons=reasons,
        )

    def doubted(self, prediction: Prediction, reason: str) -> Prediction:
        """The same barrier outside the domain for one more reason, its distribution wider unless it was outside before.

        Args:
            prediction: one of this checkpoint's.
            reason: what is known of the hop beside its band, in words.
        """
        reasons = (*prediction.domain_reasons, reason)
        if not prediction.in_domain:
            return replace(prediction, domain_reasons=reasons)
        value = self._output(prediction.barrier_ev)
        factor = max(self.card.calibration.outside_factor, _DOUBTED_FACTOR)
        quantiles = [value + factor * (self._output(one) - value) for one in prediction.quantiles_ev]
        return replace(
            prediction,
            quantiles_ev=tuple(float(one) for one in self.card.target.to_barriers_ev(np.array(quantiles))),
            in_domain=False,
            domain_reasons=reasons,
        )

    def _output(self, barrier_ev: float) -> float:
        """What the model said where it predicted a barrier."""
        target = self.card.target
        return float((np.log(max(barrier_ev + target.offset_ev, _LEAST_EV)) - target.mean) / target.scale)


@contextmanager
def memory_told() -> Iterator[None]:
    """Raises OutOfMemoryError where a device or the machine runs out of memory, whatever torch calls it."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        torch.cuda.empty_cache()
        raise OutOfMemoryError(str(error)) from error
    except MemoryError as error:
        raise OutOfMemoryError(str(error)) from error
    except RuntimeError as error:
        if "can't allocate memory" in str(error) or "not enough memory" in str(error):
            raise OutOfMemoryError(str(error)) from error
        raise


def _split(prepared: Sequence[PreparedBand], ways: int) -> list[Sequence[PreparedBand]]:
    """A batch in pieces of like cost, at least one for each way, none too large for memory."""
    whole = sum(item.cost for item in prepared)
    largest = min(_CPU_PIECE_COST, whole / ways)
    pieces: list[Sequence[PreparedBand]] = []
    start, cost = 0, 0
    for number, item in enumerate(prepared):
        if number > start and cost + item.cost / 2 > largest:
            pieces.append(prepared[start:number])
            start, cost = number, 0
        cost += item.cost
    return [*pieces, prepared[start:]]
