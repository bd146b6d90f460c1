"""Layers that say only what their update is; it is computed from the two factors."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from lorasub.adapters.layer import AdapterLayer, add_product, conv_with


class UpdateLayer(AdapterLayer):
    """Base of adapters whose output follows from :meth:`live_update`, on Linear and on Conv2d."""

    def add_update(self, x: Tensor, result: Tensor) -> Tensor:
        """See :meth:`AdapterLayer.add_update`."""
        update = self.live_update()
        if isinstance(self.base_layer, nn.Conv2d):
            kernels = update.A.view(-1, *self.base_layer.weight.shape[1:])  # (16, 2304) -> (16, 256, 3, 3)
            hidden = conv_with(self.base_layer, x, kernels)
            return result + F.conv2d(hidden, (update.B * update.scale).to(hidden.dtype)[:, :, None, None])
        return add_product(result, F.linear(x, update.A.to(x.dtype)), update.B, update.scale)
