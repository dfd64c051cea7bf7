"""Writes synthetic clips: `python -m datasets_scripts.synthetic_clips FOLDER --clips 60 --seed 0`."""

from __future__ import annotations

import argparse
import sys

from datasets_scripts.synthetic_clips.clips import SyntheticClips, write_synthetic_clips


def main() -> int:
    defaults = SyntheticClips()
    parser = argparse.ArgumentParser(prog="datasets_scripts.synthetic_clips", description=__doc__)
    parser.add_argument("folder", help="where to write; it must not exist yet, or be empty")
    parser.add_argument("--clips", type=int, default=defaults.clips, help="how many (%(default)s)")
    parser.add_argument("--seed", type=int, default=defaults.seed, help="of everything (%(default)s)")
    arguments = parser.parse_args()
    try:
        rows = write_synthetic_clips(arguments.folder, clips=arguments.clips, seed=arguments.seed)
    except (ValueError, OSError, ImportError) as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 2
    speakers = len({row["video_id"] for row in rows})
    print(f"{len(rows)} clips of {speakers} speakers are in {arguments.folder}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
