"""The page of the metric's Space: a table to type values into, and the metric card."""

from pathlib import Path

import evaluate
from evaluate.utils import launch_gradio_widget

if __name__ == "__main__":
    # From the file beside this one, so that the page shows the code it is published with.
    launch_gradio_widget(evaluate.load(str(Path(__file__).with_name("multimodal_sentiment.py"))))
