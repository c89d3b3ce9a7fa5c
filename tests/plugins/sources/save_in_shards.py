"""Saves tensors as four processes do: `python save_in_shards.py FOLDER`; `wanted.pt` there is what they are."""

from __future__ import annotations

import os
import socket
import sys
from multiprocessing import get_context
from pathlib import Path

import torch
import torch.distributed as dist
from torch.distributed.checkpoint.state_dict_saver import save as save_all
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Placement, Replicate, Shard, distribute_tensor

WORLD = 4


def save(rank: int, folder: Path, port: int) -> None:
    """What one process does."""
    torch.set_num_threads(1)
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    dist.init_process_group("gloo", rank=rank, world_size=WORLD)
    line = init_device_mesh("cpu", (WORLD,))
    grid = init_device_mesh("cpu", (2, 2))
    generator = torch.Generator().manual_seed(0)
    placed: dict[str, tuple[tuple[int, ...], list[Placement]]] = {
        "model.embed_tokens.weight": ((7, 4), [Shard(0)]),
        "lm_head.weight": ((7, 4), [Replicate()]),
        "grid": ((5, 6, 3), [Shard(0), Shard(1)]),
        "columns": ((6, 10), [Shard(1)]),
        "few": ((2, 2), [Shard(0)]),
    }
    whole = {name: torch.randn(shape, generator=generator) for name, (shape, _) in placed.items()}
    saved = {
        name: distribute_tensor(one, line if len(placed[name][1]) == 1 else grid, placed[name][1])
        for name, one in whole.items()
    }
    more = {"state": torch.zeros(3), "rate": 0.1}
    save_all({"model": saved, "optim": more}, checkpoint_id=folder / "saved")
    if rank == 0:
        torch.save(whole, folder / "wanted.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        number = free.getsockname()[1]
    start = get_context("spawn").Process
    ranks = [start(target=save, args=(rank, Path(sys.argv[1]), number)) for rank in range(WORLD)]
    for one in ranks:
        one.start()
    for one in ranks:
        one.join()
    sys.exit(max(one.exitcode or 0 for one in ranks))
