"""Changes that leave a hand as good as it was. The finger network learns to pass over them.

Each function takes frames uint8 RGB ``[T, H, W, 3]`` and a generator, and returns frames of the same shape; the whole
clip is changed alike. ``size`` is the size of the hand in pixels.
"""

from __future__ import annotations

import cv2
import numpy as np

from ipa_core.scoring.corruptions import FINGER_WIDTH, grid, mixed, painted_over, resample, soft, stroke
from ipa_core.video import decode_video, encode_video

Frames = np.ndarray


def changed(frames: Frames, points: np.ndarray, size: float, rng: np.random.Generator, *, strength: float) -> Frames:
    """Apply a random choice of the changes. ``strength`` in [0, 1] scales how often each comes; ``points``: the hand
    ``[T, 21, 2]``, pixels."""
    if rng.random() < 0.5 * strength:
        frames = bent(frames, points, size, rng)
    if rng.random() < 0.3 * strength:
        frames = patched(frames, points, size, rng)
    if rng.random() < 0.7 * strength:
        frames = coloured(frames, rng)
    if rng.random() < 0.5 * strength:
        sigma = max(0.3, rng.uniform(0.2, 1.2) * max(1.0, size / 45))
        frames = np.stack([cv2.GaussianBlur(frame, (0, 0), sigma) for frame in frames])
    if rng.random() < 0.25 * strength:
        frames = smeared(frames, size, rng)
    if rng.random() < 0.3 * strength:
        frames = coarser(frames, rng.uniform(0.5, 0.9))
    if rng.random() < 0.5 * strength:
        noise = rng.normal(0, rng.uniform(1, 7), frames.shape)
        frames = np.clip(frames + noise, 0, 255).astype(np.uint8)
    if rng.random() < 0.4 * strength:
        frames = as_jpeg(frames, int(rng.integers(35, 95)))
    if rng.random() < 0.25 * strength:
        frames = as_h264(frames, int(rng.integers(20, 33)))
    return frames


