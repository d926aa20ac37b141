"""What stands in the way of a run, said before it starts.

blip doctor                                              # this machine and folder
blip doctor --recipe base-14m --gpu h100 --gpus 8 --nodes 4

machine.py    Python, cores, memory, disk, torch, GPU, git, DVC, settings, ports
sources.py    the datasets of the settings against dvc.yaml and this disk
recipe.py     a training stage under a recipe: the checks below, in their order
plan.py       the run that is looked at: its network without weights, and the devices it is planned for
devices.py    enough devices, enough memory
numbers.py    what must divide what, and what a step and the run come to
inputs.py     datasets, starting weights, vocabulary, disk
cache.py      room for DVC's cache
services.py   MLflow and Prefect answer
speed.py      pairs/s, hours, GPU-hours, cost
footprint.py  on paper: the memory of a rank, of activations.py
scaling.py    on paper: the speed of any number of devices, of work.py
"""
