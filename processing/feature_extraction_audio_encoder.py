"""The states of any pretrained encoder of speech that transformers loads."""

from __future__ import annotations

import math
from functools import cached_property
from typing import Any

import numpy as np
import torch
from transformers import AutoFeatureExtractor, AutoModel

from processing.feature_extraction import FeatureExtractor, FeatureSequence
from processing.model_versions import model_version
from processing.step_averages import SoundWindows, StepAverages


class AudioEncoderExtractor(FeatureExtractor):
    """
    Hidden states of an audio encoder: of the wav2vec 2.0 kind (wav2vec 2.0, HuBERT, WavLM, data2vec, ...), which reads
    samples, or Whisper's, which reads 30 s of a spectrogram.

    Long sound is encoded in windows with sound around them as context, normalised window by window by the model's own
    feature extractor.

    Args:
        model (`str`): A model on the Hub, or a folder.
        layer (`int`): Which hidden states: 0 is what goes into the first layer, -1 what comes out of the last one.
        rate (`float`, *optional*): Steps per second: states are averaged over steps; by default the encoder's own rate.
        window_seconds (`float`): Length of a window.
        context_seconds (`float`): Of sound on each side of a window.
        revision (`str`, *optional*): Of a model on the Hub.
    """

    name = "audio_encoder"
    modality = "audio"
    description = "hidden states of an audio encoder"
    packages = ("transformers",)

    def __init__(
        self,
        model: str,
        layer: int = -1,
        rate: float | None = None,
        window_seconds: float = 20.0,
        context_seconds: float = 2.0,
        revision: str | None = None,
    ):
        self.model_name = str(model)
        self.layer = int(layer)
        self.window_seconds = float(window_seconds)
        self.context_seconds = float(context_seconds)
        self.revision = revision
        self._processor: Any = _loaded(AutoFeatureExtractor, self.model_name, revision)
        loaded: Any = _loaded(AutoModel, self.model_name, revision, dtype=torch.float32)
        self.sampling_rate = int(self._processor.sampling_rate)
        self._reads_spectrograms, self._hop, self._length = _steps_of(loaded.config, self._processor)
        self._model: Any = (loaded.get_encoder() if self._reads_spectrograms else loaded).eval()
        self._config = loaded.config
        self._check_options()
        own = self.sampling_rate / self._hop
        if rate is not None and not 0.1 <= rate <= own:
            raise ValueError(
                f"`rate` must be from 0.1 to the encoder's own {own:g} steps per second, but it is {rate!r}; leave it "
                "out for the encoder's own."
            )
        self.rate = own if rate is None else float(rate)
        self.feature_size = int(self._config.hidden_size)

    def _check_options(self) -> None:
        layers = int(self._config.num_hidden_layers)
        if not -layers - 1 <= self.layer <= layers:
            raise ValueError(
                f"`layer` must be between {-layers - 1} and {layers}, as {self.model_name!r} has {layers} layers, but "
                f"it is {self.layer}."
            )
        if not 1 <= self.window_seconds <= 120 or not 0 <= self.context_seconds <= 30:
            raise ValueError(
                "`window_seconds` must be between 1 and 120 and `context_seconds` between 0 and 30, but they are "
                f"{self.window_seconds} and {self.context_seconds}."
            )
        longest = self._longest_seconds()
        if self.window_seconds + 2 * self.context_seconds > longest:
            raise ValueError(
                f"{self.model_name!r} reads {longest:g} s at a time, but `window_seconds` and twice `context_seconds` "
                f"are {self.window_seconds + 2 * self.context_seconds:g} s; make them shorter."
            )

    def _longest_seconds(self) -> float:
        return self._processor.n_samples / self.sampling_rate if self._reads_spectrograms else math.inf

    def options(self) -> dict[str, Any]:
        options: dict[str, Any] = {
            "model": self.model_name,
            "layer": self.layer,
            "window_seconds": self.window_seconds,
            "context_seconds": self.context_seconds,
        }
        return options if self.revision is None else {**options, "revision": self.revision}

    def versions(self) -> dict[str, str]:
        """Of the packages; and the commit of the model, or the SHA-256 of its configuration and weights in a folder."""
        return {**super().versions(), "model": self._model_version}

    @cached_property
    def _model_version(self) -> str:
        return model_version(self.model_name, self.revision)

    def extract(self, media, start: float = 0.0, stop: float | None = None) -> FeatureSequence:
        if not media.info.has_audio:
            return self._nothing("There is no sound track, so no sound is described.")
        averages = StepAverages(self.rate, self.feature_size)
        own = self.sampling_rate / self._hop
        windows = SoundWindows(
            self._hop, self._length, round(self.window_seconds * own), round(self.context_seconds * own)
        )
        for window in windows.over(media.audio_blocks(self.sampling_rate, start, stop)):
            states = self._states(window.samples)[window.skip : window.skip + window.count]
            averages.add((window.first + np.arange(len(states)) + 0.5) / own, states)
        times, means = averages.result()
        if not len(times):
            milliseconds = 1000 * self._length / self.sampling_rate
            return self._nothing(f"The sound is shorter than {milliseconds:.0f} ms, too short for {self.model_name!r}.")
        return FeatureSequence(means, start + times, 1 / self.rate, averages.notes())

    def _states(self, samples: np.ndarray) -> np.ndarray:
        """(steps, features): the hidden states of a window."""
        inputs = self._processor(samples, sampling_rate=self.sampling_rate, return_tensors="pt")
        key = "input_features" if self._reads_spectrograms else "input_values"
        with torch.no_grad():
            output = self._model(inputs[key], output_hidden_states=True)
        return output.hidden_states[self.layer][0].float().numpy()

    def _nothing(self, note: str) -> FeatureSequence:
        return FeatureSequence(np.zeros((0, self.feature_size), np.float32), np.zeros(0), 1 / self.rate, [note])


def _loaded(loader: Any, model: str, revision: str | None, **options: Any) -> Any:
    try:
        return loader.from_pretrained(model, revision=revision or "main", **options)
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(
            f"`model` must be an audio encoder on the Hub or a folder with one, but {model!r} cannot be loaded as one: "
            f"{error}"
        ) from None


def _steps_of(config: Any, processor: Any) -> tuple[bool, int, int]:
    """Whether an encoder reads spectrograms; samples from step to step; samples that a step needs."""
    if hasattr(config, "conv_stride") and hasattr(config, "conv_kernel"):
        hop, length = 1, 1
        for kernel, stride in zip(config.conv_kernel, config.conv_stride, strict=True):
            length += (kernel - 1) * hop
            hop *= stride
        return False, hop, length
    if hasattr(config, "max_source_positions") and hasattr(processor, "n_samples"):
        hop = processor.n_samples // config.max_source_positions
        return True, hop, hop
    raise ValueError(
        f"`model` must be an encoder of the wav2vec 2.0 kind or Whisper's, but it is a {config.model_type!r}: it is "
        "not known how its states lie in time."
    )
