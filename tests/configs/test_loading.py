"""What a person sees who makes a mistake in a configuration: the file, the field, what was found,
what is allowed.
"""

from __future__ import annotations

from pathlib import Path

import pytest

import configs
from configs.schema import ConfigError, Dataset, Frames

RECIPE = """
mine:
  about: A recipe of one's own.
  dataset: figures
  family: tsn
  num_classes: 10
  model: {depth: 18}
  sampling: {kind: segments, num_segments: 8}
  transforms: {short_side: 96, crop: 88}
  optimizer: {name: sgd, lr: 0.05}
  schedule: {kind: cosine}
  training: {epochs: 1, batch_size: 4}
  gate: {metric: top1, floor: 0.5, registered_model: mine}
"""
DATASET = 'title: Mine\nlicence: my own\nroot: "{storage}/mine"\n'


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of the user's own configurations."""
    for name in ("recognition", "datasets"):
        (tmp_path / "own" / name).mkdir(parents=True)
    monkeypatch.setenv("KINOGRAPH_CONFIGS", str(tmp_path / "own"))
    return tmp_path / "own"


def _refused(own: Path, text: str, name: str = "mine") -> ConfigError:
    path = own / "recognition" / "my.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        configs.load(name)
    assert str(path) in caught.value.where and str(path) in str(caught.value)
    return caught.value


def test_ones_own_folder_is_found_beside_the_projects(own: Path) -> None:
    (own / "recognition/my.yaml").write_text(RECIPE)
    (own / "datasets/mine.yaml").write_text(DATASET)
    assert configs.load("mine").family == "tsn"
    assert {"mine", "tsm_tiny_figures"} <= set(configs.names("recognition"))
    assert configs.dataset("mine").title == "Mine" and {"mine", "figures"} <= set(
        configs.datasets()
    )


def test_the_family_is_the_files_name_unless_the_recipe_says_it(own: Path) -> None:
    (own / "recognition/tsm.yaml").write_text(RECIPE.replace("  family: tsn\n", ""))
    assert configs.load("mine").family == "tsm"


def test_a_block_that_starts_with_a_dot_is_no_recipe(own: Path) -> None:
    (own / "recognition/my.yaml").write_text(
        ".steps: &steps {kind: constant}\n" + RECIPE.replace("{kind: cosine}", "*steps")
    )
    assert configs.load("mine").schedule.kind == "constant" and ".steps" not in configs.names()


@pytest.mark.parametrize(
    "old, new, field, found, allowed",
    [
        ("epochs: 1", "epohcs: 1", "training.epochs", "nothing", "a value"),
        (
            "epochs: 1",
            "epochs: 1, epohcs: 1",
            "training.epohcs",
            1,
            "accumulate, amp, batch_norm, batch_size, ema_decay, ",
        ),
        ("  gate:", "  gates: {}\n  gate:", "gates", {}, "about, dataset, family, fusion, gate"),
        ("num_classes: 10", "num_classes: 0", "num_classes", 0, "greater than or equal to 1"),
        ("num_classes: 10", "num_classes: ten", "num_classes", "ten", "valid integer"),
        (
            "kind: cosine",
            "kind: cosinus",
            "schedule.kind",
            "cosinus",
            "'cosine', 'multistep' or 'constant'",
        ),
        (
            "batch_size: 4",
            "batch_size: 4, accumulate: 3",
            "training",
            "epochs, batch_size, accumulate",
            "batch_size 4 is not a multiple of accumulate 3",
        ),
        (
            "depth: 18",
            "depth: 18, num_classes: 10",
            "model",
            "depth, num_classes",
            "num_classes belongs to the recipe itself",
        ),
        ("mine:\n", "mine:\n  name: yours\n", "name", "yours", "mine, which its place says"),
        (
            "mine:\n",
            "mine:\n  task: parsing\n",
            "task",
            "parsing",
            "recognition, which its place says",
        ),
    ],
)
def test_a_wrong_field_is_named(
    own: Path, old: str, new: str, field: str, found: object, allowed: str
) -> None:
    error = _refused(own, RECIPE.replace(old, new, 1))
    assert (error.field, error.found) == (field, found) and allowed in error.allowed
    assert all(part in str(error) for part in (field, repr(found), allowed, "(mine)"))


