"""Convolutions that some kernels get wrong compute rightly, and within their memory, on narrower
processors than this one too.
"""

from __future__ import annotations

import ctypes.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from models.blocks.conv import BLOCK, conv2d, conv3d

SUPPORT = Path(__file__).resolve().parents[2] / "support"
CHECKED_HEAP = "libc_malloc_debug.so.0"
"""Part of the GNU C library: blocks of memory know their ends, and a block that was written past
ends the process.
"""


@pytest.mark.parametrize("kernels", ["ALL", "AVX2"])
def test_gradients_and_memory(kernels: str) -> None:
    env = os.environ | {
        "ONEDNN_MAX_CPU_ISA": kernels,
        "PYTHONPATH": os.pathsep.join([str(SUPPORT), str(SUPPORT.parents[1])]),
    }
    if sys.platform == "linux" and ctypes.util.find_library("c") == "libc.so.6":
        env |= {"LD_PRELOAD": CHECKED_HEAP, "MALLOC_CHECK_": "3"}
    done = subprocess.run(
        [sys.executable, SUPPORT / "small_convolutions.py"],
        env=env,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, f"{done.returncode}\n{done.stdout}\n{done.stderr[-2000:]}"
    assert len(done.stdout.splitlines()) == 65


@pytest.mark.parametrize(
    ("channels", "stride", "kernel", "groups"),
    [(BLOCK, 2, 1, 1), (4, 1, 1, 1), (4, 2, 3, 1), (4, 2, 1, 2)],
)
def test_all_others_are_the_very_call(channels: int, stride: int, kernel: int, groups: int) -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(channels, 8, kernel, stride, kernel // 2, groups=groups)
    x = torch.randn(2, channels, 9, 12)
    assert torch.equal(
        conv2d(x, conv.weight, conv.bias, conv.stride, (kernel // 2,) * 2, 1, groups), conv(x)
    )


@pytest.mark.parametrize("size", [(8, 12), (9, 11), (1, 5)])
@pytest.mark.parametrize("stride", [(2, 2), (1, 2), (3, 1)])
def test_the_same_places_count(size: tuple[int, int], stride: tuple[int, int]) -> None:
    torch.manual_seed(0)
    conv, x = nn.Conv2d(5, 8, 1, stride), torch.randn(2, 5, *size)
    for layout in (torch.contiguous_format, torch.channels_last):
        out = conv2d(x.contiguous(memory_format=layout), conv.weight, conv.bias, stride, (0, 0), 1)
        torch.testing.assert_close(out, conv(x), rtol=1e-6, atol=1e-6)
    out, grown = (
        conv2d(
            torch.empty(2, 5, *size, device="meta"), conv.weight.to("meta"), None, stride, (0, 0), 1
        ),
        conv(x),
    )
    assert out.shape == grown.shape


@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("ndim", [2, 3])
def test_bfloat16_gradients_of_dilated_and_of_long_kernels(ndim: int, mixed: bool) -> None:
    """Computed in float32, whatever the processor, where weights train; else the very call."""
    torch.manual_seed(0)
    plain, guarded, made, shape = {
        2: (F.conv2d, conv2d, nn.Conv2d(24, 8, 3, 1, 2, 2), (2, 24, 9, 9)),
        3: (F.conv3d, conv3d, nn.Conv3d(6, 8, 3, 1, 1), (1, 6, 2, 5, 5)),
    }[ndim]
    given = torch.float32 if mixed else torch.bfloat16
    conv, x = made.to(given), torch.randn(shape).to(given)
    call = x, conv.weight, conv.bias, conv.stride, conv.padding, conv.dilation
    single = plain(*(one.float() for one in call[:3]), *call[3:]).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=mixed):
        assert torch.equal(guarded(*call), single)
        with torch.no_grad():
            assert torch.equal(guarded(*call), plain(*call))


def test_bfloat16_outputs_that_are_one_place_wide() -> None:
    """In float32 too, with gradients or without: a stride that is never taken."""
    torch.manual_seed(0)
    conv, x = nn.Conv3d(6, 8, 3, (1, 2, 2), 1).bfloat16(), torch.randn(1, 6, 4, 6, 2).bfloat16()
    single = F.conv3d(
        x.float(), conv.weight.float(), conv.bias.float(), conv.stride, conv.padding
    ).bfloat16()
    assert single.shape[-1] == 1
    for wide in (False, True):
        more = torch.cat([x, x], -1) if wide else x
        with torch.no_grad():
            out = conv3d(more, conv.weight, conv.bias, conv.stride, conv.padding, 1)
        assert torch.equal(out, conv(more) if wide else single)


def test_exported_programs_and_mixed_precision() -> None:
    """Traced for any batch, in bfloat16, and with a layout that survives the way back."""

    class Shortcut(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(4, 8, 1, 2, bias=False)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return conv2d(x, self.conv.weight, None, (2, 2), (0, 0), 1)

    torch.manual_seed(0)
    layer, x = Shortcut(), torch.randn(3, 4, 8, 10).contiguous(memory_format=torch.channels_last)
    program = torch.export.export(
        layer, (x,), dynamic_shapes=({0: torch.export.Dim("batch", min=1, max=64)},)
    )
    assert torch.equal(program.module()(x[:2]), layer(x[:2]))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert layer(x).dtype == torch.bfloat16
    seen: list[bool] = []
    y = x.detach().requires_grad_()
    z = y * 1
    z.register_hook(
        lambda gradient: seen.append(gradient.is_contiguous(memory_format=torch.channels_last))
    )
    layer(z).sum().backward()
    assert seen == [True]
