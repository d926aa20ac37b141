"""A trained network at another resolution, or with other regularisation, as fine-tuning wants it."""

from dataclasses import replace

from blip.model.blip import BlipNetwork
from blip.model.vision import positions_for


def adapted(
    network: BlipNetwork, image_size: int, drop_path: float, patch_dropout: float, dropout: float
) -> BlipNetwork:
    """The same weights for images of `image_size` pixels, the positions interpolated, and with these rates.

    Args:
        drop_path, patch_dropout: of the image encoder.
        dropout: of the text transformer.

    Returns:
        the network itself when it is like that already.
    """
    old = network.config
    vision = replace(old.vision, image_size=image_size, drop_path=drop_path, patch_dropout=patch_dropout)
    config = replace(old, vision=vision, text=replace(old.text, dropout=dropout))
    if config == old:
        return network
    made, state = BlipNetwork(config), network.state_dict()
    grid = image_size // vision.patch_size
    state["vision.position_embedding"] = positions_for(state["vision.position_embedding"], grid)
    made.load_state_dict(state)
    return made.train(network.training)
