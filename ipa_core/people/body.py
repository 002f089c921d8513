"""Posable adult bodies: anny's mesh and skeleton, dressed, with COCO-WholeBody keypoints.

anny (code Apache-2.0, assets CC0) uses metres. Z is up, people face -Y, and their left is at +X. A pose is one rotation
per bone about the world's axes in the rest pose, composed along the skeleton.
"""

from __future__ import annotations

import contextlib
import functools
import io
import warnings
from dataclasses import dataclass, replace

import anny
import numpy as np
import torch
from anny.face_segmentation import get_face_segmentation_mask

from ipa_core import keypoints as kp
from ipa_core.people.performers import Colour, Performer
from ipa_core.records import Side

SUFFIX: dict[Side, str] = {"left": "L", "right": "R"}
CLOTH_THICKNESS = 0.007
HAIR_THICKNESS = 0.014
_STUMP, _COLLAPSED = 0.25, 0.9
"""Of a finger that is gone: the place of its stump along its first bone, and how near to it the skin is drawn."""


@dataclass(frozen=True, eq=False)
class DressedBody:
    """A performer in the rest pose. phenotype: anny's shape parameters. bones: float64 ``[J, 3]``, heads of the bones.
    colours: linear RGB float32 ``[V, 3]``. thickness: metres ``[V]`` by which cloth and hair stand off the skin."""

    phenotype: dict[str, float]
    bones: np.ndarray
    colours: np.ndarray
    thickness: np.ndarray


@dataclass(frozen=True, eq=False)
class PosedBody:
    """vertices: float32 ``[T, V, 3]``; keypoints: float64 ``[T, 133, 3]`` (NaN: the skeleton has no such point)."""

    vertices: np.ndarray
    keypoints: np.ndarray


