"""What a process of its own runs in tests of batches; at the top level, so that it can be imported there."""

import os


def separate_in_a_process(folder, out, container):
    import torch

    from waveunet_cli.cli import main

    torch.set_num_threads(1)
    os.chdir(folder)
    main(["separate", "-q", "-n", "tiny.safetensors", "-d", "cpu", "-o", out, "--format", container, "m"])
