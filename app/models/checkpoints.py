"""Checkpoint folders: weights.safetensors and card.json, written by training, read by the service."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import nn

from app.models.cards.card import CARD_FILE, WEIGHTS_FILE, AnyCardT, Card, CheckpointError, read_card
from app.models.cards.conductivity_card import ConductivityCard, read_conductivity_card
from app.models.cards.property_card import PropertyCard, read_property_card
from app.models.graphs.shells import GraphSpec
from app.models.networks.conductor_regression import ConductorRegression
from app.models.networks.graph_network import GraphNetwork
from app.models.networks.hop_kernel import HopKernel
from app.models.networks.message_tables import SharedTables
from app.models.networks.model_1 import Model1
from app.models.networks.model_2 import Model2
from app.models.networks.model_3 import Model3
from app.models.networks.model_4 import Model4
from app.models.networks.multi_property import MultiProperty
from app.models.predictors.conductivity_predictor import ConductivityPredictor
from app.models.predictors.graph_predictor import GraphPredictor
from app.models.predictors.kernel_predictor import KernelPredictor
from app.models.predictors.parallel_passes import Lanes
from app.models.predictors.predictor import Predictor
from app.models.predictors.property_predictor import PropertyPredictor

Network = TypeVar("Network", bound=nn.Module)

#: Networks that read a band as graphs.
GRAPH_NETWORKS: dict[str, type[GraphNetwork]] = {
    "model-1": Model1,
    "model-2": Model2,
    "model-3": Model3,
    "model-4": Model4,
}
NETWORKS: dict[str, type[nn.Module]] = {**GRAPH_NETWORKS, "hop-kernel": HopKernel}
#: Networks of bulk properties.
PROPERTY_NETWORKS: dict[str, type[MultiProperty]] = {"multi-property": MultiProperty}
#: Of conductivities.
CONDUCTIVITY_NETWORKS: dict[str, type[ConductorRegression]] = {"conductor-regression": ConductorRegression}

#: The fitted bands' pooled vectors travel with the weights under this name.
DOMAIN_VECTORS = "domain_vectors"


def write_checkpoint(folder: Path, network: nn.Module, domain_vectors: torch.Tensor | None, card: AnyCardT) -> AnyCardT:
    """Write weights and card; returns the card with the weights' digest.

    Args:
        folder: created if it is missing; its name must be the card's.
        network: on any device.
        domain_vectors: pooled vectors of the fitted bands, shape [n, features]; None for a network that contains its
            fitted bands.
        card: weights_sha256 is filled in here.
    """
    tensors = {f"network.{name}": value.detach().cpu().contiguous() for name, value in network.state_dict().items()}
    if domain_vectors is not None:
        tensors[DOMAIN_VECTORS] = domain_vectors.detach().cpu().contiguous()
    content = save(tensors)
    card = replace(card, weights_sha256=hashlib.sha256(content).hexdigest())
    folder.mkdir(parents=True, exist_ok=True)
    # Written to temporary files first: an interrupted write leaves the old files, and a mixed pair fails its digest.
    weights, written = folder / f"{WEIGHTS_FILE}.pending", folder / f"{CARD_FILE}.pending"
    weights.write_bytes(content)
    written.write_text(json.dumps(card.to_json(), indent=1, allow_nan=False) + "\n", encoding="utf-8")
    weights.replace(folder / WEIGHTS_FILE)
    written.replace(folder / CARD_FILE)
    return card


def read_checkpoint(folder: Path) -> tuple[Card, nn.Module, torch.Tensor | None]:
    """Read a checkpoint: its card, its network in evaluation mode on the CPU, and its domain vectors if it has any.

    Raises:
        CheckpointError: a file is missing or damaged, the weights do not have the digest that the card names, or
            they do not fit the network that it describes.
    """
    card = read_card(folder)
    path = folder / WEIGHTS_FILE
    tensors = checked_tensors(folder, card.weights_sha256)
    vectors = tensors.pop(DOMAIN_VECTORS, None)
    try:
        GraphSpec(**card.graph)
        network = restored(NETWORKS[card.network](**card.arguments), tensors)
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise CheckpointError(f"{path} does not fit its card: {error}") from error
    return card, network, vectors


def checked_tensors(folder: Path, weights_sha256: str) -> dict[str, torch.Tensor]:
    """Read the tensors of a checkpoint.

    Raises:
        CheckpointError: the file is missing or damaged, or does not have the digest that its card names.
    """
    path = folder / WEIGHTS_FILE
    try:
        content = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error
    digest = hashlib.sha256(content).hexdigest()
    if digest != weights_sha256:
        raise CheckpointError(
            f"{path} has the SHA-256 {digest}, its card names {weights_sha256}: "
            "the file was changed or belongs to another card"
        )
    try:
        tensors: dict[str, torch.Tensor] = load(content)
    except SafetensorError as error:
        raise CheckpointError(f"{path} does not fit its card: {error}") from error
    return tensors


def restored(network: Network, tensors: dict[str, torch.Tensor]) -> Network:
    """A network with the weights of a checkpoint, in evaluation mode.

    Raises:
        RuntimeError: they are of another network.
    """
    network.load_state_dict({name.removeprefix("network."): value for name, value in tensors.items()})
    return network.eval().requires_grad_(requires_grad=False)


def read_predictor(
    folder: Path, *, device: torch.device, lanes: Lanes | None = None, tables: SharedTables | None = None
) -> Predictor:
    """Read a checkpoint and return a predictor.

    Args:
        folder: of the checkpoint.
        device: see Predictor.
        lanes: see Predictor.
        tables: lookup tables of potentials, on a CPU.

    Raises:
        CheckpointError: as read_checkpoint; or the network needs vectors of the fitted bands and the checkpoint has
        none.
    """
    card, network, vectors = read_checkpoint(folder)
    if isinstance(network, HopKernel):
        kept = None if tables is None else tables.of(network.potential)
        return KernelPredictor(card, network, device=device, lanes=lanes, tables=kept)
    if vectors is None or not isinstance(network, GraphNetwork):
        raise CheckpointError(f"{folder} has no {DOMAIN_VECTORS} among its tensors")
    return GraphPredictor(card, network, vectors, device=device, lanes=lanes)


def read_property_checkpoint(folder: Path) -> tuple[PropertyCard, MultiProperty]:
    """Read a checkpoint: its card, and its network in evaluation mode on the CPU.

    Raises:
        CheckpointError: a file is missing or damaged, the weights do not have the digest that the card names, or
            they do not fit the network that it describes.
    """
    card = read_property_card(folder)
    tensors = checked_tensors(folder, card.weights_sha256)
    try:
        GraphSpec(**card.graph)
        network = restored(PROPERTY_NETWORKS[card.network](**card.arguments), tensors)
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise CheckpointError(f"{folder} does not fit its card: {error}") from error
    if list(network.properties) != [scale.name for scale in card.properties]:
        raise CheckpointError(f"{folder} does not fit its card: the network's properties are not those that it names")
    return card, network


def read_property_predictor(folder: Path, *, device: torch.device, lanes: Lanes | None = None) -> PropertyPredictor:
    """Read a checkpoint of bulk properties and return a predictor.

    Raises:
        CheckpointError: as read_property_checkpoint.
    """
    card, network = read_property_checkpoint(folder)
    return PropertyPredictor(card, network, device=device, lanes=lanes)


def read_conductivity_predictor(folder: Path) -> ConductivityPredictor:
    """Read a checkpoint of conductivity and return a predictor.

    Raises:
        CheckpointError: a file is missing or damaged, the weights do not have the digest that the card names, or
            they do not fit the network that it describes.
    """
    card: ConductivityCard = read_conductivity_card(folder)
    tensors = checked_tensors(folder, card.weights_sha256)
    try:
        network = restored(CONDUCTIVITY_NETWORKS[card.network](**card.arguments), tensors)
        return ConductivityPredictor(card, network)
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise CheckpointError(f"{folder} does not fit its card: {error}") from error
