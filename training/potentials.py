"""CHGNet's published weights, taken from its package and written as safetensors under our own names."""

from collections.abc import Mapping

import torch

from app.models.networks.chgnet import FEATURES, LAYERS, Chgnet

POTENTIAL = "CHGNet 0.3.0"
POTENTIAL_LICENCE = "BSD-3-Clause (modified), The Regents of the University of California"
POTENTIAL_CITATION = (
    "B. Deng, P. Zhong, K. Jun, J. Riebesell, K. Han, C. J. Bartel, G. Ceder, CHGNet as a pretrained universal neural "
    "network potential for charge-informed atomistic modelling, Nat. Mach. Intell. 5, 1031 (2023), "
    "doi:10.1038/s42256-023-00716-3"
)


def published_chgnet() -> Chgnet:
    """CHGNet 0.3.0 with the weights that the installed chgnet package carries."""
    from chgnet.model.model import CHGNet  # noqa: PLC0415 - only a retraining needs the package

    published = CHGNet.load(model_name="0.3.0", use_device="cpu", verbose=False)
    network = Chgnet()
    network.load_state_dict(converted(published.state_dict()))
    return network.eval().requires_grad_(requires_grad=False)


def converted(published: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The published weights under this project's names; first layers are split by what they read."""
    plain = {
        "elements.weight": "atom_embedding.embedding.weight",
        "atom_radial.frequencies": "bond_basis_expansion.rbf_expansion_ag.frequencies",
        "bond_radial.frequencies": "bond_basis_expansion.rbf_expansion_bg.frequencies",
        "bond_embedding.weight": "bond_embedding.weight",
        "atom_weights.weight": "bond_weights_ag.weight",
        "bond_weights.weight": "bond_weights_bg.weight",
        "angle_frequencies": "angle_basis_expansion.fourier_expansion.frequencies",
        "angle_embedding.weight": "angle_embedding.weight",
        "readout_norm.weight": "readout_norm.weight",
        "readout_norm.bias": "readout_norm.bias",
    }
    weights = {ours: published[theirs] for ours, theirs in plain.items()}
    weights["references_ev"] = published["composition_model.fc.weight"][0]
    for ours, theirs in ((0, 0), (2, 2), (4, 4), (6, 7)):
        for kind in ("weight", "bias"):
            weights[f"readout.{ours}.{kind}"] = published[f"mlp.layers.{theirs}.{kind}"]
    for layer in range(LAYERS):
        theirs_prefix = f"atom_conv_layers.{layer}"
        weights |= _gated(f"atom_layers.{layer}.gated", f"{theirs_prefix}.twoBody_atom", published, hidden=True)
        weights[f"atom_layers.{layer}.out.weight"] = published[f"{theirs_prefix}.mlp_out.layers.1.weight"]
    for layer in range(LAYERS - 1):
        theirs_prefix = f"bond_conv_layers.{layer}"
        weights |= _gated(f"bond_layers.{layer}.pairs.gated", f"{theirs_prefix}.twoBody_bond", published, hidden=True)
        weights[f"bond_layers.{layer}.out.weight"] = published[f"{theirs_prefix}.mlp_out.layers.1.weight"]
    for layer in range(LAYERS - 2):
        weights |= _gated(f"angle_layers.{layer}.gated", f"angle_layers.{layer}.twoBody_bond", published, hidden=False)
    return {name: value.detach().clone().contiguous() for name, value in weights.items()}


def _gated(ours: str, theirs: str, published: Mapping[str, torch.Tensor], *, hidden: bool) -> dict[str, torch.Tensor]:
    first = 0 if hidden else 1
    halves = ("core", "gate")
    joined = torch.cat([published[f"{theirs}.mlp_{half}.layers.{first}.weight"] for half in halves])
    weights = {f"{ours}.first.{part}.weight": block for part, block in enumerate(torch.split(joined, FEATURES, dim=1))}
    weights[f"{ours}.first.0.bias"] = torch.cat(
        [published[f"{theirs}.mlp_{half}.layers.{first}.bias"] for half in halves]
    )
    for half, norm in zip(halves, ("bn1", "bn2"), strict=True):
        for kind in ("weight", "bias"):
            weights[f"{ours}.{half}_norm.{kind}"] = published[f"{theirs}.{norm}.{kind}"]
            if hidden:
                weights[f"{ours}.{half}.{kind}"] = published[f"{theirs}.mlp_{half}.layers.3.{kind}"]
    return weights
