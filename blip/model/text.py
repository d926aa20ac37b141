"""The text transformer, MED: one stack of BERT layers that works as three (BLIP paper, section 3.1).

    unimodal          bidirectional, no cross-attention            -> text embeddings (ITC)
    grounded encoder  bidirectional, cross-attention to the image  -> does the text match? (ITM)
    grounded decoder  causal, cross-attention to the image         -> the next token (LM)

Encoder and decoder share embeddings, cross-attention and feed-forward layers with their LayerNorms; each has a
self-attention and its LayerNorm of its own. Post-LN as in BERT, no token types.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from blip.model.attention import attention, attention_to_tokens, merge_heads, split_heads

PACKED_WIDTH = 512  # below it moving tokens together costs more than padding does, where matrices are fast


@dataclass(frozen=True)
class TextConfig:
    """Sizes of the text transformer; the defaults are BERT-base with BLIP's two extra tokens."""

    vocabulary: int = 30524
    width: int = 768
    layers: int = 12
    heads: int = 12
    mlp_ratio: int = 4
    max_positions: int = 512
    dropout: float = 0.1
    context_width: int = 768
    norm_eps: float = 1e-12

    def __post_init__(self) -> None:
        if self.width % self.heads:
            raise ValueError(f"text width {self.width} is not a multiple of {self.heads} heads")


class Context(NamedTuple):
    """What cross-attention reads in one layer: keys and values ``[B, H, N, C]`` and an additive mask or None."""

    keys: Tensor
    values: Tensor
    mask: Tensor | None = None

    @property
    def rows(self) -> int:
        """How many images (or questions) there are."""
        return len(self.keys)

    def select(self, index: Tensor) -> "Context":
        """The context of other texts: row i is row ``index[i]`` of this one.

        By `index_select`: the gradient of ``keys[index]`` is summed by several threads in any order on a CPU, so
        that no two runs were the same.
        """
        mask = None if self.mask is None else self.mask.index_select(0, index)
        return Context(self.keys.index_select(0, index), self.values.index_select(0, index), mask)


class TwoContexts(NamedTuple):
    """For the first texts, several to a row, a context that they share uncopied; for the last ones, their own."""

    shared: Context
    own: Context


class Tokens(NamedTuple):
    """What cross-attention reads without keys and values, for decoding a few tokens: ``[B, N, D]`` and a mask."""

    tokens: Tensor
    mask: Tensor | None = None

    @property
    def rows(self) -> int:
        """How many images (or questions) there are."""
        return len(self.tokens)

    def select(self, index: Tensor) -> "Tokens":
        """The context of other texts: row i is row ``index[i]`` of this one."""
        mask = None if self.mask is None else self.mask.index_select(0, index)
        return Tokens(self.tokens.index_select(0, index), mask)


AnyContext = Context | TwoContexts | Tokens


class Packing(NamedTuple):
    """Where the M tokens of a padded batch are, so that dense layers see those and no padding.

    Attributes:
        index_M: of each token in the flattened ``[B * T]``.
        first_B: of each text's position 0 among the M tokens.
    """

    index_M: Tensor
    first_B: Tensor
    shape: tuple[int, int]

    @classmethod
    def of(cls, mask_BT: Tensor, at_most: int | None = None) -> "Packing":
        """The packing of a batch; every text has a token at position 0.

        Args:
            at_most: no fewer than there are tokens. Given, M is this number and the host need not wait for the device
                to count; what is too many of M stands at a place of padding, from where nothing is read.
        """
        lengths = mask_BT.sum(1)
        index = places(mask_BT.flatten().bool(), at_most)
        index = torch.where(index < 0, mask_BT.flatten().argmin(), index) if at_most is not None else index
        return cls(index, lengths.cumsum(0) - lengths, (mask_BT.shape[0], mask_BT.shape[1]))

    def pack(self, x_BTD: Tensor) -> Tensor:
        """``[B, T, D]`` -> ``[M, D]``."""
        return _Pack.apply(x_BTD.flatten(0, 1), self.index_M)  # type: ignore[return-value]

    def unpack(self, x_MD: Tensor) -> Tensor:
        """``[M, D]`` -> ``[B, T, D]``, zeros at padding."""
        rows, length = self.shape
        padded: Tensor = _Unpack.apply(x_MD, self.index_M, rows * length)  # type: ignore[assignment]
        return padded.view(rows, length, -1)


def places(present_N: Tensor, at_most: int | None = None) -> Tensor:
    """Where `present_N` is true, in order; with `at_most` that many numbers, -1 behind the last place."""
    if at_most is None:
        return present_N.nonzero().squeeze(1)
    return torch.nonzero_static(present_N, size=min(at_most, len(present_N)), fill_value=-1).squeeze(1)


