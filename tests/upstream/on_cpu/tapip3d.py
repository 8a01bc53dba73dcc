"""TAPIP3D as in production, on a CPU: upstream's true code through our worker, where no card is."""

from typing import ClassVar, Literal

from stages.tracks.tapip3d import Tapip3dTracks


class Tapip3dOnCpu(Tapip3dTracks):
    device: ClassVar[Literal["cpu"]] = "cpu"


BACKEND = Tapip3dOnCpu
