"""Only the chosen attribute varies, as a number."""

from __future__ import annotations

import pytest

from lorasub.cli.main import main
from lorasub.errors import ConfigError
from lorasub.scenes.audit import audit, contact_sheet
from lorasub.scenes.presets import ATTRIBUTES, SceneSampler
from lorasub.scenes.ranges import Attribute


@pytest.mark.parametrize("attribute", ATTRIBUTES)
@pytest.mark.parametrize(("seed", "partition"), [(0, 0), (2, 1)])
def test_the_chosen_attribute_varies_ten_times_as_much_as_any_other(
    attribute: Attribute, seed: int, partition: int
) -> None:
    sampler = SceneSampler(attribute=attribute, design="narrow", num_views=2, seed=seed, partition=partition)
    found = audit(sampler, num_scenes=6, image_size=(28, 28))
    assert found.dominance(attribute) >= 10
    assert found.images[attribute] > 0.5


def test_everything_varies_for_pre_training() -> None:
    found = audit(SceneSampler(attribute="all", num_views=2), num_scenes=6, image_size=(28, 28))
    assert min(found.images.values()) > 0.3


def test_one_scene_cannot_vary() -> None:
    with pytest.raises(ConfigError, match="at least two"):
        audit(SceneSampler(attribute="all"), num_scenes=1)


def test_contact_sheet_has_a_row_for_each_scene() -> None:
    sheet = contact_sheet(SceneSampler(attribute="texture", num_views=3), num_scenes=2, image_size=(14, 28))
    assert sheet.shape == (28, 84, 3)


def test_the_verb_refuses_unknown_presets(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", "colour"]) == 2
    assert "colour" in capsys.readouterr().err
