"""What a step, a caption and a re-ranking cost here, beside the same work by `transformers`.

    blip bench step --size base --batch 16 --against transformers

Both sides have the same weights and inputs, take turns in one process, and compute in the same type.
"""
