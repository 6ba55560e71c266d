"""How this service starts its helpers: forked from one server that has loaded what they need, and no tensors."""

import multiprocessing
from multiprocessing.context import ForkServerContext


def forked() -> ForkServerContext:
    """The context that they are started in; a helper that was killed is replaced in milliseconds."""
    # Not fork: threads of torch run here.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["app.serving.parsing", "app.serving.preparing", "app.models.preparation"])
    return context
