"""Weights of the published PyTorch code, to parameters and back."""
