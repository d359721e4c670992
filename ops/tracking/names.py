"""Names that the registry takes."""

from __future__ import annotations

MOST_CHARS = 250  # of the column in MLflow's databases: 256
MADE_BY_US = "letters, figures and signs other than / : ' \" `"


def unusable_model_name(name: str) -> str:
    """Why MLflow, or a search in its registry, cannot take a name for a registered model; "" where
    both can.
    """
    from mlflow.exceptions import MlflowException
    from mlflow.utils.validation import _validate_model_name

    if name != name.strip():
        return f"{MADE_BY_US}, without blanks at its ends"
    if any(sign in name for sign in "'\"`") or not name.isprintable():
        return f"{MADE_BY_US}: quotes end the name in a search of the registry"
    if len(name) > MOST_CHARS:
        return f"{MADE_BY_US}, at most {MOST_CHARS}"
    try:
        _validate_model_name(name)
    except MlflowException as error:
        return f"{MADE_BY_US} ({error.message})"
    return ""
