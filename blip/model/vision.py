"""The image encoder: a plain Vision Transformer, as in the BLIP paper (section 3.1).

Pre-LN, exact GELU, a CLS token, learned positions, one LayerNorm at the end; it opens in ``transformers`` as
``BlipVisionModel`` because nothing is added to it.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from blip.model.attention import attention, merge_heads, split_heads
from blip.model.linear import Linear
from blip.model.mlp import linear_of_gelu


@dataclass(frozen=True)
class VisionConfig:
    """Sizes of the image encoder; the defaults are ViT-B/16 at 224 px.

    Attributes:
        patch_dropout: share of an image's patches that training leaves out (FLIP, Li et al. 2023), each time others.
            It is a setting of a run and no part of a saved model: what is opened from disk has none.
    """

    image_size: int = 224
    patch_size: int = 16
    width: int = 768
    layers: int = 12
    heads: int = 12
    mlp_ratio: int = 4
    drop_path: float = 0.0
    norm_eps: float = 1e-6
    patch_dropout: float = 0.0

    def __post_init__(self) -> None:
        if self.image_size % self.patch_size:
            raise ValueError(f"image_size {self.image_size} is no multiple of patch_size {self.patch_size}")
        if not 0 <= self.patch_dropout < 1:
            raise ValueError(
                f"patch_dropout {self.patch_dropout} is no share of the patches: give 0 to below 1"
            )
        if self.width % self.heads:
            raise ValueError(f"vision width {self.width} is not a multiple of {self.heads} heads")

    @property
    def tokens(self) -> int:
        """Tokens of one image: the patches and CLS."""
        return (self.image_size // self.patch_size) ** 2 + 1

    def seen(self, locked: bool = False) -> int:
        """Tokens of one image that a training step sees: all of a locked encoder, else those that dropout leaves."""
        patches = self.tokens - 1
        return self.tokens if locked else max(round(patches * (1 - self.patch_dropout)), 1) + 1


class VisionTransformer(nn.Module):
    """Images to tokens."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.config = config
        self.activation_checkpointing = False  # recompute a block's activations instead of keeping them
        self.patch_embedding = nn.Conv2d(3, config.width, config.patch_size, config.patch_size)
        self.class_embedding = nn.Parameter(torch.empty(1, 1, config.width))
        self.position_embedding = nn.Parameter(torch.empty(1, config.tokens, config.width))
        rates = torch.linspace(0, config.drop_path, config.layers, device="cpu").tolist()
        self.blocks = nn.ModuleList(Block(config, rate) for rate in rates)
        self.norm = nn.LayerNorm(config.width, eps=config.norm_eps)
        self.apply(_initialise)
        nn.init.trunc_normal_(self.class_embedding, std=0.02)
        nn.init.trunc_normal_(self.position_embedding, std=0.02)

    def forward(self, images: Tensor, first_only: bool = False) -> Tensor:
        """Encode normalised images ``[B, 3, S, S]`` to tokens ``[B, N, D]``, CLS first.

        With `first_only` the last block computes CLS alone, ``[B, 1, D]``, which is what an embedding is made of. With
        patch dropout N is smaller where the tower is being trained: in training mode and with a gradient. A
        locked tower, the momentum twin and evaluation see all patches.
        """
        patches_BND = self._patches(images)
        cls = self.class_embedding.expand(len(images), -1, -1).to(patches_BND.dtype)
        positions = positions_for(self.position_embedding, images.shape[-1] // self.config.patch_size)
        x_BND = torch.cat((cls, patches_BND), dim=1) + positions.to(patches_BND.dtype)
        if self.config.patch_dropout and self.training and x_BND.requires_grad:
            x_BND = drop_patches(x_BND, self.config.patch_dropout)
        for n, block in enumerate(self.blocks, start=1):
            arguments = (x_BND, first_only and n == len(self.blocks))
            recompute = self.activation_checkpointing and x_BND.requires_grad
            x_BND = checkpoint(block, *arguments, use_reentrant=False) if recompute else block(*arguments)
        return self.norm(x_BND)

    def _patches(self, images: Tensor) -> Tensor:
        """The patch convolution as one matrix product, which is what it is."""
        p = self.config.patch_size
        b, c, h, w = images.shape
        tiles = images.reshape(b, c, h // p, p, w // p, p).permute(0, 2, 4, 1, 3, 5).reshape(b, -1, c * p * p)
        return F.linear(tiles, self.patch_embedding.weight.flatten(1), self.patch_embedding.bias)


class Block(nn.Module):
    """One pre-LN transformer block."""

    def __init__(self, config: VisionConfig, drop_path: float) -> None:
        super().__init__()
        self.heads = config.heads
        self.drops = drop_path > 0
        # a tensor, of no device's: a number, which no two blocks have alike, would be compiled anew for each
        self.drop_path = torch.tensor(drop_path, device="cpu")
        self.norm1 = nn.LayerNorm(config.width, eps=config.norm_eps)
        self.qkv = Linear(config.width, 3 * config.width)
        self.projection = Linear(config.width, config.width)
        self.norm2 = nn.LayerNorm(config.width, eps=config.norm_eps)
        self.fc1 = Linear(config.width, config.mlp_ratio * config.width)
        self.fc2 = Linear(config.mlp_ratio * config.width, config.width)

    def forward(self, x_BND: Tensor, first_only: bool = False) -> Tensor:
        """``[B, N, D]`` to the same, or to token 0 alone, ``[B, 1, D]``."""
        attended = self._attend(self.norm1(x_BND), first_only)
        x_BND = (x_BND[:, :1] if first_only else x_BND) + self._drop(attended)
        return x_BND + self._drop(self._mlp(self.norm2(x_BND)))

    def _mlp(self, x_BND: Tensor) -> Tensor:
        if torch.is_grad_enabled():
            return linear_of_gelu(self.fc1(x_BND), self.fc2)
        return self.fc2(self.fc1.gelu(x_BND))

    def _attend(self, x_BND: Tensor, first_only: bool) -> Tensor:
        if first_only:
            width = x_BND.shape[-1]
            weights, biases = (part.split((width, 2 * width)) for part in (self.qkv.weight, self.qkv.bias))
            seen = F.linear(x_BND[:, :1], weights[0], biases[0]), F.linear(x_BND, weights[1], biases[1])
            q, k, v = seen[0], *seen[1].chunk(2, dim=-1)
        else:
            q, k, v = self.qkv(x_BND).chunk(3, dim=-1)
        q, k, v = (split_heads(part, self.heads) for part in (q, k, v))
        return self.projection(merge_heads(attention(q, k, v)))

    def _drop(self, residual: Tensor) -> Tensor:
        """Stochastic depth: a sample's residual is left out with the block's rate, the rest scaled up."""
        if not self.training or not self.drops:
            return residual
        keep = torch.rand(len(residual), 1, 1, device=residual.device) >= self.drop_path
        return residual * keep / (1 - self.drop_path)


def drop_patches(x_BND: Tensor, share: float) -> Tensor:
    """CLS and a random choice of each image's patches, which carry their positions; one patch at least stays."""
    patches = x_BND.shape[1] - 1
    keep = max(round(patches * (1 - share)), 1)
    chosen = torch.rand(len(x_BND), patches, device=x_BND.device).topk(keep, dim=1).indices + 1
    index_BM = F.pad(chosen, (1, 0))
    return x_BND.gather(1, index_BM[:, :, None].expand(-1, -1, x_BND.shape[2]))


def positions_for(position_embedding: Tensor, grid: int) -> Tensor:
    """Position embeddings ``[1, 1 + grid**2, D]``: bicubic interpolation of the patches, the CLS row kept."""
    cls, patches = position_embedding[:, :1], position_embedding[:, 1:]
    side = round(patches.shape[1] ** 0.5)
    if side == grid:
        return position_embedding
    square = patches.float().unflatten(1, (side, side)).permute(0, 3, 1, 2)
    square = F.interpolate(square, size=(grid, grid), mode="bicubic", align_corners=False)
    return torch.cat((cls.float(), square.flatten(2).transpose(1, 2)), dim=1)


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear | nn.Conv2d):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
