"""One decoder's frames of one video on their way into the store, and the other decoder's verdict on
them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ops.compute.pool import Stderr
from ops.media.cross_check import (
    CrossCheck,
    Disagreement,
    Sample,
    cross_check,
    first_difference,
    sample_of,
)
from ops.media.damage import Ear, damage_in, outspoken
from ops.media.decode import attributes, decode, mean_fps
from ops.media.decoding import DecodeError, Decoding
from ops.media.probe import Facts
from ops.media.store_job import StoreJob
from ops.media.witness import contradiction, tee
from ops.store.frames import write_frames


class CrossCheckFailed(Disagreement):
    """PyAV does not confirm what decord gave: a whole decode by PyAV decides. Holds decord's sample
    for that.
    """

    def __init__(self, wrong: str, sample: Sample) -> None:
        super().__init__(wrong)
        self.sample = sample


class Damage(DecodeError):
    """A decoder has written of damage while it gave out pictures as sound: no other decoder may
    overrule that.
    """


class Recording:
    """Stores a video with one decoder. `before` is why the decoder before this one was given up,
    None for the first.
    """

    def __init__(
        self,
        path: Path,
        facts: Facts,
        decoder: str,
        job: StoreJob,
        errors: Stderr,
        before: DecodeError | None,
    ) -> None:
        self.path, self.facts, self.decoder, self.job, self.errors, self.before = (
            path,
            facts,
            decoder,
            job,
            errors,
            before,
        )
        self.sample = (
            Sample(before.sample.places)
            if isinstance(before, CrossCheckFailed)
            else sample_of(facts, decoder)
        )
        self.verdict = CrossCheck("")
        self.sums: list[int] = []  # of the stored frames

    def run(self) -> dict[str, Any]:
        """The ledger's fields. Raises DecodeError; nothing is left in the store then."""
        job, short_side, ear = self.job, self.job.frames.short_side, Ear(self.errors.size)

        def about() -> dict[str, Any]:
            self._check_damage(ear)
            self._ask_witness()
            self.verdict = self._judge(decoding)
            own = attributes(self.facts, decoding, job.frames, job.source_uri, job.sha256)
            return {**own, "audit": self.verdict.attribute()}

        with outspoken():
            decoding = decode(
                self.path, self.facts, self.decoder, job.threads, short_side=short_side, ear=ear
            )
            stored = write_frames(
                job.array_uri, tee(self.sample.tee(decoding.pieces), self.sums), job.frames, about
            )
        return {
            "num_frames": stored.num_frames,
            "height": stored.height,
            "width": stored.width,
            "fps": mean_fps(self.facts, decoding.timestamps_s),
            "status": "ok",
            "reason": "",
            "decoder": decoding.decoder,
            "decoder_version": decoding.decoder_version,
            "audit": self.verdict.text,
            "bytes": stored.bytes,
        }

    def _check_damage(self, ear: Ear) -> None:
        """Decoders conceal damaged pictures; what their FFmpeg wrote meanwhile is the only sign.
        Raises Damage.
        """
        if damage := damage_in(self.errors.text(ear.begin), self.facts.container, self.facts.reach):
            raise Damage(f"corrupt: {self.decoder} reports damage ({damage})")
        if isinstance(self.before, Damage):
            raise self.before

    def _ask_witness(self) -> None:
        """A stricter decode, where there is one, says what these decoders pass over. Raises
        Damage.
        """
        said = self.errors.size()
        word = contradiction(self.path, self.facts, self.sums, self.job.frames.short_side)
        # FFmpeg speaks of the lost beginning as it opens the file
        log = "" if self.facts.begins_inside else self.errors.text(said)
        if damage := damage_in(log, self.facts.container, self.facts.reach) or word:
            raise Damage(f"corrupt: a stricter decode finds damage ({damage})")

    def _judge(self, decoding: Decoding) -> CrossCheck:
        """The verdict to store. Raises CrossCheckFailed where PyAV shows other frames than
        decord.
        """
        if isinstance(self.before, CrossCheckFailed):
            wrong = first_difference(self.before.sample.kept, self.sample.kept)
            if not wrong and decoding.num_frames == self.facts.num_frames:
                return CrossCheck("ok: full", "decord", tuple(sorted(self.sample.kept)))
            return CrossCheck(
                f"corrected: decord gave {wrong or self.before}, pyav stored",
                "decord",
                tuple(sorted(self.sample.kept)),
            )
        if self.before is not None:
            return CrossCheck(f"unconfirmed: {self.before}")
        verdict = cross_check(
            self.path, self.facts, decoding, self.sample, self.job.frames.short_side
        )
        if verdict.wrong and self.decoder == "decord":
            raise CrossCheckFailed(verdict.wrong, self.sample)
        return verdict
