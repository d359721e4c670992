"""Finding, reading and validating the YAML files of this package.

`configs/<task>/<family>.yaml` maps recipe names to recipes; `configs/datasets/<name>.yaml` holds
one dataset each; `configs/features/<dataset>.yaml` maps names to features of untrimmed videos. A
user's own files live in the folder that `KINOGRAPH_CONFIGS` names (same layout) and are found
beside these. The ending may be `.yml` too; files whose name begins with a dot are nobody's.

Plain values are what YAML 1.2 takes them for: `true` and `false`, decimal numbers (also `1e-3`),
`null`. What versions of YAML read differently (`yes`, `off`, `010`, `1_000`, `1:30`, `2024-01-31`)
is the text that stands there: right for a name, refused for a number.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError

from configs.schema import RECIPES, TASKS, ConfigError, Dataset, Features, Recipe, Strict
from configs.settings import absolute, variable

HERE = Path(__file__).parent
# libyaml reads the catalogue ten times faster
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
ENDINGS = (".yaml", ".yml")
# How a plain value is read, by its first letter; all else is text. PyYAML's own table is that of
# YAML 1.1.
PLAIN = (
    ("null", r"~|null|Null|NULL|", "~nN\0"),
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?(?:0|[1-9][0-9]*)", "-+0123456789"),
    (
        "float",
        r"[-+]?(?:\.[0-9]+|(?:0|[1-9][0-9]*)(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?",
        "-+0123456789.",
    ),
    ("float", r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)", "-+."),
    ("merge", r"<<", "<"),
)
NO_TEXT = ("int_type", "float_type", "bool_type")
T = TypeVar("T", bound=Strict)


def _folders() -> list[Path]:
    own = variable("KINOGRAPH_CONFIGS")
    if own is None:
        return [HERE]
    path = absolute("KINOGRAPH_CONFIGS", own)
    if not path.is_dir() or not os.access(path, os.R_OK | os.X_OK):
        raise ConfigError(
            "environment", "KINOGRAPH_CONFIGS", own, "an existing folder that can be read"
        )
    return [HERE, path]


def _resolvers() -> dict[str, list[tuple[str, re.Pattern[str]]]]:
    found: dict[str, list[tuple[str, re.Pattern[str]]]] = {}
    for kind, pattern, letters in PLAIN:
        for letter in letters:  # an empty value has none
            entry = (f"tag:yaml.org,2002:{kind}", re.compile(rf"(?:{pattern})\Z"))
            found.setdefault(letter.replace("\0", ""), []).append(entry)
    return found


class _Reader(LOADER):  # type: ignore[misc, valid-type]
    """Plain YAML would keep the last of two equal keys and say nothing."""

    yaml_implicit_resolvers = _resolvers()

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(
                    None, None, "a key that is a list or a mapping", key.start_mark
                )
            if key.tag != "tag:yaml.org,2002:merge" and key.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"key '{key.value}' given twice", key.start_mark
                )
            if isinstance(key.value, str):
                seen.add(key.value)
        return super().construct_mapping(node, deep=deep)


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping that a YAML file holds. Raises ConfigError with the file, what was found and what
    is allowed.
    """
    try:
        value = yaml.load(path.read_text(encoding="utf-8-sig"), _Reader)
    except UnicodeDecodeError as error:
        raise ConfigError(
            str(path), "(whole file)", f"byte {error.object[error.start]:#04x}", "UTF-8 text"
        ) from error
    except yaml.YAMLError as error:
        raise ConfigError(
            str(path), "(whole file)", str(error).replace("\n", " "), "valid YAML"
        ) from error
    except ValueError as error:
        raise ConfigError(
            str(path), "(whole file)", str(error), "numbers that a machine can hold"
        ) from error
    except OSError as error:
        raise ConfigError(
            str(path), "(whole file)", error.strerror, "a file that can be read"
        ) from error
    if not isinstance(value, dict):
        raise ConfigError(
            str(path),
            "(whole file)",
            "nothing" if value is None else type(value).__name__,
            "a mapping",
        )
    for key in value:
        if not isinstance(key, str):
            raise ConfigError(
                str(path),
                "(key)",
                key,
                "text; YAML takes null, true, false and numbers for values: quote them",
            )
    return value


