"""Faces as any pretrained image encoder of the Hub sees them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from transformers import AutoImageProcessor, AutoModel

from processing.face_crops import square_crop
from processing.face_tracking import FaceTracker, Place, opencv, track_face, tracking_notes
from processing.feature_extraction_vision_base import Described, FaceFeatureExtractor
from processing.model_versions import model_version
from processing.optional_dependency import require

# The box of the detector ends at the chin and above the brows; this shows the head.
CROP_MARGIN = 1.4
CROP_SIDE = 224
POOLINGS = ("pooled", "first", "mean")
# Weights that a checkpoint may lack, as only pretraining or pooling needs them.
DISPENSABLE = ("pooler", "mask_token")


class ImageEncoderExtractor(FaceFeatureExtractor):
    """
    A vector per picture from an image encoder (ViT, DINOv2, ResNet, the vision tower of CLIP or SigLIP, ...) that gets
    the square around the followed face (see `face_tracking`), 1.4 times as wide as its box.

    The encoder is what `AutoModel` loads, or its `vision_model` where it has one. Its image processor is the one that
    works with Pillow, so that features do not depend on whether torchvision is installed.

    Args:
        model (`str`): A model on the Hub, or a folder.
        rate (`float`, *optional*, defaults to 2.0): Pictures per second. Each costs a run of the encoder.
        pooling (`str`, *optional*):
            "pooled": the model's own `pooler_output`; "first": the first of its last hidden states (the class token,
            where there is one); "mean": the mean of them. By default "pooled" where the model has it and the checkpoint
            the weights for it, else "mean".
        batch_size (`int`, *optional*, defaults to 16): Faces that are encoded, and kept in memory, at a time. Not one
            of the settings: it does not change what the features are.
        revision (`str`, *optional*): Of a model on the Hub.
    """

    name = "image_encoder"
    description = "vectors of an image encoder for the largest face, followed with OpenCV's Haar cascade"
    packages = ("transformers", "pillow")

    def __init__(
        self,
        model: str,
        rate: float = 2.0,
        pooling: str | None = None,
        batch_size: int = 16,
        revision: str | None = None,
    ):
        super().__init__(rate)
        if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
            raise ValueError(f"`batch_size` must be a whole number of faces, at least 1, but it is {batch_size!r}.")
        if pooling is not None and pooling not in POOLINGS:
            raise ValueError(f"`pooling` must be one of {', '.join(POOLINGS)} or None, but it is {pooling!r}.")
        require("PIL", f"The extractor {self.name!r}", "pillow")
        self.model = str(model)
        self.batch_size = batch_size
        self.revision = revision
        self._processor: Any = loaded(AutoImageProcessor, self.model, revision, backend="pil")
        self._encoder, missing = load_encoder(self.model, revision)
        self._crop_side = wanted_side(self._processor)
        self.pooling = self._checked_pooling(pooling, missing)
        self.feature_size = self.encode([np.zeros((self._crop_side, self._crop_side, 3), np.uint8)]).shape[1]
        self._model_version = model_version(self.model, revision)

    def options(self) -> dict[str, Any]:
        options = {"model": self.model, "pooling": self.pooling}
        return options if self.revision is None else {**options, "revision": self.revision}

    def versions(self) -> dict[str, str]:
        """Those of the packages, and the commit of the model, or the SHA-256 of its files in a folder."""
        return {**super().versions(), "opencv": opencv().__version__, "model": self._model_version}

    def describe(self, media: Any, start: float, stop: float | None, notes: list[str]) -> Iterator[Described]:
        tracker = FaceTracker()
        waiting: list[tuple[float, Place | None]] = []
        crops: list[np.ndarray] = []
        for picture in track_face(media, self.rate, start, stop, tracker):
            if picture.face is None:
                yield picture.time, None, None
                continue
            waiting.append((picture.time, picture.place))
            crops.append(square_crop(picture.image, picture.face.box, self._crop_side, CROP_MARGIN))
            if len(crops) == self.batch_size:
                yield from self._encoded(waiting, crops)
                waiting, crops = [], []
        if crops:
            yield from self._encoded(waiting, crops)
        notes += tracking_notes(tracker)

    def _encoded(self, waiting: list[tuple[float, Place | None]], crops: list[np.ndarray]) -> Iterator[Described]:
        for (time, place), features in zip(waiting, self.encode(crops), strict=True):
            yield time, features, place

    def encode(self, crops: list[np.ndarray]) -> np.ndarray:
        """Vectors (faces, features), float32, of pictures that are uint8 (side, side, 3) RGB."""
        output = self._output(crops)
        if self.pooling == "pooled":
            vectors = output.pooler_output.flatten(1)
        else:
            # (faces, positions, features), be they patches or, of convolutional networks, (features, rows, columns).
            states = output.last_hidden_state
            states = states.flatten(2).transpose(1, 2) if states.ndim == 4 else states
            vectors = states[:, 0] if self.pooling == "first" else states.mean(dim=1)
        return vectors.float().numpy()

    def _output(self, crops: list[np.ndarray]) -> Any:
        inputs = self._processor(images=crops, return_tensors="pt", input_data_format="channels_last")
        with torch.inference_mode():
            return self._encoder(pixel_values=inputs["pixel_values"])

    def _checked_pooling(self, pooling: str | None, missing: list[str]) -> str:
        output = self._output([np.zeros((self._crop_side, self._crop_side, 3), np.uint8)])
        if getattr(output, "last_hidden_state", None) is None:
            raise ValueError(
                f"`model` must be an image encoder, which gives hidden states, but {self.model!r}, a "
                f"{type(self._encoder).__name__}, gives {', '.join(output.keys())}."
            )
        pooled = getattr(output, "pooler_output", None) is not None and not missing
        if pooling == "pooled" and not pooled:
            raise ValueError(
                f"`pooling` cannot be 'pooled' with {self.model!r}: "
                + (f"it lacks the weights {', '.join(missing)}" if missing else "the model has no `pooler_output`")
                + "; take 'first' or 'mean'."
            )
        return pooling or ("pooled" if pooled else "mean")


def load_encoder(model: str, revision: str | None) -> tuple[Any, list[str]]:
    """The encoder, and the weights of its pooling that the checkpoint lacks."""
    whole, report = loaded(AutoModel, model, revision, output_loading_info=True, dtype=torch.float32)
    prefix = "vision_model." if hasattr(whole, "vision_model") else ""
    missing = sorted(key for key in report["missing_keys"] if key.startswith(prefix))
    needed = [key for key in missing if not any(part in key for part in DISPENSABLE)]
    if needed:
        raise ValueError(f"The checkpoint {model!r} lacks weights of its own model: {', '.join(needed)}.")
    encoder = whole.vision_model if prefix else whole
    return encoder.eval(), [key for key in missing if "pooler" in key]


def loaded(loader: Any, model: str, revision: str | None, **options: Any) -> Any:
    try:
        return loader.from_pretrained(model, revision=revision, trust_remote_code=False, **options)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise ValueError(
            f"`model` must be an image encoder on the Hub or a folder with one and its image processor, but {model!r} "
            f"cannot be loaded as one: {error}"
        ) from None


def wanted_side(processor: Any) -> int:
    """The side of the pictures that an image processor scales to, in pixels."""
    size = getattr(processor, "size", None)
    sides = [side for side in dict(size).values() if isinstance(side, int)] if size else []
    return max(sides, default=CROP_SIDE)
