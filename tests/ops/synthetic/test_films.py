"""What a film shows, and that its ground truth is exactly that."""

from dataclasses import replace

import numpy as np
import pytest

from ops.synthetic.actions import LABELS, PAIRS, REVERSE_OF, Track
from ops.synthetic.dataset import FiguresSize, world_of
from ops.synthetic.films import SCENE_ACTIONS, scene_film, trimmed_film, untrimmed_film
from ops.synthetic.render import canvas_of, frame, truth
from ops.synthetic.skeleton import PARTS, make_looks
from ops.synthetic.stage import shapes
from ops.synthetic.states import STATES, part_states


@pytest.fixture(scope="module")
def world():
    return world_of(FiguresSize(width=96, height=72, clip_frames=16), seed=3)


def _pixels(film):
    return np.stack([frame(stage, t) for stage, t in film.frames])


def test_a_film_depends_on_its_place_alone(world):
    again = world_of(FiguresSize(width=96, height=72, clip_frames=16), seed=3)
    untrimmed_film(again, "train", 0)
    assert np.array_equal(
        _pixels(trimmed_film(world, "train", 5)), _pixels(trimmed_film(again, "train", 5))
    )
    other = world_of(FiguresSize(width=96, height=72, clip_frames=16), seed=4)
    assert not np.array_equal(
        _pixels(trimmed_film(world, "train", 5))[0], _pixels(trimmed_film(other, "train", 5))[0]
    )


@pytest.mark.parametrize("pair", PAIRS)
def test_validation_pairs_are_the_same_clip_backwards(world, pair):
    first, second = (trimmed_film(world, "val", 10 + LABELS.index(label)) for label in pair)
    assert (first.label, second.label) == pair
    assert np.array_equal(_pixels(first), _pixels(second)[::-1])
    assert first.looks == second.looks and first.coding == second.coding


def test_training_pairs_run_the_same_program_in_opposite_ways(world):
    for index in range(30):
        film = trimmed_film(world, "train", index)
        times = [t for _, t in film.frames]
        assert times == sorted(times, reverse=film.label in REVERSE_OF)
        assert abs(len(times) - 16) <= 2


def test_an_order_blind_feature_does_not_tell_a_pair_apart(world):
    """Mean and standard deviation over time of the pixels are equal for the two members of a
    validation pair.
    """
    for first, second in PAIRS:
        a, b = (
            _pixels(trimmed_film(world, "val", LABELS.index(label))).astype(float)
            for label in (first, second)
        )
        assert np.allclose(a.mean(0), b.mean(0)) and np.allclose(a.std(0), b.std(0))


@pytest.mark.parametrize("label", ["walk", "wave", "jump", "kick"])
def test_a_person_box_is_the_extent_of_the_pixels_that_the_person_changes(world, label):
    film = trimmed_film(world, "train", LABELS.index(label))
    for stage, t in film.frames[::5]:
        person = next(figure for figure in stage.figures if figure.annotated)
        alone = replace(stage, figures=(person,), occluders=())
        changed = np.any(
            np.asarray(canvas_of(alone, t)) != np.asarray(canvas_of(replace(alone, figures=()), t)),
            axis=2,
        )
        rows, columns = np.flatnonzero(changed.any(1)), np.flatnonzero(changed.any(0))
        (found,) = truth(alone, t)
        assert found.whole.box == (
            columns[0] / 2,
            rows[0] / 2,
            (columns[-1] + 1) / 2,
            (rows[-1] + 1) / 2,
        )


