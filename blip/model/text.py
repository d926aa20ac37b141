"""The text transformer, MED: one stack of BERT layers that works as three (BLIP paper, section 3.1).

    unimodal          bidirectional, no cross-attention            -> text embeddings (ITC)
    grounded encoder  bidirectional, cross-attention to the image  -> does the text match? (ITM)
    grounded decoder  causal, cross-attention to the image         -> the next token (LM)

Encoder and decoder share embeddings, cross-attention and feed-forward layers with their LayerNorms; each has a
self-attention and its LayerNorm of its own. Post-LN as in BERT, no token types.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from blip.model.attention import attention, attention_to_tokens, merge_heads, ragged_attention, split_heads
from blip.model.context import AnyContext, Cache, Context, Grouped, LayerCache, Tokens, TwoContexts
from blip.model.linear import Linear, PackedWeight
from blip.model.packing import Packing, Ragged, count_for, pays_to_pack, takes_ragged
from blip.model.precision import compute_dtype

FEW_IMAGES = 128  # whose keys and values at 384 px take 2.7 GB of a GPU in 16 bits; not measured


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


class TextTransformer(nn.Module):
    """One stack. Pass `shared` to build the decoder of an encoder: everything but self-attention is the same."""

    def __init__(self, config: TextConfig, shared: "TextTransformer | None" = None) -> None:
        super().__init__()
        self.config = config
        self.activation_checkpointing = False  # recompute a layer's activations instead of keeping them
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
        tokens: int | None = None,
    ) -> Tensor:
        """Run the stack.

        Args:
            ids_BT: token ids.
            mask_BT: 1 at tokens, 0 at padding; None when nothing is padded.
            context: per layer what cross-attention reads (`project_context`); None skips cross-attention.
            causal: a token sees itself and those before it.
            first_only: the last layer computes position 0 only and the result is ``[B, 1, D]``.
            cache: the tokens decoded before these; needs `causal`.
            tokens: how many the batch has, where the host knows it and need not wait for a GPU to count.

        Returns:
            states ``[B, T, D]``; what stands at padding means nothing.
        """
        past = cache.length if cache else 0
        x = self.embeddings(ids_BT, past)
        pack = mask_BT is not None and cache is None and pays_to_pack(x)
        packing = Packing.of(mask_BT, count_for(x, tokens)) if pack and mask_BT is not None else None
        ragged = (
            packing and takes_ragged(x, x.shape[-1]) and (context is None or isinstance(context[0], Grouped))
        )
        packed = packing.ragged(causal) if packing and ragged else packing
        mask = None if ragged else attention_mask(mask_BT, ids_BT.shape[1], past, causal, x)
        x = packing.pack(x) if packing else x
        last = len(self.layers) - 1
        for n, layer in enumerate(self.layers):
            layer_context, layer_cache = context[n] if context else None, cache and cache.of_layer(n)
            arguments = (x, mask, layer_context, packed, first_only and n == last, layer_cache)
            recompute = self.activation_checkpointing and x.requires_grad
            x = checkpoint(layer, *arguments, use_reentrant=False) if recompute else layer(*arguments)
        if cache:
            cache.length += ids_BT.shape[1]
        return packing.unpack(x) if packing and not first_only else x

    def project_context(self, tokens_BND: Tensor, mask_BN: Tensor | None = None) -> list[Context]:
        """Project image tokens (or question states) once for every layer's cross-attention.

        Their type is changed once: cast in every layer, their gradient would be written as float32 by each of them, and
        summed so, which are three times the bytes.
        """
        tokens_BND = tokens_BND.to(compute_dtype(tokens_BND))
        mask = None if mask_BN is None else _additive(mask_BN[:, None, None, :], tokens_BND)
        return [layer.cross_attention.project(tokens_BND, mask) for layer in self.layers]  # type: ignore[union-attr]

    def context_for(self, tokens_BND: Tensor, queries: int) -> Sequence[Context | Tokens]:
        """What costs less when `queries` tokens in all will look at each image: keys and values, or the tokens.

        With C the width of a head: projecting costs ``4 N D^2`` a layer and then ``4 N D`` a query; moving the query
        into the tokens' space ``4 D^2 + 4 (D / C) N D``. A GPU with few images waits for kernels to be started, of
        which keys and values take a quarter less, and not for products.
        """
        width, heads, count = self.config.width, self.config.heads, tokens_BND.shape[1]
        extra = width**2 + heads * count * width - count * width
        starts_kernels = tokens_BND.is_cuda and len(tokens_BND) <= FEW_IMAGES
        if starts_kernels or queries * extra >= count * width**2:
            return self.project_context(tokens_BND)
        return [Tokens(tokens_BND.to(compute_dtype(tokens_BND)))] * len(self.layers)


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
        packing: Packing | Ragged | None,
        first_only: bool,
        cache: LayerCache | None,
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
        self.qkv = Linear(config.width, 3 * config.width)
        self.output = ResidualOutput(config.width, config)

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None,
        packing: Packing | Ragged | None,
        first_only: bool,
        cache: LayerCache | None,
    ) -> Tensor:
        if isinstance(packing, Ragged):
            return self._among_packed(x, packing, first_only)
        qkv = packing.unpack(self.qkv(x)) if packing else self.qkv(x)
        q, k, v = (split_heads(part, self.heads) for part in qkv.chunk(3, dim=-1))
        if first_only:
            q, x = q[:, :, :1], x[packing.first_B][:, None] if packing else x[:, :1]
            mask = None if mask is None else mask[..., :1, :]
        if cache:
            k, v = cache.append(k, v)
        attended = merge_heads(attention(q, k, v, mask))
        return self.output(packing.pack(attended) if packing and not first_only else attended, x)

    def _among_packed(self, x_MD: Tensor, texts: Ragged, first_only: bool) -> Tensor:
        """``[M, D]`` to the same, or to ``[B, 1, D]``."""
        q, k, v = self.qkv(x_MD).unflatten(-1, (3, self.heads, -1)).unbind(1)
        starts, longest = (texts.starts_E, texts.starts_E), (texts.longest, texts.longest)
        if not first_only:
            return self.output(ragged_attention(q, k, v, starts, longest, texts.causal).flatten(1), x_MD)
        q, x = q.index_select(0, texts.first_B), x_MD.index_select(0, texts.first_B)
        attended = ragged_attention(q, k, v, (texts.each_E, texts.starts_E), (1, texts.longest))
        return self.output(attended.flatten(1), x)[:, None]


class CrossAttention(nn.Module):
    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.query = Linear(config.width, config.width)
        self.kv = Linear(config.context_width, 2 * config.width)
        self.attend: Callable[[Tensor, Tensor, Tensor, Tensor | None], Tensor] = attention
        self.output = ResidualOutput(config.width, config)

    def project(self, tokens_BND: Tensor, mask: Tensor | None) -> Context:
        keys, values = (split_heads(part, self.heads) for part in self.kv(tokens_BND).chunk(2, dim=-1))
        return Context(keys, values, mask)

    def forward(self, x: Tensor, context: AnyContext, packing: Packing | Ragged | None = None) -> Tensor:
        """Attend to the context. With R texts for each context row (rows i*R .. i*R+R-1), they share it uncopied."""
        if isinstance(context, Grouped):
            return self.output(self._attend_in_groups(self.query(x), context), x)
        assert not isinstance(packing, Ragged)
        query = packing.unpack(self.query(x)) if packing else self.query(x)
        attended = self._attend(query, context)
        return self.output(packing.pack(attended) if packing else attended, x)

    def _attend(self, query_BTD: Tensor, context: Context | TwoContexts | Tokens) -> Tensor:
        if isinstance(context, TwoContexts):
            first, last = query_BTD.tensor_split([len(query_BTD) - context.own.rows])
            return torch.cat((self._attend(first, context.shared), self._attend(last, context.own)))
        folded = split_heads(query_BTD.reshape(context.rows, -1, query_BTD.shape[-1]), self.heads)
        if isinstance(context, Tokens):
            attended = self._attend_to_tokens(folded, context)
        else:
            attended = self.attend(folded, context.keys, context.values, context.mask)
        return merge_heads(attended).reshape(query_BTD.shape)

    def _attend_in_groups(self, query: Tensor, groups: Grouped) -> Tensor:
        """Packed tokens ``[M, D]``, or one token of every text ``[B, 1, D]``."""
        one_each = query.dim() == 3
        starts, most = (
            (groups.texts_E, groups.most_texts) if one_each else (groups.tokens_E, groups.most_tokens)
        )
        keys, values = (x_BHNC.transpose(1, 2).flatten(0, 1) for x_BHNC in groups.context[:2])
        count = groups.context.keys.shape[2]
        context_starts = torch.arange(len(starts), dtype=torch.int32, device=starts.device) * count
        q_MHC = query.reshape(-1, self.heads, query.shape[-1] // self.heads)
        attended = ragged_attention(q_MHC, keys, values, (starts, context_starts), (most, count))
        return attended.reshape(query.shape)

    def _attend_to_tokens(self, q_BHQC: Tensor, context: Tokens) -> Tensor:
        weight = self.kv.weight.to(q_BHQC.dtype)
        key_weight, value_weight = weight.unflatten(0, (2, self.heads, -1)).unbind(0)
        seen = attention_to_tokens(q_BHQC, context.tokens, key_weight, value_weight)
        bias = self.kv.bias.chunk(2)[1].unflatten(0, (self.heads, 1, -1))
        return seen + bias.to(seen.dtype)


class FeedForward(nn.Module):
    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.up = Linear(config.width, config.mlp_ratio * config.width)
        self.output = ResidualOutput(config.mlp_ratio * config.width, config)

    def forward(self, x_BTD: Tensor) -> Tensor:
        return self.output(self.up.gelu(x_BTD), x_BTD)


class ResidualOutput(nn.Module):
    """Dense, dropout, residual, LayerNorm: how every BERT sub-layer ends."""

    def __init__(self, width: int, config: TextConfig) -> None:
        super().__init__()
        self.dense = Linear(width, config.width)
        self.dropout = nn.Dropout(config.dropout)
        self.norm = nn.LayerNorm(config.width, eps=config.norm_eps)

    def forward(self, x_BTE: Tensor, residual_BTD: Tensor) -> Tensor:
        return self.norm(self.dropout(self.dense(x_BTE)) + residual_BTD)


class LanguageModelHead(nn.Module):
    """States to token logits; the last matrix is the word embedding itself."""

    kept: Tensor | None
    packed: PackedWeight | None = None

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.dense = Linear(config.width, config.width)
        self.norm = nn.LayerNorm(config.width, eps=config.norm_eps)
        self.bias = nn.Parameter(torch.zeros(config.vocabulary))
        self.register_buffer("kept", None, persistent=False)

    def keep(self, word_VD: Tensor) -> None:
        """Multiply with this copy of the word embedding from now on, which is in the type of inference."""
        self.kept = _aligned(word_VD)

    def forward(self, x_MD: Tensor, word_VD: Tensor) -> Tensor:
        x_MD = self.norm(self.dense.gelu(x_MD))
        if self.packed is not None and self.packed.serves(x_MD):
            return self.packed(x_MD)
        return aligned_linear(x_MD, word_VD if self.kept is None else self.kept, self.bias)


def aligned_linear(x_MD: Tensor, weight_VD: Tensor, bias_V: Tensor) -> Tensor:
    """``F.linear``; on a GPU with zero rows behind the weight's, up to a multiple of 8, if it has none yet.

    BERT's vocabulary with BLIP's two tokens is 30,524, whose rows of logits have no alignment that fast kernels want.
    """
    rows = len(bias_V)
    if len(weight_VD) == rows and x_MD.is_cuda:
        weight_VD = _aligned(weight_VD)
    missing = len(weight_VD) - rows
    if not missing:
        return F.linear(x_MD, weight_VD, bias_V)
    return F.linear(x_MD, weight_VD, F.pad(bias_V, (0, missing)))[:, :rows]


def _aligned(weight_VD: Tensor) -> Tensor:
    missing = -len(weight_VD) % 8
    return F.pad(weight_VD, (0, 0, 0, missing)) if missing else weight_VD


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
