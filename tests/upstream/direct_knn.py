"""The kNN in torch on batches of packed points, one of which has fewer than are asked for."""

import importlib.util
import sys
from pathlib import Path

import torch

_, worker_file, child = map(Path, sys.argv[1:4])


def load(name, path):
    spec = importlib.util.spec_from_file_location(name, path)
    sys.modules[name] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


load("videolift_child", child)
load("videolift_checkpoints", child.with_name("checkpoints.py"))
worker = load("worker", worker_file)
points = torch.tensor([[0.0, 0, 0], [1, 0, 0], [2, 0, 0], [0, 0, 5], [0, 0, 6]])
queries = torch.tensor([[0.9, 0, 0], [0, 0, 5.6]])
index, distance = worker.knnquery(3, points, queries, torch.tensor([3, 5]), torch.tensor([1, 2]))
assert index.tolist() == [[1, 0, 2], [4, 3, 3]], index
assert torch.allclose(distance, torch.tensor([[0.1, 0.9, 1.1], [0.4, 0.6, worker.FAR]])), distance
print("ok")