def bent(frames: Frames, points: np.ndarray, size: float, rng: np.random.Generator) -> Frames:
    """Displace pixels by a smooth field of up to some hundredths of a hand: fingers are a little elsewhere."""
    knots = rng.normal(0, rng.uniform(0.005, 0.03) * size, (2, 4, 4)).astype(np.float32)
    pixels = grid(frames[0])
    result = []
    for frame, hand in zip(frames, points, strict=True):
        place = (((pixels - hand.mean(axis=0)) / (2.4 * size) + 0.5) * 3).astype(np.float32)
        moves = [
            cv2.remap(part, place[..., 0], place[..., 1], cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
            for part in knots
        ]
        result.append(resample(frame, pixels + np.stack(moves, -1)))
    return np.stack(result)


def patched(frames: Frames, points: np.ndarray, size: float, rng: np.random.Generator) -> Frames:
    """Paint over or copy a piece beside the hand as the faults do with fingers: such traces alone are no fault."""
    turn, reach = rng.uniform(0, 2 * np.pi), rng.uniform(0.75, 1.1) * size
    along, length = rng.uniform(0, 2 * np.pi), rng.uniform(0.2, 0.5) * size
    shift = rng.uniform(-0.3, 0.3, 2) * size
    copy = rng.random() < 0.5
    result = []
    for frame, hand in zip(frames, points, strict=True):
        start = hand.mean(axis=0) + reach * np.array([np.cos(turn), np.sin(turn)])
        end = start + length * np.array([np.cos(along), np.sin(along)])
        mask, fingers = np.zeros((2, *frame.shape[:2]), np.uint8)
        stroke(mask, np.stack([start, end]), FINGER_WIDTH * 1.4 * size)
        cv2.fillConvexPoly(fingers, cv2.convexHull(np.round(hand).astype(np.int32)), 255)
        stroke(fingers, hand[[4, 8, 12, 16, 20]], 0.35 * size)
        mask[fingers > 0] = 0
        if copy:
            move = np.column_stack([np.eye(2), shift])
            other = cv2.warpAffine(frame, move, frame.shape[1::-1], borderMode=cv2.BORDER_REPLICATE)
            result.append(mixed(frame, other, soft(mask, 0.02 * size)))
        else:
            result.append(painted_over(frame, mask))
    return np.stack(result)


def coloured(frames: Frames, rng: np.random.Generator) -> Frames:
    """Change gamma, white balance, brightness, contrast and saturation."""
    seen = (frames / 255.0).astype(np.float32) ** rng.uniform(0.65, 1.5)
    seen = seen * rng.uniform(0.85, 1.15, 3).astype(np.float32) + rng.uniform(-0.08, 0.08)
    middle = seen.mean(axis=(0, 1, 2))
    seen = middle + rng.uniform(0.75, 1.3) * (seen - middle)
    grey = seen.mean(axis=3, keepdims=True)
    seen = grey + rng.uniform(0.6, 1.4) * (seen - grey)
    return np.asarray((np.clip(seen, 0, 1) * 255).round().astype(np.uint8))


def smeared(frames: Frames, size: float, rng: np.random.Generator) -> Frames:
    """Blur by motion, up to an eighth of the hand."""
    length = max(3, round(size * rng.uniform(0.03, 0.13)) | 1)
    turn = cv2.getRotationMatrix2D(((length - 1) / 2, (length - 1) / 2), float(rng.uniform(0, 180)), 1.0)
    line = np.zeros((length, length), np.float32)
    line[length // 2] = 1
    kernel = cv2.warpAffine(line, turn, (length, length))
    return np.stack([cv2.filter2D(frame, -1, kernel / kernel.sum()) for frame in frames])


def coarser(frames: Frames, share: float) -> Frames:
    """Shrink and enlarge again."""
    height, width = frames.shape[1:3]
    small = max(8, round(width * share)), max(8, round(height * share))
    return np.stack(
        [
            cv2.resize(cv2.resize(frame, small, interpolation=cv2.INTER_AREA), (width, height), None, 0, 0, 1)
            for frame in frames
        ]
    )


def as_jpeg(frames: Frames, quality: int) -> Frames:
    """Encode and decode each frame as JPEG."""
    result = []
    for frame in frames:
        _, data = cv2.imencode(".jpg", frame[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
        result.append(np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR))[..., ::-1])
    return np.stack(result)


def as_h264(frames: Frames, crf: int) -> Frames:
    """Encode and decode the clip as H.264."""
    height, width = frames.shape[1:3]
    even = np.pad(frames, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    return decode_video(encode_video(even, 8.0, crf=crf))[:, :height, :width]


def texture(shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Draw a picture of nothing, uint8 ``[H, W, 3]``: spots in several coarsenesses, stripes and edges."""
    height, width = shape
    picture = np.tile(rng.uniform(20, 235, 3), (height, width, 1)).astype(np.float32)
    for cells in (3, 7, 19, 48):
        spots = rng.normal(0, rng.uniform(2, 38), (cells, cells, 3)).astype(np.float32)
        if rng.random() < 0.5:
            spots[...] = spots.mean(axis=2, keepdims=True)
        picture += cv2.resize(spots, (width, height), interpolation=cv2.INTER_CUBIC if cells < 40 else cv2.INTER_LINEAR)
    for _ in range(int(rng.integers(0, 7))):
        corners = rng.uniform(-0.2, 1.2, (int(rng.integers(3, 6)), 2)) * (width, height)
        cv2.fillPoly(picture, [corners.astype(np.int32)], rng.uniform(0, 255, 3).tolist(), cv2.LINE_AA)
    return np.asarray(np.clip(picture, 0, 255).astype(np.uint8))


def covered(clips: list[Frames], hands: list[np.ndarray], size: float, rng: np.random.Generator) -> list[Frames]:
    """Put one object, of a texture of its own, over a part of the same hand in each of the clips."""
    reach = rng.uniform(0.2, 0.65) * size
    turn, narrow = rng.uniform(0, 2 * np.pi), rng.uniform(0.15, 1.0)
    away = rng.normal(0, 0.35 * size, 2)
    height, width = clips[0].shape[1:3]
    thing = texture((height, width), rng)
    result = []
    for clip, hand in zip(clips, hands, strict=True):
        shown = []
        for frame, points in zip(clip, hand, strict=True):
            mask = np.zeros((height, width), np.uint8)
            x, y = points.mean(axis=0) + away
            cv2.ellipse(mask, ((float(x), float(y)), (2 * reach, 2 * reach * narrow), np.degrees(turn)), 255, -1)
            shown.append(mixed(frame, thing, soft(mask, 0.6)))
        result.append(np.stack(shown))
    return result


def ringed(frames: Frames, points: np.ndarray, size: float, rng: np.random.Generator) -> Frames:
    """Put a ring on a finger."""
    finger = int(rng.integers(2, 5))
    colour = rng.uniform(60, 255, 3)
    place, width = rng.uniform(0.45, 0.8), rng.uniform(0.03, 0.06) * size
    result = []
    for frame, hand in zip(frames, points, strict=True):
        base, joint = hand[4 * finger + 1], hand[4 * finger + 2]
        along = (joint - base) / max(float(np.hypot(*(joint - base))), 1e-6)
        middle = base + place * (joint - base)
        side = np.array([-along[1], along[0]]) * FINGER_WIDTH * 0.5 * size
        mask = np.zeros(frame.shape[:2], np.uint8)
        stroke(mask, np.stack([middle - side, middle + side]), width)
        result.append(mixed(frame, np.broadcast_to(colour, frame.shape), soft(mask, 0.6)))
    return np.stack(result)
