"""
Drawn faces: a shaded head whose mouth, cheeks, lids and brows show a sentiment, and whose mouth opens with the voice.

Places on the face are (across, down) in units of half its height, from its middle; across is to the right.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

_SKINS = ((238, 201, 175), (224, 178, 146), (206, 156, 122), (180, 128, 96), (150, 104, 78))
_HAIRS = ((44, 32, 26), (90, 60, 36), (150, 110, 60), (110, 105, 102), (130, 60, 34))
_SHIRTS = ((60, 84, 130), (120, 60, 66), (70, 110, 84), (92, 88, 96), (150, 130, 90))
_BACKGROUNDS = ((120, 134, 150), (150, 140, 124), (110, 126, 112), (140, 124, 140), (168, 170, 172))
_EYES = ((60, 90, 130), (70, 50, 34), (60, 100, 70))


@dataclass(frozen=True)
class Look:
    """What a speaker looks like; colours are (3,), 0 to 255, and lengths in half heights of the face."""

    skin: np.ndarray
    hair: np.ndarray
    shirt: np.ndarray
    background: np.ndarray
    iris: np.ndarray
    half_width: float
    eye_distance: float
    brow_thickness: float
    mouth_width: float
    hair_line: float
    light: float  # where the light comes from: -1 is the left


@dataclass(frozen=True)
class Pose:
    """A face at an instant."""

    across: float = 0.0  # of its middle from the picture's, in heights of the picture
    down: float = 0.0
    roll: float = 0.0  # radians
    size: float = 1.0
    sentiment: float = 0.0  # -1 to 1
    opening: float = 0.0  # of the mouth, 0 to 1
    lids: float = 0.0  # 0: open; 1: closed


def draw_look(random: np.random.Generator) -> Look:
    """A speaker's look, at random."""

    def colour(choices, spread):
        return np.clip(np.array(choices[random.integers(len(choices))]) + random.normal(scale=spread, size=3), 20, 245)

    return Look(
        skin=colour(_SKINS, 4),
        hair=colour(_HAIRS, 6),
        shirt=colour(_SHIRTS, 12),
        background=colour(_BACKGROUNDS, 5),
        iris=colour(_EYES, 8),
        half_width=random.uniform(0.72, 0.80),
        eye_distance=random.uniform(0.29, 0.33),
        brow_thickness=random.uniform(0.035, 0.055),
        mouth_width=random.uniform(0.24, 0.29),
        hair_line=random.uniform(-0.66, -0.56),
        light=random.uniform(-0.5, 0.5),
    )


def draw_face(look: Look, pose: Pose, width: int, height: int) -> np.ndarray:
    """The picture of a face, (height, width, 3), uint8 RGB."""
    return _Drawing(look, pose, width, height).picture()


