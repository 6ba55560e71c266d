"""The end of a pre-training: its errors on the test rows, its card and its checkpoint."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch
from pymatgen.core import Element

from app.models.cards.property_card import PropertyCard
from app.models.checkpoints import write_checkpoint
from training.fit import EpochReport
from training.metadata import fitted_on
from training.pretraining.figures import property_figures
from training.pretraining.run import Pretraining
from training.publish import METHOD_CITATION

_CITATIONS = (
    (
        "R. Devi, K. T. Butler, G. Sai Gautam, Optimal pre-train/fine-tune strategies for accurate material property "
        "predictions, npj Comput. Mater. 10, 300 (2024), doi:10.1038/s41524-024-01486-1"
    ),
    (
        "A. Dunn, Q. Wang, A. Ganose, D. Dopp, A. Jain, Benchmarking materials property prediction methods: the "
        "Matbench test set and Automatminer reference algorithm, npj Comput. Mater. 6, 138 (2020), "
        "doi:10.1038/s41524-020-00406-3"
    ),
    (
        "A. Jain et al., The Materials Project: a materials genome approach to accelerating materials innovation, "
        "APL Mater. 1, 011002 (2013), doi:10.1063/1.4812323 (CC BY 4.0)"
    ),
    METHOD_CITATION,
)


def publish_pretraining(
    run: Pretraining, store: Path, *, version: str, report: Callable[[EpochReport], None]
) -> PropertyCard:
    """Finish the fit, evaluate the test rows, and write the checkpoint.

    Args:
        run: its configuration names the checkpoint.
        store: the model store.
        version: of the checkpoint.
        report: called after each epoch, and about once a minute within one.
    """
    network, seconds = run.fitted(report)
    labels, predictions = run.predictions(network, "test")
    fitted = run.fitted_rows
    numbers = torch.unique(torch.cat([torch.unique(run.crystals.graph(int(row)).atomic_numbers) for row in fitted]))
    card = PropertyCard(
        name=run.config.name,
        version=version,
        description=run.config.description,
        network="multi-property",
        arguments={
            "properties": list(run.config.properties),
            "trunk": run.config.trunk,
            "head": list(run.config.head),
        },
        graph=run.config.graph,
        properties=run.scalings,
        elements=tuple(sorted(Element.from_Z(int(number)).symbol for number in numbers)),
        corpus={
            "name": "seven bulk properties of crystals",
            "sha256": run.crystals.sha256,
            "rows": len(run.crystals),
            "fitted_rows": len(fitted),
            "fitted_values": {
                name: int(count)
                for name, count in zip(run.config.properties, np.isfinite(run.values[fitted]).sum(axis=0), strict=True)
            },
        },
        metrics={"test": property_figures(run, labels, predictions)},
        training=fitted_on(run.config.to_json(), run.device, seconds, network),
        licence="MIT",
        citations=_CITATIONS,
        date=datetime.now(UTC).date().isoformat(),
        weights_sha256="",
    )
    return write_checkpoint(store / run.config.name, network, None, card)
