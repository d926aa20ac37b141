"""What is seen of a pairs dataset: what it holds (`blip inspect`), and whether it is whole (`blip verify`)."""
