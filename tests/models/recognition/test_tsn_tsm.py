"""What sets the two families apart: the meaning of the average, and the order of time."""

from __future__ import annotations

import pytest
import torch

from models.blocks.temporal import TemporalShift
from models.errors import ModelInputError
from models.recognition import tsm, tsn


def test_tsn_is_blind_to_the_order_of_frames_and_takes_any_number() -> None:
    model = tsn.build(tsn.TINY).eval()
    clip = torch.randn(2, 3, 5, 32, 32)
    torch.testing.assert_close(model(clip.flip(2)), model(clip))
    assert model(clip[:, :, :1]).shape == (2, 5)


def test_tsn_averages_features_before_the_classifier() -> None:
    model = tsn.build(tsn.TINY).eval()
    clip = torch.randn(2, 3, 6, 32, 32)
    features = model.features(clip)
    assert features.shape == (2, model.fc.in_features)
    halves = (model.features(clip[:, :, :3]) + model.features(clip[:, :, 3:])) / 2
    torch.testing.assert_close(halves, features)
    assert torch.equal(model.classify(features), model(clip))
    with pytest.raises(ModelInputError, match=r"tsn: features: found \(2, 3\); expected \(B, 64\)"):
        model.classify(torch.randn(2, 3))


def test_tsm_sees_the_order_of_frames() -> None:
    torch.manual_seed(0)
    model = tsm.build(tsm.TINY).eval()
    torch.nn.init.normal_(model.fc.weight)
    clip = torch.randn(1, 3, 4, 32, 32)
    assert (model(clip.flip(2)) - model(clip)).abs().max() > 1e-2


def test_tsm_averages_scores() -> None:
    model = tsm.build(tsm.TINY).eval()
    clip = torch.randn(2, 3, 4, 32, 32)
    features = model.features(clip)
    assert features.shape == (2, 4, 64)
    torch.testing.assert_close(
        torch.stack([model.fc(frame) for frame in features.unbind(1)]).mean(0), model(clip)
    )
    with pytest.raises(
        ModelInputError, match=r"tsm: features: found \(2, 64\); expected \(B, 4, 64\)"
    ):
        model.classify(features.mean(1))


def test_tsm_refuses_another_number_of_frames() -> None:
    model = tsm.build(tsm.TINY).eval()
    with pytest.raises(
        ModelInputError,
        match=(
            r"tsm: input: found float32 \(1, 3, 5, 32, 32\); expected floating-point \(B, 3, 4,"
            r" H, W\)"
        ),
    ):
        model(torch.randn(1, 3, 5, 32, 32))


@pytest.mark.parametrize(
    ("depth", "shifted"), [(18, 8), (50, 16), (101, 2 + 2 + 12 + 2), (152, 2 + 4 + 18 + 2)]
)
def test_very_deep_trunks_shift_every_second_block(depth: int, shifted: int) -> None:
    with torch.device("meta"):
        model = tsm.build(tsm.Config(num_classes=3, depth=depth))
    assert sum(isinstance(module, TemporalShift) for module in model.modules()) == shifted
    assert isinstance(model.trunk.layer2[0].temporal, TemporalShift)


def test_both_share_every_name() -> None:
    with torch.device("meta"):
        one, two = tsn.build(tsn.Config(num_classes=3)), tsm.build(tsm.Config(num_classes=3))
    assert list(one.state_dict()) == list(two.state_dict())
    assert {"trunk.stem.conv.weight", "trunk.layer1.0.downsample.bn.bias", "fc.weight"} <= set(
        one.state_dict()
    )


def test_fresh_classifiers_are_the_originals() -> None:
    torch.manual_seed(0)
    for module, std in ((tsn, 0.01), (tsm, 0.001)):
        model = module.build(module.Config(num_classes=200, depth=10))
        assert model.fc.weight.std().item() == pytest.approx(std, rel=0.02)
        assert model.fc.bias.eq(0).all()
