"""What the recipes share: Proximal Policy Optimization with Stable-Baselines3, its environments, logs and artefacts."""
