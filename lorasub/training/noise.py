"""Messages of libraries that a user of ``lorasub`` can do nothing about."""

from __future__ import annotations

import logging
import warnings

#: Beginning of each, as a regular expression, and why it is of no use.
_OF_NO_USE = {
    r".*`?isinstance\(treespec, LeafSpec\)": "Lightning calls torch by an older name",
    r"The dirpath has changed from": "a test writes elsewhere than the fit whose checkpoint it reads",
    r"The number of training batches \(\d+\) is smaller than the logging interval": "steps count, not epochs",
    r"Checkpoint directory .* exists and is not empty": "a resumed run goes on in its folder; others are refused",
    r"The '\w+' does not have many workers": "scenes are rendered by the main process on purpose",
    r"\s*skip_none parameter was deprecated": "jsonargparse before 4.49 has no other name for it",
    r".*`torch\.jit\.script_method` is deprecated": "kornia calls it",
}


def silence_libraries() -> None:
    """Leave out lines of Lightning that say what is said better elsewhere, or that ask for nothing."""
    for message in _OF_NO_USE:
        warnings.filterwarnings("ignore", message=message)
    # devices, "tips" to install other products, and where a checkpoint was read: our own lines say what matters
    logging.getLogger("lightning.pytorch.utilities.rank_zero").setLevel(logging.WARNING)
    logging.getLogger("lightning.pytorch.trainer.connectors").setLevel(logging.WARNING)
