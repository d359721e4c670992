"""The typed shape of every YAML in this package.

All models are frozen and refuse unknown keys, so that a misspelt key is an error that names the
file and the field. Nothing here imports torch, ray, mlflow, decord or zarr: Dagster loads this
module on every start.
"""

from configs.errors import ConfigError
from configs.schema.datasets import (
    BUCKETS,
    DOUBTS,
    NOTES,
    PROBLEM_KINDS,
    QUESTIONS,
    AnnotationFile,
    AnnotationFormat,
    CheckName,
    Dataset,
    Frames,
    ProblemKind,
    TableName,
)
from configs.schema.detection import DetectionRecipe
from configs.schema.features import Extraction, FeatureFiles, Features
from configs.schema.localization import LocalizationRecipe
from configs.schema.parsing import ParsingRecipe
from configs.schema.provenance import Extractor, Pinned, Provenance
from configs.schema.recipes import (
    Gate,
    HeadLabels,
    Optimizer,
    Precision,
    Published,
    Recipe,
    Scale,
    Schedule,
    Training,
)
from configs.schema.recognition import RecognitionRecipe
from configs.schema.sampling import (
    Images,
    Mixing,
    RandAugment,
    RandomErasing,
    Sampling,
    Transforms,
    Views,
)
from configs.schema.strict import Strict, content_hash, content_hash_of_rows, plain_json

__all__ = [
    "BUCKETS",
    "DOUBTS",
    "NOTES",
    "PROBLEM_KINDS",
    "QUESTIONS",
    "RECIPES",
    "TASKS",
    "AnnotationFile",
    "AnnotationFormat",
    "CheckName",
    "ConfigError",
    "Dataset",
    "DetectionRecipe",
    "Extraction",
    "Extractor",
    "FeatureFiles",
    "Features",
    "Frames",
    "Gate",
    "HeadLabels",
    "Images",
    "LocalizationRecipe",
    "Mixing",
    "Optimizer",
    "ParsingRecipe",
    "Pinned",
    "Precision",
    "ProblemKind",
    "Provenance",
    "Published",
    "RandAugment",
    "RandomErasing",
    "Recipe",
    "RecognitionRecipe",
    "Sampling",
    "Scale",
    "Schedule",
    "Strict",
    "TableName",
    "Training",
    "Transforms",
    "Views",
    "content_hash",
    "content_hash_of_rows",
    "plain_json",
]

RECIPES: dict[str, type[Recipe]] = {
    # a Literal of one name
    kind.model_fields["task"].annotation.__args__[0]: kind  # type: ignore[union-attr]
    for kind in (RecognitionRecipe, LocalizationRecipe, DetectionRecipe, ParsingRecipe)
}
TASKS = tuple(RECIPES)
