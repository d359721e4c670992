"""The weights that a training starts from, where the recipe names some."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import nn

import configs
from configs.schema import ConfigError, HeadLabels, Recipe
from models.init_weights import init_from
from models.weights import Report
from ops.annotations.read import labels as labels_of
from ops.annotations.vocabulary import AnnotationError, parse
from ops.files.download import fetched, is_web
from ops.files.storage import StorageError, local_copy, read_bytes, sha256_of
from ops.store.layout import Layout

log = logging.getLogger(__name__)
LISTED = 8


def load_initial(
    model: nn.Module,
    uri: str | None,
    channels: Sequence[int] | None = None,
    sha256: str | None = None,
) -> Report | None:
    """Load `training.init_from`; `models.init_weights` says what it may be. The report is logged
    and returned.

    Args:
        model: takes the weights. A classifier of another number of classes stays fresh, or takes
            the rows `channels` of theirs.
        uri: a local path, an fsspec URI or a web address, which is downloaded once, into a folder
            of our own in torch's cache of checkpoints. None loads nothing.
        channels: for each of our labels the row of their classifier.
        sha256: what the content has to be, where that is known.

    Raises:
        PublishedWeightsError: (a ValueError) the content does not fit.
        FileNotFoundError: there is no such file.
        StorageError: a store does not answer.
    """
    if uri is None:
        return None
    with _on_this_machine(uri, sha256) as path:
        report = init_from(model, path, channels)
    log.info("%s", report)
    return report


def head_channels(
    wanted: HeadLabels, ours: Sequence[str], layout: Layout, recipe: Recipe
) -> list[int]:
    """For each of our labels the row of the starting checkpoint's classifier.

    Args:
        wanted: the recipe's `training.init_head`: where their labels, or the rows, are listed.
        ours: labels in the order of our classes.
        layout: of the store that has the annotations of a dataset that `wanted` names.
        recipe: of this training; named in messages.

    Raises:
        ConfigError: a label is not among theirs.
        StorageError: a store does not answer.
        FileNotFoundError: there is no such file.
    """
    if wanted.dataset is not None:
        source, theirs = (
            f"dataset '{wanted.dataset}'",
            labels_of(configs.dataset(wanted.dataset), "clips", layout, recipe.target),
        )
    else:
        assert wanted.file is not None
        source, listed = wanted.file, _listed(wanted.file)
        if listed and all(isinstance(one, int) for one in listed):
            if len(listed) != len(ours):
                raise ConfigError(
                    source,
                    "(whole file)",
                    f"{len(listed)} rows",
                    f"{len(ours)}, one for each label",
                )
            return [int(one) for one in listed]
        theirs = [str(one) for one in listed]
    rows = {_plain(label): row for row, label in enumerate(theirs)}
    found = {label: rows.get(_plain(wanted.renamed.get(label, label))) for label in ours}
    lost = [label for label, row in found.items() if row is None]
    if lost:
        some = ", ".join(lost[:LISTED]) + (
            f" and {len(lost) - LISTED} more" if len(lost) > LISTED else ""
        )
        where = f"recipe '{recipe.name}'"
        raise ConfigError(
            where,
            "training.init_head",
            some,
            f"labels of {source}; name in `renamed` what these are there",
        )
    return [row for row in found.values() if row is not None]


def scale_head(model: nn.Module, factor: float, recipe: Recipe) -> None:
    """Multiply weights and biases of the fresh classifier `fc`. Raises ConfigError for a model
    without one.
    """
    head = getattr(model, "fc", None)
    if not isinstance(head, nn.Linear):
        raise ConfigError(
            f"recipe '{recipe.name}'",
            "training.head_scale",
            factor,
            f"null: family '{recipe.family}' has no layer `fc`",
        )
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.mul_(factor)


def _plain(label: str) -> str:
    return re.sub(r"[^0-9a-z]+", " ", label.lower()).strip()


def _listed(uri: str) -> Sequence[str | int]:
    """Labels of a vocabulary file in the order of the classifier's rows, or the list of a JSON
    file. Raises ConfigError.
    """
    data = read_bytes(uri)
    if not uri.endswith(".json"):
        return _ordered(data, uri)
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ConfigError(
            uri, "(whole file)", str(error), "JSON: a list of labels, or of row numbers"
        ) from error
    kinds = {type(one) for one in value} if isinstance(value, list) else set()
    if kinds not in ({str}, {int}):
        raise ConfigError(
            uri, "(whole file)", type(value).__name__, "a list of labels, or of row numbers"
        )
    return value


def _ordered(data: bytes, uri: str) -> tuple[str, ...]:
    """Labels as a dataset's own vocabulary is read: with a header, numbers or quotes. A label's
    place is its row, so no number may lack.
    """
    try:
        words = parse(data, uri, own_ids=False)
    except AnnotationError as error:
        raise ConfigError(error.file, error.field, error.found, error.expected) from error
    numbers = words.numbers
    if numbers is not None and (
        numbers[0] not in (0, 1) or numbers[-1] - numbers[0] + 1 != len(numbers)
    ):
        found = f"{len(numbers)} from {numbers[0]} to {numbers[-1]}"
        raise ConfigError(
            uri,
            "numbers",
            found,
            "numbers of the labels from 0 or 1, without a gap: each is a row of the classifier",
        )
    if words.word:
        log.info("%s: %s", uri, words.word)
    return words.names


@contextmanager
def _on_this_machine(uri: str, sha256: str | None = None) -> Iterator[Path]:
    """The file of a local path, an fsspec URI or a web address here, with this content where it is
    known. Raises StorageError.
    """
    if is_web(uri):
        yield fetched(uri, sha256, Path(torch.hub.get_dir(), "checkpoints", "kinograph"))
        return
    with local_copy(uri) as path:
        if sha256 is not None and (found := sha256_of(path)) != sha256.lower():
            raise StorageError(uri, f"its sha256 is {found}; training.init_sha256 says {sha256}")
        yield path
