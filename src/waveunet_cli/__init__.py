"""Music source separation in the time domain with the Wave-U-Net."""

__version__ = "0.1.0"