def _files(folder: Path) -> Iterator[Path]:
    """The YAML files of a folder, by name; not what systems leave beside them (`._tsn.yaml`)."""
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if path.suffix.lower() in ENDINGS and not path.name.startswith(".") and path.is_file():
            yield path


def validated(kind: type[T], value: Any, where: str) -> T:
    """The value as this kind of object.

    Args:
        kind: the schema.
        value: a mapping of plain values, as YAML and JSON give it.
        where: the file or place, for the message.

    Raises:
        ConfigError: with `where`, the first field that is wrong, what was found and what is
            allowed.
    """
    try:
        return kind.model_validate(value)
    except RecursionError as error:  # a YAML alias within its own anchor
        raise ConfigError(where, "(whole)", "a value that holds itself", "one that ends") from error
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "(whole)"
        found, allowed = first.get("input"), first["msg"].removeprefix("Value error, ")
        if first["type"] == "extra_forbidden":
            allowed = "one of " + ", ".join(_fields_beside(kind, first["loc"]))
        elif first["type"] == "missing":
            found, allowed = "nothing", "a value: this field has no default"
        elif isinstance(found, dict):  # a rule over several fields; the message names them
            found = ", ".join(found)
        elif isinstance(found, str) and first["type"] in NO_TEXT:
            allowed += (
                " without quotes: true or false"
                if first["type"] == "bool_type"
                else ", in decimal digits and without quotes"
            )
        raise ConfigError(where, field, found, allowed) from error


def _fields_beside(kind: type[Strict], loc: tuple[int | str, ...]) -> list[str]:
    """Field names that are allowed where an unknown key was found."""
    model: Any = kind
    for part in loc[:-1]:
        annotation = model.model_fields[part].annotation if isinstance(part, str) else model
        model = annotation
        for inner in getattr(annotation, "__args__", ()):
            if isinstance(inner, type) and issubclass(inner, Strict):
                model = inner
    return sorted(model.model_fields) if hasattr(model, "model_fields") else []


def _given(value: dict[str, Any], place: dict[str, str], where: str) -> None:
    """Raises ConfigError when a file says something else of itself than its place does."""
    for field, expected in place.items():
        if value.get(field, expected) != expected:
            raise ConfigError(
                where, field, value[field], f"{expected}, which its place says, or nothing"
            )


@lru_cache(maxsize=8)
def _recipe_sources(folders: tuple[Path, ...]) -> dict[str, tuple[str, Path, Any]]:
    """Recipe name -> (task, file, raw value); every file is read once."""
    found: dict[str, tuple[str, Path, Any]] = {}
    for folder in folders:
        for task in TASKS:
            for path in _files(folder / task):
                for name, value in read_yaml(path).items():
                    # a block that the file's own recipes share through a YAML anchor
                    if name.startswith("."):
                        continue
                    if name in found:
                        raise ConfigError(
                            str(path),
                            name,
                            "a second recipe of this name",
                            f"one; the first is in {found[name][1]}",
                        )
                    found[name] = (task, path, value)
    return found


def names(task: str | None = None) -> list[str]:
    """Names of all recipes, or of one task's."""
    if task is not None and task not in TASKS:
        raise ConfigError("configs.names", "task", task, ", ".join(TASKS))
    return sorted(
        name
        for name, (of, _, _) in _recipe_sources(tuple(_folders())).items()
        if task in (None, of)
    )


def load(name: str) -> Recipe:
    """The recipe of this name, validated. Raises ConfigError with file, field, found and
    allowed.
    """
    sources = _recipe_sources(tuple(_folders()))
    if name not in sources:
        raise ConfigError("configs.load", "recipe", name, ", ".join(sorted(sources)))
    return _recipe(name, *sources[name])