@pytest.mark.parametrize(
    "text, found, allowed",
    [
        ("mine: [1,\n", "my.yaml", "valid YAML"),
        ("", "nothing", "a mapping"),
        ("- mine\n", "list", "a mapping"),
        ("mine: 7\n", "int", "a mapping"),
        (RECIPE + RECIPE, "key 'mine' given twice", "valid YAML"),
        (
            RECIPE.replace("epochs: 1", "epochs: 1, epochs: 2"),
            "key 'epochs' given twice",
            "valid YAML",
        ),
        (RECIPE + "5: {}\n", "5", "text"),
        (
            RECIPE.replace("mine:", "tsm_tiny_figures:"),
            "a second recipe of this name",
            "the first is in",
        ),
        (RECIPE + "more: {? [1, 2] : 3}\n", "a key that is a list or a mapping", "valid YAML"),
        (RECIPE + f"more: {'9' * 5000}\n", "Exceeds the limit", "numbers that a machine can hold"),
        (
            RECIPE.replace("model: {", "model: &own {again: *own, "),
            "a value that holds itself",
            "one that ends",
        ),
        (
            "a: !!python/object/apply:os.getcwd []\n",
            "could not determine a constructor",
            "valid YAML",
        ),
    ],
)
def test_a_wrong_file_is_named(own: Path, text: str, found: str, allowed: str) -> None:
    error = _refused(own, text)
    assert found in str(error.found) or found in str(error)
    assert allowed in error.allowed


def test_a_file_of_another_encoding_is_named(own: Path) -> None:
    (own / "recognition/my.yaml").write_bytes(
        RECIPE.replace("one's own", "m\xfcnchen").encode("latin1")
    )
    with pytest.raises(ConfigError, match="my.yaml.*0xfc.*UTF-8"):
        configs.names()


def test_unknown_names_list_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="recipe.*'tsm_tiny'.*tsm_tiny_figures"):
        configs.load("tsm_tiny")
    with pytest.raises(ConfigError, match="dataset.*'figure'.*figures"):
        configs.dataset("figure")
    with pytest.raises(
        ConfigError, match="task.*'recognise'.*recognition, localization, detection, parsing"
    ):
        configs.names("recognise")


@pytest.mark.parametrize("value", ["missing", "a_file"])
def test_a_configs_folder_that_is_none_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    (tmp_path / "a_file").write_text("")
    monkeypatch.setenv("KINOGRAPH_CONFIGS", str(tmp_path / value))
    for call in (configs.names, configs.datasets, lambda: configs.load("tsm_tiny_figures")):
        with pytest.raises(ConfigError, match=f"KINOGRAPH_CONFIGS.*{value}.*an existing folder"):
            call()


@pytest.mark.parametrize(
    "text, field, says",
    [
        (DATASET + "frames: {codec: png}\n", "frames.codec", "'jpeg' or 'lossless'"),
        (
            DATASET + "frames: {qualty: 9}\n",
            "frames.qualty",
            "codec, frames_per_shard, quality, short_side",
        ),
        (
            DATASET + "annotations: [{table: clips, format: csv, path: a}]\n",
            "annotations.0.format",
            "kinetics_csv",
        ),
        (
            DATASET + "annotations: [{table: clips, format: kinetics_csv, file: a}]\n",
            "annotations.0.path",
            "a value",
        ),
        (
            DATASET + "annotations: [{table: clips, format: kinetics_csv, path: b, file: a}]\n",
            "annotations.0.file",
            "labels, multi_label, path, split",
        ),
        (DATASET + "name: yours\n", "name", "mine"),
        (DATASET.replace("licence: my own\n", ""), "licence", "a value"),
    ],
)
def test_a_wrong_dataset_is_named(own: Path, text: str, field: str, says: str) -> None:
    path = own / "datasets/mine.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        configs.dataset("mine")
    assert (caught.value.where, caught.value.field) == (
        str(path),
        field,
    ) and says in caught.value.allowed


def test_the_recipes_hash_follows_what_changes_the_weights_and_nothing_else(own: Path) -> None:
    (own / "recognition/my.yaml").write_text(RECIPE)
    recipe = configs.load("mine")
    same = recipe.model_copy(
        update={
            "about": "other words",
            "name": "other",
            "scale": recipe.scale.model_copy(update={"num_workers": 9}),
        }
    )
    other = recipe.model_copy(
        update={"optimizer": recipe.optimizer.model_copy(update={"lr": 0.06})}
    )
    assert recipe.key() == same.key() != other.key()
    assert Frames(quality=95).key() == Frames().key() != Frames(quality=94).key()


def test_configurations_do_not_change_after_they_are_read() -> None:
    dataset = Dataset(name="d", title="t", licence="l", root="r")
    with pytest.raises(ValueError, match="frozen"):
        dataset.root = "elsewhere"  # type: ignore[misc]


