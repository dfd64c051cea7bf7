"""Checkpoints that are whole, or known not to be, however the process that wrote them ended."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from transformers import TrainerCallback, TrainingArguments
from transformers.trainer_callback import ExportableState
from transformers.trainer_utils import rotate_checkpoints

from datasets_scripts.files import room_for, write_json

FILES_FILE = "checkpoint_files.json"


class WholeCheckpoints(TrainerCallback):
    """
    Lists the files of a checkpoint with their sizes in `checkpoint_files.json`, when all processes and all callbacks
    have written theirs. A checkpoint is whole if it has that list and all that is on it: one that was half written,
    written over or deleted is not. Older checkpoints are deleted only then, not, as by the trainer itself, when the new
    one has its last file still to come.

    It has to be the last callback that writes into checkpoints.

    Args:
        accelerator (`Accelerator`): Of the trainer: waits for the other processes.
    """

    def __init__(self, accelerator: Accelerator):
        self.accelerator = accelerator

    @contextmanager
    def writing(self, args: TrainingArguments, step: int) -> Iterator[None]:
        """
        Around what writes the checkpoint of a step. What cannot be written for lack of room is deleted.

        Raises:
            DiskFullError: there is no room for it.
        """
        folder, limit = checkpoint_folder(args, step), args.save_total_limit
        if args.should_save:
            (folder / FILES_FILE).unlink(missing_ok=True)
        args.save_total_limit = None
        try:
            with room_for(folder):
                yield
        except OSError:
            if args.should_save:
                shutil.rmtree(folder, ignore_errors=True)
            raise
        finally:
            args.save_total_limit = limit

    def on_train_begin(self, args, state, control, **kwargs):
        """
        The best checkpoint so far lies beside that which a run goes on with. The trainer only knows the path that it
        had, ends with the last weights where that is gone, and takes what is there by now where it is not.

        Raises:
            ValueError: it is not there, or not whole.
        """
        if state.global_step == 0 or not args.load_best_model_at_end or not state.best_global_step:
            return
        resumed = args.resume_from_checkpoint
        resumed = Path(resumed) if isinstance(resumed, str) else checkpoint_folder(args, state.global_step)
        best = resumed.absolute().with_name(f"checkpoint-{state.best_global_step}")
        if not checkpoint_is_whole(best):
            raise ValueError(
                f"{resumed} says that the best checkpoint so far is {best.name}, but {best} is not there or not whole; "
                "copy it there again, or train in another folder."
            )
        state.best_model_checkpoint = str(best)

    def on_save(self, args, state, control, **kwargs):
        self.accelerator.wait_for_everyone()
        if not args.should_save:
            return
        folder = checkpoint_folder(args, state.global_step)
        files = {
            file.relative_to(folder).as_posix(): file.stat().st_size
            for file in sorted(folder.rglob("*"))
            if file.is_file() and file.name != FILES_FILE
        }
        write_json(folder / FILES_FILE, files)
        rotate_checkpoints(args.output_dir, args.save_total_limit, state.best_model_checkpoint, use_mtime=True)


class KeptLoss(TrainerCallback, ExportableState):
    """
    Puts the training loss since it was last logged into checkpoints, which the trainer forgets: after an epoch that was
    resumed in its middle it would log the mean of what came then.

    Args:
        trainer (`Trainer`): Whose loss it is.
    """

    def __init__(self, trainer):
        self.trainer = trainer
        self.attributes: dict[str, float] = {}

    def measure(self) -> None:
        """Takes the mean loss of all processes; to be called in each of them before a checkpoint is written."""
        loss = self.trainer.accelerator.gather(self.trainer._tr_loss.detach().reshape(1)).mean()
        self.attributes = {"loss": float(loss), "logged_at": self.trainer._globalstep_last_logged}

    def state(self) -> dict[str, Any]:
        return {"args": {}, "attributes": self.attributes}

    def on_train_begin(self, args, state, control, **kwargs):
        saved = state.stateful_callbacks.get(type(self).__name__)
        state.stateful_callbacks[type(self).__name__] = self.state()
        if state.global_step > 0 and saved is not None and saved["attributes"]:
            self.trainer._tr_loss.fill_(saved["attributes"]["loss"])
            self.trainer._globalstep_last_logged = saved["attributes"]["logged_at"]


def checkpoint_folder(args: TrainingArguments, step: int) -> Path:
    return Path(str(args.output_dir)) / f"checkpoint-{step}"


def checkpoint_is_whole(path: str | Path) -> bool:
    """Whether a checkpoint was written to its end, and has lost nothing since."""
    path = Path(path)
    with suppress(OSError, ValueError):
        files = json.loads((path / FILES_FILE).read_text(encoding="utf-8"))
        return all((path / name).stat().st_size == size for name, size in files.items())
    return False
