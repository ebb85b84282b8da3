"""From a segmentor to label maps on a CPU, without ever holding the full-size logits.

`MMSeg` resizes C maps to the photo's size, then to the label's, and takes the argmax over all of
them. Here the classes pass one after another through the same resizes, and a running maximum
keeps the winner: the same label map from two float maps instead of C.
"""

import contextlib
import copy
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
import torch
from mmengine.model import is_model_wrapper
from mmengine.model.utils import _BatchNormXd
from mmengine.structures import PixelData
from mmengine.utils.dl_utils.parrots_wrapper import SyncBatchNorm
from mmseg.models import EncoderDecoder
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from .outside import is_outside

#: BatchNorms that compute as torch's; a config's SyncBN is MMEngine's, in a run on a CPU the other.
_BATCH_NORMS = (nn.BatchNorm2d, nn.SyncBatchNorm, SyncBatchNorm, _BatchNormXd)


def label_map(logits: np.ndarray, sizes: Sequence[tuple[int, int]]) -> np.ndarray:
    """Return the class of the highest logit at each pixel, after bilinear resizing.

    Args:
        logits: float32 (C, h, w), C <= 256.
        sizes: (height, width) to bring the logits to, one after the other; the last is the label's.

    Returns:
        uint8 (H, W): what `argmax` of the resized logits gives (align_corners=False), the lowest
        class where several are equal, as far as the rounding of the resize allows.

    Raises:
        ValueError: a logit is not finite; the network has diverged.
    """
    return _winners(logits, sizes)[0]


