"""MLflow: runs, models and the registry.

MLflow reads these switches when it is first imported, so they are set before any module of this
package imports it. What the environment already says wins.
"""

import os

for _name, _value in {
    "MLFLOW_DISABLE_TELEMETRY": "true",  # it posts usage records to its makers otherwise
    # 'Creating initial MLflow database tables', 'Started monitoring', ...
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    # two 'View run at' lines for each finished run
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    # it copies a uv.lock of the working directory into every model
    "MLFLOW_UV_AUTO_DETECT": "false",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "5",  # about one minute; the default of 7 is four
}.items():
    os.environ.setdefault(_name, _value)
