"""The gradient step and the replay."""
