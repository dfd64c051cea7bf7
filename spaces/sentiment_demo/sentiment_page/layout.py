"""The page: its parts, their order, and what happens when a button is pressed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sentiment_page.analysis import MODALITIES
from sentiment_page.descriptions import about, short_name
from sentiment_page.gradio_import import gradio as gr
from sentiment_page.handler import PARTS, RequestHandler
from sentiment_page.html_basics import NAMES
from sentiment_page.result_summary import waiting
from sentiment_page.uploads import SUBTITLES

TITLE = "Multimodal sentiment"
_INTRODUCTION = """<header class="sd sd-intro"><h1>Multimodal sentiment</h1>
<p>A clip, a recording or a text in; the sentiment out: overall, from the words, the voice and the face alone, and over
time.</p></header>"""


def theme() -> gr.themes.Base:
    """Of system fonts alone: nothing is fetched from elsewhere."""
    return gr.themes.Base(
        primary_hue=gr.themes.colors.blue,
        neutral_hue=gr.themes.colors.slate,
        font=["system-ui", "sans-serif"],
        font_mono=["ui-monospace", "monospace"],
    ).set(
        # Contrasts of at least 4.5 to 1 for text, in light and dark.
        button_primary_background_fill="*primary_700",
        button_primary_background_fill_hover="*primary_800",
        button_primary_background_fill_dark="*primary_700",
        button_primary_background_fill_hover_dark="*primary_600",
        button_primary_text_color="white",
        body_text_color_subdued="*neutral_600",
        body_text_color_subdued_dark="*neutral_300",
        block_info_text_color="*neutral_600",
        block_info_text_color_dark="*neutral_300",
        block_label_text_color="*neutral_700",
        block_label_text_color_dark="*neutral_200",
        block_title_text_color="*neutral_800",
        block_title_text_color_dark="*neutral_100",
        input_placeholder_color="*neutral_600",
        input_placeholder_color_dark="*neutral_300",
    )


def build_page(handler: RequestHandler, examples: Sequence[Sequence[str | None]] = ()) -> gr.Blocks:
    """
    Args:
        handler: Answers requests.
        examples: Name, video and transcript of each.
    """
    limits, names = handler.limits, handler.checkpoints.names
    kept = max(int(60 * limits.minutes_kept), 1)
    sweep = (min(300, kept), kept)
    with gr.Blocks(title=TITLE, analytics_enabled=False, delete_cache=sweep) as page:
        gr.HTML(_INTRODUCTION)
        with gr.Row(equal_height=False):
            with gr.Column(min_width=280):
                with gr.Tabs():
                    with gr.Tab("Video"):
                        video = gr.Video(
                            label="Clip with sound",
                            sources=["upload", "webcam"],
                            webcam_options=gr.WebcamOptions(mirror=False),
                            include_audio=True,
                            height=340,
                            elem_id="clip",
                            buttons=[],
                        )
                    with gr.Tab("Sound only"):
                        audio = gr.Audio(
                            label="Recording", sources=["upload", "microphone"], type="filepath", elem_id="recording"
                        )
                timeline = gr.HTML(elem_id="timeline", apply_default_css=False, js_on_load=None)
                text = gr.Textbox(
                    label="Words",
                    info="What is said in the clip or, without one, a text of your own.",
                    lines=2,
                    max_lines=8,
                    elem_id="words",
                )
                with gr.Row():
                    clear = gr.Button("Clear", elem_id="clear", min_width=100)
                    run = gr.Button("Analyse", variant="primary", elem_id="analyse", min_width=140)
                if examples:
                    gr.Examples(
                        examples=[[clip, words] for _, clip, words in examples],
                        inputs=[video, text],
                        example_labels=[name for name, _, _ in examples],
                        label="Examples, made by a program",
                        cache_examples=False,
                        api_visibility="private",
                    )
                with gr.Accordion("Subtitle file, in place of the words", open=False):
                    subtitles = gr.File(
                        label="Subtitles", file_types=list(SUBTITLES), type="filepath", height=140, elem_id="subtitles"
                    )
                # What Gradio does here by itself leaves an empty file behind for every request.
                subtitles.preprocess = lambda upload: upload and upload.path
                checkpoint = gr.Dropdown(
                    choices=[(short_name(name), name) for name in names],
                    value=names[0],
                    label="Checkpoint",
                    elem_id="checkpoint",
                )
                description = gr.HTML(about(names[0]), apply_default_css=False, js_on_load=None)
                use = gr.CheckboxGroup(
                    choices=[(NAMES[modality], modality) for modality in MODALITIES],
                    value=list(MODALITIES),
                    label="Look at",
                    info="What is switched off, the checkpoint does not get.",
                    elem_id="use",
                )
                noise = gr.Slider(
                    0,
                    1,
                    value=0,
                    step=0.05,
                    label="Noise",
                    info="The share of the features, and of the words, that are disturbed.",
                    buttons=[],
                    elem_id="noise",
                )
            with gr.Column(min_width=280):
                message = gr.HTML(elem_id="message", apply_default_css=False, js_on_load=None)
                summary = gr.HTML(waiting(), elem_id="summary", apply_default_css=False, js_on_load=None)
                words = gr.HTML(elem_id="transcript", apply_default_css=False, js_on_load=None)
                masks = gr.HTML(elem_id="masks", apply_default_css=False, js_on_load=None)
                notes = gr.HTML(elem_id="notes", apply_default_css=False, js_on_load=None)
                with gr.Accordion("The whole answer, as a program gets it", open=False):
                    whole = gr.JSON(show_label=False, elem_id="answer")
        gr.HTML(_rules(handler), apply_default_css=False, js_on_load=None)

        inputs = [video, audio, text, subtitles, use, noise, checkpoint]
        parts = [message, summary, timeline, words, masks, notes, whole]
        assert len(parts) == PARTS
        together = {"concurrency_limit": limits.at_once, "concurrency_id": "analysis"}
        run.click(
            handler.for_page,
            inputs,
            parts,
            api_visibility="private",
            show_progress_on=summary,
            **together,
        )
        # What a program sends is checked by the handler, which says more of what is wrong than these parts would.
        program = gr.Button(visible=False)
        sent = [
            gr.JSON(list(MODALITIES), visible=False, label="Look at"),
            gr.Number(0.0, visible=False, label="Noise"),
            gr.Textbox(names[0], visible=False, label="Checkpoint"),
        ]
        program.click(
            handler.for_program,
            [*inputs[:4], *sent],
            whole,
            api_name="analyze",
            show_progress="hidden",
            **together,
        )
        checkpoint.change(about, checkpoint, description, api_visibility="private", show_progress="hidden", queue=False)
        clear.click(
            lambda: (None, None, "", None, "", waiting(), "", "", "", "", None),
            outputs=[video, audio, text, subtitles, *parts],
            api_visibility="private",
            show_progress="hidden",
            queue=False,
        ).then(handler.closed, api_visibility="private", show_progress="hidden", queue=False)
        page.unload(handler.closed)
    page.queue(max_size=limits.waiting, default_concurrency_limit=limits.at_once, api_open=False)
    handler.files.waiting = lambda: _waiting_files(page)
    return page


def _waiting_files(page: gr.Blocks) -> set[str]:
    """The paths in all requests that wait for their turn."""
    queues = list(page._queue.event_queue_per_concurrency_id.values())
    sent = [part for queue in queues for event in list(queue.queue) if event.data for part in event.data.data]
    return {part["path"] for part in sent if isinstance(part, dict) and isinstance(part.get("path"), str)}


def find_examples(folder: Path) -> list[tuple[str, str | None, str]]:
    """Name, video and words of each clip of a folder with a file of words beside it, by name."""
    found: list[tuple[str, str | None, str]] = []
    for clip in sorted(folder.glob("*.mp4")):
        words = clip.with_suffix(".txt")
        if words.is_file():
            name = clip.stem.replace("_", " ").capitalize()
            found.append((name, str(clip), words.read_text(encoding="utf-8").strip()))
    return found


def _rules(handler: RequestHandler) -> str:
    limits = handler.limits
    return (
        '<footer class="sd sd-rules"><h2>What happens to an upload</h2><p>It is looked at on this server alone, and '
        "nothing of it is kept: it is deleted when you close or reload the page, press \u201cClear\u201d or analyse "
        f"something else, and after about {limits.minutes_kept:g} minutes in any case. Camera and microphone are asked "
        f"for only when you choose to record.</p><p>Limits: {limits.seconds:g} seconds, {limits.megabytes:g} MB, "
        f"{limits.characters:,} characters, {limits.requests_per_minute} requests per minute; {limits.waiting} "
        "requests may wait.</p></footer>"
    )
