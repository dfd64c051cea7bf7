"""Clips for tests: tones as .wav files, and tables of them."""

import csv
import wave

import numpy as np


def write_tone(path, seconds=0.6, pitch=220.0, rate=16_000):
    """A tone with some harmonics that rises in loudness; returns the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    time = np.arange(int(seconds * rate)) / rate
    tone = sum(np.sin(2 * np.pi * pitch * harmonic * time) / harmonic for harmonic in (1, 2, 3))
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((tone * np.linspace(2000, 9000, len(time))).astype("<i2").tobytes())
    return path


def write_table(path, rows):
    """A table of rows, dictionaries of one set of columns; returns the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, list(rows[0]))
        table.writeheader()
        table.writerows(rows)
    return path


def make_rows(count=9):
    """Rows with every kind of label, of two or three clips a speaker."""
    modes = ["train"] * (count - 4) + ["valid"] * 2 + ["test"] * 2
    return [
        {
            "video_id": f"speaker{number // 3}",
            "clip_id": number % 3,
            "text": f"words of clip {number}",
            "label": round(number / 2 - 2, 2),
            "label_T": -1.0,
            "label_A": 0.5,
            "label_V": 2.0,
            **{name: float(number % 2) for name in ("happy", "sad", "anger", "surprise", "disgust", "fear")},
            "mode": modes[number],
        }
        for number in range(count)
    ]


def make_folder(folder, count=9):
    """A media folder with label.csv, its sounds in Raw; returns it."""
    rows = make_rows(count)
    write_table(folder / "label.csv", rows)
    for number, row in enumerate(rows):
        write_tone(folder / "Raw" / row["video_id"] / f"{row['clip_id']}.wav", 0.5 + number / 20, 150 + 20 * number)
    return folder
