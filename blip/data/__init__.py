"""From sources to batches: pairs datasets, images, texts, video, and the loader that feeds training."""
