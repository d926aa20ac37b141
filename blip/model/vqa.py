"""Question answering: the encoder reads the question with the image, the decoder writes the answer from that.

BLIP paper, section 5.3. Encoder and decoder are untied when fine-tuned, as in the published model.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from blip.data.text import SpecialTokens
from blip.errors import BlipError
from blip.model.batch import all_to, counted
from blip.model.blip import BlipNetwork
from blip.model.decoder_loss import decoder_loss
from blip.model.losses import IGNORED


@dataclass(frozen=True)
class QuestionBatch:
    """Images and Q questions ``[Q, T]``, question i about image ``image[i]``, with one answer each.

    Attributes:
        images: ``[B, 3, S, S]``, uint8 until `to` has normalised them on the device.
        weights: ``[Q]``, how much each question counts.
        asked, written: tokens of the questions, and of the answers without the last column; counted before they go to
            a GPU.
    """

    images: Tensor
    image: Tensor
    questions: Tensor
    question_mask: Tensor
    answers: Tensor
    answer_mask: Tensor
    weights: Tensor
    asked: int | None = None
    written: int | None = None

    def to(self, device: torch.device | str) -> "QuestionBatch":
        asked, written = (
            counted(self.question_mask, self.asked),
            counted(self.answer_mask[:, :-1], self.written),
        )
        return replace(self, **all_to(self, device), asked=asked, written=written)


class AnswerObjective(nn.Module):
    """Weighted next-token loss of the answers."""

    def __init__(self, network: BlipNetwork, tokens: SpecialTokens, label_smoothing: float = 0.0) -> None:
        super().__init__()
        text = network.config.text
        if text.context_width != text.width:
            raise BlipError(
                f"the answer decoder reads question states: their width {text.width} must be the image tokens' "
                f"{text.context_width}; go on from a model whose image encoder is as wide as its text transformer"
            )
        self.network, self.tokens, self.label_smoothing = network, tokens, label_smoothing
        self.progress = 1.0  # of the run, set by the trainer
        for name in ("vision_projection", "text_projection", "itm_head", "temperature"):
            getattr(network, name).requires_grad_(False)

    def forward(self, batch: QuestionBatch) -> dict[str, Tensor]:
        """``{"lm": ..., "loss": ...}``, float32 scalars."""
        network = self.network
        images = network.text_encoder.project_context(network.vision(batch.images))
        questions = batch.questions.clone()
        questions[:, 0] = self.tokens.encode
        context = [layer.select(batch.image) for layer in images]
        states = network.text_encoder(questions, batch.question_mask, context, tokens=batch.asked)
        answers = batch.answers.clone()
        answers[:, 0] = self.tokens.decode
        targets = batch.answers.masked_fill(batch.answer_mask == 0, IGNORED)
        loss = decoder_loss(
            network,
            answers,
            targets,
            batch.answer_mask,
            network.text_decoder.project_context(states, batch.question_mask),
            self.label_smoothing,
            batch.weights,
            batch.written,
        )
        return {"lm": loss, "loss": loss}


def untie(network: BlipNetwork) -> BlipNetwork:
    """A copy whose decoder shares nothing with the encoder, starting from the same weights."""
    copy = BlipNetwork(replace(network.config, tied=False))
    copy.load_state_dict(network.state_dict())
    return copy
