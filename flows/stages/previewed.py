"""The held-out clips that a training shows as it goes on (`alignment.preview_every`)."""

from __future__ import annotations

from pydantic import TypeAdapter

from flows.engine.stage import Item
from flows.engine.view import View
from flows.engine.worker import Worker
from flows.stages.judge import unscorable
from flows.stages.poses import found_of, pose_of, posed_clips
from flows.training.previews import CLIPS, Preview
from ipa_core.models.animation import Driving
from ipa_core.records import Digest, PoseSequence, Record
from ipa_core.video import decode_picture, decode_video, fitted


class PreviewedClip(Record):
    clip_id: str
    video: Digest
    reference: Digest
    pose: Digest
    found: Digest | None = None
    """The driving video's own pose, if another person is animated."""
    prompt: str


_CLIPS = TypeAdapter(tuple[PreviewedClip, ...])


def preview_needs(run: View) -> tuple[Digest, ...]:
    """Return the digests that the training reads for its previews: a table of the clips, and the clips' own. They enter
    no key."""
    if not run.config.alignment.preview_every:
        return ()
    held_out = [
        PreviewedClip(
            clip_id=named.clip.clip_id,
            video=named.clip.video,
            reference=named.clip.reference,
            pose=pose_of(pose),
            found=found_of(pose) if named.another else None,
            prompt=named.clip.prompt,
        )
        for named, pose in posed_clips(run)
        if named.clip.split == "held_out" and unscorable(run, pose) is None
    ]
    chosen = tuple(sorted(held_out, key=lambda clip: clip.video)[:CLIPS])
    return (
        run.inputs.put(_CLIPS.dump_json(chosen)),
        *(part for clip in chosen for part in (clip.video, clip.reference, clip.pose, clip.found) if part),
    )


def encoded_previews(item: Item, worker: Worker) -> tuple[Preview, ...]:
    """Encode the clips here, because the training loads no text encoder. The model leaves room for the training."""
    tars = set(item.action.inputs.values())
    tables = [digest for digest in item.needs if digest not in tars][:1]
    if not tables:
        return ()
    from ipa_core.generation.candidates import encode_clip
    from ipa_core.generation.seeds import candidate_seed

    config, objects = worker.config.evaluated, worker.store.objects
    previews = []
    for clip in _CLIPS.validate_json(objects.get(tables[0])):
        pose = PoseSequence.from_bytes(objects.get(clip.pose))
        found = PoseSequence.from_bytes(objects.get(clip.found)) if clip.found else None
        driving = Driving(pose, lambda clip=clip: decode_video(objects.get(clip.video)), found)  # type: ignore[misc]
        model, picture = worker.model(), decode_picture(objects.get(clip.reference))
        reference = fitted(picture, pose.width, pose.height)
        control = model.draw(driving, config.drawing)
        path = worker.scratch / f"preview-{clip.clip_id}.conditioning"
        path.write_bytes(encode_clip(model, control, reference, clip.prompt, config).to_bytes())
        previews.append(
            Preview(clip_id=clip.clip_id, conditioning=path, seed=candidate_seed(clip.video, 0, config.seed))
        )
    worker.make_room()
    return tuple(previews)
