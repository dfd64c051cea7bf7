"""
The demo: a page that shows what checkpoints say of a clip, a recording or a text.

    python spaces/sentiment_demo/app.py --model runs/mosi --model org/mmlatch-mosi
    SENTIMODAL_MODELS="org/self-mm-mosi org/mmlatch-mosi" python app.py     # as a Space of the Hub

Without a checkpoint it takes runs/quickstart_media, which `make demo` trains.
"""

from __future__ import annotations

import argparse
import atexit
import os
import shutil
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))  # where it is not run as a program, the modules beside it are not found otherwise

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # before Gradio is imported, which reads it

from sentiment_page.analysis import Checkpoints  # noqa: E402
from sentiment_page.gradio_import import gradio as gr  # noqa: E402
from sentiment_page.handler import RequestHandler  # noqa: E402
from sentiment_page.layout import build_page, find_examples, theme  # noqa: E402
from sentiment_page.limits import PageLimits  # noqa: E402
from sentiment_page.uploads import SessionFiles  # noqa: E402

DEMO = Path("runs") / "quickstart_media"
VARIABLE = "SENTIMODAL_MODELS"
OPTIONS = {
    "seconds": "the longest clip",
    "megabytes": "the largest upload",
    "requests_per_minute": "of one network address",
    "at_once": "analyses that run at the same time",
    "waiting": "requests that wait for their turn",
    "minutes_kept": "after which an upload is deleted in any case",
}
"""The limits that can be set, and what each is."""


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--model",
        action="append",
        metavar="FOLDER",
        help="a checkpoint: a folder, or a name on the Hub; may be given again",
    )
    parser.add_argument("--transcriber", metavar="ID", help="a speech recognition model for clips without words")
    parser.add_argument("--host", help="the address to listen at; by default this computer alone")
    parser.add_argument("--port", type=int, help="by default the first free one from 7860 on")
    for name, what in OPTIONS.items():
        default = getattr(PageLimits, name)
        parser.add_argument(f"--{name}", type=type(default), default=default, help=f"{what}; by default {default:g}")
    return parser.parse_args(arguments)


def chosen_models(given: list[str] | None, variable: str | None, root: Path) -> list[str]:
    """
    The checkpoints of the command line, else of the environment, else the one of `make demo`.

    Raises:
        FileNotFoundError: where there is none, and for a folder that does not exist.
    """
    names = given or (variable or "").replace(",", " ").split()
    if not names:
        if not (root / DEMO / "config.json").is_file():
            raise FileNotFoundError(
                f"There is no checkpoint to show: {root / DEMO} is not there. Train it with `make demo`, or name one "
                f"with --model FOLDER; a Space takes the names in its variable {VARIABLE}."
            )
        return [str(root / DEMO)]
    for name in names:
        # What has one slash at most may be a name on the Hub, everything else must be a folder.
        if not Path(name).is_dir() and (Path(name).is_absolute() or name.count("/") != 1 or name.startswith(".")):
            raise FileNotFoundError(f"--model {name}: there is no such folder, and a name on the Hub is ORG/NAME.")
    return names


def own_upload_folder() -> str:
    """A folder for uploads that no other program uses, and that goes when this one ends."""
    folder = tempfile.mkdtemp(prefix="sentiment_demo_")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    os.environ["GRADIO_TEMP_DIR"] = folder
    return folder


def main(arguments: list[str]) -> None:
    options = parse(arguments)
    root = HERE.parent.parent if HERE.parent.name == "spaces" else Path.cwd()
    models = chosen_models(options.model, os.environ.get(VARIABLE), root)
    limits = PageLimits(**{name: getattr(options, name) for name in OPTIONS})
    on_the_hub = "SPACE_ID" in os.environ
    files = SessionFiles(own_upload_folder())
    transcriber = options.transcriber or os.environ.get("SENTIMODAL_TRANSCRIBER")
    checkpoints = Checkpoints(models, transcriber)
    checkpoints[models[0]]  # what cannot be loaded is better known now, and the first visitor need not wait for it
    handler = RequestHandler(checkpoints, limits, files, behind_proxy=on_the_hub)
    # Served from where they are, so that they are not mistaken for uploads.
    gr.set_static_paths([HERE / "examples"])
    build_page(handler, find_examples(HERE / "examples")).launch(
        server_name=options.host or ("0.0.0.0" if on_the_hub else "127.0.0.1"),
        server_port=options.port,
        max_file_size=int(limits.megabytes * 1e6),
        theme=theme(),
        css_paths=[HERE / "page.css"],
        js=(HERE / "page.js").read_text(encoding="utf-8"),
        footer_links=["api"],
        run_history=False,
        ssr_mode=False,
        share=False,
    )


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except (ValueError, OSError, ImportError) as error:
        sys.exit(f"{type(error).__name__}: {error}")
