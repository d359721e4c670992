"""Which frames of a clip a model sees: pure functions from a frame count to frame indices.

Both rules are those of the original TSN and I3D-style samplers, in which a clip is a number of snippets of `clip_len` frames,
`frame_interval` apart. Training moves every snippet at random; testing places them by a fixed rule. An index beyond the end
of the video starts again from its beginning.
"""

from __future__ import annotations

import numpy as np

from configs.schema import ConfigError, Sampling


def random_indices(sampling: Sampling, num_frames: int, rng: np.random.Generator) -> np.ndarray:
    """Frame indices of one random clip: int64 [T], snippet by snippet.

    Every snippet starts at random within its own share of the video; short videos fall back to sorted random starts, then to
    evenly spaced ones. Raises ConfigError for a dense sampling of several segments, ValueError for an empty video.
    """
    _check(sampling, num_frames)
    snippets = sampling.num_segments
    room = num_frames - sampling.clip_len * sampling.frame_interval + 1
    share = room // snippets
    if share > 0:
        starts = np.arange(snippets) * share + rng.integers(share, size=snippets)
    elif num_frames > max(snippets, sampling.clip_len * sampling.frame_interval):
        starts = np.sort(rng.integers(room, size=snippets))
    elif share == 0:
        starts = np.around(np.arange(snippets) * (room / snippets)).astype(np.int64)
    else:
        starts = np.zeros(snippets, np.int64)
    return _expand(starts, sampling, num_frames)


def fixed_indices(sampling: Sampling, num_frames: int, num_clips: int = 1) -> np.ndarray:
    """Frame indices of the fixed test views: int64 [num_clips, T].

    Snippets of one frame stand in the middle of equal shares of the video; the second view takes the start of each share
    (the originals' "twice sample"), further views lie in between. Longer snippets are spread from the first possible start
    to the last, rounding half to even; a single one is centred. Raises as `random_indices`.
    """
    _check(sampling, num_frames)
    snippets = sampling.num_segments
    if sampling.clip_len == 1:
        share = num_frames / snippets
        shift = np.mod(0.5 - np.arange(num_clips) / num_clips, 1.0)
        starts = np.arange(snippets) * share + shift[:, None] * share
    else:
        total = snippets * num_clips
        last = max(num_frames - ((sampling.clip_len - 1) * sampling.frame_interval + 1), 0)
        spread = np.round(np.arange(total) * (last / (total - 1))) if total > 1 else np.array([last // 2])
        starts = spread.reshape(snippets, num_clips).T
    return np.stack([_expand(row.astype(np.int64), sampling, num_frames) for row in starts])


def _expand(starts: np.ndarray, sampling: Sampling, num_frames: int) -> np.ndarray:
    """Starts [S] to frame indices [S * clip_len], modulo the length of the video."""
    within = np.arange(sampling.clip_len) * sampling.frame_interval
    return np.mod(starts[:, None] + within, num_frames).reshape(-1).astype(np.int64)


def _check(sampling: Sampling, num_frames: int) -> None:
    if sampling.kind == "dense" and sampling.num_segments != 1:
        raise ConfigError("recipe", "sampling.num_segments", sampling.num_segments, "1 with kind 'dense'")
    if num_frames < 1:
        raise ValueError(f"a clip needs at least one frame, found {num_frames}")
