"""ViPE's adapter on recorded calls: ViPE itself needs CUDA."""

from pathlib import Path
from typing import ClassVar, Literal

from stages.depth import vipe


class RecordedVipe(vipe.VipeDepth):
    device: ClassVar[Literal["cpu"]] = "cpu"

    @property
    def weights(self) -> list[str]:
        return []


# In the process of one job, or of one worker; no other backend of it is ViPE's.
vipe.VIPE_WORKER = Path(__file__).with_name("recorded_vipe_worker.py")
BACKEND = RecordedVipe
