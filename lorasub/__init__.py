"""lorasub: mine attribute subspaces of 3D foundation models from synthetic scenes, and fine-tune in them.

The public names are listed, with their types, in ``__init__.pyi``; each is imported when it is first used, so that
``import lorasub`` costs next to nothing.
"""

from collections.abc import Sequence

import lazy_loader

from lorasub._version import __version__ as __version__
from lorasub.run_callbacks import set_run_callbacks

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)


def _run_callbacks(trainer: object) -> Sequence[object]:
    from lorasub.callbacks.always_on import missing_callbacks

    return missing_callbacks(trainer)


set_run_callbacks(_run_callbacks)
