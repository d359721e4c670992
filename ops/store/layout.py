"""Where everything lies below the storage root. The one place that knows paths; every value is an fsspec URI."""

from __future__ import annotations

from dataclasses import dataclass

from configs.schema import ConfigError, Dataset, TableName


@dataclass(frozen=True)
class Layout:
    """Paths below `root`, a local path or an s3:// URI without a trailing slash."""

    root: str

    def dataset_root(self, dataset: Dataset) -> str:
        """Folder of the dataset's own files, as its owner laid them out."""
        return dataset.root.format(storage=self.root).rstrip("/")

    def videos_folder(self, dataset: Dataset) -> str:
        """Folder that ingest scans. Raises ConfigError for a dataset without video files."""
        if dataset.videos is None:
            allowed = "a folder below the root: it has features only, nothing to decode"
            raise ConfigError(f"dataset '{dataset.name}'", "videos", None, allowed)
        return f"{self.dataset_root(dataset)}/{dataset.videos}".rstrip("/")

    def video_table(self, dataset: str, bucket: int) -> str:
        """Parquet, one row per video file of the bucket."""
        return f"{self.root}/tables/{dataset}/videos/{bucket:04d}.parquet"

    def annotation_table(self, dataset: str, table: TableName) -> str:
        """Parquet, one row per good annotation."""
        return f"{self.root}/tables/{dataset}/{table}.parquet"

    def problem_table(self, dataset: str) -> str:
        """Parquet, one row per refused annotation row: file, line, field, found, reason."""
        return f"{self.root}/tables/{dataset}/problems.parquet"

    def manifest(self, dataset: str, frames_key: str, bucket: int) -> str:
        """Parquet ledger of the bucket's stored videos; what it does not name does not exist."""
        return f"{self.root}/frames/{dataset}/{frames_key}/manifest/{bucket:04d}.parquet"

    def frames(self, dataset: str, frames_key: str, video_id: str, key: str) -> str:
        """Zarr array of one video; `key` is its ledger key, so that another content or code version lies elsewhere."""
        return f"{self.root}/frames/{dataset}/{frames_key}/arrays/{video_id}/{key}.zarr"

    def entries_table(self, dataset: str) -> str:
        """Parquet, one row per annotated video, table and split."""
        return f"{self.root}/tables/{dataset}/entries.parquet"

    def excluded_table(self, dataset: str) -> str:
        """Parquet, one row per key frame that must not count."""
        return f"{self.root}/tables/{dataset}/excluded.parquet"

    def features_manifest(self, dataset: str, features_key: str, bucket: int) -> str:
        """Parquet ledger of the bucket's feature arrays; what it does not name does not exist."""
        return f"{self.root}/features/{dataset}/{features_key}/manifest/{bucket:04d}.parquet"

    def features(self, dataset: str, features_key: str, video_id: str, key: str) -> str:
        """Zarr array [T, C] of one video."""
        return f"{self.root}/features/{dataset}/{features_key}/arrays/{video_id}/{key}.zarr"

    def actions(self, dataset: str, model_key: str) -> str:
        """Parquet, one row per video: the action that one recognition model names."""
        return f"{self.root}/actions/{dataset}/{model_key}.parquet"

    def run(self, recipe: str, run_key: str) -> str:
        """Folder of one training: checkpoints, MLflow run id, final weights, completion record."""
        return f"{self.root}/runs/{recipe}-{run_key}"
