"""The contract between lorasub and a 3D foundation model.

Tasks, losses, metrics and callbacks speak to a :class:`Backbone` only. Adapters do not even know that much: they wrap
layers of any ``nn.Module``, and read from a backbone just ``groups`` (where adapters may go) and ``weights_hash``
(which weights they belong to).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping

from torch import Tensor, nn

from lorasub.errors import ConfigError
from lorasub.files import hash_tensors
from lorasub.structures import Predictions


class Backbone(nn.Module, ABC):
    """A feed-forward 3D model: images of a scene in; cameras, depth and points out.

    An implementation owes:

    - :meth:`forward`, and in it a call of :meth:`check_images`;
    - ``groups``, and ``patch_size`` where not every size of image will do, in its constructor or in its class body;
    - every normalisation of the images inside the model, so that callers only ever see [0, 1];
    - outputs in the first view's camera frame, OpenCV axes, in the model's own unit of length;
    - heads that it does not have leave their fields of :class:`~lorasub.structures.Predictions` empty.

    Attributes:
        patch_size: image height and width must be multiples of this many pixels (1: any size).
        model_id: short name of the weights, for instance ``vggt-1b``; by default the name of the class. It is written
            into every adapter and basis, so it must not hold paths of this machine.
        groups: name of a group -> ``fnmatch`` patterns over module paths (as in ``named_modules``; ``*`` also spans
            dots). Users name adapters' targets by these. Expected names, where the model has such parts: ``encoder``,
            ``blocks``, ``frame_blocks``, ``global_blocks``, ``camera_head``, ``depth_head``, ``point_head``, ``heads``.
        weights_license: licence of the weights where it is known; adapters' cards name it.
    """

    patch_size: int = 1
    model_id: str = ""
    groups: Mapping[str, tuple[str, ...]] = {}
    weights_license: str | None = None

    _weights_hash: str | None = None

    def __init_subclass__(cls, **kwargs: object) -> None:
        super().__init_subclass__(**kwargs)
        if not cls.model_id:
            cls.model_id = cls.__name__

    @abstractmethod
    def forward(self, images: Tensor) -> Predictions:
        """Predict cameras and geometry.

        Args:
            images: ``[B, S, 3, H, W]`` in [0, 1].

        Raises:
            ConfigError: the shape does not fit, see :meth:`check_images`.
        """

    def check_images(self, images: Tensor) -> None:
        """Refuse images that the model cannot take. Looks at shape and dtype only, never at values.

        Raises:
            ConfigError: not ``[B, S, 3, H, W]``, empty, not floating point, or H or W no multiple of the patch size.
        """
        shape = tuple(images.shape)
        if images.ndim != 5 or shape[2] != 3:
            raise ConfigError(f"images must be [B, S, 3, H, W] (scenes, views, RGB, height, width), not {shape}")
        if 0 in shape:
            raise ConfigError(f"images of shape {shape} hold nothing: B, S, H and W must be at least 1")
        if not images.is_floating_point():
            raise ConfigError(f"images must be floating point in [0, 1], not {images.dtype}; divide 8-bit ones by 255")
        height, width = shape[3:]
        if height % self.patch_size or width % self.patch_size:
            fitting = tuple(max(1, round(size / self.patch_size)) * self.patch_size for size in (height, width))
            raise ConfigError(
                f"images are {height} x {width} (height x width), but {self.model_id} needs multiples of its patch "
                f"size {self.patch_size}; the nearest size that fits is {fitting[0]} x {fitting[1]}"
            )

    def repeated_blocks(self) -> Iterable[nn.Module]:
        """The modules that do most of the work, for ``torch.compile``: each is called as a whole, many are alike.

        The backbone itself unless a subclass knows better.
        """
        return (self,)

    def weights_hash(self) -> str:
        """SHA-256 of the base weights: the identity that adapters and bases carry with them.

        It is computed at the first call (seconds for a billion parameters) and kept from then on. Call it before
        layers are wrapped and before base weights are trained; injecting adapters does. All tensors count as float32,
        so that the same weights stored or held in half precision have the same hash. A model without one of its heads
        holds fewer tensors and therefore has another hash.
        """
        if self._weights_hash is None:
            tensors = {name: tensor.float() for name, tensor in self.state_dict().items()}
            self._weights_hash = hash_tensors(tensors)
        return self._weights_hash
