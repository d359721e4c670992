"""Which frames of a clip a model sees: pure functions from a frame count to frame indices.

Every rule is that of the original code of the family that published it, down to its roundings
(`np.round` rounds half to even, a cast cuts towards zero) and its ends (`high` of a draw is
excluded). A clip is a number of snippets of `clip_len` frames, `frame_interval` apart; training
places them at random, testing by a fixed rule. Indices count from the clip's own first frame: a
clip inside a longer video, or on a clock, is a list of frames (`ops.data.timeline`) that these
indices choose from.
"""

from __future__ import annotations

import numpy as np

from configs.schema import ConfigError, Sampling

ONE_SNIPPET = ("dense", "uniform", "key_frame", "sliding")


def random_indices(
    sampling: Sampling, num_frames: int, rng: np.random.Generator, *, key_frame: int | None = None
) -> np.ndarray:
    """Frame indices of one random clip: int64 [T], snippet by snippet.

    Args:
        sampling: kind and size of the clip.
        num_frames: of the video, or of the place in it that is sampled.
        rng: draws the places; a key frame's clip has nothing random in it.
        key_frame: index of the key frame; only that kind takes one.

    Raises:
        ConfigError: the sampling contradicts itself.
        ValueError: an empty clip, or a key frame outside of it.
    """
    _check_clip(sampling, num_frames, key_frame)
    if sampling.kind == "uniform":
        # clip_len + 1 edges of equal shares of the clip; one frame is drawn from each share.
        edges = np.round(
            _uniform_share(sampling, num_frames) * np.arange(sampling.clip_len + 1)
        ).astype(np.int64)
        # both edges may be drawn, so that neighbours may share one
        return rng.integers(edges[:-1], edges[1:] + 1)
    if key_frame is not None:
        return _around(sampling, num_frames, key_frame)
    if sampling.kind == "pan":
        return _consecutive(
            _random_pan_starts(sampling, num_frames, rng), sampling, num_frames
        ).reshape(-1)
    if sampling.kind == "dense_sample":
        # Where a window of `sample_range` frames may begin; the original's draw never takes the
        # last of them.
        positions = max(1, 1 + num_frames - sampling.sample_range)
        start = 0 if positions == 1 else int(rng.integers(positions - 1))
        starts = _window_starts(sampling, np.array([start]), num_frames)[0]
    elif sampling.kind == "sliding":
        starts = rng.choice(_sliding_starts(sampling, num_frames), 1)
    else:
        starts = _random_starts(sampling, num_frames, rng)
    return _expand(starts, sampling, num_frames).reshape(-1)


