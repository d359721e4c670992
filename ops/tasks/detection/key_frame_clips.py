"""Clips around key frames: pixels from the store and boxes in pixels of the model's picture, and
batches of clips of several sizes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset

from configs.schema import Sampling, Transforms
from configs.schema.detection import Pictures
from ops.data.buffers import empty
from ops.data.crops import short_side_size
from ops.data.errors import SampleError
from ops.data.samplers import check_sampling, fixed_indices
from ops.data.timeline import frames_at, shown_until, timestamps
from ops.data.transforms import normalise, resize
from ops.store.reader import Readers
from ops.tasks.detection.key_frames import KeyFrame, KeyFrameList


def clip_indices(
    sampling: Sampling,
    num_frames: int,
    times: np.ndarray | None,
    at_s: float | None,
    frame: int | None,
) -> np.ndarray:
    """Frames of the clip around a key frame, int64 [T]: number T // 2 is the key frame, both ends
    of the video stand still.

    Args:
        sampling: length and interval of the clip, in frames, or in ticks of its clock.
        num_frames: of the video.
        times: the video's timestamps in seconds, needed for `at_s` and for a sampling on a clock.
        at_s: the key frame is the one shown then.
        frame: number of the key frame, where `at_s` is None.

    Raises:
        ValueError: the key frame is outside the video.
    """
    # Frames (or ticks) from the key frame, which is number clip_len // 2.
    offsets = (np.arange(sampling.clip_len) - sampling.clip_len // 2) * sampling.frame_interval
    if at_s is not None:
        assert times is not None
        if not 0 <= at_s <= shown_until(times):
            raise ValueError(
                f"key frame at {at_s:.3f} s is outside the video's {shown_until(times):.3f} s"
            )
        frame = int(frames_at(times, at_s))
    assert frame is not None
    if sampling.fps is None:
        return fixed_indices(sampling, num_frames, key_frame=frame)[0]
    assert times is not None
    return frames_at(times, (times[frame] if at_s is None else at_s) + offsets / sampling.fps)


def model_size(height: int, width: int, pictures: Pictures) -> tuple[int, int]:
    """(height, width) of the picture that the model sees of a frame of this size."""
    new_height, new_width = short_side_size(height, width, pictures.short_side)
    if pictures.long_side is not None and max(new_height, new_width) > pictures.long_side:
        shrink = pictures.long_side / max(height, width)
        return max(1, round(height * shrink)), max(1, round(width * shrink))
    return new_height, new_width


SEEN = 0.5  # of a person: below, what is left in a window is no example of one


class View(NamedTuple):
    """Which part of a frame the model sees, xyxy as shares of it, and whether mirrored."""

    window: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0)
    mirrored: bool = False


def pixels_of(
    frames: np.ndarray, pictures: Pictures, rng: np.random.Generator | None = None
) -> tuple[np.ndarray, View]:
    """Frames as the model sees them, float32 [3, T, h, w], and the view of them.

    Args:
        frames: uint8 [T, H, W, 3].
        pictures: size, mean and std, and how far the random view goes.
        rng: draws window, mirror image and colours; None is the whole frame as it is.
    """
    view, size = View(), model_size(frames.shape[1], frames.shape[2], pictures)
    if rng is not None and pictures.zoom < 1:
        frames, window = _cut_out(frames, pictures.zoom, rng)
        view = View(window)
    frames = resize(frames, *size, pictures.interpolation)
    jitter = (1.0, 1.0, 1.0)
    if rng is not None:
        draws = rng.random(4)
        view = view._replace(mirrored=bool(draws[0] < pictures.flip))
        # [3] factors around 1, never below 0; three of the four draws say where between.
        amounts = np.array([pictures.brightness, pictures.contrast, pictures.saturation])
        low, high = np.maximum(0.0, 1 - amounts), 1 + amounts
        brightness, contrast, saturation = (low + (high - low) * draws[1:]).tolist()
        jitter = (brightness, contrast, saturation)
    if view.mirrored:
        frames = frames[:, :, ::-1]
    scale = Transforms(short_side=8, crop=8, mean=pictures.mean, std=pictures.std)
    return normalise(frames, scale, *jitter), view


def _cut_out(
    frames: np.ndarray, least: float, rng: np.random.Generator
) -> tuple[np.ndarray, tuple[float, float, float, float]]:
    """A random window of the frame's own shape, in whole pixels, and its place as shares of the
    frame.
    """
    height, width = frames.shape[1:3]
    share = rng.uniform(least, 1.0)
    tall, wide = max(1, round(height * share)), max(1, round(width * share))
    y, x = int(rng.integers(height - tall + 1)), int(rng.integers(width - wide + 1))
    return frames[:, y : y + tall, x : x + wide], (
        x / width,
        y / height,
        (x + wide) / width,
        (y + tall) / height,
    )


class KeyFrameClips(TorchDataset[dict[str, Any]]):
    """Clips around key frames for a detection model.

    Items hold `clip` float32 [3, T, h, w], `boxes` float32 [P, 4] xyxy in pixels of it, `labels`
    bool [P, classes], `true_boxes` float32 [P, 4] as shares of the frame (never mirrored),
    `persons`, `video_id`, `timestamp_s` or `frame`, `height` and `width` of the stored frames,
    `index` and `epoch`. Training items are mirrored and coloured at random, by seed, epoch and
    index alone. Raises SampleError for a clip that cannot be read: none is replaced.
    """

    def __init__(
        self,
        key_frames: KeyFrameList,
        sampling: Sampling,
        pictures: Pictures,
        *,
        training: bool,
        seed: int = 0,
        mirrored: Mapping[int, int] | None = None,
    ) -> None:
        """`mirrored` exchanges classes when a clip is mirrored. Raises ConfigError."""
        check_sampling(sampling)
        self.key_frames, self.sampling, self.pictures = key_frames, sampling, pictures
        self.training, self.seed = training, seed
        order = np.arange(key_frames.num_classes)
        for one, other in (mirrored or {}).items():
            order[one] = other
        self.mirrored_order = order
        # seen by loader processes that outlive an epoch
        self._epoch = torch.zeros(1, dtype=torch.int64).share_memory_()
        self._readers = Readers()

    def set_epoch(self, epoch: int) -> None:
        """Choose the random flips and colours of this epoch."""
        self._epoch[0] = epoch

    def __len__(self) -> int:
        return len(self.key_frames)

    def __getitem__(self, index: int) -> dict[str, Any]:
        key, epoch = self.key_frames[index], int(self._epoch[0])
        try:
            frames = self.frames(key)
        except (OSError, ValueError, IndexError, RuntimeError) as error:
            place = f"{key.timestamp_s} s" if key.frame is None else f"frame {key.frame}"
            where = f"key frame at {place} of '{key.video.video_id}' ({key.video.array_uri})"
            raise SampleError(f"{where}: {type(error).__name__}: {error}") from error
        rng = np.random.default_rng((self.seed, epoch, index)) if self.training else None
        clip, view = pixels_of(frames, self.pictures, rng)
        inside, boxes = seen_boxes(key.boxes, view.window)
        # From shares to pixels of the model's picture: (w, h) of the clip [3, T, h, w], once for
        # each corner.
        boxes, labels = boxes * np.tile(clip.shape[:1:-1], 2).astype(np.float32), key.labels[inside]
        if view.mirrored:
            boxes, labels = flipped(boxes, clip.shape[3]), labels[:, self.mirrored_order]
        return {
            "clip": clip,
            "boxes": boxes,
            "labels": labels,
            "true_boxes": key.boxes,
            "persons": key.persons,
            "video_id": key.video.video_id,
            "timestamp_s": key.timestamp_s,
            "frame": key.frame,
            "height": frames.shape[1],
            "width": frames.shape[2],
            "index": index,
            "epoch": epoch,
        }

    def frames(self, key: KeyFrame) -> np.ndarray:
        """The clip's frames uint8 [T, H, W, 3] as they are stored."""
        reader = self._readers[key.video.array_uri]
        needs = key.frame is None or self.sampling.fps is not None
        times = timestamps(reader.attributes) if needs else None
        return reader.read(
            clip_indices(self.sampling, key.video.num_frames, times, key.timestamp_s, key.frame)
        )


