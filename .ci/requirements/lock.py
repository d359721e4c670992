"""Makes the lock files anew from pyproject.toml: `make lock`, or `make lock UPGRADE=--upgrade` for
the newest of everything.

run.txt holds what a run needs, dev.txt what tests need beyond it: one resolve for both, one version
of each package for every Python and platform, each with the hashes of all its wheels. Without
--upgrade what is locked stays where it still fits. uv does it, from the PATH or taken into a
temporary folder.
"""

import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

from install import HERE, OLDEST, TORCH, blocks

HEAD = "# Made by `make lock` from pyproject.toml; not to be edited. %s\n"
HEADS = {
    "run": HEAD % "What a run needs. By version, since pip's settings choose the build:" + "# %s\n",
    "dev": HEAD % "What tests need beyond run.txt.",
}


def uv(scratch):
    """The path of uv; pip brings it where there is none."""
    if found := shutil.which("uv"):
        return found
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(scratch / "uv"), "uv"],
        check=True,
    )
    return str(scratch / "uv" / "bin" / "uv")


def resolved(command, inputs, output, *options):
    """{name==version: block} of one resolve for all Pythons and platforms; what the output file
    holds before is preferred.
    """
    fixed = [
        "--quiet",
        "--universal",
        "--python-version",
        f"3.{OLDEST[1]}",
        "--fork-strategy",
        "fewest",
        "--only-binary",
        ":all:",
    ]
    told = [
        "--generate-hashes",
        "--no-annotate",
        "--no-header",
        "--no-emit-index-url",
        "--output-file",
        str(output),
    ]
    subprocess.run(
        [command, "pip", "compile", *fixed, *told, *options, *map(str, inputs)], check=True
    )
    return blocks(output)


def write(part, packages, torch):
    head = HEADS[part] % torch if part == "run" else HEADS[part]
    (HERE / (part + ".txt")).write_text(
        head + "".join(packages[pin] + "\n" for pin in sorted(packages)), encoding="utf-8"
    )


def main():
    project = HERE.parent.parent / "pyproject.toml"
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        command = uv(scratch)
        # pip and what builds this project are locked as well, so that nothing is looked for beside
        # the lock.
        build = scratch / "build.in"
        build.write_text(
            "\n".join(
                [
                    "pip",
                    *tomllib.loads(project.read_text(encoding="utf-8"))["build-system"]["requires"],
                ]
            )
        )
        held = [HERE / "run.txt", HERE / "dev.txt"]
        before = "\n".join(path.read_text(encoding="utf-8") for path in held if path.is_file())
        (scratch / "all.txt").write_text(before.replace("# torch==", "torch=="))
        everything = resolved(
            command, [project, build], scratch / "all.txt", "--extra", "dev", *sys.argv[1:]
        )
        (scratch / "pins.txt").write_text(
            "\n".join(
                re.sub(r"\s*\\\n.*", "", block, flags=re.DOTALL) for block in everything.values()
            )
        )
        run = resolved(
            command,
            [project, build],
            scratch / "run.txt",
            "--constraint",
            str(scratch / "pins.txt"),
        )
    torch = next(pin for pin in run if pin.startswith("torch=="))
    write("run", {pin: block for pin, block in run.items() if not TORCH.match(pin)}, torch)
    write("dev", {pin: block for pin, block in everything.items() if pin not in run}, torch)


if __name__ == "__main__":
    main()