def _winners(logits: np.ndarray, sizes: Sequence[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    """Return the label map and the highest logit of each pixel, float32 (H, W)."""
    if not np.isfinite(logits).all():
        raise ValueError(
            'the network gives logits that are not finite: its training has diverged. Train again '
            'with a lower learning rate, or measure an earlier checkpoint'
        )
    highest = _resized(logits[0], sizes).copy()
    labels = np.zeros(highest.shape, np.uint8)
    higher = np.empty_like(labels)
    for index, channel in enumerate(logits[1:], 1):
        candidate = _resized(channel, sizes)
        cv2.compare(candidate, highest, cv2.CMP_GT, dst=higher)
        cv2.max(candidate, highest, dst=highest)
        # Classes come in ascending order, so the later winner is the larger number.
        cv2.max(labels, cv2.bitwise_and(higher, index, dst=higher), dst=labels)
    return labels, highest


def _resized(channel: np.ndarray, sizes: Sequence[tuple[int, int]]) -> np.ndarray:
    for height, width in sizes:
        if channel.shape != (height, width):
            channel = cv2.resize(channel, (width, height), interpolation=cv2.INTER_LINEAR)
    return channel


def with_doubt(
    logits: np.ndarray, sizes: Sequence[tuple[int, int]]
) -> tuple[np.ndarray, np.ndarray]:
    """Return `label_map`, and one minus the highest softmax probability, float32 (H, W).

    The classes pass through the resizes once more, so the memory stays that of three maps.
    """
    labels, highest = _winners(logits, sizes)
    total = np.zeros_like(highest)
    for channel in logits:
        total += np.exp(_resized(channel, sizes) - highest)
    return labels, 1 - 1 / total


def for_inference(model: nn.Module) -> nn.Module:
    """Return a copy of a network in eval mode, channels_last, for a CPU and without gradients.

    BatchNorms are folded into convolutions. The outputs are the model's own, as far as rounding
    goes: both run on two random images of 64 x 64. Returns `model` itself where it can't be
    copied, does not run on the images, or gives other outputs.
    """
    try:
        copied = copy.deepcopy(model).to(memory_format=torch.channels_last)
        copied.eval()  # MMSeg's backbones return None
        with torch.no_grad(), torch.random.fork_rng([]), torch.autocast('cpu', enabled=False):
            conv = next(m for m in copied.modules() if isinstance(m, nn.Conv2d))
            images = torch.randn(2, conv.in_channels, 64, 64, dtype=conv.weight.dtype)
            images = images.contiguous(memory_format=torch.channels_last)
            outputs = []
            for run in (_Flow(copied), contextlib.nullcontext()):
                torch.manual_seed(0)
                with run:
                    outputs.append(tree_leaves(copied(images)))
        for wanted, found in zip(*outputs, strict=True):
            most = float(wanted.nan_to_num(0, 0, 0).abs().max())
            torch.testing.assert_close(found, wanted, rtol=0, atol=1e-3 * most, equal_nan=True)
    except Exception:  # a network of any kind may raise anything
        return model
    return copied


class _Flow(TorchDispatchMode):
    """Watches a network run in eval mode, then folds its BatchNorms into its convolutions.

    A BatchNorm is folded where a convolution's output goes into it and nowhere else. Both are
    torch's own layers or compute as these, and the run uses them once. A weight that is computed
    belongs to no layer.
    """

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network
        self.layers: dict[int, nn.Module] = {}  # by the identity of a tensor of theirs
        self.uses: Counter[Any] = Counter()  # of layers, and of (convolution, 'output')
        self.fed: dict[nn.Module, nn.Module] = {}  # convolution -> BatchNorm
        for layer in network.modules():
            for tensor in (*layer._parameters.values(), *layer._buffers.values()):
                if tensor is not None and self.layers.setdefault(id(tensor), layer) is not layer:
                    self.uses.update((layer, self.layers[id(tensor)]))  # shared

    def __torch_dispatch__(
        self, call: Any, types: Any, args: Sequence = (), kwargs: Mapping | None = None
    ) -> Any:
        result = call(*args, **(kwargs or {}))
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        layers = {self.layers[id(t)] for t in tensors if id(t) in self.layers}
        makers = [t.made_by for t in tensors if hasattr(t, 'made_by')]
        self.uses.update([*layers, *((maker, 'output') for maker in makers)])
        (layer,) = layers if len(layers) == 1 else [None]
        if call is torch.ops.aten.convolution.default:
            own = _is(layer, nn.Conv2d) and args[1] is layer.weight and args[2] is layer.bias
            if own and not args[6]:  # transposed
                result.made_by = layer
        elif call is torch.ops.aten.native_batch_norm.default and makers:
            evaluates = not args[5]
            if evaluates and _is(layer, *_BATCH_NORMS):
                self.fed[makers[0]] = layer
        return result

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        for conv, norm in self.fed.items():
            if self.uses[conv] == self.uses[norm] == self.uses[conv, 'output'] == 1:
                conv.weight, conv.bias = fuse_conv_bn_weights(
                    conv.weight, conv.bias, norm.running_mean, norm.running_var, norm.eps,
                    norm.weight, norm.bias,
                )  # fmt: skip
                for layer in self.network.modules():
                    for name, child in layer._modules.items():
                        if child is norm:
                            layer._modules[name] = nn.Identity()


def _is(layer: nn.Module | None, *kinds: type) -> bool:
    """Whether a layer is of one of torch's own kinds, and does what that does."""
    return (
        type(layer) in kinds
        and 'forward' not in vars(layer)
        and not (layer._forward_hooks or layer._forward_pre_hooks)
    )


class Predictor:
    """Predicts label maps for batches of a test loader; the fast way where it is the same.

    That is for MMSeg's EncoderDecoder in float32 on a CPU, where `_is_plain` and `for_inference`
    find nothing against it. Any other model, and any on a GPU, takes its own `test_step`. The
    weights are those at the time of construction; unless the backbone is compiled, they are copied.

    Args:
        doubt: also give `doubt` to each sample, (1, H, W): one minus the highest softmax
            probability of the full-size logits. The label maps stay the same.

    Raises:
        ValueError: with `doubt`, a model that does not take the argmax of logits.
    """

    def __init__(self, model: nn.Module, doubt: bool = False):
        self.model = model.module if is_model_wrapper(model) else model
        self.doubt = doubt
        if doubt and not takes_argmax(self.model):
            raise ValueError(
                f'{type(self.model).__name__} does not predict by the softmax of logits, so its '
                'pixels have no confidence. Leave --reliability or --confidence away'
            )
        self.is_fast = _is_plain(self.model)
        if self.is_fast and not is_outside(self.model):  # that has no weights to fold or copy
            copied = for_inference(self.model)
            self.is_fast = copied is not self.model
            # A copy has lost what torch.compile made of the backbone.
            if self.model.backbone._compiled_call_impl is None:
                self.model = copied

    @torch.no_grad()
    def __call__(self, batch: Any) -> list:
        """Return the batch's data samples with `pred_sem_seg`, (1, H, W) as the label.

        Photos of unequal sizes are predicted one by one.
        """
        if len({image.shape for image in batch['inputs']}) > 1:
            pairs = zip(batch['inputs'], batch['data_samples'], strict=True)
            return [self(dict(inputs=[i], data_samples=[s]))[0] for i, s in pairs]
        if not self.is_fast:
            return self._doubted(self.model.test_step(batch))
        data = self.model.data_preprocessor(batch, False)
        inputs, samples = data['inputs'], data['data_samples']
        inputs = inputs.contiguous(memory_format=torch.channels_last)
        metas = [sample.metainfo for sample in samples]
        size = tuple(inputs.shape[2:])  # MMSeg brings them to it first
        changed = ('flip', 'img_padding_size', 'padding_size')
        slides = self.model.test_cfg.mode == 'slide'
        if any(np.any(meta.get(key) or 0) for meta in metas for key in changed) or not (
            slides or tuple(metas[0].get('pad_shape', metas[0]['img_shape'])[:2]) == size
        ):
            return self._doubted(self.model.predict(inputs, samples))
        if slides:
            logits = self.model.inference(inputs, metas)
        else:
            # Not by a call: MMSeg's heads run no hooks of theirs.
            logits = self.model.decode_head.forward(self.model.extract_feat(inputs))
        for sample, meta, values in zip(samples, metas, logits.float().numpy(), strict=True):
            given = np.ascontiguousarray(values), (size, tuple(meta['ori_shape'][:2]))
            if self.doubt:
                labels, doubt = with_doubt(*given)
                sample.doubt = PixelData(data=torch.from_numpy(doubt)[None])
            else:
                labels = label_map(*given)
            sample.pred_sem_seg = PixelData(data=torch.from_numpy(labels)[None])
        return samples

    def _doubted(self, samples: list) -> list:
        """Return samples with their doubt, from the logits that MMSeg leaves there."""
        for sample in samples if self.doubt else ():
            logits = sample.seg_logits.data.float()
            total = (logits - logits.amax(0, keepdim=True)).exp_().sum(0, keepdim=True)
            sample.doubt = PixelData(data=1 - 1 / total)
        return samples


def takes_argmax(model: nn.Module) -> bool:
    """Whether a segmentor's `seg_logits` are logits of its classes: MMSeg's usual heads."""
    head = getattr(model, 'decode_head', None)
    head = head[-1] if isinstance(head, nn.ModuleList) else head  # of a cascade the last
    own = ('predict', 'predict_by_feat')
    return (
        isinstance(model, EncoderDecoder)
        and isinstance(head, BaseDecodeHead)
        and model.out_channels > 1
        and all(getattr(type(head), name) is getattr(BaseDecodeHead, name) for name in own)
    )


def _is_plain(model: nn.Module) -> bool:
    """Whether MMSeg would predict with bilinear resizes and an argmax, and nothing else."""
    if not isinstance(model, EncoderDecoder) or not isinstance(model.decode_head, BaseDecodeHead):
        return False
    parameter, head = next(model.parameters()), model.decode_head
    if (
        parameter.device.type != 'cpu'
        or parameter.dtype == torch.float64  # OpenCV resizes by factors in float32
        or not 1 < model.out_channels <= 256
        or head.align_corners
        or model.align_corners
        or model.test_cfg.get('mode') not in ('whole', 'slide')
        or model._forward_hooks
        or model._forward_pre_hooks
        or any(module.training for module in model.modules())
    ):
        return False
    return all(
        getattr(getattr(part, name), '__func__', None) is getattr(base, name)
        for part, base, names in (
            (model, EncoderDecoder, 'test_step _run_forward forward predict inference '
             'slide_inference whole_inference encode_decode postprocess_result extract_feat'),
            (head, BaseDecodeHead, 'predict predict_by_feat'),
        )
        for name in names.split()
    )  # fmt: skip
