"""The pieces of VGGT whose formula can be written down in another way."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from lorasub import VGGT
from lorasub.backbones.vggt.aggregator import Aggregator
from lorasub.backbones.vggt.blocks import Attention
from lorasub.backbones.vggt.dense_head import add_position_, inverse_log
from lorasub.backbones.vggt.rope import apply_rotary, grid_positions, rotary_table


def rotate_by_complex_numbers(x: np.ndarray, position: tuple[int, int], frequency: float) -> np.ndarray:
    """One head's vector: each pair of channels is a complex number, turned by its angle."""
    quarter = len(x) // 4
    result = np.empty_like(x)
    for axis in range(2):
        half = x[axis * 2 * quarter : (axis + 1) * 2 * quarter]
        turned = (half[:quarter] + 1j * half[quarter:]) * np.exp(
            1j * position[axis] * frequency ** (-np.arange(quarter) / quarter)
        )
        result[axis * 2 * quarter : (axis + 1) * 2 * quarter] = np.concatenate((turned.real, turned.imag))
    return result


def test_rotary_embedding_is_a_rotation_of_channel_pairs() -> None:
    x = torch.randn(2, 3, 5 + 6, 16, dtype=torch.float64)
    positions = grid_positions(2, 3, num_special=5)
    found = apply_rotary(x, rotary_table(positions, 16, 100.0, torch.float64))
    expected_positions = [(0, 0)] * 5 + [(1, 1), (1, 2), (1, 3), (2, 1), (2, 2), (2, 3)]
    for n, position in enumerate(expected_positions):
        for b in range(2):
            for head in range(3):
                expected = rotate_by_complex_numbers(x[b, head, n].numpy(), position, 100.0)
                assert np.allclose(found[b, head, n].numpy(), expected, atol=1e-12)


@settings(max_examples=30, deadline=None)
@given(p=st.tuples(*[st.integers(0, 40)] * 2), q=st.tuples(*[st.integers(0, 40)] * 2), shift=st.integers(0, 30))
def test_rotated_products_depend_on_relative_positions_only(p: tuple[int, int], q: tuple[int, int], shift: int) -> None:
    query, key = torch.linspace(-1, 1, 32, dtype=torch.float64), torch.linspace(2, -1, 32, dtype=torch.float64)

    def product(offset: int) -> Tensor:
        table = rotary_table(torch.tensor([p, q]) + offset, 32, 100.0, torch.float64)
        rotated = apply_rotary(torch.stack((query, key)), table)
        return rotated[0] @ rotated[1]

    assert torch.allclose(product(0), product(shift), atol=1e-10)


def test_attention_is_softmax_of_scaled_products() -> None:
    attention = Attention(12, 3, qk_norm=True).double()
    x = torch.randn(2, 7, 12, dtype=torch.float64)
    q, k, v = (x @ attention.qkv.weight.T + attention.qkv.bias).split(12, dim=-1)
    outputs = []
    for head in range(3):
        part = slice(4 * head, 4 * head + 4)
        logits = attention.q_norm(q[..., part]) @ attention.k_norm(k[..., part]).mT / 2
        outputs.append(logits.exp() / logits.exp().sum(-1, keepdim=True) @ v[..., part])
    expected = torch.cat(outputs, dim=-1) @ attention.proj.weight.T + attention.proj.bias
    assert torch.allclose(attention(x), expected, atol=1e-12)


@torch.no_grad()
@pytest.mark.parametrize("size", [(4, 4), (3, 5), (9, 2), (1, 1)])
def test_position_embedding_is_resized_as_pillow_does_it(tiny: VGGT, size: tuple[int, int]) -> None:
    """Pillow's bicubic filter is antialiased too, and its pixels are float32."""
    encoder = tiny.aggregator.patch_embed
    found = encoder.position_embedding(*size)
    assert torch.equal(found[:, 0], encoder.pos_embed[:, 0])
    stored = encoder.pos_embed[0, 1:].reshape(4, 4, -1)
    for channel in range(0, 32, 5):
        image = Image.fromarray(stored[..., channel].contiguous().numpy())
        expected = np.asarray(image.resize((size[1], size[0]), Image.Resampling.BICUBIC))
        assert np.allclose(found[0, 1:, channel].reshape(size).numpy(), expected, atol=1e-5)


@torch.no_grad()
def test_interpolation_at_the_native_size_is_the_identity(tiny: VGGT) -> None:
    """The native size takes a short cut; the way around it must lead to the same place."""
    encoder = tiny.aggregator.patch_embed
    direct = encoder.position_embedding(4, 4)
    assert direct is encoder.pos_embed
    grid = encoder.pos_embed[:, 1:].unflatten(1, (4, 4)).movedim(-1, 1)
    resized = torch.nn.functional.interpolate(grid, size=(4, 4), mode="bicubic", antialias=True)
    assert torch.allclose(resized, grid, atol=1e-6)


@torch.no_grad()
def test_special_tokens_of_the_first_view_differ_from_all_others(tiny: VGGT) -> None:
    aggregator: Aggregator = tiny.aggregator
    tokens = aggregator._special_tokens(2, 3)
    assert tokens.shape == (2, 3, 5, 32)
    for view in range(3):
        which = 0 if view == 0 else 1
        for scene in range(2):
            assert torch.equal(tokens[scene, view, 0], aggregator.camera_token[0, which, 0])
            assert torch.equal(tokens[scene, view, 1:], aggregator.register_token[0, which])


@pytest.mark.parametrize("size", [(3, 5), (6, 2)])
def test_dense_position_embedding_in_closed_form(size: tuple[int, int]) -> None:
    height, width = size
    found = add_position_(torch.zeros(1, 8, height, width, dtype=torch.float64), aspect=width / height)[0]
    diagonal = np.hypot(width, height)
    for row in range(height):
        for column in range(width):
            x, y = (2 * column + 1 - width) / diagonal, (2 * row + 1 - height) / diagonal
            expected = [f(p * w) for p in (x, y) for f in (np.sin, np.cos) for w in (1, 0.1)]
            assert np.allclose(found[:, row, column].numpy(), 0.1 * np.array(expected), atol=1e-12)


def test_inverse_log_inverts_the_signed_logarithm() -> None:
    x = torch.linspace(-1e3, 1e3, 201, dtype=torch.float64)
    assert torch.allclose(inverse_log(x.sign() * torch.log1p(x.abs())), x)