class _Drawing:
    """One picture; each method paints over what is there."""

    def __init__(self, look: Look, pose: Pose, width: int, height: int) -> None:
        self.look, self.pose = look, pose
        self.scale = 0.36 * height * pose.size  # pixels per unit
        rows, columns = np.mgrid[:height, :width].astype(np.float32) + 0.5
        x = (columns - (width / 2 + pose.across * height)) / self.scale
        y = (rows - (height * 0.47 + pose.down * height)) / self.scale
        cosine, sine = math.cos(pose.roll), math.sin(pose.roll)
        self.across, self.down = cosine * x + sine * y, cosine * y - sine * x
        self.side = np.abs(self.across)  # what is drawn over it is on both sides
        light = 1.08 - 0.22 * rows / height + 0.08 * look.light * (0.5 - columns / width)
        # Colours first: painting a plane is three times as fast as painting every third number.
        self.image = light * _planes(look.background)

    def picture(self) -> np.ndarray:
        whole = self.image
        self._body_and_hair()
        self._look_at_face()
        self._skin()
        self._fringe()
        self._eyes()
        self._brows()
        self._nose()
        self._mouth()
        return np.ascontiguousarray(np.clip(whole, 0, 255).astype(np.uint8).transpose(1, 2, 0))

    def _look_at_face(self) -> None:
        """Leaves out of what is drawn from here on the parts of the picture where the face is not, to save time."""
        rows = np.flatnonzero((np.abs(self.down) < 1.1).any(axis=1))
        columns = np.flatnonzero((self.side < 1.0).any(axis=0))
        box = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
        self.across, self.down, self.side = self.across[box], self.down[box], self.side[box]
        self.image = self.image[:, box[0], box[1]]

    def _paint(self, cover: np.ndarray, colour) -> None:
        """Lays a colour over the picture, as far as `cover`, (height, width), says: 1 hides what was there."""
        self.image += cover * (_planes(colour) - self.image)

    def _inside(self, distance: np.ndarray) -> np.ndarray:
        """1 where a distance, in units, is positive, with an edge one pixel wide."""
        return np.clip(distance * self.scale + 0.5, 0, 1)

    def _ellipse(self, across: float, down: float, half_width: float, half_height: float, on_both_sides=True):
        x = (self.side if on_both_sides else self.across) - across
        radius = np.sqrt((x / half_width) ** 2 + ((self.down - down) / half_height) ** 2)
        return self._inside((1 - radius) * min(half_width, half_height))

    def _blob(self, across: float, down: float, half_width: float, half_height: float, strength: float):
        """Without an edge: highest in the middle."""
        return strength * np.exp(-(((self.side - across) / half_width) ** 2) - ((self.down - down) / half_height) ** 2)

    def _body_and_hair(self) -> None:
        look = self.look
        self._paint(self._ellipse(0, 2.1, 1.5, 1.0), look.shirt)
        self._paint(self._ellipse(0, 1.0, 0.36, 0.6), look.skin * 0.68)
        self._paint(self._ellipse(0, -0.22, look.half_width + 0.12, 0.92), look.hair)
        self._paint(self._ellipse(look.half_width, 0.0, 0.1, 0.2), look.skin * 0.82)

    def _skin(self) -> None:
        look = self.look
        across, down = self.across / look.half_width, self.down
        # The jaw is narrower than the forehead.
        across = across * (1 + 0.12 * np.clip(down, 0, 1))
        radius = np.sqrt(across**2 + down**2)
        towards = np.sqrt(np.clip(1 - radius**2, 0, 1))
        shade = 0.56 + 0.42 * towards - 0.12 * down + 0.16 * look.light * -across
        cover = self._inside((1 - radius) * look.half_width)
        self.image += cover * (shade * _planes(look.skin) - self.image)
        cheek = 0.16 + 0.12 * max(self.pose.sentiment, 0)
        self._paint(self._blob(0.42, 0.24 - 0.05 * self.pose.sentiment, 0.2, 0.14, cheek), look.skin * 1.12)

    def _eyes(self) -> None:
        look, pose = self.look, self.pose
        place, down = look.eye_distance, -0.14
        self._paint(self._blob(place, down - 0.03, 0.24, 0.13, 0.5), look.skin * 0.42)
        # A smile narrows the eyes.
        half_height = 0.075 * (1 - 0.25 * max(pose.sentiment, 0)) * (1 - 0.9 * pose.lids)
        white = self._ellipse(place, down, 0.135, max(half_height, 0.012))
        self._paint(white, (226, 226, 222))
        self._paint(white * self._ellipse(place, down, 0.068, 0.068), look.iris * 0.7)
        self._paint(white * self._ellipse(place, down, 0.035, 0.035), (12, 10, 10))
        lid = np.abs(self.down - (down - half_height * np.sqrt(np.clip(1 - ((self.side - place) / 0.15) ** 2, 0, 1))))
        self._paint(self._inside(0.018 - lid) * self._inside(0.15 - np.abs(self.side - place)), (34, 24, 22))

    def _brows(self) -> None:
        look, sentiment = self.look, self.pose.sentiment
        along = (self.side - look.eye_distance) / 0.2
        # Displeased, the inner ends come down; pleased, the whole brow goes up.
        line = -0.335 - 0.055 * sentiment - 0.05 * min(sentiment, 0) * -along + 0.045 * along**2
        thick = look.brow_thickness * (1.1 - 0.5 * np.clip(along, 0, 1))
        self._paint(
            self._inside(thick - np.abs(self.down - line)) * self._inside((1 - np.abs(along)) * 0.2), look.hair * 0.6
        )

    def _nose(self) -> None:
        look = self.look
        self._paint(self._blob(0, 0.02, 0.055, 0.24, 0.4), look.skin * 1.15)
        self._paint(self._blob(0.12, 0.12, 0.05, 0.14, 0.28), look.skin * 0.6)
        self._paint(self._blob(0, 0.31, 0.15, 0.035, 0.5), look.skin * 0.45)
        self._paint(self._blob(0.07, 0.27, 0.03, 0.022, 0.8), look.skin * 0.25)

    def _mouth(self) -> None:
        look, sentiment, opening = self.look, self.pose.sentiment, self.pose.opening
        half = look.mouth_width * (1 + 0.16 * sentiment - 0.14 * opening)
        along = self.across / half
        line = 0.56 + sentiment * (0.07 - 0.15 * np.clip(along, -1.2, 1.2) ** 2)
        bow = np.clip(1 - along**2, 0, 1)
        upper, lower = line - 0.04 * opening * bow, line + (0.015 + 0.17 * opening) * bow
        ends = self._inside((1 - np.abs(along)) * half)
        lip = 0.03 + 0.035 * bow
        lips = self._inside(self.down - upper + lip) * self._inside(lower + lip - self.down) * ends
        self._paint(self._blob(0, 0.72 + 0.1 * opening, 0.18, 0.05, 0.3), look.skin * 0.6)
        self._paint(lips, look.skin * np.array([0.72, 0.48, 0.48]))
        gap = self._inside(self.down - upper + 0.008) * self._inside(lower + 0.008 - self.down) * ends
        self._paint(gap, (48, 18, 20))
        teeth = gap * self._inside(upper + 0.05 - self.down) * np.clip(2.5 * opening, 0, 1) * bow
        self._paint(teeth, (222, 216, 206))

    def _fringe(self) -> None:
        look = self.look
        edge = look.hair_line + 0.28 * self.side**2
        shape = self._ellipse(0, -0.22, look.half_width + 0.12, 0.92)
        self._paint(shape * self._inside(edge - self.down), look.hair)


def _planes(colour) -> np.ndarray:
    """A colour (3,) as (3, 1, 1), to go with planes (3, height, width)."""
    return np.asarray(colour, np.float32)[:, None, None]
