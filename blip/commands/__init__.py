"""The commands of `blip` but `blip stage`, a module for each group, and what several of them share."""
