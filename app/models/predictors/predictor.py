"""The predictor of a loaded checkpoint: prepared bands in, predictions out."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from app.crystals.band import Band
from app.models.cards.card import Card
from app.models.prediction import Prediction
from app.models.predictors.parallel_passes import Lanes
from app.models.predictors.preparation import Preparation, PreparedBand

# On a CPU, larger pieces are no faster and hold memory (40 MB per tensor); smaller ones take the interpreter lock more
# often, in competition with the threads that read and answer: pieces a quarter as large gave four fifths of this
# throughput (measured before tables of messages, when ten thousand edges were a third of a band of the default model).
_CPU_PIECE_COST = 160_000
#: The least factor by which a distribution is widened for a hop that is doubtful for another reason than its band. No
#: fitted band is of that kind, so it cannot be calibrated; this is the factor of `model-3` outside its domain (its
#: card).
_DOUBTED_FACTOR = 2.0
#: The least barrier plus offset whose logarithm is taken, eV.
_LEAST_EV = 1e-6


class OutOfMemoryError(Exception):
    """The device has too little memory for a batch; a smaller one may fit."""


@dataclass(frozen=True, kw_only=True)
class Output:
    """The output of a model for one band.

    Attributes:
        value: the transformed barrier (app.models.cards.card.TargetTransform).
        distance: to the nearest fitted band, in the card's unit.
        difficulty: the expected scale of the residual, relative to that of the calibration.
        leans_on: see Prediction.
    """

    value: float
    distance: float
    difficulty: float = 1.0
    leans_on: Mapping[str, float] = field(default_factory=dict)


class Predictor(ABC):
    """The base class of predictors: one checkpoint on one device.

    Args:
        card: of the checkpoint.
        device: where the model runs.
        lanes: run the pieces of a batch in parallel, on a CPU; None runs a batch whole.
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
        """A picklable function that prepares a band as `graph` does, for other processes; None where there is none."""
        return None

    @abstractmethod
    def graph(self, band: Band) -> PreparedBand:
        """Prepare a band of any number of images; safe to call from several threads.

        Raises:
            InputError: no host atom is near the ion's path, so there is no crystal to predict from.
        """

    @abstractmethod
    def _outputs(self, piece: Sequence[PreparedBand]) -> list[Output]:
        """Run the model on some bands at once, at least one."""

    def cost(self, prepared: PreparedBand) -> int:
        """The cost of a forward pass of this band on this device, in edges of the line graph."""
        return prepared.cost

    def predict(self, prepared: Sequence[PreparedBand], *, ways: int | None = None) -> list[Prediction]:
        """Predict all bands; the answer for a band does not depend on the others.

        Args:
            prepared: the bands.
            ways: largest number of lanes to use, on a CPU; None uses all.

        Raises:
            OutOfMemoryError: the device has too little memory for so many at once.
        """
        if self._lanes is None:
            return self._predict_piece(prepared)
        ways = min(ways or self._lanes.threads, self._lanes.threads)
        predicted = self._lanes.map(self._predict_piece, _split(prepared, ways), ways=ways)
        return [prediction for piece in predicted for prediction in piece]

    def warm_up(self) -> None:
        """Run bands of a few sizes, so that the first request does not wait for the selection of kernels."""
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
        with torch.inference_mode(), out_of_memory_raised():
            outputs = self._outputs(piece)
        return [self._prediction(output, item.reasons_outside) for output, item in zip(outputs, piece, strict=True)]

    def _prediction(self, output: Output, reasons: tuple[str, ...]) -> Prediction:
        threshold = self.card.domain.vector_distance
        if output.distance > threshold:
            unlike = (
                f"the surroundings of the path are unlike any fitted band's (distance {output.distance:.3g}, "
                f"the domain ends at {threshold:.3g})"
            )
            reasons = (*reasons, unlike)
        factor = output.difficulty * (self.card.calibration.outside_factor if reasons else 1.0)
        quantiles = self.card.target.to_barriers_ev(output.value + factor * self._residuals)
        return Prediction(
            barrier_ev=float(self.card.target.to_barriers_ev(np.array([output.value]))[0]),
            quantiles_ev=tuple(float(value) for value in quantiles),
            in_domain=not reasons,
            domain_reasons=reasons,
            leans_on=output.leans_on,
        )

    def doubted(self, prediction: Prediction, reason: str) -> Prediction:
        """The same barrier with one more reason to be outside the domain; its distribution is widened once.

        Args:
            prediction: one of this checkpoint's.
            reason: a sentence about the hop that its band does not show.
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
        """The transformed output for a predicted barrier."""
        target = self.card.target
        return float((np.log(max(barrier_ev + target.offset_ev, _LEAST_EV)) - target.mean) / target.scale)


@contextmanager
def out_of_memory_raised() -> Iterator[None]:
    """Convert errors of torch about memory, on a device or the machine, to OutOfMemoryError."""
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
    """Split a batch into pieces of similar cost, at least one per lane, each small enough for memory."""
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
