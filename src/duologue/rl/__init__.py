"""Reinforcement learning as pure functions of tensors; it knows nothing of speech."""
