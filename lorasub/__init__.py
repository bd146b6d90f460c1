"""lorasub: mine attribute subspaces of 3D foundation models from synthetic scenes, and fine-tune in them.

The public names are listed, with their types, in ``__init__.pyi``; each is imported when it is first used, so that
``import lorasub`` costs next to nothing.
"""

import lazy_loader

from lorasub._version import __version__ as __version__

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
