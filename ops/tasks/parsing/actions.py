"""The action of every video, as a recognition model or a file names it: the half of Acc^p that no
parser answers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import pyarrow as pa

import configs
from configs.schema import ConfigError, Dataset, content_hash
from configs.schema.parsing import ParsingRecipe
from configs.settings import Settings
from ops.files.storage import read_bytes
from ops.store.layout import Layout
from ops.store.reader import FrameReader
from ops.store.tables import read_table, write_table
from ops.tasks.parsing.parts import PartVideo
from ops.tasks.parsing.predictions_file import read_actions
from ops.tasks.recognition.predictor import Recognizer

ACTIONS = pa.schema(
    [
        ("video_id", pa.string()),
        ("key", pa.string()),
        ("action", pa.string()),
        ("probability", pa.float32()),
    ]
)


def actions_of(
    recipe: ParsingRecipe,
    dataset: Dataset,
    videos: Sequence[PartVideo],
    layout: Layout,
    settings: Settings | None = None,
) -> dict[str, str]:
    """Action by video, from the recipe's `action_model` or `action_file`.

    Args:
        recipe: says which of the two.
        dataset: of the videos, named in messages.
        videos: whose actions are wanted; what a model said of one is kept in the store, by the
            model's weights and the video's content, and never asked again.
        layout: of the store that has frames, file and answers.
        settings: name the registry of the model; None are the process's.

    Raises:
        ConfigError: the model is of another task or other labels, or the file lacks videos.
        PredictionError: the model is not there.
        StorageError: a store does not answer.
    """
    if recipe.action_model is None:
        return _from_file(recipe, videos, layout)
    from ops.evaluation.predictors import load

    predictor = load(recipe.action_model, settings or configs.settings())
    where = f"recipe '{recipe.name}'"
    if not isinstance(predictor, Recognizer):
        raise ConfigError(where, "action_model", recipe.action_model, "a recognition model")
    unknown = sorted({video.action for video in videos} - set(predictor.labels))
    if unknown:
        allowed = (
            f"a model that knows the actions of {dataset.name}; it has no label"
            f" {', '.join(unknown[:5])}"
        )
        raise ConfigError(where, "action_model", recipe.action_model, allowed)
    uri = layout.actions(dataset.name, _key(predictor))
    known = _kept(uri)
    new = [video for video in videos if (video.video_id, video.key) not in known]
    for video in new:
        reader = FrameReader(video.array_uri)
        indices = predictor.indices(video.num_frames, reader.attributes.get("timestamps_s", ()))
        shares = predictor.probabilities(reader.read(indices))
        known[video.video_id, video.key] = (
            predictor.labels[int(shares.argmax())],
            float(shares.max()),
        )
    if new:
        rows = [
            {"video_id": name, "key": key, "action": action, "probability": share}
            for (name, key), (action, share) in known.items()
        ]
        write_table(uri, pa.Table.from_pylist(rows, schema=ACTIONS))
    return {video.video_id: known[video.video_id, video.key][0] for video in videos}


def _from_file(
    recipe: ParsingRecipe, videos: Sequence[PartVideo], layout: Layout
) -> dict[str, str]:
    assert recipe.action_file is not None
    where = f"recipe '{recipe.name}'"
    uri = layout.placed(recipe.action_file)
    try:
        found = read_actions(read_bytes(uri), uri)
    except FileNotFoundError as error:
        raise ConfigError(
            where, "action_file", uri, "an existing json file {video: action}"
        ) from error
    lost = [video.video_id for video in videos if video.video_id not in found]
    if lost:
        raise ConfigError(
            uri,
            "(whole file)",
            f"no action for {len(lost)} videos, first '{lost[0]}'",
            f"all {len(videos)} videos that are scored",
        )
    return {video.video_id: found[video.video_id] for video in videos}


def _key(predictor: Recognizer) -> str:
    """Hash of weights, recipe and labels."""
    digest = hashlib.sha256()
    for name, tensor in sorted(predictor.model.state_dict().items()):
        digest.update(name.encode() + tensor.cpu().contiguous().numpy().tobytes())
    return content_hash([digest.hexdigest(), predictor.recipe.key(), list(predictor.labels)])


def _kept(uri: str) -> dict[tuple[str, str], tuple[str, float]]:
    try:
        rows = read_table(uri).to_pylist()
    except FileNotFoundError:
        return {}
    return {(row["video_id"], row["key"]): (row["action"], row["probability"]) for row in rows}
