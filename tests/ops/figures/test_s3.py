"""The dataset on S3 is the dataset on a disk."""

import boto3
import pytest

from ops.figures.dataset import FiguresSize, make_figures

moto_server = pytest.importorskip("moto.server")

SIZE = FiguresSize(num_train=2, num_val=1, num_untrimmed=0, num_scenes=1, num_parts=1, width=48, height=36, fps=8, clip_frames=8)


@pytest.mark.slow
def test_figures_on_s3(tmp_path, monkeypatch):
    server = moto_server.ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    try:
        host, port = server.get_host_and_port()
        for name, value in (
            ("AWS_ENDPOINT_URL", f"http://{host}:{port}"),
            ("AWS_REGION", "us-east-1"),
            ("AWS_DEFAULT_REGION", "us-east-1"),
        ):
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        client = boto3.client("s3")
        client.create_bucket(Bucket="figures")
        assert make_figures("s3://figures/here", SIZE, seed=2, workers=1).made
        assert not make_figures("s3://figures/here/", SIZE, seed=2, workers=1).made
        make_figures(tmp_path, SIZE, seed=2, workers=1)
        local = {path.relative_to(tmp_path).as_posix(): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
        names = [entry["Key"].removeprefix("here/") for entry in client.list_objects_v2(Bucket="figures", Prefix="here/")["Contents"]]
        assert sorted(names) == sorted(local)
        assert all(client.get_object(Bucket="figures", Key=f"here/{name}")["Body"].read() == data for name, data in local.items())
        assert make_figures("s3://figures/here", SIZE, seed=3, workers=1).made
    finally:
        server.stop()
