"""Triangle rasterisation on the CPU (numba): vertex normals, depth buffer, shading. Pixel (row, column) has its centre
at (column + 0.5, row + 0.5), as everywhere in this project."""

from __future__ import annotations

import math

import numba
import numpy as np


@numba.njit(cache=True)
def vertex_normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Return unit normals ``[V, 3]``: sums of the adjacent faces' normals, weighted by the faces' areas."""
    normals = np.zeros_like(vertices)
    for face in range(faces.shape[0]):
        i, j, k = faces[face, 0], faces[face, 1], faces[face, 2]
        ax = vertices[j, 0] - vertices[i, 0]
        ay = vertices[j, 1] - vertices[i, 1]
        az = vertices[j, 2] - vertices[i, 2]
        bx = vertices[k, 0] - vertices[i, 0]
        by = vertices[k, 1] - vertices[i, 1]
        bz = vertices[k, 2] - vertices[i, 2]
        for corner in (i, j, k):
            normals[corner, 0] += ay * bz - az * by
            normals[corner, 1] += az * bx - ax * bz
            normals[corner, 2] += ax * by - ay * bx
    for vertex in range(normals.shape[0]):
        x, y, z = normals[vertex, 0], normals[vertex, 1], normals[vertex, 2]
        length = math.sqrt(x * x + y * y + z * z) + 1e-12
        normals[vertex, 0] = x / length
        normals[vertex, 1] = y / length
        normals[vertex, 2] = z / length
    return normals


@numba.njit(cache=True, fastmath=True)
def rasterise(
    points: np.ndarray, nearness: np.ndarray, faces: np.ndarray, height: int, width: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Find the triangle in front at each pixel's centre.

    points: float32 ``[V, 2]``, pixels. nearness: float32 ``[V]``, larger is nearer. It must be linear over the picture:
    1 / depth for a perspective view, any positive height for a parallel one. Triangles with a vertex <= 0 are left out.

    Returns ``(nearest, face, weights)``: nearness ``[H, W]`` (0: nothing there), face index int32 ``[H, W]`` (-1:
    nothing there), and the perspective-correct weights float32 ``[H, W, 2]`` of the face's first two corners.
    """
    nearest = np.zeros((height, width), np.float32)
    face_at = np.full((height, width), -1, np.int32)
    weights = np.zeros((height, width, 2), np.float32)
    for face in range(faces.shape[0]):
        i, j, k = faces[face, 0], faces[face, 1], faces[face, 2]
        near_i, near_j, near_k = nearness[i], nearness[j], nearness[k]
        if near_i <= 0 or near_j <= 0 or near_k <= 0:
            continue
        xi, yi, xj, yj, xk, yk = points[i, 0], points[i, 1], points[j, 0], points[j, 1], points[k, 0], points[k, 1]
        doubled_area = (xj - xi) * (yk - yi) - (xk - xi) * (yj - yi)
        if doubled_area == 0:
            continue
        left = max(0, math.ceil(min(xi, xj, xk) - 0.5))
        right = min(width - 1, math.floor(max(xi, xj, xk) - 0.5))
        top = max(0, math.ceil(min(yi, yj, yk) - 0.5))
        bottom = min(height - 1, math.floor(max(yi, yj, yk) - 0.5))
        for row in range(top, bottom + 1):
            y = row + 0.5
            for column in range(left, right + 1):
                x = column + 0.5
                weight_i = ((xj - x) * (yk - y) - (xk - x) * (yj - y)) / doubled_area
                weight_j = ((xk - x) * (yi - y) - (xi - x) * (yk - y)) / doubled_area
                weight_k = 1 - weight_i - weight_j
                if weight_i < 0 or weight_j < 0 or weight_k < 0:
                    continue
                near = weight_i * near_i + weight_j * near_j + weight_k * near_k
                if near > nearest[row, column]:
                    nearest[row, column] = near
                    face_at[row, column] = face
                    weights[row, column, 0] = weight_i * near_i / near
                    weights[row, column, 1] = weight_j * near_j / near
    return nearest, face_at, weights


@numba.njit(cache=True, fastmath=True)
def shade(
    picture: np.ndarray,
    face_at: np.ndarray,
    weights: np.ndarray,
    faces: np.ndarray,
    surface: np.ndarray,
    eye: np.ndarray,
    light_axes: np.ndarray,
    shadow_scale: np.ndarray,
    shadow: np.ndarray,
    ambient: float,
    key: float,
) -> None:
    """Light the visible surface and write it into ``picture`` (linear RGB float32 ``[H, W, 3]``; the backdrop stays).

    surface: float32 ``[V, 9]``: unit normal, position, linear colour of each vertex. eye: position of the camera.
    light_axes: ``[3, 3]``, rows right, up and towards the light. shadow: nearness ``[S, S]`` as seen from the light;
    ``shadow_scale`` = (pixels per metre, x, y and height offset) maps the light's axes to it.
    """
    height, width = face_at.shape
    shadow_size = shadow.shape[0]
    point = np.zeros(9, np.float32)
    for row in range(height):
        for column in range(width):
            face = face_at[row, column]
            if face < 0:
                continue
            a, b = weights[row, column, 0], weights[row, column, 1]
            i, j, k = faces[face, 0], faces[face, 1], faces[face, 2]
            for c in range(9):
                point[c] = a * surface[i, c] + b * surface[j, c] + (1 - a - b) * surface[k, c]
            length = math.sqrt(point[0] * point[0] + point[1] * point[1] + point[2] * point[2] + 1e-12)
            nx, ny, nz = point[0] / length, point[1] / length, point[2] / length
            px, py, pz = point[3], point[4], point[5]
            vx, vy, vz = eye[0] - px, eye[1] - py, eye[2] - pz
            length = math.sqrt(vx * vx + vy * vy + vz * vz)
            facing = max(0.0, (nx * vx + ny * vy + nz * vz) / length)

            # The arriving light: nine samples of the shadow map, with a bias against self-shadowing.
            u = (px * light_axes[0, 0] + py * light_axes[0, 1] + pz * light_axes[0, 2]) * shadow_scale[0]
            v = (px * light_axes[1, 0] + py * light_axes[1, 1] + pz * light_axes[1, 2]) * shadow_scale[0]
            level = px * light_axes[2, 0] + py * light_axes[2, 1] + pz * light_axes[2, 2] + shadow_scale[3] + 0.008
            lit = 0
            for dv in range(-1, 2):
                for du in range(-1, 2):
                    shadow_column = min(shadow_size - 1, max(0, int(u + shadow_scale[1]) + du))
                    shadow_row = min(shadow_size - 1, max(0, int(v + shadow_scale[2]) + dv))
                    if shadow[shadow_row, shadow_column] < level:
                        lit += 1
            towards = nx * light_axes[2, 0] + ny * light_axes[2, 1] + nz * light_axes[2, 2]
            direct = key * min(1.0, max(0.0, towards * 0.85 + 0.15)) * lit / 9.0
            around = ambient * (0.65 + 0.35 * nz) * (0.45 + 0.55 * facing)
            # A warm key light and a cool surrounding separate the sides of a finger.
            picture[row, column, 0] = point[6] * (around * 0.95 + direct * 1.05)
            picture[row, column, 1] = point[7] * (around * 0.98 + direct)
            picture[row, column, 2] = point[8] * (around * 1.05 + direct * 0.93)
