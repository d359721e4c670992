"""`kinograph predict`, `fusion` and `bottleneck`: trained models at work, several scored as one,
and where one loses.
"""

from __future__ import annotations

import sys
from typing import Annotated

import typer

import configs
from assets.layout import layout_of
from pipelines.app import command, names_of

CHAMPION = "models:/figures-recognition@champion"


@command(
    "predict", "kinograph predict --model models:/figures-recognition@champion film.mp4", reads=True
)
def predict(
    videos: Annotated[list[str], typer.Argument(metavar="VIDEO", help="Paths or s3:// URIs.")],
    model: Annotated[
        str, typer.Option(help="models:/<name>@<alias>, models:/<name>/<version> or a run folder.")
    ] = CHAMPION,
    top: Annotated[int, typer.Option(min=1, help="How many lines at most.")] = 5,
) -> int:
    """What a trained model of any task sees in video files; one that cannot be used does not hide
    the others.
    """
    from ops.evaluation.predictors import load
    from ops.files.mistakes import mistakes
    from ops.serving.predict import on_video

    predictor, failed = load(model, configs.settings()), False
    for video in videos:
        try:
            found = on_video(predictor, video)
        except mistakes() as error:
            print(error if video in str(error) else f"{video}: {error}", file=sys.stderr)
            failed = True
            continue
        print(video)
        for line in predictor.lines(found)[:top]:
            print(f"  {line}")
    return 1 if failed else 0


@command("fusion", "kinograph fusion pan_en_r50_sthv1 --weights pan_lite_r50_sthv1=lite.pth.tar")
def fusion(
    recipe: Annotated[
        str,
        typer.Argument(
            help="A recipe with 'fusion'.",
            autocompletion=names_of(lambda: configs.names("recognition")),
        ),
    ],
    weights: Annotated[
        list[str] | None,
        typer.Option(metavar="MEMBER=URI", help="Instead of the member's own training."),
    ] = None,
    coefficient: Annotated[
        list[float] | None,
        typer.Option(
            metavar="C", help="Weight of a member, once for each in their order (default: all 1)."
        ),
    ] = None,
    split: Annotated[str, typer.Option(help="Split to score on.")] = "val",
    device: Annotated[
        str | None, typer.Option(help="cuda or cpu (default: cuda where there is one).")
    ] = None,
) -> int:
    """Score several recognition models, trained apart, as one: the mean of their scores, clip by
    clip.
    """
    import ops.tasks.recognition.fusion as work

    chosen, parts = work.chosen(recipe, weights or [], layout_of(configs.settings()))
    done = work.fuse(
        chosen,
        parts,
        layout_of(configs.settings()),
        coefficients=coefficient or None,
        split=split,
        device=device,
    )
    print(f"{chosen.name}: {' + '.join(chosen.fusion)} on {done.num_samples} clips")
    for name in ("top1", "top5", "mean_class_accuracy"):
        print(f"  {name:20s} {100 * done.metrics[name]:6.2f}")
    print(f"  {done.predictions_uri}")
    return 0


@command("bottleneck", "kinograph bottleneck RUN/evaluation/SET RUN/evaluation/SET", reads=True)
def bottleneck(
    truth: Annotated[
        str, typer.Argument(help="Folder or URI with gt_part_result.json and gt_vid_result.json.")
    ],
    predictions: Annotated[
        str,
        typer.Argument(help="Folder or URI with pred_part_result.json and pred_vid_result.json."),
    ],
) -> int:
    """Where a parser loses: Acc^p with the truth put in place of one stage after another. An
    evaluation of ours writes all four files.
    """
    from ops.tasks.parsing.bottleneck import bottleneck_of, lines

    print("\n".join(lines(bottleneck_of(truth, predictions))))
    return 0
