"""Checkpoints of bulk properties: read and checked."""

from pathlib import Path

from app.models.cards import CheckpointError
from app.models.checkpoints import checked_tensors, restored
from app.models.graphs import GraphSpec
from app.models.networks.multi_property import MultiProperty
from app.models.property_cards import PropertyCard, read_property_card

NETWORKS: dict[str, type[MultiProperty]] = {"multi-property": MultiProperty}


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
        network = restored(NETWORKS[card.network](**card.arguments), tensors)
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise CheckpointError(f"{folder} does not fit its card: {error}") from error
    if list(network.properties) != [scale.name for scale in card.properties]:
        raise CheckpointError(f"{folder} does not fit its card: the network's properties are not those that it names")
    return card, network