def every_recipe() -> Iterator[tuple[str, Recipe | ConfigError]]:
    """Every recipe by its name, or what is wrong with it; for a file that cannot be read its
    path.
    """
    for task, path in (
        (of, file) for folder in _folders() for of in TASKS for file in _files(folder / of)
    ):
        try:
            content = read_yaml(path)
        except ConfigError as error:
            yield str(path), error
            continue
        for name in content:
            if not name.startswith("."):
                try:
                    yield name, _recipe(name, task, path, content[name])
                except ConfigError as error:
                    yield name, error


def _recipe(name: str, task: str, path: Path, value: Any) -> Recipe:
    if not isinstance(value, dict):
        raise ConfigError(str(path), name, type(value).__name__, "a mapping")
    _given(value, {"name": name, "task": task}, f"{path} ({name})")
    kind = RECIPES.get(task)
    if kind is None:
        raise ConfigError(str(path), "task", task, ", ".join(RECIPES))
    family = value.get("family", path.stem)
    return validated(
        kind, {**value, "name": name, "task": task, "family": family}, f"{path} ({name})"
    )


def place(name: str) -> str:
    """Where the recipe stands, as errors about it name it: "file (name)". Raises ConfigError for an
    unknown one.
    """
    sources = _recipe_sources(tuple(_folders()))
    if name not in sources:
        raise ConfigError("configs.place", "recipe", name, ", ".join(sorted(sources)))
    return f"{sources[name][1]} ({name})"


def datasets() -> list[str]:
    """Names of all datasets."""
    return sorted({path.stem for folder in _folders() for path in _files(folder / "datasets")})


def dataset(name: str) -> Dataset:
    """The dataset of this name, validated. Raises ConfigError with file, field, found and
    allowed.
    """
    for folder in reversed(_folders()):
        paths = [path for path in _files(folder / "datasets") if path.stem == name]
        if len(paths) > 1:
            raise ConfigError(
                str(paths[1]),
                "(whole file)",
                f"a second file of dataset '{name}'",
                f"one; the first is {paths[0]}",
            )
        for path in paths:
            value = read_yaml(path)
            _given(value, {"name": name}, str(path))
            return validated(Dataset, {**value, "name": name}, str(path))
    raise ConfigError("configs.dataset", "dataset", name, ", ".join(datasets()) + _meant(name))


def _meant(name: str) -> str:
    """Words on a file that its owner may take for this dataset's YAML, though it is none."""
    for folder in _folders()[1:]:
        for path in (*folder.glob("*"), *folder.glob("data*/*")):
            if path.name.lower().startswith(f"{name}.y") and path.is_file():
                return f"; {path} is not read: the file has to be {folder / 'datasets' / name}.yaml"
    return ""


def features_names() -> list[str]:
    """Names of all features."""
    return sorted(_features_sources(tuple(_folders())))


def features(name: str) -> Features:
    """The features of this name, validated. Raises ConfigError with file, field, found and
    allowed.
    """
    sources = _features_sources(tuple(_folders()))
    if name not in sources:
        raise ConfigError("configs.features", "features", name, ", ".join(sorted(sources)))
    path, value = sources[name]
    if not isinstance(value, dict):
        raise ConfigError(str(path), name, type(value).__name__, "a mapping")
    _given(value, {"name": name, "dataset": path.stem}, f"{path} ({name})")
    return validated(Features, {**value, "name": name, "dataset": path.stem}, f"{path} ({name})")


@lru_cache(maxsize=8)
def _features_sources(folders: tuple[Path, ...]) -> dict[str, tuple[Path, Any]]:
    found: dict[str, tuple[Path, Any]] = {}
    for folder in folders:
        for path in _files(folder / "features"):
            for name, value in read_yaml(path).items():
                if name.startswith("."):
                    continue
                if name in found:
                    raise ConfigError(
                        str(path),
                        name,
                        "second features of this name",
                        f"one; the first is in {found[name][0]}",
                    )
                found[name] = (path, value)
    return found
