"""Pairs datasets, images, texts, video, and the loader that feeds training."""
