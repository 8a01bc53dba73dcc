"""WiLoR as in production, on a CPU: upstream's true code through our worker, where no card is."""

from typing import ClassVar, Literal

from stages.hands.wilor import WilorHands


class WilorOnCpu(WilorHands):
    device: ClassVar[Literal["cpu"]] = "cpu"


BACKEND = WilorOnCpu
