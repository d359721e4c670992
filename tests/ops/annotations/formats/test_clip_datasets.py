"""The datasets of clips: each YAML reads files of the official shape, laid out as its `prepare`
says.
"""

import json
from pathlib import Path

import pytest

import configs
from ops.annotations.read import read_files
from ops.store.layout import Layout

KINETICS = (
    "label,youtube_id,time_start,time_end,split\nrun,abc,3,13,train\nswim,x_y,0.0,10.0,train\n"
)
SOMETHING = [
    {"id": "5", "template": "Pulling [something] onto [something]"},
    {"id": 6, "template": "Opening [something]"},
]
LABELS_710 = "".join(f"label {index}\n" for index in range(710))
PERSON = {
    "number": 1,
    "box": [0, 0, 9, 19],
    "parts": {"head": {"box": [1, 1, 2, 2], "verb": "turn", "name": "head", "number": 1}},
}
PEOPLE = json.dumps({"name": "x", "humans": [PERSON, {**PERSON, "number": 2}]})
FILES: dict[str, dict[str, str]] = {
    "kinetics400": {
        "annotations/train.csv": KINETICS,
        "annotations/validate.csv": KINETICS.replace("abc", "def").replace("x_y", "-z"),
    },
    "kinetics710": {
        "annotations/label_map_k710.txt": LABELS_710,
        **{
            f"annotations/k{size}_{split}_list_videos.txt": f"vol_00/{split}{size}.mp4 709\n"
            for size in (400, 600, 700)
            for split in ("train", "val")
        },
    },
    "ucf101": {
        "ucfTrainTestlist/classInd.txt": "1 Archery\n2 YoYo\n",
        "ucfTrainTestlist/trainlist01.txt": "Archery/v_a.avi 1\nYoYo/v_b.avi 2\n",
        "ucfTrainTestlist/testlist01.txt": "YoYo/v_c.avi\n",
        "ucfTrainTestlist/trainlist02.txt": "Archery/v_a.avi 1\n",
    },
    "hmdb51": {
        "testTrainMulti_7030_splits/wave_test_split1.txt": "a.avi 1 \nb.avi 2 \nc.avi 0 \n",
        "testTrainMulti_7030_splits/chew_test_split1.txt": "d.avi 1 \n",
    },
    "something_v1": {
        "annotations/something-something-v1-labels.csv": "Opening something\nClosing something\n",
        "annotations/something-something-v1-train.csv": "1;Closing something\n",
        "annotations/something-something-v1-validation.csv": "2;Opening something\n",
        "annotations/something-something-v1-test.csv": "3\n",
    },
    "something_v2": {
        "labels/labels.json": json.dumps(
            {"Opening something": "0", "Pulling something onto something": "1"}
        ),
        "labels/train.json": json.dumps(SOMETHING),
        "labels/validation.json": json.dumps([{"id": "7", "template": "Opening [something]"}]),
        "labels/test.json": '[{"id": "8"}]',
    },
    "jester": {
        "annotations/jester-v1-labels.csv": "Stop Sign\nSwiping Left\n",
        "annotations/jester-v1-train.csv": "1;Swiping Left\n",
        "annotations/jester-v1-validation.csv": "2;Stop Sign\n",
        "annotations/jester-v1-test.csv": "3\n",
    },
    "moments_in_time": {
        "annotations/moments_categories.txt": "clapping,0\npraying,1\n",
        "annotations/trainingSet.csv": "praying/a.mp4,praying,3,0\n",
        "annotations/validationSet.csv": "clapping/a.mp4,clapping,2,1\n",
    },
    "diving48": {
        "annotations/Diving48_vocab.json": (
            '[["Back", "15som", "05Twis", "FREE"], ["Inward", "Dive", "NoTwis", "PIKE"]]'
        ),
        "annotations/Diving48_V2_train.json": (
            '[{"vid_name": "a_00000", "label": 1, "start_frame": 0, "end_frame": 9}]'
        ),
        "annotations/Diving48_V2_test.json": (
            '[{"vid_name": "b_00000", "label": 0, "start_frame": 0, "end_frame": 9}]'
        ),
    },
    "kinetics_tps": {
        "train_annotations/surf/a-b_c/img_00001.json": PEOPLE,
        "train_annotations/surf/a-b_c/img_00002.json": PEOPLE,
        "train_annotations/bowl/d/img_00004.json": PEOPLE,
    },
}
FILES |= {"kinetics600": FILES["kinetics400"], "kinetics700": FILES["kinetics400"]}
# video_id, split and label_id of every row
ROWS = {
    "kinetics400": [
        ("abc_000003_000013", "train", 0),
        ("x_y_000000_000010", "train", 1),
        ("def_000003_000013", "val", 0),
        ("-z_000000_000010", "val", 1),
    ],
    "kinetics710": [
        ("kinetics400/videos_train/vol_00/train400", "train", 709),
        ("kinetics600/vol_00/train600", "train", 709),
        ("kinetics700/vol_00/train700", "train", 709),
        ("kinetics400/videos_val/vol_00/val400", "val", 709),
        ("kinetics600/vol_00/val600", "val", 709),
        ("kinetics700/vol_00/val700", "val", 709),
    ],
    "ucf101": [("YoYo/v_c", "val", 1), ("Archery/v_a", "train", 0), ("YoYo/v_b", "train", 1)],
    "hmdb51": [("chew/d", "train", 0), ("wave/a", "train", 1), ("wave/b", "val", 1)],
    "something_v1": [("1", "train", 1), ("2", "val", 0), ("3", "test", None)],
    "something_v2": [("5", "train", 1), ("6", "train", 0), ("7", "val", 0), ("8", "test", None)],
    "jester": [("1", "train", 1), ("2", "val", 0), ("3", "test", None)],
    "moments_in_time": [("training/praying/a", "train", 1), ("validation/clapping/a", "val", 0)],
    "diving48": [("a_00000", "train", 1), ("b_00000", "val", 0)],
    "kinetics_tps": [("bowl/d", "train", 0), ("surf/a-b_c", "train", 1)],
}
ROWS |= {"kinetics600": ROWS["kinetics400"], "kinetics700": ROWS["kinetics400"]}


@pytest.mark.parametrize("name", sorted(FILES))
def test_official_shapes_read_by_the_yaml_alone(name: str, layout: Layout):
    dataset = configs.dataset(name)
    for path, text in FILES[name].items():
        file = Path(layout.dataset_root(dataset), path)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    reading = read_files(dataset, layout)
    assert not reading.errors and not reading.problems
    table = reading.tables["clips"]
    assert (
        list(
            zip(
                *(table[column].to_pylist() for column in ("video_id", "split", "label_id")),
                strict=True,
            )
        )
        == ROWS[name]
    )


@pytest.mark.parametrize("name", sorted(FILES))
def test_every_dataset_says_what_people_need(name: str):
    dataset = configs.dataset(name)
    assert (
        dataset.licence
        and dataset.homepage
        and dataset.prepare
        and "videos" in dataset.prepare.lower()
    )
    assert dataset.expected["clips.all.classes"] > 1
    names = [label for pair in dataset.flip_labels.items() for label in pair]
    assert len(set(names)) == len(names)