def bound_for(x: Tensor, at_most: int | None) -> int | None:
    """The bound where counting would make the host wait; a CPU has counted at once."""
    return at_most if x.is_cuda else None


def pays_to_pack(states_BTD: Tensor) -> bool:
    """Whether dense layers without padding save more than moving the tokens costs.

    They do in wide networks, and in any on a CPU that computes in float32 (a step of the demo on two cores of AMD
    Zen 3: 0.41 against 0.46 s). In bfloat16 on AMX they did not at width 128 (0.36 against 0.30 s).
    """
    slow = states_BTD.device.type == "cpu" and compute_dtype(states_BTD) is torch.float32
    return slow or states_BTD.shape[-1] >= PACKED_WIDTH


class _Pack(torch.autograd.Function):
    """Gather rows. No index is there twice, so the backward is a copy and not the slow accumulation."""

    @staticmethod
    def forward(ctx: Any, x_ND: Tensor, index_M: Tensor) -> Tensor:
        ctx.save_for_backward(index_M)
        ctx.rows = len(x_ND)
        return x_ND.index_select(0, index_M)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return _scatter(gradients[0], ctx.saved_tensors[0], ctx.rows), None


class _Unpack(torch.autograd.Function):
    """Put rows back among zeros: the inverse of `_Pack`."""

    @staticmethod
    def forward(ctx: Any, x_MD: Tensor, index_M: Tensor, rows: int) -> Tensor:
        ctx.save_for_backward(index_M)
        return _scatter(x_MD, index_M, rows)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return gradients[0].index_select(0, ctx.saved_tensors[0]), None, None


def _scatter(x_MD: Tensor, index_M: Tensor, rows: int) -> Tensor:
    return x_MD.new_zeros(rows, x_MD.shape[1]).index_copy_(0, index_M, x_MD)


class Cache:
    """Keys and values of the tokens decoded so far, a static buffer per layer of ``[2, B, H, T, C]``."""

    def __init__(self, layers: int, shape: tuple[int, int, int, int], like: Tensor) -> None:
        self.length = 0
        dtype = compute_dtype(like)
        self.buffers = [torch.zeros(2, *shape, dtype=dtype, device=like.device) for _ in range(layers)]

    def append(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Store the new tokens of a layer and return the keys and values of all tokens so far."""
        end = self.length + keys.shape[2]
        buffer = self.buffers[layer]
        buffer[0, :, :, self.length : end] = keys
        buffer[1, :, :, self.length : end] = values
        return buffer[0, :, :, :end], buffer[1, :, :, :end]

    def select(self, index: Tensor) -> None:
        """Keep or reorder the rows: finished captions leave, beams follow their parents."""
        self.buffers = [buffer.index_select(1, index) for buffer in self.buffers]


class TextTransformer(nn.Module):
    """One stack. Pass `shared` to build the decoder of an encoder: everything but self-attention is the same."""

    def __init__(self, config: TextConfig, shared: "TextTransformer | None" = None) -> None:
        super().__init__()
        self.config = config
        self.embeddings = shared.embeddings if shared else Embeddings(config)
        parts = list(shared.layers) if shared else [None] * config.layers
        self.layers = nn.ModuleList(Layer(config, part) for part in parts)  # type: ignore[arg-type]

    def forward(
        self,
        ids_BT: Tensor,
        mask_BT: Tensor | None,
        context: Sequence[AnyContext] | None = None,
        causal: bool = False,
        first_only: bool = False,
        cache: Cache | None = None,
        at_most: int | None = None,
    ) -> Tensor:
        """Run the stack.

        Args:
            ids_BT: token ids.
            mask_BT: 1 at tokens, 0 at padding; None when nothing is padded.
            context: per layer what cross-attention reads (`project_context`); None skips cross-attention.
            causal: a token sees itself and those before it.
            first_only: the last layer computes position 0 only and the result is ``[B, 1, D]``.
            cache: the tokens decoded before these; needs `causal`.
            at_most: no fewer than the batch has tokens; a GPU then counts them without the host waiting.

        Returns:
            states ``[B, T, D]``; what stands at padding means nothing.
        """
        past = cache.length if cache else 0
        x = self.embeddings(ids_BT, past)
        pack = mask_BT is not None and cache is None and pays_to_pack(x)
        packing = Packing.of(mask_BT, bound_for(x, at_most)) if pack and mask_BT is not None else None
        mask = attention_mask(mask_BT, ids_BT.shape[1], past, causal, x)
        x = packing.pack(x) if packing else x
        last = len(self.layers) - 1
        for n, layer in enumerate(self.layers):
            layer_context = context[n] if context else None
            x = layer(x, mask, layer_context, packing, first_only and n == last, cache and (cache, n))
        if cache:
            cache.length += ids_BT.shape[1]
        return packing.unpack(x) if packing and not first_only else x

    def project_context(self, tokens_BND: Tensor, mask_BN: Tensor | None = None) -> list[Context]:
        """Project image tokens (or question states) once for every layer's cross-attention."""
        mask = None if mask_BN is None else _additive(mask_BN[:, None, None, :], tokens_BND)
        return [layer.cross_attention.project(tokens_BND, mask) for layer in self.layers]  # type: ignore[union-attr]

    def context_for(
        self, tokens_BND: Tensor, queries: int, mask_BN: Tensor | None = None
    ) -> Sequence[Context | Tokens]:
        """What costs less when `queries` tokens in all will look at each image: keys and values, or the tokens.

        With C the width of a head: projecting costs ``4 N D^2`` a layer and then ``4 N D`` a query; moving the query
        into the tokens' space ``4 D^2 + 4 (D / C) N D``.
        """
        width, heads, count = self.config.width, self.config.heads, tokens_BND.shape[1]
        extra = width**2 + heads * count * width - count * width
        if queries * extra >= count * width**2:
            return self.project_context(tokens_BND, mask_BN)
        mask = None if mask_BN is None else _additive(mask_BN[:, None, None, :], tokens_BND)
        return [Tokens(tokens_BND.to(compute_dtype(tokens_BND)), mask)] * len(self.layers)


class Embeddings(nn.Module):
    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.word = nn.Embedding(config.vocabulary, config.width, padding_idx=0)
        self.position = nn.Embedding(config.max_positions, config.width)
        self.norm = nn.LayerNorm(config.width, eps=config.norm_eps)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, ids_BT: Tensor, past: int = 0) -> Tensor:
        positions = self.position.weight[past : past + ids_BT.shape[1]]
        return self.dropout(self.norm(self.word(ids_BT) + positions))


