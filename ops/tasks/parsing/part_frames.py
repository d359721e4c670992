"""Frames with their persons as a parsing model takes them: normalised pixels, and boxes in
fractions of the picture.

Everything random depends on seed, epoch and index alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils.data import Dataset as TorchDataset

from configs.schema import ConfigError
from configs.schema.parsing import FrameChoice, Images
from ops.data.errors import SampleError
from ops.data.transforms import GRAY, resize
from ops.store.reader import Readers
from ops.tasks.parsing.parts import Humans, PartVideo, PartVideoList


class Scene(NamedTuple):
    """A picture uint8 [H, W, 3] and its persons, boxes in its own pixels."""

    picture: np.ndarray
    humans: Humans


class FramesDataset(TorchDataset[dict[str, Any]]):
    """Frames for a parsing model.

    Items hold `pixels` float32 (3, h, w); the persons as `boxes` float32 (G, 4), `seen` bool (G,
    K), `parts` float32 (G, K, 4) and `states` int64 (G, K), boxes cxcywh in fractions of the
    picture; `size` (H, W) of the original video; `video_id` and `frame`. In training an item is a
    random frame of a video, randomly flipped, cut and resized, and what lies outside the cut is
    gone; in evaluation every n-th annotated frame, whole. Raises SampleError for a frame that
    cannot be read: none is replaced.
    """

    def __init__(
        self,
        videos: PartVideoList,
        images: Images,
        choice: FrameChoice,
        mirrored: np.ndarray,
        *,
        training: bool,
        seed: int = 0,
    ) -> None:
        """`mirrored` [K]: the part that stands in each one's place in a mirror image."""
        self.videos = videos
        self.images, self.choice, self.mirrored, self.training, self.seed = (
            images,
            choice,
            mirrored,
            training,
            seed,
        )
        # `places` int64 [N, 2]: an item's video and, in training, which share of its frames it is
        # drawn from, else the frame's place there.
        if training:
            seen = np.unique(videos.video[videos.seen])  # the videos with a stored frame
            self.places = np.stack(
                [
                    np.repeat(seen, choice.per_video),
                    np.tile(np.arange(choice.per_video), len(seen)),
                ],
                axis=1,
            )
        else:
            chosen = np.flatnonzero(videos.seen & (videos.frames % choice.every == 0))
            self.places = np.stack(
                [videos.video[chosen], chosen - videos.first[videos.video[chosen]]], axis=1
            )
        # seen by loader processes that outlive an epoch
        self._epoch = torch.zeros(1, dtype=torch.int64).share_memory_()
        self._readers = Readers()

    def set_epoch(self, epoch: int) -> None:
        """Choose the random frames and views of this epoch; has no effect in evaluation."""
        self._epoch[0] = epoch

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> dict[str, Any]:
        number, place = self.places[index].tolist()
        video, rng = (
            self.videos[number],
            np.random.default_rng((self.seed, int(self._epoch[0]), index)),
        )
        if self.training:
            # The stored frames in `per_video` even shares, one drawn from each: every part of the
            # video is seen in an epoch.
            shares = np.array_split(video.stored, self.choice.per_video)
            # fewer annotated frames than shares
            own = shares[place] if len(shares[place]) else video.stored
            place = int(rng.choice(own))
        frame = int(video.frames[place])
        try:
            picture = self._readers[video.array_uri].read([frame])[0]
            scene = Scene(picture, in_pixels(video.humans_of(place), picture, video))
            scene = (
                training_view(scene, self.images, self.mirrored, rng)
                if self.training
                else test_view(scene, self.images)
            )
        except (OSError, ValueError, IndexError, RuntimeError) as error:
            raise SampleError(
                f"video '{video.video_id}', frame {frame} at {video.array_uri}:"
                f" {type(error).__name__}: {error}"
            ) from error
        colours = rng.spawn(1)[0] if self.training else None
        item = {"pixels": normalised(scene.picture, self.images, colours), **fractions(scene)}
        return {
            **item,
            "size": (video.height, video.width),
            "video_id": video.video_id,
            "frame": frame,
        }


def in_pixels(humans: Humans, picture: np.ndarray, video: PartVideo) -> Humans:
    """The persons in pixels of a stored picture, which may be smaller than the original."""
    height, width = picture.shape[:2]
    if (height, width) == (video.height, video.width):
        return humans
    scale = np.array([width / video.width, height / video.height] * 2, np.float32)
    return humans._replace(boxes=humans.boxes * scale, parts=humans.parts * scale)


def training_view(
    scene: Scene, images: Images, mirrored: np.ndarray, rng: np.random.Generator
) -> Scene:
    """One random view: flip, then a size, with or without a window cut out before, as DETR does."""
    flips, sizes, cuts = rng.spawn(3)
    if flips.random() < images.flip:
        scene = flip(scene, mirrored)
    if cuts.random() < images.crop:
        scene = resized(scene, int(cuts.choice(images.crop_short_sides)), None)
        scene = cut(scene, images.crop_sides, cuts)
    return resized(scene, int(sizes.choice(images.short_sides)), images.long_side)


def test_view(scene: Scene, images: Images) -> Scene:
    """The whole picture at the size of testing."""
    return resized(scene, images.test_short_side, images.long_side)


def flip(scene: Scene, mirrored: np.ndarray) -> Scene:
    """The mirror image: left parts become right ones and the other way round."""
    width, humans = scene.picture.shape[1], scene.humans

    def turned(boxes: np.ndarray) -> np.ndarray:
        return np.stack(
            [width - boxes[..., 2], boxes[..., 1], width - boxes[..., 0], boxes[..., 3]], -1
        )

    parts = turned(humans.parts)[:, mirrored]
    return Scene(
        scene.picture[:, ::-1],
        Humans(turned(humans.boxes), humans.seen[:, mirrored], parts, humans.states[:, mirrored]),
    )


