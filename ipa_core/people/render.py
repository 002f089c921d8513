"""Renders a clip of a gesturing performer, with exact keypoints and hand masks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from ipa_core import keypoints as kp
from ipa_core.people.body import BodyModel, DressedBody, PosedBody, body_model
from ipa_core.people.motion import gesture
from ipa_core.people.performers import Performer
from ipa_core.people.raster import rasterise, shade, vertex_normals

CAMERA_DISTANCE = 1.45
FRAME_HEIGHT = 0.60
"""Metres that the picture shows at the body's distance. Hands are then 25-40 pixels of 96."""
SUPERSAMPLING = 2
HIDDEN_CONFIDENCE = 0.5
"""Confidence of points in the picture that something hides. Visible points have 1, all others 0."""

_SHADOW_SIZE = 384
_SHADOW_SPAN = 1.5  # metres
_LIGHT_HEIGHT = 10.0  # any offset that keeps nearness to the light positive
_AMBIENT, _KEY = 0.55, 0.85
# Metres below the visible surface at which a point still counts as seen, because joints are inside the flesh.
_BODY_DEPTH, _HAND_DEPTH = 0.16, 0.03
_ATTEMPTS = 200


@dataclass(frozen=True, eq=False)
class RenderedClip:
    """frames: uint8 RGB ``[T, H, W, 3]``. keypoints: float32 ``[T, 133, 2]``, pixels, in COCO-WholeBody order, also
    those outside the picture (feet and face points are 0, 0). confidence: float32 ``[T, 133]``: 1 visible,
    HIDDEN_CONFIDENCE behind something, 0 outside or unknown. hand_mask: bool ``[T, H, W]``."""

    frames: np.ndarray
    keypoints: np.ndarray
    confidence: np.ndarray
    hand_mask: np.ndarray


