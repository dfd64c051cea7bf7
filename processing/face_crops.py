"""Square pictures of a face, cut from the pictures of a clip."""

from __future__ import annotations

import math

import numpy as np

from processing.face_tracking import Box, opencv


def square_crop(image: np.ndarray, box: Box, side: int, margin: float = 1.0) -> np.ndarray:
    """
    Cuts out a face and scales it.

    Args:
        image (`np.ndarray`): uint8 (height, width) or (height, width, 3).
        box (`Box`): Where the face is; it may reach beyond the picture, whose border is then repeated.
        side (`int`): Pixels of what comes out.
        margin (`float`): How many times as wide as the box the crop is, around the same centre.

    Returns:
        uint8 (side, side) or (side, side, 3). Places between pixels are interpolated, and where the face is larger than
        `side`, pixels are averages of what they cover.
    """
    cv2 = opencv()
    width = box.side * margin
    # Sampled at a whole multiple of the size that is wanted, at least as finely as the picture, and then averaged.
    multiple = max(1, math.ceil(width / side))
    step = width / (side * multiple)
    left, top = box.x - width / 2, box.y - width / 2
    inverse = np.array([[step, 0.0, left + step / 2 - 0.5], [0.0, step, top + step / 2 - 0.5]])
    fine = cv2.warpAffine(
        image,
        inverse,
        (side * multiple, side * multiple),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return fine if multiple == 1 else cv2.resize(fine, (side, side), interpolation=cv2.INTER_AREA)