def fixed_indices(
    sampling: Sampling,
    num_frames: int,
    num_clips: int = 1,
    twice: bool = False,
    *,
    key_frame: int | None = None,
) -> np.ndarray:
    """Frame indices of the fixed test views: int64 [V, T]; V = `num_fixed` views in time, windows
    for `sliding`.

    segments of single frames stand in the middle of equal shares of the clip; a second view takes
    the start of each share, more views lie in between. Longer snippets are spread from the first
    possible start to the last; a single one is centred.

    Args:
        sampling: kind and size of the clip.
        num_frames: of the video, or of the place in it that is sampled.
        num_clips: views in time, where the kind leaves their number open.
        twice: segments of single frames have a second view, as with `num_clips` 2; longer snippets
            go on at the same distance, beyond the end.
        key_frame: index of the key frame; only that kind takes one.

    Raises:
        ConfigError: the sampling contradicts itself, or the views.
        ValueError: an empty clip, or a key frame outside of it.
    """
    check_sampling(sampling, num_clips, twice)
    _check_clip(sampling, num_frames, key_frame)
    if sampling.kind == "uniform":
        share = _uniform_share(sampling, num_frames)
        starts = np.round(share * np.arange(sampling.clip_len)).astype(np.int64)
        # [clips, 1] + [T]: clip i stands (i + 1) / (clips + 1) of a share behind the share's start.
        return (
            starts
            + (share / (num_clips + 1) * np.arange(1, num_clips + 1)).astype(np.int64)[:, None]
        )
    if key_frame is not None:
        return _around(sampling, num_frames, key_frame)[None]
    if sampling.kind == "pan":
        return np.stack(
            [
                _consecutive(row, sampling, num_frames).reshape(-1)
                for row in _fixed_pan_starts(sampling, num_frames, twice)
            ]
        )
    if sampling.kind == "dense_sample":
        # First frames of the windows, spread from the clip's start to the last place where one
        # fits.
        last = max(1, 1 + num_frames - sampling.sample_range) - 1
        # not in the originals, whose single window would be the first
        one = sampling.num_positions == 1
        firsts = (
            np.array([last // 2])
            if one
            else np.linspace(0, last, sampling.num_positions, dtype=np.int64)
        )
        starts = _window_starts(sampling, firsts, num_frames)
    elif sampling.kind == "sliding":
        starts = _sliding_starts(sampling, num_frames)[:, None]
    else:
        starts = _fixed_starts(sampling, num_frames, num_clips, twice)
    return np.stack([_expand(row, sampling, num_frames).reshape(-1) for row in starts])


def num_fixed(sampling: Sampling, num_clips: int = 1, twice: bool = False) -> int:
    """How many views in time `fixed_indices` makes. Raises ConfigError, also for `sliding`: its
    number depends on the clip.
    """
    check_sampling(sampling, num_clips, twice)
    if sampling.kind == "sliding":
        raise ConfigError(
            "recipe",
            "sampling.kind",
            "sliding",
            "a kind whose number of views is the same for every clip",
        )
    return (
        sampling.num_positions
        if sampling.kind == "dense_sample"
        else num_clips * (2 if twice else 1)
    )


def check_sampling(sampling: Sampling, num_clips: int = 1, twice: bool = False) -> None:
    """Raise ConfigError where kind, snippets and views do not belong together."""
    kind = sampling.kind
    if kind in ONE_SNIPPET and sampling.num_segments != 1:
        other = (
            "; frames spread over a window are of kind 'dense_sample'" if kind == "dense" else ""
        )
        raise ConfigError(
            "recipe", "sampling.num_segments", sampling.num_segments, f"1 with kind '{kind}'{other}"
        )
    if kind == "dense_sample" and sampling.sample_range < sampling.num_segments:
        raise ConfigError(
            "recipe",
            "sampling.sample_range",
            sampling.sample_range,
            f"at least num_segments = {sampling.num_segments}",
        )
    if kind in ("dense_sample", "pan", "key_frame", "sliding") and num_clips != 1:
        raise ConfigError("recipe", "views.num_clips", num_clips, f"1 with kind '{kind}'")
    if twice and kind not in ("segments", "dense", "pan"):
        raise ConfigError("recipe", "views.twice", True, f"false with kind '{kind}'")
    if twice and kind != "pan":
        one_frame = sampling.clip_len == 1
        if one_frame and num_clips != 1:
            raise ConfigError(
                "recipe",
                "views.num_clips",
                num_clips,
                "1 with views.twice and snippets of one frame",
            )
        if not one_frame and sampling.num_segments * num_clips == 1:
            raise ConfigError(
                "recipe",
                "views.twice",
                True,
                "false with a single snippet: there is no distance to go on at",
            )


# --------------------------------------------------------------------------------------------------
# starts


def _random_starts(sampling: Sampling, num_frames: int, rng: np.random.Generator) -> np.ndarray:
    """One start in each equal share; short clips fall back to sorted random starts, then to evenly
    spaced ones, then to 0.
    """
    # a whole last interval, as in the originals
    snippets, span = sampling.num_segments, sampling.clip_len * sampling.frame_interval
    room = num_frames - span + 1
    if sampling.keep_tail:
        if room <= 0:
            return np.zeros(snippets, np.int64)
        # Shares are real numbers here: the cut towards zero is the only rounding, so that the tail
        # is reached.
        share = room / snippets
        return (np.arange(snippets) * share + rng.uniform(0, share, snippets)).astype(np.int64)
    # Shares in whole frames: up to `snippets` - 1 frames at the end are never a start, as in the
    # originals.
    whole = room // snippets
    if whole > 0:
        return np.arange(snippets) * whole + rng.integers(whole, size=snippets)
    if num_frames > max(snippets, span):
        return np.sort(rng.integers(room, size=snippets))
    if whole == 0:
        return np.around(np.arange(snippets) * (room / snippets)).astype(np.int64)
    return np.zeros(snippets, np.int64)


def _fixed_starts(sampling: Sampling, num_frames: int, num_clips: int, twice: bool) -> np.ndarray:
    """Starts int64 [V, snippets]."""
    snippets = sampling.num_segments
    if sampling.clip_len == 1:
        share, count = num_frames / snippets, 2 if twice else num_clips
        # [V]: view 0 stands in a share's middle (0.5), the next ones evenly around, modulo the
        # share: of two, the second at 0.
        shift = np.mod(0.5 - np.arange(count) / count, 1.0)
        return (np.arange(snippets) * share + shift[:, None] * share).astype(np.int64)
    total = snippets * num_clips
    # The last start whose snippet ends with the clip; 0 where the clip is too short for one.
    last = max(num_frames - ((sampling.clip_len - 1) * sampling.frame_interval + 1), 0)
    if total == 1:
        return np.array([[last // 2]])
    # All starts of all views in one walk; `twice` walks on at the same pace for a second one.
    spread = np.round(np.arange(total * (2 if twice else 1)) * (last / (total - 1))).astype(
        np.int64
    )
    # Each walk [snippets * clips] is dealt out so that a view has every num_clips-th start: [clips,
    # snippets].
    return np.concatenate(
        [part.reshape(snippets, num_clips).T for part in np.split(spread, len(spread) // total)]
    )


def _window_starts(sampling: Sampling, firsts: np.ndarray, num_frames: int) -> np.ndarray:
    """Starts int64 [windows, snippets] of snippets spread over windows of `sample_range` frames."""
    # [windows, 1] + [snippets]: snippets evenly apart in each window; what leaves the clip comes in
    # at its start.
    return (
        firsts[:, None]
        + np.arange(sampling.num_segments) * (sampling.sample_range // sampling.num_segments)
    ) % num_frames


def _sliding_starts(sampling: Sampling, num_frames: int) -> np.ndarray:
    """Starts int64 [windows] of all windows that lie inside the clip; a clip shorter than a window
    has one.
    """
    span = (sampling.clip_len - 1) * sampling.frame_interval + 1
    return np.arange(0, max(num_frames - span, 0) + 1, sampling.stride)


def _random_pan_starts(sampling: Sampling, num_frames: int, rng: np.random.Generator) -> np.ndarray:
    """PAN's training rule, which it has from TSM; a clip of no more frames than segments starts
    every snippet at its first one.
    """
    snippets, room = sampling.num_segments, num_frames - sampling.clip_len + 1
    if room // snippets > 0:
        return np.arange(snippets) * (room // snippets) + rng.integers(
            room // snippets, size=snippets
        )
    if num_frames > snippets and room > 0:
        return np.sort(rng.integers(room, size=snippets))
    return np.zeros(snippets, np.int64)


def _fixed_pan_starts(sampling: Sampling, num_frames: int, twice: bool) -> np.ndarray:
    """Starts int64 [1 or 2, snippets]: the middle of each share, then its start. (The originals'
    are 1 higher: they count from 1.)
    """
    # A share of the possible starts, in frames, not rounded.
    tick = (num_frames - sampling.clip_len + 1) / sampling.num_segments
    base = tick * np.arange(sampling.num_segments)
    return np.maximum(np.stack([tick / 2 + base, base][: 2 if twice else 1]).astype(np.int64), 0)


# --------------------------------------------------------------------------------------------------
# frames


def _expand(starts: np.ndarray, sampling: Sampling, num_frames: int) -> np.ndarray:
    """Starts [S] to frame indices int64 [S, clip_len], with what `beyond_end` says past the last
    frame.
    """
    # [S, 1] + [clip_len]: each snippet's frames, which may lie past the clip's end.
    indices = (
        np.asarray(starts, np.int64)[:, None]
        + np.arange(sampling.clip_len) * sampling.frame_interval
    )
    if sampling.beyond_end == "loop":
        return np.mod(indices, num_frames)
    inside = indices < num_frames
    # the snippet's own last frame, not the clip's
    last = np.where(inside, indices, 0).max(axis=1, keepdims=True)
    return np.where(inside, indices, last)


def _consecutive(starts: np.ndarray, sampling: Sampling, num_frames: int) -> np.ndarray:
    """Starts [S] to the `clip_len` consecutive frames from each, int64 [S, clip_len]; past the end
    the last frame stands still.
    """
    return np.minimum(starts[:, None] + np.arange(sampling.clip_len), num_frames - 1)


def _around(sampling: Sampling, num_frames: int, key_frame: int) -> np.ndarray:
    """`clip_len` frames around a key frame, which is number clip_len // 2 of them; both ends stand
    still (AVA).
    """
    # In frames from the key frame, which has offset 0 at place clip_len // 2.
    offsets = (np.arange(sampling.clip_len) - sampling.clip_len // 2) * sampling.frame_interval
    return np.clip(key_frame + offsets, 0, num_frames - 1)


def _uniform_share(sampling: Sampling, num_frames: int) -> float:
    return (num_frames - 1) / sampling.clip_len


def _check_clip(sampling: Sampling, num_frames: int, key_frame: int | None) -> None:
    check_sampling(sampling)
    if num_frames < 1:
        raise ValueError(f"a clip needs at least one frame, found {num_frames}")
    if (sampling.kind == "key_frame") != (key_frame is not None):
        raise ValueError(
            f"sampling of kind '{sampling.kind}' {'needs a' if key_frame is None else 'has no'} key"
            " frame"
        )
    if key_frame is not None and not 0 <= key_frame < num_frames:
        raise ValueError(f"key frame {key_frame} is outside the {num_frames} frames")
