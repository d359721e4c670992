"""Features of untrimmed videos: one array [T, C] per video, extracted by a recognition model or
imported from published files.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from configs.schema.sampling import Transforms
from configs.schema.strict import Strict, content_hash


class Extraction(Strict):
    """A sliding window of a recognition model over stored frames."""

    model: str = Field(
        description="'models:/name@alias', a run folder's URI, or the name of a recipe"
    )
    checkpoint: str | None = Field(
        None,
        description=(
            "with a recipe's name: path or URI of weights in the original authors' key names"
        ),
    )
    transforms: Transforms | None = Field(
        None, description="null: the recipe's test pixels, centre crop"
    )
    sampled_frames: int | None = Field(
        None, ge=1, description="frames that the model sees of each window; null: the recipe's"
    )


class FeatureFiles(Strict):
    """Published features: one file, or folder of files, per video."""

    path: str = Field(
        description=(
            "relative to the dataset's root, a template over {video} and {name}, its last part:"
            " 'i3d/{name}.npy'"
        )
    )
    format: Literal["npy", "npz", "npy_folder", "csv", "pt"] = Field(
        description="npy_folder: one file per step, in the order of its name"
    )
    key: str | None = Field(
        None, description="npz: the member; null takes the only one ('feats' in EPIC-Kitchens)"
    )
    channels: int = Field(ge=1)
    transposed: bool = Field(False, description="the files hold [C, T]")


class Features(Strict):
    """One array per video: streams concatenated on channels, all on the grid of `stride` and
    `num_frames`.

    Step i covers frames [i * stride, i * stride + num_frames) at `fps`; its time is (i * stride +
    0.5 * num_frames) / fps, as in ActionFormer.
    """

    name: str = Field(pattern=r"^[a-z0-9_]+$")
    about: str
    dataset: str
    fps: float | None = Field(
        None, gt=0, description="rate on which frames are counted; null is each video's own"
    )
    stride: int = Field(ge=1)
    num_frames: int = Field(ge=1)
    extract: tuple[Extraction, ...] = ()
    files: tuple[FeatureFiles, ...] = ()
    dtype: Literal["float32", "float16"] = "float32"
    batch_size: int = Field(16, ge=1, description="windows at once; changes no value")

    def key(self) -> str:
        """Hash of every value that changes a stored number."""
        return content_hash(
            self.model_dump(exclude={"name", "about", "batch_size"}, exclude_defaults=True)
        )

    @model_validator(mode="after")
    def _one_source(self) -> Features:
        if bool(self.extract) == bool(self.files):
            raise ValueError("either 'extract' or 'files', one of the two")
        return self
