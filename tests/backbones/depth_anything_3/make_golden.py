"""Makes the two files beside this one with the published package's own code. See README.md; not run by the tests."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import torch
from depth_anything_3.cfg import create_object, load_config
from depth_anything_3.model.cam_dec import CameraDec
from depth_anything_3.model.da3 import DepthAnything3Net
from depth_anything_3.model.dinov2.vision_transformer import DinoVisionTransformer
from depth_anything_3.model.dualdpt import DualDPT
from depth_anything_3.registry import MODEL_REGISTRY
from safetensors.torch import save_file
from torch import nn

HERE = Path(__file__).parent
#: Both orders of local and global blocks, both kinds of MLP; the second with a tap on a local block.
CASES = {
    "base": {"alt": 2, "taps": [2, 3, 4, 5], "ffn": "mlp"},
    "giant": {"alt": 3, "taps": [3, 4, 5, 6], "ffn": "swiglu"},
}
NOT_BUILT = ("_aux.", "cam_enc.", "gs_head.", "gs_adapter.")


class Holder(nn.Module):
    """Stands where the package has one of four fixed sizes."""

    def __init__(self, taps: list[int], pretrained: DinoVisionTransformer) -> None:
        super().__init__()
        self.taps, self.pretrained = taps, pretrained

    def forward(self, x: torch.Tensor, **options: object) -> object:
        return self.pretrained.get_intermediate_layers(x, self.taps, **options)


def small(alt: int, taps: list[int], ffn: str) -> DepthAnything3Net:
    transformer = DinoVisionTransformer(
        img_size=70,
        patch_size=14,
        embed_dim=16,
        depth=taps[-1] + 1,
        num_heads=2,
        ffn_layer=ffn,
        alt_start=alt,
        qknorm_start=alt,
        rope_start=alt,
        cat_token=True,
    )
    head = DualDPT(32, output_dim=2, features=16, out_channels=(8, 8, 12, 12))
    return DepthAnything3Net(Holder(taps, transformer), head, CameraDec(32), nn.Identity()).eval()


@torch.no_grad()
def main() -> None:
    torch.manual_seed(0)
    golden: dict[str, torch.Tensor] = {}
    for case, settings in CASES.items():
        net = small(**settings)
        for name, parameter in net.named_parameters():
            parameter.copy_(parameter + 0.15 * torch.randn_like(parameter))
            if name.endswith("gamma"):
                parameter.fill_(0.5)
        net.cam_dec.fc_fov[0].weight.mul_(0.1)
        net.cam_dec.fc_fov[0].bias.fill_(1.0)  # beyond the ReLU
        for parameter in net.parameters():
            parameter.copy_(parameter.half())  # stored in half precision, exactly
        images = torch.rand(1, 3, 3, 42, 70)
        normalised = (images - torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)) / torch.tensor(
            [0.229, 0.224, 0.225]
        ).view(3, 1, 1)
        feats, _ = net.backbone(normalised, ref_view_strategy="first")
        out = net(normalised, ref_view_strategy="first")
        golden |= {
            f"{case}/weights/{n}": t.half() for n, t in net.state_dict().items() if not any(p in n for p in NOT_BUILT)
        }
        golden |= {f"{case}/images": images, f"{case}/depth": out.depth, f"{case}/depth_conf": out.depth_conf}
        golden |= {f"{case}/extrinsics": out.extrinsics, f"{case}/intrinsics": out.intrinsics}
        golden |= {f"{case}/tap{i}": feat for i, (feat, _) in enumerate(feats)} | {f"{case}/camera": feats[-1][1]}
    save_file({name: tensor.contiguous() for name, tensor in golden.items()}, HERE / "golden.safetensors")

    names = {}
    linspace = torch.linspace
    torch.linspace = lambda *a, **k: linspace(*a, **k, device="cpu")  # its numbers are read, which meta ones have not
    for preset in ("da3-small", "da3-base", "da3-large", "da3-giant"):
        with torch.device("meta"):
            net = create_object(load_config(MODEL_REGISTRY[preset]))
        lines = sorted(
            f"{n} {list(t.shape)}" for n, t in net.state_dict().items() if not any(p in n for p in NOT_BUILT)
        )
        digest = hashlib.sha256("\n".join(lines).encode()).hexdigest()
        names[preset] = {"tensors": len(lines), "sha256": digest, "all_tensors": len(net.state_dict())}
    (HERE / "names.json").write_text(json.dumps(names, indent=2) + "\n")


if __name__ == "__main__":
    main()
