"""Datasets: where videos and annotations lie, in which official form, and how frames are stored."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import Field, field_validator, model_validator

from configs.schema.strict import Place, Strict, content_hash

# hash buckets of every dataset: the partitions of the per-video stages (a million videos: 62,500 a
# bucket)
BUCKETS = 16
TableName = Literal["clips", "segments", "boxes", "parts"]
# Every format is a module of `ops.annotations.formats` of the same name; it says which table it
# fills.
AnnotationFormat = Literal[
    "kinetics_csv",
    "video_list",
    "rawframes_list",
    "ucf101_split",
    "hmdb51_split",
    "something_json",
    "id_label_csv",
    "moments_csv",
    "diving48_json",
    "activitynet_json",
    "epic_csv",
    "ego4d_moments_json",
    "charades_csv",
    "ava_csv",
    "tubes_pickle",
    "ucf101_24_pickle",
    "kinetics_tps_json",
]
# What can be wrong with a row. A file with a problem is refused as a whole unless the dataset's
# YAML allows the kind by name; then the row is left out and the others are kept.
ProblemKind = Literal[
    "columns",
    "text",
    "long_line",
    "empty",
    "value",
    "negative_time",
    "end_before_start",
    "box_outside",
    "box_inverted",
    "box_empty",
    "unknown_label",
    "unknown_split",
    "duplicate",
    "contradiction",
    "missing_video",
    "past_end",
    "structure",
    "similar_labels",
    "time_unit",
    "box_form",
    "empty_class",
    "two_files",
    "unannotated_video",
    "count",
    "vocabulary",
    "matched_name",
]
# What leaves no row out: questions refuse the dataset until its YAML allows them by name, which
# says that it is meant so; doubts keep a check from calling it good until then; notes are told.
QUESTIONS: tuple[ProblemKind, ...] = ("similar_labels", "time_unit", "box_form")
DOUBTS: tuple[ProblemKind, ...] = ("empty_class", "two_files")
NOTES: tuple[ProblemKind, ...] = ("unannotated_video", "count", "vocabulary", "matched_name")
PROBLEM_KINDS: dict[ProblemKind, str] = {
    "columns": "wrong number of columns",
    "text": "not readable text (encoding, quotes)",
    "long_line": "a line beyond the length limit",
    "empty": "a field that must not be empty",
    "value": "not a value of the field's type (a finite number, a whole number)",
    "negative_time": "a time or frame before the start",
    "end_before_start": "an end that is not after its start",
    "box_outside": "a box outside the image",
    "box_inverted": "a box with swapped corners",
    "box_empty": "a box without area",
    "unknown_label": "a label that the vocabulary lacks",
    "unknown_split": "a row whose split is not known",
    "duplicate": "the same row again",
    "contradiction": "two rows that cannot both be true",
    "missing_video": "a row whose video is not in the folder",
    "past_end": "a row that lies past the end of its video",
    "structure": "json or pickle of another shape",
    "similar_labels": "labels that differ in case, blanks, punctuation or their Unicode form alone",
    "time_unit": "times that fit their videos in another unit, or on another clock",
    "box_form": "boxes that fit the picture in another form, or are larger than it",
    "empty_class": "labels of the vocabulary that no row has",
    "two_files": "a name that two files have, but for their ending",
    "unannotated_video": "a video that no row names (note)",
    "count": "another number of rows than the dataset's publisher gives (note)",
    "vocabulary": "how a vocabulary file was read (note)",
    "matched_name": "a video whose name in the rows is not quite that of its file (note)",
}
# What is asked of a dataset as a whole before a model is trained on it; `allow` lets a failing one
# pass by its name.
CheckName = Literal["quarantine_floor", "second_decoder", "no_leak", "label_vocabulary", "coverage"]
_EXPECTED = re.compile(r"(clips|segments|boxes|parts)\.(train|val|test|all)\.(rows|videos|classes)")


class Frames(Strict):
    """How the videos of a dataset are decoded and stored: one Zarr array per video."""

    short_side: int | None = Field(
        None, ge=16, description="resize the shorter side to this many pixels; null keeps the size"
    )
    codec: Literal["jpeg", "lossless"] = "jpeg"
    quality: int = Field(
        95, ge=1, le=100, description="JPEG quality; ignored by the lossless codec"
    )
    frames_per_shard: int = Field(64, ge=1)

    def key(self) -> str:
        """Hash of every value that changes a stored pixel."""
        return content_hash(self.model_dump(exclude_defaults=True))


class AnnotationFile(Strict):
    """One official annotation file (or folder) of a dataset and the table that it fills."""

    table: TableName
    format: AnnotationFormat
    path: str = Field(
        description="relative to the dataset's root; a folder for the formats that are folders"
    )
    split: Literal["train", "val", "test"] | None = Field(
        None, description="overrides the file's own split column"
    )
    subset: str | None = Field(
        None,
        description=(
            "only the videos of this part of the file, in the file's own word (Validation, Test)"
        ),
    )
    fold: int | None = Field(
        None,
        ge=1,
        description="which of a file's or folder's own splits (UCF101 1..3, HMDB51 1..3)",
    )
    video: str = Field(
        "{video}", description="how a row names its video, as a template over the row's columns"
    )
    labels: str | None = Field(
        None,
        description="vocabulary: a text, csv, json or .pbtxt file, in the format's official form",
    )
    target: str = Field(
        "label",
        pattern=r"^[a-z_]+$",
        description="which label of a row is read: EPIC has verb, noun and action",
    )
    multi_label: bool = Field(False, description="a clip may have several labels: one row each")
    first_id: int | None = Field(
        None,
        ge=0,
        le=1,
        description=(
            "number of the first label, where rows name labels by number; null: as the vocabulary"
            " says, or 0"
        ),
    )
    exclusions: str | None = Field(None, description="csv of excluded timestamps (ava_csv)")
    allow: tuple[ProblemKind, ...] = Field(
        (), description="kinds of bad rows to leave out, keeping the others; beside the dataset's"
    )


class Dataset(Strict):
    """A dataset: where its videos and annotations lie, and how its frames are stored."""

    name: str = Field(pattern=r"^[a-z0-9_]+$")
    title: str
    licence: str
    homepage: str | None = None
    prepare: str | None = Field(
        None, description="for people: what to download, and how the files lie below the root"
    )
    root: Place = Field(
        min_length=1,
        description="fsspec URI; '{storage}' stands for the storage root, '~' for the home folder",
    )
    videos: str | None = Field(
        "videos",
        description=(
            "folder of the video files below the root, scanned recursively; null: features only"
        ),
    )
    annotations: tuple[AnnotationFile, ...] = ()
    allow: tuple[ProblemKind | CheckName, ...] = Field(
        (),
        description=(
            "kinds of bad rows to leave out, in every file; and checks of the whole that may fail"
        ),
    )
    expected: dict[str, int] = Field(
        default_factory=dict,
        description=(
            "what the publisher counts: '<table>.<split>.<rows|videos|classes>'; 'all' is every"
            " split"
        ),
    )
    flip_labels: dict[str, str] = Field(
        default_factory=dict, description="labels that a left-right flip exchanges"
    )
    frames: Frames = Frames()
    max_quarantined: float = Field(
        0.1, ge=0, le=1, description="share of quarantined videos above which a check fails"
    )
    min_coverage: float = Field(
        0.5, ge=0, le=1, description="share of a split's annotated videos that must be usable"
    )

    @field_validator("videos")
    @classmethod
    def _below_the_root(cls, videos: str | None) -> str | None:
        if videos is not None and (videos.startswith(("/", "~")) or "://" in videos):
            raise ValueError(
                "a folder below the root, without a slash in front; what lies elsewhere needs"
                " another root"
            )
        return videos

    @field_validator("expected")
    @classmethod
    def _countable(cls, expected: dict[str, int]) -> dict[str, int]:
        for key in expected:
            if not _EXPECTED.fullmatch(key):
                raise ValueError(
                    f"'{key}' is not"
                    " <clips|segments|boxes|parts>.<train|val|test|all>.<rows|videos|classes>"
                )
        return expected

    @model_validator(mode="after")
    def _notes_need_no_leave(self) -> Dataset:
        for kind in NOTES:
            if kind in self.allow or any(kind in file.allow for file in self.annotations):
                raise ValueError(f"'{kind}' is a note and refuses nothing: it needs no 'allow'")
        return self