class Layer(nn.Module):
    """Self-attention, cross-attention when there is something to attend to, feed-forward."""

    def __init__(self, config: TextConfig, shared: "Layer | None" = None) -> None:
        super().__init__()
        self.self_attention = SelfAttention(config)
        self.cross_attention = shared.cross_attention if shared else CrossAttention(config)
        self.feed_forward = shared.feed_forward if shared else FeedForward(config)

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None,
        context: AnyContext | None,
        packing: Packing | None,
        first_only: bool,
        cache: tuple[Cache, int] | None,
    ) -> Tensor:
        """``[M, D]`` when packed, otherwise ``[B, T, D]``; `first_only` gives ``[B, 1, D]`` either way."""
        x = self.self_attention(x, mask, packing, first_only, cache)
        if context is not None:
            x = self.cross_attention(x, context, None if first_only else packing)
        return self.feed_forward(x)


class SelfAttention(nn.Module):
    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.qkv = nn.Linear(config.width, 3 * config.width)
        self.output = ResidualOutput(config.width, config)

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None,
        packing: Packing | None,
        first_only: bool,
        cache: tuple[Cache, int] | None,
    ) -> Tensor:
        qkv = packing.unpack(self.qkv(x)) if packing else self.qkv(x)
        q, k, v = (split_heads(part, self.heads) for part in qkv.chunk(3, dim=-1))
        if first_only:
            q, x = q[:, :, :1], x[packing.first_B][:, None] if packing else x[:, :1]
            mask = None if mask is None else mask[..., :1, :]
        if cache:
            k, v = cache[0].append(cache[1], k, v)
        attended = merge_heads(attention(q, k, v, mask))
        return self.output(packing.pack(attended) if packing and not first_only else attended, x)


class CrossAttention(nn.Module):
    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.query = nn.Linear(config.width, config.width)
        self.kv = nn.Linear(config.context_width, 2 * config.width)
        self.attend: Callable[[Tensor, Tensor, Tensor, Tensor | None], Tensor] = attention
        self.output = ResidualOutput(config.width, config)

    def project(self, tokens_BND: Tensor, mask: Tensor | None) -> Context:
        keys, values = (split_heads(part, self.heads) for part in self.kv(tokens_BND).chunk(2, dim=-1))
        return Context(keys, values, mask)

    def forward(self, x: Tensor, context: AnyContext, packing: Packing | None = None) -> Tensor:
        """Attend to the context. With R texts for each context row (rows i*R .. i*R+R-1), they share it uncopied."""
        query = packing.unpack(self.query(x)) if packing else self.query(x)
        attended = self._attend(query, context)
        return self.output(packing.pack(attended) if packing else attended, x)

    def _attend(self, query_BTD: Tensor, context: AnyContext) -> Tensor:
        if isinstance(context, TwoContexts):
            first, last = query_BTD.tensor_split([len(query_BTD) - context.own.rows])
            return torch.cat((self._attend(first, context.shared), self._attend(last, context.own)))
        folded = split_heads(query_BTD.reshape(context.rows, -1, query_BTD.shape[-1]), self.heads)
        if isinstance(context, Tokens):
            attended = self._attend_to_tokens(folded, context)
        else:
            attended = self.attend(folded, context.keys, context.values, context.mask)
        return merge_heads(attended).reshape(query_BTD.shape)

    def _attend_to_tokens(self, q_BHQC: Tensor, context: Tokens) -> Tensor:
        weight = self.kv.weight.to(q_BHQC.dtype)
        key_weight, value_weight = weight.unflatten(0, (2, self.heads, -1)).unbind(0)
        seen = attention_to_tokens(q_BHQC, context.tokens, key_weight, value_weight, context.mask)
        bias = self.kv.bias.chunk(2)[1].unflatten(0, (self.heads, 1, -1))
        return seen + bias.to(seen.dtype)


