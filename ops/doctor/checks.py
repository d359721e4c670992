"""The list of all checks. A later one is a function that yields findings, and a line here."""

from __future__ import annotations

from collections.abc import Sequence

import configs
from configs.schema import TASKS, ConfigError
from configs.settings import Settings
from ops.doctor.finding import Check
from ops.files.storage import is_local

GROUPS = ("machine", "software", "folders", "arithmetic", "decoders", "storage", "Ray", "MLflow")
DEMO = (
    "tsn_tiny_figures",
    "tsm_tiny_figures",
    "actionformer_tiny_figures",
    "evad_tiny_figures",
    "apct_tiny_figures",
)
RECIPE_S = 120.0  # of a miniature or a recipe of the demo, on a busy machine
LARGE_RECIPE_S = 900.0
# What kept a wrong kernel of oneDNN from being chosen, in the order of its price
REMEDIES = (
    {"ONEDNN_MAX_CPU_ISA": "AVX2"},
    {"ONEDNN_MAX_CPU_ISA": "AVX"},
    {"ONEDNN_MAX_CPU_ISA": "SSE41"},
)


def checks(
    settings: Settings,
    recipes: Sequence[str] = (),
    catalogue: bool = False,
    groups: Sequence[str] = (),
) -> list[Check]:
    """All checks, or those of these groups; `recipes` are computed instead of the demo's,
    `catalogue` adds every family's miniature.

    Raises ConfigError for an unknown group or recipe.
    """
    for group in groups:
        if group not in GROUPS:
            raise ConfigError("kinograph doctor", "--only", group, ", ".join(GROUPS))
    found = [*_machine(), *_folders(), *_arithmetic(recipes, catalogue), *_services(settings)]
    return [check for check in found if not groups or check.group in groups]


def _machine() -> list[Check]:
    parts = {
        "processor": "CPUs",
        "memory": "memory",
        "switches": "environment",
        "instructions": "torch kernels",
        "gpus": "GPU",
    }
    software = {"python": "Python", "dependencies": "packages"}
    return [
        *(Check("machine", name, f"ops.doctor.machine:{part}") for part, name in parts.items()),
        *(
            Check("software", name, f"ops.doctor.versions:{part}")
            for part, name in software.items()
        ),
    ]


def _folders() -> list[Check]:
    names = {"temporary": "temporary folder", "processes": "shared locks"}
    parts = ("storage", "home", "temporary", "sockets", "processes", "user")
    return [Check("folders", names.get(part, part), f"ops.doctor.folders:{part}") for part in parts]


def _arithmetic(recipes: Sequence[str], catalogue: bool) -> list[Check]:
    for name in recipes:
        configs.load(name)
    each = [
        (name, "recipe", {"name": name}, LARGE_RECIPE_S if recipes else RECIPE_S)
        for name in recipes or DEMO
    ]
    if catalogue:
        import models

        pairs = [(task, family) for task in TASKS for family in models.families(task)]
        each += [
            (f"{task}/{family}", "miniature", {"task": task, "family": family}, RECIPE_S)
            for task, family in pairs
        ]
    found = []
    for name, function, arguments, deadline_s in each:
        for device, remedies in (("cpu", REMEDIES), ("cuda", ())):
            call = f"ops.doctor.arithmetic:{function}"
            found.append(
                Check(
                    "arithmetic",
                    f"{name} on {device}",
                    call,
                    {**arguments, "device": device},
                    deadline_s,
                    remedies,
                )
            )
    return found


def _services(settings: Settings) -> list[Check]:
    where = "bucket:check" if not is_local(settings.storage) else None
    return [
        Check("decoders", "decoders", "ops.doctor.decoders:check", deadline_s=60.0),
        *([Check("storage", "S3", f"ops.doctor.{where}", deadline_s=120.0)] if where else []),
        Check(
            "storage", "frames in the temporary folder", "ops.doctor.arrays:local", deadline_s=60.0
        ),
        Check("storage", "frames in the storage", "ops.doctor.arrays:stored", deadline_s=120.0),
        Check("Ray", "Ray", "ops.doctor.ray_start:check", deadline_s=120.0),
        Check("MLflow", "MLflow", "ops.doctor.tracker:check", deadline_s=120.0),
    ]
