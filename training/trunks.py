"""A pre-trained trunk, and how a network for barriers is initialised from it."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from app.models.cards.card import CARD_FILE
from app.models.checkpoints import read_property_checkpoint
from training.config import RunConfig

# Weights that bulk crystals have no use for, learned on bands alone.
_OWN = "ion_mark."


@dataclass(frozen=True, kw_only=True)
class Trunk:
    """The weights of a trunk by name, and the digest of their checkpoint."""

    weights: dict[str, torch.Tensor]
    weights_sha256: str

    def copy_to(self, network: nn.Module) -> None:
        """Overwrite a network's trunk; the embedding that marks the ion starts at zero and changes nothing at first.

        Raises:
            ValueError: the trunk has other layers than the network's; the message names the first.
        """
        trunk = network.get_submodule("trunk")
        own = {name for name in trunk.state_dict() if name.startswith(_OWN)}
        if mismatch := sorted((set(trunk.state_dict()) - own) ^ set(self.weights)):
            raise ValueError(f"the pre-trained trunk has other layers than the network's, such as {mismatch[0]}")
        trunk.load_state_dict(self.weights, strict=False)
        for name, parameter in trunk.named_parameters():
            if name in own:
                nn.init.zeros_(parameter)


def read_trunk(folder: Path, config: RunConfig) -> Trunk:
    """Read the trunk of a pre-trained checkpoint.

    Raises:
        FileNotFoundError: the checkpoint is missing; the message has the command that makes it.
        CheckpointError: it is damaged.
        ValueError: it was fitted on graphs of other shells than the configuration has.
    """
    if not (folder / CARD_FILE).is_file():
        raise FileNotFoundError(f"there is no pre-trained trunk at {folder}; `ionpath train {folder.name}` makes it")
    card, network = read_property_checkpoint(folder)
    for name in ("neighbour_count", "reach_angstrom", "shell_width_angstrom"):
        if card.graph[name] != config.graph[name]:
            raise ValueError(f"{folder} was fitted with {name} {card.graph[name]}, not {config.graph[name]}")
    return Trunk(weights=dict(network.trunk.state_dict()), weights_sha256=card.weights_sha256)