@pytest.mark.parametrize(
    "old, new, field, says",
    [
        ("crop: 88", "crop: 88, flip: yes", "transforms.flip", "without quotes"),
        ("crop: 88", "crop: 88, flip: true", "transforms.flip", "valid number"),
        ("crop: 88", "crop: true", "transforms.crop", "valid integer"),
        ("crop: 88", "crop: 88.0", "transforms.crop", "valid integer"),
        ("crop: 88", "crop: 010", "transforms.crop", "decimal digits"),
        ("crop: 88", "crop: 1_000", "transforms.crop", "decimal digits"),
        ("crop: 88", "crop: 88, std: [0, 1, 1]", "transforms.std.0", "greater than 0"),
        ("crop: 88", "crop: 88, area: [1, 0.5]", "transforms.area", "the smaller one first"),
        ("lr: 0.05", "lr: .inf", "optimizer.lr", "finite"),
        ("lr: 0.05", "lr: .nan", "optimizer.lr", "finite"),
        ("lr: 0.05", "lr: '0.05'", "optimizer.lr", "without quotes"),
        (
            "lr: 0.05",
            "lr: 0.05, momentum: -0.9",
            "optimizer.momentum",
            "greater than or equal to 0",
        ),
        ("lr: 0.05", "lr: 0.05, betas: [0.9, 1]", "optimizer.betas.1", "less than 1"),
        ("epochs: 1", "epochs: 1:30", "training.epochs", "decimal digits"),
        (
            "epochs: 1",
            "epochs: 1, sync_batch_norm: on",
            "training.sync_batch_norm",
            "true or false",
        ),
        ("epochs: 1", "epochs: 1, sync_batch_norm: 1", "training.sync_batch_norm", "valid boolean"),
        ("kind: cosine", "kind: multistep, milestones: [2, 1]", "schedule", "do not ascend"),
        ("depth: 18", "depth: 18, dropout: '0.5'", "model", "'0.5' is text"),
        ("depth: 18", "depth: 18, dropout: .nan", "model", "not a finite number"),
        ("  gate:", "  views: {num_crops: true}\n  gate:", "views.num_crops", "not a truth value"),
    ],
)
def test_a_value_of_another_kind_is_no_number_and_no_truth_value(
    own: Path, old: str, new: str, field: str, says: str
) -> None:
    error = _refused(own, RECIPE.replace(old, new, 1))
    assert error.field == field and says in error.allowed


def test_words_that_yaml_versions_read_differently_are_text(own: Path) -> None:
    text = (
        RECIPE.replace("mine:", "on:")
        .replace("lr: 0.05", "lr: 5e-2")
        .replace("dataset: figures", "dataset: no")
    )
    (own / "recognition/my.yaml").write_text(text)
    recipe = configs.load("on")
    assert recipe.dataset == "no" and recipe.optimizer.lr == 0.05
    (own / "datasets/no.yaml").write_text(
        'title: 2024-01-31\nlicence: 007\nroot: "/d"\nflip_labels: {on: off, yes: no}\n'
    )
    dataset = configs.dataset("no")
    assert (dataset.title, dataset.licence, dataset.flip_labels) == (
        "2024-01-31",
        "007",
        {"on": "off", "yes": "no"},
    )


def test_endings_of_yaml_files(own: Path) -> None:
    (own / "recognition/my.yml").write_text(RECIPE)
    (own / "datasets/short.yml").write_text(DATASET)
    (own / "datasets/._mine.yaml").write_bytes(b"\x00\x05\x16\x07\xff")
    (own / "recognition/._my.yaml").write_bytes(b"\x00\x05\x16\x07\xff")
    (own / "datasets/bom.yaml").write_text("\ufeff" + DATASET)
    assert (
        configs.load("mine").family == "tsn"
        and configs.dataset("short").title == configs.dataset("bom").title == "Mine"
    )
    assert {"short", "bom"} <= set(configs.datasets()) and not any(
        name.startswith(".") for name in configs.datasets()
    )
    (own / "datasets/short.yaml").write_text(DATASET)
    with pytest.raises(
        ConfigError, match=r"short\.yml.*a second file of dataset 'short'.*short\.yaml"
    ):
        configs.dataset("short")
    for place in ("datasets/other.yaml.txt", "late.yaml"):
        (own / place).write_text(DATASET)
        name = Path(place).name.split(".")[0]
        with pytest.raises(
            ConfigError, match=rf"{place} is not read: the file has to be .*/datasets/{name}\.yaml"
        ):
            configs.dataset(name)


@pytest.mark.parametrize("videos", ["/data/clips", "~/clips", "s3://bucket/clips"])
def test_videos_lie_below_the_root(videos: str) -> None:
    with pytest.raises(ValueError, match="below the root"):
        Dataset(name="d", title="t", licence="l", root="/r", videos=videos)


@pytest.mark.parametrize("root", ["/data/{STORAGE}/x", "{ storage }/x", "$DATA/x", "${DATA}/x", ""])
def test_a_root_that_names_nothing_is_refused(root: str) -> None:
    with pytest.raises(ValueError, match="storage|variables|at least 1"):
        Dataset(name="d", title="t", licence="l", root=root)
