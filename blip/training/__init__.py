"""The trainer: DeepSpeed engine, schedule, loop, checkpoints, launch."""
