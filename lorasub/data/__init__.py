"""Where batches come from: LightningDataModules for synthetic and real scenes, and the loader pieces they share."""

from lorasub.data.real import PosedRGBD

__all__ = ["PosedRGBD"]
