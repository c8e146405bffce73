"""What other libraries say, and a user of ours cannot act on."""

from __future__ import annotations

import logging
import warnings

import transformers


def quieten() -> None:
    """Say nothing that a user cannot act on."""
    logging.basicConfig(format="%(levelname)s %(name)s: %(message)s")
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    transformers.utils.logging.disable_progress_bar()
    # Our loader works in the trainer's process on purpose; workers would hold copies of the student.
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    warnings.filterwarnings("ignore", message=".*your dataloader is not resumable.*")  # we keep the position ourselves
    warnings.filterwarnings("ignore", message=".*Experiment logs directory .* is not empty.*")  # we kept its log
    warnings.filterwarnings("ignore", message=".*isinstance.treespec, LeafSpec.*")
    warnings.filterwarnings(
        "ignore", message=".*sync_dist=True. when logging on epoch level.*"
    )  # ours is over all ranks
