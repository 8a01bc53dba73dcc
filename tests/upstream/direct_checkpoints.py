"""What torch itself writes, in each of its formats, looked through; a TorchScript archive that would write a file, too."""

import importlib.util
import os
import sys
from pathlib import Path

import torch

_, folder, file = map(Path, sys.argv[1:4])
spec = importlib.util.spec_from_file_location("videolift_checkpoints", file)
checkpoints = importlib.util.module_from_spec(spec)
spec.loader.exec_module(checkpoints)
os.chdir(folder)

network = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.BatchNorm2d(8))
kinds = {"bfloat16": torch.bfloat16, "bool": torch.bool, "complex": torch.complex64, "float8": torch.float8_e4m3fn}
for name, content in {
    "state": network.state_dict(),
    "module": network,
    "kinds": {kind: torch.ones(3).to(dtype) for kind, dtype in kinds.items()},
    "a view": torch.arange(10)[2:5],
    "epoch=1-step=2": {"nothing": torch.zeros(0)},
    "zip64": {str(i): torch.zeros(1) for i in range(66_000)},
}.items():
    torch.save(content, f"{name}.pt")
    checkpoints.check_archive(f"{name}.pt")


class Program(torch.nn.Module):
    def forward(self, x):
        return x

    @torch.jit.export
    def __getstate__(self):
        return self.training

    @torch.jit.export
    def __setstate__(self, state: bool):
        torch.save(torch.zeros(1), "evil")
        self.training = state


torch.save(network.state_dict(), "old.pt", _use_new_zipfile_serialization=False)
torch.jit.script(Program()).save("program.pt")
torch.load("program.pt", weights_only=False, pickle_module=checkpoints.restricted_pickle({}))
assert os.path.exists("evil"), "torch runs it, however restricted the unpickler"
os.remove("evil")
for name in ("old.pt", "program.pt"):
    try:
        checkpoints.read_checkpoint(name, {})
    except checkpoints.UnsafeCheckpoint as error:
        print("refused:", error)
    else:
        raise AssertionError(f"{name} was read")
assert not os.path.exists("evil")
print("ok")
