"""The commands of `blip` that work on data and models, a module for each group."""
