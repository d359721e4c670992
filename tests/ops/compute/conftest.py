"""The fixtures of tests that decode on a cluster."""

from __future__ import annotations

from video_fixtures import dataset, make_video, videos  # noqa: F401 - fixtures
