"""Make the sample world: python -P -m ops.synthetic ROOT [--train N --val N --untrimmed N --scenes N --parts N --seed S --workers W]."""

from __future__ import annotations

import argparse
import sys

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from ops.store.threads import usable_cpus
from ops.synthetic.dataset import FiguresError, FiguresSize, make_figures


def _arguments() -> argparse.ArgumentParser:
    usual = FiguresSize()
    parser = argparse.ArgumentParser(
        "python -P -m ops.synthetic", description="Make the figures dataset: videos and exact annotations of four tasks."
    )
    parser.add_argument("root", help="folder or fsspec URI to write into")
    parser.add_argument("--train", type=int, default=usual.num_train, help="trimmed clips to train on (%(default)s)")
    parser.add_argument("--val", type=int, default=usual.num_val, help="trimmed clips to validate on (%(default)s)")
    parser.add_argument("--untrimmed", type=int, default=usual.num_untrimmed, help="untrimmed videos of 20 to 60 s (%(default)s)")
    parser.add_argument("--scenes", type=int, default=usual.num_scenes, help="scenes of one to four people (%(default)s)")
    parser.add_argument("--parts", type=int, default=None, help=f"trimmed clips with annotated body parts (at most {usual.num_parts})")
    parser.add_argument(
        "--difficulty", type=float, default=usual.difficulty, help="strength of clutter and camera motion, 0 to 1 (%(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=usable_cpus(), help="processes (%(default)s)")
    return parser


def main() -> int:
    """Run the command; 0 when the dataset is there, 2 for a mistake of the user or a store that refuses."""
    given, console = _arguments().parse_args(), Console(stderr=True)
    try:
        parts = min(FiguresSize().num_parts, given.train + given.val) if given.parts is None else given.parts
        size = FiguresSize(given.train, given.val, given.untrimmed, given.scenes, parts, difficulty=given.difficulty)
        columns = (TextColumn("making videos"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
        with Progress(*columns, console=console, transient=True) as bar:
            task = bar.add_task("videos", total=None)
            report = make_figures(
                given.root, size, given.seed, given.workers, lambda done, total: bar.update(task, completed=done, total=total)
            )
    except (FiguresError, OSError) as error:
        console.print(f"[red]{error}[/red]")
        return 2
    counts = report.counts
    what = f"{counts['videos']} videos, {counts['frames']} frames" if report.made else "nothing to do"
    console.print(f"{report.root}: {what} ({report.seconds:.1f} s)", highlight=False, soft_wrap=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
