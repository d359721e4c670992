"""The trunk: sizes, slots, and the facts that its shortcuts in memory and time rest on."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from models.blocks.conv import ConvNorm, fold_frames
from models.blocks.resnet2d import BLOCKS, STEMS, Place, ResNet2d, Slots

# Parameters of the trunk at width 64: torchvision's published counts less its 1000-way classifier.
PARAMETERS = {18: 11_176_512, 34: 21_284_672, 50: 23_508_032, 101: 42_500_160, 152: 58_143_808}


@pytest.mark.parametrize("depth", BLOCKS)
def test_shapes_and_parameters(depth: int) -> None:
    with torch.device("meta"):
        trunk = ResNet2d(depth)
        out = trunk(torch.empty(2, 3, 224, 160))
    assert out.shape == (2, trunk.out_channels, 7, 5)
    assert trunk.out_channels == (2048 if depth >= 50 else 512)
    if depth in PARAMETERS:
        assert sum(parameter.numel() for parameter in trunk.parameters()) == PARAMETERS[depth]


@pytest.mark.parametrize("stem", STEMS)
def test_stems_share_names_and_output_size(stem: str) -> None:
    trunk = ResNet2d(10, 8, Slots(stem=STEMS[stem])).eval()
    assert trunk(torch.randn(1, 3, 88, 88)).shape == (1, 64, 3, 3)
    assert list(trunk.state_dict()) == list(ResNet2d(10, 8).state_dict())


def test_slots_get_every_place_and_leave_the_names() -> None:
    places: list[Place] = []
    made: list[tuple[int, int, int]] = []

    def temporal(place: Place) -> nn.Module:
        places.append(place)
        return nn.Identity()

    def conv(
        in_channels: int, out_channels: int, kernel: int, stride: int = 1, relu: bool = True
    ) -> nn.Module:
        made.append((in_channels, out_channels, kernel))
        return ConvNorm(in_channels, out_channels, kernel, stride, relu)

    trunk = ResNet2d(50, 8, Slots(conv=conv, temporal=temporal))
    assert [(place.stage, place.index) for place in places] == [
        (s, i) for s, n in enumerate((3, 4, 6, 3), 1) for i in range(n)
    ]
    assert places[3] == Place(
        stage=2, index=0, in_channels=32, channels=16, out_channels=64, stride=2
    )
    assert made[0] == (3, 8, 7) and len(made) == 1 + 16 * 3 + 4
    assert list(trunk.state_dict()) == list(ResNet2d(50, 8).state_dict())


def test_the_temporal_slot_is_not_on_the_shortcut() -> None:
    class Zero(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.zeros_like(x)

    trunk = ResNet2d(10, 8, Slots(temporal=lambda place: Zero())).eval()
    x = torch.rand(1, 8, 6, 6)
    # Fresh normalisation adds nothing to a zero, so that the first block is the identity on a
    # positive input.
    torch.testing.assert_close(trunk.layer1(x), x)


def test_relu_after_pooling_is_relu_before_it() -> None:
    x = torch.randn(2, 8, 15, 15, dtype=torch.float64)
    x[0, 0] = -x[0, 0].abs()
    one, two = x.clone().requires_grad_(), x.clone().requires_grad_()
    after, before = F.relu(F.max_pool2d(one, 3, 2, 1)), F.max_pool2d(F.relu(two), 3, 2, 1)
    assert torch.equal(after, before)
    weight = torch.randn_like(after)
    (after * weight).sum().backward()
    (before * weight).sum().backward()
    assert torch.equal(one.grad, two.grad)


def test_initialisation() -> None:
    torch.manual_seed(0)
    trunk = ResNet2d(18)
    weight = trunk.layer3[1].conv2.conv.weight
    assert weight.std().item() == pytest.approx((2 / (256 * 9)) ** 0.5, rel=0.01)
    assert trunk.layer1[0].conv1.conv.bias is None
    assert trunk.stem.bn.weight.eq(1).all() and trunk.stem.bn.bias.eq(0).all()


def test_frames_are_folded_in_order_without_a_copy() -> None:
    stored = torch.randn(2, 4, 5, 6, 3)  # as decoded: (B, T, H, W, C)
    clip = stored.permute(0, 4, 1, 2, 3)
    frames = fold_frames(clip)
    assert frames.shape == (8, 3, 5, 6) and frames.is_contiguous(memory_format=torch.channels_last)
    assert frames.data_ptr() == stored.data_ptr()
    assert torch.equal(frames[4 + 1], clip[1, :, 1])
    assert torch.equal(fold_frames(clip.contiguous()), frames)
