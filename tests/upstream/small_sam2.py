"""A SAM 2 small enough for a CPU: upstream's smallest configuration, and what of it is made smaller."""

CONFIG = "configs/sam2.1/sam2.1_hiera_t.yaml"
OVERRIDES = ("model.image_size=256", "model.memory_attention.num_layers=2")