class BodyModel:
    """anny's topology with the parts for dressing and keypoints. Build it through :func:`body_model`."""

    def __init__(self) -> None:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")  # warp reports the missing GPU, on stdout and as warnings
            model = anny.Anny(local_changes="none", facial_actions="all").to(dtype=torch.float32).eval()
        self._model = model
        self._body_keypoints = anny.KeypointsRegressor.coco(model)
        self.bone_index: dict[str, int] = {name: index for index, name in enumerate(model.bone_labels)}
        self.faces = np.ascontiguousarray(model.faces.numpy().astype(np.int32))
        self._bone_indices = model.vertex_bone_indices.numpy()
        self._bone_weights = model.vertex_bone_weights.numpy()
        self.hand_faces: dict[Side, np.ndarray] = {
            side: get_face_segmentation_mask(model, [f"hand.{suffix}"]).numpy() for side, suffix in SUFFIX.items()
        }
        self._head = self._vertices_of(["head"])
        self._mouth = self._vertices_of(["mouth_cavity"])
        self._eyes = {
            side: self._vertices_of([f"eye_front.{suffix}", f"eye_back.{suffix}"]) for side, suffix in SUFFIX.items()
        }
        neutral = dict.fromkeys(model.phenotype_labels, 0.5)
        vertices, bones = self._rest(neutral)
        self._fingertips = {
            (side, finger): self._fingertip(vertices, bones, suffix, finger)
            for side, suffix in SUFFIX.items()
            for finger in range(1, 6)
        }

    def dress(self, performer: Performer) -> DressedBody:
        """Give a performer shape and colours: long sleeves, trousers, hair, brows, eyes, lips."""
        phenotype = dict.fromkeys(self._model.phenotype_labels, 0.5)
        for name in ("gender", "age", "muscle", "weight"):
            phenotype[name] = getattr(performer, name)
        vertices, bones = self._rest(phenotype)
        colours = np.tile(_linear(performer.skin), (len(vertices), 1))

        neck = bones[self.bone_index["neck01"], 2]
        covered = ("spine", "clavicle", "shoulder", "root", "pelvis", "upperarm", "lowerarm")
        below_collar = vertices[:, 2] < neck + 0.02
        shirt = (
            (self._weight_of(*covered) > 0.5) & below_collar & (self._weight_of("wrist", "finger", "metacarpal") < 0.3)
        )
        hip = bones[self.bone_index["upperleg01.L"], 2]
        trousers = (self._weight_of("upperleg", "lowerleg") > 0.4) | (shirt & (vertices[:, 2] < hip + 0.06))
        colours[shirt] = _linear(performer.shirt)
        colours[trousers] = _linear((0.10, 0.11, 0.14))

        hair = self._paint_head(performer, vertices, colours)
        thickness = CLOTH_THICKNESS * (shirt | trousers) + HAIR_THICKNESS * hair
        return DressedBody(phenotype, bones, colours, self._smoothed(thickness))

    def rewear(
        self, body: DressedBody, *, gloves: Colour | None, sleeves: Colour | None, bare_arms: bool
    ) -> DressedBody:
        """Return the body with gloves, sleeves of another colour or bare forearms."""
        colours = body.colours.copy()
        forearm = self._weight_of("lowerarm") > 0.5
        if sleeves is not None:
            colours[(self._weight_of("upperarm", "lowerarm") > 0.5)] = _linear(sleeves)
        if bare_arms:
            skin = body.colours[self.faces[self.hand_faces["left"]]].reshape(-1, 3)
            colours[forearm] = np.median(skin, axis=0)
        if gloves is not None:
            for faces in self.hand_faces.values():
                colours[np.unique(self.faces[faces])] = _linear(gloves)
        return replace(body, colours=colours)

    def pose(self, body: DressedBody, rotations: np.ndarray) -> PosedBody:
        """Pose a body. rotations: float64 ``[T, J, 3, 3]``, one per bone (identity: as in the rest pose)."""
        frames = len(rotations)
        parameters = torch.eye(4).repeat(frames, len(self.bone_index), 1, 1)
        parameters[:, :, :3, :3] = torch.from_numpy(rotations.astype(np.float32))
        phenotype = {name: torch.full((frames,), value) for name, value in body.phenotype.items()}
        with torch.no_grad():
            output = self._model(pose_parameters=parameters, phenotype_kwargs=phenotype)
            coco = self._body_keypoints(output).numpy()[:, kp.BODY]
        vertices = output["vertices"].numpy()
        heads = output["bone_poses"].numpy()[:, :, :3, 3]
        points = np.full((frames, kp.COUNT, 3), np.nan)
        points[:, kp.BODY] = coco
        for side, suffix in SUFFIX.items():
            hand = [heads[:, self.bone_index[f"wrist.{suffix}"]]]
            for finger in range(1, 6):
                hand += [heads[:, self.bone_index[f"finger{finger}-{joint}.{suffix}"]] for joint in (1, 2, 3)]
                hand.append(vertices[:, self._fingertips[side, finger]].mean(axis=1))
            points[:, kp.HANDS[side]] = np.stack(hand, axis=1)
            points[:, kp.WRISTS[side]] = hand[0]
        return PosedBody(vertices, points)

    def without_finger(self, posed: PosedBody, side: Side, finger: int, joint: int) -> PosedBody:
        """Return the body without a finger (0 to 4, thumb to little finger) from the joint on (1: nearest to the palm,
        to 3). A short stump stays. The keypoints stay, so that they say where the finger would be."""
        bones = [f"finger{finger + 1}-{number}.{SUFFIX[side]}" for number in range(joint, 4)]
        points = posed.keypoints[:, kp.HANDS[side]][:, list(kp.FINGERS[finger])]
        stump = points[:, joint - 1] + _STUMP * (points[:, joint] - points[:, joint - 1])
        # The skin between palm and finger belongs to both. It closes the stump.
        share = np.clip(1.5 * self._weight_of(*bones) - 0.25, 0, 1)[:, None]
        moved = posed.vertices + _COLLAPSED * share * (stump[:, None] - posed.vertices)
        return replace(posed, vertices=moved.astype(posed.vertices.dtype))

    def _paint_head(self, performer: Performer, vertices: np.ndarray, colours: np.ndarray) -> np.ndarray:
        """Colour hair, brows, lips and eyes in place. Returns the hair as a boolean ``[V]``."""
        eyes = self._eyes["left"] | self._eyes["right"]
        eye_height, eye_front = vertices[eyes, 2].mean(), vertices[eyes, 1].min()
        crown = vertices[:, 2].max() - eye_height
        up = (vertices[:, 2] - eye_height) / crown  # 0 at the eyes, 1 at the crown
        back = vertices[:, 1] - eye_front  # metres behind the front of the eyes
        cap = (
            (up > 0.62)
            | ((up > -0.15) & (back > 0.085))
            | ((up > 0.1) & (back > 0.055) & (np.abs(vertices[:, 0]) > 0.055))
        )
        if performer.nape_hair:
            cap |= (up > -0.95) & (back > 0.10)
        hair = cap & self._head
        colours[hair] = _linear(performer.hair)
        for index in self._eyes.values():
            centre = vertices[index].mean(axis=0)
            across = (vertices[:, 0] - centre[0]) / 0.021
            above = (vertices[:, 2] - centre[2] - 0.0215 + 0.004 * across**2) / 0.0042
            brow = self._head & (np.abs(across) < 1) & (np.abs(above) < 1) & (back < 0.03)
            colours[brow] = 0.4 * colours[brow] + 0.6 * _linear(performer.hair)
            from_axis = np.hypot(vertices[index, 0] - centre[0], vertices[index, 2] - centre[2])
            colours[index] = np.where(from_axis[:, None] < 0.0058, _linear((0.16, 0.11, 0.08)), 0.75)
        mouth = vertices[self._mouth]
        front = mouth[mouth[:, 1] < np.quantile(mouth[:, 1], 0.25)]
        centre = front.mean(axis=0)
        lips = (
            self._head & (np.abs(vertices[:, 0]) < 0.024) & (np.abs(vertices[:, 2] - centre[2]) < 0.008) & (back < 0.02)
        )
        colours[lips] *= np.array([0.80, 0.50, 0.52], np.float32)
        return hair

    def _rest(self, phenotype: dict[str, float]) -> tuple[np.ndarray, np.ndarray]:
        with torch.no_grad(), contextlib.redirect_stdout(io.StringIO()):
            output = self._model(phenotype_kwargs={name: torch.full((1,), value) for name, value in phenotype.items()})
        return output["vertices"][0].numpy(), output["bone_poses"][0, :, :3, 3].numpy().astype(np.float64)

    def _weight_of(self, *prefixes: str) -> np.ndarray:
        """Return the share ``[V]`` of each vertex's skinning that belongs to the bones with these prefixes."""
        bones = [index for name, index in self.bone_index.items() if name.startswith(prefixes)]
        return (self._bone_weights * np.isin(self._bone_indices, bones)).sum(axis=1)

    def _vertices_of(self, regions: list[str]) -> np.ndarray:
        """Return the boolean mask ``[V]`` of the vertices of anny's named face regions."""
        mask = np.zeros(int(self.faces.max()) + 1, bool)
        mask[self.faces[get_face_segmentation_mask(self._model, regions).numpy()]] = True
        return mask

    def _fingertip(self, vertices: np.ndarray, bones: np.ndarray, suffix: str, finger: int) -> np.ndarray:
        """Return the eight vertices that lie furthest out along the finger's last bone."""
        last = self.bone_index[f"finger{finger}-3.{suffix}"]
        direction = bones[last] - bones[self.bone_index[f"finger{finger}-2.{suffix}"]]
        moved = np.flatnonzero((self._bone_weights * (self._bone_indices == last)).sum(axis=1) > 0.9)
        return moved[np.argsort((vertices[moved] - bones[last]) @ direction)[-8:]]

    def _smoothed(self, values: np.ndarray) -> np.ndarray:
        """Return half of each vertex's value plus half of its neighbours' mean, so the rim of a sleeve has no step."""
        total, count = np.zeros(len(values)), np.zeros(len(values))
        for here, there in ((0, 1), (1, 2), (2, 0)):
            np.add.at(total, self.faces[:, here], values[self.faces[:, there]])
            np.add.at(count, self.faces[:, here], 1)
        return 0.5 * values + 0.5 * total / np.maximum(count, 1)


@functools.cache
def body_model() -> BodyModel:
    """Return the one body model of this process. The first build on a machine takes minutes and fills anny's cache
    (about 1 GB under ``ANNY_CACHE_DIR``, by default ``~/.cache/anny``). Later builds take seconds."""
    return BodyModel()


def _linear(colour: Colour) -> np.ndarray:
    return np.asarray(colour, np.float32) ** 2.2
