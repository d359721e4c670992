"""The dataset on S3 is the dataset on a disk."""

import pytest

from ops.files.storage import list_files, read_bytes
from ops.synthetic.dataset import FiguresSize, make_figures

SIZE = FiguresSize(
    num_train=2,
    num_val=1,
    num_untrimmed=0,
    num_scenes=1,
    num_parts=1,
    width=48,
    height=36,
    fps=8,
    clip_frames=8,
)


@pytest.mark.slow  # three datasets, each video of which starts an encoder
def test_figures_on_s3(tmp_path, s3):
    root = f"{s3.bucket}/here"
    assert make_figures(root, SIZE, seed=2, workers=1).made
    assert not make_figures(f"{root}/", SIZE, seed=2, workers=1).made
    make_figures(tmp_path, SIZE, seed=2, workers=1)
    local = {
        path.relative_to(tmp_path).as_posix(): path.read_bytes()
        for path in tmp_path.rglob("*")
        if path.is_file()
    }
    remote = {info.path_below: read_bytes(info.uri) for info in list_files(root)}
    assert remote == local
    assert make_figures(root, SIZE, seed=3, workers=1).made
