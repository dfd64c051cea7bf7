"""Runs a function in several processes that make a gloo group, as a launcher would start them."""

import multiprocessing
import os
import socket
import sys
from pathlib import Path

import torch
from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import DistributedType

ROOT = str(Path(__file__).resolve().parents[2])
PRELOADED = ["tests.training.tiny_training", "tests.test_modeling_common"]


def in_processes(function, number, folder, *arguments, timeout=120):
    """
    What `function(*arguments)` returns in each of `number` processes, by rank.

    The processes are forked from one that has imported the project and done nothing else: they start in no time, and
    nothing that this process did before, in PyTorch or Accelerate, is in them.
    """
    os.environ["PYTHONPATH"] = os.pathsep.join([ROOT, *filter(None, [os.environ.get("PYTHONPATH")])])
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    folder.mkdir(parents=True, exist_ok=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = [
        context.Process(target=_one, args=(function, rank, number, port, str(folder), arguments))
        for rank in range(number)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(timeout)
    for process in processes:
        if process.is_alive():
            process.kill()
    said = "\n".join(file.read_text()[-3000:] for file in sorted(folder.glob("output-*.txt")))
    assert all(process.exitcode == 0 for process in processes), said
    return [torch.load(folder / f"result-{rank}.pt", weights_only=False) for rank in range(number)]


def shard_on_cpu(layers="BertLayer"):
    """
    Lets Accelerate shard (FSDP2) in processes on a CPU, as it does on GPUs: PyTorch can, Accelerate only never asks.

    To be called in a process before anything of Accelerate is made.
    """
    os.environ |= {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2", "FSDP_STATE_DICT_TYPE": "FULL_STATE_DICT"}
    os.environ |= {"FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP", "FSDP_TRANSFORMER_CLS_TO_WRAP": layers}
    initialize = AcceleratorState.__init__

    def with_gpus(self, *arguments, **keywords):
        if not AcceleratorState._shared_state:
            PartialState(cpu=True)
            PartialState._shared_state["distributed_type"] = DistributedType.MULTI_GPU
        initialize(self, *arguments, **keywords)

    AcceleratorState.__init__ = with_gpus


def _one(function, rank, number, port, folder, arguments):
    output = open(Path(folder) / f"output-{rank}.txt", "w", buffering=1)  # noqa: SIM115  (as long as the process lives)
    os.dup2(output.fileno(), 1)
    os.dup2(output.fileno(), 2)
    sys.stdout = sys.stderr = output
    torch.set_num_threads(1)
    if number > 1:
        os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(number)}
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.save(function(*arguments), Path(folder) / f"result-{rank}.pt")
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
