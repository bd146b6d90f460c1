"""Figures of spectra and overlaps show the numbers that they were given."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import torch
from matplotlib.figure import Figure

from lorasub.errors import ConfigError
from lorasub.figures import (
    angle_histogram,
    depth_profile,
    overlap_bars,
    overlap_heatmap,
    save_figure,
    spectra_figure,
    spectra_rows,
)
from lorasub.subspaces import (
    LowRankUpdate,
    OverlapMatrix,
    Placebo,
    Side,
    SubspaceBasis,
    adapter_subspace,
    attribute_overlaps,
    mine_updates,
    overlap_matrix,
    random_basis,
    shuffled_labels,
    subspace_overlap,
)

PATHS = [
    f"{stage}.{i}.attn.{part}"
    for stage in ("frame_blocks", "global_blocks")
    for i in range(2)
    for part in ("qkv", "proj")
]


def adapters(seed: int, count: int = 4) -> list[dict[str, LowRankUpdate]]:
    generator = torch.Generator().manual_seed(seed)
    shared = {path: torch.randn(20, 2, generator=generator) for path in PATHS}
    return [
        {
            path: LowRankUpdate(
                torch.cat([shared[path], torch.randn(20, 2, generator=generator)], 1),
                torch.randn(4, 16, generator=generator),
            )
            for path in PATHS
        }
        for _ in range(count)
    ]


@pytest.fixture(scope="module")
def basis() -> SubspaceBasis:
    return mine_updates(adapters(0), dim=3, null_draws=8, attribute="geometry")


@pytest.fixture(scope="module")
def matrix() -> OverlapMatrix:
    return attribute_overlaps({"geometry": adapters(0), "texture": adapters(1)}, dim=3, splits=1, draws=20)


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for axis in figure.axes for text in axis.texts]


def test_spectra_have_a_panel_for_every_kind_with_the_median_line(basis: SubspaceBasis) -> None:
    figure = spectra_figure(basis)
    titles = [axis.get_title() for axis in figure.axes]
    assert titles == [
        "frame_blocks\nqkv (2)",
        "frame_blocks\nproj (2)",
        "global_blocks\nqkv (2)",
        "global_blocks\nproj (2)",
    ]
    line = figure.axes[0].lines[0].get_ydata()
    records = [basis.layers[path].record for path in ("frame_blocks.0.attn.qkv", "frame_blocks.1.attn.qkv")]
    expected = sum(r.spectrum / r.spectrum[0] for r in records if r is not None) / 2  # the median of two
    shown = [value for value in line if value == value]  # what is rounding is not drawn
    assert len(shown) == 10
    assert shown == pytest.approx(expected[: len(shown)].tolist())
    kept, adapters_line = (figure.axes[0].lines[i].get_xdata()[0] for i in (1, 2))
    assert (kept, adapters_line) == (3.5, 4.5)


def test_spectra_rows(basis: SubspaceBasis) -> None:
    rows = spectra_rows(basis)
    assert len(rows) == len(PATHS) * 16
    first = rows[0]
    record = basis.layers[first["layer"]].record
    assert record is not None
    assert record.null is not None
    assert (first["stage"], first["depth"], first["part"], first["index"]) == ("frame_blocks", 0, "qkv", 1)
    assert first["singular_value"] == float(record.spectrum[0])
    assert first["null_95"] == float(record.null[2, 0])
    assert sum(row["kept"] for row in rows) == len(PATHS) * 3


def test_spectra_end_where_rounding_begins() -> None:
    """Two adapters of rank 2 have four singular values; the mean over 40 has 36 that are rounding."""
    one = {"blocks.0.fc": LowRankUpdate(B=torch.eye(40)[:, :2], A=torch.eye(40)[:2], scale=1.0)}
    two = {"blocks.0.fc": LowRankUpdate(B=torch.eye(40)[:, 1:3], A=2 * torch.eye(40)[1:3], scale=1.0)}
    figure = spectra_figure(mine_updates([one, two], dim=2), longest=40)
    assert figure.axes[0].get_ylim()[0] > 5e-6


def test_unmined_bases_have_no_spectra() -> None:
    with pytest.raises(ConfigError, match=r"basis 'random' \(random\) was not mined"):
        spectra_figure(random_basis({"w": (8, 8)}, 2))


def test_heatmap_shows_values_and_chance(matrix: OverlapMatrix) -> None:
    figure = overlap_heatmap(matrix)
    output = matrix.matrix("phi", "output")
    assert texts(figure)[0] == f"{output[0, 0]:.3f}\n({matrix.null('phi', 'output')[0, 0]:.3f})"
    assert len(texts(figure)) == 8
    shown = figure.axes[1].images[0].get_array()
    assert shown.flatten().tolist() == pytest.approx(matrix.matrix("phi", "input").flatten().tolist())
    assert "diagonal" in figure.get_suptitle()


def test_heatmap_without_a_diagonal() -> None:
    shapes = {"w": (30, 20)}
    figure = overlap_heatmap(overlap_matrix({name: random_basis(shapes, 2, seed=i) for i, name in enumerate("ab")}))
    assert len(texts(figure)) == 4
    assert "diagonal" not in figure.get_suptitle()


def test_profile_has_within_and_between_lines(matrix: OverlapMatrix) -> None:
    figure = depth_profile(matrix)
    assert len(figure.axes) == 4
    within, between = figure.axes[0].lines
    assert within.get_label() == "within an attribute"
    assert list(within.get_xdata()) == [0, 1]
    report = matrix.reports["geometry", "texture"]
    of_block = [
        layer.output.measures["phi"].value
        for layer in report.layers
        if layer.output and layer.path.startswith("frame_blocks.1")
    ]
    assert between.get_ydata()[1] == pytest.approx(sum(of_block) / 2)


@pytest.mark.parametrize("blocks", [1, 25])
def test_profiles_show_all_that_they_draw(blocks: int) -> None:
    """The input side, of a smaller space, has larger overlaps than the output side, which is drawn first."""
    shapes = {f"blocks.{block}.fc": (300, 6) for block in range(blocks)}
    figure = depth_profile(overlap_matrix({name: random_basis(shapes, 2, seed=i) for i, name in enumerate("ab")}))
    figure.canvas.draw()
    page = figure.bbox.get_points()
    for axis in figure.axes:
        bottom, top = axis.get_ylim()
        assert all(bottom <= value <= top for line in axis.lines for value in line.get_ydata())
        assert not any("." in label.get_text() for label in axis.get_xticklabels())
    (legend,) = figure.legends
    left, right = legend.get_window_extent().get_points()[:, 0]
    assert page[0, 0] <= left < right <= page[1, 0]


def test_profile_needs_blocks() -> None:
    bases = {name: random_basis({"head": (30, 20)}, 2, seed=i) for i, name in enumerate("ab")}
    with pytest.raises(ConfigError, match="no layer is in a list of blocks"):
        depth_profile(overlap_matrix(bases))


@pytest.mark.parametrize("stages", [1, 13])
def test_profiles_of_many_stages_stay_on_a_page(stages: int) -> None:
    """A dense head has its layers in a dozen lists, most of them of one block only."""
    shapes = {f"head{stage}.{block}.fc": (30, 20) for stage in range(stages) for block in range(2)}
    shapes |= {f"single{stage}.0.fc": (30, 20) for stage in range(5)}
    bases = {name: random_basis(shapes, 2, seed=i) for i, name in enumerate("ab")}
    figure = depth_profile(overlap_matrix(bases, draws=20))
    assert figure.get_figwidth() < 13
    drawn = [axis for axis in figure.axes if axis.get_visible()]
    assert len(drawn) == 2 * stages
    assert all(axis.lines for axis in drawn)
    assert not any("single" in axis.get_title() for axis in drawn)


def test_one_fit_is_drawn_as_bars(basis: SubspaceBasis) -> None:
    own = adapter_subspace(adapters(0)[0], dim=3)
    bases = {"geometry": basis, "texture": mine_updates(adapters(1), dim=3)}
    reports = {name: subspace_overlap(own, one, draws=20) for name, one in bases.items()}
    placebos: dict[Side, dict[str, Placebo]] = {"output": shuffled_labels(own, bases, "output", draws=20)}
    figure = overlap_bars(reports, placebos)
    widths = [patch.get_width() for patch in figure.axes[0].patches]
    means = [reports[name].mean("phi", "output") for name in bases]
    assert widths == pytest.approx([mean.value for mean in means if mean is not None])
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == list(bases)


def test_histogram_counts_all_angles(basis: SubspaceBasis) -> None:
    figure = angle_histogram(subspace_overlap(basis, basis), draws=20)
    found = figure.axes[0].patches[-1].get_xy()
    # all angles are zero: the whole area stands in the first of 30 bins of 3 degrees
    assert found[:, 1].max() == pytest.approx(1 / 3)
    assert figure.axes[0].get_title() == "output side (U)"


def test_saving_writes_picture_and_table(basis: SubspaceBasis, tmp_path: Path) -> None:
    save_figure(spectra_figure(basis), tmp_path / "figures" / "spectra.png", spectra_rows(basis), dpi=50)
    assert (tmp_path / "figures" / "spectra.png").read_bytes().startswith(b"\x89PNG")
    with (tmp_path / "figures" / "spectra.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(PATHS) * 16
    assert float(rows[0]["singular_value"]) == spectra_rows(basis)[0]["singular_value"]
    assert len(list((tmp_path / "figures").iterdir())) == 2
