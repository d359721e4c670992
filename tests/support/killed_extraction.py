"""A run of its own for the test that kills it: python killed_extraction.py FEATURES_JSON
SETTINGS_JSON.
"""

from __future__ import annotations

import sys
import time

from configs.schema import Features
from configs.settings import Settings
from ops.features import materialize
from ops.features.extract import Extractor
from ops.features.jobs import ExtractJob, FeaturesOutcome
from ops.store import bucket_writer
from ops.store.layout import Layout


class Slow(Extractor):
    """Takes its time, so that there is a moment to be killed in."""

    def store(self, job: ExtractJob) -> FeaturesOutcome:
        outcome = super().store(job)
        time.sleep(1.0)
        return outcome


if __name__ == "__main__":
    from ops.features import extract

    features, settings = (
        Features.model_validate_json(sys.argv[1]),
        Settings.model_validate_json(sys.argv[2]),
    )
    extract.Extractor = Slow  # type: ignore[misc]
    bucket_writer.COMMIT_EVERY_S = 0.0
    materialize.make_features(features, Layout(settings.storage), settings)