def seen_boxes(
    boxes: np.ndarray, window: tuple[float, float, float, float]
) -> tuple[np.ndarray, np.ndarray]:
    """Which boxes [P, 4] a window shows enough of (bool [P]), and these, cut off at its edges, as
    shares of it.
    """
    if window == View().window:
        return np.ones(len(boxes), bool), boxes
    x1, y1, x2, y2 = window
    # From shares of the frame to shares of the window, cut off at its edges.
    cut = np.clip(
        (boxes - np.array([x1, y1, x1, y1])) / np.array([x2 - x1, y2 - y1] * 2), 0.0, 1.0
    ).astype(np.float32)
    # Areas in shares of the window: as they were, against what is left inside.
    before = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1) / ((x2 - x1) * (y2 - y1))
    inside = (cut[:, 2:] - cut[:, :2]).prod(axis=1) >= SEEN * before
    return inside, cut[inside]


def flipped(boxes: np.ndarray, width: float) -> np.ndarray:
    """Boxes [P, 4] in the mirror image of a picture of this width."""
    return np.stack(
        [width - boxes[:, 2], boxes[:, 1], width - boxes[:, 0], boxes[:, 3]], axis=1
    ).astype(boxes.dtype)


class Padded(NamedTuple):
    """Clips of several sizes as one tensor: `clips` float32 (B, 3, T, H, W), zeros right and below;
    `sizes` int64 (B, 2) of (h, w).
    """

    clips: Tensor
    sizes: Tensor


def padded(clips: Sequence[np.ndarray], multiple: int) -> Padded:
    """One tensor of clips, as high and wide as the largest. Zero is the mean colour.

    Args:
        clips: float32 [3, T, h, w] each.
        multiple: height and width are rounded up to one of it.
    """
    height, width = (
        -(-max(clip.shape[axis] for clip in clips) // multiple) * multiple for axis in (2, 3)
    )
    out = empty((len(clips), *clips[0].shape[:2], height, width), np.float32)
    for place, clip in zip(out, clips, strict=True):
        own_height, own_width = clip.shape[2:]
        place[:, :, :own_height, :own_width] = clip
        place[:, :, own_height:] = 0
        place[:, :, :own_height, own_width:] = 0
    return Padded(
        torch.from_numpy(out), torch.tensor([clip.shape[2:] for clip in clips], dtype=torch.int64)
    )