def shown_size(height: int, width: int, short_side: int, long_side: int | None) -> tuple[int, int]:
    """Height and width after resizing: the shorter side has `short_side` pixels, unless the longer
    one would be above `long_side`.
    """
    scale = short_side / min(height, width)
    if long_side is not None and max(height, width) * scale > long_side:
        scale = long_side / max(height, width)
    return max(1, round(height * scale)), max(1, round(width * scale))


def resized(scene: Scene, short_side: int, long_side: int | None) -> Scene:
    """The scene at another size."""
    before_height, before_width = scene.picture.shape[:2]
    height, width = shown_size(before_height, before_width, short_side, long_side)
    scale = np.array([width / before_width, height / before_height] * 2, np.float32)
    humans = scene.humans._replace(
        boxes=scene.humans.boxes * scale, parts=scene.humans.parts * scale
    )
    return Scene(resize(np.ascontiguousarray(scene.picture)[None], height, width)[0], humans)


def cut(scene: Scene, sides: tuple[int, int], rng: np.random.Generator) -> Scene:
    """A window anywhere in the picture, each side drawn from `sides` as far as the picture goes."""
    full_height, full_width = scene.picture.shape[:2]
    width = int(rng.integers(min(full_width, sides[0]), min(full_width, sides[1]) + 1))
    height = int(rng.integers(min(full_height, sides[0]), min(full_height, sides[1]) + 1))
    top, left = (
        int(rng.integers(full_height - height + 1)),
        int(rng.integers(full_width - width + 1)),
    )
    # (x, y) for both corners: boxes move into the window's own pixels.
    away = np.array([left, top] * 2, np.float32)
    humans = scene.humans._replace(boxes=scene.humans.boxes - away, parts=scene.humans.parts - away)
    return Scene(scene.picture[top : top + height, left : left + width], humans)


def fractions(scene: Scene) -> dict[str, np.ndarray]:
    """The persons of a scene as a model learns them.

    Boxes are clipped to the picture. Persons without area there are gone, so is the second one of
    two with the same boxes; parts without area are not seen.
    """
    height, width = scene.picture.shape[:2]
    size = np.array([width, height] * 2, np.float32)
    boxes, parts = (
        np.clip(own.astype(np.float32) / size, 0, 1)
        for own in (scene.humans.boxes, scene.humans.parts)
    )
    # A side of at least one pixel in the picture: [G, K] of parts, [G] of persons.
    seen = scene.humans.seen & ((parts[..., 2:] - parts[..., :2]) * size[:2] >= 1).all(-1)
    kept = ((boxes[:, 2:] - boxes[:, :2]) * size[:2] >= 1).all(-1)
    first = (
        [0]
        if len(boxes) == 1
        else _firsts(np.concatenate([boxes, parts.reshape(len(parts), -1)], 1))
    )
    rows = [row for row in first if kept[row]]
    parts = np.where(seen[..., None], parts, np.float32(0))
    states = np.where(seen, scene.humans.states, -1)
    return {
        "boxes": _centred(boxes[rows]),
        "seen": seen[rows],
        "parts": _centred(parts[rows]),
        "states": states[rows].astype(np.int64),
    }


def _firsts(rows: np.ndarray) -> list[int]:
    """Places of rows that no row before them equals."""
    return sorted(np.unique(rows, axis=0, return_index=True)[1].tolist())


def _centred(boxes: np.ndarray) -> np.ndarray:
    low, high = boxes[..., :2], boxes[..., 2:]
    return np.concatenate([(low + high) / 2, high - low], -1).astype(np.float32)


def normalised(
    picture: np.ndarray, images: Images, rng: np.random.Generator | None = None
) -> np.ndarray:
    """float32 (3, h, w): jitter of brightness, contrast and saturation where there is a generator,
    and (x - mean) / std.
    """
    planes = np.ascontiguousarray(picture.transpose(2, 0, 1)).astype(np.float32)
    if rng is not None and (images.brightness or images.contrast or images.saturation):
        bright, contrast, colour = (
            1 + rng.uniform(-s, s) for s in (images.brightness, images.contrast, images.saturation)
        )
        planes = np.clip(planes * np.float32(bright), 0, 255)
        # [h, w] luma of the three planes; contrast turns around its mean, saturation around each
        # pixel's own.
        grey = np.tensordot(GRAY, planes, 1)
        planes = np.clip((planes - grey.mean()) * np.float32(contrast) + grey.mean(), 0, 255)
        grey = np.tensordot(GRAY, planes, 1)
        planes = np.clip((planes - grey) * np.float32(colour) + grey, 0, 255)
    mean, std = (
        np.array(values, np.float32)[:, None, None] for values in (images.mean, images.std)
    )
    return (planes - mean) / std


def padded(pictures: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Pictures (3, h, w) side by side: float32 (B, 3, H, W), zero to the right and below, and bool
    (B, H, W), True where nothing is.
    """
    height, width = (max(picture.shape[axis] for picture in pictures) for axis in (1, 2))
    images = np.zeros((len(pictures), 3, height, width), np.float32)
    padding = np.ones((len(pictures), height, width), bool)
    for place, picture in enumerate(pictures):
        images[place, :, : picture.shape[1], : picture.shape[2]] = picture
        padding[place, : picture.shape[1], : picture.shape[2]] = False
    return images, padding


def check(images: Images, where: str) -> None:
    """Raise ConfigError for sizes that contradict each other."""
    if images.long_side < max(*images.short_sides, images.test_short_side):
        allowed = (
            f"at least {max(*images.short_sides, images.test_short_side)}, the largest shorter side"
        )
        raise ConfigError(where, "images.long_side", images.long_side, allowed)
