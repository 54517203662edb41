"""Checkpoints of other programs, turned into ours: what is read is data, never code.

An importer is added in two places: its file in this folder, which ends in an Importer; and its line in PROGRAMS.
No torch is loaded before something is converted.
"""

# What the checkpoints of a program are called (Importer.format), and the module of this package that reads them, asked
# in this order. A model card may give such a name as its architecture.
PROGRAMS = {
    "TensorFlow 1 checkpoint": "tf1",
    "Spleeter": "spleeter",
    "Keras port": "keras_port",
    "PyTorch port": "pytorch_port",
    "MSS_WaveUNet": "mss",
}
