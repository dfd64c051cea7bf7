"""
Seconds of a training step (forward and backward) of MFN here, in MMSA, and with its LSTM cells stepped one by one.

    pip install --no-deps mmsa && pip install easydict nvidia-ml-py3 pandas scikit-learn
    python benchmarks/mfn_step.py [--threads 1] [--device cuda]

All three have the sizes published for CMU-MOSI and the same random batches of 64 samples: with 50 words each; with
lengths as in CMU-MOSI, a dozen words in the mean, as they come; and the latter grouped by length, as `train.py` takes
them. A batch is as long as its longest sample here, as the collator makes it, and 50 words in MMSA. The three take
their steps in turn; the table has the medians, of grouped batches the mean over the batches. The stepped row is the
model here with `torch.nn.LSTMCell`s in the place of its LSTMs. Without MMSA its row is left out. One thread is timed
by the processor's clock, which other programs disturb less, anything else by the wall's.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from configuration.configuration_mfn import MfnConfig  # noqa: E402
from modeling.gated_memory import CellStateLSTM  # noqa: E402
from modeling.modeling_mfn import MfnModel  # noqa: E402

SIZES = {"text": 768, "audio": 5, "vision": 20}
STEPS = 50
GROUPED = 8  # batches


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch_size", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=9, help="steps of each, after one that is not counted")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)

    # A rough likeness: log-normal, with CMU-MOSI's mean of about twelve.
    like_mosi = torch.randn(GROUPED * options.batch_size).mul(0.6).add(2.3).exp().clamp(1, STEPS).long()
    lengths = {
        "50 words": [torch.full((options.batch_size,), STEPS)],
        "lengths as in CMU-MOSI": [like_mosi[: options.batch_size]],
        "the same, grouped by length": list(like_mosi.sort().values.split(options.batch_size)),
    }
    config = MfnConfig(**{f"{modality}_feature_size": size for modality, size in SIZES.items()})
    models: dict[str, nn.Module] = {"sentimodal": MfnModel(config), "cells one by one": _stepped(MfnModel(config))}
    peer = _peer(config)
    if peer is None:
        print("MMSA is not installed: its row is left out (see the top of this file).")
    else:
        models["MMSA"] = peer
    for model in models.values():
        model.to(options.device).train()

    on_one_thread = options.threads == 1 and options.device == "cpu"
    clock = time.process_time if on_one_thread else time.perf_counter
    print(f"median seconds of a training step, batch {options.batch_size}, {options.threads} threads, {options.device}")
    for name, batches in lengths.items():
        found = [_timed(_steps(models, one, options.device), options.rounds, options.device, clock) for one in batches]
        medians = {model_name: statistics.fmean(of_batch[model_name] for of_batch in found) for model_name in models}
        rows = torch.cat(batches).float()
        print(f"\n{name} (mean {rows.mean():.1f}, longest {int(rows.max())})")
        for model_name, seconds in medians.items():
            print(f"  {model_name:18}{seconds:9.4f}   {seconds / medians['sentimodal']:.2f} times sentimodal's")


def _steps(models: dict[str, nn.Module], lengths: torch.Tensor, device: str) -> dict[str, Callable[[], None]]:
    """By model, a training step on a random batch of samples of these lengths."""
    mask = torch.arange(STEPS) < lengths.unsqueeze(1)
    values = {m: (torch.randn(*mask.shape, size) * mask.unsqueeze(-1)).to(device) for m, size in SIZES.items()}
    labels = torch.zeros(len(lengths), device=device)
    longest = int(lengths.max())
    batch = {f"{modality}_values": value[:, :longest] for modality, value in values.items()}
    names = ("attention_mask", "audio_attention_mask", "vision_attention_mask")
    batch |= {name: mask[:, :longest].to(device) for name in names} | {"labels": labels}
    return {
        name: partial(_peer_step, model, list(values.values()), labels)
        if name == "MMSA"
        else partial(_step, model, batch)
        for name, model in models.items()
    }


def _timed(
    steps: dict[str, Callable[[], None]], rounds: int, device: str, clock: Callable[[], float]
) -> dict[str, float]:
    found: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(rounds + 1):
        for name, step in steps.items():
            start = clock()
            step()
            if device != "cpu":
                torch.cuda.synchronize()
            if turn:
                found[name].append(clock() - start)
    return {name: statistics.median(seconds) for name, seconds in found.items()}


def _step(model: nn.Module, batch: dict[str, torch.Tensor]) -> None:
    model.zero_grad()
    model(**batch).loss.backward()


def _peer_step(model: nn.Module, values: list[torch.Tensor], labels: torch.Tensor) -> None:
    model.zero_grad()
    (model(*values)["M"].squeeze(1) - labels).abs().mean().backward()


class _Cells(nn.Module):
    def __init__(self, lstm: CellStateLSTM):
        super().__init__()
        self.cell = nn.LSTMCell(lstm.lstm.input_size, lstm.lstm.hidden_size)

    def forward(self, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        state, found = None, []
        for step in values.unbind(1):
            state = self.cell(step, state)
            found.append(state)
        hidden, cells = zip(*found, strict=True)
        return torch.stack(hidden, dim=1), torch.stack(cells, dim=1)


def _stepped(model: MfnModel) -> MfnModel:
    lstms = model.fusion.lstms.lstms
    for modality in list(lstms):
        lstms[modality] = _Cells(lstms[modality])
    return model


def _peer(config: MfnConfig) -> nn.Module | None:
    try:
        from MMSA.models.singleTask.MFN import MFN
    except ImportError:
        return None
    parts = {"NN1": "attention", "NN2": "proposal", "gamma1": "retain", "gamma2": "update", "out": "output"}
    sizes = {
        f"{theirs}Config": {"shapes": getattr(config, f"{ours}_size"), "drop": getattr(config, f"{ours}_dropout")}
        for theirs, ours in parts.items()
    }
    return MFN(
        SimpleNamespace(
            feature_dims=list(SIZES.values()),
            hidden_dims=[getattr(config, f"{modality}_hidden_size") for modality in SIZES],
            memsize=config.memory_size,
            windowsize=2,
            num_classes=1,
            train_mode="regression",
            **sizes,
        )
    )


if __name__ == "__main__":
    main()
