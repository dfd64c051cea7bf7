"""
Clips that need no download: drawn faces that speak with synthetic voices, labelled, in the layout of MMSA's folders.

    python -m datasets_scripts.synthetic_clips FOLDER --clips 60 --seed 0

    FOLDER/label.csv                     video_id, clip_id, text, label, label_T, label_A, label_V, annotation, mode
    FOLDER/Raw/<video_id>/<clip_id>.mp4  H.264 and AAC
"""

from datasets_scripts.synthetic_clips.clips import SyntheticClips, write_synthetic_clips

__all__ = ["SyntheticClips", "write_synthetic_clips"]
