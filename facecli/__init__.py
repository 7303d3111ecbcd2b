"""facecli: verify, find, embed, calibrate, evaluate and train faces from the command line."""

__version__ = "0.1.0"
