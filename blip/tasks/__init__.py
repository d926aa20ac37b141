"""Tasks: how each is evaluated. One file a task, and others for what they share, as `ranking` and `outcome`."""
