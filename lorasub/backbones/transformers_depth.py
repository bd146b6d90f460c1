"""Monocular depth models of ``transformers`` behind the contract: Depth Anything, DPT, ZoeDepth, Depth Pro, ..."""

from __future__ import annotations

import fnmatch
import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from lorasub.backbones.base import Backbone
from lorasub.errors import ConfigError
from lorasub.files import write_json
from lorasub.structures import Predictions

logger = logging.getLogger(__name__)

#: What a model's ``predicted_depth`` is.
DepthKind = Literal["metric", "inverse"]
#: Of ``model_type``; models of Depth Anything say it in their configuration.
DEPTH_KINDS: dict[str, DepthKind] = {
    "dpt": "inverse",  # MiDaS: relative inverse depth
    "zoedepth": "metric",
    "glpn": "metric",
    "depth_pro": "inverse",  # of an image as wide as its focal length; see _depth
}
#: Attributes under which models keep their image encoders; all other children are heads.
_ENCODERS = ("backbone", "dpt", "depth_pro", "glpn")
#: Mean and standard deviation of the images, by ``model_type``; they are used where none are stated.
_IMAGENET = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
_HALF = ([0.5, 0.5, 0.5], [0.5, 0.5, 0.5])
_UNCHANGED = ([0.0, 0.0, 0.0], [1.0, 1.0, 1.0])
_NORMALISATIONS = {"dpt": _HALF, "zoedepth": _HALF, "depth_pro": _HALF, "glpn": _UNCHANGED}
#: Inverse depth below this share of the image's mean counts as this: a sky has depth 1000, not infinity.
_LEAST_INVERSE = 1e-3
#: Depth Pro's own: ten kilometres.
_LEAST_METRIC_INVERSE = 1e-4


