"""trl's configurations for a process that trains on one device."""

import torch
from trl import SFTConfig


class OneDevice:
    """Beside a configuration of transformers: its process uses one card however many it sees, and the CPU's plain name.

    transformers has no option for either. With several cards in sight it multiplies the batch by their number, to
    split it between them; and it names the CPU of several processes `cpu:0`, to which torch loads no checkpoint.
    """

    @property
    def n_gpu(self) -> int:
        """1 on a GPU, 0 on the CPU."""
        return min(super().n_gpu, 1)

    @property
    def device(self) -> torch.device:
        """The device of this process."""
        device = super().device
        return torch.device("cpu") if device.type == "cpu" else device


class OneDeviceConfig(OneDevice, SFTConfig):
    """`SFTConfig` for one device."""