@dataclass(frozen=True, eq=False)
class Camera:
    """A pinhole camera that looks along +Y (at the person's front). size: pixels of the square picture. A ``zoom``
    above 1 shows less of the scene, around ``centre``: x and y in pictures of the unzoomed camera, 0 in the middle."""

    position: np.ndarray
    size: int
    zoom: float = 1.0
    centre: tuple[float, float] = (0.0, 0.0)

    def project(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Project world points ``[..., 3]`` to pixels ``[..., 2]`` and depth ``[...]`` in metres."""
        relative = points - self.position
        depth = relative[..., 1]
        scale = self.size * -self.position[1] / FRAME_HEIGHT / depth * self.zoom
        across, down = relative[..., 0] * scale, -relative[..., 2] * scale
        away = np.asarray(self.centre) * (self.zoom * self.size)
        return np.stack([across, down], axis=-1) - away + self.size / 2, depth


def render_clip(
    performer: Performer,
    *,
    seed: int,
    size: int,
    frames: int,
    fps: float,
    distance: float = CAMERA_DISTANCE,
    height: float = FRAME_HEIGHT,
    change: Callable[[BodyModel, PosedBody], PosedBody] | None = None,
) -> RenderedClip:
    """Render a clip that follows from the arguments alone. Draws gestures until both hands stay in the picture.
    ``distance`` (of the camera) and ``height`` (of what the picture shows) are metres. ``change`` spoils the posed body
    before it is drawn. Raises ``RuntimeError`` when none of 200 gestures does."""
    model = body_model()
    body = dressed(model, performer)
    camera = Camera(camera_position(model, body, distance), size, FRAME_HEIGHT / height)
    times = np.arange(frames) / fps
    rng = np.random.default_rng(seed)
    for _ in range(_ATTEMPTS):
        posed = model.pose(body, gesture(model, body, rng, times))
        if _hands_inside(posed, camera):
            posed = posed if change is None else change(model, posed)
            return _render(model, body, posed, camera, backdrop(performer, size))
    raise RuntimeError(
        f"seed {seed}: no gesture of {performer.name} out of {_ATTEMPTS} keeps both hands in the picture"
    )


def backdrop(performer: Performer, size: int) -> np.ndarray:
    """Return linear RGB ``[H, W, 3]``, supersampled: a diagonal gradient between the performer's two colours."""
    steps = np.linspace(0, 1, size * SUPERSAMPLING, dtype=np.float32)
    share = ((steps[:, None] + steps[None, :]) / 2)[..., None]
    first, last = (np.asarray(colour, np.float32) ** 2.2 for colour in performer.backdrop)
    return np.ascontiguousarray(first * (1 - share) + last * share)


@lru_cache(maxsize=16)
def dressed(model: BodyModel, performer: Performer) -> DressedBody:
    return model.dress(performer)


def camera_position(model: BodyModel, body: DressedBody, distance: float = CAMERA_DISTANCE) -> np.ndarray:
    neck = body.bones[model.bone_index["neck01"], 2]
    return np.array([0.0, -distance, neck - 0.03])


def _hands_inside(posed: PosedBody, camera: Camera) -> bool:
    for part in kp.HANDS.values():
        pixels, _ = camera.project(posed.keypoints[:, part])
        if pixels.min() < 0.01 * camera.size or pixels.max() > 0.98 * camera.size:
            return False
    return True


def _render(
    model: BodyModel, body: DressedBody, posed: PosedBody, camera: Camera, background: np.ndarray
) -> RenderedClip:
    pictures, masks, confidences = [], [], []
    pixels, depth = camera.project(posed.keypoints)
    for frame, vertices in enumerate(posed.vertices):
        picture, hand_mask, surface_depth = render_frame(model, body, vertices, camera, background)
        pictures.append(picture)
        masks.append(hand_mask)
        confidences.append(_confidence(pixels[frame], depth[frame], surface_depth))
    confidence = np.stack(confidences)
    points = np.nan_to_num(pixels).astype(np.float32)
    return RenderedClip(np.stack(pictures), points, confidence, np.stack(masks))


def render_frame(
    model: BodyModel, body: DressedBody, skin: np.ndarray, camera: Camera, background: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return picture uint8 ``[H, W, 3]``, hand mask bool ``[H, W]`` and depth ``[H, W]`` in metres (inf: backdrop)."""
    side = camera.size * SUPERSAMPLING
    outward = vertex_normals(skin, model.faces)
    vertices = (skin + outward * body.thickness[:, None]).astype(np.float32)
    normals = vertex_normals(vertices, model.faces)

    pixels, depth = camera.project(vertices)
    near = np.where(depth > 0.05, 1 / np.maximum(depth, 0.05), 0).astype(np.float32)
    points = np.ascontiguousarray(pixels * SUPERSAMPLING, np.float32)
    nearest, face_at, weights = rasterise(points, near, model.faces, side, side)

    axes, scale, shadow = _shadow(model, vertices, camera)
    surface = np.ascontiguousarray(np.concatenate([normals, vertices, body.colours], axis=1), np.float32)
    picture = background.copy()
    shade(
        picture,
        face_at,
        weights,
        model.faces,
        surface,
        camera.position.astype(np.float32),
        axes,
        scale,
        shadow,
        _AMBIENT,
        _KEY,
    )
    inside = face_at >= 0
    depth_map = np.where(inside, 1 / np.maximum(nearest, 1e-6), np.inf).astype(np.float32)
    picture *= _crevices(depth_map, inside, camera.zoom)[..., None]
    small = cv2.resize(picture, (camera.size, camera.size), interpolation=cv2.INTER_AREA)
    shown = (np.clip(small, 0, 1) ** (1 / 2.2) * 255 + 0.5).astype(np.uint8)

    hand_face = np.logical_or(*model.hand_faces.values())
    shows_hand = np.where(inside, hand_face[face_at], False)
    # With an even supersampling no sample lies on a pixel's centre, so half of its samples decide.
    share = shows_hand.reshape(camera.size, SUPERSAMPLING, camera.size, SUPERSAMPLING).mean(axis=(1, 3))
    nearest_depth = depth_map.reshape(camera.size, SUPERSAMPLING, camera.size, SUPERSAMPLING).min(axis=(1, 3))
    return shown, share >= 0.5, nearest_depth


def _shadow(model: BodyModel, vertices: np.ndarray, camera: Camera) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the light's axes ``[3, 3]``, their map to the shadow buffer (see :func:`shade`), and the buffer."""
    towards = np.array([0.35, -0.85, 0.75])
    towards /= np.linalg.norm(towards)
    right = np.cross(towards, [0, 0, 1.0])
    right /= np.linalg.norm(right)
    axes = np.stack([right, np.cross(right, towards), towards]).astype(np.float32)
    centre = axes @ np.array([0.0, -0.15, camera.position[2]], np.float32)
    per_metre = _SHADOW_SIZE / _SHADOW_SPAN
    offset = _SHADOW_SIZE / 2 - centre[:2] * per_metre
    scale = np.array([per_metre, offset[0], offset[1], _LIGHT_HEIGHT - centre[2]], np.float32)
    seen = vertices @ axes.T
    points = np.ascontiguousarray(seen[:, :2] * per_metre + offset, np.float32)
    heights = (seen[:, 2] + scale[3]).astype(np.float32)
    shadow, _, _ = rasterise(points, heights, model.faces, _SHADOW_SIZE, _SHADOW_SIZE)
    return axes, scale, shadow


def _crevices(depth: np.ndarray, inside: np.ndarray, zoom: float) -> np.ndarray:
    """Return ``[H, W]`` in [0.45, 1]: points behind their surroundings get darker, so overlapping fingers differ."""
    if not inside.any():
        return np.ones(depth.shape, np.float32)
    filled = np.where(inside, depth, depth[inside].max() + 0.25)
    width = int(len(depth) / 30 * zoom) | 1
    behind = np.minimum(cv2.blur(filled, (width, width)) - filled, 0)
    return np.where(inside, np.clip(1 + 9 * behind, 0.45, 1), 1).astype(np.float32)


def _confidence(pixels: np.ndarray, depth: np.ndarray, surface_depth: np.ndarray) -> np.ndarray:
    """Return float32 ``[133]``: 1 for visible keypoints, HIDDEN_CONFIDENCE behind something, 0 outside or unknown."""
    size = len(surface_depth)
    with np.errstate(invalid="ignore"):  # NaN: the skeleton has no such point
        inside = np.all((pixels >= 0) & (pixels < size), axis=-1)
    column, row = np.where(inside[:, None], pixels, 0).astype(int).T
    allowed = np.full(len(depth), _BODY_DEPTH)
    for part in kp.HANDS.values():
        allowed[part] = _HAND_DEPTH
    seen = inside & (np.nan_to_num(depth) - allowed < surface_depth[row, column])
    return np.where(seen, 1.0, np.where(inside, HIDDEN_CONFIDENCE, 0.0)).astype(np.float32)
