"""What the pipeline answers for one sample, as lines for a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from datasets_scripts import MODALITIES


def answer_as_text(answer: Mapping[str, Any]) -> str:
    """
    Lines: the prediction, that of each modality alone, contributions, the timeline and the transcript, as far as there
    are any, and the notes.

    Args:
        answer: Of `MultimodalSentimentPipeline`, with an analysis or without.
    """
    lines = _prediction_lines(answer)
    for modality in MODALITIES:
        if answer[modality] is not None:
            lines.append(f"of the {modality} alone {_one(answer[modality])}")
    if answer.get("contributions"):
        lines += ["", "what each modality adds:"]
        lines += [f"{name:<8}{value:>+8.3f}" for name, value in answer["contributions"].items()]
    if answer.get("timeline"):
        lines += ["", "".join(f"{name:>18}" for name in ("seconds", "overall", *MODALITIES))]
        for window in answer["timeline"]:
            part = f"{window['start']:.1f} to {window['end']:.1f}"
            numbers = [_one(window), *("-" if window[m] is None else _one(window[m]) for m in MODALITIES)]
            lines.append("".join(f"{cell:>18}" for cell in (part, *numbers)))
    transcript = answer.get("transcript")
    if transcript is not None and transcript["text"]:
        lines += ["", f"transcript: {transcript['text']}"]
        told = [word for word in transcript["words"] if word["contribution"] is not None]
        if told:
            strongest = sorted(told, key=lambda word: -abs(word["contribution"]))[:5]
            lines.append(
                "strongest words: " + ", ".join(f"{word['text']} {word['contribution']:+.3f}" for word in strongest)
            )
    if answer.get("notes"):
        lines += ["", *(f"note: {note}" for note in answer["notes"])]
    return "\n".join(lines)


def _prediction_lines(prediction: Mapping[str, Any]) -> list[str]:
    """A sentiment with its range, or classes, emotions and other numbers, the highest first."""
    if "range" in prediction:
        low, high = prediction["range"]
        return [f"sentiment {prediction['score']:+.3f} (from {low:g} to {high:g})"]
    scores = prediction.get("scores")
    if scores is None:
        return [f"{prediction['score']:+.3f}"]
    return [f"{name} {score:.3f}" for name, score in sorted(scores.items(), key=lambda pair: -pair[1])]


def _one(prediction: float | Mapping[str, Any]) -> str:
    """A prediction in one cell."""
    if isinstance(prediction, Mapping):
        scores = prediction.get("scores")
        if scores is not None:
            name = max(scores, key=scores.__getitem__)
            return f"{name} {scores[name]:.2f}"
        prediction = prediction["score"]
    return f"{prediction:+.3f}"
