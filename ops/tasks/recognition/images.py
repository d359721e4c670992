"""Single images with one label each, trained on beside the clips (OmniSource): a folder of folders,
one a class, as ImageNet has it.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, UnidentifiedImageError

from configs.schema import ConfigError, Images, Sampling, Transforms, content_hash
from ops.data.errors import DataError, SampleError
from ops.data.transforms import random_view
from ops.files.storage import list_files, read_bytes
from ops.tasks.recognition.clips import Clip, ClipDataset

ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
STREAM = 0x696D67  # keeps the draws of a clip's images apart from the clip's own


class ImageFolder(NamedTuple):
    """Files below `root`, sorted, with the number of their class: that of their folder in sorted
    order.
    """

    root: str
    names: list[str]
    class_ids: np.ndarray
    classes: list[str]

    @property
    def version(self) -> str:
        """Hash of the list."""
        return content_hash(self.names)


def read_folder(root: str) -> ImageFolder:
    """List a folder of images. Raises DataError where there are none or some lie in no class's
    folder, StorageError.
    """
    names = [
        info.path_below for info in list_files(root) if info.path_below.lower().endswith(ENDINGS)
    ]
    loose = next((name for name in names if "/" not in name), None)
    if not names or loose is not None:
        found = f"{loose} lies in no folder" if loose else "none found"
        raise DataError(f"images at {root}: {found}; expected <class>/<image>{ENDINGS[0]}")
    folders = [name.partition("/")[0] for name in names]
    classes = sorted(set(folders))
    number = {folder: index for index, folder in enumerate(classes)}
    return ImageFolder(
        root, names, np.array([number[folder] for folder in folders], np.int64), classes
    )


class ClipsAndImages(ClipDataset):
    """A training set whose items hold `per_clip` images beside their clip: `images` float32 (K, 3,
    1, S, S) and `image_ids` int64 (K,).

    In an epoch the images are a walk through a random order of all of them, so that none comes
    again before all have come; where they lie in it depends on seed, epoch and index alone. They
    are cropped, mirrored and normalised as the clips are, without their colours' or RandAugment's
    changes. Raises SampleError for an image that cannot be read.
    """

    def __init__(  # noqa: ANN204
        self,
        images: ImageFolder,
        config: Images,
        clips: Sequence[Clip],
        sampling: Sampling,
        transforms: Transforms,
        **more: Any,
    ):
        """What follows `config` is ClipDataset's own. Raises ConfigError."""
        super().__init__(clips, sampling, transforms, **more)
        self.images, self.config = images, config
        plain: dict[str, Any] = {
            "train_crop": "random_resized",
            "randaugment": None,
            "erasing": None,
        }
        plain |= {
            "brightness": 0.0,
            "contrast": 0.0,
            "saturation": 0.0,
            "hue": 0.0,
            "short_side_range": None,
        }
        self.image_transforms = transforms.model_copy(update=plain)
        self._order: tuple[int, np.ndarray] | None = None

    def __getitem__(self, index: int) -> dict[str, Any]:
        item = super().__getitem__(index)
        count, order = self.config.per_clip, self._ordered(item["epoch"])
        chosen = order[(index * count + np.arange(count)) % len(order)]
        rng = np.random.default_rng((self.seed, item["epoch"], index, STREAM))
        drawn = zip(chosen, rng.spawn(count), strict=True)
        views = [
            random_view(self._pixels(int(place)), self.image_transforms, own)[0]
            for place, own in drawn
        ]
        return {**item, "images": np.stack(views), "image_ids": self.images.class_ids[chosen]}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_order": None}

    def _ordered(self, epoch: int) -> np.ndarray:
        if self._order is None or self._order[0] != epoch:
            self._order = (
                epoch,
                np.random.default_rng((self.seed, epoch, STREAM)).permutation(
                    len(self.images.names)
                ),
            )
        return self._order[1]

    def _pixels(self, place: int) -> np.ndarray:
        """uint8 [1, H, W, 3] RGB."""
        uri = f"{self.images.root}/{self.images.names[place]}"
        try:
            with Image.open(io.BytesIO(read_bytes(uri))) as picture:
                return np.array(picture.convert("RGB"))[None]
        except (OSError, UnidentifiedImageError, ValueError) as error:
            raise SampleError(f"image at {uri}: {type(error).__name__}: {error}") from error


def check_images(recipe_name: str, folder: ImageFolder, num_classes: int | None) -> None:
    """Raise ConfigError where the network has no branch for images or one for another number of
    classes.
    """
    where = f"recipe '{recipe_name}'"
    if num_classes is None:
        raise ConfigError(
            where,
            "images",
            folder.root,
            "null: the family has no branch for images; omnisource has one",
        )
    if num_classes != len(folder.classes):
        raise ConfigError(
            where,
            "model.image_classes",
            num_classes,
            f"{len(folder.classes)}, the folders of {folder.root}",
        )