def test_part_boxes_are_the_extent_of_their_geometry_within_the_image(world):
    for index in range(10):
        film = trimmed_film(world, "train", index)
        for stage, t in film.frames[::6]:
            view = stage.camera.view(t)
            for person in truth(stage, t):
                assert set(person.parts) <= set(PARTS)
                figure = stage.figures[person.person]
                for shape in shapes(figure, view, t):
                    if shape.name not in person.parts:
                        continue
                    blobs = [blob for layer in shape.layers for blob in layer.blobs]
                    left = min(min(b[0] - b[2], b[3] - b[5]) for b in blobs) / 2
                    bottom = max(max(b[1] + b[2], b[4] + b[5]) for b in blobs) / 2
                    x1, y1, x2, y2 = person.parts[shape.name].box
                    # The outline adds about a pixel.
                    assert 0 <= x1 < x2 <= world.width and 0 <= y1 < y2 <= world.height
                    assert abs(x1 - max(0, left)) <= 2 and abs(y2 - min(world.height, bottom)) <= 2


def test_an_occluder_hides_parts(world):
    film = next(
        film
        for film in (trimmed_film(world, "train", index) for index in range(400))
        if film.frames[0][0].occluders
    )
    shares = [
        part.visible
        for stage, t in film.frames
        for person in truth(stage, t)
        for part in person.parts.values()
    ]
    bare = [
        part.visible
        for stage, t in film.frames
        for person in truth(replace(stage, occluders=()), t)
        for part in person.parts.values()
    ]
    assert sum(shares) < sum(bare) and 0 <= min(shares) and max(shares) <= 1


def test_states_follow_the_motion_that_is_shown(world):
    seen = {}
    for index in range(10):
        film = trimmed_film(world, "val", index)
        verbs = []
        for (stage, t), (_, following) in zip(film.frames, film.frames[1:], strict=False):
            figure = next(figure for figure in stage.figures if figure.annotated)
            verbs.append(
                part_states(
                    figure.state(t),
                    figure.state(following),
                    figure.facing(t),
                    figure.body,
                    1 / world.fps,
                )
            )
        seen[film.label] = {part: {verb[part] for verb in verbs} for part in PARTS}
        assert all(verb in STATES for verb_set in seen[film.label].values() for verb in verb_set)
    assert "lower" in seen["sit_down"]["hip"] and "rise" not in seen["sit_down"]["hip"]
    assert "rise" in seen["stand_up"]["hip"] and "lower" not in seen["stand_up"]["hip"]
    assert "push" in seen["push"]["left_hand"] and "pull" not in seen["push"]["left_hand"]
    assert "pull" in seen["pull"]["left_hand"] and "push" not in seen["pull"]["left_hand"]
    assert "hold" in seen["pick_up"]["right_hand"]
    assert "kick" in seen["kick"]["left_leg"] | seen["kick"]["right_leg"]
    assert "none" in set().union(*seen["walk"].values())


def test_untrimmed_segments_are_whole_and_apart(world):
    film = untrimmed_film(world, "train", 1)
    seconds = len(film.frames) / world.fps
    assert 20 <= seconds <= 62 and len(film.segments) >= 3
    ends = 0.0
    for segment in film.segments:
        assert (
            ends <= segment.start_s < segment.end_s <= seconds + 1 / world.fps
            and segment.label in LABELS
        )
        ends = segment.end_s
    assert sum(end - start for _, start, end in film.segments) < 0.8 * seconds


def test_everybody_in_a_scene_has_one_pose_at_each_key_frame(world):
    for index in range(3):
        film = scene_film(world, "train", index)
        assert 1 <= len(film.acts) <= 4
        for second in range(1, 10):
            for act in film.acts:
                names = act(float(second))
                assert set(names) <= set(SCENE_ACTIONS) and len(set(names)) == len(names)
                assert sum(name in SCENE_ACTIONS[:4] for name in names) == 1


def test_looks_of_the_splits_are_different_people():
    train, val = make_looks(0, "train", 300), make_looks(0, "val", 300)
    assert len({look.clothes() for look in train + val}) == 600
    assert len({look.id for look in train + val}) == 600
    assert not {look.top for look in train} & {look.top for look in val}


def test_a_track_is_constant_outside_its_knots():
    track = Track((1.0, 2.0), (0.0, 4.0))
    assert [track.at(t) for t in (0.0, 1.0, 1.5, 2.0, 9.0)] == [0.0, 0.0, 2.0, 4.0, 4.0]
