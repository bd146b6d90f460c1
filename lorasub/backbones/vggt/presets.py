"""Named sizes of VGGT and where their weights are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lorasub.backbones.stored import preset_of
from lorasub.backbones.vggt.config import VGGTConfig
from lorasub.errors import ArtefactError
from lorasub.files import hash_file

PresetName = Literal["nano", "vggt-1b"]

#: Where weights that come with the package lie.
PACKAGED_WEIGHTS = Path(__file__).parents[1] / "weights"


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """A named size.

    Attributes:
        config: the architecture.
        packaged: name of its weights file under :data:`PACKAGED_WEIGHTS`; None if its weights are not ours to ship.
        obtain: how a user gets weights that are not ours to ship; the end of a sentence.
        sha256: of that file's bytes; None as long as there is no such file.
        seed: of the initial weights that stand in for a packaged file that does not exist.
    """

    config: VGGTConfig
    packaged: str | None = None
    obtain: str = ""
    sha256: str | None = None
    seed: int = 0

    def packaged_weights(self) -> Path | None:
        """The weights file in the package, checked; None if there is none.

        Raises:
            ArtefactError: the file is not the one that this version of the package was made with.
        """
        if self.packaged is None:
            return None
        path = PACKAGED_WEIGHTS / self.packaged
        if not path.is_file():
            return None
        found = hash_file(path)
        if found != self.sha256:
            raise ArtefactError(
                f"{path} has SHA-256 {found}, but this version of lorasub was made with {self.sha256}; "
                "the file is damaged or of another version: install lorasub again"
            )
        return path


PRESETS: dict[str, Preset] = {
    "vggt-1b": Preset(
        config=VGGTConfig(),
        obtain="they have a licence of their own. Accept it and download model.safetensors or model.pt from the hub "
        "repository facebook/VGGT-1B, then pass weights=<file or folder>; or pass weights='facebook/VGGT-1B' (needs a "
        "network and pip install 'lorasub[hub]')",
    ),
    "nano": Preset(
        config=VGGTConfig(
            image_size=112,
            embed_dim=192,
            num_heads=6,
            encoder_depth=4,
            num_pairs=4,
            taps=(0, 1, 2, 3),
            camera_heads=6,
            camera_depth=1,
            dense_features=32,
            dense_channels=(24, 48, 96, 96),
        ),
        packaged="nano.safetensors",
        sha256="8fa954e46dade38c9018fef5c95b8a62009fec67b0d85df1d495513f27ae3efd",
    ),
}


def find_preset(name: str) -> Preset:
    """The preset of that name.

    Raises:
        ConfigError: there is none.
    """
    return preset_of(PRESETS, name, "VGGT")
