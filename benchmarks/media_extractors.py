"""
What extracting features from a video costs, per second of it: time, and memory beyond what importing needs.

    python benchmarks/media_extractors.py clip.mp4
    python benchmarks/media_extractors.py clip.mp4 --image_encoder FOLDER --audio_encoder FOLDER --face_landmarker FILE

Without a file, it draws a speaking face for --seconds. Each line is a process of its own with one thread. The limits
are decoding the video and the sound alone, and openSMILE on the whole sound at once. Extractors whose model is not
given are left out.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))


def lines(options: argparse.Namespace) -> list[dict]:
    """What is measured: a name, and how."""
    found = [
        {"name": "decoding the sound (limit)", "decode": "sound"},
        {"name": "openSMILE on the whole sound (limit)", "decode": "opensmile"},
        {"name": "egemaps_v02", "audio": {"name": "egemaps_v02"}},
    ]
    if options.audio_encoder:
        settings = {"name": "audio_encoder", "model": options.audio_encoder}
        found.append({"name": f"audio_encoder, {Path(options.audio_encoder).name}", "audio": settings})
    found += [
        {"name": "decoding the video (limit)", "decode": "video"},
        {"name": "face_appearance", "vision": {"name": "face_appearance"}},
    ]
    if options.face_landmarker:
        found.append({"name": "mediapipe_face", "vision": {"name": "mediapipe_face", "model": options.face_landmarker}})
    if options.image_encoder:
        settings = {"name": "image_encoder", "model": options.image_encoder}
        found.append({"name": f"image_encoder, {Path(options.image_encoder).name}", "vision": settings})
    both = {"audio": {"name": "egemaps_v02"}, "vision": {"name": "face_appearance"}}
    return [*found, {"name": "egemaps_v02 and face_appearance", **both}]


def measure(media: str, line: dict) -> dict:
    """In a process of its own: seconds and bytes of one pass after a first one, which loads libraries and models."""
    import numpy as np

    from processing.media_features import MediaFeatures
    from processing.media_reading import MediaLimits, open_media

    limits = MediaLimits(max_seconds=1e6)
    opened = open_media(media, limits)

    def run(stop: float | None) -> dict:
        if line.get("decode") == "sound":
            return {"steps": sum(len(block) for block in opened.audio_blocks(stop=stop))}
        if line.get("decode") == "video":
            return {"steps": sum(1 for _ in opened.frames(10.0, stop=stop))}
        if line.get("decode") == "opensmile":
            import opensmile

            smile = opensmile.Smile(opensmile.FeatureSet.eGeMAPSv02, opensmile.FeatureLevel.LowLevelDescriptors)
            samples = np.concatenate(list(opened.audio_blocks(stop=stop)))
            return {"steps": len(smile.process_signal(samples, 16_000))}
        clip = extractor(media, start=0.0, stop=stop)
        found = [one for one in (clip.audio, clip.vision) if one is not None]
        return {"steps": sum(len(one) for one in found), "size": sum(one.values.shape[1] for one in found)}

    extractor = MediaFeatures(line.get("audio"), line.get("vision"), limits=limits)
    run(min(1.0, opened.info.seconds))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    result = run(None)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        **result,
        "seconds": seconds,
        "media": opened.info.seconds,
        "more": (peak - before) / 1024,
        "peak": peak / 1024,
    }


def draw(folder: Path, seconds: int) -> Path:
    """A video of a speaking face, as long as wanted: one of the synthetic clips, over and over."""
    import numpy as np

    from datasets_scripts.synthetic_clips.clips import FRAMES_PER_SECOND, SAMPLING_RATE, SyntheticClips
    from datasets_scripts.synthetic_clips.mp4 import write_mp4

    clip = next(iter(SyntheticClips(clips=3)))
    frames, sound = list(clip.frames()), clip.speech.sound
    times = -(-seconds * FRAMES_PER_SECOND // len(frames))
    path = folder / "face.mp4"
    write_mp4(path, frames * times, FRAMES_PER_SECOND, np.tile(sound, times), SAMPLING_RATE)
    return path


def main(options: argparse.Namespace) -> None:
    if options.line is not None:
        print(json.dumps(measure(options.media, json.loads(options.line))))
        return
    with tempfile.TemporaryDirectory() as folder:
        media = options.media or str(draw(Path(folder), options.seconds))
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENCV_FOR_THREADS_NUM": "1"}
        print("| | features | steps | seconds per second of video | memory beyond loading, MB | peak, MB |")
        print("|---|---|---|---|---|---|")
        for line in lines(options):
            command = [sys.executable, __file__, media, "--line", json.dumps(line)]
            done = subprocess.run(command, capture_output=True, text=True, env=environment)
            if done.returncode:
                sys.exit(f"{line['name']} failed:\n{done.stderr}")
            found = json.loads(done.stdout.splitlines()[-1])
            speed = found["seconds"] / found["media"]
            print(
                f"| {line['name']} | {found.get('size', '')} | {found['steps']} | {speed:.4f} | {found['more']:.0f} | "
                f"{found['peak']:.0f} |",
                flush=True,
            )
        print(f"\n{Path(media).name}, {found['media']:.1f} s; one thread.")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("media", nargs="?", help="a video")
    parser.add_argument("--seconds", type=int, default=60, help="of the video that is drawn where none is given")
    parser.add_argument("--image_encoder", help="a folder, or an id on the Hub, of a model of pictures")
    parser.add_argument("--audio_encoder", help="a folder, or an id on the Hub, of a model of sound")
    parser.add_argument("--face_landmarker", help="MediaPipe's face_landmarker.task")
    parser.add_argument("--line", help=argparse.SUPPRESS)  # what one of the processes measures
    main(parser.parse_args())
