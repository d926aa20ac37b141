"""Tasks: how each is evaluated. One file a task; `ranking` and `outcome` are what they share."""
