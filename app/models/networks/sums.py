"""Sums over the edges or atoms that belong together."""

import torch


def summed(values: torch.Tensor, index: torch.Tensor, count: int) -> torch.Tensor:
    """Adds the rows with the same index: shape [n, features] to [count, features].

    Args:
        values: the rows.
        index: of each row, where it is added, shape [n].
        count: of the sums; those that nothing is added to are zero.
    """
    # Importing it loads torch's compiler, for seconds that only those pay who run a network of graphs.
    from torch_geometric.utils import scatter  # noqa: PLC0415

    total: torch.Tensor = scatter(values, index, dim=0, dim_size=count, reduce="sum")
    return total
