"""Export for LeRobot, and train its ACT policy a few steps. Needs pyarrow, and lerobot to train.

``python examples/4_lerobot_policy.py output/h5_dataset /tmp/hands``
"""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

from videolift.export.lerobot import export_lerobot
from videolift.export.policy_rows import PolicyExport
from videolift.reader.policies.state import StateSpec


def main(dataset: str, out: str, steps: str = "20") -> None:
    """Exports state and action of both hands in the camera of each episode's first frame; trains where lerobot is installed."""
    exported = export_lerobot(Path(dataset), Path(out), PolicyExport(StateSpec(frame="start")))
    info = json.loads((Path(out) / "meta/info.json").read_text())
    print(f"{info['total_episodes']} episodes, {info['total_frames']} frames, {info['fps']} per second, splits {info['splits']}")
    for video, reason in exported.left_out.items():
        print(f"left out {video}: {reason}")
    print(f"state: {', '.join(info['features']['observation.state']['names'])}")
    if importlib.util.find_spec("lerobot") is None:
        print("lerobot is not installed here: pip install lerobot, then run this again to train")
        return
    train(out, int(steps))


def train(root: str, steps: int) -> None:
    """ACT on a CPU; the same as lerobot-train with --policy.type=act and --dataset.root."""
    import torch
    from lerobot.configs.types import FeatureType
    from lerobot.datasets.lerobot_dataset import LeRobotDataset, LeRobotDatasetMetadata
    from lerobot.policies.act.modeling_act import ACTPolicy
    from lerobot.policies.factory import make_policy_config, make_pre_post_processors

    try:
        from lerobot.utils.feature_utils import dataset_to_policy_features
    except ImportError:  # LeRobot 0.4
        from lerobot.datasets.utils import dataset_to_policy_features

    meta = LeRobotDatasetMetadata("local/hands", root=root)
    features = dataset_to_policy_features(meta.features)
    outputs = {name: feature for name, feature in features.items() if feature.type is FeatureType.ACTION}
    inputs = {name: feature for name, feature in features.items() if name not in outputs}
    sizes = {"chunk_size": 8, "n_action_steps": 8, "dim_model": 64, "n_heads": 4, "dim_feedforward": 128}
    shared = {"input_features": inputs, "output_features": outputs, "device": "cpu", "push_to_hub": False}
    config = make_policy_config("act", **sizes, **shared, pretrained_backbone_weights=None)
    policy = ACTPolicy(config)
    prepare, _ = make_pre_post_processors(config, dataset_stats=meta.stats)
    chunk = {"action": [step / meta.fps for step in config.action_delta_indices]}
    data = LeRobotDataset("local/hands", root=root, delta_timestamps=chunk)
    optimizer = torch.optim.AdamW(policy.parameters(), lr=1e-4)
    loader = torch.utils.data.DataLoader(data, batch_size=4, shuffle=True)
    done = 0
    while done < steps:
        for batch in loader:
            loss, _ = policy.forward(prepare(batch))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            done += 1
            if done % 5 == 0:
                print(f"step {done}: loss {float(loss.detach()):.3f}")


if __name__ == "__main__":
    main(*sys.argv[1:])
