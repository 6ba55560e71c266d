"""Sums over groups of edges or atoms: the one operation taken from PyTorch Geometric."""

import torch


def summed(values: torch.Tensor, index: torch.Tensor, count: int) -> torch.Tensor:
    """Add the rows with the same index: shape [n, features] to [count, features].

    Args:
        values: the rows.
        index: the sum that each row is added to, shape [n].
        count: number of sums; empty sums are zero.
    """
    # Importing it loads torch's compiler, which takes seconds that only graph networks need to spend.
    from torch_geometric.utils import scatter  # noqa: PLC0415

    total: torch.Tensor = scatter(values, index, dim=0, dim_size=count, reduce="sum")
    return total