def select_rows(context: Sequence[Context | Tokens], index: Tensor) -> list[Context | Tokens]:
    """Every layer's context of other texts; what layers have in common is selected once."""
    selected = {id(layer): layer.select(index) for layer in {id(layer): layer for layer in context}.values()}
    return [selected[id(layer)] for layer in context]


class FeedForward(nn.Module):
    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.up = nn.Linear(config.width, config.mlp_ratio * config.width)
        self.output = ResidualOutput(config.mlp_ratio * config.width, config)

    def forward(self, x_BTD: Tensor) -> Tensor:
        return self.output(F.gelu(self.up(x_BTD)), x_BTD)


class ResidualOutput(nn.Module):
    """Dense, dropout, residual, LayerNorm: how every BERT sub-layer ends."""

    def __init__(self, width: int, config: TextConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(width, config.width)
        self.dropout = nn.Dropout(config.dropout)
        self.norm = nn.LayerNorm(config.width, eps=config.norm_eps)

    def forward(self, x_BTE: Tensor, residual_BTD: Tensor) -> Tensor:
        return self.norm(self.dropout(self.dense(x_BTE)) + residual_BTD)


class LanguageModelHead(nn.Module):
    """States to token logits; the last matrix is the word embedding itself."""

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.width, config.width)
        self.norm = nn.LayerNorm(config.width, eps=config.norm_eps)
        self.bias = nn.Parameter(torch.zeros(config.vocabulary))

    def forward(self, x_MD: Tensor, word_VD: Tensor) -> Tensor:
        return F.linear(self.norm(F.gelu(self.dense(x_MD))), word_VD, self.bias)


def attention_mask(
    mask_BT: Tensor | None, length: int, past: int, causal: bool, like: Tensor
) -> Tensor | None:
    """The additive self-attention mask, broadcastable to ``[B, H, length, past + length]``, or None."""
    visible = None if mask_BT is None else mask_BT[:, None, None, :].bool()
    if causal and length > 1:
        rows = torch.arange(past, past + length, device=like.device)
        earlier = rows[:, None] >= torch.arange(past + length, device=like.device)
        visible = earlier if visible is None else visible & earlier
    return None if visible is None else _additive(visible, like)


def _additive(visible: Tensor, like: Tensor) -> Tensor:
    dtype = compute_dtype(like)
    zero = torch.zeros((), dtype=dtype, device=like.device)
    return torch.where(visible.bool(), zero, torch.finfo(dtype).min)


def compute_dtype(like: Tensor) -> torch.dtype:
    """The type that matrices are multiplied in here: autocast's, or the tensor's own."""
    device = like.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else like.dtype


def initialise_text(module: nn.Module, width: int) -> None:
    """BERT's initialisation, normal(0, 0.02) at width 768, scaled so that a layer mixes as much at any width."""
    for part in module.modules():
        if isinstance(part, nn.Linear):
            nn.init.normal_(part.weight, std=0.02 * (768 / width) ** 0.5)
            nn.init.zeros_(part.bias)
        if isinstance(part, Embeddings):
            nn.init.normal_(part.position.weight, std=0.02)
            nn.init.normal_(part.word.weight, std=0.02 * (768 / width) ** 0.5)
            nn.init.zeros_(part.word.weight.data[0])


def spread_texts(encoder: TextTransformer) -> None:
    """Start the encoder's attention larger in narrow networks, or all texts and pairs begin with one embedding.

    At width 128 the ``[CLS]`` states of two captions have a cosine of 0.98 and stay there for hundreds of steps, and
    so do the ``[ENC]`` states of two images. The decoder, which reads the last token and not the first, learns faster
    from a small self-attention.
    """
    for part in encoder.modules():
        if isinstance(part, SelfAttention | CrossAttention):
            inputs = [part.qkv] if isinstance(part, SelfAttention) else [part.query, part.kv]
            for linear in (*inputs, part.output.dense):
                nn.init.normal_(linear.weight, std=0.02 * 768 / encoder.config.width)
