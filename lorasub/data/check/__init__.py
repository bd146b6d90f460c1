"""Checks of captures: is what a reader made of a folder what the images show?

:func:`check_capture` decodes a capture and judges eight claims about it (:class:`Claim`), each of which comes out as
proved, contradicted or not provable from these frames. The way it goes:

- :mod:`~lorasub.data.check.observations`: frames are chosen, decoded and matched. Nothing of this looks at the poses.
- :mod:`~lorasub.data.check.hypotheses`: the ways in which a capture can be misread, as :class:`Interpretation` objects.
- :mod:`~lorasub.data.check.residuals`: how far the observations are from what an interpretation predicts.
- :mod:`~lorasub.data.check.statistics`: whether a difference between two interpretations is more than chance.
- :mod:`~lorasub.data.check.registration`: do the edges of depth lie on edges of the image?
- :mod:`~lorasub.data.check.single_frames`: is there one image or depth map that is not where its pose says?
- :mod:`~lorasub.data.check.judging`: from comparisons to claims.
"""

from lorasub.data.check.capture import check_capture
from lorasub.data.check.claims import Claim, Finding
from lorasub.data.check.hypotheses import Interpretation
from lorasub.data.check.report import CaptureReport

__all__ = ["CaptureReport", "Claim", "Finding", "Interpretation", "check_capture"]