class TransformersDepth(Backbone):
    """Depth of each view on its own, by any model that ``transformers.AutoModelForDepthEstimation`` loads.

    Views do not see each other. There are no cameras, points or confidence; losses and metrics of those are skipped.
    Depth comes out as z-depth: metric models in metres, others as the inverse of what they predict, in which a scale
    (and for relative models a shift of the inverse, which no scale mends) stays unknown. Train and compare relative
    models with alignments that allow for it.

    Args:
        model: as loaded by ``transformers``.
        depth_kind: whether ``predicted_depth`` is metric z-depth or inverse depth; None asks the model's configuration.
        mean: of the images that the model was trained on, per channel; by default those that the authors of its kind
            use.
        std: likewise.
        model_id: short name of the weights.

    Raises:
        ConfigError: the model does not say which kind of depth it predicts.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        depth_kind: DepthKind | None = None,
        mean: list[float] | None = None,
        std: list[float] | None = None,
        model_id: str = "transformers-depth",
    ) -> None:
        super().__init__()
        self.model = model
        self.model_id = model_id
        config: Any = model.config
        self.depth_kind: DepthKind = depth_kind or _depth_kind(config)
        self.model_type: str = config.model_type
        self.patch_size = _patch_size(config)
        # DPT with its own encoder, and Depth Pro, take their grid of patches for a square one
        without_encoder = config.model_type == "dpt" and getattr(config, "backbone_config", None) is None
        self.square = without_encoder or config.model_type == "depth_pro"
        usual_mean, usual_std = _NORMALISATIONS.get(config.model_type, _IMAGENET)
        self.register_buffer("mean", torch.tensor(mean or usual_mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std or usual_std).view(3, 1, 1), persistent=False)
        self.groups = _groups(model)
        if config.model_type == "depth_pro" and not config.use_fov_model:
            logger.warning("%s predicts no field of view: the scale of its depth is unknown", model_id)

    mean: Tensor
    std: Tensor

    @classmethod
    def from_pretrained(
        cls, source: str | os.PathLike[str], *, depth_kind: DepthKind | None = None
    ) -> TransformersDepth:
        """A model from a folder that ``save_pretrained`` wrote, or a hub id; needs the extra ``transformers``.

        Weights are read from safetensors only. Under ``torch.device("meta")`` none are read.

        Args:
            source: folder or hub id, such as ``depth-anything/Depth-Anything-V2-Small-hf``. Weights keep their own
                licence.
            depth_kind: see the class.

        Raises:
            ConfigError: ``transformers`` is missing, nothing is there, or it is no depth model.
        """
        try:
            from transformers import AutoConfig, AutoModelForDepthEstimation
        except ImportError as error:
            raise ConfigError("TransformersDepth needs transformers: pip install 'lorasub[transformers]'") from error
        local = Path(source).expanduser()
        place = str(local) if local.exists() else str(source)
        try:
            if torch.empty(0).is_meta:
                config = AutoConfig.from_pretrained(place)
                model = AutoModelForDepthEstimation.from_config(config)  # type: ignore[no-untyped-call]
            else:
                model = AutoModelForDepthEstimation.from_pretrained(place, use_safetensors=True, dtype=torch.float32)
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"{source} is no depth model that transformers can load: {str(error).splitlines()[0]}"
            ) from error
        mean, std = _normalisation(place, model.config.model_type)
        name = local.resolve().name if local.exists() else str(source)
        return cls(model, depth_kind=depth_kind, mean=mean, std=std, model_id=name)

    def save_pretrained(self, folder: str | os.PathLike[str], dtype: torch.dtype | None = None) -> Path:
        """Write weights, configuration and the images' normalisation into ``folder``, as ``transformers`` reads them.

        Args:
            folder: made if missing.
            dtype: of the tensors in the file; their own by default.

        Returns:
            The safetensors file.
        """
        tensors = {name: tensor.to(dtype or tensor.dtype) for name, tensor in self.model.state_dict().items()}
        model: Any = self.model
        model.save_pretrained(folder, state_dict=tensors)
        normalisation = {"image_mean": self.mean.flatten().tolist(), "image_std": self.std.flatten().tolist()}
        write_json(Path(folder) / "preprocessor_config.json", normalisation)
        return Path(folder) / "model.safetensors"

    def forward(self, images: Tensor) -> Predictions:
        """Predict the depth of every view.

        Args:
            images: ``[B, S, 3, H, W]`` in [0, 1].

        Raises:
            ConfigError: the shape does not fit.
        """
        self.check_images(images)
        if self.square and images.shape[-1] != images.shape[-2]:
            height, width = images.shape[-2:]
            raise ConfigError(f"images are {height} x {width}, but {self.model_id} takes square ones only")
        views = (images.flatten(0, 1) - self.mean) / self.std
        output = self.model(pixel_values=views.to(next(self.model.parameters()).dtype))
        depth = self._depth(output, images.shape[-1])[:, None].float()
        if depth.shape[-2:] != images.shape[-2:]:
            depth = nn.functional.interpolate(depth, size=images.shape[-2:], mode="bilinear", align_corners=False)
        return Predictions(depth=torch.unflatten(depth[:, 0], 0, images.shape[:2]))

    def _depth(self, output: Any, width: int) -> Tensor:
        """Z-depth ``[B * S, h, w]`` from what the model returns."""
        predicted: Tensor = output.predicted_depth
        if self.depth_kind == "metric":
            return predicted.clamp(min=1e-6)
        view = output.get("field_of_view")
        if self.model_type == "depth_pro" and view is not None:
            # canonical inverse depth: times width / focal length it is that of this camera
            focal = 0.5 * width / torch.tan(0.5 * torch.deg2rad(view.float())).view(-1, 1, 1)
            return 1 / (predicted * (width / focal)).clamp(min=_LEAST_METRIC_INVERSE)
        least = _LEAST_INVERSE * predicted.detach().mean((-2, -1), keepdim=True).clamp(min=1e-9)
        return 1 / predicted.maximum(least)


def _depth_kind(config: Any) -> DepthKind:
    stated = getattr(config, "depth_estimation_type", None)
    if stated is not None:
        return "metric" if stated == "metric" else "inverse"
    if config.model_type not in DEPTH_KINDS:
        raise ConfigError(
            f"'{config.model_type}' does not say whether it predicts metric or inverse depth; pass depth_kind"
        )
    return DEPTH_KINDS[config.model_type]


def _patch_size(config: Any) -> int:
    """Pixels that height and width must be multiples of."""
    if config.model_type == "depth_pro":  # the smallest scale of an image must be one patch of its encoder
        pixels: int = round(config.patch_size / min(config.scaled_images_ratios))
        return pixels
    for holder in (getattr(config, "backbone_config", None), config):
        size = getattr(holder, "patch_size", None)
        if isinstance(size, int):
            # ZoeDepth's coarsest level halves the grid
            return size * (2 if config.model_type == "zoedepth" else 1)
    return 32  # strides of hierarchical encoders


def _groups(model: nn.Module) -> Mapping[str, tuple[str, ...]]:
    children = [name for name, _ in model.named_children()]
    encoders = [name for name in children if name in _ENCODERS]
    heads = tuple(f"model.{name}.*" for name in children if name not in _ENCODERS)
    depth_heads = tuple(pattern for pattern in heads if pattern != "model.fov_model.*")
    paths = [name for name, _ in model.named_modules()]
    kinds = ("layer", "layers", "block")
    blocks = [
        f"model.{encoder}.*{kind}.*"
        for encoder in encoders
        for kind in kinds
        if any(path.startswith(f"{encoder}.") and f".{kind}." in path for path in paths)
    ]
    encoder = tuple(f"model.{name}.*" for name in encoders)
    return {
        "encoder": _without_grouped(model, encoder),
        "blocks": _without_grouped(model, tuple(blocks)),
        "depth_head": depth_heads,
        "heads": heads,
    }


def _without_grouped(model: nn.Module, patterns: tuple[str, ...]) -> tuple[str, ...]:
    """The patterns; where they match grouped convolutions, which no adapter covers, the paths of all other layers."""
    named = {f"model.{path}": module for path, module in model.named_modules()}
    paths = [path for path in named if any(fnmatch.fnmatchcase(path, pattern) for pattern in patterns)]
    grouped = {path for path in paths if isinstance(conv := named[path], nn.Conv2d) and conv.groups > 1}
    if not grouped:
        return patterns
    return tuple(path for path in paths if path not in grouped and not any(True for _ in named[path].children()))


def _normalisation(place: str, model_type: str) -> tuple[list[float], list[float]]:
    """Mean and standard deviation that stand beside the weights; the usual ones, with a note, where none do."""
    from transformers.utils.hub import cached_file

    try:
        path = cached_file(place, "preprocessor_config.json")
    except OSError:
        path = None
    stated = json.loads(Path(path).read_text(encoding="utf-8")) if path is not None else {}
    if "image_mean" not in stated or "image_std" not in stated:
        usual = _NORMALISATIONS.get(model_type, _IMAGENET)
        if model_type != "glpn":  # its images are not normalised at all
            logger.warning(
                "%s states no image_mean and image_std; those of %s are assumed: %s", place, model_type, usual
            )
        return usual
    return list(stated["image_mean"]), list(stated["image_std"])
