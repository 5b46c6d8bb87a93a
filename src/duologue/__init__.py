"""Duologue: full-duplex speech models, from two-channel conversations to the numbers that say how they behave."""

__version__ = "0.1.0"
